"""wsgi.input for a body that has not arrived whole; one that has is an ``io.BytesIO``.

Both are the standard library's file objects, so read, readline, readlines and iteration are exactly
what applications know, and the end of the body is the end of the file (PEP 3333, "Input and Error
Streams").
"""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BUFFER: Final = 64 * 1024


def open_input(arrived: bytes, next_piece: Callable[[], bytes]) -> io.BufferedReader:
    """A file of the bytes that have *arrived*, and of what *next_piece* returns until it is ``b""``."""
    return io.BufferedReader(_Pieces(arrived, next_piece), _BUFFER)


class _Pieces(io.RawIOBase):
    """A raw stream over pieces of bytes."""

    def __init__(self, arrived: bytes, next_piece: Callable[[], bytes]) -> None:
        self._piece = memoryview(arrived)
        self._next_piece = next_piece
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        if not self._piece and not self._ended:
            self._piece = memoryview(self._next_piece())
            self._ended = not self._piece
        target = memoryview(buffer)
        count = min(len(target), len(self._piece))
        target[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count
