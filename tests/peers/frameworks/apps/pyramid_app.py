"""The contract of `rows.py` by Pyramid."""

import hashlib
import threading
from collections.abc import Iterator
from typing import Any

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPSeeOther
from pyramid.session import SignedCookieSessionFactory

go = threading.Event()
both = threading.Barrier(2)


def item(request: Any) -> dict[str, Any]:
    number = int(request.matchdict["number"])
    request.response.set_cookie("seen", str(number))
    return {
        "number": number,
        "q": request.GET["q"],
        "tag": request.headers["X-Tag"],
        "cookie": request.cookies["who"],
        "link": request.route_path("item", number=number),
        "absolute": request.route_url("item", number=number),
    }


def form(request: Any) -> dict[str, Any]:
    return dict(request.POST)


def json(request: Any) -> dict[str, Any]:
    return {"got": request.json_body}


def upload(request: Any) -> dict[str, Any]:
    field = request.POST["f"]
    content = field.file.read()
    return {"name": field.filename, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def login(request: Any) -> Any:
    request.session["name"] = request.POST["name"]
    # A response that a view makes itself has no callbacks of the session's but those of the request.
    return HTTPSeeOther(request.route_url("whoami"))


def whoami(request: Any) -> dict[str, Any]:
    return {"name": request.session.get("name")}


def stream(request: Any) -> Any:
    def pieces() -> Iterator[bytes]:
        yield b"first,"
        go.wait(60)
        yield b"second"

    go.clear()
    request.response.content_type = "text/plain"
    request.response.app_iter = pieces()
    return request.response


def let_go(request: Any) -> str:
    go.set()
    return "gone"


def fail(request: Any) -> str:
    raise RuntimeError("this view is broken")


def together(request: Any) -> dict[str, Any]:
    """Answers only when two requests are here at the same time."""
    both.wait(60)
    return {"main": threading.current_thread() is threading.main_thread()}


def make() -> Any:
    with Configurator(session_factory=SignedCookieSessionFactory("not a secret")) as config:
        for view in (form, json, upload, login, whoami, stream, fail, together):
            config.add_route(view.__name__, f"/{view.__name__}")
            config.add_view(view, route_name=view.__name__, renderer="json")
        config.add_route("item", "/items/{number}")
        config.add_view(item, route_name="item", renderer="json")
        config.add_route("go", "/go")
        config.add_view(let_go, route_name="go", renderer="string")
        return config.make_wsgi_app()


app = make()
