"""The server's side of HTTP/1.1: requests in, responses out.

Requests are refused rather than repaired, because what two programs on the way read differently is how
requests are smuggled (RFC 9112 11.2). An offer to upgrade is told (`Http1Server.upgrade`) and stays in the
head; whoever accepts it takes the bytes behind the head (`Http1Server.take_rest`), which are not HTTP.
CONNECT is such an offer, too, and refused unless it is wanted: what follows it is never read as a request.
"""

from gateway.protocols.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from gateway.protocols.events import (
    NEED_DATA,
    Data,
    EndOfMessage,
    Headers,
    InformationalResponse,
    NeedData,
    RequestHead,
    ResponseEvent,
    ResponseHead,
)
from gateway.protocols.forwarded import CLIENT_FIELDS
from gateway.protocols.grammar import TOKEN
from gateway.protocols.http1.checks import (
    ORIGIN_FORM_LINE,
    RequestLine,
    check_transfer_encoding,
    is_host,
    parse_content_length,
    parse_request_line,
    persists,
)
from gateway.protocols.http1.reading import READING_HEAD, MessageReader, Reading
from gateway.protocols.http1.serialise import (
    CHUNKED_FIELD,
    CLOSE_FIELD,
    KEEP_ALIVE_FIELD,
    SENDING_BODY,
    SENDING_HEAD,
    BodyWriter,
    Framing,
    Sending,
    content_length,
    encode_response_head,
)
from gateway.protocols.lists import list_tokens
from gateway.protocols.reasons import BODILESS

MAX_EMPTY_LINES = 2
"""Empty lines skipped in front of a request line: RFC 9112 2.2 asks for at least one."""

KNOWN_SECTION_LIMIT = 2048
"""Bytes of a field section that is kept to be recognised in the next request: a browser's with cookies."""

_CARRIAGE_RETURN = 0x0D
_HTTP2_LINE = b"PRI * HTTP/2.0\r\n"  # RFC 9113 3.4
_MEANINGFUL = frozenset(
    {b"host", b"connection", b"content-length", b"transfer-encoding", b"expect", b"upgrade"}
)


class Http2Preface(RemoteProtocolError):
    """The client begins with the preface of HTTP/2, which is no request; *received* is all that came."""

    def __init__(self, message: str, *, status: int = 505, received: bytes = b"") -> None:
        super().__init__(message, status=status)
        self.received = received

    def again(self) -> "Http2Preface":
        """As `RemoteProtocolError.again`."""
        return Http2Preface(str(self), status=self.status, received=self.received)


class Http1Server(MessageReader[RequestHead]):
    """One client connection.

    The next request is given when it is asked for after the EndOfMessage of the one before, but not in
    the middle of a response that goes through `send`. The facts below are those of the latest head.
    """

    __slots__ = (
        "_body",
        "_empty_lines",
        "_known_headers",
        "_known_section",
        "_max_line",
        "_method",
        "_sending",
        "_takes_connect",
        "_valid_host",
        "_version",
        "authority",
        "body_length",
        "expects_continue",
        "forwarded",
        "keep_alive",
        "upgrade",
    )

    authority: bytes
    """Host and port that the request is for: of an absolute target or that of CONNECT, else of Host; b""
    without one."""
    body_length: int | None
    """Bytes of body: 0 if there is none, None if it comes in chunks."""
    expects_continue: bool
    """The client waits for ``100 Continue`` before it sends the body (RFC 9110 10.1.1)."""
    forwarded: bool
    """There are fields by which a proxy speaks for its client (`protocols.forwarded`)."""
    keep_alive: bool
    """Whether the connection goes on after this exchange (RFC 9112 9.3); `send` makes it false when its
    response cannot be followed by another, a driver may do so in front of the ResponseHead."""
    upgrade: bytes
    """The protocols that the client offers to switch to, as it lists them; b"" if it offers none, or with a
    body, behind which the other protocol would have to wait (RFC 9110 7.8)."""

    def __init__(
        self,
        *,
        request_line: int = 8 * 1024,
        headers: int = 64 * 1024,
        header_count: int = 100,
        takes_connect: bool = False,
    ) -> None:
        """*request_line* and *headers* (the field section; also that of trailers) are sizes in bytes.

        Beyond them the error's status is 414, and 431 for *headers* and *header_count*. A method that is
        longer than *request_line* is refused with 501, and so is CONNECT without *takes_connect*.
        """
        super().__init__(READING_HEAD, headers=headers, header_count=header_count)
        self._max_line = request_line
        self._takes_connect = takes_connect
        self._empty_lines = 0
        self._valid_host = b""
        self._known_section = b""
        self._known_headers: Headers = []
        self._method = b""
        self._version = b"1.1"
        self._sending = SENDING_HEAD
        self._body = BodyWriter(Framing.NONE)
        self.authority = b""
        self.body_length = 0
        self.expects_continue = False
        self.forwarded = False
        self.keep_alive = True
        self.upgrade = b""

    # Receiving -----------------------------------------------------------------------------------

    def next_request(self) -> RequestHead | NeedData:
        """`next_event` between two requests; a request without a body is complete with its head.

        ``body_length == 0`` says so: no EndOfMessage follows then. This saves a front two calls of the
        twenty that a small request costs. Raises RemoteProtocolError.
        """
        if self._reading is not READING_HEAD:
            event = self.next_event()
            assert event is NEED_DATA, f"between two requests only, not in {self._reading.value}"
            return event
        known = self._known_head()
        if known is not None:
            return known
        try:
            head = self._read_head()
        except RemoteProtocolError as error:
            self._fail(error)
            raise
        if self.body_length == 0 and head is not NEED_DATA:
            self._message_complete()
        return head

    def take_rest(self) -> bytes:
        """All bytes behind the request without a body that was given last: they are another protocol's.

        No further request is read.
        """
        rest = self._take(len(self._data))
        self.keep_alive = False
        self._reading = Reading.CLOSED
        return rest

    def _read_head(self) -> RequestHead | NeedData:
        data = self._data
        if not data or self._sending is SENDING_BODY:
            return NEED_DATA
        position = self._position
        if data[position] == _CARRIAGE_RETURN:
            position = self._skip_empty_lines()
            if position < 0:
                return self._need_data() if self._data else NEED_DATA  # a CR alone has begun something
            data = self._data
        end = data.find(b"\r\n\r\n", self._scanned)
        if end < 0:
            return self._await_head()
        match = ORIGIN_FORM_LINE.match(data, position)
        if match is not None and match.end() - position - 2 <= self._max_line:
            method, target, version = match.groups()
            start, authority = match.end(), None
        else:
            start = self._request_line_end(position)
            method, target, version, authority = self._parse_line(position, start)
        section = data[start : end + 4]
        headers = self._section(start, end + 4)
        self._understand(version, headers, authority)
        if authority is not None and method == b"CONNECT":
            self._understand_connect()
        self._remember(section, headers, authority)
        self._method = method
        self._version = version
        self._sending = SENDING_HEAD
        self._empty_lines = 0
        self._begin_body(self.body_length)
        return RequestHead(method, target, headers, version)

    def _known_head(self) -> RequestHead | None:
        """The head if it is all that is here, and all behind its request line is as the last time.

        A client says the same about itself in each request of a connection, and what the same bytes mean
        is known: the facts stay as they are. Half of the cost of a small head, more of a browser's.
        """
        section = self._known_section
        data = self._data
        if not section or self._position or self._sending is SENDING_BODY or not data.endswith(section):
            return None
        match = ORIGIN_FORM_LINE.match(data)
        if match is None or match.end() + len(section) != len(data) or match.end() - 2 > self._max_line:
            return None
        method, target, version = match.groups()
        if version != self._version:
            return None
        self._data = b""
        self._scanned = 0
        self._empty_lines = 0
        self._method = method
        self._sending = SENDING_HEAD
        return RequestHead(method, target, self._known_headers.copy(), version)

    def _remember(self, section: bytes | bytearray, headers: Headers, authority: bytes | None) -> None:
        """Keep the meaning of *section* for the next request, if it is all that the facts depend on."""
        if authority is None and self.body_length == 0 and len(section) <= KNOWN_SECTION_LIMIT:
            self._known_section = bytes(section)
            self._known_headers = headers.copy()
        else:
            self._known_section = b""

    def _skip_empty_lines(self) -> int:
        """Where the request line begins, or -1 if nothing of it is there."""
        while self._data.startswith(b"\r\n", self._position):
            self._empty_lines += 1
            if self._empty_lines > MAX_EMPTY_LINES:
                raise RemoteProtocolError("empty lines in place of a request line")
            self._consume(self._position + 2)
        return -1 if self._data[self._position :] in (b"", b"\r") else self._position

    def _check_start_line(self) -> int:
        position = self._position
        end = self._request_line_end(position)
        if end > self._scanned:  # or it was checked when it came
            self._parse_line(position, end)
        return end

    def _parse_line(self, start: int, end: int) -> RequestLine:
        line = bytes(self._data[start:end])
        if line == _HTTP2_LINE and not (self._method or self._empty_lines):
            raise Http2Preface("HTTP/2.0 is not supported here", received=bytes(self._data[start:]))
        return parse_request_line(line, takes_connect=self._takes_connect)

    def _request_line_end(self, position: int) -> int:
        """Where the request line that begins at *position* ends, or -1 if its end is not there."""
        data = self._data
        method = TOKEN.match(data, position)
        if method is None:  # TLS on a plain port, whitespace, a bare LF
            raise RemoteProtocolError("this is not the beginning of an HTTP request")
        bound = position + self._max_line + 2
        end = data.find(b"\n", position, bound) + 1
        if end:
            return end
        if len(data) >= bound:
            if method.end() - position > self._max_line:  # RFC 9112 3: no server implements it
                raise LimitExceeded(f"a method of more than {self._max_line} bytes", status=501)
            raise LimitExceeded(f"a request line of more than {self._max_line} bytes", status=414)
        return -1

    def _understand(self, version: bytes, headers: Headers, authority: bytes | None) -> None:
        """Set the facts about the request; refuse what is ambiguous."""
        host = connection = coding = expectation = upgrade = None
        length = 0
        forwarded = False
        for name, value in headers:
            if name in _MEANINGFUL:
                if name == b"host":
                    if host is not None:
                        raise RemoteProtocolError("more than one Host")  # RFC 9112 3.2
                    host = value
                elif name == b"connection":
                    connection = value if connection is None else connection + b"," + value
                elif name == b"content-length":
                    length = parse_content_length(value)
                elif name == b"transfer-encoding":
                    coding = value if coding is None else coding + b"," + value
                elif name == b"upgrade":
                    upgrade = value if upgrade is None else upgrade + b"," + value
                else:
                    expectation = value if expectation is None else expectation + b"," + value
            elif name.startswith(CLIENT_FIELDS):
                forwarded = True
        if host is None:
            if version == b"1.1":
                raise RemoteProtocolError("an HTTP/1.1 request without Host")  # RFC 9112 3.2
            host = b""
        elif host != self._valid_host:  # usually the one that was checked before
            if not is_host(host):
                raise RemoteProtocolError("the Host is invalid")
            self._valid_host = host
        if coding is not None:
            check_transfer_encoding(coding, version=version)
        self.body_length = length if coding is None else None
        self.authority = host if authority is None else authority
        self.forwarded = forwarded
        self.keep_alive = version == b"1.1" if connection is None else persists(version, connection)
        self.expects_continue = (
            expectation is not None and self._expects_continue(version, expectation) and self.body_length != 0
        )
        self.upgrade = b""
        if upgrade is not None and connection is not None and version == b"1.1" and self.body_length == 0:
            # RFC 9110 7.8: a field that Connection does not name was not meant for this hop.
            self.upgrade = upgrade if b"upgrade" in list_tokens(connection) else b""

    def _understand_connect(self) -> None:
        """RFC 9110 9.3.6: CONNECT has no content; what follows is for the tunnel, or for nobody."""
        if self.body_length != 0:
            raise RemoteProtocolError("CONNECT with content")
        self.keep_alive = False
        self.upgrade = b""

    @staticmethod
    def _expects_continue(version: bytes, expectation: bytes) -> bool:
        if version == b"1.0":  # RFC 9110 10.1.1: ignored
            return False
        if set(list_tokens(expectation)) != {b"100-continue"}:
            raise RemoteProtocolError("the only expectation that can be met is 100-continue", status=417)
        return True

    def _message_complete(self) -> None:
        # RFC 9112 9.6: after "close" no further request is processed.
        self._reading = READING_HEAD if self.keep_alive else Reading.CLOSED

    def _read_idle(self) -> NeedData:
        self._consume(len(self._data))
        return NEED_DATA

    def _fail(self, error: RemoteProtocolError) -> None:
        self.keep_alive = False
        if self._reading is READING_HEAD:
            # Nothing of this request is known; what may still be sent is a response that says so.
            self._method = b""
            self._version = b"1.1"
            self._sending = SENDING_HEAD
        super()._fail(error)

    # Sending -------------------------------------------------------------------------------------

    def send(self, event: ResponseEvent) -> bytes:
        """The bytes that say *event*; b"" for what has no bytes of its own.

        With a Content-Length in the ResponseHead the body goes as it is, without one in chunks, and up
        to the end of the connection to an HTTP/1.0 client. The body of a response that has none (HEAD,
        204, 304, 2xx to CONNECT) and interim responses to HTTP/1.0 clients (RFC 9110 15.2) are swallowed.
        """
        try:
            return self._encode(event)
        except LocalProtocolError:
            self._sending = Sending.FAILED
            raise

    def _encode(self, event: ResponseEvent) -> bytes:
        sending = self._sending
        if sending is SENDING_HEAD:
            if isinstance(event, ResponseHead):
                return self._encode_head(event)
            if isinstance(event, InformationalResponse):
                return self._encode_informational(event)
        elif sending is SENDING_BODY:
            if isinstance(event, Data):
                return self._body.data(event.data)
            if isinstance(event, EndOfMessage):
                ending = self._body.end(event.trailers)
                self._sending = Sending.DONE
                return ending
        raise LocalProtocolError(f"{type(event).__name__} where {sending.value} may be sent")

    def _encode_informational(self, event: InformationalResponse) -> bytes:
        if not 100 <= event.status <= 199 or event.status == 101:
            raise LocalProtocolError(f"{event.status} is not an interim response")
        head = encode_response_head(event.status, event.reason, event.headers)
        return b"" if self._version == b"1.0" else head

    def _encode_head(self, event: ResponseHead) -> bytes:
        status, headers = event.status, event.headers
        if status < 200:
            raise LocalProtocolError(f"{status} is not a final response")
        length = self._response_length(headers)
        connects = self._method == b"CONNECT" and status < 300
        if (status == 204 or connects) and length is not None:
            # RFC 9110 8.6: not in a 204, where many applications send a zero, nor in a 2xx to CONNECT.
            headers = [field for field in headers if field[0].lower() != b"content-length"]
        lines = b""
        if connects:  # RFC 9110 9.3.6: the tunnel begins behind the head
            self._body = BodyWriter(Framing.NONE)
            head = encode_response_head(status, event.reason, headers)
            self._sending = SENDING_BODY
            return head
        if self._method == b"HEAD" or status in BODILESS:  # RFC 9112 6.3
            self._body = BodyWriter(Framing.NONE)
        elif length is not None:
            self._body = BodyWriter(Framing.LENGTH, length)
        elif self._version == b"1.1":
            self._body = BodyWriter(Framing.CHUNKED)
            lines = CHUNKED_FIELD
        else:  # RFC 9112 6.1: no Transfer-Encoding for an HTTP/1.0 client
            self._body = BodyWriter(Framing.UNTIL_CLOSE)
            self.keep_alive = False
        head = encode_response_head(status, event.reason, headers, lines + self._connection_line(headers))
        self._sending = SENDING_BODY
        return head

    @staticmethod
    def _response_length(headers: Headers) -> int | None:
        length: int | None = None
        for name, value in headers:
            name = name.lower()
            if name == b"content-length":
                if length is not None:
                    raise LocalProtocolError("more than one Content-Length")
                length = content_length(value)
            elif name == b"transfer-encoding":
                raise LocalProtocolError("Transfer-Encoding is the codec's to choose")
        return length

    def _connection_line(self, headers: Headers) -> bytes:
        """The Connection field that the head lacks (RFC 9112 9.3)."""
        given = [value for name, value in headers if name.lower() == b"connection"]
        if given:
            self.keep_alive = self.keep_alive and b"close" not in list_tokens(b",".join(given))
            return b""
        if not self.keep_alive:
            return CLOSE_FIELD
        return KEEP_ALIVE_FIELD if self._version == b"1.0" else b""
