"""Nurseries that are closed in another task than the one that has opened them, by applications on trio.

Whoever leaves an asynchronous generator by ``break`` leaves what is open in it to trio, which closes the
generator in a task of its own once nobody has it any more; or another request closes it. Trio then wakes the
task that has opened a nursery in there, wherever that waits now: it is a connection's, which goes on with
nothing to go on with, or has ended. Of a task that has ended the loop cannot make a step, and ends.

So a nursery becomes that of the task which closes it, and that one is woken. It is no remedy: the connection
ends, and trio tells that its scopes are corrupt (https://github.com/python-trio/trio/issues/638).
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio
from trio.lowlevel import current_task

_close: Final[Callable[[Any, Any], Awaitable[Any]] | None] = getattr(
    trio.Nursery, "_nested_child_finished", None
)
"""What trio calls when the block of a nursery is over; None where it has another name."""


async def _close_here(nursery: trio.Nursery, error: BaseException | None) -> BaseException | None:
    task, opener = current_task(), nursery.parent_task
    if task is not opener:
        if nursery in opener._child_nurseries:
            opener._child_nurseries.remove(nursery)
        task._child_nurseries.append(nursery)
        nursery._parent_task = task
    assert _close is not None
    outcome: BaseException | None = await _close(nursery, error)
    return outcome


def close_in_the_task_that_waits() -> None:
    """From now on, in the whole process."""
    if _close is not None:
        trio.Nursery._nested_child_finished = _close_here  # type: ignore[assignment, method-assign]
