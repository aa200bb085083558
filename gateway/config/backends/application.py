"""The configuration of applications behind FastCGI, SCGI and uwsgi."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from gateway.config.backends.common import CGIFamily, DroppedHeaders, Upgrades
from gateway.config.backends.destination import SocketDestination, is_spawn
from gateway.config.balancing import (
    KEEPING,
    Balanced,
    Connections,
    Pool,
    Server,
    check_contradictions,
    server_contradictions,
)
from gateway.config.base import Model, Place, pointless, queue_contradictions, written
from gateway.config.server_tls import SPAWNED_WITHOUT_TLS, tls_contradictions
from gateway.config.spawn import Spawn, SpawnedApp
from gateway.config.values.files import FileName, FilePath
from gateway.config.values.numbers import Byte, Flag, Number
from gateway.config.values.quantities import BufferSize, Limit, Timeout
from gateway.config.values.shapes import Switched
from gateway.config.values.texts import Regex


class _SocketBackend(CGIFamily, Balanced):
    pings: ClassVar[bool] = False
    """Whether the protocol has a sign of life."""

    destination: SocketDestination

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        kind = cls.kind
        destination = data.get(kind)
        if not is_spawn(destination):
            yield from server_contradictions(kind, destination)
            yield from tls_contradictions(kind, data)
        elif data.get("tls"):
            yield ("tls",), SPAWNED_WITHOUT_TLS
        yield from check_contradictions(data.get("health"), pings=cls.pings, spawned=is_spawn(destination))

    @property
    def servers(self) -> tuple[Server, ...]:
        """Where the application listens; empty if the gateway spawns it."""
        return () if isinstance(self.destination, Spawn) else self.destination

    @property
    def spawn(self) -> SpawnedApp | None:
        """What to start, if the gateway spawns the application."""
        return self.destination.spawn if isinstance(self.destination, Spawn) else None


class Multiplex(Model):
    """Several requests at the same time on a connection."""

    requests: Annotated[int, Number(1, 65535)] = 16
    """Requests at the same time on each connection (HAProxy: max-reqs), or FCGI_MAX_REQS, if that is less."""
    buffer: Limit = written("256KiB")
    """Bytes of a response that wait for a client which reads slowly, before the others of the connection wait
    for it too."""
    stall: Timeout = written("5s")
    """How long, in all, a client may keep the others of its connection waiting; then its response is broken
    off."""


class FastCGIPool(Pool):
    """As `Pool`: how many connections there may be can also be what the application says."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        return iter(())


class FastCGIBackend(_SocketBackend):
    """A FastCGI application."""

    kind: ClassVar[str] = "fastcgi"

    destination: SocketDestination = Field(alias="fastcgi")
    """Its address, several of them, or mappings with address, weight and backup; or spawn: an application
    to start."""
    role: Literal["responder", "authorizer"] = "responder"
    """What the application is: a responder answers requests, an authorizer decides about those of routes that
    say so (authorize)."""
    preset: Literal["php-fpm"] | None = None
    """php-fpm: a script below root for each request; its peculiarities are respected."""
    root: FilePath | None = None
    """The directory of the scripts, as the application sees it; without it there is no SCRIPT_FILENAME."""
    split: FileName | None = None
    """How the name of a script ends, behind which PATH_INFO begins; .php if there is a root."""
    index: FileName | None = None
    """The script for a path that ends with a slash; index.php if there is a root."""
    keep_connection: Flag = False
    """Whether connections are used again. An application that serves one connection per process
    (php-fpm) is blocked by idle ones, so they are closed by default."""
    multiplex: Annotated[Multiplex | None, Switched("requests, buffer or stall")] = None
    """Whether several requests are sent over a connection at the same time (HAProxy: mpxs-conns): true, or a
    mapping. With keep_connection, for applications that say that they can; they are asked (get_values)."""
    get_values: Flag = False
    """Whether the application is asked how many connections and requests it takes (FCGI_GET_VALUES), over a
    connection of its own; there are no more then (HAProxy: get-values)."""
    pool: FastCGIPool = Field(default_factory=FastCGIPool)
    """How many connections there may be; with keep_connection, which are kept open."""
    catch_stderr: Regex | None = None
    """A regular expression: a line of the error stream that it matches before the response has begun makes it
    a 502 (nginx: fastcgi_catch_stderr)."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        yield from super().contradictions(data)
        for key in ("split", "index"):
            if data.get(key) is not None and data.get("root") is None:
                yield (key,), f"scripts are looked for below a root: {key} needs root"
        pool = data.get("pool")
        if isinstance(pool, dict):
            if not data.get("keep_connection"):
                because = "without keep_connection: true no connection is kept"
                yield from pointless(pool, *KEEPING, because=because, below=("pool",))
            if not (data.get("get_values") or data.get("multiplex")):
                yield from queue_contradictions(pool, bound="connections", below=("pool",))
        if data.get("role") == "authorizer" and data.get("root") is not None:
            yield ("root",), "an authorizer runs no scripts: it has no SCRIPT_NAME (FastCGI 6.3)"
        if data.get("multiplex"):
            if data.get("preset") == "php-fpm":
                yield (
                    ("multiplex",),
                    "a process of php-fpm takes one request at a time, on a connection of its own",
                )
            elif not data.get("keep_connection"):
                yield (
                    ("multiplex",),
                    "only a connection that is kept can be shared: expected keep_connection: true",
                )
        if data.get("preset") == "php-fpm":
            if data.get("root") is None:
                yield ("preset",), "php-fpm runs scripts below a root: expected root"
            if data.get("body") == "stream":
                # php/php-src#7509: the script sees an empty body.
                yield ("body",), "php-fpm loses a body that has no length: expected spool or reject"

    @property
    def script_split(self) -> str | None:
        """How a script's name ends; None if there is no root."""
        return None if self.root is None else self.split or ".php"

    @property
    def script_index(self) -> str | None:
        """The script of a directory; None if there is no root."""
        return None if self.root is None else self.index or "index.php"


class SCGIBackend(_SocketBackend):
    """An SCGI application."""

    kind: ClassVar[str] = "scgi"

    destination: SocketDestination = Field(alias="scgi")
    """Its address, several of them, or mappings with address, weight and backup; or spawn: an application
    to start."""
    pool: Connections = Field(default_factory=Connections)
    """How many connections there may be; each serves one request."""


class UWSGIBackend(_SocketBackend):
    """An application that speaks the uwsgi protocol."""

    kind: ClassVar[str] = "uwsgi"
    pings: ClassVar[bool] = True

    destination: SocketDestination = Field(alias="uwsgi")
    """Its address, several of them, or mappings with address, weight and backup; or spawn: an application
    to start."""
    buffer_size: BufferSize = written(65535)
    """The application's own buffer-size (uWSGI: 4096 by default); what is larger is answered 431."""
    drop_headers: DroppedHeaders = ()
    """Header fields that are left out, in this order, of a request that is larger, such as [Cookie]."""
    modifier1: Byte = 0
    """Which plugin of the application handles the request; 0 is WSGI."""
    modifier2: Byte = 0
    """A detail for that plugin."""
    upgrade: Upgrades = ("websocket",)
    """Protocols that clients may switch to through a tunnel, if the application does; [] for none."""
    pool: Connections = Field(default_factory=Connections)
    """How many connections there may be; each serves one request."""
