"""Active health checks: whether a server is well, asked of the server itself.

::

    each server: interval ─► connect ─► a question ─► well? ── `fall` times not ──► down (`Health.mark_down`)
                    ▲                                  │ ───── `rise` times ──────► up   (`Health.mark_up`)
                    └──────────────────────────────────┘

A question is a request by the backend's own protocol, or what the protocol has for a sign of life. Each goes
over a connection of its own, so that it finds out what a new request would, and disturbs none.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import trio

from gateway.errors import BackendError
from gateway.logger import get_logger
from gateway.net.pump import overslept
from gateway.net.stream import PumpStream
from gateway.protocols.codec import ClientCodec
from gateway.protocols.errors import ProtocolError
from gateway.protocols.events import (
    NEED_DATA,
    Data,
    EndOfMessage,
    LocalRedirect,
    RequestHead,
    RequestVariables,
    ResponseHead,
)
from gateway.upstream.group import ServerGroup, watch_each
from gateway.upstream.health import is_ours
from gateway.upstream.server import Server

MAX_AT_ONCE: Final = 16
"""Checks of one backend that run at a time; further ones wait for their turn."""

BODY_LIMIT: Final = 64 * 1024
"""Bytes of an answer's body that are read: one read's worth, far more than such answers have."""

_JITTER: Final = 0.1
"""Part of the interval by which one is longer or shorter, so that the checks of many do not come together."""

Head: TypeAlias = RequestHead | RequestVariables

log = get_logger()


class Unwell(Exception):
    """The answer is not that of a server that is well; the message says why."""


class Question(ABC):
    """What is asked over a fresh connection."""

    __slots__ = ()

    @abstractmethod
    async def ask(self, stream: PumpStream, authority: str) -> None:
        """Ask the server whose Host is *authority*.

        Raises Unwell, ProtocolError, BrokenResourceError, TooSlowError.
        """


class RequestQuestion(Question):
    """A request, whose answer must have one of *statuses* and, if *body* is not empty, contain that."""

    __slots__ = ("_body", "_make_codec", "_make_head", "_statuses")

    def __init__(
        self,
        make_codec: Callable[[], ClientCodec],
        make_head: Callable[[str], Head],
        *,
        statuses: frozenset[int],
        body: bytes,
    ) -> None:
        """*make_head* gets the authority of the server."""
        self._make_codec = make_codec
        self._make_head = make_head
        self._statuses = statuses
        self._body = body

    async def ask(self, stream: PumpStream, authority: str) -> None:
        codec = self._make_codec()
        await stream.send_all(codec.send(self._make_head(authority)) + codec.send(EndOfMessage()))
        body = b""
        while len(body) < BODY_LIMIT:
            event = codec.next_event()
            if event is NEED_DATA:
                codec.receive_data(await stream.receive_some())
            elif isinstance(event, ResponseHead):
                self._judge(event.status)
            elif isinstance(event, LocalRedirect):
                self._judge(302)  # what it would be if a client saw it (RFC 3875 6.2.2)
            elif isinstance(event, Data):
                body += event.data
            elif isinstance(event, EndOfMessage):
                break
        if self._body not in body:
            raise Unwell(f"the answer does not have {self._body.decode('utf-8', 'replace')!r}")

    def _judge(self, status: int) -> None:
        if status not in self._statuses:
            raise Unwell(f"status {status}")


class PingQuestion(Question):
    """A packet, to which the protocol has one answer."""

    __slots__ = ("_ping", "_pong")

    def __init__(self, ping: bytes, pong: bytes) -> None:
        self._ping = ping
        self._pong = pong

    async def ask(self, stream: PumpStream, authority: str) -> None:
        await stream.send_all(self._ping)
        answer = b""
        while len(answer) < len(self._pong):
            data = await stream.receive_some()
            if not data:
                raise Unwell("the connection was closed before an answer to the ping")
            answer += data
        if answer != self._pong:
            raise Unwell("something else came than the answer to the ping")


@dataclass(frozen=True, slots=True)
class CheckPolicy:
    """How often a server is asked, and how often it must be well or not to be believed. Times in seconds."""

    interval: float
    timeout: float
    """For connecting and the whole answer."""
    rise: int
    fall: int
    starts_down: bool
    """Whether a server gets no request before the first check has found it well."""


class Checker:
    """Asks the servers of one backend."""

    __slots__ = ("_backend", "_down", "_places", "_policy", "_question", "_up")

    def __init__(
        self,
        backend: str,
        question: Question,
        policy: CheckPolicy,
        *,
        up: Callable[[Server], None],
        down: Callable[[Server], None],
    ) -> None:
        """*up* is called with a server that is up again, *down* with one that is down."""
        self._backend = backend
        self._question = question
        self._policy = policy
        self._up = up
        self._down = down
        self._places = trio.Semaphore(MAX_AT_ONCE)

    async def run(self, group: ServerGroup) -> None:
        """Check all servers of *group*, each as long as it is one, until cancelled."""
        await watch_each(group, self._watch)

    async def _watch(self, server: Server, group: ServerGroup) -> None:
        policy = self._policy
        standing = Standing(policy)
        while server in group.servers:
            async with self._places:
                reason = await self._find_fault(server)
            if reason == "":
                if standing.well():
                    server.health.mark_up(trio.current_time())
                    log.info("server is up", backend=self._backend, address=server.name)
                    self._up(server)
            elif reason is not None and standing.unwell():
                server.health.mark_down(f"health check: {reason}")
                log.warning("server is down", backend=self._backend, address=server.name, reason=reason)
                self._down(server)
            pause = policy.interval * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
            await trio.sleep(pause)  # noqa: TID251 - the clock of the checks

    async def _find_fault(self, server: Server) -> str | None:
        """Why *server* is not well, empty if it is; None if that could not be found out."""
        deadline = trio.current_time() + self._policy.timeout
        try:
            with trio.fail_at(deadline):
                stream = await server.dialer.dial()
                try:
                    await self._question.ask(stream, server.dialer.authority.decode())
                finally:
                    stream.close()
        except BackendError as failed:
            return None if is_ours(failed) else failed.detail
        except trio.TooSlowError:
            if overslept(deadline):
                return None
            return f"no whole answer in {self._policy.timeout:g} s"
        except (Unwell, ProtocolError, trio.BrokenResourceError) as unwell:
            return str(unwell)
        return ""


class Standing:
    """What the last checks of a server add up to."""

    __slots__ = ("_count", "_policy", "_up")

    def __init__(self, policy: CheckPolicy) -> None:
        self._policy = policy
        self._up = not policy.starts_down
        # Checks in a row that say otherwise; of a server that starts down the first one decides.
        self._count = policy.rise - 1 if policy.starts_down else 0

    def well(self) -> bool:
        """A check has found it well; whether it is up again by that."""
        return self._found(True, self._policy.rise)

    def unwell(self) -> bool:
        """A check has not; whether it is down by that."""
        return self._found(False, self._policy.fall)

    def _found(self, up: bool, enough: int) -> bool:
        self._count = 0 if up is self._up else self._count + 1
        if self._count < enough:
            return False
        self._up = up
        self._count = 0
        return True
