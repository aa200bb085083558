"""The contract of `rows.py` by Connexion: the paths are those of an OpenAPI document."""

import hashlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from connexion import AsyncApp, request
from connexion.middleware import MiddlewarePosition
from connexion.options import SwaggerUIOptions
from starlette.datastructures import UploadFile
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse

both = threading.Barrier(2)
events: dict[str, anyio.Event] = {}


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[dict[str, Any]]:
    yield {"greeting": "from the start on asyncio"}
    Path("connexion-asyncio.ended").touch()


def mount() -> str:
    return str(request.scope["root_path"])


async def item(number: int, q: str) -> Response:
    link = f"{mount()}/items/{number}"
    response = JSONResponse(
        {
            "number": number,
            "q": q,
            "tag": request.headers["X-Tag"],
            "cookie": request.cookies["who"],
            "link": link,
            "absolute": str(request.url.replace(path=link, query="")),
        }
    )
    response.set_cookie("seen", str(number))
    return response


async def form(body: dict[str, Any]) -> dict[str, Any]:
    return body


async def json(body: Any) -> dict[str, Any]:
    return {"got": body}


async def upload(f: UploadFile) -> dict[str, Any]:
    sha256 = hashlib.sha256()
    while piece := await f.read(65536):
        sha256.update(piece)
    return {"name": f.filename, "size": f.size, "sha256": sha256.hexdigest()}


async def log_in(body: dict[str, Any]) -> Response:
    request.session["name"] = body["name"]
    return RedirectResponse(f"{mount()}/whoami", 303)


async def who_am_i() -> dict[str, Any]:
    return {"name": request.session.get("name")}


async def stream() -> Response:
    go = events["go"] = anyio.Event()

    async def pieces() -> AsyncIterator[str]:
        yield "first,"
        await go.wait()
        yield "second"

    return StreamingResponse(pieces(), media_type="text/plain")


async def let_go() -> Response:
    events["go"].set()
    return PlainTextResponse("gone")


async def fail() -> None:
    raise RuntimeError("this view is broken")


def together() -> dict[str, Any]:
    """Runs in a thread, and answers only when two requests are here at the same time."""
    both.wait(60)
    return {"main": threading.current_thread() is threading.main_thread()}


async def state() -> Response:
    return PlainTextResponse(request.state.greeting)


def path(function: str, **operation: Any) -> dict[str, Any]:
    return {
        "operationId": f"{__name__}.{function}",
        "responses": {"200": {"description": "fine"}},
        **operation,
    }


def body(kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {kind: {"schema": schema}}}


FORM = body(
    "application/x-www-form-urlencoded", {"type": "object", "additionalProperties": {"type": "string"}}
)
FILE = {"type": "object", "required": ["f"], "properties": {"f": {"type": "string", "format": "binary"}}}
NUMBER = {"name": "number", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 1}}
QUERY = {"name": "q", "in": "query", "required": True, "schema": {"type": "string"}}

app = AsyncApp(__name__, lifespan=lifespan)
app.add_middleware(SessionMiddleware, MiddlewarePosition.BEFORE_CONTEXT, secret_key="not a secret")
app.add_api(
    {
        "openapi": "3.0.0",
        "info": {"title": "matrix", "version": "1"},
        "paths": {
            "/items/{number}": {"get": path("item", parameters=[NUMBER, QUERY])},
            "/form": {"post": path("form", requestBody=FORM)},
            "/json": {"post": path("json", requestBody=body("application/json", {}))},
            "/upload": {"post": path("upload", requestBody=body("multipart/form-data", FILE))},
            "/login": {"post": path("log_in", requestBody=FORM)},
            "/whoami": {"get": path("who_am_i")},
            "/stream": {"get": path("stream")},
            "/go": {"get": path("let_go")},
            "/fail": {"get": path("fail")},
            "/together": {"get": path("together")},
            "/state": {"get": path("state")},
        },
    },
    swagger_ui_options=SwaggerUIOptions(swagger_ui=False),
)
