"""Trio waits in the pump's epoll set: for what it waits for itself, too."""

import os
import socket
from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from gateway.net.io_manager import IOManager
from gateway.net.pump import Pump
from gateway.net.resumption import find_run_context
from tests.gateway.net.pumped import connected
from tests.gateway.served import attached, pumping, run

pytestmark = pytest.mark.usefixtures("quick_sweeper")


class Between(trio.abc.Instrument):
    """Calls *call* once, when trio's loop has looked and no task has gone on yet."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def after_io_wait(self, timeout: float) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()


async def _send(sock: socket.socket) -> None:
    await trio.to_thread.run_sync(sock.send, b"?")


async def _echo(pump: Pump) -> None:
    """A stream of the pump gets what its peer sends, several times."""
    ours, theirs = socket.socketpair()
    with theirs:
        stream = attached(pump, ours)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(_send, theirs)
                assert await stream.receive_some() == b"?"
        stream.close()


def test_what_waits_by_trio_goes_on_beside_the_pump() -> None:
    """Descriptors, threads, and deadlines."""

    async def main() -> None:
        async with pumping() as pump:
            assert type(find_run_context().runner.io_manager) is IOManager
            ours, theirs = socket.socketpair()
            with ours, theirs:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.lowlevel.wait_readable, ours)
                    await wait_all_tasks_blocked()
                    assert trio.lowlevel.current_statistics().io_statistics.backend == "epoll"
                    theirs.send(b".")
                with pytest.raises(trio.TooSlowError), trio.fail_after(0.01):
                    await trio.lowlevel.wait_readable(theirs)
            assert await trio.to_thread.run_sync(os.getpid) == os.getpid()
            await _echo(pump)

    run(main)


def test_trio_has_its_own_back_when_the_pump_ends() -> None:
    async def main() -> None:
        for _ in range(2):
            async with pumping() as pump:
                await _echo(pump)
            ours, theirs = socket.socketpair()
            with ours, theirs:
                theirs.send(b".")
                await trio.lowlevel.wait_readable(ours)
            assert await trio.to_thread.run_sync(os.getpid) == os.getpid()

    run(main)


def test_a_second_pump_waits_by_trio() -> None:
    """And holds nothing back: nobody would tell it when a turn is over."""

    async def main() -> None:
        async with pumping() as first, pumping() as second:
            assert first.outbox.opened
            assert not second.outbox.opened
            for pump in (second, first, second):
                await _echo(pump)
            ours, theirs = connected("tcp")
            with theirs:
                stream = attached(second, ours)
                stream.read_deadline = second.time()
                with pytest.raises(trio.TooSlowError):
                    await stream.receive_some()
                stream.close()

    run(main)


def test_events_are_not_those_of_a_socket_that_came_after_them() -> None:
    """The one that they are about is closed before the pump goes on, and its number is another's."""

    async def main() -> None:
        async with pumping() as pump:
            ours, theirs = socket.socketpair()
            new, theirs_of_new = socket.socketpair()
            number = ours.fileno()
            old = attached(pump, ours)
            await wait_all_tasks_blocked()
            taken = []

            def replace() -> None:
                old.close()
                taken.append(attached(pump, socket.socket(fileno=os.dup2(new.detach(), number))))

            with theirs, theirs_of_new:
                descriptor = new.fileno()
                trio.lowlevel.add_instrument(between := Between(replace))
                theirs.close()  # told as the end of both directions
                await wait_all_tasks_blocked()
                trio.lowlevel.remove_instrument(between)
                os.close(descriptor)
                (stream,) = taken
                assert stream.sock.fileno() == number
                assert not stream.peer_closed
                assert stream.receive_nowait() is None
                theirs_of_new.send(b"new")
                assert await stream.receive_some() == b"new"
                stream.close()

    run(main)


def test_what_has_come_is_told_once_whoever_looks_first() -> None:
    """The sweeper may have its turn between trio's look and the pump."""

    async def main() -> None:
        async with pumping() as pump:
            ours, theirs = socket.socketpair()
            told = []
            with ours, theirs:
                pump.watch(ours.fileno(), lambda: told.append(ours.recv(1)))
                for number in range(1, 50):
                    theirs.send(b".")
                    # Both have something to do in the same turn, in an order that is trio's to choose.
                    with trio.move_on_after(0):
                        await trio.sleep_forever()
                    pump._poll_now()
                    await wait_all_tasks_blocked()
                    assert told == [b"."] * number
                pump.unwatch(ours.fileno())

    run(main)


def test_a_pump_that_is_cancelled_with_events_waiting_ends() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            pump = Pump()
            await nursery.start(pump.run)
            ours, theirs = socket.socketpair()
            with theirs:
                stream = attached(pump, ours)
                await wait_all_tasks_blocked()
                theirs.send(b".")
                trio.lowlevel.add_instrument(between := Between(nursery.cancel_scope.cancel))
                await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.SUCCEEDED)
        trio.lowlevel.remove_instrument(between)
        stream.close()
        assert await trio.to_thread.run_sync(os.getpid) == os.getpid()

    run(main)
