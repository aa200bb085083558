"""Requests that two programs on the way may read differently, and what one reader may make of each.

The rows come from RFC 9110 and 9112 and from the published families of request smuggling (CL.TE, TE.CL,
TE.TE, CL.0, 0.CL, chunk extensions, Expect). ``sent`` is what a client sends before it closes its side.
``seen`` is what a strict reader of RFC 9112 finds in it, and so all that a backend may see, of whatever
kind. ``statuses`` are the final ones that the client gets, in order: one 200 for each request that is seen,
then the refusal, after which nothing is read any more.

Nearly every row ends with ``GET /smuggled``: in a row that is refused nobody may see it.

Nothing here runs anything: `test_smuggling_requests` does. `smuggling_http2` is the same for HTTP/2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tests.conformance.seen import Seen


@dataclass(frozen=True)
class Row:
    """What a client sends, and what becomes of it."""

    family: str
    name: str
    sent: bytes
    seen: tuple[Seen, ...]
    statuses: tuple[int, ...]
    fields: tuple[tuple[str, str | None], ...] = ()
    """Fields of the first request that every backend must see with this value, or (None) not see."""

    @property
    def id(self) -> str:
        return f"{self.family}-{self.name}".replace(" ", "-")


NEXT: Final = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
SMUGGLED: Final = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
SEEN_NEXT: Final = Seen("GET", "/next")

ROWS: list[Row] = []


def _accepted(
    family: str,
    name: str,
    sent: bytes,
    *seen: Seen,
    fields: Mapping[str, str | None] | None = None,
) -> None:
    """*sent* is these requests, and a next one on the same connection is another request."""
    everything = (*seen, SEEN_NEXT)
    ROWS.append(
        Row(family, name, sent + NEXT, everything, (200,) * len(everything), tuple((fields or {}).items()))
    )


def _refused(family: str, name: str, sent: bytes, status: int = 400, *seen: Seen) -> None:
    """*seen* is understood, and nothing after it; the client gets *status*."""
    ROWS.append(Row(family, name, sent + SMUGGLED, seen, (*(200 for _ in seen), status)))


def _unanswered(family: str, name: str, sent: bytes, *seen: Seen) -> None:
    """What follows *seen* is not complete when the client closes: nobody answers it."""
    ROWS.append(Row(family, name, sent, seen, tuple(200 for _ in seen)))


def _post(*fields: bytes, body: bytes = b"") -> bytes:
    return _request(b"POST /post HTTP/1.1", *fields, body=body)


def _get(*fields: bytes, body: bytes = b"") -> bytes:
    return _request(b"GET /get HTTP/1.1", *fields, body=body)


def _request(line: bytes, *fields: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([line, b"Host: a", *fields, b"", body])


def _chunked(body: bytes, *fields: bytes) -> bytes:
    return _post(b"Transfer-Encoding: chunked", *fields, body=body)


EMPTY_CHUNKED: Final = b"0\r\n\r\n"
POSTED: Final = Seen("POST", "/post")
HELLO: Final = Seen("POST", "/post", b"hello")
GOT: Final = Seen("GET", "/get")


# ---- the plain truth, so that the refusals below mean something

_accepted("plain", "get", _get(), GOT)
_accepted("plain", "post with a length", _post(b"Content-Length: 5", body=b"hello"), HELLO)
_accepted("plain", "post with chunks", _chunked(b"5\r\nhello\r\n0\r\n\r\n"), HELLO)
_accepted("plain", "post without a body", _post(), POSTED)
_accepted("plain", "post of zero bytes", _post(b"Content-Length: 0"), POSTED)
_accepted("plain", "post of no chunks", _chunked(EMPTY_CHUNKED), POSTED)
_accepted(
    "plain",
    "a body that looks like a request",
    _post(b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED),
    Seen("POST", "/post", SMUGGLED),
)
_accepted(
    "plain",
    "chunks that look like a request",
    _chunked(b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)),
    Seen("POST", "/post", SMUGGLED),
)
_accepted(
    "plain",
    "chunks that look like the last chunk",
    _chunked(b"5\r\n0\r\n\r\n\r\n0\r\n\r\n"),
    Seen("POST", "/post", EMPTY_CHUNKED),
)
_accepted("plain", "three in one packet", _get() + _post() + _get(), GOT, POSTED, GOT)


# ---- CL.TE and TE.CL: two lengths (H1-10)

_refused(
    "CL.TE",
    "length ends later",
    _post(b"Content-Length: 6", b"Transfer-Encoding: chunked", body=b"0\r\n\r\nG"),
)
_refused(
    "CL.TE",
    "length ends with the chunks",
    _post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=EMPTY_CHUNKED),
)
_refused(
    "CL.TE",
    "length of a whole request",
    _post(b"Content-Length: 50", b"Transfer-Encoding: chunked", body=EMPTY_CHUNKED),
)
_refused(
    "CL.TE", "length zero", _post(b"Content-Length: 0", b"Transfer-Encoding: chunked", body=EMPTY_CHUNKED)
)
_refused(
    "TE.CL",
    "length ends in the chunks",
    _post(b"Transfer-Encoding: chunked", b"Content-Length: 4", body=b"5c\r\n" + SMUGGLED),
)
_refused(
    "TE.CL",
    "length of the chunk line",
    _post(b"Transfer-Encoding: chunked", b"Content-Length: 3", body=b"8\r\nSMUGGLED\r\n0\r\n\r\n"),
)
_refused("TE.CL", "get", _get(b"Transfer-Encoding: chunked", b"Content-Length: 4", body=b"5c\r\n" + SMUGGLED))
_refused(
    "TE.CL",
    "identity and a length",
    _post(b"Transfer-Encoding: identity", b"Content-Length: 5", body=b"hello"),
)
_refused(
    "TE.CL",
    "unknown coding and a length",
    _post(b"Transfer-Encoding: x", b"Content-Length: 5", body=b"hello"),
)
_refused(
    "TE.CL", "empty coding and a length", _post(b"Transfer-Encoding:", b"Content-Length: 5", body=b"hello")
)
_refused(
    "TE.CL",
    "in HTTP/1.0",
    _request(b"POST /post HTTP/1.0", b"Transfer-Encoding: chunked", b"Content-Length: 5", body=EMPTY_CHUNKED),
)
_refused(
    "TE.CL",
    "length in between",
    _post(
        b"Transfer-Encoding: chunked", b"Content-Length: 5", b"Transfer-Encoding: chunked", body=EMPTY_CHUNKED
    ),
)


# ---- TE.TE: spellings that one reader takes for chunked and another does not (H1-9, H1-15)

for _name, _value in {
    "xchunked": b"xchunked",
    "chunkedx": b"chunkedx",
    "chunke": b"chunke",
    "identity": b"identity",
    "gzip": b"gzip",
    "cow": b"cow",
    "empty": b"",
    "comma": b",",
    "in quotes": b'"chunked"',
    "in single quotes": b"'chunked'",
    "with parameter": b"chunked;q=1",
    "with semicolon": b"chunked;",
    "with space inside": b"chun ked",
    "twice with space": b"chunked chunked",
    "before identity": b"chunked, identity",
    "before gzip": b"chunked, gzip",
    "twice": b"chunked, chunked",
    "with vertical tab in front": b"\x0bchunked",
    "with vertical tab behind": b"chunked\x0b",
    "with form feed in front": b"\x0cchunked",
    "with form feed behind": b"chunked\x0c",
    "with NUL in front": b"\0chunked",
    "with NUL behind": b"chunked\0",
    "with backspace": b"\x08chunked",
    "with DEL": b"chunked\x7f",
    "with bare CR in front": b"\rchunked",
    "with bare CR behind": b"chunked\r",
    "with no-break space": b"\xa0chunked",
    "with next line": b"\x85chunked",
    "with byte 0xff": b"\xffchunked",
    "with kelvin sign": b"chun\xe2\x84\xaaed",
    "in brackets": b"[chunked]",
    "with colon": b": chunked",
    "with equals": b"chunked=1",
    "with percent": b"%63hunked",
    "folded": b"\r\n chunked",
    "folded with tab": b"\r\n\tchunked",
    "folded behind": b"chunked\r\n ",
    "behind bare LF": b"\n chunked",
}.items():  # fmt: skip
    _refused("TE.TE", _name, _post(b"Transfer-Encoding: " + _value, body=EMPTY_CHUNKED))
_refused("TE.TE", "unknown below chunked", _post(b"Transfer-Encoding: cow, chunked", body=EMPTY_CHUNKED), 501)
_refused("TE.TE", "gzip below chunked", _post(b"Transfer-Encoding: gzip, chunked", body=EMPTY_CHUNKED), 501)
_refused(
    "TE.TE", "identity below chunked", _post(b"Transfer-Encoding: identity, chunked", body=EMPTY_CHUNKED), 501
)
for _name, _first, _second in (
    ("chunked then cow", b"chunked", b"cow"),
    ("chunked then identity", b"chunked", b"identity"),
    ("chunked then chunked", b"chunked", b"chunked"),
):
    _refused(
        "TE.TE",
        f"two fields {_name}",
        _post(b"Transfer-Encoding: " + _first, b"Transfer-encoding: " + _second, body=EMPTY_CHUNKED),
    )
_refused(
    "TE.TE",
    "two fields cow then chunked",
    _post(b"Transfer-Encoding: cow", b"Transfer-Encoding: chunked", body=EMPTY_CHUNKED),
    501,
)
_refused(
    "TE.TE",
    "chunked then nothing",
    _post(b"Transfer-Encoding: chunked", b"Transfer-Encoding:", body=EMPTY_CHUNKED),
)
_refused(
    "TE.TE",
    "nothing then chunked",
    _post(b"Transfer-Encoding:", b"Transfer-Encoding: chunked", body=EMPTY_CHUNKED),
)
_refused("TE.TE", "with a comma in front", _post(b"Transfer-Encoding: ,chunked", body=EMPTY_CHUNKED))
_refused("TE.TE", "with a comma behind", _post(b"Transfer-Encoding: chunked,", body=EMPTY_CHUNKED))
for _name, _line in {
    "upper case value": b"Transfer-Encoding: CHUNKED",
    "mixed case name": b"tRANSFER-eNCODING: chunked",
    "no space": b"Transfer-Encoding:chunked",
    "tab in front": b"Transfer-Encoding:\tchunked",
    "tab behind": b"Transfer-Encoding: chunked\t",
    "spaces around": b"Transfer-Encoding:   chunked   ",
}.items():
    _accepted("TE.TE", _name, _post(_line, body=b"5\r\nhello\r\n0\r\n\r\n"), HELLO)
for _name, _line in {
    "space before colon": b"Transfer-Encoding : chunked",
    "tab before colon": b"Transfer-Encoding\t: chunked",
    "space in front": b" Transfer-Encoding: chunked",
    "NUL in the name": b"Transfer\0-Encoding: chunked",
    "NUL behind the name": b"Transfer-Encoding\0: chunked",
    "vertical tab before colon": b"Transfer-Encoding\x0b: chunked",
    "space in the name": b"Transfer Encoding: chunked",
    "bare CR in the name": b"Transfer-Encoding\r: chunked",
    "obs-text in the name": b"Transfer-\xc5ncoding: chunked",
    "equals for colon": b"Transfer-Encoding= chunked",
    "no colon": b"Transfer-Encoding chunked",
    "colon in front": b":Transfer-Encoding: chunked",
    "behind a bare LF": b"X: x\nTransfer-Encoding: chunked",
    "behind a bare CR": b"X: x\rTransfer-Encoding: chunked",
    "behind CR CR LF": b"X: x\r\r\nTransfer-Encoding: chunked",
    "in quotes": b'"Transfer-Encoding": chunked',
}.items():
    _refused("TE name", _name, _post(b"Content-Length: 5", _line, body=EMPTY_CHUNKED))
for _name, _line in {
    "underscore": b"Transfer_Encoding: chunked",
    "one letter less": b"Transfer-Encodin: chunked",
    "one letter more": b"XTransfer-Encoding: chunked",
    "two dashes": b"Transfer--Encoding: chunked",
    "no dash": b"TransferEncoding: chunked",
    "http prefix": b"HTTP-Transfer-Encoding: chunked",
}.items():
    # Another name, and the length is the length.
    _accepted(
        "TE name",
        _name,
        _post(b"Content-Length: 5", _line, body=EMPTY_CHUNKED),
        Seen("POST", "/post", EMPTY_CHUNKED),
        fields={"transfer-encoding": None},
    )


# ---- Content-Length (H-8, H1-12)

for _name, _value in {
    "signed plus": b"+5",
    "signed minus": b"-5",
    "minus zero": b"-0",
    "hexadecimal": b"0x5",
    "hexadecimal digits": b"5a",
    "octal prefix": b"0o5",
    "decimal point": b"5.0",
    "exponent": b"5e0",
    "underscore": b"5_0",
    "empty": b"",
    "spaces only": b"   ",
    "a list of equals": b"5, 5",
    "a list of unequals": b"5, 6",
    "a list without space": b"5,5",
    "a trailing comma": b"5,",
    "a leading comma": b",5",
    "space inside": b"5 5",
    "tab inside": b"5\t5",
    "in quotes": b'"5"',
    "with semicolon": b"5;",
    "with NUL": b"5\0",
    "with vertical tab": b"\x0b5",
    "with form feed": b"5\x0c",
    "with bare CR": b"\r5",
    "with bare CR behind": b"5\r",
    "folded": b"\r\n 5",
    "continued by folding": b"5\r\n 0",
    "superscript": b"\xb2",
    "full-width digit": b"\xef\xbc\x95",
    "arabic digit": b"\xd9\xa5",
    "letters": b"five",
    "beyond 64 bits": b"18446744073709551621",
    "2 to the 64th plus 5": b"18446744073709551616",
    "forty digits": b"1" * 40,
}.items():  # fmt: skip
    _refused("Content-Length", _name, _post(b"Content-Length: " + _value, body=b"hello"))
_refused("Content-Length", "a terabyte", _post(b"Content-Length: 1099511627776", body=b"hello"), 413)
_refused(
    "Content-Length",
    "leading zeros beyond reason",
    _post(b"Content-Length: " + b"0" * 40 + b"5", body=b"hello"),
    413,
)
_refused("Content-Length", "2 to the 63rd", _post(b"Content-Length: 9223372036854775808", body=b"hello"), 413)
_refused("Content-Length", "twice the same", _post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"))
_refused(
    "Content-Length", "twice and different", _post(b"Content-Length: 5", b"Content-Length: 0", body=b"hello")
)
_refused(
    "Content-Length",
    "twice with zero first",
    _post(b"Content-Length: 0", b"Content-Length: 5", body=b"hello"),
)
_refused(
    "Content-Length", "twice in other cases", _post(b"Content-Length: 5", b"content-length: 5", body=b"hello")
)
_refused(
    "Content-Length",
    "three times",
    _post(b"Content-Length: 5", b"content-length: 5", b"CONTENT-LENGTH: 5", body=b"hello"),
)
for _name, _line in {
    "space before colon": b"Content-Length : 5",
    "tab before colon": b"Content-Length\t: 5",
    "NUL in the name": b"Content\0-Length: 5",
    "bare CR in front of the name": b"\rContent-Length: 5",
    "behind a bare LF": b"X: x\nContent-Length: 5",
    "behind a bare CR": b"X: x\rContent-Length: 5",
}.items():
    _refused("Content-Length", _name, _post(_line, body=b"hello"))
_accepted("Content-Length", "leading zeros", _post(b"Content-Length: 0005", body=b"hello"), HELLO)
_accepted("Content-Length", "spaces around", _post(b"Content-Length:  5  ", body=b"hello"), HELLO)
_accepted("Content-Length", "tab in front", _post(b"Content-Length:\t5", body=b"hello"), HELLO)
for _name, _line in {
    "underscore": b"Content_Length: 0",
    "http prefix": b"HTTP-Content-Length: 0",
    "plural": b"Content-Lengths: 0",
}.items():
    _accepted(
        "Content-Length",
        f"another name with {_name}",
        _post(_line, b"Content-Length: 5", body=b"hello"),
        HELLO,
    )


# ---- CL.0 and 0.CL: a body where one reader expects none (H1-18)

for _method in ("GET", "HEAD", "OPTIONS", "DELETE", "TRACE", "FOO", "get"):
    _accepted(
        "CL.0",
        f"{_method} with a length",
        _request(
            b"%b /get HTTP/1.1" % _method.encode(), b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED
        ),
        Seen(_method, "/get", SMUGGLED),
    )
    _accepted(
        "CL.0",
        f"{_method} with chunks",
        _request(
            b"%b /get HTTP/1.1" % _method.encode(),
            b"Transfer-Encoding: chunked",
            body=b"5\r\nhello\r\n0\r\n\r\n",
        ),
        Seen(_method, "/get", b"hello"),
    )
# RFC 9110 9.1: any token is a method.
_accepted(
    "CL.0", "a body that nobody announced", _post(body=b"hello") + _get(), POSTED, Seen("helloGET", "/get")
)
_refused("CL.0", "get with a body that nobody announced", _get(body=b"hello\r\n"), 400, GOT)
_accepted(
    "CL.0",
    "upgrade to h2c with a length",
    _post(
        b"Connection: Upgrade, HTTP2-Settings",
        b"Upgrade: h2c",
        b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        b"Content-Length: 5",
        body=b"hello",
    ),
    HELLO,
)
_accepted(
    "CL.0",
    "upgrade to websocket with a length",
    _get(b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 5", body=b"hello"),
    Seen("GET", "/get", b"hello"),
)
_accepted(
    "0.CL", "connection close in the middle", _get(b"Content-Length: 0", b"Connection: keep-alive"), GOT
)
_unanswered("0.CL", "a length and no body", _post(b"Content-Length: 5"))
_unanswered("0.CL", "a length and part of the body", _post(b"Content-Length: 50", body=SMUGGLED[:20]))
_unanswered("0.CL", "get with a length and no body", _get(b"Content-Length: 44"))


# ---- chunks (H1-14)

for _name, _line in {
    "prefix 0x": b"0x5",
    "plus": b"+5",
    "minus": b"-5",
    "space in front": b" 5",
    "tab in front": b"\t5",
    "space behind": b"5 ",
    "tab behind": b"5\t",
    "letter behind": b"5g",
    "underscore": b"5_0",
    "decimal point": b"5.0",
    "comma": b"5,5",
    "in quotes": b'"5"',
    "empty": b"",
    "NUL": b"5\0",
    "NUL in front": b"\x005",
    "vertical tab": b"5\x0b",
    "form feed": b"5\x0c",
    "bare CR": b"5\r",
    "bare CR and more": b"5\rX",
    "obs-text": b"\xb25",
    "sixteen digits": b"0000000000000005",
    "beyond 64 bits": b"10000000000000005",
    "beyond 63 bits": b"8000000000000000",
    "all bits": b"ffffffffffffffff",
    "a very long number": b"0" * 5000 + b"5",
    "space and letters": b"5 hello",
    "colon": b"5:",
    "extension with NUL": b"5;a\0",
    "extension with bare CR": b"5;a\rb",
    "extension with DEL": b"5;a\x7f",
    "extension with bare CR at the end": b"5;\r",
    "extension in quotes with bare CR": b'5;a="\r"',
    "extension that is too long": b"5;" + b"a" * 5000,
    "extension with form feed": b"5;\x0c",
    "empty extension": b"5;",
    "empty extension and space": b"5; ",
    "empty extension in front of another": b"5;;a",
    "empty extension behind another": b"5;a;",
    "extension without name": b"5;=b",
    "extension without value": b"5;a=",
    "extension with two words": b"5;a b",
    "extension and space": b"5;a ",
    "extension with bracket in the name": b"5;a[=b",
    "extension with obs-text in the name": b"5;\xe4=b",
    "extension with obs-text in the value": b"5;a=\xe4",
    "extension in quotes and more": b'5;a="b"c',
    "extension with the name in quotes": b'5;"a"=b',
    "open quote in extension": b'5;a="',
    "open quote in extension behind a closed one": b'5;a="b";c="',
    "escaped quote in extension": b'5;a="b\\"',
    "escape at the end of extension": b'5;a="b\\',
    "quote in the middle of extension": b'5;a=b"',
}.items():  # fmt: skip
    _refused("chunk size", _name, _chunked(_line + b"\r\nhello\r\n0\r\n\r\n"))
for _name, _line in {
    "leading zeros": b"0005",
    "fifteen digits": b"000000000000005",
    "extension": b"5;a",
    "extension with value": b"5;a=b",
    "extension in quotes": b'5;a="b;c"',
    "extension in quotes with escapes": b'5;a="\\"b\\\\"',
    "extension in quotes with obs-text": b'5;a="\xe4"',
    "extension in quotes with nothing": b'5;a=""',
    "two extensions": b"5;a;b=c",
    "space before extension": b"5 ;a",
    "space in extension": b"5; a = b",
    "tabs around extensions": b"5\t;\ta\t=\tb\t;\tc",
}.items():
    _accepted("chunk size", _name, _chunked(_line + b"\r\nhello\r\n0\r\n\r\n"), HELLO)
_accepted(
    "chunk size",
    "upper case",
    _chunked(b"A\r\nhellohello\r\n0\r\n\r\n"),
    Seen("POST", "/post", b"hellohello"),
)
_accepted(
    "chunk size",
    "lower case",
    _chunked(b"a\r\nhellohello\r\n0\r\n\r\n"),
    Seen("POST", "/post", b"hellohello"),
)
_accepted("chunk size", "many zeros", _chunked(b"5\r\nhello\r\n000\r\n\r\n"), HELLO)
_accepted("chunk size", "extension of the last chunk", _chunked(b"5\r\nhello\r\n0;a=b\r\n\r\n"), HELLO)

_refused(
    "chunk size",
    "extensions around every byte",
    _chunked((b"1;" + b"a" * 2000 + b"\r\nx\r\n") * 20 + b"0\r\n\r\n"),
)
_accepted(
    "chunk size",
    "a few long extensions",
    _chunked((b"1;" + b"a" * 2000 + b"\r\nx\r\n") * 5 + b"0\r\n\r\n"),
    Seen("POST", "/post", b"xxxxx"),
)

# TERM.EXT and EXT.TERM: a line ending that one reader takes for the end of an extension.
_refused("TERM.EXT", "bare LF ends the size", _chunked(b"5\nhello\r\n0\r\n\r\n"))
_refused("TERM.EXT", "bare LF ends the extension", _chunked(b"5;\nhello\r\n0\r\n\r\n"))
_refused("TERM.EXT", "bare LF inside the extension", _chunked(b"2;\nxx\r\n2d\r\nab\r\n0\r\n\r\n"))
_refused("TERM.EXT", "bare LF in quotes", _chunked(b'5;a="\n"\r\nhello\r\n0\r\n\r\n'))
_refused("TERM.EXT", "bare LF ends the last chunk", _chunked(b"5\r\nhello\r\n0\n\r\n"))
_refused("TERM.EXT", "bare LF in the last extension", _chunked(b"5\r\nhello\r\n0;\n\r\n\r\n"))
_refused("EXT.TERM", "bare CR ends the extension", _chunked(b"5;\rhello\r\n0\r\n\r\n"))
_refused("EXT.TERM", "CR CR LF ends the extension", _chunked(b"5;a\r\r\nhello\r\n0\r\n\r\n"))
_refused("EXT.TERM", "CR LF inside quotes", _chunked(b'5;a="\r\nhello\r\n0\r\n\r\n"\r\n'))
_refused(
    "EXT.TERM",
    "a request inside quotes",  # Netty: CVE-2026-33870
    _chunked(b'1;a="\r\nX\r\n0\r\n\r\n' + SMUGGLED + b'"\r\nY\r\n0\r\n\r\n'),
)
_refused("EXT.TERM", "CR LF escaped inside quotes", _chunked(b'5;a="\\\r\nhello\r\n0\r\n\r\n"\r\n'))
_refused("EXT.TERM", "LF CR ends the size", _chunked(b"5\n\rhello\r\n0\r\n\r\n"))
# TERM.SPILL and SPILL.TERM: the end of the chunk's data.
_refused("SPILL", "bare LF ends the data", _chunked(b"5\r\nhello\n0\r\n\r\n"))
_refused("SPILL", "bare CR ends the data", _chunked(b"5\r\nhello\r0\r\n\r\n"))
_refused("SPILL", "nothing ends the data", _chunked(b"5\r\nhello0\r\n\r\n"))
_refused("SPILL", "two other bytes end the data", _chunked(b"5\r\nhelloXX0\r\n\r\n"))
_refused("SPILL", "data is one longer", _chunked(b"4\r\nhello\r\n0\r\n\r\n"))
_refused("SPILL", "data is one shorter", _chunked(b"6\r\nhello\r\n0\r\n\r\n"))
_refused("SPILL", "LF CR ends the data", _chunked(b"5\r\nhello\n\r0\r\n\r\n"))
_refused("SPILL", "CR LF twice", _chunked(b"5\r\nhello\r\n\r\n0\r\n\r\n"))
_refused("SPILL", "a second chunk is malformed", _chunked(b"5\r\nhello\r\n5\r\nhelloX"))
_unanswered("SPILL", "no last chunk", _chunked(b"5\r\nhello\r\n"))
_unanswered("SPILL", "no end of the last chunk", _chunked(b"5\r\nhello\r\n0\r\n"))
_unanswered("SPILL", "half a chunk", _chunked(b"50\r\nhello"))
_unanswered("SPILL", "only the size", _chunked(b"5"))

# ---- trailers (H-9, H1-14)

_accepted(
    "trailers",
    "one",
    _chunked(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", b"Trailer: X-Sum"),
    HELLO,
    fields={"x-sum": None},
)
_accepted(
    "trailers",
    "one unannounced",
    _chunked(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"),
    HELLO,
    fields={"x-sum": None},
)
for _name, _line in {
    "Content-Length": b"Content-Length: 50",
    "Transfer-Encoding": b"Transfer-Encoding: chunked",
    "Host": b"Host: evil",
    "Connection": b"Connection: close",
    "Authorization": b"Authorization: Basic eDp5",
    "Cookie": b"Cookie: admin=1",
    "X-Forwarded-For": b"X-Forwarded-For: 127.0.0.1",
    "Expect": b"Expect: x",
    "underscore twin": b"X_Real_IP: 127.0.0.1",
}.items():
    _accepted(
        "trailers",
        _name,
        _chunked(b"5\r\nhello\r\n0\r\n" + _line + b"\r\n\r\n"),
        HELLO,
        fields={"cookie": None, "authorization": None, "host": "a", "x-real-ip": None},
    )
for _name, _line in {
    "space before colon": b"X : 1",
    "bare LF": b"X: 1\nY: 2",
    "bare LF at the end": b"X: 1\n",
    "bare CR": b"X: \r1",
    "folded": b"X: 1\r\n 2",
    "no colon": b"GET /smuggled HTTP/1.1",
    "space in front": b" X: 1",
    "NUL": b"X: \0",
    "empty name": b": 1",
    "Content-Length twice": b"Content-Length: 5\r\nContent-Length: 6",
}.items():
    _refused("trailers", _name, _chunked(b"5\r\nhello\r\n0\r\n" + _line + b"\r\n\r\n"))
_refused("trailers", "too many", _chunked(b"0\r\n" + b"X: 1\r\n" * 101 + b"\r\n"), 431)
_refused("trailers", "too long", _chunked(b"0\r\nX: " + b"1" * 65536 + b"\r\n\r\n"), 431)
_refused("trailers", "bare LF for the empty line", _chunked(b"5\r\nhello\r\n0\r\n\n"))


# ---- lines and fields (H1-1, H1-2, H1-7, H1-8, H-7)

for _name, _line in {
    "bare LF": b"X: x\nY: y",
    "bare LF only": b"\n",
    "bare CR": b"X: x\rY: y",
    "bare CR at the end": b"X: x\r",
    "bare CR in front": b"\rX: x",
    "LF CR": b"X: x\n\rY: y",
    "NUL in the value": b"X: \0",
    "control character in the value": b"X: \x01",
    "escape in the value": b"X: \x1b",
    "DEL in the value": b"X: \x7f",
    "folded with a space": b"X: x\r\n y",
    "folded with a tab": b"X: x\r\n\ty",
    "folded to nothing": b"X: x\r\n ",
    "space before colon": b"X : x",
    "tab before colon": b"X\t: x",
    "space in the name": b"X Y: x",
    "empty name": b": x",
    "no colon": b"X",
    "no colon but a request line": b"GET /smuggled HTTP/1.1",
    "name in quotes": b'"X": x',
    "name with parenthesis": b"X(: x",
    "name with slash": b"X/Y: x",
    "name with at": b"X@Y: x",
    "name with comma": b"X,Y: x",
    "name with equals": b"X=Y: x",
    "name with braces": b"X{}: x",
    "name with NUL": b"X\0: x",
    "name with DEL": b"X\x7f: x",
    "name with obs-text": b"X\xe4: x",
    "name with vertical tab": b"X\x0b: x",
}.items():  # fmt: skip
    _refused("fields", _name, _get(_line))
_refused("fields", "space in front of the first", b"GET /get HTTP/1.1\r\n Host: a\r\n\r\n")
_refused("fields", "tab in front of the first", b"GET /get HTTP/1.1\r\n\tX: x\r\nHost: a\r\n\r\n")
_refused("fields", "space only in front of the first", b"GET /get HTTP/1.1\r\n \r\nHost: a\r\n\r\n")
_refused("fields", "bare LF everywhere", b"GET /get HTTP/1.1\nHost: a\n\n")
_refused("fields", "bare LF for the empty line", b"GET /get HTTP/1.1\r\nHost: a\r\n\n")
_refused("fields", "bare LF behind the request line", b"GET /get HTTP/1.1\nHost: a\r\n\r\n")
_refused("fields", "bare CR everywhere", b"GET /get HTTP/1.1\rHost: a\r\r")
_accepted("fields", "all characters of a name", _get(b"!#$%&'*+-.^`|~9aZ: x"), GOT)
_accepted("fields", "obs-text in the value", _get(b"X-Y: \xe4\xff"), GOT, fields={"x-y": "\xe4\xff"})
_accepted("fields", "tab in the value", _get(b"X-Y: a\tb"), GOT, fields={"x-y": "a\tb"})
_accepted("fields", "empty value", _get(b"X-Y:"), GOT, fields={"x-y": ""})
_accepted("fields", "spaces around the value", _get(b"X-Y: \t a \t "), GOT, fields={"x-y": "a"})
_accepted("fields", "colons in the value", _get(b"X-Y: a: b: c"), GOT, fields={"x-y": "a: b: c"})
_accepted(
    "fields",
    "a value that looks like a field",
    _get(b"X-Y: Content-Length: 5"),
    GOT,
    fields={"x-y": "Content-Length: 5"},
)
_accepted(
    "fields", "escaped line breaks", _get(b"X-Y: \\r\\n%0d%0aX: x"), GOT, fields={"x-y": "\\r\\n%0d%0aX: x"}
)
_accepted("fields", "repeated", _get(b"X-Y: a", b"x-y: b"), GOT, fields={"x-y": "a, b"})
_refused("fields", "one too many", _get(*(b"X-%d: x" % number for number in range(100))), 431)
_refused("fields", "too long", _get(b"X: " + b"x" * 65536), 431)
_refused("fields", "a name that is too long", _get(b"X" * 70000 + b": x"), 431)
_accepted("fields", "as many as allowed", _get(*(b"X-%d: x" % number for number in range(99))), GOT)
_accepted("fields", "long", _get(b"X-Y: " + b"x" * 32768), GOT, fields={"x-y": "x" * 32768})

# Twins: the CGI variables of `X-User` and `X_User` are one (RFC 3875 4.1.18).
_accepted(
    "twins", "underscore behind dash", _get(b"X-User: good", b"X_User: evil"), GOT, fields={"x-user": "good"}
)
_accepted(
    "twins", "underscore before dash", _get(b"X_User: evil", b"X-User: good"), GOT, fields={"x-user": "good"}
)
_accepted("twins", "underscore alone", _get(b"X_User: evil"), GOT, fields={"x-user": None})
_accepted(
    "twins",
    "two words",
    _get(b"X-Real-User: good", b"X_Real-User: evil", b"X-Real_User: evil"),
    GOT,
    fields={"x-real-user": "good"},
)
_accepted("twins", "proxy", _get(b"Proxy: http://evil"), GOT)
_accepted(
    "twins",
    "content type with underscore",
    _post(b"Content_Type: evil", b"Content-Type: text/plain"),
    POSTED,
    fields={"content-type": "text/plain"},
)
_accepted("twins", "host with underscore", _get(b"Ho_st: evil"), GOT, fields={"host": "a"})


# ---- the request line (H1-2, H1-3, H1-4, H1-6)

for _name, _line, _status in (
    ("HTTP/1.2", b"GET /get HTTP/1.2", 0),
    ("HTTP/1.9", b"GET /get HTTP/1.9", 0),
    ("HTTP/0.9", b"GET /get HTTP/0.9", 505),
    ("HTTP/2.0", b"GET /get HTTP/2.0", 505),
    ("HTTP/3.0", b"GET /get HTTP/3.0", 505),
    ("HTTP/9.9", b"GET /get HTTP/9.9", 505),
    ("no version", b"GET /get", 505),
    ("lower case", b"GET /get http/1.1", 400),
    ("mixed case", b"GET /get Http/1.1", 400),
    ("no minor", b"GET /get HTTP/1", 400),
    ("two digits", b"GET /get HTTP/1.10", 400),
    ("two digits major", b"GET /get HTTP/11.1", 400),
    ("zero padded", b"GET /get HTTP/01.1", 400),
    ("sign", b"GET /get HTTP/+1.1", 400),
    ("comma", b"GET /get HTTP/1,1", 400),
    ("space inside", b"GET /get HTTP/ 1.1", 400),
    ("space behind", b"GET /get HTTP/1.1 ", 400),
    ("tab behind", b"GET /get HTTP/1.1\t", 400),
    ("bare CR behind", b"GET /get HTTP/1.1\r", 400),
    ("NUL behind", b"GET /get HTTP/1.1\0", 400),
    ("another protocol", b"GET /get ICY/1.1", 400),
    ("SHTTP", b"GET /get SHTTP/1.1", 400),
    ("letters", b"GET /get HTTP/x.y", 400),
):
    if _status:
        _refused("version", _name, _request(_line), _status)
    else:
        _accepted("version", _name, _request(_line), GOT)
_unanswered("version", "HTTP/1.0 closes", _request(b"GET /get HTTP/1.0") + SMUGGLED, GOT)
_accepted("version", "HTTP/1.0 that persists", _request(b"GET /get HTTP/1.0", b"Connection: keep-alive"), GOT)
_unanswered("version", "HTTP/1.0 without Host", b"GET /get HTTP/1.0\r\n\r\n" + SMUGGLED, GOT)
_refused(
    "version",
    "HTTP/1.0 with chunks",
    _request(b"POST /post HTTP/1.0", b"Transfer-Encoding: chunked", body=EMPTY_CHUNKED),
)

for _name, _line in {
    "two spaces": b"GET  /get HTTP/1.1",
    "two spaces before the version": b"GET /get  HTTP/1.1",
    "tab for space": b"GET\t/get HTTP/1.1",
    "vertical tab for space": b"GET\x0b/get HTTP/1.1",
    "bare CR for space": b"GET\r/get HTTP/1.1",
    "space in the target": b"GET /a b HTTP/1.1",
    "two versions": b"GET /get HTTP/1.1 HTTP/1.1",
    "space in front": b" GET /get HTTP/1.1",
    "tab in front": b"\tGET /get HTTP/1.1",
    "NUL in front": b"\0GET /get HTTP/1.1",
    "bare LF in front": b"\nGET /get HTTP/1.1",
    "bare CR in front": b"\rGET /get HTTP/1.1",
    "BOM in front": b"\xef\xbb\xbfGET /get HTTP/1.1",
    "no target": b"GET HTTP/1.1",
    "only the method": b"GET",
    "method in quotes": b'"GET" /get HTTP/1.1',
    "method with colon": b"GET: /get HTTP/1.1",
    "method with slash": b"GE/T /get HTTP/1.1",
    "method with NUL": b"GE\0T /get HTTP/1.1",
    "method with obs-text": b"G\xc3\x8bT /get HTTP/1.1",
    "method with parenthesis": b"GET( /get HTTP/1.1",
    "a field in place of it": b"Host: a",
    "a status line in place of it": b"HTTP/1.1 200 OK",
}.items():  # fmt: skip
    _refused("request line", _name, _request(_line))
_refused("request line", "form feed for space", _request(b"GET /get\x0cHTTP/1.1"), 505)
_refused("request line", "TLS on a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
_refused(
    "request line",
    "a preface of HTTP/2 in the middle",
    _get() + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    505,
    GOT,
)
_refused("request line", "too long", b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414)
_refused("request line", "a method that is too long", b"G" * 9000 + b" / HTTP/1.1\r\nHost: a\r\n\r\n", 501)
_accepted(
    "request line",
    "8000 octets",
    _request(b"GET /" + b"a" * 7986 + b" HTTP/1.1"),
    Seen("GET", "/" + "a" * 7986),
)
_accepted("request line", "an empty line in front", b"\r\n" + _get(), GOT)
_accepted("request line", "an empty line in between", _get() + b"\r\n" + _get(), GOT, GOT)
_accepted(
    "request line", "an empty line behind a body", _post(b"Content-Length: 5", body=b"hello\r\n"), HELLO
)
_refused("request line", "many empty lines in front", b"\r\n" * 10 + _get())
_refused("request line", "a space for an empty line", b" \r\n" + _get())
for _method in (
    "PUT",
    "PATCH",
    "DELETE",
    "PROPFIND",
    "M-SEARCH",
    "BREW",
    "Get",
    "GETGET",
    "A!#$%&'*+-.^_`|~9",
):
    _accepted("method", _method, _request(b"%b /get HTTP/1.1" % _method.encode()), Seen(_method, "/get"))
_refused("method", "CONNECT", b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501)
_refused("method", "CONNECT with a path", b"CONNECT /get HTTP/1.1\r\nHost: a\r\n\r\n", 501)
_refused(
    "method",
    "CONNECT with a body",
    b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    501,
)


# ---- Host and the target (H1-5, H1-6, H-6, 7.2)

_refused("Host", "none", b"GET /get HTTP/1.1\r\n\r\n")
_refused("Host", "none but HTTP/1.2", b"GET /get HTTP/1.2\r\n\r\n")
for _name, _field in {
    "twice": b"Host: b",
    "twice the same": b"Host: a",
    "twice in other case": b"hOST: b",
    "twice and empty": b"Host:",
}.items():
    _refused("Host", _name, _get(_field))
for _name, _value in {
    "with space": b"a b",
    "with comma and space": b"a, b",
    "with slash": b"a/b",
    "with at": b"a@b",
    "with userinfo": b"user:pass@a",
    "with question mark": b"a?b",
    "with fragment": b"a#b",
    "with backslash": b"a\\b",
    "with quotes": b'"a"',
    "with a scheme": b"http://a",
    "with a port of letters": b"a:b",
    "with two ports": b"a:80:80",
    "with a negative port": b"a:-1",
    "with a long port": b"a:123456",
    "with a port of space": b"a: 80",
    "with an open bracket": b"[::1",
    "with bad IPv6": b"[::g]",
    "with text behind IPv6": b"[::1]a",
    "with bare IPv6": b"::1",
    "with a broken escape": b"a%zz",
    "with obs-text": b"\xe4",
    "with tab inside": b"a\tb",
    "with less-than": b"<a>",
    "with braces": b"{a}",
    "with caret": b"a^b",
    "with pipe": b"a|b",
    "with backtick": b"`a`",
}.items():  # fmt: skip
    _refused("Host", _name, b"GET /get HTTP/1.1\r\nHost: " + _value + b"\r\n\r\n")
for _name, _value in {
    "empty": b"",
    "with a port": b"a:8080",
    "with an empty port": b"a:",
    "IPv6": b"[::1]",
    "IPv6 and a port": b"[::1]:8080",
    "upper case": b"A.Example",
    "with a final dot": b"a.example.",
    "with underscore": b"a_b",
}.items():
    _accepted("Host", _name, b"GET /get HTTP/1.1\r\nHost: " + _value + b"\r\n\r\n", GOT)
_accepted(
    "Host", "behind other fields", b"GET /get HTTP/1.1\r\nX: x\r\nHost: a\r\n\r\n", GOT, fields={"host": "a"}
)
_accepted("Host", "with underscore twin", _get(b"Host_: evil", b"_Host: evil"), GOT, fields={"host": "a"})

_accepted(
    "absolute form", "same host", b"GET http://a/get HTTP/1.1\r\nHost: a\r\n\r\n", GOT, fields={"host": "a"}
)
_accepted(
    "absolute form",
    "another host",
    b"GET http://a/get HTTP/1.1\r\nHost: evil\r\n\r\n",
    GOT,
    fields={"host": "a"},
)
_accepted(
    "absolute form", "https", b"GET https://a/get HTTP/1.1\r\nHost: a\r\n\r\n", GOT, fields={"host": "a"}
)
_accepted(
    "absolute form",
    "upper case scheme",
    b"GET HTTP://a/get HTTP/1.1\r\nHost: a\r\n\r\n",
    GOT,
    fields={"host": "a"},
)
_accepted(
    "absolute form",
    "with a port",
    b"GET http://a:80/get HTTP/1.1\r\nHost: b\r\n\r\n",
    GOT,
    fields={"host": "a:80"},
)
_accepted("absolute form", "without a path", b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", Seen("GET", "/"))
_accepted(
    "absolute form",
    "without a path but a query",
    b"GET http://a?q HTTP/1.1\r\nHost: a\r\n\r\n",
    Seen("GET", "/?q"),
)
_accepted(
    "absolute form",
    "options without a path",
    b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n",
    Seen("OPTIONS", "*"),
)
_accepted(
    "absolute form",
    "options with a slash",
    b"OPTIONS http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    Seen("OPTIONS", "/"),
)
_accepted(
    "absolute form",
    "with two slashes in the path",
    b"GET http://a//get HTTP/1.1\r\nHost: a\r\n\r\n",
    Seen("GET", "//get"),
)
_refused("absolute form", "without Host", b"GET http://a/get HTTP/1.1\r\n\r\n")
_refused("absolute form", "two Hosts", b"GET http://a/get HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
_refused("absolute form", "invalid Host", b"GET http://a/get HTTP/1.1\r\nHost: a b\r\n\r\n")
for _name, _target in {
    "userinfo": b"http://evil@a/get",
    "userinfo and password": b"http://u:p@a/get",
    "no host": b"http:///get",
    "no slashes": b"http:a/get",
    "one slash": b"http:/a/get",
    "another scheme": b"ftp://a/get",
    "file scheme": b"file:///etc/passwd",
    "no scheme": b"://a/get",
    "bad port": b"http://a:b/get",
    "fragment": b"http://a/get#x",
    "fragment in the host": b"http://a#@b/get",
    "backslash in the host": b"http://a\\b/get",
    "space in the host": b"http://a%20b:x/get",
    "bad IPv6": b"http://[::g]/get",
}.items():
    _refused("absolute form", _name, b"GET " + _target + b" HTTP/1.1\r\nHost: a\r\n\r\n")

for _name, _target in {
    "relative": b"get",
    "dot": b"./get",
    "question mark": b"?q",
    "authority form": b"a:80",
    "asterisk": b"*",
    "asterisk and more": b"*/get",
    "at": b"@evil/get",
    "fragment": b"/get#x",
    "fragment behind the query": b"/get?q#x",
    "backslash in front": b"\\get",
    "obs-text": b"/g\xe4t",
    "UTF-8": b"/g\xc3\xa4t",
    "NUL": b"/get\0",
    "DEL": b"/get\x7f",
    "escape": b"/get\x1b",
    "bare CR": b"/get\r",
    "encoded NUL": b"/get%00",
    "broken escape": b"/get%",
    "broken escape of one digit": b"/get%2",
    "broken escape of letters": b"/get%zz",
    "unicode escape": b"/get%u0041",
    "above the root": b"/..",
    "above the root and back": b"/../get",
    "above the root encoded": b"/%2e%2e/get",
    "above the root by an encoded slash": b"/..%2fget",
    "above the root in upper case": b"/%2E%2E%2Fget",
    "above the root later": b"/a/../../get",
    "dots behind an empty segment": b"/a//../get",
}.items():  # fmt: skip
    _refused("target", _name, _request(b"GET " + _target + b" HTTP/1.1"))
for _name, _target, _path in (
    ("dot segment", b"/./get", "/get"),
    ("dot segments", b"/a/../get", "/get"),
    ("encoded dot segments", b"/a/%2e%2e/get", "/get"),
    ("encoded slash before dots", b"/a%2f..%2fget", "/get"),
    ("three dots", b"/.../get", "/.../get"),
    ("dot file", b"/.get", "/.get"),
    ("two slashes", b"//get", "//get"),
    ("encoded letters", b"/%67et", "/get"),
    ("encoded line break", b"/a%0d%0aX:%20x", "/a\r\nX: x"),
    ("encoded question mark", b"/get%3fq", "/get?q"),
    ("encoded fragment", b"/get%23x", "/get#x"),
    ("encoded percent", b"/get%252e", "/get%2e"),
    ("encoded backslash", b"/a%5c..%5cget", "/a\\..\\get"),
    ("encoded space", b"/a%20b", "/a b"),
    ("query with question marks", b"/get?a?b?c", "/get?a?b?c"),
    ("query with encoded line break", b"/get?a%0d%0ab", "/get?a%0d%0ab"),
    ("query with dots", b"/get?/../x", "/get?/../x"),
    ("query with broken escape", b"/get?%zz", "/get?%zz"),
    ("semicolon", b"/get;a=b", "/get;a=b"),
    ("browser characters", b"/get|{}\"<>^`", "/get|{}\"<>^`"),
    ("url in the path", b"/http://evil/get", "/http://evil/get"),
    ("at in the path", b"/@evil", "/@evil"),
):  # fmt: skip
    _accepted("target", _name, _request(b"GET " + _target + b" HTTP/1.1"), Seen("GET", _path))
_accepted("target", "options asterisk", _request(b"OPTIONS * HTTP/1.1"), Seen("OPTIONS", "*"))


# ---- Expect (H-10)

_accepted("Expect", "with a body", _post(b"Expect: 100-continue", b"Content-Length: 5", body=b"hello"), HELLO)
_accepted("Expect", "with chunks", _chunked(b"5\r\nhello\r\n0\r\n\r\n", b"Expect: 100-continue"), HELLO)
_accepted("Expect", "without a body", _post(b"Expect: 100-continue"), POSTED)
_accepted("Expect", "with zero bytes", _post(b"Expect: 100-continue", b"Content-Length: 0"), POSTED)
_accepted("Expect", "get without a body", _get(b"Expect: 100-continue"), GOT)
_accepted(
    "Expect",
    "get with a body",
    _get(b"Expect: 100-continue", b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED),
    Seen("GET", "/get", SMUGGLED),
)
_accepted(
    "Expect",
    "head with a body",
    _request(b"HEAD /get HTTP/1.1", b"Expect: 100-continue", b"Content-Length: 5", body=b"hello"),
    Seen("HEAD", "/get", b"hello"),
)
_accepted("Expect", "upper case", _post(b"Expect: 100-Continue", b"Content-Length: 5", body=b"hello"), HELLO)
_accepted(
    "Expect",
    "twice",
    _post(b"Expect: 100-continue", b"Expect: 100-continue", b"Content-Length: 5", body=b"hello"),
    HELLO,
)
_accepted(
    "Expect",
    "in HTTP/1.0",
    _request(
        b"POST /post HTTP/1.0",
        b"Connection: keep-alive",
        b"Expect: 100-continue",
        b"Content-Length: 5",
        body=b"hello",
    ),
    HELLO,
)
_accepted(
    "Expect",
    "unknown in HTTP/1.0",
    _request(
        b"POST /post HTTP/1.0", b"Connection: keep-alive", b"Expect: y", b"Content-Length: 5", body=b"hello"
    ),
    HELLO,
)
for _name, _value in {
    "unknown": b"y",
    "obfuscated": b"y 100-continue",
    "with more": b"100-continue, y",
    "a letter more": b"100-continuee",
    "another number": b"101-continue",
    "a space inside": b"100 -continue",
    "empty": b"",
    "in quotes": b'"100-continue"',
    "with parameter": b"100-continue; x=y",
}.items():
    _refused("Expect", _name, _post(b"Expect: " + _value, b"Content-Length: 5", body=b"hello"), 417)
_refused("Expect", "folded", _post(b"Expect:\r\n 100-continue", b"Content-Length: 5", body=b"hello"))
_unanswered("Expect", "and no body", _post(b"Expect: 100-continue", b"Content-Length: 5"))


# ---- Connection and other fields of one hop (H-1, H-2, H1-17, H1-20)

_unanswered("Connection", "close", _get(b"Connection: close") + SMUGGLED, GOT)
_unanswered("Connection", "close in upper case", _get(b"Connection: CLOSE") + SMUGGLED, GOT)
_unanswered("Connection", "close in a list", _get(b"Connection: x, close, y") + SMUGGLED, GOT)
_unanswered(
    "Connection",
    "close and keep-alive",
    _get(b"Connection: keep-alive", b"Connection: close") + SMUGGLED,
    GOT,
)
_unanswered(
    "Connection",
    "close behind a body",
    _post(b"Connection: close", b"Content-Length: 5", body=b"hello") + SMUGGLED,
    HELLO,
)
for _name, _value, _fields in (
    ("names Host", b"Host", {"host": "a"}),
    ("names Content-Length", b"Content-Length", {"host": "a"}),
    ("names Transfer-Encoding", b"Transfer-Encoding", {"host": "a"}),
    ("names itself", b"Connection", {"host": "a"}),
    ("names everything", b"Host, Content-Length, Transfer-Encoding, Expect, TE, Trailer, Via", {"host": "a"}),
    ("names a pseudo-header", b":path", {"host": "a"}),
    ("names nothing", b", ,", {"host": "a"}),
):
    _accepted(
        "Connection",
        _name,
        _post(b"Connection: " + _value, b"Content-Length: 5", body=b"hello"),
        HELLO,
        fields=_fields,
    )
    _accepted(
        "Connection",
        f"{_name} before chunks",
        _chunked(b"5\r\nhello\r\n0\r\n\r\n", b"Connection: " + _value),
        HELLO,
        fields=_fields,
    )
_accepted("Connection", "TE", _get(b"TE: trailers, chunked;q=0.5", b"Connection: TE"), GOT)
_accepted("Connection", "TE that names a coding", _get(b"TE: chunked"), GOT)
_accepted("Connection", "Proxy-Connection", _get(b"Proxy-Connection: close"), GOT)
_accepted("Connection", "Keep-Alive", _get(b"Keep-Alive: timeout=0"), GOT)
_accepted("Connection", "Upgrade that nobody named", _get(b"Upgrade: h2c"), GOT)
# Python's str.strip() would take them away.
for _name, _value in {"no-break space": b"\xa0websocket", "next line": b"websocket\x85"}.items():
    _accepted(
        "Connection",
        f"Upgrade to websocket and {_name}",
        _get(b"Connection: Upgrade", b"Upgrade: " + _value),
        GOT,
    )
_accepted(
    "Connection",
    "Trailer names Content-Length",
    _chunked(b"5\r\nhello\r\n0\r\nContent-Length: 1\r\n\r\n", b"Trailer: Content-Length, Host"),
    HELLO,
)


# ---- pipelines (H1-19): a sound request, then one that is not

for _name, _bad in {
    "a bad line": b"BAD\r\n\r\n",
    "two lengths": _post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=EMPTY_CHUNKED),
    "a bad length": _post(b"Content-Length: x"),
    "a bare LF": b"GET /get HTTP/1.1\nHost: a\n\n",
    "no Host": b"GET /get HTTP/1.1\r\n\r\n",
    "a response": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
}.items():
    _refused("pipeline", f"get then {_name}", _get() + _bad, 400, GOT)
    _refused("pipeline", f"post then {_name}", _post(b"Content-Length: 5", body=b"hello") + _bad, 400, HELLO)
    _refused("pipeline", f"chunks then {_name}", _chunked(b"5\r\nhello\r\n0\r\n\r\n") + _bad, 400, HELLO)
_accepted("pipeline", "head then get", _request(b"HEAD /get HTTP/1.1") + _get(), Seen("HEAD", "/get"), GOT)
_accepted("pipeline", "ten", _get() * 10, *(GOT,) * 10)
_accepted(
    "pipeline",
    "bodies of each kind",
    _chunked(b"5\r\nhello\r\n0\r\n\r\n") + _post(b"Content-Length: 5", body=b"hello") + _get(),
    HELLO,
    HELLO,
    GOT,
)
_unanswered("pipeline", "half a request behind a whole one", _get() + b"GET /smug", GOT)
_unanswered(
    "pipeline",
    "half a field behind a whole request",
    _get() + b"GET /smuggled HTTP/1.1\r\nHost: a\r\nX:",
    GOT,
)
