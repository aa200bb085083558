"""The whole configuration: what is said once for the daemon, and what its parts say of each other."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PrivateAttr

from gateway.config.backends.kinds import Backend
from gateway.config.base import Model, Place, written
from gateway.config.clients import ClientLimits, ClientTimeouts
from gateway.config.listeners import Listener, aimless_redirects, shared_addresses, untrusted_headers
from gateway.config.routes import Route
from gateway.config.values.addresses import Client, ControlSocket, Listen, Nameserver
from gateway.config.values.files import Destination, ErrorPageFile, StatusPattern
from gateway.config.values.numbers import Flag, Workers
from gateway.config.values.quantities import Duration, parse_size
from gateway.config.values.shapes import AtLeastOne, Many, Switched
from gateway.config.values.texts import Name
from gateway.config.wording import NOT_YET, show, suggestion


class AccessLog(Model):
    """One line for each request."""

    format: Literal["auto", "json", "text", "combined"] = "auto"
    """json, text, combined as Apache and nginx have it, or auto: text on a terminal, JSON lines elsewhere."""
    destination: Destination = written("stderr")
    """stderr, stdout, or the path of a file that lines are appended to."""


class Config(Model):
    """A configuration file."""

    later: ClassVar[dict[str, str]] = {
        "tests": f"tests in the configuration are {NOT_YET}",
    }

    listeners: Annotated[tuple[Listener, ...], AtLeastOne()]
    """Where clients are accepted."""
    workers: Workers = written(1)
    """Processes that serve; auto is one for each core."""
    access_log: Annotated[AccessLog | None, Switched("format and destination")] = written(True)
    """true, false, or where the log of requests goes and in which format."""
    debug: Flag = False
    """true, for development: error pages tell everything, and debug events of the gateway are logged too."""
    blocked_after: Duration = written("1s")
    """An ASGI application that blocks the event loop for so long is named in the log, with its request and
    its stack; with debug: true for a quarter of it. 0: never."""
    error_pages: dict[StatusPattern, ErrorPageFile] = Field(default_factory=dict)
    """Files for the gateway's own errors, by status (404) or class (5xx): templates. Not with debug: true."""
    control: ControlSocket | None = None
    """The Unix socket of gateway status, reload and stop, such as unix:/run/gateway/control.sock. Whoever may
    write to it may stop the daemon: only its own user may."""
    metrics: Listen | None = None
    """Where Prometheus gets /metrics, such as 127.0.0.1:9145."""
    resolver: Annotated[tuple[Nameserver, ...], Many()] = ()
    """Name servers that are asked for the names of backends, such as 127.0.0.1:5353; by default those of
    /etc/resolv.conf."""
    trusted_proxies: Annotated[tuple[Client, ...], Many()] = ()
    """Networks (or unix) of the proxies in front, whose word counts about who the client is. What others say
    in Forwarded and X-Forwarded-* is dropped."""
    forwarded: Literal["x-forwarded", "forwarded"] = "x-forwarded"
    """How trusted proxies tell who the client is: by X-Forwarded-For and X-Forwarded-Proto, or by Forwarded
    (RFC 7239). The fields of the other kind are dropped."""
    via: Name = "gateway"
    """The name of the gateway in the Via of requests to web servers; each start adds a random part, by which
    the gateway recognises its own requests."""
    timeouts: ClientTimeouts = Field(default_factory=ClientTimeouts)
    """Waiting for clients, by phase."""
    limits: ClientLimits = Field(default_factory=ClientLimits)
    """Sizes of requests."""
    backends: dict[Name, Backend] = Field(default_factory=dict)
    """The applications and servers, by name."""
    routes: Annotated[tuple[Route, ...], AtLeastOne()]
    """In order; the first that matches wins."""

    _route_places: tuple[str, ...] = PrivateAttr(default=())

    def largest_body(self, own: int | None) -> int:
        """Bytes that a request body may have: *own*, or else what holds for all (`limits.body`)."""
        return self.limits.body if own is None else own

    @property
    def route_places(self) -> tuple[str, ...]:
        """``file:line`` of each route, for people; empty if the configuration did not come from a file."""
        return self._route_places

    def remember_route_places(self, places: tuple[str, ...]) -> None:
        """Called once, by the loader: a model does not see where its data stood."""
        self._route_places = places

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        yield from _unknown_backends(data.get("routes"), data.get("backends"))
        yield from _wrong_roles(data.get("routes"), data.get("backends"))
        yield from shared_addresses(data.get("listeners"))
        if not data.get("trusted_proxies"):
            yield from untrusted_headers(data.get("listeners"))
        yield from aimless_redirects(data.get("listeners"))
        yield from _bodies_in_vain(data)


# ---- routes and backends


def _unknown_backends(routes: Any, backends: Any) -> Iterator[tuple[Place, str]]:
    names = list(backends) if isinstance(backends, dict) else []
    known = f"expected one of {', '.join(names)}" if names else "there are no backends"
    for position, route in enumerate(routes if isinstance(routes, list) else []):
        for place, name in _named_backends(route):
            if name not in names:
                yield (
                    ("routes", position, *place),
                    f"there is no backend {show(name)}; {suggestion(name, names) or known}",
                )


def _named_backends(route: Any) -> Iterator[tuple[Place, str]]:
    """The names of backends in a route, and where they stand."""
    if not isinstance(route, dict):
        return
    action = route.get("backend")
    for name in action if isinstance(action, dict) else [action]:
        if isinstance(name, str):
            yield (("backend", name) if isinstance(action, dict) else ("backend",)), name
    for key in ("authorize", "forward_auth", "mirror"):
        name = route.get(key)
        place: Place = (key,)
        if isinstance(name, dict):
            name, place = name.get("backend"), (key, "backend")
        if isinstance(name, str):
            yield place, name


def _wrong_roles(routes: Any, backends: Any) -> Iterator[tuple[Place, str]]:
    """Authorizers answer no client, and others cannot do what they do."""
    authorizers = {
        name
        for name, backend in (backends.items() if isinstance(backends, dict) else ())
        if isinstance(backend, dict) and backend.get("role") == "authorizer"
    }
    names = list(backends) if isinstance(backends, dict) else []
    for position, route in enumerate(routes if isinstance(routes, list) else []):
        for place, name in _named_backends(route):
            if name not in names:
                continue
            if place == ("authorize",) and name not in authorizers:
                problem = f"{show(name)} is not a fastcgi backend with role: authorizer"
                yield ("routes", position, *place), problem
            elif place != ("authorize",) and name in authorizers:
                problem = f"{show(name)} is an authorizer: it decides, for authorize, and answers no request"
                yield ("routes", position, *place), problem


# ---- bodies


def _bodies_in_vain(data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
    """A backend or filter that takes more than clients may send."""
    limits = data.get("limits")
    written_limit = limits.get("body") if isinstance(limits, dict) else None
    default = ClientLimits.model_fields["body"].default
    limit = _size(default if written_limit is None else written_limit)
    for place, value in _body_bounds(data):
        own = _size(value)
        if limit is not None and own is not None and own > limit:
            shown = f"{default} by default" if written_limit is None else written_limit
            yield place, f"clients may send less: expected at most limits.body ({shown}), got {show(value)}"


def _body_bounds(data: dict[str, Any]) -> Iterator[tuple[Place, Any]]:
    backends, routes = data.get("backends"), data.get("routes")
    for name, backend in backends.items() if isinstance(backends, dict) else ():
        if isinstance(backend, dict):
            yield ("backends", name, "max_body"), backend.get("max_body")
    for position, route in enumerate(routes if isinstance(routes, list) else []):
        for key in ("request_buffering", "mirror"):
            settings = route.get(key) if isinstance(route, dict) else None
            if isinstance(settings, dict):
                yield ("routes", position, key, "max_body"), settings.get("max_body")


def _size(value: Any) -> int | None:
    try:
        return parse_size(value)
    except ValueError:
        return None
