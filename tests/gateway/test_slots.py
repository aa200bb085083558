"""Places for what runs at the same time: the rest waits in order, for a while, and not too many."""

from math import inf

import pytest
import trio
import trio.testing

from gateway.errors import BackendError, Cause, Phase
from gateway.slots import Slots


def make_slots(*, queue: int | None = 1, queue_time: float = 60) -> Slots:
    return Slots(1, queue=queue, queue_time=queue_time, backend="tools", running="programs run")


def test_full_queue_is_refused_at_once() -> None:
    async def main() -> None:
        slots = make_slots()
        entered = trio.Event()

        async def wait() -> None:
            await slots.enter("waits")
            entered.set()

        async with trio.open_nursery() as nursery:
            await slots.enter("runs")
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            assert (slots.waiting, entered.is_set()) == (1, False)
            with pytest.raises(BackendError, match="1 programs run, and 1 requests wait already") as raised:
                await slots.enter("refused")
            slots.leave()
            with trio.fail_after(60):
                await entered.wait()
        error = raised.value
        assert (error.cause, error.phase, error.retry_after) == (Cause.OVERLOADED, Phase.QUEUE, 60)
        assert error.address == "refused"

    trio.run(main)


def test_waiting_has_an_end() -> None:
    async def main() -> None:
        slots = make_slots(queue_time=5)
        await slots.enter("runs")
        with pytest.raises(BackendError, match="none has ended for 5 s") as raised:
            await slots.enter("waits")
        assert raised.value.retry_after == 5
        slots.leave()
        await slots.enter("next")  # nobody holds the place of who has given up

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_queue_may_be_endless() -> None:
    """And then nobody knows when to come back, should it be asked."""

    async def main() -> None:
        slots = make_slots(queue=None, queue_time=inf)
        order: list[int] = []

        async def one(number: int) -> None:
            await slots.enter("x")
            order.append(number)
            slots.leave()

        await slots.enter("x")
        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(one, number)
                await trio.testing.wait_all_tasks_blocked()
            slots.leave()
        assert order == list(range(300))  # first come, first served

    trio.run(main)


def test_no_queue_at_all() -> None:
    async def main() -> None:
        slots = make_slots(queue=0, queue_time=inf)
        await slots.enter("runs")
        with pytest.raises(BackendError, match="0 requests wait already") as raised:
            await slots.enter("refused")
        assert raised.value.retry_after == 1

    trio.run(main)


def test_who_is_cancelled_has_left_the_queue() -> None:
    async def main() -> None:
        slots = make_slots()
        await slots.enter("x")
        for _ in range(3):  # each finds room in the queue
            async with trio.open_nursery() as nursery:
                nursery.start_soon(slots.enter, "x")
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        slots.leave()
        await slots.enter("y")

    trio.run(main)


def test_who_is_cancelled_with_a_place_hands_it_on() -> None:
    """The place that was granted in the moment of the cancellation is not lost."""

    async def main() -> None:
        slots = make_slots(queue=2)
        entered: list[str] = []

        async def one(name: str, scope: trio.CancelScope) -> None:
            with scope:
                await slots.enter(name)
                entered.append(name)

        await slots.enter("x")
        scopes = [trio.CancelScope(), trio.CancelScope()]
        async with trio.open_nursery() as nursery:
            for name, scope in zip("ab", scopes, strict=True):
                nursery.start_soon(one, name, scope)
                await trio.testing.wait_all_tasks_blocked()
            scopes[0].cancel()
            slots.leave()
        assert entered == ["b"]

    trio.run(main)
