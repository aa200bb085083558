"""The configuration of web servers behind the gateway."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field

from gateway.config.backends.common import BackendModel, Upgrades
from gateway.config.backends.destination import HTTPDestination, is_spawn
from gateway.config.balancing import (
    KEEPING,
    Balanced,
    HTTPServer,
    Pool,
    check_contradictions,
    server_contradictions,
)
from gateway.config.base import Place, pointless
from gateway.config.rewriting import Cookies, RewriteLocation
from gateway.config.server_tls import SPAWNED_WITHOUT_TLS, tls_contradictions
from gateway.config.spawn import Spawn, SpawnedApp
from gateway.config.values.requests import HostPolicy


class HTTPBackend(BackendModel, Balanced):
    """A web server."""

    kind: ClassVar[str] = "http"

    destination: HTTPDestination = Field(alias="http")
    """Its URL without a path, such as http://127.0.0.1:3000 or https://app.example, several of them, or
    mappings with url, weight and backup; or spawn: a server to start."""
    host: HostPolicy | None = None
    """The Host that it sees: preserve what the client sent, upstream for the one in its URL, or another. By
    default preserve, and upstream if a URL is https."""
    rewrite_location: RewriteLocation = True
    """Whether redirects to the server's own URL are mapped back to what the client asked for; or mappings of
    URLs with begin and to, which come first (nginx: proxy_redirect)."""
    cookies: Cookies | None = None
    """What becomes of the cookies that it sets: path, domain, secure, http_only, same_site."""
    forwarded: Literal["x-forwarded", "forwarded", "both", "off"] = "x-forwarded"
    """How it is told who the client is: by X-Forwarded-*, by Forwarded (RFC 7239), by both, or not at all."""
    proxy_protocol: Literal["v1", "v2"] | None = None
    """v1 or v2: connections begin with a PROXY header that says whose request it is; each carries one."""
    pool: Pool = Field(default_factory=Pool)
    """How many connections there may be, and which are kept open; idle: 0 keeps none."""
    upgrade: Upgrades = ("websocket",)
    """Protocols that clients may switch to through a tunnel, if the server does; [] for none."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        destination = data.get("http")
        pool = data.get("pool")
        if data.get("proxy_protocol") is not None and isinstance(pool, dict):
            because = "with proxy_protocol no connection is kept: each is one client's"
            yield from pointless(pool, *KEEPING, because=because, below=("pool",))
        yield from check_contradictions(data.get("health"), pings=False, spawned=is_spawn(destination))
        if not is_spawn(destination):
            yield from server_contradictions("http", destination)
            yield from tls_contradictions("http", data)
            return
        if data.get("tls"):
            yield ("tls",), SPAWNED_WITHOUT_TLS
        if data.get("proxy_protocol") is not None:
            yield ("proxy_protocol",), "what is spawned is told of the client by the fields of the request"
        spawn = destination.get("spawn") if isinstance(destination, dict) else None
        if isinstance(spawn, dict) and "wsgi" in spawn:
            yield (
                ("http", "spawn", "wsgi"),
                "is served by fastcgi, scgi or uwsgi: expected one of them, or a command that serves HTTP",
            )

    @property
    def servers(self) -> tuple[HTTPServer, ...]:
        """Where the server listens; empty if the gateway spawns it."""
        return () if isinstance(self.destination, Spawn) else self.destination

    @property
    def spawn(self) -> SpawnedApp | None:
        """What to start, if the gateway spawns the server."""
        return self.destination.spawn if isinstance(self.destination, Spawn) else None
