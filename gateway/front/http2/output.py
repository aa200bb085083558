"""The sending side of a connection: what its streams have to send, in fair turns, in few writes.

A stream puts what it has into its :class:`Outlet` and flushes. As long as the kernel takes everything, a
flush only hands frames to the codec and wakes the writer; the writer runs after the tasks that are
runnable now, so the responses of one turn of the loop leave in one system call. When the kernel's buffer
or a window is full, the outlets that have more wait, and get turns of one frame each.
"""

from collections import deque
from math import inf
from typing import Final

import trio
from outcome import Error
from trio.lowlevel import Abort, RaiseCancelT, Task, current_task, reschedule, wait_task_rescheduled

from gateway.errors import ClientGone
from gateway.front.patience import Patience
from gateway.net.pump import Pump, overslept
from gateway.net.stream import PumpStream
from gateway.protocols.events import Headers
from gateway.protocols.http2 import Http2Server

FULL: Final = 64 * 1024
"""Bytes handed to the codec before a write: what waits in there can neither be withdrawn nor reordered."""

_CLOSED: Final = "the client closed the connection"


class Outlet:
    """What one stream has to send, in order: a head, bytes, the end."""

    __slots__ = (
        "_codec",
        "_head",
        "_output",
        "_queued",
        "_task",
        "_trailers",
        "broken",
        "deadline",
        "ended",
        "over",
        "patience",
        "queued_at",
        "queueing",
        "stream_id",
    )

    def __init__(self, output: "Output", codec: Http2Server, stream_id: int, patience: Patience) -> None:
        """*patience*: how long the client may take to let through what is sent."""
        self._output = output
        self._codec = codec
        self._head: Headers | None = None
        self._queued: list[bytes | memoryview] = []
        self._trailers: Headers | None = None
        self._task: Task | None = None
        self.stream_id = stream_id
        self.ended = False
        """Nothing will be written any more."""
        self.over = False
        """The end of the stream was handed on."""
        self.broken = ""
        """Why nothing can be sent on the stream any more."""
        self.queueing = False
        """Waits for a turn or a window."""
        self.deadline = inf
        """Until then some of it has to go."""
        self.patience = patience
        self.queued_at = 0.0
        """When it began to wait, or last got a turn."""

    @property
    def pending(self) -> bool:
        """Something was written that is not handed on."""
        return self._head is not None or bool(self._queued) or (self.ended and not self.over)

    @property
    def needs_room(self) -> bool:
        """Nothing can be handed on but body: heads and ends need no window (RFC 9113 5.2.1)."""
        return self._head is None and bool(self._queued)

    @property
    def has_trailers(self) -> bool:
        """The end will carry trailers."""
        return bool(self._trailers)

    def begin(self, head: Headers) -> None:
        """The head of the response, with its ``:status``."""
        self._head = head

    def write(self, data: bytes) -> None:
        """Some of the body."""
        self._queued.append(data)

    def end(self, trailers: Headers | None = None) -> None:
        """The end, once."""
        self.ended = True
        self._trailers = trailers

    def clear(self) -> None:
        """Forget what was written."""
        self._head = self._trailers = None
        self._queued = []
        self.ended = False

    # --- flushing

    def try_flush(self) -> bool:
        """Hand on what can be; whether nothing is left. Raises ClientGone."""
        if self.broken:
            raise ClientGone(self.broken)
        if not self.pending:
            return True
        if self.queueing:
            return False
        if self._output.offer(self):
            return True
        if self.broken:
            raise ClientGone(self.broken)
        return False

    async def flush(self) -> None:
        """Wait until all is handed on. Raises ClientGone."""
        while not self.try_flush():
            if self._task is not None:
                raise trio.BusyResourceError("another task is sending on this stream")
            self._task = current_task()
            await wait_task_rescheduled(self._abort)

    def _abort(self, _raise_cancel: RaiseCancelT) -> Abort:
        self._task = None
        return Abort.SUCCEEDED

    # --- what Output calls

    def push(self, most: int) -> int:
        """Hand on the head, and bytes up to *most* as the windows allow; how many."""
        codec, stream_id = self._codec, self.stream_id
        left = most
        if self._head is not None:
            head, self._head = self._head, None
            self.over = self.ended and not (self._queued or self._trailers)
            codec.send_head(stream_id, head, end=self.over)
        if len(self._queued) > 1:
            self._queued = [b"".join(self._queued)]
        while self._queued and left > 0:
            room = min(codec.room(stream_id), left)
            if not room:
                return most - left
            left -= self._push_piece(room)
        if self.ended and not (self.over or self._queued):
            self.over = True
            if self._trailers:
                codec.send_trailers(stream_id, self._trailers)
            else:
                codec.send_data(stream_id, b"", end=True)
        return most - left

    def _push_piece(self, room: int) -> int:
        """Hand on one frame; its bytes."""
        data = self._queued[0]
        size = len(data)
        if size <= room:
            self._queued = []
            self.over = self.ended and not self._trailers
            self._codec.send_data(self.stream_id, data, end=self.over)
            return size
        view = memoryview(data)
        self._queued[0] = view[room:]
        self._codec.send_data(self.stream_id, view[:room], end=False)
        return room

    def wait_from(self, now: float) -> None:
        """It waits from *now* on, as long as there is patience."""
        self.queued_at = now
        self.deadline = now + self.patience.left

    def wake(self) -> None:
        """Let the task that waits in `flush` look again."""
        task, self._task = self._task, None
        if task is not None:
            reschedule(task)

    def break_off(self, reason: str) -> None:
        """Nothing can be sent any more: the task that waits gets ClientGone."""
        self.broken = reason
        self.queueing = False
        self.deadline = inf
        self._queued = []
        task, self._task = self._task, None
        if task is not None:
            reschedule(task, Error(ClientGone(reason)))


class Output:
    """What a whole connection sends. `run` is the connection's writer."""

    __slots__ = (
        "_blocked",
        "_closed",
        "_codec",
        "_finishing",
        "_pump",
        "_send_timeout",
        "_stalled",
        "_stream",
        "_turns",
        "_writer",
    )

    def __init__(self, codec: Http2Server, stream: PumpStream, pump: Pump, *, send_timeout: float) -> None:
        self._codec = codec
        self._stream = stream
        self._pump = pump
        self._send_timeout = send_timeout
        self._turns: deque[Outlet] = deque()
        self._stalled: set[Outlet] = set()
        """Outlets whose window is closed."""
        self._closed = False
        """The client opens no window any more."""
        self._writer: Task | None = None
        self._blocked = False
        self._finishing = False

    # --- what streams call

    def offer(self, outlet: Outlet) -> bool:
        """Hand on what can be at once; False if *outlet* has to wait for a turn with the rest."""
        if not (self._blocked or self._turns) and self._codec.queued < FULL:
            outlet.push(FULL - self._codec.queued)
            self.wake()
            if not outlet.pending:
                return True
        self._queue(outlet)
        return False

    def withdraw(self, outlet: Outlet, reason: str) -> None:
        """The stream of *outlet* is gone."""
        self._stalled.discard(outlet)
        if outlet in self._turns:
            self._turns.remove(outlet)
        outlet.break_off(reason)

    def wake(self) -> None:
        """The codec has something to send."""
        writer, self._writer = self._writer, None
        if writer is not None:
            reschedule(writer)

    # --- what the connection calls

    def open_windows(self, outlet: Outlet | None) -> None:
        """The client takes more on the stream of *outlet*; on all of them if it is None."""
        opened = list(self._stalled) if outlet is None else [outlet]
        for each in opened:
            if each in self._stalled and self._codec.room(each.stream_id):
                self._stalled.discard(each)
                # Before its turn: the sweeper may come first.
                now = self._pump.now
                each.patience.spend(now - each.queued_at, 0)
                each.wait_from(now)
                self._turns.append(each)
        if self._turns:
            self.wake()

    def close_windows(self) -> None:
        """The client has closed its side: what its windows do not take now is never sent."""
        self._closed = True
        for outlet in list(self._stalled):
            self.withdraw(outlet, _CLOSED)

    def overdue(self, now: float) -> list[Outlet]:
        """Outlets of which nothing was taken in time."""
        late = [outlet for outlet in (*self._stalled, *self._turns) if outlet.deadline <= now]
        for outlet in late:
            if overslept(outlet.deadline):  # others may have been taken for it, or its window opened
                outlet.wait_from(now)
        return [outlet for outlet in late if outlet.deadline <= now]

    def next_deadline(self) -> float:
        """When the next outlet will be overdue."""
        deadlines = [outlet.deadline for outlet in self._stalled]
        deadlines += [outlet.deadline for outlet in self._turns]
        return min(deadlines, default=inf)

    def finish(self) -> None:
        """No stream will send any more: `run` is to return when all is sent."""
        self._finishing = True
        self.wake()

    async def run(self) -> None:
        """Send until `finish`. Raises BrokenResourceError, ClosedResourceError, TooSlowError."""
        while True:
            self._share()
            data = self._codec.data_to_send()
            if data:
                await self._send(data)
                if self._turns:
                    await trio.lowlevel.checkpoint()
            elif self._finishing:
                return
            elif not self._turns:
                self._writer = current_task()
                await wait_task_rescheduled(self._abort)

    # --- turns

    def _queue(self, outlet: Outlet) -> None:
        outlet.queueing = True
        outlet.wait_from(self._pump.now)
        if self._stream.hangup_deadline > outlet.deadline:
            self._stream.hangup_deadline = outlet.deadline
        if self._codec.room(outlet.stream_id) or not outlet.needs_room:
            self._turns.append(outlet)
            self.wake()
        else:
            self._stall(outlet)

    def _stall(self, outlet: Outlet) -> None:
        if self._closed:
            outlet.break_off(_CLOSED)
        else:
            self._stalled.add(outlet)

    def _share(self) -> None:
        """Give outlets their turns until there is enough for a write."""
        turns, codec = self._turns, self._codec
        while turns and codec.queued < FULL:
            outlet = turns.popleft()
            room = codec.room(outlet.stream_id)
            pushed = outlet.push(room)
            now = self._pump.now
            if pushed:
                outlet.patience.spend(now - outlet.queued_at, pushed)
                outlet.queued_at = now
            if outlet.pending:
                if room:
                    outlet.deadline = now + outlet.patience.left
                    turns.append(outlet)
                else:
                    self._stall(outlet)
            else:
                outlet.queueing = False
                outlet.deadline = inf
                outlet.wake()

    async def _send(self, data: bytes) -> None:
        stream = self._stream
        sent = stream.try_send(data)
        if sent == len(data):
            return
        rest = memoryview(data)[sent:]
        self._blocked = True
        while rest:
            stream.write_deadline = self._pump.now + self._send_timeout
            await stream.wait_writable()
            sent = stream.try_send(rest)
            rest = rest[sent:]
        self._blocked = False

    def _abort(self, _raise_cancel: RaiseCancelT) -> Abort:
        self._writer = None
        return Abort.SUCCEEDED
