"""Servers known by name: they come, stay and go while requests run."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from gateway.protocols.events import RequestVariables
from gateway.protocols.fastcgi import FastCgiServer
from gateway.upstream.health import State
from tests.gateway.multiplexing import Application, RequestEnd
from tests.gateway.name_server import NameServer, name_server
from tests.gateway.served import (
    LAST_GET,
    Behaviour,
    ScriptedBackend,
    Served,
    backend,
    gateway_of,
    read_request,
    response,
    run,
    until,
    unused_port,
)
from tests.gateway.upstream.test_exchange import CODECS, fine
from tests.gateway.upstream.test_upstream import ask, named, told, upstream_of

pytestmark = pytest.mark.usefixtures("quick_sweeper")


@pytest.fixture(autouse=True)
def short_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers hold for 10 ms, and name servers have all the time that they take."""
    monkeypatch.setattr("gateway.net.resolver.SHORTEST", 0.01)
    monkeypatch.setattr("gateway.net.resolver.NEGATIVE", 0.01)
    monkeypatch.setattr("gateway.net.resolver.LIFETIME", 60.0)
    monkeypatch.setattr("gateway.upstream.names.FIRST_PAUSE", 0.01)
    monkeypatch.setattr("gateway.upstream.names.PATIENCE", 60.0)


@asynccontextmanager
async def on_one_port(*behaviours: Behaviour) -> AsyncIterator[list[ScriptedBackend]]:
    """Servers on 127.0.0.1, 127.0.0.2 and so on, all with the same port."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(backend(behaviours[0]))
        port = int(first.address.rpartition(":")[2])
        others = [
            await stack.enter_async_context(backend(behave, host=f"127.0.0.{number}", port=port))
            for number, behave in enumerate(behaviours[1:], 2)
        ]
        yield [first, *others]


@asynccontextmanager
async def serving(
    names: NameServer, target: str, kind: str = "http", **options: Any
) -> AsyncIterator[Served]:
    config = {
        "resolver": names.address,
        "backends": {"app": {kind: target, **options}},
        "routes": [{"backend": "app"}],
    }
    async with gateway_of(config) as served:
        yield served


def url(servers: list[ScriptedBackend]) -> str:
    return f"http://app.example:{servers[0].address.rpartition(':')[2]}"


def names_of(served: Served) -> list[str]:
    return [server.name.rpartition(":")[0] for server in upstream_of(served).servers]


def test_servers_come_and_go() -> None:
    async def main() -> None:
        async with name_server() as names, on_one_port(named(b"a"), named(b"b")) as servers:
            names.say("app.example", "A", "127.0.0.1")
            async with serving(names, url(servers)) as served:
                assert {await ask(served) for _ in range(4)} == {(200, b"a")}
                stays = upstream_of(served).servers[0]
                names.say("app.example", "A", "127.0.0.1", "127.0.0.2")
                await until(lambda: len(upstream_of(served).servers) == 2)
                assert {await ask(served) for _ in range(4)} == {(200, b"a"), (200, b"b")}
                assert upstream_of(served).servers[0] is stays
                assert stays.pool.idle == 1
                names.say("app.example", "A", "127.0.0.2")
                await until(lambda: names_of(served) == ["127.0.0.2"])
                assert {await ask(served) for _ in range(4)} == {(200, b"b")}
                assert stays.pool.idle == 0
                await until(lambda: servers[0].open == 0)

    with capture_logs() as logs:
        run(main)
    assert [(entry["event"], len(entry["servers"]), len(entry["gone"])) for entry in logs] == [
        ("servers of a name", 1, 0),
        ("servers of a name", 2, 0),
        ("servers of a name", 1, 1),
    ]


def test_server_that_goes_finishes_what_it_has() -> None:
    async def main() -> None:
        asked, release = trio.Event(), trio.Event()

        async def slow(stream: trio.SocketStream) -> None:
            await read_request(stream, CODECS["http"]())
            asked.set()
            await release.wait()
            await stream.send_all(fine("http", b"late"))

        async with name_server() as names, on_one_port(slow, named(b"b")) as servers:
            names.say("app.example", "A", "127.0.0.1")
            async with serving(names, url(servers), sticky="node") as served:
                found = []

                async def late() -> None:
                    found.append(response(await served.ask(LAST_GET)))

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(late)
                    await asked.wait()
                    names.say("app.example", "A", "127.0.0.2")
                    await until(lambda: names_of(served) == ["127.0.0.2"])
                    assert await ask(served) == (200, b"b")
                    release.set()
                assert (found[0].status, found[0].body) == (200, b"late")
                await until(lambda: servers[0].open == 0)

    with capture_logs():
        run(main)


def test_request_in_the_queue_goes_to_a_server_that_comes() -> None:
    async def main() -> None:
        release = trio.Event()

        async def busy(stream: trio.SocketStream) -> None:
            await read_request(stream, CODECS["http"]())
            await release.wait()
            await stream.send_all(fine("http", b"a"))

        async with name_server() as names, on_one_port(busy, named(b"b")) as servers:
            names.say("app.example", "A", "127.0.0.1")
            pool = {"connections": 1, "queue_time": "60s"}
            async with serving(names, url(servers), pool=pool) as served:
                found: list[tuple[int, bytes]] = []

                async def get() -> None:
                    found.append(await ask(served))

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(get)
                    nursery.start_soon(get)
                    await until(lambda: upstream_of(served).snapshot().queued == 1)
                    names.say("app.example", "A", "127.0.0.1", "127.0.0.2")
                    await until(lambda: len(found) == 1)
                    release.set()
                assert found == [(200, b"b"), (200, b"a")]

    with capture_logs():
        run(main)


def test_request_in_the_queue_does_not_go_to_a_server_that_has_gone() -> None:
    """When that finishes what it has, it has room for none."""

    async def main() -> None:
        first, second = trio.Event(), trio.Event()

        def busy(name: bytes, until_then: trio.Event) -> Behaviour:
            async def behave(stream: trio.SocketStream) -> None:
                await read_request(stream, CODECS["http"]())
                await until_then.wait()
                await stream.send_all(fine("http", name))

            return behave

        async with name_server() as names, on_one_port(busy(b"a", first), busy(b"b", second)) as servers:
            names.say("app.example", "A", "127.0.0.1")
            pool = {"connections": 1, "queue_time": "60s"}
            async with serving(names, url(servers), pool=pool) as served:
                found: list[tuple[int, bytes]] = []

                async def get() -> None:
                    found.append(await ask(served))

                async with trio.open_nursery() as nursery:
                    for _ in range(3):
                        nursery.start_soon(get)
                    await until(lambda: upstream_of(served).snapshot().queued == 2)
                    names.say("app.example", "A", "127.0.0.2")
                    await until(lambda: upstream_of(served).snapshot().queued == 1)
                    first.set()
                    await until(lambda: len(found) == 1)
                    assert upstream_of(served).snapshot().queued == 1
                    second.set()
                assert sorted(found) == [(200, b"a"), (200, b"b"), (200, b"b")]

    with capture_logs():
        run(main)


def test_shared_connection_to_a_server_that_has_gone_ends_with_its_requests() -> None:
    """One that is made in the place of another, too."""

    async def main() -> None:
        cut = trio.Event()

        async def behave(stream: RequestEnd) -> None:
            head, _ = await read_request(stream, FastCgiServer())  # type: ignore[arg-type]
            assert isinstance(head, RequestVariables)
            if len(application.connections) == 1:
                await cut.wait()
            else:
                await stream.send_all(fine("fastcgi", head.variables["PATH_INFO"].encode()))

        application = Application(behave)
        async with name_server() as names, on_one_port(application, Application(behave)) as servers:
            names.say("app.example", "A", "127.0.0.1")
            target = url(servers).removeprefix("http://")
            async with serving(names, target, "fastcgi", keep_connection=True, multiplex=True) as served:
                await until(lambda: upstream_of(served).servers[0].told is not None)
                async with trio.open_nursery() as nursery:
                    for _ in range(2):
                        nursery.start_soon(ask, served)
                    await until(lambda: application.begun == [[1, 2]])
                    names.say("app.example", "A", "127.0.0.2")
                    await until(lambda: names_of(served) == ["127.0.0.2"])
                    cut.set()
                assert len(application.begun) > 1
                await until(lambda: servers[0].open == 0)

    with capture_logs():
        run(main)


def test_name_is_not_looked_up_for_requests() -> None:
    async def main() -> None:
        async with name_server() as names, on_one_port(named(b"a")) as servers:
            names.ttl = 600
            names.say("app.example", "A", "127.0.0.1")
            async with serving(names, url(servers), pool={"idle": 0}) as served:
                for _ in range(5):
                    assert await ask(served) == (200, b"a")
            assert sorted(names.asked) == [("app.example", "A"), ("app.example", "AAAA")]
            assert servers[0].connections == 5

    with capture_logs():
        run(main)


def test_last_answer_holds_while_name_servers_fail() -> None:
    async def main() -> None:
        async with name_server() as names, on_one_port(named(b"a")) as servers:
            names.say("app.example", "A", "127.0.0.1")
            async with serving(names, url(servers)) as served:
                names.fails = True
                before = len(names.asked)
                await until(lambda: len(names.asked) >= before + 4)
                assert await ask(served) == (200, b"a")

    with capture_logs() as logs:
        run(main)
    assert told(logs) == ["servers of a name", "name cannot be resolved: what is known of it holds on"]


@pytest.mark.parametrize("exists", [False, True])
def test_name_that_does_not_exist_and_then_does(exists: bool) -> None:
    """Or that has no address, which an authority may say without for how long (RFC 2308 2.2)."""

    async def main() -> None:
        async with name_server() as names, on_one_port(named(b"a")) as servers:
            if exists:
                names.say("app.example", "A")
            async with serving(names, url(servers)) as served:
                await come_and_go(names, served)

    async def come_and_go(names: NameServer, served: Served) -> None:
        found = response(await served.ask(LAST_GET))
        assert found.status == 502
        assert "dns_error" in found.headers["proxy-status"]
        names.say("app.example", "A", "127.0.0.1")
        await until(lambda: names_of(served) == ["127.0.0.1"])
        assert await ask(served) == (200, b"a")
        names.say("app.example", "A")
        if not exists:
            names.records.clear()
        await until(lambda: names_of(served) == ["app.example"])
        assert (await ask(served))[0] == 502

    with capture_logs() as logs:
        run(main)
    assert "cannot resolve the name: there is no such name" in str(logs)


def test_start_does_not_wait_long_for_name_servers_and_held_requests_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.net.resolver.LIFETIME", 0.1)
    monkeypatch.setattr("gateway.upstream.names.PATIENCE", 0.2)
    failed = "name cannot be resolved: what is known of it holds on"

    async def main() -> None:
        async with name_server() as names, on_one_port(named(b"a")) as servers:
            names.silent = {"A", "AAAA"}
            names.say("app.example", "A", "127.0.0.1")
            async with serving(names, url(servers), hold="60s") as served:
                found = []

                async def held() -> None:
                    found.append(await ask(served))

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(held)
                    await until(lambda: upstream_of(served).snapshot().held == 1 and failed in told(logs))
                    names.silent = set()
                assert found == [(200, b"a")]

    with capture_logs() as logs:
        run(main)


@pytest.mark.parametrize("kind", ["http", "uwsgi"])
def test_services_have_port_weight_and_backup(kind: str) -> None:
    async def main() -> None:
        async with (
            name_server() as names,
            on_one_port(named(b"a"), named(b"b")) as servers,
            backend(named(b"c")) as spare,
        ):
            ports = [server.address.rpartition(":")[2] for server in (*servers, spare)]
            names.say(
                "_app._tcp.example",
                "SRV",
                f"1 3 {ports[0]} a.example.",
                f"1 1 {ports[1]} b.example.",
                f"2 1 {ports[2]} a.example.",
            )
            names.say("a.example", "A", "127.0.0.1")
            names.say("b.example", "A", "127.0.0.2")
            target = "http://srv:_app._tcp.example" if kind == "http" else "srv:_app._tcp.example"
            async with serving(names, target, kind=kind) as served:
                found = {
                    (server.name, server.weight, server.backup, server.dialer.authority)
                    for server in upstream_of(served).servers
                }
                assert found == {
                    (f"127.0.0.1:{ports[0]}", 3.0, False, f"a.example:{ports[0]}".encode()),
                    (f"127.0.0.2:{ports[1]}", 1.0, False, f"b.example:{ports[1]}".encode()),
                    (f"127.0.0.1:{ports[2]}", 1.0, True, f"a.example:{ports[2]}".encode()),
                }
                if kind == "http":
                    bodies = [(await ask(served))[1] for _ in range(4)]
                    assert sorted(bodies) == [b"a", b"a", b"a", b"b"]

    with capture_logs():
        run(main)


def test_server_of_a_service_whose_name_fails_keeps_nobody_from_the_others() -> None:
    async def main() -> None:
        async with name_server() as names, on_one_port(named(b"a"), named(b"b"), named(b"c")) as servers:
            port = servers[0].address.rpartition(":")[2]
            names.say("_app._tcp.example", "SRV", f"1 1 {port} a.example.", f"1 1 {port} b.example.")
            names.say("a.example", "A", "127.0.0.1")
            names.say("b.example", "A", "127.0.0.2")
            names.broken.add("b.example")
            async with serving(names, "http://srv:_app._tcp.example") as served:
                assert names_of(served) == ["127.0.0.1"]
                assert await ask(served) == (200, b"a")
                names.broken.clear()
                await until(lambda: sorted(names_of(served)) == ["127.0.0.1", "127.0.0.2"])
                # What was known of it holds.
                stays = upstream_of(served).servers[names_of(served).index("127.0.0.2")]
                names.broken.add("b.example")
                names.say("a.example", "A", "127.0.0.3")
                await until(lambda: sorted(names_of(served)) == ["127.0.0.2", "127.0.0.3"])
                assert stays in upstream_of(served).servers
                assert {await ask(served) for _ in range(4)} == {(200, b"b"), (200, b"c")}
                names.say("_app._tcp.example", "SRV", f"1 1 {port} a.example.")
                await until(lambda: names_of(served) == ["127.0.0.3"])

    with capture_logs() as logs:
        run(main)
    warnings = [entry for entry in logs if entry["log_level"] == "warning"]
    assert [entry["name"] for entry in warnings] == ["b.example", "b.example"]


def test_host_is_the_name_in_the_configuration() -> None:
    async def main() -> None:
        seen: list[Any] = []

        async def behave(stream: trio.SocketStream) -> None:
            head, _ = await read_request(stream, CODECS["http"]())
            seen.append(dict(head.headers)[b"host"])  # type: ignore[union-attr]
            await stream.send_all(fine("http"))

        async with name_server() as names, on_one_port(behave) as servers:
            names.say("app.example", "A", "127.0.0.1")
            async with serving(names, url(servers), host="upstream") as served:
                assert (await ask(served))[0] == 200
            assert seen == [url(servers).removeprefix("http://").encode()]

    with capture_logs():
        run(main)


def test_new_servers_are_checked() -> None:
    """With `start: down` before their first request."""

    async def main() -> None:
        async with name_server() as names, on_one_port(named(b"a"), named(b"b")) as servers:
            names.say("app.example", "A", "127.0.0.1")
            check = {"path": "/", "interval": "10ms", "start": "down"}
            async with serving(names, url(servers), health={"check": check}) as served:
                await until(lambda: upstream_of(served).servers[0].health.up)
                names.say("app.example", "A", "127.0.0.2")
                await until(
                    lambda: names_of(served) == ["127.0.0.2"] and upstream_of(served).servers[0].health.up
                )
                assert upstream_of(served).snapshot().servers[0].state is State.UP
                await until(lambda: servers[0].open == 0)

    with capture_logs() as logs:
        run(main)
    assert told(logs).count("server is up") == 2


def test_localhost() -> None:
    """The system's name, and one server."""

    async def main() -> None:
        async with backend(named(b"a")) as server:
            port = server.address.rpartition(":")[2]
            config = {
                "backends": {"app": {"http": f"http://localhost:{port}"}},
                "routes": [{"backend": "app"}],
            }
            async with gateway_of(config) as served:
                assert [await ask(served) for _ in range(2)] == [(200, b"a")] * 2
                assert len(upstream_of(served).servers) == 1

    with capture_logs():
        run(main)


def test_numeric_addresses_need_nobody() -> None:
    """No name server is asked, and nothing runs for it."""

    async def main() -> None:
        async with name_server() as names:
            async with serving(names, f"http://127.0.0.1:{unused_port()}") as served:
                assert (await ask(served))[0] == 502
                assert not upstream_of(served).upkeep.follows
            assert names.asked == []

    with capture_logs():
        run(main)
