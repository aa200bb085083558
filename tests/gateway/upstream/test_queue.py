"""Who gets a connection that becomes free, and that none is lost when a request is cancelled."""

import math
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from gateway.net.address import TcpAddress
from gateway.net.pump import Pump
from gateway.upstream.balance import RoundRobin
from gateway.upstream.dial import Dialer
from gateway.upstream.group import ServerGroup
from gateway.upstream.hold import Hold
from gateway.upstream.pool import Pool
from gateway.upstream.queue import Queue
from gateway.upstream.server import Server
from gateway.upstream.upkeep import Upkeep
from tests.gateway.served import run
from tests.gateway.upstream.policies import HEALTH, POOL


def make_server(port: int, connections: int = 1) -> Server:
    pump = Pump()
    dialer = Dialer(pump, TcpAddress("127.0.0.1", port), backend="app", timeout=1.0)
    pump._epoll.close()
    return Server(Pool(pump, dialer, POOL), health=HEALTH, connections=connections)


def queueing(test: Callable[[Queue, Server, Server, list[str], trio.Nursery], Awaitable[None]]) -> None:
    """Run *test* with two servers that are full."""

    async def main() -> None:
        first, second = make_server(1), make_server(2)
        first.enter(0.0)
        second.enter(0.0)
        queue = Queue(3, 60.0)
        async with trio.open_nursery() as nursery:
            await test(queue, first, second, [], nursery)
        assert not queue.waiting

    run(main)


async def wait(queue: Queue, wanted: Server | None, name: str, got: list[str]) -> None:
    server = await queue.wait(wanted, math.inf)
    assert server is not None
    got.append(f"{name} {server.name[-1]}")


def free(queue: Queue, server: Server) -> None:
    server.leave()
    queue.grant(server)


def test_first_come_first_served() -> None:
    async def test(
        queue: Queue, first: Server, second: Server, got: list[str], nursery: trio.Nursery
    ) -> None:
        for name in "abc":
            nursery.start_soon(wait, queue, None, name, got)
            await trio.testing.wait_all_tasks_blocked()
        assert queue.full
        for server in (second, first, second):
            free(queue, server)
            assert not server.has_room
            await trio.testing.wait_all_tasks_blocked()
        assert got == ["a 2", "b 1", "c 2"]

    queueing(test)


def test_who_wants_one_server_waits_for_it() -> None:
    async def test(
        queue: Queue, first: Server, second: Server, got: list[str], nursery: trio.Nursery
    ) -> None:
        nursery.start_soon(wait, queue, first, "a", got)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(wait, queue, None, "b", got)
        await trio.testing.wait_all_tasks_blocked()
        free(queue, second)
        await trio.testing.wait_all_tasks_blocked()
        assert got == ["b 2"]
        free(queue, first)
        await trio.testing.wait_all_tasks_blocked()
        assert got == ["b 2", "a 1"]

    queueing(test)


def test_server_that_is_left_out_is_nobodys_choice() -> None:
    async def test(
        queue: Queue, first: Server, second: Server, got: list[str], nursery: trio.Nursery
    ) -> None:
        nursery.start_soon(wait, queue, None, "a", got)
        await trio.testing.wait_all_tasks_blocked()
        first.health.mark_down("a check failed")
        free(queue, first)
        assert first.has_room
        free(queue, second)
        await trio.testing.wait_all_tasks_blocked()
        assert got == ["a 2"]

    queueing(test)


def test_nobody_waits_for_a_server_that_its_name_leads_to_no_more() -> None:
    async def test(
        queue: Queue, first: Server, second: Server, got: list[str], nursery: trio.Nursery
    ) -> None:
        group = ServerGroup("app", [first, second], balance=RoundRobin(), health=HEALTH)
        Upkeep("app", group, queue, Hold(0.0))

        async def wait_for_first() -> None:
            assert await queue.wait(first, math.inf) is None
            got.append("a")

        nursery.start_soon(wait_for_first)
        await trio.testing.wait_all_tasks_blocked()
        group.replace([second])
        await trio.testing.wait_all_tasks_blocked()
        assert got == ["a"]

    queueing(test)


def test_server_that_is_back_is_for_as_many_as_it_has_room_for() -> None:
    async def main() -> None:
        server, queue, got = make_server(1, connections=2), Queue(3, 60.0), list[str]()
        server.health.mark_down("a check failed")
        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(wait, queue, None, name, got)
                await trio.testing.wait_all_tasks_blocked()
            server.health.mark_up(0.0)
            queue.grant(server)
            await trio.testing.wait_all_tasks_blocked()
            assert sorted(got) == ["a 1", "b 1"]  # trio wakes them in any order
            free(queue, server)
        assert got[2:] == ["c 1"]

    run(main)


@pytest.mark.parametrize("moment", ["waiting", "granted"])
def test_cancelled_request_keeps_no_connection(moment: str) -> None:
    """Granted in the very moment of the cancellation, it goes to the next."""

    async def test(
        queue: Queue, first: Server, second: Server, got: list[str], nursery: trio.Nursery
    ) -> None:
        scope = trio.CancelScope()

        async def cancelled() -> None:
            with scope:
                await wait(queue, None, "a", got)
                await trio.sleep_forever()

        nursery.start_soon(cancelled)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(wait, queue, None, "b", got)
        await trio.testing.wait_all_tasks_blocked()
        if moment == "granted":
            free(queue, first)
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            # It has it, and its caller gives it back.
            assert got == ["a 1"]
        else:
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
        free(queue, first)
        await trio.testing.wait_all_tasks_blocked()
        assert got[-1] == "b 1"
        assert first.in_flight == 1

    queueing(test)


def test_waiting_has_an_end() -> None:
    async def main() -> None:
        server = make_server(1)
        server.enter(0.0)
        queue = Queue(3, 0.01)
        assert await queue.wait(None, trio.current_time() + queue.time) is None
        assert not queue.waiting
        free(queue, server)
        assert server.has_room

    run(main)
