"""What trio waits with in a worker: the epoll set of the pump, of which trio's own is one descriptor.

Why: were the pump one more task that waits for a descriptor by trio, each batch of events would take two
waits in the kernel, and a call to arm the descriptor again. A batch is one event where one client asks, or a
database answers: a third of the CPU time of a small response on one connection. So it is turned round::

    kernel ─► the pump's set ─► IOManager ─► reschedule(the pump's task)
                    └─ trio's set, when that is ready ─► trio's own manager ─► tasks that wait by trio itself

This knows how trio's loop waits (trio._core._run.unrolled_run), which is nobody's business but trio's. Where
trio has not the names that are used here, or waits with something else already, `take_over` returns None.
"""

import select
from collections.abc import Callable
from typing import Any, Final

from trio.lowlevel import Abort, RaiseCancelT, reschedule

from gateway.net.resumption import Parking, current_task, find_run_context

Batch = list[tuple[int, int]]
"""Descriptors, each with its events."""

_Events = tuple[Any, Batch]
"""What has come for trio, as its own manager has it, and what for the pump."""

_run_context: Final = find_run_context()
_USED: Final = ("_epoll", "get_events", "process_events")


class IOManager:
    """Waits in trio's place, in *epoll*, until `release`. Made by the task that is to have the events.

    That waits in `parking`, and finds them in `batch`. *before_wait* is called before each wait.
    """

    def __init__(self, runner: Any, epoll: select.epoll, before_wait: Callable[[], None]) -> None:
        self._runner = runner
        self._of_trio = runner.io_manager
        self._set_of_trio: int = self._of_trio._epoll.fileno()
        self._poll = epoll.poll
        self._before_wait = before_wait
        self._task: Any = current_task()
        self.parking = Parking(self._abort)
        self.batch: Batch = []
        epoll.register(self._set_of_trio, select.EPOLLIN)
        runner.io_manager = self

    def release(self) -> None:
        """Let trio wait with its own again."""
        self._runner.io_manager = self._of_trio
        self._task = None
        self.parking.abandon()

    def _abort(self, _raise_cancel: RaiseCancelT) -> Abort:
        self._task = None
        return Abort.SUCCEEDED

    # --- called by trio, for what it has of its manager

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of_trio, name)

    def get_events(self, timeout: float) -> _Events | None:
        """What has come; None if nothing has for *timeout* seconds."""
        self._before_wait()
        batch: Batch = self._poll(timeout)
        if not batch:
            return None
        for index, (descriptor, _) in enumerate(batch):
            if descriptor == self._set_of_trio:
                del batch[index]
                return self._of_trio.get_events(0), batch
        return None, batch

    def process_events(self, events: _Events | None) -> None:
        """Make the tasks runnable that wait for *events*."""
        if events is not None:
            of_trio, batch = events
            if of_trio:
                self._of_trio.process_events(of_trio)
            if batch and self._task is not None:
                self.batch = batch
                reschedule(self._task)


def take_over(epoll: select.epoll, before_wait: Callable[[], None]) -> IOManager | None:
    """Have the trio loop of this thread wait in *epoll* for the task that calls; None if it does not."""
    if _run_context is None:
        return None
    runner = _run_context.runner
    manager = getattr(runner, "io_manager", None)
    if isinstance(manager, IOManager) or not all(hasattr(manager, name) for name in _USED):
        return None
    return IOManager(runner, epoll, before_wait)
