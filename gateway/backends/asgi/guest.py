"""An application on an asyncio loop in the worker's thread, and what it awaits of trio.

The loop is `stepping.GuestLoop`, which a trio task steps. Each request of the trio side becomes an asyncio
task there (`crossing`). What the application awaits of the trio side is done by the trio task that waits for
it, or by another one::

    enter, call ─► Crossing ─► asyncio task of the application
                     ▲               │
    trio task        └── Errand ◄── wait of the exchange
        ▲                            │ (that task has another one to do, or waits no more)
        └──────────────── Errand ◄── wait

Promises: what the application leaves running is cancelled when the host ends, its async generators are
closed, and its executor's threads are waited for, within a time limit.
"""

import asyncio
import asyncio.base_events
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, Final, TypeVar

import trio

from gateway.backends.asgi.crossing import Crossing, Crossings
from gateway.backends.asgi.errand import Errand
from gateway.backends.asgi.host import Application, Event, Exchange, Scope
from gateway.backends.asgi.stepping import GuestLoop
from gateway.backends.disconnect import ClientDisconnected
from gateway.logger import get_logger
from gateway.net.pump import Pump

log = get_logger()

Result = TypeVar("Result")


def _nothing(*_: object) -> None:
    pass


_MARK_OF_ROOT: Final = getattr(asyncio.base_events, "_run_until_complete_cb", _nothing)
"""The callback by which libraries (anyio) know the task that lasts as long as the loop: asyncio adds it to
the task of run_until_complete(). Without it anyio ends its worker threads after every request."""


class AsyncioHost:
    """Hosts one application on an asyncio loop of its own. Implements `host.Host`.

    *patience* is how long, in seconds, a request may take to end after it was cancelled. *debug* turns on
    asyncio's debug mode, which PYTHONASYNCIODEBUG does too.
    """

    def __init__(self, name: str, *, pump: Pump, patience: float, debug: bool = False) -> None:
        self.name = name
        self._pump = pump
        self._loop = GuestLoop(name, trio.lowlevel.current_clock())
        self._loop.set_default_executor(ThreadPoolExecutor(thread_name_prefix=name))
        self._loop.set_exception_handler(self._log_uncaught)
        if debug:
            self._loop.set_debug(True)
        self._crossings = Crossings(self._loop, name, patience, copy_context(), self.wait)
        # Set while `run` runs.
        self._nursery: trio.Nursery
        self._root: asyncio.Task[None]

    # --- lifetime

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve until :meth:`aclose` was called; the caller's cancellation does not end it."""
        with trio.CancelScope(shield=True):
            try:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    self._root = self._loop.create_task(self._be_root())
                    self._root.add_done_callback(_MARK_OF_ROOT)
                    await nursery.start(self._loop.run_stepped, self._pump)
                    task_status.started()
            finally:
                self._close_loop()

    def _close_loop(self) -> None:
        try:
            self._loop.close()
        except (Exception, asyncio.CancelledError):
            # Of what a library has put before it: channels_redis ends its connections there.
            log.exception("the end of the loop failed", backend=self.name)
            GuestLoop.close(self._loop)

    async def drain(self, patience: trio.CancelScope) -> None:
        """Wait for what the application does after its responses, within *patience*."""

        async def wait() -> None:
            await asyncio.wait(self._crossings.background)

        if self._crossings.background:
            with patience:
                await self._cross(wait)

    async def aclose(self, patience: trio.CancelScope) -> None:
        """Cancel what the application left running, wait for it within *patience*, end the loop."""
        try:
            with patience:
                await self._cross(self._cancel_all)
                if self._loop.has_threads():
                    await trio.to_thread.run_sync(self._loop.shut_down_executors, abandon_on_cancel=True)
            if patience.cancelled_caught:
                log.warning("application ignores its end", backend=self.name)
                self._loop.abandon_executors()
        finally:
            self._nursery.cancel_scope.cancel()

    async def _be_root(self) -> None:
        """A task as old as the loop: libraries tie what belongs to the loop to its oldest task."""
        try:
            await self._loop.create_future()
        finally:
            # To asyncio itself the mark is the order to stop the loop.
            self._root.remove_done_callback(_MARK_OF_ROOT)

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
        error = context.get("exception")
        if isinstance(error, ClientDisconnected):
            return  # ASGI-4: from `send`, in a task of the application that nobody has awaited.
        log.error(
            "uncaught in asyncio",
            backend=self.name,
            reason=context["message"],
            exc_info=error,
            **_origins(context),
        )

    # --- from trio into the application

    async def call(self, function: Callable[[], Result]) -> Result:
        async def calling() -> Result:
            # What it sets of context variables is there in all requests, as with other servers.
            return self._crossings.context.run(function)

        return await self._cross(calling)

    def enter(self, app: Application, scope: Scope, exchange: Exchange) -> Awaitable[None]:
        crossing = Crossing(self._crossings, scope)
        exchange.on_complete = crossing.release
        exchange.wait = crossing.wait
        return crossing.wait_for(crossing.run(app, scope, exchange.receive, exchange.send))

    def leave(self) -> None:
        """Each asyncio task had a context of its own."""

    async def _cross(self, function: Callable[[], Awaitable[Result]]) -> Result:
        crossing = Crossing(self._crossings, {})
        await crossing.wait_for(crossing.run(function))
        result: Result = crossing.result
        return result

    # --- from the application back to trio

    async def wait(
        self, function: Callable[[], Awaitable[object]], scope: trio.CancelScope | None = None
    ) -> None:
        errand = Errand(function, scope, self._loop)
        self._nursery.start_soon(errand.run)
        await errand.wait()

    def event(self) -> Event:
        return asyncio.Event()

    async def pause(self) -> None:
        await asyncio.sleep(0)


def _origins(context: dict[str, Any]) -> dict[str, str]:
    """Where what failed was made, which asyncio remembers in debug mode."""
    return {
        key: "".join(traceback.format_list(value))
        for key, value in context.items()
        if key in ("source_traceback", "handle_traceback") and value
    }
