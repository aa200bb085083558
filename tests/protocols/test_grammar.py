"""The grammar that all protocols have in common, character by character."""

import re
import string

import pytest

from gateway.protocols.grammar import (
    CONTROL,
    CONTROLS,
    LARGEST_LENGTH,
    LINE_BREAK,
    LOWER_TOKEN,
    TCHAR,
    TOKEN,
    parse_digits,
)

TCHARS = "!#$%&'*+-.^_`|~" + string.digits + string.ascii_letters
"""RFC 9110 5.6.2."""


def test_a_token_is_of_its_characters() -> None:
    """RFC 9110 5.6.2."""
    assert "".join(chr(n) for n in range(256) if TOKEN.fullmatch(bytes((n,)))) == "".join(sorted(TCHARS))
    assert "".join(c for c in map(chr, range(1024)) if re.match(f"[{TCHAR}]", c)) == "".join(sorted(TCHARS))
    assert TOKEN.fullmatch(TCHARS.encode())
    assert not TOKEN.fullmatch(b"")


def test_names_of_http2_are_tokens_without_upper_case() -> None:
    """RFC 9113 8.2.1."""
    for n in range(256):
        name = bytes((n,))
        assert bool(LOWER_TOKEN.fullmatch(name)) is (bool(TOKEN.fullmatch(name)) and not name.isupper())


@pytest.mark.parametrize(("value", "broken"), [(b"", False), (b"a\tb\x0b\xff", False), (b"a\r", True)])
def test_breaks_of_a_field(value: bytes, broken: bool) -> None:
    """RFC 9110 5.5."""
    assert bool(LINE_BREAK.search(value)) is broken
    assert LINE_BREAK.search(value + b"\n")
    assert LINE_BREAK.search(b"\0" + value)


def test_a_tab_and_what_is_not_ascii_may_be_in_a_field() -> None:
    """RFC 9110 5.5: field-vchar, SP and HTAB."""
    others = bytes(n for n in range(256) if n in b"\t" or 0x20 <= n != 0x7F)
    assert sorted(CONTROLS + others) == list(range(256))
    assert [n for n in range(256) if CONTROL.search(b"a%cb" % n)] == list(CONTROLS)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b"0", 0),
        (b"007", 7),
        (b"0000000000000000005", 5),
        (b"9" * 18, 10**18 - 1),
        (b"9223372036854775807", LARGEST_LENGTH),
        (b"9223372036854775808", None),
        (b"9" * 19, None),
        (b"0" * 20, None),
        (b"", None),
        (b"-1", None),
        (b"+1", None),
        (b" 1", None),
        (b"1\n", None),
        (b"1_0", None),
        (b"0x1", None),
        (b"\xb2", None),
        (b"\xd9\xa1", None),
    ],
)
def test_a_length_is_decimal_digits(text: bytes, number: int | None) -> None:
    """RFC 9110 8.6: with leading zeros, if need be, and up to 2**63 - 1."""
    assert parse_digits(text) == number
