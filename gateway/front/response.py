"""The Responder of HTTP/1.1: chooses the framing, queues, and sends in as few writes as possible.

The head is held back until the first flush. If the response is complete by then its length is known:
a small response without Content-Length gets one, and leaves in one system call. Otherwise an HTTP/1.1
client gets chunks, one per flush, and an HTTP/1.0 client the end of the connection (RFC 9112 6.3).
"""

import os
from collections.abc import Callable
from email.utils import formatdate
from typing import Final

import trio

from gateway.errors import ClientGone, ResponseAborted
from gateway.front.body import Http1Body
from gateway.pump import PumpStream
from protocols.errors import LocalProtocolError
from protocols.events import Headers
from protocols.http1 import LAST_CHUNK, encode_chunk, encode_last_chunk, encode_response_head

SERVER: Final = (b"server", b"gateway")

_FILE_PIECE: Final = 256 * 1024

# RFC 9112 6.3: these never have a body. 204 and 1xx must not have a Content-Length either; 304 may
# carry that of the response it stands for.
_BODILESS: Final = frozenset({204, 304})

# RFC 9110 7.6.1: fields of one connection; ours are ours to write. Content-Length is looked at.
_CONNECTION_FIELDS: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"te"}
)
_NOTICED: Final = _CONNECTION_FIELDS | {b"content-length", b"date", b"server"}


class DateField:
    """The Date field, made once a second (RFC 9110 6.6.1)."""

    __slots__ = ("_field", "_made")

    def __init__(self) -> None:
        self._made = -1.0
        self._field = (b"date", b"")

    def at(self, now: float) -> tuple[bytes, bytes]:
        """The field; *now* is any clock in seconds, used to see whether a second has passed."""
        if now - self._made >= 1.0 or self._made < 0:
            self._made = now
            self._field = (b"date", formatdate(usegmt=True).encode())
        return self._field


_date = DateField()


class Http1Responder:
    """Answers one request on an HTTP/1.1 connection. Implements `request.Responder`."""

    __slots__ = (
        "_bodiless",
        "_chunked",
        "_head",
        "_left",
        "_now",
        "_queued",
        "_send_timeout",
        "_stream",
        "_trailers",
        "_unsent",
        "_version10",
        "body",
        "body_sent",
        "close_delimited",
        "ended",
        "keep_alive",
        "on_disconnect",
        "started",
        "status",
    )

    def __init__(
        self,
        stream: PumpStream,
        *,
        head_only: bool,
        version10: bool,
        keep_alive: bool,
        now: float,
        send_timeout: float,
    ) -> None:
        self._stream = stream
        self._bodiless = head_only
        self._version10 = version10
        self._now = now
        self._send_timeout = send_timeout
        self.keep_alive = keep_alive
        """Whether the connection goes on; settled and told to the client with the head."""
        self.on_disconnect: Callable[[], None] | None = None
        self.started = False
        self.ended = False
        self.status = 0
        self.body_sent = 0
        """Bytes of the body passed on, for the access log."""
        self.body: Http1Body | None = None
        """The request's body, whose state decides whether the connection can go on."""
        self.close_delimited = False
        """Only the end of the connection ends the body (RFC 9112 6.3)."""
        self._head: bytes | None = b""
        self._trailers: Headers | None = None
        self._chunked = False
        self._left: int | None = None
        self._queued: list[bytes] = []
        self._unsent: memoryview | bytes = b""

    @property
    def disconnected(self) -> bool:
        return self._stream.peer_closed

    # --- what handlers call

    async def inform(self, status: int, headers: Headers) -> None:
        if self._version10 or self.started:
            return
        self._unsent = encode_response_head(status, b"", headers)
        await self.flush()

    def start(self, status: int, headers: Headers, reason: bytes = b"") -> None:
        if self.started:
            raise RuntimeError("the response was started before")
        kept: Headers = []
        length: int | None = None
        dated = False
        for field in headers:
            name = field[0].lower()
            if name in _NOTICED:
                if name in _CONNECTION_FIELDS:
                    continue
                if name == b"content-length":
                    length = _parse_length(field[1], length)
                    continue
                if name == b"date":
                    dated = True
            kept.append(field)
        if not dated:
            kept.append(_date.at(self._now))
        kept.append(SERVER)
        self._head = encode_response_head(status, reason, kept)[:-2]
        self.status = status
        self._left = length
        if status in _BODILESS:
            self._bodiless = True
        self.started = True

    def write(self, data: bytes) -> None:
        if self._bodiless or not data:
            return
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                raise ResponseAborted("the response body is longer than its Content-Length")
        self.body_sent += len(data)
        self._queued.append(data)

    async def write_file(self, descriptor: int, offset: int, count: int) -> None:
        if self._bodiless:
            return
        if self._left is None:
            await self._write_file_pieces(descriptor, offset, count)
            return
        await self.flush()
        self._left -= count
        if self._left < 0:
            raise ResponseAborted("the response body is longer than its Content-Length")
        self._stream.write_deadline = self._now + self._send_timeout
        try:
            sent = await self._stream.send_file(descriptor, offset, count)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
            raise ClientGone(str(error)) from error
        self.body_sent += sent
        if sent < count:
            raise ResponseAborted("the file became shorter while it was sent")

    def end(self, trailers: Headers | None = None) -> None:
        if self.ended:
            raise RuntimeError("the response was ended before")
        if self._left and not self._bodiless:
            raise ResponseAborted(f"the response body is {self._left} bytes shorter than its Content-Length")
        self.ended = True
        self._trailers = trailers

    def try_flush(self) -> bool:
        data = self._serialise()
        if not data:
            return True
        try:
            sent = self._stream.try_send(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ClientGone(str(error)) from error
        if sent == len(data):
            self._unsent = b""
            return True
        self._unsent = memoryview(data)[sent:]
        return False

    async def flush(self) -> None:
        while not self.try_flush():
            self._stream.write_deadline = trio.current_time() + self._send_timeout
            try:
                await self._stream.wait_writable()
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
                raise ClientGone(str(error)) from error

    # --- framing

    def _serialise(self) -> bytes | memoryview:
        """All that is queued as bytes, framed."""
        if self._unsent:
            if not self._queued:
                return self._unsent
            unsent = bytes(self._unsent)
        else:
            unsent = b""
        if not self.started:
            return unsent
        queued = self._queued
        body = queued[0] if len(queued) == 1 else b"".join(queued)
        if queued:
            self._queued = []
        if self._head is not None:
            unsent += self._finish_head(self._head, len(body))
            self._head = None
        if self._chunked:
            if body:
                body = encode_chunk(body)
            if self.ended:
                body += encode_last_chunk(self._trailers) if self._trailers else LAST_CHUNK
                self._chunked = False
        return unsent + body if unsent else body

    def _finish_head(self, head: bytes, queued: int) -> bytes:
        """*head* with the framing fields and the empty line; *queued* bytes of the body follow at once."""
        if self.body is not None and not self.body.settle():
            self.keep_alive = False
        if self._left is not None:
            if self.status != 204:
                # The promise: what is left of it, and what was queued since.
                head += b"content-length: %d\r\n" % (self._left + self.body_sent)
        elif self._bodiless:
            pass  # RFC 9110 8.6: may be omitted where only making the body would tell.
        elif self.ended and not self._wants_trailers():
            head += b"content-length: %d\r\n" % queued
        elif self._version10:
            self.close_delimited = True
            self.keep_alive = False
        else:
            head += b"transfer-encoding: chunked\r\n"
            self._chunked = True
        if not self.keep_alive:
            return head + b"connection: close\r\n\r\n"
        if self._version10:
            return head + b"connection: keep-alive\r\n\r\n"
        return head + b"\r\n"

    def _wants_trailers(self) -> bool:
        return bool(self._trailers) and not self._version10

    async def _write_file_pieces(self, descriptor: int, offset: int, count: int) -> None:
        end = offset + count
        while offset < end:
            piece = os.pread(descriptor, min(_FILE_PIECE, end - offset), offset)
            if not piece:
                raise ResponseAborted("the file became shorter while it was sent")
            self.write(piece)
            await self.flush()
            offset += len(piece)


def _parse_length(value: bytes, earlier: int | None) -> int:
    """RFC 9110 8.6: digits only; repeated only with one value."""
    text = value.strip()
    if not text.isdigit() or len(text) > 18:
        raise LocalProtocolError(f"Content-Length is not a number: {value!r}")
    length = int(text)
    if earlier is not None and earlier != length:
        raise LocalProtocolError(f"two values of Content-Length: {earlier} and {length}")
    return length
