"""WebSockets of ASGI applications over the real HTTP/1.1 front, with a client by wsproto."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.testing
from fastapi import FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket as StarletteSocket
from starlette.websockets import WebSocketDisconnect
from structlog.testing import capture_logs
from websockets.sync.client import connect as connect_websockets
from wsproto.events import CloseConnection, Ping, Pong

from gateway.backends.asgi.websocket.exchange import WebSocketExchange
from gateway.backends.asgi.websocket.inbox import QUEUED_MESSAGES
from gateway.backends.disconnect import ClientDisconnected
from gateway.front.service import AccessLog
from gateway.net.pump import OVERSLEPT
from gateway.protocols.websocket.server import FRAMES_AT_A_TIME
from tests.gateway.backends.asgi_harness import both_loops, cancelled_before, websocket_settings
from tests.gateway.backends.asgi_harness import serving as backend_of
from tests.gateway.freed import freed_without_the_collector
from tests.gateway.served import Served, accepting, pass_time, read_all, reset, service_of, until
from tests.gateway.websocket_client import ACCEPT, Client, offer, read_head

DISCONNECT = "websocket.disconnect"


@asynccontextmanager
async def serving(
    app: Any, loop: str, *, access_log: AccessLog | None = None, mount: str = "", **settings: Any
) -> AsyncIterator[Served]:
    """*app* behind a listening socket."""
    async with backend_of(app, loop=loop, websocket=websocket_settings(**settings)) as backend:
        service = service_of(backend._pump, backend, mount=mount, access_log=access_log)
        async with accepting(service) as served:
            yield served


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(20):
            await main()

    trio.run(bounded)


@dataclass
class Recording:
    """An application that accepts and then does *act*; it keeps what it received."""

    act: Callable[[Any, Any], Awaitable[None]] | None = None
    accept: dict[str, Any] = field(default_factory=dict)
    scope: dict[str, Any] = field(default_factory=dict)
    received: list[dict[str, Any]] = field(default_factory=list)
    raised: list[BaseException] = field(default_factory=list)
    ended: bool = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope

        async def recording_receive() -> Any:
            message = await receive()
            self.received.append(message)
            return message

        assert (await receive()) == {"type": "websocket.connect"}
        await send({"type": "websocket.accept", **self.accept})
        try:
            if self.act is not None:
                await self.act(recording_receive, send)
            else:
                while (await recording_receive())["type"] != DISCONNECT:
                    pass
        except Exception as error:
            self.raised.append(error)
            raise
        finally:
            self.ended = True


async def echo(scope: Any, receive: Any, send: Any) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        message["type"] = "websocket.send"
        await send(message)


# --- the handshake


@both_loops
def test_handshake(loop: str) -> None:
    """ASGI-14, H-12, RFC 6455 4.2.2: the scope, and a 101 with the accept value."""
    app = Recording(accept={"subprotocol": "b", "headers": [(b"X-App", b"1")]})
    logged: list[tuple[int, int]] = []

    def access_log(_request: Any, status: int, size: int, _seconds: float) -> None:
        logged.append((status, size))

    async def main() -> None:
        async with serving(app, loop, mount="/m", access_log=access_log) as served:
            async with await served.connect() as stream:
                client = await Client.open(
                    stream,
                    b"Sec-WebSocket-Protocol: a, b",
                    b"Sec-WebSocket-Protocol: C",
                    b"Origin: http://x",
                    target=b"/m/chat%20room?q=1",
                )
                assert await client.close() == (1000, "")
                assert await read_all(stream) == b""
            await until(lambda: bool(logged))
        lines = client.head.lower().split(b"\r\n")
        assert lines[0] == b"http/1.1 101 switching protocols"
        assert b"sec-websocket-accept: " + ACCEPT.lower() in lines
        for line in (
            b"connection: upgrade",
            b"upgrade: websocket",
            b"sec-websocket-protocol: b",
            b"x-app: 1",
        ):
            assert lines.count(line) == 1, line
        assert not [line for line in lines if line.startswith((b"content-length", b"transfer-encoding"))]

    run(main)
    scope = app.scope
    headers = scope.pop("headers")
    assert (b"origin", b"http://x") in headers
    assert scope.pop("client")[0] == "127.0.0.1"
    assert scope.pop("server")[0] == "127.0.0.1"
    assert set(scope.pop("extensions")) == {"websocket.http.response", "gateway.backend", "gateway.shutdown"}
    assert scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": "/m/chat room",
        "raw_path": b"/m/chat%20room",
        "query_string": b"q=1",
        "root_path": "/m",
        "subprotocols": ["a", "b", "C"],
        "state": {},
    }
    assert logged == [(101, 4)]  # the Close frame with its code


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (offer(version=b"8"), b"426"),
        (offer(key=None), b"400"),
        (offer(key=b"c2hvcnQ="), b"400"),
        (offer(key=b"not base64, not base64!!"), b"400"),
        (offer(b"/", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), b"400"),
        (offer(b"/", b"Sec-WebSocket-Version: 13"), b"426"),
    ],
)
def test_wrong_handshake(request_bytes: bytes, status: bytes) -> None:
    """RFC 6455 4.2.1, 4.4: a mistake is 400, another version 426 with the one that is spoken."""
    app = Recording()

    async def main() -> None:
        async with serving(app, "trio") as served, await served.connect() as stream:
            await stream.send_all(request_bytes)
            head, _ = await read_head(stream)
            assert head.split(b" ")[1] == status
            if status == b"426":
                lines = head.split(b"\r\n")
                # H-12: 426 carries Upgrade.
                assert {b"sec-websocket-version: 13", b"upgrade: websocket", b"connection: upgrade"} <= set(
                    lines
                )

    run(main)
    assert not app.scope


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\n"
        b"x",
    ],
)
def test_no_offer(head: bytes) -> None:
    """H-12: in HTTP/1.0, without Connection, or of something else, it is an ordinary request."""
    kinds: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        kinds.append(scope["type"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def main() -> None:
        async with serving(app, "trio") as served, await served.connect() as stream:
            await stream.send_all(head)
            answer, _ = await read_head(stream)
            assert answer.startswith(b"HTTP/1.1 204")

    run(main)
    assert kinds == ["http"]


@pytest.mark.parametrize(
    ("accept", "error"),
    [
        ({"subprotocol": "other"}, ValueError),
        ({"headers": [(b"sec-websocket-protocol", b"a")]}, ValueError),
        ({"headers": [("x", "y")]}, TypeError),
    ],
)
def test_wrong_accept(accept: dict[str, Any], error: type[Exception]) -> None:
    """ASGI-3, ASGI-16: send raises, and the client gets a 500."""
    raised: list[Exception] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        try:
            await send({"type": "websocket.accept", **accept})
        except Exception as wrong:
            raised.append(wrong)
            raise

    async def main() -> None:
        async with serving(app, "trio") as served, await served.connect() as stream:
            await stream.send_all(offer(b"/", b"Sec-WebSocket-Protocol: a"))
            with capture_logs():
                head, _ = await read_head(stream)
            assert head.startswith(b"HTTP/1.1 500 ")

    run(main)
    assert [type(each) for each in raised] == [error]


# --- refusing


@both_loops
def test_close_before_accept(loop: str) -> None:
    """ASGI-15: 403; the connection goes on as HTTP."""
    received: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.close", "code": 4000})
        received.append(await receive())
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.send", "text": "x"})

    async def main() -> None:
        async with serving(app, loop) as served, await served.connect() as stream:
            for _ in range(2):
                await stream.send_all(offer())
                head, rest = await read_head(stream)
                assert head.startswith(b"HTTP/1.1 403 ")
                assert rest == b""

    run(main)
    assert received == [{"type": DISCONNECT, "code": 1006, "reason": ""}] * 2


@both_loops
def test_denial_response(loop: str) -> None:
    """EXT-2: an HTTP response of the application's own."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"who ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"are you?"})
        assert (await receive())["type"] == DISCONNECT

    async def main() -> None:
        async with serving(app, loop) as served:
            answer = await served.ask(offer(b"/", b"Connection: close"))
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 401 ")
            assert b"content-type: text/plain" in head
            assert b"who " in body
            assert b"are you?" in body

    run(main)


@both_loops
def test_a_denial_whose_last_message_is_cancelled_leaves_whole(loop: str) -> None:
    body = bytes(8_000_000)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.http.response.start", "status": 401})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send, {"type": "websocket.http.response.body", "body": body})
            for _ in range(2):  # it has begun then, on both loops
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        assert (await receive())["type"] == DISCONNECT
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.http.response.body", "body": body})
        told.append(loop)

    async def main() -> None:
        async with serving(app, loop) as served:
            answer = await served.ask(offer() + offer(b"/", b"Connection: close"))
            head, _, received = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 401 ")
            assert received.startswith(body + b"HTTP/1.1 401 ")
            assert received.endswith(b"\r\n\r\n" + body)

    told: list[str] = []
    with capture_logs() as logs:
        run(main)
    assert told == [loop] * 2
    assert logs == []


@both_loops
def test_a_denial_of_another_length_is_a_response_of_another_length(loop: str) -> None:
    """What `send` raises for that is no second failure of the application's."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        start = {
            "type": "websocket.http.response.start",
            "status": 401,
            "headers": [(b"content-length", b"10")],
        }
        await send(start)
        await send({"type": "websocket.http.response.body", "body": b"de"})

    async def main() -> None:
        async with serving(app, loop) as served:
            assert (await served.ask(offer(b"/", b"Connection: close"))).startswith(b"HTTP/1.1 502 ")

    with capture_logs() as logs:
        run(main)
    (entry,) = (entry for entry in logs if entry["log_level"] != "debug")
    assert entry["event"] == "backend failed"
    assert "8 bytes shorter" in entry["detail"]


def test_an_application_may_go_on_behind_its_denial() -> None:
    """On asyncio, as behind any response: the connection does not wait for that."""
    ends: list[asyncio.Event] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.close"})
        if ends:
            ends[0].set()
        else:
            ends.append(asyncio.Event())
            await ends[0].wait()

    async def main() -> None:
        async with serving(app, "asyncio") as served:
            answer = await served.ask(offer() + offer(b"/", b"Connection: close"))
            assert answer.count(b"HTTP/1.1 403 ") == 2

    run(main)


@both_loops
@pytest.mark.parametrize("raises", [True, False])
def test_application_ends_before_it_accepted(loop: str, raises: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if raises:
            raise RuntimeError("on purpose")

    async def main() -> None:
        async with serving(app, loop) as served, await served.connect() as stream:
            with capture_logs() as logs:
                await stream.send_all(offer())
                head, _ = await read_head(stream)
            assert head.startswith(b"HTTP/1.1 500 ")
            assert [entry["event"] for entry in logs].count("application failed") == int(raises)

    run(main)


@both_loops
def test_client_leaves_before_it_is_answered(loop: str) -> None:
    """ASGI-18: the application is told."""
    received: list[Any] = []
    ended = False

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal ended
        received.append(await receive())
        received.append(await receive())
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.accept"})
        ended = True

    async def main() -> None:
        async with serving(app, loop) as served:
            stream = await served.connect()
            await stream.send_all(offer())
            await until(lambda: len(received) == 1)
            await stream.aclose()
            await until(lambda: ended)

    run(main)
    assert received[1] == {"type": DISCONNECT, "code": 1006, "reason": ""}


# --- messages


@both_loops
@pytest.mark.parametrize("kind", ["websocket.send", "websocket.close"])
def test_what_another_task_sends_while_one_accepts_follows(loop: str, kind: str) -> None:
    """As Quart does it, where tasks that receive and send accept with what they do first."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def accept() -> None:
            begun.set()
            await send({"type": "websocket.accept"})

        assert (await receive())["type"] == "websocket.connect"
        begun = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(accept)
            await begun.wait()
            await send({"type": kind, "text": "a", "code": 4001})
        assert (await receive())["type"] == DISCONNECT

    async def main() -> None:
        async with serving(app, loop) as served, await served.connect() as stream:
            client = await Client.open(stream)
            if kind == "websocket.send":
                assert await client.receive() == "a"
                await client.close()
            else:
                closed = await client.next_event()
                assert isinstance(closed, CloseConnection)
                assert closed.code == 4001

    run(main)


def test_an_accept_that_is_cancelled_before_it_begins_may_follow() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        accepts = asyncio.create_task(send({"type": "websocket.accept"}))
        await asyncio.sleep(0)
        accepts.cancel()
        await asyncio.wait([accepts])
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "a"})

    async def main() -> None:
        async with serving(app, "asyncio") as served, await served.connect() as stream:
            assert await (await Client.open(stream)).receive() == "a"

    # While time stands still the application goes on to its cancellation before the handshake has its turn.
    trio.run(main, clock=trio.testing.MockClock())


@both_loops
def test_who_accepts_while_another_does_is_told_so(loop: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def accept() -> None:
            try:
                await send({"type": "websocket.accept"})
            except RuntimeError as error:
                refused.append(str(error))

        assert (await receive())["type"] == "websocket.connect"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(accept)
            tasks.start_soon(accept)

    async def main() -> None:
        async with serving(app, loop) as served, await served.connect() as stream:
            client = await Client.open(stream)
            closed = await client.next_event()
            assert isinstance(closed, CloseConnection)
            assert closed.code == 1000

    refused: list[str] = []
    run(main)
    assert refused == [
        "websocket.accept was sent where only websocket.send or websocket.close is allowed",
    ]


@both_loops
@pytest.mark.parametrize("deflate", [False, True])
def test_echo(loop: str, deflate: bool) -> None:
    """ASGI-17: text, binary, fragments, an empty message, 5 MB."""
    big = bytes(range(256)) * 20_000

    async def main() -> None:
        async with serving(echo, loop) as served, await served.connect() as stream:
            client = await Client.open(stream, deflate=deflate)
            assert (b"permessage-deflate" in client.head) == deflate
            messages: list[str | bytes] = ["Grüße", b"\0\xff", "", b"", "x" * 70_000, "ä" * 300, big]
            for message in messages:
                await client.send(message)
                assert await client.receive() == message
            await client.send("a", finished=False)
            await client.send("", finished=False)
            await client.send_event(Ping(b"between"))
            await client.send("ß")
            pong = await client.next_event()
            assert isinstance(pong, Pong)
            assert pong.payload == b"between"
            assert await client.receive() == "aß"
            assert await client.close(4001, "bye") == (4001, "bye")
            assert await read_all(stream) == b""

    run(main)


@both_loops
def test_a_connection_is_gone_with_its_end(loop: str) -> None:
    """Not when somebody looks for cycles."""

    async def main() -> None:
        async with serving(echo, loop) as served, await served.connect() as stream:
            client = await Client.open(stream)
            await client.send("a")
            assert await client.receive() == "a"
            await client.close()
            await read_all(stream)

    with freed_without_the_collector(WebSocketExchange):
        run(main)


def test_compression_can_be_switched_off() -> None:
    async def main() -> None:
        async with serving(echo, "trio", compression=False) as served, await served.connect() as stream:
            client = await Client.open(stream, b"Sec-WebSocket-Extensions: permessage-deflate")
            assert b"extensions" not in client.head.lower()
            await client.send("x" * 100)
            assert await client.receive() == "x" * 100

    run(main)


@both_loops
def test_messages_behind_the_handshake(loop: str) -> None:
    """What came with the handshake in one read belongs to the WebSocket."""
    frame = b"\x81\x82\0\0\0\0hi"

    async def main() -> None:
        async with serving(echo, loop) as served, await served.connect() as stream:
            await stream.send_all(offer() + frame + frame[:3])
            head, rest = await read_head(stream)
            await stream.send_all(frame[3:])
            client = Client(stream, head, rest)
            assert [await client.receive(), await client.receive()] == ["hi", "hi"]

    run(main)


@both_loops
def test_websockets_library(loop: str) -> None:
    """The `websockets` client, with its compression, in a thread."""

    def talk(port: int) -> None:
        with connect_websockets(f"ws://127.0.0.1:{port}/", subprotocols=None) as client:
            for message in ("text", b"bytes", "long " * 5000, b"\0" * 1_000_000):
                client.send(message)
                assert client.recv() == message
            client.send(["frag", "ments"])
            assert client.recv() == "fragments"
            assert client.ping().wait(20)

    async def main() -> None:
        async with serving(echo, loop) as served:
            await trio.to_thread.run_sync(talk, served.address[1])

    run(main)


@both_loops
def test_application_that_does_not_receive_stops_the_client(loop: str) -> None:
    """Messages wait in the kernel, not in the gateway; pings are answered again once there is room."""
    go_on: list[Any] = []

    async def act(receive: Any, send: Any) -> None:
        while not go_on:
            await _turn(loop)
        while (await receive())["type"] != DISCONNECT:
            pass

    app = Recording(act)
    message = b"x" * 65536

    async def main() -> None:
        async with serving(app, loop) as served, await served.connect() as stream:
            client = await Client.open(stream)
            sent = 0

            async def flood() -> None:
                nonlocal sent
                while True:
                    await client.send(message)
                    sent += 1

            async with trio.open_nursery() as nursery:
                nursery.start_soon(flood)
                before = -1
                while sent != before:
                    before = sent
                    with trio.move_on_after(0.3):
                        await until(lambda: sent > before)  # noqa: B023
                assert 0 < sent < 400  # 25 MB would be more than kernel and queue hold
                go_on.append(True)
                await until(lambda: sent > before + 100)
                nursery.cancel_scope.cancel()
        await until(lambda: app.ended)

    run(main)


async def _turn(loop: str) -> None:
    if loop == "trio":
        await trio.lowlevel.checkpoint()
    else:
        import asyncio

        await asyncio.sleep(0)


def test_queue_of_small_messages_is_bounded() -> None:
    """No more than QUEUED_MESSAGES are taken out of the stream before the application takes one."""
    count = QUEUED_MESSAGES * 5

    async def act(receive: Any, send: Any) -> None:
        for _ in range(count):
            await send({"type": "websocket.send", "text": (await receive())["text"]})

    async def main() -> None:
        async with serving(Recording(act), "asyncio") as served, await served.connect() as stream:
            client = await Client.open(stream)
            await stream.send_all(b"\x81\x81\0\0\0\0x" * count)
            assert [await client.receive() for _ in range(count)] == ["x"] * count
            assert await client.receive_close() == (1000, "")

    run(main)


@both_loops
def test_slow_client_holds_the_application(loop: str) -> None:
    """ASGI-11: send waits for the client; what was sent arrives whole, and a ping is answered meanwhile."""
    sent = 0

    async def act(receive: Any, send: Any) -> None:
        nonlocal sent
        for _ in range(300):
            await send({"type": "websocket.send", "bytes": b"x" * 100_000})
            sent += 1

    app = Recording(act)

    async def main() -> None:
        nonlocal sent
        async with serving(app, loop) as served, await served.connect() as stream:
            client = await Client.open(stream)
            before = -1
            while sent != before:
                before = sent
                with trio.move_on_after(0.3):
                    await until(lambda: sent > before)  # noqa: B023
            assert 0 < sent < 250
            await client.send_event(Ping(b"still there?"))
            size = 0
            pong = False
            while not isinstance(event := await client.next_event(), CloseConnection):
                if isinstance(event, Pong):
                    pong = True
                else:
                    size += len(event.data)
            assert pong
            assert size == 300 * 100_000
            assert event.code == 1000

    run(main)


@both_loops
def test_cancelled_send_leaves_no_half_frame(loop: str) -> None:
    """An application that gives up waiting for a slow client may go on sending."""

    async def act(receive: Any, send: Any) -> None:
        message = {"type": "websocket.send", "bytes": b"x" * 8_000_000}
        if loop == "trio":
            with trio.move_on_after(0.1):
                await send(message)
        else:
            import asyncio

            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(send(message), 0.1)
        await send({"type": "websocket.send", "text": "after"})

    async def main() -> None:
        async with serving(Recording(act), loop) as served, await served.connect() as stream:
            client = await Client.open(stream)
            await pass_time(0.3)
            assert await client.receive() == b"x" * 8_000_000
            assert await client.receive() == "after"

    run(main)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"type": "websocket.send"}, ValueError),
        ({"type": "websocket.send", "text": "a", "bytes": b"a"}, ValueError),
        ({"type": "websocket.send", "text": b"a"}, TypeError),
        ({"type": "websocket.send", "bytes": "a"}, TypeError),
        ({"type": "websocket.sned", "text": "a"}, ValueError),
        ({"type": "websocket.accept"}, RuntimeError),
        ({"type": "websocket.http.response.start", "status": 200, "headers": []}, RuntimeError),
        ({"type": "websocket.close", "code": 1006}, ValueError),
        ({"type": "websocket.close", "code": 2999}, ValueError),
        ({"type": "websocket.close", "code": "1000"}, TypeError),
        ({"type": "websocket.close", "reason": "\ud800"}, UnicodeEncodeError),
        ({"type": "websocket.send", "text": "\ud800"}, UnicodeEncodeError),
    ],
)
def test_wrong_message(message: dict[str, Any], error: type[Exception]) -> None:
    """ASGI-3: send raises; one who lets it out closes with 1011."""

    async def act(receive: Any, send: Any) -> None:
        await send(message)

    app = Recording(act)

    async def main() -> None:
        async with serving(app, "trio") as served, await served.connect() as stream:
            with capture_logs() as logs:
                client = await Client.open(stream)
                assert await client.receive_close() == (1011, "")
                await read_all(stream)
            assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == [
                "application failed"
            ]

    run(main)
    assert [type(each) for each in app.raised] == [error]


# --- the end


def test_a_cancelled_of_another_task_is_a_failure() -> None:
    async def act(receive: Any, send: Any) -> None:
        raise await cancelled_before()

    async def main() -> None:
        async with serving(Recording(act), "trio") as served, await served.connect() as stream:
            with capture_logs() as logs:
                client = await Client.open(stream)
                assert await client.receive_close() == (1011, "")
                await read_all(stream)
            assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == [
                "application failed"
            ]

    run(main)


@both_loops
@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ((1000, ""), (1000, "")),
        ((1001, "going"), (1001, "going")),
        ((3000, "ä"), (3000, "ä")),
        ((4999, "x" * 123), (4999, "x" * 123)),
        (None, (1005, "")),
    ],
)
def test_client_closes(loop: str, sent: tuple[int, str] | None, received: tuple[int, str]) -> None:
    """ASGI-18: code and reason of the client; 1005 without a code."""
    app = Recording()

    async def main() -> None:
        async with serving(app, loop) as served, await served.connect() as stream:
            client = await Client.open(stream)
            await client.send("last")
            assert await client.close(*(sent or (None, None))) == received
            assert await read_all(stream) == b""
            await until(lambda: app.ended)

    run(main)
    assert app.received == [
        {"type": "websocket.receive", "text": "last"},
        {"type": DISCONNECT, "code": received[0], "reason": received[1]},
    ]


@both_loops
@pytest.mark.parametrize(
    ("close", "code", "reason"),
    [
        ({}, 1000, ""),
        ({"code": 1001}, 1001, ""),
        ({"code": 4000, "reason": "enough"}, 4000, "enough"),
        ({"code": 3999, "reason": None}, 3999, ""),
        ({"code": 1005}, 1005, ""),
        ({"code": 1013, "reason": "ß" * 100}, 1013, "ß" * 61),
    ],
)
def test_application_closes(loop: str, close: dict[str, Any], code: int, reason: str) -> None:
    """ASGI-18; then receive says so, and send raises."""

    async def act(receive: Any, send: Any) -> None:
        await send({"type": "websocket.close", **close})
        await receive()
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.send", "text": "late"})
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.close"})

    app = Recording(act)

    async def main() -> None:
        async with serving(app, loop) as served, await served.connect() as stream:
            client = await Client.open(stream)
            assert await client.receive_close() == (code, reason)
            assert await read_all(stream) == b""
            await until(lambda: app.ended)

    run(main)
    (message,) = app.received
    assert (message["type"], message["code"]) == (DISCONNECT, code)
    assert app.raised == []


@both_loops
def test_application_returns(loop: str) -> None:
    async def act(receive: Any, send: Any) -> None:
        await send({"type": "websocket.send", "text": "bye"})

    async def main() -> None:
        async with serving(Recording(act), loop) as served, await served.connect() as stream:
            client = await Client.open(stream)
            assert await client.receive() == "bye"
            assert await client.receive_close() == (1000, "")
            assert await read_all(stream) == b""

    run(main)


@both_loops
def test_who_asks_for_more_without_end_lets_others_have_their_turn(loop: str) -> None:
    """After websocket.disconnect."""

    async def act(receive: Any, send: Any) -> None:
        while not served_others:
            await receive()

    app = Recording(act)
    served_others: list[bool] = []

    async def main() -> None:
        async with serving(app, loop) as served:
            async with await served.connect() as stream:
                await Client.open(stream)
            await until(lambda: len(app.received) > 1)
            served_others.append(True)
            await until(lambda: app.ended)

    run(main)


@both_loops
@pytest.mark.parametrize("how", ["reset", "end"])
def test_abrupt_loss(loop: str, how: str) -> None:
    """ASGI-18: 1006; nothing is an error of the application, and send raises an OSError."""

    async def act(receive: Any, send: Any) -> None:
        while (await receive())["type"] != DISCONNECT:
            pass
        await send({"type": "websocket.send", "text": "nobody"})

    app = Recording(act)

    async def main() -> None:
        async with serving(app, loop) as served:
            stream = await served.connect()
            await Client.open(stream)
            with capture_logs() as logs:
                if how == "reset":
                    reset(stream)
                else:
                    await stream.aclose()
                await until(lambda: app.ended and not served.open)
            assert [entry for entry in logs if entry["log_level"] in ("error", "warning")] == []

    run(main)
    assert app.received == [{"type": DISCONNECT, "code": 1006, "reason": ""}]
    assert isinstance(app.raised[0], ClientDisconnected)
    assert isinstance(app.raised[0], OSError)


@both_loops
def test_sending_notices_the_loss(loop: str) -> None:
    """An application that only sends is told by send, ASGI-4."""

    async def act(receive: Any, send: Any) -> None:
        while True:
            await send({"type": "websocket.send", "bytes": b"x" * 10_000})

    app = Recording(act)

    async def main() -> None:
        async with serving(app, loop) as served:
            stream = await served.connect()
            await Client.open(stream)
            reset(stream)
            await until(lambda: app.ended)

    run(main)
    assert isinstance(app.raised[0], ClientDisconnected)


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (b"\x81\x82\0\0\0\0\xff\xff", 1007),
        (b"\x81\x02hi", 1002),  # not masked
        (b"\xc1\x80\0\0\0\0", 1002),  # a reserved bit
        (b"\x83\x80\0\0\0\0", 1002),  # an unknown opcode
        (b"\x80\x80\0\0\0\0", 1002),  # a continuation of nothing
        (b"\x09\x80\0\0\0\0", 1002),  # a ping in fragments
        (b"\x89\xfe\0\x7e\0\0\0\0", 1002),  # a ping of 126 bytes
        (b"\x88\x81\0\0\0\0a", 1002),  # half a code
        (b"\x88\x82\0\0\0\0" + struct.pack("!H", 1006), 1002),
        (b"\x88\x82\0\0\0\0" + struct.pack("!H", 2000), 1002),
        (b"\x88\x83\0\0\0\0" + struct.pack("!H", 1000) + b"\xff", 1007),
        (b"\x82\xfe\x03\xe9\0\0\0\0" + b"x" * 1001, 1009),
        (b"\x02\xfe\x02\x58\0\0\0\0" + b"x" * 600 + b"\x80\xfe\x02\x58\0\0\0\0" + b"x" * 600, 1009),
        (b"\x81\xfe\x03\xea\0\0\0\0" + "ä".encode() * 501, 1009),
    ],
)
def test_client_breaks_the_protocol(frames: bytes, code: int) -> None:
    """RFC 6455 5, 7.4.1, 8.1: the code says why, to the client and to the application."""
    app = Recording()

    async def main() -> None:
        async with serving(app, "trio", max_message=1000) as served, await served.connect() as stream:
            client = await Client.open(stream)
            await stream.send_all(frames)
            assert (await client.receive_close())[0] == code
            assert await read_all(stream) == b""
            await until(lambda: app.ended)

    run(main)
    assert app.received[-1]["code"] == code


def test_inflating_is_bounded() -> None:
    """A small frame that becomes a large message is refused with 1009."""

    async def main() -> None:
        options: dict[str, Any] = {"max_message": 100_000}
        async with serving(Recording(), "trio", **options) as served, await served.connect() as stream:
            client = await Client.open(stream, deflate=True)
            await client.send(b"\0" * 100_000)
            await client.send(b"\0" * 100_001)
            assert (await client.receive_close())[0] == 1009

    run(main)


def test_flood_of_small_frames_leaves_others_their_turns() -> None:
    """A client's pongs, or fragments, are cheap to send and not to read: others are served meanwhile."""
    app = Recording()
    turns: list[int] = []

    async def main() -> None:
        async with serving(app, "trio") as served, await served.connect() as stream:
            client = await Client.open(stream)
            sent = trio.Event()

            async def flood() -> None:
                await stream.send_all(b"\x8a\x80\0\0\0\0" * 50_000)
                await client.send("behind")
                sent.set()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(flood)
                count = 0
                while not app.received:
                    await trio.lowlevel.checkpoint()
                    count += 1
                turns.append(count)
                await sent.wait()
            await client.send_event(CloseConnection(1000))
            await until(lambda: app.ended)

    run(main)
    assert turns[0] >= 50_000 // FRAMES_AT_A_TIME


@both_loops
def test_pings(loop: str) -> None:
    """A08: pings at intervals, a pong keeps the connection, silence closes it."""
    app = Recording()

    async def main() -> None:
        options: dict[str, Any] = {"ping_interval": 0.05, "ping_timeout": 0.3}
        async with serving(app, loop, **options) as served, await served.connect() as stream:
            client = await Client.open(stream)
            for _ in range(2):
                ping = await client.next_event()
                assert isinstance(ping, Ping)
                await client.send_event(ping.response())
            ping = await client.next_event()
            assert isinstance(ping, Ping)
            await client.send_event(Pong(b"of another ping"))
            assert (await client.receive_close(answer=False))[0] == 1011
            assert await read_all(stream) == b""
            await until(lambda: app.ended)

    run(main)
    (message,) = app.received
    assert (message["type"], message["code"]) == (DISCONNECT, 1006)


@both_loops
def test_pong_that_has_come_while_the_gateway_was_stopped_is_not_late(loop: str) -> None:
    app = Recording()
    clock = trio.testing.MockClock()

    async def main() -> None:
        options: dict[str, Any] = {"ping_interval": 0.5, "ping_timeout": 0.5}
        async with serving(app, loop, **options) as served, await served.connect() as stream:
            client = await Client.open(stream)
            clock.jump(0.5)
            ping = await client.next_event()
            assert isinstance(ping, Ping)
            clock.jump(0.5 + OVERSLEPT)
            await client.send_event(ping.response())
            await client.send("x")
            await until(lambda: len(app.received) == 1)
            clock.jump(0.5)
            assert isinstance(await client.next_event(), Ping)
            await client.send_event(CloseConnection(1000))
            await until(lambda: app.ended)

    trio.run(main, clock=clock)
    assert app.received[0]["text"] == "x"


def test_client_that_does_not_answer_a_close() -> None:
    """RFC 6455 7.1.1: the connection is ended all the same."""

    async def act(receive: Any, send: Any) -> None:
        pass

    async def main() -> None:
        async with (
            serving(Recording(act), "trio", close_timeout=0.05) as served,
            await served.connect() as stream,
        ):
            client = await Client.open(stream)
            assert await client.receive_close(answer=False) == (1000, "")
            await stream.send_all(b"\x81\x81\0\0\0\0x")  # ignored
            assert await read_all(stream) == b""

    run(main)


def test_client_that_does_not_answer_a_close_when_the_daemon_stops() -> None:
    """It holds up the end for less time than another one its connection."""

    async def act(receive: Any, send: Any) -> None:
        assert (await receive())["code"] == 1012

    async def main() -> None:
        timeouts: dict[str, Any] = {"close_timeout": 3600.0, "restart_timeout": 0.05}
        async with serving(Recording(act), "trio", **timeouts) as served, await served.connect() as stream:
            client = await Client.open(stream)
            await until(lambda: any(not each.idle for each in served.open))
            for connection in list(served.open):
                connection.drain()
            assert await client.receive_close(answer=False) == (1012, "")
            assert await read_all(stream) == b""

    run(main)


@both_loops
def test_daemon_stops(loop: str) -> None:
    """1012 at once; the application is told and has the grace to end."""
    app = Recording()

    async def main() -> None:
        async with serving(app, loop) as served, await served.connect() as stream:
            client = await Client.open(stream)
            await client.send("x")
            await until(lambda: len(app.received) == 1)
            served.service.closing = True
            for connection in list(served.open):
                connection.drain()
            assert await client.receive_close() == (1012, "")
            assert await read_all(stream) == b""
            await until(lambda: app.ended)

    run(main)
    assert app.received[-1] == {"type": DISCONNECT, "code": 1012, "reason": ""}


@both_loops
def test_daemon_stops_during_the_handshake(loop: str) -> None:
    """A connection that is accepted by a daemon that stops is closed with 1012, too."""
    began = False
    go_on: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal began
        began = True
        await receive()
        while not go_on:
            await _turn(loop)
        await send({"type": "websocket.accept"})
        assert (await receive())["code"] == 1012

    async def main() -> None:
        async with serving(app, loop) as served, await served.connect() as stream:
            await stream.send_all(offer())
            await until(lambda: began)
            served.service.closing = True
            for connection in list(served.open):
                connection.drain()
            go_on.append(True)
            head, rest = await read_head(stream)
            assert await Client(stream, head, rest).receive_close() == (1012, "")

    run(main)


@both_loops
def test_grace_is_over(loop: str) -> None:
    """The handler is cancelled: what can still be said is said."""

    async def act(receive: Any, send: Any) -> None:
        await send({"type": "websocket.send", "text": "here"})
        while True:
            await _turn(loop)

    async def main() -> None:
        async with serving(Recording(act), loop) as served, await served.connect() as stream:
            client = await Client.open(stream)
            assert await client.receive() == "here"
            for connection in list(served.open):
                connection._scope.cancel()
            assert await client.receive_close(answer=False) == (1012, "")

    run(main)


# --- frameworks


def starlette_app() -> Starlette:
    async def chat(websocket: StarletteSocket) -> None:
        if "deny" in websocket.query_params:
            await websocket.send_denial_response(PlainTextResponse("no", status_code=402))
            return
        await websocket.accept(subprotocol="chat")
        try:
            async for text in websocket.iter_text():
                await websocket.send_json({"said": text})
        except WebSocketDisconnect:
            pass

    return Starlette(routes=[WebSocketRoute("/chat", chat)])


@both_loops
def test_starlette(loop: str) -> None:
    async def main() -> None:
        async with serving(starlette_app(), loop) as served:
            async with await served.connect() as stream:
                client = await Client.open(stream, b"Sec-WebSocket-Protocol: chat", target=b"/chat")
                await client.send("hello")
                assert await client.receive() == '{"said":"hello"}'
                await client.close()
            answer = await served.ask(offer(b"/chat?deny=1", b"Connection: close"))
            assert answer.startswith(b"HTTP/1.1 402 ")
            assert answer.endswith(b"no")
            answer = await served.ask(offer(b"/elsewhere", b"Connection: close"))
            assert answer.startswith(b"HTTP/1.1 403 ")

    run(main)


@both_loops
def test_fastapi(loop: str) -> None:
    app = FastAPI()

    @app.websocket("/items/{item}")
    async def item_socket(websocket: WebSocket, item: int) -> None:
        await websocket.accept()
        data = await websocket.receive_bytes()
        await websocket.send_bytes(data * item)
        await websocket.close(code=3001, reason="done")

    async def main() -> None:
        async with serving(app, loop) as served, await served.connect() as stream:
            client = await Client.open(stream, target=b"/items/3")
            await client.send(b"ab")
            assert await client.receive() == b"ababab"
            assert await client.receive_close() == (3001, "done")

    run(main)


def test_many_connections_at_once() -> None:
    async def main() -> None:
        async with serving(echo, "asyncio") as served, trio.open_nursery() as nursery:

            async def talk(number: int) -> None:
                async with await served.connect() as stream:
                    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    client = await Client.open(stream)
                    for i in range(20):
                        await client.send(f"{number} {i}")
                        assert await client.receive() == f"{number} {i}"
                    await client.close()

            for number in range(20):
                nursery.start_soon(talk, number)

    run(main)
