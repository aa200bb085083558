"""Responses that two programs on the way may read differently, and what a client may be told of each.

``sent`` is what an HTTP server, or the application behind CGI, FastCGI, SCGI or uwsgi, says to one request.
A client gets a whole response that a strict reader of RFC 9112 would find in it, or a failure that it can
see: a 502, or a response that is cut short. Never is anything left over for the next request, on the
client's connection or on the pooled one to the server.

Nothing here runs anything: `test_smuggling_responses` does.
"""

# ruff: noqa: E501 - a row is a line

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Outcome(Enum):
    """What may become of a response."""

    WHOLE = "the client gets it whole"
    REFUSED = "the client gets a 502 and nothing else"
    BROKEN = "the client gets a 502, or sees that the response is cut short"
    EITHER = "whole or broken: protocols differ in who counts"


@dataclass(frozen=True)
class Row:
    """What a backend says, and what becomes of it."""

    name: str
    sent: bytes
    outcome: Outcome
    status: int = 200
    body: bytes = b"hello"
    method: str = "GET"
    closes: bool = False
    """The server closes the connection behind it; otherwise it waits for the next request."""

    @property
    def id(self) -> str:
        return self.name.replace(" ", "-")


OK: Final = b"HTTP/1.1 200 OK\r\n"
LENGTH: Final = b"Content-Length: 5\r\n"
CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
EVIL: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
"""A second response, which no client may ever see."""

HELLO: Final = b"\r\nhello"
HELLO_CHUNK: Final = b"\r\n5\r\nhello\r\n0\r\n\r\n"


def _whole(
    name: str,
    sent: bytes,
    status: int = 200,
    body: bytes = b"hello",
    method: str = "GET",
    *,
    closes: bool = False,
) -> Row:
    return Row(name, sent, Outcome.WHOLE, status, body, method, closes)


def _refused(name: str, sent: bytes, method: str = "GET", *, closes: bool = False) -> Row:
    return Row(name, sent, Outcome.REFUSED, method=method, closes=closes)


def _broken(name: str, sent: bytes, *, closes: bool = False) -> Row:
    return Row(name, sent, Outcome.BROKEN, closes=closes)


def _either(name: str, sent: bytes, status: int = 200, body: bytes = b"hello") -> Row:
    return Row(name, sent, Outcome.EITHER, status, body)


# What an HTTP server says (H1-7 to H1-15, H1-22, H1-24, H-8, H-11, H-12, H-16).
HTTP_ROWS: Final = [
    _whole("length", OK + LENGTH + HELLO),
    _whole("chunks", OK + CHUNKED + HELLO_CHUNK),
    _whole("until the close", OK + HELLO, closes=True),
    _whole("connection close", OK + b"Connection: close\r\n" + LENGTH + HELLO, closes=True),
    _whole("connection close and still open", OK + b"Connection: close\r\n" + LENGTH + HELLO),
    _whole("HTTP/1.0 until the close", b"HTTP/1.0 200 OK\r\n" + HELLO, closes=True),
    _whole("HTTP/1.0 with a length", b"HTTP/1.0 200 OK\r\n" + LENGTH + HELLO, closes=True),
    _whole("no reason", b"HTTP/1.1 200 \r\n" + LENGTH + HELLO),
    _whole("no reason and no space", b"HTTP/1.1 200\r\n" + LENGTH + HELLO),
    _whole("unknown status", b"HTTP/1.1 299 Odd\r\n" + LENGTH + HELLO, 299),
    _whole("status beyond 599", b"HTTP/1.1 799 Odd\r\n" + LENGTH + HELLO, 799),
    _whole("a higher minor version", b"HTTP/1.2 200 OK\r\n" + LENGTH + HELLO),
    _whole("204", b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    _whole("304", b"HTTP/1.1 304 Not Modified\r\n\r\n", 304, b""),
    _whole("304 with a length", b"HTTP/1.1 304 Not Modified\r\n" + LENGTH + b"\r\n", 304, b""),
    _whole("HEAD with a length", OK + LENGTH + b"\r\n", 200, b"", "HEAD"),
    _whole("HEAD with chunks announced", OK + CHUNKED + b"\r\n", 200, b"", "HEAD"),
    _whole("spaces around the length", OK + b"Content-Length:   5  \r\n" + HELLO),
    _whole("leading zeros in the length", OK + b"Content-Length: 0005\r\n" + HELLO),
    _whole("extension of a chunk", OK + CHUNKED + b"\r\n5;a=b\r\nhello\r\n0\r\n\r\n"),
    _whole("trailers nobody asked for", OK + CHUNKED + b"\r\n5\r\nhello\r\n0\r\nX: 1\r\n\r\n"),
    _whole("trailers that frame", OK + CHUNKED + b"\r\n5\r\nhello\r\n0\r\nContent-Length: 1\r\n\r\n"),
    # Interim responses.
    _whole("103 first", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK + LENGTH + HELLO),
    _whole("100 that nobody waits for", b"HTTP/1.1 100 Continue\r\n\r\n" + OK + LENGTH + HELLO),
    _whole("several", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3 + OK + LENGTH + HELLO),
    _whole("103 with a length", b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n" + OK + LENGTH + HELLO),
    _whole("103 with a coding", b"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n" + OK + LENGTH + HELLO),
    _refused("103 with a body", b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhello" + OK + LENGTH + HELLO),
    _refused("101 that nobody offered", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" + EVIL),
    _refused("interim and nothing", b"HTTP/1.1 103 Early Hints\r\n\r\n", closes=True),
    # More than the response.
    _whole("a second response", OK + LENGTH + HELLO + EVIL),
    _whole("a second response behind chunks", OK + CHUNKED + HELLO_CHUNK + EVIL),
    _whole("a second response behind 204", b"HTTP/1.1 204 No Content\r\n\r\n" + EVIL, 204, b""),
    _whole("a second response behind 304", b"HTTP/1.1 304 Not Modified\r\n" + LENGTH + b"\r\n" + EVIL, 304, b""),
    _whole("a second response behind HEAD", OK + LENGTH + b"\r\n" + EVIL, 200, b"", "HEAD"),
    _whole("an interim response behind", OK + LENGTH + HELLO + b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    _whole("a body behind 204", b"HTTP/1.1 204 No Content\r\n" + LENGTH + HELLO, 204, b""),
    _whole("chunks behind 204", b"HTTP/1.1 204 No Content\r\n" + CHUNKED + HELLO_CHUNK, 204, b""),
    _whole("a body behind 304", b"HTTP/1.1 304 Not Modified\r\n" + LENGTH + HELLO, 304, b""),
    _whole("a body behind HEAD", OK + LENGTH + HELLO, 200, b"", "HEAD"),
    _whole("a body behind HEAD in chunks", OK + CHUNKED + HELLO_CHUNK, 200, b"", "HEAD"),
    _whole("a byte behind the body", OK + LENGTH + HELLO + b"\n"),
    _whole("a line break behind the body", OK + LENGTH + HELLO + b"\r\n"),
    _whole("a body behind length zero", OK + b"Content-Length: 0\r\n" + HELLO, 200, b""),
    # Less than the response.
    _refused("nothing", b"", closes=True),
    _refused("half a status line", b"HTTP/1.1 2", closes=True),
    _refused("half a head", OK + b"X: ", closes=True),
    _refused("no empty line", OK + LENGTH, closes=True),
    _broken("no body", OK + LENGTH + b"\r\n", closes=True),
    _broken("half a body", OK + LENGTH + b"\r\nhel", closes=True),
    _broken("no last chunk", OK + CHUNKED + b"\r\n5\r\nhello\r\n", closes=True),
    _broken("half a chunk", OK + CHUNKED + b"\r\n5\r\nhel", closes=True),
    _broken("no trailer section", OK + CHUNKED + b"\r\n5\r\nhello\r\n0\r\n", closes=True),
    # Two lengths, or none.
    _refused("length and chunks", OK + LENGTH + CHUNKED + HELLO_CHUNK),
    _refused("chunks and length", OK + CHUNKED + LENGTH + HELLO_CHUNK),
    _refused("twice the same length", OK + LENGTH + LENGTH + HELLO),
    _refused("two lengths", OK + LENGTH + b"Content-Length: 6\r\n" + HELLO),
    _refused("a list of lengths", OK + b"Content-Length: 5, 5\r\n" + HELLO),
    _refused("a signed length", OK + b"Content-Length: +5\r\n" + HELLO),
    _refused("a negative length", OK + b"Content-Length: -5\r\n" + HELLO),
    _refused("a hexadecimal length", OK + b"Content-Length: 0x5\r\n" + HELLO),
    _refused("an empty length", OK + b"Content-Length:\r\n" + HELLO),
    _refused("a length of letters", OK + b"Content-Length: five\r\n" + HELLO),
    _refused("a length beyond 64 bits", OK + b"Content-Length: 18446744073709551621\r\n" + HELLO),
    _refused("a folded length", OK + b"Content-Length:\r\n 5\r\n" + HELLO),
    _refused("gzip below chunked", OK + b"Transfer-Encoding: gzip, chunked\r\n" + HELLO_CHUNK),
    _refused("chunked below gzip", OK + b"Transfer-Encoding: chunked, gzip\r\n" + HELLO_CHUNK),
    _refused("chunked twice", OK + CHUNKED + CHUNKED + HELLO_CHUNK),
    _refused("xchunked", OK + b"Transfer-Encoding: xchunked\r\n" + HELLO_CHUNK),
    _refused("identity", OK + b"Transfer-Encoding: identity\r\n" + HELLO, closes=True),
    _refused("an empty coding", OK + b"Transfer-Encoding:\r\n" + HELLO, closes=True),
    _refused("chunks in HTTP/1.0", b"HTTP/1.0 200 OK\r\n" + CHUNKED + HELLO_CHUNK, closes=True),
    _refused("a coding with a vertical tab", OK + b"Transfer-Encoding: \x0bchunked\r\n" + HELLO_CHUNK),
    _refused("a coding before a space and a colon", OK + LENGTH + b"Transfer-Encoding : chunked\r\n" + HELLO_CHUNK),
    _refused("a coding in a folded line", OK + b"X: x\r\n Transfer-Encoding: chunked\r\n" + HELLO_CHUNK),
    # Chunks.
    _broken("a chunk size with 0x", OK + CHUNKED + b"\r\n0x5\r\nhello\r\n0\r\n\r\n"),
    _broken("a signed chunk size", OK + CHUNKED + b"\r\n+5\r\nhello\r\n0\r\n\r\n"),
    _broken("a chunk size beyond 64 bits", OK + CHUNKED + b"\r\n10000000000000005\r\nhello\r\n0\r\n\r\n"),
    _broken("a chunk size with a space", OK + CHUNKED + b"\r\n5 \r\nhello\r\n0\r\n\r\n"),
    _broken("an empty chunk size", OK + CHUNKED + b"\r\n\r\nhello\r\n0\r\n\r\n"),
    _broken("bare LF behind a chunk size", OK + CHUNKED + b"\r\n5\nhello\r\n0\r\n\r\n"),
    _broken("bare LF in an extension", OK + CHUNKED + b"\r\n5;a\nhello\r\n0\r\n\r\n"),
    _broken("an open quote in an extension", OK + CHUNKED + b'\r\n5;a="\r\nhello\r\n0\r\n\r\n'),
    _broken("an extension without a name", OK + CHUNKED + b"\r\n5;\r\nhello\r\n0\r\n\r\n"),
    _broken("bare LF behind a chunk", OK + CHUNKED + b"\r\n5\r\nhello\n0\r\n\r\n"),
    _broken("nothing behind a chunk", OK + CHUNKED + b"\r\n5\r\nhello0\r\n\r\n"),
    _broken("two bytes behind a chunk", OK + CHUNKED + b"\r\n5\r\nhelloXX0\r\n\r\n"),
    _broken("a second chunk without a size", OK + CHUNKED + b"\r\n5\r\nhello\r\nhello\r\n0\r\n\r\n"),
    _broken("an extension that is too long", OK + CHUNKED + b"\r\n5;" + b"a" * 5000 + b"\r\nhello\r\n0\r\n\r\n"),
    _broken("a folded trailer", OK + CHUNKED + b"\r\n5\r\nhello\r\n0\r\nX: 1\r\n 2\r\n\r\n"),
    _broken("a malformed trailer", OK + CHUNKED + b"\r\n5\r\nhello\r\n0\r\nX\r\n\r\n"),
    _broken("trailers that are too long", OK + CHUNKED + b"\r\n5\r\nhello\r\n0\r\nX: " + b"x" * 70000 + b"\r\n\r\n"),
    # The head.
    _refused("HTTP/0.9", b"hello", closes=True),
    _refused("HTTP/0.9 that looks like a head", b"X: x\r\n\r\nhello", closes=True),
    _refused("HTTP/2", b"HTTP/2.0 200 OK\r\n" + LENGTH + HELLO),
    _refused("HTTP/2 without minor", b"HTTP/2 200 OK\r\n" + LENGTH + HELLO),
    _refused("lower case version", b"http/1.1 200 OK\r\n" + LENGTH + HELLO),
    _refused("another protocol", b"ICY 200 OK\r\n" + LENGTH + HELLO),
    _refused("two digits of status", b"HTTP/1.1 20 OK\r\n" + LENGTH + HELLO),
    _refused("four digits of status", b"HTTP/1.1 2000 OK\r\n" + LENGTH + HELLO),
    _refused("status below 100", b"HTTP/1.1 099 OK\r\n" + LENGTH + HELLO),
    _refused("status of letters", b"HTTP/1.1 OK\r\n" + LENGTH + HELLO),
    _refused("signed status", b"HTTP/1.1 +200 OK\r\n" + LENGTH + HELLO),
    _refused("two spaces before the status", b"HTTP/1.1  200 OK\r\n" + LENGTH + HELLO),
    _refused("tab before the status", b"HTTP/1.1\t200 OK\r\n" + LENGTH + HELLO),
    _refused("an empty line first", b"\r\n" + OK + LENGTH + HELLO),
    _refused("a space first", b" " + OK + LENGTH + HELLO),
    _refused("NUL in the reason", b"HTTP/1.1 200 O\0K\r\n" + LENGTH + HELLO),
    _refused("bare CR in the reason", b"HTTP/1.1 200 O\rK\r\n" + LENGTH + HELLO),
    _refused("bare LF behind the status line", b"HTTP/1.1 200 OK\n" + LENGTH + HELLO),
    _refused("bare LF in the fields", OK + b"X: x\nY: y\r\n" + LENGTH + HELLO),
    _refused("bare LF everywhere", b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", closes=True),
    _refused("bare CR in a field", OK + b"X: x\rSet-Cookie: evil=1\r\n" + LENGTH + HELLO),
    _refused("NUL in a field", OK + b"X: \0\r\n" + LENGTH + HELLO),
    _refused("a folded field", OK + b"X: x\r\n y\r\n" + LENGTH + HELLO),
    _refused("a folded first field", OK + b" X: x\r\n" + LENGTH + HELLO),
    _refused("space before a colon", OK + b"X : x\r\n" + LENGTH + HELLO),
    _refused("a field without a colon", OK + b"X\r\n" + LENGTH + HELLO),
    _refused("a field without a name", OK + b": x\r\n" + LENGTH + HELLO),
    _refused("a space in a name", OK + b"X Y: x\r\n" + LENGTH + HELLO),
    _refused("obs-text in a name", OK + b"X\xe4: x\r\n" + LENGTH + HELLO),
    _refused("a second status line in the fields", OK + EVIL),
    _refused("too many fields", OK + b"X: x\r\n" * 200 + LENGTH + HELLO),
    _refused("a head that is too large", OK + b"X: " + b"x" * 70000 + b"\r\n" + LENGTH + HELLO),
    _refused("a head without end", OK + b"X: " + b"x" * 200000),
]  # fmt: skip


TEXT: Final = b"Content-Type: text/plain\r\n"

# What an application behind CGI, FastCGI, SCGI or uwsgi says (RFC 3875 6; H-7, H-8, H1-24).
CGI_ROWS: Final = [
    _whole("plain", TEXT + HELLO),
    _whole("a length", TEXT + LENGTH + HELLO),
    _whole("line feeds", b"Content-Type: text/plain\n\nhello"),
    _whole("a status", b"Status: 299 Odd\r\n" + HELLO, 299),
    _whole("a status without a reason", b"Status: 404\r\n" + HELLO, 404),
    _whole("a redirect", b"Location: http://a/\r\n" + HELLO, 302),
    _whole("204 with a length", b"Status: 204\r\nContent-Length: 0\r\n\r\n", 204, b""),
    _whole("chunked announced", TEXT + CHUNKED + LENGTH + HELLO),
    _whole("connection close", TEXT + b"Connection: close\r\n" + HELLO),
    _whole("connection keep-alive", TEXT + b"Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n" + LENGTH + HELLO),
    _whole("upgrade", TEXT + b"Upgrade: h2c\r\nConnection: upgrade\r\n" + HELLO),
    _whole("a body that looks like a response", TEXT + b"\r\n" + EVIL, 200, EVIL),
    _whole("a body behind 204", b"Status: 204\r\n" + HELLO, 204, b""),
    _whole("a body behind 304", b"Status: 304\r\n" + HELLO, 304, b""),
    _either("a body that is longer", TEXT + LENGTH + HELLO + EVIL),
    _either("a body behind length zero", TEXT + b"Content-Length: 0\r\n" + HELLO, 200, b""),
    _broken("a body that is shorter", TEXT + LENGTH + b"\r\nhel"),
    _broken("no body", TEXT + LENGTH + b"\r\n"),
    _refused("nothing", b""),
    _refused("no empty line", TEXT),
    _refused("only an empty line", b"\r\n"),
    _refused("an empty line first", b"\r\n" + TEXT + HELLO),
    _refused("no CGI field", b"X: x\r\n" + HELLO),
    _refused("no head", b"hello"),
    _refused("no head but HTML", b"<html>\n\n</html>"),
    _refused("two lengths", TEXT + LENGTH + b"Content-Length: 6\r\n" + HELLO),
    _refused("twice the same length", TEXT + LENGTH + LENGTH + HELLO),
    _refused("a signed length", TEXT + b"Content-Length: +5\r\n" + HELLO),
    _refused("an empty length", TEXT + b"Content-Length:\r\n" + HELLO),
    _refused("a list of lengths", TEXT + b"Content-Length: 5, 5\r\n" + HELLO),
    _refused("a length beyond 64 bits", TEXT + b"Content-Length: 18446744073709551621\r\n" + HELLO),
    _refused("two types", TEXT + TEXT + HELLO),
    _refused("two statuses", b"Status: 200\r\nStatus: 404\r\n" + HELLO),
    _refused("two locations", b"Location: http://a/\r\nLocation: http://b/\r\n" + HELLO),
    _refused("a status below 100", b"Status: 99\r\n" + HELLO),
    _refused("a status of four digits", b"Status: 2000\r\n" + HELLO),
    _refused("a status of letters", b"Status: OK\r\n" + HELLO),
    _refused("a status with NUL", b"Status: 200 O\0K\r\n" + HELLO),
    _refused("a status that splits", b"Status: 200 OK\rX: x\r\n" + HELLO),
    _refused("101", b"Status: 101 Switching Protocols\r\nUpgrade: x\r\n" + HELLO),
    _refused("bare CR in a field", TEXT + b"X: x\rSet-Cookie: evil=1\r\n" + HELLO),
    _refused("NUL in a field", TEXT + b"X: \0\r\n" + HELLO),
    _refused("another control character in a field", TEXT + b"X: a\x1b[2J\r\n" + HELLO),
    _refused("a folded field", TEXT + b"X: x\r\n y\r\n" + HELLO),
    _refused("space before a colon", TEXT + b"X : x\r\n" + HELLO),
    _refused("a field without a colon", TEXT + b"X\r\n" + HELLO),
    _refused("a field without a name", TEXT + b": x\r\n" + HELLO),
    _refused("a name with obs-text", TEXT + b"X\xe4: x\r\n" + HELLO),
    _refused("a length before a space and a colon", TEXT + b"Content-Length : 5\r\n" + HELLO),
    _refused("a head that is too large", TEXT + b"X: " + b"x" * 70000 + b"\r\n" + HELLO),
]  # fmt: skip
