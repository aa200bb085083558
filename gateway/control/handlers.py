"""What the control socket and the metrics listener answer."""

import json
from typing import Any, Final, Protocol

from gateway.errors import RequestError
from gateway.request import Request, Responder, respond
from gateway.router import Route, Router

METRICS_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
"""Of Prometheus' text format."""


class Measured(Protocol):
    """Who is asked for metrics."""

    async def metrics(self) -> bytes:
        """What it does, for Prometheus."""
        ...


class Daemon(Measured, Protocol):
    """Who is asked."""

    async def status(self) -> dict[str, Any]:
        """What it does, as JSON has it."""
        ...

    async def reload(self) -> tuple[list[str], int]:
        """Read the configuration and the applications again. Why it failed, and the exit status that fits."""
        ...

    def stop(self) -> None:
        """End as on SIGTERM: running requests have their grace."""
        ...


class _Status:
    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    async def handle(self, request: Request, responder: Responder) -> None:
        _only(request, "GET")
        await _respond_json(responder, 200, await self._daemon.status())


class _Stop:
    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    async def handle(self, request: Request, responder: Responder) -> None:
        _only(request, "POST")
        await respond(responder, 202, [(b"content-type", b"text/plain")], b"stopping\n")
        self._daemon.stop()


class _Reload:
    """Answers when the new workers serve: 200, or 409 with the reasons why they do not."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    async def handle(self, request: Request, responder: Responder) -> None:
        _only(request, "POST")
        reasons, status = await self._daemon.reload()
        await _respond_json(responder, 409 if reasons else 200, {"reasons": reasons, "status": status})


class _Metrics:
    def __init__(self, measured: Measured) -> None:
        self._measured = measured

    async def handle(self, request: Request, responder: Responder) -> None:
        _only(request, "GET")
        await respond(responder, 200, [(b"content-type", METRICS_TYPE)], await self._measured.metrics())


async def _respond_json(responder: Responder, status: int, value: object) -> None:
    body = json.dumps(value, indent=2).encode() + b"\n"
    await respond(responder, status, [(b"content-type", b"application/json")], body)


def _only(request: Request, method: str) -> None:
    allowed = {method, "HEAD"} if method == "GET" else {method}
    if request.method not in allowed:
        allow = [(b"allow", ", ".join(sorted(allowed)).encode())]
        raise RequestError(405, f"this takes {method}", headers=allow)


def control_router(daemon: Daemon) -> Router:
    """The control socket's: ``GET /status``, ``GET /metrics``, ``POST /reload``, ``POST /stop``."""
    return Router(
        [
            Route(_Status(daemon), paths=["/status"]),
            Route(_Metrics(daemon), paths=["/metrics"]),
            Route(_Reload(daemon), paths=["/reload"]),
            Route(_Stop(daemon), paths=["/stop"]),
        ]
    )


def metrics_router(measured: Measured) -> Router:
    """The metrics listener's: ``GET /metrics``."""
    return Router([Route(_Metrics(measured), paths=["/metrics"])])
