"""wsgi.errors and wsgi.file_wrapper."""

import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from gateway.logger import get_logger

log = get_logger()

_BLOCK = 64 * 1024


class WsgiErrors:
    """wsgi.errors of one application: what is written becomes log lines, one per line of text.

    Shared by all calls, so it keeps nothing between two writes; a traceback is written line by line.
    """

    def __init__(self, backend: str) -> None:
        self._backend = backend

    def write(self, text: str) -> int:
        """Log each line of *text* that is not blank."""
        for line in text.splitlines():
            if line.strip():
                log.warning("application wrote to wsgi.errors", backend=self._backend, text=line)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Log each of *lines*."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Nothing is held back."""


class Readable(Protocol):
    """The file-like object that an application wraps: only ``read`` is certain."""

    def read(self, size: int, /) -> bytes: ...


class FileWrapper:
    """wsgi.file_wrapper: an iterable over a file-like object, and a hint that it may be sent as a file.

    ``close`` exists only if the wrapped object has it (PEP 3333).
    """

    close: Callable[[], None]

    def __init__(self, file: Readable, block_size: int = _BLOCK) -> None:
        self._file = file
        self._block_size = block_size
        close = getattr(file, "close", None)
        if close is not None:
            self.close = close

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        block = self._file.read(self._block_size)
        if not block:
            raise StopIteration
        return block

    def regular_file(self) -> tuple[int, int, int] | None:
        """(descriptor, offset, count) if the rest of the file can be sent by the kernel, else None.

        Only for what open() returns: other objects have a ``fileno`` too while their ``read`` gives
        something else than the bytes in the file (gzip.GzipFile, a class of the application's own).
        """
        file: Any = self._file
        raw = file.raw if type(file) in (io.BufferedReader, io.BufferedRandom) else file
        if type(raw) is not io.FileIO:
            return None
        descriptor = file.fileno()
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not status.st_blocks:
            return None  # those below /proc and /sys, which have more or less than their size
        offset = file.tell()
        return descriptor, offset, max(0, status.st_size - offset)
