"""The log of events: of the gateway, and what applications log by `logging`, `warnings` and structlog."""

import json
import logging
import os
import sys
import warnings
from collections.abc import Callable
from copy import copy
from enum import Enum
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor

from gateway.escape import printable
from gateway.logger import get_logger, settle
from gateway.logs.output import Format, is_text, writer
from gateway.stacks import name_of, traceback_text


def configure(
    *,
    format: Format = "auto",  # noqa: A002
    debug: bool = False,
    stream: TextIO | None = None,
    worker: int | None = None,
    longest: int | None = None,
) -> None:
    """Write all events to *stream* (standard error), those of `logging` and `warnings` too.

    The least level is INFO; *debug* lets the gateway's own debug events through as well. Each event says
    which *worker* it is of, if there are several. The values of one that takes *longest* bytes of JSON
    are cut in the middle. May be called again; loggers that were used before follow.
    """
    stream = sys.stderr if stream is None else stream
    _output.write = writer(stream)
    colours = stream.isatty() and "NO_COLOR" not in os.environ
    _processors[:] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        _exceptions,
        _plain,
        *(() if worker is None else (_of_worker(worker),)),
        *(
            _readable(colours)
            if is_text(format, stream)
            else [_json_within(longest) if longest else _as_json]
        ),
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
    sys.unraisablehook = _show_unraisable


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


def _format_exception(exc_info: ExcInfo) -> str:
    return traceback_text(exc_info[1], exc_info[2])


_exceptions: Final = structlog.processors.ExceptionRenderer(_format_exception)
"""What an application has raised is told in any case: whoever logs it is no application, and goes on."""


class _Bridge(logging.Handler):
    """Passes what applications log by `logging` to the same output, unless they have written it there."""

    def emit(self, record: logging.LogRecord) -> None:
        if not _is_written(record):
            try:
                self._pass_on(record)
            except Exception:
                self.handleError(record)

    def _pass_on(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:
            message = f"{record.msg} {record.args!r}"
        event: Any = {**_extra(record), "event": message, "logger": record.name}
        if record.stack_info:
            event["stack"] = record.stack_info
        if record.exc_info and record.exc_info[0] is not None:
            event["exc_info"] = record.exc_info
        for process in _processors:
            event = process(None, record.levelname.lower(), event)
        _output.msg(event)


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


def _plain(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Values as JSON has them; what else there is (addresses, paths, errors) as its text."""
    for key, value in event.items():
        if isinstance(value, Enum):
            value = value.value
        if isinstance(value, bytes):
            event[key] = value.decode("utf-8", "backslashreplace")
        else:
            event[key] = value if value is None or isinstance(value, str) else _data(value)
    return event


def _data(value: Any) -> Any:
    """Strictly as JSON has it: NaN, a loop, or a key that is no text, makes a text of the whole.

    Whatever the code of an application makes of the question, nothing is raised.
    """
    try:
        return json.loads(json.dumps(value, default=_text, allow_nan=False))
    except Exception:
        return _text(value)


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception as wrong:
        return f"{type(value).__name__}: str() of it failed: {name_of(wrong)}"


def _as_json(_logger: object, _method: str, event: EventDict) -> str:
    """One line of ASCII; JSON escapes all control characters."""
    first = {key: event.pop(key) for key in ("timestamp", "level", "event", "logger") if key in event}
    return json.dumps({**first, **event})


def _json_within(longest: int) -> Processor:
    def render(logger: object, method: str, event: EventDict) -> EventDict | str:
        line = _as_json(logger, method, {**event})
        room = longest
        while len(line) >= longest and room > _SHORT:
            room //= 2
            line = _as_json(logger, method, {key: _cut(value, room) for key, value in event.items()})
        return line

    return render


_SHORT: Final = 128
"""Characters of a value, or fewer, that are not worth cutting."""


def _cut(value: Any, room: int) -> Any:
    """*value*, without its middle beyond *room* characters: of a traceback both ends matter."""
    if isinstance(value, list | tuple | dict):
        value = json.dumps(value)
    if not isinstance(value, str) or len(value) <= room:
        return value
    return f"{value[: room // 2]} [... {len(value) - room} characters ...] {value[-room // 2 :]}"


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
    """No key and no value can begin a line or send a control sequence; a traceback stands indented below."""
    event = {printable(key): _harmless_value(key, value) for key, value in event.items()}
    if "stack" in event and "exception" in event:  # between the two, structlog would draw a line
        event["stack"] += "\n" + event.pop("exception")
    return event


def _harmless_value(key: str, value: Any) -> Any:
    if key in ("exception", "stack"):
        return "\n".join(f"    {printable(line)}" for line in str(value).splitlines())
    return printable(value) if isinstance(value, str) else value
