"""The routes that all applications here have, by Flask."""

import hashlib
import threading
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, request, url_for

app = Flask(__name__)
go = threading.Event()


@app.get("/items/<int:number>")
def item(number: int) -> Response:
    answer = Response()
    answer.set_cookie("seen", str(number))
    answer.mimetype = "application/json"
    answer.set_data(
        app.json.dumps(
            {
                "number": number,
                "q": request.args["q"],
                "tag": request.headers["X-Tag"],
                "cookie": request.cookies["who"],
                "link": url_for("item", number=number),
                "absolute": url_for("item", number=number, _external=True),
            }
        )
    )
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
    return {"name": file.filename, "size": len(content), "md5": hashlib.md5(content).hexdigest()}


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
