"""The end of the process, which nothing that applications have left behind must hold up.

Before it ends Python waits for threads, those of executors also where they are daemons; `multiprocessing` for
processes; and functions of `atexit` run as long as they like. One of them that never comes back would hold a
daemon that has stopped until somebody kills it.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, NoReturn

from gateway.logger import get_logger
from gateway.stacks import stack_of

log = get_logger()

_SHOWN: Final = 5
"""Names of threads, and of processes, that are logged."""

TELL_AFTER: Final = 1.0
"""Seconds that something may take at the end before it is told what is waited for."""

_LEAST: Final = 1.0
"""Seconds that they have when the end is hurried, and at least: what ends by itself takes a moment."""

_hurried = False


def hurry() -> None:
    """`leave` shall not wait long."""
    global _hurried
    _hurried = True


@contextmanager
def end_within(patience: float) -> Iterator[None]:
    """What is done meanwhile has *patience* seconds; then the process is left, with status 1.

    For the end of something that may hang, where nobody else counts the time: who has told this process to
    end does, but it may have failed by itself. Whoever watches over it starts another one. A loop that an
    application blocks counts no time, so a thread does.
    """
    over = threading.Event()
    with suppress(RuntimeError):  # there is no room for a thread
        arguments = (threading.get_ident(), patience, over)
        threading.Thread(target=_cut_off_stuck, args=arguments, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _cut_off_stuck(loop: int, patience: float, over: threading.Event) -> None:
    if not over.wait(min(patience, threading.TIMEOUT_MAX)):
        with _leaving(1):
            log.warning("the end takes too long: what hangs is left behind", stack=stack_of(loop))


def leave(status: int, *, patience: float) -> NoReturn:
    """Exit with *status*, as Python does; what still runs after *patience* seconds, or one, is left.

    A process that has failed has the one second only: whoever watches over it waits for its end, to say why
    and to start another one.
    """
    patience = _LEAST if _hurried or status else max(patience, _LEAST)
    with suppress(RuntimeError):  # there is no room for a thread
        threading.Thread(target=_cut_off, args=(status, patience), daemon=True).start()
    sys.exit(status)


def _cut_off(status: int, patience: float) -> None:
    silent = min(TELL_AFTER, patience / 2)
    threading.Event().wait(silent)
    what, names = _awaited()
    log.info(f"waiting for {what}", **names, seconds=round(patience - silent, 1))
    threading.Event().wait(patience - silent)
    with _leaving(status):
        what, names = _awaited()
        log.warning(f"{what} are left behind", **names, patience=patience)


@contextmanager
def _leaving(status: int) -> Iterator[None]:
    """End the process after what is said last."""
    try:
        yield
        sys.stdout.flush()
    finally:  # also when what is written to is full, or gone
        os._exit(status)


def _awaited() -> tuple[str, dict[str, list[str]]]:
    """What Python waits for before it ends, and the names of those."""
    if threads := _threads():
        return "threads", {"threads": threads}
    if processes := _processes():
        return "processes", {"processes": processes}
    return "functions at exit", {}


def _threads() -> list[str]:
    """The names of the threads that Python waits for."""
    # What is started by a daemon thread is one, too; nobody asks that of an executor's.
    of_executors = getattr(sys.modules.get("concurrent.futures.thread"), "_threads_queues", {})
    main = threading.main_thread()
    awaited = (
        thread.name
        for thread in threading.enumerate()
        if thread is not main and (not thread.daemon or thread in of_executors)
    )
    return list(awaited)[:_SHOWN]


def _processes() -> list[str]:
    """The names of the processes that `multiprocessing` waits for; daemonic ones are told to end before."""
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is None:
        return []
    return [process.name for process in multiprocessing.active_children()][:_SHOWN]
