"""gateway.failure.negotiation: RFC 9110 12.5.1."""

import pytest

from gateway.failure.negotiation import preferred

OFFERS = ("application/problem+json", "application/json", "text/html", "text/plain")
FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "text/plain"),
        ("", "text/plain"),
        ("*/*", "text/plain"),
        ("text/*", "text/plain"),
        ("image/png", "text/plain"),  # nothing of ours: something all the same
        ("*/*;q=0", "text/plain"),
        (FIREFOX, "text/html"),
        ("TEXT/HTML", "text/html"),
        ("text/html;level=1;q=0.5, text/plain;q=0.4", "text/html"),
        ("text/html;q=0.4, text/plain;q=0.5", "text/plain"),
        ("text/html;q=0, */*", "text/plain"),
        ("text/plain;q=0, text/*", "text/html"),
        ("application/json", "application/json"),
        ("application/problem+json", "application/problem+json"),
        ("application/json, application/problem+json", "application/problem+json"),
        ("application/json, text/plain, */*", "application/json"),
        ("application/json, text/javascript, */*; q=0.01", "application/json"),
        ("application/*", "application/problem+json"),
        ("application/*;q=0.9, text/html", "text/html"),
        ("text/plain, application/json;q=0.999", "text/plain"),
        ("text/html ; q=0.8 , application/json ; q=0.9", "application/json"),
        # Malformed parts count for nothing.
        ("text/html;q=2, application/json;q=0.1", "application/json"),
        ("text/html;q=, text/html;q=0.1234, nonsense, /, ;;, text/plain;q=0.1", "text/plain"),
        ("html, application/json;q=nan", "text/plain"),
        ("text/html" + ",x/y" * 10_000, "text/html"),
    ],
)
def test_preferred(accept: str | None, expected: str) -> None:
    headers = [] if accept is None else [(b"host", b"a"), (b"accept", accept.encode())]
    assert preferred(headers, OFFERS, "text/plain") == expected


def test_several_fields_are_one_list() -> None:
    """RFC 9110 5.3."""
    headers = [(b"accept", b"text/html;q=0.5"), (b"accept", b"application/json")]
    assert preferred(headers, OFFERS, "text/plain") == "application/json"
