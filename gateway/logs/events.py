"""The log of events: of the gateway, and what applications log by `logging`, `warnings` and structlog."""

import logging
import os
import sys
from collections.abc import Callable
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor

from gateway.logger import settle
from gateway.logs.bridge import take_over
from gateway.logs.output import Format, is_text, writer
from gateway.logs.rendering import as_json, json_within, plain, readable
from gateway.stacks import traceback_text


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
        plain,
        *(() if worker is None else (_of_worker(worker),)),
        *(readable(colours) if is_text(format, stream) else [json_within(longest) if longest else as_json]),
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
    take_over(_pass_on)


class _Output:
    """Where structlog's rendered events go. There is one, so that cached loggers follow `configure`."""

    def __init__(self) -> None:
        self.write: Callable[[bytes], object] = lambda _: None

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


def _pass_on(level: str, event: Any) -> None:
    for process in _processors:
        event = process(None, level, event)
    _output.msg(event)


def _of_worker(number: int) -> Processor:
    def add(_logger: object, _method: str, event: EventDict) -> EventDict:
        event["worker"] = number
        return event

    return add
