"""Notes by Flask: a signed session, redirects, PUT and DELETE, links with the mount, a stream."""

import threading
from collections.abc import Iterator

from flask import Flask, Response, abort, redirect, request, session, url_for
from werkzeug.wrappers import Response as WerkzeugResponse

app = Flask(__name__)
app.secret_key = "not a secret"
notes: dict[str, str] = {}
go = threading.Event()

PAGE = """<!doctype html>
<title>Notes</title>
<link rel="icon" href="data:,">
<h1>Notes of {author}</h1>
<form action="{action}" method="post"><input name="author"><button>Save</button></form>
<a href="{external}">here</a>
"""


@app.get("/")
def index() -> str:
    author = session.get("author", "nobody")
    external = url_for("index", _external=True)
    return PAGE.format(author=author, action=url_for("log_in"), external=external)


@app.post("/login")
def log_in() -> WerkzeugResponse:
    session["author"] = request.form["author"]
    answer = redirect(url_for("index"), code=303)
    answer.set_cookie("second", "2", path=url_for("index"))
    return answer


@app.put("/notes/<name>")
def put(name: str) -> tuple[str, int, dict[str, str]]:
    created = name not in notes
    notes[name] = request.get_data(as_text=True)
    return "", 201 if created else 200, {"Location": url_for("get", name=name, _external=True)}


@app.get("/notes/<name>")
def get(name: str) -> str:
    return notes.get(name) or abort(404)


@app.delete("/notes/<name>")
def delete(name: str) -> tuple[str, int]:
    del notes[name]
    return "", 204


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
