"""What an HTTP upstream is told about the client and the way of a request: X-Forwarded-*, Forwarded.

What a trusted proxy has said is kept and the proxy itself added behind it, on the right (FWD-5); for all
others the fields are written anew (FWD-7). Where the proxy speaks the one kind of fields and the upstream
is told the other, hops are translated (RFC 7239 7.4).
"""

from collections.abc import Mapping
from typing import Literal, TypeAlias
from urllib.parse import quote

from gateway.protocols.events import Headers
from gateway.protocols.forwarded import encode_forwarded, encode_x_forwarded_for
from gateway.request import ForwardedConnection, Request

ForwardedPolicy: TypeAlias = Literal["x-forwarded", "forwarded", "both", "off"]
"""Which fields an upstream gets."""

Said: TypeAlias = Mapping[bytes, bytes]
"""What a trusted proxy has said in these fields, by name."""


def x_forwarded_fields(request: Request, host: bytes, said: Said) -> Headers:
    """X-Forwarded-For, -Proto, -Host and, below a mount, -Prefix; *host* is the Host of the request."""
    connection = request.connection
    peer = connection.client
    chain = said.get(b"x-forwarded-for", b"")
    if isinstance(connection, ForwardedConnection):
        peer = connection.proxy
        host = said.get(b"x-forwarded-host") or connection.host or host
        if not chain:
            hops = [encode_x_forwarded_for(hop) for hop in connection.hops if hop is not None]
            chain = b", ".join([hop for hop in hops if hop])
    else:
        host = said.get(b"x-forwarded-host") or host
    # A peer on a Unix socket has no address to tell.
    own = b"" if peer is None else encode_x_forwarded_for(peer)
    fields: Headers = []
    if chain or own:
        fields.append((b"x-forwarded-for", b", ".join([part for part in (chain, own) if part])))
    fields.append((b"x-forwarded-proto", connection.scheme.encode()))
    if host:
        fields.append((b"x-forwarded-host", host))
    prefix = said.get(b"x-forwarded-prefix", b"") + quote(request.mount, errors="surrogateescape").encode()
    if prefix:
        fields.append((b"x-forwarded-prefix", prefix))
    return fields


def forwarded_field(request: Request, host: bytes, said: Said) -> tuple[bytes, bytes]:
    """Forwarded (RFC 7239); *host* is the Host of the request."""
    connection = request.connection
    if not isinstance(connection, ForwardedConnection):
        return b"forwarded", encode_forwarded(connection.client, scheme=connection.scheme, host=host)
    elements = []
    if (chain := said.get(b"forwarded")) is not None:
        elements.append(chain)
    else:
        for position, hop in enumerate(connection.hops):
            if position == connection.position:
                told = said.get(b"x-forwarded-host", b"")
                elements.append(encode_forwarded(hop, scheme=connection.scheme, host=told))
            else:
                elements.append(encode_forwarded(hop))
    proxy = connection.proxy
    if not elements:
        # It has told the scheme alone.
        elements.append(encode_forwarded(proxy, scheme=connection.scheme, host=host))
    elif proxy is not None and proxy[1] is not None:
        # On a Unix socket it has no address; as an unknown hop it would hide the client from readers
        # that walk from the right.
        elements.append(encode_forwarded(proxy, scheme=connection.proxy_scheme, host=host))
    return b"forwarded", b", ".join(elements)
