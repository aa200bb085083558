"""A look at the frames that arrive, ahead of the engine.

It reads the nine bytes in front of each frame (RFC 9113 4.1) and refuses what the engine would let pass
or would find too late: a frame that is too long, before it has been stored; a field section that never
ends; what is cheap to send and costs us (RFC 9113 10.5). And it keeps GOAWAY from the engine, for which
the connection would be over, though its streams are to be completed (RFC 9113 6.8).

Floods are bounded by two allowances. Both are refilled by time, which the caller tells with
:meth:`FrameGuard.renew`, and the first one by useful work too: requests, and bytes of bodies.
"""

from typing import Final

from protocols.http2.errors import ErrorCode, Http2Error

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


class FrameGuard:
    """What one connection has received, and may still."""

    __slots__ = (
        "_block_bytes",
        "_control",
        "_dropping",
        "_left",
        "_max_block",
        "_partial",
        "_preface_left",
        "_resets",
        "_settled",
        "block_stream",
        "fault",
        "goes_away",
        "highest_stream",
    )

    def __init__(self, *, max_block: int) -> None:
        """*max_block*: bytes of one compressed field section."""
        self._max_block = max_block
        self._preface_left = len(PREFACE)
        self._partial = b""
        self._left = 0
        self._dropping = False
        self._settled = False
        self._block_bytes = 0
        self._control = CONTROL_BURST
        self._resets = RESET_BURST
        self.block_stream = 0
        """The stream whose field section has begun and not ended; nothing else may come meanwhile."""
        self.highest_stream = 0
        """The highest stream that the client has opened."""
        self.goes_away = False
        """A GOAWAY has come."""
        self.fault: Http2Error | None = None
        """Why the connection cannot go on."""

    @property
    def established(self) -> bool:
        """The client's preface is complete: its magic string and SETTINGS (RFC 9113 3.4)."""
        return self._settled

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

    def inspect(self, data: bytes) -> bytes:
        """What the engine is to read of *data*: whole frame headers, without what is for us alone.

        At a frame that breaks a rule it ends; `fault` is the error then, to be raised when what came
        before has been read.
        """
        position = 0
        if self._preface_left:
            position = self._skip_preface(data)
            if self.fault is not None:
                return b""
        if self._partial:
            data = data[:position] + self._partial + data[position:]
            self._partial = b""
        end = len(data)
        kept = b""
        start = 0
        while position < end:
            if self._left:
                step = min(self._left, end - position)
                self._left -= step
                position += step
                if self._dropping:
                    start = position
                continue
            if end - position < 9:
                self._partial = data[position:]
                end = position
                break
            length = data[position] << 16 | data[position + 1] << 8 | data[position + 2]
            kind = data[position + 3]
            flags = data[position + 4]
            stream_id = int.from_bytes(data[position + 5 : position + 9], "big") & 0x7FFF_FFFF
            try:
                self._dropping = self._check(kind, flags, length, stream_id)
            except Http2Error as error:
                self.fault = Http2Error(str(error), error.code)
                end = position
                break
            if self._dropping:
                kept += data[start:position]
                start = position + 9
            self._left = length
            position += 9
        if not start and end == len(data):
            return data
        return kept + data[start:end]

    def _skip_preface(self, data: bytes) -> int:
        expected = PREFACE[len(PREFACE) - self._preface_left :]
        if data[: len(expected)] != expected[: len(data)]:
            self.fault = Http2Error("the client does not begin with the connection preface")
            return 0
        skipped = min(len(data), self._preface_left)
        self._preface_left -= skipped
        return skipped

    def _check(self, kind: int, flags: int, length: int, stream_id: int) -> bool:
        """Whether the frame is for us alone. Raises Http2Error."""
        if length > MAX_FRAME_SIZE:
            raise Http2Error("a frame is larger than SETTINGS_MAX_FRAME_SIZE", ErrorCode.FRAME_SIZE_ERROR)
        if not self._settled:
            if kind != SETTINGS or flags & ACK:
                raise Http2Error("the first frame is not SETTINGS")  # RFC 9113 3.4
            self._settled = True
        if kind in (HEADERS, CONTINUATION):
            self._check_block(kind, flags, length, stream_id)
        elif self.block_stream:
            raise Http2Error("a frame in the middle of a field section")  # RFC 9113 6.2
        elif kind == DATA:
            if not length and not flags & END_STREAM:
                self._spend()
            self.credit(length)
        elif kind == GOAWAY and not stream_id and length >= 8:
            self.goes_away = True
            self._spend()
            return True
        elif kind == PUSH_PROMISE:
            raise Http2Error("a client cannot push")  # RFC 9113 8.4
        else:
            self._check_control(kind, flags, length, stream_id)
        return False

    def _check_block(self, kind: int, flags: int, length: int, stream_id: int) -> None:
        if kind == HEADERS:
            if self.block_stream:
                raise Http2Error("HEADERS in the middle of a field section")
            self._block_bytes = 0
            self._control = min(CONTROL_BURST, self._control + REQUEST_CREDIT)
            if stream_id > self.highest_stream:
                self.highest_stream = stream_id
        else:
            if not self.block_stream or self.block_stream != stream_id:
                raise Http2Error("CONTINUATION without HEADERS")  # RFC 9113 6.10
            self._spend()
        # RFC 9113 10.5.1: bounded while it comes (CVE-2024-27316), not when it has ended.
        self._block_bytes += length
        if self._block_bytes > self._max_block:
            raise Http2Error("a field section is too large", ErrorCode.ENHANCE_YOUR_CALM)
        self.block_stream = 0 if flags & END_HEADERS else stream_id

    def _check_control(self, kind: int, flags: int, length: int, stream_id: int) -> None:
        self._spend()
        if kind == RST_STREAM:
            if stream_id > self.highest_stream:
                raise Http2Error("RST_STREAM on an idle stream")  # RFC 9113 6.4
            self.count_reset()
        elif kind == SETTINGS and flags & ACK and length:
            raise Http2Error("an acknowledgement of SETTINGS with a payload", ErrorCode.FRAME_SIZE_ERROR)

    def _spend(self) -> None:
        self._control -= 1
        if self._control < 0:
            raise Http2Error("too many frames without use", ErrorCode.ENHANCE_YOUR_CALM)
