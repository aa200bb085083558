"""The contract of `rows.py` by Flask, its WebSockets by Flask-Sock."""

import hashlib
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

from flask import Flask, Response, abort, redirect, request, session, url_for
from flask_sock import Sock
from simple_websocket import ConnectionClosed, Server
from werkzeug.wrappers import Response as AnyResponse

app = Flask(__name__)
app.secret_key = "not a secret"
app.config["SOCK_SERVER_OPTIONS"] = {"subprotocols": ["chat"]}
sock = Sock(app)
go = threading.Event()
both = threading.Barrier(2)
codes: SimpleQueue[int] = SimpleQueue()


@app.get("/items/<int:number>")
def item(number: int) -> Any:
    answer = app.json.response(
        number=number,
        q=request.args["q"],
        tag=request.headers["X-Tag"],
        cookie=request.cookies["who"],
        link=url_for("item", number=number),
        absolute=url_for("item", number=number, _external=True),
    )
    answer.set_cookie("seen", str(number))
    return answer


@app.post("/form")
def form() -> dict[str, Any]:
    return dict(request.form)


@app.post("/json")
def json() -> Any:
    return {"got": request.get_json()}


@app.post("/upload")
def upload() -> dict[str, Any]:
    file = request.files["f"]
    content = file.read()
    return {"name": file.filename, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@app.post("/login")
def log_in() -> AnyResponse:
    session["name"] = request.form["name"]
    return redirect(url_for("who_am_i"), code=303)


@app.get("/whoami")
def who_am_i() -> Any:
    return {"name": session.get("name")}


@app.get("/stream")
def stream() -> Response:
    def pieces() -> Iterator[str]:
        yield "first,"
        go.wait(60)
        yield "second"

    go.clear()
    return Response(pieces(), mimetype="text/plain")


@app.get("/go")
def let_go() -> str:
    go.set()
    return "gone"


@app.get("/fail")
def fail() -> str:
    raise RuntimeError("this view is broken")


@app.get("/together")
def together() -> dict[str, Any]:
    """Answers only when two requests are here at the same time."""
    both.wait(60)
    return {"main": threading.current_thread() is threading.main_thread()}


@sock.route("/echo")
def echo(ws: Server) -> None:
    try:
        while (message := ws.receive()) != "bye":
            ws.send(message)
        ws.close(4001, "it said bye")
    except ConnectionClosed as closed:
        codes.put(closed.reason)
        raise


@app.get("/closed")
def show_closed() -> dict[str, Any]:
    return {"code": codes.get(timeout=60)}


@app.get("/refuse", websocket=True)
def refuse() -> str:
    abort(403)
