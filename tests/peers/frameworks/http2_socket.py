"""A WebSocket on a stream of HTTP/2 (RFC 8441), the client's side: frames by wsproto, streams by h2."""

from typing import Any, Self

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, TextMessage

from tests.gateway.http2_client import Client


class Http2Socket:
    """An open one."""

    def __init__(self, client: Client, stream_id: int) -> None:
        self._client = client
        self._stream_id = stream_id
        self._connection = Connection(ConnectionType.CLIENT)

    @classmethod
    async def open(cls, client: Client, path: str, host: str) -> Self:
        """Offer the subprotocol chat, which has to be taken."""
        fields = [("sec-websocket-version", "13"), ("sec-websocket-protocol", "chat")]
        stream_id = await client.request(
            path, *fields, method="CONNECT", end=False, protocol="websocket", authority=host
        )
        answer = client.answers[stream_id]
        await client.until(lambda: answer.status != 0)
        assert (answer.status, answer.header(b"sec-websocket-protocol")) == (200, b"chat")
        return cls(client, stream_id)

    async def send(self, message: str | bytes) -> None:
        await self._send(TextMessage(message) if isinstance(message, str) else BytesMessage(message))

    async def close(self, code: int) -> None:
        await self._send(CloseConnection(code))

    async def _send(self, event: Event) -> None:
        await self._client.send_body(self._stream_id, self._connection.send(event), end=False)

    async def receive(self) -> str | bytes | int:
        """The next message, or the code of the Close frame."""
        pieces: list[Any] = []
        received = self._client.answers[self._stream_id].received
        while True:
            for event in self._connection.events():
                if isinstance(event, CloseConnection):
                    return int(event.code)
                assert isinstance(event, TextMessage | BytesMessage), event
                pieces.append(event.data)
                if event.message_finished:
                    return pieces[0][:0].join(pieces)  # type: ignore[no-any-return]
            await self._client.until(lambda: bool(received))
            self._connection.receive_data(bytes(received))
            received.clear()
