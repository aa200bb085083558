"""A Responder that passes everything on: what filters of responses are made of.

A filter overrides what it changes. What ends here is the shape of `request.Responder`, written down once.
"""

from collections.abc import Callable

from gateway.protocols.events import Headers
from gateway.request import Responder


class PassingResponder:
    """Passes everything on to *responder*. Implements `request.Responder`."""

    __slots__ = ("_responder",)

    def __init__(self, responder: Responder) -> None:
        self._responder = responder

    @property
    def on_disconnect(self) -> Callable[[], None] | None:
        return self._responder.on_disconnect

    @on_disconnect.setter
    def on_disconnect(self, callback: Callable[[], None] | None) -> None:
        self._responder.on_disconnect = callback

    @property
    def disconnected(self) -> bool:
        return self._responder.disconnected

    @property
    def started(self) -> bool:
        return self._responder.started

    def withdraw(self) -> bool:
        return self._responder.withdraw()

    async def inform(self, status: int, headers: Headers) -> None:
        await self._responder.inform(status, headers)

    def try_respond(self, status: int, headers: Headers, body: bytes, reason: bytes = b"") -> bool:
        return self._responder.try_respond(status, headers, body, reason)

    def start(self, status: int, headers: Headers, reason: bytes = b"") -> None:
        self._responder.start(status, headers, reason)

    def write(self, data: bytes) -> None:
        self._responder.write(data)

    async def write_file(self, descriptor: int, offset: int, count: int) -> None:
        await self._responder.write_file(descriptor, offset, count)

    def end(self, trailers: Headers | None = None) -> None:
        self._responder.end(trailers)

    def try_flush(self) -> bool:
        return self._responder.try_flush()

    async def flush(self) -> None:
        await self._responder.flush()
