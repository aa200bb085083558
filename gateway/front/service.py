"""What every front shares: where requests go, what bounds them, and how failures are answered."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from gateway.errors import BackendError, ClientGone, RequestError, ResponseAborted
from gateway.failure import plain_response, response_for
from gateway.front.caps import ConnectionCaps
from gateway.front.proxies import TrustedProxies
from gateway.pump import Pump
from gateway.request import Request, Responder, respond
from gateway.router import Route, Router

log = structlog.get_logger()

AccessLog = Callable[[Request, int, int, float], None]
"""Called after each request with (request, status, bytes of body sent, seconds it took)."""


@dataclass(slots=True, frozen=True)
class Timeouts:
    """How long a client may take, in seconds."""

    header: float = 10.0
    """From the first byte of a request's head to its last."""
    body: float = 30.0
    """Between two reads of the body."""
    send: float = 60.0
    """Between two writes that the client takes."""
    keep_alive: float = 75.0
    """Between two requests on one connection."""
    disconnect_grace: float = 3.0
    """What a request may go on for after its client closed its side of the connection."""


@dataclass(slots=True, frozen=True)
class Limits:
    """How much a client may send."""

    request_line: int = 8 * 1024
    headers: int = 64 * 1024
    header_count: int = 100
    body: int = 1024 * 1024 * 1024


@dataclass(slots=True)
class Service:
    """One for the whole worker."""

    pump: Pump
    router: Router
    timeouts: Timeouts
    limits: Limits
    access_log: AccessLog | None = None
    proxies: TrustedProxies = field(default_factory=TrustedProxies)
    """Whose word about other clients counts."""
    caps: ConnectionCaps = field(default_factory=ConnectionCaps)
    """How many connections there may be."""
    draining: bool = False
    """The daemon is stopping: answer what runs, keep no connection."""

    async def dispatch(self, request: Request, responder: Responder) -> None:
        """Route *request* and let its handler answer. Raises GatewayError, and what bugs raise."""
        await (self.router.match(request) or _UNROUTED).handler.handle(request, responder)

    async def answer_failure(self, error: Exception, request: Request, responder: Responder) -> bool:
        """Log *error* as its kind deserves, and answer with it if no answer has begun.

        False if the connection must be cut. Lets nothing out but cancellation.
        """
        if isinstance(error, ClientGone):
            return False
        answerable = responder.withdraw()
        _log_failure(error, request, answered=answerable)
        if not answerable:
            return False
        failure = response_for(error)
        try:
            await respond(responder, failure.status, failure.headers, failure.body)
        except (ClientGone, ResponseAborted):
            return False
        return not (isinstance(error, RequestError) and error.close)


class _NotFound:
    """Answers what no route matches."""

    async def handle(self, request: Request, responder: Responder) -> None:
        failure = plain_response(404, "no route of this server matches the request")
        await respond(responder, failure.status, failure.headers, failure.body)


_UNROUTED: Final = Route(_NotFound())


def _log_failure(error: Exception, request: Request, *, answered: bool) -> None:
    match error:
        case BackendError():
            log.error(
                "backend failed",
                backend=error.backend,
                address=error.address,
                phase=error.phase.value,
                cause=error.cause.value,
                detail=error.detail,
                request_id=request.id,
                method=request.method,
                target=request.path,
                answered=answered,
            )
        case RequestError() | ResponseAborted():
            log.info(
                "request failed",
                reason=str(error),
                method=request.method,
                target=request.path,
                backend=request.backend or None,
            )
        case _:
            log.error("request crashed", request_id=request.id, target=request.path, exc_info=error)
