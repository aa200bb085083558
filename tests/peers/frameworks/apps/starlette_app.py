"""The routes that all applications here have, by Starlette on trio."""

import hashlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

background_done = trio.Event()


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    yield {"token": trio.lowlevel.current_trio_token(), "gone": [trio.Event()]}


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
        content = await file.read()
        return JSONResponse(
            {"name": file.filename, "size": len(content), "md5": hashlib.md5(content).hexdigest()}
        )


async def stream(request: Request) -> Response:
    go = request.state.gone[0] = trio.Event()

    async def pieces() -> AsyncIterator[str]:
        yield "first,"
        await go.wait()
        yield "second"

    return StreamingResponse(pieces(), media_type="text/plain")


async def let_go(request: Request) -> Response:
    request.state.gone[0].set()
    return PlainTextResponse("gone")


async def fail(request: Request) -> Response:
    raise RuntimeError("this view is broken")


def sync(request: Request) -> Response:
    """Runs in a thread."""
    return JSONResponse({"main": threading.current_thread() is threading.main_thread()})


async def background(request: Request) -> Response:
    async def work() -> None:
        background_done.set()

    return PlainTextResponse("started", background=BackgroundTask(work))


async def done(request: Request) -> Response:
    await background_done.wait()
    return PlainTextResponse("done")


async def state(request: Request) -> Response:
    """Whether requests run on the loop that the lifespan ran on."""
    return PlainTextResponse(str(request.state.token is trio.lowlevel.current_trio_token()))


app = Starlette(
    routes=[
        Route("/items/{number:int}", item, name="item"),
        Route("/form", form, methods=["POST"]),
        Route("/json", json, methods=["POST"]),
        Route("/upload", upload, methods=["POST"]),
        Route("/stream", stream),
        Route("/go", let_go),
        Route("/fail", fail),
        Route("/sync", sync),
        Route("/background", background),
        Route("/background/done", done),
        Route("/state", state),
    ],
    lifespan=lifespan,
)
