"""Connections to several processes: who gets the next, and what becomes of those of one that is gone."""

import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from gateway.errors import BackendError, Cause
from gateway.net.address import UnixAddress
from gateway.net.pump import Pump
from gateway.protocols.http1.client import Http1Client
from gateway.upstream.dial import Dialer
from gateway.upstream.pool import UpstreamConnection
from gateway.upstream.seats import SeatedPool
from tests.gateway.conftest import make_request
from tests.gateway.served import pumping, run, until
from tests.gateway.upstream.policies import POOL

pytestmark = pytest.mark.usefixtures("quick_sweeper")

REQUEST = make_request()


class Fixture:
    """A pool for the processes 1 and 2, and the sockets on which they and both together listen."""

    def __init__(self, pump: Pump, directory: Path, idle_time: float) -> None:
        self.directory = directory
        self.pump = pump
        self.listeners = {name: self.listen(name) for name in ("both", "1", "2")}
        policy = replace(POOL, idle_time=idle_time)
        self.pool = SeatedPool(pump, self.dialer(self.address("both")), policy, self.dialer)
        self.pool.follow([self.address("1"), self.address("2")])

    def listen(self, name: str) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.directory / name))
        listener.listen(2)
        return listener

    def address(self, name: str) -> UnixAddress:
        return UnixAddress(str(self.directory / name))

    def dialer(self, address: UnixAddress) -> Dialer:
        return Dialer(self.pump, address, backend="app", timeout=0.05)

    async def get(self) -> UpstreamConnection:
        """A connection for a request, as an upstream gets it."""
        connection = self.pool.take()
        if connection is None:
            connection = await self.pool.dial(Http1Client(), REQUEST)
            assert connection.stream.receive_nowait() is None
        return connection


def where(connection: UpstreamConnection) -> str:
    """Whose *connection* is."""
    return Path(connection.stream.sock.getpeername()).name


def seated(
    directory: Path, test: Callable[[Fixture], Awaitable[None]], *, idle_time: float = POOL.idle_time
) -> None:
    async def main() -> None:
        async with pumping() as pump:
            fixture = Fixture(pump, directory, idle_time)
            await test(fixture)
            fixture.pool.close()
            for listener in fixture.listeners.values():
                listener.close()

    run(main)


def test_whoever_has_the_fewest_gets_the_next(tmp_path: Path) -> None:
    async def test(fixture: Fixture) -> None:
        pool = fixture.pool
        first, second, third, fourth = [await fixture.get() for _ in range(4)]
        assert [where(each) for each in (first, second, third, fourth)] == ["1", "2", "1", "2"]
        pool.give_back(first)
        third.close()
        assert pool.idle == 1
        assert await fixture.get() is first  # the last one in is not the first one out
        fifth = await fixture.get()
        assert where(fifth) == "1"
        for each in (first, second, fourth, fifth):
            pool.give_back(each)
        assert pool.idle == 4
        assert [where(await fixture.get()) for _ in range(4)] in (["1", "2"] * 2, ["2", "1"] * 2)
        assert pool.idle == 0
        for each in (first, second, fourth, fifth):
            each.close()

    seated(tmp_path, test)


def test_those_who_come_together_are_spread(tmp_path: Path) -> None:
    async def test(fixture: Fixture) -> None:
        found = []

        async def get() -> None:
            found.append(await fixture.get())

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(get)
        assert sorted(where(each) for each in found) == ["1", "1", "2", "2"]
        for each in found:
            each.close()

    seated(tmp_path, test)


def test_one_that_has_ended_gets_none(tmp_path: Path) -> None:
    """Before it is known: the next one takes the request, or the one that is to come."""

    async def test(fixture: Fixture) -> None:
        fixture.listeners["1"].close()
        found = [await fixture.get() for _ in range(2)]
        assert [where(each) for each in found] == ["2", "2"]
        fixture.listeners["2"].close()
        found.append(await fixture.get())
        assert where(found[2]) == "both"
        for each in found:
            fixture.pool.give_back(each)
        assert fixture.pool.idle == 0
        assert [each.stream.sock.fileno() for each in found] == [-1, -1, -1]

    seated(tmp_path, test)


def test_connections_of_one_that_is_to_end_are_closed(tmp_path: Path) -> None:
    async def test(fixture: Fixture) -> None:
        pool = fixture.pool
        first, second, third, fourth = [await fixture.get() for _ in range(4)]
        pool.give_back(first)
        pool.give_back(second)
        pool.follow([fixture.address("2")])
        assert pool.idle == 1
        assert first.stream.sock.fileno() == -1
        pool.give_back(third)  # it was in use
        assert third.stream.sock.fileno() == -1
        assert pool.take() is second
        second.close()
        fourth.close()

    seated(tmp_path, test)


def test_all_are_renewed(tmp_path: Path) -> None:
    async def test(fixture: Fixture) -> None:
        pool = fixture.pool
        first, second = [await fixture.get() for _ in range(2)]
        pool.give_back(first)
        pool.renew()
        pool.give_back(second)
        assert [each.stream.sock.fileno() for each in (first, second)] == [-1, -1]
        assert pool.idle == 0

    seated(tmp_path, test)


def test_those_that_were_idle_for_too_long_are_closed(tmp_path: Path) -> None:
    async def test(fixture: Fixture) -> None:
        connection = await fixture.get()
        fixture.pool.give_back(connection)
        await until(lambda: fixture.pump.now > connection.idle_since + 0.05)
        fixture.pool.close_expired()
        assert fixture.pool.idle == 0

    seated(tmp_path, test, idle_time=0.05)


@pytest.mark.parametrize("cancelled", [False, True])
def test_one_that_was_not_connected_is_not_counted(cancelled: bool, tmp_path: Path) -> None:
    async def test(fixture: Fixture) -> None:
        fixture.pool.follow([fixture.address("1")])
        found = [await fixture.get() for _ in range(3)]  # as many as may wait
        if cancelled:
            with trio.CancelScope() as scope:
                scope.cancel()
                await fixture.get()
        else:
            with pytest.raises(BackendError) as caught:
                await fixture.get()
            assert caught.value.cause is Cause.CONNECT_TIMEOUT
        fixture.pool.follow([fixture.address("1"), fixture.address("2")])
        found += [await fixture.get() for _ in range(3)]
        assert [where(each) for each in found] == ["1", "1", "1", "2", "2", "2"]
        for each in found:
            each.close()

    seated(tmp_path, test)
