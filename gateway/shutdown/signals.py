"""The signals that stop a process, and what they do to an application that is being loaded meanwhile.

An import holds the event loop, which hears of a signal only afterwards: a second later, or minutes. So while
something is loaded, a stop signal raises `KeyboardInterrupt` in it besides, whichever signal it is: that is
what programs are written for.

Nothing interrupts a call into C that does not come back. Handlers that an application sets for these signals
while it is loaded are not kept: nobody could stop the daemon any more.
"""

import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, TypeVar

import trio

from gateway.logger import get_logger
from gateway.runtime.forked import handlers

log = get_logger()

OUTLIVES_TERMINAL: Final = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
"""Whoever has started this process wants it to go on when the terminal is closed, as nohup does."""

STOP_SIGNALS: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    *(() if OUTLIVES_TERMINAL else (signal.SIGHUP,)),
)
"""All mean the same; SIGQUIT is what nginx calls its graceful shutdown, and its images are stopped by."""

Result = TypeVar("Result")


def on_terminal() -> bool:
    """Whether there is a controlling terminal: then SIGHUP means that it was closed (tty_ioctl(4))."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


class Interrupted(Exception):
    """The process is to stop. Whoever receives the signals knows it, and cancels what is being started."""


class _Interruption(KeyboardInterrupt):
    """Raised in what is loaded."""


_told = False
"""A stop signal has come: nothing is loaded any more."""
_loading = False


@contextmanager
def open_stop_signals(*others: signal.Signals) -> Iterator[AsyncIterator[int]]:
    """The stop signals, and *others*, as they come. In the main thread only."""
    global _told
    with trio.open_signal_receiver(*STOP_SIGNALS, *others) as signals:
        _told = False
        received = {number: signal.getsignal(number) for number in STOP_SIGNALS}

        def handle(number: int, frame: FrameType | None) -> None:
            global _told
            _told = True
            receive = received[signal.Signals(number)]
            assert callable(receive)
            receive(number, frame)
            if _loading:
                raise _Interruption

        for number in STOP_SIGNALS:
            handlers[number] = handle
            signal.signal(number, handle)
        try:
            yield signals
        finally:
            handlers.clear()
            for number, receive in received.items():
                signal.signal(number, receive)


def interruptible(load: Callable[[], Result]) -> Result:
    """What *load* returns. Raises what *load* raises, and Interrupted if a stop signal has come before it.

    Signals come to the main thread; in others *load* is just called.
    """
    global _loading
    if threading.current_thread() is not threading.main_thread():
        return load()
    try:
        _loading = True
        if not _told:
            return load()
    except BaseException as error:
        if not _told:
            raise
        raise Interrupted from error  # whatever the application has made of it
    finally:
        _loading = False
        for number, handle in handlers.items():
            if signal.getsignal(number) is not handle:
                log.warning(
                    "signal handler of an application is not kept", signal=signal.Signals(number).name
                )
                signal.signal(number, handle)
    raise Interrupted
