"""Accepts connections on the inherited socket until told to stop, and lets requests finish.

All processes of an application share one socket, so it is non-blocking: of several that are woken for
one connection, all but one find nothing and wait again.

SIGTERM, SIGINT, SIGQUIT and SIGHUP stop it. Every connection that was accepted before is served; what runs is
waited for without a limit: the supervisor has one. Connections that are kept open between requests are not.
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from types import FrameType
from typing import Final

from gateway.appserver.polling import select
from gateway.appserver.report import Report
from gateway.runtime.exhaustion import EXHAUSTED, Repeated, no_room
from gateway.runtime.forked import handlers

LISTENING_DESCRIPTOR: Final = 0
"""FastCGI 2.2: the listening socket is file descriptor 0."""

LINGER: Final = 1.0
"""Seconds that the supervisor has to close connections between requests before this process does."""

PAUSE: Final = 0.1
"""Seconds without accepting when no descriptor is left for a connection."""

DRAIN_LIMIT: Final = 1024 * 1024
"""Bytes of a request body that are read and dropped after an answer that did not want them."""

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


def take_listener() -> int:
    """Another number for the inherited socket; standard input is the null device from now on.

    The application may close what it takes for standard input. Programs that it starts inherit that: they
    find it empty, and none keeps the socket open that the next process is to listen on.
    """
    descriptor = socket.dup(LISTENING_DESCRIPTOR)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, LISTENING_DESCRIPTOR)
    os.close(nothing)
    return descriptor


class OpenConnections:
    """The connections of a process, to be ended in order.

    One is busy from its acceptance on: its request is on the way. `idle` is for those that have had a
    request and may get another.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._changed = threading.Condition()
        self._busy: set[socket.socket] = set()
        self._idle: set[socket.socket] = set()
        self._draining = False

    def opened(self, connection: socket.socket) -> None:
        """In the thread that accepts: what is told to stop next must know of it."""
        with self._changed:
            self._busy.add(connection)

    def busy(self, connection: socket.socket) -> None:
        """A request begins on a connection that was idle."""
        with self._changed:
            self._idle.discard(connection)
            self._busy.add(connection)

    def idle(self, connection: socket.socket) -> None:
        """A request has ended, and another may come."""
        self._report.request_ended()
        with self._changed:
            if connection in self._busy:
                self._busy.remove(connection)
                self._idle.add(connection)
                if self._draining:
                    _refuse_more(connection)

    def closed(self, connection: socket.socket) -> None:
        with self._changed:
            self._busy.discard(connection)
            self._idle.discard(connection)
            self._changed.notify()

    def drain(self) -> None:
        """Wait until all are closed; idle ones are after LINGER seconds."""
        self._report.draining()
        with self._changed:
            # The supervisor closes its idle ones now, and loses no request by it.
            if self._changed.wait_for(self._none_is_open, LINGER):
                return
            self._draining = True
            for connection in self._idle:
                _refuse_more(connection)
            self._changed.wait_for(self._none_is_open)

    def _none_is_open(self) -> bool:
        return not (self._busy or self._idle)


def _refuse_more(connection: socket.socket) -> None:
    """Take no more requests, losing none: what has arrived stays readable, and sending more fails at once.

    That is how Unix sockets do it (unix(7)): the web server knows that a later request was not taken.
    """
    with suppress(OSError, ValueError):  # it has been closed meanwhile
        if not select([connection], timeout=0)[0]:
            connection.shutdown(socket.SHUT_RD)


def accept_until_stopped(
    listener: socket.socket, handle: Callable[[socket.socket], None], report: Report
) -> None:
    """Give each connection, a blocking socket, to *handle*, which must return soon.

    Must be called in the main thread, for the signals. Raises OSError if *listener* is none.
    """
    with listener, _stop_signals() as stop:
        listener.setblocking(False)
        report.ready()
        exhausted = Repeated()
        while True:
            readable, _, _ = select([listener, stop])
            if stop in readable and not set(_STOP_SIGNALS).isdisjoint(stop.recv(64)):
                return  # others are the application's
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue  # another process was faster, or the client has gone
            except OSError as error:
                if error.errno not in EXHAUSTED:
                    raise
                # What waits goes to another process, or is taken when a connection of this one has ended.
                if times := exhausted.happened(monotonic()):
                    again = f" ({times} times)" if times > 1 else ""
                    print(f"cannot accept connections: {no_room(error.errno)}{again}", file=sys.stderr)
                select([stop], timeout=PAUSE)
                continue
            connection.setblocking(True)
            handle(connection)


@contextmanager
def _stop_signals() -> Iterator[socket.socket]:
    """A socket that becomes readable when a signal says that it is time to stop."""
    receiver, sender = socket.socketpair()
    with receiver, sender:
        sender.setblocking(False)
        signal.set_wakeup_fd(sender.fileno())
        handlers.update(dict.fromkeys(_STOP_SIGNALS, _wake_up))
        previous = {number: signal.signal(number, _wake_up) for number in _STOP_SIGNALS}
        try:
            yield receiver
        finally:
            handlers.clear()
            for number, handler in previous.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(-1)


def _wake_up(_number: int, _frame: FrameType | None) -> None:
    """Nothing: the signal has woken `select` through the wake-up descriptor."""
