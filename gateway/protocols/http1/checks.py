"""The grammar that llhttp leaves to us: start lines, Host, Connection, Transfer-Encoding.

Plain functions over complete pieces of a message; nothing here keeps state.
"""

import re
from ipaddress import AddressValueError, IPv6Address
from typing import NamedTuple

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.grammar import TCHAR, TOKEN, parse_digits
from gateway.protocols.lists import list_tokens

# RFC 3986 lets fewer through, but browsers send |, {, } and " as they are. What matters here: no
# whitespace, no control character, nothing beyond ASCII, no fragment (RFC 9112 3.2).
_TARGET_CHARACTER = rb'!"$-~'

ORIGIN_FORM_LINE = re.compile(
    rb"(?!CONNECT )([%b]+) (/[%b]*) HTTP/(1\.[01])\r\n" % (TCHAR.encode(), _TARGET_CHARACTER)
)
"""The request line as nearly every client sends it (RFC 9112 3.2.1), with its CRLF."""

TARGET = re.compile(rb"[%b]+" % _TARGET_CHARACTER)
_VERSION = re.compile(rb"HTTP/([0-9])\.([0-9])")  # RFC 9112 2.3, case-sensitive
# RFC 9112 3.2.2 with the http and https schemes of RFC 9110 4.2; user information is refused as
# RFC 9110 4.2.4 advises, because no HOST contains "@".
_ABSOLUTE_FORM = re.compile(rb"https?://([^/?]+)(?:[/?].*)?", re.IGNORECASE)

# RFC 9112 4: status-line = HTTP-version SP status-code SP [ reason-phrase ]. The second space is often
# forgotten; bytes above ASCII are obs-text.
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?\r\n")

# RFC 9110 7.2, RFC 3986 3.2.2: uri-host [ ":" port ]; the whole value may be empty.
_HOST = re.compile(
    rb"(?:(?:\[([0-9A-Fa-f:.]+)\]|(?:[0-9A-Za-z\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+)(?::[0-9]{0,5})?)?"
)

# RFC 9112 3.2.3: authority-form = uri-host ":" port; here both are there.
_HOST_AND_PORT = re.compile(rb".+:([0-9]{1,5})")
_LAST_PORT = 65535

BARE_LF = re.compile(rb"(?<!\r)\n")


class RequestLine(NamedTuple):
    """A request line whose every part is valid."""

    method: bytes
    target: bytes
    version: bytes
    authority: bytes | None
    """The authority of an absolute-form target, which overrides Host (RFC 9112 3.2.2), or all of an
    authority-form one (3.2.3)."""


def parse_request_line(line: bytes, *, takes_connect: bool) -> RequestLine:
    """The parts of *line*, which ends with the first LF of the request (RFC 9112 3).

    Raises RemoteProtocolError: 400, 501 for CONNECT unless *takes_connect*, 505 for another major version.
    """
    if not line.endswith(b"\r\n"):
        raise RemoteProtocolError("the request line ends with a bare LF")
    method, *rest = line[:-2].split(b" ")
    if not TOKEN.fullmatch(method):
        raise RemoteProtocolError("the method is not a token")
    if len(rest) == 1 and rest[0].startswith(b"/"):
        raise RemoteProtocolError("HTTP/0.9 is not supported", status=505)
    if len(rest) != 2:
        raise RemoteProtocolError("the request line is not method, target and version")
    target, protocol = rest
    version = _request_version(protocol)
    if method == b"CONNECT":
        if not takes_connect:
            # RFC 9110 9.1: 501 is for a method that the server does not implement; 9.3.6: most do not.
            raise RemoteProtocolError("CONNECT is not implemented", status=501)
        if not is_host_and_port(target):
            raise RemoteProtocolError("the target of CONNECT is not a host and a port")
        return RequestLine(method, target, version, target)
    if not TARGET.fullmatch(target):
        raise RemoteProtocolError("the request target has a character that is not allowed there")
    return RequestLine(method, target, version, _authority_of(method, target))


def _request_version(protocol: bytes) -> bytes:
    match = _VERSION.fullmatch(protocol)
    if match is None:
        raise RemoteProtocolError("malformed HTTP version")
    major, minor = match.groups()
    if major != b"1":
        raise RemoteProtocolError(f"HTTP/{major.decode()}.{minor.decode()} is not supported", status=505)
    # RFC 9110 2.5: a higher minor version is processed as the highest that is known.
    return b"1.0" if minor == b"0" else b"1.1"


def _authority_of(method: bytes, target: bytes) -> bytes | None:
    if target.startswith(b"/"):
        return None
    if target == b"*":
        if method != b"OPTIONS":  # RFC 9112 3.2.4
            raise RemoteProtocolError("the target * is for OPTIONS only")
        return None
    match = _ABSOLUTE_FORM.fullmatch(target)
    if match is None:  # also authority-form, which is for CONNECT only (RFC 9112 3.2.3)
        raise RemoteProtocolError("the request target has none of the forms of RFC 9112 3.2")
    authority: bytes = match[1]
    if not is_host(authority):
        raise RemoteProtocolError("the authority in the request target is invalid")
    return authority


def parse_status_line(line: bytes) -> tuple[bytes, int, bytes]:
    """Version, status and reason in *line*, which ends with the first LF of the response (RFC 9112 4).

    Raises RemoteProtocolError.
    """
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise RemoteProtocolError(f"malformed status line: {line[:80]!r}")
    minor, status, reason = match.groups(b"")
    return b"1.0" if minor == b"0" else b"1.1", int(status), reason


def is_host(value: bytes) -> bool:
    """Whether *value* is a host with an optional port, or empty (RFC 9110 7.2)."""
    match = _HOST.fullmatch(value)
    if match is None:
        return False
    if match[1] is not None:
        try:
            IPv6Address(match[1].decode("ascii"))
        except AddressValueError:
            return False
    return True


def is_host_and_port(value: bytes) -> bool:
    """Whether *value* is a host and a port that may be connected to (RFC 9110 9.3.6, RFC 9112 3.2.3)."""
    match = _HOST_AND_PORT.fullmatch(value)
    return match is not None and 0 < int(match[1]) <= _LAST_PORT and is_host(value)


def check_transfer_encoding(value: bytes, *, version: bytes) -> None:
    """Accept ``chunked`` alone in HTTP/1.1, the one coding that is understood here.

    *value* holds all Transfer-Encoding fields of the message, joined by commas.
    Raises RemoteProtocolError: 400 for faulty framing, 501 for another coding below chunked.
    """
    if version == b"1.0":  # RFC 9112 6.1: faulty framing
        raise RemoteProtocolError("Transfer-Encoding in an HTTP/1.0 message")
    coding = value.strip(b" \t").lower()
    if coding == b"chunked":
        return
    codings = list_tokens(coding)
    if codings == [b"chunked"]:
        # RFC 9110 5.6.1.2 lets empty members through. Nobody sends them but to be read differently by two
        # programs on the way (RFC 9112 11.2).
        raise RemoteProtocolError("Transfer-Encoding has an empty member")
    if not codings or codings[-1] != b"chunked":
        # RFC 9112 6.3: the length cannot be determined; "MUST respond with 400" goes before the
        # "SHOULD respond with 501" of 6.1.
        raise RemoteProtocolError("the last transfer coding is not chunked")
    if b"chunked" in codings[:-1]:  # RFC 9112 6.1
        raise RemoteProtocolError("chunked more than once")
    raise RemoteProtocolError("the only transfer coding understood is chunked", status=501)


def parse_content_length(value: bytes) -> int:
    """The number in a Content-Length that llhttp has found to be digits below 2**64.

    Raises RemoteProtocolError (413) if it is more than there can be.
    """
    length = parse_digits(value)
    if length is None:
        raise RemoteProtocolError("the Content-Length is too large", status=413)
    return length


def persists(version: bytes, connection: bytes) -> bool:
    """Whether the connection outlives a message with these Connection options (RFC 9112 9.3)."""
    options = list_tokens(connection)
    return b"close" not in options and (version == b"1.1" or b"keep-alive" in options)
