"""An asyncio loop that lives in the worker's thread, stepped by one trio task.

It is an ordinary SelectorEventLoop with a selector that never blocks. asyncio asks its selector to wait
only when it has nothing to run, and says for how long; that question is the signal to stop the loop and
hand the thread back to trio. The stepper then parks until one of these happens::

    a callback is scheduled by trio's side    call_soon: futures, events and new tasks come to that
    a file of the loop is readable            the pump, which watches the selector's epoll descriptor
    (also call_soon_threadsafe: its pipe)
    the loop's next timer is due              the timekeeper task

and runs the loop again, by its public calls only. No thread, no translation of callbacks: inside,
``asyncio.get_running_loop()``, timers, executors, streams and libraries that ask `sniffio` see asyncio.

What comes in one batch of the pump, requests and data of the application's own connections, is dealt with in
one step behind it, without a turn of trio. To take the first step of a request's task where it came in was
tried and measured: with several connections the requests run faster one after another.

Promises: the application cannot keep the thread by rescheduling itself (:data:`ITERATIONS_PER_STEP`,
:data:`SECONDS_PER_STEP`), and cannot stop or close the loop; nor can it have signal handlers, which are the
daemon's. Between two steps the loop looks stopped to the thread that steps it, and running to all others.
"""

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from threading import get_ident
from typing import Final, NoReturn, TypeVar, TypeVarTuple

import sniffio
import trio
from trio.lowlevel import Abort, RaiseCancelT, Task, current_task

from gateway.logger import get_logger
from gateway.pump import Pump
from gateway.resumption import Parking, resume

log = get_logger()

ITERATIONS_PER_STEP: Final = 16
"""Iterations of the asyncio loop between two turns of trio: a request through a few layers of middleware
needs two to five; more would make the sockets wait."""

SECONDS_PER_STEP: Final = 0.001
"""After that the step ends with the iteration that begins: an application that works for long, and lets
others have a turn by ``sleep(0)`` now and then, has few iterations, but each takes its time."""

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


_library: Final = sniffio.thread_local
"""Where trio announces itself; it comes before sniffio's context variable."""


def _nothing() -> None:
    pass


class _Selector(selectors.EpollSelector):
    """Never blocks; remembers how long it was asked to wait, and stops the loop when it was."""

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__()
        self._now = now
        self.readable = False
        """Something is ready, as the pump says, until a look finds nothing: then the pump tells of news.
        Without it an idle loop needs no system call."""
        self.idle_for: float | None = None
        """Seconds the loop wanted to wait when it was last asked: None for ever, 0 for busy."""
        self.iterations_left = 0
        self.ends_at = 0.0
        """When the step has had its time."""
        self.stop: Callable[[], None] = _nothing

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = []
        # An application may count on a look at its files in each iteration; one is the loop's own pipe.
        if self.readable or (timeout == 0 and len(self.get_map()) > 1):
            events = super().select(0)
            self.readable = bool(events)
        self.iterations_left -= 1
        if events:
            timeout = 0
        if timeout != 0 or self.iterations_left <= 0 or self._now() >= self.ends_at:
            self.idle_for = timeout
            # Said from inside an iteration, it lets this one finish.
            self.stop()
        return events


class GuestLoop(asyncio.SelectorEventLoop):
    """The loop of the application that the log calls *name*.

    Keeps time by *clock*, trio's, so that its timers are trio's deadlines.
    """

    _made = False

    def __init__(self, name: str, clock: trio.abc.Clock) -> None:
        self._name = name
        self._now = clock.current_time
        self._readiness = _Selector(self._now)
        self._alarm = trio.CancelScope()
        self._pump: Pump
        """Known while the loop is stepped."""
        self._stepper: Task | None = None
        self._parked = False
        """The stepper waits for something to do."""
        self._work_came = False
        """Something was scheduled since `_let_go` began."""
        self._leaving: list[Task] = []
        """Tasks of trio that go on after the step."""
        self._home: int | None = None
        """The thread that steps the loop."""
        self._executors: list[ThreadPoolExecutor] = []
        super().__init__(self._readiness)
        self._readiness.stop = super().stop
        self._made = True

    # --- stepping

    async def run_stepped(
        self, pump: Pump, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run the loop whenever there is something to run, until cancelled."""
        self._pump = pump
        descriptor = self._readiness.fileno()
        self._home = get_ident()
        pump.watch(descriptor, self._on_readable, edge=True)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_time)
                self._stepper = current_task()
                self._step()
                task_status.started()
                await self._step_forever()
        finally:
            self._home = None
            pump.unwatch(descriptor)
            self._alarm = trio.CancelScope()

    async def _step_forever(self) -> NoReturn:
        selector = self._readiness
        while True:
            idle_for = selector.idle_for
            if self._leaving and self._let_go():
                idle_for = 0
            if idle_for == 0:
                await trio.lowlevel.checkpoint()
            else:
                if idle_for is not None:
                    self._ring_at(self._now() + idle_for)
                self._parked = True
                await Parking(self._abort_park)
            self._step()

    def _let_go(self) -> bool:
        """Let the tasks of trio go on; whether that brought something to do for the loop."""
        self._work_came = False
        leaving, self._leaving = self._leaving, []
        for task in leaving:
            resume(task)
        return self._work_came

    def _step(self) -> None:
        """Run the loop until it has nothing to run, or has had its iterations."""
        self._readiness.idle_for = 0
        self._readiness.iterations_left = ITERATIONS_PER_STEP
        self._readiness.ends_at = self._now() + SECONDS_PER_STEP
        _library.name = "asyncio"
        try:
            self.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:
            self.on_exit(error)
        finally:
            _library.name = "trio"

    def on_exit(self, error: BaseException) -> None:
        """A task raised what ends a program, and asyncio passes on."""
        log.error("uncaught in asyncio", backend=self._name, reason="a task exits", exc_info=error)

    def wake(self) -> None:
        """There is something to run (from the loop's own thread; within a step it does nothing)."""
        if self._parked:
            self._parked = False
            assert self._stepper is not None
            self._pump.resume_after_batch(self._stepper)

    def resume_after_step(self, task: Task) -> None:
        """Within a step: let *task*, which waits in a `Parking`, go on behind it."""
        self._leaving.append(task)

    def _on_readable(self) -> None:
        self._readiness.readable = True
        self.wake()

    def _abort_park(self, _raise_cancel: RaiseCancelT) -> Abort:
        if not self._parked:
            return Abort.FAILED  # It goes on behind this batch, and is cancelled when it waits again.
        self._parked = False
        return Abort.SUCCEEDED

    async def _keep_time(self) -> None:
        """Wake the stepper when the loop's next timer is due."""
        # One scope for many timers: most of them are time limits that are never reached.
        while True:
            with self._alarm:
                await trio.sleep_forever()
            self._alarm = trio.CancelScope()
            self.wake()

    def _ring_at(self, deadline: float) -> None:
        """At *deadline* or earlier: the step that follows finds out what is due."""
        if deadline < self._alarm.deadline:
            self._alarm.deadline = deadline

    # --- what is different in this loop

    def time(self) -> float:
        """Seconds, by trio's clock."""
        return self._now()

    def is_running(self) -> bool:
        """Whether callbacks run now; to other threads, whether they will (asgiref asks)."""
        return super().is_running() or self._home not in (None, get_ident())

    def call_soon(
        self,
        callback: Callable[[*Arguments], object],
        *args: *Arguments,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """As asyncio's; from outside of a step it wakes the stepper."""
        if self._parked and get_ident() != self._home:
            self._complain()
            # Documented to be wrong, but on other loops it works when they happen to be awake.
            handle = self.call_soon_threadsafe(callback, *args, context=context)
        else:
            if self._parked:
                self.wake()
            self._work_came = True
            handle = super().call_soon(callback, *args, context=context)
        if origin := handle._source_traceback:  # type: ignore[attr-defined]
            del origin[-1]  # In debug mode: it is the caller who made it, as with asyncio's own methods.
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[*Arguments], object],
        *args: *Arguments,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """As asyncio's; from outside of a step it sets the alarm."""
        elsewhere = self._parked and get_ident() != self._home
        if elsewhere:
            self._complain()
        timer = super().call_at(when, callback, *args, context=context)
        if origin := timer._source_traceback:  # type: ignore[attr-defined]
            del origin[-1]
        self._work_came = True
        if elsewhere:
            self.call_soon_threadsafe(_nothing)
        elif self._parked:
            self._ring_at(when)
        return timer

    def _complain(self) -> None:
        """Of another thread, as asyncio does in its debug mode."""
        if self.get_debug():
            raise RuntimeError(
                "Non-thread-safe operation invoked on an event loop other than the current one"
            )

    def stop(self) -> None:
        """Not for applications."""
        raise RuntimeError("the loop belongs to the gateway: an application cannot stop it")

    def close(self) -> None:
        """As asyncio's. What leads from the loop back to itself is let go."""
        super().close()
        self._readiness.stop = _nothing
        self._stepper = None

    def __del__(self) -> None:
        if self._made:  # asyncio's fails, at length, if no descriptor was left to make it
            super().__del__()

    def add_signal_handler(
        self, sig: int, callback: Callable[[*Arguments], object], *args: *Arguments
    ) -> NoReturn:
        """Refused in the way of loops that have no signals, which libraries are prepared for."""
        raise NotImplementedError(
            "signals are the gateway's: an application is told of the end by lifespan.shutdown"
        )

    # --- executors

    def set_default_executor(self, executor: ThreadPoolExecutor) -> None:  # type: ignore[override]
        """As asyncio's; it will be shut down with the loop."""
        super().set_default_executor(executor)
        self._executors.append(executor)

    def has_threads(self) -> bool:
        """Whether an executor has run anything."""
        return any(executor._threads for executor in self._executors)

    def shut_down_executors(self) -> None:
        """Wait for the threads, in a thread: what runs in one cannot be interrupted."""
        for executor in self._executors:
            executor.shutdown()

    def abandon_executors(self) -> None:
        """Let the threads go; what has not begun will not."""
        for executor in self._executors:
            executor.shutdown(wait=False, cancel_futures=True)
