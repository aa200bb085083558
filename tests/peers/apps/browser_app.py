"""An ASGI application for a browser: a page, server-sent events, an echo of bodies, and a WebSocket.

What it publishes, the test says: a POST to /publish is an event for every open stream, and ends them if it
has no body. It runs on asyncio and on trio.
"""

import json
from collections import defaultdict
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectSendStream

PAGE = b"""<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Page</title>
<link rel="icon" href="data:,"></head><body><h1>Page</h1></body></html>"""

streams: defaultdict[str, list[MemoryObjectSendStream[bytes]]] = defaultdict(list)
"""The open streams of each loop: both have the module, the mount tells them apart."""

closed: defaultdict[str, list[int]] = defaultdict(list)
"""The codes that clients have closed WebSockets with."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await talk(scope, receive, send)
    else:
        path = scope["path"].removeprefix(scope["root_path"])
        await {"/events": events, "/publish": publish, "/echo": echo, "/fail": fail}.get(path, show)(
            scope, receive, send
        )


async def start(send: Any, content_type: bytes, status: int = 200) -> None:
    await send(
        {"type": "http.response.start", "status": status, "headers": [(b"content-type", content_type)]}
    )


async def end(send: Any, body: bytes = b"") -> None:
    await send({"type": "http.response.body", "body": body})


async def show(scope: Any, receive: Any, send: Any) -> None:
    """The page; /state is what the test may ask for."""
    mount = scope["root_path"]
    if scope["path"].endswith("/state"):
        await start(send, b"application/json")
        await end(send, json.dumps({"streams": len(streams[mount]), "closed": closed[mount]}).encode())
    else:
        await start(send, b"text/html; charset=utf-8")
        await end(send, PAGE)


async def events(scope: Any, receive: Any, send: Any) -> None:
    """A stream for EventSource, which says first how it was asked for; it ends when its client has gone."""
    after = dict(scope["headers"]).get(b"last-event-id", b"nothing")
    await start(send, b"text/event-stream")
    hello = b"retry: 1\ndata: HTTP/%s after %s\n\n" % (scope["http_version"].encode(), after)
    await send({"type": "http.response.body", "body": hello, "more_body": True})
    into, out = anyio.create_memory_object_stream[bytes](16)
    streams[scope["root_path"]].append(into)
    try:
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                group.cancel_scope.cancel()

            group.start_soon(watch)
            while event := await out.receive():
                await send({"type": "http.response.body", "body": event, "more_body": True})
            group.cancel_scope.cancel()
        await end(send)
    finally:
        streams[scope["root_path"]].remove(into)
        into.close()
        out.close()


async def publish(scope: Any, receive: Any, send: Any) -> None:
    event = b"".join([piece async for piece in pieces(receive)])
    for stream in streams[scope["root_path"]]:
        await stream.send(event)
    await start(send, b"text/plain")
    await end(send, b"%d" % len(streams[scope["root_path"]]))


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """The body, piece by piece."""
    await start(send, dict(scope["headers"]).get(b"content-type", b"application/octet-stream"))
    async for piece in pieces(receive):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await end(send)


async def pieces(receive: Any) -> Any:
    more = True
    while more:
        message = await receive()
        more = message["more_body"]
        yield message["body"]


async def fail(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("<b>out of paper</b>")


async def talk(scope: Any, receive: Any, send: Any) -> None:
    """Says the version of HTTP, then echoes; "bye" closes with 4001."""
    await receive()
    await send({"type": "websocket.accept", "subprotocol": scope["subprotocols"][0]})
    await send({"type": "websocket.send", "text": scope["http_version"]})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") == "bye":
            await send({"type": "websocket.close", "code": 4001, "reason": "it said bye"})
            return
        await send({**message, "type": "websocket.send"})
    closed[scope["root_path"]].append(message["code"])
