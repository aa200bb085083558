"""What others say in this process goes to the log of events: applications by `logging` and `warnings`, and
Python of exceptions that it can only ignore, or that end a thread.
"""

import logging
import sys
import threading
import warnings
from collections.abc import Callable
from copy import copy
from typing import Any, Final, TextIO, TypeAlias

from structlog.typing import EventDict

from gateway.logger import get_logger

PassOn: TypeAlias = Callable[[str, EventDict], None]
"""Writes an event; the first is its level."""


def take_over(pass_on: PassOn) -> None:
    """Have *pass_on* write it, from INFO on. May be called again."""
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, _Bridge)]
    root.addHandler(_Bridge(pass_on))
    root.setLevel(logging.INFO)
    logging.basicConfig = _basic_config
    warnings.showwarning = _show_warning
    sys.unraisablehook = _show_unraisable
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _show_thread_failure


class _Bridge(logging.Handler):
    """Passes what applications log by `logging` to the same output, unless they have written it there."""

    def __init__(self, pass_on: PassOn) -> None:
        super().__init__()
        self._pass_on = pass_on

    def emit(self, record: logging.LogRecord) -> None:
        if not _is_written(record):
            try:
                self._pass_on(record.levelname.lower(), _event_of(record))
            except Exception:
                self.handleError(record)


def _event_of(record: logging.LogRecord) -> EventDict:
    try:
        message = record.getMessage()
    except Exception:
        message = f"{record.msg} {record.args!r}"
    event: EventDict = {**_extra(record), "event": message, "logger": record.name}
    if record.stack_info:
        event["stack"] = record.stack_info
    if record.exc_info and record.exc_info[0] is not None:
        event["exc_info"] = record.exc_info
    return event


_STANDARD: Final = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
"""What a record has by itself (the last from Python 3.12 on), and what formatters add to it."""

_OURS: Final = frozenset({"timestamp", "level", "event", "logger", "worker", "pid", "exception", "stack"})


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    """What an application has given by ``extra``, or a filter of its own has added; not what they keep for
    themselves (``_name``). What is called as a key of ours has another name.
    """
    named = ((str(key), value) for key, value in vars(record).items() if key not in _STANDARD)
    return {f"extra_{key}" if key in _OURS else key: value for key, value in named if key[:1] != "_"}


def _is_written(record: logging.LogRecord) -> bool:
    """Whether a handler of the application's own writes *record* to standard output or error.

    Django's logger has one while DEBUG is on. Other servers have none, so that its records go on to the root
    is not seen there.
    """
    root = logging.root
    # Not by getLogger(), which takes a lock that logging.config holds while it waits for that of our handler.
    named = root.manager.loggerDict.get(record.name)
    logger: logging.Logger | None = named if isinstance(named, logging.Logger) else root
    while logger is not None:
        for handler in logger.handlers:
            if (
                isinstance(handler, logging.StreamHandler)
                and type(handler).emit is logging.StreamHandler.emit
                and any(handler.stream is stream for stream in (sys.stdout, sys.stderr))
                and record.levelno >= handler.level
                # Filters may count, or change the record: those of the root may still have to see it first.
                and (not handler.filters or (logger is not root and _passes(handler, record)))
            ):
                return True
        logger = logger.parent if logger.propagate else None
    return False


def _passes(handler: logging.Handler, record: logging.LogRecord) -> bool:
    """Whether the filters of *handler*, which have seen *record* before, let it through."""
    try:
        return bool(handler.filter(copy(record)))
    except Exception:  # It has no longer what one of them has taken out of it.
        return False


_unchanged_basic_config: Final = logging.basicConfig


def _basic_config(**options: Any) -> None:
    """`logging.basicConfig`, which would ignore everything because there is a handler.

    An application has the level that it asks for, and the place: a file, a stream, handlers.
    """
    root = logging.getLogger()
    placed = any(options.get(key) is not None for key in ("filename", "stream", "handlers"))
    if [type(handler) for handler in root.handlers] == [_Bridge]:
        if not placed:
            if options.get("level") is not None:
                root.setLevel(options["level"])
            return
        root.handlers.clear()
    _unchanged_basic_config(**options)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """`warnings.showwarning`, which writes several lines to standard error, past the log."""
    if file is not None:  # for somebody else than the operator
        file.write(warnings.formatwarning(message, category, filename, lineno, line))
        return
    get_logger().warning(
        str(message), logger="py.warnings", category=category.__name__, file=f"{filename}:{lineno}"
    )


_OF_A_NAME: Final = "in ssl servername callback while decoding name"


def _show_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """`sys.unraisablehook`, which writes several lines to standard error, past the log."""
    what, said, error = unraisable.object, unraisable.err_msg or "", unraisable.exc_value
    if isinstance(error, UnicodeDecodeError) and (isinstance(what, bytes) or _OF_A_NAME in said):
        # The ssl module's: a client asks for a host that is not ASCII. Its handshake fails, which is told of.
        return
    if what is None:  # from Python 3.14 on there are mostly words
        where = said.removeprefix("Exception ignored ")
    else:
        where = getattr(what, "__qualname__", None) or type(what).__qualname__
    get_logger().error("exception ignored", where=where, exc_info=error)


def _show_thread_failure(failure: threading.ExceptHookArgs) -> None:
    """`threading.excepthook`, which writes several lines to standard error, past the log."""
    if failure.exc_type is not SystemExit:
        name = "unknown" if failure.thread is None else failure.thread.name
        get_logger().error("thread failed", thread=name, exc_info=failure.exc_value)
