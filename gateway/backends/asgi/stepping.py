"""An asyncio loop that lives in the worker's thread, stepped by one trio task.

It is an ordinary SelectorEventLoop with a selector that never blocks. A step is some iterations of it
(`BaseEventLoop._run_once`), and around them what run_forever() does, which itself would cost as much as a
short iteration, and one more in vain. When it has nothing to run the stepper parks until one of these
happens::

    a callback is scheduled by trio's side    call_soon: futures, events and new tasks come to that
    a file of the loop is readable            the pump, which watches the selector's epoll descriptor
    call_soon_threadsafe                      a doorbell, in place of the loop's own pipe
    the loop's next timer is due              the timekeeper task

No thread, no translation of callbacks: inside, ``asyncio.get_running_loop()``, timers, executors, streams and
libraries that ask `sniffio` see asyncio.

What comes in one batch of the pump, requests and data of the application's own connections, is dealt with in
one step behind it, by the pump in the stepper's place and without a turn of trio. To take the first step of a
request's task where it came in was tried and measured: with several connections the requests run faster one
after another.

Promises: the application cannot keep the thread by rescheduling itself (:data:`ITERATIONS_PER_STEP`,
:data:`SECONDS_PER_STEP`), and cannot stop or close the loop; nor can it have signal handlers, which are the
daemon's. Between two steps the loop looks stopped to the thread that steps it, and running to all others.
When it is not stepped any more it is as any other that has stopped: what libraries have put before its
`close` may run it once more, for :data:`SECONDS_AT_END`.
"""

import asyncio
import selectors
import sys
from asyncio import events
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from heapq import heappush
from threading import get_ident
from time import monotonic
from typing import Any, Final, NoReturn, TypeVar, TypeVarTuple

import sniffio
import trio
from trio.lowlevel import Abort, RaiseCancelT, Task, current_task, reschedule

from gateway.logger import get_logger
from gateway.net.doorbell import Doorbell
from gateway.net.pump import Pump
from gateway.net.resumption import Parking, resume

log = get_logger()

ITERATIONS_PER_STEP: Final = 16
"""Iterations of the asyncio loop between two turns of trio: a request through a few layers of middleware
needs two to five; more would make the sockets wait."""

SECONDS_PER_STEP: Final = 0.001
"""After that the step ends with the iteration that runs: an application that works for long, and lets others
have a turn by ``sleep(0)`` now and then, has few iterations, but each takes its time."""

SECONDS_AT_END: Final = 2.0
"""For what runs the loop when it is closed: nothing else in the thread goes on meanwhile."""

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


_library: Final = sniffio.thread_local
"""Where trio announces itself; it comes before sniffio's context variable."""


def _nothing() -> None:
    pass


class _Selector(selectors.EpollSelector):
    """Never blocks while the loop is stepped; and looks only where something may be found, to spare calls."""

    def __init__(self) -> None:
        super().__init__()
        self.stepped = False
        self.readable = False
        """Something is ready, as the pump says, since the last look."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if not self.stepped:
            return super().select(timeout)
        # An application may count on a look at its files in each iteration; one is the loop's unused pipe.
        if self.readable or len(self.get_map()) > 1:
            self.readable = False
            return super().select(0)
        return []


class GuestLoop(asyncio.SelectorEventLoop):
    """The loop of the application that the log calls *name*.

    Keeps time by *clock*, trio's, so that its timers are trio's deadlines. It counts from where
    `time.monotonic` does, as other loops: applications mix the two.
    """

    # asyncio's own, which subclasses need that embed it in another loop.
    _asyncgen_finalizer_hook: Callable[[Any], None]
    _asyncgen_firstiter_hook: Callable[[Any], None]
    _closed: bool
    _debug: bool
    _ready: deque[asyncio.Handle]
    _run_once: Callable[[], None]
    _scheduled: list[asyncio.TimerHandle]
    _set_coroutine_origin_tracking: Callable[[bool], None]
    _thread_id: int | None

    _made = False

    def __init__(self, name: str, clock: trio.abc.Clock) -> None:
        self._name = name
        self._now = clock.current_time
        self._ahead = clock.current_time() - monotonic()
        """Seconds by which trio's clock is ahead of `time.monotonic`."""
        self._readiness = _Selector()
        self._alarm = trio.CancelScope()
        self._pump: Pump
        """Known while the loop is stepped."""
        self._doorbell: Doorbell | None = None
        """There while the loop is stepped: what is scheduled before is run in the first step."""
        self._stepper: Task | None = None
        """None when it has been cancelled as it waited: there are no more steps then."""
        self._parked = False
        """There is nothing to do, and the stepper waits. So it does while the pump takes a step in its place,
        but must not be woken then."""
        self._leaving: list[Task] = []
        """Tasks of trio that go on after the step."""
        self._home: int | None = None
        """The thread that steps the loop."""
        self._hooks_of_trio: tuple[Any, ...]
        """What trio has Python tell it of asynchronous generators, outside of a step."""
        self._executors: list[ThreadPoolExecutor] = []
        super().__init__(self._readiness)
        self._made = True

    # --- stepping

    async def run_stepped(
        self, pump: Pump, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run the loop whenever there is something to run, until cancelled."""
        self._pump = pump
        descriptor = self._readiness.fileno()
        self._home = get_ident()
        self._readiness.stepped = True
        pump.watch(descriptor, self._on_readable)
        self._doorbell = doorbell = Doorbell(pump, self.wake)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_time)
                self._stepper = current_task()
                self._hooks_of_trio = sys.get_asyncgen_hooks()
                busy = self._turn()
                task_status.started()
                await self._step_forever(busy)
        finally:
            self._home = None
            self._readiness.stepped = False
            self._doorbell = None
            doorbell.close()
            pump.unwatch(descriptor)
            self._alarm = trio.CancelScope()

    async def _step_forever(self, busy: bool) -> NoReturn:
        parking = Parking(self._abort_park)
        while True:
            if busy:
                await trio.lowlevel.checkpoint()
            else:
                await parking
            busy = self._turn()

    def _turn_in_batch(self) -> None:
        """What the stepper does, in its place: it still waits, and may be cancelled meanwhile."""
        stepper = self._stepper
        if stepper is not None and self._turn() and self._stepper is stepper:
            reschedule(stepper)

    def _turn(self) -> bool:
        """A step, and who goes on behind it. False if there is nothing to run then: it may park."""
        self._step()
        if self._leaving:
            leaving, self._leaving = self._leaving, []
            for task in leaving:
                resume(task)
        if self._ready:
            return True
        if self._scheduled:
            self._ring_at(self._scheduled[0].when())
        self._parked = self._stepper is not None
        return False

    def _step(self) -> None:
        """Run the loop until it has nothing to run, or has had its iterations."""
        iterations = 0
        ends_at = self.time() + SECONDS_PER_STEP
        _library.name = "asyncio"
        self._thread_id = self._home
        if self._debug:
            self._set_coroutine_origin_tracking(True)
        sys.set_asyncgen_hooks(self._asyncgen_firstiter_hook, self._asyncgen_finalizer_hook)
        events._set_running_loop(self)
        try:
            while True:
                self._run_once()
                iterations += 1
                if not self._ready and not self._scheduled:
                    break
                now = self.time()
                if iterations == ITERATIONS_PER_STEP or now >= ends_at:
                    break
                if not self._ready and self._scheduled[0].when() > now:
                    break
        except (SystemExit, KeyboardInterrupt) as error:
            self.on_exit(error)
        finally:
            self._thread_id = None
            events._set_running_loop(None)
            self._set_coroutine_origin_tracking(False)  # debug mode may have ended within the step
            sys.set_asyncgen_hooks(*self._hooks_of_trio)
            _library.name = "trio"

    def on_exit(self, error: BaseException) -> None:
        """A task raised what ends a program, and asyncio passes on."""
        log.error("uncaught in asyncio", backend=self._name, reason="a task exits", exc_info=error)

    def wake(self) -> None:
        """There is something to run (from the loop's own thread; within a step it does nothing)."""
        if self._parked:
            self._parked = False
            assert self._stepper is not None
            if not self._pump.call_after_batch(self._turn_in_batch):
                reschedule(self._stepper)

    def resume_after_step(self, task: Task) -> None:
        """Within a step: let *task*, which waits in a `Parking`, go on behind it."""
        self._leaving.append(task)

    def _on_readable(self) -> None:
        self._readiness.readable = True
        self.wake()

    def _abort_park(self, _raise_cancel: RaiseCancelT) -> Abort:
        self._parked = False
        self._stepper = None
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
        deadline += self._ahead
        if deadline < self._alarm.deadline:
            self._alarm.deadline = deadline

    # --- what is different in this loop

    def time(self) -> float:
        """Seconds, by trio's clock, from where `time.monotonic` counts."""
        return self._now() - self._ahead

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
        if not (self._parked or self._debug or self._closed):
            # What asyncio comes to, for a quarter less: each step of a task begins here.
            handle = asyncio.Handle(callback, args, self, context)
            self._ready.append(handle)
            return handle
        if self._parked and get_ident() != self._home:
            self._complain()
            # Documented to be wrong, but on other loops it works when they happen to be awake.
            handle = self.call_soon_threadsafe(callback, *args, context=context)
        else:
            if self._parked:
                self.wake()
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
        if when.__class__ is float and not (self._parked or self._debug or self._closed):
            timer = asyncio.TimerHandle(when, callback, args, self, context)
            heappush(self._scheduled, timer)
            timer._scheduled = True  # type: ignore[attr-defined]
            return timer
        elsewhere = self._parked and get_ident() != self._home
        if elsewhere:
            self._complain()
        timer = super().call_at(when, callback, *args, context=context)
        if origin := timer._source_traceback:  # type: ignore[attr-defined]
            del origin[-1]
        if elsewhere:
            self.call_soon_threadsafe(_nothing)
        elif self._parked:
            self._ring_at(when)
        return timer

    def _write_to_self(self) -> None:
        """For call_soon_threadsafe: there is something to run."""
        doorbell = self._doorbell  # in the next moment it may be gone: this is another thread
        if doorbell is not None:
            doorbell.ring()
        else:
            super()._write_to_self()  # type: ignore[misc]

    def _complain(self) -> None:
        """Of another thread, as asyncio does in its debug mode."""
        if self.get_debug():
            raise RuntimeError(
                "Non-thread-safe operation invoked on an event loop other than the current one"
            )

    def stop(self) -> None:
        """As asyncio's when the loop is not stepped; not for applications."""
        if self._home is not None:
            raise RuntimeError("the loop belongs to the gateway: an application cannot stop it")
        super().stop()

    def run_forever(self) -> None:
        """As asyncio's when the loop is not stepped any more, but not for longer than `SECONDS_AT_END`."""
        if self._home is not None:
            raise RuntimeError("This event loop is already running")  # as to other threads, and within a step
        limit = self.call_later(SECONDS_AT_END, self.stop)
        library, _library.name = _library.name, "asyncio"
        try:
            super().run_forever()
        finally:
            _library.name = library
            limit.cancel()

    def close(self) -> None:
        """As asyncio's. What leads from the loop back to itself is let go."""
        super().close()
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

    async def _make_subprocess_transport(self, *arguments: Any, **options: Any) -> Any:
        """As asyncio's, which until Python 3.13 asks the policy who watches children."""
        if sys.version_info < (3, 14):
            policy = asyncio.get_event_loop_policy()
            if type(policy).get_child_watcher is asyncio.AbstractEventLoopPolicy.get_child_watcher:
                # That of another kind of loop (uvloop), which an application has set; it has none.
                policy.get_child_watcher = asyncio.ThreadedChildWatcher  # type: ignore[method-assign]
        return await super()._make_subprocess_transport(*arguments, **options)  # type: ignore[misc]

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
