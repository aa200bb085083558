"""Lets a task that waits go on at once, within the step of the task that has something for it.

Why: after `trio.lowlevel.reschedule` it goes on in the next turn of trio's loop, and to pass through trio's
queue and loop costs as much as to parse a request, twice where one is passed on. Here is what nearly all
tasks do, in a function that is compiled: they run until they wait again::

    trio's loop ─► a step (of the pump, of asyncio's stepper, of trio's callbacks from threads)
                     ├► resume(task) ─► its step, until it waits
                     └► resume(task) ─► ...

Whatever else may happen, the task's end or a checkpoint, is left to trio in its next turn. To the task and to
trio it is a step like others: the task is the current one, has its own context, and is cancelled at its next
wait if a scope around it was. Instruments see it as a part of the step that it is within.

This knows how trio takes a step (trio._core._run.unrolled_run), which is nobody's business but trio's. Where
trio has not the names that are used here, `resume` is `reschedule`.
"""

from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, Final, cast

import trio
from outcome import Outcome
from trio.lowlevel import (
    Abort,
    RaiseCancelT,
    Task,
    cancel_shielded_checkpoint,
    reschedule,
    wait_task_rescheduled,
)


def _stay(_raise_cancel: RaiseCancelT) -> Abort:
    return Abort.SUCCEEDED


def _message(trap: Callable[..., Coroutine[Any, Any, object]], *arguments: object) -> Any:
    """What a task tells trio's loop when it awaits *trap*."""
    waiting = trap(*arguments)
    message = waiting.send(None)
    waiting.close()
    return message


def find_run_context() -> Any:
    """Where trio keeps the current task and the loop of each thread, or None if it does so elsewhere."""
    try:
        from trio._core._run import GLOBAL_RUN_CONTEXT
    except ImportError:
        return None
    return GLOBAL_RUN_CONTEXT


_CHECKPOINT: Final = _message(cancel_shielded_checkpoint)
_NOWHERE: Final = _message(wait_task_rescheduled, _stay)
_Wait: Final = type(_NOWHERE)

_run_context: Final = find_run_context()
_USED: Final = (
    "_abort_func",
    "_attempt_delivery_of_any_pending_cancel",
    "_attempt_delivery_of_pending_ki",
    "_cancel_points",
    "_cancel_status",
    "_next_send_fn",
    "_schedule_points",
)

DIRECT: Final = _run_context is not None and all(hasattr(Task, name) for name in _USED)
"""Trio has all that is used here."""


class Parking:
    """A place to wait: as `trio.lowlevel.wait_task_rescheduled`, for less, and any number of times.

    Who waits is woken by `resume` or `reschedule`, whose value is dropped and whose error is raised. Who may
    wait at a time is the owner's affair. *abort* is that of `wait_task_rescheduled`.
    """

    __slots__ = ("_message",)

    def __init__(self, abort: Callable[[RaiseCancelT], Abort]) -> None:
        self._message = _Wait(abort)

    def abandon(self) -> None:
        """Nobody will wait here again: let *abort* go, which leads back to whoever has this as a rule."""
        self._message = _NOWHERE

    def __await__(self) -> Generator[Any, Outcome[Any] | None, None]:
        outcome = yield self._message
        if outcome is not None:
            try:
                outcome.unwrap()
            finally:
                del outcome  # An error's traceback holds this frame.


def current_task() -> Task:
    """As `trio.lowlevel.current_task`, for less."""
    if not DIRECT:
        return trio.lowlevel.current_task()
    task: Task = _run_context.__dict__["task"]
    return task


def innermost_scope() -> object:
    """What stands for the scope that the current task is directly within; None where trio does not tell."""
    return current_task()._cancel_status if DIRECT else None


def resume(task: Task) -> None:
    """As `reschedule(task)`, from the step of another task and nowhere else. *task* waits in a `Parking`."""
    if not DIRECT:
        reschedule(task)
        return
    # That of this thread: a look-up in the dictionary is a third of one in the object itself.
    current = _run_context.__dict__
    caller = current["task"]
    current["task"] = task
    task._abort_func = None
    try:
        message: Any = task.context.run(task.coro.send, cast("Any", None))
    except BaseException as error:
        _leave(task, None, error)
        return
    finally:
        current["task"] = caller
    if type(message) is not _Wait:
        _leave(task, message, None)
        return
    task._schedule_points += 1
    task._cancel_points += 1
    task._abort_func = message.abort_func
    runner = current["runner"]
    if runner.ki_pending and task is runner.main_task:
        task._attempt_delivery_of_pending_ki()
    if task._cancel_status.effectively_cancelled:
        task._attempt_delivery_of_any_pending_cancel()


def _leave(task: Task, message: object, error: BaseException | None) -> None:
    """Let trio have in its next turn what came of a step: a *message*, or the end (StopIteration, too)."""
    reschedule(task)
    if message is _CHECKPOINT:
        task._schedule_points += 1
    else:
        # In place of the next step of the task, which has been.
        task._next_send_fn = partial(_again, message, error)


def _again(message: object, error: BaseException | None, _outcome: object) -> object:
    if error is not None:
        try:
            raise error
        finally:
            del error  # Its traceback holds this frame.
    return message
