"""The contract of `rows.py` by FastAPI, on either loop; and a dependency that is torn down."""

import hashlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import anyio
import sniffio
from fastapi import (
    BackgroundTasks,
    Body,
    Cookie,
    Depends,
    FastAPI,
    Form,
    Header,
    Request,
    Response,
    UploadFile,
    WebSocket,
)
from fastapi.responses import PlainTextResponse, RedirectResponse, StreamingResponse
from starlette.middleware.sessions import SessionMiddleware

both = threading.Barrier(2)
events: dict[str, anyio.Event] = {}
codes: list[int] = []


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    loop = sniffio.current_async_library()
    yield {"greeting": f"from the start on {loop}"}
    Path(f"fastapi-{loop}.ended").touch()


app = FastAPI(lifespan=lifespan)
app.add_middleware(SessionMiddleware, secret_key="not a secret")


@app.get("/items/{number}")
async def item(
    number: int,
    q: str,
    request: Request,
    response: Response,
    x_tag: Annotated[str, Header()],
    who: Annotated[str, Cookie()],
) -> dict[str, Any]:
    response.set_cookie("seen", str(number))
    link = request.url_for("item", number=number)
    return {
        "number": number, "q": q, "tag": x_tag, "cookie": who, "link": link.path, "absolute": str(link)
    }  # fmt: skip


@app.post("/form")
async def form(request: Request) -> dict[str, Any]:
    return dict(await request.form())


@app.post("/json")
async def json(got: Annotated[Any, Body()]) -> dict[str, Any]:
    return {"got": got}


@app.post("/upload")
async def upload(f: UploadFile) -> dict[str, Any]:
    sha256 = hashlib.sha256()
    while piece := await f.read(65536):
        sha256.update(piece)
    return {"name": f.filename, "size": f.size, "sha256": sha256.hexdigest()}


@app.post("/login")
async def log_in(request: Request, name: Annotated[str, Form()]) -> Response:
    request.session["name"] = name
    return RedirectResponse(request.url_for("who_am_i"), 303)


@app.get("/whoami")
async def who_am_i(request: Request) -> dict[str, Any]:
    return {"name": request.session.get("name")}


@app.get("/stream")
async def stream() -> StreamingResponse:
    go = events["go"] = anyio.Event()

    async def pieces() -> AsyncIterator[str]:
        yield "first,"
        await go.wait()
        yield "second"

    return StreamingResponse(pieces(), media_type="text/plain")


@app.get("/go", response_class=PlainTextResponse)
async def let_go() -> str:
    events["go"].set()
    return "gone"


@app.get("/fail")
async def fail() -> None:
    raise RuntimeError("this view is broken")


@app.get("/together")
def together() -> dict[str, Any]:
    """Runs in a thread, and answers only when two requests are here at the same time."""
    both.wait(60)
    return {"main": threading.current_thread() is threading.main_thread()}


async def resource() -> AsyncIterator[str]:
    left = events["left"] = anyio.Event()
    try:
        yield "entered"
    finally:
        left.set()


@app.get("/dependency", response_class=PlainTextResponse)
async def dependency(value: Annotated[str, Depends(resource)]) -> str:
    return f"{value}, left: {events['left'].is_set()}"


@app.get("/dependency/left", response_class=PlainTextResponse)
async def left() -> str:
    await events["left"].wait()
    return "left"


@app.get("/background", response_class=PlainTextResponse)
async def background(tasks: BackgroundTasks) -> str:
    release, released = events["release"], events["released"] = anyio.Event(), anyio.Event()

    async def work() -> None:
        await release.wait()
        released.set()

    tasks.add_task(work)
    return "started"


@app.get("/background/release", response_class=PlainTextResponse)
async def release() -> str:
    early = events["released"].is_set()
    events["release"].set()
    await events["released"].wait()
    return "too early" if early else "done"


@app.get("/state", response_class=PlainTextResponse)
async def state(request: Request) -> str:
    return str(request.state.greeting)


@app.websocket("/echo")
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


@app.get("/closed")
async def show_closed() -> dict[str, Any]:
    await events["closed"].wait()
    return {"code": codes[-1]}


@app.websocket("/refuse")
async def refuse(websocket: WebSocket) -> None:
    await websocket.close()
