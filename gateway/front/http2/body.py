"""The request body of a stream: pieces as they came, whose credit the client gets as they are read."""

from collections import deque
from math import inf
from typing import Final

import trio
from trio.lowlevel import Abort, RaiseCancelT, Task, current_task, reschedule, wait_task_rescheduled

from gateway.errors import ClientGone, RequestError
from gateway.front.http2.output import Output
from gateway.front.patience import Patience
from gateway.front.service import DRAINED_BYTES, GATHERED_BYTES, GATHERING_TIME
from gateway.net.pump import Pump, overslept
from gateway.net.stream import PumpStream
from gateway.protocols.events import Headers
from gateway.protocols.http2 import Http2Server
from gateway.protocols.trailers import permitted_trailers
from gateway.request import PIECE

_SMALL_PIECE: Final = 1024
"""Pieces are joined up to so many bytes as they come: one of a single byte takes a hundred to keep."""


class Http2Body:
    """The bytes that a client sends on one stream. Also one half of a tunnel, without limits then."""

    __slots__ = (
        "_codec",
        "_failure",
        "_gathers_until",
        "_limit",
        "_output",
        "_patience",
        "_pieces",
        "_pump",
        "_received",
        "_stream",
        "_task",
        "complete",
        "deadline",
        "expects_continue",
        "length",
        "stream_id",
        "trailers",
    )

    def __init__(
        self,
        codec: Http2Server,
        output: Output,
        stream: PumpStream,
        pump: Pump,
        *,
        stream_id: int,
        length: int | None,
        limit: float,
        patience: Patience | None,
        expects_continue: bool,
    ) -> None:
        """*limit*: bytes that may come (inf: any), *patience*: how long they may take (None: for ever)."""
        self._codec = codec
        self._output = output
        self._stream = stream
        self._pump = pump
        self._limit = limit
        self._patience = patience
        self.expects_continue = expects_continue
        """The client waits for 100 (Continue), and can still get it."""
        self._pieces: deque[tuple[bytes, int]] = deque()
        self._received = 0
        self._failure: RequestError | ClientGone | None = None
        self._task: Task | None = None
        self._gathers_until = inf
        """The end of `gather`, while that waits."""
        self.stream_id = stream_id
        self.length: int | None = length
        self.trailers: Headers = []
        self.complete = False
        """The client has ended its side; pieces may still be unread."""
        self.deadline = inf
        """Until then something has to come, for the task that waits."""

    # --- what handlers call

    def read_nowait(self, most: int = PIECE) -> bytes | None:
        pieces = self._pieces
        if pieces:
            data, credit = pieces.popleft()
            if pieces and len(data) + len(pieces[0][0]) <= most:
                data, credit = self._join(data, credit, most)
            self._acknowledge(credit)
            if data:
                return data
            return self.read_nowait(most)  # of padding only
        if self._failure is not None:
            # A copy: the traceback of one that is raised twice would grow.
            failure = self._failure
            if isinstance(failure, RequestError):
                raise RequestError(
                    failure.status, failure.detail, close=failure.close, setting=failure.setting
                )
            raise ClientGone(str(failure))
        return b"" if self.complete else None

    async def read(self) -> bytes:
        while (piece := self.read_nowait()) is None:
            await self._wait()
        return piece

    @property
    def comes_soon(self) -> bool:
        """It is small, and not all of it is here: the rest is on its way as a rule, if there is room for it
        in the window of the connection, which others may wait in.
        """
        length = self.length
        return (
            length is not None
            and self._received < length <= GATHERED_BYTES
            and length - self._received <= self._codec.room_in
            and self._failure is None
            and not self.expects_continue
        )

    async def gather(self) -> None:
        """Wait until all of it is here, or `GATHERING_TIME` has passed, or nothing more will come.

        For a body of which nothing was read.
        """
        self._gathers_until = self._pump.now + GATHERING_TIME
        try:
            while self._gathers_until < inf and self.comes_soon:
                await self._wait()
        finally:
            self._gathers_until = inf

    def look_again(self) -> None:
        """`gather` may wait for what cannot come any more."""
        if self._gathers_until < inf and not self.comes_soon:
            self._wake()

    async def drain(self) -> None:
        """Wait for a little that the client has announced and nobody wants: some take the reset of an
        upload that is nearly through for a failure of the response (curl 7.88).
        """
        waiting = self.expects_continue or self.length is None
        if self.complete or waiting or (self.length or 0) - self._received > DRAINED_BYTES:
            return
        try:
            while await self.read():
                pass
        except (RequestError, ClientGone):
            return

    # --- what the connection calls

    def receive(self, data: bytes, size: int) -> None:
        """*data* has come, for which *size* is to be acknowledged."""
        if self._failure is not None:
            self._codec.acknowledge(self.stream_id, size)
            return
        self.expects_continue = False
        self._received += len(data)
        if self._received > self._limit:
            self._codec.acknowledge(self.stream_id, size)
            self.fail(RequestError(413, "the request body is too large", close=True, setting="limits.body"))
            return
        pieces = self._pieces
        if pieces and len(pieces[-1][0]) + len(data) <= _SMALL_PIECE:
            earlier, credit = pieces.pop()
            data = earlier + data
            size += credit
        pieces.append((data, size))
        self._wake()

    def finish(self, trailers: Headers | None = None) -> None:
        """Nothing more will come: the body is complete."""
        self.complete = True
        if trailers:
            self.trailers = permitted_trailers(trailers)
        self._wake()

    def fail(self, failure: RequestError | ClientGone) -> None:
        """Nothing more will come, and what came is not all."""
        if self._failure is None and not self.complete:
            self._failure = failure
            self._wake()

    def expire(self) -> None:
        """The deadline has passed."""
        if self._gathers_until < inf:
            self._gathers_until = inf
            self._wake()
            return
        if self._patience is not None and overslept(self.deadline):  # it may be behind what is here
            self.deadline = self._pump.now + self._patience.left
            return
        self.fail(
            RequestError(408, "the request body did not arrive in time", close=True, setting="timeouts.body")
        )

    def discard(self) -> None:
        """Nobody will read: the connection gets the credit for what is here (RFC 9113 5.2.2)."""
        if self._failure is None:
            self._failure = ClientGone("the stream has ended")
        size = sum(credit for _, credit in self._pieces)
        self._pieces.clear()
        if size:
            self._acknowledge(size)

    # --- waiting

    async def _wait(self) -> None:
        if self.expects_continue:
            # RFC 9110 10.1.1: only now that somebody wants the body.
            self.expects_continue = False
            self._codec.send_informational(self.stream_id, 100, [])
            self._output.wake()
        if self._task is not None:
            raise trio.BusyResourceError("another task is reading this body")
        patience = self._patience
        began = self._pump.now
        received = self._received
        if patience is not None:
            self.deadline = min(began + patience.left, self._gathers_until)
            if self._stream.hangup_deadline > self.deadline:
                self._stream.hangup_deadline = self.deadline
        self._task = current_task()
        try:
            await wait_task_rescheduled(self._abort)
        finally:
            self.deadline = inf
        if patience is not None:
            patience.spend(self._pump.now - began, self._received - received)

    def _abort(self, _raise_cancel: RaiseCancelT) -> Abort:
        self._task = None
        return Abort.SUCCEEDED

    def _wake(self) -> None:
        self.deadline = inf  # before the task goes on: the sweeper may come first
        task, self._task = self._task, None
        if task is not None:
            reschedule(task)

    def _join(self, data: bytes, credit: int, most: int) -> tuple[bytes, int]:
        joined = [data]
        size = len(data)
        pieces = self._pieces
        while pieces and size + len(pieces[0][0]) <= most:
            piece, more = pieces.popleft()
            joined.append(piece)
            size += len(piece)
            credit += more
        return b"".join(joined), credit

    def _acknowledge(self, credit: int) -> None:
        queued = self._codec.queued
        self._codec.acknowledge(self.stream_id, credit)
        if self._codec.queued != queued:
            self._output.wake()
