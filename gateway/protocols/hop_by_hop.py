"""Fields that end with the connection they came by (RFC 9110 7.6.1), whether Connection names them or not."""

from typing import Final

from gateway.protocols.lists import list_tokens

HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

# What nearly every Connection field says: it names no other field.
_PERSISTENCE: Final = frozenset({b"keep-alive", b"close"})

# They belong to every message that has them, and may not be named. Who does so would have two servers, one
# behind the other, see two different messages.
_STAY: Final = frozenset({b"content-encoding", b"content-length", b"content-range", b"content-type", b"host"})

_NOTHING: Final[frozenset[bytes]] = frozenset()


def named_by(connection: bytes) -> frozenset[bytes]:
    """The fields, besides `HOP_BY_HOP`, that end here because the value of a Connection field names them."""
    if connection.lower() in _PERSISTENCE:
        return _NOTHING
    return frozenset(list_tokens(connection)) - _PERSISTENCE - HOP_BY_HOP - _STAY
