"""RFC 9110 7.6.1: what a Connection field ends."""

import pytest

from gateway.protocols.hop_by_hop import named_by


@pytest.mark.parametrize(
    ("connection", "named"),
    [
        (b"", set()),
        (b"Keep-Alive", set()),
        (b"close", set()),
        (b"X-A, x-b,,\tX-C", {b"x-a", b"x-b", b"x-c"}),
        (b"close, x-a", {b"x-a"}),
        (b"Upgrade, Keep-Alive, TE", set()),
        (b"Host, Content-Length, Content-Type, Content-Encoding, Content-Range, x-a", {b"x-a"}),
    ],
)
def test_fields_named_by_connection(connection: bytes, named: set[bytes]) -> None:
    """Neither those that end here anyway, nor those without which it would be another message."""
    assert named_by(connection) == named
