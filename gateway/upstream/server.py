"""One server of a backend: its connections, the requests that it has, and what is known of its health."""

import sys
from dataclasses import dataclass
from math import inf
from typing import Final

from gateway.protocols.codec import ClientCodec
from gateway.protocols.fastcgi import Capabilities
from gateway.request import Request
from gateway.upstream.balance import Candidate
from gateway.upstream.dial import Dialer
from gateway.upstream.health import Health, HealthPolicy, State
from gateway.upstream.pool import Pool, UpstreamConnection
from gateway.upstream.shared_pool import SharedPool

_LATENCY_WEIGHT: Final = 0.2
"""Of the newest request in the mean: the last ten make up nine tenths of it."""


@dataclass(frozen=True, slots=True)
class ServerState:
    """A server as it is at one moment, to be shown."""

    address: str
    weight: float
    backup: bool
    state: State
    in_flight: int
    idle: int
    """Connections that are kept open without a request."""
    failures: int
    """In a row."""
    last_failure: str
    """Empty if there was none."""
    latency: float | None
    """Seconds to the first byte, the recent ones weighing most; None before the first."""
    told: Capabilities | None
    """What a FastCGI application has told of itself; None if it was not asked."""


class Server(Candidate):
    """Takes requests: `enter`, use the pool, say what became of it, `leave`."""

    __slots__ = (
        "_configured",
        "_processes",
        "_sharing",
        "_workers",
        "answered_at",
        "backup",
        "dialer",
        "gone",
        "health",
        "latency",
        "limit",
        "pool",
        "token",
        "told",
    )

    def __init__(
        self,
        pool: Pool,
        *,
        health: HealthPolicy,
        weight: float = 1.0,
        backup: bool = False,
        connections: int | None = None,
        processes: int = 1,
        workers: int = 1,
    ) -> None:
        """*connections* is how many there may be in all, idle ones among them; None: any number, or what the
        application tells. It is one of so many *processes* that tells it, for itself; and it tells so many
        *workers* of the gateway, each of which takes its part.
        """
        super().__init__(pool.dialer.name, weight)
        self.pool = pool
        self._sharing = pool if isinstance(pool, SharedPool) else None
        self.dialer: Dialer = pool.dialer
        self.backup = backup
        self._configured = connections
        self._processes = processes
        self._workers = workers
        self.limit = sys.maxsize if connections is None else connections
        self.gone = False
        """It is none of the backend's servers any more: it finishes what it has, and takes nothing else."""
        self.told: Capabilities | None = None
        self.health = Health(health)
        self.latency: float | None = None
        self.answered_at = -inf
        """Clock time of the end of its last answer, whoever got it."""
        self.token = b""
        """What cookies call it (`Sticky`); empty until that was asked."""

    def share(self, now: float) -> float:
        return self.weight * self.health.share(now)

    @property
    def has_room(self) -> bool:
        """Whether another request would get a connection at once."""
        return self.in_flight < self.limit and not self.gone

    def enter(self, now: float) -> None:
        """A request has it from *now* on."""
        self.in_flight += 1
        if not self.health.up:
            self.health.begin_trial(now)

    def leave(self) -> None:
        """The request is over; its connection was given back or closed."""
        self.in_flight -= 1
        if not self.health.up:
            self.health.end_trial()

    async def connect(
        self, codec: ClientCodec, request: Request, *, repairs: bool = False, alone: bool = False
    ) -> UpstreamConnection:
        """A fresh connection for *request*, that has entered, or a place on a shared one unless it is to be
        *alone*. With *repairs* another connection has failed it before. Raises as `Dialer.dial`.
        """
        if self._sharing is not None and self._sharing.shares and not alone:
            return await self._sharing.connect(codec, request, repairs=repairs)
        if self.pool.idle and self.in_flight + self.pool.idle > self.limit:
            self.pool.close_oldest()
        return await self.pool.dial(codec, request)

    def makes_room(self) -> bool:
        """Whether there may be one more connection now, for a while; an idle one is closed for it."""
        if self._sharing is not None and self._sharing.shares:
            return self._sharing.makes_room()
        if self.in_flight + self.pool.idle >= self.limit and self.pool.idle:
            self.pool.close_oldest()
        return self.in_flight + self.pool.idle < self.limit

    def learn(self, told: Capabilities) -> None:
        """The application tells this of itself. What is configured is known better."""
        self.told = told
        connections, requests = self._configured, None
        if connections is None:
            connections, requests = self._part(told.connections), self._part(told.requests)
        limit = sys.maxsize if connections is None else connections
        self.pool.keep_at_most(limit)
        if self._sharing is not None:
            limit = self._sharing.learn(told, limit)
        self.limit = limit if requests is None else min(limit, requests)

    def _part(self, told: int | None) -> int | None:
        return None if told is None else max(told * self._processes // self._workers, 1)

    def refuses_sharing(self, connection: UpstreamConnection) -> None:
        """The application has refused a request because *connection* was used for another (FCGI-14)."""
        if self._sharing is None or not connection.shared:
            self.pool.keep_none()
            return
        self._sharing.refuse_sharing()
        if self.told is not None:
            self.learn(self.told)

    def answered(self, seconds: float, now: float) -> None:
        """A whole answer has come, the first byte of it after *seconds*."""
        self.answered_at = now
        mean = self.latency
        self.latency = seconds if mean is None else mean + _LATENCY_WEIGHT * (seconds - mean)

    def snapshot(self, now: float) -> ServerState:
        health = self.health
        return ServerState(
            address=self.name,
            weight=self.weight,
            backup=self.backup,
            state=health.state(now),
            in_flight=self.in_flight,
            idle=self.pool.idle,
            failures=health.failures,
            last_failure=health.last_failure,
            latency=self.latency,
            told=self.told,
        )
