import re

import pytest

from gateway.protocols.errors import LocalProtocolError
from gateway.protocols.http1 import (
    CHUNKED_FIELD,
    CLOSE_FIELD,
    KEEP_ALIVE_FIELD,
    LAST_CHUNK,
    encode_chunk,
    encode_fields,
    encode_last_chunk,
    encode_request_head,
    encode_response_head,
)


def test_a_response_head() -> None:
    fields = [(b"content-type", b"text/html"), (b"Set-Cookie", b"a"), (b"Set-Cookie", b"")]
    assert encode_response_head(200, b"", fields, CHUNKED_FIELD + CLOSE_FIELD) == (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nSet-Cookie: a\r\nSet-Cookie: \r\n"
        b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("status", "reason", "line"),
    [
        (404, b"", b"HTTP/1.1 404 Not Found"),
        (404, b"Gone fishing", b"HTTP/1.1 404 Gone fishing"),
        (299, b"", b"HTTP/1.1 299 "),
        (999, b"Caf\xe9", b"HTTP/1.1 999 Caf\xe9"),
        (100, b"", b"HTTP/1.1 100 Continue"),
    ],
)
def test_status_lines(status: int, reason: bytes, line: bytes) -> None:
    """RFC 9112 4: the space stays when there is no reason."""
    assert encode_response_head(status, reason, [], KEEP_ALIVE_FIELD) == (
        line + b"\r\nconnection: keep-alive\r\n\r\n"
    )


@pytest.mark.parametrize("status", [-1, 0, 99, 1000])
@pytest.mark.parametrize("reason", [b"", b"x"])
def test_rejects_status_codes(status: int, reason: bytes) -> None:
    with pytest.raises(LocalProtocolError, match=str(status)):
        encode_response_head(status, reason, [])


@pytest.mark.parametrize("reason", [b"a\rb", b"a\nb", b"a\0b", b"\r\n", b"\x1b[2J"])
def test_rejects_reasons(reason: bytes) -> None:
    with pytest.raises(LocalProtocolError):
        encode_response_head(200, reason, [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x", b"a\r\nb: c"),
        (b"x", b"a\nb"),
        (b"x", b"a\rb"),
        (b"x", b"a\0b"),
        (b"x", b"a\n\r"),
        (b"x\r\ny", b"z"),
        (b"x\0", b"z"),
        (b"x", b"\x01"),
        (b"x", b"a\x1b[2J"),
        (b"x", b"a\x7f"),
        (b"x\x0b", b"z"),
    ],
)
def test_names_the_field_that_has_a_control_character(name: bytes, value: bytes) -> None:
    """H-7, RFC 9110 5.5: no response splitting in heads and trailers, nothing that HTTP/2 has no room for."""
    fields = [(b"a", b"b"), (name, value), (b"c", b"d")]
    guilty = re.escape(repr(name))
    with pytest.raises(LocalProtocolError, match=guilty):
        encode_response_head(200, b"", fields)
    with pytest.raises(LocalProtocolError, match=guilty):
        encode_fields(fields)
    with pytest.raises(LocalProtocolError, match=guilty):
        encode_last_chunk(fields)


def test_a_request_head() -> None:
    assert encode_request_head(b"GET", b"/a?b", b"") == b"GET /a?b HTTP/1.1\r\n\r\n"


def test_chunks() -> None:
    """H1-14: an empty piece is no chunk, because it would be the last one."""
    assert encode_chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert encode_chunk(b"") == b""
    assert encode_last_chunk([]) == LAST_CHUNK == b"0\r\n\r\n"
    assert encode_last_chunk([(b"a", b"b")]) == b"0\r\na: b\r\n\r\n"
