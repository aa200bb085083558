"""All servers of one backend: which of them a request may have, and which of them are left out.

Choosing is synchronous. Servers that are marked as backup are for when no other is left. At most a part of
the servers is ejected at a time (`HealthPolicy.max_ejected`, Envoy's panic threshold): when all of them fail,
leaving them out would help nobody.
"""

from collections.abc import Awaitable, Callable, Sequence

import trio

from gateway.logger import get_logger
from gateway.request import Request
from gateway.upstream.balance import Balance
from gateway.upstream.health import HealthPolicy
from gateway.upstream.server import Server, ServerState
from gateway.upstream.sticky import Sticky

log = get_logger()


class ServerGroup:
    """At least one server, in the order of the configuration."""

    def __init__(
        self,
        backend: str,
        servers: Sequence[Server],
        *,
        balance: Balance,
        health: HealthPolicy,
        sticky: Sticky | None = None,
    ) -> None:
        self._backend = backend
        self._balance = balance
        self._policy = health
        self.sticky = sticky
        self.slow = health.slow
        self.servers: list[Server] = []
        self.starts_down = False
        """Whether servers that come get no request before a check has found them well."""
        self.changed = trio.Event()
        """Set when there are other servers; another takes its place then."""
        self.left_out: Callable[[Server], None] = _nothing
        """Called with a server that gets no more requests for now."""
        self.replace(servers)
        self.binds = balance.binds or sticky is not None
        """Whether a request belongs to the server that was chosen, and had better wait for it."""

    def replace(self, servers: Sequence[Server]) -> None:
        """From now on there are these *servers*, at least one."""
        if self.starts_down:
            for server in servers:
                if server not in self.servers:
                    server.health.mark_down("not checked yet")
        gone = [server for server in self.servers if server not in servers]
        self.servers = list(servers)
        self._primaries = [server for server in servers if not server.backup]
        self._backups = [server for server in servers if server.backup]
        self._only = servers[0] if len(servers) == 1 else None
        self.look_at_limits()
        self.changed.set()
        self.changed = trio.Event()
        for server in gone:
            server.gone = True
            self.left_out(server)

    def look_at_limits(self) -> None:
        """A server takes more requests than before, or fewer."""
        self._limited = any(server.limit < 2**31 for server in self.servers)

    def choose(self, request: Request, tried: Sequence[Server], now: float) -> Server | None:
        """The server for the next try of *request*, perhaps one without room; None if none is up.

        Those that were *tried* come last.
        """
        only = self._only
        if only is not None:
            return only if only.health.up or only.health.admits(now) else None
        found = self._admitting(self._primaries, tried, now) or self._admitting(self._backups, tried, now)
        if not found and tried:
            found = self._admitting(self._primaries, (), now) or self._admitting(self._backups, (), now)
        if not found:
            return None
        if self.sticky is not None:
            server = self.sticky.find(request, found)
            if server is not None:
                return server
        if self._limited and not self.binds:
            found = [server for server in found if server.in_flight < server.limit] or found
        if len(found) == 1:
            return found[0]
        chosen = self._balance.choose(found, request, now)
        assert isinstance(chosen, Server)
        return chosen

    def _admitting(self, servers: list[Server], tried: Sequence[Server], now: float) -> list[Server]:
        return [
            server
            for server in servers
            if (server.health.up or server.health.admits(now)) and server not in tried
        ]

    @property
    def in_use(self) -> list[Server]:
        """Those that are up and get requests: backups if no other is."""
        primaries = [server for server in self._primaries if server.health.up]
        return primaries or [server for server in self._backups if server.health.up]

    def has_another(self, server: Server, tried: Sequence[Server]) -> bool:
        """Whether one that is up could be asked in the place of *server*, beside those that were *tried*."""
        return any(other.health.up and other is not server and other not in tried for other in self.servers)

    # --- what became of a try

    def succeeded(self, server: Server, now: float) -> None:
        """*server* has answered."""
        if server.health.succeeded(now):
            log.info("server is back", backend=self._backend, address=server.name)

    def failed(self, server: Server, now: float, reason: str) -> None:
        """*server* has failed, by its own fault; it is ejected if that is enough."""
        health = server.health
        if not health.failed(now, reason) or not self._may_eject(server):
            return
        seconds = health.eject(now)
        log.warning(
            "server ejected", backend=self._backend, address=server.name, reason=reason, seconds=seconds
        )
        self.left_out(server)

    def _may_eject(self, server: Server) -> bool:
        ejected = sum(not other.health.up for other in self.servers if other is not server)
        return ejected + 1 <= self._policy.max_ejected * len(self.servers)

    # --- to be shown

    def snapshot(self, now: float) -> list[ServerState]:
        return [server.snapshot(now) for server in self.servers]

    def returns_in(self, now: float) -> float:
        """Seconds until the first server that is left out may be tried again; 0 if that is not known."""
        return min(server.health.returns_in(now) for server in self.servers)


async def watch_each(group: ServerGroup, watch: Callable[[Server, ServerGroup], Awaitable[None]]) -> None:
    """Run *watch* for each server of *group*, those that come too, until cancelled.

    It ends by itself when its server is none of them any more.
    """
    watched: set[Server] = set()
    async with trio.open_nursery() as nursery:
        while True:
            for server in group.servers:
                if server not in watched:
                    nursery.start_soon(watch, server, group)
            watched = set(group.servers)
            await group.changed.wait()


def _nothing(_server: Server) -> None:
    pass
