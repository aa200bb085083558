"""Accepts connections on the inherited socket until told to stop, and lets requests finish.

All processes of an application share one socket, so it is non-blocking: of several that are woken for
one connection, all but one find nothing and wait again.

SIGTERM, SIGINT and SIGHUP stop it. Requests that run then are waited for without a limit: the supervisor
has one. Connections without a request (idle ones, kept open) are not.
"""

import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

LISTENING_DESCRIPTOR: Final = 0
"""FastCGI 2.2: the listening socket is file descriptor 0."""

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class RunningRequests:
    """Counts the requests that run, to be waited for at the end."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """The time that one request takes."""
        with self._changed:
            self._count += 1
        try:
            yield
        finally:
            with self._changed:
                self._count -= 1
                self._changed.notify()

    def wait_until_none(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._count == 0)


def accept_until_stopped(handle: Callable[[socket.socket], None]) -> None:
    """Give each connection, a blocking socket, to *handle*, which must return soon.

    Must be called in the main thread, for the signals. Raises OSError if descriptor 0 is no socket.
    """
    with socket.socket(fileno=socket.dup(LISTENING_DESCRIPTOR)) as listener, _stop_signals() as stop:
        listener.setblocking(False)
        while True:
            readable, _, _ = select.select([listener, stop], [], [])
            if stop in readable:
                return
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue  # another process was faster, or the client has gone
            connection.setblocking(True)
            handle(connection)


@contextmanager
def _stop_signals() -> Iterator[socket.socket]:
    """A socket that becomes readable when a signal says that it is time to stop."""
    receiver, sender = socket.socketpair()
    with receiver, sender:
        sender.setblocking(False)
        signal.set_wakeup_fd(sender.fileno())
        previous = {number: signal.signal(number, _wake_up) for number in _STOP_SIGNALS}
        try:
            yield receiver
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(-1)


def _wake_up(_number: int, _frame: FrameType | None) -> None:
    """Nothing: the signal has woken `select` through the wake-up descriptor."""
