"""A connection that several requests share at the same time (FastCGI).

::

    Exchange ⇄ FastCgiClient ⇄ RequestStream ─┐                                   ┌─ request 1
    Exchange ⇄ FastCgiClient ⇄ RequestStream ─┼─► SharedConnection ⇄ PumpStream ⇄ ├─ request 2
    Exchange ⇄ FastCgiClient ⇄ RequestStream ─┘    (Multiplexer)                  └─ request 3

An exchange drives its stream as if the connection were its own. What it sends goes out whole, record behind
record; while the kernel takes no more, those that have something to send wait, and get turns of one piece
each in the order of their coming. What arrives waits in the stream of its request until that takes it.

FastCGI has no flow control for one request of a connection. When more waits for a request than `buffer`
bytes, because its client reads slowly, nothing is read from the connection: the others on it wait too. So no
new request goes there meanwhile, unless there is no other place; and once they have waited for `stall`
seconds in all, the response of the slow one is broken off. Alone on its connection, it has all the time.

A request that is given up is aborted (FCGI-16), and the connection goes on, unless the application goes on
sending and there is nobody else. Its place is free when the application has ended it.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Final

import trio
from outcome import Error
from trio.lowlevel import reschedule

from gateway.errors import ResponseAborted
from gateway.logger import get_logger
from gateway.net.pump import Pump, overslept
from gateway.net.resumption import Parking, current_task
from gateway.net.stream import READ_SIZE, PumpStream
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.fastcgi.multiplex import Multiplexer

# Not Final: compiled code would have its value for good, whatever tests set.
ABORT_PATIENCE: float = 30.0
"""Seconds that an application has to end a request that was aborted; then it gets no more on that connection,
which is closed when nobody waits for anything on it."""

_ABANDONED_BYTES: Final = 1024 * 1024
"""So much is read that comes for aborted requests only; then the connection is closed, as one is that a
request has for itself: an application which goes on sending finds out so."""

log = get_logger()


@dataclass(frozen=True, slots=True)
class SharingPolicy:
    """How a connection is shared."""

    requests: int
    """So many at the same time."""
    buffer: int
    """Bytes of the response of each that may wait for its client: what is beyond, by one read, stops the
    others."""
    stall: float
    """Seconds, in all, that the client of one may keep the others waiting."""


class RequestStream(PumpStream):
    """The connection as one request sees it: only its own records are on it, and their id is 1.

    It has no descriptor of its own; deadlines are kept by the connection that it is a part of.
    """

    __slots__ = (
        "_connection",
        "_end",
        "_waiting",
        "accompanied",
        "answered",
        "begun",
        "ended",
        "request_id",
        "stalled",
        "waiting_bytes",
    )

    def __init__(self, pump: Pump, connection: "SharedConnection", request_id: int) -> None:
        super().__init__(pump, connection.stream.sock)
        self._connection = connection
        self._readable = False
        self.watched = True  # as a part of the connection, which is
        self._waiting: deque[bytes] = deque()
        self._end: Exception | None = None
        self.waiting_bytes = 0
        self.request_id = request_id
        self.accompanied = False
        """Whether there were others on the connection, whose doing its end may be."""
        self.answered = False
        """Whether something has come for it."""
        self.begun = False
        """Whether the application has heard of the request."""
        self.ended = False
        """Whether nothing more comes: the request is over, or the connection."""
        self.stalled = 0.0
        """Seconds that it has kept others waiting."""

    # --- receiving

    def receive_nowait(self, most: int = READ_SIZE) -> bytes | None:
        """What is there already, or None; ``b""`` at the end of the connection.

        Raises BrokenResourceError if that is gone, ResponseAborted if the response was broken off.
        """
        waiting = self._waiting
        if waiting:
            data = waiting.popleft()
            if waiting and len(data) < most:
                pieces = [data]
                size = len(data)
                while waiting and size < most:
                    data = waiting.popleft()
                    size += len(data)
                    pieces.append(data)
                data = b"".join(pieces)
            self.waiting_bytes -= len(data)
            self._readable = bool(waiting) or self.ended
            self._connection.taken(self)
            return data
        if self._end is not None:
            raise self._end
        return b"" if self.ended else None

    def deliver(self, record: bytes) -> None:
        """A record has come; `wake` follows."""
        self.answered = True
        self._waiting.append(record)
        self.waiting_bytes += len(record)
        self._readable = True

    def end(self, error: Exception | None = None) -> None:
        """Nothing more comes, for that reason if it is not the end of the connection."""
        self.ended = self._readable = True
        self._end = error
        self.wake()
        writer, self._writer = self._writer, None
        if writer is not None:
            reschedule(writer)  # and finds out when it tries

    def wake(self) -> None:
        """Give what is there to the task that waits for it."""
        reader = self._reader
        if reader is None or not self._readable:
            return
        self._reader = None
        try:
            received = self.receive_nowait()
        except (trio.BrokenResourceError, ResponseAborted) as broken:
            reschedule(reader, Error(broken))
        else:
            self._received = received or b""
            reschedule(reader)

    @property
    def quiet(self) -> bool:
        """It serves one request."""
        return False

    # --- sending

    def try_send(self, data: bytes | memoryview) -> int:
        """Send all of *data*, which is whole records, or nothing if others are before."""
        return self._connection.send(self, data)

    async def wait_writable(self) -> None:
        """Wait for a turn."""
        if self._writer is not None:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._connection.queue(self)
        self._writer = current_task()
        await Parking(self._abort_send)

    def take_turn(self) -> bool:
        """It is this one's turn to send; whether it still waits for that."""
        writer, self._writer = self._writer, None
        if writer is None:
            return False
        reschedule(writer)
        return True

    # --- the end

    def find_crowded(self) -> None:
        """The application has refused the request, because there are too many on the connection."""
        connection = self._connection
        connection.places = max(1, connection.active)

    def drop(self) -> None:
        """Forget what waits to be received."""
        self._waiting.clear()
        self.waiting_bytes = 0

    def close(self) -> None:
        """The request is over, or given up."""
        if self._fd < 0:
            return
        self._fd = -1
        self.drop()
        self._connection.leave(self)
        self._dismiss(trio.ClosedResourceError("the stream was closed by another task"))


class SharedConnection:
    """A connection to an application, with the requests on it. `run` reads and writes it."""

    def __init__(
        self,
        stream: PumpStream,
        pump: Pump,
        policy: SharingPolicy,
        *,
        places: int,
        backend: str,
        address: str,
        changed: Callable[["SharedConnection"], None],
    ) -> None:
        """*changed* is called when a place is free, and when the connection is closed."""
        self.stream = stream
        stream.read_deadline = stream.write_deadline = inf  # each request has its own
        self._pump = pump
        self._policy = policy
        self._backend = backend
        self._address = address
        self._changed = changed
        self._codec = Multiplexer()
        self._streams: dict[int, RequestStream] = {}
        # Sending: what the kernel has not taken, those who wait, and the one whose turn it is.
        self._unsent = b""
        self._blocked = trio.Event()
        self._queue: deque[RequestStream] = deque()
        self._turn: RequestStream | None = None
        # Receiving: the streams in which too much waits; the event is set when there is another state of
        # things.
        self._full: list[RequestStream] = []
        self._news = trio.Event()
        self._aborted: dict[int, float] = {}
        """When requests were aborted that the application has not ended yet."""
        self._abandoned_bytes = 0
        """That have come since there are no others."""
        self.places = places
        """Requests that there may be at the same time."""
        self.exclusive = False
        """As long as its first request runs there may be no other."""
        self.served = 0
        """Requests begun so far."""
        self.opened_at = pump.now
        self.idle_since = pump.now
        self.lost = False
        """It was the other side that ended it."""
        self.retired = False
        """It gets no new request, and is closed when the last one is over."""
        self.closed = False

    @property
    def active(self) -> int:
        """How many places are taken."""
        return self._codec.active

    @property
    def has_room(self) -> bool:
        if self.closed or self.retired:
            return False
        active = self._codec.active
        return active < self.places and not (self.exclusive and active)

    @property
    def abandoned(self) -> bool:
        """Whether all requests on it are aborted."""
        return self._codec.active > 0 and not self._streams

    @property
    def paused(self) -> bool:
        """Whether nothing is read, because the client of one request is slow."""
        return bool(self._full)

    def open(self) -> RequestStream:
        """A stream for a new request; there has to be room."""
        stream = RequestStream(self._pump, self, self._codec.begin())
        if self._codec.active > 1:
            stream.accompanied = True
            if len(self._streams) == 1:
                for alone in self._streams.values():
                    alone.accompanied = True
        self._streams[stream.request_id] = stream
        self.served += 1
        if self._full:
            self._news.set()
        return stream

    # --- the lifetime

    async def run(self) -> None:
        """Serve the requests until the connection is closed by either side."""
        stream = self.stream
        # One clock for all requests, as `front.http2.connection` has it: each sweep of the pump.
        stream.on_hangup_deadline = self._sweep
        stream.hangup_deadline = 0.0
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._flush)
                await self._receive()
                nursery.cancel_scope.cancel()
        finally:
            self._end(trio.BrokenResourceError("the connection was closed"))

    def retire(self) -> None:
        """Begin no more requests."""
        self.retired = True
        if not self._codec.active:
            self.close()

    def close(self) -> None:
        """Close at once."""
        self._end(trio.BrokenResourceError("the connection was closed"))

    def _end(self, error: Exception | None) -> None:
        """The connection has ended, for all that are on it."""
        if self.closed:
            return
        self.closed = True
        self.stream.on_hangup_deadline = None
        self.stream.conclude()
        self.stream.close()
        streams = list(self._streams.values())
        self._streams.clear()
        self._full.clear()
        self._news.set()
        for stream in streams:
            stream.end(error)
        self._changed(self)

    def look(self, now: float) -> None:
        """Retire it if the application leaves an aborted request unended."""
        if self._aborted and min(self._aborted.values()) + ABORT_PATIENCE <= now:
            self.retired = True
            if not self._streams:
                self.close()

    def _sweep(self) -> None:
        now = self._pump.now
        self.stream.hangup_deadline = now
        for stream in list(self._streams.values()):
            stream.sweep(now)

    # --- sending

    def send(self, stream: RequestStream, data: bytes | memoryview) -> int:
        """Send all of *data* for *stream*, or nothing: it is not its turn. Raises BrokenResourceError."""
        if self.closed or stream.ended:
            raise trio.BrokenResourceError("the connection has ended")  # `leave` passes its turn on
        if stream is self._turn:
            self._turn = None
        if self._unsent or self._turn is not None:  # also where an abort has come before its turn
            return 0
        stream.begun = True
        self._write(self._codec.to_application(stream.request_id, data))
        if not self._unsent:
            self._pass_turn()
        return len(data)

    def queue(self, stream: RequestStream) -> None:
        """*stream* waits for its turn."""
        self._queue.append(stream)

    def _write(self, data: bytes) -> None:
        """Send what the kernel takes of *data*; the rest goes before anything else."""
        taken = self.stream.try_send(data)
        if taken < len(data):
            self._unsent = data[taken:]
            self._blocked.set()

    def _pass_turn(self) -> None:
        while self._queue:
            stream = self._queue.popleft()
            if stream.take_turn():
                self._turn = stream
                return

    async def _flush(self) -> None:
        """Send what the kernel has not taken at once."""
        stream = self.stream
        try:
            while True:
                await self._blocked.wait()
                while self._unsent:
                    taken = stream.try_send(self._unsent)
                    self._unsent = self._unsent[taken:]
                    if not taken:
                        await stream.wait_writable()
                self._blocked = trio.Event()
                self._pass_turn()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # whoever receives finds out

    # --- receiving

    async def _receive(self) -> None:
        codec = self._codec
        stream = self.stream
        try:
            while data := await stream.receive_some():
                codec.receive_data(data)
                self._distribute()
                self._abandoned_bytes = self._abandoned_bytes + len(data) if self.abandoned else 0
                if self._abandoned_bytes > _ABANDONED_BYTES:
                    self.close()
                    return
                while self._full and not self.closed:
                    await self._until_taken()
            self.lost = True
            self._end(None)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as broken:
            self.lost = not self.closed
            self._end(broken)
        except RemoteProtocolError as error:
            # Where records begin is not known any more: it is everybody's failure. Whose doing it is nobody
            # knows; those that may try again have lost a connection.
            if len(self._streams) > 1:
                log.warning(
                    "shared connection broken off",
                    backend=self._backend,
                    address=self._address,
                    requests=len(self._streams),
                    detail=str(error),
                )
            for each in self._streams.values():
                if each.answered or not each.accompanied:
                    each.deliver(codec.offence)
            self._end(None)

    def _distribute(self) -> None:
        """Give each request what has come for it."""
        codec = self._codec
        active = codec.active
        touched: dict[int, RequestStream] = {}
        try:
            while (found := codec.next_record()) is not None:
                request_id, record, ended = found
                if not record:
                    del self._aborted[request_id]
                    continue
                stream = self._streams[request_id]
                stream.deliver(record)
                touched[request_id] = stream
                if ended:
                    stream.ended = True
                    del self._streams[request_id]
        finally:
            for stream in touched.values():
                stream.wake()
        buffer = self._policy.buffer
        for stream in touched.values():
            if stream.waiting_bytes > buffer and not stream.ended and stream not in self._full:
                self._full.append(stream)
        if not codec.sound:
            self.retired = True
        if codec.active < active or not codec.active:
            self._freed()

    def _freed(self) -> None:
        """There is a place more than before."""
        if not self._codec.active:
            self.idle_since = self._pump.now
            if self.retired:
                self.close()
                return
        self._changed(self)

    async def _until_taken(self) -> None:
        """Too much waits for some request: read nothing until it is taken, while others bear that."""
        slow = list(self._full)
        shared = len(self._streams) > 1
        patience = inf
        if shared:
            patience = max(0.0, self._policy.stall - max([stream.stalled for stream in slow]))
        began = trio.current_time()
        self._news = trio.Event()
        with trio.move_on_after(patience):
            await self._news.wait()
        if not shared or overslept(began + patience):  # the gateway was stopped: its clients may have read
            return
        seconds = trio.current_time() - began
        for stream in slow:
            stream.stalled += seconds
        late = [stream for stream in self._full if stream.stalled >= self._policy.stall]
        if late and len(late) == len(self._streams):
            late.pop(0)  # it keeps nobody waiting when the others are gone
        for stream in late:
            self._break_off(stream)

    def taken(self, stream: RequestStream) -> None:
        """*stream* has less waiting in it than before."""
        if self._full and stream.waiting_bytes <= self._policy.buffer // 2 and stream in self._full:
            self._full.remove(stream)
            self._news.set()

    def _break_off(self, stream: RequestStream) -> None:
        log.warning(
            "response broken off: its client keeps others of the connection waiting",
            backend=self._backend,
            address=self._address,
            bytes=stream.waiting_bytes,
            seconds=round(stream.stalled, 3),
        )
        stream.drop()
        self.leave(stream)
        stream.end(ResponseAborted("the client is too slow for a connection with other requests on it"))

    # --- the end of a request

    def leave(self, stream: RequestStream) -> None:
        """*stream* is used no more: if the application has not ended the request, it is told to."""
        request_id = stream.request_id
        if self._full:
            self._news.set()
            if stream in self._full:
                self._full.remove(stream)
        if stream is self._turn:
            self._turn = None
            if not self._unsent:
                self._pass_turn()
        if self._streams.get(request_id) is not stream:
            return  # it was ended before, or the connection was
        del self._streams[request_id]
        if not stream.begun:
            self._codec.release(request_id)
            self._freed()
            return
        self._aborted[request_id] = self._pump.now
        abort = self._codec.abandon(request_id)
        if self._unsent:
            self._unsent += abort
            return
        try:
            self._write(abort)
        except trio.BrokenResourceError:
            pass  # whoever receives finds out
