"""Several servers behind one backend, and what becomes of a request when some of them fail.

The servers are scripted, or processes that are killed, frozen and restarted. Whatever happens, nothing is
left: no connection, no request in flight, nobody in a queue.
"""

import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from gateway.backends.application import ApplicationBackend
from gateway.backends.http import HttpBackend
from gateway.protocols.errors import Refusal
from gateway.protocols.events import RequestHead
from gateway.protocols.fastcgi import FastCgiServer
from gateway.protocols.fastcgi.records import encode_end_request
from gateway.protocols.http1 import Http1Server
from gateway.upstream.health import State
from gateway.upstream.hold import FIRST_PAUSE
from gateway.upstream.upstream import Upstream
from tests.gateway.served import (
    LAST_GET,
    Behaviour,
    ScriptedBackend,
    Served,
    backend,
    gateway_of,
    next_event,
    pass_time,
    read_request,
    reset,
    response,
    run,
    until,
    unused_port,
)
from tests.gateway.upstream.test_exchange import fine

pytestmark = pytest.mark.usefixtures("quick_sweeper")

POST: Final = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
PUT: Final = POST.replace(b"POST", b"PUT")
QUICK: Final = {"connect": "1s", "first_byte": "5s", "read": "5s"}


def upstream_of(served: Served) -> Upstream:
    handler = served.service.router.routes[0].handler
    assert isinstance(handler, ApplicationBackend | HttpBackend)
    return handler._upstream


def is_idle(upstream: Upstream) -> bool:
    """Nobody has a server, nobody waits for one."""
    state = upstream.snapshot()
    return not (state.queued or state.held or any(server.in_flight for server in state.servers))


def named(name: bytes) -> Behaviour:
    """A web server that answers each request with its name and what it was sent."""

    async def behave(stream: trio.SocketStream) -> None:
        codec = Http1Server()
        while True:
            head, body = await read_request(stream, codec)
            assert isinstance(head, RequestHead)
            await stream.send_all(fine("http", name + body))
            codec = Http1Server()

    return behave


async def cuts(stream: trio.SocketStream) -> None:
    """Reads a request and closes the connection."""
    await read_request(stream, Http1Server())


def answers(output: bytes) -> Behaviour:
    async def behave(stream: trio.SocketStream) -> None:
        await read_request(stream, Http1Server())
        await stream.send_all(output)

    return behave


UNAVAILABLE: Final = b"HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nbusy"


@asynccontextmanager
async def farm(
    *behaviours: Behaviour, kind: str = "http", entries: dict[int, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[Served, list[ScriptedBackend]]]:
    """A gateway in front of one server for each behaviour. *entries* are more settings by position."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(backend(behave)) for behave in behaviours]
        key, prefix = ("url", "http://") if kind == "http" else ("address", "")
        targets = [
            {key: prefix + server.address, **(entries or {}).get(number, {})}
            for number, server in enumerate(servers)
        ]
        config = {
            "backends": {"app": {kind: targets, "timeouts": QUICK, **options}},
            "routes": [{"backend": "app"}],
        }
        served = await stack.enter_async_context(gateway_of(config))
        yield served, servers
        await until(lambda: is_idle(upstream_of(served)))


async def refuse(served: Served, number: int) -> None:
    """The server is there no more: its port refuses."""
    upstream_of(served).servers[number].dialer.targets = ((socket.AF_INET, ("127.0.0.1", unused_port())),)


async def ask(served: Served, data: bytes = LAST_GET) -> tuple[int, bytes]:
    found = response(await served.ask(data))
    return found.status, found.body


def told(logs: list[Any]) -> list[str]:
    return [entry["event"] for entry in logs]


# ---- the next server


def test_requests_are_spread_by_weight() -> None:
    async def main() -> None:
        async with farm(named(b"a"), named(b"b"), entries={1: {"weight": 2}}) as (served, _):
            found = [await ask(served) for _ in range(6)]
        assert sorted(body for _, body in found) == [b"a", b"a", b"b", b"b", b"b", b"b"]

    run(main)


@pytest.mark.parametrize("request_", [LAST_GET, POST % (3, b"xyz"), POST % (100_000, b"x" * 100_000)])
def test_refused_connection_leads_to_the_next_server(request_: bytes) -> None:
    """Whatever the method: nothing was sent."""

    async def main() -> None:
        async with farm(named(b"a"), named(b"b")) as (served, _):
            await refuse(served, 0)
            with capture_logs() as logs:
                found = [await ask(served, request_) for _ in range(2)]
        body = request_.partition(b"\r\n\r\n")[2]
        assert found == [(200, b"b" + body)] * 2
        assert told(logs) == ["backend try failed"]
        assert logs[0]["cause"] == "connection_refused"

    run(main)


@pytest.mark.parametrize("request_", [LAST_GET, PUT % (3, b"xyz"), PUT % (60_000, b"x" * 60_000)])
def test_idempotent_request_that_was_cut_off_goes_to_the_next_server(request_: bytes) -> None:
    """Its body is kept as long as it is small."""

    async def main() -> None:
        async with farm(cuts, named(b"b")) as (served, _):
            with capture_logs() as logs:
                found = [await ask(served, request_) for _ in range(2)]
        assert found == [(200, b"b" + request_.partition(b"\r\n\r\n")[2])] * 2
        assert [(entry["event"], entry["phase"]) for entry in logs] == [("backend try failed", "first byte")]

    run(main)


@pytest.mark.parametrize("request_", [POST % (0, b""), POST % (3, b"xyz"), PUT % (100_000, b"x" * 100_000)])
def test_request_that_cannot_be_repeated_is_not(request_: bytes) -> None:
    """varnish-cache#4413, H-14; and nothing of a large body is left."""

    async def main() -> None:
        async with farm(cuts, cuts) as (served, servers):
            with capture_logs() as logs:
                assert (await ask(served, request_))[0] == 502
            assert sum(server.connections for server in servers) == 1
        assert told(logs) == ["backend failed"]

    run(main)


def test_tries_that_fail_at_once_hold_up_nobody() -> None:
    """A port that refuses says so within the call: others have their turns between the tries."""

    async def main() -> None:
        turns = 0

        async def work() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        async with farm(cuts, retry={"tries": 100}) as (served, _):
            await refuse(served, 0)
            async with trio.open_nursery() as nursery:
                with capture_logs() as logs:
                    nursery.start_soon(work)
                    assert (await ask(served))[0] == 502
                    nursery.cancel_scope.cancel()
        assert told(logs) == ["backend try failed"] * 99 + ["backend failed"]
        assert turns > 90

    run(main)


def test_failed_retry_is_not_retried() -> None:
    """H-14, RFC 9110 9.2.2; unless it is asked for."""

    async def main(tries: dict[str, Any], connections: int) -> None:
        async with farm(cuts, cuts, cuts, retry=tries) as (served, servers):
            assert (await ask(served))[0] == 502
            assert sum(server.connections for server in servers) == connections

    with capture_logs():
        run(lambda: main({}, 2))
        run(lambda: main({"tries": 3}, 3))
        run(lambda: main({"tries": 1}, 1))


def test_all_methods_if_asked_for() -> None:
    async def main() -> None:
        async with farm(cuts, named(b"b"), retry={"methods": "all"}) as (served, _):
            with capture_logs():
                assert [await ask(served, POST % (1, b"x")) for _ in range(2)] == [(200, b"bx")] * 2

    run(main)


def test_nothing_is_repeated_once_the_client_has_seen_a_byte() -> None:
    begun = answers(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")

    async def main() -> None:
        async with farm(begun, begun) as (served, servers):
            with capture_logs() as logs:
                found = response(await served.ask(LAST_GET))
            assert sum(server.connections for server in servers) == 1
        assert (found.status, found.complete) == (200, False)
        assert told(logs) == ["backend failed"]

    run(main)


def test_last_failure_is_told() -> None:
    async def main() -> None:
        async with farm(cuts, named(b"b")) as (served, _):
            await refuse(served, 1)
            with capture_logs() as logs:
                found = response(await served.ask(LAST_GET))
        assert found.status == 502
        assert "connection_refused" in found.headers["proxy-status"]
        assert told(logs) == ["backend try failed", "backend failed"]

    run(main)


# ---- statuses


def test_statuses_that_count_as_failures() -> None:
    async def main() -> None:
        async with farm(answers(UNAVAILABLE), named(b"b"), retry={"status": [503]}) as (served, _):
            with capture_logs() as logs:
                assert [await ask(served) for _ in range(2)] == [(200, b"b")] * 2
                posts = [await ask(served, POST % (0, b"")) for _ in range(2)]
            assert sorted(posts) == [(200, b"b"), (503, b"busy")]
            assert upstream_of(served).snapshot().servers[0].last_failure == "status 503"
        assert told(logs) == ["backend try failed"]

    run(main)


def test_last_answer_is_passed_on_whatever_its_status() -> None:
    async def main() -> None:
        busy = answers(UNAVAILABLE)
        async with farm(busy, busy, retry={"status": 503}) as (served, servers):
            with capture_logs():
                assert await ask(served) == (503, b"busy")
            assert [server.connections for server in servers] == [1, 1]

    run(main)


def test_statuses_are_the_applications_own_by_default() -> None:
    async def main() -> None:
        async with farm(answers(UNAVAILABLE), named(b"b"), health={"failures": 1}) as (served, _):
            assert sorted([await ask(served) for _ in range(2)]) == [(200, b"b"), (503, b"busy")]
            assert upstream_of(served).snapshot().servers[0].failures == 0

    run(main)


# ---- FastCGI


def fastcgi(*outputs: bytes) -> Behaviour:
    """Answers one request after the other on one connection; the last closes it."""

    async def behave(stream: trio.SocketStream) -> None:
        for output in outputs:
            await read_request(stream, FastCgiServer())
            await stream.send_all(output)

    return behave


OVERLOADED: Final = encode_end_request(1, refusal=Refusal.OVERLOADED)
CANNOT_SHARE: Final = encode_end_request(1, refusal=Refusal.CANT_MULTIPLEX)


def test_overloaded_application_leads_to_the_next() -> None:
    """FCGI-14: also a POST, which was not acted on."""

    async def main() -> None:
        async with farm(
            fastcgi(OVERLOADED), fastcgi(fine("fastcgi", b"b")), kind="fastcgi", health={"failures": 1}
        ) as (served, _):
            with capture_logs():
                assert [await ask(served, POST % (1, b"x")) for _ in range(2)] == [(200, b"b")] * 2
            assert upstream_of(served).snapshot().servers[0].state is State.UP

    run(main)


def test_all_applications_are_overloaded() -> None:
    """FCGI-14."""

    async def main() -> None:
        async with farm(fastcgi(OVERLOADED), fastcgi(OVERLOADED), kind="fastcgi") as (served, _):
            with capture_logs():
                found = response(await served.ask(LAST_GET))
        assert (found.status, found.headers["retry-after"]) == (503, "1")

    run(main)


def test_application_that_cannot_share_a_connection() -> None:
    """FCGI-14: asked again alone, and remembered."""
    seen = [0]

    async def behave(stream: trio.SocketStream) -> None:
        seen[0] += 1
        await fastcgi(fine("fastcgi", b"%d" % seen[0]), CANNOT_SHARE)(stream)

    async def main() -> None:
        async with farm(behave, kind="fastcgi", keep_connection=True) as (served, _):
            with capture_logs() as logs:
                found = [await ask(served, POST % (0, b"")) for _ in range(4)]
        assert found == [(200, b"1"), (200, b"2"), (200, b"3"), (200, b"4")]
        assert logs == []

    run(main)


# ---- servers that are left out


def test_server_that_fails_is_left_out_and_comes_back() -> None:
    broken = [True]

    async def moody(stream: trio.SocketStream) -> None:
        await (cuts if broken[0] else named(b"a"))(stream)

    async def main() -> None:
        async with farm(moody, named(b"b"), health={"failures": 2}) as (served, servers):
            upstream = upstream_of(served)
            with capture_logs() as logs:
                assert {await ask(served) for _ in range(6)} == {(200, b"b")}
                assert upstream.snapshot().servers[0].state is State.EJECTED
                assert servers[0].connections == 2
                broken[0] = False
                upstream.servers[0].health._until = 0.0  # its time has passed
                assert upstream.snapshot().servers[0].state is State.TRIAL
                assert {await ask(served) for _ in range(4)} == {(200, b"a"), (200, b"b")}
            assert upstream.snapshot().servers[0].state is State.UP
        assert sorted(told(logs)) == ["backend try failed"] * 2 + ["server ejected", "server is back"]

    run(main)


def test_not_all_servers_are_left_out() -> None:
    async def main() -> None:
        async with farm(cuts, cuts, health={"failures": 1}) as (served, _):
            with capture_logs():
                for _ in range(3):
                    assert (await ask(served))[0] == 502
            states = [server.state for server in upstream_of(served).snapshot().servers]
            assert sorted(state.value for state in states) == ["ejected", "up"]

    run(main)


def test_circuit_breaker_of_a_single_server() -> None:
    async def main() -> None:
        health = {"failures": 2, "max_ejected": "100%"}
        async with farm(cuts, health=health) as (served, servers):
            with capture_logs() as logs:
                found = [response(await served.ask(LAST_GET)) for _ in range(3)]
            assert servers[0].connections == 2
        assert [each.status for each in found] == [502, 502, 503]
        assert int(found[2].headers["retry-after"]) == 10
        assert (
            'error=destination_unavailable; next-hop="app"; details="queue: '
            in found[2].headers["proxy-status"]
        )
        assert logs[-1]["detail"].startswith("no server is up (127.0.0.1:")

    run(main)


def test_slow_answers_are_failures() -> None:
    async def slow(stream: trio.SocketStream) -> None:
        await read_request(stream, Http1Server())
        await pass_time(0.35)
        await stream.send_all(fine("http", b"a"))

    async def main() -> None:
        health = {"failures": 1, "slow": "300ms"}
        async with farm(slow, named(b"b"), health=health) as (served, _):
            with capture_logs() as logs:
                found = [await ask(served) for _ in range(4)]
            state = upstream_of(served).snapshot().servers[0]
        assert sorted(found) == [(200, b"a"), (200, b"b"), (200, b"b"), (200, b"b")]
        assert (state.state, told(logs)) == (State.EJECTED, ["server ejected"])
        assert state.latency is not None
        assert state.latency >= 0.3

    run(main)


def test_backup_is_for_when_no_other_is_left() -> None:
    async def main() -> None:
        async with farm(named(b"a"), named(b"b"), entries={1: {"backup": True}}) as (served, _):
            assert {await ask(served) for _ in range(3)} == {(200, b"a")}
            await refuse(served, 0)
            upstream_of(served).servers[0].pool.close()
            with capture_logs():
                assert {await ask(served) for _ in range(5)} == {(200, b"b")}
            assert upstream_of(served).snapshot().servers[0].state is State.EJECTED

    run(main)


def test_slow_client_is_not_the_servers_failure() -> None:
    """A body that comes late is no late answer."""

    async def main() -> None:
        timeouts = {"first_byte": "300ms", "read": "300ms"}
        async with farm(named(b"a"), timeouts=timeouts) as (served, _):
            async with await served.connect() as client:
                await client.send_all(POST % (2, b"x"))
                await pass_time(0.5)
                await client.send_all(b"y")
                received = b""
                while piece := await client.receive_some():
                    received += piece
            assert (response(received).status, response(received).body) == (200, b"axy")
            assert upstream_of(served).snapshot().servers[0].failures == 0

    run(main)


def test_server_that_is_late_after_a_whole_body_is_late() -> None:
    async def silent(stream: trio.SocketStream) -> None:
        await read_request(stream, Http1Server())
        await stream.receive_some()

    async def main() -> None:
        async with farm(silent, timeouts={"first_byte": "50ms"}) as (served, _):
            with capture_logs():
                async with await served.connect() as client:
                    await client.send_all(POST % (2, b"x"))
                    await trio.testing.wait_all_tasks_blocked()
                    await client.send_all(b"y")
                    assert b" 504 " in await client.receive_some()
            assert upstream_of(served).snapshot().servers[0].failures == 1

    run(main)


# ---- how many connections


def gated(gate: trio.Event) -> Behaviour:
    """Answers once the gate is open."""

    async def behave(stream: trio.SocketStream) -> None:
        await next_event(stream, Http1Server())
        await gate.wait()
        await stream.send_all(fine("http", b"a"))
        await stream.receive_some()

    return behave


async def many(served: Served, count: int, found: list[tuple[int, bytes]]) -> None:
    async def one() -> None:
        found.append(await ask(served))

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(one)


def test_never_more_connections_than_allowed() -> None:
    """docker#1977: the others wait, and all are answered."""
    most = [0, 0]

    async def behave(stream: trio.SocketStream) -> None:
        most[0] += 1
        most[1] = max(most)
        await trio.testing.wait_all_tasks_blocked()
        await read_request(stream, Http1Server())
        await stream.send_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na")
        most[0] -= 1

    async def main() -> None:
        async with farm(behave, pool={"connections": 2, "queue": 50}) as (served, _):
            found: list[tuple[int, bytes]] = []
            await many(served, 50, found)
        assert found == [(200, b"a")] * 50
        assert most[1] == 2

    run(main)


def test_queue_is_full() -> None:
    gate = trio.Event()

    async def main() -> None:
        async with farm(gated(gate), pool={"connections": 1, "queue": 1}) as (served, _):
            upstream = upstream_of(served)
            found: list[tuple[int, bytes]] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(many, served, 1, found)
                await until(lambda: upstream.servers[0].in_flight == 1)
                nursery.start_soon(many, served, 1, found)
                await until(lambda: upstream.snapshot().queued == 1)
                with capture_logs() as logs:
                    refused = response(await served.ask(LAST_GET))
                gate.set()
        assert found == [(200, b"a")] * 2
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert [(entry["phase"], entry["cause"]) for entry in logs] == [("queue", "connection_limit_reached")]

    run(main)


def test_waiting_has_an_end() -> None:
    gate = trio.Event()

    async def main() -> None:
        pool = {"connections": 1, "queue_time": "30ms"}
        async with farm(gated(gate), pool=pool, health={"failures": 1}) as (served, _):
            found: list[tuple[int, bytes]] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(many, served, 1, found)
                await until(lambda: upstream_of(served).servers[0].in_flight == 1)
                with capture_logs() as logs:
                    assert (await ask(served))[0] == 503
                gate.set()
        assert found == [(200, b"a")]
        assert "none of them became free in 0.03 s" in logs[0]["detail"]

    run(main)


def test_free_connection_of_any_server_is_taken() -> None:
    """Who waits does not wait for one server while another is free."""
    gate = trio.Event()

    async def main() -> None:
        async with farm(gated(gate), named(b"b"), pool={"connections": 1}) as (served, _):
            found: list[tuple[int, bytes]] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(many, served, 1, found)
                await until(lambda: upstream_of(served).servers[0].in_flight == 1)
                assert [await ask(served) for _ in range(4)] == [(200, b"b")] * 4
                gate.set()
        assert found == [(200, b"a")]

    run(main)


def test_idle_connections_count() -> None:
    """One that is kept has to make room for one that must be fresh."""

    async def main() -> None:
        async with farm(named(b"a"), pool={"connections": 1}) as (served, servers):
            assert await ask(served) == (200, b"a")
            assert upstream_of(served).snapshot().servers[0].idle == 1
            upgrade = LAST_GET.replace(b": close\r\n", b": close, upgrade\r\nUpgrade: websocket\r\n")
            assert await ask(served, upgrade) == (200, b"a")
            await until(lambda: servers[0].open <= 1)

    run(main)


@pytest.mark.parametrize("reason", ["requests", "check"])
def test_nobody_waits_for_a_server_that_is_left_out(reason: str) -> None:
    """When there is no other, who has waited hears the same as who comes now, and at once."""
    found_out, gate = trio.Event(), trio.Event()

    async def behave(stream: trio.SocketStream) -> None:
        head, _ = await read_request(stream, Http1Server())
        assert isinstance(head, RequestHead)
        if head.target == b"/check":
            await found_out.wait()
        elif reason == "check":
            await gate.wait()
            await stream.send_all(fine("http", b"a"))
        else:
            await gate.wait()

    async def main() -> None:
        options: dict[str, Any] = {
            "pool": {"connections": 1, "queue_time": "60s"},
            "health": {"failures": 1, "eject_time": "60s", "max_ejected": "100%"},
            "timeouts": {"first_byte": "60s"},
        }
        if reason == "check":
            options["health"]["check"] = {"path": "/check", "fall": 1, "timeout": "60s"}
        async with farm(behave, **options) as (served, _):
            upstream = upstream_of(served)
            first: list[tuple[int, bytes]] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(many, served, 1, first)
                await until(lambda: upstream.servers[0].in_flight == 1)

                async def find_out() -> None:
                    await until(lambda: upstream.snapshot().queued == 1)
                    (found_out if reason == "check" else gate).set()

                nursery.start_soon(find_out)
                second = response(await served.ask(LAST_GET))
                gate.set()
        assert "error=destination_unavailable" in second.headers["proxy-status"]
        assert (second.status, first[0][0]) == (503, 200 if reason == "check" else 502)

    run(main)


async def ask_behind_one_that_fails(
    served: Served, fail: Callable[[], Awaitable[None]]
) -> tuple[int, tuple[int, bytes]]:
    """The status of a request that fails by *fail*, and what one gets that is in the queue by then."""
    upstream = upstream_of(served)
    first: list[tuple[int, bytes]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(many, served, 1, first)
        await until(lambda: any(server.in_flight for server in upstream.servers))

        async def fail_when_queued() -> None:
            await until(lambda: upstream.snapshot().queued == 1)
            await fail()

        nursery.start_soon(fail_when_queued)
        second = await ask(served)
    return first[0][0], second


ONE_AT_A_TIME: dict[str, Any] = {
    "pool": {"connections": 1, "queue_time": "60s"},
    "health": {"failures": 1, "eject_time": "60s"},
    "timeouts": {"first_byte": "60s"},
    "retry": {"tries": 1},
}


def test_who_has_waited_for_a_server_that_is_left_out_gets_another() -> None:
    gate = trio.Event()
    fails = b""

    def behaving(name: bytes) -> Behaviour:
        async def behave(stream: trio.SocketStream) -> None:
            nonlocal fails
            await read_request(stream, Http1Server())
            fails = fails or name
            if name == fails:
                await gate.wait()
            else:
                await stream.send_all(fine("http", name))

        return behave

    async def fail() -> None:
        await until(lambda: fails != b"")
        gate.set()

    async def main() -> None:
        options = {**ONE_AT_A_TIME, "balance": {"hash": "path"}}
        async with farm(behaving(b"a"), behaving(b"b"), **options) as (served, _):
            found = await ask_behind_one_that_fails(served, fail)
        assert found == (502, (200, b"b" if fails == b"a" else b"a"))

    run(main)


def test_who_has_waited_for_a_server_that_is_left_out_gets_a_backup() -> None:
    gate = trio.Event()

    async def fails(stream: trio.SocketStream) -> None:
        await read_request(stream, Http1Server())
        await gate.wait()

    async def fail() -> None:
        gate.set()

    async def main() -> None:
        backup = {1: {"backup": True}}
        async with farm(fails, named(b"b"), entries=backup, **ONE_AT_A_TIME) as (served, _):
            assert await ask_behind_one_that_fails(served, fail) == (502, (200, b"b"))

    run(main)


def test_who_has_waited_for_a_server_that_is_left_out_is_held_like_others() -> None:
    """From then on, and not from when it came: in the queue it was for longer than it may be held."""
    gate = trio.Event()
    requests = itertools.count()

    async def fails_once(stream: trio.SocketStream) -> None:
        await read_request(stream, Http1Server())
        if next(requests):
            await stream.send_all(fine("http", b"a"))
        else:
            await gate.wait()

    async def main() -> None:
        health = {"failures": 1, "eject_time": "20ms", "max_ejected": "100%"}
        async with farm(fails_once, **{**ONE_AT_A_TIME, "health": health, "hold": "1ms"}) as (served, _):
            hold = upstream_of(served)._hold

            async def fail() -> None:
                came = trio.current_time()
                await until(lambda: trio.current_time() > came + hold.time)
                hold.time = 60.0
                gate.set()

            assert await ask_behind_one_that_fails(served, fail) == (502, (200, b"a"))

    run(main)


def test_client_that_leaves_the_queue() -> None:
    gate = trio.Event()

    async def main() -> None:
        async with farm(gated(gate), pool={"connections": 1}) as (served, _):
            upstream = upstream_of(served)
            found: list[tuple[int, bytes]] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(many, served, 1, found)
                await until(lambda: upstream.servers[0].in_flight == 1)
                client = await served.connect()
                await client.send_all(LAST_GET)
                await until(lambda: upstream.snapshot().queued == 1)
                reset(client)
                await until(lambda: upstream.snapshot().queued == 0)
                gate.set()
        assert found == [(200, b"a")]

    run(main)


# ---- clients that leave


async def reads_nothing(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def says_nothing(stream: trio.SocketStream) -> None:
    await read_request(stream, Http1Server())
    await stream.receive_some()


async def says_half(stream: trio.SocketStream) -> None:
    await read_request(stream, Http1Server())
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
    await stream.receive_some()


@pytest.mark.parametrize(
    ("behave", "request_"),
    [
        (reads_nothing, PUT % (10**7, b"x" * 10**6)),
        (reads_nothing, PUT % (10, b"x")),
        (says_nothing, LAST_GET),
        (says_half, LAST_GET),
    ],
    ids=["sending", "while the client sends", "first byte", "body"],
)
def test_client_that_leaves_is_nobodys_failure(behave: Behaviour, request_: bytes) -> None:
    """Everything of it ends at once, and counts for nothing."""

    async def main() -> None:
        async with farm(behave, behave, health={"failures": 1}, pool={"connections": 1}) as (served, servers):
            upstream = upstream_of(served)
            client = await served.connect()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.send_all, request_)
                await until(lambda: sum(server.in_flight for server in upstream.servers) == 1)
                await until(lambda: sum(server.open for server in servers) == 1)
                if behave is says_half:
                    assert (await client.receive_some()).startswith(b"HTTP/1.1 200 ")
                nursery.cancel_scope.cancel()
            with capture_logs() as logs:
                reset(client)
                await until(lambda: is_idle(upstream))
            assert logs == []
            states = upstream.snapshot().servers
            assert [(state.failures, state.idle, state.state) for state in states] == [(0, 0, State.UP)] * 2

    run(main)


def test_client_that_leaves_while_it_is_connected(tmp_path: Path) -> None:
    """The backlog of a Unix socket is full (caddy#546), and stays so."""

    async def main() -> None:
        path = str(tmp_path / "full.sock")
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
            listener.bind(path)
            listener.listen(0)
            first.connect(path)
            config = {"backends": {"app": {"http": f"http://unix:{path}"}}, "routes": [{"backend": "app"}]}
            async with gateway_of(config) as served:
                upstream = upstream_of(served)
                client = await served.connect()
                await client.send_all(LAST_GET)
                await until(lambda: upstream.servers[0].in_flight == 1)
                reset(client)
                await until(lambda: is_idle(upstream))
                assert upstream.snapshot().servers[0].failures == 0

    run(main)


def test_client_that_leaves_while_it_is_held() -> None:
    async def main() -> None:
        async with farm(named(b"a"), hold="5s") as (served, _):
            upstream = upstream_of(served)
            await refuse(served, 0)
            with capture_logs():
                client = await served.connect()
                await client.send_all(LAST_GET)
                await until(lambda: upstream.snapshot().held == 1)
                reset(client)
                await until(lambda: is_idle(upstream))

    run(main)


# ---- waiting for a server that comes back


def test_requests_are_held_while_the_server_restarts() -> None:
    async def main() -> None:
        async with farm(named(b"a"), hold="5s") as (served, _):
            upstream = upstream_of(served)
            targets = upstream.servers[0].dialer.targets
            await refuse(served, 0)
            found: list[tuple[int, bytes]] = []
            with capture_logs() as logs:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(many, served, 5, found)
                    await until(lambda: upstream.snapshot().held == 5)
                    upstream.servers[0].dialer.targets = targets
            assert found == [(200, b"a")] * 5
        assert told(logs) == ["backend try failed"] * 5
        assert all(entry["held"] for entry in logs)

    run(main)


def test_a_server_that_is_being_killed_is_not_asked_again_at_once() -> None:
    """The kernel may close its connections first, and take new ones for it until it closes its listener."""
    asked: list[float] = []

    async def behave(stream: trio.SocketStream) -> None:
        asked.append(trio.current_time())
        await (cuts if len(asked) == 1 else named(b"a"))(stream)

    async def main() -> None:
        async with farm(behave, hold="5s") as (served, _):
            with capture_logs() as logs:
                assert await ask(served) == (200, b"a")
        assert told(logs) == ["backend try failed"]

    run(main)
    assert asked[1] - asked[0] >= FIRST_PAUSE


def test_holding_has_an_end() -> None:
    clock = trio.testing.MockClock(rate=1.0)
    statuses: list[int] = []

    async def main() -> None:
        async with farm(named(b"a"), hold="8s") as (served, _):
            await refuse(served, 0)

            async def held() -> None:
                statuses.append((await ask(served))[0])

            with capture_logs() as logs:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(held)
                    await until(lambda: upstream_of(served).snapshot().held == 1)
                    clock.jump(8.0)
        assert statuses == [502]
        assert told(logs) == ["backend try failed", "backend failed"]

    run(main, seconds=30.0, clock=clock)


def test_requests_are_held_while_all_servers_are_left_out() -> None:
    async def main() -> None:
        health = {"failures": 1, "max_ejected": "100%", "eject_time": "200ms"}
        async with farm(named(b"a"), health=health, hold="5s") as (served, _):
            server = upstream_of(served).servers[0]
            server.health.failed(0.0, "broken")
            server.health.eject(trio.current_time())
            with capture_logs() as logs:
                assert await ask(served) == (200, b"a")
        assert told(logs) == ["server is back"]

    run(main)


# ---- sessions


def test_clients_stay_with_their_server() -> None:
    async def main() -> None:
        async with farm(named(b"a"), named(b"b"), sticky={"cookie": "node", "max_age": "1h"}) as (served, _):
            first = response(await served.ask(LAST_GET))
            cookie = first.headers["set-cookie"]
            assert cookie.startswith("node=")
            assert cookie.partition(";")[2] == " Path=/; HttpOnly; SameSite=Lax; Max-Age=3600"
            again = LAST_GET.replace(b"\r\n\r\n", b"\r\nCookie: %b\r\n\r\n" % cookie.split(";")[0].encode())
            for _ in range(3):
                found = response(await served.ask(again))
                assert (found.body, found.headers["set-cookie"]) == (first.body, None)
            # The server goes: another one answers, and keeps the client.
            number = 0 if first.body == b"a" else 1
            await refuse(served, number)
            upstream_of(served).servers[number].pool.close()
            with capture_logs():
                moved = response(await served.ask(again))
            assert moved.body != first.body
            assert moved.headers["set-cookie"].startswith("node=")
            assert moved.headers["set-cookie"] != cookie

    run(main)


def test_hashed_requests_stay_with_their_server() -> None:
    async def main() -> None:
        async with farm(named(b"a"), named(b"b"), balance={"hash": "query.user"}) as (served, _):
            homes = {}
            for user in range(8):
                request = LAST_GET.replace(b" / ", b" /?user=%d " % user)
                found = {await ask(served, request) for _ in range(2)}
                assert len(found) == 1
                homes[user] = found.pop()
        assert len(set(homes.values())) == 2

    run(main)
