"""CONNECT over HTTP/2 (RFC 9113 8.5, rules H2-15): DATA is the tunnel."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from gateway.protocols.http2 import ErrorCode
from gateway.request import Request
from gateway.upstream.tunnel import Tunnel
from tests.gateway.freed import freed_without_the_collector
from tests.gateway.http2_client import Answered, Client, entering
from tests.gateway.served import (
    Behaviour,
    ScriptedBackend,
    Served,
    backend,
    echo,
    gateway_of,
    pass_time,
    read_all,
    reset,
    run,
    until,
    unused_port,
)

LOOPBACK = "127.0.0.0/8:*"


def through(
    behave: Behaviour,
    talk: Callable[[Client, ScriptedBackend, Served], Awaitable[None]],
    *,
    settings: dict[str, int] | None = None,
    credit: bool = True,
    seconds: float = 30,
    clock: trio.abc.Clock | None = None,
    **config: Any,
) -> list[Any]:
    """*talk* to the gateway by HTTP/2 while a server does *behave*; what was logged."""
    logged: list[Any] = []

    async def main() -> None:
        routes = [{"respond": {"body": "page"}}, {"connect": LOOPBACK}]
        async with (
            backend(behave) as target,
            gateway_of({"routes": routes, **config}) as served,
            entering(served),
            await served.connect() as stream,
        ):
            with capture_logs() as logs:
                client = Client(stream, credit=credit)
                await client.begin(**(settings or {}))
                await talk(client, target, served)
                await until(lambda: target.open == 0)
            logged.extend(logs)

    run(main, seconds=seconds, clock=clock)
    return logged


async def connect(client: Client, target: str, *fields: tuple[str, str], end: bool = False) -> int:
    stream_id: int = client.h2.get_next_available_stream_id()
    client.h2.send_headers(
        stream_id, [(":method", "CONNECT"), (":authority", target), *fields], end_stream=end
    )
    client.answers[stream_id] = Answered()
    await client.flush()
    return stream_id


async def opened(client: Client, target: str, *fields: tuple[str, str]) -> tuple[int, Answered]:
    stream_id = await connect(client, target, *fields)
    got = client.answers[stream_id]
    await client.until(lambda: got.status != 0)
    assert got.status == 200, got
    return stream_id, got


def test_tunnel() -> None:
    """200 without a length; END_STREAM is FIN, both ways; other streams go on beside it."""
    logged: list[tuple[Any, ...]] = []

    def access_log(request: Request, status: int, size: int, _seconds: float) -> None:
        logged.append((request.method, request.raw_path, request.upstream_address, status, size))

    async def behave(stream: trio.SocketStream) -> None:
        data = await read_all(stream)
        await stream.send_all(data[::-1])

    async def talk(client: Client, target: ScriptedBackend, served: Served) -> None:
        served.service.access_log = access_log
        stream_id, got = await opened(client, target.address)
        assert {name for name, _ in got.headers} == {b"date", b"server"}
        await client.send_body(stream_id, b"abc", end=False)
        assert (await client.ask("/")).body == b"page"
        await client.send_body(stream_id, b"def")
        assert (await client.answer(stream_id)).body == b"fedcba"
        assert got.reset is None
        await until(lambda: len(logged) == 2)
        address = target.address
        assert logged[1] == ("CONNECT", address.encode(), address, 200, 6)

    through(behave, talk, timeouts={"body": "100ms"}, limits={"body": 1})


@pytest.mark.parametrize("how", ["resets the stream", "breaks the connection"])
def test_tunnel_that_its_client_leaves_is_freed_without_the_collector(how: str) -> None:
    async def talk(client: Client, target: ScriptedBackend, _served: Served) -> None:
        stream_id, _ = await opened(client, target.address)
        if how == "resets the stream":
            client.h2.reset_stream(stream_id)
            await client.flush()
        else:
            await client.stream.aclose()

    with freed_without_the_collector(Tunnel):
        through(echo, talk)


def test_content_of_no_bytes() -> None:
    """As over HTTP/1.1: the length is that of the request's content, and says nothing of the tunnel."""

    async def talk(client: Client, target: ScriptedBackend, _served: Served) -> None:
        stream_id, got = await opened(client, target.address, ("content-length", "0"))
        client.h2.send_data(stream_id, b"ping", end_stream=True)
        await client.flush()
        assert (await client.answer(stream_id)).body == b"ping"
        assert got.reset is None

    through(echo, talk)


def test_tunnel_that_was_used_while_the_gateway_was_stopped_is_not_silent() -> None:
    """SIGSTOP for longer than timeouts.tunnel; several times, for it is chance which task is first then."""
    clock = trio.testing.MockClock(rate=1.0)

    async def talk(client: Client, target: ScriptedBackend, _served: Served) -> None:
        stream_id, got = await opened(client, target.address)
        for number in range(16):
            clock.jump(60)
            await client.send_body(stream_id, b"x", end=False)
            await client.until(lambda: len(got.body) > number or got.reset is not None)  # noqa: B023
            assert got.reset is None
        await client.send_body(stream_id, b"")
        await client.answer(stream_id)

    assert through(echo, talk, timeouts={"tunnel": "30s"}, seconds=2000, clock=clock) == []


def test_target_that_ends_first() -> None:
    received: list[bytes] = []

    async def behave(stream: trio.SocketStream) -> None:
        await stream.send_eof()
        received.append(await read_all(stream))

    async def talk(client: Client, target: ScriptedBackend, _served: Served) -> None:
        stream_id, got = await opened(client, target.address)
        await client.until(lambda: got.ended)
        await client.send_body(stream_id, b"late")

    through(behave, talk)
    assert received == [b"late"]


def test_client_that_ends_its_side_with_its_head() -> None:
    """END_STREAM with HEADERS is a FIN behind no bytes."""

    async def behave(stream: trio.SocketStream) -> None:
        assert await read_all(stream) == b""
        await stream.send_all(b"hello")

    async def talk(client: Client, target: ScriptedBackend, _served: Served) -> None:
        got = await client.answer(await connect(client, target.address, end=True))
        assert (got.status, got.body, got.ended, got.reset) == (200, b"hello", True, None)

    through(behave, talk)


def test_flow_control() -> None:
    """What the target does not read is not acknowledged, what the client does not take is not read."""
    size = 8_000_000
    go_on = trio.Event()

    async def behave(stream: trio.SocketStream) -> None:
        await go_on.wait()
        taken = 0
        while data := await stream.receive_some(65536):
            taken += len(data)
        await stream.send_all(bytes(taken))

    async def talk(client: Client, target: ScriptedBackend, _served: Served) -> None:
        stream_id, _ = await opened(client, target.address)
        # The kernel's buffers and the windows take less than that.
        with trio.move_on_after(0.5) as giving_up:
            await client.send_body(stream_id, bytes(64_000_000))
        assert giving_up.cancelled_caught
        client.h2.reset_stream(stream_id, 8)
        await client.flush()
        go_on.set()
        stream_id, _ = await opened(client, target.address)
        await client.send_body(stream_id, bytes(size))
        assert len((await client.answer(stream_id)).body) == size

    through(behave, talk, settings={"initial_window_size": 30_000})


def test_reset_of_the_target() -> None:
    """RFC 9113 8.5: a stream error CONNECT_ERROR."""

    async def behave(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        reset(stream)

    async def talk(client: Client, target: ScriptedBackend, _served: Served) -> None:
        stream_id, got = await opened(client, target.address)
        await client.send_body(stream_id, b"x", end=False)
        await client.answer(stream_id)
        assert (got.reset, got.ended) == (ErrorCode.CONNECT_ERROR, False)
        assert (await client.ask("/")).body == b"page"

    (failed,) = (entry for entry in through(behave, talk) if entry["event"] == "tunnel failed")
    assert failed["cause"] == "connection_terminated"


def test_reset_of_the_client() -> None:
    """RFC 9113 8.5: RST_STREAM becomes a reset of the target's connection, not an end."""
    seen: list[type[Exception]] = []

    async def behave(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        try:
            await stream.receive_some()
        except trio.BrokenResourceError as error:
            seen.append(type(error))

    async def talk(client: Client, target: ScriptedBackend, _served: Served) -> None:
        stream_id, _ = await opened(client, target.address)
        await client.send_body(stream_id, b"x", end=False)
        await pass_time(0.1)
        client.h2.reset_stream(stream_id, 8)
        await client.flush()
        await until(lambda: bool(seen))

    through(behave, talk)
    assert seen == [trio.BrokenResourceError]


@pytest.mark.usefixtures("quick_sweeper")
@pytest.mark.parametrize("ends", [False, True])
def test_silence(ends: bool) -> None:
    """It ends a tunnel, also one whose target has ended its side; that is no orderly end to either side."""
    seen: list[type[Exception]] = []

    async def behave(stream: trio.SocketStream) -> None:
        if ends:
            await stream.send_eof()
        try:
            await read_all(stream)
        except trio.BrokenResourceError as error:
            seen.append(type(error))

    async def talk(client: Client, target: ScriptedBackend, _served: Served) -> None:
        _, got = await opened(client, target.address)
        await client.until(lambda: got.ended is ends)
        await trio.testing.wait_all_tasks_blocked()
        clock.jump(8.0)
        await client.until(lambda: got.reset is not None)
        assert got.ended is ends
        assert got.reset == ErrorCode.CONNECT_ERROR

    clock = trio.testing.MockClock(rate=1.0)
    through(behave, talk, timeouts={"tunnel": "8s"}, clock=clock)
    assert seen == [trio.BrokenResourceError]


def test_refusals() -> None:
    """The statuses of HTTP/1.1; the connection goes on, as bytes of the tunnel are no requests here."""

    async def talk(client: Client, target: ScriptedBackend, _served: Served) -> None:
        for wanted, status, error in (
            ("192.0.2.1:80", 403, b"error=http_request_denied"),
            (f"127.0.0.1:{unused_port()}", 502, b"error=connection_refused"),
            ("127.0.0.1:0", 400, b"error=http_request_error"),
            ("127.0.0.1", 400, b"error=http_request_error"),
            ("a$:1", 400, b"error=http_request_error"),
        ):
            stream_id = await connect(client, wanted)
            client.h2.send_data(stream_id, b"GET / HTTP/1.1\r\n\r\n")
            got = await client.answer(stream_id)
            assert got.status == status, wanted
            assert error in (got.header(b"proxy-status") or b"")
        got = await client.answer(await connect(client, target.address, ("content-length", "3")))
        assert got.status == 400
        assert target.connections == 0

    through(echo, talk)


def test_without_a_route_that_takes_it() -> None:
    async def talk(client: Client, target: ScriptedBackend, _served: Served) -> None:
        for wanted in (target.address, "a:0"):
            assert (await client.answer(await connect(client, wanted))).status == 501

    through(echo, talk, routes=[{"respond": {"body": "page"}}])


def test_page_in_place_of_a_tunnel() -> None:
    """What is offered is a tunnel, so a guard's refusal is an answer, with its body."""

    async def guard(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(
            b"HTTP/1.1 407 Authenticate\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 2\r\n\r\nno"
        )

    async def talk(client: Client, target: ScriptedBackend, _served: Served) -> None:
        got = await client.answer(await connect(client, "127.0.0.1:1"))
        assert (got.status, got.body) == (407, b"no")
        assert got.header(b"proxy-authenticate") == b"Basic realm=x"

    async def main() -> None:
        async with backend(guard) as guarding:
            config = {
                "backends": {"guard": {"http": f"http://{guarding.address}"}},
                "routes": [{"connect": LOOPBACK, "forward_auth": {"backend": "guard"}}],
            }
            async with (
                gateway_of(config) as served,
                entering(served),
                await served.connect() as stream,
            ):
                client = Client(stream)
                await client.begin()
                await talk(client, guarding, served)

    run(main, seconds=30)
