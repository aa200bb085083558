"""The tasks in which the streams of a connection are answered, each one stream after the other.

A task that has answered its stream waits for the next: to begin and to end one, and a scope in which it can
be cancelled, costs trio more than all the rest of a small response. Nothing of a stream is left in its task:
one that was cancelled, or given a deadline, is the last of its task, and so is one whose handler has left a
scope open.
"""

from collections.abc import Awaitable, Callable
from math import inf
from typing import TypeAlias

import trio
from trio.lowlevel import Abort, RaiseCancelT

from gateway.front.http2.stream import Http2Stream
from gateway.net.resumption import Parking, current_task, innermost_scope, resume

Answer: TypeAlias = Callable[[Http2Stream], Awaitable[None]]
"""Answers a stream, and leaves nothing of it."""


class StreamTasks:
    """Those of one connection."""

    __slots__ = ("_answer", "_idle", "_nursery", "_spare")

    def __init__(self) -> None:
        self._answer: Answer | None = None
        self._nursery: trio.Nursery | None = None
        self._idle: list[_Place] = []
        self._spare = 0
        """How many were idle all the time since `trim`."""

    def open(self, nursery: trio.Nursery, answer: Answer) -> None:
        """From now on *answer* gets the streams, in tasks of *nursery*."""
        self._nursery, self._answer = nursery, answer

    def expire(self, deadline: float) -> None:
        """Cancel at *deadline*, of trio's clock, what still runs then."""
        assert self._nursery is not None
        self._nursery.cancel_scope.deadline = deadline

    def close(self) -> None:
        """No more streams: each task ends with the one that it has."""
        self._nursery = self._answer = None
        while self._idle:
            self._idle.pop().leave(None)

    def trim(self) -> bool:
        """End the tasks that were not needed since the last time; whether others are idle."""
        spare = self._idle[: self._spare]
        del self._idle[: self._spare]
        for place in spare:
            place.leave(None)
        self._spare = len(self._idle)
        return self._spare > 0

    def start(self, stream: Http2Stream) -> None:
        """Have *stream* answered: within this step, if a task waits for one."""
        if not self._idle:
            self.start_soon(stream)
            return
        place = self._idle.pop()
        self._spare = min(self._spare, len(self._idle))
        place.leave(stream)

    def start_soon(self, stream: Http2Stream) -> None:
        """Have *stream* answered, but not within this step, which may be one of asyncio's."""
        assert self._nursery is not None
        assert self._answer is not None
        self._nursery.start_soon(self._run, stream, self._answer)

    async def _run(self, stream: Http2Stream | None, answer: Answer) -> None:
        place = _Place(self._idle)
        try:
            with trio.CancelScope() as scope:
                own = innermost_scope()
                while stream is not None:
                    stream.begin(scope)
                    await answer(stream)
                    stream = None
                    if scope.deadline < inf or innermost_scope() is not own:
                        break
                    if self._nursery is not None:
                        stream = await place.wait()
        finally:
            place.parking.abandon()


class _Place:
    """Where one task waits for its next stream."""

    __slots__ = ("_idle", "_stream", "_task", "parking")

    def __init__(self, idle: "list[_Place]") -> None:
        self._idle = idle
        self._task = current_task()
        self._stream: Http2Stream | None = None
        self.parking = Parking(self._abort)

    async def wait(self) -> Http2Stream | None:
        """The next stream; None if there will be no more."""
        self._idle.append(self)
        await self.parking
        stream, self._stream = self._stream, None
        return stream

    def leave(self, stream: Http2Stream | None) -> None:
        """Let the task go on with *stream*, now that it is not among the idle ones any more."""
        self._stream = stream
        resume(self._task)

    def _abort(self, _raise_cancel: RaiseCancelT) -> Abort:
        self._idle.remove(self)
        return Abort.SUCCEEDED
