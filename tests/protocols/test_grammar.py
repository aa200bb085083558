"""The grammar that all protocols have in common, character by character."""

import re
import string

import pytest

from gateway.protocols.grammar import LINE_BREAK, LOWER_TOKEN, TCHAR, TOKEN

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
