"""HTTP/2 requests that mean something else once they are HTTP/1.1 or CGI, and what may become of each.

The rows come from RFC 9113 and 8441 and from the published families of downgrade attacks (H2.CL, H2.TE,
line breaks in names, values and pseudo-header fields, ambiguous authorities, tunnelling). ``sent`` is what a
client sends behind its preface before it closes its side. ``seen`` is all that a backend may see, of
whatever kind. ``outcomes`` are what the client gets on each stream: a status, or the code of its reset.
If a fault is one of the connection, its code is ``broken_by``; then what was seen before is not certain.

Nearly every row ends with ``GET /next`` on a stream of its own: the fault of a stream is no other's.

Nothing here runs anything: `test_smuggling_http2` does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from h2.errors import ErrorCodes

from gateway.protocols.events import Headers
from tests.conformance.http2_wire import PREFACE, headers, in_pieces, section
from tests.conformance.seen import Seen
from tests.protocols.http2_peer import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    PRIORITY,
    PUSH_PROMISE,
    data,
    frame,
    reset,
)


@dataclass(frozen=True)
class Row:
    """What a client sends, and what becomes of it."""

    family: str
    name: str
    sent: tuple[bytes, ...]
    """In pieces that may be read one by one."""
    seen: tuple[Seen, ...]
    outcomes: dict[int, int | ErrorCodes] = field(default_factory=dict)
    broken_by: ErrorCodes = ErrorCodes.NO_ERROR
    early: Seen | None = None
    """What the client said, which was seen, and perhaps answered, if the fault came late."""
    fields: tuple[tuple[str, str | None], ...] = ()
    """Fields of the first request that every backend must see with this value, or (None) not see."""
    bodiless: frozenset[int] = frozenset()
    """Streams whose answer has no body."""

    @property
    def id(self) -> str:
        return f"{self.family}-{self.name}".replace(" ", "-")


ROWS: list[Row] = []

SMUGGLED: Final = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED: Final = b"0\r\n\r\n" + SMUGGLED


def _head(
    *fields: tuple[bytes, bytes],
    method: bytes | None = b"GET",
    scheme: bytes | None = b"http",
    path: bytes | None = b"/get",
    authority: bytes | None = b"a",
) -> Headers:
    pseudo = ((b":method", method), (b":scheme", scheme), (b":path", path), (b":authority", authority))
    return [*((name, value) for name, value in pseudo if value is not None), *fields]


def _get(*fields: tuple[bytes, bytes], **pseudo: bytes | None) -> tuple[bytes]:
    return (headers(1, _head(*fields, **pseudo)),)


def _post(
    *fields: tuple[bytes, bytes], body: bytes = b"", trailers: Headers | None = None, **pseudo: bytes | None
) -> tuple[bytes, ...]:
    head = _head(*fields, **{"method": b"POST", "path": b"/post", **pseudo})
    if trailers is None:
        return headers(1, head, end=False), data(1, body, end=True)
    return headers(1, head, end=False), data(1, body), headers(1, trailers)


def _length(value: bytes) -> tuple[bytes, bytes]:
    return (b"content-length", value)


NEXT: Final = headers(101, _head(path=b"/next"))
SEEN_NEXT: Final = Seen("GET", "/next")
POSTED: Final = Seen("POST", "/post")
HELLO: Final = Seen("POST", "/post", b"hello")
GOT: Final = Seen("GET", "/get")


def _then(sent: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return (*sent[:-1], sent[-1] + NEXT)


def _accepted(
    family: str,
    name: str,
    sent: tuple[bytes, ...],
    seen: Seen,
    *,
    fields: Mapping[str, str | None] | None = None,
) -> None:
    """*sent* is this request."""
    bodiless = frozenset({1} if seen.method == "HEAD" else ())
    outcomes: dict[int, int | ErrorCodes] = {1: 200, 101: 200}
    given = tuple((fields or {}).items())
    ROWS.append(Row(family, name, _then(sent), (seen, SEEN_NEXT), outcomes, fields=given, bodiless=bodiless))


def _malformed(
    family: str,
    name: str,
    sent: tuple[bytes, ...],
    *,
    early: Seen | None = None,
    code: ErrorCodes = ErrorCodes.PROTOCOL_ERROR,
) -> None:
    """RFC 9113 8.1.1: the stream is reset, and nobody sees more than what was whole before."""
    outcomes: dict[int, int | ErrorCodes] = {1: code, 101: 200}
    bodiless = frozenset({1} if early is not None and early.method == "HEAD" else ())
    ROWS.append(Row(family, name, _then(sent), (SEEN_NEXT,), outcomes, early=early, bodiless=bodiless))


def _refused(family: str, name: str, sent: tuple[bytes, ...], status: int = 400) -> None:
    """The client gets *status*, and nobody sees the request."""
    ROWS.append(Row(family, name, _then(sent), (SEEN_NEXT,), {1: status, 101: 200}))


def _broken(
    family: str,
    name: str,
    sent: tuple[bytes, ...],
    *seen: Seen,
    code: ErrorCodes = ErrorCodes.PROTOCOL_ERROR,
) -> None:
    """The connection ends with *code*; at most *seen* was seen before."""
    ROWS.append(Row(family, name, _then(sent), seen, broken_by=code))


# ---- the plain truth, so that the refusals below mean something

_accepted("plain", "get", _get(), GOT)
_accepted("plain", "post", _post(body=b"hello"), HELLO)
_accepted("plain", "post with a length", _post(_length(b"5"), body=b"hello"), HELLO)
_accepted("plain", "post of nothing", _post(), POSTED)
_accepted("plain", "post that ends with its head", _get(method=b"POST", path=b"/post"), POSTED)
_accepted(
    "plain",
    "a body that looks like a request",
    _post(body=SMUGGLED),
    Seen("POST", "/post", SMUGGLED),
)
_accepted(
    "plain",
    "a body that looks like the last chunk",
    _post(body=CHUNKED),
    Seen("POST", "/post", CHUNKED),
)
_accepted(
    "plain",
    "a body that looks like a preface",
    _post(body=PREFACE),
    Seen("POST", "/post", PREFACE),
)
_accepted("plain", "options asterisk", _get(method=b"OPTIONS", path=b"*"), Seen("OPTIONS", "*"))
_accepted("plain", "lower-case method", _get(method=b"get"), Seen("get", "/get"))
_accepted(
    "plain",
    "cookie crumbs",
    _get((b"cookie", b"a=1"), (b"x", b"x"), (b"cookie", b"b=2")),
    GOT,
    fields={"cookie": "a=1; b=2"},
)
_accepted("plain", "repeated field", _get((b"x-y", b"a"), (b"x-y", b"b")), GOT, fields={"x-y": "a, b"})
_accepted("plain", "te trailers", _get((b"te", b"trailers")), GOT)
_accepted("plain", "trailers", _post(body=b"hello", trailers=[(b"x-sum", b"1")]), HELLO)


# ---- H2.CL: the length that is said and the length that is (RFC 9113 8.1.1; H2-6)

for _name, _value, _body in (
    ("zero before a request", b"0", SMUGGLED),
    ("shorter", b"4", b"hello"),
    ("longer", b"6", b"hello"),
    ("much longer", b"1000", b"hello"),
    ("of a body that is empty", b"5", b""),
    ("zero before chunks", b"0", CHUNKED),
    ("ends before a request", b"5", b"hello" + SMUGGLED),
):
    _early = POSTED if _value == b"0" else None
    _malformed("H2.CL", _name, _post(_length(_value), body=_body), early=_early)
_malformed("H2.CL", "get that ends with its head", _get(_length(b"5")))
_malformed("H2.CL", "post that ends with its head", _get(_length(b"44"), method=b"POST", path=b"/post"))
_malformed("H2.CL", "twice the same", _post(_length(b"5"), _length(b"5"), body=b"hello"))
_malformed("H2.CL", "twice, the first right", _post(_length(b"5"), _length(b"0"), body=b"hello"))
_malformed("H2.CL", "twice, the last right", _post(_length(b"0"), _length(b"5"), body=b"hello"))
_malformed(
    "H2.CL",
    "more in a second frame",
    (*_post(_length(b"5"))[:1], data(1, b"hello"), data(1, SMUGGLED, end=True)),
    early=HELLO,
)
_malformed(
    "H2.CL",
    "less in three frames",
    (*_post(_length(b"50"))[:1], data(1, b"hello"), data(1), data(1, b"x", end=True)),
)
_malformed("H2.CL", "shorter, and trailers", _post(_length(b"4"), body=b"hello", trailers=[(b"x", b"1")]))
_malformed("H2.CL", "longer, and trailers", _post(_length(b"6"), body=b"hello", trailers=[(b"x", b"1")]))
_accepted("H2.CL", "zero that ends with its head", _get(_length(b"0")), GOT)
_accepted("H2.CL", "right, and trailers", _post(_length(b"5"), body=b"hello", trailers=[(b"x", b"1")]), HELLO)
_accepted(
    "H2.CL",
    "get with a body",
    _post(_length(b"5"), body=b"hello", method=b"GET", path=b"/get"),
    Seen("GET", "/get", b"hello"),
)
_accepted(
    "H2.CL",
    "empty frames between",
    (*_post(_length(b"5"))[:1], data(1), data(1, b"he"), data(1), data(1, b"llo"), data(1, end=True)),
    HELLO,
)
_accepted(
    "H2.CL",
    "padding is no content",
    (
        *_post(_length(b"5"))[:1],
        frame(DATA, PADDED | END_STREAM, 1, bytes((len(SMUGGLED),)) + b"hello" + SMUGGLED),
    ),
    HELLO,
)
for _name, _value in {
    "plus": b"+5",
    "minus": b"-5",
    "minus zero": b"-0",
    "hexadecimal": b"0x5",
    "decimal point": b"5.0",
    "exponent": b"5e0",
    "underscore": b"5_0",
    "empty": b"",
    "a list": b"5, 5",
    "a list without space": b"5,5",
    "space in front": b" 5",
    "space behind": b"5 ",
    "space inside": b"5 5",
    "NUL behind": b"5\0",
    "line break behind": b"5\r\n",
    "a field behind": b"5\r\ntransfer-encoding: chunked",
    "superscript": b"\xb2",
    "Arabic digit": b"\xd9\xa5",
}.items():
    _malformed("H2.CL value", _name, _post(_length(_value), body=b"hello"))
for _name, _value in {
    "huge": b"9223372036854775808",
    "huge and wraps": b"18446744073709551621",
    "too many digits": b"0" * 20 + b"5",
}.items():
    _refused("H2.CL value", _name, _post(_length(_value))[:1], 413)
_accepted("H2.CL value", "leading zeros", _post(_length(b"005"), body=b"hello"), HELLO)
for _name, _field in {
    "upper case": b"Content-Length",
    "space behind": b"content-length ",
    "space in front": b" content-length",
    "colon behind": b"content-length:",
    "NUL behind": b"content-length\0",
    "value inside": b"content-length: 0\r\nx",
}.items():
    _malformed("H2.CL name", _name, _post((_field, b"0"), body=SMUGGLED))
_accepted("H2.CL name", "underscore", _post((b"content_length", b"0"), body=b"hello"), HELLO)
# The stream never ends: the client closes, and the request was none.
for _name, _fields in {"with a length": [_length(b"50")], "without a length": []}.items():
    ROWS.append(
        Row(
            "H2.CL",
            f"no end {_name}",
            (*_post(*_fields)[:1], data(1, SMUGGLED), NEXT),
            (SEEN_NEXT,),
            {1: ErrorCodes.INTERNAL_ERROR, 101: 200},
        )
    )


# ---- H2.TE and other fields of an HTTP/1.1 connection (RFC 9113 8.2.2; H2-2)

for _value in (b"chunked", b"Chunked", b"identity", b"gzip, chunked", b"", b"x"):
    _malformed("H2.TE", f"value {_value.decode()!r}", _post((b"transfer-encoding", _value), body=CHUNKED))
_malformed(
    "H2.TE",
    "and a length",
    _post((b"transfer-encoding", b"chunked"), _length(b"%d" % len(CHUNKED)), body=CHUNKED),
)
_malformed("H2.TE", "get that ends with its head", _get((b"transfer-encoding", b"chunked")))
for _name, _field in {
    "upper case": b"Transfer-Encoding",
    "one letter in upper case": b"transfer-encodinG",
    "space behind": b"transfer-encoding ",
    "tab behind": b"transfer-encoding\t",
    "space in front": b" transfer-encoding",
    "colon behind": b"transfer-encoding:",
    "colon in front": b":transfer-encoding",
    "value inside": b"transfer-encoding: chunked\r\nx",
    "behind a line break": b"x: y\r\ntransfer-encoding",
    "behind a line feed": b"x: y\ntransfer-encoding",
    "NUL inside": b"transfer\0-encoding",
    "vertical tab behind": b"transfer-encoding\x0b",
    "obs-text": b"transfer-encod\xedng",
    "kelvin sign": b"\xe2\x84\xaaeep-alive",
}.items():
    _malformed("H2.TE name", _name, _post((_field, b"chunked"), body=CHUNKED))
for _name, _field in {
    "underscore": b"transfer_encoding",
    "one letter more": b"xtransfer-encoding",
    "two dashes": b"transfer--encoding",
    "http prefix": b"http-transfer-encoding",
}.items():
    _accepted(
        "H2.TE name",
        _name,
        _post((_field, b"chunked"), _length(b"%d" % len(CHUNKED)), body=CHUNKED),
        Seen("POST", "/post", CHUNKED),
        fields={"transfer-encoding": None},
    )
for _field, _value in (
    (b"connection", b"close"),
    (b"connection", b"content-length"),
    (b"connection", b""),
    (b"keep-alive", b"timeout=5"),
    (b"proxy-connection", b"keep-alive"),
    (b"upgrade", b"h2c"),
    (b"upgrade", b"websocket"),
    (b"te", b"chunked"),
    (b"te", b"trailers, chunked"),
    (b"te", b"trailers;q=0"),
    (b"te", b""),
):
    _malformed(
        "connection fields", f"{_field.decode()} {_value.decode()}", _post((_field, _value), body=CHUNKED)
    )


# ---- line breaks and other characters in values (RFC 9113 8.2.1; H2-1)

_INJECTED: Final = {
    "CRLF": b"x\r\ntransfer-encoding: chunked",
    "LF": b"x\ntransfer-encoding: chunked",
    "CR": b"x\rtransfer-encoding: chunked",
    "CRLF and a request": b"x\r\n\r\n" + SMUGGLED,
    "CRLF behind": b"x\r\n",
    "folded": b"x\r\n y",
    "NUL": b"x\0y",
    "escape": b"x\x1b",
    "DEL": b"x\x7f",
    "space in front": b" x",
    "space behind": b"x ",
    "tab in front": b"\tx",
    "tab behind": b"x\t",
}
for _name, _value in _INJECTED.items():
    _malformed("value", _name, _post((b"x-y", _value), body=CHUNKED))
    _malformed("cookie", _name, _get((b"cookie", b"a=1"), (b"cookie", _value)))
    _malformed("Host value", _name, _get((b"host", _value), authority=None))
    _malformed("trailer value", _name, _post(body=b"hello", trailers=[(b"x-y", _value)]))
_accepted("value", "obs-text", _get((b"x-y", b"\xe4\xff")), GOT, fields={"x-y": "\xe4\xff"})
_accepted("value", "empty", _get((b"x-y", b"")), GOT, fields={"x-y": ""})
_accepted("value", "tab inside", _get((b"x-y", b"a\tb")), GOT, fields={"x-y": "a\tb"})
_accepted("value", "escaped line break", _get((b"x-y", b"%0d%0aa: b")), GOT, fields={"x-y": "%0d%0aa: b"})
_accepted("value", "a colon", _get((b"x-y", b"content-length: 5")), GOT, fields={"x-y": "content-length: 5"})


# ---- names (RFC 9113 8.2.1; H2-1)

for _name, _field in {
    "empty": b"",
    "upper case": b"X-Y",
    "one upper-case letter": b"x-yZ",
    "a colon inside": b"x:y",
    "a whole field": b"x: y\r\nhost: evil\r\nz",
    "a whole request": b"x: y\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\nz",
    "CRLF behind": b"x\r\n",
    "LF inside": b"x\ny",
    "CR inside": b"x\ry",
    "NUL": b"x\0",
    "space inside": b"x y",
    "space in front": b" x",
    "space behind": b"x ",
    "tab": b"x\t",
    "DEL": b"x\x7f",
    "obs-text": b"x\xe4",
    "parenthesis": b"x(y)",
    "slash": b"x/y",
    "comma": b"x,y",
    "at": b"x@y",
    "quotes": b'"x"',
    "equals": b"x=y",
    "semicolon": b"x;y",
}.items():
    _malformed("name", _name, _get((_field, b"v")))
_accepted("name", "all characters", _get((b"!#$%&'*+-.^`|~9az", b"v")), GOT)
_accepted("name", "underscore", _get((b"x_user", b"evil")), GOT, fields={"x-user": None})
_accepted(
    "name",
    "underscore twin",
    _get((b"x-user", b"good"), (b"x_user", b"evil")),
    GOT,
    fields={"x-user": "good"},
)
_accepted(
    "name", "host with underscore", _get((b"ho_st", b"evil"), (b"host_", b"evil")), GOT, fields={"host": "a"}
)
_accepted(
    "name",
    "x-forwarded",
    _get((b"x-forwarded-for", b"10.0.0.1"), (b"x-real-ip", b"10.0.0.1")),
    GOT,
    fields={"x-real-ip": None},
)


# ---- pseudo-header fields: which, how often, where (RFC 9113 8.3; H2-4)

for _name, _fields in {
    "no method": _head(method=None),
    "no scheme": _head(scheme=None),
    "no path": _head(path=None),
    "nothing": [],
    "only a method": _head(scheme=None, path=None, authority=None),
    "unknown": [*_head(), (b":x", b"y")],
    "without a name": [*_head(), (b":", b"y")],
    "status": [*_head(), (b":status", b"200")],
    "protocol": [*_head(), (b":protocol", b"websocket")],
    "upper case": [*_head(path=None), (b":Path", b"/get")],
    "space behind": [*_head(path=None), (b":path ", b"/get")],
    "two colons": [*_head(path=None), (b"::path", b"/get")],
    "path with a line break in its name": [*_head(path=None), (b":path\r\nx", b"/get")],
    "two methods": [(b":method", b"POST"), *_head()],
    "two methods that are the same": [(b":method", b"GET"), *_head()],
    "two schemes": [(b":scheme", b"https"), *_head()],
    "two paths": [*_head(), (b":path", b"/smuggled")],
    "two authorities": [*_head(), (b":authority", b"evil")],
    "behind a field": [(b"x", b"y"), *_head()],
    "path behind a field": [*_head(path=None), (b"x", b"y"), (b":path", b"/get")],
    "path again behind a field": [*_head((b"x", b"y")), (b":path", b"/smuggled")],
    "authority behind Host": [*_head(authority=None), (b"host", b"a"), (b":authority", b"evil")],
    "method behind an empty name": [(b"", b""), *_head()],
}.items():
    _malformed("pseudo", _name, (headers(1, _fields),))
_accepted("pseudo", "in another order", (headers(1, _head()[::-1]),), GOT)


# ---- :method (H2-14)

for _name, _value in {
    "empty": b"",
    "a request line": b"GET /smuggled HTTP/1.1",
    "a request line and a field": b"GET /smuggled HTTP/1.1\r\nX:",
    "a whole request": SMUGGLED + b"GET",
    "CRLF in front": b"\r\nGET",
    "CRLF behind": b"GET\r\n",
    "space in front": b" GET",
    "space behind": b"GET ",
    "tab": b"GE\tT",
    "NUL": b"GET\0",
    "colon": b"GET:",
    "slash": b"GET/",
    "obs-text": b"G\xc3\x8bT",
    "quotes": b'"GET"',
    "comma": b"GET,POST",
}.items():
    _malformed(":method", _name, _get(method=_value))
_refused(":method", "too long", _get(method=b"G" * 9000), 501)


# ---- :path (RFC 9113 8.3.1; H2-14)

for _name, _value in {
    "empty": b"",
    "space": b"/a b",
    "a version": b"/get HTTP/1.1",
    "a version and a field": b"/get HTTP/1.1\r\nX: y",
    "a whole request": b"/get HTTP/1.1\r\nHost: a\r\n\r\nGET /smuggled",
    "CRLF": b"/get\r\nx: y",
    "LF": b"/get\nx: y",
    "CR": b"/get\rx: y",
    "CRLF in front": b"\r\n/get",
    "space in front": b" /get",
    "space behind": b"/get ",
    "tab": b"/get\t",
    "NUL": b"/get\0",
    "DEL": b"/get\x7f",
    "obs-text": b"/g\xe4t",
    "vertical tab": b"/get\x0bHTTP/1.1",
    "absolute form": b"http://a/get",
    "absolute form of another host": b"http://evil/get",
    "authority form": b"a:80",
    "asterisk": b"*",
    "asterisk and more": b"*/get",
    "relative": b"get",
    "query only": b"?q",
    "at in front": b"@evil/get",
    "colon in front": b":80/get",
    "dot in front": b".evil/get",
    "backslash in front": b"\\get",
    "fragment": b"/get#x",
    "fragment behind the query": b"/get?q#x",
}.items():
    _malformed(":path", _name, _get(path=_value))
for _name, _value in {
    "encoded NUL": b"/get%00",
    "broken escape": b"/get%",
    "above the root": b"/../get",
    "above the root encoded": b"/%2e%2e/get",
    "above the root by an encoded slash": b"/..%2fget",
    "dots behind an empty segment": b"/a//../get",
}.items():
    _refused(":path", _name, _get(path=_value))
_refused(":path", "too long", _get(path=b"/" + b"a" * 9000), 414)
for _name, _value, _path in (
    ("two slashes", b"//evil/get", "//evil/get"),
    ("encoded line break", b"/a%0d%0aX:%20x", "/a\r\nX: x"),
    ("encoded space and version", b"/get%20HTTP/1.1", "/get HTTP/1.1"),
    ("encoded fragment", b"/get%23x", "/get#x"),
    ("encoded dots", b"/a/%2e%2e/get", "/get"),
    ("url in the path", b"/http://evil/get", "/http://evil/get"),
    ("query with encoded line break", b"/get?a%0d%0ab", "/get?a%0d%0ab"),
):
    _accepted(":path", _name, _get(path=_value), Seen("GET", _path))


# ---- :scheme: it is nobody's prefix (H2-14)

for _name, _value in {
    "empty": b"",
    "a url": b"http://evil/smuggled?",
    "a colon": b"http:",
    "a slash": b"http/",
    "CRLF": b"http\r\nx: y",
    "a request": b"http\r\n\r\n" + SMUGGLED,
    "space": b"http ",
    "NUL": b"http\0",
    "digit in front": b"1http",
    "obs-text": b"htt\xfe",
}.items():
    _malformed(":scheme", _name, _get(scheme=_value))
for _value in (b"https", b"HTTP", b"ftp", b"javascript"):
    _accepted(":scheme", _value.decode(), _get(scheme=_value), GOT, fields={"host": "a"})


# ---- :authority and Host (RFC 9113 8.3.1; H2-5)

for _name, _value in {
    "userinfo": b"user@a",
    "userinfo and password": b"user:pass@a",
    "empty userinfo": b"@a",
    "space": b"a b",
    "comma and space": b"a, b",
    "slash": b"a/smuggled",
    "question mark": b"a?x",
    "fragment": b"a#x",
    "backslash": b"a\\b",
    "CRLF": b"a\r\nx: y",
    "a request": b"a\r\n\r\n" + SMUGGLED,
    "LF behind": b"a\n",
    "NUL": b"a\0",
    "tab": b"a\tb",
    "space in front": b" a",
    "a port of letters": b"a:b",
    "a negative port": b"a:-1",
    "two ports": b"a:80:80",
    "bad IPv6": b"[::g]",
    "text behind IPv6": b"[::1]a",
    "obs-text": b"\xe4",
    "quotes": b'"a"',
    "a url": b"http://a",
}.items():
    _malformed(":authority", _name, _get(authority=_value))
    _malformed("Host", _name, _get((b"host", _value), authority=None))
for _name, _value in {"differs": b"evil", "has a port": b"a:80", "is empty": b"", "has a dot": b"a."}.items():
    _malformed(":authority", f"Host {_name}", _get((b"host", _value)))
_malformed(":authority", "empty and Host", _get((b"host", b"a"), authority=b""))
_malformed(":authority", "and two Hosts", _get((b"host", b"a"), (b"host", b"a")))
_malformed("Host", "two", _get((b"host", b"a"), (b"host", b"evil"), authority=None))
_malformed("Host", "two that are the same", _get((b"host", b"a"), (b"host", b"a"), authority=None))
_malformed("Host", "upper case", _get((b"Host", b"a")))
_refused(":authority", "none and no Host", _get(authority=None))
_refused(":authority", "empty and no Host", _get(authority=b""))
_refused(":authority", "none and an empty Host", _get((b"host", b""), authority=None))
_accepted(":authority", "and the same Host", _get((b"x", b"y"), (b"host", b"a")), GOT, fields={"host": "a"})
_accepted(":authority", "and Host in other case", _get((b"host", b"A")), GOT, fields={"host": "a"})
_accepted("Host", "alone", _get((b"x", b"y"), (b"host", b"a"), authority=None), GOT, fields={"host": "a"})
_accepted(":authority", "IPv6 and a port", _get(authority=b"[::1]:8080"), GOT, fields={"host": "[::1]:8080"})


# ---- trailers (RFC 9113 8.1; H2-4)

for _name, _pair in {
    "path": (b":path", b"/smuggled"),
    "method": (b":method", b"DELETE"),
    "status": (b":status", b"200"),
    "unknown pseudo": (b":x", b"y"),
    "transfer-encoding": (b"transfer-encoding", b"chunked"),
    "connection": (b"connection", b"close"),
    "upgrade": (b"upgrade", b"h2c"),
    "te": (b"te", b"chunked"),
    "upper case": (b"X", b"y"),
    "empty name": (b"", b"y"),
    "a line break in the name": (b"x: y\r\n\r\nGET /smuggled HTTP/1.1\r\nz", b"y"),
}.items():
    _malformed("trailer", _name, _post(body=b"hello", trailers=[(b"x-sum", b"1"), _pair]))
for _name, _pair in {
    "content-length": (b"content-length", b"50"),
    "host": (b"host", b"evil"),
    "cookie": (b"cookie", b"admin=1"),
    "authorization": (b"authorization", b"Basic eDp5"),
    "expect": (b"expect", b"100-continue"),
    "underscore twin": (b"x_real_ip", b"127.0.0.1"),
}.items():
    _accepted(
        "trailer",
        _name,
        _post(_length(b"5"), body=b"hello", trailers=[_pair]),
        HELLO,
        fields={"cookie": None, "authorization": None, "host": "a", "x-real-ip": None, "expect": None},
    )
_malformed("trailer", "that does not end the stream", (*_post()[:1], headers(1, [(b"x", b"y")], end=False)))
_malformed("trailer", "a second head", (*_post()[:1], headers(1, _head(path=b"/smuggled"), end=False)))
_malformed("trailer", "a second head that ends", (*_post()[:1], headers(1, _head(path=b"/smuggled"))))


# ---- tunnelling: what has no body, or no end that HTTP/1.1 knows

_accepted("tunnel", "head", _get(method=b"HEAD"), Seen("HEAD", "/get"))
_accepted(
    "tunnel",
    "head with a request in its body",
    _post(method=b"HEAD", body=SMUGGLED),
    Seen("HEAD", "/post", SMUGGLED),
)
_accepted(
    "tunnel",
    "head with a length",
    _post(_length(b"%d" % len(SMUGGLED)), method=b"HEAD", body=SMUGGLED),
    Seen("HEAD", "/post", SMUGGLED),
)
_malformed(
    "tunnel",
    "head with a length of zero",
    _post(_length(b"0"), method=b"HEAD", body=SMUGGLED),
    early=Seen("HEAD", "/post"),
)
_accepted(
    "tunnel",
    "get with a request in its body",
    _post(method=b"GET", body=SMUGGLED),
    Seen("GET", "/post", SMUGGLED),
)
_accepted(
    "tunnel", "delete with a body", _post(method=b"DELETE", body=SMUGGLED), Seen("DELETE", "/post", SMUGGLED)
)
_accepted("tunnel", "get with a body that is empty", _post(method=b"GET"), Seen("GET", "/post"))


# ---- Expect (RFC 9110 10.1.1)

_CONTINUE: Final = (b"expect", b"100-continue")
_accepted("Expect", "with a length", _post(_CONTINUE, _length(b"5"), body=b"hello"), HELLO)
_accepted("Expect", "without a length", _post(_CONTINUE, body=b"hello"), HELLO)
_accepted("Expect", "and no body", _post(_CONTINUE), POSTED)
_accepted("Expect", "that ends with its head", _get(_CONTINUE), GOT)
_malformed(
    "Expect", "and a body that is longer", _post(_CONTINUE, _length(b"0"), body=SMUGGLED), early=POSTED
)
_malformed("Expect", "upper case", _post((b"Expect", b"100-continue"), body=b"hello"))
_refused("Expect", "unknown", _post((b"expect", b"x"), body=b"hello"), 417)


# ---- CONNECT (RFC 9113 8.5, RFC 8441 4; H2-15, H2-16)

_refused("CONNECT", "plain", (headers(1, _head(method=b"CONNECT", scheme=None, path=None)),), 501)
_refused(
    "CONNECT",
    "and a request behind it",
    (headers(1, _head(method=b"CONNECT", scheme=None, path=None), end=False), data(1, SMUGGLED, end=True)),
    501,
)
for _name, _fields in {
    "with path and scheme": _head(method=b"CONNECT"),
    "with a path": _head(method=b"CONNECT", scheme=None),
    "with a scheme": _head(method=b"CONNECT", path=None),
    "without authority": _head(method=b"CONNECT", scheme=None, path=None, authority=None),
    "with userinfo": _head(method=b"CONNECT", scheme=None, path=None, authority=b"u@a:80"),
    "with CRLF": _head(method=b"CONNECT", scheme=None, path=None, authority=b"a:80 HTTP/1.1\r\n\r\n"),
}.items():
    _malformed("CONNECT", _name, (headers(1, _fields, end=False), data(1, SMUGGLED, end=True)))


def _extended(protocol: bytes, *fields: tuple[bytes, bytes], **pseudo: bytes | None) -> tuple[bytes, ...]:
    head = _head(**{"method": b"CONNECT", **pseudo})
    return headers(1, [*head, (b":protocol", protocol), *fields], end=False), data(1, SMUGGLED, end=True)


for _name, _value in {
    "empty": b"",
    "CRLF": b"websocket\r\nx: y",
    "a request": b"websocket\r\n\r\n" + SMUGGLED,
    "space": b"web socket",
    "comma": b"websocket, h2c",
    "NUL": b"websocket\0",
}.items():
    _malformed("extended CONNECT", _name, _extended(_value))
_malformed("extended CONNECT", "of GET", _extended(b"websocket", method=b"GET"))
_malformed("extended CONNECT", "without a path", _extended(b"websocket", path=None))
_malformed("extended CONNECT", "without a scheme", _extended(b"websocket", scheme=None))
_malformed("extended CONNECT", "with upgrade", _extended(b"websocket", (b"upgrade", b"websocket")))
_malformed(
    "extended CONNECT", "with transfer-encoding", _extended(b"websocket", (b"transfer-encoding", b"chunked"))
)
_malformed("extended CONNECT", "with connection", _extended(b"websocket", (b"connection", b"upgrade")))
_malformed("extended CONNECT", "with another Host", _extended(b"websocket", (b"host", b"evil")))


# ---- frames (RFC 9113 4.3, 5.1, 6)

_accepted(
    "frames",
    "a head in many pieces",
    (in_pieces(1, [section([item]) for item in _head()] + [b"", b""]),),
    GOT,
)
_accepted(
    "frames", "a head cut within a field", (in_pieces(1, [bytes((byte,)) for byte in section(_head())]),), GOT
)
_accepted(
    "frames",
    "a padded head",
    (
        frame(
            HEADERS,
            PADDED | END_HEADERS | END_STREAM,
            1,
            bytes((len(SMUGGLED),)) + section(_head()) + SMUGGLED,
        ),
    ),
    GOT,
)
_accepted("frames", "an unknown frame", (frame(0xFA, 0xFF, 1, SMUGGLED), *_get()), GOT)
_accepted(
    "frames",
    "an unknown frame within a body",
    (*_post()[:1], data(1, b"he"), frame(0xFA, 0, 1, SMUGGLED), data(1, b"llo", end=True)),
    HELLO,
)
_accepted(
    "frames",
    "PRIORITY within a body",
    (*_post()[:1], frame(PRIORITY, 0, 1, b"\0\0\0\0\x10"), data(1, b"hello", end=True)),
    HELLO,
)
_CUT: Final = section(_head())
_FIRST: Final = frame(HEADERS, END_STREAM, 1, _CUT[:10])
_LAST: Final = frame(CONTINUATION, END_HEADERS, 1, _CUT[10:])
for _name, _between in {
    "another head": headers(3, _head(path=b"/smuggled")),
    "the same head": headers(1, _head(path=b"/smuggled")),
    "DATA": data(1, SMUGGLED, end=True),
    "DATA of another stream": data(3, SMUGGLED, end=True),
    "CONTINUATION of another stream": frame(CONTINUATION, 0, 3, section([(b"x", b"y")])),
    "PRIORITY": frame(PRIORITY, 0, 1, b"\0\0\0\0\x10"),
    "RST_STREAM": reset(1),
    "an unknown frame": frame(0xFA, 0, 1, SMUGGLED),
    "a push": frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + _CUT),
}.items():
    _broken("CONTINUATION", f"behind {_name}", (_FIRST + _between + _LAST,))
_broken("CONTINUATION", "without a head", (frame(CONTINUATION, END_HEADERS, 1, _CUT),))
_broken("CONTINUATION", "behind the end of a head", (*_get(), frame(CONTINUATION, END_HEADERS, 1, _CUT)), GOT)
_broken("CONTINUATION", "on no stream", (frame(CONTINUATION, END_HEADERS, 0, _CUT),))
_broken("frames", "DATA on no stream", (data(0, SMUGGLED, end=True),))
_broken("frames", "a head on no stream", (headers(0, _head()),))
_broken("frames", "DATA on an idle stream", (data(1, SMUGGLED, end=True),))
_broken("frames", "an even stream", (headers(2, _head(path=b"/smuggled")),))
_broken("frames", "a stream below the last", (headers(5, _head()), headers(3, _head(path=b"/smuggled"))), GOT)
_broken("frames", "padding longer than the frame", (*_post()[:1], frame(DATA, PADDED, 1, b"\xffhello")))
_broken("frames", "a push", (frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + _CUT),))
_broken("frames", "a request of HTTP/1.1", (SMUGGLED,), code=ErrorCodes.FRAME_SIZE_ERROR)
_broken("frames", "a second preface", (PREFACE,), code=ErrorCodes.FRAME_SIZE_ERROR)
_broken(
    "frames",
    "a body that is too large for a frame",
    (*_post()[:1], data(1, b"x" * 16_385, end=True)),
    code=ErrorCodes.FRAME_SIZE_ERROR,
)
_broken(
    "HPACK",
    "an index beyond the table",
    (in_pieces(1, [b"\xff\x80\x01"]),),
    code=ErrorCodes.COMPRESSION_ERROR,
)
_broken("HPACK", "index zero", (in_pieces(1, [b"\x80"]),), code=ErrorCodes.COMPRESSION_ERROR)
_broken("HPACK", "a field that is cut off", (in_pieces(1, [_CUT[:-1]]),), code=ErrorCodes.COMPRESSION_ERROR)
_broken(
    "HPACK",
    "a table larger than allowed",
    (in_pieces(1, [b"\x3f\xe1\xff\x03" + _CUT]),),
    code=ErrorCodes.COMPRESSION_ERROR,
)
_accepted("HPACK", "an empty table", (in_pieces(1, [b"\x20" + _CUT]),), GOT)
for _name, _more in {
    "DATA": data(1, SMUGGLED),
    "DATA that ends again": data(1, SMUGGLED, end=True),
    "trailers": headers(1, [(b"x", b"y")]),
    "a second head": headers(1, _head(path=b"/smuggled")),
}.items():
    _code = ErrorCodes.STREAM_CLOSED  # RFC 9113 5.1: half-closed (remote)
    _malformed("end", f"{_name} behind a head", (_get()[0] + _more,), early=GOT, code=_code)
    _sent = (_post()[0], data(1, b"hello", end=True) + _more)
    _malformed("end", f"{_name} behind a body", _sent, early=HELLO, code=_code)
