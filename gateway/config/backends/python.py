"""The configuration of Python applications, inside the daemon or in processes of their own."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field, field_validator

from gateway.config.backends.common import BackendModel, WithLength
from gateway.config.base import Model, Place, queue_contradictions, written
from gateway.config.env_file import merged
from gateway.config.on_use import OnUse
from gateway.config.values.files import Directory
from gateway.config.values.numbers import Count, CountOrNone, Flag, Threads
from gateway.config.values.programs import EnvFile, Environment, Lifespan, ObjectName, VirtualEnvironment
from gateway.config.values.quantities import Duration, Limit, Timeout
from gateway.config.values.shapes import Many, Short
from gateway.virtualenv import site_packages

if TYPE_CHECKING:
    from gateway.config.backends.process import OwnProcess
else:
    OwnProcess = Annotated[Any, OnUse("gateway.config.backends.process", "OwnProcess")]


def _process(value: Any) -> Any:
    if value == "shared":
        return None
    return {} if value == "own" else value


class PythonApplication(Model):
    """What applications have in common that are imported."""

    directory: Directory = written(".")
    """Where its modules are imported from; by default the directory of this file."""
    factory: Flag = False
    """Whether the attribute is a function that makes the application."""
    virtualenv: VirtualEnvironment | None = None
    """A virtual environment whose packages it uses; of the Python version that runs the gateway."""
    env: Environment = Field(default_factory=dict)
    """Variables that are set before it is imported. Applications in the gateway's own process share them."""
    env_file: Annotated[tuple[EnvFile, ...], Many()] = ()
    """Files of NAME=VALUE lines (.env) that are set too; later files and env win."""
    process: Annotated[
        OwnProcess | None, Short(_process, {"enum": ["own", "shared"]}, "shared, own, or a mapping")
    ] = written("shared")
    """shared: it runs in the process that serves clients; own: in a process of its own, that the gateway
    starts and supervises, or a mapping that says how."""

    @field_validator("virtualenv")
    @classmethod
    def _of_our_version(cls, path: Path | None) -> Path | None:
        if path is not None:
            site_packages(path)
        return path

    @property
    def variables(self) -> dict[str, str]:
        """All that is set for it."""
        return merged(*self.env_file, self.env)


Extension: TypeAlias = Literal[
    "http.response.early_hint",
    "http.response.pathsend",
    "http.response.push",
    "http.response.trailers",
    "http.response.zerocopysend",
]


class WebSocket(Model):
    """WebSocket connections to an application."""

    max_message: Limit = written("16MiB")
    """Bytes of a message; more closes the connection with code 1009."""
    ping_interval: Duration = written("20s")
    """From the last pong of the client to the next ping; 0 sends none."""
    ping_timeout: Timeout = written("20s")
    """For the client to answer a ping, before the connection is closed."""
    compression: Flag = True
    """Whether messages are compressed (permessage-deflate) where the client offers it."""


class ASGIBackend(PythonApplication, BackendModel):
    """An ASGI application."""

    kind: ClassVar[str] = "asgi"

    app: ObjectName = Field(alias="asgi")
    """The application, module:attribute."""
    interface: Literal["auto", "asgi3", "asgi2"] = "auto"
    """Of ASGI 3 the application is called once, of ASGI 2 twice; auto: as its signature shows."""
    loop: Literal["asyncio", "trio"] = "asyncio"
    """The event loop that the application is written for."""
    asyncio_debug: Flag = False
    """asyncio's debug mode, as PYTHONASYNCIODEBUG=1: slow steps and forgotten awaits are logged."""
    lifespan: Lifespan = "auto"
    """Whether it is told of start and stop: on, off, or auto: if it wants to be."""
    startup_timeout: Timeout | None = None
    """For the application to complete its start. By default as long as it takes: the log tells of it."""
    shutdown_timeout: Timeout = written("60s")
    """For the application to complete its stop; not after a second signal."""
    websocket: WebSocket = Field(default_factory=WebSocket)
    """Bounds of its WebSocket connections."""
    concurrency: Count | None = None
    """Requests and WebSocket connections that it has at the same time; by default any number (uvicorn:
    limit_concurrency). Further ones wait."""
    queue: CountOrNone = 100
    """Requests that may wait, with concurrency; more are answered 503 at once, with Retry-After."""
    queue_time: Timeout = written("10s")
    """How long one may wait, before it is answered 503."""
    drop_extensions: Annotated[tuple[Extension, ...], Many()] = ()
    """Extensions of ASGI that are not offered to the application, because something in it does not know
    them: a middleware that knows no pathsend, behind which a framework sends files so. When a GET has got no
    response at all, pathsend is not offered any more."""
    response_debug: Flag = False
    """For tests: whether http.response.debug is offered to the application; what it says is logged."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        yield from super().contradictions(data)
        if data.get("loop") == "trio" and data.get("asyncio_debug"):
            yield ("asyncio_debug",), "the application runs on trio"
        yield from queue_contradictions(data, bound="concurrency")


class WSGIBackend(PythonApplication, WithLength):
    """A WSGI application, on threads."""

    kind: ClassVar[str] = "wsgi"

    app: ObjectName = Field(alias="wsgi")
    """The application, module:attribute."""
    threads: Threads = 8
    """Requests and WebSockets that run at the same time; further ones wait."""
    queue: CountOrNone | None = None
    """Requests that may wait for a thread; more are answered 503 at once, with Retry-After. By default any
    number."""
    queue_time: Timeout | None = None
    """How long one may wait, before it is answered 503. By default as long as its client does."""
    stuck_after: Duration = written("60s")
    """A request that its thread has worked at for so long is told about in the log, with what the thread is
    doing, and again when it ends; waiting for the client does not count. 0: never."""
