"""The client's part of the handshake of WebSocket, before an application hears of it (RFC 6455 4.2.1)."""

from gateway.errors import RequestError
from gateway.protocols.events import Headers
from gateway.protocols.websocket.handshake import is_key
from gateway.request import Request, Responder


async def check_handshake(request: Request, responder: Responder) -> bool:
    """Whether the client's part of the handshake is right (RFC 6455 4.2.1); a wrong version is answered here.

    Raises RequestError (400) for another mistake.
    """
    if _only(request.headers, b"sec-websocket-version") != b"13":
        # RFC 6455 4.4; RFC 9110 15.5.22: it says what would have been right.
        headers = [(b"sec-websocket-version", b"13"), (b"upgrade", b"websocket")]
        if not responder.try_respond(426, headers, b"the version of WebSocket that is spoken here is 13\n"):
            await responder.flush()
        return False
    if request.version != "2" and not is_key(_only(request.headers, b"sec-websocket-key")):
        raise RequestError(400, "Sec-WebSocket-Key is not 16 bytes in base64, given once")
    return True


def _only(headers: Headers, wanted: bytes) -> bytes:
    """The value of the only field of that name; ``b""`` if it is missing or repeated."""
    values = [value for name, value in headers if name == wanted]
    return values[0] if len(values) == 1 else b""
