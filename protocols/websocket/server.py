"""The server's side of a WebSocket connection (RFC 6455): bytes in, whole messages out, and back.

Frames are read by wsproto, which checks masks, opcodes, reserved bits, control frames, UTF-8 and close
codes. Here fragments become messages within a bound, and a peer that breaks the protocol is told so by a
Close frame. Messages are written without it: a server's frame is a header and the payload.

Receiving obliges this side to answer (Pong, Close): send `replies` after each event.
"""

import struct
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from wsproto import events
from wsproto.connection import Connection, ConnectionState, ConnectionType

from protocols.errors import LocalProtocolError
from protocols.events import NEED_DATA, NeedData
from protocols.websocket.deflate import Deflate

NORMAL: Final = 1000
NO_STATUS: Final = 1005
ABNORMAL: Final = 1006
TOO_BIG: Final = 1009

_LEAST_COMPRESSED: Final = 64
"""Bytes of a message below which compressing costs more than it saves; RFC 7692 6 leaves the choice."""

_TEXT: Final = 0x81  # RFC 6455 5.2: FIN, and the opcode
_BINARY: Final = 0x82
_COMPRESSED: Final = 0x40  # RSV1
_OPEN: Final = ConnectionState.OPEN


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

    __slots__ = ("_connection", "_deflate", "_ended", "_max_message", "_pieces", "_replies", "_size", "over")

    def __init__(self, *, max_message: int, deflate: Deflate | None = None) -> None:
        self._connection: Any = Connection(ConnectionType.SERVER, [] if deflate is None else [deflate])  # type: ignore[list-item]  # by its methods
        self._deflate = deflate
        self._max_message = max_message
        self._pieces: list[Any] = []
        self._size = 0
        self._replies = b""
        self._ended = False
        self.over = False
        """`Closed` was given: nothing is read any more."""

    # --- receiving

    def receive_data(self, data: bytes) -> None:
        """Store bytes from the peer; ``b""`` is the end of input."""
        if not data:
            self._ended = True
        elif not self.over:
            self._connection.receive_data(data)

    def next_event(self) -> Event | NeedData:
        """The next event, or NEED_DATA. Raises nothing."""
        if self.over:
            return NEED_DATA
        for event in self._connection.events():
            kind = event.__class__
            if kind is events.TextMessage or kind is events.BytesMessage:
                data = event.data
                if event.message_finished and not self._pieces:
                    # A character has four bytes at most: usually there is nothing to count.
                    if 4 * len(data) <= self._max_message or _size(data) <= self._max_message:
                        return data  # type: ignore[no-any-return]
                    return self._too_big()
                self._size += _size(data)
                if self._size > self._max_message:
                    return self._too_big()
                self._pieces.append(data)
                if event.message_finished:
                    return self._join(data[:0])
            elif kind is events.Ping:
                # RFC 6455 5.5.2; not after a Close, as 5.5.1 says of all frames
                if self._connection.state is _OPEN:
                    self._replies += bytes(self._connection.send(event.response()))
            elif kind is events.Pong:
                return Pong(bytes(event.payload))
            else:
                return self._close_received(event)
        if self._ended:
            self.over = True
            return Closed(ABNORMAL, "")
        return NEED_DATA

    def replies(self) -> bytes:
        """What has to be sent because of what was received; it is forgotten here."""
        replies, self._replies = self._replies, b""
        return replies

    def _join(self, empty: Any) -> str | bytes:
        pieces, self._pieces = self._pieces, []
        self._size = 0
        message: str | bytes = empty.join(pieces)
        return message

    def _too_big(self) -> Closed:
        self._pieces = []
        return self._fail(TOO_BIG, f"the message has more than {self._max_message} bytes")

    def _close_received(self, event: Any) -> Closed:
        """A Close frame, or wsproto's word that the peer broke the protocol: the state tells which."""
        code, reason = int(event.code), event.reason or ""
        state = self._connection.state
        if state is ConnectionState.REMOTE_CLOSING:
            self._replies += bytes(self._connection.send(event.response()))
        elif state is not ConnectionState.CLOSED:
            return self._too_big() if code == TOO_BIG else self._fail(code, reason)
        self.over = True
        return Closed(code, reason)

    def _fail(self, code: int, reason: str) -> Closed:
        """RFC 6455 7.1.7: say why, and read no further."""
        self.over = True
        if self._connection.state is _OPEN:
            self._replies += self.close(code, reason)
        return Closed(code, reason, failed=True)

    # --- sending

    def send_message(self, data: str | bytes) -> bytes:
        """The bytes of a message in one frame. Raises LocalProtocolError after a Close of either side."""
        if self._connection.state is not _OPEN:
            raise LocalProtocolError("a message behind a Close frame")
        if isinstance(data, str):
            first, payload = _TEXT, data.encode()
        else:
            first, payload = _BINARY, data
        if self._deflate is not None and len(payload) >= _LEAST_COMPRESSED:
            first |= _COMPRESSED
            payload = self._deflate.deflate(payload)
        size = len(payload)
        if size < 126:
            return b"%c%c%b" % (first, size, payload)
        if size < 65536:
            return struct.pack("!BBH", first, 126, size) + payload
        return struct.pack("!BBQ", first, 127, size) + payload

    def ping(self, payload: bytes) -> bytes:
        """The bytes of a Ping frame. Raises LocalProtocolError after a Close of either side."""
        if self._connection.state is not _OPEN:
            raise LocalProtocolError("a ping behind a Close frame")
        return bytes(self._connection.send(events.Ping(payload)))

    def close(self, code: int, reason: str = "") -> bytes:
        """The bytes of a Close frame; 1005 makes one without a code. *reason* is cut at 123 bytes (5.5).

        Raises LocalProtocolError after a Close of either side.
        """
        if self._connection.state is not _OPEN:
            raise LocalProtocolError("a second Close frame")
        given = None if code == NO_STATUS else code
        return bytes(
            self._connection.send(events.CloseConnection(given, reason if given is not None else None))  # type: ignore[arg-type]
        )


def _size(data: str | bytes) -> int:
    """Bytes of a piece of a message as it was sent."""
    return len(data.encode()) if isinstance(data, str) and not data.isascii() else len(data)
