"""The configuration of Python applications inside the daemon."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field

from gateway.config.backends.common import BackendModel, WithLength
from gateway.config.base import Model, Place, written
from gateway.config.values.files import Directory
from gateway.config.values.numbers import Count, CountOrNone, Flag
from gateway.config.values.programs import Lifespan, ObjectName
from gateway.config.values.quantities import Duration, Limit, Timeout


class WebSocket(Model):
    """WebSocket connections to an application."""

    max_message: Limit = written("16MiB")
    """Bytes of a message; more closes the connection with code 1009."""
    ping_interval: Duration = written("20s")
    """From a sign of life of the client to the next ping; 0 sends none."""
    ping_timeout: Timeout = written("20s")
    """For the client to answer a ping, before the connection is closed."""
    compression: Flag = True
    """Whether messages are compressed (permessage-deflate) where the client offers it."""


class ASGIBackend(BackendModel):
    """An ASGI 3 application inside the daemon."""

    kind: ClassVar[str] = "asgi"

    app: ObjectName = Field(alias="asgi")
    """The application, module:attribute."""
    directory: Directory = written(".")
    """Where its modules are imported from; by default the directory of this file."""
    factory: Flag = False
    """Whether the attribute is a function that makes the application."""
    interface: Literal["auto", "asgi3", "asgi2"] = "auto"
    """Of ASGI 3 the application is called once, of ASGI 2 twice; auto: as its signature shows."""
    loop: Literal["asyncio", "trio"] = "asyncio"
    """The event loop that the application is written for."""
    asyncio_debug: Flag = False
    """asyncio's debug mode, as PYTHONASYNCIODEBUG=1: slow steps and forgotten awaits are logged."""
    lifespan: Lifespan = "auto"
    """Whether it is told of start and stop: on, off, or auto: if it wants to be."""
    startup_timeout: Timeout = written("60s")
    """For the application to complete its start."""
    shutdown_timeout: Timeout = written("60s")
    """For the application to complete its stop."""
    websocket: WebSocket = Field(default_factory=WebSocket)
    """Bounds of its WebSocket connections."""
    concurrency: Count | None = None
    """Requests and WebSocket connections that it has at the same time; by default any number (uvicorn:
    limit_concurrency). Further ones wait."""
    queue: CountOrNone = 100
    """Requests that may wait; more are answered 503 at once. With concurrency."""
    queue_time: Timeout = written("10s")
    """How long one may wait, before it is answered 503. With concurrency."""
    response_debug: Flag = False
    """For tests: whether http.response.debug is offered to the application; what it says is logged."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        yield from super().contradictions(data)
        if data.get("loop") == "trio" and data.get("asyncio_debug"):
            yield ("asyncio_debug",), "the application runs on trio"
        for key in ("queue", "queue_time"):
            if key in data and data.get("concurrency") is None:
                yield (key,), "without concurrency no request waits"


class WSGIBackend(WithLength):
    """A WSGI application inside the daemon, on threads."""

    kind: ClassVar[str] = "wsgi"

    app: ObjectName = Field(alias="wsgi")
    """The application, module:attribute."""
    directory: Directory = written(".")
    """Where its modules are imported from; by default the directory of this file."""
    factory: Flag = False
    """Whether the attribute is a function that makes the application."""
    threads: Count = 8
    """Requests that run at the same time; further ones wait."""
    queue: CountOrNone | None = None
    """Requests that may wait for a thread; more are answered 503 at once, with Retry-After. By default any
    number."""
    queue_time: Timeout | None = None
    """How long one may wait, before it is answered 503. By default as long as its client does."""
    stuck_after: Duration = written("60s")
    """A request that its thread has worked at for so long is told about in the log, with what the thread is
    doing, and again when it ends; waiting for the client does not count. 0: never."""
