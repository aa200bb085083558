"""Forward Request: the variables of a CGI request as fields, headers and attributes of AJP, and back.

::

    code 2, method (1), protocol, req_uri, remote_addr, remote_host, server_name, server_port (2), is_ssl (1)
    num_headers (2) { name, value } *       common names as 0xA0xx
    { attribute code (1), value } *         an attribute of any other name has code 10 and the name
    0xFF

It is one packet, so what is larger cannot be sent. Variables that AJP has no place for (SCRIPT_NAME,
GATEWAY_INTERFACE) are left out: a container finds its application and path by req_uri.
"""

import re
from collections.abc import Mapping
from typing import Final

from gateway.protocols.ajp.packets import (
    FORWARD_REQUEST,
    FROM_SERVER,
    HEADER_SIZE,
    NO_STRING,
    Cursor,
    encode_packet,
)
from gateway.protocols.errors import LocalProtocolError, RemoteProtocolError, TooLargeToEncode
from gateway.protocols.grammar import LINE_BREAK, TOKEN
from gateway.protocols.variables import block_size, declared_length, describe_largest, merge_repeated

# Request Packet Structure, Method.
METHODS: Final = (  # noqa: SIM905 - a list would be a long column
    "OPTIONS GET HEAD POST PUT DELETE TRACE PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK ACL REPORT"
    " VERSION-CONTROL CHECKIN CHECKOUT UNCHECKOUT SEARCH MKWORKSPACE UPDATE LABEL MERGE BASELINE_CONTROL"
    " MKACTIVITY"
).split()

STORED_METHOD: Final = 0xFF
"""In place of the method: it is in an attribute. Not in the specification, but in all that implement it."""

# Headers: 0xA001 and so on.
REQUEST_HEADERS: Final = (  # noqa: SIM905 - a list would be a long column
    "accept accept-charset accept-encoding accept-language authorization connection content-type"
    " content-length cookie cookie2 host pragma referer user-agent"
).split()

LONGEST_NAME: Final = 0x9FFF
"""Bytes of a header's name: a greater length would be the code of a common one."""

# Attributes. The names are those of mod_ssl, and where it has none those of flup.
ATTRIBUTES: Final[Mapping[str, int]] = {
    "REMOTE_USER": 3,
    "AUTH_TYPE": 4,
    "QUERY_STRING": 5,
    "JVM_ROUTE": 6,
    "SSL_CLIENT_CERT": 7,
    "SSL_CIPHER": 8,
    "SSL_SESSION_ID": 9,
}
REQ_ATTRIBUTE: Final = 10
SSL_KEY_SIZE: Final = 11
SECRET: Final = 12
STORED_METHOD_NAME: Final = 13
ARE_DONE: Final = 0xFF

KEY_SIZE: Final = "SSL_CIPHER_USEKEYSIZE"

# What AJP forgot, as Apache sends it and Tomcat takes it.
REQ_ATTRIBUTES: Final[Mapping[str, str]] = {
    "REMOTE_PORT": "AJP_REMOTE_PORT",
    "SERVER_ADDR": "AJP_LOCAL_ADDR",
    "SSL_PROTOCOL": "AJP_SSL_PROTOCOL",
}
OWN_PREFIX: Final = "AJP_"
"""Of a variable that is an attribute, without this prefix."""

_FIELDS: Final = frozenset(
    {
        "REQUEST_METHOD",
        "SERVER_PROTOCOL",
        "REQUEST_URI",
        "REMOTE_ADDR",
        "REMOTE_HOST",
        "SERVER_NAME",
        "SERVER_PORT",
        "HTTPS",
    }
)

_METHOD_CODES: Final = {method: chr(code) for code, method in enumerate(METHODS, 1)}
_HEADER_NAMES: Final = {
    "HTTP_" + name.upper().replace("-", "_"): f"\xa0{chr(code)}"
    for code, name in enumerate(REQUEST_HEADERS, 1)
}
_CONTENT_NAMES: Final = {
    name: _HEADER_NAMES.pop(f"HTTP_{name}") for name in ("CONTENT_TYPE", "CONTENT_LENGTH")
}

_ATTRIBUTE_NAMES: Final = {code: name for name, code in ATTRIBUTES.items()}
_REQ_ATTRIBUTE_NAMES: Final = {name: variable for variable, name in REQ_ATTRIBUTES.items()}

# AJP would carry them; a container would put them into the log or into a header.
_BREAKS: Final = re.compile(LINE_BREAK.pattern.decode())


def content_length(variables: dict[str, str]) -> int | None:
    """Bytes of the body that *variables* promise, None if their number is unknown.

    As in HTTP a request has a body if it has a length or a Transfer-Encoding (RFC 9112 6.3). Raises
    ValueError for what contradicts that.
    """
    coding = variables.get("HTTP_TRANSFER_ENCODING", "")
    if coding:
        if variables.get("CONTENT_LENGTH") or coding.lower() != "chunked":
            raise ValueError("a body has a CONTENT_LENGTH, or a Transfer-Encoding that is chunked")
        return None
    return declared_length(variables) or 0


def encode_request(variables: Mapping[str, str], *, packet_size: int, secret: str | None = None) -> bytes:
    """The packet that forwards a request.

    Raises TooLargeToEncode if it has more than *packet_size* bytes, naming the largest variables, and
    LocalProtocolError for what AJP cannot say.
    """
    method = variables.get("REQUEST_METHOD", "")
    target = variables.get("REQUEST_URI", "")
    if not (method and target):
        raise LocalProtocolError("AJP needs REQUEST_METHOD and REQUEST_URI")
    code = _METHOD_CODES.get(method)
    path, _, query = target.partition("?")
    parts = [
        chr(FORWARD_REQUEST),
        chr(STORED_METHOD) if code is None else code,
        _string(variables.get("SERVER_PROTOCOL", "")),
        _string(path),
        _string_or_none(variables.get("REMOTE_ADDR")),
        _string_or_none(variables.get("REMOTE_HOST")),
        _string_or_none(variables.get("SERVER_NAME")),
        _number("SERVER_PORT", variables.get("SERVER_PORT") or "0"),
        "\1" if variables.get("HTTPS", "off").lower() in ("on", "1") else "\0",
    ]
    attributes: list[str] = []
    headers = _headers(variables, attributes)
    parts += (_integer(len(headers) // 2), *headers, *attributes)
    if query and not variables.get("QUERY_STRING"):
        parts += (chr(ATTRIBUTES["QUERY_STRING"]), _string(query))
    if code is None:
        parts += (chr(STORED_METHOD_NAME), _string(method))
    if secret is not None:
        parts += (chr(SECRET), _string(secret))
    parts.append(chr(ARE_DONE))
    content = "".join(parts)
    if HEADER_SIZE + len(content) > packet_size:
        raise _too_large(variables, HEADER_SIZE + len(content), packet_size)
    try:
        return encode_packet(FROM_SERVER, content.encode("latin-1"))
    except UnicodeEncodeError as error:
        raise LocalProtocolError(f"a variable is not Latin-1: {error}") from None


def check_size(variables: Mapping[str, str], *, packet_size: int, secret: str | None) -> None:
    """Raise what `encode_request` would, if the packet can be too large; at a tenth of its cost if not."""
    # No variable takes twice as many bytes in here as in uwsgi.
    if 2 * (block_size(variables) + len(secret or "")) > packet_size:
        encode_request(variables, packet_size=packet_size, secret=secret)


def is_told(name: str) -> bool:
    """Whether AJP has a place for the variable *name*."""
    return (
        name in _FIELDS
        or name in _CONTENT_NAMES
        or name in ATTRIBUTES
        or name in REQ_ATTRIBUTES
        or name == KEY_SIZE
        or name.startswith(("HTTP_", OWN_PREFIX))
    )


def _headers(variables: Mapping[str, str], attributes: list[str]) -> list[str]:
    """Name and value of each header, encoded; variables that are attributes are added to *attributes*."""
    headers: list[str] = []
    for name, value in variables.items():
        if name.startswith("HTTP_"):
            coded = _HEADER_NAMES.get(name)
            headers += (coded if coded is not None else _header_name(name), _string(value))
        elif name in _CONTENT_NAMES:
            if value:
                headers += (_CONTENT_NAMES[name], _string(value))
        elif not value:
            pass  # no attribute
        elif name in ATTRIBUTES:
            # A certificate in PEM has lines.
            text = _attribute(value) if name == "SSL_CLIENT_CERT" else _string(value)
            attributes += (chr(ATTRIBUTES[name]), text)
        elif name in REQ_ATTRIBUTES:
            attributes += (chr(REQ_ATTRIBUTE), _string(REQ_ATTRIBUTES[name]), _string(value))
        elif name.startswith(OWN_PREFIX):
            attributes += (
                chr(REQ_ATTRIBUTE),
                _string(name.removeprefix(OWN_PREFIX)),
                _attribute(value),
            )
        elif name == KEY_SIZE:
            attributes += (chr(SSL_KEY_SIZE), _number(name, value))
    return headers


def _header_name(variable: str) -> str:
    name = variable.removeprefix("HTTP_").replace("_", "-").lower()
    if name in ("content-length", "content-type") or not name:
        raise LocalProtocolError(f"{variable} cannot be a header of its own")
    if len(name) > LONGEST_NAME:
        raise LocalProtocolError(f"the name of a header has {len(name)} bytes, more than {LONGEST_NAME}")
    return _string(name)


def _string(text: str) -> str:
    if _BREAKS.search(text):
        raise LocalProtocolError(f"AJP cannot carry a line break or NUL: {text[:80]!r}")
    return f"{_integer(len(text))}{text}\0"


def _string_or_none(text: str | None) -> str:
    return _string(text) if text else _integer(NO_STRING)


def _attribute(text: str) -> str:
    if "\0" in text:
        raise LocalProtocolError(f"AJP cannot carry a NUL: {text[:80]!r}")
    return f"{_integer(len(text))}{text}\0"


def _integer(number: int) -> str:
    """Two bytes. The first of a number above 65,535 is wrong, but then the packet is too large."""
    return chr(number >> 8 & 255) + chr(number & 255)


def _number(name: str, value: str) -> str:
    if not (value.isascii() and value.isdigit() and len(value) <= 5 and int(value) <= 0xFFFF):
        raise LocalProtocolError(f"{name} is no number of 16 bits: {value[:40]!r}")
    return _integer(int(value))


def _too_large(variables: Mapping[str, str], size: int, packet_size: int) -> TooLargeToEncode:
    return TooLargeToEncode(
        f"the request takes {size} bytes where an AJP packet has {packet_size};"
        f" the largest are {describe_largest(variables)}"
    )


# ---- receiving


class ForwardedRequest:
    """What a packet forwards: the variables of a request, and the web server's secret if it has sent one."""

    __slots__ = ("secret", "variables")

    def __init__(self, variables: dict[str, str], secret: bytes | None) -> None:
        self.variables = variables
        self.secret = secret


def decode_request(content: bytes) -> ForwardedRequest:
    """What the *content* of a packet says, behind its code. Raises RemoteProtocolError (400)."""
    cursor = Cursor(content, status=400)
    code = cursor.byte()
    variables = {
        "REQUEST_METHOD": METHODS[code - 1] if 1 <= code <= len(METHODS) else "",
        "SERVER_PROTOCOL": _text(cursor),
        "REQUEST_URI": _text(cursor),
        "QUERY_STRING": "",
        "REMOTE_ADDR": _text(cursor),
        "REMOTE_HOST": _text(cursor),
        "SERVER_NAME": _text(cursor),
        "SERVER_PORT": str(cursor.integer()),
    }
    if cursor.byte():
        variables["HTTPS"] = "on"
    for _ in range(cursor.integer()):
        _decode_header(cursor, variables)
    secret = _decode_attributes(cursor, variables, stored=code == STORED_METHOD)
    if not variables["REQUEST_METHOD"]:
        raise cursor.malformed(f"unknown method {code}")
    if not variables["REQUEST_URI"]:
        raise cursor.malformed("no URI")
    if not cursor.at_end:
        raise cursor.malformed("there is something behind its end")
    if variables["QUERY_STRING"]:
        variables["REQUEST_URI"] += f"?{variables['QUERY_STRING']}"
    return ForwardedRequest(variables, secret)


def decode_header_name(cursor: Cursor, common: list[str]) -> str:
    """The name of a header, in lower case: a code of one of the *common* ones, or a string."""
    number = cursor.integer()
    if number >> 8 == 0xA0:
        index = number & 0xFF
        if not 1 <= index <= len(common):
            raise cursor.malformed(f"unknown header 0x{number:X}")
        return common[index - 1]
    name = cursor.string_of(number) or b""
    if not TOKEN.fullmatch(name):
        raise cursor.malformed(f"not the name of a header: {name[:80]!r}")
    return name.decode("latin-1").lower()


def _decode_header(cursor: Cursor, variables: dict[str, str]) -> None:
    name = decode_header_name(cursor, REQUEST_HEADERS)
    value = _text(cursor)
    # `_` would hide behind `-`. HTTP_PROXY is read by HTTP libraries (CVE-2016-5385).
    if "_" in name or name == "proxy":
        return
    variable = name.upper().replace("-", "_")
    if name not in ("content-length", "content-type"):
        variable = f"HTTP_{variable}"
    if variable in variables:
        value = merge_repeated(variable, variables[variable], value)
    variables[variable] = value


def _decode_attributes(cursor: Cursor, variables: dict[str, str], *, stored: bool) -> bytes | None:
    """Add the attributes to *variables*. Returns the secret."""
    secret: bytes | None = None
    seen: set[str] = set()
    while (code := cursor.byte()) != ARE_DONE:
        if code == SECRET:
            secret = cursor.string() or b""
            continue
        if code == REQ_ATTRIBUTE:
            name = _text(cursor)
            name = _REQ_ATTRIBUTE_NAMES.get(name) or OWN_PREFIX + name
            value = _attribute_text(cursor)
        elif code == SSL_KEY_SIZE:
            name, value = KEY_SIZE, str(cursor.integer())
        elif code == STORED_METHOD_NAME and stored:
            name, value = "REQUEST_METHOD", _text(cursor)
        elif code in _ATTRIBUTE_NAMES:
            name = _ATTRIBUTE_NAMES[code]
            value = _attribute_text(cursor) if name == "SSL_CLIENT_CERT" else _text(cursor)
        else:
            raise cursor.malformed(f"unknown attribute {code}")
        if name in seen:
            raise cursor.malformed(f"attribute {name[:80]!r} occurs twice")
        seen.add(name)
        variables[name] = value
    return secret


def _text(cursor: Cursor) -> str:
    """A string as text, empty if there is none."""
    text = _attribute_text(cursor)
    if _BREAKS.search(text):
        raise cursor.malformed(f"a line break or NUL in {text[:80]!r}")
    return text


def _attribute_text(cursor: Cursor) -> str:
    return (cursor.string() or b"").decode("latin-1")


def check_length(variables: dict[str, str]) -> int | None:
    """`content_length` of a request that was received. Raises RemoteProtocolError (400)."""
    try:
        return content_length(variables)
    except ValueError as error:
        raise RemoteProtocolError(str(error)) from error
