"""Other threads ring, and the trio thread answers."""

import errno
import gc
import os
import threading
from collections import deque
from collections.abc import Iterator
from typing import NoReturn

import pytest
import trio
import trio.testing

from gateway.net.doorbell import Doorbell
from gateway.net.pump import Pump
from tests.gateway.served import descriptors, pumping, run


def _lacking(number: int, name: str) -> NoReturn:
    raise OSError(number, name)


@pytest.fixture(params=["eventfd", "no eventfd", "no room in the epoll set"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each way to be told, and that nothing of it stays open."""
    if request.param == "no eventfd":
        monkeypatch.setattr(os, "eventfd", lambda *_: _lacking(errno.ENOSYS, "eventfd"))
    before = descriptors()
    if request.param == "no room in the epoll set":
        with monkeypatch.context() as full:
            full.setattr(Pump, "watch", lambda *_, **__: _lacking(errno.ENOSPC, "epoll_ctl"))
            yield
    else:
        yield
    assert descriptors() <= before


@pytest.mark.usefixtures("way")
def test_no_ring_is_lost() -> None:
    """Four threads, each with a thousand: what was laid down before a ring is there in an answer after it."""
    laid: deque[int] = deque()
    taken: list[int] = []
    homes: set[int] = set()

    async def main() -> None:
        async with pumping() as pump:
            complete = trio.Event()

            def answer() -> None:
                homes.add(threading.get_ident())
                while laid:
                    taken.append(laid.popleft())
                if len(taken) == 4000:
                    complete.set()

            bell = Doorbell(pump, answer)

            def work() -> None:
                for number in range(1000):
                    laid.append(number)
                    bell.ring()

            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(trio.to_thread.run_sync, work)
            await complete.wait()
            bell.close()

    run(main)
    assert sorted(taken) == sorted([*range(1000)] * 4)
    assert homes == {threading.get_ident()}


@pytest.mark.usefixtures("way")
def test_each_ring_is_answered() -> None:
    """One after the other: nothing is read, and none is taken for the one before."""
    answers: list[None] = []

    async def main() -> None:
        async with pumping() as pump:
            answered = trio.Event()

            def answer() -> None:
                answers.append(None)
                answered.set()

            bell = Doorbell(pump, answer)
            for count in range(1, 6):
                answered = trio.Event()
                await trio.to_thread.run_sync(bell.ring)
                await answered.wait()
                assert len(answers) == count
            bell.close()

    run(main)


def test_rings_before_the_answer_are_one_system_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """At each system call a thread gives up the interpreter's lock, and many threads wait for it."""
    calls: list[int] = []
    write = os.eventfd_write

    def counted(descriptor: int, value: int) -> None:
        calls.append(value)
        write(descriptor, value)

    monkeypatch.setattr(os, "eventfd_write", counted)

    async def main() -> None:
        async with pumping() as pump:
            answered = trio.Event()
            bell = Doorbell(pump, lambda: answered.set())

            def ring_often() -> None:
                for _ in range(100):
                    bell.ring()

            for _ in range(2):
                answered = trio.Event()
                ringing = threading.Thread(target=ring_often)
                ringing.start()
                ringing.join()  # In this step: nobody answers meanwhile.
                await answered.wait()
            bell.close()

    run(main)
    assert len(calls) == 2


def test_a_ring_that_is_broken_off_silences_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler may raise in it, and libraries throw into threads that take too long."""

    async def main() -> None:
        async with pumping() as pump:
            answered = trio.Event()
            bell = Doorbell(pump, answered.set)
            with monkeypatch.context() as broken:
                broken.setattr(os, "eventfd_write", lambda *_: _lacking(errno.EINTR, "eventfd_write"))
                with pytest.raises(OSError, match="eventfd_write"):
                    await trio.to_thread.run_sync(bell.ring)
            await trio.to_thread.run_sync(bell.ring)
            await answered.wait()
            bell.close()

    run(main)


@pytest.mark.usefixtures("way")
def test_who_rings_after_the_end_is_not_told() -> None:
    """A thread may outlive the backend, or the loop."""
    bells: list[Doorbell] = []
    answers: list[None] = []

    async def main() -> None:
        async with pumping() as pump:
            bells.append(Doorbell(pump, lambda: answers.append(None)))
            bells[0].close()
            await trio.to_thread.run_sync(bells[0].ring)
            await trio.testing.wait_all_tasks_blocked()

    run(main)
    bells[0].ring()
    assert answers == []


def test_a_thread_that_still_rings_finds_no_file_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is about to write when the bell is closed: the number of the eventfd is not free before it has."""
    about_to_write, go_on = threading.Event(), threading.Event()
    write = os.eventfd_write
    failures: list[OSError] = []

    def slow_write(descriptor: int, value: int) -> None:
        about_to_write.set()
        assert go_on.wait(10)
        try:
            write(descriptor, value)
        except OSError as error:
            failures.append(error)

    async def main() -> None:
        async with pumping() as pump:
            gc.collect()  # What earlier tests have left does not go meanwhile.
            before = descriptors()
            bell = Doorbell(pump, lambda: None)
            monkeypatch.setattr(os, "eventfd_write", slow_write)
            ringing, closing = threading.Thread(target=bell.ring), threading.Thread(target=bell.close)
            ringing.start()
            assert about_to_write.wait(10)
            closing.start()
            closing.join(0.1)
            assert descriptors() == before + 1
            go_on.set()
            ringing.join()
            closing.join()
            assert descriptors() == before

    run(main)
    assert failures == []
