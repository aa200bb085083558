"""Guards: another backend decides whether a request may go on.

A FastCGI authorizer (FastCGI 6.3, FCGI-21) sees the request without its body and answers 200, with variables
for the application, or with the response for the client. Any other backend is asked for a path of its own
(`forward_auth`, as Caddy and Traefik have it) and answers 2xx, with fields that are copied to the request, or
with the response for the client.

The head of the answer decides. The body of a "yes" is dropped; as much of it is awaited as keeps the guard's
connection for the next request, and no more (nginx's auth_request awaits nothing). What the guard says "no"
with goes to the client as it is; a guard that fails before it has said either lets nobody in, nor does one
that answers with a local redirect. The path that it is told has no dot segments, whatever the client has
written: it is the one that the routes have judged. For CONNECT the gateway is a proxy, and the guard need not
know: it gets Proxy-Authorization as Authorization, and its 401 is the client's 407 (RFC 9110 11.7).
"""

from collections.abc import Sequence
from math import inf
from typing import Final

import trio

from gateway.backend import Handler
from gateway.derived import SideRequest, derive
from gateway.errors import BackendError
from gateway.filters.end_to_end import end_to_end
from gateway.passing import PassingResponder
from gateway.protocols.events import Headers
from gateway.protocols.fastcgi import authorizer_variables
from gateway.protocols.hop_by_hop import HOP_BY_HOP
from gateway.request import Request, Responder
from gateway.target import decode_path, judged_path, split_target
from gateway.template import Template

# The guard gets no body, and what the client has of the application's answers says nothing about its own.
_NOT_ASKED: Final = HOP_BY_HOP | frozenset(
    {
        b"content-encoding",
        b"content-length",
        b"expect",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"range",
    }
)

DROPPED_BYTES: Final = 64 * 1024
DROPPED_SECONDS: Final = 1.0
"""How much of the body of a "yes" is awaited; then the connection to the guard is closed."""

# What these say is the gateway's to know, whatever a proxy in front has passed on.
_TOLD: Final = frozenset({b"x-forwarded-method", b"x-forwarded-uri"})


class AuthorizerFilter:
    """Lets *authorizer*, a FastCGI backend of that role, decide; its ``Variable-*`` become variables."""

    def __init__(self, handler: Handler, *, authorizer: Handler, name: str) -> None:
        """*name* is the authorizer's, for the logs."""
        self._handler = handler
        self._authorizer = authorizer
        self._name = name

    async def handle(self, request: Request, responder: Responder) -> None:
        path = request.path
        target = judged_path(request.raw_path, path)
        asked = _without_body(request, request.method, path, target, request.query, self._name)
        asked.mount = request.mount
        verdict = _verdict(request, responder, {200})
        await verdict.ask(self._authorizer, asked)
        if verdict.granted is None:
            return
        request.variables = authorizer_variables(verdict.granted)
        await self._handler.handle(request, responder)


class ForwardAuthFilter:
    """Asks *authority* for *path* whether a request may go on, and takes *copied* fields from its answer."""

    def __init__(
        self, handler: Handler, *, authority: Handler, name: str, path: Template, copied: Sequence[bytes]
    ) -> None:
        """*path* may have a query; *copied* are lower-case names; *name* is the authority's, for the logs."""
        self._handler = handler
        self._authority = authority
        self._name = name
        self._path = path
        self._copied = frozenset(copied)
        self._variables = frozenset(map(_variable, copied))

    async def handle(self, request: Request, responder: Responder) -> None:
        path, query = split_target(self._path.render_url(request).encode("ascii"))
        asked = _without_body(request, "GET", decode_path(path), path, query, self._name)
        target = judged_path(request.raw_path, request.path)
        if request.query:
            target = b"%b?%b" % (target, request.query)
        asked.headers = [
            *(field for field in asked.headers if field[0] not in _TOLD),
            (b"x-forwarded-method", request.method.encode("ascii")),
            (b"x-forwarded-uri", target),
        ]
        verdict = _verdict(request, responder, range(200, 300))
        await verdict.ask(self._authority, asked)
        if verdict.granted is None:
            return
        if self._copied:
            # What the client says in these fields counts for nothing, whether the answer has them or not.
            variables = self._variables
            kept = [field for field in end_to_end(request.headers) if _variable(field[0]) not in variables]
            told = [(field[0].lower(), field[1]) for field in verdict.granted]
            request.headers = kept + [field for field in told if field[0] in self._copied]
        await self._handler.handle(request, responder)


def _variable(name: bytes) -> bytes:
    """*name* (lower-case) as those have it who make variables of fields: twins of it are the same to them."""
    return name.replace(b"-", b"_")


def _without_body(
    request: Request, method: str, path: str, raw_path: bytes, query: bytes, backend: str
) -> SideRequest:
    """The question about *request*: its client, its fields, no body, no conditions."""
    asked = derive(
        SideRequest,
        request,
        method=method,
        path=path,
        raw_path=raw_path,
        query=query,
        headers=[field for field in end_to_end(request.headers) if field[0] not in _NOT_ASKED],
    )
    if not request.path:
        asked.headers = _renamed(
            [field for field in asked.headers if field[0] != b"authorization"],
            b"proxy-authorization",
            b"authorization",
        )
    asked.backend = backend
    return asked


def _verdict(request: Request, responder: Responder, yes: "set[int] | range") -> "_VerdictResponder":
    return _VerdictResponder(responder, yes) if request.path else _ProxyVerdictResponder(responder, yes)


def _renamed(headers: Headers, old: bytes, new: bytes) -> Headers:
    return [(new, value) if name.lower() == old else (name, value) for name, value in headers]


class _VerdictResponder(PassingResponder):
    """Keeps the fields of a "yes" and drops its body; passes on any other response."""

    __slots__ = ("_room", "_scope", "_yes", "granted")

    def __init__(self, responder: Responder, yes: "set[int] | range") -> None:
        super().__init__(responder)
        self._yes = yes
        self.granted: Headers | None = None
        """The fields of the response that says yes; None if none has."""
        self._room = DROPPED_BYTES
        self._scope = trio.CancelScope()
        """Of the question: it ends when enough of the body was dropped."""

    async def ask(self, guard: Handler, question: Request) -> None:
        """Have *guard* answer, and return when the answer is known."""
        with self._scope:
            try:
                await guard.handle(question, self)
            except BackendError:
                if self.granted is None:
                    raise
        self._responder.on_disconnect = None  # what the guard listens for is not what comes next waits for

    @property
    def started(self) -> bool:
        return self.granted is not None or self._responder.started

    def withdraw(self) -> bool:
        self.granted = None
        self._room, self._scope.deadline = DROPPED_BYTES, inf
        return self._responder.withdraw()

    async def inform(self, status: int, headers: Headers) -> None:
        """Nothing: the client has asked the application, not the guard."""

    def try_respond(self, status: int, headers: Headers, body: bytes, reason: bytes = b"") -> bool:
        if status in self._yes:
            self.granted = headers
            return True
        return self._responder.try_respond(status, headers, body, reason)

    def start(self, status: int, headers: Headers, reason: bytes = b"") -> None:
        if status in self._yes:
            self.granted = headers
            self._scope.deadline = trio.current_time() + DROPPED_SECONDS
        else:
            self._responder.start(status, headers, reason)

    def write(self, data: bytes) -> None:
        if self.granted is None:
            self._responder.write(data)
        else:
            self._drop(len(data))

    async def write_file(self, descriptor: int, offset: int, count: int) -> None:
        if self.granted is None:
            await self._responder.write_file(descriptor, offset, count)
        else:
            self._drop(count)

    def end(self, trailers: Headers | None = None) -> None:
        if self.granted is None:
            self._responder.end(trailers)
        else:
            self._scope.deadline = inf

    def _drop(self, count: int) -> None:
        self._room -= count
        if self._room < 0:
            self._scope.cancel()


class _ProxyVerdictResponder(_VerdictResponder):
    """Turns what asks for credentials into what asks for a proxy's (RFC 9110 15.5.8)."""

    __slots__ = ()

    def try_respond(self, status: int, headers: Headers, body: bytes, reason: bytes = b"") -> bool:
        if status == 401:
            status, reason = 407, b""
        return super().try_respond(status, self._asking(headers), body, reason)

    def start(self, status: int, headers: Headers, reason: bytes = b"") -> None:
        if status == 401:
            status, reason = 407, b""
        super().start(status, self._asking(headers), reason)

    @staticmethod
    def _asking(headers: Headers) -> Headers:
        return _renamed(headers, b"www-authenticate", b"proxy-authenticate")
