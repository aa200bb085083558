"""An ASGI application without a framework that shows its scope, and the event loop it runs on.

It works on trio and on asyncio: the gateway runs either kind in the same thread.
"""

from typing import Any

import sniffio


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer every request with the facts of its scope; POST shows the request body after them."""
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
    elif scope["type"] == "http":
        await show(scope, receive, send)


async def lifespan(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Take part in the gateway's start and stop; what is put into the state, requests see in theirs."""
    await receive()
    scope["state"]["started_on"] = sniffio.current_async_library()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def show(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Write the scope as text."""
    lines = [f"event loop: {sniffio.current_async_library()}\n"]
    lines += [f"{name}: {value!r}\n" for name, value in sorted(scope.items()) if name != "headers"]
    lines += ["headers:\n"]
    for name, value in scope["headers"]:
        lines.append(f"    {name.decode('latin-1')}: {value.decode('latin-1')}\n")
    body = "".join(lines).encode()
    if scope["method"] == "POST":
        body += b"\n" + await read_body(receive)
    head = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive: Any) -> bytes:
    """The whole request body."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return body
