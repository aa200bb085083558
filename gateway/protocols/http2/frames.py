"""Frames out of the bytes that arrive, and what of them is refused before it costs anything.

The nine bytes in front of a frame (RFC 9113 4.1) are judged when they are there, before its payload has
come: a frame that is too long, before it has been stored; a field section that never ends; what is cheap
to send and costs us (RFC 9113 10.5).

Floods are bounded by two allowances. Both are refilled by time, which the caller tells with
:meth:`FrameReader.renew`, and the first one by useful work too: requests, and bytes of bodies.
"""

import struct
from typing import Final

from gateway.protocols.http2.errors import ErrorCode, Http2Error

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""RFC 9113 3.4: what a client begins with."""

MAX_FRAME_SIZE: Final = 16_384
"""Bytes of payload: the initial SETTINGS_MAX_FRAME_SIZE, which is not changed (RFC 9113 6.5.2)."""

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
HAS_PRIORITY: Final = 0x20

CONTROL_BURST: Final = 2000.0
"""Frames without use that may come at once: a browser sends a few dozen, a gRPC client a ping per stream."""
CONTROL_RATE: Final = 100.0
"""... and per second for good."""
REQUEST_CREDIT: Final = 4.0
"""... and with each request: nghttp2 sends PRIORITY and WINDOW_UPDATE frames with it."""
BYTES_PER_CREDIT: Final = 512
"""... and for that many bytes of body either way, which a client acknowledges by WINDOW_UPDATE."""

RESET_BURST: Final = 1000.0
RESET_RATE: Final = 33.0
"""Streams that end by a reset: at once, and per second (CVE-2023-44487). nghttp2 has the same numbers."""

_ON_CONNECTION: Final = frozenset({SETTINGS, PING, GOAWAY})
_ON_STREAM: Final = frozenset({DATA, HEADERS, PRIORITY, RST_STREAM, CONTINUATION})
# RFC 9113 6.3, 6.4, 6.7, 6.9: those of one size only.
_SIZES: Final = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}


_HEAD: Final = struct.Struct(">HBBBL")


def frame_head(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    """What is in front of *length* bytes of payload (RFC 9113 4.1)."""
    return _HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream_id)


class FrameReader:
    """What one connection has received, and may still."""

    __slots__ = (
        "_block_bytes",
        "_buffer",
        "_control",
        "_length",
        "_max_block",
        "_position",
        "_preface_left",
        "_resets",
        "block_stream",
        "established",
        "flags",
        "kind",
        "payload",
        "stream_id",
    )

    def __init__(self, *, max_block: int) -> None:
        """*max_block*: bytes of one compressed field section."""
        self._max_block = max_block
        self._preface_left = len(PREFACE)
        self._buffer = b""
        self._position = 0
        self._length = -1
        self._block_bytes = 0
        self._control = CONTROL_BURST
        self._resets = RESET_BURST
        self.kind = self.flags = self.stream_id = 0
        self.payload = b""
        """The frame that `advance` has found."""
        self.block_stream = 0
        """The stream whose field section has begun and not ended; nothing else may come meanwhile."""
        self.established = False
        """The client's preface is complete: its magic string and SETTINGS (RFC 9113 3.4)."""

    @property
    def open_section(self) -> int:
        """The stream whose field section has begun and not ended, be it amid its only frame; 0 for none."""
        amid = self._length >= 0 and self.kind in (HEADERS, CONTINUATION)
        return self.stream_id if amid else self.block_stream

    def renew(self, seconds: float) -> None:
        """*seconds* have passed since the last time."""
        self._control = min(CONTROL_BURST, self._control + CONTROL_RATE * seconds)
        self._resets = min(RESET_BURST, self._resets + RESET_RATE * seconds)

    def credit(self, size: int) -> None:
        """*size* bytes of body went one way or the other."""
        self._control = min(CONTROL_BURST, self._control + size / BYTES_PER_CREDIT)

    def count_reset(self) -> None:
        """A stream has ended before its time, by the client's doing. Raises Http2Error."""
        self._resets -= 1
        if self._resets < 0:
            raise Http2Error("too many streams were reset", ErrorCode.ENHANCE_YOUR_CALM)

    def receive_data(self, data: bytes) -> None:
        """Keep *data* until `advance`; no more than a frame's length stays from one call to the next."""
        rest = self._buffer[self._position :]
        self._buffer = rest + data if rest else data
        self._position = 0

    def advance(self) -> bool:
        """Go to the next frame that is whole; False if there is none yet. Raises Http2Error."""
        if self._preface_left:
            self._skip_preface()
        position = self._position
        buffer = self._buffer
        left = len(buffer) - position
        if self._length < 0:
            if left < 9:
                return False
            self._length = buffer[position] << 16 | buffer[position + 1] << 8 | buffer[position + 2]
            self.kind = buffer[position + 3]
            self.flags = buffer[position + 4]
            self.stream_id = int.from_bytes(buffer[position + 5 : position + 9], "big") & 0x7FFF_FFFF
            self._check(self.kind, self.flags, self._length, self.stream_id)
        end = position + 9 + self._length
        if end > len(buffer):
            return False
        self.payload = buffer[position + 9 : end]
        self._position = end
        self._length = -1
        return True

    def _skip_preface(self) -> None:
        expected = PREFACE[len(PREFACE) - self._preface_left :]
        data = self._buffer[: len(expected)]
        if data != expected[: len(data)]:
            raise Http2Error("the client does not begin with the connection preface")
        self._position = len(data)
        self._preface_left -= len(data)

    def _check(self, kind: int, flags: int, length: int, stream_id: int) -> None:
        if length > MAX_FRAME_SIZE:
            raise Http2Error("a frame is larger than SETTINGS_MAX_FRAME_SIZE", ErrorCode.FRAME_SIZE_ERROR)
        if not self.established:
            if kind != SETTINGS or flags & ACK:
                raise Http2Error("the first frame is not SETTINGS")  # RFC 9113 3.4
            self.established = True
        if kind in _ON_STREAM if not stream_id else kind in _ON_CONNECTION:
            raise Http2Error("a frame on the connection belongs to a stream, or the reverse")
        if kind in (HEADERS, CONTINUATION):
            self._check_block(kind, flags, length, stream_id)
        elif self.block_stream:
            raise Http2Error("a frame in the middle of a field section")  # RFC 9113 6.2
        elif kind == DATA:
            if not length and not flags & END_STREAM:
                self._spend()
            self.credit(length)
        elif kind == PUSH_PROMISE:
            raise Http2Error("a client cannot push")  # RFC 9113 8.4
        else:
            self._check_control(kind, flags, length)

    def _check_block(self, kind: int, flags: int, length: int, stream_id: int) -> None:
        if kind == HEADERS:
            if self.block_stream:
                raise Http2Error("HEADERS in the middle of a field section")
            self._block_bytes = 0
            self._control = min(CONTROL_BURST, self._control + REQUEST_CREDIT)
        else:
            if self.block_stream != stream_id:
                raise Http2Error("CONTINUATION without HEADERS")  # RFC 9113 6.10
            self._spend()
        # RFC 9113 10.5.1: bounded while it comes (CVE-2024-27316), not when it has ended.
        self._block_bytes += length
        if self._block_bytes > self._max_block:
            raise Http2Error("a field section is too large", ErrorCode.ENHANCE_YOUR_CALM)
        self.block_stream = 0 if flags & END_HEADERS else stream_id

    def _check_control(self, kind: int, flags: int, length: int) -> None:
        self._spend()
        if kind == SETTINGS:
            wrong = length != 0 if flags & ACK else length % 6 != 0  # RFC 9113 6.5
        elif kind == GOAWAY:
            wrong = length < 8
        else:
            wrong = length != _SIZES.get(kind, length)
        if wrong:
            raise Http2Error("a frame of the wrong size", ErrorCode.FRAME_SIZE_ERROR)

    def _spend(self) -> None:
        self._control -= 1
        if self._control < 0:
            raise Http2Error("too many frames without use", ErrorCode.ENHANCE_YOUR_CALM)


def without_padding(flags: int, payload: bytes) -> bytes:
    """What is in DATA or HEADERS besides padding (RFC 9113 6.1). Raises Http2Error."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise Http2Error("padding is longer than its frame")
    return payload[1 : len(payload) - payload[0]]


def fragment_of(flags: int, stream_id: int, payload: bytes) -> bytes:
    """The piece of a field section in HEADERS (RFC 9113 6.2). Raises Http2Error."""
    payload = without_padding(flags, payload)
    if not flags & HAS_PRIORITY:
        return payload
    if len(payload) < 5:
        raise Http2Error("HEADERS without the priority that it announces", ErrorCode.FRAME_SIZE_ERROR)
    check_dependency(stream_id, payload)
    return payload[5:]


def check_dependency(stream_id: int, priority: bytes) -> None:
    """Priorities have no effect (RFC 9113 5.3.2); but see RFC 7540 5.3.1. Raises Http2Error."""
    if int.from_bytes(priority[:4], "big") & 0x7FFF_FFFF == stream_id:
        raise Http2Error("a stream depends on itself")
