"""The connection scope of a request (ASGI-6) or a WebSocket (ASGI-14), and what it announces (EXT-1)."""

import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from gateway.backends.asgi.host import Scope
from gateway.backends.asgi.shutdown_wait import ShutdownWait
from gateway.protocols.websocket.handshake import offered_subprotocols
from gateway.request import Address, Request
from gateway.target import judged_path

Extensions: TypeAlias = dict[str, dict[str, Any]]

SPEC_VERSION: Final = "2.5"
"""Of the HTTP and WebSocket message format; 2.4 brought OSError from `send`."""

_ASGI: Final = {"version": "3.0", "spec_version": SPEC_VERSION}

SHUTDOWN: Final = "gateway.shutdown"
"""The extension of our own: ``wait``, a function whose awaitable is done when the daemon begins to stop."""

PATHSEND: Final = "http.response.pathsend"

_GZIP: Final = "starlette.middleware.gzip"
"""The module of a middleware past which such files go uncompressed. Starlette itself does not import it."""

BACKEND: Final = "gateway.backend"
"""The other one: ``name``, by which the configuration knows the application."""


def http_scope(request: Request, state: dict[str, Any], extensions: Extensions) -> Scope:
    """The connection scope of *request*; *state* is the lifespan's, copied shallowly."""
    connection = request.connection
    path = request.path
    mount = request.mount
    if not path.isascii():
        path = _replace_surrogates(path)
        mount = _replace_surrogates(mount)
    scope: Scope = {
        "type": "http",
        "asgi": _ASGI.copy(),
        "http_version": request.version,
        "method": request.method,
        "scheme": connection.scheme,
        "path": path,
        # "Unmodified", says ASGI. But Sanic routes by it, and takes `/admin/../x` for a path in its `/admin`,
        # which the routes have not judged.
        "raw_path": judged_path(request.raw_path, request.path),
        "query_string": request.query,
        "root_path": mount,
        "headers": request.headers,
        "client": _host_and_port(connection.client),
        "server": connection.server,
        "state": state.copy(),
        "extensions": extensions,
    }
    if connection.tls is not None:
        extensions["tls"] = connection.tls.extension()
    return scope


def websocket_scope(request: Request, state: dict[str, Any], extensions: Extensions) -> Scope:
    """The connection scope (ASGI-14); *state* is the lifespan's, copied shallowly."""
    scope = http_scope(request, state, extensions)
    del scope["method"]
    scope["type"] = "websocket"
    scope["scheme"] = "wss" if request.connection.scheme == "https" else "ws"
    scope["subprotocols"] = offered_subprotocols(request.headers)
    return scope


def _host_and_port(client: Address) -> Address:
    # A client on a Unix socket has no host; only `server` may be a path (ASGI HTTP spec, scope).
    return None if client is None or client[1] is None else client


def _replace_surrogates(path: str) -> str:
    """Bytes that are not UTF-8 as U+FFFD: an application could not encode a lone surrogate."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class HttpExtensions:
    """What applications may do besides, by the client's version of HTTP; made once (EXT-1).

    *backend* is the name of the application, *wait* for the notice that the daemon stops. *dropped* are not
    offered; with *debug* that is which is for tests only.
    """

    __slots__ = ("_http10", "_http11", "_pushing")

    def __init__(
        self, backend: str, wait: Callable[[], Awaitable[None]], *, dropped: frozenset[str], debug: bool
    ) -> None:
        http10: Extensions = {
            PATHSEND: {},
            "http.response.zerocopysend": {},
            SHUTDOWN: {"wait": ShutdownWait(wait)},
            BACKEND: {"name": backend},
        }
        if debug:
            http10["http.response.debug"] = {}
        # HTTP/1.0 has neither informational responses nor trailers.
        http11: Extensions = {
            **http10,
            "http.response.early_hint": {},
            "http.response.trailers": {},
        }
        pushing: Extensions = {**http11, "http.response.push": {}}
        self._http10 = _without(http10, dropped)
        self._http11 = _without(http11, dropped)
        self._pushing = _without(pushing, dropped)

    def of(self, request: Request) -> Extensions:
        """Those of one request, which may add its own."""
        if request.push is not None:
            extensions = self._pushing.copy()
        else:
            extensions = (self._http10 if request.version == "1.0" else self._http11).copy()
        # Behind servers that know no pathsend files are compressed, scripts to a third or a quarter; those
        # for clients that take no gzip have a Vary, without which caches would give them to all.
        if _GZIP in sys.modules:
            extensions.pop(PATHSEND, None)
        return extensions

    def withdraw(self, name: str) -> bool:
        """Offer *name* to no further request; whether it was offered until now."""
        withdrawn = False
        for extensions in (self._http10, self._http11, self._pushing):
            withdrawn = extensions.pop(name, None) is not None or withdrawn
        return withdrawn


def _without(extensions: Extensions, dropped: frozenset[str]) -> Extensions:
    return {name: value for name, value in extensions.items() if name not in dropped}
