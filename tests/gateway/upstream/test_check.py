"""Active health checks: servers that stop being well, come back, or seem to answer."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from gateway.backends.application import ApplicationBackend
from gateway.backends.probe import Probe
from gateway.net.pump import OVERSLEPT
from gateway.protocols.ajp import AjpServer
from gateway.protocols.events import RequestHead, RequestVariables
from gateway.protocols.fastcgi import FastCgiServer
from gateway.protocols.uwsgi import UwsgiServer
from gateway.upstream.check import BODY_LIMIT, CheckPolicy, Standing
from gateway.upstream.health import State
from tests.gateway.served import Behaviour, Served, gateway_of, read_request, run, until
from tests.gateway.upstream.test_exchange import CODECS, KINDS, fine, said
from tests.gateway.upstream.test_upstream import ask, farm, refuse, told, upstream_of

pytestmark = pytest.mark.usefixtures("quick_sweeper")

OFTEN: dict[str, Any] = {"interval": "10ms", "rise": 2, "fall": 2}


@dataclass
class Server:
    """Answers requests, and checks (which ask for /up) as `answer` says; None: not at all."""

    kind: str
    answer: bytes | None
    asked: list[Any] = field(default_factory=list)
    """The heads of the checks."""

    async def behave(self, stream: trio.SocketStream) -> None:
        codec = CODECS[self.kind]()
        head, _ = await read_request(stream, codec)
        if not is_check(head):
            await stream.send_all(fine(self.kind))
            return
        self.asked.append(head)
        if self.answer is None:
            await stream.receive_some()
            return
        await stream.send_all(self.answer)


def is_check(head: Any) -> bool:
    if isinstance(head, RequestHead):
        return head.target.startswith(b"/up")
    assert isinstance(head, RequestVariables)
    return head.variables["REQUEST_URI"].startswith("/up")


def failed(kind: str) -> bytes:
    if kind == "http":
        return b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
    return said(kind, b"Status: 503 No\r\n\r\n")


def state_of(served: Served, number: int = 0) -> State:
    return upstream_of(served).snapshot().servers[number].state


@asynccontextmanager
async def checked(
    *behaviours: Behaviour, kind: str = "http", check: Any = None, **options: Any
) -> AsyncIterator[Served]:
    check = {"path": "/up", **OFTEN, **(check or {})}
    async with farm(*behaviours, kind=kind, health={"check": check}, **options) as (served, _):
        yield served


# ---- down and up


@pytest.mark.parametrize("kind", KINDS)
def test_server_that_is_not_well_gets_no_request_until_it_is(kind: str) -> None:
    async def main() -> None:
        server = Server(kind, fine(kind))
        with capture_logs() as logs:
            async with checked(server.behave, kind=kind) as served:
                await until(lambda: len(server.asked) >= 2)
                assert (await ask(served))[0] == 200
                server.answer = failed(kind)
                await until(lambda: state_of(served) is State.DOWN)
                status, _ = await ask(served)
                assert status == 503
                server.answer = fine(kind)
                await until(lambda: state_of(served) is State.UP)
                assert (await ask(served))[0] == 200
        assert told(logs) == ["server is down", "backend failed", "server is up"]
        assert logs[0]["reason"] == "status 503"
        assert "health check: status 503" in logs[1]["detail"]

    run(main)


def test_others_take_over() -> None:
    async def main() -> None:
        bad = Server("http", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad")
        good = Server("http", b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nall is well")
        async with checked(bad.behave, good.behave, check={"body": "well"}) as served:
            await until(lambda: state_of(served) is State.DOWN)
            assert {await ask(served) for _ in range(4)} == {(200, b"fine")}
            assert state_of(served, 1) is State.UP

    with capture_logs() as logs:
        run(main)
    assert [(entry["event"], entry["reason"]) for entry in logs] == [
        ("server is down", "the answer does not have 'well'")
    ]


def test_all_may_be_down() -> None:
    """`max_ejected` is about what requests seem to say; a check says it."""

    async def main() -> None:
        first, second = Server("http", failed("http")), Server("http", failed("http"))
        async with checked(first.behave, second.behave) as served:
            await until(lambda: [state_of(served, n) for n in (0, 1)] == [State.DOWN, State.DOWN])
            assert (await ask(served))[0] == 503

    with capture_logs():
        run(main)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_asked(kind: str) -> None:
    async def main() -> None:
        server = Server(kind, fine(kind))
        check = {"path": "/up?q=1", "method": "HEAD", "host": "example.com:81"}
        async with checked(server.behave, kind=kind, check=check):
            await until(lambda: bool(server.asked))
        head = server.asked[0]
        if kind == "http":
            assert (head.method, head.target) == (b"HEAD", b"/up?q=1")
            assert (b"host", b"example.com:81") in head.headers
            return
        seen = head.variables
        assert (seen["REQUEST_METHOD"], seen["PATH_INFO"], seen["QUERY_STRING"]) == ("HEAD", "/up", "q=1")
        assert (seen["HTTP_HOST"], seen["SERVER_NAME"]) == ("example.com:81", "example.com")
        assert (seen["REMOTE_ADDR"], seen["SERVER_PORT"]) == ("127.0.0.1", "80")
        assert "health check" in seen["HTTP_USER_AGENT"]

    run(main)


@pytest.mark.parametrize("host", ["upstream", "preserve"])
def test_each_server_is_asked_as_its_own_host(host: str) -> None:
    """Two servers of one backend have two names, whatever requests are told."""

    async def main() -> None:
        servers = [Server("http", fine("http")), Server("http", fine("http"))]
        async with checked(*(server.behave for server in servers), host=host) as served:
            await until(lambda: all(server.asked for server in servers))
            for number, server in enumerate(servers):
                name = upstream_of(served).servers[number].name
                hosts = [value for field, value in server.asked[0].headers if field == b"host"]
                assert hosts == [name.encode()]

    run(main)


def test_host_of_a_check_is_told_to_servers_with_hosts_of_their_own() -> None:
    async def main() -> None:
        server = Server("http", fine("http"))
        async with checked(server.behave, host="upstream", check={"host": "example.com"}):
            await until(lambda: bool(server.asked))
            assert (b"host", b"example.com") in server.asked[0].headers

    run(main)


def test_host_is_the_servers_address() -> None:
    assert Probe("/", "GET", None).request("10.0.0.1:80").headers[0] == (b"host", b"10.0.0.1:80")
    assert Probe("/", "GET", None).request("10.0.0.1:80").host == "10.0.0.1"


async def one_connection_each(stream: trio.SocketStream) -> None:
    """Keeps connections open, as far as it goes."""
    codec = FastCgiServer()
    await read_request(stream, codec)
    await stream.send_all(fine("fastcgi"))
    assert await stream.receive_some() == b""


def test_a_check_closes_its_connection() -> None:
    async def main() -> None:
        check = {"path": "/up", **OFTEN}
        async with farm(
            one_connection_each, kind="fastcgi", keep_connection=True, health={"check": check}
        ) as (served, (server,)):
            await until(lambda: server.connections >= 5)
            assert server.open <= 1
            assert upstream_of(served).snapshot().servers[0].idle == 0

    run(main)


# ---- what a server that is not well does


async def hangs(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await trio.sleep_forever()


async def cuts(stream: trio.SocketStream) -> None:
    await stream.receive_some()


async def breaks_off(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort")


async def talks_nonsense(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"\0\1\2 nonsense\r\n\r\n")


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        (hangs, "no whole answer in 0.05 s"),
        (cuts, "before"),
        (breaks_off, "clos"),
        (talks_nonsense, "HTTP"),
    ],
)
def test_failures_have_their_reason(behave: Behaviour, reason: str) -> None:
    async def main() -> None:
        with capture_logs() as logs:
            timeout = "50ms" if behave is hangs else "30s"
            async with checked(behave, check={"timeout": timeout}) as served:
                await until(lambda: state_of(served) is State.DOWN)
        assert told(logs) == ["server is down"]
        assert reason in logs[0]["reason"]

    run(main)


def test_refused_connection() -> None:
    async def main() -> None:
        with capture_logs() as logs:
            async with checked(cuts) as served:
                await refuse(served, 0)
                await until(lambda: state_of(served) is State.DOWN)
        assert logs[0]["reason"] == "Connection refused"

    run(main)


def test_endless_answer_is_not_read_to_its_end() -> None:
    async def endless(stream: trio.SocketStream) -> None:
        await read_request(stream, CODECS["http"]())
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % 10**9)
        while True:
            await stream.send_all(b"x" * BODY_LIMIT)

    async def main() -> None:
        with capture_logs() as logs:
            async with checked(endless, check={"body": "end"}) as served:
                await until(lambda: state_of(served) is State.DOWN)
        assert logs[0]["reason"] == "the answer does not have 'end'"

    run(main)


def test_local_redirect_is_a_302() -> None:
    async def main() -> None:
        server = Server("scgi", b"Location: /login\r\n\r\n")
        with capture_logs() as logs:
            async with checked(server.behave, kind="scgi", check={"status": "2xx"}) as served:
                await until(lambda: state_of(served) is State.DOWN)
        assert logs[0]["reason"] == "status 302"

    run(main)


# ---- before the first check


def test_server_that_starts_down_gets_requests_once_it_was_found_well() -> None:
    """One check decides, and those who wait are told."""

    async def main() -> None:
        server = Server("http", failed("http"))
        async with checked(server.behave, check={"start": "down"}, hold="5s") as served:
            found = []
            async with trio.open_nursery() as nursery:

                async def held() -> None:
                    found.append(await ask(served))

                nursery.start_soon(held)
                await until(lambda: upstream_of(served).snapshot().held == 1)
                await until(lambda: len(server.asked) >= 2)
                assert state_of(served) is State.DOWN
                server.answer = fine("http")
            assert found == [(200, b"fine")]

    with capture_logs() as logs:
        run(main)
    assert told(logs) == ["server is up"]


def test_standing() -> None:
    """`rise` and `fall` are counted in a row."""
    policy = CheckPolicy(interval=5.0, timeout=2.0, rise=2, fall=3, starts_down=False)
    standing = Standing(policy)
    assert [standing.unwell() for _ in range(2)] == [False, False]
    assert not standing.well()
    assert [standing.unwell() for _ in range(4)] == [False, False, True, False]
    assert [standing.well(), standing.unwell(), standing.well(), standing.well()] == [
        False,
        False,
        False,
        True,
    ]
    assert Standing(replace(policy, rise=5, starts_down=True)).well()


# ---- what else goes on


def test_running_check_does_not_hold_up_the_end() -> None:
    async def main() -> None:
        async with checked(hangs, check={"timeout": "60s"}) as served:
            await until(lambda: upstream_of(served).servers[0].health.up)

    run(main)


def test_answer_that_has_come_while_the_gateway_was_stopped_is_not_late() -> None:
    clock = trio.testing.MockClock(rate=1.0)
    asked: list[bytes] = []

    async def behave(stream: trio.SocketStream) -> None:
        asked.append(bytes(await stream.receive_some()))
        if len(asked) == 1:
            clock.jump(2 + OVERSLEPT)
        await stream.send_all(fine("http"))

    async def main() -> None:
        async with checked(behave, check={"timeout": "2s", "fall": 1}) as served:
            await until(lambda: len(asked) == 2)
            assert state_of(served) is State.UP

    trio.run(main, clock=clock)


def test_ejection_of_a_server_that_checks_find_well_is_not_cut_short() -> None:
    """Its requests fail, whatever it says when it is asked."""

    async def main() -> None:
        server = Server("http", fine("http"))
        async with checked(server.behave) as served:
            health = upstream_of(served).servers[0].health
            health.failed(0.0, "broken")
            health.eject(trio.current_time())
            before = len(server.asked)
            await until(lambda: len(server.asked) >= before + 5)
            assert state_of(served) is State.EJECTED

    run(main)


# ---- pings


@pytest.mark.parametrize(("kind", "make_codec"), [("uwsgi", UwsgiServer), ("ajp", AjpServer)])
def test_server_is_pinged(kind: str, make_codec: Callable[[], UwsgiServer | AjpServer]) -> None:
    """UW-10, AJP-9."""

    async def ponders(stream: trio.SocketStream) -> None:
        codec = make_codec()
        while True:
            codec.next_event()
            await stream.send_all(codec.data_to_send())
            codec.receive_data(await stream.receive_some())

    async def main() -> None:
        config = {"check": {"interval": "10ms", "start": "down"}}
        with capture_logs() as logs:
            async with farm(ponders, kind=kind, health=config) as (served, _):
                await until(lambda: state_of(served) is State.UP)
        assert told(logs) == ["server is up"]

    run(main)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "closed before an answer"),
        (b"\x64\0\0\0", "something else"),
        (b"HTTP/1.1 200 OK", "something else"),
    ],
)
def test_what_is_no_pong(answer: bytes, reason: str) -> None:
    async def behave(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)

    async def main() -> None:
        with capture_logs() as logs:
            config = {"check": {"ping": True, **OFTEN}}
            async with farm(behave, kind="uwsgi", health=config) as (served, _):
                await until(lambda: state_of(served) is State.DOWN)
        assert reason in logs[0]["reason"]

    run(main)


# ---- scripts


def test_php_script_and_ping_path() -> None:
    """A path without a script is not the front controller's: php-fpm answers to its ping.path."""

    async def main() -> None:
        config = {
            "backends": {"app": {"fastcgi": "127.0.0.1:1", "root": "/srv", "preset": "php-fpm"}},
            "routes": [{"backend": "app"}],
        }
        async with gateway_of(config) as served:
            backend = served.service.router.routes[0].handler
            assert isinstance(backend, ApplicationBackend)
            seen = [
                backend.probe_head(Probe(path, "GET", None).request("a")).variables
                for path in ("/ping", "/up.php/a", "/")
            ]
        assert [
            (each["SCRIPT_NAME"], each["SCRIPT_FILENAME"], each["PATH_INFO"], each.get("PATH_TRANSLATED"))
            for each in seen
        ] == [
            ("/ping", "/srv/ping", "", None),
            ("/up.php", "/srv/up.php", "/a", "/srv/a"),
            ("/index.php", "/srv/index.php", "", None),
        ]

    run(main)
