"""AJP packets: the format, the data types in them, and the reader that cuts a stream into packets.

::

    0x12 0x34 | "AB"    from the web server | from the container
    length (2 bytes)    of what follows
    code (1)            what it is; a packet of a request's body has none
    ...

Numbers are big-endian. A string is its length (2), its bytes and a NUL; the length 0xFFFF alone stands for
none. Text is Latin-1, one character for each byte.
"""

from typing import Final

from gateway.protocols.buffer import ReceiveBuffer
from gateway.protocols.errors import Incomplete, RemoteProtocolError

DEFAULT_PACKET_SIZE: Final = 8192
"""Bytes of a packet, its four bytes of header included, unless both sides are configured otherwise: "the max
packet size is 8 * 1024 bytes"."""

LARGEST_PACKET_SIZE: Final = 65536
"""What Tomcat (packetSize) and Apache (ProxyIOBufferSize) can be configured to."""

HEADER_SIZE: Final = 4

FROM_SERVER: Final = b"\x12\x34"
FROM_CONTAINER: Final = b"AB"

# Packet Headers: the codes.
FORWARD_REQUEST: Final = 2
SEND_BODY_CHUNK: Final = 3
SEND_HEADERS: Final = 4
END_RESPONSE: Final = 5
GET_BODY_CHUNK: Final = 6
CPONG: Final = 9
CPING: Final = 10

NO_STRING: Final = 0xFFFF


def encode_packet(beginning: bytes, content: bytes) -> bytes:
    """A packet of at most 65,535 bytes of *content*; *beginning* says who sends it."""
    return beginning + len(content).to_bytes(2, "big") + content


def encode_body(data: bytes) -> bytes:
    """A packet of a request's body; the empty one ends it (Get Body Chunk)."""
    if not data:
        return encode_packet(FROM_SERVER, b"")
    return encode_packet(FROM_SERVER, len(data).to_bytes(2, "big") + data)


def body_room(packet_size: int) -> int:
    """Bytes of a request's body in one packet: 8186 in the default size (AJP-6)."""
    return packet_size - HEADER_SIZE - 2


CPING_PACKET: Final = encode_packet(FROM_SERVER, bytes((CPING,)))
CPONG_PACKET: Final = encode_packet(FROM_CONTAINER, bytes((CPONG,)))


class PacketReader:
    """Cuts a stream into packets that begin with *beginning*; errors have *status*.

    It holds at most one packet, 64 KiB, and what one read gave besides.
    """

    __slots__ = ("_beginning", "_buffer", "_status", "eof")

    def __init__(self, beginning: bytes, *, status: int) -> None:
        self._beginning = beginning
        self._status = status
        self._buffer = ReceiveBuffer()
        self.eof = False
        """The peer has closed its side."""

    @property
    def at_boundary(self) -> bool:
        """Nothing is here that was not taken yet."""
        return not len(self._buffer)

    def receive_data(self, data: bytes) -> None:
        """Store bytes; ``b""`` is the end of input."""
        if data:
            self._buffer += data
        else:
            self.eof = True

    def next_packet(self) -> bytes | None:
        """The content of the next packet, or None. Raises RemoteProtocolError."""
        start = self._buffer.peek(min(2, len(self._buffer))) or b""
        if not self._beginning.startswith(start):
            raise RemoteProtocolError(f"this is no AJP packet, it begins with {start!r}", status=self._status)
        header = self._buffer.peek(HEADER_SIZE)
        if header is not None:
            packet = self._buffer.take(HEADER_SIZE + (header[2] << 8 | header[3]))
            if packet is not None:
                return packet[HEADER_SIZE:]
        if self.eof and start:
            raise Incomplete("the connection was closed in the middle of an AJP packet", status=self._status)
        return None


class Cursor:
    """Takes data types from the content of a packet, one after the other; errors have *status*."""

    __slots__ = ("_content", "_position", "_status")

    def __init__(self, content: bytes, *, status: int) -> None:
        self._content = content
        self._position = 0
        self._status = status

    @property
    def at_end(self) -> bool:
        return self._position == len(self._content)

    def take(self, count: int) -> bytes:
        """Exactly *count* bytes."""
        end = self._position + count
        if end > len(self._content):
            raise self.malformed("it ends too early")
        piece = self._content[self._position : end]
        self._position = end
        return piece

    def byte(self) -> int:
        return self.take(1)[0]

    def integer(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def string(self) -> bytes | None:
        """The bytes of a string, None for the one that stands for none."""
        return self.string_of(self.integer())

    def string_of(self, length: int) -> bytes | None:
        """The string whose *length* was taken already."""
        if length == NO_STRING:
            return None
        text = self.take(length)
        if self.byte():
            raise self.malformed("a string has no NUL at its end")
        return text

    def malformed(self, what: str) -> RemoteProtocolError:
        return RemoteProtocolError(f"malformed AJP packet: {what}", status=self._status)
