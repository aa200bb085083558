"""What becomes of a 101 (Switching Protocols) from an upstream: the client's offer is accepted, and bytes are
copied both ways until both sides have ended.

::

    client ◄─► Duplex ◄─► Tunnel ◄─► PumpStream ◄─► upstream

Promises: the client hears of the switch only when the upstream has made it, to the protocol that was offered;
each direction waits for its reader, and ends by itself: one side's end is passed on, and the other may go on
sending. Nothing is copied for `idle` seconds, and the tunnel ends. The upstream's connection is not used
again.
"""

from math import inf
from typing import Final

import structlog
import trio

from gateway.errors import ClientGone
from gateway.pump import Pump, PumpStream
from gateway.request import Duplex, Upgrade
from gateway.upstream.pool import UpstreamConnection
from protocols.errors import RemoteProtocolError
from protocols.events import Data, Headers, ResponseHead
from protocols.websocket import accept_value

log = structlog.get_logger()

# RFC 9110 7.6.1: the front says its own; H2-16: only HTTP/1.1 has Sec-WebSocket-Accept.
_OF_THE_CONNECTION: Final = frozenset(
    {
        b"connection",
        b"content-length",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_ACCEPT: Final = b"sec-websocket-accept"


class Switch:
    """An offer that was passed on to an upstream, for its 101."""

    __slots__ = ("_idle", "_key", "_pump", "_upgrade")

    def __init__(self, upgrade: Upgrade, *, pump: Pump, idle: float, key: bytes | None = None) -> None:
        """*idle* seconds without a byte either way end the tunnel.

        *key* is the gateway's own Sec-WebSocket-Key, if the client has none (RFC 8441).
        """
        self._upgrade = upgrade
        self._pump = pump
        self._idle = idle
        self._key = key

    async def run(self, head: ResponseHead, connection: UpstreamConnection) -> None:
        """Accept the client's offer and copy until both sides have ended.

        Raises RemoteProtocolError if the upstream switched to something else, trio.BrokenResourceError if it
        broke the connection, ClientGone.
        """
        headers = self._understand(head)
        first = _leftover(connection)
        duplex = await self._upgrade.accept(headers)
        await Tunnel(duplex, connection.stream, pump=self._pump, idle=self._idle).run(first)

    def _understand(self, head: ResponseHead) -> Headers:
        """The fields for the client."""
        protocol = b",".join(value for name, value in head.headers if name == b"upgrade").strip(b" \t")
        if protocol.lower() != self._upgrade.protocol.encode():  # RFC 9110 7.8
            raise RemoteProtocolError(f"101 for another protocol than {self._upgrade.protocol}: {protocol!r}")
        headers = [field for field in head.headers if field[0] not in _OF_THE_CONNECTION]
        if self._key is None:
            return headers
        # H2-17, RFC 6455 4.1: the gateway is the client of this handshake.
        if [value for name, value in headers if name == _ACCEPT] != [accept_value(self._key)]:
            raise RemoteProtocolError("Sec-WebSocket-Accept does not answer the key")
        return [field for field in headers if field[0] != _ACCEPT]


def _leftover(connection: UpstreamConnection) -> bytes:
    """What has arrived behind the 101: the codec has taken it for a body up to the end of the connection."""
    pieces = []
    while isinstance(event := connection.codec.next_event(), Data):
        pieces.append(event.data)
    return b"".join(pieces)


class Tunnel:
    """Bytes both ways between a client and an upstream."""

    __slots__ = ("_active", "_duplex", "_failure", "_idle", "_pump", "_stream")

    def __init__(self, duplex: Duplex, stream: PumpStream, *, pump: Pump, idle: float) -> None:
        self._duplex = duplex
        self._stream = stream
        self._pump = pump
        self._idle = idle
        self._active = pump.now
        self._failure: Exception | None = None

    async def run(self, first: bytes) -> None:
        """Copy, beginning with the upstream's *first* bytes. Raises as `Switch.run`."""
        self._stream.write_deadline = inf
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._copy_to_upstream, nursery.cancel_scope)
            await self._copy_to_client(first, nursery.cancel_scope)
        if self._failure is not None:
            raise self._failure

    async def _copy_to_client(self, data: bytes, scope: trio.CancelScope) -> None:
        duplex = self._duplex
        try:
            while True:
                if data:
                    await duplex.send(data)
                    self._active = self._pump.now
                data = await self._receive()
                if not data:
                    break
            await duplex.end()
        except (ClientGone, trio.BrokenResourceError, trio.TooSlowError) as failure:
            self._end(failure, scope)

    async def _copy_to_upstream(self, scope: trio.CancelScope) -> None:
        duplex, stream = self._duplex, self._stream
        try:
            while data := await duplex.receive():
                self._active = self._pump.now
                stream.write_deadline = self._pump.now + self._idle
                await stream.send_all(data)
            await stream.send_eof()
        except (ClientGone, trio.BrokenResourceError, trio.TooSlowError) as failure:
            self._end(failure, scope)

    async def _receive(self) -> bytes:
        """Something from the upstream, ``b""`` at its end. Raises TooSlowError if nothing passed at all."""
        stream = self._stream
        while True:
            stream.read_deadline = self._active + self._idle
            try:
                data = await stream.receive_some()
            except trio.TooSlowError:
                if self._pump.now < self._active + self._idle:
                    continue
                raise
            self._active = self._pump.now
            return data

    def _end(self, failure: Exception, scope: trio.CancelScope) -> None:
        """Neither direction goes on."""
        if isinstance(failure, trio.TooSlowError):
            log.info("tunnel ended", reason="nothing passed in time", seconds=self._idle)
        elif self._failure is None:
            self._failure = failure
        scope.cancel()
