"""A receive buffer with a cursor: takes what arrives, gives exact pieces or nothing."""


class ReceiveBuffer:
    """Bytes that have arrived and not been parsed yet.

    The buffer itself has no bound: each codec checks what it is about to wait for against a named
    limit of its own before it asks for more, and the driver feeds it one read at a time.
    """

    __slots__ = ("_data", "_start")

    def __init__(self) -> None:
        self._data = bytearray()
        self._start = 0

    def __len__(self) -> int:
        return len(self._data) - self._start

    def __iadd__(self, data: bytes) -> "ReceiveBuffer":
        # Drop the consumed part only when something is appended, so that many small pieces out of
        # one large read cost no copy each.
        if self._start:
            del self._data[: self._start]
            self._start = 0
        self._data += data
        return self

    def peek(self, count: int) -> bytes | None:
        """The first *count* bytes, left in place, or None if fewer have arrived."""
        end = self._start + count
        if len(self._data) < end:
            return None
        return bytes(self._data[self._start : end])

    def take(self, count: int) -> bytes | None:
        """Exactly *count* bytes, or None if fewer have arrived."""
        piece = self.peek(count)
        if piece is not None:
            self._start += count
        return piece

    def take_at_most(self, count: int) -> bytes:
        """Up to *count* bytes, possibly none."""
        end = min(len(self._data), self._start + count)
        piece = bytes(self._data[self._start : end])
        self._start = end
        return piece
