"""The request body of an HTTP/1.1 connection, pulled from the codec as the handler reads it."""

from typing import Final

import trio

from gateway.errors import ClientGone, RequestError
from gateway.front.patience import Patience
from gateway.front.service import DRAINED_BYTES, GATHERED_BYTES, GATHERING_TIME, Service
from gateway.net.stream import READ_SIZE, PumpStream
from gateway.protocols.errors import Incomplete, RemoteProtocolError
from gateway.protocols.events import NEED_DATA, Data, EndOfMessage, Headers, NeedData, RequestHead
from gateway.protocols.http1 import Http1Server
from gateway.protocols.trailers import permitted_trailers
from gateway.request import PIECE

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_MUCH: Final = READ_SIZE // 2
"""Bytes in one read that say that the client is quick: it is worth the room to ask for more the next time."""


class Http1Body:
    """Reads nothing ahead: bytes stay in the kernel until the handler asks, which slows the client.

    A handler that does not wait gets what the kernel has, too: each wait of an application on asyncio costs
    turns of two loops, and a quick upload needs few.

    ``complete`` says that the codec has come to the end of the body.
    """

    __slots__ = (
        "_codec",
        "_expects_continue",
        "_latest",
        "_patience",
        "_received",
        "_service",
        "_stream",
        "complete",
        "failed",
        "length",
        "trailers",
    )

    def __init__(self, codec: Http1Server, stream: PumpStream, service: Service) -> None:
        self._codec = codec
        self._stream = stream
        self._service = service
        self._expects_continue = codec.expects_continue
        self._patience = Patience(service.timeouts.body, service.limits.min_rate)
        self._received = 0
        self._latest = 0
        """Bytes in the latest read."""
        self.length: int | None = codec.body_length
        self.trailers: Headers = []
        self.complete = False
        self.failed = False
        """Malformed, late or too large: nothing after it can be understood."""

    @property
    def comes_soon(self) -> bool:
        """It is small, and not all of it is here: the rest is on its way as a rule."""
        length = self.length
        return (
            length is not None
            and self._codec.arrived < length <= GATHERED_BYTES
            and not self._expects_continue
        )

    async def gather(self) -> None:
        """Wait until all of it is here, or `GATHERING_TIME` has passed, or nothing more will come.

        For a body of which nothing was read. Raises ClientGone.
        """
        codec = self._codec
        stream = self._stream
        pump = self._service.pump
        began = pump.now
        stream.read_deadline = began + min(GATHERING_TIME, self._patience.left)
        try:
            while self.comes_soon and not stream.peer_closed:
                codec.receive_data(await stream.receive_some())
        except trio.TooSlowError:
            pass  # the handler waits for it, if it wants it
        except trio.BrokenResourceError as broken:
            raise ClientGone("the client reset the connection") from broken
        self._patience.spend(pump.now - began, codec.arrived)

    def settle(self) -> bool:
        """The response begins: whether the connection can go on after it.

        RFC 9112 9.3: a body must be read to its end or the connection closed. What is small enough is
        read (`drain`); a client that still waits for 100 (Continue) will not get it any more.
        """
        if self.complete:
            return True
        waiting, self._expects_continue = self._expects_continue, False
        return not (
            waiting or self.failed or self.length is None or self.length - self._received > DRAINED_BYTES
        )

    async def drain(self) -> bool:
        """Read what the handler left; False if that is too much or fails."""
        left = DRAINED_BYTES
        try:
            while piece := await self.read():
                left -= len(piece)
                if left < 0:
                    return False
        except (RequestError, ClientGone):
            return False
        return True

    def read_nowait(self, most: int = PIECE) -> bytes | None:
        if self.complete:
            return b""
        while (event := self._next_event()) is NEED_DATA:
            if not self._take_what_is_here(most):
                return None
        if isinstance(event, Data):
            self._received += len(event.data)
            if self._received > self._service.limits.body:
                self.failed = True
                raise RequestError(413, "the request body is too large", close=True, setting="limits.body")
            return event.data
        if isinstance(event, EndOfMessage) and event.trailers:
            self.trailers = permitted_trailers(event.trailers)
        self.complete = True
        return b""

    def _next_event(self) -> RequestHead | Data | EndOfMessage | NeedData:
        try:
            return self._codec.next_event()
        except Incomplete as cut:
            raise ClientGone("the client closed the connection in the middle of the body") from cut
        except RemoteProtocolError as malformed:
            self.failed = True
            raise RequestError(malformed.status, str(malformed), close=True) from malformed

    def _take_what_is_here(self, most: int) -> bool:
        """Hand the codec what has arrived; False if it must be waited for, or asked for first."""
        if self._expects_continue:
            return False
        try:
            # Not for small pieces: the C library may get room for a large one from the system each time.
            data = self._stream.receive_in_turn(most if self._latest >= _MUCH else READ_SIZE)
        except trio.BrokenResourceError as broken:
            raise ClientGone("the client reset the connection") from broken
        if data is None:
            return False
        self._take(data, 0)
        return True

    async def read(self) -> bytes:
        while (piece := self.read_nowait()) is None:
            await self._receive()
        return piece

    async def _receive(self) -> None:
        stream = self._stream
        pump = self._service.pump
        if self._expects_continue:
            # RFC 9110 10.1.1: sent only now that somebody wants the body, so that an early refusal
            # reaches a client that has not begun to send.
            self._expects_continue = False
            stream.write_deadline = pump.now + self._service.timeouts.send
            try:
                await stream.send_all(CONTINUE)
            except trio.BrokenResourceError as broken:
                raise ClientGone("the client reset the connection") from broken
            except trio.TooSlowError as late:  # nor has it read the responses before
                raise ClientGone("the client took nothing for too long") from late
        began = pump.now
        stream.read_deadline = began + self._patience.left
        try:
            data = await stream.receive_some()
        except trio.TooSlowError as late:
            self.failed = True
            raise RequestError(
                408, "the request body did not arrive in time", close=True, setting="timeouts.body"
            ) from late
        except trio.BrokenResourceError as broken:
            raise ClientGone("the client reset the connection") from broken
        self._take(data, pump.now - began)

    def _take(self, data: bytes, waited: float) -> None:
        self._latest = size = len(data)
        self._patience.spend(waited, size)
        self._codec.receive_data(data)
