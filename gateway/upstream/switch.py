"""What becomes of a 101 (Switching Protocols) from an upstream: the client's offer is accepted, and what is
spoken then goes through a tunnel.

::

    client ◄── 101 ◄── Upgrade.accept ◄── Switch ◄── 101 ◄── upstream

Promises: the client hears of the switch only when the upstream has made it, to the protocol that was offered.
The upstream's connection is not used again.
"""

from typing import Final

from gateway.net.pump import Pump
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.events import Data, Headers, ResponseHead
from gateway.protocols.hop_by_hop import HOP_BY_HOP
from gateway.protocols.websocket.handshake import accept_value
from gateway.request import Duplex, Upgrade
from gateway.upstream.pool import UpstreamConnection
from gateway.upstream.tunnel import Tunnel

# RFC 9110 7.6.1: the front says its own; H2-16: only HTTP/1.1 has Sec-WebSocket-Accept.
_OF_THE_CONNECTION: Final = HOP_BY_HOP | {b"content-length"}
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
        duplex, first = await self.accept(head, connection)
        await Tunnel(duplex, connection.stream, pump=self._pump, idle=self._idle).run(first)

    async def accept(self, head: ResponseHead, connection: UpstreamConnection) -> tuple[Duplex, bytes]:
        """Accept the client's offer: its end, and what the upstream has sent behind its *head*.

        Raises RemoteProtocolError, ClientGone.
        """
        headers = self._understand(head)
        first = _leftover(connection)
        return await self._upgrade.accept(headers), first

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
