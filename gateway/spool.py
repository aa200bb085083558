"""Request bodies of unknown length, stored until their length is known.

CGI-like and WSGI applications want CONTENT_LENGTH before the first byte; a chunked or HTTP/2 body has none.
So it is kept: in memory first, then in a temporary file that has no name. Afterwards it is a `Body` of exact
length, which can be read again from its beginning (`rewind`), for a second try.

The file is written and read in the event loop: the kernel takes 64 KiB into its page cache in less time
than a change of threads needs.
"""

import errno
import os
import tempfile
from contextlib import suppress
from types import TracebackType
from typing import IO, Final, Literal, Self, TypeAlias

from gateway.errors import MachineError, RequestError
from gateway.protocols.events import Headers
from gateway.request import PIECE, Body
from gateway.runtime.exhaustion import EXHAUSTED

BodyPolicy: TypeAlias = Literal["spool", "stream", "reject"]
"""What to do with a body of unknown length: store it, pass it on without a length, or answer 411."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says when a file cannot grow: by the disk, the user's quota, or the process's limit."""


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

    def read_nowait(self, most: int = PIECE) -> bytes:
        """The next piece; ``b""`` at the end. Raises MachineError if it cannot be read."""
        if self._file is None:
            piece = self._memory[self._position : self._position + most]
        else:
            try:
                piece = os.pread(self._file.fileno(), most, self._position)
            except OSError as error:
                raise disk_failure("the stored request body cannot be read", error) from error
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

    Raises RequestError 413 beyond *max_body* bytes, MachineError if the disk takes no more, and whatever
    *body* raises.
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


def find_directory() -> None:
    """Find out where files are stored: later there may be no descriptor to look, or no room on the disk, and
    it would seem that there is no such place. Where there is none, whoever has something to store is told.
    """
    with suppress(OSError):
        tempfile.gettempdir()


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


def _cannot_store(error: OSError) -> MachineError:
    return disk_failure("the request body cannot be stored", error)


def disk_failure(detail: str, error: OSError) -> MachineError:
    """*detail* is what has failed, because of *error*, with a temporary file: the log has their directory."""
    if error.filename is None:
        error.filename = tempfile.tempdir
    if error.errno in EXHAUSTED:
        return MachineError(503, detail, cause=error)
    # RFC 4918 11.5: 507 is for what passes when there is room again.
    return MachineError(507 if error.errno in _FULL else 500, detail, cause=error)
