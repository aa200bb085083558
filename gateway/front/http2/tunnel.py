"""Extended CONNECT (RFC 8441): a stream that becomes a tunnel for another protocol.

The request looks to routes and handlers as the GET with Upgrade that it would be over HTTP/1.1; a
handler that accepts the offer gets the DATA of both directions, under flow control.
"""

from gateway.front.http2.body import Http2Body
from gateway.front.http2.output import Outlet
from gateway.front.http2.responder import Http2Responder
from protocols.events import Headers


class Http2Upgrade:
    """The offer of one stream. Implements `request.Upgrade`."""

    __slots__ = ("_body", "_outlet", "_responder", "accepted", "protocol")

    def __init__(self, protocol: str, body: Http2Body, responder: Http2Responder, outlet: Outlet) -> None:
        self.protocol = protocol
        self._body = body
        self._responder = responder
        self._outlet = outlet
        self.accepted = False

    async def accept(self, headers: Headers) -> "Http2Duplex":
        """RFC 8441 5: 200 where HTTP/1.1 says 101, and none of the fields of that handshake."""
        kept = [field for field in headers if field[0].lower() != b"sec-websocket-accept"]
        self._responder.open_tunnel(kept)
        self.accepted = True
        await self._responder.flush()
        return Http2Duplex(self._body, self._outlet, self._responder)


class Http2Duplex:
    """The bytes of a tunnel. Implements `request.Duplex`."""

    __slots__ = ("_body", "_outlet", "_responder")

    def __init__(self, body: Http2Body, outlet: Outlet, responder: Http2Responder) -> None:
        self._body = body
        self._outlet = outlet
        self._responder = responder

    async def receive(self) -> bytes:
        return await self._body.read()

    async def send(self, data: bytes) -> None:
        if data:
            self._responder.body_sent += len(data)
            self._outlet.write(data)
        await self._outlet.flush()

    async def end(self) -> None:
        """RFC 8441 5: END_STREAM is what FIN is to TCP."""
        if not self._outlet.ended:
            self._outlet.end()
        await self._outlet.flush()
