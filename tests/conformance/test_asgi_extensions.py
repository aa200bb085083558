"""The rules EXT-1 to EXT-9, over real sockets: HTTP/1.1 and HTTP/2, and both loops.

Each test names its rule.
"""

import gzip
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest
import trio
import trustme
from h2.errors import ErrorCodes
from quart import Quart, make_push_promise
from quart_trio import QuartTrio
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import FileResponse, PlainTextResponse
from starlette.routing import Route as StarletteRoute
from structlog.testing import capture_logs

from gateway.protocols.errors import LocalProtocolError
from gateway.tls.context import Certificates
from tests.conformance.asgi_client import ask, conversing, hosting, refused_websocket, run, websocket
from tests.conformance.test_asgi_rules import BODY, MORE, START, Sockets, both_loops, each, errors
from tests.gateway.http2_client import Client, entering
from tests.gateway.tls.secured import authority_file, certificate, client_context, tls_options

CLIENTS: Final = trustme.CA()
CONTENT: Final = bytes(range(256)) * 1024


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of 256 KiB."""
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    return file


def sending(*messages: dict[str, Any]) -> Any:
    """An application that says the same of every request."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return app


def refusing(*messages: dict[str, Any]) -> tuple[Any, list[type[BaseException]]]:
    """An application whose last message is refused, which it answers by a response; what was raised."""
    raised: list[type[BaseException]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        started = False
        for message in messages[:-1]:
            await send(message)
            started = started or message["type"] == "http.response.start"
        try:
            await send(messages[-1])
        except Exception as error:
            raised.append(type(error))
        if not started:
            await send(START)
        await send(BODY)

    return app, raised


# --- announcing


@each
def test_ext_1_what_is_announced(loop: str, version: str) -> None:
    """Only what the client's version of HTTP can, each a dict."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["extensions"])
        if scope["type"] == "http":
            await send(START)
            await send(BODY)
        else:
            await receive()
            await send({"type": "websocket.accept"})

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            await ask(served, version)
            async with websocket(served, version) as (client, _):
                await client.receive_close()
            await served.ask(b"GET / HTTP/1.0\r\n\r\n")

    run(main)
    of_http, of_websocket, of_old = seen
    own = {"gateway.backend", "gateway.shutdown"}
    assert all(isinstance(value, dict) for each in seen for value in each.values())
    assert set(of_http) == {
        *(["http.response.push"] if version == "2" else []),
        "http.response.early_hint",
        "http.response.pathsend",
        "http.response.trailers",
        "http.response.zerocopysend",
        *own,
    }
    assert set(of_websocket) == {"websocket.http.response", *own}
    assert set(of_old) == {"http.response.pathsend", "http.response.zerocopysend", *own}
    assert [each["gateway.backend"] for each in seen] == [{"name": "api"}] * 3


def show_scopes(loop: str, version: str, look: Callable[[Any], None]) -> None:
    """Have an application *look* at the scope of a request, then at that of a WebSocket."""
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        look(scope)
        seen.append(scope["type"])
        if scope["type"] == "http":
            await send(START)
            await send(BODY)
        else:
            await receive()
            await send({"type": "websocket.accept"})

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            assert (await ask(served, version)).status == 200
            async with websocket(served, version) as (client, _):
                await client.receive_close()

    run(main)
    assert seen == ["http", "websocket"]


@each
def test_ext_1_a_scope_may_be_copied_deeply(loop: str, version: str) -> None:
    """As Hypercorn's ProxyFixMiddleware does."""

    def look(scope: Any) -> None:
        copied = deepcopy(scope)
        assert copied == scope
        assert copied["extensions"]["gateway.shutdown"] is not scope["extensions"]["gateway.shutdown"]

    show_scopes(loop, version, look)


@each
def test_ext_1_a_scope_may_be_shown_as_json(loop: str, version: str) -> None:
    """By those who think of its byte strings only, as pages that help to find faults do."""

    def look(scope: Any) -> None:
        extensions = json.loads(json.dumps(scope["extensions"]))
        assert extensions.keys() == scope["extensions"].keys()
        assert scope["extensions"]["gateway.shutdown"]["wait"], "who asks whether it is there finds it"
        assert extensions["gateway.shutdown"] == {"wait": {}}

    show_scopes(loop, version, look)


@each
def test_ext_1_what_is_not_to_be_offered(loop: str, version: str, path: Path) -> None:
    """Starlette sends its file by messages then, behind a middleware that knows no others."""
    seen: list[str] = []

    async def endpoint(request: Any) -> FileResponse:
        return FileResponse(path)

    starlette = Starlette(routes=[StarletteRoute("/", endpoint)])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def send_known(message: Any) -> None:
            seen.append(message["type"])
            await send(message)

        await starlette(scope, receive, send_known)

    async def main() -> None:
        dropped = "http.response.pathsend"
        async with hosting(app, loop, lifespan="off", drop_extensions=dropped) as served:
            assert (await ask(served, version)).body == CONTENT

    run(main)
    assert set(seen) == {"http.response.start", "http.response.body"}


@each
def test_ext_5_file_that_a_middleware_swallows(loop: str, version: str, path: Path) -> None:
    """brotli-asgi, and the like of it in Gradio: what is no body vanishes. The file comes nevertheless."""
    offered: list[bool] = []

    async def endpoint(request: Any) -> FileResponse:
        offered.append("http.response.pathsend" in request.scope["extensions"])
        return FileResponse(path)

    starlette = Starlette(routes=[StarletteRoute("/", endpoint)])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def send_known(message: Any) -> None:
            if message["type"] in ("http.response.start", "http.response.body"):
                await send(message)

        await starlette(scope, receive, send_known)

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            for _ in range(2):
                answered = await ask(served, version)
                assert (answered.status, answered.body) == (200, CONTENT)

    with capture_logs() as logs:
        run(main)
    assert offered == [True, False, False]
    assert [each["event"] for each in logs if each["log_level"] in ("warning", "error")] == [
        "pathsend is not offered any more"
    ]


@each
def test_ext_5_no_response_at_all(loop: str, version: str) -> None:
    """For the sake of a file an application is asked again once, and only what is safe to ask."""
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["method"])

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            for method in ("POST", "GET", "GET"):
                assert (await ask(served, version, method=method)).status == 500

    run(main)
    assert seen == ["POST", "GET", "GET", "GET"]


# --- denial response


@each
def test_ext_2_denial_response(loop: str, version: str) -> None:
    received: list[str] = []

    async def act(receive: Any, send: Any) -> None:
        start = {"type": "websocket.http.response.start", "status": 401, "headers": [(b"x", b"1")]}
        await send(start)
        with pytest.raises(RuntimeError):
            await send({"type": "websocket.accept"})
        with pytest.raises(RuntimeError):
            await send(start)
        await send({"type": "websocket.http.response.body", "body": b"no", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"pe"})
        with pytest.raises(OSError, match="closed"):
            await send({"type": "websocket.send", "text": "x"})
        received.append((await receive())["type"])

    app = Sockets(act)

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            answered = await refused_websocket(served, version)
            assert (answered.status, answered.body, answered.ended) == (401, b"nope", True)
            assert answered.header(b"x") == b"1"
            await app.ended.wait()

    with capture_logs() as logs:
        run(main)
    assert received == ["websocket.disconnect"]
    assert errors(logs) == []


# --- push

PROMISED: Final = {**START, "trailers": True, "headers": [(b"trailer", b"x-a, x-b")]}
PUSH: Final = {"type": "http.response.push", "path": "/style.css", "headers": [(b"accept", b"text/css")]}


@both_loops
def test_ext_3_push(loop: str) -> None:
    """A call of its own, with the same authority, that comes from the routes like any other."""
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        assert (await receive()) == {"type": "http.request", "body": b"", "more_body": False}
        await send(START)
        if scope["path"] == "/m/page":
            await send({**PUSH, "path": "/m/style é.css?v=1"})
            await send(MORE)
            await send({**PUSH, "headers": [(b"Host", b"evil"), (b"connection", b"x"), (b"X-A", b"1")]})
        await send({**BODY, "body": scope["path"].encode()})

    async def main() -> None:
        async with hosting(app, loop, lifespan="off", mount="/m") as served, served.connecting() as stream:
            client = Client(stream)
            await client.begin()
            parent = await client.request("/m/page", authority="example.com:1")
            page = await client.answer(parent)
            assert page.body == b"ok/m/page"
            (first, promised), (second, other) = page.pushed
            assert promised == [
                (b":method", b"GET"),
                (b":scheme", b"http"),
                (b":authority", b"example.com:1"),
                (b":path", b"/m/style%20%C3%A9.css?v=1"),
                (b"accept", b"text/css"),
            ]
            assert other[2:] == [(b":authority", b"example.com:1"), (b":path", b"/style.css"), (b"x-a", b"1")]
            style = await client.answer(first)
            assert (style.status, style.body) == (200, "/m/style é.css".encode())
            assert (await client.answer(second)).status == 404  # no route of the configuration

    run(main)
    _, pushed = scopes
    assert (pushed["method"], pushed["path"], pushed["query_string"]) == ("GET", "/m/style é.css", b"v=1")
    assert (pushed["http_version"], pushed["root_path"]) == ("2", "/m")
    assert pushed["headers"] == [(b"host", b"example.com:1"), (b"accept", b"text/css")]
    assert pushed["client"] == scopes[0]["client"]
    # RFC 9113 8.4: nothing is promised on a stream that was promised itself.
    assert "http.response.push" not in pushed["extensions"]


@both_loops
def test_ext_3_push_is_offered_to_those_who_take_it(loop: str) -> None:
    """RFC 9113 6.5.2, and never over HTTP/1.1 (EXT-1)."""
    app, raised = refusing(START, PUSH)

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            async with served.connecting() as stream:
                client = Client(stream)
                await client.begin(enable_push=0)
                answered = await client.ask()
                assert (answered.body, answered.pushed) == (b"ok", [])
            assert (await ask(served, "1.1")).body == b"ok"

    run(main)
    assert raised == [ValueError, ValueError]


@both_loops
def test_ext_3_client_may_refuse_what_is_pushed(loop: str) -> None:
    """RFC 9113 8.4.2. It is nothing to the application, nor is a client that takes no more at a time."""
    ended = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        if scope["path"] == "/":
            for _ in range(3):
                await send(PUSH)
            await send(MORE)
            assert (await receive())["body"] == b"x"
            await send(BODY)
        else:
            await send(MORE)
            assert (await receive())["type"] == "http.request"
            assert (await receive())["type"] == "http.disconnect"
            ended.set()

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served, served.connecting() as stream:
            client = Client(stream)
            await client.begin(max_concurrent_streams=1)
            parent = await client.request(method="POST", end=False)
            await client.until(lambda: bool(client.answers[parent].body))
            ((promised, _),) = client.answers[parent].pushed
            await client.until(lambda: bool(client.answers[promised].body))
            client.h2.reset_stream(promised, ErrorCodes.CANCEL)
            await client.flush()
            await ended.wait()
            await client.send_body(parent, b"x")
            assert (await client.answer(parent)).body == b"okok"

    with capture_logs() as logs:
        run(main)
    assert errors(logs) == []


@both_loops
@pytest.mark.parametrize(
    ("before", "keys", "error"),
    [
        ([], {"path": None}, TypeError),
        ([PROMISED, BODY], {}, RuntimeError),
        ([START], {"path": None}, TypeError),
        ([START], {"path": "relative"}, ValueError),
        ([START], {"path": "//other.example/"}, ValueError),
        ([START], {"path": "/\0"}, ValueError),
        ([START], {"headers": None}, TypeError),
        ([START], {"headers": [("a", b"b")]}, TypeError),
        ([START], {"headers": [(b":authority", b"b")]}, ValueError),
        ([START], {"headers": [(b"a", b"b\r\nc: d")]}, ValueError),
    ],
)
def test_ext_3_misuse_of_push(
    loop: str, before: list[Any], keys: dict[str, Any], error: type[Exception]
) -> None:
    app, raised = refusing(*before, {**PUSH, **keys})

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            assert (await ask(served, "2")).body == b"ok"

    run(main)
    assert raised == [error]


@both_loops
@pytest.mark.parametrize("framework", [Starlette, Quart])
def test_ext_3_push_before_the_start(loop: str, framework: type[Starlette | Quart]) -> None:
    """As handlers do, which have no response yet."""
    app: Any
    if framework is Starlette:

        async def endpoint(request: StarletteRequest) -> PlainTextResponse:
            await request.send_push_promise("/style.css")
            return PlainTextResponse("ok")

        app = Starlette(routes=[StarletteRoute("/", endpoint)])
    else:
        app = Quart(__name__) if loop == "asyncio" else QuartTrio(__name__)

        async def page() -> str:
            await make_push_promise("/style.css")
            return "ok"

        app.add_url_rule("/", view_func=page)

    async def main() -> None:
        async with hosting(app, loop) as served:
            answered = await ask(served, "2")
            assert (answered.status, answered.body) == (200, b"ok")
            ((_, promised),) = answered.pushed
            assert (b":path", b"/style.css") in promised

    run(main)


# --- zero copy


@each
@pytest.mark.parametrize("length", [True, False], ids=["Content-Length", "none"])
def test_ext_4_zerocopysend(loop: str, version: str, length: bool, path: Path) -> None:
    """Parts of a file, mixed with bodies; without an offset from where the file is."""
    expected = b"ok" + CONTENT[100:70_100] + CONTENT[5:10] + CONTENT[10:] + b"ok"
    closed: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"%d" % len(expected))] if length else []
        await send({**START, "headers": headers})
        with path.open("rb") as file:
            part = {"type": "http.response.zerocopysend", "file": file, "more_body": True}
            await send(MORE)
            await send({**part, "offset": 100, "count": 70_000})
            file.read(5)
            await send({**part, "count": 5})
            await send(part)
            assert file.tell() == len(CONTENT)
            await send({**part, "offset": 10 * len(CONTENT)})
            await send(BODY)
            closed.append(file.closed)

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            answered = await ask(served, version)
            assert answered.ended
            assert answered.body == expected

    run(main)
    assert closed == [False]  # closing is the application's


@each
def test_ext_4_zerocopysend_as_the_whole_response(loop: str, version: str, path: Path) -> None:
    """``more_body`` is False if it is missing. Of a descriptor, too; and HEAD has no body."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            await send(START)
            await send({"type": "http.response.zerocopysend", "file": descriptor})
            await send({"type": "http.response.zerocopysend", "file": None})  # ignored
        finally:
            os.close(descriptor)

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            answered = await ask(served, version)
            assert (answered.body, answered.header(b"content-length")) == (CONTENT, b"%d" % len(CONTENT))
            answered = await ask(served, version, method="HEAD")
            assert (answered.body, answered.header(b"content-length")) == (b"", b"%d" % len(CONTENT))

    run(main)


@each
@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({}, ValueError),
        ({"file": None}, TypeError),
        ({"file": "name"}, TypeError),
        ({"file": -1}, ValueError),
        ({"offset": "1"}, TypeError),
        ({"offset": -1}, ValueError),
        ({"count": 1.5}, TypeError),
        ({"count": -1}, ValueError),
        ({"more_body": "yes"}, TypeError),
        ({"file": socket.socket}, ValueError),
    ],
    ids=repr,
)
def test_ext_4_misuse_of_zerocopysend(
    loop: str, version: str, message: dict[str, Any], error: type[Exception], path: Path
) -> None:
    """ASGI-3. What is not a regular file cannot be sent so."""
    with path.open("rb") as file, socket.socket() as sock:
        complete = {"type": "http.response.zerocopysend", **message}
        if message.get("file") is socket.socket:
            complete["file"] = sock
        elif message:
            complete = {"file": file, **complete}
        app, raised = refusing(START, complete)

        async def main() -> None:
            async with hosting(app, loop, lifespan="off") as served:
                assert (await ask(served, version)).body == b"ok"

        run(main)
    assert raised == [error]


@each
def test_ext_4_file_that_is_shorter_than_promised_cuts_the_response(
    loop: str, version: str, path: Path
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "headers": [(b"content-length", b"%d" % (len(CONTENT) + 1))]})
        with path.open("rb") as file:
            await send({"type": "http.response.zerocopysend", "file": file})

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            answered = await ask(served, version)
            assert (answered.status, answered.ended) == (200, False)

    with capture_logs():
        run(main)


@each
def test_ext_4_file_that_cannot_be_read_is_one_entry_of_the_log(loop: str, version: str) -> None:
    """The machine's fault, and not the application's, which is told. The loopback device has no speed."""
    raised: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "headers": [(b"content-length", b"100")]})
        with open("/sys/class/net/lo/speed", "rb") as file:  # noqa: ASYNC230
            try:
                await send({"type": "http.response.zerocopysend", "file": file, "count": 100})
            except Exception as error:
                raised.append(str(error))
                raise

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            answered = await ask(served, version)
            assert answered.status == 500 or not (answered.ended or answered.body)

    with capture_logs() as logs:
        run(main)
    assert raised == ["the file cannot be read now: [Errno 22] Invalid argument"]
    (entry,) = [entry for entry in logs if entry["log_level"] == "error"]
    assert (entry["event"], entry["cause"]) == ("request failed", "[Errno 22] Invalid argument")


@each
def test_ext_4_client_that_leaves_amid_the_file(loop: str, version: str, path: Path) -> None:
    """ASGI-4."""
    raised: list[BaseException] = []
    ended = trio.Event()
    with path.open("r+b") as file:
        file.truncate(64 * 1024 * 1024)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        try:
            with path.open("rb") as file:
                await send({"type": "http.response.zerocopysend", "file": file})
        except BaseException as error:
            raised.append(error)
            raise
        finally:
            ended.set()

    async def main() -> None:
        async with (
            hosting(app, loop, lifespan="off", whole={"timeouts": {"disconnect_grace": "1m"}}) as served,
            conversing(served, version) as conversation,
        ):
            await conversation.begin()
            await conversation.until(lambda answered: answered.body)
            await conversation.vanish()
            await ended.wait()

    with capture_logs() as logs:
        run(main)
    assert [type(error).__name__ for error in raised] == ["ClientDisconnected"]
    assert errors(logs) == []


# --- path


@each
def test_ext_5_pathsend(loop: str, version: str, path: Path) -> None:
    """Complaint 59. The length is told if the application does not."""
    app = sending(
        {**START, "headers": [(b"content-type", b"text/x")]},
        {"type": "http.response.pathsend", "path": str(path)},
        BODY,  # ignored: the file was all
    )

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            answered = await ask(served, version)
            assert (answered.body, answered.ended) == (CONTENT, True)
            assert answered.header(b"content-length") == b"%d" % len(CONTENT)
            assert answered.header(b"content-type") == b"text/x"
            assert (await ask(served, version, method="HEAD")).body == b""

    run(main)


@each
def test_ext_5_pathsend_of_an_empty_file(loop: str, version: str, path: Path) -> None:
    path.write_bytes(b"")
    app = sending(
        {**START, "headers": [(b"content-length", b"0")]},
        {"type": "http.response.pathsend", "path": str(path)},
    )

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            answered = await ask(served, version)
            assert (answered.body, answered.ended, answered.header(b"content-length")) == (b"", True, b"0")

    run(main)


@each
@pytest.mark.parametrize(
    ("before", "keys", "error"),
    [
        ([], {"path": "/"}, RuntimeError),
        ([START, MORE], {"path": "FILE"}, RuntimeError),
        ([START], {}, ValueError),
        ([START], {"path": b"FILE"}, TypeError),
        ([START], {"path": "file"}, ValueError),
        ([START], {"path": "/does/not/exist"}, ValueError),
        ([START], {"path": "/"}, ValueError),
    ],
    ids=["before start", "amid the body", "no path", "bytes", "relative", "no file", "directory"],
)
def test_ext_5_misuse_of_pathsend(
    loop: str, version: str, before: list[Any], keys: dict[str, Any], error: type[Exception], path: Path
) -> None:
    """ASGI-3; never an OSError, which would say that the client has gone."""
    if keys.get("path") == "FILE":
        keys = {"path": str(path)}
    app, raised = refusing(*before, {"type": "http.response.pathsend", **keys})

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            assert (await ask(served, version)).body.endswith(b"ok")

    run(main)
    assert raised == [error]


@each
def test_ext_5_starlette_sends_files_so(loop: str, version: str, path: Path) -> None:
    """And parts of them (which it reads itself)."""

    async def endpoint(request: Any) -> FileResponse:
        return FileResponse(path)

    app = Starlette(routes=[StarletteRoute("/", endpoint)])

    async def main() -> None:
        async with hosting(app, loop) as served:
            answered = await ask(served, version)
            assert (answered.body, answered.ended) == (CONTENT, True)
            assert answered.header(b"content-length") == b"%d" % len(CONTENT)
            answered = await ask(served, version, "/", ("range", "bytes=1-3"))
            assert (answered.status, answered.body) == (206, CONTENT[1:4])

    run(main)


@pytest.fixture
def compressing() -> Iterator[Any]:
    """Starlette's GZipMiddleware, imported for one test: where it is, others have no pathsend either."""
    module = import_module("starlette.middleware.gzip")
    yield module.GZipMiddleware
    del sys.modules[module.__name__]


@each
def test_ext_5_files_that_starlette_compresses(loop: str, version: str, path: Path, compressing: Any) -> None:
    """Its middleware neither compresses nor says Vary of what is sent so: not offered where there is one."""
    offered: list[bool] = []

    async def endpoint(request: Any) -> FileResponse:
        offered.append("http.response.pathsend" in request.scope["extensions"])
        return FileResponse(path, media_type="text/javascript")

    app = Starlette(routes=[StarletteRoute("/", endpoint)])
    app.add_middleware(compressing)

    async def main() -> None:
        async with hosting(app, loop) as served:
            answered = await ask(served, version, "/", ("accept-encoding", "gzip, br"))
            assert answered.header(b"content-encoding") == b"gzip"
            assert answered.header(b"vary") == b"Accept-Encoding"
            assert gzip.decompress(answered.body) == CONTENT
            for fields in [("accept-encoding", "identity")], []:
                answered = await ask(served, version, "/", *fields)
                assert (answered.header(b"content-encoding"), answered.body) == (None, CONTENT)
                assert answered.header(b"vary") == b"Accept-Encoding"

    run(main)
    assert offered == [False, False, False]


@each
def test_ext_5_files_of_those_who_compress_nothing(loop: str, version: str, path: Path) -> None:
    """Where that middleware is not even imported, all clients have their files from the kernel."""
    offered: list[bool] = []

    async def endpoint(request: Any) -> FileResponse:
        offered.append("http.response.pathsend" in request.scope["extensions"])
        return FileResponse(path)

    app = Starlette(routes=[StarletteRoute("/", endpoint)])

    async def main() -> None:
        async with hosting(app, loop) as served:
            assert (await ask(served, version, "/", ("accept-encoding", "gzip"))).body == CONTENT

    run(main)
    assert offered == [True]


# --- early hints


@each
def test_ext_6_early_hint(loop: str, version: str) -> None:
    """103 comes before the head, which is held for it."""
    links = [b"</style.css>; rel=preload; as=style", b"</x.js>; rel=preload"]
    hint = {"type": "http.response.early_hint", "links": links}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "headers": [(b"x", b"1")]})
        await send(hint)
        assert await receive() == {"type": "http.request", "body": b"go on", "more_body": True}
        await send({**hint, "links": links[:1]})
        await send({**hint, "links": []})
        await send(MORE)
        await send(hint)  # there is no place for it any more
        await send(BODY)

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served, conversing(served, version) as conversation:
            await conversation.begin(method="POST", body=True)
            # It does not wait for the response.
            await conversation.until(lambda answered: answered.informed)
            await conversation.send_body(b"go on", end=False)
            answered = await conversation.answer()
            assert (answered.status, answered.body, answered.header(b"x")) == (200, b"okok", b"1")
            assert answered.informed == [
                (103, [(b"link", links[0]), (b"link", links[1])]),
                (103, [(b"link", links[0])]),
            ]

    run(main)


@each
def test_ext_6_early_hint_before_the_start(loop: str, version: str) -> None:
    """As handlers do, which have no response yet."""
    link = "</style.css>; rel=preload; as=style"

    async def endpoint(request: StarletteRequest) -> PlainTextResponse:
        await request.send_early_hints(link)
        return PlainTextResponse("ok")

    app = Starlette(routes=[StarletteRoute("/", endpoint)])

    async def main() -> None:
        async with hosting(app, loop) as served:
            answered = await ask(served, version)
            assert (answered.status, answered.body) == (200, b"ok")
            assert answered.informed == [(103, [(b"link", link.encode())])]

    run(main)


@both_loops
def test_ext_6_early_hint_to_an_old_client(loop: str) -> None:
    """RFC 9110 15.2: HTTP/1.0 has no 1xx; an application that did not look is not told."""
    app = sending(START, {"type": "http.response.early_hint", "links": [b"</x>"]}, BODY)

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            received = await served.ask(b"GET / HTTP/1.0\r\n\r\n")
            assert received.startswith(b"HTTP/1.1 200")
            assert received.endswith(b"ok")

    run(main)


@each
@pytest.mark.parametrize(
    ("before", "keys", "error"),
    [
        ([], {}, ValueError),
        ([START], {}, ValueError),
        ([START], {"links": 1}, TypeError),
        ([START], {"links": ["</x>"]}, TypeError),
        ([START], {"links": [b"a\r\nb: c"]}, LocalProtocolError),
    ],
)
def test_ext_6_misuse_of_early_hint(
    loop: str, version: str, before: list[Any], keys: dict[str, Any], error: type[Exception]
) -> None:
    app, raised = refusing(*before, {"type": "http.response.early_hint", **keys})

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            answered = await ask(served, version)
            assert (answered.body, answered.informed) == (b"ok", [])

    run(main)
    assert raised == [error]


# --- trailers


@each
@pytest.mark.parametrize("asked", [True, False], ids=["asked for", "not"])
def test_ext_7_trailers(loop: str, version: str, asked: bool) -> None:
    """In parts, behind the body; only to a client that says ``TE: trailers``."""
    app = sending(
        PROMISED,
        MORE,
        BODY,
        {"type": "http.response.trailers", "headers": [(b"x-a", b"1")], "more_trailers": True},
        {"type": "http.response.trailers", "headers": [(b"x-b", b"2")]},
        {"type": "http.response.trailers", "headers": [(b"x-c", b"3")]},  # ignored
    )

    async def main() -> None:
        fields = [("te", "trailers")] if asked else []
        async with hosting(app, loop, lifespan="off") as served:
            answered = await ask(served, version, "/", *fields)
            assert (answered.body, answered.ended) == (b"okok", True)
            assert answered.trailers == ([(b"x-a", b"1"), (b"x-b", b"2")] if asked else [])
            assert answered.header(b"trailer") == b"x-a, x-b"

    run(main)


@each
def test_ext_7_trailers_behind_an_empty_body_and_a_file(loop: str, version: str, path: Path) -> None:
    trailers = {"type": "http.response.trailers", "headers": [(b"x-a", b"1")]}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(PROMISED)
        if scope["path"] == "/file":
            await send({"type": "http.response.pathsend", "path": str(path)})
        else:
            await send({"type": "http.response.body"})
        await send(trailers)

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            for target, body in (("/", b""), ("/file", CONTENT)):
                answered = await ask(served, version, target, ("te", "trailers"))
                assert (answered.body, answered.trailers) == (body, [(b"x-a", b"1")])
                assert answered.ended

    run(main)


@each
def test_ext_7_promised_trailers_that_do_not_come_cut_the_response(loop: str, version: str) -> None:
    async def main() -> None:
        async with hosting(sending(PROMISED, BODY), loop, lifespan="off") as served:
            answered = await ask(served, version, "/", ("te", "trailers"))
            assert (answered.status, answered.body, answered.ended) == (200, b"ok", False)

    with capture_logs() as logs:
        run(main)
    assert "returned before its response was complete" in errors(logs)[0]["detail"]


TRAILERS: Final = {"type": "http.response.trailers"}


@each
@pytest.mark.parametrize(
    ("before", "keys", "error"),
    [
        ([], {}, RuntimeError),
        ([START], {}, RuntimeError),
        ([PROMISED], {}, RuntimeError),
        ([PROMISED, MORE], {}, RuntimeError),
        ([PROMISED, BODY], {"headers": [("a", b"b")]}, TypeError),
        ([PROMISED, BODY], {"headers": 1}, TypeError),
        ([PROMISED, BODY], {"more_trailers": 1}, TypeError),
        ([PROMISED, BODY], BODY, RuntimeError),
    ],
)
def test_ext_7_misuse_of_trailers(
    loop: str, version: str, before: list[Any], keys: dict[str, Any], error: type[Exception]
) -> None:
    raised: list[type[BaseException]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in before:
            await send(message)
        try:
            await send({**TRAILERS, **keys})
        except Exception as caught:
            raised.append(type(caught))
        if not before:
            await send(START)
        if BODY not in before:
            await send(BODY)
        await send(TRAILERS)

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            answered = await ask(served, version)
            assert (answered.body[-2:], answered.ended) == (b"ok", True)

    with capture_logs():
        run(main)
    assert raised[0] is error


# --- behind filters


@each
@pytest.mark.parametrize(
    "route",
    [
        {"buffering": {"memory": "1KiB", "file": "1MiB"}},
        {"headers": {"response": {"set": {"x-set": "1"}}}},
        {"limit_rate": "100MiB"},
    ],
    ids=["buffering", "headers", "limit_rate"],
)
def test_extensions_behind_filters_of_the_route(
    loop: str, version: str, route: dict[str, Any], path: Path
) -> None:
    """EXT-4, EXT-6, EXT-7: they are nothing to the filters, which pass them on."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(PROMISED)
        await send({"type": "http.response.early_hint", "links": [b"</x>"]})
        await send(MORE)
        with path.open("rb") as file:
            await send({"type": "http.response.zerocopysend", "file": file, "more_body": True})
        await send(BODY)
        await send({"type": "http.response.trailers", "headers": [(b"x-a", b"1")]})

    async def main() -> None:
        whole = {"routes": [{"backend": "api", **route}]}
        async with hosting(app, loop, lifespan="off", whole=whole) as served:
            answered = await ask(served, version, "/", ("te", "trailers"))
            assert answered.body == b"ok" + CONTENT + b"ok"
            assert answered.ended
            assert answered.trailers == [(b"x-a", b"1")]
            assert [status for status, _ in answered.informed] == [103]

    run(main)


# --- debug

DEBUG: Final = {"type": "http.response.debug", "info": {"template": "x.html"}}


@each
def test_ext_8_debug_in_tests_only(loop: str, version: str) -> None:
    app, raised = refusing(DEBUG)

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            assert (await ask(served, version)).body == b"ok"

    run(main)
    assert raised == [ValueError]


@each
def test_ext_8_debug(loop: str, version: str) -> None:
    """With ``response_debug`` it is announced, and what it says is logged."""
    raised: list[type[Exception]] = []
    announced: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        announced.append("http.response.debug" in scope["extensions"])
        for message in ({**DEBUG, "info": None}, {"type": "http.response.debug"}, DEBUG, START, DEBUG, BODY):
            try:
                await send(message)
            except Exception as error:
                raised.append(type(error))

    async def main() -> None:
        async with hosting(app, loop, lifespan="off", response_debug=True) as served:
            assert (await ask(served, version)).body == b"ok"

    with capture_logs() as logs:
        run(main)
    assert announced == [True]
    assert raised == [TypeError, ValueError, RuntimeError]
    assert [entry["info"] for entry in logs if entry["event"] == "response debug"] == [DEBUG["info"]]


# --- tls


@each
def test_ext_9_tls(loop: str, version: str, tmp_path: Path) -> None:
    """Only on connections with TLS, for requests and WebSockets alike."""
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        if scope["type"] == "http":
            await send(START)
            await send(BODY)
        else:
            await receive()
            await send({"type": "websocket.accept"})

    files = certificate(tmp_path, "localhost")
    shown = CLIENTS.issue_cert("client@example.com", common_name="client")
    options = tls_options(client_certificates="required", client_ca=authority_file(tmp_path, CLIENTS))

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            await ask(served, version)
            async with entering(served, certificates=Certificates(options, [files])):
                context = client_context(shows=shown)
                context.set_alpn_protocols(["h2" if version == "2" else "http/1.1"])
                served.secure = context
                assert (await ask(served, version)).body == b"ok"
                async with websocket(served, version) as (client, _):
                    await client.receive_close()

    run(main)
    plain, request, socket_ = scopes
    assert "tls" not in plain["extensions"]
    assert (request["scheme"], socket_["scheme"]) == ("https", "wss")
    assert "websocket.http.response" in socket_["extensions"]
    for scope in (request, socket_):
        tls = scope["extensions"]["tls"]
        assert set(tls) == {
            "server_cert", "client_cert_chain", "client_cert_name", "client_cert_error", "tls_version",
            "cipher_suite",
        }  # fmt: skip
        assert tls["server_cert"] == files.certificate.read_text()
        assert tls["client_cert_chain"] == [shown.cert_chain_pems[0].bytes().decode()]
        assert "CN=client" in tls["client_cert_name"].split(",")  # RFC 4514
        assert tls["client_cert_error"] is None
        assert tls["tls_version"] == 0x0304
        assert tls["cipher_suite"] == 0x1302  # IANA: TLS_AES_256_GCM_SHA384
