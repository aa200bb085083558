"""How much of one backend runs at the same time, and who waits for a place: first come, first served.

Programs of a CGI backend, calls of a WSGI application in its threads, requests of an ASGI application, the
handlers of an HTTP/2 connection. A place that becomes free is handed to the request that has waited longest,
so that none which came later can take it.
"""

from collections import deque
from math import inf
from typing import Final

import trio

from gateway.errors import BackendError, Cause, Phase

_SOON: Final = 1.0
"""Seconds after which to come back, where nothing says how long a place takes to become free."""


class Slots:
    """Places for *limit* runs.

    *queue* requests wait for one (None: any number), each for at most *queue_time* seconds. The rest is for
    the error of the others, if any: *running* says what runs of *backend*, and which setting bounds it
    (``programs run, the most that …``).
    """

    def __init__(
        self,
        limit: int,
        *,
        queue: int | None = None,
        queue_time: float = inf,
        backend: str = "",
        running: str = "",
    ) -> None:
        self._backend = backend
        self._limit = limit
        self._free = limit
        self._queue = inf if queue is None else queue
        self._queue_time = queue_time
        self._running = running
        self._waiting: deque[trio.Event] = deque()

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""
        return len(self._waiting)

    async def enter(self, address: str = "") -> None:
        """Wait for a place; `leave` gives it back. Raises BackendError (503) if there is none in time.

        *address* is what is to be run, for the error. Who is cancelled has left the queue.
        """
        if self._free:
            self._free -= 1
            return
        if len(self._waiting) >= self._queue:
            raise self._full(address, f"{self._queue} requests wait already")
        granted = trio.Event()
        self._waiting.append(granted)
        try:
            with trio.move_on_after(self._queue_time):
                await granted.wait()
        except BaseException:
            if granted.is_set():  # in the moment of the cancellation
                self.leave()
            raise
        finally:
            if not granted.is_set():
                self._waiting.remove(granted)
        if not granted.is_set():
            raise self._full(address, f"none has ended for {self._queue_time:g} s")

    def leave(self) -> None:
        """What ran in the place has ended."""
        if self._waiting:
            self._waiting.popleft().set()
        else:
            self._free += 1

    def _full(self, address: str, detail: str) -> BackendError:
        return BackendError(
            Cause.OVERLOADED,
            f"{self._limit} {self._running}, and {detail}",
            backend=self._backend,
            address=address,
            phase=Phase.QUEUE,
            retry_after=_SOON if self._queue_time == inf else self._queue_time,
        )
