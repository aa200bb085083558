"""Idle connections to one address, kept for the next request where the protocol allows it.

Deciding is synchronous (`take`, `give_back`), connecting is not (`Dialer`). The most recently used
connection goes first, so that the others grow old and are closed. How many there may be in all is the
server's concern (`gateway.upstream.server`).
"""

from dataclasses import dataclass, replace
from typing import Final

from gateway.net.pump import Pump
from gateway.net.stream import PumpStream
from gateway.protocols.codec import ClientCodec
from gateway.request import Request
from gateway.upstream.dial import Dialer


class UpstreamConnection:
    """A connection to an application, and the codec that keeps its state."""

    # Not a dataclass, whose __init__ would not be compiled: some protocols take a connection a request.

    __slots__ = (
        "codec",
        "epoch",
        "idle_since",
        "repairs",
        "requests",
        "retires_at",
        "reused",
        "shared",
        "stream",
        "whole",
    )

    def __init__(
        self,
        stream: PumpStream,
        codec: ClientCodec,
        *,
        epoch: int,
        retires_at: float,
    ) -> None:
        self.stream = stream
        self.codec = codec
        self.reused = False
        self.shared = False
        """It is a part of one that other requests are on at the same time (`multiplex`)."""
        self.whole = True
        """Each of its requests was one write, so small that it is read as a whole or not at all."""
        self.repairs = False
        """Another one has failed its request before."""
        self.idle_since = 0.0
        self.epoch = epoch
        self.requests = 0
        """That it has served and has been given back after."""
        self.retires_at = retires_at
        """Clock time from which it serves no other."""

    def close(self) -> None:
        self.stream.conclude()  # RFC 9112 9.8: so the server can tell it from one that was cut
        self.stream.close()


@dataclass(frozen=True, slots=True)
class PoolPolicy:
    """Which connections are kept. Times in seconds."""

    idle: int
    """So many unused ones at most; 0 keeps none."""
    idle_time: float
    """For so long each."""
    requests: int
    """A connection serves so many."""
    age: float
    """And so long."""


NONE_KEPT: Final = PoolPolicy(idle=0, idle_time=0.0, requests=1, age=0.0)


class Pool:
    """The unused connections of one server."""

    __slots__ = ("_configured", "_idle", "_policy", "_pump", "dialer", "epoch")

    def __init__(self, pump: Pump, dialer: Dialer, policy: PoolPolicy) -> None:
        self._pump = pump
        self._policy = self._configured = policy
        self._idle: list[UpstreamConnection] = []
        self.dialer = dialer
        self.epoch = 0
        """New connections belong to it; one of an earlier epoch is not used again (`renew`)."""

    @property
    def idle(self) -> int:
        """How many there are."""
        return len(self._idle)

    def add(self, stream: PumpStream, codec: ClientCodec) -> UpstreamConnection:
        """A new connection, to be used now."""
        retires_at = self._pump.now + self._policy.age
        return UpstreamConnection(stream, codec, epoch=self.epoch, retires_at=retires_at)

    async def dial(self, codec: ClientCodec, request: Request) -> UpstreamConnection:
        """A new connection, to be used now for *request*. Raises as `Dialer.dial`."""
        return self.add(await self.dialer.dial(request), codec)

    def take(self) -> UpstreamConnection | None:
        """An idle connection that still looks alive, or None."""
        oldest = self._pump.now - self._policy.idle_time
        while self._idle:
            connection = self._idle.pop()
            # RFC 9112 9.2: whatever arrives on an idle connection is not an answer to the next request.
            if connection.idle_since >= oldest and connection.stream.quiet:
                connection.reused = True
                return connection
            connection.close()
        return None

    def give_back(self, connection: UpstreamConnection) -> None:
        """Keep *connection* for later, or close it."""
        policy = self._policy
        now = self._pump.now
        connection.requests += 1
        welcome = (
            len(self._idle) < policy.idle
            and connection.requests < policy.requests
            and now < connection.retires_at
            and connection.epoch == self.epoch
        )
        if welcome:
            connection.stream.become_idle()
        if not welcome or not connection.stream.quiet:
            connection.close()
            return
        connection.idle_since = now
        self._idle.append(connection)

    def find_ended(self, connection: UpstreamConnection) -> None:
        """Whoever was behind *connection* has ended."""

    def close_expired(self) -> None:
        """Close what was idle for too long; called now and then by the backend's task."""
        now = self._pump.now
        oldest = now - self._policy.idle_time
        kept = []
        for connection in self._idle:
            if connection.idle_since >= oldest and connection.stream.quiet and now < connection.retires_at:
                kept.append(connection)
            else:
                connection.close()
        self._idle = kept

    def renew(self) -> None:
        """From now on use fresh connections only: the server behind the present ones is about to end."""
        self.epoch += 1
        self.close()

    def close_oldest(self) -> None:
        """Close the one that was idle for longest, to make room for a fresh one."""
        self._idle.pop(0).close()

    def close(self) -> None:
        """Close all idle connections."""
        while self._idle:
            self._idle.pop().close()

    def keep_none(self) -> None:
        """Close all idle connections, and keep none from now on."""
        self._policy = self._configured = replace(self._configured, idle=0)
        self.close()

    def keep_at_most(self, count: int) -> None:
        """Keep so many idle connections, or fewer if that is configured."""
        self._policy = replace(self._configured, idle=min(count, self._configured.idle))
        while len(self._idle) > self._policy.idle:
            self.close_oldest()
