"""WebSockets that WSGI applications speak themselves, on the socket in their environ: by simple-websocket, or
byte by byte.
"""

import gc
import resource
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest
import simple_websocket
import trio
from structlog.testing import capture_logs

from gateway.backends.wsgi.call import ApplicationCall
from gateway.backends.wsgi.websocket import CLOSE_TIMEOUT, KEY, SocketOffer
from gateway.front.service import Timeouts
from gateway.protocols.websocket.handshake import is_key
from gateway.request import Request
from gateway.slots import Slots
from gateway.tls.context import Certificates
from tests.gateway.backends.wsgi_harness import hello, running, wait_for
from tests.gateway.freed import freed_without_the_collector
from tests.gateway.http2_client import Client as H2Client
from tests.gateway.http2_client import entering
from tests.gateway.served import (
    Served,
    accepting,
    descriptors,
    pass_time,
    pumping,
    read_all,
    read_until,
    reset,
    response,
    run,
    service_of,
    until,
)
from tests.gateway.tls.secured import certificate, client_context, tls_options
from tests.gateway.websocket_client import ACCEPT, Client, offer, read_head

Environ = dict[str, Any]
Script = Callable[[socket.socket], None]

SWITCHED = (
    b"HTTP/1.1 101 \r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\nX-Kept: 1\r\n"
    b"Sec-WebSocket-Accept: %b\r\n\r\n" % ACCEPT
)
INTERNAL_ERROR = b"\x88\x02\x03\xf3"
"""A Close frame with the code 1011."""

TROUBLE = ("warning", "error", "critical")


@asynccontextmanager
async def hosting(app: Any, *, timeouts: Timeouts | None = None, **options: Any) -> AsyncIterator[Served]:
    """*app* behind a front that accepts clients."""
    async with (
        pumping() as pump,
        running(app, pump, **options) as backend,
        accepting(service_of(pump, backend, timeouts=timeouts)) as served,
    ):
        yield served


class Sockets:
    """An application that does *act* with a WebSocket of simple-websocket, and ends as such ones do."""

    def __init__(self, act: Callable[[Any], None]) -> None:
        self._act = act
        self.environ: Environ = {}
        self.closed: list[tuple[int, str | None]] = []
        """What the client has closed with."""
        self.ended = threading.Event()

    def __call__(self, environ: Environ, start_response: Any) -> list[bytes]:
        self.environ = {name: value for name, value in environ.items() if name != KEY}
        ws = simple_websocket.Server.accept(environ)
        assert ws.mode == "gunicorn"
        try:
            self._act(ws)
            ws.close()
        except simple_websocket.ConnectionClosed as closed:
            self.closed.append((int(closed.reason), closed.message))
        finally:
            ws.thread.join()  # which closes the socket
            self.ended.set()
        raise StopIteration


def echo(ws: Any) -> None:
    while True:
        ws.send(ws.receive())


def scripted(script: Script, *, ended: threading.Event | None = None) -> Any:
    """An application that does *script* with its socket."""

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        try:
            script(environ[KEY])
        finally:
            if ended is not None:
                ended.set()
        raise StopIteration

    return app


async def opened(served: Served) -> tuple[trio.SocketStream, bytes]:
    stream = await served.connect()
    await stream.send_all(offer())
    head, rest = await read_head(stream)
    assert head.startswith(b"HTTP/1.1 101 "), head
    return stream, rest


# --- the handshake


def test_echo() -> None:
    """The messages of the client, and those that it sends with its offer; its code is answered."""
    app = Sockets(echo)
    logged: list[tuple[int, int]] = []

    def access_log(_request: Request, status: int, size: int, _seconds: float) -> None:
        logged.append((status, size))

    async def main() -> None:
        async with hosting(app, threads=1) as served:
            served.service.access_log = access_log
            for _ in range(2):  # the only thread is free again
                async with await served.connect() as stream:
                    await stream.send_all(offer() + b"\x81\x82\0\0\0\0hi")
                    head, rest = await read_head(stream)
                    assert ACCEPT in head
                    client = Client(stream, head, rest)
                    assert await client.receive() == "hi"
                    await client.send(b"\0" * 5_000_000)
                    assert await client.receive() == b"\0" * 5_000_000
                    assert await client.close(4001, "bye") == (4001, "bye")
                    assert await read_all(stream) == b""
                await wait_for(app.ended)

    with capture_logs() as logs:
        run(main)
    assert app.closed == [(4001, "bye")] * 2
    assert [status for status, _ in logged] == [101, 101]
    assert all(size > 5_000_000 for _, size in logged)
    assert [entry for entry in logs if entry["log_level"] in TROUBLE] == []


def test_the_default_timeout_of_sockets_is_not_for_it() -> None:
    """With one, what is sent would be cut wherever the client is slow."""
    seen = []

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        seen.append(environ[KEY].gettimeout())
        return hello(environ, start_response)

    async def main() -> None:
        async with hosting(app) as served, await served.connect() as stream:
            await stream.send_all(offer())
            await read_until(stream, b"Hello, world!")

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(60)
    try:
        run(main)
    finally:
        socket.setdefaulttimeout(before)
    assert seen == [None]


def test_what_the_application_sees() -> None:
    """The handshake of HTTP/1.1, and nothing that an ordinary request does not have besides."""
    app = Sockets(echo)

    async def main() -> None:
        async with hosting(app) as served, await served.connect() as stream:
            client = await Client.open(stream, b"Sec-WebSocket-Protocol: chat")
            await client.close()
            await read_all(stream)

    run(main)
    seen = app.environ
    assert (seen["HTTP_CONNECTION"], seen["HTTP_UPGRADE"]) == ("upgrade", "websocket")
    assert (seen["REQUEST_METHOD"], seen["SERVER_PROTOCOL"]) == ("GET", "HTTP/1.1")
    assert seen["HTTP_SEC_WEBSOCKET_PROTOCOL"] == "chat"


def test_over_http2() -> None:
    """RFC 8441: the application sees HTTP/1.1, with a key of the gateway's; its answer ends there."""
    app = Sockets(lambda ws: ws.send(ws.receive() * 2))

    async def main() -> None:
        async with hosting(app) as served, entering(served), await served.connect() as stream:
            client = H2Client(stream)
            await client.begin()
            stream_id = await client.request(
                "/x", ("sec-websocket-version", "13"), method="CONNECT", end=False, protocol="websocket"
            )
            answer = client.answers[stream_id]
            await client.send_body(stream_id, b"\x81\x82\0\0\0\0hi", end=False)
            await client.until(lambda: answer.body == b"\x81\x04hihi\x88\x02\x03\xe8")
            assert (answer.status, answer.header(b"sec-websocket-accept")) == (200, None)
            await client.send_body(stream_id, b"\x88\x82\0\0\0\0\x03\xe8", end=True)
            await client.until(lambda: answer.ended)
            assert answer.reset is None

    run(main)
    assert (app.environ["REQUEST_METHOD"], app.environ["SERVER_PROTOCOL"]) == ("GET", "HTTP/1.1")
    assert is_key(app.environ["HTTP_SEC_WEBSOCKET_KEY"].encode())


def test_over_tls(tmp_path: Path) -> None:
    """The application's socket is in clear text; each end is told with close_notify."""
    app = Sockets(echo)

    async def main() -> None:
        certificates = Certificates(tls_options(), [certificate(tmp_path, "localhost")])
        async with hosting(app) as served, entering(served, certificates=certificates):
            served.secure = client_context()
            async with served.connecting() as stream:
                client = await Client.open(stream)
                await client.send(b"\0" * 1_000_000)
                assert await client.receive() == b"\0" * 1_000_000
                assert await client.close(4001, "bye") == (4001, "bye")
                assert await read_all(stream) == b""
            await wait_for(app.ended)

    run(main)
    assert app.environ["wsgi.url_scheme"] == "https"
    assert app.closed == [(4001, "bye")]


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        offer().replace(b"websocket\r\n", b"x/1\r\n"),
        offer().replace(b"GET", b"POST"),
        offer().replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"keep-alive, ", b""),
    ],
    ids=["none", "another protocol", "method", "version"],
)
def test_no_offer(head: bytes) -> None:
    """A request that offers no WebSocket has no socket, and says nothing of its connection."""
    seen: list[Environ] = []

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        seen.append(environ)
        return hello(environ, start_response)

    async def main() -> None:
        async with hosting(app) as served, await served.connect() as stream:
            await stream.send_all(head)
            await read_until(stream, b"Hello, world!")

    run(main)
    assert {KEY, "HTTP_UPGRADE", "HTTP_CONNECTION"} & seen[0].keys() == set()


def pieces(environ: Environ, start_response: Any) -> Iterator[bytes]:
    hello(environ, start_response)
    yield b"Hello, "
    yield b"world!"


@pytest.mark.parametrize("app", [hello, pieces, validator(pieces)])
def test_application_that_answers_by_itself(app: Any) -> None:
    """As any other request: the offer is ignored (RFC 9110 7.8), and the connection goes on."""

    async def main() -> None:
        async with hosting(app, threads=1) as served, await served.connect() as stream:
            for _ in range(3):
                await stream.send_all(offer())
                assert (await read_until(stream, b"Hello, world!")).startswith(b"HTTP/1.1 200 OK\r\n")

    run(main)


def test_an_environ_that_is_kept_keeps_no_socket() -> None:
    """As by the traceback of an exception that became the answer (`run` counts descriptors)."""
    kept = []

    def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
        kept.append(environ)
        return iter(hello(environ, start_response))

    async def main() -> None:
        async with hosting(app) as served, await served.connect() as stream:
            await stream.send_all(offer())
            await read_until(stream, b"Hello, world!")

    run(main)
    assert KEY not in kept[0]


def test_validate_is_silent() -> None:
    """PEP 3333 lets a server have variables of its own."""
    app = Sockets(echo)

    async def main() -> None:
        async with hosting(validator(app)) as served, await served.connect() as stream:
            client = await Client.open(stream)
            await client.close()
            await read_all(stream)

    with capture_logs() as logs:
        run(main)
    assert [entry for entry in logs if entry["log_level"] in TROUBLE] == []


def fails(environ: Environ, start_response: Any) -> list[bytes]:
    raise ValueError("no")


def stops(environ: Environ, start_response: Any) -> list[bytes]:
    raise StopIteration


def closes(environ: Environ, start_response: Any) -> list[bytes]:
    environ[KEY].close()
    return hello(environ, start_response)


def shuts_down(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 101 Switch")
    sock.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("app", "status", "cause"),
    [
        (fails, 500, "application_failed"),
        (stops, 500, "application_failed"),
        (closes, 200, None),
        (
            scripted(lambda sock: sock.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")),
            502,
            "malformed",
        ),
        (scripted(lambda sock: sock.sendall(SWITCHED.replace(b"WebSocket\r", b"x/1\r"))), 502, "malformed"),
        (scripted(lambda sock: sock.sendall(b"\x81\x02hi")), 502, "malformed"),
        (scripted(lambda sock: sock.sendall(SWITCHED.replace(b"Kept: 1", b"Kept: \x01"))), 502, "malformed"),
        (scripted(lambda sock: sock.sendall(b"HTTP/1.1 101 Switch")), 502, "malformed"),
        (scripted(shuts_down), 502, "malformed"),
    ],
)
def test_application_does_not_switch(app: Any, status: int, cause: str | None) -> None:
    """What it says on the socket is a 101 for the protocol of the offer, or a failure, which is told once."""

    async def main() -> None:
        async with hosting(app) as served, await served.connect() as stream:
            await stream.send_all(offer(b"/", b"Connection: close"))
            assert response(await read_all(stream)).status == status

    with capture_logs() as logs:
        run(main)
    failed = [entry for entry in logs if entry["event"] == "backend failed"]
    assert len(failed) == (cause is not None)


# --- both ways


def test_slow_client_holds_the_application() -> None:
    """Its thread waits in `send`."""
    sent = 0

    def flood(sock: socket.socket) -> None:
        nonlocal sent
        sock.sendall(SWITCHED)
        for _ in range(300):
            sock.sendall(b"x" * 100_000)
            sent += 1

    async def main() -> None:
        async with hosting(scripted(flood)) as served:
            stream, received = await opened(served)
            before = -1
            while sent != before:
                before = sent
                with trio.move_on_after(0.3):
                    await until(lambda: sent > before)  # noqa: B023
            assert 0 < sent < 250
            async with stream:
                assert len(received + await read_all(stream)) == 300 * 100_000

    run(main)


def test_application_that_does_not_receive_stops_the_client() -> None:
    go_on, received, sent = threading.Event(), bytearray(), 0

    def wait(sock: socket.socket) -> None:
        sock.sendall(SWITCHED)
        assert go_on.wait(10)
        while data := sock.recv(65536):
            received.extend(data)

    async def main() -> None:
        nonlocal sent
        async with hosting(scripted(wait)) as served:
            stream, _ = await opened(served)
            with trio.move_on_after(0.5):
                while sent < 100_000_000:
                    await stream.send_all(b"x" * 65536)
                    sent += 65536
            assert sent < 30_000_000
            go_on.set()
            async with stream:
                await stream.send_eof()
                assert await read_all(stream) == b""

    run(main)
    assert len(received) >= sent > 0


# --- the end


@pytest.mark.parametrize("keeps", [False, True], ids=["drops", "keeps"])
def test_application_returns_without_closing_the_socket(keeps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is closed as soon as nobody has it, or after CLOSE_TIMEOUT."""
    monkeypatch.setattr("gateway.backends.wsgi.websocket.CLOSE_TIMEOUT", 0.05)
    kept: list[socket.socket] = []

    def script(sock: socket.socket) -> None:
        sock.sendall(SWITCHED + b"that was all")
        kept.extend([sock] * keeps)

    async def main() -> None:
        async with hosting(scripted(script)) as served:
            stream, rest = await opened(served)
            async with stream:
                assert rest + await read_all(stream) == b"that was all"
        kept.clear()

    run(main)


def test_client_does_not_answer_a_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """simple-websocket waits for that in a thread of its own; a client has CLOSE_TIMEOUT."""
    monkeypatch.setattr("gateway.backends.wsgi.websocket.CLOSE_TIMEOUT", 0.05)
    threads: list[threading.Thread] = []

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        ws = simple_websocket.Server.accept(environ)
        threads.append(ws.thread)
        ws.close(3001, "done")
        raise StopIteration

    async def main() -> None:
        async with hosting(app) as served, await served.connect() as stream:
            client = await Client.open(stream)
            assert await client.receive_close(answer=False) == (3001, "done")
            assert await read_all(stream) == b""
            await trio.to_thread.run_sync(threads[0].join)

    run(main)


def test_application_closes() -> None:
    def act(ws: Any) -> None:
        ws.send("last words")
        ws.close(3001, "done")
        raise simple_websocket.ConnectionClosed(1000, "")

    async def main() -> None:
        async with hosting(Sockets(act)) as served, await served.connect() as stream:
            client = await Client.open(stream)
            assert await client.receive() == "last words"
            assert await client.receive_close() == (3001, "done")
            assert await read_all(stream) == b""

    run(main)


@pytest.mark.parametrize("how", ["end", "reset"])
def test_client_goes_without_a_word(how: str) -> None:
    """The application sees the end at once; nobody has failed."""
    app = Sockets(echo)

    async def main() -> None:
        async with hosting(app) as served:
            stream = await served.connect()
            client = await Client.open(stream)
            await client.send("x")
            assert await client.receive() == "x"
            if how == "end":
                await stream.aclose()
            else:
                reset(stream)
            await wait_for(app.ended)
            await until(lambda: not served.open)

    with capture_logs() as logs:
        run(main)
    assert app.closed == [(1005, None)]
    assert [entry for entry in logs if entry["log_level"] in TROUBLE] == []


def test_client_goes_before_the_application_has_decided() -> None:
    """What it says later goes nowhere, and no descriptor is left."""
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    errors: list[type[OSError]] = []

    def script(sock: socket.socket) -> None:
        begun.set()
        assert go_on.wait(10)
        try:
            sock.sendall(SWITCHED)
        except OSError as error:
            errors.append(type(error))

    async def main() -> None:
        async with hosting(scripted(script, ended=ended)) as served:
            stream = await served.connect()
            await stream.send_all(offer())
            await wait_for(begun)
            reset(stream)
            await until(lambda: not served.open)
            go_on.set()
            await wait_for(ended)

    with capture_logs() as logs:
        run(main)
    assert errors == [BrokenPipeError]
    assert [entry for entry in logs if entry["log_level"] in TROUBLE] == []


def test_client_goes_while_it_waits_for_a_thread() -> None:
    """Its call never gets one, or a socket."""
    begun, go_on = threading.Event(), threading.Event()

    def script(sock: socket.socket) -> None:
        sock.sendall(SWITCHED)
        begun.set()
        assert go_on.wait(10)

    async def main() -> None:
        async with hosting(scripted(script), threads=1) as served:
            first, _ = await opened(served)
            await wait_for(begun)
            second = await served.connect()
            await until(lambda: len(served.open) == 2)
            before = descriptors()
            await second.send_all(offer())
            await pass_time(0.05)
            assert descriptors() <= before
            reset(second)
            await until(lambda: len(served.open) == 1)
            go_on.set()
            async with first:
                assert await read_all(first) == b""

    run(main)


def test_client_that_closes_its_side_has_its_grace() -> None:
    """An application that does not heed the end is left to itself when that is over."""
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    found: list[Any] = []

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        sock = environ[KEY]
        sock.sendall(SWITCHED)
        begun.set()
        assert go_on.wait(10)
        found.append(environ["gw.client_disconnected"]())
        found.append(sock.recv(10))
        with pytest.raises(BrokenPipeError):
            sock.sendall(b"x")
        ended.set()
        raise StopIteration

    async def main() -> None:
        async with hosting(app, timeouts=Timeouts(disconnect_grace=0.05)) as served:
            stream, _ = await opened(served)
            await stream.send_all(b"last")
            await stream.send_eof()
            assert await read_all(stream) == b""
            await stream.aclose()
            await until(lambda: not served.open)
            go_on.set()
            await wait_for(ended)

    run(main)
    assert found == [True, b"last"]


def test_application_fails() -> None:
    """The log has it, once; the client gets what was said before, and the code of a failure."""

    def script(sock: socket.socket) -> None:
        sock.sendall(SWITCHED + b"well")
        raise ValueError("no")

    async def main() -> None:
        async with hosting(scripted(script)) as served:
            stream, rest = await opened(served)
            await until(lambda: bool(logs))
            troubles.extend(entry["event"] for entry in logs)
            logs.clear()  # and with it the traceback, which keeps the socket
            async with stream:
                assert rest + await read_all(stream) == b"well" + INTERNAL_ERROR

    troubles: list[str] = []
    with capture_logs() as logs:
        run(main)
    assert [*troubles, *logs] == ["application failed"]


def test_application_fails_with_a_library_that_keeps_the_socket() -> None:
    """simple-websocket has a thread that reads: the client waits for none of CLOSE_TIMEOUT."""
    sockets: list[Any] = []

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        ws = simple_websocket.Server.accept(environ)
        sockets.append(ws)
        ws.send(ws.receive())
        raise ValueError("no")

    async def main() -> None:
        async with hosting(app) as served, await served.connect() as stream:
            client = await Client.open(stream)
            await client.send("x")
            assert await client.receive() == "x"
            with trio.fail_after(CLOSE_TIMEOUT / 2):
                assert await client.receive_close() == (1011, "")
                assert await read_all(stream) == b""
            await trio.to_thread.run_sync(sockets[0].thread.join)

    with capture_logs() as logs:
        run(main)
    assert [entry["event"] for entry in logs] == ["application failed"]


def test_framework_answers_an_exception() -> None:
    """Flask logs it, and begins a response behind the frames."""

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        environ[KEY].sendall(SWITCHED + b"well")
        start_response("500 Internal Server Error", [("Content-Length", "2")])
        return [b"no"]

    async def main() -> None:
        async with hosting(app) as served:
            stream, rest = await opened(served)
            async with stream:
                assert rest + await read_all(stream) == b"well" + INTERNAL_ERROR

    run(main)


def returns_nothing(environ: Environ, start_response: Any) -> list[bytes]:
    environ[KEY].sendall(SWITCHED + b"well")
    return []


def returns_a_response(environ: Environ, start_response: Any) -> list[bytes]:
    environ[KEY].sendall(SWITCHED + b"well")
    return hello(environ, start_response)


def generates_a_response(environ: Environ, start_response: Any) -> Iterator[bytes]:
    environ[KEY].sendall(SWITCHED + b"well")
    start_response("200 OK", [])
    yield b"no"


@pytest.mark.parametrize("app", [returns_nothing, returns_a_response, generates_a_response])
def test_response_behind_a_switch_goes_nowhere(app: Any) -> None:
    """Frameworks make one of an exception, and of the end."""

    async def main() -> None:
        async with hosting(app) as served:
            stream, rest = await opened(served)
            async with stream:
                assert rest + await read_all(stream) == b"well"

    with capture_logs() as logs:
        run(main)
    assert [entry for entry in logs if entry["log_level"] in TROUBLE] == []


@pytest.mark.usefixtures("quick_sweeper")
def test_silence() -> None:
    """`timeouts.tunnel`, as of other tunnels."""
    app = Sockets(echo)

    async def main() -> None:
        async with (
            hosting(app, tunnel_timeout=0.1) as served,
            await served.connect() as stream,
        ):
            client = await Client.open(stream)
            await client.send("x")
            assert await client.receive() == "x"
            assert await read_all(stream) == b""
            await wait_for(app.ended)

    run(main)


@pytest.mark.parametrize("when", ["before", "after"])
def test_daemon_stops(when: str) -> None:
    """The application sees the end of its client, and the client the code 1012, also if it still sends."""
    begun, go_on = threading.Event(), threading.Event()
    app = Sockets(echo)

    def waiting(environ: Environ, start_response: Any) -> list[bytes]:
        begun.set()
        assert go_on.wait(10)
        return app(environ, start_response)

    async def main() -> None:
        async with hosting(waiting) as served, await served.connect() as stream:

            def stop() -> None:
                served.service.closing = True
                for connection in list(served.open):
                    connection.drain()

            await stream.send_all(offer())
            await wait_for(begun)
            if when == "before":
                stop()
            go_on.set()
            head, rest = await read_head(stream)
            client = Client(stream, head, rest)
            if when == "after":
                await client.send("x")
                assert await client.receive() == "x"
                stop()
                await client.send("y")
            assert await client.receive_close() == (1012, "")
            assert await read_all(stream) == b""
            await wait_for(app.ended)

    run(main)
    assert app.closed == [(1005, None)]


def test_grace_is_over() -> None:
    """The handler is cancelled, and the application meets the end of its socket."""
    app = Sockets(echo)

    async def main() -> None:
        async with hosting(app) as served, await served.connect() as stream:
            client = await Client.open(stream)
            await client.send("x")
            assert await client.receive() == "x"
            for connection in list(served.open):
                connection._scope.cancel()
            assert await read_all(stream) == b""
            await wait_for(app.ended)

    run(main)


# --- threads and descriptors


def test_each_takes_a_thread() -> None:
    """They count as requests do: further ones wait in the queue, behind which there is 503."""
    slots = Slots(2, queue=1, queue_time=30.0, backend="admin", running="requests run")
    app = Sockets(echo)

    async def main() -> None:
        async with hosting(app, threads=2, slots=slots) as served:
            streams = [await served.connect() for _ in range(4)]
            clients = [await Client.open(stream) for stream in streams[:2]]
            await streams[2].send_all(offer())
            await until(lambda: slots.waiting == 1)
            await streams[3].send_all(offer(b"/", b"Connection: close"))
            assert response(await read_all(streams[3])).status == 503
            await clients[0].close()
            await streams[0].aclose()
            head, rest = await read_head(streams[2])
            clients.append(Client(streams[2], head, rest))
            for client in clients[1:]:
                await client.send("x")
                assert await client.receive() == "x"
                await client.close()
            for stream in streams[1:]:
                await stream.aclose()

    run(main)


def test_a_thread_of_one_that_is_open_is_not_stuck() -> None:
    app = Sockets(echo)

    async def main() -> None:
        async with hosting(app, stuck_after=0.04) as served, await served.connect() as stream:
            client = await Client.open(stream)
            await pass_time(0.2)
            await client.close()

    with capture_logs() as logs:
        run(main)
    assert [entry for entry in logs if entry["log_level"] in TROUBLE] == []


def test_no_room_for_the_socket() -> None:
    """503, and the next one may get it."""

    async def main() -> None:
        async with hosting(Sockets(echo)) as served, await served.connect() as stream:
            await stream.send_all(offer())  # loads what it needs
            await read_head(stream)
            async with await served.connect() as another:
                await another.send_all(b"GET / HTTP/1.1\r\n")
                await until(lambda: len(served.open) == 2)
                await pass_time(0.05)
                soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
                resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
                try:
                    await another.send_all(offer(b"/", b"Connection: close").partition(b"\r\n")[2])
                    assert response(await read_all(another)).status == 503
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    run(main)


@pytest.mark.parametrize("how", ["ends", "is cancelled", "is left by its client"])
def test_a_call_is_gone_with_its_end(how: str) -> None:
    """Not when somebody looks for cycles."""

    def script(sock: socket.socket) -> None:
        sock.sendall(SWITCHED)
        heard.append(sock.recv(1))

    async def main() -> None:
        async with hosting(scripted(script)) as served:
            stream, _ = await opened(served)
            async with stream:
                if how == "ends":
                    await stream.send_all(b"x")
                    assert await read_all(stream) == b""
                elif how == "is left by its client":
                    reset(stream)
                    await until(lambda: heard == [b""])

    heard: list[bytes] = []
    with freed_without_the_collector(ApplicationCall), freed_without_the_collector(SocketOffer):
        run(main)


def test_many() -> None:
    """Clients that come and go in all ways, many more than threads: nothing is left of them (`run`)."""
    app = Sockets(echo)

    async def main() -> None:
        async with hosting(app, threads=8) as served, trio.open_nursery() as nursery:

            async def talk(number: int) -> None:
                async with await served.connect() as stream:
                    if number % 5 == 0:
                        await stream.send_all(offer())
                        reset(stream)  # in the queue, in the handshake, behind it
                        return
                    client = await Client.open(stream)
                    for i in range(5):
                        await client.send(f"{number} {i}")
                        assert await client.receive() == f"{number} {i}"
                    if number % 5 == 1:
                        reset(stream)
                    elif number % 5 == 2:
                        await stream.send_eof()
                    elif number % 5 == 3:
                        await client.send("x" * 1_000_000)
                    else:
                        assert await client.close() == (1000, "")

            for number in range(200):
                nursery.start_soon(talk, number)

    gc.collect()
    with capture_logs() as logs:
        run(main, seconds=30)
    assert [entry for entry in logs if entry["log_level"] in TROUBLE] == []
