"""The contract of `rows.py` by Litestar, on either loop."""

import hashlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import anyio
import sniffio
from litestar import Litestar, MediaType, Request, Response, WebSocket, get, post, websocket
from litestar.background_tasks import BackgroundTask
from litestar.datastructures import UploadFile
from litestar.enums import RequestEncodingType
from litestar.logging import LoggingConfig
from litestar.middleware.session.client_side import CookieBackendConfig
from litestar.params import Body
from litestar.response import Redirect, Stream

both = threading.Barrier(2)
events: dict[str, anyio.Event] = {}
codes: list[int] = []
sessions = CookieBackendConfig(secret=b"not a secret....")


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    loop = sniffio.current_async_library()
    app.state.greeting = f"from the start on {loop}"
    yield
    Path(f"litestar-{loop}.ended").touch()


@get("/items/{number:int}", name="item")
async def item(request: Request[Any, Any, Any], number: int, q: str) -> Response[dict[str, Any]]:
    response = Response(
        {
            "number": number,
            "q": q,
            "tag": request.headers["X-Tag"],
            "cookie": request.cookies["who"],
            "link": request.app.route_reverse("item", number=number),
            "absolute": request.url_for("item", number=number),
        }
    )
    response.set_cookie("seen", str(number))
    return response


@post("/form", status_code=200)
async def form(request: Request[Any, Any, Any]) -> dict[str, Any]:
    return dict(await request.form())


@post("/json", status_code=200)
async def json(request: Request[Any, Any, Any]) -> dict[str, Any]:
    return {"got": await request.json()}


@post("/upload", status_code=200)
async def upload(
    data: Annotated[dict[str, UploadFile], Body(media_type=RequestEncodingType.MULTI_PART)],
) -> dict[str, Any]:
    file = data["f"]
    content = await file.read()
    return {"name": file.filename, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@post("/login")
async def log_in(request: Request[Any, Any, Any]) -> Redirect:
    request.set_session({"name": (await request.form())["name"]})
    return Redirect(request.app.route_reverse("whoami"), status_code=303)


@get("/whoami", name="whoami")
async def who_am_i(request: Request[Any, Any, Any]) -> dict[str, Any]:
    return {"name": request.session.get("name")}


@get("/stream")
async def stream() -> Stream:
    go = events["go"] = anyio.Event()

    async def pieces() -> AsyncIterator[str]:
        yield "first,"
        await go.wait()
        yield "second"

    return Stream(pieces(), media_type=MediaType.TEXT)


@get("/go", media_type=MediaType.TEXT)
async def let_go() -> str:
    events["go"].set()
    return "gone"


@get("/fail")
async def fail() -> None:
    raise RuntimeError("this view is broken")


@get("/together", sync_to_thread=True)
def together() -> dict[str, Any]:
    """Runs in a thread, and answers only when two requests are here at the same time."""
    both.wait(60)
    return {"main": threading.current_thread() is threading.main_thread()}


@get("/background", media_type=MediaType.TEXT)
async def background() -> Response[str]:
    release, released = events["release"], events["released"] = anyio.Event(), anyio.Event()

    async def work() -> None:
        await release.wait()
        released.set()

    return Response("started", background=BackgroundTask(work))


@get("/background/release", media_type=MediaType.TEXT)
async def release() -> str:
    early = events["released"].is_set()
    events["release"].set()
    await events["released"].wait()
    return "too early" if early else "done"


@get("/state", media_type=MediaType.TEXT)
async def state(request: Request[Any, Any, Any]) -> str:
    return str(request.app.state.greeting)


@websocket("/echo")
async def echo(socket: WebSocket[Any, Any, Any]) -> None:
    closed = events["closed"] = anyio.Event()
    await socket.accept(subprotocols=socket.scope["subprotocols"][0])
    receive: Any = socket.receive
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") == "bye":
            await socket.close(code=4001, reason="it said bye")
            return
        if (text := message.get("text")) is not None:
            await socket.send_text(text)
        else:
            await socket.send_bytes(message["bytes"] or b"")
    codes.append(message["code"])
    closed.set()


@get("/closed")
async def show_closed() -> dict[str, Any]:
    await events["closed"].wait()
    return {"code": codes[-1]}


@websocket("/refuse")
async def refuse(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.close()


app = Litestar(
    [
        item,
        form,
        json,
        upload,
        log_in,
        who_am_i,
        stream,
        let_go,
        fail,
        together,
        background,
        release,
        state,
        echo,
        show_closed,
        refuse,
    ],
    lifespan=[lifespan],
    # Failures are logged, and the log of the whole process is left alone.
    logging_config=LoggingConfig(
        configure_root_logger=False, loggers={"litestar": {"propagate": True}}, log_exceptions="always"
    ),
    middleware=[sessions.middleware],
)
