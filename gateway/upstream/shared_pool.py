"""The connections to one FastCGI server that requests may share, once it has told that it can (FCGI-17).

As long as it has not, this is a `Pool` like any other: a connection for each request. From then on a request
goes to the first connection with a free place, so that the others grow old and are closed; or to one that is
being made; or to a new one. No more requests are begun on one that is paused or has served enough, unless
there may be no other.

When a connection breaks, nobody knows whose request has broken it. Those that are sent again get connections
of their own, if there may be any: so one that ends every connection does not end others twice.
"""

import sys
from collections.abc import Callable

import trio

from gateway.errors import BackendError, Cause, Phase
from gateway.net.pump import Pump
from gateway.protocols.codec import ClientCodec
from gateway.protocols.fastcgi import Capabilities
from gateway.request import Request
from gateway.upstream.dial import Dialer
from gateway.upstream.multiplex import RequestStream, SharedConnection, SharingPolicy
from gateway.upstream.pool import Pool, PoolPolicy, UpstreamConnection

# Not Final: compiled code would have its value for good, whatever tests set.
PLACE_SECONDS: float = 5.0
"""How long a request waits for a place that an aborted one still has, where there may be no other
connection; if nothing else is on that one it is closed then."""


class Sharing:
    """What the shared connections of one backend have in common, and the owner of their tasks."""

    def __init__(self, backend: str, policy: SharingPolicy, make_codec: Callable[[], ClientCodec]) -> None:
        self.backend = backend
        self.policy = policy
        self.make_codec = make_codec
        self.lost: Callable[[SharedPool], None] = _nothing
        """Called when a server has closed a connection."""
        self._opened: list[SharedConnection] = []
        self._news = trio.Event()

    def start(self, connection: SharedConnection) -> None:
        """Have *connection* served."""
        self._opened.append(connection)
        self._news.set()

    async def run(self) -> None:
        """Serve the connections until cancelled; each ends by itself."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._news.wait()
                self._news = trio.Event()
                opened, self._opened = self._opened, []
                for connection in opened:
                    nursery.start_soon(connection.run)


class _Dial:
    """A connection that is being made."""

    __slots__ = ("done", "failure", "joined")

    def __init__(self, joined: int) -> None:
        self.done = trio.Event()
        self.joined = joined
        """Requests that will be on it."""
        self.failure: BackendError | None = None


class SharedPool(Pool):
    """Implements `Pool` for a server whose connections may be shared."""

    __slots__ = ("_connections", "_dials", "_freed", "_keeps", "_most", "_places", "_refused", "_sharing")

    def __init__(self, pump: Pump, dialer: Dialer, policy: PoolPolicy, sharing: Sharing) -> None:
        super().__init__(pump, dialer, policy)
        self._sharing = sharing
        self._connections: list[SharedConnection] = []
        self._dials: list[_Dial] = []
        self._freed = trio.Event()
        self._places = 1
        """Requests on a connection at the same time."""
        self._most = sys.maxsize
        """Connections at the same time."""
        self._refused = False
        self._keeps = True

    @property
    def shares(self) -> bool:
        """Whether several requests are on a connection now."""
        return self._places > 1

    @property
    def idle(self) -> int:
        """How many connections there are without a request."""
        return len(self._idle) + sum(not connection.active for connection in self._connections)

    # --- what the application takes

    def learn(self, told: Capabilities, connections: int) -> int:
        """The application takes so many *connections*, and has *told* the rest; so many requests are that."""
        self._most = connections
        places = 1
        if told.multiplexes and not self._refused:
            places = min(self._sharing.policy.requests, told.requests or sys.maxsize)
        if (places > 1) != self.shares:
            self.close()  # from now on they are of the other kind
        self._places = places
        for connection in self._connections:
            connection.places = min(connection.places, places)
        return min(connections * places, sys.maxsize)

    def refuse_sharing(self) -> None:
        """It has told that it can multiplex, and cannot (FCGI-14): never again."""
        self._refused = True
        if self.shares:
            self._places = 1
            self.close()

    # --- taking

    def take(self) -> UpstreamConnection | None:
        """A place on a shared connection, an idle connection that still looks alive, or None."""
        if self._places == 1:
            return super().take()
        connection = self._find()
        if connection is None:
            return None
        return self._placed(connection, self._sharing.make_codec(), reused=True)

    def _find(self) -> SharedConnection | None:
        """The connection with a place for another request."""
        last: SharedConnection | None = None
        for connection in self._connections:
            if not connection.has_room:
                continue
            if not (connection.paused or self._is_spent(connection)):
                return connection
            last = connection
        return None if self._may_dial() else last

    def _may_dial(self) -> bool:
        # Those that are about to end do not count: what replaces them need not wait.
        lasting = sum(not connection.retired for connection in self._connections)
        return lasting + len(self._dials) < self._most

    def _is_spent(self, connection: SharedConnection) -> bool:
        policy, now = self._policy, self._pump.now
        return connection.served >= policy.requests or now >= connection.opened_at + policy.age

    def _placed(
        self, connection: SharedConnection, codec: ClientCodec, *, reused: bool = False, repairs: bool = False
    ) -> UpstreamConnection:
        placed = self.add(connection.open(), codec)
        placed.reused = reused
        placed.repairs = repairs
        placed.shared = True
        return placed

    async def connect(self, codec: ClientCodec, request: Request, *, repairs: bool) -> UpstreamConnection:
        """A place for *request* on a connection that is made for it, or on one that has become free.

        With *repairs* another one has failed it before; then the end of this one is a failure as any. Raises
        as `Dialer.dial`, and BackendError (OVERLOADED) if there may be no more, and no place becomes free.
        """
        deadline = trio.current_time() + PLACE_SECONDS
        if repairs and self.makes_room():
            return self._placed(await self._dial(request, exclusive=True), codec, repairs=True)
        while True:
            connection = self._find()
            if connection is not None:
                return self._placed(connection, codec, reused=not repairs, repairs=repairs)
            dial = next((each for each in self._dials if each.joined < self._places), None)
            if dial is not None:
                dial.joined += 1
                await dial.done.wait()
                if dial.failure is not None:
                    raise dial.failure.another(BackendError)
            elif self._may_dial():
                return self._placed(await self._dial(request), codec, repairs=repairs)
            elif trio.current_time() < deadline:
                if self._freed.is_set():  # otherwise others wait for it, too
                    self._freed = trio.Event()
                with trio.move_on_at(deadline):
                    await self._freed.wait()
            elif not self._close_abandoned():
                raise BackendError(
                    Cause.OVERLOADED,
                    "aborted requests have all places on its connections",
                    backend=self._sharing.backend,
                    address=self.dialer.name,
                    phase=Phase.QUEUE,
                )

    def _close_abandoned(self) -> bool:
        """Close a connection that has none but aborted requests, which the application has not ended."""
        for connection in self._connections:
            if connection.abandoned:
                connection.close()
                return True
        return False

    async def _dial(self, request: Request, *, exclusive: bool = False) -> SharedConnection:
        dial = _Dial(joined=self._places if exclusive else 1)
        self._dials.append(dial)
        try:
            stream = await self.dialer.dial(request)
        except BackendError as failure:
            dial.failure = failure
            raise
        finally:
            self._dials.remove(dial)
            dial.done.set()
        connection = SharedConnection(
            stream,
            self._pump,
            self._sharing.policy,
            places=self._places,
            backend=self._sharing.backend,
            address=self.dialer.name,
            changed=self._look_at,
        )
        connection.exclusive = exclusive
        connection.retired = not self._keeps
        self._connections.append(connection)
        self._sharing.start(connection)
        return connection

    def _look_at(self, connection: SharedConnection) -> None:
        """A place on *connection* is free, or it is closed."""
        connection.exclusive = False
        if connection.closed:
            self._connections.remove(connection)
            if connection.lost:
                self._sharing.lost(self)
        elif not connection.active and self._is_spent(connection):
            connection.close()
            return
        self._freed.set()

    # --- giving back

    def give_back(self, connection: UpstreamConnection) -> None:
        """Keep *connection* for later, or close it; a shared one lives on by itself."""
        if self._places > 1 or isinstance(connection.stream, RequestStream):
            connection.close()
        else:
            super().give_back(connection)

    def makes_room(self) -> bool:
        """Whether there may be one more connection now, for a while; an idle one is closed for it."""
        if not self._may_dial() and self.idle:
            self.close_oldest()
        return self._may_dial()

    def close_expired(self) -> None:
        """Close what was idle for too long; called now and then by the backend's task."""
        super().close_expired()
        now = self._pump.now
        idle = 0
        for connection in self._connections.copy():
            connection.look(now)
            if connection.closed or connection.active:
                continue
            idle += 1
            oldest = connection.idle_since + self._policy.idle_time
            if oldest < now or idle > self._policy.idle or self._is_spent(connection):
                connection.close()

    def close_oldest(self) -> None:
        """Close one that is idle, to make room for a fresh one."""
        if self._idle:
            super().close_oldest()
            return
        next(connection for connection in reversed(self._connections) if not connection.active).close()

    def keep_none(self) -> None:
        """Close all idle connections, and from now on each one when the last of its requests is over."""
        self._keeps = False
        super().keep_none()

    def close(self) -> None:
        """Close all idle connections; those that are shared when the last of their requests is over."""
        super().close()
        for connection in self._connections.copy():
            connection.retire()


def _nothing(_pool: SharedPool) -> None:
    pass
