"""What is different in the loop that trio steps: a first step at once, who may ask from where, wake-ups."""

import asyncio
import gc
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import sniffio
import trio
import trio.testing
from structlog.testing import capture_logs

from gateway.backends.asgi.stepping import GuestLoop
from gateway.pump import Pump


def beside(function: Callable[[GuestLoop], Awaitable[None]]) -> None:
    """Run *function* on trio's side of a loop that is stepped."""

    async def main() -> None:
        loop = GuestLoop("api", trio.lowlevel.current_clock())
        async with trio.open_nursery() as nursery:
            pump = Pump()
            await nursery.start(pump.run)
            await nursery.start(loop.run_stepped, pump)
            with trio.fail_after(30):
                await function(loop)
            nursery.cancel_scope.cancel()
        loop.close()

    trio.run(main)


async def until(condition: Callable[[], bool]) -> None:
    """Wait while trio and the loop have something to do."""
    while not condition():
        await trio.lowlevel.checkpoint()


# ---- the first step


def test_a_task_takes_its_first_step_where_it_is_begun() -> None:
    async def first_step() -> str:
        assert asyncio.get_running_loop().is_running()
        assert asyncio.current_task() in asyncio.all_tasks()
        return sniffio.current_async_library()

    async def check(loop: GuestLoop) -> None:
        hooks = sys.get_asyncgen_hooks()
        task = loop.begin(first_step())
        assert task.result() == "asyncio"
        assert sniffio.current_async_library() == "trio"
        assert sys.get_asyncgen_hooks() == hooks
        assert asyncio._get_running_loop() is None
        assert not loop.is_running()

    beside(check)


def test_a_task_goes_on_in_the_loop() -> None:
    steps: list[asyncio.Task[Any] | None] = []

    async def go_on() -> None:
        steps.append(asyncio.current_task())
        await asyncio.sleep(0)
        steps.append(asyncio.current_task())
        await asyncio.sleep(0.001)
        steps.append(asyncio.current_task())

    async def check(loop: GuestLoop) -> None:
        task = loop.begin(go_on())
        assert steps == [task]
        await until(task.done)
        assert steps == [task] * 3

    beside(check)


def test_what_the_first_step_schedules_is_run() -> None:
    called: list[str] = []

    async def schedule() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(called.append, "soon")
        loop.call_later(0.001, called.append, "later")
        asyncio.create_task(asyncio.sleep(0)).add_done_callback(lambda _: called.append("task"))

    async def check(loop: GuestLoop) -> None:
        assert loop.begin(schedule()).done()
        await until(lambda: len(called) == 3)
        assert sorted(called) == ["later", "soon", "task"]

    beside(check)


def test_an_async_generator_of_the_first_step_is_the_loops() -> None:
    closed: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            closed.append(sniffio.current_async_library())

    async def leave_it() -> None:
        generator = numbers()
        await anext(generator)

    async def check(loop: GuestLoop) -> None:
        assert loop.begin(leave_it()).done()
        gc.collect()
        await until(lambda: bool(closed))

    beside(check)
    assert closed == ["asyncio"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
def test_an_applications_own_task_factory_is_used() -> None:
    async def where() -> int:
        await asyncio.sleep(0)
        return 1

    async def check(loop: GuestLoop) -> None:
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined, unused-ignore]
        task = loop.begin(where())
        await until(task.done)
        assert task.result() == 1

    beside(check)


def test_a_first_step_that_exits_is_logged() -> None:
    async def leave() -> None:
        raise SystemExit(3)

    async def check(loop: GuestLoop) -> None:
        task = loop.begin(leave())
        assert isinstance(task.exception(), SystemExit)
        after = loop.begin(asyncio.sleep(0, "still here"))
        await until(after.done)
        assert after.result() == "still here"

    with capture_logs() as logs:
        beside(check)
    assert [entry["event"] for entry in logs] == ["uncaught in asyncio"]


# ---- who asks from where


def test_to_other_threads_it_runs_all_the_time() -> None:
    """asgiref's async_to_sync would make a loop of its own otherwise, now and then."""

    async def check(loop: GuestLoop) -> None:
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not loop.is_running()
        assert await trio.to_thread.run_sync(loop.is_running)
        with pytest.raises(RuntimeError, match="already running"):
            await trio.to_thread.run_sync(loop.run_forever)
        with pytest.raises(RuntimeError, match="running event loop"):
            await trio.to_thread.run_sync(loop.close)

    beside(check)


def test_a_future_is_resolved_from_everywhere() -> None:
    """From trio's side, from a thread as it should be, and from a thread as it should not."""

    async def wait_for(future: asyncio.Future[str]) -> str:
        return await future

    async def check(loop: GuestLoop) -> None:
        futures = [loop.create_future() for _ in range(3)]
        tasks = [loop.begin(wait_for(future)) for future in futures]
        await trio.testing.wait_all_tasks_blocked(0.01)
        futures[0].set_result("trio")
        await until(tasks[0].done)
        await trio.testing.wait_all_tasks_blocked(0.01)
        threading.Thread(target=loop.call_soon_threadsafe, args=(futures[1].set_result, "thread")).start()
        await until(tasks[1].done)
        await trio.testing.wait_all_tasks_blocked(0.01)
        threading.Thread(target=futures[2].set_result, args=("wrong thread",)).start()
        await until(tasks[2].done)
        assert [task.result() for task in tasks] == ["trio", "thread", "wrong thread"]

    beside(check)


def test_a_timer_is_set_from_everywhere() -> None:
    fired: list[str] = []

    async def check(loop: GuestLoop) -> None:
        await trio.testing.wait_all_tasks_blocked(0.01)
        loop.call_later(0.001, fired.append, "trio")
        await until(lambda: fired == ["trio"])
        await trio.testing.wait_all_tasks_blocked(0.01)
        threading.Thread(target=loop.call_later, args=(0.001, fired.append, "thread")).start()
        await until(lambda: fired == ["trio", "thread"])

    beside(check)


def test_a_closed_loop_is_let_go() -> None:
    gone: list[weakref.ref[GuestLoop]] = []

    async def check(loop: GuestLoop) -> None:
        gone.append(weakref.ref(loop))

    beside(check)
    gc.collect()
    assert gone[0]() is None
