"""The contract of `rows.py` by Starlette, on either loop."""

import hashlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import sniffio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.datastructures import UploadFile
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

both = threading.Barrier(2)
events: dict[str, anyio.Event] = {}
codes: list[int] = []


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    loop = sniffio.current_async_library()
    yield {"greeting": f"from the start on {loop}"}
    Path(f"starlette-{loop}.ended").touch()


async def item(request: Request) -> Response:
    number = request.path_params["number"]
    link = request.url_for("item", number=number)
    response = JSONResponse(
        {
            "number": number,
            "q": request.query_params["q"],
            "tag": request.headers["X-Tag"],
            "cookie": request.cookies["who"],
            "link": link.path,
            "absolute": str(link),
        }
    )
    response.set_cookie("seen", str(number))
    return response


async def form(request: Request) -> Response:
    return JSONResponse(dict(await request.form()))


async def json(request: Request) -> Response:
    return JSONResponse({"got": await request.json()})


async def upload(request: Request) -> Response:
    async with request.form() as fields:
        file = fields["f"]
        assert isinstance(file, UploadFile)
        sha256 = hashlib.sha256()
        while piece := await file.read(65536):
            sha256.update(piece)
        return JSONResponse({"name": file.filename, "size": file.size, "sha256": sha256.hexdigest()})


async def log_in(request: Request) -> Response:
    request.session["name"] = (await request.form())["name"]
    return RedirectResponse(request.url_for("whoami"), 303)


async def who_am_i(request: Request) -> Response:
    return JSONResponse({"name": request.session.get("name")})


async def stream(request: Request) -> Response:
    go = events["go"] = anyio.Event()

    async def pieces() -> AsyncIterator[str]:
        yield "first,"
        await go.wait()
        yield "second"

    return StreamingResponse(pieces(), media_type="text/plain")


async def let_go(request: Request) -> Response:
    events["go"].set()
    return PlainTextResponse("gone")


async def fail(request: Request) -> Response:
    raise RuntimeError("this view is broken")


def together(request: Request) -> Response:
    """Runs in a thread, and answers only when two requests are here at the same time."""
    both.wait(60)
    return JSONResponse({"main": threading.current_thread() is threading.main_thread()})


async def background(request: Request) -> Response:
    release, released = events["release"], events["released"] = anyio.Event(), anyio.Event()

    async def work() -> None:
        await release.wait()
        released.set()

    return PlainTextResponse("started", background=BackgroundTask(work))


async def release(request: Request) -> Response:
    early = events["released"].is_set()
    events["release"].set()
    await events["released"].wait()
    return PlainTextResponse("too early" if early else "done")


async def state(request: Request) -> Response:
    return PlainTextResponse(request.state.greeting)


async def echo(websocket: WebSocket) -> None:
    closed = events["closed"] = anyio.Event()
    await websocket.accept(websocket.scope["subprotocols"][0])
    while (message := await websocket.receive())["type"] == "websocket.receive":
        if message.get("text") == "bye":
            await websocket.close(4001, "it said bye")
            return
        await websocket.send({**message, "type": "websocket.send"})
    codes.append(message["code"])
    closed.set()


async def show_closed(request: Request) -> Response:
    await events["closed"].wait()
    return JSONResponse({"code": codes[-1]})


async def refuse(websocket: WebSocket) -> None:
    await websocket.close()


app = Starlette(
    routes=[
        Route("/items/{number:int}", item, name="item"),
        Route("/form", form, methods=["POST"]),
        Route("/json", json, methods=["POST"]),
        Route("/upload", upload, methods=["POST"]),
        Route("/login", log_in, methods=["POST"]),
        Route("/whoami", who_am_i, name="whoami"),
        Route("/stream", stream),
        Route("/go", let_go),
        Route("/fail", fail),
        Route("/together", together),
        Route("/background", background),
        Route("/background/release", release),
        Route("/state", state),
        WebSocketRoute("/echo", echo),
        Route("/closed", show_closed),
        WebSocketRoute("/refuse", refuse),
    ],
    middleware=[Middleware(SessionMiddleware, secret_key="not a secret")],
    lifespan=lifespan,
)
