"""The switch from HTTP/1.1 to another protocol: a client's offer, and the bytes both ways once accepted.

::

    Upgrade: x ─► Http1Upgrade.accept ─► 101 ─► Http1Duplex ◄─► PumpStream
    CONNECT    ─►                     ─► 200 ─►

Promises: what arrived behind the request belongs to the new protocol; nothing is read before it is asked
for, and sending waits for the client, so back-pressure passes through. A client that closes its side may
still be sent to. The connection is ended by its own task when the handler returns.

It decides about no protocol: an offer that no handler accepts is ignored (RFC 9110 7.8).
"""

from math import inf

import trio

from gateway.errors import ClientGone
from gateway.front.duplex import FrontDuplex
from gateway.front.http1.responder import Http1Responder
from gateway.front.service import Service
from gateway.net.stream import PumpStream
from gateway.protocols.events import Headers
from gateway.protocols.http1 import Http1Server
from gateway.protocols.lists import list_tokens
from gateway.request import Duplex


def offered_protocol(value: bytes, method: str) -> str:
    """The protocol of an Upgrade field that may be accepted, lower-case; ``""`` if there is none.

    The client's order is its preference (RFC 9110 7.8), but WebSocket goes before others, and only with
    GET (RFC 6455 4.1).
    """
    members = [member.decode("latin-1") for member in list_tokens(value)]
    if "websocket" in members:
        if method == "GET":
            return "websocket"
        members = [member for member in members if member != "websocket"]
    return members[0] if members else ""


class Http1Upgrade:
    """An offer on an HTTP/1.1 connection. Implements `request.Upgrade`."""

    __slots__ = ("_codec", "_duplex", "_responder", "_service", "_stream", "protocol")

    def __init__(
        self,
        protocol: str,
        stream: PumpStream,
        codec: Http1Server,
        responder: Http1Responder,
        service: Service,
    ) -> None:
        """*protocol* is ``""`` for CONNECT."""
        self.protocol = protocol
        self._stream = stream
        self._codec = codec
        self._responder = responder
        self._service = service
        self._duplex: Http1Duplex | None = None

    @property
    def accepted(self) -> bool:
        return self._duplex is not None

    async def accept(self, headers: Headers) -> Duplex:
        responder = self._responder
        head = responder.switch(self.protocol, headers) if self.protocol else responder.connect(headers)
        stream = self._stream
        self._duplex = duplex = Http1Duplex(stream, self._codec.take_rest(), self._responder, self._service)
        # From here on whoever uses the connection decides what the end of the client's side means.
        stream.on_hangup = duplex.disconnect
        stream.hangup_deadline = inf
        try:
            await duplex.send(head)
        except ClientGone:
            duplex.begin_grace()
            raise
        self._responder.body_sent = 0
        return duplex

    def break_off(self) -> None:
        """The handler has failed: let a tunnel end as it did on the other side, not as if it were whole."""
        if self._duplex is not None and not self.protocol:
            # RFC 9110 9.3.6 speaks of closing only; RFC 9113 8.5 has CONNECT_ERROR for it.
            self._responder.ended = False
            self._responder.close_delimited = True

    def drain(self) -> None:
        """The daemon is stopping."""
        if self._duplex is not None:
            self._duplex.drain()


class Http1Duplex(FrontDuplex):
    """The connection after the switch. Implements `request.Duplex`.

    ``timeouts.tunnel`` ends it when nothing passed either way for so long.
    """

    __slots__ = ("_active", "_idle", "_received", "_responder", "_stream")

    def __init__(
        self, stream: PumpStream, received: bytes, responder: Http1Responder, service: Service
    ) -> None:
        super().__init__(service)
        self._stream = stream
        self._received = received
        self._responder = responder
        self._idle = service.timeouts.tunnel
        self._active = service.pump.now

    @property
    def disconnected(self) -> bool:
        return self._stream.peer_closed

    def begin_grace(self) -> None:
        self._stream.hangup_deadline = self._service.pump.now + self._service.timeouts.disconnect_grace

    async def receive(self) -> bytes:
        if self._received:
            received, self._received = self._received, b""
            return received
        stream = self._stream
        while True:
            stream.read_deadline = self._active + self._idle
            try:
                data = await stream.receive_some()
            except trio.TooSlowError as late:
                if self._service.pump.now < self._active + self._idle:
                    continue  # much was sent meanwhile
                raise ClientGone("nothing was sent either way for too long") from late
            except (trio.BrokenResourceError, trio.ClosedResourceError) as broken:
                raise ClientGone(str(broken)) from broken
            self._active = self._service.pump.now
            return data

    def try_send(self, data: bytes) -> int:
        try:
            sent = self._stream.try_send(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as broken:
            raise ClientGone(str(broken)) from broken
        self._active = self._service.pump.now
        self._responder.body_sent += sent
        return sent

    async def send(self, data: bytes) -> None:
        sent = self.try_send(data)
        if sent == len(data):
            return
        stream = self._stream
        rest = memoryview(data)[sent:]
        try:
            while rest:
                stream.write_deadline = trio.current_time() + self._idle
                await stream.wait_writable()
                sent = stream.try_send(rest)
                rest = rest[sent:]
                self._active = self._service.pump.now
                self._responder.body_sent += sent
        except trio.TooSlowError as late:
            raise ClientGone("the client took nothing for too long") from late
        except (trio.BrokenResourceError, trio.ClosedResourceError) as broken:
            raise ClientGone(str(broken)) from broken

    async def end(self) -> None:
        stream = self._stream
        try:
            stream.write_deadline = trio.current_time() + self._idle
            await stream.send_eof()
        except trio.TooSlowError as late:
            raise ClientGone("the client took nothing for too long") from late
        except (trio.BrokenResourceError, trio.ClosedResourceError) as broken:
            raise ClientGone(str(broken)) from broken
