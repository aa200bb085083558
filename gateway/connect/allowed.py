"""Which servers a tunnel may lead to: those that the configuration names, and no others (rules H-13).

A name says what a client may ask for, but not where that leads: whoever owns it can let it resolve to any
address (DNS rebinding), and the gateway reaches addresses that its clients do not. So the address that is
about to be connected to decides: inside this machine and the networks around it only if a network is named
that has it; elsewhere also by the name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, TypeAlias

from gateway.networks import parse_address

ANY: Final = "*"

# IANA's registries of special-purpose addresses; `ipaddress` has them since Python 3.12 or later.
_ALSO_SPECIAL: Final = (IPv4Network("192.0.0.0/24"), IPv6Network("3fff::/20"))
_NAT64: Final = IPv6Network("64:ff9b::/96")  # RFC 6052 2.1
_LOW_32_BITS: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class AllowedHost:
    """A host as clients name it."""

    pattern: str
    """Lower-case: a name, ``*.example.com`` for all names below it, or ``*`` for any name or address."""
    ports: range

    def has(self, host: str, port: int) -> bool:
        if port not in self.ports:
            return False
        if self.pattern[:1] == ANY:
            # `.example.com` is not a name below it.
            return self.pattern == ANY or (host.endswith(self.pattern[1:]) and not host.startswith("."))
        return host == self.pattern


@dataclass(frozen=True, slots=True)
class AllowedNetwork:
    """Addresses, however clients name them."""

    network: IPv4Network | IPv6Network
    ports: range

    def has(self, address: IPv4Address | IPv6Address, port: int) -> bool:
        return port in self.ports and address in self.network


AllowedTarget: TypeAlias = AllowedHost | AllowedNetwork


class AllowedTargets:
    """Everything that may be connected to."""

    def __init__(self, targets: Sequence[AllowedTarget]) -> None:
        self._hosts = [target for target in targets if isinstance(target, AllowedHost)]
        self._networks = [target for target in targets if isinstance(target, AllowedNetwork)]

    def may_have(self, host: str, port: int) -> bool:
        """Whether some address of *host*, a lower-case name, may be allowed: it is worth looking them up."""
        return self._names(host, port) or any(port in allowed.ports for allowed in self._networks)

    def has(self, host: str, address: str, port: int) -> bool:
        """Whether *address*, which *host* has turned out to be, may be connected to."""
        found = parse_address(address)
        if any(allowed.has(found, port) for allowed in self._networks):
            return True
        return is_public(found) and self._names(host, port)

    def _names(self, host: str, port: int) -> bool:
        return any(allowed.has(host, port) for allowed in self._hosts)


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether *address* is somewhere on the Internet: no machine, link, private or special network."""
    if isinstance(address, IPv6Address):
        inner = address.sixtofour
        if address in _NAT64:
            inner = IPv4Address(int(address) & _LOW_32_BITS)
        if inner is not None:  # a translator on the way would go there
            return is_public(inner)
        if address.is_site_local:
            return False
    if any(address in network for network in _ALSO_SPECIAL):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)
