"""The end of the process, which threads that applications have left behind must not hold up.

Python waits for all threads before it ends: those that an application has started, and those of executors
and of anyio. One of them that never comes back would hold a daemon that has stopped until somebody kills it.
"""

import os
import sys
import threading
from typing import Final, NoReturn

from gateway.logger import get_logger

log = get_logger()

_SHOWN: Final = 5
"""Names of threads that are logged."""

_HURRY: Final = 1.0
"""Seconds that they have when the end is hurried."""

_hurried = False


def hurry() -> None:
    """`leave` shall not wait long."""
    global _hurried
    _hurried = True


def leave(status: int, *, patience: float) -> NoReturn:
    """Exit with *status*, as Python does; after *patience* seconds whatever still runs is left behind."""
    patience = min(patience, _HURRY) if _hurried else patience
    if _awaited():
        threading.Thread(target=_cut_off, args=(status, patience), daemon=True).start()
    sys.exit(status)


def _cut_off(status: int, patience: float) -> None:
    threading.Event().wait(patience)
    try:
        log.warning("threads are left behind", threads=_awaited()[:_SHOWN], patience=patience)
        sys.stdout.flush()
    finally:  # also when what is written to is full, or gone
        os._exit(status)


def _awaited() -> list[str]:
    """The names of the threads that Python waits for."""
    main = threading.main_thread()
    return [thread.name for thread in threading.enumerate() if thread is not main and not thread.daemon]
