"""Servers that clients may be connected to (CONNECT): hosts or networks, with ports."""

import re
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any, Final, TypeAlias

from gateway.config.values.addresses import parse_cidr
from gateway.config.values.parsed import Parsed
from gateway.config.values.requests import parse_host_pattern
from gateway.config.wording import expected, show
from gateway.connect.allowed import ANY, AllowedHost, AllowedNetwork, AllowedTarget

_EXAMPLES: Final = (
    "a host or network with a port, such as example.com:443, *.example.com:443 or 10.0.0.0/8:8443"
)
_LAST_PORT: Final = 65535
_MAPPED_BITS: Final = 96  # RFC 4291 2.5.5.2


def parse_target(value: Any) -> AllowedTarget:
    """``HOST:PORT``: see `gateway.connect.allowed`. The port may be a range, or ``*``."""
    if not isinstance(value, str):
        raise expected(_EXAMPLES, value)
    host, colon, ports = value.rpartition(":")
    if not colon or not host or ("[" in host) != (":" in host) or ports.endswith("]"):
        raise expected(_EXAMPLES, value)
    allowed = _parse_ports(ports, value)
    if host == ANY:
        return AllowedHost(ANY, allowed)
    if re.fullmatch(r"\[[^\[\]]*\]|[0-9.]+(?:/[0-9]*)?", host, re.ASCII):
        network = parse_cidr(host.removeprefix("[").removesuffix("]"))
        if network is None:
            raise expected(_EXAMPLES, value)
        return AllowedNetwork(_unmapped(network), allowed)
    if "/" in host:
        raise expected(_EXAMPLES, value)
    return AllowedHost(parse_host_pattern(host), allowed)


def _unmapped(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """Mapped addresses are compared as what they are (``::ffff:10.0.0.0/104`` is 10.0.0.0/8)."""
    if isinstance(network, IPv4Network) or network.prefixlen < _MAPPED_BITS:
        return network
    first = network.network_address.ipv4_mapped
    return network if first is None else IPv4Network((first, network.prefixlen - _MAPPED_BITS))


def _parse_ports(text: str, value: str) -> range:
    if text == ANY:
        return range(1, _LAST_PORT + 1)
    found = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", text, re.ASCII)
    if found is None:
        raise expected(_EXAMPLES, value)
    first = int(found[1])
    last = int(found[2] or first)
    if not 0 < first <= last <= _LAST_PORT:
        raise ValueError(f"expected a port from 1 to {_LAST_PORT}, or two in order, got {show(text)}")
    return range(first, last + 1)


Target: TypeAlias = Annotated[
    AllowedTarget,
    Parsed(parse_target, {"type": "string", "examples": ["*.example.com:443", "10.0.0.0/8:8000-8999"]}),
]
