"""The receiving machine under both roles: buffer, states, body framing, sticky errors.

Nothing is parsed before it is asked for: `MessageReader.receive_data` stores, `next_event` takes one
event out of the stored bytes. So the memory in use is what was stored plus one event, pipelined
messages wait as bytes, and it is known to the byte where a message ends.

An error depends on the bytes alone and not on how they were cut into reads: each check belongs to a
position, and the first failing position wins.
"""

import re
from abc import ABC, abstractmethod
from enum import Enum
from typing import Final, Generic, TypeVar

from gateway.protocols.errors import Incomplete, LimitExceeded, RemoteProtocolError
from gateway.protocols.events import NEED_DATA, Data, EndOfMessage, Headers, NeedData
from gateway.protocols.grammar import TOKEN
from gateway.protocols.http1.checks import BARE_LF
from gateway.protocols.http1.fields import FieldParser

MAX_CHUNK_LINE = 4096
"""Bytes of one chunk-size line: RFC 9112 7.1.1 asks for a limit on extensions, and no client in use
sends any."""

MAX_CHUNK_OVERHEAD = 16 * 1024
"""Bytes of chunk-size lines beyond what small chunks need, in one message: 16 bytes and twice the data of
each chunk are free. A long extension around every byte would cost far more than the body limit tells (Go:
CVE-2023-39326, with the same numbers)."""

_FREE_CHUNK_OVERHEAD = 16

# RFC 9112 7.1.1. Extensions are ignored, but what is no extension is refused: to one who reads on over the
# end of the line for a quote that is not closed, what follows is something else (Netty: CVE-2026-33870).
_TOKEN = TOKEN.pattern
_QUOTED_STRING = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'  # RFC 9110 5.6.4
_CHUNK_EXTENSION = rb"[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?" % (_TOKEN, _TOKEN, _QUOTED_STRING)

# RFC 9112 7.1: chunk = chunk-size [ chunk-ext ] CRLF. 15 digits are below 2**63.
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:%b)*\r\n" % _CHUNK_EXTENSION)

_PLAIN_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")

END_WITHOUT_TRAILERS: Final = EndOfMessage()

HeadT = TypeVar("HeadT")


class Reading(Enum):
    """What the next bytes are."""

    IDLE = "nothing is expected"
    HEAD = "a start line and its fields"
    LENGTH = "the rest of a body of known length"
    CHUNK_LINE = "a chunk-size line"
    CHUNK_DATA = "the rest of a chunk"
    CHUNK_END = "the CRLF after a chunk"
    TRAILERS = "the trailer section"
    UNTIL_CLOSE = "a body that the end of input ends"
    END = "the message is complete; EndOfMessage is to be given"
    CLOSED = "no further message is read"
    FAILED = "the peer broke the protocol"


# As globals: members of an Enum are found slowly (`gateway.protocols`).
READING_HEAD: Final = Reading.HEAD
READING_END: Final = Reading.END
_CLOSED: Final = Reading.CLOSED
_FAILED: Final = Reading.FAILED


class MessageReader(ABC, Generic[HeadT]):
    """Turns bytes into events; a subclass reads the head and decides about the body's framing."""

    __slots__ = (
        "_data",
        "_ended",
        "_error",
        "_fields",
        "_max_field_count",
        "_max_fields",
        "_overhead",
        "_position",
        "_reading",
        "_remaining",
        "_scanned",
    )

    def __init__(self, reading: Reading, *, headers: int, header_count: int) -> None:
        self._max_fields = headers
        self._max_field_count = header_count
        self._fields = FieldParser()
        self._reading = reading
        self._remaining = 0
        self._overhead = 0
        self._error: RemoteProtocolError | None = None
        self._ended = False
        # What has arrived and where the unread part of it begins. Usually one read holds all that is
        # wanted and is kept as it came; a bytearray collects what comes in pieces.
        self._data: bytes | bytearray = b""
        self._position = 0
        # In front of this there is no empty line: a field section that dribbles in is searched once.
        self._scanned = 0

    # The surface ---------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        """Store bytes from the peer; ``b""`` is the end of input."""
        if not data:
            self._ended = True
        elif (reading := self._reading) is _CLOSED or reading is _FAILED:
            return  # nobody will read it
        elif not self._data:
            self._data = data
        else:
            self._append(data)

    def next_event(self) -> HeadT | Data | EndOfMessage | NeedData:
        """The next event, or NEED_DATA. Raises RemoteProtocolError, and the same again from then on."""
        try:
            reading = self._reading
            if reading is READING_HEAD:
                return self._read_head()
            if reading is READING_END:
                self._message_complete()
                return END_WITHOUT_TRAILERS
            if reading is Reading.LENGTH:
                return self._read_length()
            if reading is Reading.UNTIL_CLOSE:
                return self._read_until_close()
            if reading in (Reading.IDLE, Reading.CLOSED):
                return self._read_idle()
            if reading is Reading.FAILED:
                assert self._error is not None
                raise self._error.again()
            return self._read_chunked()
        except RemoteProtocolError as error:
            if self._reading is not Reading.FAILED:
                self._fail(error)
            raise

    @property
    def pending(self) -> bool:
        """Bytes have arrived that no event was made of yet."""
        return len(self._data) > self._position

    @property
    def arrived(self) -> int:
        """How many bytes have arrived that no event was made of yet."""
        return len(self._data) - self._position

    # For the subclass ----------------------------------------------------------------------------

    @abstractmethod
    def _read_head(self) -> HeadT | NeedData:
        """Take a start line and its fields, if they are all there, and begin the body."""

    @abstractmethod
    def _check_start_line(self) -> int:
        """Check the start line as far as it is there; where it ends, or -1 if it has not ended."""

    @abstractmethod
    def _message_complete(self) -> None:
        """EndOfMessage is about to be given: decide what comes next."""

    @abstractmethod
    def _read_idle(self) -> NeedData:
        """Nothing is expected: ignore or refuse what is there all the same."""

    def _fail(self, error: RemoteProtocolError) -> None:
        """Stay failed: the bytes after an error mean nothing any more."""
        self._reading = Reading.FAILED
        self._error = error.again()
        self._data = b""
        self._position = 0

    def _begin_body(self, length: int | None) -> None:
        """The head is read; *length* bytes of body follow, or chunks if it is None."""
        if length == 0:
            self._reading = READING_END
        elif length is None:
            self._reading = Reading.CHUNK_LINE
            self._overhead = 0
        else:
            self._reading = Reading.LENGTH
            self._remaining = length

    def _await_head(self) -> NeedData:
        """The head has not ended: check what is there, then wait for more."""
        start = self._check_start_line()
        if start >= 0:
            self._check_partial_section(start)
        return self._need_data()

    def _section(self, start: int, end: int) -> Headers:
        """The fields between *start* and *end*, which is behind the empty line; they are consumed."""
        if end - start - 2 > self._max_fields:
            self._check_partial_section(start)
        fields = self._fields.parse(self._data[start:end])
        if len(fields) > self._max_field_count:
            raise LimitExceeded(f"more than {self._max_field_count} fields", status=431)
        self._consume(end)
        return fields

    def _need_data(self) -> NeedData:
        """A message has begun and its rest has not arrived."""
        if self._ended:
            raise Incomplete(f"the peer closed the connection before {self._reading.value}")
        self._scanned = max(self._position, len(self._data) - 3)
        return NEED_DATA

    def _consume(self, end: int) -> None:
        if end == len(self._data):
            self._data = b""
            end = 0
        self._position = end
        self._scanned = end

    # Bodies --------------------------------------------------------------------------------------

    def _read_length(self) -> Data | NeedData:
        data = self._take(self._remaining)
        if not data:
            return self._need_data()
        self._remaining -= len(data)
        if not self._remaining:
            self._reading = Reading.END
        return Data(data)

    def _read_until_close(self) -> Data | EndOfMessage | NeedData:
        if data := self._take(len(self._data)):
            return Data(data)
        if not self._ended:
            return NEED_DATA
        self._message_complete()
        return END_WITHOUT_TRAILERS

    def _read_chunked(self) -> Data | EndOfMessage | NeedData:
        """Go on until there is something to give or to wait for."""
        while True:
            if self._reading is Reading.CHUNK_LINE and (data := self._take_whole_chunks()):
                return Data(data)
            if self._reading is Reading.CHUNK_DATA:
                data = self._take(self._remaining)
                if not data:
                    return self._need_data()
                self._remaining -= len(data)
                if not self._remaining:
                    self._reading = Reading.CHUNK_END
                return Data(data)
            if self._reading is Reading.TRAILERS:
                return self._read_trailers()
            advanced = self._read_chunk_line() if self._reading is Reading.CHUNK_LINE else self._end_chunk()
            if not advanced:
                return self._need_data()

    def _take_whole_chunks(self) -> bytes:
        """The data of all chunks that are here whole, as one piece.

        Many small chunks are common, and an event for each would cost far more than this. It raises
        nothing: whatever is not as it should be is left for the careful way.
        """
        data, position = self._data, self._position
        overhead = self._overhead
        pieces = []
        while match := _PLAIN_CHUNK_LINE.match(data, position) or self._match_chunk_line(position):
            start = match.end()
            size = int(match[1], 16)
            end = start + size
            if not size or data[end : end + 2] != b"\r\n":
                break
            overhead = max(0, overhead + start - position - _FREE_CHUNK_OVERHEAD - 2 * size)
            if overhead > MAX_CHUNK_OVERHEAD:
                break
            self._overhead = overhead
            pieces.append(data[start:end])
            position = end + 2
        if not pieces:
            return b""
        self._consume(position)
        return b"".join(pieces)

    def _match_chunk_line(self, position: int) -> re.Match[bytes] | None:
        # Only what has an end: a line that dribbles in would be matched again for each byte of it.
        bound = position + MAX_CHUNK_LINE
        if self._data.find(b"\n", position, bound) < 0:
            return None
        return _CHUNK_LINE.match(self._data, position, bound)

    def _read_chunk_line(self) -> bool:
        data, position = self._data, self._position
        end = data.find(b"\n", position, position + MAX_CHUNK_LINE) + 1
        if not end:
            if len(data) - position >= MAX_CHUNK_LINE:
                raise LimitExceeded(f"a chunk-size line of more than {MAX_CHUNK_LINE} bytes")
            return False
        match = _CHUNK_LINE.fullmatch(data, position, end)
        if match is None:
            raise RemoteProtocolError("malformed chunk-size line")
        self._remaining = int(match[1], 16)
        self._overhead += end - position - _FREE_CHUNK_OVERHEAD - 2 * self._remaining
        if self._overhead < 0:
            self._overhead = 0
        elif self._overhead > MAX_CHUNK_OVERHEAD:
            raise LimitExceeded("more chunk extensions than data")
        if self._remaining:
            self._consume(end)
            self._reading = Reading.CHUNK_DATA
        else:
            # The CRLF of the last chunk stays: with it an empty trailer section is an empty line too.
            self._consume(end - 2)
            self._reading = Reading.TRAILERS
        return True

    def _end_chunk(self) -> bool:
        ending = self._data[self._position : self._position + 2]
        if ending == b"\r\n":
            self._consume(self._position + 2)
            self._reading = Reading.CHUNK_LINE
            return True
        if ending and ending != b"\r":
            raise RemoteProtocolError("a chunk is not followed by CRLF")  # RFC 9112 7.1
        return False

    def _read_trailers(self) -> EndOfMessage | NeedData:
        start = self._position + 2
        end = self._data.find(b"\r\n\r\n", self._scanned)
        if end < 0:
            self._check_partial_section(start)
            return self._need_data()
        trailers = self._section(start, end + 4)
        self._message_complete()
        return EndOfMessage(trailers)

    # Bytes ---------------------------------------------------------------------------------------

    def _append(self, data: bytes) -> None:
        buffer, position = self._data, self._position
        if isinstance(buffer, bytearray):
            del buffer[:position]
        else:
            self._data = buffer = bytearray(memoryview(buffer)[position:])
        self._scanned -= position
        self._position = 0
        buffer += data

    def _take(self, most: int) -> bytes:
        """Up to *most* bytes; the very object that was received, if it is wanted whole."""
        data, position = self._data, self._position
        end = min(len(data), position + most)
        if isinstance(data, bytes):
            piece = data if position == 0 and end == len(data) else data[position:end]
        else:
            piece = bytes(memoryview(data)[position:end])
        self._consume(end)
        return piece

    def _check_partial_section(self, start: int) -> None:
        """Raise what is wrong with a field section although its end has not been seen, or is too far."""
        # A longer section would have shown its end, or one byte less than that, within these bytes.
        bound = start + self._max_fields + 2
        if BARE_LF.search(self._data, max(start, self._scanned), bound):
            raise RemoteProtocolError("a bare LF in the field section")  # RFC 9112 2.2
        if len(self._data) >= bound:
            raise LimitExceeded(f"more than {self._max_fields} bytes of fields", status=431)
