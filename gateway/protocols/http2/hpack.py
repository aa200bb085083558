"""Field sections to bytes and back (RFC 7541), over the hpack library, remembering what repeats.

A section that consists of indexed fields only changes no table. As long as nothing else does, the same
bytes mean the same fields, and the same fields are the same bytes: both directions remember that, and
forget it with the first section that changes a table. The second request of a client and the second
response of a second are mostly of that kind; compressing is the most expensive part of a small exchange.
"""

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


class FieldSection:
    """A decoded section; what it means as a request is kept with it."""

    __slots__ = ("fields", "request", "size")

    def __init__(self, fields: Headers) -> None:
        self.fields = fields
        # RFC 9113 6.5.2: the size as SETTINGS_MAX_HEADER_LIST_SIZE counts it.
        self.size = sum(len(name) + len(value) + 32 for name, value in fields)
        self.request: ParsedRequest | None = None


class SectionDecoder:
    """The client's field sections, with their shared table."""

    __slots__ = ("_decoder", "_known")

    def __init__(self, *, max_size: int) -> None:
        """*max_size* bytes in all are decoded; more ends the connection, because its state is lost."""
        self._decoder = Decoder(max_header_list_size=max_size)
        self._known: Memo[bytes, FieldSection] = Memo(_SECTIONS_REMEMBERED)

    def decode(self, block: bytes) -> FieldSection:
        """The section in *block*. Raises Http2Error with the code that RFC 9113 4.3 asks for."""
        return self._known.get(block) or self._decode(block)

    def _decode(self, block: bytes) -> FieldSection:
        try:
            fields = self._decoder.decode(block, raw=True)
        except OversizedHeaderListError:
            raise Http2Error("a field section is too large", ErrorCode.ENHANCE_YOUR_CALM) from None
        except (HPACKError, IndexError, ValueError) as error:
            raise Http2Error(f"malformed field section: {error}", ErrorCode.COMPRESSION_ERROR) from None
        section = FieldSection([(field[0], field[1]) for field in fields])
        if not _is_stable(block):
            self._known.clear()
        elif len(block) <= _LONGEST_REMEMBERED and section.size <= _LARGEST_REMEMBERED:
            self._known.keep(block, section)
        return section


class SectionEncoder:
    """Our field sections, with their shared table."""

    __slots__ = ("_encoder", "_known")

    def __init__(self) -> None:
        self._encoder = Encoder()
        self._known: Memo[tuple[tuple[bytes, bytes], ...], bytes] = Memo()

    def resize(self, size: int) -> None:
        """The client takes a dynamic table of *size* bytes (RFC 7541 4.2)."""
        self._known.clear()
        self._encoder.header_table_size = min(size, TABLE_SIZE)

    def encode(self, headers: Headers) -> bytes:
        """The section of *headers*, names in lower case."""
        key = tuple(headers)
        block = self._known.get(key)
        if block is None:
            block = bytes(self._encoder.encode(headers))
            if not _is_stable(block):
                self._known.clear()
            elif len(block) <= _LONGEST_REMEMBERED:
                self._known.keep(key, block)
        return block


def _is_stable(block: bytes) -> bool:
    """RFC 7541 6.1: indexed fields only, each in one byte; 0xff begins an index of several."""
    return bool(block) and min(block) > 0x80 and max(block) < 0xFF
