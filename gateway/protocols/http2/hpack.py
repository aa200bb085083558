"""Field sections to bytes and back (RFC 7541), over the hpack library, remembering what repeats.

A section that consists of indexed fields only changes no table. As long as nothing else does, the same
bytes mean the same fields, and the same fields are the same bytes: both directions remember that, and
forget it with the first section that changes a table. The second request of a client and the second
response of a second are mostly of that kind; compressing is the most expensive part of a small exchange.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from hpack import Decoder, Encoder, HPACKError, OversizedHeaderListError

from gateway.protocols.events import Headers
from gateway.protocols.http2.errors import ErrorCode, Http2Error
from gateway.protocols.http2.fields import ParsedRequest
from gateway.protocols.memo import Memo

TABLE_SIZE: Final = 4096
"""Bytes of the dynamic table on either side: the initial SETTINGS_HEADER_TABLE_SIZE. A client that offers
us more memory of our own does not get it used."""

_LONGEST_REMEMBERED: Final = 128
"""Bytes of a section that is remembered: so many indexed fields are more than a browser sends."""

_SECTIONS_REMEMBERED: Final = 64
_LARGEST_REMEMBERED: Final = TABLE_SIZE
"""... and bytes of what it stands for, times so many sections: an index of one byte can name a field of
4000, again and again, and the cookies among them are joined (a section of 24 bytes, 60 KB to keep)."""

_PIECE: Final = 1024
"""Bytes of a section after which the rest is decoded by itself: for each literal hpack copies what is left of
what it was given, which takes a second for 256 KiB."""

_LONGEST_SHORTENED: Final = 512
"""Bytes of a field that is Huffman-coded (RFC 7541 5.2): hpack's time grows with their square: 0.1 ms for
so many, 9 ms for the 8 KiB of a Location that repeats what a client has asked for, minutes for 1 MB."""

_LONGEST_INTEGER: Final = 5
"""Bytes of an integer behind its first: more than hpack takes."""


class FieldSection:
    """A decoded section; what it means as a request is kept with it."""

    __slots__ = ("fields", "request", "size")

    def __init__(self, fields: Headers, size: int) -> None:
        self.fields = fields
        self.size = size
        """As SETTINGS_MAX_HEADER_LIST_SIZE counts (RFC 9113 6.5.2)."""
        self.request: ParsedRequest | None = None


class SectionDecoder:
    """The client's field sections, with their shared table."""

    __slots__ = ("_decoder", "_known", "_max_count", "_max_size")

    def __init__(self, *, max_size: int, max_count: int) -> None:
        """*max_size* bytes and *max_count* fields in all are decoded; more ends the connection, because its
        state is lost.
        """
        self._decoder = Decoder(max_header_list_size=max_size)
        self._max_size = max_size
        self._max_count = max_count
        self._known: Memo[bytes, FieldSection] = Memo(_SECTIONS_REMEMBERED)

    def decode(self, block: bytes) -> FieldSection:
        """The section in *block*. Raises Http2Error with the code that RFC 9113 4.3 asks for."""
        return self._known.get(block) or self._decode(block)

    def _decode(self, block: bytes) -> FieldSection:
        try:
            section = self._decode_pieces((block,) if len(block) <= _PIECE else pieces_of(block))
        except OversizedHeaderListError:
            raise _too_large() from None
        except (HPACKError, IndexError, ValueError) as error:
            # Not what hpack shows of its input, which is `<memory at 0x7f…>`: an address of ours.
            reason = str(error).partition("<")[0].rstrip(": ")
            raise Http2Error(f"malformed field section: {reason}", ErrorCode.COMPRESSION_ERROR) from None
        if not _is_stable(block):
            self._known.clear()
        elif len(block) <= _LONGEST_REMEMBERED and section.size <= _LARGEST_REMEMBERED:
            self._known.keep(block, section)
        return section

    def _decode_pieces(self, pieces: Iterable[bytes]) -> FieldSection:
        fields: Headers = []
        size = 0
        for piece in pieces:
            for field in self._decoder.decode(piece, raw=True):
                name, value = field[0], field[1]
                fields.append((name, value))
                size += len(name) + len(value) + 32
            if size > self._max_size or len(fields) > self._max_count:
                raise _too_large()
        return FieldSection(fields, size)


def _too_large() -> Http2Error:
    return Http2Error("a field section is too large", ErrorCode.ENHANCE_YOUR_CALM)


def pieces_of(block: bytes) -> Iterator[bytes]:
    """*block* cut between fields. What cannot be cut, hpack finds malformed at its beginning."""
    start = position = 0
    end = len(block)
    while position < end:
        position = _end_of_field(block, position)
        # RFC 7541 4.2: a change of the table's size is at the beginning of a section, and nowhere else.
        if position - start >= _PIECE and position < end and block[position] & 0xE0 != 0x20:
            yield block[start:position]
            start = position
    yield block[start:]


def _end_of_field(block: bytes, position: int) -> int:
    """Where the field at *position* ends (RFC 7541 6); the end of *block* or beyond, if it is not whole."""
    first = block[position]
    try:
        if first & 0x80:  # indexed
            return _integer(block, position, 0x7F)[1]
        if first & 0xE0 == 0x20:  # the size of the table
            return _integer(block, position, 0x1F)[1]
        index, position = _integer(block, position, 0x3F if first & 0x40 else 0x0F)
        for _ in range(1 if index else 2):  # the value, and the name in front of it
            length, position = _integer(block, position, 0x7F)
            position += length
    except IndexError:
        return len(block)
    return position


def _integer(block: bytes, position: int, mask: int) -> tuple[int, int]:
    """The integer at *position*, and where it ends (RFC 7541 5.1). Raises IndexError if it does not."""
    number = block[position] & mask
    position += 1
    if number == mask:
        for shift in range(0, 7 * _LONGEST_INTEGER, 7):
            octet = block[position]
            position += 1
            number += (octet & 0x7F) << shift
            if octet < 0x80:
                return number, position
        raise IndexError
    return number, position


class SectionEncoder:
    """Our field sections, with their shared table."""

    __slots__ = ("_encoder", "_known")

    def __init__(self) -> None:
        self._encoder = Encoder()
        self._known: Memo[tuple[tuple[bytes, bytes], ...], bytes] = Memo()

    def resize(self, size: int) -> None:
        """The client takes a dynamic table of *size* bytes, which the next section says (RFC 7541 4.2)."""
        size = min(size, TABLE_SIZE)
        encoder = self._encoder
        if size == encoder.header_table_size:
            return  # by the same size once more hpack forgets a change that was not said yet
        self._known.clear()
        encoder.header_table_size = size
        # Of several changes the smallest and the last are said; hpack keeps all of them.
        smallest = min(encoder.table_size_changes)
        encoder.table_size_changes = [size] if smallest == size else [smallest, size]

    def encode(self, headers: Headers) -> bytes:
        """The section of *headers*, names in lower case."""
        key = tuple(headers)
        block = self._known.get(key)
        if block is None:
            block = self._compressed(headers)
            if not _is_stable(block):
                self._known.clear()
            elif len(block) <= _LONGEST_REMEMBERED:
                self._known.keep(key, block)
        return block

    def _compressed(self, headers: Headers) -> bytes:
        encode = self._encoder.encode
        shortened = [len(name) + len(value) <= _LONGEST_SHORTENED for name, value in headers]
        if all(shortened):
            return bytes(encode(headers))
        fields = zip(headers, shortened, strict=True)
        return b"".join(encode([field], huffman=huffman) for field, huffman in fields)


def _is_stable(block: bytes) -> bool:
    """RFC 7541 6.1: indexed fields only, each in one byte; 0xff begins an index of several."""
    return bool(block) and min(block) > 0x80 and max(block) < 0xFF
