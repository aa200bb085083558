"""Request bodies of unknown length, stored until their length is known.

CGI, FastCGI, SCGI and uwsgi applications want CONTENT_LENGTH before the first byte; a chunked or HTTP/2
body has none. So it is kept: in memory first, then in a temporary file that has no name. Afterwards it
is a `Body` of exact length, which can be read again from its beginning (`rewind`), for a second try.

The file is written and read in the event loop: the kernel takes 64 KiB into its page cache in less time
than a change of threads needs.
"""

import os
import tempfile
from types import TracebackType
from typing import IO, Final, Literal, Self, TypeAlias

from gateway.errors import RequestError
from gateway.logger import get_logger
from gateway.protocols.events import Headers
from gateway.request import Body

BodyPolicy: TypeAlias = Literal["spool", "stream", "reject"]
"""What to do with a body of unknown length: store it, pass it on without a length, or answer 411."""

PIECE: Final = 64 * 1024
"""Bytes given out in one piece: one read, the size of a pipe, one FastCGI record."""

log = get_logger()


class Spooled:
    """A stored request body. Close it, or use it as a context manager."""

    __slots__ = ("_file", "_memory", "_position", "length")

    def __init__(self, memory: bytes, file: IO[bytes] | None, length: int) -> None:
        self.length = length
        self._memory = memory
        self._file = file
        self._position = 0

    @property
    def descriptor(self) -> int | None:
        """The temporary file, positioned at its beginning unless somebody moved it; None if in memory."""
        return None if self._file is None else self._file.fileno()

    @property
    def trailers(self) -> Headers:
        """None: what needs a body's length in front has no room for trailers."""
        return []

    def read_nowait(self) -> bytes:
        """The next piece, at most 64 KiB; ``b""`` at the end."""
        if self._file is None:
            piece = self._memory[self._position : self._position + PIECE]
        else:
            piece = os.pread(self._file.fileno(), PIECE, self._position)
        self._position += len(piece)
        return piece

    async def read(self) -> bytes:
        """The same as `read_nowait`: everything is here already."""
        return self.read_nowait()

    def rewind(self) -> None:
        """Begin again."""
        self._position = 0

    def twin(self) -> "Spooled":
        """The same body once more, to be read and closed independently of this one."""
        file = None
        if self._file is not None:
            # Opened anew, for a position of its own: a duplicate would share it.
            file = open(f"/proc/self/fd/{self._file.fileno()}", "rb", buffering=0)  # noqa: SIM115
        return Spooled(self._memory, file, self.length)

    def close(self) -> None:
        """Let go of the memory and the file."""
        self._memory = b""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


async def spool(body: Body, *, memory: int, max_body: int) -> Spooled:
    """Read *body* to its end: up to *memory* bytes in memory, from there on in a temporary file.

    Raises RequestError 413 beyond *max_body* bytes or if the disk is full, and whatever *body* raises.
    """
    pieces: list[bytes] = []
    file: IO[bytes] | None = None
    length = 0
    try:
        while True:
            piece = body.read_nowait()
            if piece is None:
                piece = await body.read()
            if not piece:
                break
            length += len(piece)
            if length > max_body:
                raise too_large(max_body)  # noqa: TRY301 (the handler below closes the file)
            pieces.append(piece)
            if length > memory:
                file = file or _temporary_file()
                _store(file, pieces)
    except BaseException:
        if file is not None:
            file.close()
        raise
    if file is not None:
        os.lseek(file.fileno(), 0, os.SEEK_SET)
    return Spooled(b"".join(pieces), file, length)


def _temporary_file() -> IO[bytes]:
    try:
        # O_TMPFILE where the file system has it; unlinked at once elsewhere.
        return tempfile.TemporaryFile(buffering=0)
    except OSError as error:
        raise _cannot_store(error) from error


def _store(file: IO[bytes], pieces: list[bytes]) -> None:
    descriptor = file.fileno()
    try:
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[os.write(descriptor, view) :]
    except OSError as error:
        raise _cannot_store(error) from error
    pieces.clear()


def too_large(max_body: int) -> RequestError:
    """The refusal of a body that turned out to be larger than *max_body* bytes."""
    return RequestError(
        413, f"the request body is larger than {max_body} bytes", close=True, setting="max_body"
    )


def _cannot_store(error: OSError) -> RequestError:
    log.error("request body cannot be stored", directory=tempfile.tempdir, cause=str(error))
    # RFC 9110 15.5.14: larger than the server is willing *or able* to process. No names of directories.
    reason = os.strerror(error.errno or 0)
    return RequestError(413, f"the request body cannot be stored: {reason}", close=True)
