"""In which form a log is written, and its entries, each at once."""

import io
import os
import select
from collections.abc import Callable
from typing import Any, Final, Literal, TextIO, TypeAlias

Format: TypeAlias = Literal["auto", "json", "text"]
"""auto: text on a terminal, JSON elsewhere."""

PATIENCE: Final = 1.0
"""Seconds to wait for a full pipe that somebody else has made non-blocking."""


def is_text(format: Format, stream: TextIO | io.FileIO) -> bool:  # noqa: A002
    """Whether what goes to *stream* is lines to read."""
    return format == "text" or (format == "auto" and stream.isatty())


def writer(stream: TextIO | io.FileIO) -> Callable[[bytes], None]:
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
