"""Sets of clients: networks, and those that came over a Unix socket."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, Literal, TypeAlias

from gateway.request import Address

ClientNetwork: TypeAlias = IPv4Network | IPv6Network | Literal["unix"]
"""Clients by address; ``unix`` are those that came over a Unix socket."""

_REMEMBERED: Final = 4096
"""Client addresses whose answer is remembered for each set: parsing one costs 2 µs."""


class ClientNetworks:
    """The clients inside any of some networks."""

    def __init__(self, networks: Sequence[ClientNetwork] = ()) -> None:
        self._networks = [network for network in networks if network != "unix"]
        self._has_unix = "unix" in networks
        self._has = lru_cache(maxsize=_REMEMBERED)(self._has_host)

    def __bool__(self) -> bool:
        return self._has_unix or bool(self._networks)

    def has(self, client: Address) -> bool:
        """Whether *client* is one of them; one without an address is not."""
        if client is None:
            return False
        return self._has_unix if client[1] is None else self._has(client[0])

    def _has_host(self, host: str) -> bool:
        try:
            address = parse_address(host)
        except ValueError:
            return False  # a name that a proxy gave (RFC 7239 6.3) is in no network
        return any(address in network for network in self._networks)


def parse_address(host: str) -> IPv4Address | IPv6Address:
    """The address that *host* is; ``::ffff:10.0.0.1`` is 10.0.0.1 seen by a dual-stack socket.

    Raises ValueError if it is a name.
    """
    address = ip_address(host)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
