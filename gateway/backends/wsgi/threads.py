"""Persistent worker threads, fed by a SimpleQueue, whose results come back over one wake-up for many.

Beyond the application and the parsing, a WSGI request costs its way to a thread and back: waking, and
handing over the GIL. The way back wakes as rarely as it can and never late: the first post since the trio
thread last looked rings, and the answer delivers all that has been posted by then.

The way there is taken at the end of a turn of the loop: a thread that is woken in the middle of it takes
the interpreter's lock at the next system call of the trio thread, which then has to wait for it to come back,
again and again. Calls of one turn wait for each other instead, and the threads find a queue of them. Measured
on 64 keep-alive connections, "Hello, world!": 18 µs of CPU a request, and 32 µs without.

Promises: every submitted call is run once, in order of submission; every posted call is delivered in the
trio thread at least once after its last post. Does not bound the queue: each waiting call is a request
of some connection, and those are bounded.
"""

import threading
from collections import deque
from queue import SimpleQueue
from typing import Protocol, cast

import trio

from gateway.errors import StartError
from gateway.logger import get_logger
from gateway.net.doorbell import Doorbell
from gateway.net.pump import Pump
from gateway.runtime import forked

log = get_logger()


class Call(Protocol):
    """What the threads run."""

    def run(self) -> None:
        """Do it, in a worker thread. Raises nothing of its own."""
        ...

    def fail(self, error: BaseException) -> None:
        """It has raised what was thrown into its thread from outside; in that thread. Raises nothing."""
        ...

    def deliver(self) -> None:
        """Something was posted; called in the trio thread. Raises nothing."""
        ...


class WorkerThreads:
    """*count* threads that are started once and stay until `stop`."""

    def __init__(self, name: str, count: int) -> None:
        self._name = name
        self._count = count
        self._submitted: list[Call] = []
        """In this turn of the loop."""
        self._queue: SimpleQueue[Call | None] = SimpleQueue()
        self._posted: deque[Call] = deque()
        self._doorbell: Doorbell
        self._token: trio.lowlevel.TrioToken
        self._threads: list[threading.Thread] = []
        self.current: list[Call | None] = [None] * count
        """What each thread runs, None for one that waits; as it is now, without a lock."""
        self._running = 0
        self._all_ended: trio.Event

    # --- in the trio thread

    def start(self, pump: Pump) -> None:
        """Start the threads. Their posts are delivered in a step of the *pump*.

        Raises StartError if the system has no room for so many.
        """
        self._token = trio.lowlevel.current_trio_token()
        self._doorbell = Doorbell(pump, self._deliver)
        self._all_ended = trio.Event()
        self._running = self._count
        for number in range(self._count):
            # Daemon threads: an application that never returns must not keep the process from exiting.
            thread = threading.Thread(
                target=self._work, args=(number,), name=f"wsgi {self._name} {number}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:
                for _ in self._threads:
                    self._queue.put(None)
                self._doorbell.close()
                raise StartError(
                    f"backend {self._name}: {error}: {number} of {self._count} threads are running; "
                    "expected fewer, or a higher limit of memory or processes"
                ) from error
            self._threads.append(thread)
        # Not by inheritance: no compiled class can have an ancestor that is not.
        trio.lowlevel.add_instrument(cast("trio.abc.Instrument", self))

    def submit(self, call: Call) -> None:
        """Have *call* run by a thread when this turn of the loop is over."""
        self._submitted.append(call)

    def release(self) -> None:
        """Hand what was submitted to the threads."""
        if self._submitted:
            put = self._queue.put
            for call in self._submitted:
                put(call)
            self._submitted.clear()

    def before_io_wait(self, timeout: float) -> None:
        """The turn is over (called by trio: this is one of its instruments)."""
        self.release()

    async def stop(self, grace: float) -> None:
        """End the threads once they have run what was submitted; wait for that up to *grace* seconds."""
        trio.lowlevel.remove_instrument(cast("trio.abc.Instrument", self))
        self.release()
        for _ in range(self._count):
            self._queue.put(None)
        with trio.move_on_after(grace, shield=True):
            await self._all_ended.wait()
        self._doorbell.close()
        self._posted.clear()  # What nobody delivers any more, and this object, would keep each other.
        if self._running:
            log.warning("application calls are still running", backend=self._name, calls=self._running)
            return
        for thread in self._threads:
            thread.join()  # They have said farewell: this takes microseconds.

    def ident(self, number: int) -> int | None:
        """The identifier of a thread, by its place in `current`."""
        return self._threads[number].ident

    def _deliver(self) -> None:
        posted = self._posted
        # Not those that come meanwhile: they have their own ring, and the loop its turn before.
        for _ in range(len(posted)):
            posted.popleft().deliver()

    def _thread_ended(self) -> None:
        self._running -= 1
        if not self._running:
            self._all_ended.set()

    # --- in a worker thread

    def post(self, call: Call) -> None:
        """Have *call* delivered in the trio thread."""
        if forked.is_child:
            forked.end_returned()
        self._posted.append(call)
        self._doorbell.ring()

    def _work(self, number: int) -> None:
        take = self._queue.get
        current = self.current
        call: Call | None = None
        error: BaseException | None = None
        while True:
            try:
                if call is not None and error is not None:
                    call.fail(error)
                current[number] = call = error = None
                # What is thrown into a thread that waits is raised by the next call in Python that returns:
                # `take` would lose what it has taken.
                for call in iter(take, None):
                    current[number] = call
                    call.run()
                    # Nothing of a request is kept while the thread waits for the next.
                    current[number] = call = None
                break
            except BaseException as thrown:
                # Of a time limit that the application had for itself, and that came too late
                # (PyThreadState_SetAsyncExc): the thread goes on. Another one may come while this is told.
                error = thrown
        try:
            self._token.run_sync_soon(self._thread_ended)
        except trio.RunFinishedError:
            pass  # The loop has ended before the application did; nobody is left to be told.
