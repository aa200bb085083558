"""Whom a request comes from: the proxies that are believed, and what they say about their clients.

Promises: after :meth:`TrustedProxies.apply` the connection of a request tells its client, and its fields
hold nothing about clients and earlier hops but what a trusted proxy has said. So neither routes, nor logs,
nor any backend have to ask again. A front calls it for each request with such a field; one without them is
what its connection says.

Does not: use ``X-Forwarded-Host`` and the like, which go on to backends, or change the Host.
"""

from typing import Final, Literal, TypeAlias

from gateway.errors import RequestError
from gateway.networks import ClientNetworks
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.forwarded import (
    CLIENT_FIELDS,
    is_twin,
    parse_forwarded,
    parse_scheme,
    parse_x_forwarded_for,
)
from gateway.protocols.lists import list_members
from gateway.protocols.memo import LONGEST_HEAD, Memo
from gateway.request import Address, Connection, ForwardedConnection, Request

ForwardedHeader: TypeAlias = Literal["x-forwarded", "forwarded"]
"""The one kind of fields that is read (FWD-8): two that say different things could not be told apart."""

_X_FIELDS: Final = (b"x-forwarded", b"x-real-ip")
_STANDARD_FIELDS: Final = (b"forwarded",)

_Key: TypeAlias = tuple[bytes, bytes, Address, Address, str]

_KNOWN_CLIENTS: Final = 1024


class TrustedProxies:
    """The proxies that may speak for their clients. Without *networks*, nobody."""

    def __init__(
        self, networks: ClientNetworks | None = None, *, header: ForwardedHeader = "x-forwarded"
    ) -> None:
        self._networks = networks or ClientNetworks()
        self._standard = header == "forwarded"
        self._ignored = _X_FIELDS if self._standard else _STANDARD_FIELDS
        # A proxy says the same for each request of a client.
        self._known: Memo[_Key, ForwardedConnection] = Memo(_KNOWN_CLIENTS)

    def trusts(self, address: Address) -> bool:
        """Whether who connects from *address* is believed."""
        return self._networks.has(address)

    def apply(self, request: Request) -> None:
        """Let a trusted proxy speak for its client; take from *request* what a stranger says.

        Raises RequestError (400) if a trusted proxy says what cannot be understood (FWD-6): whoever the
        client is then, it is not the proxy.
        """
        connection = request.connection
        if not self._networks.has(connection.client):
            # FWD-7: for all backends; nearly every application believes these fields.
            request.headers = [field for field in request.headers if not field[0].startswith(CLIENT_FIELDS)]
            return
        chain_name = b"forwarded" if self._standard else b"x-forwarded-for"
        chain: list[bytes] = []
        schemes: list[bytes] = []
        headers = []
        for field in request.headers:
            name = field[0]
            if name.startswith(self._ignored) or is_twin(name):
                continue
            headers.append(field)
            if name == chain_name:
                chain.append(field[1])
            elif name == b"x-forwarded-proto":
                schemes.append(field[1])
        request.headers = headers
        if chain or schemes:
            request.connection = self._connection(connection, b",".join(chain), b",".join(schemes))

    def _connection(self, proxy: Connection, chain: bytes, schemes: bytes) -> ForwardedConnection:
        # Not the port of the proxy: it means nothing, and another connection of it says the same.
        address: Address = proxy.client
        if address is not None and address[1] is not None:
            address = (address[0], 0)
        key = (chain, schemes, address, proxy.server, proxy.scheme)
        known = self._known.get(key)
        if known is None:
            try:
                known = self._told(proxy, address, chain, schemes)
            except RemoteProtocolError as malformed:
                raise RequestError(400, str(malformed)) from malformed
            if known.hops and len(chain) + len(schemes) <= LONGEST_HEAD:
                self._known.keep(key, known)
        return known

    def _told(self, proxy: Connection, address: Address, chain: bytes, schemes: bytes) -> ForwardedConnection:
        hops: list[Address] = []
        told: list[str | None] = []
        hosts: list[bytes | None] = []
        if self._standard:
            for element in parse_forwarded(chain):
                hops.append(element.node)
                told.append(element.scheme)
                hosts.append(element.host)
        else:
            hops.extend(parse_x_forwarded_for(chain))
            told.extend([parse_scheme(each) for each in list_members(schemes)])
            if len(told) != len(hops):
                # Not one by each hop: what counts is what the proxy itself says.
                told = [told[-1] if told else None] * max(1, len(hops))
        client = len(hops) - 1
        # FWD-5: from the right, over those who are trusted, up to the first who is not.
        while client > 0 and self._networks.has(hops[client]):
            client -= 1
        return ForwardedConnection(
            client=hops[client] if hops else proxy.client,
            scheme=(told[client] if told else None) or proxy.scheme,
            server=proxy.server,
            proxy=address,
            proxy_scheme=proxy.scheme,
            hops=hops,
            position=max(client, 0),
            host=hosts[client] if hosts else None,
        )
