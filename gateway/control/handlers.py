"""What the control socket and the metrics listener answer."""

import json
import os
import signal

import structlog

from gateway.control.metrics import CONTENT_TYPE, Metrics
from gateway.control.state import Worker
from gateway.errors import RequestError
from gateway.request import Request, Responder, respond
from gateway.router import Route, Router

log = structlog.get_logger()


class _Status:
    """The state of the worker as JSON."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def handle(self, request: Request, responder: Responder) -> None:
        _only(request, "GET")
        body = json.dumps(self._worker.describe(), indent=2).encode() + b"\n"
        await respond(responder, 200, [(b"content-type", b"application/json")], body)


class _Stop:
    """Ends the daemon as SIGTERM does: running requests have their grace."""

    async def handle(self, request: Request, responder: Responder) -> None:
        _only(request, "POST")
        await respond(responder, 202, [(b"content-type", b"text/plain")], b"stopping\n")
        os.kill(os.getpid(), signal.SIGTERM)


class _Metrics:
    """For Prometheus."""

    def __init__(self, worker: Worker) -> None:
        self._metrics = Metrics(worker)

    async def handle(self, request: Request, responder: Responder) -> None:
        _only(request, "GET")
        await respond(responder, 200, [(b"content-type", CONTENT_TYPE)], self._metrics.text())


def _only(request: Request, method: str) -> None:
    allowed = {method, "HEAD"} if method == "GET" else {method}
    if request.method not in allowed:
        allow = [(b"allow", ", ".join(sorted(allowed)).encode())]
        raise RequestError(405, f"this takes {method}", headers=allow)


def control_router(worker: Worker) -> Router:
    """The control socket's: ``GET /status``, ``GET /metrics``, ``POST /stop``."""
    return Router(
        [
            Route(_Status(worker), paths=["/status"]),
            Route(_Metrics(worker), paths=["/metrics"]),
            Route(_Stop(), paths=["/stop"]),
        ]
    )


def metrics_router(worker: Worker) -> Router:
    """The metrics listener's: ``GET /metrics``."""
    return Router([Route(_Metrics(worker), paths=["/metrics"])])
