"""The server's side of a WebSocket connection (RFC 6455): bytes in, whole messages out, and back.

Frames are read by wsproto: its decoders check masks, opcodes, reserved bits, lengths, fragments and UTF-8.
Here fragments become messages within a bound, Close frames have their meaning, and a peer that breaks the
protocol is told so. The plain case goes by without them, at a fraction of the cost: a message in one frame,
while no other is being read. Whatever is not plain is left to them.

Receiving obliges this side to answer (Pong, Close): send `replies` after each event.
"""

import struct
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeAlias

from wsproto.frame_protocol import CloseReason, Frame, FrameDecoder, MessageDecoder, Opcode, ParseFailed

from gateway.protocols.errors import LocalProtocolError
from gateway.protocols.events import NEED_DATA, NeedData
from gateway.protocols.websocket.deflate import Deflate
from gateway.protocols.websocket.masking import unmask

NO_STATUS: Final = 1005
ABNORMAL: Final = 1006
_PROTOCOL_ERROR: Final = 1002
_INVALID_PAYLOAD: Final = 1007
_TOO_BIG: Final = 1009

_LEAST_COMPRESSED: Final = 64
"""Bytes of a message below which compressing costs more than it saves; RFC 7692 6 leaves the choice."""

_LONGEST_CONTROL: Final = 125  # RFC 6455 5.5

FRAMES_AT_A_TIME: Final = 200
"""Frames (fragments, pings) that are read until others have their turn: one of six bytes takes 20 µs."""

_SMALL_PIECE: Final = 1024
"""Pieces of a message are joined up to so many bytes as they come: a thousand fragments of a byte each
would take a hundred times the memory, and empty ones any amount."""

# RFC 6455 5.2: FIN and the opcode
_TEXT: Final = 0x81
_BINARY: Final = 0x82
_CLOSE: Final = 0x88
_PING: Final = 0x89
_PONG: Final = 0x8A
_COMPRESSED: Final = 0x40  # RSV1


class _State(Enum):
    """Which Close frames there were."""

    OPEN = "none: messages go both ways"
    CLOSING = "ours: the peer may still send"
    CLOSED = "the peer's, or it broke the protocol: nothing more is sent or read"


# As globals: members of an Enum are found slowly (`gateway.protocols`).
_OPEN: Final = _State.OPEN
_CLOSING: Final = _State.CLOSING
_CLOSED: Final = _State.CLOSED
_OPCODE_TEXT: Final = Opcode.TEXT
_OPCODE_BINARY: Final = Opcode.BINARY
_OPCODE_CONTINUATION: Final = Opcode.CONTINUATION
_OPCODE_PING: Final = Opcode.PING
_OPCODE_PONG: Final = Opcode.PONG
_OPCODE_CLOSE: Final = Opcode.CLOSE


@dataclass(slots=True)
class Pong:
    """The answer to a ping, or an unasked one."""

    payload: bytes


@dataclass(slots=True)
class Closed:
    """The connection is over; the last event."""

    code: int
    """Of the peer's Close frame, 1005 if it had none, 1006 without a Close frame; ours if *failed*."""
    reason: str
    failed: bool = False
    """The peer broke the protocol, or a limit."""


Event: TypeAlias = str | bytes | Pong | Closed
"""A whole message is the str or bytes itself."""


class WebSocketServer:
    """One connection after its handshake. A message may have *max_message* bytes (text: in UTF-8)."""

    __slots__ = (
        "_data",
        "_deflate",
        "_ended",
        "_frames",
        "_frames_left",
        "_inflates",
        "_left",
        "_mask",
        "_max_message",
        "_messages",
        "_opcode",
        "_pieces",
        "_position",
        "_replies",
        "_size",
        "_state",
        "over",
        "paused",
    )

    def __init__(self, *, max_message: int, deflate: Deflate | None = None) -> None:
        # Any: the extension is one by its methods.
        extensions: Any = [] if deflate is None else [deflate]
        self._frames = FrameDecoder(client=False, extensions=extensions)
        self._messages = MessageDecoder()
        self._deflate = deflate
        self._max_message = max_message
        # What wsproto has not seen yet, and where its unread part begins.
        self._data = b""
        self._position = 0
        # Of a plain frame that has begun: its bytes that are to come, and how they are to be understood.
        self._left = 0
        self._mask = b""
        self._inflates = False
        self._opcode = _OPCODE_TEXT
        # The pieces of a message that has begun, and their bytes.
        self._pieces: list[Any] = []
        self._size = 0
        self._replies = b""
        self._ended = False
        self._state = _OPEN
        self.over = False
        """`Closed` was given: nothing is read any more."""
        self._frames_left = FRAMES_AT_A_TIME
        self.paused = False
        """The last NEED_DATA came because there is much to read: let others have their turn, then ask again
        for events, before there is more data."""

    # --- receiving

    def receive_data(self, data: bytes) -> None:
        """Store bytes from the peer; ``b""`` is the end of input."""
        if not data:
            self._ended = True
        elif self.over:
            return
        elif self._data and self._left:
            self._data += data
        elif self._data:
            self._pass_on()
            self._frames.receive_bytes(data)
        elif self._left or (
            self._frames.header is None and not self._frames.buffer.buffer and self._messages.opcode is None
        ):
            self._data = data
        else:
            self._frames.receive_bytes(data)

    def next_event(self) -> Event | NeedData:
        """The next event, or NEED_DATA. Raises nothing."""
        self.paused = False
        if self.over:
            return NEED_DATA
        try:
            if self._data:
                message = self._take_plain()
                if message is not None:
                    return message
                if self._data:
                    self._pass_on()
            return self._read_frames()
        except ParseFailed as broken:
            code = int(broken.code)
            return self._too_big() if code == _TOO_BIG else self._fail(code, str(broken))

    def replies(self) -> bytes:
        """What has to be sent because of what was received; it is forgotten here."""
        replies, self._replies = self._replies, b""
        return replies

    def _take_plain(self) -> str | bytes | None:
        """The message that begins or goes on here, if it is a plain one and ends here; of one that goes on
        longer what is here is taken, too. Raises ParseFailed.
        """
        if self._left:
            return self._take_some()
        data, start = self._data, self._position
        if len(data) - start < 6:
            return None
        first, size = data[start], data[start + 1] - 0x80  # RFC 6455 5.1: a client's frames are masked
        deflate = self._deflate if first & _COMPRESSED else None
        if deflate is not None:
            first -= _COMPRESSED
        if first != _TEXT and first != _BINARY:
            return None
        body = start + 6
        if size == 126:
            size = data[start + 2] << 8 | data[start + 3]
            if size < 126:
                return None
            body = start + 8
        elif size == 127:
            size = int.from_bytes(data[start + 2 : start + 10], "big")
            if size < 65536:
                return None
            body = start + 14
        if not 0 <= size <= self._max_message or body > len(data):
            return None
        if deflate is not None:
            deflate.begin()
        mask = data[body - 4 : body]
        if body + size > len(data):
            self._position = body
            self._left = size
            self._mask = mask
            self._inflates = deflate is not None
            self._opcode = _OPCODE_TEXT if first == _TEXT else _OPCODE_BINARY
            return self._take_some()
        payload = unmask(data[body : body + size], mask)
        self._move_on(body + size)
        if deflate is not None:
            payload = deflate.inflate(payload, True)
        if first != _TEXT:
            return payload
        try:
            return payload.decode()
        except UnicodeDecodeError as broken:
            raise ParseFailed(str(broken), CloseReason.INVALID_FRAME_PAYLOAD_DATA) from broken

    def _take_some(self) -> str | bytes | None:
        """Take what is here of the plain frame that has begun; the message, if that ends it."""
        start = self._position
        end = min(start + self._left, len(self._data))
        payload = unmask(self._data[start:end], self._mask)
        self._move_on(end)
        size = end - start
        self._left -= size
        self._mask = self._mask[size % 4 :] + self._mask[: size % 4]
        last = not self._left
        if self._inflates:
            assert self._deflate is not None
            payload = self._deflate.inflate(payload, last)
        opcode, self._opcode = self._opcode, _OPCODE_CONTINUATION
        return self._take_piece(Frame(opcode, payload, last, True))

    def _move_on(self, position: int) -> None:
        """All in front of *position* is read."""
        if position == len(self._data):
            self._data = b""
            position = 0
        self._position = position

    def _pass_on(self) -> None:
        self._frames.receive_bytes(self._data[self._position :] if self._position else self._data)
        self._data = b""
        self._position = 0

    def _read_frames(self) -> Event | NeedData:
        while self._frames_left:
            frame = self._frames.process_buffer()
            if frame is None:
                break
            self._frames_left -= 1
            opcode = frame.opcode
            payload: Any = frame.payload
            if opcode is _OPCODE_PING:
                # RFC 6455 5.5.2; not behind our Close, as 5.5.1 says of all frames.
                if self._state is _OPEN:
                    self._replies += _frame(_PONG, payload)
            elif opcode is _OPCODE_PONG:
                return Pong(payload)
            elif opcode is _OPCODE_CLOSE:
                return self._close_received(payload)
            else:
                message = self._take_piece(frame)
                if message is not None:
                    return message
        else:
            self._frames_left = FRAMES_AT_A_TIME
            self.paused = True
            return NEED_DATA
        if self._ended:
            self.over = True
            self._state = _CLOSED
            return Closed(ABNORMAL, "")
        return NEED_DATA

    def _take_piece(self, frame: Frame) -> str | bytes | None:
        """Take a frame of a message, or a part of one; the message, if that ends it. Raises ParseFailed."""
        piece = self._messages.process_frame(frame)
        payload: Any = piece.payload
        self._size += _size(payload)
        if self._size > self._max_message:
            raise ParseFailed("", CloseReason.MESSAGE_TOO_BIG)
        pieces = self._pieces
        if pieces and len(pieces[-1]) + len(payload) <= _SMALL_PIECE:
            pieces[-1] += payload
        else:
            pieces.append(payload)
        return self._join(payload[:0]) if piece.message_finished else None

    def _join(self, empty: Any) -> str | bytes:
        pieces, self._pieces = self._pieces, []
        self._size = 0
        message: str | bytes = pieces[0] if len(pieces) == 1 else empty.join(pieces)
        return message

    def _close_received(self, payload: bytes) -> Closed:
        code, reason = NO_STATUS, ""
        if len(payload) == 1:
            return self._fail(_PROTOCOL_ERROR, "a Close frame with half a code")
        if payload:
            code = int.from_bytes(payload[:2], "big")
            if not is_close_code(code):
                return self._fail(_PROTOCOL_ERROR, f"{code} is not the code of a Close frame")
            try:
                reason = payload[2:].decode()
            except UnicodeDecodeError:
                return self._fail(_INVALID_PAYLOAD, "the reason of a Close frame is not UTF-8")
        if self._state is _OPEN:
            self._replies += _frame(_CLOSE, payload)  # RFC 6455 5.5.1: the same code
        self._state = _CLOSED
        self.over = True
        return Closed(code, reason)

    def _too_big(self) -> Closed:
        self._pieces = []
        return self._fail(_TOO_BIG, f"the message has more than {self._max_message} bytes")

    def _fail(self, code: int, reason: str) -> Closed:
        """RFC 6455 7.1.7: say why, and read no further."""
        if self._state is _OPEN:
            self._replies += self.close(code, reason)
        self._state = _CLOSED
        self.over = True
        return Closed(code, reason, failed=True)

    # --- sending

    def send_message(self, data: str | bytes) -> bytes:
        """The bytes of a message in one frame. Raises LocalProtocolError after a Close of either side."""
        if self._state is not _OPEN:
            raise LocalProtocolError("a message behind a Close frame")
        if isinstance(data, str):
            first, payload = _TEXT, data.encode()
        else:
            first, payload = _BINARY, data
        if self._deflate is not None and len(payload) >= _LEAST_COMPRESSED:
            first |= _COMPRESSED
            payload = self._deflate.deflate(payload)
        return _frame(first, payload)

    def ping(self, payload: bytes) -> bytes:
        """The bytes of a Ping frame. Raises LocalProtocolError after a Close of either side."""
        if self._state is not _OPEN:
            raise LocalProtocolError("a ping behind a Close frame")
        return _frame(_PING, payload)

    def close(self, code: int, reason: str = "") -> bytes:
        """The bytes of a Close frame; 1005 makes one without a code. *reason* is cut at 123 bytes (5.5).

        Raises LocalProtocolError after a Close of either side, and UnicodeEncodeError for a *reason* that is
        no text in UTF-8: then nothing has happened.
        """
        if self._state is not _OPEN:
            raise LocalProtocolError("a second Close frame")
        text = reason.encode()[: _LONGEST_CONTROL - 2].decode(errors="ignore")  # no half of a character
        self._state = _CLOSING
        if code == NO_STATUS:
            return _frame(_CLOSE, b"")
        return _frame(_CLOSE, code.to_bytes(2, "big") + text.encode())


def is_close_code(code: int) -> bool:
    """Whether *code* may stand in a Close frame (RFC 6455 7.4): those of the protocol that are registered,
    those of libraries, and those of applications.
    """
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def _frame(first: int, payload: bytes) -> bytes:
    """A frame; RFC 6455 5.1: a server does not mask."""
    size = len(payload)
    if size < 126:
        return b"%c%c%b" % (first, size, payload)
    if size < 65536:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


def _size(data: str | bytes) -> int:
    """Bytes of a piece of a message as it was sent."""
    return len(data.encode()) if isinstance(data, str) and not data.isascii() else len(data)
