"""How many connections there may be: in all, and for each client.

In all: the listeners pause, idle connections end to make room, and who comes meanwhile waits in the
kernel's queue (as with nginx's worker_connections). For each client: what is too much is closed at once,
so that one client can neither take the place of all others nor make them wait.
"""

from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Final

import trio

from gateway.logger import get_logger
from gateway.request import Address
from gateway.runtime.exhaustion import Repeated

log = get_logger()

_IPV6_PREFIX: Final = 64
"""Bits of an IPv6 address that stand for a client: the rest is its own to choose (RFC 6177)."""

RETRY_INTERVAL: Final = 0.25
"""Seconds until it is looked again whether a connection has become idle."""


class ConnectionCaps:
    """Counts the connections of a worker. None is no limit."""

    def __init__(self, total: int | None = None, per_client: int | None = None) -> None:
        self._total = total
        self._per_client = per_client
        self._open = 0
        self._clients: dict[str, int] = {}
        self._room: trio.Event | None = None
        self._reached = Repeated()
        self.make_room: Callable[[], object] | None = None
        """Called while there is no room and somebody waits: may end a connection."""

    # --- in all

    @property
    def open(self) -> int:
        """Connections that there are."""
        return self._open

    @property
    def full(self) -> bool:
        """No more connections may be accepted."""
        return self._total is not None and self._open >= self._total

    async def wait_for_room(self) -> None:
        """Wait until another connection may be accepted."""
        while self.full:
            if self._reached.happened(trio.current_time()):
                log.warning("limits.connections is reached: new connections wait", connections=self._open)
            if self.make_room is not None:
                self.make_room()
            if self._room is None:
                self._room = trio.Event()
            with trio.move_on_after(RETRY_INTERVAL):
                await self._room.wait()

    def enter(self) -> None:
        """A connection was accepted."""
        self._open += 1

    def leave(self) -> None:
        """A connection has ended."""
        self._open -= 1
        if self._room is not None:
            self._room.set()
            self._room = None

    # --- for each client

    def admit(self, client: Address) -> str | None:
        """Count a connection of *client*: what to `release` at its end, or None if it has too many.

        Clients on Unix sockets are not counted: they have no address, and are let in by permissions.
        """
        if self._per_client is None or client is None or client[1] is None:
            return ""
        key = _key(client[0])
        count = self._clients.get(key, 0)
        if count >= self._per_client:
            return None
        self._clients[key] = count + 1
        return key

    def release(self, key: str) -> None:
        """The connection that was admitted under *key* has ended."""
        if not key:
            return
        count = self._clients[key] - 1
        if count:
            self._clients[key] = count
        else:
            del self._clients[key]


def _key(host: str) -> str:
    if ":" not in host:
        return host
    address = ip_address(host)
    assert isinstance(address, IPv6Address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{int(address) >> (128 - _IPV6_PREFIX):x}::"
