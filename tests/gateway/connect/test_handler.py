"""CONNECT through the gateway, over sockets, by HTTP/1.1; `test_connect_http2` has HTTP/2."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from gateway.request import Request
from tests.gateway.filters.test_authorize import Authorizer
from tests.gateway.name_server import NameServer, name_server
from tests.gateway.served import (
    Behaviour,
    ScriptedBackend,
    Served,
    backend,
    echo,
    gateway_of,
    pass_time,
    read_all,
    read_until,
    reset,
    response,
    run,
    until,
    unused_port,
)
from tests.gateway.websocket_client import read_head

LOOPBACK = "127.0.0.0/8:*"


def config(to: Any = LOOPBACK, **settings: Any) -> dict[str, Any]:
    return {"routes": [{"connect": to}, {"respond": {"body": "page"}}], **settings}


def connect_to(target: str, *lines: str) -> bytes:
    fields = "".join(f"{line}\r\n" for line in lines)
    return f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{fields}\r\n".encode()


def through(
    behave: Behaviour,
    talk: Callable[[Served, ScriptedBackend], Awaitable[None]],
    settings: dict[str, Any] | None = None,
) -> list[Any]:
    """*talk* to the gateway while a server does *behave*; what was logged."""
    logged: list[Any] = []

    async def main() -> None:
        async with (
            backend(behave) as target,
            gateway_of(config() if settings is None else settings) as served,
        ):
            with capture_logs() as logs:
                await talk(served, target)
                await until(lambda: target.open == 0)
            logged.extend(logs)

    run(main, seconds=30)
    return logged


def asking(settings: dict[str, Any], *asked: bytes) -> list[bytes]:
    """All that comes for each of *asked*, each on a connection of its own, which the gateway ends."""
    answers: list[bytes] = []

    async def main() -> None:
        async with gateway_of(settings) as served:
            for each in asked:
                answers.append(await served.ask(each))  # noqa: PERF401 - one after the other

    run(main, seconds=30)
    return answers


async def opened(served: Served, request: bytes) -> tuple[trio.SocketStream, bytes, bytes]:
    """A connection with a tunnel, the head of the answer, and what came behind it."""
    stream = await served.connect()
    await stream.send_all(request)
    head, rest = await read_head(stream)
    assert head.startswith(b"HTTP/1.1 200 "), head
    return stream, head, rest


# --- the tunnel


def test_head_of_the_answer() -> None:
    """RFC 9110 9.3.6, H-8: no Content-Length, no Transfer-Encoding; nor does the connection end."""

    async def talk(served: Served, target: ScriptedBackend) -> None:
        stream, head, _ = await opened(served, connect_to(target.address))
        async with stream:
            names = [line.partition(b":")[0] for line in head.lower().split(b"\r\n")[1:]]
            assert sorted(names) == [b"date", b"server"]
            await stream.send_all(b"ping")
            assert await read_until(stream, b"ping") == b"ping"

    through(echo, talk)


def test_bytes_behind_the_head_reach_the_target() -> None:
    """Also if what they look like is a request."""
    received: list[bytes] = []
    early = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

    async def behave(stream: trio.SocketStream) -> None:
        received.append(await read_all(stream))

    async def talk(served: Served, target: ScriptedBackend) -> None:
        stream, _, _ = await opened(served, connect_to(target.address) + early)
        async with stream:
            await stream.send_all(b"more")
            await stream.send_eof()
            assert await read_all(stream) == b""

    through(behave, talk)
    assert received == [early + b"more"]


def test_client_that_ends_its_side_first() -> None:
    """H-13: what is outstanding is sent; a half-close is passed on."""

    async def behave(stream: trio.SocketStream) -> None:
        data = await read_all(stream)
        await pass_time(0.05)
        await stream.send_all(data[::-1])

    async def talk(served: Served, target: ScriptedBackend) -> None:
        stream, _, _ = await opened(served, connect_to(target.address))
        async with stream:
            await stream.send_all(b"abc")
            await stream.send_eof()
            assert await read_all(stream) == b"cba"

    through(behave, talk)


def test_client_that_ends_its_side_with_its_head() -> None:
    """It is no client that has left."""

    async def behave(stream: trio.SocketStream) -> None:
        assert await read_all(stream) == b"abc"
        await stream.send_all(b"done")

    async def talk(served: Served, target: ScriptedBackend) -> None:
        async with await served.connect() as stream:
            await stream.send_all(connect_to(target.address) + b"abc")
            await stream.send_eof()
            head, rest = await read_head(stream)
            assert head.startswith(b"HTTP/1.1 200 ")
            assert rest + await read_all(stream) == b"done"

    through(behave, talk)


def test_target_that_ends_its_side_first() -> None:
    received: list[bytes] = []

    async def behave(stream: trio.SocketStream) -> None:
        await stream.send_all(b"hello")
        await stream.send_eof()
        received.append(await read_all(stream))

    async def talk(served: Served, target: ScriptedBackend) -> None:
        stream, _, rest = await opened(served, connect_to(target.address))
        async with stream:
            assert rest + await read_all(stream) == b"hello"
            await stream.send_all(b"late")
            await stream.send_eof()

    through(behave, talk)
    assert received == [b"late"]


def test_slow_reader_holds_the_other_side_back() -> None:
    """Back-pressure both ways: what cannot be passed on is not taken."""
    size = 64 * 1024 * 1024
    go_on = trio.Event()
    taken = 0

    async def behave(stream: trio.SocketStream) -> None:
        nonlocal taken
        await go_on.wait()
        while data := await stream.receive_some(65536):
            taken += len(data)
        await stream.send_all(b"!")

    async def talk(served: Served, target: ScriptedBackend) -> None:
        stream, _, _ = await opened(served, connect_to(target.address))
        async with stream:
            with trio.move_on_after(0.5) as giving_up:
                await stream.send_all(bytes(size))
            assert giving_up.cancelled_caught
            go_on.set()

    async def whole(served: Served, target: ScriptedBackend) -> None:
        go_on.set()
        stream, _, _ = await opened(served, connect_to(target.address))
        async with stream:
            await stream.send_all(bytes(size))
            await stream.send_eof()
            assert await read_all(stream) == b"!"

    through(behave, talk)
    assert taken < size
    taken = 0
    through(behave, whole)
    assert taken == size


def test_reset_of_the_target_resets_the_client() -> None:
    """It is no end, which would make what came look complete."""

    async def behave(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        reset(stream)

    async def talk(served: Served, target: ScriptedBackend) -> None:
        stream, _, _ = await opened(served, connect_to(target.address))
        async with stream:
            await stream.send_all(b"x")
            with pytest.raises(trio.BrokenResourceError):
                await read_all(stream)

    (failed,) = (entry for entry in through(behave, talk) if entry["event"] == "tunnel failed")
    assert (failed["cause"], failed["phase"]) == ("connection_terminated", "body")


def test_reset_of_the_client_resets_the_target() -> None:
    seen: list[type[Exception]] = []

    async def behave(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        try:
            await stream.receive_some()
        except trio.BrokenResourceError as error:
            seen.append(type(error))

    async def talk(served: Served, target: ScriptedBackend) -> None:
        stream, _, _ = await opened(served, connect_to(target.address))
        await stream.send_all(b"x")
        await until(lambda: target.open == 1)
        await pass_time(0.1)
        reset(stream)

    through(behave, talk)
    assert seen == [trio.BrokenResourceError]


@pytest.mark.usefixtures("quick_sweeper")
def test_idle_tunnel_ends() -> None:
    """`timeouts.tunnel` counts from the last byte either way."""

    async def talk(served: Served, target: ScriptedBackend) -> None:
        began = trio.current_time()
        stream, _, _ = await opened(served, connect_to(target.address))
        async with stream:
            with suppress(trio.BrokenResourceError):
                assert await read_all(stream) == b""
            assert trio.current_time() - began >= 0.25  # the clock of the pump is a little late

    through(echo, talk, config(timeouts={"tunnel": "300ms"}))


def test_access_log() -> None:
    """Host and port, 200, the bytes that the client got, and the address that was connected to."""
    logged: list[tuple[Any, ...]] = []

    def access_log(request: Request, status: int, size: int, _seconds: float) -> None:
        logged.append((request.method, request.raw_path, request.upstream_address, status, size))

    async def talk(served: Served, target: ScriptedBackend) -> None:
        served.service.access_log = access_log
        name = f"localhost:{target.address.rpartition(':')[2]}"
        stream, _, _ = await opened(served, connect_to(name))
        async with stream:
            await stream.send_all(b"12345")
            await read_until(stream, b"12345")
            await stream.send_eof()
            await read_all(stream)
        await until(lambda: bool(logged))
        assert logged == [("CONNECT", name.encode(), target.address, 200, 5)]

    through(echo, talk)


def test_http_1_0() -> None:
    async def talk(served: Served, target: ScriptedBackend) -> None:
        stream, _, _ = await opened(served, f"CONNECT {target.address} HTTP/1.0\r\n\r\n".encode())
        async with stream:
            await stream.send_all(b"ping")
            assert await read_until(stream, b"ping") == b"ping"

    through(echo, talk)


def test_host_is_that_of_the_target() -> None:
    """RFC 9112 3.2.3 goes before whatever Host says; some clients leave its port out."""

    async def talk(served: Served, target: ScriptedBackend) -> None:
        request = connect_to(target.address).replace(b"Host: ", b"Host: evil.example\r\nX: ")
        stream, _, _ = await opened(served, request)
        await stream.aclose()

    through(
        echo,
        talk,
        {"routes": [{"match": {"host": "127.0.0.1", "header": {"host": None}}, "connect": LOOPBACK}]},
    )


def test_tunnel_at_the_end_of_the_daemon() -> None:
    """Nothing is left of it: `run` looks for tasks and descriptors. Both sides see that it was cut off."""

    async def behave(stream: trio.SocketStream) -> None:
        with pytest.raises(trio.BrokenResourceError):
            await read_all(stream)

    async def main() -> None:
        async with backend(behave) as target:
            async with gateway_of(config()) as served:
                stream, _, _ = await opened(served, connect_to(target.address))
                await until(lambda: target.open == 1)
            async with stream:
                with pytest.raises(trio.BrokenResourceError):
                    await read_all(stream)

    run(main)


# --- what is refused


@pytest.mark.parametrize(
    "target",
    ["a", "a:", "a:0", "a:65536", "a:99999", "a:http", ":80", "/x", "*", "http://a:80/", "u@a:80", "a:80/",
     "[::1]", "::1:80", "a:80:80", "[::g]:80", "%61:80", "a$:80", "a..b:80", "a:-1", f"{'a.' * 130}b:80",
     f"{'a' * 64}:80", f"b.{'a' * 64}.c:80"],
)  # fmt: skip
def test_malformed_target(target: str) -> None:
    """RFC 9110 9.3.6: an empty or invalid port is answered 400; so is all else that is no host and port."""
    (answer,) = asking(config("*:*"), connect_to(target) + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    found = response(answer)
    assert (found.status, found.headers["proxy-status"].split("; ")[:2]) == (
        400,
        ["gateway", "error=http_request_error"],
    )
    assert found.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("to", "target"),
    [
        ("*.example.com:443", "example.com:443"),
        ("*.example.com:443", "www.example.com:80"),
        ("*.example.com:443", "www.example.com.evil.example:443"),
        ("*.example.com:443", "evilexample.com:443"),
        ("example.com:443", "www.example.com:443"),
        ("*:443", "127.0.0.1:443"),
        ("*:443", "10.1.2.3:443"),
        ("*:443", "169.254.169.254:443"),
        ("*:443", "[::1]:443"),
        ("*:443", "[::ffff:127.0.0.1]:443"),
        ("*:443", "[fe80::1]:443"),
        ("*:443", "0.0.0.0:443"),
        ("10.0.0.0/8:443", "127.0.0.1:443"),
        ("127.0.0.1:1000-1999", "127.0.0.1:2000"),
    ],
)
def test_target_that_is_not_allowed(to: str, target: str) -> None:
    """H-13, and nothing of what follows is taken for a request."""
    (answer,) = asking(config(to), connect_to(target) + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    found = response(answer)
    assert found.status == 403
    assert found.headers["proxy-status"] == (
        'gateway; error=http_request_denied; details="this server does not connect to that target"'
    )
    assert found.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Content-Length: 5"], 400),
        (["Transfer-Encoding: chunked"], 400),
        (["Content-Length: 5", "Transfer-Encoding: chunked"], 400),
        (["Content-Length: 0", "Transfer-Encoding: chunked"], 400),
        (["Transfer-Encoding: gzip, chunked"], 501),
        (["Content-Length: x"], 400),
        (["Content-Length: 0", "Content-Length: 0"], 400),
    ],
)
def test_content(lines: list[str], status: int) -> None:
    """RFC 9110 9.3.6: there is none. Whoever says so may be read differently by someone on the way."""

    async def talk(served: Served, target: ScriptedBackend) -> None:
        body = b"0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"
        found = response(await served.ask(connect_to(target.address, *lines) + body))
        assert (found.status, found.headers["connection"]) == (status, "close")
        assert target.connections == 0

    through(echo, talk)


def test_content_of_no_bytes() -> None:
    async def talk(served: Served, target: ScriptedBackend) -> None:
        stream, _, _ = await opened(served, connect_to(target.address, "Content-Length: 0", "Upgrade: x"))
        await stream.aclose()

    through(echo, talk)


def test_without_a_route_that_takes_it() -> None:
    """As ever: 501, and the connection ends."""
    settings = {"routes": [{"respond": {"body": "page"}}]}
    after = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    asked = [connect_to(target) + after for target in ("127.0.0.1:80", "nonsense", "a:0")]
    for answer in asking(settings, *asked):
        found = response(answer)
        assert (found.status, found.headers["connection"]) == (501, "close")


def test_routes() -> None:
    """The first route with connect that matches decides; other routes never see CONNECT."""
    settings = {
        "routes": [
            {"respond": {"status": 418}, "match": {"path": "~.*", "host": "127.0.0.1"}},
            {"connect": LOOPBACK, "match": {"client": "192.0.2.1"}},
            {"connect": "192.0.2.0/24:80", "match": {"host": "127.0.0.2", "method": "CONNECT"}},
            {"connect": LOOPBACK, "match": {"host": "127.0.0.2"}},
            {"respond": {"body": "page"}},
        ]
    }
    get = b"GET / HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n"
    answers = asking(settings, connect_to("127.0.0.1:80"), connect_to("127.0.0.2:80"), get)
    found = [response(answer) for answer in answers]
    assert [each.status for each in found] == [403, 403, 200]
    assert "no route" in found[0].headers["proxy-status"]
    assert "no route" not in found[1].headers["proxy-status"]
    assert found[2].body == b"page"


def test_refused_connection() -> None:
    target = f"127.0.0.1:{unused_port()}"
    (answer,) = asking(config(), connect_to(target) + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    found = response(answer)
    assert (found.status, found.headers["connection"]) == (502, "close")
    assert found.headers["proxy-status"] == (
        f'gateway; error=connection_refused; next-hop="{target}"; '
        'details="connect: the target refused the connection"'
    )


def test_debug_page_of_a_failure() -> None:
    target = f"127.0.0.1:{unused_port()}"
    answers = asking(
        config(debug=True), connect_to(target), connect_to("192.0.2.1:80"), connect_to("localhost:80")
    )
    text = response(answers[0]).body.decode()
    assert f"CONNECT {target}" in text
    assert "backends." not in text
    assert [response(answer).status for answer in answers] == [502, 403, 502]


@pytest.mark.usefixtures("quick_sweeper")
def test_target_that_does_not_answer() -> None:
    """504: its backlog is full."""

    async def main() -> None:
        with trio.socket.socket() as sock:
            await sock.bind(("127.0.0.1", 0))
            sock.listen(0)
            port = sock.getsockname()[1]
            async with await trio.open_tcp_stream("127.0.0.1", port):
                settings = config({"to": LOOPBACK, "timeout": "200ms"})
                async with gateway_of(settings) as served:
                    found = response(await served.ask(connect_to(f"127.0.0.1:{port}")))
                    assert found.status == 504
                    assert "error=connection_timeout" in found.headers["proxy-status"]

    run(main)


def test_itself() -> None:
    """A gateway that is told to connect to its own listener does not."""

    async def main() -> None:
        async with gateway_of(config()) as served:
            port = served.address[1]
            for target in (f"127.0.0.1:{port}", f"localhost:{port}", f"[::ffff:127.0.0.1]:{port}"):
                found = response(await served.ask(connect_to(target)))
                assert found.status == 502, target
                assert "error=proxy_loop_detected" in found.headers["proxy-status"]

    run(main)


# --- names


def named(
    to: Any, talk: Callable[[Served, ScriptedBackend, NameServer], Awaitable[None]], **options: Any
) -> None:
    """*talk* to a gateway that asks a name server of the test's own, beside a server that echoes."""

    async def main() -> None:
        async with name_server() as names, backend(echo) as target:
            to_port = target.address.rpartition(":")[2]
            wanted = [each.replace("PORT", to_port) for each in to]
            settings = config({"to": wanted, **options}, resolver=names.address)
            async with gateway_of(settings) as served:
                await talk(served, target, names)

    run(main, seconds=30)


def test_name_that_leads_into_a_network_that_is_not_named() -> None:
    """DNS rebinding: a name that is allowed leads nowhere but to public addresses."""

    async def talk(served: Served, target: ScriptedBackend, names: NameServer) -> None:
        port = target.address.rpartition(":")[2]
        names.say("www.app.test", "A", "127.0.0.1", "10.0.0.1")
        names.say("www.app.test", "AAAA", "::1", "fd00::1", "::ffff:127.0.0.1")
        found = response(await served.ask(connect_to(f"www.app.test:{port}")))
        assert found.status == 403
        assert "error=destination_ip_prohibited" in found.headers["proxy-status"]
        assert "127.0.0.1" not in str(found.headers)
        assert target.connections == 0

    named(["*.app.test:PORT"], talk)


def test_name_that_leads_into_a_network_that_is_named() -> None:
    """The addresses that are not in it are left out."""

    async def talk(served: Served, target: ScriptedBackend, names: NameServer) -> None:
        port = target.address.rpartition(":")[2]
        names.say("www.app.test", "A", "10.255.255.1", "127.0.0.1")
        stream, _, _ = await opened(served, connect_to(f"WWW.app.test.:{port}"))
        async with stream:
            await stream.send_all(b"ping")
            assert await read_until(stream, b"ping") == b"ping"

    named(["*.app.test:PORT", "127.0.0.0/8:PORT"], talk)


@pytest.mark.usefixtures("quick_sweeper")
def test_address_that_does_not_answer_leaves_time_for_the_next() -> None:
    """All addresses of a name are tried, in order: one is full, one refuses."""

    async def main() -> None:
        with trio.socket.socket() as full:
            await full.bind(("127.0.0.1", 0))
            full.listen(0)
            port = full.getsockname()[1]
            async with (
                await trio.open_tcp_stream("127.0.0.1", port),
                backend(echo, host="127.0.0.3", port=port),
                name_server() as names,
            ):
                names.say("a.test", "A", "127.0.0.1", "127.0.0.2", "127.0.0.3")
                settings = config({"to": LOOPBACK, "timeout": "3s"}, resolver=names.address)
                async with gateway_of(settings) as served:
                    stream, _, _ = await opened(served, connect_to(f"a.test:{port}"))
                    async with stream:
                        await stream.send_all(b"ping")
                        assert await read_until(stream, b"ping") == b"ping"

    run(main, seconds=30)


def test_name_that_is_not_allowed_is_not_looked_up() -> None:
    async def talk(served: Served, target: ScriptedBackend, names: NameServer) -> None:
        found = response(await served.ask(connect_to("secret.test:443")))
        assert found.status == 403
        assert names.asked == []

    named(["*.app.test:443", "127.0.0.0/8:PORT"], talk)


def test_name_that_is_not_there() -> None:
    async def talk(served: Served, target: ScriptedBackend, names: NameServer) -> None:
        names.say("a.test", "A", "127.0.0.1")
        found = response(await served.ask(connect_to("b.test:443")))
        assert (found.status, "error=dns_error" in found.headers["proxy-status"]) == (502, True)
        names.fails = True
        found = response(await served.ask(connect_to("c.test:443")))
        assert (found.status, "error=dns_error" in found.headers["proxy-status"]) == (502, True)

    named(["*:443"], talk)


def test_name_server_that_does_not_answer() -> None:
    async def talk(served: Served, target: ScriptedBackend, names: NameServer) -> None:
        names.silent = {"A", "AAAA"}
        found = response(await served.ask(connect_to("a.test:443")))
        assert (found.status, "error=connection_timeout" in found.headers["proxy-status"]) == (504, True)

    named(["*:443"], talk, timeout="200ms")


def test_number_in_disguise() -> None:
    """What some resolvers take for 127.0.0.1 is judged as what it turns out to be."""
    answers = asking(config("*:443"), connect_to("2130706433:443"), connect_to("0x7f000001:443"))
    assert [response(answer).status for answer in answers if answer] == [403, 403]


# --- guards


GUARD = b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\nno"


@pytest.mark.parametrize("credentials", [b"", b"Basic dTpw"])
def test_forward_auth(credentials: bytes) -> None:
    """The client is asked for credentials as by a proxy (RFC 9110 11.7), the guard asks as a server does, and
    is told what the client wants.
    """
    heads: list[bytes] = []

    async def guard(stream: trio.SocketStream) -> None:
        head = await read_until(stream, b"\r\n\r\n")
        heads.append(head.lower())
        if b"\r\nauthorization: basic dtpw\r\n" in heads[-1]:
            await stream.send_all(b"HTTP/1.1 204 No Content\r\n\r\n")
        else:
            await stream.send_all(GUARD % b"401 Unauthorized\r\nWWW-Authenticate: Basic realm=x")

    async def main() -> None:
        async with backend(guard) as guarding, backend(echo) as target:
            settings = {
                "backends": {"guard": {"http": f"http://{guarding.address}"}},
                "routes": [{"connect": LOOPBACK, "forward_auth": {"backend": "guard", "path": "/v?{host}"}}],
            }
            async with gateway_of(settings) as served:
                lines = ["Authorization: Basic other"]
                if credentials:
                    lines.append(f"Proxy-Authorization: {credentials.decode()}")
                request = connect_to(target.address, *lines)
                if not credentials:
                    found = response(await served.ask(request + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
                    assert (found.status, found.body) == (407, b"no")
                    assert found.headers["proxy-authenticate"] == "Basic realm=x"
                    assert found.headers["connection"] == "close"
                    assert found.headers["www-authenticate"] is None
                    assert target.connections == 0
                else:
                    stream, _, _ = await opened(served, request)
                    async with stream:
                        await stream.send_all(b"ping")
                        assert await read_until(stream, b"ping") == b"ping"
                (head,) = heads
                assert head.startswith(b"get /v?127.0.0.1 ")
                assert b"x-forwarded-method: connect\r\n" in head
                assert f"x-forwarded-uri: {target.address}\r\n".encode() in head

    run(main, seconds=30)


@pytest.mark.parametrize("status", [200, 403])
def test_authorize(status: int) -> None:
    authorizer = Authorizer(status, [])

    async def main() -> None:
        async with backend(authorizer) as guarding, backend(echo) as target:
            settings = {
                "backends": {"guard": {"fastcgi": guarding.address, "role": "authorizer"}},
                "routes": [{"connect": LOOPBACK, "authorize": "guard"}],
            }
            async with gateway_of(settings) as served:
                if status == 200:
                    stream, _, _ = await opened(served, connect_to(target.address))
                    await stream.aclose()
                else:
                    assert response(await served.ask(connect_to(target.address))).status == status
                    assert target.connections == 0
                told = authorizer.variables
                assert (told["REQUEST_METHOD"], told["REQUEST_URI"]) == ("CONNECT", target.address)
                assert told.get("PATH_INFO", "") == ""

    run(main, seconds=30)
