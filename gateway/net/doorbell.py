"""How another thread tells the worker's that there is something to do.

Why not `TrioToken.run_sync_soon`: its socket is in trio's own epoll set, which takes one more wait to ask
(`io_manager`), is read until it is empty, and what was said is done by one more task, in a turn of its own.
Here it is an eventfd(2) in the pump's set. It is edge-triggered: each ring is news, so that nothing ever has
to be read. Where there is none (an old kernel, a sandbox, no descriptor left) it is trio's way after all.
"""

import os
import sys
from collections.abc import Callable
from io import FileIO
from typing import Final

import trio

from gateway.net.pump import Pump

_ONE: Final = (1).to_bytes(8, sys.byteorder)


def _nothing() -> None:
    pass


class Doorbell:
    """Calls *answer* in the trio thread, in a step of a task, once at least after each `ring`.

    Made in that thread, and closed there.
    """

    def __init__(self, pump: Pump, answer: Callable[[], None]) -> None:
        self._pump = pump
        self._answer = answer
        self._token = trio.lowlevel.current_trio_token()
        self._wire: FileIO | None = None
        try:
            # A file, for its write() looks whether it is open where no other thread can run.
            wire = FileIO(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK), "w")
            try:
                pump.watch(wire.fileno(), answer, edge=True)
            except BaseException:
                wire.close()
                raise
        except OSError:
            return
        self._wire = wire

    def ring(self) -> None:
        """From any thread, at any time; after the end it does nothing."""
        try:
            if self._wire is not None:
                self._wire.write(_ONE)
            else:
                self._token.run_sync_soon(self._reply)
        except (ValueError, trio.RunFinishedError):
            pass  # closed, or the loop has ended: nobody is left to be told

    def close(self) -> None:
        """Rings have no answer from now on."""
        self._answer = _nothing
        if self._wire is not None:
            self._pump.unwatch(self._wire.fileno())
            self._wire.close()

    def _reply(self) -> None:
        self._answer()
