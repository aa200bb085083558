"""AJP/1.3 in the role of the container: receives a request, sends the response.

The body of a request comes when it is asked for (AJP-6): `next_event` asks as soon as more of it is wanted,
so the caller sends :meth:`AjpServer.data_to_send` after each ``next_event``.

SHUTDOWN, PING (8) and packets that nobody has specified are refused.
"""

import hmac
from enum import Enum
from typing import Final

from gateway.protocols.ajp.packets import (
    CPING,
    CPONG_PACKET,
    DEFAULT_PACKET_SIZE,
    FORWARD_REQUEST,
    FROM_SERVER,
    PacketReader,
    body_room,
)
from gateway.protocols.ajp.request import check_length, decode_request
from gateway.protocols.ajp.response import encode_chunks, encode_end, encode_get_body, encode_head
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

REPLIES_LIMIT: Final = 16 * 1024
"""Bytes of answers not fetched yet; nobody asks for thousands of signs of life at once."""


class Receiving(Enum):
    """What may come next."""

    IDLE = "idle"
    """Forward Request, or CPing."""
    BODY = "body"
    """A packet of the body, if it was asked for."""
    DONE = "done"
    """Nothing, until the response is complete."""
    CLOSED = "closed"
    """Nothing: the connection is to be closed."""
    ERROR = "error"
    """The web server broke a rule; each call says so again."""


class Sending(Enum):
    """What may be sent next."""

    IDLE = "idle"
    """Nothing: no RequestVariables was given yet."""
    HEAD = "head"
    """ResponseHead."""
    BODY = "body"
    """Data, or EndOfMessage."""
    CLOSED = "closed"
    """Nothing: the connection is to be closed."""
    ERROR = "error"
    """Nothing: something illegal was tried or received."""


_FINISHED: Final = (Receiving.CLOSED, Receiving.ERROR)


class AjpServer:
    """One connection of a web server.

    *packet_size* is what the web server is configured to (Apache: ProxyIOBufferSize). With *secret* requests
    that do not know it are refused with status 403.
    """

    __slots__ = (
        "_asked",
        "_error",
        "_packet_size",
        "_reader",
        "_receiving",
        "_replies",
        "_secret",
        "_sending",
        "_unreceived",
    )

    def __init__(self, *, packet_size: int = DEFAULT_PACKET_SIZE, secret: str | None = None) -> None:
        self._packet_size = packet_size
        self._secret = None if secret is None else secret.encode("latin-1")
        self._reader = PacketReader(FROM_SERVER, status=400)
        self._receiving = Receiving.IDLE
        self._sending = Sending.IDLE
        self._replies = b""
        # Bytes of the body that are still to come; None if their number is unknown.
        self._unreceived: int | None = None
        # A packet of the body is on its way.
        self._asked = False
        self._error: RemoteProtocolError | None = None

    def data_to_send(self) -> bytes:
        """What asks for more of the body, or answers a CPing; ``b""`` if there is nothing."""
        replies, self._replies = self._replies, b""
        return replies

    # Receiving

    def receive_data(self, data: bytes) -> None:
        """Store bytes from the web server; ``b""`` is the end of input."""
        if not data or self._receiving not in _FINISHED:
            self._reader.receive_data(data)

    def next_event(self) -> RequestEvent | NeedData:
        """The next event of the request, or NEED_DATA. Raises RemoteProtocolError."""
        if self._error is not None:
            raise self._error.again()
        try:
            return self._next_event()
        except RemoteProtocolError as error:
            self._error = error.again()
            self._receiving = Receiving.ERROR
            raise

    def _next_event(self) -> RequestEvent | NeedData:
        if self._receiving is Receiving.IDLE:
            return self._next_request()
        if self._receiving is Receiving.BODY:
            return self._next_body()
        if self._receiving is Receiving.DONE:
            self._take_nothing()
        return NEED_DATA

    def _next_request(self) -> RequestEvent | NeedData:
        while (packet := self._reader.next_packet()) is not None:
            if not packet:
                continue  # see `_take_nothing`
            code = packet[0]
            if code == CPING:
                if len(self._replies) >= REPLIES_LIMIT:
                    raise RemoteProtocolError("too many signs of life are asked for")
                self._replies += CPONG_PACKET
            elif code == FORWARD_REQUEST:
                return self._request(packet[1:])
            else:
                raise RemoteProtocolError(f"AJP packet with code {code} is refused: not a request")
        return NEED_DATA

    def _take_nothing(self) -> None:
        """Between a request and its response nothing comes, except the empty packet by which lighttpd ends a
        body that has no bytes. It may come after the response, too.
        """
        while (packet := self._reader.next_packet()) is not None:
            if packet:
                raise RemoteProtocolError("something came before the response was complete")

    def _request(self, content: bytes) -> RequestVariables:
        request = decode_request(content)
        if self._secret is not None and not hmac.compare_digest(self._secret, request.secret or b""):
            raise RemoteProtocolError("the web server does not know the secret", status=403)
        self._unreceived = check_length(request.variables)
        # The first packet of a body whose length is known comes by itself.
        self._asked = bool(self._unreceived)
        self._receiving = Receiving.BODY
        self._sending = Sending.HEAD
        return RequestVariables(request.variables)

    def _next_body(self) -> RequestEvent | NeedData:
        if self._unreceived == 0:
            self._receiving = Receiving.DONE
            return EndOfMessage()
        packet = self._reader.next_packet()
        if packet is None:
            if self._reader.eof:
                raise Incomplete("the connection was closed before the end of the body")
            if not self._asked:
                room = body_room(self._packet_size)
                self._replies += encode_get_body(
                    room if self._unreceived is None else min(room, self._unreceived)
                )
                self._asked = True
            return NEED_DATA
        if not self._asked:
            raise RemoteProtocolError("a packet of the body that was not asked for")
        self._asked = False
        return self._body(packet)

    def _body(self, packet: bytes) -> RequestEvent:
        data = packet[2:]
        # Apache ends a body with a length of 0, others with an empty packet.
        if packet and packet[:2] != len(data).to_bytes(2, "big"):
            raise RemoteProtocolError("a packet of the body is not as long as it says")
        if self._unreceived is None:
            if data:
                return Data(data)
            self._receiving = Receiving.DONE
            return EndOfMessage()
        if not data:
            raise Incomplete(f"the body ended {self._unreceived} bytes short of its Content-Length")
        if len(data) > self._unreceived:
            raise RemoteProtocolError("the body is longer than its Content-Length")
        self._unreceived -= len(data)
        return Data(data)

    # Sending

    def send(self, event: ResponseEvent) -> bytes:
        """The bytes that say *event*: ResponseHead, then Data, then EndOfMessage.

        Raises LocalProtocolError for another order and for what AJP cannot say, TooLargeToEncode for a head
        that does not fit in one packet.
        """
        try:
            return self._send(event)
        except LocalProtocolError:
            self._sending = Sending.ERROR
            raise

    def _send(self, event: ResponseEvent) -> bytes:
        if isinstance(event, ResponseHead) and self._sending is Sending.HEAD:
            head = encode_head(event, self._packet_size)
            self._sending = Sending.BODY
            return head
        if isinstance(event, Data) and self._sending is Sending.BODY:
            return encode_chunks(event.data, self._packet_size)
        if isinstance(event, EndOfMessage) and self._sending is Sending.BODY:
            if event.trailers:
                raise LocalProtocolError("an AJP response cannot carry trailers")
            return self._end()
        raise LocalProtocolError(f"cannot send {type(event).__name__} in state {self._sending.name}")

    def _end(self) -> bytes:
        # A packet of the body that is still on its way would be taken for the next request.
        reuse = not self._asked and self._receiving in (Receiving.BODY, Receiving.DONE)
        self._sending = Sending.IDLE if reuse else Sending.CLOSED
        if reuse:
            self._receiving = Receiving.IDLE
        elif self._receiving is not Receiving.ERROR:
            self._receiving = Receiving.CLOSED
        return encode_end(reuse=reuse)
