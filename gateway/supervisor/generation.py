"""The workers of one configuration: started, restarted when they die, until another generation takes over.

All are started at once. A mistake in an application is one of all of them: it is told once, in the words of
the worker that comes to it first, and ends the others.

A worker that dies is replaced, after a pause that doubles while they keep dying. When none is left and
several in a row could not even start, the generation gives up.
"""

from typing import Final

import trio

from gateway.config import Config
from gateway.config.document import Document
from gateway.errors import StartError
from gateway.logger import get_logger
from gateway.programs.process import describe_end
from gateway.programs.restarts import Restarts
from gateway.supervisor.channel import Start
from gateway.supervisor.process import Worker
from gateway.supervisor.sockets import Opened
from gateway.supervisor.standby import Standby

MOST_FAILED_STARTS: Final = 3
"""Workers in a row that may fail to start while none serves, before the generation gives up."""

log = get_logger()


class WorkerError(Exception):
    """Workers do not start: *reasons* for the operator, and the exit *status* that fits them."""

    def __init__(self, reasons: list[str], status: int = 1) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons
        self.status = status


class Generation:
    """*count* workers that are what *document* says."""

    def __init__(
        self,
        document: Document,
        config: Config,
        sockets: Opened,
        *,
        count: int,
        standby: Standby,
    ) -> None:
        self.config = config
        self.sockets = sockets
        self.count = count
        self.restarts = 0
        """Workers that were started in the place of others."""
        self.workers: list[Worker] = []
        """Those that run, in the order of their numbers."""
        self._document = document
        self._standby = standby
        self._retired = trio.Event()
        self._restarts = Restarts()
        self._failed_starts = 0
        self._failure: WorkerError | None = None
        """One has failed to start, and with it the generation: what others say besides is the same."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start the workers, say so when all serve, and keep them until `retire` or `stop`.

        Returns when all have ended. Raises WorkerError if they cannot start, or do not any more.
        """
        try:
            async with trio.open_nursery() as places:
                async with trio.open_nursery() as starting:
                    for number in range(1, self.count + 1):
                        starting.start_soon(places.start, self._fill, number)
                task_status.started()
        except* WorkerError:
            pass  # of several at once it is the first
        if self._failure is not None:
            raise self._failure

    def retire(self, patience: float) -> None:
        """The next generation serves: let these end with what they are doing.

        Idle connections have *patience* seconds for one more request.
        """
        self._retired.set()
        for worker in self.workers:
            worker.retire(self.config, patience)

    def stop(self, *, hurried: bool = False) -> None:
        """The daemon stops."""
        self._retired.set()
        for worker in self.workers:
            worker.stop(self.config, hurried=hurried)

    async def _fill(
        self, number: int, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Keep a worker in the place *number*; *started* when one serves."""
        place = _Place(task_status)
        while not self._retired.is_set():
            try:
                async with self._standby.turn:
                    if self._retired.is_set():
                        return
                    worker = self._begin(number)
            except StartError as error:
                self._died(place, trio.current_time(), [str(error)], 1, "not started")
            else:
                returncode = await self._attend(worker, place)
                if self._retired.is_set():
                    return
                end = describe_end(returncode)
                reasons = worker.failed
                if worker.ready.is_set():
                    self._failed_starts = 0
                else:
                    self._failed_starts += 1
                    reasons = reasons or [f"worker {number} has ended before it served: {end}"]
                self._died(place, worker.started_at, reasons, worker.status, end, worker)
            self.restarts += 1
            with trio.move_on_at(self._restarts.not_before):
                await self._retired.wait()

    def _begin(self, number: int) -> Worker:
        worker = self._standby.take()
        listeners = self.sockets.listeners
        start = Start(self._document, [place for place, _ in listeners], number, self.count)
        worker.begin(start, [listening for _, listening in listeners])
        return worker

    async def _attend(self, worker: Worker, place: "_Place") -> int:
        self.workers.append(worker)
        self.workers.sort(key=lambda each: each.number)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(place.wait_for, worker)
                returncode = await worker.run()
                nursery.cancel_scope.cancel()
        finally:
            self.workers.remove(worker)
        return returncode

    def _died(
        self,
        place: "_Place",
        started_at: float,
        reasons: list[str],
        status: int,
        end: str,
        worker: Worker | None = None,
    ) -> None:
        """Unasked. Raises WorkerError if there is no point in starting another."""
        if self._failure is not None:
            raise self._failure
        if worker is not None:
            for fields in worker.raised:
                log.error("application cannot start", **fields)
        if not place.filled:
            self._failure = WorkerError(reasons, status)
            raise self._failure
        none_serves = not any(worker.ready.is_set() for worker in self.workers)
        if none_serves and self._failed_starts >= MOST_FAILED_STARTS:
            in_a_row = f"{self._failed_starts} workers in a row could not start"
            self._failure = WorkerError([in_a_row, *reasons], status)
            raise self._failure
        pause = self._restarts.died(started_at, trio.current_time())
        pid = None if worker is None else worker.pid
        log.warning("worker ended", pid=pid, end=end, reason=reasons or None, restart_in=round(pause, 3))


class _Place:
    """The place of one worker after the other: filled once one has served."""

    def __init__(self, task_status: trio.TaskStatus[None]) -> None:
        self._task_status = task_status
        self.filled = False

    async def wait_for(self, worker: Worker) -> None:
        await worker.ready.wait()
        if not self.filled:
            self.filled = True
            self._task_status.started()
