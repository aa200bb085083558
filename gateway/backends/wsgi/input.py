"""wsgi.input for a body that has not arrived whole, or is in a file; one in memory is an ``io.BytesIO``.

All are the standard library's file objects, so read, readline, readlines and iteration are exactly
what applications know, and the end of the body is the end of the file (PEP 3333, "Input and Error
Streams").
"""

import io
import os
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BUFFER: Final = 64 * 1024


def open_input(arrived: list[bytes], next_pieces: Callable[[], list[bytes]]) -> io.BufferedReader:
    """A file of the pieces that have *arrived*, and of those that *next_pieces* returns, up to ``b""``."""
    return io.BufferedReader(_Pieces(arrived, next_pieces), _BUFFER)


def open_stored(descriptor: int, lost: Callable[[], object]) -> io.BufferedReader:
    """A seekable file of the one behind *descriptor*, which may be closed before; *lost* is called if the
    disk fails. Raises OSError.
    """
    return io.BufferedReader(_Stored(os.dup(descriptor), lost), _BUFFER)


class _Stored(io.RawIOBase):
    """A raw stream over a file, with a position of its own; an application need not close it."""

    def __init__(self, descriptor: int, lost: Callable[[], object]) -> None:
        self._descriptor = descriptor
        self._lost = lost
        self._size = os.fstat(descriptor).st_size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        position = (0, self._position, self._size)[whence] + offset
        if position < 0:
            raise ValueError("negative seek position")
        self._position = position
        return position

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        try:
            count = os.preadv(self._descriptor, [buffer], self._position)
        except OSError:
            self._lost()
            raise
        self._position += count
        return count

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


class _Pieces(io.RawIOBase):
    """A raw stream over pieces of bytes."""

    def __init__(self, arrived: list[bytes], next_pieces: Callable[[], list[bytes]]) -> None:
        self._piece = memoryview(b"")
        self._pieces = deque(arrived)
        self._next_pieces = next_pieces
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        if not self._piece:
            self._piece = memoryview(self._next_piece())
        target = memoryview(buffer)
        count = min(len(target), len(self._piece))
        target[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count

    def readall(self) -> bytes:
        # As it is inherited, but that takes 8 KiB at a time.
        first, self._piece = bytes(self._piece), memoryview(b"")
        return b"".join((first, *iter(self._next_piece, b"")))

    def _next_piece(self) -> bytes:
        """``b""`` at the end, for good."""
        if self._ended:
            return b""
        if not self._pieces:
            self._pieces.extend(self._next_pieces())
        piece = self._pieces.popleft()
        self._ended = not piece
        return piece
