"""Routes that the gateway answers by itself: a redirect, a fixed response.

Promises: a Location is always ASCII without spaces or control characters, and leads to another host
only if the configuration names it (see `template.py`). What does not depend on the request is built once.
"""

from http import HTTPStatus
from typing import Final
from urllib.parse import quote_from_bytes

from gateway.errors import RequestError
from gateway.protocols.events import Headers
from gateway.protocols.reasons import BODILESS
from gateway.request import Request, Responder, respond
from gateway.template import Template, field_value, quote_query

REDIRECT_STATUSES: Final = frozenset({301, 302, 303, 307, 308})
"""RFC 9110 15.4; 300 and 304 do not send a client elsewhere."""

_TEXT: Final = b"text/plain; charset=utf-8"
_KEPT: Final = "".join(chr(code) for code in range(0x21, 0x7F))
"""What a URL may be sent with as it came: printable ASCII. All else is percent-encoded (RFC 3986 2.1)."""


class Redirect:
    """Sends the client to another URL.

    The query of the request is kept unless *to* has one; ``?`` at the end of *to* drops it (as in
    nginx's ``rewrite``). 308 and 307 keep the method, 303 makes it GET.
    """

    def __init__(self, to: Template, *, status: int) -> None:
        """Raises ValueError if *status* does not redirect."""
        if status not in REDIRECT_STATUSES:
            raise ValueError(f"status: a redirect has one of {sorted(REDIRECT_STATUSES)}, not {status}")
        self._to = to
        self._status = status
        self._keeps_query = "?" not in to.text
        self._body = f"{status} {HTTPStatus(status).phrase}\n".encode()
        self._length = str(len(self._body)).encode()

    async def handle(self, request: Request, responder: Responder) -> None:
        headers = [
            (b"location", self.location(request)),
            (b"content-type", _TEXT),
            (b"content-length", self._length),
        ]
        await respond(responder, self._status, headers, self._body)

    def location(self, request: Request) -> bytes:
        """The value of the Location field (RFC 9110 10.2.2)."""
        url = self._to.render_url(request)
        if self._keeps_query:
            if request.query:
                url = _with_query(url, request.query)
        elif url.endswith("?"):
            url = url[:-1]
        return url.encode("ascii")


class HttpsRedirect:
    """Sends the client to the same URL by https: 308 (RFC 9110 15.4.9), which keeps method and body."""

    STATUS: Final = 308

    def __init__(self, port: int) -> None:
        """*port*: where clients reach https."""
        self._port = b"" if port == 443 else b":%d" % port

    async def handle(self, request: Request, responder: Responder) -> None:
        if not request.host:
            raise RequestError(400, "the request names no host, so that there is no URL to redirect to")
        headers = [(b"location", self.location(request)), (b"content-type", _TEXT)]
        await respond(responder, self.STATUS, headers, b"this server is reached by https\n")

    def location(self, request: Request) -> bytes:
        """The URL as it was asked for, but for scheme and port."""
        path = b"/" if request.raw_path == b"*" else request.raw_path
        target = b"%b?%b" % (path, request.query) if request.query else path
        host = request.host.encode("latin-1")
        return quote_from_bytes(b"https://%b%b%b" % (host, self._port, target), safe=_KEPT).encode("ascii")


class Respond:
    """Answers with a status, fields and a body from the configuration."""

    def __init__(self, *, status: int, body: Template | None, headers: dict[str, Template]) -> None:
        """Content-Type is ``text/plain; charset=utf-8`` unless *headers* has one.

        Raises ValueError for a status that is not final, or a body where none may be (RFC 9110 6.4.1).
        """
        if not 200 <= status <= 599:
            raise ValueError(f"status: expected 200 to 599, got {status}")
        if status in (204, 205, 304) and body is not None and body.text:
            raise ValueError(f"body: a response with status {status} has none")
        self._status = status
        self._body = body or Template.parse("")
        self._fields = [(name.lower().encode("ascii"), value) for name, value in headers.items()]
        self._default_fields: Headers = [(b"content-type", _TEXT)] if self._body.text else []
        self._content_type = _TEXT
        for name, value in self._fields:
            if name == b"content-type":
                self._default_fields = []
                self._content_type = value.text.encode("utf-8", "surrogateescape")
        self._prebuilt = self._prebuild()

    async def handle(self, request: Request, responder: Responder) -> None:
        if self._prebuilt is not None:
            headers, body = self._prebuilt
        else:
            body = _encode(self._body.render_in(self._content_type, request))
            headers = self._head([(name, value.render_field(request)) for name, value in self._fields], body)
        if not responder.try_respond(self._status, headers, body):
            await responder.flush()

    def _prebuild(self) -> tuple[Headers, bytes] | None:
        """Head and body, if both are the same for every request."""
        text = self._body.constant
        constants = [(name, value.constant) for name, value in self._fields]
        fields = [(name, field_value(value)) for name, value in constants if value is not None]
        if text is None or len(fields) < len(constants):
            return None
        body = _encode(text)
        return self._head(fields, body), body

    def _head(self, fields: Headers, body: bytes) -> Headers:
        headers = self._default_fields + fields
        if self._status not in BODILESS:  # RFC 9110 8.6: no Content-Length in a 204
            headers.append((b"content-length", str(len(body)).encode()))
        return headers


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _with_query(url: str, query: bytes) -> str:
    """RFC 3986 3: the query stands before the fragment."""
    base, hash_sign, fragment = url.partition("#")
    return f"{base}?{quote_query(query)}{hash_sign}{fragment}"
