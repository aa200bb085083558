"""Applications that say one byte, and the other when the body of the request has come."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
    """PEP 3333, "Handling of Block Boundaries": what is yielded is sent before more is asked for."""
    start_response("200 OK", [])
    yield b"x"
    yield environ["wsgi.input"].read(1)


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """The same on either loop."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await send({"type": "http.response.body", "body": (await receive())["body"]})
