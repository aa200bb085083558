"""Events to bytes: heads, chunks, and the framing of a body that is being sent.

The functions are plain, so that a front can call them directly; they raise LocalProtocolError and
nothing else. What they promise about given fields: no name or value has a control character, which could end
its line (RFC 9110 5.5).
"""

from enum import Enum
from typing import Final, NoReturn

from gateway.protocols.errors import LocalProtocolError
from gateway.protocols.events import Headers
from gateway.protocols.grammar import CONTROL, CONTROLS, TOKEN, parse_digits
from gateway.protocols.http1.checks import TARGET
from gateway.protocols.reasons import REASONS

LAST_CHUNK: Final = b"0\r\n\r\n"
"""The end of a chunked body without trailers (RFC 9112 7.1)."""
CHUNKED_FIELD: Final = b"transfer-encoding: chunked\r\n"
CLOSE_FIELD: Final = b"connection: close\r\n"
KEEP_ALIVE_FIELD: Final = b"connection: keep-alive\r\n"

# RFC 9112 2.3: the version is always our own, whatever the peer's is.
_STATUS_LINES: Final = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, reason.encode("ascii")) for status, reason in REASONS.items()
}


def encode_response_head(status: int, reason: bytes, headers: Headers, lines: bytes = b"") -> bytes:
    """Status line, *headers*, *lines*, empty line.

    Without a *reason* the standard one is sent. *lines* are complete field lines, trusted as they are:
    ``CHUNKED_FIELD``, ``CLOSE_FIELD``, a ready-made Date.
    """
    if reason:
        status_line = _status_line(status, reason)
    else:
        status_line = _STATUS_LINES.get(status) or _status_line(status, b"")
    return b"%b%b%b\r\n" % (status_line, encode_fields(headers), lines)


_USUAL_METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"})


def encode_request_head(method: bytes, target: bytes, fields: bytes) -> bytes:
    """Request line, *fields* as `encode_fields` made them, empty line."""
    if method not in _USUAL_METHODS and not TOKEN.fullmatch(method):
        raise LocalProtocolError(f"the method is not a token: {method!r}")
    if not TARGET.fullmatch(target):
        raise LocalProtocolError(f"not a request target: {target!r}")
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, fields)


def encode_fields(headers: Headers) -> bytes:
    """A line for each field (RFC 9112 5), without the empty line that ends the section."""
    if not headers:
        return b""
    block = b"\r\n".join([b": ".join(field) for field in headers]) + b"\r\n"
    # But for our own line breaks.
    if len(block) - len(block.translate(None, CONTROLS)) != 2 * len(headers):
        _refuse_field(headers)
    return block


def encode_chunk(data: bytes) -> bytes:
    """One chunk (RFC 9112 7.1); nothing for no data, because an empty chunk would be the last one."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def encode_last_chunk(trailers: Headers) -> bytes:
    """The last chunk and the trailer section (RFC 9112 7.1.2)."""
    return b"0\r\n%b\r\n" % encode_fields(trailers) if trailers else LAST_CHUNK


def _status_line(status: int, reason: bytes) -> bytes:
    if not 100 <= status <= 999:
        raise LocalProtocolError(f"not a status code: {status}")
    if CONTROL.search(reason):
        raise LocalProtocolError(f"the reason phrase has a control character: {reason!r}")
    return b"HTTP/1.1 %d %b\r\n" % (status, reason)


def _refuse_field(headers: Headers) -> NoReturn:
    """Name the field with the control character that was counted in all of them together."""
    name, value = next(field for field in headers if CONTROL.search(b"".join(field)))
    raise LocalProtocolError(f"the field {name!r} has a control character: {value!r}")


class Framing(Enum):
    """How the end of a sent body is made known (RFC 9112 6)."""

    NONE = "there is no body, and none is sent"
    LENGTH = "by Content-Length"
    CHUNKED = "by the last chunk"
    UNTIL_CLOSE = "by the end of the connection"


class BodyWriter:
    """The framing of one body."""

    __slots__ = ("framing", "remaining")

    def __init__(self, framing: Framing, length: int = 0) -> None:
        self.framing = framing
        self.remaining = length

    def data(self, data: bytes) -> bytes:
        """*data* in its framing. Raises LocalProtocolError beyond the Content-Length."""
        if self.framing is Framing.CHUNKED:
            return encode_chunk(data)
        if self.framing is Framing.NONE:
            return b""
        if self.framing is Framing.LENGTH:
            if len(data) > self.remaining:
                raise LocalProtocolError(f"{len(data) - self.remaining} bytes more than Content-Length")
            self.remaining -= len(data)
        return data

    def end(self, trailers: Headers) -> bytes:
        """What ends the body. Trailers are sent with chunks only, and discarded otherwise (RFC 9110 6.5.1).

        Raises LocalProtocolError short of the Content-Length.
        """
        if self.framing is Framing.CHUNKED:
            return encode_last_chunk(trailers)
        if self.framing is Framing.LENGTH and self.remaining:
            raise LocalProtocolError(f"{self.remaining} bytes less than Content-Length")
        return b""


class Sending(Enum):
    """What may be sent next."""

    HEAD = "a head"
    BODY = "body or end of message"
    DONE = "nothing before the next exchange"
    FAILED = "nothing: an earlier event was illegal"


# As globals, because both are looked at for each request (see reading.READING_HEAD).
SENDING_HEAD: Final = Sending.HEAD
SENDING_BODY: Final = Sending.BODY


def content_length(value: bytes) -> int:
    """The number in a Content-Length that we are to send. Raises LocalProtocolError."""
    length = parse_digits(value)
    if length is None:
        raise LocalProtocolError(f"not a Content-Length: {value[:40]!r}")
    return length
