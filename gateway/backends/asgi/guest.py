"""An asyncio loop that lives in the worker's thread, stepped by one trio task.

The loop is an ordinary SelectorEventLoop with a selector that never blocks. asyncio asks its selector
to wait only when it has nothing to run, and says for how long; that question is the signal to stop the
loop and hand the thread back to trio. The stepper then parks until one of these happens::

    a request enters, an event is set        wake(), from other trio tasks
    a file of the loop is readable           the pump, which watches the selector's epoll descriptor
    (also call_soon_threadsafe: its pipe)
    the loop's next timer is due             the timekeeper task

and runs the loop again, by its public calls only. No thread, no translation of callbacks: inside,
``asyncio.get_running_loop()``, timers, executors, streams and libraries that ask `sniffio` see asyncio.

Promises: the application cannot keep the thread by rescheduling itself (:data:`ITERATIONS_PER_STEP`);
one that ignores its cancellation is logged and left behind after ``patience`` seconds; what an
application leaves running is cancelled when the host ends.

The loop must not be run, stopped or closed by the application, and cannot have signal handlers, which
are the daemon's.
"""

import asyncio
import asyncio.base_events
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import sniffio
import structlog
import trio
from trio.lowlevel import Abort, RaiseCancelT, Task, current_task, reschedule, wait_task_rescheduled

from gateway.backends.asgi.host import Application, Event, Exchange, Scope
from gateway.pump import Pump

log = structlog.get_logger()

ITERATIONS_PER_STEP: Final = 16
"""Iterations of the asyncio loop between two turns of trio: a request through a few layers of middleware
needs two to five; more would make the sockets wait."""

Result = TypeVar("Result")

_ENDS_OF_CANCELLED: Final = (asyncio.CancelledError, BaseExceptionGroup)
"""What a task may end with when it was cancelled, besides returning or failing."""


def _nothing(*_: object) -> None:
    pass


_MARK_OF_ROOT: Final = getattr(asyncio.base_events, "_run_until_complete_cb", _nothing)
"""The callback by which libraries (anyio) know the task that lasts as long as the loop: asyncio adds it to
the task of run_until_complete(). Without it anyio ends its worker threads after every request."""


class _Selector(selectors.EpollSelector):
    """Never blocks; remembers how long it was asked to wait, and stops the loop when it was."""

    def __init__(self) -> None:
        super().__init__()
        self.readable = False
        """Something is ready, as the pump says: without it there is no need for a system call."""
        self.idle_for: float | None = None
        """Seconds the loop wanted to wait when it was last asked: None for ever, 0 for busy."""
        self.iterations_left = 0
        self.stop: Callable[[], None] = _nothing

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = []
        if self.readable:
            self.readable = False
            events = super().select(0)
        self.iterations_left -= 1
        if events:
            timeout = 0
        if timeout != 0 or self.iterations_left <= 0:
            self.idle_for = timeout
            # Said from inside an iteration, it lets this one finish.
            self.stop()
        return events


class _GuestLoop(asyncio.SelectorEventLoop):
    """Keeps time by the worker's clock, so that its timers are trio's deadlines."""

    def __init__(self, selector: _Selector) -> None:
        self._current_time = trio.lowlevel.current_clock().current_time
        super().__init__(selector)

    def time(self) -> float:
        return self._current_time()


class AsyncioHost:
    """Hosts one application on an asyncio loop of its own. Implements `host.Host`.

    *patience* is how long, in seconds, a request may take to end after it was cancelled.
    """

    def __init__(self, name: str, *, pump: Pump, patience: float) -> None:
        self.name = name
        self.patience = patience
        self._pump = pump
        self._selector = _Selector()
        self._loop = _GuestLoop(self._selector)
        self._selector.stop = self._loop.stop
        self._executor = ThreadPoolExecutor(thread_name_prefix=name)
        self._loop.set_default_executor(self._executor)
        self._loop.set_exception_handler(self._log_uncaught)
        self._background: set[asyncio.Task[None]] = set()
        self._alarm = trio.CancelScope()
        self._parked = False
        # Set while `run` runs.
        self._nursery: trio.Nursery
        self._stepper: Task
        self._root: asyncio.Task[None]

    # --- lifetime

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve until :meth:`aclose` was called; the caller's cancellation does not end it."""
        descriptor = self._selector.fileno()
        with trio.CancelScope(shield=True):
            try:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    self._root = self._loop.create_task(self._be_root())
                    self._root.add_done_callback(_MARK_OF_ROOT)
                    self._pump.watch(descriptor, self._on_readable)
                    nursery.start_soon(self._keep_time)
                    await nursery.start(self._step)
                    task_status.started()
            finally:
                self._pump.unwatch(descriptor)
                self._loop.close()

    async def drain(self, timeout: float) -> None:
        """Wait for what the application does after its responses, *timeout* seconds at most."""

        async def wait() -> None:
            await asyncio.wait(self._background)

        if self._background:
            with trio.move_on_after(timeout, shield=True):
                await self._cross(wait)

    async def aclose(self, timeout: float) -> None:
        """Cancel what the application left running, wait *timeout* seconds for it, end the loop."""
        try:
            with trio.move_on_after(timeout, shield=True) as scope:
                await self._cross(self._cancel_all)
                await trio.to_thread.run_sync(self._executor.shutdown, abandon_on_cancel=True)
            if scope.cancelled_caught:
                log.warning("application ignores its end", backend=self.name, timeout=timeout)
        finally:
            self._nursery.cancel_scope.cancel()

    async def _be_root(self) -> None:
        """A task as old as the loop: libraries tie what belongs to the loop to its oldest task."""
        await self._loop.create_future()

    async def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks() - {self._root, asyncio.current_task()}
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                log.error("task failed while it was cancelled", backend=self.name, exc_info=outcome)
        await self._loop.shutdown_asyncgens()
        self._root.cancel()
        await asyncio.wait([self._root])
        await asyncio.sleep(0)  # One turn for the callbacks of the root task.

    def _log_uncaught(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What asyncio found nobody to tell."""
        log.error(
            "uncaught in asyncio",
            backend=self.name,
            reason=context["message"],
            exc_info=context.get("exception"),
        )

    # --- stepping

    async def _step(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Run the loop whenever there is something to run."""
        self._stepper = current_task()
        task_status.started()
        selector = self._selector
        while True:
            self._run_until_idle()
            idle_for = selector.idle_for
            if idle_for == 0:
                await trio.lowlevel.checkpoint()
                continue
            if idle_for is not None:
                self._ring_at(trio.current_time() + idle_for)
            self._parked = True
            await wait_task_rescheduled(self._abort_park)

    def _run_until_idle(self) -> None:
        """Run the loop until it has nothing to run, or has had its iterations."""
        self._selector.idle_for = 0
        self._selector.iterations_left = ITERATIONS_PER_STEP
        # trio announces itself by this thread-local, which comes before sniffio's context variable.
        sniffio.thread_local.name = "asyncio"
        try:
            self._loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            log.exception("uncaught in asyncio", backend=self.name, reason="a task exits")
        finally:
            sniffio.thread_local.name = "trio"

    def wake(self) -> None:
        """There is something to run (called from trio tasks; within the loop it does nothing)."""
        if self._parked:
            self._parked = False
            reschedule(self._stepper)

    def _on_readable(self) -> None:
        self._selector.readable = True
        self.wake()

    def _abort_park(self, _raise_cancel: RaiseCancelT) -> Abort:
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

    # --- from trio into the application

    async def call(self, function: Callable[[], Result]) -> Result:
        async def calling() -> Result:
            return function()

        return await self._cross(calling)

    async def enter(self, app: Application, scope: Scope, exchange: Exchange) -> None:
        crossing = _Crossing(self, scope)
        exchange.on_complete = crossing.release
        await self._enter(crossing, crossing.run(app, scope, exchange.receive, exchange.send))

    def leave(self) -> None:
        """Each asyncio task had a context of its own."""

    async def _cross(self, function: Callable[[], Awaitable[Result]]) -> Result:
        crossing = _Crossing(self, {})
        await self._enter(crossing, crossing.run(function))
        result: Result = crossing.result
        return result

    async def _enter(self, crossing: "_Crossing", main: Coroutine[Any, Any, None]) -> None:
        crossing.task = task = self._loop.create_task(main)
        if self._parked:
            self._parked = False
            reschedule(self._stepper)
        await wait_task_rescheduled(crossing.abort)
        if not crossing.done:
            # asyncio itself holds its tasks by weak references only.
            self._background.add(task)
            task.add_done_callback(self._background.discard)
        crossing.finish()

    # --- from the application back to trio

    async def wait(self, function: Callable[[], Awaitable[Result]]) -> Result:
        errand = _Errand(self, function, self._loop.create_future())
        self._nursery.start_soon(errand.run)
        error: BaseException | None = None
        try:
            await errand.waiter
        except asyncio.CancelledError:
            if not errand.done:
                errand.scope.cancel()
                errand.waiter = self._loop.create_future()
                await errand.waiter
            raise
        finally:
            # An error's traceback holds the frames it came through: taken off the errand, and off this
            # frame, it goes with whoever catches it.
            error, errand.error = errand.error, None
        if error is not None:
            try:
                raise error
            finally:
                del error
        result: Result = errand.result
        return result

    def event(self) -> Event:
        return _Event(self)

    async def pause(self) -> None:
        await asyncio.sleep(0)


class _Crossing:
    """A trio task that waits for an asyncio task."""

    __slots__ = (
        "_error",
        "_host",
        "_left",
        "_patience",
        "_raise_cancel",
        "_scope",
        "_visitor",
        "_waiting",
        "done",
        "result",
        "task",
    )

    def __init__(self, host: AsyncioHost, scope: Scope) -> None:
        self._host = host
        self._scope = scope
        self._visitor = current_task()
        self._waiting = True
        self._left = False
        self._error: BaseException | None = None
        self._raise_cancel: RaiseCancelT | None = None
        self._patience: asyncio.TimerHandle | None = None
        self.done = False
        self.result: Any = None
        self.task: asyncio.Task[None]

    async def run(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
        """The asyncio task."""
        try:
            self.result = await function(*arguments)
        except BaseException as error:  # raised again by finish(), in the trio task
            self._error = error
        self.done = True
        if self._waiting:
            self._waiting = False
            reschedule(self._visitor)
        elif self._left and self._error is not None:
            self._log_late(self._error)

    def release(self) -> None:
        """Let the trio task go on."""
        if self._waiting:
            self._waiting = False
            reschedule(self._visitor)

    def abort(self, raise_cancel: RaiseCancelT) -> Abort:
        """The trio task was cancelled: cancel the asyncio task, which decides when it ends."""
        host = self._host
        self._raise_cancel = raise_cancel
        self.task.cancel()
        # A task that is cancelled before it began never comes to the end of run().
        self.task.add_done_callback(self._on_done)
        self._patience = self.task.get_loop().call_later(host.patience, self._give_up)
        host.wake()
        return Abort.FAILED

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self.done = True
        self.release()

    def _give_up(self) -> None:
        if self._waiting:
            log.warning(
                "application ignores its cancellation",
                backend=self._host.name,
                patience=self._host.patience,
                path=self._scope.get("path"),
            )
            self.release()

    def finish(self) -> None:
        """In the trio task again: raise what is to be raised."""
        self._left = True
        error, self._error = self._error, None
        if self._patience is not None:
            self._patience.cancel()
        if self._raise_cancel is not None and (
            not self.done or self.task.cancelled() or isinstance(error, _ENDS_OF_CANCELLED)
        ):
            self._raise_cancel()
        if isinstance(error, asyncio.CancelledError):
            raise RuntimeError("the application cancelled its own task") from error  # noqa: TRY004
        if error is not None:
            try:
                raise error
            finally:
                del error  # Its traceback holds this frame, and with it the request.

    def _log_late(self, error: BaseException) -> None:
        if isinstance(error, Exception | SystemExit):
            log.error(
                "application failed after its response",
                backend=self._host.name,
                method=self._scope.get("method"),
                path=self._scope.get("path"),
                exc_info=error,
            )


class _Errand:
    """An asyncio task that waits for a trio function."""

    __slots__ = ("_function", "_host", "done", "error", "result", "scope", "waiter")

    def __init__(
        self, host: AsyncioHost, function: Callable[[], Awaitable[Any]], waiter: asyncio.Future[None]
    ) -> None:
        self._function = function
        self._host = host
        self.scope = trio.CancelScope()
        self.waiter = waiter
        """Resolved when the function has ended; the one who waits may change it."""
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = asyncio.CancelledError()

    async def run(self) -> None:
        """The trio task."""
        try:
            # Not even begun if nobody waits any more: another one may have been sent since.
            if not self.scope.cancel_called:
                with self.scope:
                    self.result = await self._function()
                    self.error = None
        except Exception as error:  # raised again by wait(), in the asyncio task
            self.error = error
        finally:
            self.done = True
            if not self.waiter.done():
                self.waiter.set_result(None)
                self._host.wake()


class _Event(asyncio.Event):
    """An asyncio event that trio tasks set."""

    def __init__(self, host: AsyncioHost) -> None:
        super().__init__()
        self._host = host

    def set(self) -> None:
        super().set()
        self._host.wake()
