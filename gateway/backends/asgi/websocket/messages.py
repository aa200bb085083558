"""What applications send for a WebSocket, checked: as `messages` does for an HTTP response.

Raises TypeError for a value of a wrong Python type, and ValueError for one that is wrong in itself or that
the client does not take.
"""

from typing import Final

from gateway.backends.asgi.host import Message
from gateway.backends.asgi.messages import check_headers
from gateway.backends.asgi.settings import WebSocketSettings
from gateway.protocols.events import Headers
from gateway.protocols.websocket.deflate import Deflate, negotiate
from gateway.protocols.websocket.handshake import accept_value, offered_subprotocols
from gateway.protocols.websocket.server import NO_STATUS, is_close_code
from gateway.request import Request

NORMAL: Final = 1000
"""The code of a Close frame for an application that has nothing more to say (RFC 6455 7.4.1)."""

KINDS: Final = frozenset(
    {
        "websocket.accept",
        "websocket.send",
        "websocket.close",
        "websocket.http.response.start",
        "websocket.http.response.body",
    }
)


def acceptance(
    message: Message, request: Request, settings: WebSocketSettings
) -> tuple[Headers, Deflate | None]:
    """The fields by which a websocket.accept answers the handshake, and the compression agreed on in them."""
    headers: Headers = []
    if request.version != "2":
        key = request.header(b"sec-websocket-key")
        assert key is not None  # checked by the handshake
        headers.append((b"sec-websocket-accept", accept_value(key)))
    subprotocol = message.get("subprotocol")
    if subprotocol is not None:
        if subprotocol not in offered_subprotocols(request.headers):
            # RFC 6455 4.1: the client would have to fail the connection.
            raise ValueError(f"the client does not offer the subprotocol {subprotocol!r}")
        headers.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
    deflate: Deflate | None = None
    if settings.compression:
        offers = b",".join(v for name, v in request.headers if name == b"sec-websocket-extensions")
        agreed = negotiate(offers, most=settings.max_message)
        if agreed is not None:
            headers.append((b"sec-websocket-extensions", agreed[0]))
            deflate = agreed[1]
    for name, value in check_headers(message.get("headers", ())):
        if name.lower().startswith(b"sec-websocket-"):
            raise ValueError(f"{name!r} is the server's to send")  # ASGI-16
        headers.append((name, value))
    return headers, deflate


def payload(message: Message) -> str | bytes:
    """What a websocket.send holds: exactly one of the two (ASGI-17)."""
    text, data = message.get("text"), message.get("bytes")
    if (text is None) == (data is None):
        raise ValueError("websocket.send has not exactly one of text and bytes")
    if text is not None:
        if not isinstance(text, str):
            raise TypeError(f"text is {type(text).__name__}, not str")
        return text
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"bytes is {type(data).__name__}, not bytes")
    return bytes(data)


def closing(message: Message) -> tuple[int, str]:
    """Code and reason of a websocket.close."""
    code = message.get("code", NORMAL)
    reason = message.get("reason") or ""
    if not isinstance(code, int) or not isinstance(reason, str):
        raise TypeError(f"not the code and reason of a Close frame: {code!r}, {reason!r}")
    if not is_close_code(code) and code != NO_STATUS:
        raise ValueError(f"{code} is not the code of a Close frame")
    return code, reason
