"""HTTP Strict Transport Security (RFC 6797): a Responder that adds the field to the final response.

Only listeners with TLS that are configured so use it: clients must not believe the field in clear text
(RFC 6797 8.1). A field of the application's own stays as it is.
"""

from typing import Final

from gateway.passing import PassingResponder
from gateway.protocols.events import Headers
from gateway.request import Responder

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


class HstsResponder(PassingResponder):
    """Adds the field to the head of the final response."""

    __slots__ = ("_value",)

    def __init__(self, responder: Responder, value: bytes) -> None:
        super().__init__(responder)
        self._value = value

    def try_respond(self, status: int, headers: Headers, body: bytes, reason: bytes = b"") -> bool:
        return self._responder.try_respond(status, with_hsts(headers, self._value), body, reason)

    def start(self, status: int, headers: Headers, reason: bytes = b"") -> None:
        self._responder.start(status, with_hsts(headers, self._value), reason)
