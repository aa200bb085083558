"""The routes that all applications here have, by FastAPI, and what only FastAPI has."""

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import BackgroundTasks, Body, Cookie, Depends, FastAPI, Header, Request, Response, UploadFile
from fastapi.responses import StreamingResponse

go = asyncio.Event()
background_done = asyncio.Event()
dependency_left = asyncio.Event()
both_are_here = threading.Barrier(2)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    yield {"greeting": "from the start"}
    await asyncio.to_thread(Path("ended").write_text, "the lifespan was ended")


app = FastAPI(lifespan=lifespan)


@app.get("/items/{number}", name="item")
async def item(
    request: Request,
    response: Response,
    number: int,
    q: str,
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
    content = await f.read()
    return {"name": f.filename, "size": len(content), "md5": hashlib.md5(content).hexdigest()}


@app.get("/stream")
async def stream() -> StreamingResponse:
    async def pieces() -> AsyncIterator[str]:
        yield "first,"
        await go.wait()
        yield "second"

    go.clear()
    return StreamingResponse(pieces(), media_type="text/plain")


@app.get("/go")
async def let_go() -> Response:
    go.set()
    return Response("gone")


@app.get("/fail")
async def fail() -> None:
    raise RuntimeError("this view is broken")


@app.get("/sync")
def sync() -> dict[str, Any]:
    """Answers only when two requests are here at the same time."""
    both_are_here.wait(60)
    return {"main": threading.current_thread() is threading.main_thread()}


async def resource() -> AsyncIterator[str]:
    yield "entered"
    dependency_left.set()


@app.get("/dependency")
async def dependency(value: Annotated[str, Depends(resource)]) -> str:
    return value


@app.get("/dependency/left")
async def left() -> str:
    await dependency_left.wait()
    return "left"


@app.get("/background")
async def background(tasks: BackgroundTasks) -> str:
    async def work() -> None:
        background_done.set()

    tasks.add_task(work)
    return "started"


@app.get("/background/done")
async def done() -> str:
    await background_done.wait()
    return "done"


@app.get("/state")
async def state(request: Request) -> str:
    return str(request.state.greeting)
