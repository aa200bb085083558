"""What a front hands to the router and a backend: the Request, its Body, and the Responder.

Every front makes a :class:`Request` and implements :class:`Responder`; every backend reads the one and
answers through the other. So any front works with any backend::

    front ─► Request ─► router ─► backend.handle(request, responder)
    front ◄─ Responder ◄──────────┘
"""

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from gateway.protocols.events import Headers

if TYPE_CHECKING:
    from gateway.tls.facts import TlsFacts

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""RFC 9110 9.2.2: methods of which asking again does not change what was meant."""

PIECE: Final = 64 * 1024
"""Bytes of a request body in one piece: one read, the size of a pipe, one FastCGI record."""

LARGE_PIECE: Final = 256 * 1024
"""The same for applications in this process: each piece costs turns of a loop, or a change of threads."""

FLUSH_BYTES: Final = 64 * 1024
"""Response bytes gathered before they are sent although more is at hand: one read's worth."""

MAX_INFORMATIONAL: Final = 64
"""1xx responses of one request that are passed on (H-11). Any number may come (RFC 9110 15.2), but one that
never ends them would never be found too slow. WebDAV's 102 every 20 s lasts for twenty minutes."""

Address: TypeAlias = tuple[str, int] | tuple[str, None] | None
"""(numeric host, port); (path, None) for a Unix socket; None if the peer has no address."""


class Body(Protocol):
    """The request body, read once, in order."""

    @property
    def length(self) -> int | None:
        """Bytes in all, 0 if there is no body, None if unknown until it ends (chunked)."""
        ...

    @property
    def trailers(self) -> Headers:
        """The trailer fields that may be passed on (`protocols.trailers`), once the body has ended."""
        ...

    def read_nowait(self, most: int = PIECE, /) -> bytes | None:
        """The next piece that is here already; ``b""`` at the end; None if it must be waited for.

        About *most* bytes at most: what has been received is not cut.
        """
        ...

    async def read(self) -> bytes:
        """The next piece, at most 64 KiB or what one read gave; ``b""`` at the end, for good.

        Raises RequestError (400, 408, 413) if the body is malformed, late or too large, ClientGone if the
        client closed the connection before it was complete, and MachineError if it was stored and is lost.
        """
        ...


class NoBody:
    """The body of a request without one."""

    __slots__ = ()
    length = 0

    @property
    def trailers(self) -> Headers:
        return []

    def read_nowait(self, most: int = PIECE) -> bytes:
        return b""

    async def read(self) -> bytes:
        return b""


NO_BODY = NoBody()


class Connection:
    """Facts about the client's connection that outlive one request."""

    __slots__ = ("client", "environ", "scheme", "server", "tls")

    def __init__(
        self, *, client: Address, server: Address, scheme: str = "http", tls: "TlsFacts | None" = None
    ) -> None:
        self.client = client
        self.server = server
        self.scheme = scheme
        self.tls = tls
        """What was agreed on between client and gateway; None on a connection in clear text."""
        self.environ: dict[str, str] | None = None
        """The CGI variables that all requests of the connection share: None at first, filled and used by
        ``build_environ``."""


class ForwardedConnection(Connection):
    """The facts about a client for whom a trusted proxy speaks.

    The server is that of the proxy's connection: it is where the request came in. There are no facts about
    TLS: what was agreed on there was agreed on with the proxy, and its certificate is not the client's.
    """

    __slots__ = ("hops", "host", "position", "proxy", "proxy_scheme")

    def __init__(
        self,
        *,
        client: Address,
        scheme: str,
        server: Address,
        proxy: Address,
        proxy_scheme: str,
        hops: list[Address],
        position: int,
        host: bytes | None,
    ) -> None:
        super().__init__(client=client, server=server, scheme=scheme)
        self.proxy = proxy
        """Who is at the other end of the connection, without a port."""
        self.proxy_scheme = proxy_scheme
        """The scheme of the proxy's connection."""
        self.hops = hops
        """All whom the request has come through as the proxy says, the farthest first, without itself."""
        self.position = position
        """Which of the hops is the client: those in front of it are its own claims."""
        self.host = host
        """The Host that the client has asked for, if `Forwarded` tells it."""


class Duplex(Protocol):
    """Bytes both ways, after a switch of protocols. One task may receive and one may send."""

    on_drain: Callable[[], None] | None
    """Called once, synchronously, when the daemon begins to stop: what runs has its grace from then on."""
    on_disconnect: Callable[[], None] | None
    """Called once, synchronously, when the client has ended its side or broken the connection or stream, of
    which something may still be unread: for those who may not come to read its end."""

    @property
    def draining(self) -> bool:
        """Whether the daemon was stopping already when the switch was made, or is now."""
        ...

    @property
    def disconnected(self) -> bool:
        """Whether the client had ended its side already when the switch was made, or has now."""
        ...

    def begin_grace(self) -> None:
        """As far as the handler's protocol goes the client has left: the handler is cancelled when
        ``timeouts.disconnect_grace`` has passed since the last call.
        """
        ...

    async def receive(self) -> bytes:
        """Some bytes; ``b""`` once the client has ended its side. Raises ClientGone.

        Cancelling it loses nothing.
        """
        ...

    def try_send(self, data: bytes) -> int:
        """Send what can be sent without waiting; how many bytes that is, perhaps none. Raises ClientGone."""
        ...

    async def send(self, data: bytes) -> None:
        """Send all of *data*, as fast as the client reads. Raises ClientGone."""
        ...

    async def end(self) -> None:
        """End this side; receiving goes on. Raises ClientGone."""
        ...


class Upgrade(Protocol):
    """A client's offer to speak another protocol on its connection or stream."""

    @property
    def protocol(self) -> str:
        """What it offers, lower-case: ``websocket`` (RFC 9110 7.8; RFC 8441 ``:protocol``). ``""`` is for
        CONNECT (RFC 9110 9.3.6), which does not say what will be spoken.
        """
        ...

    @property
    def accepted(self) -> bool:
        """Whether there is a tunnel: many offers are not taken (``h2c``, of each request of some clients)."""
        ...

    async def accept(self, headers: Headers) -> Duplex:
        """Answer 101 (HTTP/1.1, RFC 9110 7.8) or 200 (HTTP/2, RFC 8441; CONNECT) with *headers*; HTTP ends
        here.

        The front adds what its version of HTTP needs to switch, and ends the connection or stream when
        the handler returns; if it raises, in a way that the client takes for no orderly end. Raises
        ClientGone.
        """
        ...


class Request:
    """One request, as the client meant it.

    ``path`` is percent-decoded (UTF-8, undecodable bytes as surrogate escapes), without ``.`` and
    ``..`` segments, and starts with ``/`` (or is ``*`` for OPTIONS, or empty for CONNECT). ``raw_path`` and
    ``query`` are the bytes of the target as sent: host and port for CONNECT. ``headers`` have lower-case
    names, in order, duplicates kept. ``host`` is the authority without its port, lower-case. ``Forwarded``
    and ``X-Forwarded-*`` are among the headers only if a trusted proxy has sent them.
    """

    __slots__ = (
        "_id",
        "backend",
        "body",
        "connection",
        "headers",
        "host",
        "method",
        "mount",
        "path",
        "path_rest",
        "push",
        "query",
        "raw_path",
        "route_headers",
        "tries",
        "upgrade",
        "upstream_address",
        "upstream_time",
        "variables",
        "version",
    )

    def __init__(
        self,
        *,
        method: str,
        path: str,
        raw_path: bytes,
        query: bytes,
        version: str,
        headers: Headers,
        host: str,
        connection: Connection,
        body: Body = NO_BODY,
    ) -> None:
        self.method = method
        self.path = path
        self.raw_path = raw_path
        self.query = query
        self.version = version
        self.headers = headers
        self.host = host
        self.connection = connection
        self.body = body
        self.upgrade: Upgrade | None = None
        """Set by the front if the client offers another protocol; a handler may accept it instead of
        answering. Such a request has no body, and WebSocket is offered by GET only in HTTP/1.1."""
        # Set by the router when a route has won.
        self.mount = ""
        """The prefix that belongs to the route, ``""`` or ``/x/y``: SCRIPT_NAME, root_path."""
        self.path_rest = ""
        """What ``*`` of the route's pattern matched, for ``{path.rest}``."""
        self.backend = ""
        """Name of the backend that the route chose, for the logs."""
        self.push: Callable[[bytes, Headers], bool] | None = None
        """Set by the front if the client takes responses that it has not asked for (HTTP/2 push): promises
        the one to a GET of that target with those fields, which goes through the routes like any other
        request; False if it cannot be pushed now."""
        self.variables: dict[str, str] | None = None
        """CGI variables from an authorizer (FastCGI 6.3), native strings; they win over header variables."""
        self.route_headers: Headers | None = None
        """The headers without what the rules of the backend have made of them, if it has any: where it
        redirects the request to is no business of theirs."""
        # Set by the backend.
        self.upstream_time: float | None = None
        """Seconds until its response was complete, for the logs: with waiting, and with failed tries."""
        self.upstream_address = ""
        """Of the server that was asked last, if the backend is behind sockets."""
        self.tries = 0
        """How many times a server was asked."""
        self._id: str | None = None

    @property
    def id(self) -> str:
        """A random id, made when it is first asked for: most requests never need one."""
        if self._id is None:
            self._id = secrets.token_hex(8)
        return self._id

    @property
    def known_id(self) -> str | None:
        """The id, if it was asked for."""
        return self._id

    def adopt_id(self, known: str) -> None:
        """Be called *known*, by which the request is known elsewhere."""
        self._id = known

    def share_id(self, other: "Request") -> None:
        """For the client and the logs this request and *other*, from which it was made, are one."""
        self._id = other.id

    @property
    def subject(self) -> str:
        """What it is about, for people: the path, or the host and port of CONNECT."""
        return self.path or self.raw_path.decode("latin-1")

    @property
    def rest(self) -> str:
        """The path below the mount: PATH_INFO."""
        return self.path[len(self.mount) :]

    def header(self, name: bytes) -> bytes | None:
        """The value of the first field called *name* (lower-case), or None."""
        for field, value in self.headers:
            if field == name:
                return value
        return None


class Responder(Protocol):
    """Where the answer goes.

    ``start``, ``write`` and ``end`` only queue; ``flush`` sends what is queued, and waiting for it is
    the back-pressure. Flush before waiting for anything else, and after ``end``; then a small response
    leaves in one system call. ``end`` before the first flush lets the front know the whole length.

    ``try_flush`` is the same without waiting, for callers that are not trio tasks.

    ``on_disconnect`` is called once, synchronously, when the client has closed its side. A half-closed
    client may still read its answer (RFC 9112 9.6), so the call goes on; it is cancelled when
    ``timeouts.disconnect_grace`` has passed. So it is when the client breaks the connection or resets the
    stream, if the handler has set ``on_disconnect``; otherwise it is cancelled at once.
    """

    on_disconnect: Callable[[], None] | None

    @property
    def disconnected(self) -> bool:
        """Whether the client has closed its side of the connection."""
        ...

    @property
    def started(self) -> bool:
        """Whether ``start`` was called: too late for another answer."""
        ...

    def withdraw(self) -> bool:
        """Take back an answer of which nothing was sent; whether (another) one may be started now."""
        ...

    async def inform(self, status: int, headers: Headers) -> None:
        """Send a 1xx response at once; nothing is sent to an HTTP/1.0 client (RFC 9110 15.2).

        Fields as for ``start``.
        """
        ...

    def try_respond(self, status: int, headers: Headers, body: bytes, reason: bytes = b"") -> bool:
        """``start``, ``write``, ``end`` and ``try_flush`` of a whole response in one call."""
        ...

    def start(self, status: int, headers: Headers, reason: bytes = b"") -> None:
        """Begin the final response.

        Connection-level fields in *headers* are dropped; over HTTP/1 a Connection that says close is heeded.
        Raises LocalProtocolError for a field name or value that HTTP cannot carry; the response has not
        begun then.
        """
        ...

    def write(self, data: bytes) -> None:
        """Queue some of the body. Dropped where no body may be sent (HEAD, 204, 304).

        Raises ResponseAborted if it is more than the Content-Length promised.
        """
        ...

    async def write_file(self, descriptor: int, offset: int, count: int) -> None:
        """Send *count* bytes of an open regular file, by the kernel where that is possible.

        Raises ResponseAborted if the file turns out to be shorter, MachineError if it cannot be read.
        """
        ...

    def end(self, trailers: Headers | None = None) -> None:
        """The response is complete. Raises ResponseAborted if it is less than Content-Length promised."""
        ...

    def try_flush(self) -> bool:
        """Send what the kernel takes now; True if nothing is left. Raises ClientGone."""
        ...

    async def flush(self) -> None:
        """Send all that is queued, as fast as the client reads. Raises ClientGone."""
        ...


async def respond(
    responder: Responder, status: int, headers: Headers, body: bytes = b"", reason: bytes = b""
) -> None:
    """Send a whole response."""
    if not responder.try_respond(status, headers, body, reason):
        await responder.flush()
