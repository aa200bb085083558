"""Which trailer fields are passed on."""

import pytest

from gateway.protocols.events import Headers
from gateway.protocols.trailers import permitted_trailers, takes_trailers


@pytest.mark.parametrize(
    "name",
    [b"grpc-status", b"Server-Timing", b"x-sum", b"digest", b"etag", b"link"],
)
def test_permits(name: bytes) -> None:
    """H-9: forwarded apart from the headers."""
    assert permitted_trailers([(name, b"1")]) == [(name, b"1")]


@pytest.mark.parametrize(
    "name",
    [
        b"content-length",
        b"Transfer-Encoding",
        b"TE",
        b"trailer",
        b"host",
        b"connection",
        b"authorization",
        b"Cookie",
        b"set-cookie",
        b"content-type",
        b"Content-Encoding",
        b"expect",
        b"X-Forwarded-For",
        b"forwarded",
        b"X-Real-IP",
        b"x_real_ip",
    ],
)
def test_drops(name: bytes) -> None:
    """H-9, RFC 9110 6.5.1: framing, routing, who asks, what changes the content; twins with underscores."""
    assert permitted_trailers([(name, b"1"), (b"x", b"2")]) == [(b"x", b"2")]


@pytest.mark.parametrize(
    ("fields", "takes"),
    [
        ([], False),
        ([(b"x", b"trailers")], False),
        ([(b"te", b"gzip")], False),
        ([(b"te", b"gzip, Trailers")], True),
        ([(b"te", b"gzip"), (b"te", b"trailers")], True),
    ],
)
def test_who_takes_trailers(fields: Headers, takes: bool) -> None:
    """RFC 9110 10.1.4."""
    assert takes_trailers(fields) is takes
