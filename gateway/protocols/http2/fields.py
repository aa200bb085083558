"""What the field section of a request must look like (RFC 9113 section 8), and what it means.

Promises: what leaves here can be translated to HTTP/1.1 and CGI without meaning anything else there
(RFC 9113 10.3). Method, target and authority pass the grammar that HTTP/1.1 requests pass; names are
tokens, which is stricter than RFC 9113 8.2.1; values have no control characters.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from gateway.protocols.events import Headers
from gateway.protocols.grammar import LOWER_TOKEN, TOKEN, parse_digits
from gateway.protocols.http1.checks import TARGET, is_host, is_host_and_port
from gateway.protocols.http2.errors import MalformedMessage
from gateway.protocols.lists import list_tokens

# RFC 9110 5.5: field-vchar, SP and HTAB within; RFC 9113 8.2.1: none at the ends.
_VALUE: Final = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
_SCHEME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*")  # RFC 3986 3.1

_PSEUDO: Final = frozenset({b":method", b":scheme", b":path", b":authority", b":protocol"})

CONNECTION_FIELDS: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
"""RFC 9113 8.2.2: fields of HTTP/1.1 connections, which HTTP/2 does not have."""


@dataclass(slots=True)
class ParsedRequest:
    """A request's field section, understood. Not changed: it may be shared by several requests."""

    method: bytes = b""
    path: bytes = b""
    authority: bytes = b""
    protocol: bytes = b""
    connect: bool = False
    """A CONNECT that is not extended: its path is the authority."""
    headers: Headers = field(default_factory=list)
    content_length: int | None = None
    malformed: str = ""
    """Why the stream is to be reset (RFC 9113 8.1.1); nothing else is meaningful then."""
    status: int = 0
    """The status of a refusal, if the request is well-formed and not to be handled; *reason* says why."""
    reason: str = ""


def parse_request(fields: Headers) -> ParsedRequest:
    """What *fields* mean as a request."""
    try:
        return _parse(fields)
    except MalformedMessage as error:
        return ParsedRequest(malformed=str(error))


def check_trailers(fields: Headers) -> None:
    """Raise MalformedMessage unless *fields* may be trailers (RFC 9113 8.1)."""
    for name, value in fields:
        if name[:1] == b":":
            raise MalformedMessage("a pseudo-header field in trailers")
        _check_field(name, value)


def _parse(fields: Headers) -> ParsedRequest:
    pseudo: dict[bytes, bytes] = {}
    headers: Headers = []
    for name, value in fields:
        if name[:1] == b":":
            if headers:
                raise MalformedMessage("a pseudo-header field behind a header field")  # RFC 9113 8.3
            if name not in _PSEUDO:
                raise MalformedMessage("an unknown pseudo-header field")
            if name in pseudo:
                raise MalformedMessage(f"{name.decode()} more than once")
            pseudo[name] = value
        else:
            _check_field(name, value)
            headers.append((name, value))
    request = ParsedRequest(
        method=pseudo.get(b":method", b""), protocol=pseudo.get(b":protocol", b"").lower()
    )
    if not TOKEN.fullmatch(request.method):
        raise MalformedMessage("there is no method, or it is not a token")
    _settle_authority(request, pseudo, headers)
    _settle_target(request, pseudo)
    if request.protocol:
        # A tunnel has no content (RFC 8441 5), so there is no length of it.
        request.headers = [item for item in request.headers if item[0] != b"content-length"]
    else:
        _settle_length(request, headers)
        if request.connect:
            if request.content_length:  # RFC 9110 9.3.6
                request.status, request.reason = 400, "CONNECT with content"
            request.content_length = None  # RFC 9113 8.5: what follows is no content
    if not request.status:
        _judge_expectation(request)
    return request


def _settle_target(request: ParsedRequest, pseudo: dict[bytes, bytes]) -> None:
    """RFC 9113 8.3.1, 8.5, and RFC 8441 4 for CONNECT with :protocol."""
    path = pseudo.get(b":path")
    scheme = pseudo.get(b":scheme")
    if request.method == b"CONNECT" and b":protocol" not in pseudo:
        if path is not None or scheme is not None or not request.authority:
            raise MalformedMessage("CONNECT has :authority and neither :scheme nor :path")
        request.connect = True
        request.path = request.authority
        if not is_host_and_port(request.authority):
            request.status, request.reason = 400, "the target of CONNECT is not a host and a port"
        return
    if b":protocol" in pseudo and (request.method != b"CONNECT" or not TOKEN.fullmatch(request.protocol)):
        raise MalformedMessage(":protocol is a token and belongs to CONNECT")
    if path is None or scheme is None or not _SCHEME.fullmatch(scheme):
        raise MalformedMessage(":path or :scheme is missing or invalid")
    if not TARGET.fullmatch(path) or (path[:1] != b"/" and (path != b"*" or request.method != b"OPTIONS")):
        raise MalformedMessage(":path is not a path")
    request.path = path
    if not request.authority:
        request.status, request.reason = 400, "the request names no host"


def _settle_authority(request: ParsedRequest, pseudo: dict[bytes, bytes], headers: Headers) -> None:
    """Make one ``host`` field of :authority or Host, in front, and one ``cookie`` of all.

    RFC 9113 8.3.1: :authority goes before Host, and they must not differ.
    """
    authority = pseudo.get(b":authority")
    host: bytes | None = None
    cookies: list[bytes] = []
    others: Headers = []
    for item in headers:
        if item[0] == b"host":
            if host is not None:
                raise MalformedMessage("Host more than once")
            host = item[1]
        elif item[0] == b"cookie":
            if not cookies:
                others.append(item)
            cookies.append(item[1])
        else:
            others.append(item)
    if authority is None:
        authority = host or b""
    elif host is not None and host.lower() != authority.lower():
        raise MalformedMessage("Host differs from :authority")
    # No user information: no host has "@" (RFC 9113 8.3.1).
    if not is_host(authority):
        raise MalformedMessage("the authority is invalid")
    if len(cookies) > 1:
        # RFC 9113 8.2.3: split for compression, whole for everybody else.
        whole = (b"cookie", b"; ".join(cookies))
        others = [whole if item[0] == b"cookie" else item for item in others]
    request.authority = authority
    request.headers = [(b"host", authority), *others] if authority else others


def _settle_length(request: ParsedRequest, headers: Headers) -> None:
    """RFC 9110 8.6: one number in digits, and one that is too large is no less a number."""
    found = False
    for name, value in headers:
        if name == b"content-length":
            if found:
                raise MalformedMessage("content-length more than once")
            found = True
            request.content_length = parse_digits(value)
            if request.content_length is None:
                if not value.isdigit():
                    raise MalformedMessage("content-length is not a number")
                request.status, request.reason = 413, "the content-length is too large"


def _judge_expectation(request: ParsedRequest) -> None:
    """RFC 9110 10.1.1, as over HTTP/1.1: what else is expected is not met, and reaches nobody."""
    for name, value in request.headers:
        if name == b"expect" and set(list_tokens(value)) != {b"100-continue"}:
            request.status, request.reason = 417, "the only expectation that can be met is 100-continue"


def _check_field(name: bytes, value: bytes) -> None:
    # RFC 9113 8.2.1 forbids 0x00-0x20, A-Z, 0x7f-0xff and colons; RFC 9110 5.1 has tokens.
    if not LOWER_TOKEN.fullmatch(name):
        raise MalformedMessage("the name of a field is not a token in lower case")
    if not _VALUE.fullmatch(value):
        raise MalformedMessage(f"the value of {name.decode()} has a character that is not allowed there")
    if name in CONNECTION_FIELDS:
        raise MalformedMessage(f"{name.decode()} belongs to HTTP/1.1")
    if name == b"te" and value.lower() != b"trailers":
        raise MalformedMessage("te has another value than trailers")
