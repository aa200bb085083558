"""The Responder of HTTP/1.1: chooses the framing, queues, and sends in as few writes as possible.

The head is held back until the first flush. If the response is complete by then its length is known:
a small response without Content-Length gets one, and leaves in one system call. Otherwise an HTTP/1.1
client gets chunks, one per flush, and an HTTP/1.0 client the end of the connection (RFC 9112 6.3).
"""

from collections.abc import Callable
from typing import Final

import trio

from gateway.errors import ClientGone
from gateway.front.fields import NOTICED, OWN_FIELDS, parse_length, too_long, too_short
from gateway.front.http1.body import Http1Body
from gateway.front.patience import Patience
from gateway.front.pieces import file_too_short, file_unreadable, write_pieces
from gateway.net.outbox import LARGEST
from gateway.net.stream import PumpStream
from gateway.protocols.errors import LocalProtocolError
from gateway.protocols.events import Headers
from gateway.protocols.grammar import TOKEN
from gateway.protocols.http1 import LAST_CHUNK, encode_chunk, encode_last_chunk, encode_response_head
from gateway.protocols.lists import list_tokens
from gateway.protocols.memo import LONGEST_HEAD, Memo, is_personal
from gateway.protocols.reasons import BODILESS
from gateway.protocols.trailers import permitted_trailers, takes_trailers

_FILE_PIECE: Final = 256 * 1024

_ENDING: Final = b"%b%bcontent-length: %d\r\n\r\n"
_CLOSING: Final = b"%b%bcontent-length: %d\r\nconnection: close\r\n\r\n"


_NO_FIELDS: Final[Headers] = []


class Http1Responder:
    """Answers one request on an HTTP/1.1 connection. Implements `request.Responder`."""

    __slots__ = (
        "_bodiless",
        "_body",
        "_broken_off",
        "_chunked",
        "_fields",
        "_gone",
        "_head",
        "_head_only",
        "_left",
        "_min_rate",
        "_patience",
        "_queued",
        "_send_timeout",
        "_stream",
        "_trailers",
        "_unsent",
        "_version10",
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
        body: Http1Body | None,
        *,
        head_only: bool,
        version10: bool,
        keep_alive: bool,
        send_timeout: float,
        min_rate: int = 0,
        fields: Headers = _NO_FIELDS,
    ) -> None:
        """*fields* of the request tell what the client takes (TE). *send_timeout* is in seconds of waiting
        for the client, *min_rate* in bytes per second (`Patience`).
        """
        self._stream = stream
        self._body = body  # the request's, whose state decides whether the connection can go on
        self._bodiless = self._head_only = head_only
        self._version10 = version10
        self._send_timeout = send_timeout
        self._min_rate = min_rate
        self._patience: Patience | None = None
        self._gone = 0
        self._fields = fields
        self.keep_alive = keep_alive
        """Whether the connection goes on; settled and told to the client with the head."""
        self.on_disconnect: Callable[[], None] | None = None
        self.started = False
        self.ended = False
        self.status = 0
        self.body_sent = 0
        """Bytes of the body passed on, for the access log."""
        self.close_delimited = False
        """Only the end of the connection ends the body (RFC 9112 6.3)."""
        self._head: bytes | None = b""
        self._trailers: Headers | None = None
        self._chunked = False
        self._left: int | None = None
        self._queued: list[bytes] = []
        self._unsent: memoryview | bytes = b""
        self._broken_off = False
        """The flush of a response that had ended was cancelled."""

    @property
    def disconnected(self) -> bool:
        return self._stream.peer_closed

    # --- what handlers call

    async def inform(self, status: int, headers: Headers) -> None:
        if self._version10 or self.started:
            return
        self._unsent = PreparedHead(status, headers, b"", final=False).head + b"\r\n"
        await self.flush()
        self._stream.release()  # it is for the time that the final response takes, which may be one step

    def try_respond(self, status: int, headers: Headers, body: bytes, reason: bytes = b"") -> bool:
        if self.started or self._bodiless or self._version10 or self._body is not None or status in BODILESS:
            return self._respond_in_steps(status, headers, body, reason)
        # The same for what most responses are, in one pass: the whole is known, an HTTP/1.1 client
        # waits for it, and nothing was sent before. Half of the cost of a small response is calls.
        prepared = _prepare(status, headers, reason)
        size = len(body)
        if prepared.length is not None and prepared.length != size:
            return self._respond_in_steps(status, headers, body, reason)  # which says by how much
        self.started = self.ended = True
        self.status = status
        self._head = None
        self.body_sent = size
        if prepared.closes:
            self.keep_alive = False
        own = OWN_FIELDS.lines(prepared.dated, prepared.served)
        if prepared.length is not None and self.keep_alive:
            head = prepared.head + own + prepared.ending
        else:
            ending = _ENDING if self.keep_alive else _CLOSING
            head = ending % (prepared.head, own, size)
        return self._try_send(head + body) if size <= LARGEST else self._try_send(body, head)

    def _respond_in_steps(self, status: int, headers: Headers, body: bytes, reason: bytes) -> bool:
        self.start(status, headers, reason)
        self.write(body)
        self.end()
        return self.try_flush()

    def switch(self, protocol: str, headers: Headers) -> bytes:
        """The head of the 101 response with *headers*; what follows it is *protocol*, not HTTP.

        Raises LocalProtocolError for fields that HTTP cannot carry; nothing has begun then.
        """
        if self.started:
            raise RuntimeError("the response was started before")
        prepared = PreparedHead(101, headers, b"", final=False)
        self.started = self.ended = True
        self.keep_alive = False
        self.status = 101
        self._head = None
        own = OWN_FIELDS.lines(prepared.dated, prepared.served)
        return b"%b%bconnection: upgrade\r\nupgrade: %b\r\n\r\n" % (prepared.head, own, protocol.encode())

    def connect(self, headers: Headers) -> bytes:
        """The head of the 200 response to CONNECT with *headers*; the tunnel is behind it (RFC 9110 9.3.6).

        Raises LocalProtocolError for fields that HTTP cannot carry; nothing has begun then.
        """
        if self.started:
            raise RuntimeError("the response was started before")
        prepared = _prepare(200, headers, b"")
        self.started = self.ended = True
        self.status = 200
        self._head = None
        return b"%b%b\r\n" % (prepared.head, OWN_FIELDS.lines(prepared.dated, prepared.served))

    def start(self, status: int, headers: Headers, reason: bytes = b"") -> None:
        if self.started:
            raise RuntimeError("the response was started before")
        prepared = _prepare(status, headers, reason)
        self._left = prepared.length
        self._head = prepared.head + OWN_FIELDS.lines(prepared.dated, prepared.served)
        self.status = status
        if status in BODILESS:
            self._bodiless = True
        if prepared.closes:
            self.keep_alive = False
        self.started = True

    def withdraw(self) -> bool:
        if not self.started:
            return True
        if self._head is None:
            return False
        self.started = self.ended = False
        self.status = self.body_sent = 0
        self._head = b""
        self._left = self._trailers = None
        self._queued = []
        self._bodiless = self._head_only
        return True

    def write(self, data: bytes) -> None:
        if self._bodiless or not data:
            return
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                raise too_long(-self._left)
        self.body_sent += len(data)
        self._queued.append(data)

    async def write_file(self, descriptor: int, offset: int, count: int) -> None:
        if self._bodiless:
            return
        if self._left is None:
            await write_pieces(self, descriptor, offset, count, _FILE_PIECE)
            return
        await self.flush()
        self._left -= count
        if self._left < 0:
            raise too_long(-self._left)
        try:
            sent = await self._stream.send_file(descriptor, offset, count, timeout=self._send_timeout)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
            raise ClientGone(str(error)) from error
        except OSError as unread:
            raise file_unreadable(unread) from unread
        self.body_sent += sent
        if sent < count:
            raise file_too_short()

    def end(self, trailers: Headers | None = None) -> None:
        if self.ended:
            raise RuntimeError("the response was ended before")
        if self._left and not self._bodiless:
            raise too_short(self._left)
        self.ended = True
        if trailers and takes_trailers(self._fields):
            self._trailers = permitted_trailers(trailers)

    def try_flush(self) -> bool:
        head, data = self._serialise()
        if head:
            return self._try_send(data, head)
        if data:
            return self._try_send(data, more=not self.ended)
        return not self.ended or self._try_settle()

    def _try_settle(self) -> bool:
        try:
            return self._stream.try_settle()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ClientGone(str(error)) from error

    def _try_send(self, data: bytes | memoryview, head: bytes = b"", *, more: bool = False) -> bool:
        """Send *data*, a large one behind its *head*, for which it is not copied; *more* goes on after it."""
        try:
            if head:
                sent = self._stream.try_send_behind(head, data) - len(head)
            elif more:
                sent = self._stream.try_send_more(data)
            else:
                sent = self._stream.try_send(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ClientGone(str(error)) from error
        if sent == len(data):
            self._unsent = b""
            return True
        self._unsent = memoryview(data)[sent:] if sent >= 0 else memoryview(head + data)[sent + len(head) :]
        return False

    async def flush(self) -> None:
        if self._broken_off:
            self._broken_off, self.ended = False, True
        while not self.try_flush():
            try:
                await self._wait_writable()
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
                self.ended = False  # not for the client: its part of the response is not whole
                raise ClientGone(str(error)) from error
            except BaseException:
                # Cancelled: nor is it, unless somebody flushes the rest.
                self._broken_off, self.ended = self.ended, False
                raise

    async def _wait_writable(self) -> None:
        """Wait for the client to take more, as long as it is not too slow in all."""
        if self._patience is None:
            self._patience = Patience(self._send_timeout, self._min_rate)
        began = trio.current_time()
        self._stream.write_deadline = began + self._patience.left
        await self._stream.wait_writable()
        # What was queued and has gone, framing left out.
        gone = self.body_sent - len(self._unsent) - self._stream.owed
        self._patience.spend(trio.current_time() - began, gone - self._gone)
        self._gone = gone

    # --- what the connection calls

    def disconnect(self) -> None:
        """The client has closed its side, or the connection broke."""
        callback, self.on_disconnect = self.on_disconnect, None
        if callback is not None:
            callback()

    # --- framing

    def _serialise(self) -> tuple[bytes, bytes | memoryview]:
        """All that is queued as bytes, framed; in two parts where the second is large."""
        if self._unsent:
            if not (self._queued or (self.ended and self._chunked)):
                return b"", self._unsent
            unsent = bytes(self._unsent)
        else:
            unsent = b""
        if not self.started:
            return b"", unsent
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
        if unsent and len(body) > LARGEST:
            return unsent, body
        return b"", unsent + body if unsent else body

    def _finish_head(self, head: bytes, queued: int) -> bytes:
        """*head* with the framing fields and the empty line; *queued* bytes of the body follow at once."""
        if self._body is not None and not self._body.settle():
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


class PreparedHead:
    """A head as far as it depends on status and fields only: those of one application repeat.

    Preparing one costs a quarter of a small response, recognising it a tenth of that (`protocols.memo`).
    """

    __slots__ = ("closes", "dated", "ending", "head", "length", "served")

    def __init__(self, status: int, headers: Headers, reason: bytes, *, final: bool = True) -> None:
        """Raises LocalProtocolError for what HTTP cannot carry, or not as a *final* response.

        What is not final has no body: another response follows it, or another protocol (101).
        """
        if status < 200 and final:
            # RFC 9112 6.3: its body would be read as the next response.
            raise LocalProtocolError(f"{status} is not a final response")
        self.length: int | None = None
        """What Content-Length promises."""
        self.dated = self.served = False
        self.closes = False
        """Whether Connection says that this response is to be the last one (RFC 9112 9.6)."""
        fields: Headers = []
        for field in headers:
            name = field[0].lower()
            if not TOKEN.fullmatch(name):
                # RFC 9110 5.1. "transfer-encoding:chunked" for a name would be framing on the wire.
                raise LocalProtocolError(f"not the name of a field: {field[0]!r}")
            if name in NOTICED:
                if name == b"content-length":
                    self.length = parse_length(field[1], self.length)
                    continue
                if name == b"date":
                    self.dated = True
                elif name == b"server":
                    self.served = True
                    if not field[1]:
                        continue
                elif name == b"upgrade" and status == 426:
                    # RFC 9110 15.5.22: what to upgrade to; 7.8: with the option that names the field.
                    fields.append((b"connection", b"upgrade"))
                else:
                    if name == b"connection" and b"close" in list_tokens(field[1]):
                        self.closes = True
                    continue
            fields.append(field)
        self.head = encode_response_head(status, reason, fields)[:-2]
        """Status line and fields; ours and the empty line are still to come."""
        self.ending = b"" if self.length is None else b"content-length: %d\r\n\r\n" % self.length
        """Content-Length, if it is known here, and that empty line."""


_prepared: Final[Memo[tuple[int, bytes, tuple[tuple[bytes, bytes], ...]], PreparedHead]] = Memo()


def _prepare(status: int, headers: Headers, reason: bytes) -> PreparedHead:
    key = (status, reason, tuple(headers))
    prepared = _prepared.get(key)
    if prepared is None:
        prepared = PreparedHead(status, headers, reason)
        if len(prepared.head) <= LONGEST_HEAD and not is_personal(prepared.head):
            _prepared.keep(key, prepared)
    return prepared
