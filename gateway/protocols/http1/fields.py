"""The field section of a message (RFC 9112 section 5), parsed by llhttp through httptools.

llhttp gets one complete section at a time behind a start line of our own, and is told that the message
has no body. So it does what it is best at, the field grammar byte by byte, and the parts it would keep
to itself stay ours: where a message ends (exact limits, pipelining), the chunk extensions, and the
methods (it knows a fixed list, where RFC 9110 9.1 has any token).

llhttp refuses in here: a bare CR or LF, obs-fold, space before the colon, names that are no tokens, NUL
and other control characters in values, Content-Length that is signed, hexadecimal, empty, repeated, a
list or beyond 64 bits, and Content-Length together with Transfer-Encoding.
"""

from httptools import HttpParserError, HttpResponseParser

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.events import Headers

# A 204 response ends with its field section whatever the fields say (RFC 9112 6.3).
_START_LINE = b"HTTP/1.1 204 \r\n"

_NONE: Headers = []


class _Sink:
    """What llhttp calls. Apart from the parser, so that the two make no reference cycle."""

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: Headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))


class FieldParser:
    """Parses field sections, one after the other; after an error it is not used again."""

    __slots__ = ("_feed", "_sink")

    def __init__(self) -> None:
        self._sink = _Sink()
        parser = HttpResponseParser(self._sink)
        # A section that says "Connection: close" is followed by others all the same: trailers, or the
        # final response after an interim one.
        parser.set_dangerous_leniencies(lenient_keep_alive=True)
        self._feed = parser.feed_data

    def parse(self, section: bytes | bytearray) -> Headers:
        """The fields of *section*, which ends with its empty line: lower-case names, in order.

        Raises RemoteProtocolError with status 400.
        """
        fields: Headers = []
        self._sink.fields = fields
        try:
            self._feed(_START_LINE + section)
        except HttpParserError as error:
            raise RemoteProtocolError(f"malformed field section: {error}") from None
        self._sink.fields = _NONE  # an idle connection does not keep those of its last message
        # RFC 9110 5.5: whitespace around a value is no part of it; llhttp removes it in front only.
        if b" \r" in section or b"\t\r" in section:
            return [(name, value.rstrip(b" \t")) for name, value in fields]
        return fields
