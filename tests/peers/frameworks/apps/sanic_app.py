"""The contract of `rows.py` by Sanic."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

from sanic import HTTPResponse, Sanic, Websocket, json, redirect, text

app: Any = Sanic("matrix", configure_logging=False)
release = asyncio.Event()
released = asyncio.Event()
go = asyncio.Event()
closed = asyncio.Event()


@app.before_server_start
async def start(app: Any) -> None:
    app.ctx.greeting = "from the start on asyncio"


@app.after_server_stop
async def stop(app: Any) -> None:
    Path("sanic-asyncio.ended").touch()


@app.get("/items/<number:int>", name="item")
async def item(request: Any, number: int) -> HTTPResponse:
    response = json(
        {
            "number": number,
            "q": request.args.get("q"),
            "tag": request.headers["X-Tag"],
            "cookie": request.cookies.get("who"),
            "link": app.url_for("item", number=number),
            "absolute": request.url_for("item", number=number),
        }
    )
    response.add_cookie("seen", str(number), secure=False)
    return response


@app.post("/form")
async def form(request: Any) -> HTTPResponse:
    fields = request.get_form(keep_blank_values=True)
    return json({name: fields.get(name) for name in fields})


@app.post("/json", name="json")
async def got_json(request: Any) -> HTTPResponse:
    return json({"got": request.json})


@app.post("/upload")
async def upload(request: Any) -> HTTPResponse:
    file = request.files.get("f")
    sha256 = hashlib.sha256(file.body).hexdigest()
    return json({"name": file.name, "size": len(file.body), "sha256": sha256})


@app.post("/login")
async def log_in(request: Any) -> HTTPResponse:
    response = redirect(app.url_for("whoami"), status=303)
    response.add_cookie("session", request.form.get("name").encode().hex(), secure=False)
    return response


@app.get("/whoami", name="whoami")
async def who_am_i(request: Any) -> HTTPResponse:
    name = request.cookies.get("session")
    return json({"name": name and bytes.fromhex(name).decode()})


@app.get("/stream")
async def stream(request: Any) -> None:
    go.clear()
    response = await request.respond(content_type="text/plain")
    await response.send("first,")
    await go.wait()
    await response.send("second")
    await response.eof()


@app.get("/go")
async def let_go(request: Any) -> HTTPResponse:
    go.set()
    return text("gone")


@app.get("/fail")
async def fail(request: Any) -> HTTPResponse:
    raise RuntimeError("this view is broken")


@app.get("/background")
async def background(request: Any) -> HTTPResponse:
    async def work() -> None:
        await release.wait()
        released.set()

    release.clear()
    released.clear()
    app.add_task(work())
    return text("started")


@app.get("/background/release", name="release")
async def let_work(request: Any) -> HTTPResponse:
    early = released.is_set()
    release.set()
    await released.wait()
    return text("too early" if early else "done")


@app.get("/state")
async def state(request: Any) -> HTTPResponse:
    return text(app.ctx.greeting)


@app.websocket("/echo", subprotocols=["chat"])
async def echo(request: Any, ws: Websocket) -> None:
    closed.clear()
    while (message := await ws.recv()) is not None:
        await ws.send(message)
    closed.set()  # by its ASGI interface Sanic does not tell the code, and cannot close


@app.get("/closed", name="closed")
async def show_closed(request: Any) -> HTTPResponse:
    await closed.wait()
    return json({"code": None})
