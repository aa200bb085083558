"""FastCGI 1.0 in the role of the web server: sends a request, receives the response.

One request at a time per connection, always with id 1: uWSGI answers with that id whatever it was asked,
and few applications multiplex. Nothing the peer sends obliges an answer, so there is no ``data_to_send``.
Pooling, deadlines and choosing another address are the caller's.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final, TypeAlias

from gateway.protocols.cgi import HEAD_LIMIT, CgiEvent, ResponseParser
from gateway.protocols.cgi import State as CgiState
from gateway.protocols.errors import Incomplete, LocalProtocolError, RemoteProtocolError, RequestRefused
from gateway.protocols.events import (
    NEED_DATA,
    Data,
    EndOfMessage,
    Headers,
    NeedData,
    RequestEvent,
    RequestVariables,
    Stderr,
)
from gateway.protocols.fastcgi.records import (
    ABORT_REQUEST,
    DATA,
    END_REQUEST,
    FROM_APPLICATIONS,
    GET_VALUES_RESULT,
    MANAGEMENT_LIMIT,
    REFUSALS,
    STDERR,
    STDIN,
    STDOUT,
    UNKNOWN_TYPE,
    FilterData,
    RecordReader,
    Role,
    decode_end_request,
    encode_begin_request,
    encode_end_request,
    encode_record,
    encode_stream,
    not_from_applications,
)
from gateway.protocols.fastcgi.variables import VARIABLES_LIMIT, decode_pairs, encode_params
from gateway.protocols.variables import declared_length

_ID: Final = 1

NOT_FOR_AUTHORIZERS: Final = frozenset({"CONTENT_LENGTH", "PATH_INFO", "PATH_TRANSLATED", "SCRIPT_NAME"})
"""FastCGI 6.3: variables that an authorizer is not sent."""

# FastCGI 6.4: what a Filter is told of the file.
_FOR_FILTERS: Final = frozenset({"FCGI_DATA_LAST_MOD", "FCGI_DATA_LENGTH"})


class Sending(Enum):
    """What may be sent next."""

    IDLE = "idle"
    """No request is active: RequestVariables."""
    BODY = "body"
    """Data, or EndOfMessage."""
    FILTER_DATA = "filter data"
    """FilterData, empty at its end."""
    DONE = "done"
    """Nothing: the whole request was sent, or it was aborted."""
    CLOSED = "closed"
    """Nothing: the connection has served its purpose."""
    ERROR = "error"
    """Nothing: something illegal was tried or received."""


class Receiving(Enum):
    """What may come next."""

    IDLE = "idle"
    """No request is active: nothing that matters."""
    RESPONSE = "response"
    """Records of the response."""
    END = "end"
    """END_REQUEST has come: only what was received before is still to be given."""
    ABORTED = "aborted"
    """The request was aborted: END_REQUEST; the rest of the response is dropped."""
    CLOSED = "closed"
    """The connection has served its purpose: nothing that matters."""
    ERROR = "error"
    """The application broke a rule; each call says so again."""


# Event: the state it is legal in, and the next one; absent = illegal. An Authorizer gets no body (6.3),
# only a Filter gets FilterData (6.4), and its empty one leads on to DONE.
_RESPONDER_MOVES: Final[dict[type, tuple[Sending, Sending]]] = {
    RequestVariables: (Sending.IDLE, Sending.BODY),
    Data: (Sending.BODY, Sending.BODY),
    EndOfMessage: (Sending.BODY, Sending.DONE),
}
_MOVES: Final[Mapping[Role, Mapping[type, tuple[Sending, Sending]]]] = {
    Role.RESPONDER: _RESPONDER_MOVES,
    Role.AUTHORIZER: {event: move for event, move in _RESPONDER_MOVES.items() if event is not Data},
    Role.FILTER: _RESPONDER_MOVES
    | {
        EndOfMessage: (Sending.BODY, Sending.FILTER_DATA),
        FilterData: (Sending.FILTER_DATA, Sending.FILTER_DATA),
    },
}
_NOWHERE: Final = (None, Sending.ERROR)

_FINISHED: Final = (Receiving.CLOSED, Receiving.ERROR)

SentEvent: TypeAlias = RequestEvent | FilterData
ReceivedEvent: TypeAlias = CgiEvent | Stderr


# As globals: members of an Enum are found slowly (`gateway.protocols`).
_SENDING_CLOSED: Final = Sending.CLOSED
_SENDING_DONE: Final = Sending.DONE
_SENDING_ERROR: Final = Sending.ERROR
_SENDING_IDLE: Final = Sending.IDLE
_RECEIVING_ABORTED: Final = Receiving.ABORTED
_RECEIVING_CLOSED: Final = Receiving.CLOSED
_RECEIVING_END: Final = Receiving.END
_RECEIVING_ERROR: Final = Receiving.ERROR
_RECEIVING_IDLE: Final = Receiving.IDLE
_RECEIVING_RESPONSE: Final = Receiving.RESPONSE


_PARSING_HEAD: Final = CgiState.HEAD

_END_OF_STDIN: Final = encode_record(STDIN, _ID)

# What follows the one STDOUT record of a small response that succeeded: libfcgi, php-fpm and flup end the
# stream, others leave that out (FastCGI 3.3, 5.5).
_SUCCESS: Final = encode_end_request(_ID)
_SUCCESSES: Final = frozenset({encode_record(STDOUT, _ID) + _SUCCESS, _SUCCESS})


class FastCgiClient:
    """One connection to an application.

    ``keep_connection`` asks the application to leave it open after a response (FastCGI 5.1 KEEP_CONN).
    ``variables_limit`` bounds the encoded variables, ``head_limit`` the head of a response, in bytes.

    A response may begin, and end, before the request was sent whole (6.2): receive while sending, and
    stop sending at EndOfMessage.
    """

    __slots__ = (
        "_application_status",
        "_begin",
        "_body_left",
        "_error",
        "_head_limit",
        "_keep_connection",
        "_moves",
        "_parser",
        "_parser_has_more",
        "_reader",
        "_receiving",
        "_role",
        "_sending",
        "_sound",
        "_stdout_ended",
        "_variables_limit",
        "values",
    )

    def __init__(
        self,
        *,
        keep_connection: bool = False,
        role: Role = Role.RESPONDER,
        variables_limit: int = VARIABLES_LIMIT,
        head_limit: int = HEAD_LIMIT,
    ) -> None:
        self._keep_connection = keep_connection
        self._role = role
        self._moves = _MOVES[role]
        self._variables_limit = variables_limit
        self._head_limit = head_limit
        self._begin = encode_begin_request(_ID, role, keep_connection=keep_connection)
        self._reader = RecordReader(status=502)
        self._sending = _SENDING_IDLE
        self._receiving = _RECEIVING_IDLE
        self._parser = ResponseParser()
        self._parser_has_more = False
        self._stdout_ended = False
        # Bytes of the body that CONTENT_LENGTH still promises; None if it promises nothing.
        self._body_left: int | None = None
        # Whether all that came so far was in place: a doubtful connection serves no second request.
        self._sound = True
        self._error: RemoteProtocolError | None = None
        self._application_status = 0
        """The appStatus of the last END_REQUEST: the exit status of a CGI program (FastCGI 5.5)."""
        self.values: dict[str, str] | None = None
        """What GET_VALUES_RESULT told; empty if the application does not know GET_VALUES (4.1, 4.2)."""

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent on this connection.

        False while a request is active, when the connection is not to be kept, when the application
        closed it, and when anything came that no request had asked for.
        """
        return (
            self._sending is _SENDING_IDLE
            and self._keep_connection
            and self._sound
            and not self._reader.eof
            and self._reader.at_boundary
        )

    # Sending

    def send(self, event: SentEvent) -> bytes:
        """The bytes that say *event*.

        Raises LocalProtocolError for an event that is illegal now or cannot be expressed, TooLargeToEncode
        for variables above the limit.
        """
        try:
            return self._send(event)
        except LocalProtocolError:
            self._sending = _SENDING_ERROR
            raise

    def _send(self, event: SentEvent) -> bytes:
        state, following = self._moves.get(type(event), _NOWHERE)
        if state is not self._sending:
            raise LocalProtocolError(
                f"cannot send {type(event).__name__} to a FastCGI {self._role.name.lower()}"
                f" in state {self._sending.name}"
            )
        match event:
            case RequestVariables(variables):
                data = self._begin_request(variables)
            case Data(content):
                data = self._body(content)
            case EndOfMessage(trailers):
                if trailers:
                    raise LocalProtocolError("a FastCGI request cannot carry trailers")
                # FastCGI 6.1: the end of STDIN is sent even if there was no body.
                data = _END_OF_STDIN
            case _:
                assert isinstance(event, FilterData)  # the only other event that has a move
                data = encode_stream(DATA, _ID, event.data)
                if not event.data:
                    following = _SENDING_DONE
                    data = encode_record(DATA, _ID)
        self._sending = following
        return data

    def _begin_request(self, variables: dict[str, str]) -> bytes:
        if not (self._sound and self._reader.at_boundary and not self._reader.eof):
            raise LocalProtocolError("the connection is not fit for another request")
        if self._role is Role.AUTHORIZER and (wrong := NOT_FOR_AUTHORIZERS.intersection(variables)):
            raise LocalProtocolError(f"not for an authorizer: {', '.join(sorted(wrong))}")
        if self._role is Role.FILTER and (missing := _FOR_FILTERS.difference(variables)):
            raise LocalProtocolError(f"missing for a filter: {', '.join(sorted(missing))}")
        try:
            self._body_left = declared_length(variables)
        except ValueError as error:
            raise LocalProtocolError(str(error)) from error
        params = encode_params(_ID, variables, self._variables_limit)
        self._parser = ResponseParser(
            head_limit=self._head_limit,
            http_status_line=True,
            head_request=variables.get("REQUEST_METHOD") == "HEAD",
        )
        self._parser_has_more = self._stdout_ended = False
        self._application_status = 0
        self._receiving = _RECEIVING_RESPONSE
        return self._begin + params

    def _body(self, content: bytes) -> bytes:
        if self._body_left is not None:
            # FastCGI 6.2: never more than CONTENT_LENGTH; less if the client failed.
            if len(content) > self._body_left:
                raise LocalProtocolError("the body is longer than CONTENT_LENGTH")
            self._body_left -= len(content)
        return encode_stream(STDIN, _ID, content)

    def abort(self) -> bytes:
        """The bytes that ask the application to end the request (FastCGI 5.4).

        What is still to come of the response is dropped: the next event is EndOfMessage, when the
        application has answered. Closing the connection is as legal, and sooner.
        """
        if self._receiving is not _RECEIVING_RESPONSE or self._sending is _SENDING_ERROR:
            raise LocalProtocolError(
                f"no request to abort in state {self._sending.name}, {self._receiving.name}"
            )
        self._sending = _SENDING_DONE
        self._receiving = _RECEIVING_ABORTED
        self._parser_has_more = False
        return encode_record(ABORT_REQUEST, _ID)

    # Receiving

    def receive_data(self, data: bytes) -> None:
        """Store bytes from the application; ``b""`` is the end of input."""
        if not data or self._receiving not in _FINISHED:
            self._reader.receive_data(data)

    def next_event(self) -> ReceivedEvent | NeedData:
        """The next event, or NEED_DATA.

        Raises RemoteProtocolError (status 502) for what is no FastCGI or no CGI response, Incomplete if
        the application closed the connection before END_REQUEST, RequestRefused if it refused.
        """
        if self._error is not None:
            raise self._error.again()
        try:
            if self._parser_has_more:
                event = self._from_parser()
                if event is not NEED_DATA:
                    return event
            return self._from_records()
        except RemoteProtocolError as error:
            self._error = error.again()
            self._sending = _SENDING_ERROR
            self._receiving = _RECEIVING_ERROR
            raise

    def _from_records(self) -> ReceivedEvent | NeedData:
        if self._whole_response():
            return self._from_parser()
        if self._receiving is _RECEIVING_CLOSED:
            # Nothing that comes now can harm a response that was complete.
            return NEED_DATA
        while (record := self._reader.next_record()) is not None:
            record_type, request_id, content = record
            if request_id != _ID or self._receiving is not _RECEIVING_RESPONSE:
                event = self._outside_response(record_type, request_id, content)
            elif record_type == STDOUT:
                event = self._stdout(content)
            else:
                event = self._other_record(record_type, content)
            if event is not NEED_DATA:
                return event
        if self._reader.eof and self._receiving in (_RECEIVING_RESPONSE, _RECEIVING_ABORTED):
            # FastCGI 5.5: only END_REQUEST ends a request.
            raise Incomplete("the application closed the connection before END_REQUEST", status=502)
        return NEED_DATA

    def _whole_response(self) -> bool:
        """Take a response that is here whole, in the form that most small ones have; False if it is not.

        One STDOUT record, its end, and an END_REQUEST that reports success. What this says is the same as
        taking the records one by one, at a third of the cost.
        """
        if (
            self._receiving is not _RECEIVING_RESPONSE
            or self._parser.state is not _PARSING_HEAD
            or self._stdout_ended
        ):
            return False
        content = self._reader.take_single(STDOUT, _ID, _SUCCESSES)
        if content is None:
            return False
        self._receiving = _RECEIVING_END
        self._stdout_ended = True
        self._parser.receive_data(content)
        self._parser.receive_data(b"")
        return True

    def _stdout(self, content: bytes) -> ReceivedEvent | NeedData:
        if not content:
            # The response is complete only with END_REQUEST: it may be a refusal (5.5).
            self._stdout_ended = True
            return NEED_DATA
        if self._stdout_ended:
            raise RemoteProtocolError("FastCGI STDOUT after its end", status=502)
        self._parser.receive_data(content)
        return self._from_parser()

    def _other_record(self, record_type: int, content: bytes) -> ReceivedEvent | NeedData:
        if record_type == STDERR:
            return Stderr(content) if content else NEED_DATA
        if record_type != END_REQUEST:
            raise not_from_applications(record_type)
        self._end_request(content)
        self._receiving = _RECEIVING_END
        # FastCGI 3.3, 6.1: END_REQUEST ends STDOUT even if its empty record is missing.
        self._parser.receive_data(b"")
        return self._from_parser()

    def _end_request(self, content: bytes) -> None:
        self._application_status, protocol_status = decode_end_request(content)
        if protocol_status:
            refusal = REFUSALS.get(protocol_status)
            if refusal is None:
                raise RemoteProtocolError(f"unknown FastCGI protocolStatus {protocol_status}", status=502)
            raise RequestRefused(refusal)

    def _outside_response(
        self, record_type: int, request_id: int, content: bytes
    ) -> ReceivedEvent | NeedData:
        """Take a record that is no part of a response being received."""
        if not request_id:
            self._management(record_type, content)  # FastCGI 4.2: unknown ones are ignored
        elif record_type not in FROM_APPLICATIONS:
            raise not_from_applications(record_type)
        elif request_id != _ID or self._receiving is not _RECEIVING_ABORTED:
            # FastCGI 3.3: records of inactive requests are ignored. But this id will be used again,
            # and what comes late once may come late into another response.
            self._sound = False
        elif record_type == STDERR and content:
            return Stderr(content)
        elif record_type == END_REQUEST:
            self._end_request(content)
            return self._complete(EndOfMessage())
        return NEED_DATA

    def _management(self, record_type: int, content: bytes) -> None:
        if record_type == GET_VALUES_RESULT:
            self.values = decode_pairs(content, limit=MANAGEMENT_LIMIT, status=502)
        elif record_type == UNKNOWN_TYPE:
            self.values = {}

    def _from_parser(self) -> ReceivedEvent | NeedData:
        event = self._parser.next_event()
        if type(event) is EndOfMessage:
            if event.surplus:
                # More of it may follow, and END_REQUEST has perhaps not come.
                self._sound = False
            return self._complete(event)
        self._parser_has_more = event is not NEED_DATA
        return event

    def _complete(self, event: EndOfMessage) -> EndOfMessage:
        self._parser_has_more = False
        event.application_status = self._application_status
        if self._sending is _SENDING_DONE and self._keep_connection:
            self._sending = _SENDING_IDLE
            self._receiving = _RECEIVING_IDLE
        else:
            # An application that answered early may still be reading the request (FastCGI 6.2).
            if self._sending is not _SENDING_ERROR:
                self._sending = _SENDING_CLOSED
            self._receiving = _RECEIVING_CLOSED
        return event


def authorizer_variables(headers: Headers) -> dict[str, str]:
    """The request variables that an Authorizer's 200 response adds: its ``Variable-X`` fields (FastCGI 6.3).

    Any other status is the response to the client; the other fields and the body of a 200 are ignored.
    """
    prefix = b"variable-"
    return {
        name[len(prefix) :].decode("latin-1").upper(): value.decode("latin-1")
        for name, value in headers
        if name.startswith(prefix)
    }
