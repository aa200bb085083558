"""Applications that send a large body, or take one once the pipe ``GATE`` is opened, and say its size."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import sniffio
import trio

SIZE: Final = 16 * 1024 * 1024
PIECE: Final = bytes(64 * 1024)
LENGTH: Final = str(SIZE)


def _wait() -> None:
    """Return when somebody opens the pipe ``GATE`` for writing (fifo(7))."""
    with open(os.environ["GATE"]):
        pass


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The WSGI application."""
    if environ["REQUEST_METHOD"] == "GET":
        start_response("200 OK", [("Content-Length", LENGTH)])
        return (PIECE for _ in range(SIZE // len(PIECE)))
    _wait()
    size = 0
    while piece := environ["wsgi.input"].read(65536):
        size += len(piece)
    start_response("200 OK", [])
    return [b"%d" % size]


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """The ASGI application, for either loop."""
    if scope["type"] != "http":
        return
    headers = [(b"content-length", LENGTH.encode())] if scope["method"] == "GET" else []
    if scope["method"] == "GET":
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(SIZE // len(PIECE)):
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    if sniffio.current_async_library() == "trio":
        await trio.to_thread.run_sync(_wait)
    else:
        await asyncio.to_thread(_wait)
    size = 0
    while (message := await receive()).get("more_body"):
        size += len(message["body"])
    size += len(message["body"])
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"%d" % size})
