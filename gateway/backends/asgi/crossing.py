"""A trio task that waits for an asyncio task: the way of a request into an application on asyncio, and back.

::

    trio task ─► wait_for ─► asyncio task: run ─► the application
              ◄───────────── wait (for a function of trio's: the trio task has nothing else to do)
              ◄───────────── release (the response is complete), or its end

It decides what the end of the one means to the other, when either is cancelled, too. An application that
ignores its cancellation is logged and left behind after ``patience`` seconds. It does not step the loop
(`stepping`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import trio
from trio.lowlevel import Abort, RaiseCancelT

from gateway.backends.asgi.errand import Errand
from gateway.backends.asgi.host import Scope, Wait
from gateway.backends.asgi.stepping import GuestLoop
from gateway.logger import get_logger
from gateway.net.resumption import Parking, current_task
from gateway.runtime import forked

log = get_logger()

_ENDS_OF_CANCELLED: Final = (asyncio.CancelledError, BaseExceptionGroup)
"""What a task may end with when it was cancelled, besides returning or failing."""


@dataclass(slots=True, frozen=True)
class Crossings:
    """What all crossings into one application have in common."""

    loop: GuestLoop
    name: str
    """That of the application, for the log."""
    patience: float
    """Seconds that it may take to end after it was cancelled."""
    context: Context
    """What tasks have of context variables."""
    wait_elsewhere: Wait
    """In a trio task of its own."""
    background: set[asyncio.Task[None]] = field(default_factory=set)
    """What still runs though nobody waits for it: asyncio itself holds its tasks by weak references only."""


class Crossing:
    """A trio task that waits for an asyncio task."""

    # Class attributes are the values at first: an ordinary request sets only a few of them.

    _waiting = True
    _done = False
    _error: BaseException | None = None
    _raise_cancel: RaiseCancelT | None = None
    _patience: asyncio.TimerHandle | None = None
    _errand: Errand | None = None
    _task: "asyncio.Task[None]"
    result: Any = None

    def __init__(self, common: Crossings, scope: Scope) -> None:
        self._common = common
        self._scope = scope
        self._visitor = current_task()

    async def run(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
        """The asyncio task."""
        try:
            self.result = await function(*arguments)
        except BaseException as error:  # raised again by _finish(), in the trio task
            forked.end_child(error)
            self._error = error
        if forked.is_child:
            forked.end_returned()
        self._done = True
        self.release()

    def release(self) -> None:
        """Let the trio task go on (from a step of the loop)."""
        if not self._waiting:
            return
        self._waiting = False
        if self._errand is None:
            self._common.loop.resume_after_step(self._visitor)
        else:
            self._errand.cancel()

    async def wait(
        self, function: Callable[[], Awaitable[object]], scope: trio.CancelScope | None = None
    ) -> None:
        """The asyncio task: as `Host.wait`, for which the trio task need not be made."""
        common = self._common
        if self._errand is not None or not self._waiting or self._raise_cancel is not None:
            await common.wait_elsewhere(function, scope)
            return
        self._errand = errand = Errand(function, scope, common.loop)
        common.loop.resume_after_step(self._visitor)
        await errand.wait()

    async def wait_for(self, main: Coroutine[Any, Any, None]) -> None:
        """The trio task: have *main*, which is `run`, run, and wait for its end or `release`.

        Raises what the application has raised by then, and Cancelled if it has ended for that.
        """
        common = self._common
        # Not by its argument `context`, which not every task factory of an application takes.
        self._task = task = common.context.copy().run(common.loop.create_task, main)
        parking = Parking(self._abort)
        await parking
        while self._errand is not None:
            with suppress(trio.Cancelled):  # where it waits next it hears of that again
                await self._errand.run()
            self._errand = None
            if self._waiting:
                await parking
        if not self._done:
            common.background.add(task)
            task.add_done_callback(self._on_late_end)
        self._finish()

    def _abort(self, raise_cancel: RaiseCancelT) -> Abort:
        """The trio task was cancelled: cancel the asyncio task, which decides when it ends."""
        if not self._waiting or self._raise_cancel is not None:
            return Abort.FAILED  # It goes on behind this step, or has been told.
        task = self._task
        self._raise_cancel = raise_cancel
        task.cancel()
        # A task that is cancelled before it began never comes to the end of run().
        task.add_done_callback(self._on_done)
        self._patience = self._common.loop.call_later(self._common.patience, self._give_up)
        return Abort.FAILED

    def _on_done(self, task: "asyncio.Task[None]") -> None:
        self._done = True
        self.release()

    def _give_up(self) -> None:
        if self._waiting:
            log.warning(
                "application ignores its cancellation",
                backend=self._common.name,
                patience=self._common.patience,
                path=self._scope.get("path"),
            )
            self.release()

    def _finish(self) -> None:
        """In the trio task again: raise what is to be raised."""
        error, self._error = self._error, None
        if self._patience is not None:
            self._patience.cancel()
        if self._raise_cancel is not None and (
            not self._done or self._task.cancelled() or isinstance(error, _ENDS_OF_CANCELLED)
        ):
            # Of a task that never began the traceback holds this, and with it the request.
            del self._task
            _raise_cancelled(self._raise_cancel, error)
        if isinstance(error, asyncio.CancelledError):
            raise RuntimeError("the application cancelled its own task") from error  # noqa: TRY004
        if error is not None:
            try:
                raise error
            finally:
                del error  # Its traceback holds this frame, and with it the request.

    def _on_late_end(self, task: "asyncio.Task[None]") -> None:
        """The asyncio task has ended behind its trio task."""
        self._common.background.discard(task)
        error, self._error = self._error, None
        if not (error is None or isinstance(error, GeneratorExit) or _is_cancellation(error)):
            log.error(
                "application failed after its response",
                backend=self._common.name,
                method=self._scope.get("method"),
                path=self._scope.get("path"),
                exc_info=error,
            )


def _raise_cancelled(raise_cancel: RaiseCancelT, error: BaseException | None) -> NoReturn:
    """Raise Cancelled; and beside it, as a nursery does, a group of tasks in which more went wrong."""
    try:
        raise_cancel()
    except trio.Cancelled as cancelled:
        if error is None or _is_cancellation(error):
            raise
        both = BaseExceptionGroup("cancelled, and failed", [cancelled, error])
    try:
        raise both
    finally:
        del both, error  # Their tracebacks hold this frame.


def _is_cancellation(error: BaseException) -> bool:
    """Whether *error* says no more than that a task was cancelled; a group of tasks says so by a group."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(asyncio.CancelledError)[1] is None
    return isinstance(error, asyncio.CancelledError)
