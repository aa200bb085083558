"""Applications in processes of their own: what they see is the same, what happens to them is not shared."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import venv
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, TextMessage

from gateway.config import ConfigError, from_mapping
from gateway.hosted.backend import HostedBackend
from gateway.virtualenv import VERSION
from tests.gateway.http2_client import Client as H2Client
from tests.gateway.http2_client import entering
from tests.gateway.served import (
    Response,
    Served,
    gateway_of,
    read_all,
    read_until,
    reset,
    response,
    responses,
    soon,
    until,
)
from tests.gateway.websocket_client import Client as WebSocket

WITHIN = 120
"""Seconds for what has to happen: processes take their time to start on a busy machine."""

WSGI = """
import os, signal, time

def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)

def leave(place):
    open(f"{place}/leaving", "x").close()
    wait_for(f"{place}/go")

def app(environ, start_response):
    body = environ["wsgi.input"].read()
    do = environ.get("HTTP_X_DO")
    if do:
        exec(do)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr((os.getpid(), os.environ.get("MARK"), body)).encode()]

def facts(environ, start_response):
    environ["body"] = environ["wsgi.input"].read()
    changing = ("wsgi.input", "wsgi.errors", "wsgi.file_wrapper", "gw.client_disconnected", "REMOTE_PORT")
    found = sorted((name, value) for name, value in environ.items() if name not in changing)
    start_response("299 So So", [("X-Facts", "1"), ("Set-Cookie", "a"), ("Set-Cookie", "b")])
    return [repr(found).encode()]

def lines(environ, start_response):
    start_response("200 OK", [])
    for line in environ["wsgi.input"]:
        yield b"<" + line.strip() + b">"

def socket(environ, start_response):
    import simple_websocket
    ws = simple_websocket.Server.accept(environ, subprotocols="chat")
    try:
        while True:
            ws.send(environ["SERVER_PROTOCOL"] + ws.receive())
    finally:
        with open(environ["HTTP_X_FILE"], "x"):
            pass

def waiting(environ, start_response):
    start_response("200 OK", [])
    yield b"begun"
    while not environ["gw.client_disconnected"]():
        time.sleep(0.01)
    with open(environ["HTTP_X_FILE"], "x"):
        pass
"""

ASGI = """
import asyncio, os

started = os.environ.get("FAILS") is None
log = os.environ.get("LIFE_LOG")

def note(text):
    if log:
        with open(log, "a") as file:
            file.write(text + "\\n")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        note("startup")
        scope["state"]["mark"] = os.environ.get("MARK")
        if not started:
            await send({"type": "lifespan.startup.failed", "message": "no database"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        note("shutdown")
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await websocket(scope, receive, send)
    else:
        await http(scope, receive, send)

async def http(scope, receive, send):
    found = dict(scope, pid=None)
    do = dict(scope["headers"]).get(b"x-do", b"")
    if do == b"wait":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        note("disconnect")
        return
    if do == b"silent":
        note("called")
        await receive()
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    if do == b"stay":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        try:
            await asyncio.Event().wait()
        finally:
            note("cancelled")
    if do == b"extras":
        headers = [(b"trailer", b"x-sum"), (b"date", b"now"), (b"x-a", b"b")]
        await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
        await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"6")]})
        return
    if do == b"shutdown":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await scope["extensions"]["gateway.shutdown"]["wait"]()
        await send({"type": "http.response.body", "body": b" told", "more_body": True})
        await receive()
        while (await receive())["type"] != "http.disconnect":  # it is urgent
            pass
        await send({"type": "http.response.body", "body": b" ended"})
        return
    if do:
        exec(do)
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message["more_body"]:
            break
    client = found["client"] and (found["client"][0], found["client"][1] > 0)
    found.update(body=body, client=client, extensions=sorted(scope["extensions"]))
    headers = [(b"x-facts", b"1"), (b"x-latin", b"\\xe9")]
    await send({"type": "http.response.start", "status": 299, "headers": headers})
    await send({"type": "http.response.body", "body": repr(sorted(found.items())).encode()})

async def websocket(scope, receive, send):
    await receive()
    if scope["path"].endswith("/refused"):
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.accept", "subprotocol": (scope["subprotocols"] or [None])[0]})
    if scope["path"].endswith("/stays"):
        try:
            await asyncio.Event().wait()
        finally:
            note("cancelled")
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            note("gone %s" % message["code"])
            return
        await send({"type": "websocket.send", "text": scope["http_version"] + message["text"] * 2})
"""


@pytest.fixture
def directory(tmp_path: Path) -> str:
    (tmp_path / "hosted_wsgi.py").write_text(WSGI)
    (tmp_path / "hosted_asgi.py").write_text(ASGI)
    return str(tmp_path)


def config(directory: str, process: Any = "own", **backend: Any) -> dict[str, Any]:
    if "asgi" not in backend and "wsgi" not in backend:
        backend["wsgi"] = "hosted_wsgi:app"
    return {
        "debug": True,
        "backends": {"app": {"directory": directory, "process": process, **backend}},
        "routes": [{"match": {"path": "/m/*"}, "mount": "/m", "backend": "app"}, {"backend": "app"}],
    }


def serving(config: dict[str, Any], test: Callable[[Served], Awaitable[Any]]) -> Any:
    """What *test* returns of a gateway with *config*."""

    async def main() -> Any:
        with trio.fail_after(WITHIN):
            async with gateway_of(config) as served:
                return await test(served)

    return trio.run(main)


async def ask(served: Served, do: str = "", *, method: str = "POST", body: bytes = b"x") -> Response:
    lines = [f"{method} / HTTP/1.1", "Host: a", "Connection: close", f"Content-Length: {len(body)}"]
    if do:
        lines.append(f"X-Do: {do}")
    return response(await served.ask("\r\n".join([*lines, "", ""]).encode() + body), method)


async def pid_of(served: Served) -> int:
    answer = await ask(served)
    assert answer.status == 200, answer.body
    return int(answer.body[1:].split(b",")[0])


# ---- the same facts

REQUESTS = (
    b"GET / HTTP/1.1\r\nHost: example.com:8080\r\n\r\n",
    b"GET /m/a%2Fb%FF%7F/../c?x=%20&y HTTP/1.1\r\nHost: example.com\r\nX-Twice: 1\r\nX-Twice: 2\r\n\r\n",
    b"GET /m HTTP/1.0\r\n\r\n",
    b"HEAD /m/x HTTP/1.1\r\nHost: a\r\nX-Latin: \xe9\xff\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Type: text/x\r\n\r\nhello",
    b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"ODD /x HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\nGateway-Request: []\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX-Under_Score: 1\r\nProxy: x\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nCookie: " + b"c" * 30_000 + b"\r\n\r\n",
)


async def answers(served: Served) -> list[tuple[int, Any, bytes]]:
    """What is answered to each of the requests, over HTTP/1.1 and as many over HTTP/2."""
    found: list[tuple[int, Any, bytes]] = []
    port = str(served.address[1]).encode()
    for request in REQUESTS:
        method = request.partition(b" ")[0].decode()
        head, _, body = request.partition(b"\r\n\r\n")
        answer = await served.ask(head + b"\r\nConnection: close\r\n\r\n" + body)
        while answer.startswith(b"HTTP/1.1 1"):
            answer = answer.partition(b"\r\n\r\n")[2]
        got = response(answer, method)
        headers = [(name.lower(), value) for name, value in got.headers.items() if name.lower() != "date"]
        found.append((got.status, sorted(headers), got.body.replace(port, b"PORT")))
    async with entering(served), await served.connect() as stream:
        client = H2Client(stream)
        await client.begin(enable_push=0)  # the one thing that is not offered in a process of its own
        port = str(served.address[1]).encode()
        for method, sent in (("GET", None), ("POST", b"hello"), ("HEAD", None)):
            seen = await client.ask("/m/x%20y?q", ("x-a", "b"), method=method, body=sent)
            fields = sorted(field for field in seen.headers if field[0] != b"date")
            found.append((seen.status, fields, seen.body.replace(port, b"PORT")))
    return found


@pytest.mark.parametrize(
    "app",
    [
        {"wsgi": "hosted_wsgi:facts"},
        {"wsgi": "hosted_wsgi:facts", "body": "stream"},
        {"asgi": "hosted_asgi:app", "loop": "trio"},
        {"asgi": "hosted_asgi:app", "loop": "asyncio"},
    ],
)
def test_the_application_sees_the_same(directory: str, app: dict[str, Any]) -> None:
    """And so does its client."""
    shared = serving(config(directory, "shared", **app), answers)
    own = serving(config(directory, "own", **app), answers)
    assert [status for status, _, _ in shared] == [299] * len(shared)
    for ours, theirs in zip(own, shared, strict=True):
        assert ours == theirs


def test_bodies_are_streamed_both_ways(directory: str) -> None:
    async def test(served: Served) -> None:
        async with await served.connect() as client:
            await client.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            for word in (b"one", b"two"):
                await client.send_all(b"4\r\n%b\n\r\n" % word)
                await read_until(client, b"<%b>\r\n" % word)
            await client.send_all(b"0\r\n\r\n")
            assert await read_until(client, b"0\r\n\r\n") == b"0\r\n\r\n"

    serving(config(directory, wsgi="hosted_wsgi:lines", body="stream"), test)


def test_large_bodies(directory: str) -> None:
    async def test(served: Served) -> None:
        body = bytes(range(256)) * 20_000
        answer = await ask(served, body=body)
        assert answer.body.endswith(repr(body).encode() + b")")

    serving(config(directory), test)


def test_early_hints_and_trailers(directory: str) -> None:
    """As they come from one process."""
    asked = b"GET / HTTP/1.1\r\nHost: a\r\nX-Do: extras\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n"

    async def test(served: Served) -> bytes:
        return await served.ask(asked)

    shared, own = (
        serving(config(directory, process, asgi="hosted_asgi:app"), test) for process in ("shared", "own")
    )
    assert shared.startswith(b"HTTP/1.1 103 ")
    assert shared.endswith(b"0\r\nx-sum: 6\r\n\r\n")

    def pieces(answer: bytes) -> list[bytes]:
        """Its lines; how the blocks are put together on their way is nobody's concern."""
        return sorted(answer.replace(b"\r\n6\r\nonetwo", b"\r\n3\r\none\r\n3\r\ntwo").split(b"\r\n"))

    assert pieces(own) == pieces(shared)


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_notice_of_the_daemons_end(directory: str, loop: str) -> None:
    """In its two steps (`gateway.shutdown.notice`)."""

    async def test(served: Served) -> None:
        async with await served.connect() as client:
            await client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-Do: shutdown\r\nConnection: close\r\n\r\n")
            await read_until(client, b"begun\r\n")
            served.notice.begin()
            assert b" told" in await read_until(client, b" told\r\n")
            served.notice.hurry()
            assert (await read_until(client, b"0\r\n\r\n")).startswith(b"6\r\n ended")

    serving(config(directory, asgi="hosted_asgi:app", loop=loop), test)


def test_signals_about_log_files_are_no_notice(directory: str) -> None:
    """What rotates logs may tell all processes of the daemon, as `systemctl kill` does by default."""

    async def test(served: Served) -> None:
        (pid,) = [entry["pid"] for entry in logs if entry["event"] == "application process started"]
        async with await served.connect() as stream:
            client = await WebSocket.open(stream)
            for number in (signal.SIGUSR1, signal.SIGUSR2):
                os.kill(pid, number)
                assert (await ask(served)).status == 299  # by then it has taken the signal
                await client.send("hi")
                assert await client.receive() == "1.1hihi"

    with capture_logs() as logs:
        serving(config(directory, asgi="hosted_asgi:app"), test)


def test_a_process_that_is_about_to_end_outlives_the_notice(directory: str, tmp_path: Path) -> None:
    """It may be replaced as the daemon begins to stop, and have something to do at its exit."""
    do = f"import atexit; atexit.register(leave, {str(tmp_path)!r})"

    async def test(served: Served) -> None:
        assert (await ask(served, do)).status == 200
        (pid,) = [entry["pid"] for entry in logs if entry["event"] == "application process started"]
        os.kill(pid, signal.SIGTERM)
        await soon((tmp_path / "leaving").exists)
        served.notice.begin()
        served.notice.hurry()
        (tmp_path / "go").touch()
        await soon(lambda: any(entry["event"] == "application process ended" for entry in logs))

    with capture_logs() as logs:
        serving(config(directory), test)
    assert [entry["end"] for entry in logs if entry["event"] == "application process ended"] == [
        "exit status 0"
    ]


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_websocket(directory: str, loop: str, tmp_path: Path) -> None:
    """Over both versions of HTTP; the end of the daemon reaches it at once (1012)."""
    log = tmp_path / "life"

    async def test(served: Served) -> None:
        async with await served.connect() as stream:
            client = await WebSocket.open(stream, b"Sec-WebSocket-Protocol: chat", target=b"/m/x")
            assert b"sec-websocket-protocol: chat" in client.head.lower()
            await client.send("hi")
            assert await client.receive() == "1.1hihi"
            served.notice.begin()
            assert (await client.receive_close())[0] == 1012
        async with await served.connect() as stream:
            await stream.send_all(offer_refused)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 403 ")

    offer_refused = (
        b"GET /refused HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    serving(config(directory, asgi="hosted_asgi:app", loop=loop, env={"LIFE_LOG": str(log)}), test)
    assert log.read_text().splitlines() == ["startup", "gone 1012", "shutdown"]


def test_websocket_of_a_wsgi_application(directory: str, tmp_path: Path) -> None:
    """That speaks it itself; the end of the daemon reaches it at once, and its client (1012)."""
    ended = tmp_path / "ended"

    async def test(served: Served) -> None:
        async with await served.connect() as stream:
            client = await WebSocket.open(
                stream, b"Sec-WebSocket-Protocol: chat", b"X-File: %b" % bytes(ended)
            )
            assert b"sec-websocket-protocol: chat" in client.head.lower()
            await client.send("hi")
            assert await client.receive() == "HTTP/1.1hi"
            served.notice.begin()
            assert await client.receive_close() == (1012, "")
        await soon(ended.exists)

    serving(config(directory, wsgi="hosted_wsgi:socket"), test)


def test_websocket_over_http2(directory: str) -> None:
    """RFC 8441: the client's stream, HTTP/1.1 between the processes."""

    async def test(served: Served) -> None:
        async with entering(served), await served.connect() as stream:
            client = H2Client(stream)
            await client.begin()
            headers = [("sec-websocket-version", "13"), ("sec-websocket-protocol", "chat")]
            stream_id = await client.request(
                "/x", *headers, method="CONNECT", end=False, protocol="websocket"
            )
            answer = client.answers[stream_id]
            websocket = Connection(ConnectionType.CLIENT)
            await client.send_body(stream_id, websocket.send(TextMessage("hi")), end=False)
            await client.until(lambda: bool(answer.received))
            assert (answer.status, answer.header(b"sec-websocket-protocol")) == (200, b"chat")
            websocket.receive_data(answer.body)
            assert [event.data for event in websocket.events() if isinstance(event, TextMessage)] == ["2hihi"]

    serving(config(directory, asgi="hosted_asgi:app"), test)


def test_continue_waits_for_the_application(directory: str) -> None:
    async def test(served: Served) -> None:
        async with await served.connect() as client:
            await client.send_all(
                b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
            )
            assert await client.receive_some() == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.send_all(b"ok")
            assert (await client.receive_some()).endswith(b"b'ok')")

    serving(config(directory), test)


@pytest.mark.parametrize("app", ["wsgi", "asgi"])
@pytest.mark.parametrize("by", ["half-close", "reset"])
def test_the_application_learns_that_its_client_has_left(
    directory: str, app: str, by: str, tmp_path: Path
) -> None:
    """At once: nothing of its grace has to pass, whether it closes its side or resets the connection."""
    told = tmp_path / ("life" if app == "asgi" else "left")

    async def test(served: Served) -> None:
        async with await served.connect() as client:
            fields = f"X-File: {told}\r\n" if app == "wsgi" else "X-Do: wait\r\n"
            await client.send_all(f"GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n".encode())
            await read_until(client, b"begun\r\n")
            if by == "half-close":
                await client.send_eof()
            else:
                client.socket.close()
            while not (told.exists() and (app == "wsgi" or "disconnect" in told.read_text())):
                await trio.lowlevel.checkpoint()

    backend = {"wsgi": "hosted_wsgi:waiting"} if app == "wsgi" else {"asgi": "hosted_asgi:app"}
    data = config(directory, **backend, env={"LIFE_LOG": str(told)})
    data["timeouts"] = {"disconnect_grace": "1h"}
    serving(data, test)


@pytest.mark.parametrize("do", ["wait", "silent"])
@pytest.mark.parametrize("by", ["half-close", "reset"])
def test_a_client_that_has_left_is_no_failure(directory: str, do: str, by: str, tmp_path: Path) -> None:
    """The application gives up, with its response begun (as of server-sent events) or not."""
    told = tmp_path / "life"

    async def test(served: Served) -> None:
        async with await served.connect() as client:
            await client.send_all(f"GET / HTTP/1.1\r\nHost: a\r\nX-Do: {do}\r\n\r\n".encode())
            if do == "wait":
                await read_until(client, b"begun\r\n")
            while do == "silent" and "called" not in told.read_text():
                await trio.lowlevel.checkpoint()
            if by == "half-close":
                await client.send_eof()
            else:
                reset(client)
            while served.open:
                await trio.lowlevel.checkpoint()

    with capture_logs() as logs:
        serving(config(directory, asgi="hosted_asgi:app", env={"LIFE_LOG": str(told)}), test)
    assert [entry for entry in logs if entry["log_level"] in {"warning", "error"}] == []


@pytest.mark.parametrize("by", ["half-close", "reset"])
def test_the_application_is_cancelled_if_it_does_not_heed_that(
    directory: str, by: str, tmp_path: Path
) -> None:
    """As inside the daemon, after its grace: otherwise it would stay for good, and hold up the end."""
    told = tmp_path / "life"

    async def test(served: Served) -> None:
        async with await served.connect() as client:
            await client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-Do: stay\r\n\r\n")
            await read_until(client, b"begun\r\n")
            if by == "half-close":
                await client.send_eof()
            else:
                client.socket.close()
            while "cancelled" not in told.read_text():
                await trio.lowlevel.checkpoint()

    data = config(directory, asgi="hosted_asgi:app", env={"LIFE_LOG": str(told)})
    data["timeouts"] = {"disconnect_grace": "100ms"}
    serving(data, test)


@pytest.mark.parametrize("by", ["close", "end", "reset"])
def test_the_application_of_a_websocket_is_cancelled_if_it_does_not_receive(
    directory: str, by: str, tmp_path: Path
) -> None:
    """ASGI-18: as inside the daemon."""
    told = tmp_path / "life"

    async def test(served: Served) -> None:
        async with await served.connect() as stream:
            client = await WebSocket.open(stream, target=b"/stays")
            if by == "close":
                await client.send_event(CloseConnection(1000))
            elif by == "end":
                await stream.send_eof()
            else:
                reset(stream)
            while "cancelled" not in told.read_text():
                await trio.lowlevel.checkpoint()

    data = config(directory, asgi="hosted_asgi:app", env={"LIFE_LOG": str(told)})
    data["timeouts"] = {"disconnect_grace": "100ms"}
    serving(data, test)


# ---- failures


def test_an_exception_is_answered_as_in_one_process(directory: str) -> None:
    """With debug: true its traceback is on the page; the log has it under the same id, and whose it is."""

    async def test(served: Served) -> Response:
        answer = await ask(served, "raise LookupError('mine')")
        assert (await ask(served)).status == 200
        return answer

    found = []
    for process in ("shared", "own"):
        with capture_logs() as logs:
            answer = serving(config(directory, process), test)
        failed = next(entry for entry in logs if entry["event"] == "application failed")
        assert answer.status == 500
        assert failed["request_id"] == answer.headers["x-request-id"]
        assert ("pid" in failed) is (process == "own")
        text = str(failed.get("exception", repr(failed.get("exc_info"))))
        assert "LookupError" in text
        assert b"LookupError: mine" in answer.body
        found.append((answer.headers["proxy-status"], failed["log_level"], failed["path"]))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("do", "end"),
    [
        ("os._exit(7)", "exit status 7"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
    ],
)
def test_a_crash_takes_nobody_else_down(directory: str, do: str, end: str) -> None:
    """gunicorn#226: its own request is a 502; the next one waits for another process."""
    data = config(directory)
    data["backends"]["other"] = {"wsgi": "hosted_wsgi:app", "directory": directory, "process": "own"}
    data["routes"].insert(0, {"match": {"path": "/other"}, "backend": "other"})

    async def test(served: Served) -> None:
        other = b"GET /other HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        before = response(await served.ask(other)).body
        crashed = await ask(served, do)
        assert crashed.status == 502
        assert "connection_terminated" in crashed.headers["proxy-status"]
        assert (await ask(served)).status == 200
        assert response(await served.ask(other)).body == before  # the same process

    with capture_logs() as logs:
        serving(data, test)
    (ended,) = [entry for entry in logs if entry["event"] == "application process ended"]
    assert end in ended["end"]


def test_requests_of_a_process_that_died_go_to_another(directory: str, tmp_path: Path) -> None:
    """As often as retry says, if that can do no harm."""
    once = f"os.path.exists('{tmp_path}/once') or (open('{tmp_path}/once', 'x'), os._exit(1))"

    async def test(served: Served) -> None:
        assert (await ask(served, once, method="PUT")).status == 200
        os.unlink(tmp_path / "once")
        assert (await ask(served, once, method="POST")).status == 502

    serving(config(directory, {"retry": {"tries": 2}}), test)


@pytest.mark.parametrize(
    ("process", "status"),
    [({}, 200), ({"processes": 2}, 200), ({"give_up": {"deaths": 1, "within": "1h"}}, 503)],
    ids=["its successor", "the other one", "nobody"],
)
@pytest.mark.parametrize("kept", [False, True])
def test_requests_that_a_process_had_not_read_are_not_lost_with_it(
    kept: bool, process: dict[str, Any], status: int, directory: str, tmp_path: Path
) -> None:
    """Whatever their methods: one that hung and is killed takes with it what it had begun, and no more."""
    calls = tmp_path / "calls"
    note = f"open({str(calls)!r}, 'a').write('.')"
    answers: list[Response] = []

    async def test(served: Served) -> None:
        async def go(method: str) -> None:
            answers.append(await ask(served, note, method=method))

        async def go_together() -> None:
            async with trio.open_nursery() as nursery:
                for method in ("GET", "POST") * 3:
                    nursery.start_soon(go, method)

        pids: set[int] = set()
        while len(pids) < process.get("processes", 1):
            pids.add(await pid_of(served))
        if kept:
            await go_together()
            answers.clear()
            calls.unlink()
        backend = served.service.router.routes[-1].handler
        assert isinstance(backend, HostedBackend)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(go_together)
            await until(lambda: backend.snapshot().servers[0].in_flight == 6)
            await trio.testing.wait_all_tasks_blocked(0.01)
            os.kill(pids.pop(), signal.SIGKILL)
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    with capture_logs() as logs:
        serving(config(directory, process), test)
    assert [answer.status for answer in answers] == [status] * 6
    if status == 200:
        assert calls.read_text() == "......"
    else:
        assert all(b"none is started any more" in answer.body for answer in answers)
    assert not [entry for entry in logs if entry["event"] == "backend try failed"]


def test_a_request_that_a_process_may_have_read_is_not_sent_again(directory: str) -> None:
    """Its head went out before its body: the reset may be about that alone."""

    async def test(served: Served) -> Response:
        pid = await pid_of(served)
        os.kill(pid, signal.SIGSTOP)
        backend = served.service.router.routes[-1].handler
        assert isinstance(backend, HostedBackend)
        async with await served.connect() as client:
            await client.send_all(
                b"PUT / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"
            )
            await until(lambda: backend.snapshot().servers[0].in_flight == 1)
            await client.send_all(b"ab")
            await trio.testing.wait_all_tasks_blocked(0.01)
            os.kill(pid, signal.SIGKILL)
            return response(await read_all(client))

    assert serving(config(directory), test).status == 502


LEFT_BEHIND = """
if not os.fork():
    os.setsid()
    wait_for({go!r})
os._exit(1)
"""


def test_nobody_waits_for_another_process_that_never_comes(directory: str, tmp_path: Path) -> None:
    """A request of which it is heard that it was broken off after the end of the last process."""
    go = tmp_path / "go"
    do = f"exec({LEFT_BEHIND.format(go=str(go))!r})"

    async def test(served: Served) -> Response:
        answers: list[Response] = []

        async def try_twice() -> None:
            answers.append(await ask(served, do, method="PUT"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(try_twice)
            await until(lambda: any(entry["event"] == "application given up" for entry in logs))
            go.touch()
        return answers[0]

    process = {"retry": {"tries": 2}, "give_up": {"deaths": 1, "within": "1h"}}
    with capture_logs() as logs:
        answer = serving(config(directory, process), test)
    assert answer.status == 503
    assert b"none is started any more" in answer.body


def test_one_that_does_not_start_is_a_503_that_says_why(directory: str) -> None:
    """The daemon starts all the same, and tries again."""

    async def test(served: Served) -> Response:
        while True:
            answer = await ask(served)
            if b"no process is alive" in answer.body:
                return answer
            assert answer.status in (502, 503)

    answer = serving(config(directory, asgi="hosted_asgi:app", env={"FAILS": "1"}), test)
    assert answer.status == 503
    assert answer.headers["retry-after"]
    assert b"the application did not start: no database" in answer.body


def test_the_gateway_is_ready_when_the_application_is(directory: str, tmp_path: Path) -> None:
    """So a reload has no gap, and who waits for the daemon need not wait for the application."""
    log = tmp_path / "life"

    async def test(served: Served) -> str:
        return log.read_text()

    data = config(directory, asgi="hosted_asgi:app", env={"LIFE_LOG": str(log)})
    assert serving(data, test) == "startup\n"
    data = config(directory, {"processes": {"min": 0, "max": 1}}, asgi="hosted_asgi:app")

    async def ask_first(served: Served) -> int:
        return (await ask(served)).status

    assert serving(data, ask_first) == 299  # started by the first request, which waits for it


@pytest.mark.parametrize(("process", "ends"), [({}, False), ({"startup_time": "1h"}, True)])
def test_an_application_may_take_as_long_as_it_likes_to_start(
    tmp_path: Path, process: dict[str, Any], ends: bool
) -> None:
    """As in the gateway's own process; there were 60 seconds for it."""
    (tmp_path / "slow.py").write_text(
        "import os, time\n"
        "open('loading', 'a').close()\n"
        "while not os.path.exists('go'):\n"
        "    time.sleep(0.01)\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [b'at last']\n"
    )
    clock = trio.testing.MockClock(rate=1.0)
    data = config(
        str(tmp_path), {"processes": {"min": 0, "max": 1}, "stop_time": "2h", **process}, wsgi="slow:app"
    )

    async def main() -> None:
        async with gateway_of(data) as served, trio.open_nursery() as asking:

            async def first() -> None:
                assert (await ask(served)).body == b"at last"

            asking.start_soon(first)
            await soon((tmp_path / "loading").exists)
            clock.jump(3601)
            if ends:
                await soon(lambda: any(entry["event"] == "application process ended" for entry in log))
            (tmp_path / "go").touch()

    with capture_logs() as log:
        trio.run(main, clock=clock)
    late = [entry for entry in log if entry["event"] == "application process not ready in time"]
    assert [entry["seconds"] for entry in late] == ([3600] if ends else [])


def test_an_application_that_cannot_be_imported(directory: str) -> None:
    async def test(served: Served) -> Response:
        while b"no process is alive" not in (answer := await ask(served)).body:
            assert answer.status in (502, 503)
        return answer

    answer = serving(config(directory, wsgi="hosted_absent:app"), test)
    assert b"there is no module &#x27;hosted_absent&#x27;" in answer.body.replace(b"&#39;", b"&#x27;") or (
        b"there is no module 'hosted_absent'" in answer.body
    )


def test_one_that_hangs_is_a_504(directory: str, tmp_path: Path) -> None:
    """A frozen process, too; without a timeout its clients wait as long as they like."""

    async def test(served: Served) -> None:
        hung = await ask(served, f"wait_for({str(tmp_path / 'go')!r})")
        assert hung.status == 504
        assert "http_response_timeout" in hung.headers["proxy-status"]
        assert (await ask(served)).status == 200
        (tmp_path / "go").touch()

    with capture_logs():
        serving(config(directory, {"timeout": "5s"}), test)


def test_what_looks_like_a_failure_is_the_applications_own(directory: str) -> None:
    """It is not believed, but it harms nobody either."""
    (Path(directory) / "hosted_forging.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Gateway-Failure', '[]')])\n"
        "    return [b'x']\n"
    )

    async def test(served: Served) -> None:
        assert (await ask(served)).status == 502

    serving(config(directory, wsgi="hosted_forging:app"), test)


# ---- processes


def test_recycling_loses_no_request(directory: str) -> None:
    """Nor does the start of another process, which gets its share."""

    async def test(served: Served) -> None:
        pids: set[int] = set()

        async def client() -> None:
            while len(pids) < 5:
                pids.add(await pid_of(served))

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(client)

    serving(config(directory, {"processes": 2, "max_requests": 25}), test)


TOGETHER = """
import asyncio, glob, os, time

def comes(query):  # tells whether as many have come as it says
    open(f"here-{os.getpid()}-{time.monotonic_ns()}", "x").close()
    return lambda: len(glob.glob("here-*")) >= int(query)

def wsgi(environ, start_response):
    if query := environ["QUERY_STRING"]:
        complete = comes(query)
        while not complete():
            time.sleep(0.01)
    start_response("200 OK", [])
    return [b"%d" % os.getpid()]

async def asgi(scope, receive, send):
    if query := scope["query_string"]:
        complete = comes(query)
        while not complete():
            await asyncio.sleep(0.01)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % os.getpid()})
"""


@pytest.mark.parametrize(
    "app", [{"wsgi": "together:wsgi", "threads": 2}, {"asgi": "together:asgi", "lifespan": "off"}]
)
def test_requests_are_spread_over_the_processes(app: dict[str, Any], tmp_path: Path) -> None:
    """None of them has more than another: all threads of all processes are put to use."""
    (tmp_path / "together.py").write_text(TOGETHER)

    async def test(served: Served) -> None:
        get = b"GET /?%b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        pids: list[bytes] = []

        async def go(query: bytes) -> None:
            answer = response(await served.ask(get % query))
            assert answer.status == 200
            pids.append(answer.body)

        while len(set(pids)) < 3:  # also those that have started later are there
            await go(b"")
        pids.clear()
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(go, b"6")
        assert sorted(Counter(pids).values()) == [2, 2, 2]

    serving(config(str(tmp_path), {"processes": 3}, **app), test)


def test_a_socket_that_has_no_place_is_named(
    directory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has tidied up /tmp: it is not the program that cannot be started."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def tidy_up() -> str:
        (home,) = tmp_path.glob("gateway-*")
        shutil.rmtree(home)
        for entry in [entry for entry in logs if entry["event"] == "application process started"]:
            os.kill(entry["pid"], signal.SIGKILL)
        return f"no socket at {home}/"

    async def test(served: Served) -> None:
        reason = tidy_up()
        with trio.fail_after(30):
            while (answer := await ask(served)).status != 503:
                assert answer.status == 502
        assert f"cannot be started: {reason}".encode() in answer.body
        failed = [entry for entry in logs if entry["event"] == "application process cannot be started"]
        assert all(entry["cause"].startswith(reason) for entry in failed)

    with capture_logs() as logs:
        serving(config(directory, {"processes": 2}), test)


FORKING = """
import os, socket

def listens(descriptor):
    try:
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        return False

if not (child := os.fork()):
    found = [each for each in map(int, os.listdir("/proc/self/fd")) if listens(each)]
    with open(f"child-{os.getppid()}", "x") as file:
        file.write(repr(found))
    os._exit(0)
os.waitpid(child, 0)

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"%d" % os.getpid()]
"""


def test_children_that_are_forked_as_it_starts_do_not_listen(tmp_path: Path) -> None:
    """Where one goes on, and the process dies, nobody is to wait for a connection to be taken."""
    (tmp_path / "forking.py").write_text(FORKING)

    async def test(served: Served) -> Path:
        return tmp_path / f"child-{(await ask(served)).body.decode()}"

    child = serving(config(str(tmp_path), {"processes": 2}, wsgi="forking:app"), test)
    assert child.read_text() == "[]"


def test_one_that_needs_too_much_memory_is_replaced(directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.spawn.processes.CHECK_INTERVAL", 0.1)

    async def test(served: Served) -> None:
        before = await pid_of(served)
        await ask(served, "global hoard; hoard = bytearray(300_000_000)")
        while await pid_of(served) == before:
            pass

    serving(config(directory, {"max_memory": "256MiB"}), test)


def test_lifespan_is_that_of_the_process(directory: str, tmp_path: Path) -> None:
    log = tmp_path / "life"

    async def test(served: Served) -> bytes:
        return (await ask(served)).body

    data = config(directory, asgi="hosted_asgi:app", env={"LIFE_LOG": str(log), "MARK": "mine"})
    assert b"'state', {'mark': 'mine'}" in serving(data, test)
    assert log.read_text().splitlines() == ["startup", "shutdown"]


def test_one_that_fails_and_is_stuck_in_its_end_is_replaced(tmp_path: Path) -> None:
    """Nobody has told it to end, so nobody counted the time."""
    (tmp_path / "failing.py").write_text(
        "import asyncio, os, time\n"
        "failing = asyncio.Event()\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan':\n"
        "        await receive()\n"
        "        await send({'type': 'lifespan.startup.complete'})\n"
        "        await failing.wait()\n"
        "        raise ValueError\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': b'(%d,' % os.getpid()})\n"
        "    if b'x-do' in dict(scope['headers']):\n"
        "        failing.set()\n"
        "        try:\n"
        "            await asyncio.Event().wait()\n"
        "        finally:\n"
        "            time.sleep(600)\n"
    )

    async def test(served: Served) -> None:
        before = await pid_of(served)
        await ask(served, "fail")
        # Those that it still gets are lost with it.
        while (answer := await ask(served)).status != 200 or answer.body == b"(%d," % before:
            pass

    serving(config(str(tmp_path), asgi="failing:app", shutdown_timeout="100ms"), test)


def test_two_applications_of_one_name(tmp_path: Path) -> None:
    """Each has its modules, variables and directory; in one process they are refused."""
    backends: dict[str, Any] = {}
    for name in ("one", "two"):
        home = tmp_path / name
        home.mkdir()
        (home / "hosted_same.py").write_text(
            "import os\n"
            f"def app(environ, start_response):\n"
            "    start_response('200 OK', [])\n"
            f"    return [repr(({name!r}, os.environ['MARK'], os.getcwd())).encode()]\n"
        )
        backends[name] = {"wsgi": "hosted_same:app", "directory": str(home), "env": {"MARK": name.upper()}}
    routes = [{"match": {"path": f"/{name}"}, "backend": name} for name in backends]

    async def test(served: Served) -> list[bytes]:
        asked = [
            b"GET /%b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % name for name in (b"one", b"two")
        ]
        return [response(await served.ask(each)).body for each in asked]

    own = {name: {**backend, "process": "own"} for name, backend in backends.items()}
    found = serving({"backends": own, "routes": routes}, test)
    assert found == [repr((name, name.upper(), str(tmp_path / name))).encode() for name in backends]


@pytest.mark.parametrize("process", ["shared", "own"])
def test_one_application_under_several_mounts(directory: str, process: str) -> None:
    """It is loaded once, whatever its paths are."""
    (Path(directory) / "hosted_counting.py").write_text(
        "seen = []\n"
        "def app(environ, start_response):\n"
        "    seen.append((environ['SCRIPT_NAME'], environ['PATH_INFO']))\n"
        "    start_response('200 OK', [])\n"
        "    return [repr(seen).encode()]\n"
    )
    data = config(directory, process, wsgi="hosted_counting:app")
    data["routes"] = [
        {"match": {"path": "/a/*"}, "mount": "/a", "backend": "app"},
        {"match": {"path": "/b/c/*"}, "mount": "/b/c", "backend": "app"},
    ]

    async def test(served: Served) -> bytes:
        await served.ask(b"GET /a/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return await served.ask(b"GET /b/c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

    assert response(serving(data, test)).body == b"[('/a', '/x'), ('/b/c', '')]"


def test_the_queue_is_for_all_processes_together(directory: str, tmp_path: Path) -> None:
    """503 with Retry-After beyond it."""
    go = tmp_path / "go"

    async def test(served: Served) -> None:
        await pid_of(served)
        async with trio.open_nursery() as nursery:
            done: list[Response] = []

            async def hang() -> None:
                done.append(await ask(served, f"wait_for({str(go)!r})"))

            while not done:  # one runs, one waits, the third is refused
                nursery.start_soon(hang)
                await trio.testing.wait_all_tasks_blocked(0.05)
            assert (done[0].status, done[0].headers["retry-after"]) == (503, "60")
            go.touch()
        assert [answer.status for answer in done[1:]].count(200) == 2

    serving(config(directory, threads=1, queue=1, queue_time="60s"), test)


def test_standard_input_is_empty(directory: str) -> None:
    """For programs that the application starts, too: none of them gets the listening socket."""
    look = (
        "import subprocess, sys; "
        "os.environ['MARK'] = repr((sys.stdin.read(), subprocess.run(['cat']).returncode))"
    )

    async def test(served: Served) -> None:
        assert b"('', 0)" in (await ask(served, look)).body

    serving(config(directory), test)


def test_programs_that_the_application_starts_inherit_no_descriptor(directory: str) -> None:
    look = (
        "import subprocess; "
        "found = subprocess.run(['ls', '/proc/self/fd'], stdout=subprocess.PIPE, close_fds=False).stdout; "
        "os.environ['MARK'] = ' '.join(found.decode().split())"
    )

    async def test(served: Served) -> None:
        assert b"'0 1 2 3'" in (await ask(served, look)).body  # the last is of the directory itself

    serving(config(directory), test)


def test_standard_output_is_logged(directory: str) -> None:
    async def test(served: Served) -> None:
        await ask(served, "print('said'); environ['wsgi.errors'].write('warned')")

    with capture_logs() as logs:
        serving(config(directory), test)
    said = next(entry for entry in logs if entry.get("line") == "said")
    assert (said["event"], said["stream"]) == ("application output", "stdout")
    warned = next(entry for entry in logs if entry.get("text") == "warned")
    assert (warned["event"], warned["log_level"]) == ("application wrote to wsgi.errors", "warning")
    assert warned["pid"] == said["pid"]


def test_a_forged_log_entry_harms_nobody(directory: str) -> None:
    """What an application prints may look like an entry, with anything in it."""
    forged = {"timestamp": "x", "level": "info", "event": ["x"], "self": 1, "stack": [1], "exc_info": True}

    async def test(served: Served) -> None:
        await ask(served, f"import json; print(json.dumps({forged}))")
        await ask(served, """print('{"timestamp": 1, "level": "loud", "event": "x"}')""")
        await ask(served, """print('{"timestamp": ' + 10_000 * '[')""")

    with capture_logs() as logs:
        serving(config(directory), test)
    (entry,) = [entry for entry in logs if entry["event"] == "['x']"]
    assert (entry["stack"], "self" in entry, "exc_info" in entry) == ("[1]", False, False)
    assert any("loud" in entry.get("line", "") for entry in logs)
    assert any("[[[[" in entry.get("line", "") for entry in logs)


@pytest.mark.parametrize("process", ["shared", "own"])
def test_an_application_may_end_the_connection(process: str, tmp_path: Path) -> None:
    """RFC 9112 9.6, as in one process: only that between the gateway and the application ended."""
    (tmp_path / "closing.py").write_text(
        "async def app(scope, receive, send):\n"
        "    headers = [(b'Connection', b'close')] if scope['path'] == '/last' else []\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': headers})\n"
        "    await send({'type': 'http.response.body', 'body': scope['path'].encode()})\n"
    )

    async def test(served: Served) -> bytes:
        return await served.ask(
            b"".join(b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % path for path in (b"", b"last", b"x"))
        )

    data = config(str(tmp_path), process, asgi="closing:app", lifespan="off")
    first, last = responses(serving(data, test))
    assert (first.headers["connection"], first.body) == (None, b"/")
    assert (last.headers["connection"], last.body) == ("close", b"/last")


def test_a_process_that_is_replaced_ends_no_connection_of_a_client(tmp_path: Path) -> None:
    """Only the application may: what its server says is between that and the gateway."""
    (tmp_path / "long.py").write_text(
        "async def app(scope, receive, send):\n"
        "    await receive()\n"
        "    if scope['path'] == '/long':\n"
        "        await scope['extensions']['gateway.shutdown']['wait']()  # for its process\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': scope['path'].encode()})\n"
    )

    async def test(served: Served) -> bytes:
        get = b"GET %b HTTP/1.1\r\nHost: a\r\n%b\r\n"
        async with await served.connect() as client:
            await client.send_all(get % (b"/long", b""))
            await served.ask(get % (b"/", b"Connection: close\r\n"))
            return await read_until(client, b"/long")

    data = config(str(tmp_path), {"max_requests": 1}, asgi="long:app", lifespan="off")
    assert response(serving(data, test)).headers["connection"] is None


def test_a_log_entry_that_is_too_long_is_cut_and_stays_one(directory: str) -> None:
    """It became lines of output, at the level of information."""

    async def test(served: Served) -> None:
        await ask(served, "import logging; logging.getLogger('a').critical('\\xe9' * 300_000 + 'end')")
        await ask(served, "import logging; logging.getLogger('b').error([*range(100_000)])")
        await ask(served, "raise ValueError('x' * 300_000)")

    with capture_logs() as logs:
        serving(config(directory), test)
    (text,) = [entry for entry in logs if entry["log_level"] == "critical"]
    assert text["event"].startswith("éé")
    assert re.search(r"é \[\.\.\. \d+ characters \.\.\.\] é+end\Z", text["event"])
    assert [entry["logger"] for entry in logs if "99998, 99999]" in entry["event"]] == ["b"]
    (failed,) = [entry for entry in logs if entry["event"] == "application failed"]
    assert failed["exception"].startswith("Traceback (most recent call last):\n")
    assert failed["log_level"] == "error"
    assert not any(entry["event"] == "application output" for entry in logs)


# ---- virtual environments


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(path, symlinks=True)
    packages = path / "lib" / f"python{VERSION}" / "site-packages"
    (packages / "hosted_package.py").write_text("WHERE = __file__\n")
    (packages / "added.pth").write_text("extra\n")
    (packages / "extra").mkdir()
    (packages / "extra" / "hosted_extra.py").write_text("WHERE = __file__\n")
    return path


@pytest.mark.parametrize("process", ["shared", "own"])
@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_packages_of_a_virtual_environment(
    environment: Path, tmp_path: Path, process: str, kind: str
) -> None:
    (tmp_path / "hosted_packaged.py").write_text(
        "import os, hosted_package, hosted_extra\n"
        "found = repr([hosted_package.WHERE, hosted_extra.WHERE]).encode()\n"
        "def wsgi(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [found]\n"
        "async def asgi(scope, receive, send):\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send({'type': 'http.response.body', 'body': found})\n"
    )

    async def test(served: Served) -> bytes:
        return (await ask(served)).body

    backend = {kind: f"hosted_packaged:{kind}", "virtualenv": str(environment)}
    found = serving(config(str(tmp_path), process, **backend), test)
    assert found.count(str(environment).encode()) == 2


def test_a_process_with_a_virtual_environment_is_one_of_it(environment: Path, tmp_path: Path) -> None:
    """Its data files are found, and programs that are started by sys.executable have its packages."""
    (tmp_path / "hosted_prefixed.py").write_text(
        "import os, site, subprocess, sys\n"
        "def found():\n"
        "    yield sys.prefix\n"
        "    yield sys.exec_prefix\n"
        "    yield os.environ['VIRTUAL_ENV']\n"
        "    yield from site.getsitepackages()[:1]\n"
        "    code = 'import hosted_package; print(hosted_package.WHERE)'\n"
        "    yield subprocess.check_output([sys.executable, '-c', code], text=True).strip()\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return ['\\n'.join(found()).encode()]\n"
    )

    async def test(served: Served) -> bytes:
        return (await ask(served)).body

    backend = {"wsgi": "hosted_prefixed:app", "virtualenv": str(environment)}
    prefix, exec_prefix, variable, packages, package = (
        serving(config(str(tmp_path), "own", **backend), test).decode().splitlines()
    )
    assert prefix == exec_prefix == variable == str(environment)
    assert Path(packages) == Path(package).parent
    assert Path(package).is_relative_to(environment)


def test_a_virtual_environment_with_another_version_of_what_websockets_take(
    environment: Path, directory: str
) -> None:
    """As mypy brings one, for example."""
    other = environment / "lib" / f"python{VERSION}" / "site-packages" / "librt"
    other.mkdir()
    (other / "__init__.py").write_text("")
    (other / "strings.py").write_text("BytesWriter = StringWriter = None\n")

    async def test(served: Served) -> None:
        async with await served.connect() as stream:
            client = await WebSocket.open(stream)
            await client.send("hi")
            assert await client.receive() == "1.1hihi"

    try:
        backend = {"asgi": "hosted_asgi:app", "virtualenv": str(environment)}
        serving(config(directory, **backend), test)
    finally:
        shutil.rmtree(other)


def test_virtual_environment_of_another_version(tmp_path: Path) -> None:
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "venv" / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.9.2\n")
    (tmp_path / "venv" / "lib" / "python3.9" / "site-packages").mkdir(parents=True)
    data = config(str(tmp_path), virtualenv=str(tmp_path / "venv"))
    with pytest.raises(ConfigError, match=r"virtualenv: .* is of Python 3\.9: expected one of Python 3\."):
        from_mapping({"listeners": [{"http": "127.0.0.1:0"}], **data}, "", ".")


# ---- the gateway's own end


def test_processes_end_with_a_gateway_that_is_killed(directory: str, tmp_path: Path) -> None:
    """SIGKILL: nobody tells them, and they lead sessions of their own."""
    data = {"listeners": [{"http": "127.0.0.1:0"}], **config(directory)}
    file = tmp_path / "gateway.yaml"
    file.write_text(json.dumps(data))
    gateway = subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve", str(file)], stderr=subprocess.PIPE, text=True
    )
    assert gateway.stderr is not None
    pid = port = None
    for line in gateway.stderr:
        entry = json.loads(line)
        if entry["event"] == "application process started":
            pid = entry["pid"]
        elif entry["event"] == "ready":
            port = int(entry["addresses"][0].rpartition(":")[2])
            break
    assert pid is not None

    async def main() -> None:
        with trio.fail_after(WITHIN):
            async with await trio.open_tcp_stream("127.0.0.1", port or 0) as client:
                await client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert (await client.receive_some()).startswith(b"HTTP/1.1 200 ")
            pidfd = os.pidfd_open(pid)
            gateway.kill()
            await trio.lowlevel.wait_readable(pidfd)
            os.close(pidfd)

    try:
        trio.run(main)
    finally:
        gateway.kill()
        gateway.wait()
        gateway.stderr.close()
    for home in (tmp_path / "tmp").iterdir():  # the next gateway would remove it
        for each in home.iterdir():
            each.unlink()
        home.rmdir()
