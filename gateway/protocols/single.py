"""One request per connection: what SCGI and uwsgi have in common.

Both send one block of variables, then exactly CONTENT_LENGTH bytes of body; the application answers
with a CGI or HTTP response and closes the connection. Only the form of the block and of the response
head differ, and those are the methods that :mod:`gateway.protocols.scgi` and
:mod:`gateway.protocols.uwsgi` fill in.

The two directions are independent: an application may answer, and even close, while the body is
still being sent. Bytes that come after a complete request are discarded, as no second request can
follow on the connection.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import Enum

from gateway.protocols.buffer import ReceiveBuffer
from gateway.protocols.cgi import ResponseParser
from gateway.protocols.errors import Incomplete, LocalProtocolError, RemoteProtocolError
from gateway.protocols.events import (
    NEED_DATA,
    Data,
    EndOfMessage,
    NeedData,
    RequestEvent,
    RequestVariables,
    ResponseEvent,
    ResponseHead,
)
from gateway.protocols.variables import declared_length


class State(Enum):
    """How far one direction of the connection is."""

    HEAD = "the head"
    """Nothing has gone through; the head comes next."""
    BODY = "the body or its end"
    """The head is through."""
    DONE = "nothing more"
    """The message is complete."""
    ERROR = "nothing more after an error"
    """A rule was broken; every call says so again."""


class SingleRequestClient(ABC):
    """The web server's side of one request."""

    __slots__ = ("_head_request", "_response", "_send_error", "_state", "_unsent")

    def __init__(self) -> None:
        self._state = State.HEAD
        self._unsent = 0
        self._send_error: LocalProtocolError | None = None
        self._head_request = False
        # Made when the request's method is known: the length of an answer to HEAD promises nothing.
        self._response: ResponseParser | None = None

    @property
    def reusable(self) -> bool:
        """Never: the end of the response is the end of the connection."""
        return False

    @abstractmethod
    def _encode_variables(self, variables: Mapping[str, str]) -> bytes:
        """The head of the request, or LocalProtocolError."""

    # Sending

    def send(self, event: RequestEvent) -> bytes:
        """The bytes that say *event*: RequestVariables, then Data, then EndOfMessage.

        Raises LocalProtocolError for another order, for a body that is not as long as CONTENT_LENGTH
        says, and for what the protocol cannot express.
        """
        if self._send_error is not None:
            raise self._send_error.again()
        try:
            return self._send(event)
        except LocalProtocolError as error:
            self._state = State.ERROR
            self._send_error = error.again()
            raise

    def _send(self, event: RequestEvent) -> bytes:
        if isinstance(event, RequestVariables) and self._state is State.HEAD:
            return self._send_variables(event.variables)
        if isinstance(event, Data) and self._state is State.BODY:
            return self._send_body(event.data)
        if isinstance(event, EndOfMessage) and self._state is State.BODY:
            return self._send_end(event)
        raise illegal_event(event, self._state)

    def _send_variables(self, variables: dict[str, str]) -> bytes:
        try:
            content_length = declared_length(variables) or 0
        except ValueError as error:
            raise LocalProtocolError(str(error)) from error
        head = self._encode_variables(variables)
        self._head_request = variables.get("REQUEST_METHOD") == "HEAD"
        if self._response is None:
            self._response = ResponseParser(http_status_line=True, head_request=self._head_request)
        self._unsent = content_length
        self._state = State.BODY
        return head

    def _send_body(self, data: bytes) -> bytes:
        if len(data) > self._unsent:
            raise LocalProtocolError(
                f"{len(data) - self._unsent} bytes of body more than CONTENT_LENGTH says"
            )
        self._unsent -= len(data)
        return data

    def _send_end(self, event: EndOfMessage) -> bytes:
        if self._unsent:
            raise LocalProtocolError(f"{self._unsent} bytes of body less than CONTENT_LENGTH says")
        refuse_trailers(event)
        self._state = State.DONE
        return b""

    # Receiving

    def receive_data(self, data: bytes) -> None:
        """Store bytes of the response; ``b""`` is the end of input."""
        if self._response is None:  # an answer before the request
            self._response = ResponseParser(http_status_line=True)
        self._response.receive_data(data)

    def next_event(self) -> ResponseEvent | NeedData:
        """The next event of the response, or NEED_DATA.

        Raises RemoteProtocolError (status 502), as :class:`gateway.protocols.cgi.ResponseParser` does.
        """
        return NEED_DATA if self._response is None else self._response.next_event()


class SingleRequestServer(ABC):
    """The application's side of one request."""

    __slots__ = (
        "_buffer",
        "_input_ended",
        "_receive_error",
        "_receiving",
        "_send_error",
        "_sending",
        "_unreceived",
    )

    def __init__(self) -> None:
        self._buffer = ReceiveBuffer()
        self._input_ended = False
        self._receiving = State.HEAD
        self._unreceived = 0
        self._receive_error: RemoteProtocolError | None = None
        self._sending = State.HEAD
        self._send_error: LocalProtocolError | None = None

    @abstractmethod
    def _parse_variables(self) -> dict[str, str] | None:
        """The variables of the request, taken from the buffer, None if more bytes are needed.

        Raises RemoteProtocolError as soon as the bytes cannot become a request any more.
        """

    @abstractmethod
    def _encode_head(self, head: ResponseHead) -> bytes:
        """The head of the response, or LocalProtocolError."""

    # Receiving

    def receive_data(self, data: bytes) -> None:
        """Store bytes of the request; ``b""`` is the end of input."""
        if not data:
            self._input_ended = True
        elif self._receiving in {State.HEAD, State.BODY}:
            self._buffer += data

    def next_event(self) -> RequestEvent | NeedData:
        """The next event of the request, or NEED_DATA. Raises RemoteProtocolError."""
        if self._receive_error is not None:
            raise self._receive_error.again()
        try:
            return self._next_event()
        except RemoteProtocolError as error:
            self._receive_error = error.again()
            self._stop_receiving(State.ERROR)
            raise

    def _next_event(self) -> RequestEvent | NeedData:
        if self._receiving is State.HEAD:
            return self._next_head()
        if self._receiving is State.BODY:
            return self._next_body()
        return NEED_DATA

    def _next_head(self) -> RequestEvent | NeedData:
        variables = self._parse_variables()
        if variables is None:
            return self._need_data("the variables")
        try:
            self._unreceived = declared_length(variables) or 0
        except ValueError as error:
            raise RemoteProtocolError(str(error)) from error
        self._receiving = State.BODY
        return RequestVariables(variables)

    def _next_body(self) -> RequestEvent | NeedData:
        if not self._unreceived:
            self._stop_receiving(State.DONE)
            return EndOfMessage()
        piece = self._buffer.take_at_most(self._unreceived)
        if not piece:
            return self._need_data(f"the last {self._unreceived} bytes of the body")
        self._unreceived -= len(piece)
        return Data(piece)

    def _need_data(self, what: str) -> NeedData:
        if self._input_ended:
            raise Incomplete(f"the connection was closed before {what}")
        return NEED_DATA

    def _stop_receiving(self, state: State) -> None:
        self._receiving = state
        self._buffer = ReceiveBuffer()

    # Sending

    def send(self, event: ResponseEvent) -> bytes:
        """The bytes that say *event*: ResponseHead, then Data, then EndOfMessage.

        The response ends with the connection: close it after EndOfMessage. Raises LocalProtocolError
        for another order and for what the protocol cannot express.
        """
        if self._send_error is not None:
            raise self._send_error.again()
        try:
            return self._send(event)
        except LocalProtocolError as error:
            self._sending = State.ERROR
            self._send_error = error.again()
            raise

    def _send(self, event: ResponseEvent) -> bytes:
        if isinstance(event, ResponseHead) and self._sending is State.HEAD:
            refuse_transfer_encoding(event)
            head = self._encode_head(event)
            self._sending = State.BODY
            return head
        if isinstance(event, Data) and self._sending is State.BODY:
            return event.data
        if isinstance(event, EndOfMessage) and self._sending is State.BODY:
            refuse_trailers(event)
            self._sending = State.DONE
            return b""
        raise illegal_event(event, self._sending)


def illegal_event(event: object, state: State) -> LocalProtocolError:
    """The error that names the event and the state it does not fit."""
    return LocalProtocolError(f"cannot send {type(event).__name__} when {state.value} is to be sent")


def refuse_trailers(event: EndOfMessage) -> None:
    """A message that ends with its length or with the connection has no room for trailers."""
    if event.trailers:
        raise LocalProtocolError("trailers cannot be expressed")


def refuse_transfer_encoding(head: ResponseHead) -> None:
    """The body ends with the connection: a field that promises another framing would be believed."""
    if any(name.lower() == b"transfer-encoding" for name, _ in head.headers):
        raise LocalProtocolError("the body cannot have a Transfer-Encoding")
