"""The routes that all applications here have, by Quart on trio."""

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import trio
from quart import Response, request, url_for
from quart_trio import QuartTrio

app = QuartTrio(__name__)
app.config["RESPONSE_TIMEOUT"] = None
go = [trio.Event()]


@app.before_serving
async def start() -> None:
    app.config["TOKEN"] = trio.lowlevel.current_trio_token()


@app.get("/items/<int:number>")
async def item(number: int) -> Response:
    response = Response(
        app.json.dumps(
            {
                "number": number,
                "q": request.args["q"],
                "tag": request.headers["X-Tag"],
                "cookie": request.cookies["who"],
                "link": url_for("item", number=number),
                "absolute": url_for("item", number=number, _external=True),
            }
        ),
        mimetype="application/json",
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
    return {"name": file.filename, "size": len(content), "md5": hashlib.md5(content).hexdigest()}


@app.get("/stream")
async def stream() -> Response:
    event = go[0] = trio.Event()

    async def pieces() -> AsyncIterator[str]:
        yield "first,"
        await event.wait()
        yield "second"

    return Response(pieces(), mimetype="text/plain")


@app.get("/go")
async def let_go() -> str:
    go[0].set()
    return "gone"


@app.get("/fail")
async def fail() -> str:
    raise RuntimeError("this view is broken")


@app.get("/state")
async def state() -> str:
    """Whether requests run on the loop that the lifespan ran on."""
    return str(app.config["TOKEN"] is trio.lowlevel.current_trio_token())
