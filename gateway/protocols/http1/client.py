"""The client's side of HTTP/1.1: requests out, responses in.

Responses whose framing is doubtful are refused: a wrong guess would give one request's bytes to another
on the same connection (RFC 9112 11.1). The status of every error is 502.
"""

from dataclasses import dataclass
from typing import Final

from gateway.protocols.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from gateway.protocols.events import (
    NEED_DATA,
    Data,
    EndOfMessage,
    Headers,
    InformationalResponse,
    NeedData,
    RequestEvent,
    RequestHead,
    ResponseHead,
)
from gateway.protocols.hop_by_hop import named_by
from gateway.protocols.http1.checks import (
    check_transfer_encoding,
    parse_content_length,
    parse_status_line,
    persists,
)
from gateway.protocols.http1.reading import READING_HEAD, MessageReader, Reading
from gateway.protocols.http1.serialise import (
    SENDING_BODY,
    SENDING_HEAD,
    BodyWriter,
    Framing,
    Sending,
    content_length,
    encode_fields,
    encode_request_head,
)
from gateway.protocols.lists import list_tokens
from gateway.protocols.memo import LONGEST_HEAD, Memo, is_personal
from gateway.protocols.reasons import BODILESS

_VERSION_PREFIX = b"HTTP/1."
_MEANINGFUL = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade"})


# Requests whose responses are framed by their heads alone (RFC 9112 6.3).
_PLAIN_METHODS: Final = frozenset({b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"})

# A response head -> status, fields, reason, version, bytes of body.
_known_heads: Final[Memo[bytes, tuple[int, Headers, bytes, bytes, int]]] = Memo()


@dataclass(frozen=True, slots=True)
class RequestFields:
    """The fields of a request as they are sent, and what they say about its framing and connection."""

    block: bytes
    framing: Framing
    length: int
    closes: bool
    upgrade: bool


_known_fields: Final[Memo[tuple[tuple[bytes, bytes], ...], RequestFields]] = Memo()


def _understand_request(headers: Headers) -> RequestFields:
    hosts = 0
    length: int | None = None
    chunked = closes = upgrade = False
    for name, value in headers:
        name = name.lower()
        if name not in _MEANINGFUL:
            continue
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            if length is not None:
                raise LocalProtocolError("more than one Content-Length")
            length = content_length(value)
        elif name == b"transfer-encoding":
            if chunked or value.lower() != b"chunked":
                raise LocalProtocolError(f"not one Transfer-Encoding of chunked: {value!r}")
            chunked = True
        elif name == b"connection":
            closes = closes or b"close" in list_tokens(value)
        else:
            upgrade = True
    if hosts != 1:
        raise LocalProtocolError(f"{hosts} Host fields")
    if chunked and length is not None:
        raise LocalProtocolError("Transfer-Encoding and Content-Length together")
    framing = Framing.CHUNKED if chunked else Framing.LENGTH
    return RequestFields(encode_fields(headers), framing, length or 0, closes, upgrade)


def _drop_connection(headers: Headers, connection: bytes) -> None:
    """RFC 9110 7.6.1: *connection* is about this connection, and the fields that it names go no further."""
    if connection:
        named = named_by(connection) | {b"connection"}
        headers[:] = [field for field in headers if field[0] not in named]


class Http1Client(MessageReader[InformationalResponse | ResponseHead]):
    """One connection to an upstream server, one exchange at a time."""

    __slots__ = ("_body", "_keep_alive", "_method", "_passes_close", "_sending", "_upgrade_offered")

    def __init__(
        self, *, headers: int = 64 * 1024, header_count: int = 100, passes_close: bool = False
    ) -> None:
        """*headers* bounds the bytes of the status line and of the field section, each.

        Beyond the bounds LimitExceeded is raised. With *passes_close* the head of a response that ends the
        connection says so: whoever has asked heeds it, too.
        """
        super().__init__(Reading.IDLE, headers=headers, header_count=header_count)
        self._body = BodyWriter(Framing.NONE)
        self._keep_alive = True
        self._method = b""
        self._passes_close = passes_close
        self._sending = SENDING_HEAD
        self._upgrade_offered = False

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent: both messages are complete, neither side wants to close,
        and nothing unasked has arrived (RFC 9112 9.3).
        """
        return (
            self._reading is Reading.IDLE
            and self._sending is SENDING_HEAD
            and self._keep_alive
            and not self._data
            and not self._ended
        )

    # Sending -------------------------------------------------------------------------------------

    def send(self, event: RequestEvent) -> bytes:
        """The bytes that say *event*.

        The body is framed as the RequestHead says: ``transfer-encoding: chunked``, Content-Length, or
        no body with neither. Exactly one Host is asked for (RFC 9112 3.2).
        """
        try:
            return self._encode(event)
        except LocalProtocolError:
            self._sending = Sending.FAILED
            raise

    def _encode(self, event: RequestEvent) -> bytes:
        sending = self._sending
        if sending is SENDING_HEAD:
            if isinstance(event, RequestHead):
                return self._encode_head(event)
        elif sending is SENDING_BODY:
            if isinstance(event, Data):
                return self._body.data(event.data)
            if isinstance(event, EndOfMessage):
                ending = self._body.end(event.trailers)
                self._sending = Sending.DONE
                return ending
        raise LocalProtocolError(f"{type(event).__name__} where {sending.value} may be sent")

    def _encode_head(self, event: RequestHead) -> bytes:
        if not self.reusable:
            raise LocalProtocolError("this connection cannot take another request")
        key = tuple(event.headers)
        fields = _known_fields.get(key)
        if fields is None:
            fields = _understand_request(event.headers)
            if len(fields.block) <= LONGEST_HEAD:
                _known_fields.keep(key, fields)
        head = encode_request_head(event.method, event.target, fields.block)
        self._upgrade_offered = fields.upgrade
        self._keep_alive = not fields.closes
        self._body = BodyWriter(fields.framing, fields.length)
        self._method = event.method
        self._sending = SENDING_BODY
        self._reading = READING_HEAD
        return head

    # Receiving -----------------------------------------------------------------------------------

    def _read_head(self) -> InformationalResponse | ResponseHead | NeedData:
        data, position = self._data, self._position
        end = data.find(b"\r\n\r\n", self._scanned)
        if end < 0:
            return self._await_head()
        head = bytes(data[position : end + 4])
        known = _known_heads.get(head) if self._method in _PLAIN_METHODS else None
        if known is not None and len(head) <= self._max_fields and len(known[1]) <= self._max_field_count:
            self._consume(end + 4)
            status, headers, reason, version, length = known
            self._begin_body(length)
            return ResponseHead(status, headers.copy(), reason, version)
        start = self._status_line_end()
        version, status, reason = parse_status_line(bytes(data[position:start]))
        headers = self._section(start, end + 4)
        if status < 200 and status != 101:  # RFC 9112 6.3: no body, and no say about the connection
            _drop_connection(headers, b",".join([value for name, value in headers if name == b"connection"]))
            return InformationalResponse(status, headers, reason)
        self._understand_response(version, status, headers)
        if (
            self._keep_alive
            and self._reading in (Reading.LENGTH, Reading.END)
            and self._method in _PLAIN_METHODS
        ):
            self._remember(head, ResponseHead(status, headers.copy(), reason, version))
        return ResponseHead(status, headers, reason, version)

    def _remember(self, head: bytes, event: ResponseHead) -> None:
        """Keep the meaning of a head on which the connection goes on after a body of known length.

        A server repeats its heads for as long as a second: then the Date is another one.
        """
        if len(head) <= LONGEST_HEAD and not is_personal(head):
            length = self._remaining if self._reading is Reading.LENGTH else 0
            _known_heads.keep(head, (event.status, event.headers, event.reason, event.version, length))

    def _check_start_line(self) -> int:
        end = self._status_line_end()
        if end > self._scanned:  # or it was checked when it came
            parse_status_line(bytes(self._data[self._position : end]))
        return end

    def _status_line_end(self) -> int:
        data, position = self._data, self._position
        beginning = bytes(data[position : position + len(_VERSION_PREFIX)])
        if not _VERSION_PREFIX.startswith(beginning):
            raise RemoteProtocolError(f"this is not HTTP/1, it begins with {beginning!r}")
        bound = position + self._max_fields + 2
        end = data.find(b"\n", position, bound) + 1
        if end:
            return end
        if len(data) >= bound:
            raise LimitExceeded(f"a status line of more than {self._max_fields} bytes")
        return -1

    def _understand_response(self, version: bytes, status: int, headers: Headers) -> None:
        """Find the end of the body (RFC 9112 6.3) and whether the connection outlives it (9.3)."""
        connection, coding = b"", None
        length = None
        for name, value in headers:
            if name == b"content-length":
                length = parse_content_length(value)
            elif name == b"transfer-encoding":
                coding = value if coding is None else coding + b"," + value
            elif name == b"connection":
                connection = connection + b"," + value if connection else value
        self._keep_alive = self._keep_alive and persists(version, connection)
        _drop_connection(headers, connection)
        if self._passes_close and not persists(version, connection):
            headers.append((b"connection", b"close"))
        if status == 101 and not self._upgrade_offered:  # RFC 9110 15.2.2
            raise RemoteProtocolError("101 without a request to upgrade")
        if status == 101 or (self._method == b"CONNECT" and status < 300):
            self._read_to_close()  # another protocol's bytes from here on
        elif self._method == b"HEAD" or status in BODILESS:
            self._begin_body(0)
        elif coding is not None:
            # RFC 9112 6.3 would have a response without a last chunked read to the end of the
            # connection. But no other coding was offered (TE), and coded bytes are not the body.
            check_transfer_encoding(coding, version=version)
            self._begin_body(None)
        elif length is not None:
            self._begin_body(length)
        else:
            self._read_to_close()

    def _read_to_close(self) -> None:
        self._reading = Reading.UNTIL_CLOSE
        self._keep_alive = False

    def _message_complete(self) -> None:
        self._reading = Reading.IDLE
        if self._sending is Sending.DONE and self._keep_alive:
            self._sending = SENDING_HEAD
        else:  # RFC 9112 9.5: a request that was not sent to its end leaves the framing broken
            self._keep_alive = False

    def _read_idle(self) -> NeedData:
        if self._data:  # RFC 9112 9.2
            raise RemoteProtocolError("data on a connection that waits for no response")
        return NEED_DATA

    def _fail(self, error: RemoteProtocolError) -> None:
        error.status = 502
        self._keep_alive = False
        super()._fail(error)
