"""Nurseries that are closed in another task than the one that has opened them, by applications on trio.

Whoever leaves an asynchronous generator by ``break`` leaves what is open in it to trio, which closes the
generator in a task of its own once nobody has it any more; or another request closes it. Trio then wakes the
task that has opened a nursery in there, wherever that waits now: it is a connection's, which goes on with
nothing to go on with, or has ended. Of a task that has ended the loop cannot make a step, and ends.

So a nursery becomes that of the task which closes it, and that one is woken. It is no remedy: the connection
ends, and trio tells that its scopes are corrupt (https://github.com/python-trio/trio/issues/638).

All of this is trio's own business. Every nursery goes through here, so where trio is another one, nothing is
changed: what it calls gets what it is given and returns what it returns, and a nursery that looks otherwise
stays as it is.
"""

from collections.abc import Callable
from typing import Any, Final

import trio
from trio.lowlevel import current_task

_close: Final[Callable[..., Any] | None] = getattr(trio.Nursery, "_nested_child_finished", None)
"""What trio calls when the block of a nursery is over; None where it has another name."""


def _close_here(nursery: trio.Nursery, *arguments: Any, **named: Any) -> Any:
    task, opener = current_task(), nursery.parent_task
    if task is not opener and getattr(nursery, "_parent_task", None) is opener:
        ours, theirs = (getattr(each, "_child_nurseries", None) for each in (task, opener))
        if isinstance(ours, list) and isinstance(theirs, list):
            if nursery in theirs:
                theirs.remove(nursery)
            ours.append(nursery)
            nursery._parent_task = task
    assert _close is not None
    return _close(nursery, *arguments, **named)


def close_in_the_task_that_waits() -> None:
    """From now on, in the whole process."""
    if _close is not None:
        trio.Nursery._nested_child_finished = _close_here  # type: ignore[assignment, method-assign]
