"""Servers that are killed, frozen and restarted while they have requests: no client notices."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from gateway.upstream.health import State
from tests.gateway.served import Served, gateway_of, run, until
from tests.gateway.upstream.test_upstream import ask, upstream_of

pytestmark = pytest.mark.usefixtures("quick_sweeper")

CLIENTS = 8


class SmallServer:
    """A process on a port of its own, which it gets again when it is started again."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self.process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        program = Path(__file__).with_name("small_server.py")
        self.process = subprocess.Popen(
            [sys.executable, str(program), str(self.port), self.name],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        ready, _, port = self.process.stdout.readline().partition(" ")
        assert ready == "ready"
        self.port = int(port)

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@pytest.fixture
def servers() -> Iterator[list[SmallServer]]:
    started = [SmallServer("a"), SmallServer("b")]
    yield started
    for server in started:
        server.kill()


async def under_load(served: Served, event: Callable[[], Awaitable[None]]) -> Counter[tuple[int, bytes]]:
    """What clients get who ask again and again while *event* happens, and some times after it."""
    found: Counter[tuple[int, bytes]] = Counter()
    happened = False
    rest = 3 * CLIENTS

    async def client() -> None:
        nonlocal rest
        while not happened or rest > 0:
            rest -= happened
            found[await ask(served)] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(CLIENTS):
            nursery.start_soon(client)
        servers = len(upstream_of(served).servers)
        await until(lambda: found.total() >= CLIENTS and len(found) >= servers)
        await event()
        happened = True
    return found


def with_gateway(
    servers: list[SmallServer], test: Callable[[Served], Awaitable[None]], **options: Any
) -> None:
    async def main() -> None:
        targets = [f"http://127.0.0.1:{server.port}" for server in servers]
        backend = {"http": targets, **options}
        config = {"backends": {"app": backend}, "routes": [{"backend": "app"}]}
        async with gateway_of(config) as served:
            with capture_logs():
                await test(served)
            state = upstream_of(served).snapshot()
            assert (state.queued, state.held) == (0, 0)
            assert [server.in_flight for server in state.servers] == [0] * len(servers)

    run(main, seconds=120.0)


def test_server_is_killed(servers: list[SmallServer]) -> None:
    """What it had goes to the other one, and it is left out."""

    async def test(served: Served) -> None:
        async def kill() -> None:
            await trio.to_thread.run_sync(servers[0].kill)
            await until(lambda: upstream_of(served).snapshot().servers[0].state is State.EJECTED)

        found = await under_load(served, kill)
        assert set(found) == {(200, b"a"), (200, b"b")}

    with_gateway(servers, test, health={"eject_time": "1h"})


def test_server_is_frozen(servers: list[SmallServer]) -> None:
    """It still accepts connections (the kernel does), and answers nothing."""

    async def test(served: Served) -> None:
        async def freeze() -> None:
            servers[0].signal(signal.SIGSTOP)
            await until(lambda: upstream_of(served).snapshot().servers[0].state is State.EJECTED)

        found = await under_load(served, freeze)
        assert set(found) == {(200, b"a"), (200, b"b")}
        assert upstream_of(served).snapshot().servers[0].last_failure == "nothing was received in time"

    timeouts = {"first_byte": "1s"}
    with_gateway(servers, test, health={"failures": 1, "eject_time": "1h"}, timeouts=timeouts)


def test_one_of_three_servers_is_frozen(servers: list[SmallServer]) -> None:
    """With nothing configured: requests go on to others, and then it is left out."""
    servers.append(SmallServer("c"))

    async def test(served: Served) -> None:
        async def freeze() -> None:
            servers[0].signal(signal.SIGSTOP)
            frozen = upstream_of(served).servers[0]
            while frozen.health.up:
                await trio.lowlevel.checkpoint()

        found = await under_load(served, freeze)
        assert set(found) == {(200, b"a"), (200, b"b"), (200, b"c")}

    with_gateway(servers, test)


def test_one_of_two_servers_is_restarted(servers: list[SmallServer]) -> None:
    async def test(served: Served) -> None:
        async def restart() -> None:
            await trio.to_thread.run_sync(servers[0].kill)
            await trio.to_thread.run_sync(servers[0].start)

        found = await under_load(served, restart)
        assert set(found) == {(200, b"a"), (200, b"b")}

    with_gateway(servers, test)


def test_the_only_server_is_restarted(servers: list[SmallServer]) -> None:
    """Requests are held for it."""

    async def test(served: Served) -> None:
        async def restart() -> None:
            await trio.to_thread.run_sync(servers[0].kill)
            await until(lambda: upstream_of(served).snapshot().held > 0)
            await trio.to_thread.run_sync(servers[0].start)

        found = await under_load(served, restart)
        assert set(found) == {(200, b"a")}

    with_gateway(servers[:1], test, hold="20s")
