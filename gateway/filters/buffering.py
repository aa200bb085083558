"""Response buffering: a response is taken from its backend at once, and sent as its client reads it.

::

    backend ─► write ─► memory, then a temporary file ─► a task of the request ─► client

For applications that serve one request at a time (php-fpm, CGI programs, WSGI processes): a slow client does
not keep one of them (nginx: proxy_buffering, proxy_max_temp_file_size). Up to `memory` bytes wait in memory
and `file` more on disk; beyond them, or when the disk takes no more, the backend waits for the client, as it
does without buffering.

What should not wait passes by: responses with ``X-Accel-Buffering: no``, event streams, and files, which the
kernel sends. The whole of a response that comes in one piece is passed on as it is.
"""

import os
import tempfile
from collections import deque
from collections.abc import Callable
from typing import IO, Final

import trio

from gateway.backend import Handler
from gateway.errors import GatewayError
from gateway.logger import get_logger
from gateway.passing import PassingResponder
from gateway.protocols.events import Headers
from gateway.request import Request, Responder
from gateway.spool import disk_failure

PIECE: Final = 64 * 1024
"""Bytes read back from the file, and given to the client's connection, at a time."""

_ACCEL_BUFFERING: Final = b"x-accel-buffering"

log = get_logger()


class BufferingFilter:
    """Buffers the responses of *handler*: *memory* bytes of each, and *file* bytes more in a file."""

    def __init__(self, handler: Handler, *, memory: int, file: int) -> None:
        self._handler = handler
        self._memory = memory
        self._file = file

    async def handle(self, request: Request, responder: Responder) -> None:
        buffered = _BufferedResponder(responder, memory=self._memory, file=self._file)
        failure: Exception | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(buffered.send, nursery.cancel_scope.cancel)
                try:
                    await self._handler.handle(request, buffered)
                    buffered.finish()
                except Exception as error:  # of the handler: raised below, without a group around it
                    failure = error
                    nursery.cancel_scope.cancel()
        finally:
            buffered.close()
        # The client's end is why the handler's, if there are both.
        if buffered.failure is not None:
            raise buffered.failure
        if failure is not None:
            raise failure


class _BufferedResponder(PassingResponder):
    """Keeps what a handler writes until the client takes it.

    From the first flush on, what is held belongs to the task that runs `send`.
    """

    __slots__ = (
        "_behind",
        "_changed",
        "_ended",
        "_file",
        "_file_limit",
        "_finished",
        "_memory",
        "_memory_limit",
        "_memory_size",
        "_passes",
        "_room",
        "_sending",
        "_trailers",
        "failure",
    )

    def __init__(self, responder: Responder, *, memory: int, file: int) -> None:
        super().__init__(responder)
        self._memory: deque[bytes] = deque()
        self._memory_limit = memory
        self._memory_size = 0
        self._file_limit = file
        self._file = _File()
        self._behind: deque[bytes] = deque()
        """What the disk did not take; it was written after what is in the file."""
        self._passes = False
        """Nothing is held: each call goes on to the inner Responder."""
        self._ended = self._finished = False
        self._sending = False
        """The sending task waits for the client."""
        self._trailers: Headers | None = None
        self._changed = trio.Event()
        """There is something to do for the sending task."""
        self._room = trio.Event()
        """Some of what was held has gone."""
        self.failure: GatewayError | None = None
        """Why the sending task ended early."""

    # --- what handlers call

    def withdraw(self) -> bool:
        if not self._responder.withdraw():
            return False
        self._memory.clear()
        self._memory_size = 0
        self._file.close()
        self._behind.clear()
        self._ended = False
        return True

    def try_respond(self, status: int, headers: Headers, body: bytes, reason: bytes = b"") -> bool:
        self._passes = True
        return self._responder.try_respond(status, _without_accel(headers), body, reason)

    def start(self, status: int, headers: Headers, reason: bytes = b"") -> None:
        self._passes = not _wants_buffering(headers)
        self._responder.start(status, _without_accel(headers), reason)

    def write(self, data: bytes) -> None:
        if self._passes:
            self._responder.write(data)
        elif self._fits_in_memory(len(data)):
            self._memory.append(data)
            self._memory_size += len(data)
        elif rest := self._file.store(data):
            self._behind.append(rest)

    async def write_file(self, descriptor: int, offset: int, count: int) -> None:
        self._changed.set()
        # Not while the other task sends: one at a time may, and this goes behind what is held.
        while self._holds or self._sending:
            await self._wait_for_room()
        self._passes = True
        await self._responder.write_file(descriptor, offset, count)

    def end(self, trailers: Headers | None = None) -> None:
        if self._passes:
            self._responder.end(trailers)
            return
        self._ended = True
        self._trailers = trailers

    def try_flush(self) -> bool:
        if self._passes:
            return self._responder.try_flush()
        self._changed.set()
        return self._has_room

    async def flush(self) -> None:
        if self._passes:
            await self._responder.flush()
            return
        self._changed.set()
        while not self._has_room:
            await self._wait_for_room()

    def finish(self) -> None:
        """The handler has returned: `send` ends when all is sent."""
        self._finished = True
        self._changed.set()

    def close(self) -> None:
        """Let go of what is held."""
        self._memory.clear()
        self._file.close()
        self._behind.clear()

    # --- what is held: what is in memory was written before what is in the file

    @property
    def _holds(self) -> bool:
        return bool(self._memory) or not self._file.is_empty or bool(self._behind)

    @property
    def _has_room(self) -> bool:
        """Whether the handler may go on; what it has written in one go is held all the same."""
        if self._behind:
            return False
        if self._file.is_empty:
            return self._memory_size <= self._memory_limit
        return self._file.size <= self._file_limit

    def _fits_in_memory(self, size: int) -> bool:
        if self._file_limit == 0:
            return True  # there is no other place
        if self._behind or not self._file.is_empty:
            return False
        return self._memory_size + size <= self._memory_limit

    async def _wait_for_room(self) -> None:
        self._room = trio.Event()
        await self._room.wait()

    def _take(self) -> bytes:
        """The next piece of what is held, ``b""`` if there is none."""
        if self._memory:
            piece = self._memory.popleft()
            self._memory_size -= len(piece)
            return piece
        if self._file.is_empty and self._behind:
            return self._behind.popleft()
        return self._file.take()

    # --- the sending task

    async def send(self, failed: Callable[[], None]) -> None:
        """Send what is held until the handler has returned and all is sent; otherwise call *failed*."""
        try:
            await self._changed.wait()
            while not self._ended or self._holds:
                piece = self._take()
                if piece:
                    self._responder.write(piece)
                if not self._passes:
                    self._sending = True
                    await self._responder.flush()
                    self._sending = False
                self._room.set()
                if not self._holds and not self._ended:
                    if self._finished:
                        return
                    self._changed = trio.Event()
                    await self._changed.wait()
            self._responder.end(self._trailers)
            await self._responder.flush()
        except GatewayError as error:
            self.failure = error
            failed()


class _File:
    """A temporary file without a name: bytes in at its end, out at its beginning."""

    __slots__ = ("_end", "_file", "_is_full", "_start")

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._is_full = False
        self._start = self._end = 0

    @property
    def is_empty(self) -> bool:
        return self._start == self._end

    @property
    def size(self) -> int:
        """Bytes that it has on disk, those that were read included."""
        return self._end

    def store(self, data: bytes) -> bytes:
        """Store *data*; what is left of it if the disk takes no more, which is logged once."""
        if self._is_full:
            return data
        view = memoryview(data)
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (`close` does)
            while view:
                written = os.pwrite(self._file.fileno(), view, self._end)
                self._end += written
                view = view[written:]
        except OSError as error:
            self._is_full = True
            log.warning("response cannot be stored", directory=tempfile.tempdir, cause=str(error))
        return bytes(view)

    def take(self) -> bytes:
        """The next piece, ``b""`` if there is none. Raises MachineError if it cannot be read."""
        if self._file is None or self.is_empty:
            return b""
        try:
            piece = os.pread(self._file.fileno(), min(PIECE, self._end - self._start), self._start)
            self._start += len(piece)
            if self._start == self._end:
                # All was read: begin anew, so that its size is what waits, not what has passed.
                self._file.truncate(0)
                self._start = self._end = 0
        except OSError as error:
            raise disk_failure("the stored response cannot be read", error) from error
        return piece

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._start = self._end = 0


def _wants_buffering(headers: Headers) -> bool:
    """Event streams are for reading while they are made, and some applications say so (nginx)."""
    for name, value in headers:
        if name.lower() == _ACCEL_BUFFERING and value.strip().lower() == b"no":
            return False
        if name.lower() == b"content-type" and value.strip().lower().startswith(b"text/event-stream"):
            return False
    return True


def _without_accel(headers: Headers) -> Headers:
    return [field for field in headers if field[0].lower() != _ACCEL_BUFFERING]
