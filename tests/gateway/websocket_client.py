"""A WebSocket client over a trio stream: frames by wsproto, the handshake as raw bytes.

``from tests.gateway.websocket_client import …``.
"""

from collections import deque
from typing import Any

import trio
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage
from wsproto.extensions import PerMessageDeflate

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 1.3
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def offer(target: bytes = b"/", *fields: bytes, version: bytes = b"13", key: bytes | None = KEY) -> bytes:
    """The client's part of the handshake."""
    lines = [
        b"GET %b HTTP/1.1" % target,
        b"Host: example.com",
        b"Connection: keep-alive, Upgrade",  # as Firefox says it
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: %b" % version,
        *([] if key is None else [b"Sec-WebSocket-Key: %b" % key]),
        *fields,
    ]
    return b"\r\n".join([*lines, b"", b""])


async def read_head(stream: trio.SocketStream) -> tuple[bytes, bytes]:
    """A response head without its empty line, and what came behind it."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = await stream.receive_some()
        assert piece, f"the connection ended after {received!r}"
        received += piece
    head, _, rest = received.partition(b"\r\n\r\n")
    return head, rest


class Client:
    """An open WebSocket connection, the client's side."""

    def __init__(self, stream: trio.SocketStream, head: bytes, rest: bytes, deflate: bool = False) -> None:
        extensions = [PerMessageDeflate()] if deflate else []
        if deflate:
            (line,) = (
                line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-extensions:")
            )
            extensions[0].finalize(line.partition(b":")[2].decode())
        self.stream = stream
        self.head = head
        self._connection = Connection(ConnectionType.CLIENT, extensions, rest)  # type: ignore[arg-type]
        self._events: deque[Event] = deque()

    @classmethod
    async def open(
        cls, stream: trio.SocketStream, *fields: bytes, target: bytes = b"/", deflate: bool = False
    ) -> "Client":
        if deflate:
            fields = (*fields, b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
        await stream.send_all(offer(target, *fields))
        head, rest = await read_head(stream)
        assert head.startswith(b"HTTP/1.1 101 "), head
        return cls(stream, head, rest, deflate)

    async def send(self, message: str | bytes, *, finished: bool = True) -> None:
        event: Event
        if isinstance(message, str):
            event = TextMessage(message, message_finished=finished)
        else:
            event = BytesMessage(message, message_finished=finished)
        await self.send_event(event)

    async def send_event(self, event: Event) -> None:
        await self.stream.send_all(self._connection.send(event))

    async def next_event(self) -> Any:
        """The next event that is not a piece of a frame. An end without a Close frame is 1006."""
        while not self._events:
            self._events.extend(self._connection.events())
            if not self._events:
                data = await self.stream.receive_some()
                self._connection.receive_data(data or None)
        return self._events.popleft()

    async def receive(self) -> str | bytes:
        """The next message; pings are answered."""
        pieces: list[Any] = []
        while True:
            event = await self.next_event()
            if isinstance(event, Ping):
                await self.send_event(event.response())
                continue
            assert isinstance(event, TextMessage | BytesMessage), event
            pieces.append(event.data)
            if event.message_finished:
                return pieces[0][:0].join(pieces)  # type: ignore[no-any-return]

    async def receive_close(self, *, answer: bool = True) -> tuple[int, str]:
        """The Close frame that has to come next; it is answered."""
        event = await self.next_event()
        assert isinstance(event, CloseConnection), event
        if answer and event.code != 1006:
            await self.send_event(event.response())
        return int(event.code), event.reason or ""

    async def close(self, code: int | None = 1000, reason: str | None = None) -> tuple[int, str]:
        """Close; the code and reason of the server's answer."""
        await self.send_event(CloseConnection(code, reason))  # type: ignore[arg-type]
        event = await self.next_event()
        assert isinstance(event, CloseConnection), event
        return int(event.code), event.reason or ""
