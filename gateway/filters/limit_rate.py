"""Bandwidth: how many bytes a second of a response reach its client (nginx: limit_rate, limit_rate_after).

A response may be ahead of its rate by what was sent before the limit begins (`after`) and by one piece; then
its handler waits, which is how the application is slowed down, too.
"""

from typing import Final

import trio

from gateway.backend import Handler
from gateway.passing import PassingResponder
from gateway.protocols.events import Headers
from gateway.request import Request, Responder

PIECES_PER_SECOND: Final = 10
"""Into how many pieces a second's bytes are cut: what a client sees is a flow, not a burst each second."""


class RateFilter:
    """Limits each response of *handler* to *rate* bytes a second beyond its first *after* bytes."""

    def __init__(self, handler: Handler, *, rate: int, after: int) -> None:
        self._handler = handler
        self._rate = rate
        self._after = after

    async def handle(self, request: Request, responder: Responder) -> None:
        if request.method != "HEAD":
            responder = _RateResponder(responder, rate=self._rate, after=self._after)
        await self._handler.handle(request, responder)


class _RateResponder(PassingResponder):
    """Holds what is written until it may go."""

    __slots__ = ("_due", "_ended", "_free", "_held", "_piece", "_rate", "_trailers")

    def __init__(self, responder: Responder, *, rate: int, after: int) -> None:
        super().__init__(responder)
        self._rate = rate
        self._piece = max(1, rate // PIECES_PER_SECOND)
        self._free = after
        """Bytes that may go without being counted."""
        self._due = 0.0
        """The clock's time from which the next piece may go."""
        self._held = memoryview(b"")
        self._ended = False
        self._trailers: Headers | None = None

    def withdraw(self) -> bool:
        if not self._responder.withdraw():
            return False
        self._held = memoryview(b"")
        self._ended = False
        return True

    def try_respond(self, status: int, headers: Headers, body: bytes, reason: bytes = b"") -> bool:
        if len(body) <= max(self._free, self._piece):
            return self._responder.try_respond(status, headers, body, reason)
        self.start(status, headers, reason)
        self.write(body)
        self.end()
        return self.try_flush()

    def write(self, data: bytes) -> None:
        self._held = memoryview(bytes(self._held) + data) if self._held else memoryview(data)

    def end(self, trailers: Headers | None = None) -> None:
        self._ended = True
        self._trailers = trailers
        self._finish()

    async def write_file(self, descriptor: int, offset: int, count: int) -> None:
        await self.flush()
        end = offset + count
        while offset < end:
            await self._wait()
            size = self._take(end - offset)
            await self._responder.write_file(descriptor, offset, size)
            offset += size

    def try_flush(self) -> bool:
        now = trio.current_time()
        while self._held and now >= self._due:
            self._pass_piece()
        return self._responder.try_flush() and not self._held

    async def flush(self) -> None:
        while self._held:
            await self._wait()
            self._pass_piece()
            await self._responder.flush()
        await self._responder.flush()

    def _pass_piece(self) -> None:
        size = self._take(len(self._held))
        self._responder.write(bytes(self._held[:size]))
        self._held = self._held[size:]
        self._finish()

    def _finish(self) -> None:
        """RFC 9112 7.1: the end is said with the last piece, so that it takes no write of its own."""
        if self._ended and not self._held:
            self._ended = False
            self._responder.end(self._trailers)

    def _take(self, wanted: int) -> int:
        """How many of *wanted* bytes may go now; they are counted."""
        if self._free:
            size = min(wanted, self._free)
            self._free -= size
            return size
        size = min(wanted, self._piece)
        self._due = max(self._due, trio.current_time()) + size / self._rate
        return size

    async def _wait(self) -> None:
        pause = self._due - trio.current_time()
        if pause > 0:
            await trio.sleep(pause)  # noqa: TID251 (the wait is the point)
