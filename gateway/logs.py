"""Logs: events of the gateway and of the applications in it, and the access log.

On a terminal they are lines to read, with colours; elsewhere JSON, one object a line. Times are ISO 8601
in UTC.

Promises: whatever a client or an application puts into a value, an entry is one line (a traceback is
indented below its entry) without control characters: nobody can forge an entry or talk to the operator's
terminal. Each entry is written at once, so none is lost when the daemon ends; one that cannot be
written (disk full, reader gone) is dropped, because a log must not stop what it tells about.
"""

import io
import json
import logging
import os
import select
import sys
import time
import warnings
from collections.abc import Callable
from enum import Enum
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from typing import Any, Final, Literal, TextIO, TypeAlias

import structlog
from structlog.typing import EventDict, Processor

from gateway.errors import StartError
from gateway.escape import printable
from gateway.logger import get_logger, settle
from gateway.request import Request

Format: TypeAlias = Literal["auto", "json", "text"]
"""auto: text on a terminal, JSON elsewhere."""

Destination: TypeAlias = Path | Literal["stdout", "stderr"]

PATIENCE: Final = 1.0
"""Seconds to wait for a full pipe that somebody else has made non-blocking."""


# ---- events


def configure(
    *,
    format: Format = "auto",  # noqa: A002
    debug: bool = False,
    stream: TextIO | None = None,
    worker: int | None = None,
) -> None:
    """Write all events to *stream* (standard error), those of `logging` and `warnings` too.

    The least level is INFO; *debug* lets the gateway's own debug events through as well. Each event says
    which *worker* it is of, if there are several. May be called again; loggers that were used before follow.
    """
    stream = sys.stderr if stream is None else stream
    _output.write = _writer(stream)
    colours = stream.isatty() and "NO_COLOR" not in os.environ
    _processors[:] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _plain,
        *(() if worker is None else (_of_worker(worker),)),
        *(_readable(colours) if _is_text(format, stream) else [_as_json]),
    ]
    filtering: Any = structlog.make_filtering_bound_logger(logging.DEBUG if debug else logging.INFO)
    settle(lambda context: filtering(_output, processors=_processors, context=context))
    # For applications that use structlog, and do not configure it themselves.
    structlog.configure(
        processors=_processors,
        wrapper_class=filtering,
        logger_factory=lambda *_: _output,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, _Bridge)]
    root.addHandler(_Bridge())
    root.setLevel(logging.INFO)
    logging.basicConfig = _basic_config
    warnings.showwarning = _show_warning


class _Output:
    """Where structlog's rendered events go. There is one, so that cached loggers follow `configure`."""

    def __init__(self) -> None:
        self.write: Callable[[bytes], None] = lambda _: None

    def msg(self, line: str) -> None:
        self.write(line.encode("utf-8", "backslashreplace") + b"\n")

    debug = info = warning = error = critical = msg


_output: Final = _Output()
# Cached loggers hold this list: it is changed in place.
_processors: Final[list[Processor]] = []


class _Bridge(logging.Handler):
    """Passes what applications log by `logging` to the same output."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:
            message = f"{record.msg} {record.args!r}"
        event: Any = {"event": message, "logger": record.name}
        if record.exc_info and record.exc_info[0] is not None:
            event["exc_info"] = record.exc_info
        for process in _processors:
            event = process(None, record.levelname.lower(), event)
        _output.msg(event)


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


def _of_worker(number: int) -> Processor:
    def add(_logger: object, _method: str, event: EventDict) -> EventDict:
        event["worker"] = number
        return event

    return add


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


def _plain(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Values as JSON has them; what else there is (addresses, paths, errors) as its text."""
    for key, value in event.items():
        if isinstance(value, Enum):
            event[key] = value.value
        elif isinstance(value, bytes):
            event[key] = value.decode("utf-8", "backslashreplace")
        elif value is not None and not isinstance(value, str | int | float | list | tuple | dict):
            event[key] = str(value)
    return event


def _as_json(_logger: object, _method: str, event: EventDict) -> str:
    """One line of ASCII; JSON escapes all control characters."""
    first = {key: event.pop(key) for key in ("timestamp", "level", "event", "logger") if key in event}
    return json.dumps({**first, **event}, default=str)


def _readable(colours: bool) -> list[Processor]:
    # A plain traceback: the pretty ones show local variables, and with them secrets.
    return [
        _brief,
        _harmless,
        structlog.dev.ConsoleRenderer(
            colors=colours, sort_keys=False, exception_formatter=structlog.dev.plain_traceback
        ),
    ]


def _brief(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Without what is not known; lists as words, so that an address can be copied, or clicked on."""
    return {
        key: ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        for key, value in event.items()
        if value is not None
    }


def _harmless(_logger: object, _method: str, event: EventDict) -> EventDict:
    """No value can begin a line or send a control sequence; a traceback stands indented below."""
    for key, value in event.items():
        if key in ("exception", "stack"):
            event[key] = "\n".join(f"    {printable(line)}" for line in str(value).splitlines())
        elif isinstance(value, str):
            event[key] = printable(value)
    return event


# ---- the access log


class AccessLog:
    """One line for each request. Call it once a response is over."""

    def __init__(self, *, format: Format = "auto", destination: Destination = "stderr") -> None:  # noqa: A002
        """Open *destination*; a file is appended to. Raises StartError if that is impossible."""
        self._file: io.FileIO | None = None
        if isinstance(destination, Path):
            try:
                self._file = io.FileIO(os.open(destination, _APPEND, 0o640), "a")
            except OSError as error:
                raise StartError(f"access log {destination}: {error.strerror}") from error
            stream: TextIO | io.FileIO = self._file
        else:
            stream = sys.stdout if destination == "stdout" else sys.stderr
        self._write = _writer(stream)
        self._colours = stream.isatty() and "NO_COLOR" not in os.environ
        self._line = self._text if _is_text(format, stream) else self._json
        self._second = -1
        self._stamp = ""

    def __call__(self, request: Request, status: int, size: int, seconds: float) -> None:
        """Log the response to *request*: *size* bytes of body were sent, *seconds* after it began to come."""
        target = request.raw_path + b"?" + request.query if request.query else request.raw_path
        self._write(self._line(request, target.decode("utf-8", "backslashreplace"), status, size, seconds))

    def close(self) -> None:
        """Close the file, if it is one."""
        if self._file is not None:
            self._file.close()

    def _json(self, request: Request, target: str, status: int, size: int, seconds: float) -> bytes:
        # By hand: json.dumps of the same takes three times as long. quoted() is its C function for text.
        client = request.connection.client
        line = (
            f'{{"timestamp":"{self._now()}","event":"request"'
            f',"client":{"null" if client is None else quoted(client[0] or "unix")}'
            f',"method":{quoted(request.method)},"target":{quoted(target)},"host":{quoted(request.host)}'
            f',"status":{status},"bytes":{size},"duration":{seconds:.6f}'
        )
        if request.backend:
            line += f',"backend":{quoted(request.backend)}'
        if request.upstream_address:
            line += f',"address":{quoted(request.upstream_address)}'
        if request.tries > 1:
            line += f',"tries":{request.tries}'
        if request.upstream_time is not None:
            line += f',"upstream_time":{request.upstream_time:.6f}'
        if request._id is not None:
            line += f',"request_id":"{request._id}"'
        return f"{line}}}\n".encode("ascii")

    def _text(self, request: Request, target: str, status: int, size: int, seconds: float) -> bytes:
        client = request.connection.client
        shown = f"{_COLOURS[status // 100]}{status}\x1b[0m" if self._colours else str(status)
        line = (
            f"{self._now()} {'-' if client is None else _word(client[0] or 'unix')} {_word(request.method)} "
            f"{_word(target)} {shown} {size}B {seconds * 1000:.1f}ms"
        )
        if request.backend:
            line += f" backend={_word(request.backend)}"
        if request.upstream_address:
            line += f" address={_word(request.upstream_address)}"
        if request.tries > 1:
            line += f" tries={request.tries}"
        if request.upstream_time is not None:
            line += f" upstream={request.upstream_time * 1000:.1f}ms"
        if request._id is not None:
            line += f" id={_word(request._id)}"
        return f"{line}\n".encode("utf-8", "backslashreplace")

    def _now(self) -> str:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._stamp}.{int((now - second) * 1000):03d}Z"


_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
_COLOURS: Final = ("\x1b[31m", "\x1b[36m", "\x1b[32m", "\x1b[36m", "\x1b[33m", "\x1b[31m")


def _word(text: str) -> str:
    """*text* as one word of a line."""
    return printable(text).replace(" ", "\\x20")


# ---- writing


def _is_text(format: Format, stream: TextIO | io.FileIO) -> bool:  # noqa: A002
    return format == "text" or (format == "auto" and stream.isatty())


def _writer(stream: TextIO | io.FileIO) -> Callable[[bytes], None]:
    """A function that writes one entry to *stream*, past its buffer where it has a descriptor."""
    try:
        descriptor = stream.fileno()
    except OSError:
        return _stream_writer(stream)
    return lambda entry: _write(descriptor, entry)


def _stream_writer(stream: Any) -> Callable[[bytes], None]:
    def write(entry: bytes) -> None:
        try:
            stream.write(entry.decode("utf-8"))
            stream.flush()
        except (OSError, ValueError):
            pass

    return write


def _write(descriptor: int, entry: bytes) -> None:
    while entry:
        try:
            entry = entry[os.write(descriptor, entry) :]
        except BlockingIOError:
            # Losing the reader's patience loses the entry, not the daemon.
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            if not poll.poll(PATIENCE * 1000):
                return
        except OSError:
            return
