"""Children that an application forks (as multiprocessing does), and what of this server they are not to be.

Signals end them, as they end any other program, and they have no listening sockets: one that outlives the
daemon would keep its addresses from the next. Where one leaves the application, by an exception, or by
answering in its parent's place, it ends: behind that it would be this server once more, with its connections.

Needs nothing but the standard library: it also runs in the processes of spawned applications.
"""

import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Final

handlers: Final[dict[int, Callable[[int, FrameType | None], None]]] = {}
"""Of the stop signals, while they are followed: what is forked meanwhile is a child of an application."""

listening: Final[set[socket.socket]] = set()
"""The sockets that a child closes."""

is_child = False
"""Whether this process is one. Ask it as an attribute of the module, where asking by `end_returned` costs
too much."""

_here: Final = threading.local()
"""``mask``: the signals that the thread blocked before it forked."""


def _hold() -> None:
    # A child that is ended at once would have our handlers still, and the signal be lost.
    _here.mask = signal.pthread_sigmask(signal.SIG_BLOCK, handlers)


def _go_on() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _here.mask)


def _go_on_as_child() -> None:
    global is_child
    if handlers:
        is_child = True
        signal.set_wakeup_fd(-1)  # it wakes the parent
        for number in handlers:
            ends = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, ends)
        handlers.clear()
        for sock in listening:
            sock.close()
        listening.clear()
    _go_on()


os.register_at_fork(before=_hold, after_in_parent=_go_on, after_in_child=_go_on_as_child)


def end_child(error: BaseException) -> None:
    """End this process, if it is a child that an application has forked and that *error* has ended."""
    if not is_child:
        return
    code = 1
    try:
        try:
            if not isinstance(error, SystemExit):
                traceback.print_exception(error)
            elif error.code is None or isinstance(error.code, int):
                code = error.code or 0
            else:
                print(error.code, file=sys.stderr)
            sys.stderr.flush()
        finally:
            sys.stdout.flush()
    finally:
        os._exit(code & 0xFF)  # whatever has become of the streams


def end_returned() -> None:
    """End this process, if it is a child, which is about to answer in its parent's place."""
    end_child(SystemExit("a child that the application has forked came back to answer: it ends here"))
