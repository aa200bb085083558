"""Sessions that stay with their server: a cookie names it, in a way that only this gateway understands.

The cookie is an opaque keyed hash of the server's address: it tells nobody which servers there are. It is set
with the first response, and again when its server could not be had and another one has answered.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, TypeAlias

from gateway.request import Request
from gateway.upstream.balance import cookie_of
from gateway.upstream.server import Server

SameSite: TypeAlias = Literal["lax", "strict", "none"]


@dataclass(frozen=True, slots=True)
class StickyPolicy:
    """What the cookie looks like."""

    cookie: str
    secret: bytes
    max_age: float | None
    """Seconds; None: until the browser is closed."""
    same_site: SameSite


class Sticky:
    """The cookies of one backend's servers."""

    __slots__ = ("_attributes", "_backend", "_key", "_name")

    def __init__(self, policy: StickyPolicy, backend: str) -> None:
        self._name = policy.cookie.encode("ascii")
        self._backend = backend
        self._key = blake2b(policy.secret, digest_size=32, person=b"gateway sticky").digest()
        # RFC 6265 4.1.2: scripts need not see it.
        attributes = b"; Path=/; HttpOnly; SameSite=" + policy.same_site.capitalize().encode("ascii")
        if policy.max_age is not None:
            attributes += b"; Max-Age=%d" % int(policy.max_age)
        self._attributes = attributes

    def find(self, request: Request, servers: Sequence[Server]) -> Server | None:
        """The one of *servers* that the client's cookie names."""
        token = cookie_of(request, self._name)
        if token is not None:
            for server in servers:
                if self._token_of(server) == token:
                    return server
        return None

    def field_for(self, request: Request, server: Server) -> tuple[bytes, bytes] | None:
        """The field that makes the client come back to *server*; None if it does so already."""
        token = self._token_of(server)
        if cookie_of(request, self._name) == token:
            return None
        secure = b"; Secure" if request.connection.scheme == "https" else b""
        return (b"set-cookie", b"%b=%b%b%b" % (self._name, token, self._attributes, secure))

    def _token_of(self, server: Server) -> bytes:
        if not server.token:
            hashed = blake2b(f"{self._backend}\0{server.name}".encode(), key=self._key, digest_size=16)
            server.token = hashed.hexdigest().encode("ascii")
        return server.token
