"""The servers of one backend, as a request meets them: choose, try, and what then.

::

    choose ─► enter ─► a kept connection, or a fresh one ─► exchange ─► leave ─► done
      ▲  │                                                                │
      │  ├─► wait in the queue: all are busy                              │
      │  └─► wait on hold: none is up                                     │
      └───────────── the same again, with another server, if that is allowed (`retry`)

Connections are reused where the codec says that it is safe. A reused connection that turns out to be dead
before the answer began is replaced once by a fresh one of the same server, if asking again can do no harm
(RFC 9110 9.2.2); that is nobody's failure. So is a connection to a process of ours that has ended before it
read anything of the request. Everything else that a server does wrong is
told to its `health`; what a client does wrong never is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Final

import trio

from gateway.errors import BackendError, Cause, Phase, without_frames
from gateway.logger import get_logger
from gateway.net.pump import Pump
from gateway.protocols.codec import ClientCodec
from gateway.protocols.events import LocalRedirect, RequestHead, RequestVariables
from gateway.request import Request, Responder
from gateway.upstream.exchange import Exchange
from gateway.upstream.group import ServerGroup
from gateway.upstream.health import is_fault
from gateway.upstream.hold import FIRST_PAUSE, LONGEST_PAUSE, Hold
from gateway.upstream.lookout import Lookout
from gateway.upstream.multiplex import RequestStream
from gateway.upstream.outcome import (
    CannotShareError,
    CrowdedError,
    StaleConnectionError,
    UnreadError,
    Unwanted,
    UnwantedStatus,
)
from gateway.upstream.ping import take_living
from gateway.upstream.pool import UpstreamConnection
from gateway.upstream.queue import Queue
from gateway.upstream.replay import can_rewind, keep, rewind
from gateway.upstream.retry import RetryPolicy
from gateway.upstream.server import Server, ServerState
from gateway.upstream.switch import Switch
from gateway.upstream.terms import Terms, UpstreamTimeouts
from gateway.upstream.tries import Tries
from gateway.upstream.upkeep import Upkeep

MOST_REPAIRS: Final = 4
"""Fresh connections in the place of those that nobody has read from. Of several processes each may end so,
but one that lives and reads nothing is not asked for ever."""

_NOBODY: Final[list[Server]] = []

log = get_logger()


@dataclass(frozen=True, slots=True)
class UpstreamState:
    """A backend's servers and what waits for them at one moment, to be shown."""

    servers: list[ServerState]
    queued: int
    """Requests that wait for a connection."""
    held: int
    """Requests that wait for a server to come back."""


class Upstream:
    """One for each backend behind sockets."""

    def __init__(
        self,
        backend: str,
        *,
        pump: Pump,
        group: ServerGroup,
        make_codec: Callable[[], ClientCodec],
        timeouts: UpstreamTimeouts,
        retry: RetryPolicy,
        queue: Queue,
        hold: Hold,
        ping: float | None = None,
    ) -> None:
        """With *ping* a connection is used again only after a sign of life in so many seconds."""
        self._backend = backend
        self._pump = pump
        self._make_codec = make_codec
        self._group = group
        self._retry = retry
        self._queue = queue
        self._hold = hold
        self._ping = ping
        self.terms = Terms(backend, pump, timeouts)
        self.upkeep = Upkeep(backend, group, queue, hold)
        self._sticky = group.sticky
        self._statuses = retry.status
        self._looks_out = 0 < retry.per_try < timeouts.first_byte
        self._is_critical = bool(retry.status) or group.slow < inf
        """Whether an answer can be a failure."""
        # A single server that is restarted breaks off what it has, and takes it again when it is back.
        self._least_tries = 2 if hold.time else 1

    @property
    def authority(self) -> bytes:
        """That of the first server, as a Host field's value; ``localhost`` for a Unix socket."""
        return self._group.servers[0].dialer.authority

    @property
    def servers(self) -> list[Server]:
        """All of them, in the order of the configuration."""
        return self._group.servers

    def snapshot(self) -> UpstreamState:
        """How the servers are."""
        return UpstreamState(self._group.snapshot(self._pump.now), len(self._queue.waiting), self._hold.count)

    def ask_capabilities(self) -> None:
        """Ask each FastCGI server what it takes, and keep to that, while `run` runs. Call it before."""
        self.upkeep.ask_capabilities(self._is_there)

    def _is_there(self) -> bool:
        """Whether there is anybody behind the addresses who may be asked."""
        return True

    def _is_awaited(self) -> bool:
        """Whether it is worth while to wait for somebody behind the addresses."""
        return True

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep up the servers until cancelled; then close their connections."""
        await self.upkeep.run(task_status=task_status)

    async def exchange(
        self,
        request: Request,
        responder: Responder,
        head: RequestHead | RequestVariables,
        *,
        awaits_continue: bool = False,
        switch: Switch | None = None,
        own_host: bool = False,
    ) -> LocalRedirect | None:
        """Send *head* and the request's body, pass the answer on; a local redirect is returned.

        *own_host*: the first field of *head* is Host with `authority`, for which each server gets its own.

        With *switch* the head carries the client's offer of another protocol: it goes over a fresh
        connection, which becomes a tunnel if the upstream accepts.

        Raises GatewayError, and LocalProtocolError if the protocol cannot express the request. Several
        servers may have failed then; it is the failure of the last.
        """
        pump = self._pump
        group = self._group
        started = pump.now
        tries: Tries | None = None
        has_trailers = isinstance(head, RequestHead)
        if request.body.length != 0 and self._may_send_again(request):
            request.body = keep(request.body)
        while True:
            server = group.choose(request, _NOBODY if tries is None else tries.tried, pump.now)
            if server is None or server.in_flight >= server.limit:
                server = await self._wait_for(request, server, tries)
            else:
                server.enter(pump.now)
            if own_host and (self.upkeep.follows or len(group.servers) > 1):
                head = _for_host(head, server.dialer.authority)
            request.upstream_address = server.name
            began = pump.now
            exchange: Exchange | None = None
            connection: UpstreamConnection | None = None
            failure: BackendError | None = None
            blameless = reusable = alone = False
            repairs = 0
            try:
                if self._ping is not None:
                    connection = await take_living(server.pool, pump, self._ping)
                elif switch is None:
                    connection = server.pool.take()
                codec = self._make_codec() if connection is None else connection.codec
                # UW-4, AJP-10: what has no room in the protocol is found out before a connection is made.
                begun = codec.send(head)
                request.tries += 1
                while True:
                    if connection is None:
                        connection = await server.connect(codec, request, repairs=repairs > 0, alone=alone)
                        if self._hold.count:
                            self._hold.wake()
                    exchange = self._make_exchange(
                        connection, request, responder, server, switch, tries, began
                    )
                    try:
                        redirect = await exchange.run(
                            begun, has_trailers=has_trailers, awaits_continue=awaits_continue
                        )
                        break
                    except StaleConnectionError as stale:
                        # Once more, on a fresh one: that cannot be stale, but unread.
                        blameless = repairs >= MOST_REPAIRS or not self._may_repair(
                            request, stale, server, connection
                        )
                        connection.close()
                        connection = exchange = None
                        if blameless:
                            raise self._not_replayable(server, stale) from stale
                        repairs += 1
                        alone = isinstance(stale, CannotShareError)
                        codec = self._make_codec()
                        begun = codec.send(head)
                reusable = exchange.sent and connection.codec.reusable and not exchange.half_closed
                seconds = exchange.answered_at - began
                server.answered(seconds, pump.now)
                if self._is_critical or server.health.failures or not server.health.up:
                    self._judge(server, exchange.status, seconds)
                return redirect  # noqa: TRY300 - the loop goes on after the except
            except BackendError as error:
                failure = without_frames(error)
            except UnwantedStatus:
                assert exchange is not None
                failure = self._failed(Cause.FAILED, f"status {exchange.status}", server, Phase.HEAD)
            finally:
                if exchange is not None:
                    exchange.end_stderr()
                request.upstream_time = pump.now - started
                self._leave(server, connection, reusable, None if blameless else failure)
            if tries is None:
                tries = Tries(began)
            tries.add(server, failure, exchange is not None)
            await self._allow_another(request, responder, failure, tries)

    def _each_once(self) -> int:
        return max(len(self._group.servers), self._least_tries)

    # --- before a try

    def _may_send_again(self, request: Request) -> bool:
        """Whether the body of *request* may be wanted once more, as far as is known before the first try."""
        return (
            len(self._group.servers) > 1
            or self.upkeep.sharing is not None
            or self._retry.may_repeat(request.method)
        )

    async def _wait_for(self, request: Request, server: Server | None, tries: Tries | None) -> Server:
        """A server that was entered. *server* has no room; None: no server is up. Raises BackendError."""
        queue = self._queue
        pause = FIRST_PAUSE
        deadline: float | None = None
        until: float | None = None
        while True:
            while server is None:
                now = trio.current_time()
                if deadline is None:
                    deadline = (now if tries is None else tries.began) + self._hold.time
                if now >= deadline or self._hold.full:
                    raise self._none_is_up(now) if tries is None or tries.failure is None else tries.failure
                await self._hold.wait(pause, deadline)
                pause = min(2 * pause, LONGEST_PAUSE)
                server = self._group.choose(request, _NOBODY, trio.current_time())
            if server.has_room:
                server.enter(trio.current_time())
                return server
            if queue.full:
                raise self._too_busy(server, f"{len(queue.waiting)} requests wait already")
            if until is None:
                until = trio.current_time() + queue.time
            wanted = server if self._group.binds or tries is not None else None
            entered = await queue.wait(wanted, until)
            if entered is not None:
                return entered
            now = trio.current_time()
            if now >= until:
                raise self._too_busy(server, f"none of them became free in {queue.time:g} s")
            server = self._group.choose(request, _NOBODY, now)

    def _make_exchange(
        self,
        connection: UpstreamConnection,
        request: Request,
        responder: Responder,
        server: Server,
        switch: Switch | None,
        tries: Tries | None,
        began: float,
    ) -> Exchange:
        """The exchange over *connection* with *server*, in a try that has begun at *began*, after *tries*."""
        looks_out = self._looks_out and len(self._group.servers) > 1
        return Exchange(
            connection,
            request,
            responder,
            self.terms,
            address=server.name,
            switch=switch,
            unwanted=self._unwanted_of(request, tries, began) if self._statuses else None,
            lookout=self._lookout_for(request, server, tries, began) if looks_out else None,
            added=None if self._sticky is None else self._sticky.field_for(request, server),
        )

    def _unwanted_of(self, request: Request, tries: Tries | None, began: float) -> Unwanted | None:
        """The statuses for which there would be another try after the one that has begun at *began*."""
        if not self._may_follow(request, tries):
            return None
        return Unwanted(self._retry.status, (began if tries is None else tries.began) + self._retry.time)

    def _lookout_for(
        self, request: Request, server: Server, tries: Tries | None, began: float
    ) -> Lookout | None:
        """For a try at *server*, begun at *began*, after which there would be another."""
        # Of several that fail in the middle of a request the second is the last, unless a number is told.
        if (tries is not None and tries.sent and self._retry.tries is None) or not self._may_follow(
            request, tries
        ):
            return None
        return Lookout(
            self._group,
            server,
            _NOBODY if tries is None else tries.tried,
            seconds=self._retry.per_try,
            now=self._pump.now,
            until=(began if tries is None else tries.began) + self._retry.time,
        )

    def _may_follow(self, request: Request, tries: Tries | None) -> bool:
        """Whether there may be another try after the next one, if that one sends the request."""
        retry = self._retry
        count = 1 if tries is None else tries.count + 1
        return (
            count < (retry.tries or self._each_once())
            and retry.may_repeat(request.method)
            and can_rewind(request.body)
        )

    # --- after a try

    def _leave(
        self,
        server: Server,
        connection: UpstreamConnection | None,
        reusable: bool,
        failure: BackendError | None,
    ) -> None:
        """Give up the place at *server*, whose *failure* it may be; keep the *connection* if *reusable*."""
        if connection is not None:
            if reusable:
                server.pool.give_back(connection)
            else:
                connection.close()
        if failure is not None and is_fault(failure):
            # Before who waits gets the place: the server may be left out by this.
            self._group.failed(server, trio.current_time(), failure.detail)
            self.upkeep.doubt(server)
        server.leave()
        if self._queue.waiting:
            self._queue.grant(server)

    def _judge(self, server: Server, status: int, seconds: float) -> None:
        """A whole answer has come, the first byte of it after *seconds*."""
        if status in self._statuses:
            self._group.failed(server, self._pump.now, f"status {status}")
        elif seconds > self._group.slow:
            self._group.failed(server, self._pump.now, f"the first byte came after {seconds:.3f} s")
        else:
            self._group.succeeded(server, self._pump.now)

    def _may_repair(
        self,
        request: Request,
        stale: StaleConnectionError,
        server: Server,
        connection: UpstreamConnection,
    ) -> bool:
        """Whether the request may be sent again on a fresh connection; its body is rewound then."""
        refused = isinstance(stale, CannotShareError | UnreadError)
        if isinstance(stale, UnreadError):
            server.pool.find_ended(connection)
            if not self._is_awaited():
                return False
        elif isinstance(stale, CrowdedError):
            assert isinstance(connection.stream, RequestStream)
            connection.stream.find_crowded()
            if not server.makes_room():
                return False
        elif refused:
            server.refuses_sharing(connection)
            self._group.look_at_limits()
        else:
            self.upkeep.doubt(server)
        if not can_rewind(request.body) or not (refused or self._retry.may_repeat(request.method)):
            return False
        rewind(request.body)
        return True

    async def _allow_another(
        self,
        request: Request,
        responder: Responder,
        failure: BackendError,
        tries: Tries,
    ) -> None:
        """Return if there is another try after *failure*, once it may begin. Raises *failure* otherwise."""
        now = trio.current_time()
        # FAILED is a status that was not passed on, because there is another try (`_unwanted_of`).
        allowed = failure.cause is Cause.FAILED or self._retry.allows(
            failure,
            tries=tries.count,
            sent=tries.sent,
            servers=len(self._group.servers) if failure.phase is Phase.CONNECT else self._each_once(),
            seconds=now - tries.began,
            method=request.method,
            replayable=can_rewind(request.body),
        )
        deadline = tries.began + self._hold.time
        held = not allowed and failure.phase is Phase.CONNECT and now < deadline and not self._hold.full
        if not (allowed or held) or not responder.withdraw():
            raise failure
        if not tries.held:
            log.warning(
                "backend try failed",
                **failure.log_fields(),
                request_id=request.id,
                method=request.method,
                target=request.path,
                held=held,
            )
        if held:
            await self._hold.wait(tries.pause, deadline)
            tries.start_over()
        elif self._hold.time and failure.cause is not Cause.FAILED and len(self._group.servers) == 1:
            # A process that is killed takes connections until its last descriptor is closed.
            await trio.sleep(FIRST_PAUSE)  # noqa: TID251 - back-off: the kernel gives no event
        else:
            await trio.lowlevel.checkpoint()  # many that fail at once, one after the other, hold up nobody
        rewind(request.body)

    # --- failures

    def _not_replayable(self, server: Server, stale: StaleConnectionError) -> BackendError:
        if isinstance(stale, CrowdedError):
            return stale.failure
        detail = "the reused connection was closed, and the request cannot be sent again"
        if isinstance(stale, UnreadError):
            detail = "the process ended before it read the request, which cannot be sent again"
        return self._failed(Cause.TERMINATED, detail, server, Phase.FIRST_BYTE)

    def _none_is_up(self, now: float) -> BackendError:
        failures = [f"{server.name}: {server.health.last_failure}" for server in self._group.servers]
        return BackendError(
            Cause.UNAVAILABLE,
            f"no server is up ({'; '.join(failures)})",
            backend=self._backend,
            address=", ".join(server.name for server in self._group.servers),
            phase=Phase.QUEUE,
            retry_after=self._group.returns_in(now),
        )

    def _too_busy(self, server: Server, detail: str) -> BackendError:
        detail = f"all {server.limit} connections are in use, and {detail}"
        return self._failed(Cause.OVERLOADED, detail, server, Phase.QUEUE)

    def _failed(self, cause: Cause, detail: str, server: Server, phase: Phase) -> BackendError:
        return BackendError(cause, detail, backend=self._backend, address=server.name, phase=phase)


def _for_host(head: RequestHead | RequestVariables, authority: bytes) -> RequestHead:
    """*head*, whose first field is Host, with *authority* in it."""
    assert isinstance(head, RequestHead)
    return RequestHead(head.method, head.target, [(b"host", authority), *head.headers[1:]])
