"""CONNECT (RFC 9113 8.5), extended (RFC 8441) or not: a stream that becomes a tunnel.

A request for another protocol looks to routes and handlers as the GET with Upgrade that it would be over
HTTP/1.1; a handler that accepts the offer gets the DATA of both directions, under flow control.
"""

import trio

from gateway.front.duplex import FrontDuplex
from gateway.front.http2.body import Http2Body
from gateway.front.http2.output import Outlet
from gateway.front.http2.responder import Http2Responder
from gateway.front.service import Service
from gateway.protocols.events import Headers
from gateway.request import Duplex


class Http2Upgrade:
    """The offer of one stream. Implements `request.Upgrade`."""

    __slots__ = ("_body", "_duplex", "_outlet", "_responder", "_service", "accepted", "protocol", "scope")

    def __init__(
        self,
        protocol: str,
        body: Http2Body,
        responder: Http2Responder,
        outlet: Outlet,
        service: Service,
    ) -> None:
        """*protocol* is ``""`` for CONNECT that is not extended."""
        self.protocol = protocol
        self._service = service
        self._duplex: Http2Duplex | None = None
        self._body = body
        self._responder = responder
        self._outlet = outlet
        self.scope: trio.CancelScope | None = None
        """In which the stream is answered, once that has begun."""
        self.accepted = False

    async def accept(self, headers: Headers) -> Duplex:
        """RFC 8441 5: 200 where HTTP/1.1 says 101, and none of the fields of that handshake; RFC 9113 8.5."""
        kept = [field for field in headers if field[0].lower() != b"sec-websocket-accept"]
        self._responder.open_tunnel(kept)
        self.accepted = True
        await self._responder.flush()
        assert self.scope is not None
        self._duplex = duplex = Http2Duplex(
            self._body, self._outlet, self._responder, self.scope, self._service
        )
        return duplex

    def disconnect(self) -> None:
        """The client has ended its side, or reset the stream."""
        if self._duplex is not None:
            self._duplex.disconnect()

    def drain(self) -> None:
        """The daemon is stopping."""
        if self._duplex is not None:
            self._duplex.drain()


class Http2Duplex(FrontDuplex):
    """The bytes of a tunnel. Implements `request.Duplex`."""

    __slots__ = ("_body", "_outlet", "_responder", "_scope")

    def __init__(
        self,
        body: Http2Body,
        outlet: Outlet,
        responder: Http2Responder,
        scope: trio.CancelScope,
        service: Service,
    ) -> None:
        super().__init__(service)
        self._scope = scope
        self._body = body
        self._outlet = outlet
        self._responder = responder

    @property
    def disconnected(self) -> bool:
        return self._body.complete or self._responder.disconnected

    def begin_grace(self) -> None:
        self._scope.deadline = trio.current_time() + self._service.timeouts.disconnect_grace

    async def receive(self) -> bytes:
        return await self._body.read()

    def try_send(self, data: bytes) -> int:
        """All of *data* or nothing: what the windows do not take yet is kept."""
        if self._outlet.pending:
            return 0
        self._responder.body_sent += len(data)
        self._outlet.write(data)
        self._outlet.try_flush()
        return len(data)

    async def send(self, data: bytes) -> None:
        if data:
            self._responder.body_sent += len(data)
            self._outlet.write(data)
        await self._outlet.flush()

    async def end(self) -> None:
        """RFC 8441 5, RFC 9113 8.5: END_STREAM is what FIN is to TCP."""
        if not self._outlet.ended:
            self._outlet.end()
        await self._outlet.flush()
