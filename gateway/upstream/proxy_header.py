"""The PROXY header with which a connection to a server begins: whose request it carries."""

from ipaddress import ip_address
from typing import Literal, TypeAlias

from gateway.protocols.proxy_protocol import Command, ProxyHeader, encode_header
from gateway.request import Address, Request

ProxyVersion: TypeAlias = Literal[1, 2]


def proxy_header(version: ProxyVersion, request: Request | None) -> bytes:
    """The header for *request*, or for a connection of the gateway's own (a health check).

    A client on a Unix socket has no address that it could be told by.
    """
    if request is None:
        return encode_header(ProxyHeader(version, Command.LOCAL))
    source, destination = _numeric(request.connection.client), _numeric(request.connection.server)
    if source is None or destination is None:
        return encode_header(ProxyHeader(version, Command.PROXY))
    if (":" in source[0]) != (":" in destination[0]):
        # A proxy may have told of a client of the other family; both ends have to be of one (PP-3, PP-5).
        source, destination = _mapped(source), _mapped(destination)
    return encode_header(ProxyHeader(version, Command.PROXY, source, destination))


def _numeric(address: Address) -> tuple[str, int] | None:
    if address is None:
        return None
    try:
        ip_address(address[0])
    except ValueError:
        return None
    return address[0], address[1] or 0


def _mapped(address: tuple[str, int]) -> tuple[str, int]:
    """RFC 4291 2.5.5.2."""
    return (address[0] if ":" in address[0] else f"::ffff:{address[0]}"), address[1]
