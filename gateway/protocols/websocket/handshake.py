"""The facts of the opening handshake (RFC 6455 4), for either bootstrap: HTTP/1.1 and RFC 8441."""

import hashlib
from base64 import b64decode, b64encode
from typing import Final

from gateway.protocols.events import Headers

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3


def is_key(value: bytes) -> bool:
    """Whether *value* is a Sec-WebSocket-Key: 16 bytes in base64 (RFC 6455 4.2.1)."""
    try:
        return len(b64decode(value, validate=True)) == 16
    except ValueError:
        return False


def accept_value(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept that answers *key* (RFC 6455 4.2.2)."""
    return b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def offered_subprotocols(headers: Headers) -> list[str]:
    """The subprotocols that the client offers, in its order, case kept (RFC 6455 11.3.4)."""
    return [
        offer
        for name, value in headers
        if name == b"sec-websocket-protocol"
        for member in value.decode("latin-1").split(",")
        if (offer := member.strip(" \t"))
    ]
