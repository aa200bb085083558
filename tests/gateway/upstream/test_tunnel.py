"""Upgraded connections through the gateway to HTTP and uwsgi upstreams, over sockets."""

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from gateway.backends.http import HttpBackend
from gateway.errors import BackendError, ClientGone
from gateway.protocols.events import Headers
from gateway.protocols.websocket.handshake import accept_value
from gateway.request import Duplex, Request
from tests.gateway.conftest import RecordingResponder, make_request
from tests.gateway.served import (
    Behaviour,
    Served,
    backend,
    echo,
    gateway_of,
    kernel_buffers,
    pass_time,
    read_all,
    read_until,
    reset,
    responses,
    run,
    until,
)
from tests.gateway.websocket_client import ACCEPT, Client, offer, read_head

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %b\r\nX-Kept: 1\r\n\r\n"
UPGRADE = b"GET /t HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x/1\r\n\r\n"


def config(address: str, **options: Any) -> dict[str, Any]:
    return {
        "backends": {"up": {"http": f"http://{address}", "upgrade": ["websocket", "x/1"], **options}},
        "routes": [{"backend": "up"}],
    }


def through(behave: Behaviour, talk: Callable[[Served], Awaitable[None]], **settings: Any) -> list[Any]:
    """*talk* to the gateway in front of an upstream that does *behave*; what was logged."""
    logged: list[Any] = []

    async def main() -> None:
        async with backend(behave) as upstream, gateway_of(config(upstream.address) | settings) as served:
            with capture_logs() as logs:
                await talk(served)
                await until(lambda: upstream.open == 0)
            logged.extend(logs)

    run(main, seconds=20)
    return logged


def switching(then: Behaviour) -> tuple[Behaviour, list[bytes]]:
    """An upstream that switches; and the heads of requests that it got."""
    heads: list[bytes] = []

    async def behave(stream: trio.SocketStream) -> None:
        heads.append(await read_until(stream, b"\r\n\r\n"))
        await stream.send_all(SWITCHED % b"x/1")
        await then(stream)

    return behave, heads


async def upgraded(served: Served, request: bytes = UPGRADE) -> tuple[trio.SocketStream, bytes]:
    stream = await served.connect()
    await stream.send_all(request)
    head, rest = await read_head(stream)
    assert head.startswith(b"HTTP/1.1 101 "), head
    return stream, head + b"\r\n\r\n" + rest


# --- switching


def test_heads() -> None:
    """H-1, H-12: each hop says Connection and Upgrade for itself; other fields go through."""
    behave, heads = switching(echo)

    async def talk(served: Served) -> None:
        request = UPGRADE.replace(
            b"\r\n\r\n", b"\r\nConnection: secret\r\nSecret: 1\r\nTE: trailers\r\nOther: 2\r\n\r\n"
        )
        stream, head = await upgraded(served, request)
        async with stream:
            lines = head.lower().split(b"\r\n")
            for line in (b"connection: upgrade", b"upgrade: x/1", b"x-kept: 1"):
                assert lines.count(line) == 1, head
            await stream.send_all(b"ping")
            assert await read_until(stream, b"ping") == b"ping"

    through(behave, talk)
    (head,) = heads
    lines = head.lower().split(b"\r\n")
    assert lines[0] == b"get /t http/1.1"
    assert {b"connection: upgrade", b"upgrade: x/1", b"other: 2"} <= set(lines)
    assert not [line for line in lines if line.startswith((b"te:", b"secret:", b"content-length:"))]


def test_bytes_at_the_switch() -> None:
    """What comes in one read with a head, from either side, is the tunnel's."""

    heads: list[bytes] = []

    async def behave(stream: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some(1)
        heads.append(head)
        await stream.send_all(SWITCHED % b"x/1" + b"first")
        assert await read_until(stream, b"early") == b"early"
        await stream.send_all(b"bye")

    async def talk(served: Served) -> None:
        stream, received = await upgraded(served, UPGRADE + b"early")
        async with stream:
            await stream.send_eof()
            received += await read_all(stream)
            assert received.endswith(b"\r\n\r\nfirstbye")

    through(behave, talk)
    assert heads[0].endswith(b"\r\n\r\n")  # and what came early was not sent with it


def test_status_in_the_access_log() -> None:
    """101, with the bytes that the client got."""
    logged: list[tuple[int, int]] = []
    behave, _ = switching(echo)

    def access_log(_request: Request, status: int, size: int, _seconds: float) -> None:
        logged.append((status, size))

    async def talk(served: Served) -> None:
        served.service.access_log = access_log
        stream, _ = await upgraded(served)
        async with stream:
            await stream.send_all(b"12345")
            await read_until(stream, b"12345")
            await stream.send_eof()
            await read_all(stream)
        await until(lambda: bool(logged))

    through(behave, talk)
    assert logged == [(101, 5)]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", 200),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", 403),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno", 401),
        (SWITCHED % b"other", 502),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 502),
        (b"", 502),
    ],
)
def test_upstream_does_not_switch(answer: bytes, status: int) -> None:
    """Any other answer is passed on, H-12: a switch to what was not offered is none."""

    async def behave(stream: trio.SocketStream) -> None:
        await read_until(stream, b"\r\n\r\n")
        await stream.send_all(answer)

    async def talk(served: Served) -> None:
        request = UPGRADE.replace(b"Connection: upgrade", b"Connection: upgrade, close")
        found = responses(await served.ask(request))
        assert found[-1].status == status
        if status != 502:
            assert found[-1].body == b"no"

    through(behave, talk)


@pytest.mark.parametrize(
    "request_bytes",
    [
        UPGRADE.replace(b"x/1", b"y"),
        UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"),
        UPGRADE.replace(b"Connection: upgrade\r\n", b""),
        UPGRADE.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\nhi"),
        UPGRADE.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        UPGRADE.replace(b"x/1", b"h2c").replace(
            b"upgrade\r\n", b"Upgrade, HTTP2-Settings\r\nHTTP2-Settings: x\r\n"
        ),
        UPGRADE.replace(b"GET", b"POST").replace(b"x/1", b"websocket"),
    ],
)
def test_ignored_offer(request_bytes: bytes) -> None:
    """H-12: not allowed, HTTP/1.0, not named by Connection, or with a body: an ordinary request."""
    heads: list[bytes] = []

    async def behave(stream: trio.SocketStream) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += await stream.receive_some()
        heads.append(received.partition(b"\r\n\r\n")[0].lower())
        await stream.send_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        await read_all(stream)

    async def talk(served: Served) -> None:
        async with await served.connect() as stream:
            await stream.send_all(request_bytes)
            assert (await read_until(stream, b"ok")).startswith(b"HTTP/1.1 200 ")

    through(behave, talk)
    assert b"\r\nupgrade:" not in heads[0]
    assert b"\r\nhttp2-settings:" not in heads[0]


def test_second_choice_of_the_client() -> None:
    """RFC 9110 7.8: WebSocket goes first; with another method than GET it is none."""
    behave, heads = switching(echo)

    async def talk(served: Served) -> None:
        request = UPGRADE.replace(b"x/1", b"websocket, X/1").replace(b"GET", b"POST")
        stream, _ = await upgraded(served, request)
        await stream.aclose()

    through(behave, talk)
    assert heads[0].startswith(b"POST /t ")


def test_not_a_reused_connection() -> None:
    """A tunnel gets a connection of its own, and leaves none behind."""
    connections = 0

    async def behave(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        while True:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                piece = await stream.receive_some()
                if not piece:
                    return
                head += piece
            if b"upgrade" in head:
                await stream.send_all(SWITCHED % b"x/1")
                await echo(stream)
                return
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async def talk(served: Served) -> None:
        for _ in range(2):
            async with await served.connect() as stream:
                await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                await read_until(stream, b"ok")
            tunnel, _ = await upgraded(served)
            await tunnel.aclose()
            await until(lambda: not served.open)
        assert connections == 3  # two tunnels, and one for the plain requests

    async def main() -> None:
        async with backend(behave) as upstream, gateway_of(config(upstream.address)) as served:
            await talk(served)

    run(main)


# --- both ways


def test_half_close_of_the_client() -> None:
    """The end of one side is passed on, and the other goes on."""

    async def then(stream: trio.SocketStream) -> None:
        received = await read_all(stream)
        await stream.send_all(b"got " + received)

    behave, _ = switching(then)

    async def talk(served: Served) -> None:
        stream, _ = await upgraded(served)
        async with stream:
            await stream.send_all(b"all")
            await stream.send_eof()
            assert await read_all(stream) == b"got all"

    through(behave, talk)


def test_half_close_of_the_upstream() -> None:
    received = b""

    async def then(stream: trio.SocketStream) -> None:
        nonlocal received
        await stream.send_all(b"that was all")
        await stream.send_eof()
        received = await read_all(stream)

    behave, _ = switching(then)

    async def talk(served: Served) -> None:
        stream, head = await upgraded(served)
        async with stream:
            rest = head.partition(b"\r\n\r\n")[2]
            assert rest + await read_all(stream) == b"that was all"
            await stream.send_all(b"late")
            await stream.send_eof()
            await until(lambda: received == b"late")

    through(behave, talk)


def test_half_closed_client_outlives_the_disconnect_grace() -> None:
    """In a tunnel the end of the client's side is not a client that left."""
    go_on = trio.Event()

    async def then(stream: trio.SocketStream) -> None:
        await read_all(stream)
        await go_on.wait()
        await stream.send_all(b"late")

    behave, _ = switching(then)

    async def talk(served: Served) -> None:
        stream, _ = await upgraded(served)
        async with stream:
            await stream.send_eof()
            await pass_time(0.6)
            go_on.set()
            assert await read_all(stream) == b"late"

    through(behave, talk, timeouts={"disconnect_grace": "50ms"})


def test_much_both_ways_at_once() -> None:
    """20 MB each way, with back-pressure."""
    size = 20_000_000
    block = bytes(range(256)) * 256

    async def flood(stream: trio.SocketStream) -> None:
        sent = 0
        while sent < size:
            await stream.send_all(block)
            sent += len(block)
        await stream.send_eof()

    async def count(stream: trio.SocketStream) -> int:
        total = 0
        async for data in stream:
            total += len(data)
        return total

    totals: list[int] = []

    async def then(stream: trio.SocketStream) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood, stream)
            totals.append(await count(stream))

    behave, _ = switching(then)

    async def talk(served: Served) -> None:
        stream, head = await upgraded(served)
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(flood, stream)
            totals.append(len(head.partition(b"\r\n\r\n")[2]) + await count(stream))

    through(behave, talk)
    sent = -(-size // len(block)) * len(block)
    assert totals == [sent, sent]


def test_back_pressure() -> None:
    """A client that does not read stops the upstream."""
    sent, most = 0, kernel_buffers()

    async def then(stream: trio.SocketStream) -> None:
        nonlocal sent
        while sent < most:
            await stream.send_all(b"x" * 65536)
            sent += 65536

    behave, _ = switching(then)

    async def talk(served: Served) -> None:
        stream, _ = await upgraded(served)
        before = -1
        while sent != before:
            before = sent
            with trio.move_on_after(0.3):
                await until(lambda: sent > before)  # noqa: B023
        assert sent < most
        reset(stream)

    through(behave, talk)


# --- the end


def test_reset_of_the_client() -> None:
    behave, _ = switching(echo)

    async def talk(served: Served) -> None:
        stream, _ = await upgraded(served)
        reset(stream)

    logs = through(behave, talk)
    assert [entry for entry in logs if entry["log_level"] in ("error", "warning")] == []


def test_reset_of_the_upstream() -> None:
    async def then(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        reset(stream)

    behave, _ = switching(then)

    async def talk(served: Served) -> None:
        stream, _ = await upgraded(served)
        async with stream:
            await stream.send_all(b"x")
            assert await read_all(stream) == b""

    (failed,) = (entry for entry in through(behave, talk) if entry["event"] == "backend failed")
    assert (failed["cause"], failed["phase"]) == ("connection_terminated", "body")


@pytest.mark.usefixtures("quick_sweeper")
def test_idle_tunnel() -> None:
    """H04: `timeouts.tunnel` counts from the last byte either way; the ordinary timeouts do not hold."""

    async def then(stream: trio.SocketStream) -> None:
        for _ in range(6):
            await pass_time(0.1)
            await stream.send_all(b".")
        await read_all(stream)

    behave, _ = switching(then)

    async def talk(served: Served) -> None:
        stream, _ = await upgraded(served)
        async with stream:
            assert await read_all(stream) == b"......"

    through(behave, talk, timeouts={"tunnel": "300ms", "body": "50ms"})


def test_end_of_the_grace() -> None:
    """A tunnel has the grace, and is cut then; a stop that begins does not touch it."""
    behave, _ = switching(echo)

    async def talk(served: Served) -> None:
        stream, _ = await upgraded(served)
        async with stream:
            served.service.closing = True
            for connection in list(served.open):
                connection.drain()
            await stream.send_all(b"still here")
            assert await read_until(stream, b"here") == b"still here"
            for connection in list(served.open):
                connection._scope.cancel()
            assert await read_all(stream) == b""

    through(behave, talk)


# --- WebSocket


@contextmanager
def websockets_server() -> Iterator[str]:
    """An echo server by the `websockets` library, in a thread."""

    def handle(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            for message in connection:
                connection.send(message)

    with serve(handle, "127.0.0.1", 0, subprotocols=["chat"], max_size=None) as server:  # type: ignore[list-item]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join()


def test_websockets_server() -> None:
    """A06: client and server negotiate with each other: subprotocol, compression, close codes."""

    def talk(port: int) -> None:
        with connect(f"ws://127.0.0.1:{port}/", subprotocols=["chat"], max_size=None) as client:  # type: ignore[list-item]
            assert client.subprotocol == "chat"
            assert "permessage-deflate" in str(client.protocol.extensions[0].name)
            for message in ("text", b"bytes", "long " * 5000, bytes(5_000_000)):
                client.send(message)
                assert client.recv() == message
            client.close(4000, "enough")
        assert (client.close_code, client.close_reason) == (4000, "enough")

    async def main() -> None:
        async with gateway_of(config(address)) as served:
            await trio.to_thread.run_sync(talk, served.address[1])

    with websockets_server() as address:
        trio.run(main)


def test_gateway_behind_a_gateway(tmp_path: Path) -> None:
    """An HTTP backend that is a gateway with an ASGI application."""
    source = """
        async def app(scope, receive, send):
            assert scope["type"] == "http"
    """
    (tmp_path / "http_only.py").write_text(dedent(source))

    async def main() -> None:
        application = {
            "backends": {"app": {"asgi": "http_only:app", "directory": str(tmp_path), "lifespan": "off"}},
            "routes": [{"backend": "app"}],
        }
        async with gateway_of(application) as inner:
            address = f"127.0.0.1:{inner.address[1]}"
            async with gateway_of(config(address)) as outer, await outer.connect() as stream:
                await stream.send_all(offer(b"/", b"Connection: close"))
                head, _ = await read_head(stream)
                assert head.startswith(b"HTTP/1.1 500 ")

    run(main)


def test_websocket_to_a_refusing_server() -> None:
    """What is wrong with a handshake is the upstream's to say."""

    async def main() -> None:
        async with gateway_of(config(address)) as served, await served.connect() as stream:
            await stream.send_all(offer(version=b"12"))
            head, _ = await read_head(stream)
            assert head.startswith(b"HTTP/1.1 400 ")

    with websockets_server() as address:
        trio.run(main)


def test_uwsgi_upstream() -> None:
    """UW-16: the application writes the handshake itself, and raw frames behind it."""
    blocks: list[bytes] = []

    async def behave(stream: trio.SocketStream) -> None:
        received = b""
        while len(received) < 4 or len(received) < 4 + int.from_bytes(received[1:3], "little"):
            received += await stream.receive_some()
        blocks.append(received)
        head = SWITCHED.replace(b"X-Kept: 1", b"Sec-WebSocket-Accept: " + ACCEPT) % b"WebSocket"
        await stream.send_all(head + b"\x81\x02hi")
        await echo(stream)

    async def main() -> None:
        async with backend(behave) as upstream:
            configured = {
                "backends": {"up": {"uwsgi": upstream.address}},
                "routes": [{"backend": "up"}],
            }
            async with gateway_of(configured) as served, await served.connect() as stream:
                client = await Client.open(stream)
                assert await client.receive() == "hi"
                await stream.send_all(b"raw")
                assert await read_until(stream, b"raw") == b"raw"

    run(main)
    for variable in (
        b"HTTP_UPGRADE\x09\0websocket",
        b"HTTP_CONNECTION\x07\0upgrade",
        b"HTTP_SEC_WEBSOCKET_KEY",
    ):
        assert variable in blocks[0]


@pytest.mark.parametrize("kind", ["scgi", "fastcgi"])
def test_others_ignore_the_offer(kind: str) -> None:
    """They have no way to switch."""
    received = b""

    async def behave(stream: trio.SocketStream) -> None:
        nonlocal received
        received = await stream.receive_some()

    async def main() -> None:
        async with backend(behave) as upstream:
            configured = {"backends": {"up": {kind: upstream.address}}, "routes": [{"backend": "up"}]}
            async with gateway_of(configured) as served:
                answer = await served.ask(offer(b"/", b"Connection: close"))
                assert answer.startswith(b"HTTP/1.1 502 ")

    run(main)
    assert b"HTTP_UPGRADE" not in received


# --- WebSocket over HTTP/2 to an upstream of HTTP/1.1


class PipeDuplex:
    """A Duplex over a pair of sockets, as the front of HTTP/2 would give it."""

    draining = disconnected = False

    def __init__(self, stream: trio.SocketStream) -> None:
        self.on_drain: Callable[[], None] | None = None
        self.on_disconnect: Callable[[], None] | None = None
        self._stream = stream

    async def receive(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some())
        except trio.BrokenResourceError as broken:
            raise ClientGone("gone") from broken

    def try_send(self, data: bytes) -> int:
        return 0

    async def send(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def end(self) -> None:
        await self._stream.send_eof()

    def begin_grace(self) -> None:
        """Nobody is here to cancel the handler."""


class PipeUpgrade:
    """An offer as extended CONNECT makes it (RFC 8441)."""

    protocol = "websocket"

    def __init__(self, stream: trio.SocketStream) -> None:
        self.headers: Headers | None = None
        self._duplex = PipeDuplex(stream)

    @property
    def accepted(self) -> bool:
        return self.headers is not None

    async def accept(self, headers: Headers) -> Duplex:
        self.headers = headers
        return self._duplex


def from_http2(
    upstream: Behaviour, talk: Behaviour, *fields: tuple[bytes, bytes]
) -> tuple[PipeUpgrade, BaseException | None]:
    """A WebSocket request of HTTP/2, with *fields*, to *upstream*, with a client that does *talk*."""
    found: list[Any] = []

    async def main() -> None:
        async with backend(upstream) as scripted, gateway_of(config(scripted.address)) as served:
            (route,) = served.service.router.routes
            handler = route.handler
            assert isinstance(handler, HttpBackend)
            ours, theirs = trio.socket.socketpair()
            async with trio.SocketStream(ours) as gateway_side, trio.SocketStream(theirs) as client:
                offered = PipeUpgrade(gateway_side)
                request = make_request(
                    b"/chat",
                    method="CONNECT",
                    version="2",
                    headers=[
                        (b"host", b"a"),
                        (b"sec-websocket-version", b"13"),
                        (b"origin", b"http://a"),
                        *fields,
                    ],
                )
                request.upgrade = offered
                failure: BaseException | None = None
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(talk, client)
                    try:
                        await handler.handle(request, RecordingResponder())
                    except BackendError as error:
                        failure = error
                    nursery.cancel_scope.cancel()
                found.extend((offered, failure))

    run(main)
    return found[0], found[1]


@pytest.mark.parametrize("key", [[], [(b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==")]])
@pytest.mark.parametrize("right", [True, False])
def test_handshake_for_a_client_of_http2(right: bool, key: Headers) -> None:
    """H2-16, H2-17: GET with a fresh key, whose accept value is checked and not passed on.

    HAProxy in front leaves the *key* of a client of HTTP/1.1 where it is.
    """
    heads: list[bytes] = []

    async def upstream(stream: trio.SocketStream) -> None:
        head = await read_until(stream, b"\r\n\r\n")
        heads.append(head)
        (fresh,) = (
            line.partition(b": ")[2] for line in head.split(b"\r\n") if line.startswith(b"sec-websocket-key")
        )
        accept = accept_value(fresh) if right else ACCEPT
        await stream.send_all(
            (SWITCHED % b"websocket").replace(b"X-Kept", b"Sec-WebSocket-Accept: " + accept + b"\r\nX-Kept")
        )
        await echo(stream)

    async def talk(client: trio.SocketStream) -> None:
        await client.send_all(b"frames")
        assert await read_until(client, b"frames") == b"frames"
        await client.send_eof()
        assert await client.receive_some() == b""

    offered, failure = from_http2(upstream, talk, *key)
    lines = heads[0].split(b"\r\n")
    assert lines[0] == b"GET /chat HTTP/1.1"
    assert {b"connection: upgrade", b"upgrade: websocket", b"origin: http://a"} <= set(lines)
    if right:
        assert failure is None
        assert offered.headers == [(b"x-kept", b"1")]
    else:
        assert isinstance(failure, BackendError)
        assert "Sec-WebSocket-Accept" in failure.detail
        assert offered.headers is None
