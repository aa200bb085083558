"""What every front shares: where requests go, what bounds them, and how failures are answered."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from gateway.errors import (
    BackendError,
    ClientGone,
    GatewayError,
    MachineError,
    NoRoute,
    RequestError,
    ResponseAborted,
    TargetError,
)
from gateway.failure.pages import FailurePages
from gateway.failure.response import FailureResponse, response_for
from gateway.front.caps import ConnectionCaps
from gateway.front.hsts import HstsResponder, with_hsts
from gateway.front.proxies import TrustedProxies
from gateway.front.tally import Tally
from gateway.logger import get_logger
from gateway.net.pump import Pump
from gateway.protocols.events import RequestHead
from gateway.request import Connection, Request, Responder, respond
from gateway.router import Router
from gateway.runtime.exhaustion import shortage_in

log = get_logger()

NOT_ANSWERED: Final = 499
"""Status in the access log of a request whose client went before the answer began (nginx's number)."""

DRAINED_BYTES: Final = 256 * 1024
"""An unread body up to this size is read so that the connection can go on; beyond, closing is cheaper."""

GATHERED_BYTES: Final = 64 * 1024
"""A body up to this size is waited for before its request is handled.

Many clients send a head and its body one after the other (Python's http.client). A handler that has begun
would have to wait for the second: for a thread or an asyncio loop that costs as much as a request, and a
server behind the gateway would be written to twice.
"""

GATHERING_TIME: Final = 0.1
"""Seconds that this may take, and up to a turn of the pump's sweeper: after them a client may want an answer
before it goes on."""

_SETTINGS: Final = {
    408: "timeouts.header",
    413: "limits.body",
    414: "limits.request_line",
    431: "limits.headers, limits.header_count",
}
"""By status: what decides about the heads of requests, and the lengths that they tell."""

AccessLog = Callable[[Request, int, int, float], None]
"""Called after each request with (request, status, bytes of body sent, seconds it took)."""


@dataclass(slots=True, frozen=True)
class Timeouts:
    """How long a client may take, in seconds."""

    handshake: float = 10.0
    """For a TLS handshake, in all."""
    header: float = 10.0
    """From the first byte of a request's head to its last."""
    body: float = 30.0
    """Between two reads of the body, and in all beyond what `Limits.min_rate` asks for."""
    send: float = 30.0
    """Between two writes that the client takes, and in all beyond what `Limits.min_rate` asks for."""
    keep_alive: float = 75.0
    """Between two requests on one connection."""
    disconnect_grace: float = 3.0
    """What a request may go on for after its client closed its side of the connection."""
    tunnel: float = 3600.0
    """Between two pieces of data, either way, once the connection was upgraded; inf for no limit."""
    linger: float = 5.0
    """Between two reads after our last byte (nginx: lingering_timeout)."""
    linger_total: float = 30.0
    """From our last byte to the close (nginx: lingering_time)."""
    stopping: float = 2.0
    """When the daemon stops, for the rest of a head that has begun to come, and from our last byte to the
    close."""


@dataclass(slots=True, frozen=True)
class Limits:
    """How much a client may send."""

    request_line: int = 8 * 1024
    headers: int = 64 * 1024
    header_count: int = 100
    body: int = 1024 * 1024 * 1024
    streams: int = 100
    """Requests of one HTTP/2 connection at a time."""
    min_rate: int = 240
    """Bytes per second of a body, either way (Kestrel's MinRequestBodyDataRate); 0 for no minimum."""


class FrontResponder(Responder, Protocol):
    """The Responder of a front, which knows how far the response is."""

    ended: bool
    status: int
    """0 before it begins."""
    body_sent: int
    """Bytes."""


@dataclass(slots=True)
class Service:
    """One for the whole worker."""

    pump: Pump
    router: Router
    timeouts: Timeouts
    limits: Limits
    access_log: AccessLog | None = None
    tally: Tally | None = None
    """Counts statuses and times of requests, if somebody can ask for them."""
    proxies: TrustedProxies = field(default_factory=TrustedProxies)
    """Whose word about other clients counts."""
    hsts: bytes | None = None
    """Strict-Transport-Security for all responses that have none."""
    caps: ConnectionCaps = field(default_factory=ConnectionCaps)
    """How many connections there may be."""
    closing: bool = False
    """No connection is kept beyond its next response, which says so: another process takes over, or none."""
    draining: bool = False
    """The daemon is stopping: answer what runs, and wait for no more requests."""
    failure_pages: FailurePages = field(default_factory=FailurePages)

    async def dispatch(self, request: Request, responder: Responder) -> None:
        """Route *request* and let its handler answer. Raises GatewayError, and what bugs raise."""
        if self.hsts is not None:
            responder = HstsResponder(responder, self.hsts)
        route = self.router.match(request)
        if route is None:
            if not request.path:
                raise RequestError(403, "no route of this server lets this client connect there")
            raise NoRoute(self.router.in_words)
        await route.handler.handle(request, responder)

    async def answer_failure(self, error: Exception, request: Request, responder: FrontResponder) -> bool:
        """Log *error* as its kind deserves, and answer with it if no answer has begun.

        False if the connection must be cut. Lets nothing out but cancellation.
        """
        if isinstance(error, ClientGone):
            return False
        if (shortage := shortage_in(error)) is not None:
            # The gateway itself has met it, such as in loading a module that it uses for the first time.
            error = MachineError(503, "the request cannot be served now", cause=shortage)
        answerable = responder.withdraw()
        _log_failure(error, request, answered=answerable)
        try:
            if answerable:
                failure = response_for(error, request, self.failure_pages, route=self._route_of(request))
                headers = failure.headers if self.hsts is None else with_hsts(failure.headers, self.hsts)
                await respond(responder, failure.status, headers, failure.body)
            elif request.method == "HEAD" and not responder.ended:
                # RFC 9110 9.3.2: with its head it is whole, whatever became of the body.
                responder.end()
                await responder.flush()
            else:
                return False
        except (ClientGone, ResponseAborted):
            return False
        finally:
            if isinstance(error, GatewayError):
                # Who has kept it to raise it later is in there: until the collector runs nothing of the
                # request would be freed. (Of an application's errors the frames are its own.)
                error.__traceback__ = None
        return not (isinstance(error, RequestError) and error.close)

    async def answer_unfinished(self, request: Request, responder: FrontResponder) -> bool:
        """`answer_failure` for a handler that has returned before its response was complete."""
        error = RuntimeError("the handler returned before its response was complete")
        return await self.answer_failure(error, request, responder)

    def tell_of(self, request: Request, responder: FrontResponder, started_at: float) -> None:
        """*request* is over, which began to come at *started_at*: for the access log and the metrics."""
        if self.access_log is None and self.tally is None:
            return
        seconds = trio.current_time() - started_at
        status = responder.status or NOT_ANSWERED
        if self.access_log is not None:
            self.access_log(request, status, responder.body_sent, seconds)
        if self.tally is not None:
            self.tally.add(request, status, seconds)

    def refuse(
        self, status: int, detail: str, connection: Connection, head: RequestHead | None
    ) -> FailureResponse:
        """Log what cannot become a Request, and the response to it; *head* if it could be read."""
        nameless = Request(
            method="",
            path="",
            raw_path=b"",
            query=b"",
            version="1.1",
            headers=[] if head is None else head.headers,
            host="",
            connection=connection,
        )
        facts = {} if head is None else {"method": _text(head.method), "target": _text(head.target)}
        if setting := _SETTINGS.get(status):
            facts["setting"] = setting
        self.log_refusal(detail, connection, status=status, request_id=nameless.id, **facts)
        return response_for(RequestError(status, detail), nameless, self.failure_pages)

    def log_refusal(self, reason: str, connection: Connection, **facts: object) -> None:
        """Log what cannot become a Request, where requests are: whoever sends many fills no other log."""
        if self.access_log is not None:
            client = connection.client and connection.client[0]
            log.info("request refused", client=client, reason=reason, **facts)

    def _route_of(self, request: Request) -> str:
        """The route of *request* in words, for the developer: looked for once more, it is the same."""
        route = self.router.match(request) if self.failure_pages.debug else None
        return route.in_words if route is not None else ""


def _text(part: bytes) -> str:
    return part.decode("ascii", "backslashreplace")


def _log_failure(error: Exception, request: Request, *, answered: bool) -> None:
    match error:
        case TargetError():
            # Chosen by the client: nothing that the operator has to mend.
            log.info(
                "tunnel failed",
                **error.log_fields(),
                request_id=request.id,
                answered=answered,
            )
        case BackendError():
            log.error(
                "backend failed",
                **error.log_fields(),
                request_id=request.id,
                method=request.method,
                target=request.subject,
                answered=answered,
            )
        case MachineError():
            log.error(
                "request failed",
                reason=error.detail,
                cause=str(error.cause),
                request_id=request.id,
                method=request.method,
                target=request.subject,
            )
        case RequestError() | ResponseAborted():
            log.info(
                "request failed",
                reason=str(error),
                request_id=request.id,
                method=request.method,
                target=request.subject,
                backend=request.backend or None,
                **({"setting": error.setting} if isinstance(error, RequestError) and error.setting else {}),
            )
        case _:
            log.error("request crashed", request_id=request.id, target=request.subject, exc_info=error)
