"""AJP backends through the whole gateway: what a container is told, how it gets the body, when connections
are used again, and what comes of containers that misbehave."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from gateway.protocols.ajp import AjpServer
from gateway.protocols.ajp.packets import CPONG_PACKET
from gateway.protocols.ajp.response import encode_chunks, encode_end, encode_get_body, encode_head
from gateway.protocols.events import (
    NEED_DATA,
    Data,
    EndOfMessage,
    RequestEvent,
    RequestVariables,
    ResponseHead,
)
from tests.gateway.served import (
    Behaviour,
    Response,
    ScriptedBackend,
    Served,
    backend,
    chunked,
    gateway_of,
    read_until,
    reset,
    response,
    responses,
    run,
    until,
    unused_port,
)

pytestmark = pytest.mark.usefixtures("quick_sweeper")


async def next_event(stream: trio.SocketStream, codec: AjpServer) -> RequestEvent | None:
    """The next event of a request; None when the connection has ended."""
    while (event := codec.next_event()) is NEED_DATA:
        if asked_for := codec.data_to_send():
            await stream.send_all(asked_for)
        if not (data := await stream.receive_some(65536)):
            return None
        codec.receive_data(data)
    return event


class Container:
    """Keeps what it was asked, and answers with the body it got."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.asked: list[Mapping[str, str]] = []
        self.bodies: list[bytes] = []
        self.serving = 0
        """Connections at the moment."""

    async def __call__(self, stream: trio.SocketStream) -> None:
        codec = AjpServer(**self.options)
        self.serving += 1
        try:
            while (event := await next_event(stream, codec)) is not None:
                if isinstance(event, RequestVariables):
                    self.asked.append(event.variables)
                    body = b""
                elif isinstance(event, Data):
                    body += event.data
                else:
                    self.bodies.append(body)
                    await stream.send_all(
                        codec.send(ResponseHead(200, [(b"content-type", b"text/plain")]))
                        + codec.send(Data(body))
                        + codec.send(EndOfMessage())
                    )
        finally:
            self.serving -= 1


Test = Callable[[Served, ScriptedBackend], Awaitable[None]]


def through(
    behave: Behaviour,
    test: Test,
    *,
    route: Mapping[str, Any] | None = None,
    clock: trio.abc.Clock | None = None,
    **options: Any,
) -> list[Any]:
    """Do *test* with a gateway in front of *behave*. Returns what was logged."""

    async def main() -> None:
        async with backend(behave) as container:
            config = {
                "backends": {"app": {"ajp": container.address, **options}},
                "routes": [{"backend": "app", **(route or {})}],
            }
            async with gateway_of(config) as served:
                await test(served, container)

    with capture_logs() as logs:
        run(main, clock=clock)
    return logs


def ask(behave: Behaviour, data: bytes, **options: Any) -> Response:
    """The answer to *data*, after which the client's connection ends."""
    received = b""

    async def test(served: Served, container: ScriptedBackend) -> None:
        nonlocal received
        received = await served.ask(data)

    through(behave, test, **options)
    return response(received)


def request(
    target: bytes = b"/",
    *fields: bytes,
    method: bytes = b"GET",
    body: bytes | None = None,
    close: bool = True,
) -> bytes:
    lines = [b"%b %b HTTP/1.1" % (method, target), b"Host: a.example:81", *fields]
    if close:
        lines.append(b"Connection: close")
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


# ---- what the container is told


def test_request_as_a_container_sees_it() -> None:
    """AJP-3, AJP-5: the target as it was sent, the client, and no SCRIPT_NAME."""
    container = Container()
    data = request(
        b"/a%20b/x;jsessionid=1?q=%20", b"X-A: 1", b"x-a: 2", b"TE: trailers", b"x_y: 1", b"Accept: t/p"
    )
    assert ask(container, data).status == 200
    (asked,) = container.asked
    port = asked["REMOTE_PORT"]
    assert asked == {
        "REQUEST_METHOD": "GET",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REQUEST_URI": "/a%20b/x;jsessionid=1?q=%20",
        "QUERY_STRING": "q=%20",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_HOST": "127.0.0.1",
        "REMOTE_PORT": port,
        "SERVER_ADDR": "127.0.0.1",
        "SERVER_NAME": "a.example",
        "SERVER_PORT": asked["SERVER_PORT"],
        "HTTP_HOST": "a.example:81",
        "HTTP_ACCEPT": "t/p",
        "HTTP_X_A": "1, 2",
    }


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        (b"/m/x%20y?q", "/x%20y?q"),
        (b"/m", "/"),
        (b"/m/a/../b%2Fc", "/b/c"),
        (b"/%6d/%C3%A4", "/%C3%A4"),
    ],
)
def test_mount_is_not_seen(target: bytes, seen: str) -> None:
    container = Container()
    ask(container, request(target), route={"mount": "/m"})
    (asked,) = container.asked
    assert (asked["REQUEST_URI"], asked["HTTP_X_FORWARDED_PREFIX"]) == (seen, "/m")


@pytest.mark.parametrize("target", [b"/shop/..;/manager", b"/x/%2e%2e%3Ba=b/y", b"/.;x/y"])
def test_dot_segments_cannot_be_hidden(target: bytes) -> None:
    """A container would take `..;` for `..`."""
    container = Container()
    assert ask(container, request(target)).status == 400
    assert container.asked == []


@pytest.mark.parametrize(
    "target", [b"/private", b"/private/x", b"/private;a=b/x", b"//private/x", b"/private;/"]
)
def test_route_that_keeps_clients_from_a_path(target: bytes) -> None:
    """As the documentation has it: a container leaves out parameters and empty segments."""
    container = Container()
    received: list[bytes] = []

    async def main() -> None:
        async with backend(container) as scripted:
            config = {
                "backends": {"app": {"ajp": scripted.address}},
                "routes": [
                    {"match": {"path": "~^/+private(;|/|$)"}, "respond": {"status": 403}},
                    {"backend": "app"},
                ],
            }
            async with gateway_of(config) as served:
                received.append(await served.ask(request(target)))
                received.append(await served.ask(request(b"/privateer;x")))

    with capture_logs():
        run(main)
    assert [response(each).status for each in received] == [403, 200]


def test_method_without_a_code() -> None:
    container = Container()
    ask(container, request(method=b"PATCH", body=b"abc"))
    assert container.asked[0]["REQUEST_METHOD"] == "PATCH"
    assert container.bodies == [b"abc"]


def test_configured_variables() -> None:
    """Those that begin with AJP_ are request attributes, as in Apache."""
    container = Container()
    variables = {"REMOTE_USER": "ä", "AJP_note": "{path}", "HTTP_X_USER": "nobody", "JVM_ROUTE": "n1"}
    ask(container, request(b"/p", b"X-User: root"), variables=variables)
    (asked,) = container.asked
    assert asked["REMOTE_USER"].encode("latin-1").decode() == "ä"
    assert (asked["AJP_note"], asked["HTTP_X_USER"], asked["JVM_ROUTE"]) == ("/p", "nobody", "n1")


def test_secret() -> None:
    """AJP-10."""
    container = Container(secret="s3")
    assert ask(container, request(), secret="s3").status == 200


@pytest.mark.parametrize(("method", "length"), [(b"POST", "0"), (b"GET", None)])
def test_length_of_no_body(method: bytes, length: str | None) -> None:
    """RFC 9110 8.6."""
    container = Container()
    ask(container, request(method=method))
    assert container.asked[0].get("CONTENT_LENGTH") == length


@pytest.mark.parametrize("packet_size", [8192, 16384])
def test_head_larger_than_a_packet_is_refused_before_connecting(packet_size: int) -> None:
    """AJP-10: nobody listens there."""

    async def main() -> None:
        config = {
            "backends": {"app": {"ajp": f"127.0.0.1:{unused_port()}", "packet_size": packet_size}},
            "routes": [{"backend": "app"}],
        }
        async with gateway_of(config) as served:
            large = await served.ask(request(b"/", b"Cookie: " + b"x" * packet_size))
            fitting = await served.ask(request(b"/", b"Cookie: " + b"x" * (packet_size - 300)))
        assert response(large).status == 431
        assert response(fitting).status == 502

    with capture_logs():
        run(main)


def test_headers_are_left_out_of_a_head_larger_than_a_packet() -> None:
    """AJP-10: with `drop_headers` it is sent, and fails for another reason."""

    async def main() -> None:
        app = {"ajp": f"127.0.0.1:{unused_port()}", "drop_headers": "cookie"}
        async with gateway_of({"backends": {"app": app}, "routes": [{"backend": "app"}]}) as served:
            found = response(await served.ask(request(b"/", b"Cookie: " + b"x" * 9000)))
        assert found.status == 502

    with capture_logs() as logs:
        run(main)
    assert [entry["variable"] for entry in logs if entry["event"] == "header dropped"] == ["HTTP_COOKIE"]


def test_head_that_just_fits() -> None:
    container = Container()
    assert ask(container, request(b"/", b"Cookie: " + b"x" * 7900)).status == 200


def test_what_ajp_cannot_say_is_the_clients_fault() -> None:
    """A variable of the configuration with something of the request in it."""
    container = Container()
    large = {"AJP_big": "{query}" * 8, "SSL_CIPHER_USEKEYSIZE": "{query}"}
    assert ask(container, request(b"/?" + b"x" * 500), variables=large).status == 400
    assert container.asked == []


# ---- the body


@pytest.mark.parametrize("size", [1, 8186, 8187, 60_000, 65536, 65537, 1_000_000])
@pytest.mark.parametrize("packet_size", [8192, 65536])
def test_upload(size: int, packet_size: int) -> None:
    """AJP-6: whether it is all here at once or comes while the container asks for it."""
    container = Container(packet_size=packet_size)
    body = bytes(range(251)) * (size // 251 + 1)
    answer = ask(container, request(method=b"PUT", body=body[:size]), packet_size=packet_size)
    assert answer.body == body[:size]
    assert container.asked[0]["CONTENT_LENGTH"] == str(size)


@pytest.mark.parametrize(("policy", "length"), [("spool", "30000"), ("stream", None)])
def test_upload_of_unknown_length(policy: str, length: str | None) -> None:
    container = Container()
    body = b"x" * 10_000
    assert ask(container, chunked(body, body, body), body=policy).body == 3 * body
    assert container.asked[0].get("CONTENT_LENGTH") == length
    assert container.asked[0].get("HTTP_TRANSFER_ENCODING") == (None if length else "chunked")


def test_upload_in_small_pieces() -> None:
    """Each goes on as soon as it is here and wanted."""
    container = Container()
    received = b""

    async def test(served: Served, _: ScriptedBackend) -> None:
        nonlocal received
        async with await served.connect() as client:
            await client.send_all(request(method=b"PUT", body=b"abcdef")[:-6])
            for piece in (b"ab", b"cd", b"ef"):
                await client.send_all(piece)
                await until(lambda: len(container.asked) == 1)
            while piece := await client.receive_some():
                received += piece

    through(container, test)
    assert response(received).body == b"abcdef"


def test_body_is_read_from_the_client_only_as_it_is_asked_for() -> None:
    """Back-pressure: what nobody asks for stays with the client, whatever the size of the upload."""
    sent = 0

    async def behave(stream: trio.SocketStream) -> None:
        codec = AjpServer()
        assert isinstance(await next_event(stream, codec), RequestVariables)
        assert isinstance(await next_event(stream, codec), Data)
        await stream.send_all(encode_head(ResponseHead(413, []), 8192) + encode_end(reuse=True))

    async def test(served: Served, _: ScriptedBackend) -> None:
        nonlocal sent
        async with await served.connect() as client:
            client.setsockopt(1, 7, 4096)  # SO_SNDBUF
            await client.send_all(request(method=b"PUT", body=b"x" * 50_000_000)[:200])
            with trio.move_on_after(5):
                async with trio.open_nursery() as nursery:

                    async def send() -> None:
                        nonlocal sent
                        try:
                            while True:
                                sent += await client.socket.send(b"x" * 65536)
                        except OSError:
                            pass

                    nursery.start_soon(send)
                    assert b" 413 " in await read_until(client, b"\r\n\r\n")
                    nursery.cancel_scope.cancel()

    through(behave, test)
    assert sent < 25_000_000


def test_answer_before_the_body_was_sent() -> None:
    """The container asks for nothing more, and its whole answer arrives."""

    async def behave(stream: trio.SocketStream) -> None:
        codec = AjpServer()
        assert isinstance(await next_event(stream, codec), RequestVariables)
        answer = codec.send(ResponseHead(403, [(b"content-length", b"100000")])) + codec.send(
            Data(b"y" * 100_000)
        )
        await stream.send_all(answer + codec.send(EndOfMessage()))
        await stream.receive_some()

    assert ask(behave, request(method=b"PUT", body=b"x" * 300_000)).body == b"y" * 100_000


def test_container_asks_beyond_the_end() -> None:
    """Get Body Chunk: an empty packet each time."""
    answers = []

    async def behave(stream: trio.SocketStream) -> None:
        codec = AjpServer()
        while await next_event(stream, codec) != EndOfMessage():
            pass
        for _ in range(2):
            await stream.send_all(encode_get_body(100))
            answers.append(await stream.receive_some())
        await stream.send_all(encode_head(ResponseHead(204, []), 8192) + encode_end(reuse=True))

    assert ask(behave, request(method=b"PUT", body=b"abc")).status == 204
    assert answers == [b"\x12\x34\0\0"] * 2


# ---- connections


def test_connection_is_used_again() -> None:
    """AJP-8."""
    container = Container()

    async def test(served: Served, scripted: ScriptedBackend) -> None:
        for number in range(3):
            body = b"x" * (number * 10_000)
            assert response(await served.ask(request(method=b"PUT", body=body))).body == body
        assert scripted.connections == 1

    through(container, test)


@pytest.mark.parametrize("reason", ["reuse 0", "idle 0"])
def test_connection_is_not_used_again(reason: str) -> None:
    async def behave(stream: trio.SocketStream) -> None:
        while await next_event(stream, codec := AjpServer()) is not None:
            assert await next_event(stream, codec) == EndOfMessage()
            await stream.send_all(
                encode_head(ResponseHead(204, []), 8192) + encode_end(reuse=reason != "reuse 0")
            )

    async def test(served: Served, scripted: ScriptedBackend) -> None:
        for _ in range(2):
            assert response(await served.ask(request())).status == 204
        assert scripted.connections == 2

    through(behave, test, pool={"idle": 0 if reason == "idle 0" else 5})


def test_signs_of_life() -> None:
    """AJP-9: only for a connection that is used again."""
    pings = 0

    async def behave(stream: trio.SocketStream) -> None:
        nonlocal pings
        codec = AjpServer()
        while True:
            event = codec.next_event()
            if event is NEED_DATA:
                replies = codec.data_to_send()
                pings += replies.count(CPONG_PACKET)
                await stream.send_all(replies)
                if not (data := await stream.receive_some()):
                    return
                codec.receive_data(data)
            elif event == EndOfMessage():
                await stream.send_all(codec.send(ResponseHead(204, [])) + codec.send(EndOfMessage()))

    async def test(served: Served, scripted: ScriptedBackend) -> None:
        for _ in range(3):
            assert response(await served.ask(request(method=b"POST", body=b"x"))).status == 204
        assert scripted.connections == 1

    through(behave, test, ping="2s")
    assert pings == 2


@pytest.mark.parametrize("instead", [b"", b"AB\0\1\x08", b"AB\0\1\x09AB\0\1\x09", b"HTTP", None])
def test_connection_without_a_sign_of_life_is_replaced(instead: bytes | None) -> None:
    """AJP-9: for a request that could not be sent again, too. None: it says nothing."""
    first = True

    async def behave(stream: trio.SocketStream) -> None:
        nonlocal first
        codec = AjpServer()
        while await next_event(stream, codec) != EndOfMessage():
            pass
        await stream.send_all(codec.send(ResponseHead(204, [])) + codec.send(EndOfMessage()))
        if not first:
            return
        first = False
        assert await stream.receive_some() == b"\x12\x34\0\1\x0a"
        if instead:
            await stream.send_all(instead)
        if instead != b"":
            assert await stream.receive_some() == b""

    async def test(served: Served, scripted: ScriptedBackend) -> None:
        for _ in range(2):
            assert response(await served.ask(request(method=b"POST", body=b"x"))).status == 204
        assert scripted.connections == 2

    assert through(behave, test, ping="50ms") == []


def test_one_silence_is_enough() -> None:
    """A request waits for one sign of life at most, however many connections are idle."""
    served_by = [0, 0, 0]
    both = trio.Event()
    pings = 0

    async def behave(stream: trio.SocketStream) -> None:
        nonlocal pings
        codec = AjpServer()
        while await next_event(stream, codec) != EndOfMessage():
            pass
        number = served_by.index(0)
        served_by[number] += 1
        if number == 1:
            both.set()
        await both.wait()
        await stream.send_all(codec.send(ResponseHead(204, [])) + codec.send(EndOfMessage()))
        if number < 2:
            while await stream.receive_some():
                pings += 1

    async def test(served: Served, scripted: ScriptedBackend) -> None:
        async def ask() -> None:
            assert response(await served.ask(request())).status == 204

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
        await ask()
        await until(lambda: scripted.open == 0)

    assert through(behave, test, ping="50ms") == []
    assert (served_by, pings) == ([1, 1, 1], 1)


def test_client_that_goes_while_a_sign_of_life_is_awaited() -> None:
    """Neither the connection nor anything else is left."""
    asked = trio.Event()

    async def behave(stream: trio.SocketStream) -> None:
        codec = AjpServer()
        while await next_event(stream, codec) != EndOfMessage():
            pass
        await stream.send_all(codec.send(ResponseHead(204, [])) + codec.send(EndOfMessage()))
        assert await stream.receive_some() == b"\x12\x34\0\1\x0a"
        asked.set()
        assert await stream.receive_some() == b""

    async def test(served: Served, scripted: ScriptedBackend) -> None:
        assert response(await served.ask(request())).status == 204
        async with await served.connect() as client:
            await client.send_all(request())
            await asked.wait()
            reset(client)
        await until(lambda: scripted.open == 0)

    through(behave, test, ping="60s")


# ---- containers that misbehave

HEAD: Final = encode_head(ResponseHead(200, [(b"content-type", b"text/plain")]), 8192)


@pytest.mark.parametrize(
    ("output", "cause", "phase"),
    [
        (b"", "connection_terminated", "first byte"),
        (HEAD[:-3], "connection_terminated", "head"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "http_protocol_error", "head"),
        (encode_chunks(b"x", 8192), "http_protocol_error", "head"),
        (encode_end(reuse=True), "http_protocol_error", "head"),
        (HEAD, "http_response_incomplete", "body"),
    ],
)
def test_container_that_misbehaves(output: bytes, cause: str, phase: str) -> None:
    async def behave(stream: trio.SocketStream) -> None:
        assert await next_event(stream, AjpServer()) is not None
        await stream.send_all(output)

    received = b""

    async def test(served: Served, scripted: ScriptedBackend) -> None:
        nonlocal received
        received = await served.ask(request())
        await until(lambda: scripted.open == 0)

    logs = through(behave, test)
    (entry,) = [entry for entry in logs if entry["event"] == "backend failed"]
    assert (entry["cause"], entry["phase"]) == (cause, phase)
    if output == HEAD:
        assert not responses(received)[0].complete
    else:
        assert response(received).status == 502


@pytest.mark.parametrize("asks", [False, True])
def test_container_that_says_nothing(asks: bool) -> None:
    """It has as long for its next word after it has asked for the body."""

    async def behave(stream: trio.SocketStream) -> None:
        codec = AjpServer()
        assert isinstance(await next_event(stream, codec), RequestVariables)
        if asks:
            assert await next_event(stream, codec) == EndOfMessage()
            await stream.send_all(encode_get_body(5))
            assert await stream.receive_some() == b"\x12\x34\0\0"
        await trio.testing.wait_all_tasks_blocked()
        clock.jump(8.0)
        await stream.receive_some()

    clock = trio.testing.MockClock(rate=1.0)
    assert ask(behave, request(), clock=clock, timeouts={"first_byte": "8s", "read": "8s"}).status == 504


def test_response_of_another_length_than_promised() -> None:
    async def behave(stream: trio.SocketStream) -> None:
        assert await next_event(stream, AjpServer()) is not None
        head = encode_head(ResponseHead(200, [(b"content-length", b"5")]), 8192)
        await stream.send_all(head + encode_chunks(b"abc", 8192) + encode_end(reuse=True))

    assert ask(behave, request()).status == 502
