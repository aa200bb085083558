"""Tells when the worker's loop is blocked: by which application, for which request, and where it stands.

An application that computes or waits without ``await`` keeps everybody waiting, and nothing else would say
so. A task of the loop counts, a few times in the threshold; a thread beside it looks whether it still does.
So requests cost nothing for it. One line is logged for each blockage, with the stack of the loop's thread,
and one when it is over.

A developer at a breakpoint is left alone: a stack would be written between what he types.

A thread cannot look while code in C keeps the interpreter's lock: then it tells afterwards.
"""

import signal
import sys
import threading
import time
from types import FrameType
from typing import Any, Final

import trio

from gateway.errors import StartError
from gateway.logger import get_logger
from gateway.stacks import stack_of

LOOKS: Final = 4
"""How often is counted, and looked, within the threshold: so exact it is."""

log = get_logger()


def patience(after: float, *, debug: bool) -> float:
    """Seconds until a loop counts as blocked, where *after* is configured; a developer is to know of less."""
    return after / 4 if debug else after


class Watchdog:
    """Watches the loop that runs it; what lasts *after* seconds is told."""

    def __init__(self, after: float) -> None:
        self._after = after
        self._interval = after / LOOKS
        self._beats = 0
        self._stop = threading.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch until cancelled. Raises StartError if there can be no thread."""
        watcher = threading.Thread(
            target=self._watch, args=(threading.get_ident(),), name="watchdog", daemon=True
        )
        try:
            watcher.start()
        except RuntimeError as error:
            raise StartError(f"{error}: expected a higher limit of memory or processes") from error
        try:
            task_status.started()
            while True:
                await trio.sleep(self._interval)  # noqa: TID251 - it is a clock
                self._beats += 1
        finally:
            self._stop.set()
            watcher.join()

    # --- the thread

    def _watch(self, thread: int) -> None:
        # While the event loop's thread starts a child, it blocks all signals: the end of another child would
        # wake this thread for nothing (signal(7)), for a fiftieth of a small CGI program.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        seen = self._beats
        since = looked = time.monotonic()
        worked = time.process_time()
        told: dict[str, Any] | None = None
        while not self._stop.wait(self._interval):
            before, looked = looked, time.monotonic()
            worked_before, worked = worked, time.process_time()
            overslept = looked - before - self._interval
            # Without any work the process was stopped, or the machine asleep: that is nobody's fault.
            stood_still = overslept >= self._after and worked - worked_before < overslept / 10
            if self._beats != seen:
                if told is not None:
                    log.warning("event loop goes on", seconds=round(looked - since, 1), **told)
                elif overslept >= self._after and not stood_still:
                    log.warning(
                        "event loop was blocked",
                        seconds=round(overslept, 1),
                        reason="code in C let no other thread run",
                    )
                seen, since, told = self._beats, looked, None
            elif stood_still and told is None:
                since = looked
            elif told is None and looked - since >= self._after:
                frame = sys._current_frames().get(thread)
                if in_debugger(frame):
                    since = looked
                    continue
                told = request_of(frame)
                seconds = round(looked - since, 1)
                log.warning("event loop is blocked", seconds=seconds, **told, stack=stack_of(thread))


def in_debugger(frame: FrameType | None) -> bool:
    """Whether *frame* is in a prompt of Python's debugger, or of one that is made of it (bdb)."""
    while frame is not None:
        if frame.f_globals.get("__name__") == "bdb":
            return True
        frame = frame.f_back
    return False


def request_of(frame: FrameType | None) -> dict[str, Any]:
    """Whose call runs in *frame*, as the scope tells that an ASGI application was called with."""
    scope: dict[str, Any] = {}
    while frame is not None:
        for value in list(frame.f_locals.values()):
            if type(value) is not dict or "path" not in value:
                continue
            kind = value.get("type")  # of an application's own, which may compare to anything, as arrays do
            if type(kind) is str and kind in ("http", "websocket"):
                scope = value  # the outermost is the gateway's own
        frame = frame.f_back
    if not scope:
        return {}
    try:
        backend = scope["extensions"]["gateway.backend"]["name"]
    except (KeyError, TypeError):
        backend = None
    return {"backend": backend, "method": scope.get("method", scope["type"]), "path": scope["path"]}
