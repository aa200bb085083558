"""Runs a WSGI application of a test in a real WsgiBackend, alone or behind the real HTTP/1.1 front."""

import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import trio

from gateway.backends.load import Surroundings
from gateway.backends.wsgi import WsgiBackend
from gateway.net.pump import Pump
from gateway.request import Request, Responder
from tests.gateway.conftest import make_intake
from tests.gateway.served import conversing, handle_one, pumping, service_of

_published = ModuleType("wsgi_application_of_a_test")
sys.modules[_published.__name__] = _published


def make_backend(app: Any, pump: Pump, **options: Any) -> WsgiBackend:
    """A backend whose target is *app*."""
    _published.app = app  # type: ignore[attr-defined]
    return backend_of(f"{_published.__name__}:app", pump, **options)


def backend_of(target: str, pump: Pump, **options: Any) -> WsgiBackend:
    """A backend with *options* in place of what most tests want."""
    usual: dict[str, Any] = {
        "directory": None,
        "threads": 8,
        "factory": False,
        "multiprocess": False,
        "intake": make_intake(),
        "slots": None,
        "stuck_after": 0.0,
        "surroundings": Surroundings(),
    }
    return WsgiBackend("admin", pump=pump, target=target, **{**usual, **options})


@asynccontextmanager
async def running(app: Any, pump: Pump, **options: Any) -> AsyncIterator[WsgiBackend]:
    """*app* between the start and the stop of its backend."""
    async with trio.open_nursery() as backends:
        backend = make_backend(app, pump, **options)
        await backends.start(backend.run)
        yield backend
        backends.cancel_scope.cancel()


@asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncIterator[WsgiBackend]:
    """The same, with a pump of its own."""
    async with pumping() as pump, running(app, pump, **options) as backend:
        yield backend


def handle(app: Any, request: Request, responder: Responder, **options: Any) -> None:
    """One request, from the start of the backend to its stop. Raises what ``handle`` raises."""
    handle_one(serving(app, **options), request, responder)


@asynccontextmanager
async def connected(app: Any, *, mount: str = "", **options: Any) -> AsyncIterator[trio.SocketStream]:
    """A client's connection to the HTTP/1.1 front with *app* behind it."""
    async with pumping() as pump, running(app, pump, **options) as backend:
        service = service_of(pump, backend, mount=mount)
        async with conversing(service, client=("192.0.2.7", 40000), server=("192.0.2.1", 80)) as client:
            yield client


def exchange(app: Any, request: bytes, **options: Any) -> bytes:
    """All that the front answers to *request*, which should end the connection."""
    answer = b""

    async def main() -> None:
        nonlocal answer
        async with connected(app, **options) as client:
            await client.send_all(request)
            async for data in client:
                answer += data

    trio.run(main)
    return answer


async def wait_for(event: threading.Event) -> None:
    """Wait in trio for what a thread sets; a failing test ends after ten seconds."""
    assert await trio.to_thread.run_sync(event.wait, 10, abandon_on_cancel=True)


def hello(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """The usual application."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
    return [b"Hello, world!"]
