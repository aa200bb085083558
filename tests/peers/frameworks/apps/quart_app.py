"""The contract of `rows.py` by Quart on asyncio and by Quart-Trio on trio."""

import hashlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
from quart import Quart, Response, abort, redirect, request, session, url_for, websocket
from quart_trio import QuartTrio


def make(app: Quart, loop: str) -> Quart:
    app.secret_key = "not a secret"
    app.config["RESPONSE_TIMEOUT"] = None
    both = threading.Barrier(2)
    events: dict[str, anyio.Event] = {}

    @app.before_serving
    async def start() -> None:
        app.config["GREETING"] = f"from the start on {loop}"

    @app.after_serving
    async def stop() -> None:
        Path(f"quart-{loop}.ended").touch()

    @app.get("/items/<int:number>")
    async def item(number: int) -> Any:
        response = app.json.response(
            number=number,
            q=request.args["q"],
            tag=request.headers["X-Tag"],
            cookie=request.cookies["who"],
            link=url_for("item", number=number),
            absolute=url_for("item", number=number, _external=True),
        )
        response.set_cookie("seen", str(number))
        return response

    @app.post("/form")
    async def form() -> dict[str, Any]:
        return dict(await request.form)

    @app.post("/json")
    async def json() -> dict[str, Any]:
        return {"got": await request.get_json()}

    @app.post("/upload")
    async def upload() -> dict[str, Any]:
        file = (await request.files)["f"]
        content = file.read()
        return {"name": file.filename, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    @app.post("/login")
    async def log_in() -> Any:
        session["name"] = (await request.form)["name"]
        return redirect(url_for("who_am_i"), 303)

    @app.get("/whoami")
    async def who_am_i() -> dict[str, Any]:
        return {"name": session.get("name")}

    @app.get("/stream")
    async def stream() -> Response:
        go = events["go"] = anyio.Event()

        async def pieces() -> AsyncIterator[str]:
            yield "first,"
            await go.wait()
            yield "second"

        return Response(pieces(), mimetype="text/plain")

    @app.get("/go")
    async def let_go() -> str:
        events["go"].set()
        return "gone"

    @app.get("/fail")
    async def fail() -> str:
        raise RuntimeError("this view is broken")

    @app.get("/together")
    def together() -> dict[str, Any]:
        """Runs in a thread, and answers only when two requests are here at the same time."""
        both.wait(60)
        return {"main": threading.current_thread() is threading.main_thread()}

    @app.get("/background")
    async def background() -> str:
        release, released = events["release"], events["released"] = anyio.Event(), anyio.Event()

        async def work() -> None:
            await release.wait()
            released.set()

        app.add_background_task(work)
        return "started"

    @app.get("/background/release")
    async def release() -> str:
        early = events["released"].is_set()
        events["release"].set()
        await events["released"].wait()
        return "too early" if early else "done"

    @app.get("/state")
    async def state() -> str:
        return str(app.config["GREETING"])

    @app.websocket("/echo")
    async def echo() -> None:
        closed = events["closed"] = anyio.Event()
        await websocket.accept(subprotocol=websocket.requested_subprotocols[0])
        try:
            while (message := await websocket.receive()) != "bye":
                await websocket.send(message)
        finally:
            closed.set()  # cancelled, if the client has closed: Quart does not tell the code
        await websocket.close(4001, "it said bye")

    @app.get("/closed")
    async def show_closed() -> dict[str, Any]:
        await events["closed"].wait()
        return {"code": None}

    @app.websocket("/refuse")
    async def refuse() -> None:
        abort(403)

    return app


asyncio = make(Quart(__name__), "asyncio")
trio = make(QuartTrio(__name__), "trio")
