"""AJP/1.3 in the role of the web server: sends a request, receives the response.

The body is the container's to ask for: only the first packet of one whose length is known goes out by itself
(Request Packet Structure), each further one answers a Get Body Chunk (AJP-6). So `send` keeps what is not
asked for yet, and :class:`BodyWanted` says that more of it can go.

One request at a time (AJP-8). SHUTDOWN is never sent (AJP-9).
"""

from enum import Enum
from typing import Final

from gateway.protocols.ajp.packets import (
    CPING_PACKET,
    CPONG,
    DEFAULT_PACKET_SIZE,
    END_RESPONSE,
    FROM_CONTAINER,
    GET_BODY_CHUNK,
    SEND_BODY_CHUNK,
    SEND_HEADERS,
    Cursor,
    PacketReader,
    body_room,
    encode_body,
)
from gateway.protocols.ajp.request import content_length, encode_request
from gateway.protocols.ajp.response import decode_chunk, decode_head, promised_length
from gateway.protocols.buffer import ReceiveBuffer
from gateway.protocols.codec import PullingClient
from gateway.protocols.errors import Incomplete, LocalProtocolError, RemoteProtocolError
from gateway.protocols.events import (
    NEED_DATA,
    BodyWanted,
    Data,
    EndOfMessage,
    NeedData,
    RequestEvent,
    RequestVariables,
    ResponseEvent,
    ResponseHead,
)


class Sending(Enum):
    """What may be sent next."""

    IDLE = "idle"
    """No request is active: RequestVariables."""
    BODY = "body"
    """Data, or EndOfMessage."""
    DONE = "done"
    """Nothing: the whole request was given."""
    CLOSED = "closed"
    """Nothing: the connection has served its purpose."""
    ERROR = "error"
    """Nothing: something illegal was tried or received."""


class Receiving(Enum):
    """What may come next."""

    IDLE = "idle"
    """No request is active: CPong."""
    HEAD = "head"
    """Send Headers, or Get Body Chunk."""
    BODY = "body"
    """Send Body Chunk, Get Body Chunk, or End Response."""
    CLOSED = "closed"
    """The connection has served its purpose: nothing that matters."""
    ERROR = "error"
    """The container broke a rule; each call says so again."""


_ACTIVE: Final = (Receiving.HEAD, Receiving.BODY)
_FINISHED: Final = (Receiving.CLOSED, Receiving.ERROR)


class AjpClient(PullingClient):
    """One connection to a container.

    *packet_size* is the container's option of that name (Tomcat: packetSize), *secret* what it wants to be
    told before it believes anything.

    What was given of a body and not asked for is kept here: give no more of it while :attr:`holding`.
    """

    __slots__ = (
        "_error",
        "_held",
        "_packet_size",
        "_reader",
        "_receiving",
        "_room",
        "_secret",
        "_sending",
        "_sound",
        "_surplus",
        "_unreceived",
        "_unsent",
        "_wanted",
        "awaits_pong",
    )

    def __init__(self, *, packet_size: int = DEFAULT_PACKET_SIZE, secret: str | None = None) -> None:
        self._packet_size = packet_size
        self._secret = secret
        self._room = body_room(packet_size)
        self._reader = PacketReader(FROM_CONTAINER, status=502)
        self._sending = Sending.IDLE
        self._receiving = Receiving.IDLE
        self._held = ReceiveBuffer()
        # Bytes that the next packet of the body may have, 0 until one is asked for.
        self._wanted = 0
        # Bytes of the body that are still to be given; None if their number is unknown.
        self._unsent: int | None = None
        # Bytes of the response's body that its Content-Length still promises; None if it promises nothing.
        self._unreceived: int | None = None
        self._surplus = False
        # Whether all that came so far was in place: a doubtful connection serves no second request.
        self._sound = True
        self._error: RemoteProtocolError | None = None
        self.awaits_pong = False
        """A CPing is not answered yet."""

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent: the container agrees (AJP-8), and nothing came unasked."""
        return (
            self._sending is Sending.IDLE
            and self._sound
            and not self.awaits_pong
            and not self._reader.eof
            and self._reader.at_boundary
        )

    @property
    def holding(self) -> bool:
        """Some of the body that was given waits to be asked for."""
        return len(self._held) > 0

    # Sending

    def send(self, event: RequestEvent) -> bytes:
        """The bytes that say *event*: RequestVariables, then Data, then EndOfMessage.

        A body has a CONTENT_LENGTH, or HTTP_TRANSFER_ENCODING is ``chunked``. None of it goes out before the
        container asks: see `data_to_send`. Raises LocalProtocolError for another order, for a body that is
        not as long as CONTENT_LENGTH says and for what AJP cannot say, TooLargeToEncode for variables that do
        not fit in one packet (AJP-10).
        """
        try:
            return self._send(event)
        except LocalProtocolError:
            self._sending = Sending.ERROR
            raise

    def _send(self, event: RequestEvent) -> bytes:
        if isinstance(event, RequestVariables) and self._sending is Sending.IDLE:
            return self._forward(event.variables)
        if isinstance(event, Data) and self._sending is Sending.BODY:
            if self._unsent is not None:
                if len(event.data) > self._unsent:
                    raise LocalProtocolError(
                        f"{len(event.data) - self._unsent} bytes of body more than the variables say"
                    )
                self._unsent -= len(event.data)
            self._held += event.data
            return self.data_to_send()
        if isinstance(event, EndOfMessage) and self._sending is Sending.BODY:
            if self._unsent:
                raise LocalProtocolError(f"{self._unsent} bytes of body less than CONTENT_LENGTH says")
            if event.trailers:
                raise LocalProtocolError("an AJP request cannot carry trailers")
            self._sending = Sending.DONE
            return self.data_to_send()
        raise LocalProtocolError(f"cannot send {type(event).__name__} in state {self._sending.name}")

    def _forward(self, variables: dict[str, str]) -> bytes:
        if not self.reusable:
            raise LocalProtocolError("the connection is not fit for another request")
        try:
            self._unsent = content_length(variables)
        except ValueError as error:
            raise LocalProtocolError(str(error)) from error
        packet = encode_request(variables, packet_size=self._packet_size, secret=self._secret)
        # "If it is present and non-zero, the container ... immediately reads a separate packet".
        self._wanted = self._room if self._unsent else 0
        self._sending = Sending.BODY
        self._receiving = Receiving.HEAD
        return packet

    def data_to_send(self) -> bytes:
        """What of the body can go out: after BodyWanted something, or nothing if it was not given yet."""
        if not self._wanted:
            return b""
        piece = self._held.take_at_most(min(self._wanted, self._room))
        if not piece and self._sending is not Sending.DONE:
            return b""
        self._wanted = 0
        return encode_body(piece)

    def ping(self) -> bytes:
        """A CPing: the container answers it if it is alive, and then `awaits_pong` ends (AJP-9)."""
        if not self.reusable:
            raise LocalProtocolError("no connection to ask for a sign of life")
        self.awaits_pong = True
        return CPING_PACKET

    # Receiving

    def receive_data(self, data: bytes) -> None:
        """Store bytes from the container; ``b""`` is the end of input."""
        if not data or self._receiving not in _FINISHED:
            self._reader.receive_data(data)

    def next_event(self) -> ResponseEvent | NeedData:
        """The next event, or NEED_DATA. More body than Content-Length promises ends the response.

        Raises RemoteProtocolError (status 502), Incomplete if the container closed the connection before
        End Response.
        """
        if self._error is not None:
            raise self._error.again()
        try:
            return self._next_event()
        except RemoteProtocolError as error:
            self._error = error.again()
            self._sending = Sending.ERROR
            self._receiving = Receiving.ERROR
            raise

    def _next_event(self) -> ResponseEvent | NeedData:
        if self._receiving is Receiving.CLOSED:
            return NEED_DATA  # nothing that comes now can harm a response that was complete
        if self._surplus:
            return self._complete(reuse=False)
        while (packet := self._reader.next_packet()) is not None:
            cursor = Cursor(packet, status=502)
            event = self._understand(cursor.byte(), cursor)
            if event is not NEED_DATA:
                return event
        if self._reader.eof and self._receiving in _ACTIVE:
            raise Incomplete("the container closed the connection before End Response", status=502)
        return NEED_DATA

    def _understand(self, code: int, cursor: Cursor) -> ResponseEvent | NeedData:
        if code == CPONG:
            self._sound = self._sound and (self.awaits_pong or self._receiving in _ACTIVE)
            self.awaits_pong = False
        elif self._receiving is Receiving.IDLE:
            self._sound = False
        elif code == GET_BODY_CHUNK:
            if self._wanted:
                raise cursor.malformed("the body is asked for again before it was sent")
            self._wanted = cursor.integer()
            if not self._wanted:
                raise cursor.malformed("nothing of the body is asked for")
            return BodyWanted()
        elif code == SEND_HEADERS and self._receiving is Receiving.HEAD:
            head = decode_head(cursor)
            if isinstance(head, ResponseHead):
                self._receiving = Receiving.BODY
                self._unreceived = promised_length(head)
            return head
        elif code == SEND_BODY_CHUNK:
            data = decode_chunk(cursor)
            if data:
                if self._receiving is not Receiving.BODY:
                    raise cursor.malformed("a body before its head")
                return self._promised(data)
        elif code == END_RESPONSE and self._receiving is Receiving.BODY:
            return self._complete(reuse=cursor.byte() != 0)
        else:
            raise cursor.malformed(f"code {code} in state {self._receiving.name}")
        return NEED_DATA

    def _promised(self, data: bytes) -> Data | EndOfMessage:
        """As much of *data* as belongs to the response."""
        if self._unreceived is None:
            return Data(data)
        promised = data[: self._unreceived]
        self._unreceived -= len(promised)
        self._surplus = len(promised) < len(data)
        return Data(promised) if promised else self._complete(reuse=False)

    def _complete(self, *, reuse: bool) -> EndOfMessage:
        # A packet that the container has asked for would be taken for the next request.
        if reuse and not self._wanted and self._sending is Sending.DONE:
            self._sending = Sending.IDLE
            self._receiving = Receiving.IDLE
        else:
            if self._sending is not Sending.ERROR:
                self._sending = Sending.CLOSED
            self._receiving = Receiving.CLOSED
        self._held = ReceiveBuffer()
        return EndOfMessage(surplus=self._surplus)
