"""In which form a log is written, and its entries, each at once."""

import io
import os
import select
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Literal, TextIO, TypeAlias
from weakref import finalize

Format: TypeAlias = Literal["auto", "json", "text"]
"""auto: text on a terminal, JSON elsewhere."""

PATIENCE: Final = 1.0
"""Seconds to wait for the reader of a full pipe, who may have stopped for good."""


def is_text(format: Format, stream: TextIO | io.FileIO) -> bool:  # noqa: A002
    """Whether what goes to *stream* is lines to read."""
    return format == "text" or (format == "auto" and stream.isatty())


def writer(stream: TextIO | io.FileIO) -> Callable[[bytes], bool]:
    """A function that writes one entry to *stream*, past its buffer where it has a descriptor.

    It tells whether all of the entry was written.
    """
    try:
        descriptor = stream.fileno()
    except OSError:
        return _stream_writer(stream)
    if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        with suppress(OSError):  # it may not be ours to open
            descriptor = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            entries = _Entries(descriptor)
            finalize(entries, os.close, descriptor).atexit = False
            return entries.write
    return _Entries(descriptor).write


def _stream_writer(stream: Any) -> Callable[[bytes], bool]:
    def write(entry: bytes) -> bool:
        try:
            stream.write(entry.decode("utf-8"))
            stream.flush()
        except (OSError, ValueError):
            return False
        return True

    return write


class _Entries:
    """Writes entries on a descriptor, each from the beginning of a line.

    A pipe is opened anew for entries alone: so it can be made not to wait for a reader, and no other's is.
    Losing the reader's patience loses entries, not the daemon. Once it is lost, nothing is waited for until
    there is room again.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._patience = PATIENCE
        self._cut = False
        """The last entry that was written was not written whole."""

    def write(self, entry: bytes) -> bool:
        if self._cut:
            entry = b"\n" + entry
        written = _write_on(self._descriptor, entry, self._patience)
        whole = written == len(entry)
        self._patience = PATIENCE if whole else 0
        if written:
            self._cut = not whole
        return whole


def _write_on(descriptor: int, entry: bytes, patience: float) -> int:
    """Write *entry*; how much of it, if there is no room for *patience* seconds or the disk is full."""
    written = 0
    while written < len(entry):
        try:
            written += os.write(descriptor, entry[written:])
        except BlockingIOError:
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            if not poll.poll(patience * 1000):
                break
        except OSError:
            break
    return written
