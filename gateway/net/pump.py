"""The readiness pump: one epoll set for the sockets and pipes of a worker, one trio task that waits for it.

Why it exists: trio arms and disarms a socket in its own epoll for each wait, which costs more than
parsing a request. Here each socket is registered once at most, edge-triggered; trio's loop waits in this
set (`io_manager`), and the pump's task reads the sockets whose tasks are parked, and lets those tasks go on
with the bytes (`resumption`). Writes are tried at once, or held until the end of the turn (`outbox`), and
park only when the kernel's buffer is full. It is still trio: tasks own their streams and every wait can be
cancelled::

    kernel ─► IOManager ─► Pump.run ─► recv ─► resume(task that waits in receive_some)
                                  └──► on_hangup (the peer closed while the task was busy elsewhere)

What came in one batch is dealt with by one task after the other, within the pump's step. Each knows of all
of it (`PumpStream.note`). A task that makes a connection waits until the others of its batch are done
(`after_batch`), so that the server is woken once. When all have sent, each new connection is read once; only
those without an answer yet are put into the epoll set (`watch_unless_here`). The step of an asyncio loop
comes behind all that (`call_after_batch`).

Deadlines of streams are kept by a coarse sweeper (:data:`SWEEP_INTERVAL`), because a cancel scope per wait
would cost as much as the wait.

It does not do accepting (`listener`), or name resolution.
"""

import select
from collections.abc import Callable
from typing import Final, NoReturn

import trio
from trio.lowlevel import Abort, RaiseCancelT, Task

from gateway.net.io_manager import Batch, IOManager, take_over
from gateway.net.outbox import Outbox
from gateway.net.resumption import Parking, current_task, resume
from gateway.net.stream import PumpStream

SWEEP_INTERVAL: Final = 0.25
"""Seconds between two looks at the deadlines; a deadline is kept to that precision."""

OVERSLEPT: Final = 1.0
"""Seconds behind a deadline from which on it is `overslept`."""

_REGISTERED: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET

_VAIN_TRIES: Final = 4
"""Reads in vain, one after the other, after which the other answers of a batch are waited for."""


def _not_long(_raise_cancel: RaiseCancelT) -> Abort:
    return Abort.FAILED  # the next wait is cancelled


_AFTER_BATCH: Final = Parking(_not_long)


def overslept(deadline: float) -> bool:
    """Whether *deadline* proves nothing: the process was stopped (SIGSTOP, a container's pause) or kept from
    running for longer, and what the peer has said meanwhile is not read yet.
    """
    return trio.current_time() >= deadline + OVERSLEPT


class Pump:
    """The one epoll set of a worker. ``now`` is trio's clock as of the last batch of events or connection."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._streams: dict[int, PumpStream] = {}
        self._watches: dict[int, Callable[[], None]] = {}
        self._at_sweeps: dict[Callable[[], None], None] = {}
        self._detached: set[int] = set()
        """Descriptors forgotten since the kernel was asked: its events about them are about the dead."""
        self.outbox = Outbox()
        self.time = trio.lowlevel.current_clock().current_time
        """`trio.current_time`, for less."""
        self.now = self.time()
        self._dispatching = False
        self._held_up: list[Task] = []
        """Those that wait in `after_batch`."""
        self._last: list[Callable[[], None]] = []
        """What is called behind them."""
        self._takes_follow = False
        """Several of them go on now, one right after the other."""
        self._unwatched: list[PumpStream] = []
        """The new connections that they have made and wait for."""
        self._io: IOManager | None = None
        """What trio waits with, while the pump runs."""

    def adopt(self, stream: PumpStream) -> None:
        """Watch *stream* from now on. Its socket is connected, or connecting, and is made non-blocking."""
        sock = stream.sock
        if sock.gettimeout() != 0:
            sock.setblocking(False)
        fd = sock.fileno()
        self._epoll.register(fd, _REGISTERED)
        self._streams[fd] = stream
        stream.watched = True

    def watch_unless_here(self, stream: PumpStream) -> None:
        """Watch *stream* for what its task is about to wait for, unless that may be here in a moment.

        Raises BrokenResourceError.
        """
        if self._takes_follow:
            self._unwatched.append(stream)
        else:
            stream.watch()

    def detach(self, fd: int) -> None:
        """Forget a socket that is about to be closed."""
        if self._streams.pop(fd, None) is not None and not self._epoll.closed:
            self._epoll.unregister(fd)
            self._detached.add(fd)

    def watch(self, fd: int, callback: Callable[[], None], *, edge: bool = False) -> None:
        """Call *callback* in the pump's task whenever *fd* is readable, or with *edge* when that is news."""
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLET if edge else select.EPOLLIN)
        self._watches[fd] = callback

    def unwatch(self, fd: int) -> None:
        """Stop watching *fd*."""
        if self._watches.pop(fd, None) is not None and not self._epoll.closed:
            self._epoll.unregister(fd)
            self._detached.add(fd)

    def at_each_sweep(self, callback: Callable[[], None]) -> None:
        """Call *callback* in the sweeper's task every `SWEEP_INTERVAL`, behind the deadlines."""
        self._at_sweeps[callback] = None

    def not_at_sweeps(self, callback: Callable[[], None]) -> None:
        """Do so no more."""
        self._at_sweeps.pop(callback, None)

    def look_at_the_clock(self) -> None:
        """For what begins without a batch: in an idle worker ``now`` is as old as `SWEEP_INTERVAL`."""
        self.now = self.time()

    async def after_batch(self) -> None:
        """Wait until the other tasks have dealt with what came together with what this one has got.

        For what wakes another process: done for several requests one right after the other it finds that
        awake, as in `outbox`. A quarter of the CPU time of a request that takes a connection of its own.
        """
        if self._dispatching:
            self._held_up.append(current_task())
            await _AFTER_BATCH

    def call_after_batch(self, call: Callable[[], None]) -> bool:
        """Have *call* called when all that came together is dealt with; False outside of a batch.

        For what has something to do for several of a batch.
        """
        if self._dispatching:
            self._last.append(call)
        return self._dispatching

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Dispatch events until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._sweep)
                self._io = io = take_over(self._epoll, self._end_turn)
                if io is None:
                    task_status.started()
                    await self._wait_by_trio()
                else:
                    try:
                        task_status.started()
                        self.outbox.opened = True
                        while True:
                            await io.parking
                            self._dispatch_batch(io)
                    finally:
                        io.release()
        finally:
            self.outbox.opened = False
            self.outbox.release()
            self._io = None
            self._epoll.close()

    async def _wait_by_trio(self) -> NoReturn:
        """As any other task does: nothing can be held in the outbox."""
        descriptor = self._epoll.fileno()
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            self._poll_now()

    def _end_turn(self) -> None:
        """Trio is about to wait."""
        self._detached.clear()
        self.outbox.release()

    def _poll_now(self) -> None:
        """Dispatch what has come by now."""
        if self._io is not None:
            self._dispatch_batch(self._io)
        self._detached.clear()
        self._dispatch(self._epoll.poll(0))

    def _dispatch_batch(self, io: IOManager) -> None:
        """What trio's loop has found; unless `_poll_now` was first."""
        batch, io.batch = io.batch, []
        if batch:
            self._dispatch(batch)

    def _dispatch(self, batch: Batch) -> None:
        self.now = self.time()
        streams = self._streams
        detached = self._detached
        # Who goes on first must not take for alive, or for silent, a connection of which the same batch says
        # otherwise.
        for fd, events in batch:
            stream = streams.get(fd)
            if stream is not None and fd not in detached:
                stream.note(events)
        self._dispatching = True
        try:
            for fd, events in batch:
                if fd in detached:
                    continue
                stream = streams.get(fd)
                if stream is not None:
                    stream.ready(events)
                elif fd in self._watches:
                    self._watches[fd]()
        finally:
            self._dispatching = False
            if self._held_up:
                self._go_on()
            if self._last:
                last, self._last = self._last, []
                for call in last:
                    call()

    def _go_on(self) -> None:
        """Let those go on that were held up; then look for the answers on their new connections.

        When the last of several has sent its request, a server that keeps up with this worker has answered
        most of them. A read in vain costs a third of watching a connection for one answer, and forgetting it.
        """
        held_up, self._held_up = self._held_up, []
        self._takes_follow = len(held_up) > 1
        for task in held_up:
            resume(task)
        self._takes_follow = False
        if self._unwatched:
            unwatched, self._unwatched = self._unwatched, []
            self.now = self.time()
            misses = 0
            for stream in unwatched:
                if misses < _VAIN_TRIES and stream.take_if_here():
                    misses = 0
                else:
                    misses += 1
                    stream.keep_waiting()

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(SWEEP_INTERVAL)  # noqa: TID251 - the sweeper is the clock
            self._expire()

    def _expire(self) -> None:
        """End the waits whose deadline has passed."""
        # What has come is not late, though nobody has looked: the worker itself may have been kept from
        # running for longer than any deadline.
        self._poll_now()
        now = self.now
        for stream in list(self._streams.values()):
            stream.sweep(now)
        for callback in list(self._at_sweeps):
            if callback in self._at_sweeps:
                callback()
