"""FastCGI 1.0 in the role of the application: receives a request, sends the response.

One request at a time: another one begun meanwhile is refused with CANT_MPX_CONN (FastCGI 5.5). This is
the one role that must answer by itself: management records (section 4), refusals, an abort before the
variables were complete. So the caller sends :meth:`FastCgiServer.data_to_send` after each ``next_event``.
"""

from collections.abc import Collection, Mapping
from enum import Enum
from typing import Final, TypeAlias

from gateway.protocols.cgi import encode_response
from gateway.protocols.errors import (
    Incomplete,
    LimitExceeded,
    LocalProtocolError,
    Refusal,
    RemoteProtocolError,
)
from gateway.protocols.events import (
    NEED_DATA,
    Data,
    EndOfMessage,
    LocalRedirect,
    NeedData,
    RequestEvent,
    RequestVariables,
    ResponseEvent,
    ResponseHead,
    Stderr,
)
from gateway.protocols.fastcgi.records import (
    ABORT_REQUEST,
    BEGIN_REQUEST,
    DATA,
    GET_VALUES,
    GET_VALUES_RESULT,
    MANAGEMENT_LIMIT,
    PARAMS,
    STDERR,
    STDIN,
    STDOUT,
    TYPE_NAMES,
    AbortRequest,
    FilterData,
    RecordReader,
    Role,
    decode_begin_request,
    encode_end_request,
    encode_record,
    encode_stream,
    encode_unknown_type,
)
from gateway.protocols.fastcgi.variables import PAIR_LIMIT, VARIABLES_LIMIT, decode_pairs, encode_pairs
from gateway.protocols.variables import declared_length

REPLIES_LIMIT: Final = 16 * 1024
"""Bytes of answers not fetched yet. One read of 64 KiB can ask some hundred times more than anyone does."""

_FROM_WEB_SERVERS: Final = frozenset({BEGIN_REQUEST, ABORT_REQUEST, PARAMS, STDIN, DATA})


class Receiving(Enum):
    """What may come next."""

    IDLE = "idle"
    """BEGIN_REQUEST."""
    PARAMS = "params"
    """PARAMS, up to the empty one."""
    BODY = "body"
    """STDIN, up to the empty one; for a Filter DATA too, before, after or between."""
    DONE = "done"
    """Nothing: the request is complete. ABORT_REQUEST may still come."""
    ABORTED = "aborted"
    """Nothing: what comes of the request is dropped until it is ended."""
    CLOSED = "closed"
    """Nothing: the web server left it to us to close the connection, and it is time."""
    ERROR = "error"
    """The web server broke a rule; each call says so again."""


class Sending(Enum):
    """What may be sent next."""

    IDLE = "idle"
    """Nothing: no RequestVariables was given yet."""
    HEAD = "head"
    """ResponseHead, LocalRedirect or Stderr."""
    BODY = "body"
    """Data, Stderr or EndOfMessage."""
    END = "end"
    """EndOfMessage or Stderr: a local redirect has no body."""
    CLOSED = "closed"
    """Nothing: the connection is to be closed."""
    ERROR = "error"
    """Nothing: something illegal was tried or received."""


# Absent = illegal. EndOfMessage of a connection that is not to be kept leads to CLOSED instead.
_MOVES: Final[Mapping[tuple[Sending, type], Sending]] = {
    (Sending.HEAD, ResponseHead): Sending.BODY,
    (Sending.HEAD, LocalRedirect): Sending.END,
    (Sending.HEAD, Stderr): Sending.HEAD,
    (Sending.BODY, Data): Sending.BODY,
    (Sending.BODY, Stderr): Sending.BODY,
    (Sending.BODY, EndOfMessage): Sending.IDLE,
    (Sending.END, Stderr): Sending.END,
    (Sending.END, EndOfMessage): Sending.IDLE,
}
_ACTIVE: Final = (Sending.HEAD, Sending.BODY, Sending.END)

ReceivedEvent: TypeAlias = RequestEvent | FilterData | AbortRequest


class FastCgiServer:
    """One connection from a web server.

    ``roles`` are the ones taken; others are refused. ``variables_limit`` bounds the variables of a request
    in bytes, ``pair_limit`` in number. ``max_connections`` and ``max_requests`` are what GET_VALUES is
    told (FastCGI 4.1).
    """

    __slots__ = (
        "_body_left",
        "_due",
        "_error",
        "_file_left",
        "_file_open",
        "_id",
        "_keep_connection",
        "_max_connections",
        "_max_requests",
        "_pair_limit",
        "_params",
        "_reader",
        "_receiving",
        "_replies",
        "_role",
        "_roles",
        "_sending",
        "_stdin_open",
        "_variables_limit",
        "application_status",
    )

    def __init__(
        self,
        *,
        roles: Collection[Role] = (Role.RESPONDER,),
        max_connections: int = 1,
        max_requests: int = 1,
        variables_limit: int = VARIABLES_LIMIT,
        pair_limit: int = PAIR_LIMIT,
    ) -> None:
        self._roles = {role.value: role for role in roles}
        self._max_connections = max_connections
        self._max_requests = max_requests
        self._variables_limit = variables_limit
        self._pair_limit = pair_limit
        self._reader = RecordReader(status=400)
        self._receiving = Receiving.IDLE
        self._sending = Sending.IDLE
        self._error: RemoteProtocolError | None = None
        self._replies = bytearray()
        # The active request. Its id is 0 while there is none.
        self._id = 0
        self._role = Role.RESPONDER
        self._keep_connection = False
        self._params = bytearray()
        self._stdin_open = False
        self._file_open = False
        # What the next call gives or raises without another record.
        self._due: EndOfMessage | RemoteProtocolError | None = None
        # Bytes that CONTENT_LENGTH and FCGI_DATA_LENGTH still promise; None if they promise nothing.
        self._body_left: int | None = None
        self._file_left: int | None = None
        self.application_status = 0
        """The appStatus that END_REQUEST is to tell (FastCGI 5.5); 0 again for the next request."""

    @property
    def receiving(self) -> Receiving:
        return self._receiving

    @property
    def sending(self) -> Sending:
        return self._sending

    @property
    def role(self) -> Role:
        """What the web server wants done with the request begun last."""
        return self._role

    @property
    def keep_connection(self) -> bool:
        """Whether the web server closes the connection after the request begun last (FastCGI 5.1)."""
        return self._keep_connection

    @property
    def must_close(self) -> bool:
        """Whether all was said: close the connection once it is sent (FastCGI 3.5)."""
        return self._sending in (Sending.CLOSED, Sending.ERROR)

    # Sending

    def send(self, event: ResponseEvent) -> bytes:
        """The bytes that say *event*.

        Raises LocalProtocolError for an event that is illegal now or cannot be expressed.
        """
        try:
            return self._send(event)
        except LocalProtocolError:
            self._sending = Sending.ERROR
            raise

    def _send(self, event: ResponseEvent) -> bytes:
        following = _MOVES.get((self._sending, type(event)))
        if following is None:
            raise LocalProtocolError(
                f"cannot send {type(event).__name__} to a FastCGI web server in state {self._sending.name}"
            )
        if type(event) is Stderr:
            return encode_stream(STDERR, self._id, event.data)
        data = encode_stream(STDOUT, self._id, encode_response(event))
        if type(event) is EndOfMessage:
            return encode_record(STDOUT, self._id) + self._end_request()
        self._sending = following
        return data

    def refuse(self, refusal: Refusal) -> bytes:
        """The bytes that refuse the request just received, before any response (FastCGI 5.5)."""
        if self._sending is not Sending.HEAD:
            raise LocalProtocolError(f"no request to refuse in state {self._sending.name}")
        return self._end_request(refusal)

    def abandon(self) -> bytes:
        """The bytes that end the request at once, complete or not: the answer to AbortRequest (5.4)."""
        if self._sending not in _ACTIVE:
            raise LocalProtocolError(f"no request to end in state {self._sending.name}")
        return self._end_request()

    def _end_request(self, refusal: Refusal | None = None) -> bytes:
        end = encode_end_request(self._id, application_status=self.application_status, refusal=refusal)
        # What still comes of this request is for an inactive id, and so ignored (FastCGI 3.3).
        self._id = 0
        self._params = bytearray()
        self._due = None
        self.application_status = 0
        if self._keep_connection:
            self._sending = Sending.IDLE
            self._receiving = Receiving.IDLE
        else:
            self._sending = Sending.CLOSED
            self._receiving = Receiving.CLOSED
        return end

    def data_to_send(self) -> bytes:
        """What the codec itself has to answer; send it before anything else."""
        if not self._replies:
            return b""
        data = bytes(self._replies)
        self._replies.clear()
        return data

    # Receiving

    def receive_data(self, data: bytes) -> None:
        """Store bytes from the web server; ``b""`` is the end of input."""
        if not data or self._receiving not in (Receiving.CLOSED, Receiving.ERROR):
            self._reader.receive_data(data)

    def next_event(self) -> ReceivedEvent | NeedData:
        """The next event, or NEED_DATA; then ask for ``data_to_send``.

        Raises RemoteProtocolError (status 400, or 431 for too many variables) for what is no FastCGI or
        contradicts CONTENT_LENGTH, Incomplete if the connection ended inside a request.
        """
        if self._error is not None:
            raise self._error.again()
        try:
            return self._next()
        except RemoteProtocolError as error:
            self._error = error.again()
            self._receiving = Receiving.ERROR
            self._sending = Sending.ERROR
            raise

    def _next(self) -> ReceivedEvent | NeedData:
        if self._due is not None:
            due, self._due = self._due, None
            if isinstance(due, RemoteProtocolError):
                raise due
            return due
        while self._receiving is not Receiving.CLOSED:
            record = self._reader.next_record()
            if record is None:
                break
            event = self._record(*record)
            if event is not NEED_DATA:
                return event
        if self._reader.eof and (
            self._receiving in (Receiving.PARAMS, Receiving.BODY)
            or (self._receiving is Receiving.IDLE and not self._reader.at_boundary)
        ):
            raise Incomplete("the web server closed the connection inside a request")
        return NEED_DATA

    def _record(self, record_type: int, request_id: int, content: bytes) -> ReceivedEvent | NeedData:
        if not request_id:
            self._management(record_type, content)
        elif record_type not in _FROM_WEB_SERVERS:
            raise RemoteProtocolError(f"FastCGI {TYPE_NAMES[record_type]} record from a web server")
        elif record_type == BEGIN_REQUEST:
            self._begin_request(request_id, content)
        elif request_id == self._id and self._receiving is not Receiving.ABORTED:
            return self._active_record(record_type, content)
        # FastCGI 3.3: records of inactive requests are ignored.
        return NEED_DATA

    def _begin_request(self, request_id: int, content: bytes) -> None:
        role_number, keep_connection = decode_begin_request(content)
        if request_id == self._id:
            raise RemoteProtocolError(f"FastCGI BEGIN_REQUEST for the active request {request_id}")
        if self._id:
            self._reply(encode_end_request(request_id, refusal=Refusal.CANT_MULTIPLEX))
            return
        self._id = request_id
        self._keep_connection = keep_connection
        role = self._roles.get(role_number)
        if role is None:
            self._reply(self._end_request(Refusal.UNKNOWN_ROLE))
            return
        self._role = role
        self._receiving = Receiving.PARAMS

    def _active_record(self, record_type: int, content: bytes) -> ReceivedEvent | NeedData:
        if record_type == ABORT_REQUEST:
            return self._abort()
        if self._receiving is Receiving.PARAMS:
            if record_type == PARAMS:
                return self._params_content(content)
        elif record_type == STDIN and self._stdin_open:
            return self._stdin_content(content)
        elif record_type == DATA and self._file_open:
            return self._file_content(content)
        elif record_type == STDIN and not content:
            # The end said again, or of an Authorizer's body, which some web servers send (6.3).
            return NEED_DATA
        raise RemoteProtocolError(f"FastCGI {TYPE_NAMES[record_type]} record in state {self._receiving.name}")

    def _params_content(self, content: bytes) -> RequestVariables | NeedData:
        if content:
            # One block: a list of its pieces would take twenty times the limit if they are of two bytes each.
            self._params += content
            if len(self._params) > self._variables_limit:
                raise LimitExceeded(f"more than {self._variables_limit} bytes of variables", status=431)
            return NEED_DATA
        variables = decode_pairs(bytes(self._params), limit=self._pair_limit)
        self._params = bytearray()
        self._stdin_open = self._role is not Role.AUTHORIZER
        self._file_open = self._role is Role.FILTER
        if self._stdin_open:
            self._body_left = _declared_length(variables, "CONTENT_LENGTH")
            self._receiving = Receiving.BODY
        else:
            # FastCGI 6.3: an Authorizer gets PARAMS and nothing else.
            self._due = EndOfMessage()
            self._receiving = Receiving.DONE
        if self._file_open:
            self._file_left = _declared_length(variables, "FCGI_DATA_LENGTH")
        self._sending = Sending.HEAD
        return RequestVariables(variables)

    def _stdin_content(self, content: bytes) -> Data | EndOfMessage:
        # FastCGI 6.2: a Responder should compare what comes with CONTENT_LENGTH.
        if self._body_left is not None:
            content = self._within(self._body_left, content, "STDIN")
            self._body_left -= len(content)
        if content:
            return Data(content)
        self._stdin_open = False
        self._stream_ended()
        return EndOfMessage()

    def _file_content(self, content: bytes) -> FilterData:
        # FastCGI 6.4: the same for a Filter.
        if self._file_left is not None:
            content = self._within(self._file_left, content, "DATA")
            self._file_left -= len(content)
        if not content:
            self._file_open = False
            self._stream_ended()
        return FilterData(content)

    def _within(self, left: int, content: bytes, stream: str) -> bytes:
        """The part of *content* that the declared length has room for; the rest is an error due next."""
        if not content and left:
            raise Incomplete(f"FastCGI {stream} ended {left} bytes short of its declared length")
        if len(content) > left:
            too_long = RemoteProtocolError(f"FastCGI {stream} is longer than its declared length")
            if not left:
                raise too_long
            self._due = too_long
        return content[:left]

    def _stream_ended(self) -> None:
        if not self._stdin_open and not self._file_open:
            self._receiving = Receiving.DONE

    def _abort(self) -> AbortRequest | NeedData:
        if self._sending is Sending.IDLE:
            # No one has been told of this request yet.
            self._reply(self._end_request())
            return NEED_DATA
        self._receiving = Receiving.ABORTED
        self._due = None
        return AbortRequest()

    # Management records (FastCGI 4)

    def _management(self, record_type: int, content: bytes) -> None:
        if record_type == GET_VALUES:
            known = {
                "FCGI_MAX_CONNS": str(self._max_connections),
                "FCGI_MAX_REQS": str(self._max_requests),
                "FCGI_MPXS_CONNS": "0",
            }
            names = decode_pairs(content, limit=MANAGEMENT_LIMIT)
            values = {name: known[name] for name in names if name in known}
            self._reply(encode_record(GET_VALUES_RESULT, 0, encode_pairs(values)))
        elif record_type not in TYPE_NAMES:
            self._reply(encode_unknown_type(record_type))

    def _reply(self, data: bytes) -> None:
        self._replies += data
        if len(self._replies) > REPLIES_LIMIT:
            raise LimitExceeded(f"more than {REPLIES_LIMIT} bytes of answers to management records")


def _declared_length(variables: dict[str, str], name: str) -> int | None:
    try:
        return declared_length(variables, name)
    except ValueError as error:
        raise RemoteProtocolError(str(error)) from error
