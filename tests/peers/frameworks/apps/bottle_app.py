"""The contract of `rows.py` by Bottle."""

import hashlib
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

from bottle import Bottle, redirect, request, response

SECRET = "not a secret"

app = Bottle()
go = threading.Event()
both = threading.Barrier(2)


@app.get("/items/<number:int>", name="item")
def item(number: int) -> dict[str, Any]:
    link = app.get_url("item", number=number)
    response.set_cookie("seen", str(number))
    return {
        "number": number,
        "q": request.query.q,
        "tag": request.headers["X-Tag"],
        "cookie": request.get_cookie("who"),
        "link": link,
        "absolute": urljoin(request.url, link),
    }


@app.post("/form")
def form() -> dict[str, Any]:
    return {name: request.forms.getunicode(name) for name in request.forms}


@app.post("/json")
def json() -> dict[str, Any]:
    return {"got": request.json}


@app.post("/upload")
def upload() -> dict[str, Any]:
    upload = request.files.f
    content = upload.file.read()
    return {
        "name": upload.raw_filename,
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


@app.post("/login")
def log_in() -> None:
    response.set_cookie("session", request.forms.getunicode("name"), secret=SECRET)
    redirect(app.get_url("whoami"), 303)


@app.get("/whoami", name="whoami")
def who_am_i() -> dict[str, Any]:
    return {"name": request.get_cookie("session", secret=SECRET)}


@app.get("/stream")
def stream() -> Iterator[str]:
    go.clear()
    response.content_type = "text/plain"
    yield "first,"
    go.wait(60)
    yield "second"


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
