"""Idle connections: which is taken, which are kept, which are closed."""

import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.net.address import TcpAddress
from gateway.net.pump import Pump
from gateway.protocols.http1.client import Http1Client
from gateway.upstream.dial import Dialer
from gateway.upstream.pool import Pool, UpstreamConnection
from tests.gateway.served import attached, pumping, run, until
from tests.gateway.upstream.policies import POOL

pytestmark = pytest.mark.usefixtures("quick_sweeper")


class Fixture:
    """A pool, and connections for it with their other ends."""

    def __init__(self, pump: Pump, pool: Pool) -> None:
        self.pump = pump
        self.pool = pool
        self.theirs: list[socket.socket] = []

    def connection(self) -> UpstreamConnection:
        """A connection as it is after an exchange: read until nothing was left."""
        ours, theirs = socket.socketpair()
        self.theirs.append(theirs)
        connection = self.pool.add(attached(self.pump, ours), Http1Client())
        assert connection.stream.receive_nowait() is None
        return connection


def pooling(test: Callable[[Fixture], Awaitable[None]], **limits: Any) -> None:
    policy = replace(POOL, **{"idle": 2, **limits})

    async def main() -> None:
        async with pumping() as pump:
            dialer = Dialer(pump, TcpAddress("127.0.0.1", 1), backend="app", timeout=1.0)
            fixture = Fixture(pump, Pool(pump, dialer, policy))
            await test(fixture)
            fixture.pool.close()
            for sock in fixture.theirs:
                sock.close()

    run(main)


def closed(connection: UpstreamConnection) -> bool:
    return connection.stream.sock.fileno() < 0


def test_last_one_in_is_the_first_one_out() -> None:
    async def test(fixture: Fixture) -> None:
        pool, first, second = fixture.pool, fixture.connection(), fixture.connection()
        assert pool.take() is None
        pool.give_back(first)
        pool.give_back(second)
        assert pool.take() is second
        assert second.reused
        assert pool.take() is first
        assert pool.take() is None
        first.close()
        second.close()

    pooling(test)


def test_no_more_than_the_limit_is_kept() -> None:
    async def test(fixture: Fixture) -> None:
        connections = [fixture.connection() for _ in range(3)]
        for each in connections:
            fixture.pool.give_back(each)
        assert [closed(each) for each in connections] == [False, False, True]

    pooling(test)


def test_none_is_kept_with_a_limit_of_none() -> None:
    async def test(fixture: Fixture) -> None:
        connection = fixture.connection()
        fixture.pool.give_back(connection)
        assert closed(connection)

    pooling(test, idle=0)


@pytest.mark.parametrize("expired_by", ["taking", "looking"])
def test_old_connection_is_closed(expired_by: str) -> None:
    async def test(fixture: Fixture) -> None:
        connection = fixture.connection()
        fixture.pool.give_back(connection)
        await until(lambda: fixture.pump.now > connection.idle_since + 0.05)
        if expired_by == "taking":
            assert fixture.pool.take() is None
        else:
            fixture.pool.close_expired()
        assert closed(connection)

    pooling(test, idle_time=0.05)


def test_young_connection_is_not_expired() -> None:
    async def test(fixture: Fixture) -> None:
        connection = fixture.connection()
        fixture.pool.give_back(connection)
        fixture.pool.close_expired()
        assert fixture.pool.take() is connection
        connection.close()

    pooling(test)


@pytest.mark.parametrize("event", ["data", "close"])
@pytest.mark.parametrize("noticed_by", ["taking", "looking"])
def test_connection_on_which_something_happened_is_closed(event: str, noticed_by: str) -> None:
    """H1-22."""

    async def test(fixture: Fixture) -> None:
        connection = fixture.connection()
        fixture.pool.give_back(connection)
        if event == "data":
            fixture.theirs[0].send(b"HTTP/1.1 200 forged\r\n\r\n")
        else:
            fixture.theirs[0].close()
        await until(lambda: not connection.stream.quiet)
        if noticed_by == "taking":
            assert fixture.pool.take() is None
        else:
            fixture.pool.close_expired()
        assert closed(connection)

    pooling(test)


def test_connection_with_unread_data_is_not_kept() -> None:
    """H1-22."""

    async def test(fixture: Fixture) -> None:
        connection = fixture.connection()
        fixture.theirs[0].send(b"more")
        await until(lambda: not connection.stream.quiet)
        fixture.pool.give_back(connection)
        assert closed(connection)

    pooling(test)
