"""HTTP Strict Transport Security (RFC 6797): a Responder that adds the field to the final response.

Only listeners with TLS that are configured so use it: clients must not believe the field in clear text
(RFC 6797 8.1). A field of the application's own stays as it is.
"""

from collections.abc import Callable
from typing import Final

from gateway.request import Responder
from protocols.events import Headers

NAME: Final = b"strict-transport-security"


def hsts_value(max_age: float, *, subdomains: bool, preload: bool) -> bytes:
    """The value of the field (RFC 6797 6.1); *max_age* in seconds."""
    value = b"max-age=%d" % int(max_age)
    if subdomains:
        value += b"; includeSubDomains"
    if preload:
        value += b"; preload"
    return value


def with_hsts(headers: Headers, value: bytes) -> Headers:
    """*headers* and the field, unless they have it."""
    for field in headers:
        if field[0].lower() == NAME:
            return headers
    return [*headers, (NAME, value)]


class HstsResponder:
    """Passes everything on to *responder*, and the field with the head. Implements `request.Responder`."""

    __slots__ = ("_responder", "_value")

    def __init__(self, responder: Responder, value: bytes) -> None:
        self._responder = responder
        self._value = value

    @property
    def on_disconnect(self) -> Callable[[], None] | None:
        return self._responder.on_disconnect

    @on_disconnect.setter
    def on_disconnect(self, callback: Callable[[], None] | None) -> None:
        self._responder.on_disconnect = callback

    @property
    def disconnected(self) -> bool:
        return self._responder.disconnected

    @property
    def started(self) -> bool:
        return self._responder.started

    def withdraw(self) -> bool:
        return self._responder.withdraw()

    async def inform(self, status: int, headers: Headers) -> None:
        await self._responder.inform(status, headers)

    def try_respond(self, status: int, headers: Headers, body: bytes, reason: bytes = b"") -> bool:
        return self._responder.try_respond(status, with_hsts(headers, self._value), body, reason)

    def start(self, status: int, headers: Headers, reason: bytes = b"") -> None:
        self._responder.start(status, with_hsts(headers, self._value), reason)

    def write(self, data: bytes) -> None:
        self._responder.write(data)

    async def write_file(self, descriptor: int, offset: int, count: int) -> None:
        await self._responder.write_file(descriptor, offset, count)

    def end(self, trailers: Headers | None = None) -> None:
        self._responder.end(trailers)

    def try_flush(self) -> bool:
        return self._responder.try_flush()

    async def flush(self) -> None:
        await self._responder.flush()
