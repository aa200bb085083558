"""Real frameworks behind the real HTTP/1.1 front, over sockets."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import anyio
import anyio.lowlevel
import django
import pytest
import trio
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request
from quart import Quart as _Quart  # noqa: F401 - quart_trio needs it imported first
from quart_trio import QuartTrio
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route as StarletteRoute
from structlog.testing import capture_logs

from tests.gateway.backends.asgi_harness import both_loops, serving
from tests.gateway.served import conversing, service_of

Exchange = Callable[[bytes], Awaitable[bytes]]


@asynccontextmanager
async def connected(app: Any, *, mount: str = "", **options: Any) -> AsyncIterator[trio.SocketStream]:
    """A client's stream to a gateway that routes everything to *app*."""
    async with serving(app, **options) as backend:
        service = service_of(backend._pump, backend, mount=mount)
        async with conversing(service, client=("192.0.2.1", 5000), server=("192.0.2.2", 80)) as stream:
            yield stream


def get(target: str, *fields: str, method: str = "GET", body: bytes = b"") -> bytes:
    head = [f"{method} {target} HTTP/1.1", "host: example.com", "connection: close", *fields]
    if body:
        head.append(f"content-length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode() + body


async def read_all(stream: trio.SocketStream) -> bytes:
    return b"".join([data async for data in stream])


def answers(app: Any, *requests: bytes, **options: Any) -> list[tuple[int, bytes]]:
    """Status and body (unframed) of each request's answer, each on a connection of its own."""
    found: list[tuple[int, bytes]] = []

    async def main() -> None:
        for request in requests:
            async with connected(app, **options) as stream:
                await stream.send_all(request)
                head, _, body = (await read_all(stream)).partition(b"\r\n\r\n")
                if b"transfer-encoding: chunked" in head:
                    body = unchunked(body)
                found.append((int(head.split()[1]), body))

    with capture_logs():
        trio.run(main)
    return found


def unchunked(body: bytes) -> bytes:
    data = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        count = int(size, 16)
        data, body = data + body[:count], body[count + 2 :]
    return data


# --- FastAPI and Starlette


def make_fastapi(events: list[str] | None = None) -> FastAPI:
    events = [] if events is None else events

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        events.append("startup")
        yield {"greeting": "hello"}
        events.append("shutdown")

    app = FastAPI(lifespan=lifespan)

    @app.middleware("http")
    async def add_header(request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["x-middleware"] = "1"
        return response

    @app.get("/state")
    async def state(request: Request) -> dict[str, Any]:
        return {"greeting": request.state.greeting, "root": request.scope["root_path"]}

    @app.get("/sync")
    def sync(word: str = "none") -> dict[str, str]:
        return {"word": word}

    async def dependency() -> AsyncIterator[str]:
        yield "injected"
        events.append("released")

    @app.get("/depends")
    async def depends(value: Annotated[str, Depends(dependency)]) -> str:
        return value

    @app.post("/echo")
    async def echo(request: Request) -> dict[str, int]:
        return {"length": len(await request.body())}

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            for number in range(50):
                yield b"%d;" % number

        return StreamingResponse(pieces())

    @app.get("/missing")
    async def missing() -> None:
        raise HTTPException(404, "nothing here")

    @app.get("/bug")
    async def bug() -> None:
        raise ValueError("bug")

    @app.get("/later")
    async def later(tasks: BackgroundTasks) -> str:
        tasks.add_task(events.append, "later")
        return "now"

    return app


def test_fastapi_on_asyncio() -> None:
    events: list[str] = []
    found = answers(
        make_fastapi(events),
        get("/state"),
        get("/sync?word=x"),
        get("/depends"),
        get("/echo", method="POST", body=b"x" * 200_000),
        get("/stream"),
        get("/missing"),
        get("/bug"),
        get("/later"),
        lifespan="on",
        loop="asyncio",
    )
    assert [status for status, _ in found] == [200, 200, 200, 200, 200, 404, 500, 200]
    assert json.loads(found[0][1]) == {"greeting": "hello", "root": ""}
    assert json.loads(found[1][1]) == {"word": "x"}
    assert found[2][1] == b'"injected"'
    assert json.loads(found[3][1]) == {"length": 200_000}
    assert found[4][1] == b"".join(b"%d;" % number for number in range(50))
    assert found[6][1] == b"Internal Server Error"
    assert events.count("startup") == events.count("shutdown") == 8
    assert "released" in events
    assert "later" in events


def test_fastapi_below_a_mount() -> None:
    """root_path is the mount, path the whole path (ASGI 3.0)."""
    ((status, body),) = answers(make_fastapi(), get("/m/state"), mount="/m", lifespan="on")
    assert (status, json.loads(body)["root"]) == (200, "/m")


def make_starlette() -> Starlette:
    async def echo(request: Any) -> Any:
        return JSONResponse({"length": len(await request.body()), "client": list(request.client)})

    def threaded(request: Any) -> Any:
        return PlainTextResponse(request.query_params["word"])

    async def stream(request: Any) -> Any:
        async def pieces() -> AsyncIterator[str]:
            for number in range(50):
                yield f"{number};"

        return StreamingResponse(pieces())

    async def pass_on(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    app = Starlette(
        routes=[
            StarletteRoute("/echo", echo, methods=["POST"]),
            StarletteRoute("/threaded", threaded),
            StarletteRoute("/stream", stream),
        ]
    )
    app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    return app


@both_loops
def test_starlette(loop: str) -> None:
    found = answers(
        make_starlette(),
        get("/echo", method="POST", body=b"x" * 100_000),
        get("/threaded?word=x"),
        get("/stream"),
        lifespan="on",
        loop=loop,
    )
    assert [status for status, _ in found] == [200, 200, 200]
    assert json.loads(found[0][1]) == {"length": 100_000, "client": ["192.0.2.1", 5000]}
    assert found[1][1] == b"x"
    assert found[2][1] == b"".join(b"%d;" % number for number in range(50))


@both_loops
def test_starlette_learns_that_its_client_has_left(loop: str) -> None:
    """In the middle of an endless response, and nothing is logged as an error."""

    class Endless:
        # Not a generator: Starlette would leave it unclosed, of which trio warns.
        def __aiter__(self) -> "Endless":
            return self

        async def __anext__(self) -> bytes:
            return b"x" * 1000

    async def endless(request: Any) -> Any:
        return StreamingResponse(Endless())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await starlette(scope, receive, send)
        finally:
            ended.set()

    async def main() -> None:
        async with connected(app, loop=loop) as stream:
            await stream.send_all(get("/"))
            await stream.receive_some()
            await stream.aclose()
            with trio.fail_after(10):
                await ended.wait()

    starlette = Starlette(routes=[StarletteRoute("/", endless)])
    ended = trio.Event()
    with capture_logs() as logs:
        trio.run(main)
    assert [entry for entry in logs if entry["log_level"] not in ("debug", "info")] == []


@both_loops
def test_a_waiting_application_is_told_that_its_client_has_left(loop: str) -> None:
    """ASGI-12, through the pump's hang-up."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        seen.append((await receive())["type"])
        told.set()

    async def main() -> None:
        async with connected(app, loop=loop) as stream:
            await stream.send_all(get("/"))
            await stream.receive_some()
            await stream.send_eof()
            with trio.fail_after(10):
                await told.wait()

    told = trio.Event()
    seen: list[str] = []
    trio.run(main)
    assert seen == ["http.disconnect"]


@both_loops
@pytest.mark.parametrize("more", [False, True])
def test_an_application_that_cancels_its_last_send_has_sent_it(loop: str, more: bool) -> None:
    body = bytes(8_000_000)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if more:
            await send({"type": "http.response.body", "body": b"-", "more_body": True})
        await cancelled(send, {"type": "http.response.body", "body": body})
        assert (await receive())["type"] == "http.disconnect"

    async def main() -> None:
        async with connected(app, loop=loop) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" + get("/"))
            received = await read_all(stream)
            first, second = received.split(b"HTTP/1.1 200 OK\r\n")[1:]
            assert first.count(body) == second.count(body) == 1
            if more:
                assert first.endswith(b"\r\n0\r\n\r\n")
                assert second.endswith(b"\r\n0\r\n\r\n")

    with capture_logs() as logs:
        trio.run(main)
    assert logs == []


async def cancelled(send: Any, message: dict[str, Any]) -> None:
    """Send *message*, and cancel that when it waits for the client."""
    async with anyio.create_task_group() as tasks:

        async def last() -> None:
            with pytest.raises(anyio.get_cancelled_exc_class()) as caught:
                await send(message)
            raise caught.value

        tasks.start_soon(last)
        for _ in range(2):  # it has begun then, on both loops
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()


@both_loops
def test_who_listens_for_a_disconnect_is_told_when_the_response_has_left(loop: str) -> None:
    """As Starlette and MCP servers do beside each response: they cancel what they send then, and go on."""
    body = bytes(8_000_000)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with anyio.create_task_group() as tasks:

            async def listen() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                tasks.cancel_scope.cancel()

            tasks.start_soon(listen)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": body})
            sent.append(len(body))
        while not received.endswith(body):  # what it does behind its response
            await anyio.lowlevel.checkpoint()

    async def main() -> None:
        async with connected(app, loop=loop) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            with trio.fail_after(30):
                while not received.endswith(body):
                    received.extend(await stream.receive_some())

    received = bytearray()
    sent: list[int] = []
    trio.run(main)
    assert sent == [len(body)]


def test_an_application_that_cancels_its_last_send_may_go_on_behind_it() -> None:
    """On asyncio, where it does so behind any response: the client does not wait for that."""
    body = bytes(8_000_000)
    ends: list[asyncio.Event] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/end":
            ends.pop().set()
            await send({"type": "http.response.body", "body": b""})
            return
        await cancelled(send, {"type": "http.response.body", "body": body})
        ends.append(asyncio.Event())
        await ends[0].wait()

    async def main() -> None:
        async with connected(app, loop="asyncio") as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" + get("/end"))
            with trio.fail_after(30):
                received = await read_all(stream)
            first, _second = received.split(b"HTTP/1.1 200 OK\r\n")[1:]
            assert first.count(body) == 1

    with capture_logs() as logs:
        trio.run(main)
    assert logs == []


# --- Quart on trio


def make_quart() -> Any:
    app = QuartTrio("quart_application")

    @app.route("/echo", methods=["POST"])
    async def echo() -> Any:
        from quart import request

        await trio.lowlevel.checkpoint()
        return {"length": len(await request.get_data()), "path": request.path}

    @app.route("/stream")
    async def stream() -> Any:
        async def pieces() -> AsyncIterator[bytes]:
            for number in range(5):
                await trio.lowlevel.checkpoint()
                yield b"%d;" % number

        return pieces(), 200

    return app


def test_quart_on_trio() -> None:
    found = answers(
        make_quart(),
        get("/echo", method="POST", body=b"x" * 100_000),
        get("/stream"),
        lifespan="on",
        loop="trio",
    )
    assert [status for status, _ in found] == [200, 200]
    assert json.loads(found[0][1]) == {"length": 100_000, "path": "/echo"}
    assert found[1][1] == b"0;1;2;3;4;"


# --- Django


async def django_echo(request: ASGIRequest) -> HttpResponse:
    return JsonResponse({"length": len(request.body), "path": request.path, "info": request.path_info})


def django_sync(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.GET["word"])


async def django_stream(request: HttpRequest) -> StreamingHttpResponse:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(5):
            yield b"%d;" % number

    return StreamingHttpResponse(pieces())


urlpatterns = [path("echo", django_echo), path("sync", django_sync), path("stream", django_stream)]


@pytest.fixture(scope="module")
def django_application() -> Any:
    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="tests", MIDDLEWARE=[])
        django.setup()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "ROOT_URLCONF", __name__, raising=False)
        yield get_asgi_application()


def test_django_on_asyncio(django_application: Any) -> None:
    """It raises for the lifespan scope: `auto` goes on without."""
    found = answers(
        django_application,
        get("/m/echo", method="POST", body=b"x" * 100_000),
        get("/m/sync?word=x"),
        get("/m/stream"),
        lifespan="auto",
        loop="asyncio",
        mount="/m",
    )
    assert [status for status, _ in found] == [200, 200, 200]
    assert json.loads(found[0][1]) == {"length": 100_000, "path": "/m/echo", "info": "/echo"}
    assert found[1][1] == b"x"
    assert found[2][1] == b"0;1;2;3;4;"
