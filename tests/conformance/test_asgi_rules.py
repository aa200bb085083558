"""The rules ASGI-1 to ASGI-18 and ASGI-23, over real sockets: HTTP/1.1 and HTTP/2, and both loops.

Each test names its rule. Lifespan is in test_asgi_lifespan_rules.py, extensions in test_asgi_extensions.py.
"""

import asyncio
import contextvars
import io
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.testing
from asgiref.wsgi import WsgiToAsgiInstance
from structlog.testing import capture_logs
from wsproto.events import CloseConnection, Ping

from gateway.backends.asgi.websocket.inbox import QUEUED_MESSAGES
from tests.conformance.asgi_client import (
    Conversation,
    ask,
    conversing,
    hosting,
    refused_websocket,
    run,
    websocket,
)
from tests.gateway.http2_client import Answered, Client, entering
from tests.gateway.served import GET, pass_time, read_until, reset, until
from tests.gateway.websocket_client import Client as WebSocket
from tests.gateway.websocket_client import offer

START: Final = {"type": "http.response.start", "status": 200}
BODY: Final = {"type": "http.response.body", "body": b"ok"}
MORE: Final = {**BODY, "more_body": True}

both_versions = pytest.mark.parametrize("version", ["1.1", "2"])
both_loops = pytest.mark.parametrize("loop", ["asyncio", "trio"])


def each(test: Any) -> Any:
    """Both versions of HTTP on both loops."""
    return both_loops(both_versions(test))


def errors(logs: list[Any]) -> list[Any]:
    return [entry for entry in logs if entry["log_level"] in ("warning", "error", "critical")]


async def answer_ok(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    await send(BODY)


# --- the call


@each
def test_asgi_1_one_call_for_each_request(loop: str, version: str) -> None:
    calls: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        calls.append(scope["path"])
        await answer_ok(scope, receive, send)

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            for target in ("/a", "/b"):
                assert (await ask(served, version, target)).body == b"ok"

    run(main)
    assert calls == ["/a", "/b"]


class Double:
    """An application of ASGI 2."""

    def __init__(self, scope: Any) -> None:
        self.scope = scope

    async def __call__(self, receive: Any, send: Any) -> None:
        version = self.scope["asgi"]["version"].encode()
        if self.scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        elif self.scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "bytes": version})
        else:
            await send(START)
            await send({**BODY, "body": version})


class Maker:
    def __call__(self, scope: Any) -> Double:
        return Double(scope)


@each
@pytest.mark.parametrize(
    "app", [Double, lambda scope: Double(scope), Maker()], ids=["class", "function", "instance"]
)
@pytest.mark.parametrize("interface", ["auto", "asgi2"])
def test_asgi_1_applications_of_asgi_2(loop: str, version: str, app: Any, interface: str) -> None:
    """Requests, WebSockets and lifespan."""

    async def main() -> None:
        async with hosting(app, loop, lifespan="on", interface=interface) as served:
            assert (await ask(served, version)).body == b"2.0"
            async with websocket(served, version) as (client, _):
                assert await client.receive() == b"2.0"

    run(main)


@both_loops
def test_asgi_1_interface_can_be_forced(loop: str) -> None:
    """... on one whose signature fits both."""

    def app(*arguments: Any) -> Any:
        if len(arguments) == 1:
            return Double(arguments[0])
        return answer_ok(*arguments)

    async def main() -> None:
        for interface, body in (("auto", b"ok"), ("asgi3", b"ok"), ("asgi2", b"2.0")):
            async with hosting(app, loop, lifespan="off", interface=interface) as served:
                assert (await ask(served, "1.1")).body == body

    run(main)


@each
def test_asgi_2_versions_of_the_specification(loop: str, version: str) -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
        else:
            await answer_ok(scope, receive, send)

    async def main() -> None:
        async with hosting(app, loop) as served:
            await ask(served, version)
            async with websocket(served, version) as (client, _):
                await client.receive_close()

    run(main)
    assert [(scope["type"], scope["asgi"]) for scope in scopes] == [
        ("lifespan", {"version": "3.0", "spec_version": "2.0"}),
        ("http", {"version": "3.0", "spec_version": "2.5"}),
        ("websocket", {"version": "3.0", "spec_version": "2.5"}),
    ]


# --- misuse

MISUSE: Final[list[tuple[str, list[dict[str, Any]], type[Exception]]]] = [
    ("no type", [{}], KeyError),
    ("unknown type", [{"type": "http.response.unknown"}], ValueError),
    ("of another protocol", [{"type": "websocket.accept"}], ValueError),
    ("of the other side", [{"type": "http.request"}], ValueError),
    ("start without status", [{"type": "http.response.start"}], ValueError),
    ("status is text", [{**START, "status": "200"}], TypeError),
    ("status is a bool", [{**START, "status": True}], TypeError),
    ("status of 1xx", [{**START, "status": 100}], ValueError),
    ("headers are a number", [{**START, "headers": 1}], TypeError),
    ("header name is text", [{**START, "headers": [("a", b"b")]}], TypeError),
    ("header value is text", [{**START, "headers": [(b"a", "b")]}], TypeError),
    ("header is no pair", [{**START, "headers": [(b"a",)]}], ValueError),
    ("trailers is no bool", [{**START, "trailers": 1}], TypeError),
    ("body is text", [START, {**BODY, "body": "text"}], TypeError),
    ("body is None", [START, {**BODY, "body": None}], TypeError),
    ("more_body is no bool", [START, {**BODY, "more_body": 1}], TypeError),
    ("body before start", [BODY], RuntimeError),
    ("two starts", [START, START], RuntimeError),
    ("start amid the body", [START, MORE, START], RuntimeError),
]


@each
@pytest.mark.parametrize(("messages", "error"), [row[1:] for row in MISUSE], ids=[row[0] for row in MISUSE])
def test_asgi_3_misuse_of_send_raises(
    loop: str, version: str, messages: list[dict[str, Any]], error: type[Exception]
) -> None:
    """The exception comes out of ``send``, to the application, which may still answer."""
    raised: list[type[Exception]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        *good, bad = messages
        for message in good:
            await send(message)
        try:
            await send(bad)
        except Exception as caught:
            raised.append(type(caught))
        if not good:
            await send(START)
        await send(BODY)

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            answered = await ask(served, version)
            assert (answered.status, answered.ended, answered.body[-2:]) == (200, True, b"ok")

    run(main)
    assert raised == [error]


@each
def test_asgi_3_other_keys_are_ignored(loop: str, version: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "extra": object()})
        await send({**BODY, "extra": None})

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            assert (await ask(served, version)).body == b"ok"

    run(main)


# --- clients that leave


async def gone(conversation: Conversation) -> None:
    await conversation.leave()


async def broken(conversation: Conversation) -> None:
    await conversation.vanish()


both_ways = pytest.mark.parametrize("leave", [gone, broken])

Leave: TypeAlias = Callable[[Conversation], Awaitable[None]]


def leaving(app: Any, loop: str, version: str, leave: Leave, ended: trio.Event, grace: str) -> list[Any]:
    """What is logged while a client of *app* leaves that has had a byte of the body; until *ended*."""

    async def main() -> None:
        timeouts = {"disconnect_grace": grace}
        async with hosting(app, loop, lifespan="off", whole={"timeouts": timeouts}) as served:
            async with conversing(served, version) as conversation:
                await conversation.begin()
                await conversation.until(lambda answered: answered.body)
                await leave(conversation)
                await ended.wait()
            assert (await ask(served, version, "/after")).body == b"ok"

    with capture_logs() as logs:
        run(main)
    return logs


@each
@both_ways
def test_asgi_4_send_raises_an_oserror_when_the_client_has_gone(
    loop: str, version: str, leave: Leave
) -> None:
    """Complaint 53: to an application that only sends, too; and it is no error for the log."""
    raised: list[BaseException] = []
    ended = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        if scope["path"] == "/after":
            await send(BODY)
            return
        try:
            while True:
                await send(MORE)
        except BaseException as error:
            raised.append(error)
            raise
        finally:
            ended.set()

    logs = leaving(app, loop, version, leave, ended, "1m")
    (error,) = raised
    assert isinstance(error, OSError)
    assert errors(logs) == []


@each
@both_ways
def test_asgi_12_waiting_application_is_told_at_once(loop: str, version: str, leave: Leave) -> None:
    """... and has the grace for what it does then (complaint 54)."""
    received: list[Any] = []
    ended = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        if scope["path"] == "/after":
            await send(BODY)
            return
        await send(MORE)
        received.extend([await receive(), await receive()])
        for _ in range(20):
            await anyio.lowlevel.checkpoint()  # it is not cancelled yet
        ended.set()

    logs = leaving(app, loop, version, leave, ended, "1m")
    assert received == [
        {"type": "http.request", "body": b"", "more_body": False},
        {"type": "http.disconnect"},
    ]
    assert errors(logs) == []


@each
@both_ways
def test_asgi_12_who_does_not_end_is_cancelled_after_the_grace(loop: str, version: str, leave: Leave) -> None:
    """Complaint 49: silently."""
    ended = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        if scope["path"] == "/after":
            await send(BODY)
            return
        await send(MORE)
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    logs = leaving(app, loop, version, leave, ended, "50ms")
    assert errors(logs) == []


@each
def test_asgi_12_disconnect_for_who_waits_for_the_body(loop: str, version: str) -> None:
    """Of a request that is answered before its body has come; the connection goes on."""
    received: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def listen() -> None:
            received.append((await receive())["type"])

        if scope["path"] == "/after":
            await answer_ok(scope, receive, send)
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await anyio.wait_all_tasks_blocked()
            await answer_ok(scope, receive, send)

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            async with conversing(served, version) as conversation:
                await conversation.begin(method="POST", body=True)
                assert (await conversation.answer()).body == b"ok"
            assert (await ask(served, version, "/after")).body == b"ok"

    run(main)
    assert received == ["http.disconnect"]


@pytest.mark.parametrize("raises", [True, False], ids=["raises", "returns"])
def test_asgi_12_disconnect_for_who_is_left_behind(raises: bool) -> None:
    """A task that an application has not ended; only asyncio has such."""
    received: list[str] = []
    ended = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def listen() -> None:
            received.append((await receive())["type"])
            ended.set()

        if scope["path"] == "/after":
            await ended.wait()
            await answer_ok(scope, receive, send)
            return
        left.append(asyncio.create_task(listen()))
        await anyio.wait_all_tasks_blocked()
        if raises:
            raise ValueError("no")

    async def main() -> None:
        async with hosting(app, "asyncio", lifespan="off") as served:
            async with conversing(served, "1.1") as conversation:
                await conversation.begin(method="POST", body=True)
                assert (await conversation.answer()).status == 500
            assert (await ask(served, "1.1", "/after")).body == b"ok"

    left: list[asyncio.Task[None]] = []
    run(main)
    assert received == ["http.disconnect"]


@both_loops
def test_asgi_9_each_piece_is_for_one_of_several_tasks(loop: str) -> None:
    received: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def take() -> None:
            received.append(await receive())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take)
            tasks.start_soon(take)
            await anyio.wait_all_tasks_blocked()
            await send(START)
            await send(MORE)
        await send({"type": "http.response.body"})

    async def main() -> None:
        async with (
            hosting(app, loop, lifespan="off") as served,
            conversing(served, "1.1") as conversation,
        ):
            await conversation.begin(method="POST", body=True)
            await conversation.until(lambda answered: answered.body)
            await conversation.send_body(b"one", end=False)
            await until(lambda: len(received) == 1)
            await conversation.send_body(b"two")
            await conversation.answer()

    run(main)
    assert [(message["body"], message["more_body"]) for message in received] == [
        (b"one", True),
        (b"two", False),
    ]


@each
def test_asgi_12_disconnect_behind_the_response(loop: str, version: str) -> None:
    received: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def listen() -> None:
            await receive()
            received.append((await receive())["type"])

        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            await anyio.lowlevel.checkpoint()
            await answer_ok(scope, receive, send)
            received.append((await receive())["type"])

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            assert (await ask(served, version)).body == b"ok"
            await until(lambda: len(received) == 2)

    run(main)
    assert received == ["http.disconnect", "http.disconnect"]


# --- failures


@each
def test_asgi_5_exception_is_a_500_and_ends_its_request_only(loop: str, version: str) -> None:
    """With an id that the log has, too; the traceback is in the log, and nothing of it in the answer."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/fails":
            raise LookupError("secret")
        await answer_ok(scope, receive, send)

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            failed = await ask(served, version, "/fails")
            assert failed.status == 500
            assert b"secret" not in failed.body
            request_id = failed.header(b"x-request-id")
            assert request_id is not None
            assert request_id in failed.body
            ids.append(request_id.decode())
            assert (await ask(served, version)).body == b"ok"

    ids: list[str] = []
    with capture_logs() as logs:
        run(main)
    (entry,) = [entry for entry in logs if entry["event"] == "application failed"]
    assert entry["request_id"] == ids[0]
    assert isinstance(entry["exc_info"], LookupError)


@each
def test_asgi_5_exception_on_the_page_of_the_developer(loop: str, version: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("what is it?")

    async def main() -> None:
        async with hosting(app, loop, lifespan="off", whole={"debug": True}) as served:
            failed = await ask(served, version)
            assert failed.status == 500
            assert b"LookupError: what is it?" in failed.body
            assert b"test_asgi_rules.py" in failed.body

    with capture_logs():
        run(main)


@each
def test_asgi_5_exception_amid_the_body_cuts_the_response(loop: str, version: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(MORE)
        raise LookupError

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            answered = await ask(served, version)
            assert (answered.status, answered.body, answered.ended) == (200, b"ok", False)

    with capture_logs():
        run(main)


# --- the scope


@each
def test_asgi_6_scope(loop: str, version: str) -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await answer_ok(scope, receive, send)

    async def main() -> None:
        async with hosting(app, loop, lifespan="off", mount="/m n") as served:
            target = "/m%20n/caf%C3%A9%20x?a=%20b&a"
            await ask(served, version, target, ("x", "1"), method="POST", body=b"b")

    run(main)
    (scope,) = scopes
    assert scope.pop("client")[0] == "127.0.0.1"
    assert scope.pop("server")[0] == "127.0.0.1"
    del scope["extensions"]
    assert (b"x", b"1") in scope.pop("headers")
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": version,
        "method": "POST",
        "scheme": "http",
        "path": "/m n/café x",
        "raw_path": b"/m%20n/caf%C3%A9%20x",
        "query_string": b"a=%20b&a",
        "root_path": "/m n",
        "state": {},
    }


@each
def test_complaint_33_mount_is_no_word_of_the_client(loop: str, version: str) -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["root_path"])
        await answer_ok(scope, receive, send)

    async def main() -> None:
        async with hosting(app, loop, lifespan="off", mount="/m") as served:
            names = ("script-name", "x-script-name", "x-forwarded-prefix", "root-path")
            await ask(served, version, "/m/x", *((name, "/admin") for name in names))

    run(main)
    assert seen == ["/m"]


@both_loops
def test_asgi_6_version_of_old_clients(loop: str) -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await answer_ok(scope, receive, send)

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            assert (await served.ask(b"GET / HTTP/1.0\r\n\r\n")).endswith(b"ok")

    run(main)
    assert scopes[0]["http_version"] == "1.0"


@each
def test_asgi_7_headers(loop: str, version: str) -> None:
    """Order and duplicates are kept, names are in lower case, and the authority is ``host``, in front."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(scope["headers"])
        await answer_ok(scope, receive, send)

    name = "X-B" if version == "1.1" else "x-b"

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            await ask(served, version, "/", (name, "2"), ("x-a", "1"), ("x-b", "1"))

    run(main)
    assert seen == [(b"host", b"a"), (b"x-b", b"2"), (b"x-a", b"1"), (b"x-b", b"1")]


@each
def test_asgi_8_server(loop: str, version: str, tmp_path: Path) -> None:
    """Host and port, or the path of a Unix socket and None; a client there has no address."""
    seen: list[Any] = []
    path = str(tmp_path / "socket")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["client"], scope["server"]))
        await answer_ok(scope, receive, send)

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            await ask(served, version)
            assert seen[0][1] == served.address
            assert seen[0][0][0] == "127.0.0.1"
            async with entering(served, path=path):
                await ask(served, version)

    run(main)
    assert seen[1] == (None, (path, None))


# --- receive


@each
def test_asgi_9_request_body(loop: str, version: str) -> None:
    """In pieces, without the chunks that it came in; ``more_body`` is False with the last."""
    received: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while not received or received[-1]["more_body"]:
            received.append(await receive())
            if len(received) == 1:
                await send(START)
                await send(MORE)
        await send(BODY)

    async def main() -> None:
        async with (
            hosting(app, loop, lifespan="off") as served,
            conversing(served, version) as conversation,
        ):
            await conversation.begin(method="POST", body=True)
            await conversation.send_body(b"one", end=False)
            await conversation.until(lambda answered: answered.body)
            await conversation.send_body(b"two")
            assert (await conversation.answer()).body == b"okok"

    run(main)
    assert all(message["type"] == "http.request" for message in received)
    assert b"".join(message["body"] for message in received) == b"onetwo"
    assert [message["more_body"] for message in received] == [True] * (len(received) - 1) + [False]


@each
@both_ways
def test_asgi_9_disconnect_amid_the_body(loop: str, version: str, leave: Leave) -> None:
    received: list[Any] = []
    ended = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        received.append(await receive())
        await send(START)
        await send(MORE)
        received.append(await receive())
        ended.set()

    async def main() -> None:
        async with (
            hosting(app, loop, lifespan="off") as served,
            conversing(served, version) as conversation,
        ):
            await conversation.begin(method="POST", body=True)
            await conversation.send_body(b"one", end=False)
            await conversation.until(lambda answered: answered.body)
            await leave(conversation)
            await ended.wait()

    with capture_logs() as logs:
        run(main)
    assert received == [
        {"type": "http.request", "body": b"one", "more_body": True},
        {"type": "http.disconnect"},
    ]
    assert errors(logs) == []


@both_versions
def test_asgi_13_ready_event_without_a_checkpoint(version: str) -> None:
    """Complaint 48, hypercorn#210: trio's loop alone can tell."""
    polled: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with trio.testing.assert_no_checkpoints():
            polled.append((await receive())["type"])
        await answer_ok(scope, receive, send)
        with trio.testing.assert_no_checkpoints():
            polled.append((await receive())["type"])

    async def main() -> None:
        async with hosting(app, "trio", lifespan="off") as served:
            assert (await ask(served, version)).body == b"ok"
            await until(lambda: len(polled) == 2)

    run(main)
    assert polled == ["http.request", "http.disconnect"]


@both_versions
def test_asgi_13_ready_message_of_a_websocket_without_a_checkpoint(version: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        with trio.testing.assert_no_checkpoints():
            assert (await receive())["type"] == "websocket.connect"
        await send(ACCEPT)
        assert (await receive())["text"] == "first"
        await trio.testing.wait_all_tasks_blocked()
        with trio.testing.assert_no_checkpoints():
            assert (await receive())["text"] == "second"
        await send({"type": "websocket.send", "text": "done"})

    async def main() -> None:
        async with (
            hosting(app, "trio", lifespan="off") as served,
            websocket(served, version) as (client, _),
        ):
            await client.send("first")
            await client.send("second")
            assert await client.receive() == "done"

    run(main)


@each
def test_asgi_13_pending_receive_can_be_cancelled(loop: str, version: str) -> None:
    """It loses nothing: what comes then belongs to the next one."""
    received: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(3):
            with anyio.CancelScope() as cancelled:
                cancelled.cancel()
                received.append((await receive())["body"])
        await send(START)
        await send(MORE)
        received.append((await receive())["body"])
        await send(BODY)

    async def main() -> None:
        async with (
            hosting(app, loop, lifespan="off") as served,
            conversing(served, version) as conversation,
        ):
            await conversation.begin(method="POST", body=True)
            await conversation.until(lambda answered: answered.body)
            await conversation.send_body(b"late")
            assert (await conversation.answer()).ended

    run(main)
    assert received == [b"late"]


@each
def test_asgi_13_poll_for_the_disconnect(loop: str, version: str) -> None:
    """As Starlette's ``Request.is_disconnected`` does it: in a scope that is cancelled."""
    polled: list[bool] = []
    ended = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def is_disconnected() -> bool:
            message: dict[str, Any] = {}
            with anyio.CancelScope() as cancelled:
                cancelled.cancel()
                message = await receive()
            return bool(message.get("type") == "http.disconnect")

        await receive()
        polled.append(await is_disconnected())
        await send(START)
        await send(MORE)
        while not await is_disconnected():
            await anyio.lowlevel.checkpoint()
        polled.append(True)
        ended.set()

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served, conversing(served, version) as conversation:
            await conversation.begin()
            await conversation.until(lambda answered: answered.body)
            await conversation.leave()
            await ended.wait()

    run(main)
    assert polled == [False, True]


@each
def test_asgi_13_context_of_its_own(loop: str, version: str) -> None:
    """What one request sets is not seen by the next, as if each ran in a task of its own."""
    variable = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(variable.get())
        variable.set("set")
        await answer_ok(scope, receive, send)

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served, await served.connect() as stream:
            client = Client(stream)
            if version == "2":
                await client.begin()
            for _ in range(3):
                if version == "2":
                    assert (await client.ask()).body == b"ok"
                else:
                    await stream.send_all(GET)
                    await read_until(stream, b"ok")

    run(main)
    assert seen == ["unset"] * 3


# --- send


@each
def test_asgi_10_start_is_held_until_the_body(loop: str, version: str) -> None:
    """An application that fails between the two is answered 500."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "headers": [(b"x-held", b"1")]})
        raise LookupError

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            answered = await ask(served, version)
            assert (answered.status, answered.header(b"x-held")) == (500, None)

    with capture_logs():
        run(main)


@each
def test_asgi_10_framing_is_the_servers(loop: str, version: str) -> None:
    """Transfer-Encoding of the application is ignored; without Content-Length there are chunks (HTTP/1.1)."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "headers": [(b"transfer-encoding", b"gzip, chunked"), (b"x", b"1")]})
        await send(MORE)
        await send(BODY)

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            answered = await ask(served, version)
            assert (answered.body, answered.ended, answered.header(b"x")) == (b"okok", True, b"1")
            assert answered.header(b"transfer-encoding") == (b"chunked" if version == "1.1" else None)
            assert answered.header(b"content-length") is None

    run(main)


@each
def test_asgi_10_length_of_a_small_response(loop: str, version: str) -> None:
    async def main() -> None:
        async with hosting(answer_ok, loop, lifespan="off") as served:
            answered = await ask(served, version)
            assert (answered.body, answered.header(b"content-length")) == (b"ok", b"2")

    run(main)


@each
@pytest.mark.parametrize("length", [None, b"18"])
def test_asgi_10_head_may_end_with_its_start(loop: str, version: str, length: bytes | None) -> None:
    """Lilya sends nothing more for the HEAD of a file: there is no body. A GET has one."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "headers": [] if length is None else [(b"content-length", length)]})

    async def main() -> None:
        async with hosting(app, loop, lifespan="off", drop_extensions="http.response.pathsend") as served:
            answered = await ask(served, version, method="HEAD")
            assert (answered.status, answered.body, answered.ended) == (200, b"", True)
            assert answered.header(b"content-length") == length
            assert (await ask(served, version)).status == 500

    with capture_logs() as logs:
        run(main)
    assert [each["method"] for each in errors(logs)] == ["GET"]


@each
def test_asgi_11_each_piece_is_sent_before_send_returns(loop: str, version: str) -> None:
    """The client answers each piece: whoever holds one back waits for ever."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        for number in range(3):
            await send({**MORE, "body": b"%d" % number})
            assert (await receive())["body"] == b"%d" % number
        await send({"type": "http.response.body"})

    async def main() -> None:
        async with (
            hosting(app, loop, lifespan="off") as served,
            conversing(served, version) as conversation,
        ):
            await conversation.begin(method="POST", body=True)
            for size in range(1, 4):
                await conversation.until(partial(has_size, size))
                await conversation.send_body(b"%d" % (size - 1), end=False)
            await conversation.send_body(b"")
            assert (await conversation.answer()).body == b"012"

    run(main)


def has_size(size: int, answered: Answered) -> bool:
    return len(answered.body) == size


@each
def test_asgi_11_send_waits_for_a_slow_client(loop: str, version: str) -> None:
    """What the kernel and the windows hold is less than all of it (complaint 57)."""
    sent = 0
    size = 64 * 1024

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send(START)
        while sent < 1000 * size:
            await send({**MORE, "body": bytes(size)})
            sent += size

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served, conversing(served, version) as conversation:
            await conversation.begin()
            before = -1
            while sent != before:  # until it stands still
                before = sent
                await pass_time(0.2)
            assert sent < 500 * size

    run(main)


@both_loops
def test_asgi_11_messages_of_several_tasks_follow_each_other(loop: str) -> None:
    """Heartbeats beside a stream, for instance: all wait for the client in turn, none fails, none is torn."""
    size, count = 40_000, 20
    letters = (b"a", b"b", b"c", b"d", b"e")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def produce(letter: bytes) -> None:
            for _ in range(count):
                await send({**MORE, "body": letter * size})

        await send(START)
        async with anyio.create_task_group() as tasks:
            for letter in letters:
                tasks.start_soon(produce, letter)
        await send({"type": "http.response.body"})

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            body = (await ask(served, "2")).body
        pieces = [body[start : start + size] for start in range(0, len(body), size)]
        assert sorted(pieces) == [letter * size for letter in letters for _ in range(count)]
        assert have_turns([piece[:1] for piece in pieces])

    run(main)


def have_turns(senders: list[bytes]) -> bool:
    """Whether none of them gets ahead of the others, in what they have sent."""
    return all(
        max(counts) - min(counts) <= 2
        for end in range(len(senders))
        for counts in [[senders[:end].count(each) for each in set(senders)]]
    )


@both_loops
def test_asgi_11_message_that_waits_for_its_turn_is_cancelled(loop: str) -> None:
    """Those before and behind it are sent."""
    size = 70_000  # more than the window
    cancelled: list[bool] = []
    ready = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def produce(letter: bytes) -> None:
            with anyio.CancelScope() as scopes[letter]:
                await send({**MORE, "body": letter * size})
            cancelled.append(scopes[letter].cancelled_caught)

        scopes: dict[bytes, anyio.CancelScope] = {}
        await send(START)
        async with anyio.create_task_group() as tasks:
            for letter in (b"a", b"b", b"c"):
                tasks.start_soon(produce, letter)
                for _ in range(3):  # until it waits
                    await anyio.lowlevel.checkpoint()
            scopes[b"b"].cancel()
            while not cancelled:
                await anyio.lowlevel.checkpoint()
            ready.set()
        await send({"type": "http.response.body"})

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served, conversing(served, "2") as conversation:
            await conversation.begin()
            await ready.wait()
            assert (await conversation.answer()).body == b"a" * size + b"c" * size

    run(main)
    assert cancelled == [True, False, False]


@each
def test_asgi_11_messages_behind_the_last_are_ignored(loop: str, version: str) -> None:
    ended = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in (START, BODY, BODY, START, MORE):
            await send(message)
        ended.set()

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            assert (await ask(served, version)).body == b"ok"
            await ended.wait()

    run(main)


# --- WebSockets


class Sockets:
    """An application that does *act* with each WebSocket; it keeps their scopes."""

    def __init__(self, act: Callable[[Any, Any], Awaitable[None]]) -> None:
        self._act = act
        self.scopes: list[Any] = []
        self.ended = trio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        assert await receive() == {"type": "websocket.connect"}  # ASGI-15
        try:
            await self._act(receive, send)
        finally:
            self.ended.set()


ACCEPT: Final = {"type": "websocket.accept"}


@each
def test_asgi_14_websocket_scope(loop: str, version: str) -> None:
    async def act(receive: Any, send: Any) -> None:
        await send(ACCEPT)

    app = Sockets(act)

    async def main() -> None:
        async with hosting(app, loop, lifespan="off", mount="/m") as served:
            fields = [("sec-websocket-protocol", "a, b"), ("sec-websocket-protocol", "C")]
            async with websocket(served, version, "/m/chat%20room?q=1", *fields) as (client, _):
                await client.receive_close()

    run(main)
    (scope,) = app.scopes
    assert scope["client"][0] == "127.0.0.1"
    assert (b"host", b"example.com" if version == "1.1" else b"a") in scope["headers"]
    for key in ("headers", "client", "server", "extensions"):
        del scope[key]
    assert scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": version,
        "scheme": "ws",
        "path": "/m/chat room",
        "raw_path": b"/m/chat%20room",
        "query_string": b"q=1",
        "root_path": "/m",
        "subprotocols": ["a", "b", "C"],
        "state": {},
    }


@each
def test_asgi_15_close_before_accept_is_403(loop: str, version: str) -> None:
    received: list[Any] = []

    async def act(receive: Any, send: Any) -> None:
        await send({"type": "websocket.close"})
        received.append(await receive())
        with pytest.raises(OSError, match="closed"):
            await send(ACCEPT)

    app = Sockets(act)

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            answered = await refused_websocket(served, version)
            assert (answered.status, answered.body, answered.ended) == (403, b"", True)
            await app.ended.wait()

    with capture_logs() as logs:
        run(main)
    assert [message["type"] for message in received] == ["websocket.disconnect"]
    assert errors(logs) == []


def tried(send: Any, wrong: list[tuple[dict[str, Any], type[Exception]]], raised: list[Any]) -> Any:
    """Send each of *wrong*, and keep what that raises."""

    async def trying() -> None:
        for message, _ in wrong:
            try:
                await send(message)
            except Exception as error:
                raised.append(type(error))

    return trying()


NO_ANSWERS: Final[list[tuple[dict[str, Any], type[Exception]]]] = [
    ({"type": "websocket.send", "text": "x"}, RuntimeError),
    ({"type": "websocket.http.response.body"}, RuntimeError),
    ({"type": "websocket.unknown"}, ValueError),
    ({"type": "http.response.start", "status": 200}, ValueError),
    ({"type": "websocket.accept", "subprotocol": "not offered"}, ValueError),
    ({"type": "websocket.accept", "headers": [("a", b"b")]}, TypeError),
    ({}, KeyError),
]


@each
def test_asgi_15_nothing_but_an_answer_comes_first(loop: str, version: str) -> None:
    """ASGI-3 for WebSockets: the handshake, which may still be answered."""
    raised: list[type[Exception]] = []

    async def act(receive: Any, send: Any) -> None:
        await tried(send, NO_ANSWERS, raised)
        await send(ACCEPT)

    async def main() -> None:
        async with (
            hosting(Sockets(act), loop, lifespan="off") as served,
            websocket(served, version) as (client, _),
        ):
            assert (await client.receive_close())[0] == 1000

    run(main)
    assert raised == [error for _, error in NO_ANSWERS]


@each
def test_asgi_16_accept(loop: str, version: str) -> None:
    """Subprotocol and fields; what belongs to the handshake is not the application's."""

    async def act(receive: Any, send: Any) -> None:
        with pytest.raises(ValueError, match="Sec-WebSocket-Protocol"):
            await send({**ACCEPT, "headers": [(b"Sec-WebSocket-Protocol", b"b")]})
        await send({**ACCEPT, "subprotocol": "b", "headers": [(b"x-a", b"1")]})

    async def main() -> None:
        async with (
            hosting(Sockets(act), loop, lifespan="off") as served,
            websocket(served, version, "/", ("sec-websocket-protocol", "a, b")) as (client, fields),
        ):
            assert [value for name, value in fields if name == b"sec-websocket-protocol"] == [b"b"]
            assert (b"x-a", b"1") in fields
            await client.receive_close()

    run(main)


@each
def test_asgi_17_messages(loop: str, version: str) -> None:
    """Exactly one of text and bytes; fragments are one message, and pings are answered."""
    received: list[Any] = []

    async def act(receive: Any, send: Any) -> None:
        await send(ACCEPT)
        for _ in range(2):
            received.append(await receive())
            await send({**received[-1], "type": "websocket.send"})
        await send({"type": "websocket.send", "text": None, "bytes": b"both keys"})

    async def main() -> None:
        async with (
            hosting(Sockets(act), loop, lifespan="off") as served,
            websocket(served, version) as (client, _),
        ):
            await client.send("te", finished=False)
            await client.send_event(Ping(b"p"))
            assert (await client.next_event()).payload == b"p"
            await client.send("xt")
            assert await client.receive() == "text"
            await client.send(b"\0\xff")
            assert await client.receive() == b"\0\xff"
            assert await client.receive() == b"both keys"

    run(main)
    assert [(message.get("text"), message.get("bytes")) for message in received] == [
        ("text", None),
        (None, b"\0\xff"),
    ]


@each
def test_asgi_17_server_sends_pings(loop: str, version: str) -> None:
    async def act(receive: Any, send: Any) -> None:
        await send(ACCEPT)
        await receive()

    async def main() -> None:
        settings = {"ping_interval": "50ms", "ping_timeout": "1m"}
        async with (
            hosting(Sockets(act), loop, lifespan="off", websocket=settings) as served,
            websocket(served, version) as (client, _),
        ):
            assert isinstance(await client.next_event(), Ping)

    run(main)


WRONG: Final[list[tuple[dict[str, Any], type[Exception]]]] = [
    ({"type": "websocket.send"}, ValueError),
    ({"type": "websocket.send", "text": "a", "bytes": b"b"}, ValueError),
    ({"type": "websocket.send", "text": b"a"}, TypeError),
    ({"type": "websocket.send", "bytes": "a"}, TypeError),
    ({"type": "websocket.accept"}, RuntimeError),
    ({"type": "websocket.http.response.start", "status": 200}, RuntimeError),
    ({"type": "websocket.close", "code": "1000"}, TypeError),
    ({"type": "websocket.close", "code": 99}, ValueError),
    ({"type": "websocket.unknown"}, ValueError),
]


@each
def test_asgi_17_misuse_of_send_raises(loop: str, version: str) -> None:
    """ASGI-3 for WebSockets; the connection goes on."""
    raised: list[type[Exception]] = []

    async def act(receive: Any, send: Any) -> None:
        await send(ACCEPT)
        await tried(send, WRONG, raised)
        await send({"type": "websocket.send", "text": "still here"})

    async def main() -> None:
        async with (
            hosting(Sockets(act), loop, lifespan="off") as served,
            websocket(served, version) as (client, _),
        ):
            assert await client.receive() == "still here"

    run(main)
    assert raised == [error for _, error in WRONG]


@each
@pytest.mark.parametrize(
    ("sent", "told"),
    [((1001, "bye"), (1001, "bye")), ((4000, None), (4000, "")), ((None, None), (1005, ""))],
    ids=["code and reason", "code", "neither"],
)
def test_asgi_18_client_closes(loop: str, version: str, sent: Any, told: tuple[int, str]) -> None:
    received: list[Any] = []

    async def act(receive: Any, send: Any) -> None:
        await send(ACCEPT)
        received.append(await receive())
        with pytest.raises(OSError, match="closed"):  # ASGI-4
            await send({"type": "websocket.send", "text": "too late"})

    app = Sockets(act)

    async def main() -> None:
        async with (
            hosting(app, loop, lifespan="off") as served,
            websocket(served, version) as (client, _),
        ):
            await client.close(*sent)
            await app.ended.wait()

    with capture_logs() as logs:
        run(main)
    assert received == [{"type": "websocket.disconnect", "code": told[0], "reason": told[1]}]
    assert errors(logs) == []


@each
@pytest.mark.parametrize(
    ("keys", "code", "reason"),
    [({}, 1000, ""), ({"code": 4001, "reason": "why"}, 4001, "why"), ({"reason": None}, 1000, "")],
)
def test_asgi_18_application_closes(
    loop: str, version: str, keys: dict[str, Any], code: int, reason: str
) -> None:
    async def act(receive: Any, send: Any) -> None:
        await send(ACCEPT)
        await send({"type": "websocket.close", **keys})
        assert (await receive())["type"] == "websocket.disconnect"

    async def main() -> None:
        async with (
            hosting(Sockets(act), loop, lifespan="off") as served,
            websocket(served, version) as (client, _),
        ):
            assert await client.receive_close() == (code, reason)

    run(main)


@each
def test_asgi_18_connection_is_lost(loop: str, version: str) -> None:
    """1006; the application has the grace to end, and its sends raise (complaint 53)."""
    received: list[Any] = []

    async def act(receive: Any, send: Any) -> None:
        await send(ACCEPT)
        received.append(await receive())
        with pytest.raises(OSError, match="closed"):
            await send({"type": "websocket.send", "text": "too late"})

    app = Sockets(act)

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            async with websocket(served, version):
                pass
            await app.ended.wait()

    with capture_logs() as logs:
        run(main)
    assert [(message["type"], message["code"]) for message in received] == [("websocket.disconnect", 1006)]
    assert errors(logs) == []


# --- clients that leave a WebSocket


async def closes(client: WebSocket) -> None:
    """... and leaves it to the server to end the connection (RFC 6455 7.1.1)."""
    await client.send_event(CloseConnection(1000))


async def ends(client: WebSocket) -> None:
    await client.stream.send_eof()


async def ends_unread(client: WebSocket) -> None:
    """The end is behind more messages than are taken ahead of the application."""
    await client.stream.send_all(MESSAGE * (2 * QUEUED_MESSAGES))
    await client.stream.send_eof()


async def breaks(client: WebSocket) -> None:
    stream: Any = client.stream
    if isinstance(stream, trio.SocketStream):
        reset(stream)
    else:
        await stream.reset()


MESSAGE: Final = b"\x81\x81\0\0\0\0x"


def leaving_websocket(
    act: Callable[[Any, Any], Awaitable[None]],
    loop: str,
    version: str,
    leave: Callable[[WebSocket], Awaitable[None]],
    grace: str,
) -> list[Any]:
    """What is logged while the client of an application that does *act* leaves, until that has ended."""
    app = Sockets(act)

    async def main() -> None:
        timeouts = {"disconnect_grace": grace}
        async with (
            hosting(app, loop, lifespan="off", whole={"timeouts": timeouts}) as served,
            websocket(served, version) as (client, _),
        ):
            await leave(client)
            await app.ended.wait()

    with capture_logs() as logs:
        run(main)
    return logs


@both_loops
def test_asgi_17_messages_of_several_tasks_follow_each_other(loop: str) -> None:
    """As ASGI-11 has it for HTTP."""
    size, count = 70_000, 20  # more than the window
    letters = (b"a", b"b", b"c", b"d", b"e")

    async def act(receive: Any, send: Any) -> None:
        async def produce(letter: bytes) -> None:
            for _ in range(count):
                await send({"type": "websocket.send", "bytes": letter * size})

        await send(ACCEPT)
        async with anyio.create_task_group() as tasks:
            for letter in letters:
                tasks.start_soon(produce, letter)

    async def main() -> None:
        async with (
            hosting(Sockets(act), loop, lifespan="off") as served,
            websocket(served, "2") as (client, _),
        ):
            pieces = [await client.receive() for _ in range(count * len(letters))]
        assert sorted(pieces) == [letter * size for letter in letters for _ in range(count)]
        senders = [piece[:1] for piece in pieces]
        # Who ends its wait first may send more in its turn.
        places = [[place for place, sender in enumerate(senders) if sender == each] for each in letters]
        assert max(of_one[2] for of_one in places) < min(of_one[-1] for of_one in places)

    run(main)


@each
@pytest.mark.parametrize("leave", [closes, ends, ends_unread, breaks])
def test_asgi_18_who_never_receives_is_cancelled_after_the_grace(
    loop: str, version: str, leave: Callable[[WebSocket], Awaitable[None]]
) -> None:
    """As ASGI-12 has it for HTTP."""

    async def act(receive: Any, send: Any) -> None:
        await send(ACCEPT)
        await anyio.sleep_forever()

    assert errors(leaving_websocket(act, loop, version, leave, "50ms")) == []


@each
@pytest.mark.parametrize("leave", [closes, ends, breaks])
def test_asgi_4_send_raises_an_oserror_when_the_client_of_a_websocket_has_gone(
    loop: str, version: str, leave: Callable[[WebSocket], Awaitable[None]]
) -> None:
    """... to an application that never receives."""
    raised: list[BaseException] = []

    async def act(receive: Any, send: Any) -> None:
        await send(ACCEPT)
        try:
            while True:
                await send({"type": "websocket.send", "text": ""})
        except BaseException as error:
            raised.append(error)
            raise

    assert errors(leaving_websocket(act, loop, version, leave, "1m")) == []
    (error,) = raised
    assert isinstance(error, OSError)


@both_loops
def test_asgi_18_client_breaks_off_while_it_is_accepted(loop: str) -> None:
    """Nobody may have heard of it before the answer to the handshake fails, in the call or after it."""

    async def main() -> None:
        timeouts = {"disconnect_grace": "50ms"}
        async with (
            hosting(app, loop, lifespan="off", whole={"timeouts": timeouts}) as served,
            served.connecting() as stream,
        ):
            clients.append(stream)
            await stream.send_all(offer())
            await app.ended.wait()

    clients: list[trio.SocketStream] = []

    async def talk(send: Any) -> None:
        await send(ACCEPT)
        while True:
            await anyio.lowlevel.checkpoint()
            await send({"type": "websocket.send", "text": "x"})

    async def act(receive: Any, send: Any) -> None:
        reset(clients[0])
        with pytest.raises(OSError, match="disconnected"):
            await talk(send)
        await anyio.sleep_forever()

    app = Sockets(act)
    with capture_logs() as logs:
        run(main)
    assert errors(logs) == []


@both_loops
def test_asgi_18_who_still_takes_messages_has_the_grace_anew(loop: str) -> None:
    """What has come before the client left is the application's, however slowly it takes it."""
    received: list[Any] = []
    grace = 1.5

    async def act(receive: Any, send: Any) -> None:
        await send(ACCEPT)
        while (message := await receive())["type"] != "websocket.disconnect":
            received.append(message["text"])
            due = anyio.current_time() + grace / QUEUED_MESSAGES  # twice the grace in all
            while anyio.current_time() < due:
                await anyio.lowlevel.checkpoint()
        received.append(message["code"])

    assert errors(leaving_websocket(act, loop, "1.1", ends_unread, f"{grace}s")) == []
    assert received == [*("x" * 2 * QUEUED_MESSAGES), 1006]


# --- WSGI


@each
def test_asgi_23_variables_of_wsgi(loop: str, version: str) -> None:
    """As asgiref makes them of the scope."""
    environs: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        wsgi: Any = WsgiToAsgiInstance(None)  # type: ignore[no-untyped-call]
        wsgi.scope = scope
        environs.append(wsgi.build_environ(scope, io.BytesIO()))
        await answer_ok(scope, receive, send)

    async def main() -> None:
        async with hosting(app, loop, lifespan="off", mount="/m") as served:
            await ask(served, version, "/m/x/y?q")
            await ask(served, version, "/m")

    run(main)
    assert [(each["SCRIPT_NAME"], each["PATH_INFO"], each["QUERY_STRING"]) for each in environs] == [
        ("/m", "/x/y", "q"),
        ("/m", "", ""),
    ]
