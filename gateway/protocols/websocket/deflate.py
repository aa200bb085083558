"""permessage-deflate (RFC 7692): choosing an offer, deflating messages, inflating them within a bound.

wsproto has this extension, but inflates without a bound (a thousand bytes become a million) and takes any
parameter. Here an offer with a parameter that is unknown, repeated or out of range is declined, as 7.1 asks,
and a message stops growing at its limit.
"""

import zlib
from typing import Any, Final

from wsproto.frame_protocol import CloseReason, Opcode, ParseFailed, RsvBits

NAME: Final = "permessage-deflate"

WINDOW_BITS: Final = 12
"""What is asked for both ways: 4 KiB of window in place of 32. A connection then costs some 40 KiB in place
of 300, and messages are seldom longer."""

_MEMORY_LEVEL: Final = 5
_MOST_BITS: Final = 15
_LEAST_BITS: Final = 9
"""zlib has no raw window of 8 bits, although RFC 7692 has."""

_SYNC_MARK: Final = b"\x00\x00\xff\xff"  # RFC 7692 7.2.1: cut off by the sender, put back by the receiver

_EMPTY_BLOCK: Final = b"\x00" + _SYNC_MARK
"""All that may follow a last block (RFC 7692 7.2.3.4)."""

# As globals: members of an Enum are found slowly (`gateway.protocols`).
_MESSAGE_OPCODES: Final = (Opcode.TEXT, Opcode.BINARY)
_CONTINUATION: Final = Opcode.CONTINUATION
_RSV1: Final = RsvBits(True, False, False)


class Deflate:
    """The extension of one connection, server's side. wsproto calls the methods named ``frame_…``.

    *most* bounds the bytes of a message that is inflated; beyond it the message is refused with 1009.
    """

    __slots__ = (
        "_client_bits",
        "_client_keeps_context",
        "_compressed",
        "_deflater",
        "_inflater",
        "_inflating",
        "_most",
        "_room",
        "_server_bits",
        "_server_keeps_context",
    )

    def __init__(
        self,
        *,
        most: int,
        server_bits: int = _MOST_BITS,
        client_bits: int = _MOST_BITS,
        server_keeps_context: bool = True,
        client_keeps_context: bool = True,
    ) -> None:
        self._most = most
        self._room = most
        self._server_bits = server_bits
        self._client_bits = client_bits
        self._server_keeps_context = server_keeps_context
        self._client_keeps_context = client_keeps_context
        self._compressed = False
        """Whether the message that is being received is compressed."""
        self._inflating = False
        """Whether the frame that is being received is: control frames come between those of a message."""
        self._inflater: Any = None
        self._deflater: Any = None

    def deflate(self, payload: bytes) -> bytes:
        """The payload of a compressed message (RFC 7692 7.2.1)."""
        deflater = self._deflater
        if deflater is None:
            deflater = zlib.compressobj(
                zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -self._server_bits, _MEMORY_LEVEL
            )
            if self._server_keeps_context:
                self._deflater = deflater
        data: bytes = deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH)
        return data[:-4]

    # --- a message in one frame

    def begin(self) -> None:
        """A compressed message begins that comes by `inflate`."""
        self._room = self._most

    def inflate(self, data: bytes, last: bool) -> bytes:
        """Some of it, or the *last*. Raises ParseFailed."""
        inflated = self._inflate(data + _SYNC_MARK if last else data)
        if isinstance(inflated, CloseReason):
            raise ParseFailed("error in extension", inflated)
        if last:
            self._end_message()
        return inflated

    # --- what wsproto calls

    def frame_inbound_header(
        self, _decoder: object, opcode: Any, rsv: RsvBits, _length: int
    ) -> RsvBits | CloseReason:
        """A frame begins: whether its reserved bits may be what they are."""
        if opcode in _MESSAGE_OPCODES:
            self._room = self._most
            self._compressed = rsv.rsv1
        elif rsv.rsv1:
            # RFC 7692 6.1: the bit is for the first frame of a message, and not for control frames.
            return CloseReason.PROTOCOL_ERROR
        self._inflating = self._compressed and (opcode is _CONTINUATION or opcode in _MESSAGE_OPCODES)
        return _RSV1

    def frame_inbound_payload_data(self, _decoder: object, data: bytes) -> bytes | CloseReason:
        """Some payload of the frame that has begun."""
        return self._inflate(data) if self._inflating else data

    def frame_inbound_complete(self, _decoder: object, fin: bool) -> bytes | CloseReason | None:
        """The frame has ended."""
        if not (self._inflating and fin):
            return None
        data = self._inflate(_SYNC_MARK)
        self._end_message()
        return data

    def _end_message(self) -> None:
        # RFC 7692 7.2.3.4: a last block ends the stream of zlib, and the next message begins another.
        if not self._client_keeps_context or self._inflater.eof:
            self._inflater = None

    def _inflate(self, data: bytes) -> bytes | CloseReason:
        if self._inflater is None:
            self._inflater = zlib.decompressobj(-self._client_bits)
        try:
            inflated: bytes = self._inflater.decompress(data, self._room + 1)
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        self._room -= len(inflated)
        if self._room < 0:
            return CloseReason.MESSAGE_TOO_BIG
        # zlib keeps what is behind a last block, however much that is.
        if len(self._inflater.unused_data) > len(_EMPTY_BLOCK):
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        return inflated


def negotiate(offers: bytes, *, most: int) -> tuple[bytes, Deflate] | None:
    """The first of the *offers* (a Sec-WebSocket-Extensions value) that can be met, as what to answer and the
    extension; None if there is none. *most* as for `Deflate`.
    """
    for offer in offers.decode("latin-1").split(","):
        name, *parameters = (part.strip(" \t") for part in offer.split(";"))
        if name.lower() == NAME:
            wanted = _parse(parameters)
            if wanted is not None:
                return _agree(wanted, most)
    return None


def _parse(parameters: list[str]) -> dict[str, int] | None:
    """The parameters of an offer, 0 for one without a value; None if it must be declined (RFC 7692 7.1)."""
    wanted: dict[str, int] = {}
    for parameter in parameters:
        name, equals, value = (part.strip(" \t") for part in parameter.partition("="))
        name = name.lower()
        if name in wanted:
            return None
        if name in ("server_no_context_takeover", "client_no_context_takeover") and not equals:
            wanted[name] = 0
        elif name == "client_max_window_bits" and not equals:
            wanted[name] = _MOST_BITS
        elif name in ("client_max_window_bits", "server_max_window_bits"):
            value = value.strip('"')
            if value not in ("8", "9", "10", "11", "12", "13", "14", "15"):
                return None
            wanted[name] = int(value)
        else:
            return None
    if wanted.get("server_max_window_bits") == 8:
        return None
    return wanted


def _agree(wanted: dict[str, int], most: int) -> tuple[bytes, Deflate]:
    server_bits = min(wanted.get("server_max_window_bits", _MOST_BITS), WINDOW_BITS)
    answer = f"{NAME}; server_max_window_bits={server_bits}"
    client_bits = _MOST_BITS
    if wanted.get("client_max_window_bits", 0) >= _LEAST_BITS:
        # RFC 7692 7.1.2.2: only to a client that knows the parameter. One that offers 8 keeps to it anyway.
        client_bits = min(wanted["client_max_window_bits"], WINDOW_BITS)
        answer += f"; client_max_window_bits={client_bits}"
    server_keeps = "server_no_context_takeover" not in wanted
    client_keeps = "client_no_context_takeover" not in wanted
    if not server_keeps:
        answer += "; server_no_context_takeover"
    if not client_keeps:
        answer += "; client_no_context_takeover"
    return answer.encode(), Deflate(
        most=most,
        server_bits=server_bits,
        client_bits=client_bits,
        server_keeps_context=server_keeps,
        client_keeps_context=client_keeps,
    )
