"""How many programs run at the same time, and who waits for a place: first come, first served."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from gateway.errors import BackendError, Cause, Phase


class Slots:
    """Places for *limit* programs of *backend*.

    *queue* requests wait for one, each for at most *queue_time* seconds.
    """

    def __init__(self, backend: str, limit: int, *, queue: int, queue_time: float) -> None:
        self._backend = backend
        self._places = trio.CapacityLimiter(limit)
        self._queue = queue
        self._queue_time = queue_time

    @asynccontextmanager
    async def place(self, program: str) -> AsyncIterator[None]:
        """Wait for a place, and hold it. Raises BackendError (503) if there is none in time.

        *program* is the path of the program, for the error. Who is cancelled has left the queue.
        """
        holder = object()  # a task may answer several requests of one connection, and be late to leave
        if self._places.available_tokens < 1:
            if self._places.statistics().tasks_waiting >= self._queue:
                raise self._full(program, f"{self._queue} requests wait already")
            with trio.move_on_after(self._queue_time) as patience:
                await self._places.acquire_on_behalf_of(holder)
            if patience.cancelled_caught:
                raise self._full(program, f"none has ended for {self._queue_time:g} s")
        else:
            self._places.acquire_on_behalf_of_nowait(holder)
        try:
            yield
        finally:
            self._places.release_on_behalf_of(holder)

    def _full(self, program: str, detail: str) -> BackendError:
        return BackendError(
            Cause.OVERLOADED,
            f"{self._places.borrowed_tokens} programs run, the most that max_processes allows, and {detail}",
            backend=self._backend,
            address=program,
            phase=Phase.QUEUE,
            retry_after=self._queue_time,
        )
