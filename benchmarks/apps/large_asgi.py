"""An ASGI application that says hello, and streams 1 GiB at ``/large``."""

from collections.abc import Awaitable, Callable
from typing import Any

BODY = b"Hello, world!"
SIZE = 1 << 30
_PIECE = bytes(64 * 1024)


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer; the large response in pieces of 64 KiB."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    large = scope["path"] == "/large"
    length = b"%d" % (SIZE if large else len(BODY))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    if large:
        for _ in range(SIZE // len(_PIECE)):
            await send({"type": "http.response.body", "body": _PIECE, "more_body": True})
    await send({"type": "http.response.body", "body": b"" if large else BODY})
