"""The uwsgi packet protocol, both roles: https://uwsgi-docs.readthedocs.io/en/latest/Protocol.html.

A request is a packet of variables, then the body::

    modifier1 (1 byte)  datasize (2, little-endian)  modifier2 (1)
    { key size (2)  key  value size (2)  value } *      datasize bytes in all
    body                                                CONTENT_LENGTH bytes

The response is an HTTP or CGI response in text. It ends with the connection, or where its Content-Length
or status says so: gunicorn keeps the connection open after such a response. A modifier says what the
packet asks for; besides requests there are packets that reload, evaluate and control a server, and this
server refuses all of them but PING. Keep-alive (``puwsgi``) and the 24-bit size of modifier 30 are not
offered.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from gateway.protocols.cgi import encode_response
from gateway.protocols.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError, TooLargeToEncode
from gateway.protocols.events import (
    NEED_DATA,
    Data,
    EndOfMessage,
    NeedData,
    RequestEvent,
    ResponseEvent,
    ResponseHead,
)
from gateway.protocols.reasons import BODILESS
from gateway.protocols.single import SingleRequestClient, SingleRequestServer, State
from gateway.protocols.variables import block_size, describe_largest, merge_repeated

MAX_BLOCK_SIZE: Final = 0xFFFF
"""Bytes of variables that the 16 bits of datasize can say."""

MAX_VARIABLES: Final = 1000
"""Variables that a server accepts: what gunicorn does. uWSGI itself takes 128 unless configured."""

HEADER_SIZE: Final = 4

WSGI: Final = 0
"""modifier1 of a request; web servers send it for every language."""
PING_PONG: Final = 100
"""modifier1 of a sign of life."""


def _encode_header(modifier1: int, size: int, modifier2: int) -> bytes:
    return bytes((modifier1, size & 255, size >> 8, modifier2))


class PacketHeader(NamedTuple):
    """The four bytes before every packet."""

    modifier1: int
    datasize: int
    modifier2: int

    def encode(self) -> bytes:
        return _encode_header(self.modifier1, self.datasize, self.modifier2)

    @classmethod
    def decode(cls, data: bytes) -> "PacketHeader":
        """The header that *data*, exactly four bytes, says."""
        modifier1, low, high, modifier2 = data
        return cls(modifier1, low | high << 8, modifier2)


PING: Final = PacketHeader(PING_PONG, 0, 0)
"""Sent to ask whether a uwsgi server lives; it is the whole exchange."""
PONG: Final = PacketHeader(PING_PONG, 0, 1)
"""The answer to PING."""


class UwsgiClient(SingleRequestClient):
    """The web server's side of one uwsgi request.

    *buffer_size* is the application's option of that name: the most bytes of variables that it takes
    (uWSGI: 4096 unless configured; it drops larger requests without an answer).
    """

    __slots__ = ("_buffer_size", "_modifier1", "_modifier2", "_response_ended", "_unreceived")

    def __init__(
        self, *, modifier1: int = WSGI, modifier2: int = 0, buffer_size: int = MAX_BLOCK_SIZE
    ) -> None:
        super().__init__()
        self._modifier1 = modifier1
        self._modifier2 = modifier2
        self._buffer_size = min(buffer_size, MAX_BLOCK_SIZE)
        # Bytes of the response's body still to come, None if the connection ends it.
        self._unreceived: int | None = None
        self._response_ended = False

    def _encode_variables(self, variables: Mapping[str, str]) -> bytes:
        block = encode_variables(variables, buffer_size=self._buffer_size)
        return _encode_header(self._modifier1, len(block), self._modifier2) + block

    def receive_data(self, data: bytes) -> None:
        """Store bytes of the response; ``b""`` is the end of input."""
        if not self._response_ended:
            super().receive_data(data)

    def next_event(self) -> ResponseEvent | NeedData:
        """The next event of the response, or NEED_DATA. Raises RemoteProtocolError (status 502).

        More body than the response promised is dropped.
        """
        if self._response_ended:
            return NEED_DATA
        if self._unreceived == 0:
            event = super().next_event()
            self._response_ended = True
            self._response = None
            return event if isinstance(event, EndOfMessage) else EndOfMessage()
        event = super().next_event()
        if isinstance(event, Data):
            if self._unreceived is not None:
                self._unreceived -= len(event.data)
        elif isinstance(event, ResponseHead):
            self._unreceived = self._body_length(event)
        return event

    def _body_length(self, head: ResponseHead) -> int | None:
        # RFC 9112 6.3, rules 1, 6 and 8; the parser has checked that a Content-Length is one number.
        if self._head_request or head.status in BODILESS:
            return 0
        return next((int(value) for name, value in head.headers if name == b"content-length"), None)


class UwsgiServer(SingleRequestServer):
    """The application's side of one uwsgi request.

    To a PING, next_event() gives EndOfMessage without RequestVariables before it: send what
    data_to_send() has and close.
    """

    __slots__ = ("_header", "_pong")

    def __init__(self) -> None:
        super().__init__()
        self._header: PacketHeader | None = None
        self._pong = b""

    def data_to_send(self) -> bytes:
        """The answer to a PING, once; ``b""`` if there is none."""
        pong, self._pong = self._pong, b""
        return pong

    def _next_head(self) -> RequestEvent | NeedData:
        if self._header is None:
            data = self._buffer.take(HEADER_SIZE)
            if data is None:
                return self._need_data("the header of a packet")
            self._header = PacketHeader.decode(data)
            if self._header == PING:
                self._pong = PONG.encode()
                self._stop_receiving(State.DONE)
                return EndOfMessage()
            self._check_header(self._header)
        return super()._next_head()

    def _check_header(self, header: PacketHeader) -> None:
        if header.modifier1 != WSGI:
            # 10, 22, 97-99, 110, 111, 173 and others reload, evaluate code or control a server.
            raise RemoteProtocolError(f"uwsgi modifier1 {header.modifier1} is refused: not a request")
        if not header.datasize:
            raise RemoteProtocolError("a request without variables")

    def _parse_variables(self) -> dict[str, str] | None:
        assert self._header is not None
        block = self._buffer.take(self._header.datasize)
        return None if block is None else decode_variables(block)

    def _encode_head(self, head: ResponseHead) -> bytes:
        # uWSGI's applications answer with a status line where CGI has a Status field.
        return b"HTTP/1.1 " + encode_response(head).removeprefix(b"Status: ")


# The two characters that say a length, for those that are common: one look-up instead of two chr().
_LENGTHS: Final = [chr(n & 255) + chr(n >> 8) for n in range(1024)]


def encode_variables(variables: Mapping[str, str], *, buffer_size: int = MAX_BLOCK_SIZE) -> bytes:
    """The block of *variables*, without the packet's header.

    Raises TooLargeToEncode if it has more than *buffer_size* bytes, naming the largest variables, and
    LocalProtocolError for an empty name and for a character that is not Latin-1.
    """
    if "" in variables:
        raise LocalProtocolError("uwsgi cannot carry a variable without a name")
    parts: list[str] = []
    try:
        for name, value in variables.items():
            # One by one: compiled, that takes three quarters of the time of `parts += ...`.
            parts.append(_LENGTHS[len(name)])
            parts.append(name)
            parts.append(_LENGTHS[len(value)])
            parts.append(value)
    except IndexError:
        parts = [part for pair in variables.items() for text in pair for part in (_length(text), text)]
    block = "".join(parts)
    if len(block) > buffer_size:
        raise too_large(variables, buffer_size)
    try:
        return block.encode("latin-1")
    except UnicodeEncodeError as error:
        raise LocalProtocolError(f"a variable is not Latin-1: {error}") from None


def _length(text: str) -> str:
    """Any length; the high character of one above 65,535 is wrong, but then the block is too large."""
    return chr(len(text) & 255) + chr(len(text) >> 8 & 255)


def too_large(variables: Mapping[str, str], buffer_size: int) -> TooLargeToEncode:
    """The error for variables that take more than *buffer_size* bytes."""
    return TooLargeToEncode(
        f"{block_size(variables)} bytes of variables where the application's buffer_size is {buffer_size};"
        f" the largest are {describe_largest(variables)}"
    )


def decode_variables(block: bytes) -> dict[str, str]:
    """The variables in a block. Raises RemoteProtocolError, LimitExceeded for too many of them.

    A variable may be repeated with the same value (a parameter file included twice). Header fields that
    came as several variables (nginx before 1.23) are merged as RFC 3875 4.1.18 has it.
    """
    text = block.decode("latin-1")
    end = len(block)
    position = 0
    variables: dict[str, str] = {}
    count = 0
    try:
        while position < end:
            name_at = position + 2
            name_end = name_at + (block[position] | block[position + 1] << 8)
            value_at = name_end + 2
            position = value_at + (block[name_end] | block[name_end + 1] << 8)
            count += 1
            if count > MAX_VARIABLES:
                raise LimitExceeded(f"more than {MAX_VARIABLES} variables", status=431)
            name = text[name_at:name_end]
            value = text[value_at:position]
            if name in variables:
                value = merge_repeated(name, variables[name], value)
            variables[name] = value
    except IndexError:
        position = end + 1
    if position > end:
        raise RemoteProtocolError("a variable reaches beyond the end of its packet")
    if "" in variables:
        raise RemoteProtocolError("a variable has no name")
    return variables
