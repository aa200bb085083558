"""Runs an ASGI application of a test in a real AsgiBackend, with a real pump."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import pytest
import trio

from gateway.backends.asgi import AsgiBackend
from gateway.backends.asgi.settings import WebSocketSettings
from gateway.backends.load import Surroundings
from gateway.errors import StartError
from gateway.net.pump import Pump
from gateway.request import Request, Responder
from gateway.shutdown.notice import ShutdownNotice
from tests.gateway.served import handle_one, pumping

both_loops = pytest.mark.parametrize("loop", ["trio", "asyncio"])

_published = ModuleType("application_of_a_test")
sys.modules[_published.__name__] = _published


def published(app: Any) -> str:
    """The target that stands for *app*, until the next."""
    _published.app = app  # type: ignore[attr-defined]
    return f"{_published.__name__}:app"


def websocket_settings(**options: Any) -> WebSocketSettings:
    """How WebSockets are bounded."""
    usual: dict[str, Any] = {
        "max_message": 16 * 1024 * 1024,
        "ping_interval": 20.0,
        "ping_timeout": 20.0,
        "compression": True,
    }
    return WebSocketSettings(**{**usual, **options})


def make_backend(app: Any, pump: Pump, **options: Any) -> AsgiBackend:
    """A backend whose target is *app*, with *options* in place of what most tests want."""
    usual: dict[str, Any] = {
        "directory": None,
        "loop": "asyncio",
        "asyncio_debug": False,
        "factory": False,
        "lifespan": "off",
        "startup_timeout": None,
        "shutdown_timeout": 60.0,
        "websocket": websocket_settings(),
        "interface": "auto",
        "dropped_extensions": (),
        "response_debug": False,
        "notice": ShutdownNotice(),
        "surroundings": Surroundings(),
    }
    return AsgiBackend("api", target=published(app), pump=pump, **{**usual, **options})


@asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncIterator[AsgiBackend]:
    """*app* between the start and the stop of its backend."""
    async with pumping() as pump, trio.open_nursery() as backends:
        backend = make_backend(app, pump, **options)
        await backends.start(backend.run)
        yield backend
        backends.cancel_scope.cancel()


async def start_failure(app: Any, **options: Any) -> StartError:
    """With what the backend of *app* refuses to start, or ends."""
    async with pumping() as pump:
        with pytest.raises(StartError) as caught:
            await make_backend(app, pump, **options).run(task_status=trio.TASK_STATUS_IGNORED)
    return caught.value


async def start_error(app: Any, **options: Any) -> str:
    """The message of it."""
    return str(await start_failure(app, **options))


def handle(app: Any, request: Request, responder: Responder, **options: Any) -> None:
    """One request, from the start of the backend to its stop. Raises what ``handle`` raises."""
    handle_one(serving(app, **options), request, responder)


async def cancelled_before() -> trio.Cancelled:
    """What was raised in something that was cancelled, and that is not what goes on."""
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as cancelled:
            return cancelled
    raise AssertionError("not cancelled")


def answering(body: bytes = b"ok", **start: Any) -> Callable[..., Awaitable[None]]:
    """An application that always answers the same."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [], **start})
        await send({"type": "http.response.body", "body": body})

    return app
