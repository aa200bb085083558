"""What is different in the loop that trio steps: who may ask from where, and what wakes it."""

import asyncio
import gc
import socket
import sys
import threading
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from time import monotonic

import pytest
import sniffio
import trio
import trio.testing

from gateway.backends.asgi import stepping
from gateway.backends.asgi.stepping import ITERATIONS_PER_STEP, GuestLoop
from gateway.net.pump import Pump
from gateway.net.resumption import Parking


def beside(
    function: Callable[[GuestLoop], Awaitable[None]], clock: trio.testing.MockClock | None = None
) -> None:
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

    trio.run(main, clock=clock)


def _stay(_raise_cancel: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.SUCCEEDED


async def until(condition: Callable[[], bool]) -> None:
    """Wait while trio and the loop have something to do."""
    while not condition():
        await trio.lowlevel.checkpoint()


def test_time_is_what_the_monotonic_clock_says() -> None:
    """As of other loops: who makes a deadline of `time.monotonic` means the same moment."""

    async def main(loop: GuestLoop) -> None:
        before = monotonic()
        now = loop.time()
        assert before - 0.001 <= now <= monotonic() + 0.001
        due = asyncio.Event()
        loop.call_at(monotonic() - 1, due.set)
        await until(due.is_set)

    beside(main)


def test_a_timer_without_a_time_is_refused() -> None:
    """As of other loops: among the others it could not be compared."""

    async def main(loop: GuestLoop) -> None:
        def ask() -> None:
            with pytest.raises(TypeError, match="when cannot be None"):
                loop.call_at(None, print)  # type: ignore[arg-type]
            refused.set()

        refused = asyncio.Event()
        loop.call_soon(ask)
        await until(refused.is_set)

    beside(main)


def test_an_async_generator_that_is_left_is_closed_on_the_loop() -> None:
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
        task = loop.create_task(leave_it())
        await until(task.done)
        gc.collect()
        await until(lambda: bool(closed))
        assert sniffio.current_async_library() == "trio"

    beside(check)
    assert closed == ["asyncio"]


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
        tasks = [loop.create_task(wait_for(future)) for future in futures]
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


def test_a_step_ends_when_it_has_had_its_time() -> None:
    """An application that works, and says now and then that others may have a turn, is taken at its word."""
    clock = trio.testing.MockClock()
    turns = 0
    pieces: Counter[int] = Counter()

    async def work() -> None:
        for _ in range(100):
            clock.jump(0.01)
            pieces[turns] += 1
            await asyncio.sleep(0)

    async def check(loop: GuestLoop) -> None:
        nonlocal turns
        task = loop.create_task(work())
        while not task.done():
            await trio.lowlevel.checkpoint()
            turns += 1

    beside(check, clock)
    # Two in a step, and two steps may be between two turns of another task.
    assert max(pieces.values()) <= 4


def test_each_iteration_has_a_look_at_the_files() -> None:
    """As on other loops: libraries let others have what they sent them by ``sleep(0)``."""
    seen: list[bytes] = []

    async def work() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            loop.add_reader(theirs, lambda: seen.append(theirs.recv(1)))
            ours.send(b"x")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            loop.remove_reader(theirs)

    async def check(loop: GuestLoop) -> None:
        await until(loop.create_task(work()).done)

    beside(check)
    assert seen == [b"x"]


def test_what_comes_for_the_application_costs_one_step_of_the_pump() -> None:
    """And the loop goes on within it: neither a turn of trio, nor a second look of the pump."""
    steps: Counter[str] = Counter()
    rounds = 5

    class Counting(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            steps.update(part for part in ("Pump.run", "run_stepped") if part in task.name)

    async def work(ours: socket.socket, seen: list[bytes]) -> None:
        loop = asyncio.get_running_loop()
        while len(seen) < rounds:
            seen.append(await loop.sock_recv(ours, 1))

    async def check(loop: GuestLoop) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        seen: list[bytes] = []
        with ours, theirs:
            task = loop.create_task(work(ours, seen))
            await trio.testing.wait_all_tasks_blocked()
            trio.lowlevel.add_instrument(counting := Counting())
            for number in range(1, rounds + 1):
                theirs.send(b".")
                while len(seen) < number:
                    await trio.testing.wait_all_tasks_blocked()
            trio.lowlevel.remove_instrument(counting)
            assert task.done()

    beside(check, trio.testing.MockClock())  # a step is never so long that it ends early
    assert steps == {"Pump.run": rounds}


def test_what_is_taken_in_pieces_is_taken_whole() -> None:
    """A reader may leave something for its next call; that may be more calls than a step has iterations."""
    sent = b"x" * 10 * ITERATIONS_PER_STEP
    taken: list[bytes] = []

    def take(ours: socket.socket) -> None:
        taken.append(ours.recv(1))

    async def check(loop: GuestLoop) -> None:
        pairs = [socket.socketpair() for _ in range(3)]
        for ours, theirs in pairs:
            loop.add_reader(ours, take, ours)
            theirs.send(sent)
        await until(lambda: len(taken) == len(sent) * len(pairs))
        await trio.testing.wait_all_tasks_blocked()
        pairs[0][1].send(b"y")
        await until(lambda: taken[-1] == b"y")
        for ours, theirs in pairs:
            loop.remove_reader(ours)
            ours.close()
            theirs.close()

    beside(check)


def test_who_is_cancelled_before_the_step_takes_it_no_more() -> None:
    """The stepper has been told of something to do; what comes in the same batch ends it."""

    async def main() -> None:
        loop = GuestLoop("api", trio.lowlevel.current_clock())
        async with trio.open_nursery() as nursery:
            pump = Pump()
            await nursery.start(pump.run)
            stepping = await nursery.start(step_in_scope, loop, pump)
            ours, theirs = socket.socketpair()
            called: list[str] = []

            def on_readable() -> None:
                pump.unwatch(ours.fileno())
                loop.call_soon(called.append, "step")
                stepping.cancel()

            with ours, theirs:
                pump.watch(ours.fileno(), on_readable)
                theirs.send(b".")
                with trio.fail_after(30):
                    await until(lambda: stepping.cancelled_caught)
            assert not called
            nursery.cancel_scope.cancel()
        loop.close()

    async def step_in_scope(
        loop: GuestLoop, pump: Pump, *, task_status: trio.TaskStatus[trio.CancelScope]
    ) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(loop.run_stepped, pump)
                await trio.testing.wait_all_tasks_blocked()
                task_status.started(scope)

    trio.run(main)


@pytest.mark.parametrize("left", ["something to run", "something to read", "nothing"])
def test_who_is_cancelled_within_a_step_of_the_pump_takes_no_other(left: str) -> None:
    """An application whose end comes with data of its own connections; it may leave something behind."""
    ends = 0

    async def check(loop: GuestLoop) -> None:
        nonlocal ends
        ours, theirs = socket.socketpair()

        async with trio.open_nursery() as nursery:
            pump = loop._pump
            other = GuestLoop("other", trio.lowlevel.current_clock())
            await nursery.start(other.run_stepped, pump)
            await trio.testing.wait_all_tasks_blocked()

            def again() -> None:
                other.call_soon(again)

            def end() -> None:
                nonlocal ends
                ends += 1
                ours.recv(1)
                nursery.cancel_scope.cancel()
                if left == "something to run":
                    again()
                elif left == "something to read":
                    other.call_soon_threadsafe(int)

            other.call_soon(other.add_reader, ours, end)
            await trio.testing.wait_all_tasks_blocked()
            theirs.send(b".")
        called = trio.Event()
        loop.call_soon(called.set)  # the pump goes on, and with it this loop
        await called.wait()
        other.remove_reader(ours)
        ours.close()
        theirs.close()
        other.close()

    beside(check)
    assert ends == 1


def test_timers_that_are_due_need_no_turn_of_trio(monkeypatch: pytest.MonkeyPatch) -> None:
    """``asyncio.wait(…, timeout=0)``, in a loop, is what some programs look at their tasks with."""
    monkeypatch.setattr(stepping, "SECONDS_PER_STEP", 60)
    turns = 0
    timers = 200

    class Turns(trio.abc.Instrument):
        def before_io_wait(self, timeout: float) -> None:
            nonlocal turns
            turns += 1

    async def check(loop: GuestLoop) -> None:
        left = timers
        called = trio.Event()

        def count() -> None:
            nonlocal left
            left -= 1
            if left:
                loop.call_later(0, count)
            else:
                called.set()

        trio.lowlevel.add_instrument(instrument := Turns())
        loop.call_soon(count)
        await called.wait()
        trio.lowlevel.remove_instrument(instrument)

    beside(check)
    assert turns < timers / 2


def test_debug_mode_that_ends_with_a_step_leaves_nothing_to_trio() -> None:
    """Python remembers where coroutines are made, in debug mode: for each thread, not for each loop."""
    depths: set[int] = set()

    class Depths(trio.abc.Instrument):
        def before_io_wait(self, timeout: float) -> None:
            depths.add(sys.get_coroutine_origin_tracking_depth())

    async def check(loop: GuestLoop) -> None:
        loop.set_debug(True)
        called = trio.Event()

        def iterate(number: int) -> None:
            if number < ITERATIONS_PER_STEP:
                loop.call_soon(iterate, number + 1)
            else:
                assert sys.get_coroutine_origin_tracking_depth() > 0
                loop.set_debug(False)
                called.set()

        trio.lowlevel.add_instrument(instrument := Depths())
        loop.call_soon(iterate, 1)
        await called.wait()
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(instrument)

    beside(check)
    assert depths == {0}


def test_nobody_else_runs_a_loop_that_is_stepped() -> None:
    async def check(loop: GuestLoop) -> None:
        with pytest.raises(RuntimeError, match="already running"):
            loop.run_forever()

    beside(check)


def test_a_closed_loop_does_not_run_and_leaves_nothing_to_trio() -> None:
    async def main() -> None:
        loop = GuestLoop("api", trio.lowlevel.current_clock())
        loop.close()
        with pytest.raises(RuntimeError, match="closed"):
            loop.run_forever()
        assert sniffio.current_async_library() == "trio"

    trio.run(main)


def test_a_closed_loop_is_let_go() -> None:
    gone: list[weakref.ref[GuestLoop]] = []

    async def check(loop: GuestLoop) -> None:
        gone.append(weakref.ref(loop))

    beside(check)
    gc.collect()
    assert gone[0]() is None


# ---- debug mode


def test_in_debug_mode_a_handle_knows_who_made_it() -> None:
    """asyncio says it of callbacks that take long, and of those that fail."""

    async def check(loop: GuestLoop) -> None:
        loop.set_debug(True)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert __file__ in repr(loop.call_soon(str))
        assert __file__ in repr(loop.call_later(0, str))
        assert __file__ in repr(loop.call_at(0, str))

    beside(check)


def test_in_debug_mode_another_thread_is_told_that_it_must_not() -> None:
    """Whether the loop is in a step or waits for something to do."""

    async def check(loop: GuestLoop) -> None:
        loop.set_debug(True)
        await trio.testing.wait_all_tasks_blocked(0.01)
        with pytest.raises(RuntimeError, match="Non-thread-safe operation"):
            await trio.to_thread.run_sync(lambda: loop.call_soon(str))
        with pytest.raises(RuntimeError, match="Non-thread-safe operation"):
            await trio.to_thread.run_sync(lambda: loop.call_later(0, str))

    beside(check)


class TestTasksThatGoOnAfterAStep:
    """Tasks of trio for which a step has brought something."""

    @staticmethod
    async def _visit(loop: GuestLoop, then: Callable[[], object] | None = None) -> None:
        """Wait for a step, as a task of trio, and do something for the loop behind it."""
        task = trio.lowlevel.current_task()
        loop.call_soon(loop.resume_after_step, task)
        await Parking(_stay)
        if then is not None:
            then()

    def test_what_they_schedule_is_run(self) -> None:
        done: list[str] = []

        async def check(loop: GuestLoop) -> None:
            await self._visit(loop, lambda: loop.call_soon(done.append, "soon"))
            await until(lambda: done == ["soon"])
            await trio.testing.wait_all_tasks_blocked(0.01)
            await self._visit(loop, lambda: loop.call_later(0.001, done.append, "later"))
            await until(lambda: done == ["soon", "later"])

        beside(check)

    def test_they_go_on_outside_of_asyncio(self) -> None:
        async def check(loop: GuestLoop) -> None:
            seen: list[object] = []

            def look() -> None:
                seen.append(sniffio.current_async_library())
                seen.append(asyncio._get_running_loop())

            await self._visit(loop, look)
            assert seen == ["trio", None]

        beside(check)

    def test_they_go_on_while_the_loop_is_busy(self) -> None:
        async def check(loop: GuestLoop) -> None:
            stopped = False

            def again() -> None:
                if not stopped:
                    loop.call_soon(again)

            loop.call_soon(again)
            await self._visit(loop)
            stopped = True

        beside(check)
