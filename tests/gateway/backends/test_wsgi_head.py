"""What start_response accepts (WSGI-9), on its own."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backends.wsgi import head
from gateway.backends.wsgi.head import parse_headers, parse_status


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("200 OK", (200, b"OK")),
        ("404 Not Found", (404, b"Not Found")),
        ("299 ", (299, b"")),
        ("200 d\u00e9j\u00e0", (200, b"d\xe9j\xe0")),
    ],
)
def test_status(status: str, expected: tuple[int, bytes]) -> None:
    """WSGI-9: the same the second time, from memory."""
    assert parse_status(status) == expected
    assert parse_status(status) == expected


@pytest.mark.parametrize(
    "status",
    [
        "",
        "200",
        "20 OK",
        "2000 OK",
        "200OK",
        "OK",
        " 200 OK",
        "200 O\nK",
        "200 OK\r",
        "100 Continue",
        "200 \u2603",
    ],
)
def test_status_of_another_form(status: str) -> None:
    """WSGI-9: `999 Reason`, no control characters, no bytes beyond Latin-1; a 1xx is no final status."""
    with pytest.raises(ValueError, match=r"status|latin-1"):
        parse_status(status)


@pytest.mark.parametrize("status", [200, b"200 OK", None])
def test_status_of_another_type(status: Any) -> None:
    """WSGI-9."""
    with pytest.raises(TypeError):
        parse_status(status)


def test_headers() -> None:
    """WSGI-9: names become lower-case, values bytes; a tab or a letter beyond ASCII is no control."""
    given_headers = [("Content-Type", "text/plain"), ("X-Name", "caf\u00e9\u00a0"), ("Content-Length", "12")]
    assert parse_headers(given_headers) == (
        [(b"content-type", b"text/plain"), (b"x-name", b"caf\xe9\xa0"), (b"content-length", b"12")],
        12,
    )
    assert parse_headers([]) == ([], None)


@pytest.mark.parametrize(
    "headers",
    [
        (("A", "b"),),
        {"A": "b"},
        None,
        [["A", "b"]],
        [("A",)],
        [("A", "b", "c")],
        ["Ab"],
        [(b"A", "b")],
        [("A", b"b")],
        [("A", 1)],
        [("A", None)],
    ],
)
def test_headers_of_another_type(headers: Any) -> None:
    """WSGI-9: a list of tuples of two strings."""
    with pytest.raises(TypeError):
        parse_headers(headers)


@pytest.mark.parametrize(
    "header",
    [
        ("", "b"),
        ("A B", "b"),
        ("A:", "b"),
        ("A\n", "b"),
        ("\u00e4", "b"),
        ("A", "b\n"),
        ("A", "b\r\nC: d"),
        ("A", "b\0"),
        ("A", "\x7f"),
        ("A", "\u2603"),
        ("Content-Length", ""),
        ("Content-Length", "-1"),
        ("Content-Length", "1_0"),
        ("Content-Length", "\u0663"),
        ("Content-Length", "1" * 30),
    ],
)
def test_headers_that_http_cannot_carry(header: tuple[str, str]) -> None:
    """WSGI-9, WSGI-14."""
    with pytest.raises(ValueError, match=r"."):
        parse_headers([header])


def test_two_lengths_are_one_if_they_agree() -> None:
    """WSGI-9: told where they are given, and not when the response is sent."""
    assert parse_headers([("Content-Length", "3"), ("Content-Length", "3")])[1] == 3
    with pytest.raises(ValueError, match="two values of Content-Length: 3 and 4"):
        parse_headers([("Content-Length", "3"), ("Content-Length", "4")])


@pytest.mark.parametrize(
    "name", ["Connection", "KEEP-ALIVE", "te", "Transfer-Encoding", "Upgrade", "trailers"]
)
def test_hop_by_hop_headers(name: str) -> None:
    """WSGI-9: they are the server's."""
    with pytest.raises(ValueError, match="belongs to the connection"):
        parse_headers([(name, "x")])


def test_memory_is_bounded() -> None:
    """Applications may make names and reasons of what clients send."""
    for number in range(3000):
        assert parse_headers([(f"X-{number}", "1")])[0] == [(b"x-%d" % number, b"1")]
        assert parse_status(f"200 {number}") == (200, b"%d" % number)
    assert len(head._names) <= 1024
    assert len(head._statuses) <= 1024


@given(st.text(), st.text())
def test_no_control_character_comes_through(name: str, value: str) -> None:
    """WSGI-9: whatever the application gives, it is one field or an error."""
    try:
        fields, _ = parse_headers([(name, value)])
    except ValueError:
        return
    [(name_bytes, value_bytes)] = fields
    assert not any(byte < 0x20 or byte == 0x7F for byte in name_bytes + value_bytes)
    assert b":" not in name_bytes
    assert name_bytes
