"""HTTP servers as backends: HTTP/1.1 upstreams over pooled connections.

The path and query go on as the client sent them (RFC 9110 7.7) unless a mount is stripped; fields of the
client's connection do not (7.6.1). What the client says about earlier hops is not believed: the
``X-Forwarded-*`` fields are written anew, ``Forwarded`` is dropped (FWD-7).
"""

from collections.abc import Hashable
from typing import Final, Literal, TypeAlias
from urllib.parse import quote, unquote_to_bytes

import trio

from gateway.errors import RequestError
from gateway.request import IDEMPOTENT, Request, Responder
from gateway.upstream.upstream import Upstream
from protocols.errors import LocalProtocolError
from protocols.events import Headers, RequestHead
from protocols.memo import LONGEST_HEAD, Memo

HostPolicy: TypeAlias = Literal["preserve", "upstream"]
"""Which Host the upstream sees: the client's, or its own address."""

# RFC 9110 7.6.1: never passed on, whether Connection names them or not; and fields that only a trusted
# proxy may set, which are written anew.
_DROPPED: Final = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"forwarded",
        b"host",
        b"keep-alive",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"via",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-prefix",
        b"x-forwarded-proto",
    }
)


# RFC 9110 8.6: these have no body unless they say so, and need not say that they have none.
_BODILESS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "DELETE"})


class HttpBackend:
    """Implements `backend.Backend`."""

    def __init__(self, name: str, *, upstream: Upstream, host: HostPolicy = "preserve") -> None:
        self.name = name
        self._upstream = upstream
        self._host = host
        self._known_fields: Memo[Hashable, Headers] = Memo()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the pool of connections until cancelled."""
        await self._upstream.run(task_status=task_status)

    async def handle(self, request: Request, responder: Responder) -> None:
        """Pass the request on, and its answer back. Raises as `backend.Handler.handle` says."""
        length = request.body.length
        # RFC 9110 10.1.1: only with a body to wait for, and never from an HTTP/1.0 client.
        expects = length != 0 and request.version != "1.0" and request.header(b"expect") is not None
        head = self._head(request, length, expects)
        try:
            await self._upstream.exchange(
                request,
                responder,
                head,
                replayable=length == 0 and request.method in IDEMPOTENT,
                awaits_continue=expects,
            )
        except LocalProtocolError as error:
            raise RequestError(400, f"the request cannot be passed on: {error}") from error

    def _head(self, request: Request, length: int | None, expects: bool) -> RequestHead:
        if length != 0 or request.method not in _BODILESS:
            headers = self._fields(request, length, expects)
        else:
            # All that the fields depend on; clients say the same in each request (`protocols.memo`).
            connection = request.connection
            key = (
                tuple(request.headers),
                connection.client,
                connection.scheme,
                request.version,
                request.mount,
            )
            known = self._known_fields.get(key)
            if known is None:
                known = self._fields(request, 0, expects)
                if sum(len(name) + len(value) for name, value in known) <= LONGEST_HEAD:
                    self._known_fields.keep(key, known)
            headers = known
        return RequestHead(request.method.encode("ascii"), _target(request), headers)

    def _fields(self, request: Request, length: int | None, expects: bool) -> Headers:
        headers: Headers = []
        host = b""
        dropped = _DROPPED
        vias: list[bytes] = []
        announced: Headers = []
        takes_trailers = False
        for field in request.headers:
            name = field[0]
            if name not in dropped:
                # A name with "_" is a twin of one with "-" for many servers (complaints.md 34): it could
                # pass for a field that only a proxy may set. nginx drops them too.
                if b"_" not in name:
                    headers.append(field)
            elif name == b"connection":
                dropped = dropped.union(option.strip() for option in field[1].lower().split(b","))
            elif name == b"host":
                host = field[1]
            elif name == b"via":
                vias.append(field[1])
            elif name == b"trailer":
                announced.append(field)
            elif name == b"te":
                takes_trailers = takes_trailers or b"trailers" in field[1].lower()
        if dropped is not _DROPPED:
            # RFC 9110 7.6.1: also those that came before Connection named them.
            headers = [field for field in headers if field[0] not in dropped]
        headers.insert(0, (b"host", host if host and self._host == "preserve" else self._upstream.authority))
        if length is None:
            headers.append((b"transfer-encoding", b"chunked"))
            headers += announced  # RFC 9110 6.6.2: trailers are passed on in chunks only
        elif length or request.method in ("POST", "PUT", "PATCH"):
            headers.append((b"content-length", b"%d" % length))
        self._add_forwarded(headers, request, host)
        if expects:
            headers.append((b"expect", b"100-continue"))
        if takes_trailers:
            # RFC 9110 6.5.1, 10.1.4: said anew for each connection; gRPC servers insist on it.
            headers += [(b"te", b"trailers"), (b"connection", b"te")]
        vias.append(b"%b gateway" % request.version.encode())
        headers.append((b"via", b", ".join(vias)))
        return headers

    def _add_forwarded(self, headers: Headers, request: Request, host: bytes) -> None:
        connection = request.connection
        if connection.client is not None:
            headers.append((b"x-forwarded-for", connection.client[0].encode()))
        headers.append((b"x-forwarded-proto", connection.scheme.encode()))
        if host:
            headers.append((b"x-forwarded-host", host))
        if request.mount:
            headers.append((b"x-forwarded-prefix", quote(request.mount, errors="surrogateescape").encode()))


def _target(request: Request) -> bytes:
    """The request target for the upstream: as sent, without the mount."""
    path = request.raw_path
    if _has_dot_segments(request):
        # The routes have judged the path without them, so that is the one to ask for.
        path = _encoded(request.rest or "/")
    elif request.mount:
        # Where the mount is spelled plainly it is cut off; otherwise the rest is encoded anew.
        mount = request.mount.encode()
        if path.startswith(mount) and path[len(mount) : len(mount) + 1] in (b"/", b""):
            path = path[len(mount) :] or b"/"
        else:
            path = _encoded(request.rest or "/")
    return path + b"?" + request.query if request.query else path


def _has_dot_segments(request: Request) -> bool:
    raw_path = request.raw_path
    return (b"/." in raw_path or b"%" in raw_path) and (
        unquote_to_bytes(raw_path) != request.path.encode("utf-8", "surrogateescape")
    )


def _encoded(path: str) -> bytes:
    """RFC 3986 3.3: all that a path segment need not encode stays as it is."""
    return quote(path, safe="/:@!$&'()*+,;=~", errors="surrogateescape").encode()
