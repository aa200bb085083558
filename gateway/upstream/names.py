"""Servers that are known by name: they come, stay and go as the name says.

A name is looked up when what is known of it is out of date, never for a request. A server that is still named
keeps its connections and its health; one that is no more gets no request from then on, and what it has it
finishes. While no name server answers, the last answer holds; for a server of a service, too, whose own name
alone has no answer.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import trio

from gateway.logger import get_logger
from gateway.net.address import ServiceAddress, TcpAddress
from gateway.net.resolver import Answer, Located, ResolveError, Resolver
from gateway.upstream.group import ServerGroup
from gateway.upstream.server import Server

PATIENCE: Final = 2.0
"""Seconds that the start waits for the first answers: after that requests are told that there is none."""

FIRST_PAUSE: Final = 1.0
LAST_PAUSE: Final = 30.0
"""Seconds between two questions while there is no answer: the first, doubled up to the last."""

Name: TypeAlias = TcpAddress | ServiceAddress

log = get_logger()


@dataclass(slots=True, eq=False)
class Entry:
    """One line of the configuration and the servers that it stands for: always one at least."""

    name: Name | None
    """None if its server stays."""
    make: Callable[[Located | str], Server]
    """Makes a server, or one that cannot be reached for the reason that is given."""
    servers: list[Server] = field(default_factory=list)
    looked_up: trio.Event = field(default_factory=trio.Event)
    """Set when there was a first answer, or none."""


class Names:
    """Keeps the servers of one backend's *group* as the names in *entries* say."""

    def __init__(self, backend: str, group: ServerGroup, entries: list[Entry], resolver: Resolver) -> None:
        self._backend = backend
        self._group = group
        self._entries = entries
        self._resolver = resolver
        self.changed: Callable[[], None] = _nothing
        """Called when there are other servers."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow all names until cancelled; started when they have their first answer, or it is late."""
        async with trio.open_nursery() as nursery:
            named = [entry for entry in self._entries if entry.name is not None]
            for entry in named:
                nursery.start_soon(self._follow, entry)
            with trio.move_on_after(PATIENCE):
                for entry in named:
                    await entry.looked_up.wait()
            task_status.started()

    async def _follow(self, entry: Entry) -> None:
        pause = FIRST_PAUSE
        failed = False
        unknown: set[str] = set()
        while True:
            try:
                answer = await self._look_up(entry)
            except ResolveError as error:
                if not failed:
                    self._warn(str(entry.name), str(error))
                if not entry.servers[0].dialer.targets:
                    self._have(entry, [entry.make(str(error))])
                failed = True
                seconds, pause = pause, min(2 * pause, LAST_PAUSE)
            else:
                found: list[Located | str] = [*answer.servers]
                stay = [server for server in entry.servers if server.dialer.address in answer.unknown]
                self._have(entry, [entry.make(each) for each in found or ["there is no such name"]] + stay)
                before, unknown = unknown, {address.host for address in answer.unknown}
                for name in sorted(unknown - before):
                    self._warn(name, answer.reason)
                failed = False
                seconds, pause = answer.seconds, FIRST_PAUSE
            entry.looked_up.set()
            await trio.sleep(seconds)  # noqa: TID251 - the time to live of the answer

    def _warn(self, name: str, reason: str) -> None:
        log.warning(
            "name cannot be resolved: what is known of it holds on",
            backend=self._backend,
            name=name,
            reason=reason,
        )

    async def _look_up(self, entry: Entry) -> Answer:
        if isinstance(entry.name, TcpAddress):
            return await self._resolver.find(entry.name)
        assert entry.name is not None
        return await self._resolver.find_service(entry.name.name)

    def _have(self, entry: Entry, wanted: list[Server]) -> None:
        """From now on *entry* has the *wanted* servers; those that it has already stay what they are."""
        before = {_key(server): server for server in entry.servers}
        servers = [before.get(_key(server), server) for server in wanted]
        if servers == entry.servers:
            return
        gone = [server for server in entry.servers if server not in servers]
        log.info(
            "servers of a name",
            backend=self._backend,
            name=str(entry.name),
            servers=[server.name for server in servers if server.dialer.targets],
            gone=[server.name for server in gone if server.dialer.targets],
        )
        entry.servers = servers
        self._group.replace([server for each in self._entries for server in each.servers])
        for server in gone:
            server.pool.keep_none()
        self.changed()


def _key(server: Server) -> tuple[object, ...]:
    """What makes two servers the same."""
    dialer = server.dialer
    return (dialer.address, dialer.targets, dialer.unknown, server.weight, server.backup)


def _nothing() -> None:
    pass
