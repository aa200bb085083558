"""Slow clients beside normal ones: nobody waits for them, and they do not stay for ever.

What slowhttptest does, without the tool: 200 clients that send their heads a field at a time (slow headers)
and 200 that send their bodies a chunk of a byte at a time (slow body), while others ask and are answered.
"""

import resource
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest
import trio
import trio.testing

from gateway.front.service import Limits, Timeouts
from gateway.request import Request, Responder, respond
from tests.gateway.served import LAST_GET, Served, pass_time, read_all, response, run, serving, until

SLOW = 200
NORMAL = 50
SLOW_HEAD = (b"GET / HTTP/1.1\r\nHost: a\r\n", b"X: x\r\n")
SLOW_BODY = (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n")


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Two for each client: both ends are ours."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * SLOW + 2 * NORMAL + 100
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"{wanted} descriptors are needed: raise `ulimit -n`")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def echo(request: Request, responder: Responder) -> None:
    body = b""
    while piece := await request.body.read():
        body += piece
    await respond(responder, 200, [], b"answered")


@pytest.mark.usefixtures("quick_sweeper", "many_descriptors")
def test_slow_clients_leave_others_served() -> None:
    """Everything is bounded, and bounds of one client are nobody else's waiting."""
    clock = trio.testing.MockClock(rate=0.01)  # until the others are served, however long that takes
    refused: list[int] = []

    async def be_refused(client: trio.SocketStream) -> None:
        refused.append(response(await read_all(client)).status)

    async def ask(service: Served) -> None:
        assert response(await service.ask(LAST_GET)).body == b"answered"

    async def main() -> None:
        timeouts = Timeouts(header=2.0, body=1.0, linger=0.05)
        limits = Limits(header_count=100_000, headers=2**20, min_rate=10_000)
        async with serving(echo, timeouts=timeouts, limits=limits) as service, AsyncExitStack() as stack:
            slow = [
                (await stack.enter_async_context(await service.connect()), *kind)
                for _ in range(SLOW)
                for kind in (SLOW_HEAD, SLOW_BODY)
            ]
            async with trio.open_nursery() as clients:
                for client, first, _ in slow:
                    await client.send_all(first)
                    clients.start_soon(be_refused, client)
                await until(lambda: len(service.open) == 2 * SLOW)
                async with trio.open_nursery() as normal:
                    for _ in range(NORMAL):
                        normal.start_soon(ask, service)
                assert refused == []
                clock.rate = 1.0
                while len(refused) < 2 * SLOW:
                    await pass_time(0.02)
                    for client, _, more in slow:
                        await dribble(client, more)
        assert refused == [408] * 2 * SLOW

    run(main, seconds=30, clock=clock)


async def dribble(client: trio.SocketStream, more: bytes) -> None:
    try:
        await client.send_all(more)
    except trio.BrokenResourceError:
        pass  # refused and closed
