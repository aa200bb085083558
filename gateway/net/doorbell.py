"""How another thread tells the worker's that there is something to do.

Why not `TrioToken.run_sync_soon`: its socket is in trio's own epoll set, which takes one more wait to ask
(`io_manager`), is read until it is empty, and what was said is done by one more task, in a turn of its own.
Here it is an eventfd(2) in the pump's set. It is edge-triggered: each ring is news, so that nothing ever has
to be read. Where there is none (an old kernel, a sandbox, no descriptor left) it is trio's way after all.
"""

import os
import threading
from collections.abc import Callable

import trio

from gateway.net.pump import Pump


def _nothing() -> None:
    pass


class Doorbell:
    """Calls *answer* in the trio thread, in a step of a task, once at least after each `ring`.

    Made in that thread, and closed there. While a ring waits for its answer the next ones cost nothing: many
    threads at once would give up the interpreter's lock at each, and wait for it.
    """

    def __init__(self, pump: Pump, answer: Callable[[], None]) -> None:
        self._wire = -1
        self._rung = False
        """And not answered yet."""
        self._lock = threading.RLock()
        """Who rings at the end must not write to another's file. A signal may interrupt a ring by another."""
        self._pump = pump
        self._answer = answer
        self._token = trio.lowlevel.current_trio_token()
        try:
            wire = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            try:
                pump.watch(wire, self._reply, edge=True)
            except BaseException:
                os.close(wire)
                raise
        except OSError:
            return
        self._wire = wire

    def ring(self) -> None:
        """From any thread, at any time; after the end it does nothing."""
        if self._rung:
            return
        self._rung = True
        try:
            self._tell()
        except BaseException:  # of a signal handler, or thrown into this thread: the next one rings again
            self._rung = False
            raise

    def _tell(self) -> None:
        with self._lock:
            if self._wire >= 0:
                os.eventfd_write(self._wire, 1)
                return
        try:
            self._token.run_sync_soon(self._reply)
        except trio.RunFinishedError:
            pass  # nobody is left to be told

    def close(self) -> None:
        """Rings have no answer from now on."""
        self._answer = _nothing
        with self._lock:
            wire, self._wire = self._wire, -1
        if wire >= 0:
            self._pump.unwatch(wire)
            os.close(wire)

    def _reply(self) -> None:
        # First: what is laid down from now on has its own answer.
        self._rung = False
        self._answer()
