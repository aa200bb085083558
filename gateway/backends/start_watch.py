"""Tells that an application takes long to load, or to start: since when, and where it stands.

An import that waits (for a database, a lock, a name server) holds its process, which says nothing meanwhile
and serves nobody. Nothing is ended for that: who waits knows what for. A thread beside it looks at the clock;
it cannot while code in C keeps the interpreter's lock: then it is told afterwards.
"""

import os
import signal
import sys
import time
from _thread import allocate_lock, get_ident, start_new_thread
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final

from gateway.logger import get_logger
from gateway.stacks import stack_of

FIRST: Final = 10.0
"""Seconds until it is told for the first time; then each time that it has taken twice as long."""

_OURS: Final = ("gateway.", "trio.")
"""Modules in which the event loop waits."""

log = get_logger()


class StartWatch:
    """While it is entered, the application of *backend* is *doing* something: ``loading``, ``starting``.

    Of the stack only what *below* has called is shown, where it is given.
    """

    def __init__(
        self,
        backend: str,
        doing: str,
        *,
        below: Callable[..., object] | None = None,
        first: float = FIRST,
    ) -> None:
        self._backend = backend
        self._doing = doing
        self._below = below
        self._first = first
        # Those of `threading` may be others once the application is loaded (gevent), and threads of it would
        # end in them.
        self._over = allocate_lock()
        self._began = 0.0

    def __enter__(self) -> None:
        self._over.acquire()
        self._began = time.monotonic()
        with suppress(RuntimeError):  # there is no room for one: then it is told afterwards
            start_new_thread(self._watch, (get_ident(),))

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._over.release()
        seconds = time.monotonic() - self._began
        if error is None and seconds >= self._first:
            log.warning(
                f"application took long {self._doing}", backend=self._backend, seconds=round(seconds, 1)
            )

    # --- the thread

    def _watch(self, thread: int) -> None:
        # As the watchdog: the end of a child would wake this thread for nothing.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        after = self._first
        while not self._over.acquire(timeout=max(self._began + after - time.monotonic(), 0)):
            stack = self._stack(thread)
            if self._over.acquire(blocking=False):
                return  # meanwhile: this thread had to wait for the interpreter's lock
            log.warning(
                f"application is still {self._doing}",
                backend=self._backend,
                pid=os.getpid(),
                seconds=round(time.monotonic() - self._began),
                **stack,
            )
            while after <= time.monotonic() - self._began:
                after *= 2

    def _stack(self, thread: int) -> dict[str, Any]:
        """Of an application that waits in its loop there is none to be shown."""
        frame = sys._current_frames().get(thread)
        if frame is None or str(frame.f_globals.get("__name__")).startswith(_OURS):
            return {}
        return {"stack": stack_of(thread, below=self._below)}
