"""What goes on beside the requests of one backend, as long as that runs.

::

    names         which servers there are        ─┐
    check         which of them are well          ├─► requests that wait for one go on
    capabilities  what FastCGI applications take ─┘
    shared connections are served, idle ones that have grown old are closed, changed files of TLS read again
"""

import ssl
from collections.abc import Callable
from typing import Final

import trio

from gateway.protocols.fastcgi import Capabilities
from gateway.tls.renewal import RenewedContext
from gateway.upstream.capabilities import CapabilityProbe
from gateway.upstream.check import Checker, CheckPolicy, Question
from gateway.upstream.group import ServerGroup
from gateway.upstream.hold import Hold
from gateway.upstream.names import Names
from gateway.upstream.queue import Queue
from gateway.upstream.server import Server
from gateway.upstream.shared_pool import SharedPool, Sharing

EXPIRY_INTERVAL: Final = 5.0
"""Seconds between two looks at idle connections, and at the files of TLS."""


class Upkeep:
    """Of the servers in *group*; *queue* and *hold* have the requests that wait for them.

    What it is to do is said before it runs.
    """

    __slots__ = ("_backend", "_checker", "_group", "_hold", "_names", "_probe", "_queue", "sharing", "tls")

    def __init__(self, backend: str, group: ServerGroup, queue: Queue, hold: Hold) -> None:
        self._backend = backend
        self._group = group
        self._queue = queue
        self._hold = hold
        group.left_out = self._send_away
        self._checker: Checker | None = None
        self._names: Names | None = None
        self._probe: CapabilityProbe | None = None
        self.sharing: Sharing | None = None
        """Of connections that several requests are on at the same time."""
        self.tls: RenewedContext[ssl.SSLContext] | None = None
        """With which the servers are talked to."""

    # --- what is to be done

    def check_health(self, question: Question, policy: CheckPolicy) -> None:
        """Ask each server *question*."""
        self._checker = Checker(self._backend, question, policy, up=self._welcome, down=self._send_away)
        if policy.starts_down:
            self._group.starts_down = True
            for server in self._group.servers:
                server.health.mark_down("not checked yet")

    def ask_capabilities(self, is_there: Callable[[], bool]) -> None:
        """Ask each FastCGI server what it takes, and keep to that.

        *is_there* says whether there is anybody behind the addresses who may be asked.
        """
        self._probe = CapabilityProbe(self._backend, is_there=is_there, learned=self._learn)

    def follow(self, names: Names) -> None:
        """Have the servers that *names* say."""
        self._names = names
        names.changed = self._look_again

    @property
    def follows(self) -> bool:
        """Whether servers come and go."""
        return self._names is not None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do it until cancelled; close all idle connections then."""
        try:
            async with trio.open_nursery() as nursery:
                if self._names is not None:
                    await nursery.start(self._names.run)
                if self._checker is not None:
                    nursery.start_soon(self._checker.run, self._group)
                if self._probe is not None:
                    nursery.start_soon(self._probe.run, self._group)
                if self.sharing is not None:
                    self.sharing.lost = self._doubt_whose
                    nursery.start_soon(self.sharing.run)
                task_status.started()
                while True:
                    await trio.sleep(EXPIRY_INTERVAL)  # noqa: TID251 - the clock of the pools
                    for server in self._group.servers:
                        server.pool.close_expired()
                    if self.tls is not None:
                        self.tls.refresh()
        finally:
            for server in self._group.servers:
                server.pool.close()

    # --- what becomes known of servers

    def doubt(self, server: Server) -> None:
        """*server* may have been restarted."""
        if self._probe is not None:
            self._probe.doubt(server)

    def renew(self) -> None:
        """Use no connection again that is open now."""
        for server in self._group.servers:
            server.pool.renew()
            self.doubt(server)

    def _doubt_whose(self, pool: SharedPool) -> None:
        for server in self._group.servers:
            if server.pool is pool:
                self.doubt(server)

    def _learn(self, server: Server, told: Capabilities) -> None:
        server.learn(told)
        self._group.look_at_limits()
        self._welcome(server)

    def _look_again(self) -> None:
        """There are other servers, which may have room."""
        for server in self._group.servers:
            self._welcome(server)

    def _welcome(self, server: Server) -> None:
        """*server* is up: requests that wait need wait no longer."""
        self._hold.wake()
        self._queue.grant(server)

    def _send_away(self, server: Server) -> None:
        """*server* is not up, or there no more: who waits may do better elsewhere, or need not wait."""
        others = self._group.in_use
        self._queue.send_away(server, others=bool(others))
        for other in others:  # backups have had nothing to do till now
            self._queue.grant(other)
