"""The Responder of HTTP/2: a head held back until the first flush, then DATA, then the end.

As over HTTP/1.1, a response that is complete at its first flush gets a Content-Length if it has none.
"""

from collections.abc import Callable
from typing import Final

from gateway.front.fields import NOTICED, OWN_FIELDS, SERVER, parse_length, too_long, too_short
from gateway.front.http2.body import Http2Body
from gateway.front.http2.output import Outlet, Output
from gateway.front.pieces import write_pieces
from gateway.protocols.errors import LocalProtocolError
from gateway.protocols.events import Headers
from gateway.protocols.grammar import CONTROL, TOKEN
from gateway.protocols.http2 import Http2Server
from gateway.protocols.memo import LONGEST_HEAD, Memo
from gateway.protocols.reasons import BODILESS
from gateway.protocols.trailers import permitted_trailers

_FILE_PIECE: Final = 64 * 1024


REFUSED_UPGRADE: Final = 501


class Http2Responder:
    """Answers one request on its stream. Implements `request.Responder`."""

    __slots__ = (
        "_bodiless",
        "_body",
        "_codec",
        "_head",
        "_head_only",
        "_held",
        "_left",
        "_outlet",
        "_output",
        "body_sent",
        "disconnected",
        "ended",
        "offers_tunnel",
        "on_disconnect",
        "started",
        "status",
    )

    def __init__(
        self,
        codec: Http2Server,
        output: Output,
        outlet: Outlet,
        body: Http2Body,
        *,
        head_only: bool,
        offers_tunnel: bool,
    ) -> None:
        self._codec = codec
        self._output = output
        self._outlet = outlet
        self._body = body  # the request's
        self._bodiless = self._head_only = head_only
        self._head: PreparedFields | None = None
        self._held = True
        self._left: int | None = None
        self.on_disconnect: Callable[[], None] | None = None
        self.disconnected = False
        self.started = False
        self.ended = False
        self.status = 0
        self.body_sent = 0
        """Bytes of the body passed on, for the access log."""
        self.offers_tunnel = offers_tunnel
        """A 2xx response would open the tunnel that the client asks for (RFC 8441 5)."""

    # --- what handlers call

    async def inform(self, status: int, headers: Headers) -> None:
        if self.started or status == 101:  # RFC 9113 8.6
            return
        prepared = PreparedFields(status, headers, final=False)
        fields = [field for field in prepared.fields[1:] if field[0] != b"server"]
        await self._outlet.flush()
        self._codec.send_informational(self._outlet.stream_id, status, fields)
        self._output.wake()

    def try_respond(self, status: int, headers: Headers, body: bytes, reason: bytes = b"") -> bool:
        self.start(status, headers)
        self.write(body)
        self.end()
        return self.try_flush()

    def start(self, status: int, headers: Headers, reason: bytes = b"") -> None:
        if self.started:
            raise RuntimeError("the response was started before")
        if self.offers_tunnel and 200 <= status < 300:
            # The handler did not look at the offer. What would be a page over HTTP/1.1 means "the tunnel
            # is open" here; RFC 9220 3 has a status for a protocol that is not spoken.
            status, headers = REFUSED_UPGRADE, []
            self._bodiless = True
        prepared = _prepare(status, headers)
        self._head = prepared
        self._left = prepared.length
        self.status = status
        if status in BODILESS:
            self._bodiless = True
        self.started = True

    def withdraw(self) -> bool:
        if not self.started:
            return True
        if not self._held:
            return False
        self.started = self.ended = False
        self.status = self.body_sent = 0
        self._head = None
        self._left = None
        self._bodiless = self._head_only
        self._outlet.clear()
        return True

    def write(self, data: bytes) -> None:
        if self._bodiless or not data:
            return
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                raise too_long(-self._left)
        self.body_sent += len(data)
        self._outlet.write(data)

    async def write_file(self, descriptor: int, offset: int, count: int) -> None:
        if self._bodiless:
            return
        await write_pieces(self, descriptor, offset, count, _FILE_PIECE)

    def end(self, trailers: Headers | None = None) -> None:
        if self.ended:
            raise RuntimeError("the response was ended before")
        if self._left and not self._bodiless:
            raise too_short(self._left)
        self.ended = True
        self._outlet.end(_prepare_trailers(trailers) if trailers and not self._bodiless else None)

    def try_flush(self) -> bool:
        if self._held:
            if not self.started:
                return True
            self._send_head()
        return self._outlet.try_flush()

    async def flush(self) -> None:
        if not self.try_flush():
            await self._outlet.flush()

    # --- what the tunnel and the connection call

    def open_tunnel(self, headers: Headers) -> None:
        """Answer 200 without a length: the stream is the client's and the handler's now (RFC 8441 5)."""
        if self.started:
            raise RuntimeError("the response was started before")
        self.offers_tunnel = False
        fields = [field for field in headers if field[0].lower() != b"content-length"]
        self.start(200, fields)
        self._bodiless = False

    def finish_tunnel(self) -> None:
        """The handler is done: end our side, if it did not."""
        if not self._outlet.ended:
            self._outlet.end()
        self.ended = True

    def disconnect(self) -> None:
        """The client has left the stream."""
        self.disconnected = True
        callback, self.on_disconnect = self.on_disconnect, None
        if callback is not None:
            callback()

    # --- the head

    def _send_head(self) -> None:
        prepared = self._head
        assert prepared is not None
        self._head = None
        self._held = False
        self._body.expects_continue = False  # too late for 100
        fields = prepared.fields.copy()
        if not prepared.dated:
            fields.append(OWN_FIELDS.date())
        length = prepared.length
        if self._bodiless:
            if self.status == 204 or (not self._head_only and self.status != 304):
                length = None
        elif length is None and self.ended and not self._outlet.has_trailers:
            length = self.body_sent
        if length is not None:
            fields.append((b"content-length", b"%d" % length))
        self._outlet.begin(fields)


class PreparedFields:
    """A head as far as it depends on status and fields only: those of one application repeat."""

    __slots__ = ("dated", "fields", "length")

    def __init__(self, status: int, headers: Headers, *, final: bool = True) -> None:
        """Raises LocalProtocolError for what HTTP cannot carry, or not as a *final* response."""
        if not 100 <= status <= 999:
            raise LocalProtocolError(f"not a status code: {status}")
        if status < 200 and final:  # RFC 9113 8.1: a body comes behind the final one only
            raise LocalProtocolError(f"{status} is not a final response")
        self.length: int | None = None
        """What Content-Length promises."""
        self.dated = False
        self.fields: Headers = [(b":status", b"%d" % status)]
        served = False
        for each in headers:
            name, value = field = _checked(each)
            if name in NOTICED:
                if name == b"content-length":
                    self.length = parse_length(value, self.length)
                    continue
                if name == b"date":
                    self.dated = True
                elif name == b"server":
                    served = True
                    if not value:
                        continue
                else:
                    continue
            self.fields.append(field)
        if not served:
            self.fields.append(SERVER)


_prepared: Final[Memo[tuple[int, tuple[tuple[bytes, bytes], ...]], PreparedFields]] = Memo()


def _prepare(status: int, headers: Headers) -> PreparedFields:
    key = (status, tuple(headers))
    prepared = _prepared.get(key)
    if prepared is None:
        prepared = PreparedFields(status, headers)
        size = sum(len(name) + len(value) for name, value in prepared.fields)
        if size <= LONGEST_HEAD and not any(name == b"set-cookie" for name, _ in prepared.fields):
            _prepared.keep(key, prepared)
    return prepared


def _prepare_trailers(trailers: Headers) -> Headers | None:
    return [_checked(field) for field in permitted_trailers(trailers)] or None


def _checked(field: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """*field* as RFC 9113 8.2.1 and RFC 9110 5.5 want it. Raises LocalProtocolError if it cannot be."""
    name, value = field[0].lower(), field[1]
    if not TOKEN.fullmatch(name):
        raise LocalProtocolError(f"not the name of a field: {field[0]!r}")
    if CONTROL.search(value):
        raise LocalProtocolError(f"the field {name!r} has a control character: {value!r}")
    return name, value.strip(b" \t")
