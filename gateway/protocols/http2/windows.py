"""Flow control (RFC 9113 5.2): what the other side may send, and what we may.

Credit is given for what was consumed, in few frames: once it is half of the window.
"""

from typing import Final

from gateway.protocols.http2.errors import ErrorCode, Http2Error

INITIAL_WINDOW: Final = 65_535
"""RFC 9113 6.9.2."""

LARGEST_WINDOW: Final = 2**31 - 1


class ReceiveWindow:
    """What the client may send on a stream, or on the whole connection."""

    __slots__ = ("_consumed", "_size", "left")

    def __init__(self, size: int) -> None:
        self._size = size
        self.left = size
        """Bytes that may come now."""
        self._consumed = 0

    def take(self, size: int) -> None:
        """*size* bytes have come. Raises Http2Error if they were not allowed."""
        self.left -= size
        if self.left < 0:
            raise Http2Error("more was sent than the window allows", ErrorCode.FLOW_CONTROL_ERROR)

    def give(self, size: int) -> int:
        """*size* bytes were consumed: the increment to send now; 0 for none."""
        increment = self._consumed + size
        if 2 * increment < self._size:
            self._consumed = increment
            return 0
        self._consumed = 0
        self.left += increment
        return increment


class Stream:
    """An open stream: which sides of it are, its windows, and the body that is still to come."""

    __slots__ = ("answered", "left", "receiving", "sending", "tunnel", "window", "window_in")

    def __init__(
        self, left: int | None, receiving: bool, window: int, window_in: int, tunnel: bool = False
    ) -> None:
        self.left = left
        """Bytes of body still to come, as content-length promises; None if it promises nothing."""
        self.tunnel = tunnel
        """Opened by CONNECT: nothing but DATA may come (RFC 9113 8.5)."""
        self.receiving = receiving
        self.sending = True
        self.answered = False
        """The final response has begun."""
        self.window = window
        """Bytes that may be sent; below zero when the client has made its window smaller."""
        self.window_in = ReceiveWindow(window_in)
