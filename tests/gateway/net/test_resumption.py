"""A task that is resumed is to trio, and to itself, what a task that is rescheduled is."""

import gc
import signal
import weakref
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import pytest
import trio
import trio.testing
from outcome import Error, Value
from trio.lowlevel import Abort, RaiseCancelT, Task, reschedule

from gateway.net import resumption
from gateway.net.resumption import Parking, current_task, resume

variable: ContextVar[str] = ContextVar("variable", default="unset")


class Place:
    """A task waits here until another wakes it."""

    def __init__(self) -> None:
        self.task: Task | None = None
        self.parking = Parking(self._abort)
        self.aborted = 0

    async def wait(self) -> None:
        self.task = current_task()
        await self.parking

    def wake(self) -> None:
        task, self.task = self.task, None
        assert task is not None
        resume(task)

    def _abort(self, _raise_cancel: RaiseCancelT) -> Abort:
        self.task = None
        self.aborted += 1
        return Abort.SUCCEEDED


@pytest.fixture(params=["direct", "by trio"], autouse=True)
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is with this trio, and as it would be with one that is not made as expected."""
    assert resumption.DIRECT, "this version of trio is made in another way: see gateway/net/resumption.py"
    if request.param == "by trio":
        monkeypatch.setattr(resumption, "DIRECT", False)


async def _parked(nursery: trio.Nursery, function: Callable[[Place], Awaitable[object]]) -> Place:
    """A place where a task with *function* waits."""
    place = Place()
    nursery.start_soon(function, place)
    await trio.testing.wait_all_tasks_blocked()
    assert place.task is not None
    return place


async def _woken(function: Callable[[Place], Awaitable[object]], times: int) -> None:
    """Wake a task with *function* so many times, and wait for its end."""
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            place = await _parked(nursery, function)
            for _ in range(times):
                place.wake()
                await trio.testing.wait_all_tasks_blocked()


def test_it_goes_on_at_once() -> None:
    if not resumption.DIRECT:
        pytest.skip("trio lets it go on in its next turn")
    seen: list[str] = []

    async def waiter(place: Place) -> None:
        for name in ("first", "second"):
            await place.wait()
            seen.append(name)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            place = await _parked(nursery, waiter)
            for name in ("first", "second"):
                seen.append(f"before {name}")
                place.wake()
                seen.append(f"after {name}")

    trio.run(main)
    assert seen == ["before first", "first", "after first", "before second", "second", "after second"]


def test_it_is_the_current_task_and_has_its_own_context() -> None:
    seen: list[object] = []

    async def waiter(place: Place) -> None:
        variable.set("the task's")
        await place.wait()
        task = trio.lowlevel.current_task()
        seen.extend([variable.get(), task.name, current_task() is task])
        variable.set("the task's, later")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            place = await _parked(nursery, waiter)
            variable.set("the caller's")
            caller = trio.lowlevel.current_task()
            place.wake()
            assert trio.lowlevel.current_task() is caller
            assert current_task() is caller
            assert variable.get() == "the caller's"

    trio.run(main)
    assert seen[0] == "the task's"
    assert "waiter" in str(seen[1])
    assert seen[2] is True


def test_its_end_is_the_end_of_the_task() -> None:
    async def waiter(place: Place) -> None:
        await place.wait()

    async def main() -> None:
        tasks = trio.lowlevel.current_statistics().tasks_living
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                place = await _parked(nursery, waiter)
                place.wake()
        assert trio.lowlevel.current_statistics().tasks_living == tasks

    trio.run(main)


@pytest.mark.parametrize("error", [ValueError("its own"), KeyboardInterrupt()])
def test_what_it_raises_reaches_its_nursery(error: BaseException) -> None:
    async def waiter(place: Place) -> None:
        await place.wait()
        raise error

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            place = await _parked(nursery, waiter)
            place.wake()  # raises nothing here
            await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main, strict_exception_groups=True)
    assert caught.value.exceptions[0] is error


def test_it_may_do_all_that_tasks_do() -> None:
    seen: list[str] = []

    async def waiter(place: Place) -> None:
        await place.wait()
        await trio.lowlevel.checkpoint()
        seen.append("checkpoint")
        await trio.lowlevel.checkpoint()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.lowlevel.checkpoint)
        seen.append("nursery")
        await trio.to_thread.run_sync(lambda: seen.append("thread"))
        await place.wait()
        seen.append("again")

    async def main() -> None:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                place = await _parked(nursery, waiter)
                place.wake()
                while place.task is None:
                    await trio.lowlevel.checkpoint()
                place.wake()

    trio.run(main)
    assert seen == ["checkpoint", "nursery", "thread", "again"]


def test_what_is_foreign_to_trio_is_refused_by_it() -> None:
    class Foreign:
        def __await__(self) -> Generator[str, Any, None]:
            yield "not for trio"

    async def waiter(place: Place) -> None:
        await place.wait()
        with pytest.raises(TypeError, match="unrecognized yield message"):
            await Foreign()
        await place.wait()

    trio.run(_woken, waiter, 2)


def test_it_may_be_detached() -> None:
    async def waiter(place: Place) -> None:
        await place.wait()
        await trio.lowlevel.permanently_detach_coroutine_object(Value(None))

    trio.run(_woken, waiter, 1)


def test_rescheduled_it_goes_on_too() -> None:
    async def waiter(place: Place) -> None:
        await place.wait()
        with pytest.raises(ValueError, match="from outside"):
            await place.wait()

    async def main() -> None:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                place = await _parked(nursery, waiter)
                assert place.task is not None
                reschedule(place.task)
                await trio.testing.wait_all_tasks_blocked()
                reschedule(place.task, Error(ValueError("from outside")))

    trio.run(main)


def test_a_wait_is_a_checkpoint() -> None:
    async def waiter(place: Place) -> None:
        await place.wait()
        with trio.testing.assert_checkpoints():
            await place.wait()

    trio.run(_woken, waiter, 2)


def test_a_plain_checkpoint_is_one_too() -> None:
    async def waiter(place: Place) -> None:
        await place.wait()
        with trio.testing.assert_checkpoints():
            await trio.lowlevel.checkpoint()
        await place.wait()
        with pytest.raises(AssertionError), trio.testing.assert_no_checkpoints():
            await trio.lowlevel.cancel_shielded_checkpoint()

    trio.run(_woken, waiter, 2)


def test_ctrl_c_reaches_the_main_task_at_its_next_wait() -> None:
    async def wake(place: Place) -> None:
        await trio.testing.wait_all_tasks_blocked()
        signal.raise_signal(signal.SIGINT)
        await trio.testing.wait_all_tasks_blocked()
        place.wake()

    async def main() -> None:
        place = Place()
        trio.lowlevel.spawn_system_task(wake, place)
        place.parking = Parking(lambda _: Abort.FAILED)  # it cannot be interrupted here
        await place.wait()
        with trio.fail_after(20):
            await trio.sleep_forever()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            trio.run(main)
    finally:
        signal.signal(signal.SIGINT, before)


class TestCancelled:
    def test_while_it_waits(self) -> None:
        async def waiter(place: Place) -> None:
            await place.wait()
            await place.wait()

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                place = await _parked(nursery, waiter)
                place.wake()
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            assert place.aborted == 1

        trio.run(main)

    def test_by_itself(self) -> None:
        seen: list[str] = []

        async def waiter(place: Place) -> None:
            with trio.CancelScope() as scope:
                await place.wait()
                scope.cancel()
                seen.append("cancelled")
                await place.wait()
            seen.append("over")

        async def main() -> None:
            with trio.fail_after(20):
                async with trio.open_nursery() as nursery:
                    place = await _parked(nursery, waiter)
                    place.wake()
            assert place.aborted == 1

        trio.run(main)
        assert seen == ["cancelled", "over"]

    def test_before_it_is_resumed_the_caller_is(self) -> None:
        """Both in one scope: each is cancelled at its own next wait."""

        async def waiter(place: Place) -> None:
            with trio.CancelScope(shield=True):
                await place.wait()
            await place.wait()

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                place = await _parked(nursery, waiter)
                nursery.cancel_scope.cancel()
                place.wake()
                assert not resumption.DIRECT or place.aborted == 1
            assert place.aborted == 1

        trio.run(main)

    def test_not_within_a_shield(self) -> None:
        seen: list[str] = []

        async def waiter(place: Place) -> None:
            await place.wait()
            with trio.CancelScope(shield=True):
                await place.wait()
                seen.append("shielded")

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                place = await _parked(nursery, waiter)
                place.wake()
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
                place.wake()

        trio.run(main)
        assert seen == ["shielded"]


class TestNothingIsKept:
    """What has gone is gone at once: there is no cycle that waits to be found."""

    @pytest.fixture(autouse=True)
    @staticmethod
    def _no_collector() -> Iterator[None]:
        gc.collect()
        gc.disable()
        yield
        gc.enable()

    def test_abandoned_it_lets_go_of_its_owner(self) -> None:
        place = Place()
        gone = weakref.ref(place)
        place.parking.abandon()
        del place
        assert gone() is None

    @pytest.mark.parametrize("end", ["return", "error from outside", "cancelled", "own error"])
    def test_of_a_task_that_has_ended(self, end: str) -> None:
        class Kept:
            pass

        async def waiter(place: Place) -> None:
            kept = Kept()
            gone.append(weakref.ref(kept))
            with suppress(LookupError), trio.CancelScope() as scope:
                scopes.append(scope)
                await place.wait()
                if end == "own error":
                    raise LookupError(kept)

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                place = await _parked(nursery, waiter)
                task = place.task
                assert task is not None
                if end == "cancelled":
                    scopes.pop().cancel()
                elif end == "error from outside":
                    reschedule(task, Error(LookupError()))
                else:
                    place.wake()
                place.parking.abandon()
            del task, place
            await trio.lowlevel.checkpoint()
            assert gone[0]() is None

        gone: list[weakref.ref[Kept]] = []
        scopes: list[trio.CancelScope] = []
        trio.run(main)
