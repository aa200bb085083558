"""FastCGI records: the format (FastCGI 3.3, section 8) and the reader that cuts a byte stream into them.

The reader checks everything that a header alone can break and hands the content of stream records over
as it arrives, so that no record is ever assembled in memory. It knows nothing of requests.
"""

from dataclasses import dataclass
from enum import Enum
from struct import Struct
from typing import Final

from gateway.protocols.errors import LimitExceeded, Refusal, RemoteProtocolError

VERSION: Final = 1

# FastCGI 8: the record types.
BEGIN_REQUEST: Final = 1
ABORT_REQUEST: Final = 2
END_REQUEST: Final = 3
PARAMS: Final = 4
STDIN: Final = 5
STDOUT: Final = 6
STDERR: Final = 7
DATA: Final = 8
GET_VALUES: Final = 9
GET_VALUES_RESULT: Final = 10
UNKNOWN_TYPE: Final = 11

TYPE_NAMES: Final = {
    BEGIN_REQUEST: "BEGIN_REQUEST",
    ABORT_REQUEST: "ABORT_REQUEST",
    END_REQUEST: "END_REQUEST",
    PARAMS: "PARAMS",
    STDIN: "STDIN",
    STDOUT: "STDOUT",
    STDERR: "STDERR",
    DATA: "DATA",
    GET_VALUES: "GET_VALUES",
    GET_VALUES_RESULT: "GET_VALUES_RESULT",
    UNKNOWN_TYPE: "UNKNOWN_TYPE",
}

KEEP_CONN: Final = 1
"""The flag of BEGIN_REQUEST that leaves closing the connection to the web server (FastCGI 5.1)."""

CONTENT_LIMIT: Final = 65535
"""Bytes of content in one record: contentLength has 16 bits (FastCGI 3.3)."""

MANAGEMENT_LIMIT: Final = 4096
"""Bytes of a GET_VALUES or GET_VALUES_RESULT record. Three variables exist; they take under 100."""

HEADER_LENGTH: Final = 8
_HEADER: Final = Struct(">BBHHBx")
_BEGIN_BODY: Final = Struct(">HB5x")
_END_BODY: Final = Struct(">IB3x")

FROM_APPLICATIONS: Final = frozenset({END_REQUEST, STDOUT, STDERR})
"""What may come from an application at all (FastCGI 8), beside management records."""

_FIXED_LENGTHS: Final = {BEGIN_REQUEST: 8, END_REQUEST: 8, UNKNOWN_TYPE: 8}


class Role(Enum):
    """What the web server wants of the application (FastCGI 5.1)."""

    RESPONDER = 1
    AUTHORIZER = 2
    FILTER = 3


@dataclass(slots=True)
class FilterData:
    """Some bytes of the file that a Filter is to filter; empty at its end (FastCGI 6.4)."""

    data: bytes


@dataclass(slots=True)
class AbortRequest:
    """The web server does not want the response any more: end the request soon (FastCGI 5.4)."""


# FastCGI 5.5: protocolStatus of END_REQUEST; 0 is REQUEST_COMPLETE.
PROTOCOL_STATUS: Final = {
    Refusal.CANT_MULTIPLEX: 1,
    Refusal.OVERLOADED: 2,
    Refusal.UNKNOWN_ROLE: 3,
}
REFUSALS: Final = {number: refusal for refusal, number in PROTOCOL_STATUS.items()}


# Encoding. FastCGI 3.3 recommends padding to eight bytes, for the alignment of a C struct. None is sent:
# it is optional, every receiver must take records of any length, and it would cost a copy per record.


def encode_record(record_type: int, request_id: int, content: bytes = b"") -> bytes:
    """One record; *content* is at most CONTENT_LIMIT bytes."""
    return _HEADER.pack(VERSION, record_type, request_id, len(content), 0) + content


def encode_stream(record_type: int, request_id: int, content: bytes) -> bytes:
    """*content* as records of a stream: as many as it needs, none for no content.

    The empty record is the end of a stream (FastCGI 3.3), so it is never made by accident.
    """
    if len(content) <= CONTENT_LIMIT:
        return encode_record(record_type, request_id, content) if content else b""
    view = memoryview(content)
    parts: list[bytes | memoryview] = []
    for start in range(0, len(content), CONTENT_LIMIT):
        piece = view[start : start + CONTENT_LIMIT]
        parts += _HEADER.pack(VERSION, record_type, request_id, len(piece), 0), piece
    return b"".join(parts)


def encode_begin_request(request_id: int, role: Role, *, keep_connection: bool) -> bytes:
    flags = KEEP_CONN if keep_connection else 0
    return encode_record(BEGIN_REQUEST, request_id, _BEGIN_BODY.pack(role.value, flags))


def encode_end_request(
    request_id: int, *, application_status: int = 0, refusal: Refusal | None = None
) -> bytes:
    # FastCGI 5.5: appStatus is an exit status, which may be negative, in 32 bits.
    protocol_status = PROTOCOL_STATUS[refusal] if refusal is not None else 0
    return encode_record(
        END_REQUEST, request_id, _END_BODY.pack(application_status & 0xFFFFFFFF, protocol_status)
    )


def encode_unknown_type(record_type: int) -> bytes:
    return encode_record(UNKNOWN_TYPE, 0, bytes([record_type, 0, 0, 0, 0, 0, 0, 0]))


# Decoding


def decode_begin_request(content: bytes) -> tuple[int, bool]:
    """The number of the role, and whether the connection is to be kept."""
    role, flags = _BEGIN_BODY.unpack(content)
    return role, bool(flags & KEEP_CONN)


def decode_end_request(content: bytes) -> tuple[int, int]:
    """The application status and the number of the protocol status."""
    application_status, protocol_status = _END_BODY.unpack(content)
    return application_status, protocol_status


def not_from_applications(record_type: int) -> RemoteProtocolError:
    return RemoteProtocolError(f"FastCGI {TYPE_NAMES[record_type]} record from an application", status=502)


class RecordReader:
    """Cuts what arrives into records.

    ``status`` is that of the errors it raises: 502 if the peer is an application, 400 if it is a client.
    """

    __slots__ = ("_data", "_position", "_skip", "_status", "_stream", "_unread", "eof")

    def __init__(self, *, status: int) -> None:
        self._status = status
        self._data = b""
        self._position = 0
        # Of the stream record whose content is being handed over: its type and id, and how much is to come.
        self._stream = (0, 0)
        self._unread = 0
        # Padding, or content that has no meaning, still to be dropped.
        self._skip = 0
        self.eof = False

    @property
    def rest(self) -> bytes:
        """What has arrived and was not taken: after an error it begins with the header that is none."""
        return self._data[self._position :]

    @property
    def at_boundary(self) -> bool:
        """Whether nothing has arrived beyond the last complete record."""
        return self._position == len(self._data) and not self._unread and not self._skip

    def receive_data(self, data: bytes) -> None:
        """Store *data*; ``b""`` is the end of input."""
        if not data:
            self.eof = True
        elif self._position == len(self._data):
            # The usual case, without a copy: all before was consumed.
            self._data = data
            self._position = 0
        else:
            # Less than a header or a short record is left if the caller reads until there is nothing.
            self._data = self._data[self._position :] + data
            self._position = 0

    def take_single(self, record_type: int, request_id: int, endings: frozenset[bytes]) -> bytes | None:
        """The content of the one record of that type that is all that is here, before one of *endings*.

        None, and nothing taken, if it is anything else.
        """
        data = self._data
        if self._position or self._unread or self._skip or len(data) < HEADER_LENGTH:
            return None
        version, its_type, its_id, length, padding = _HEADER.unpack_from(data)
        end = HEADER_LENGTH + length
        if (version, its_type, its_id) != (VERSION, record_type, request_id) or not length:
            return None
        if data[end + padding :] not in endings:
            return None
        self._position = len(data)
        return data[HEADER_LENGTH:end]

    def next_record(self) -> tuple[int, int, bytes] | None:
        """Type, request id and content of what comes next; None if more data is needed.

        A stream record comes in pieces, as they arrive; empty content is the end of the stream. Any
        other known record comes whole. A management record of an unknown type comes without content.
        """
        if self._unread:
            return self._next_piece()
        if self._skip and not self._skipped():
            return None
        position = self._position
        content_start = position + HEADER_LENGTH
        data = self._data
        if len(data) < content_start:
            return None
        version, record_type, request_id, length, padding = _HEADER.unpack_from(data, position)
        if version != VERSION:
            raise self._error(f"version {version} instead of 1")
        if PARAMS <= record_type <= DATA and request_id:
            self._position = content_start
            self._skip = padding
            if not length:
                return record_type, request_id, b""
            self._stream = record_type, request_id
            self._unread = length
            return self._next_piece()
        return self._whole_record(record_type, request_id, length, padding)

    def _next_piece(self) -> tuple[int, int, bytes] | None:
        start = self._position
        piece = self._data[start : start + self._unread]
        if not piece:
            return None
        self._position = start + len(piece)
        self._unread -= len(piece)
        record_type, request_id = self._stream
        return record_type, request_id, piece

    def _skipped(self) -> bool:
        """Whether all that was to be dropped has arrived and is gone."""
        count = min(self._skip, len(self._data) - self._position)
        self._position += count
        self._skip -= count
        return not self._skip

    def _whole_record(
        self, record_type: int, request_id: int, length: int, padding: int
    ) -> tuple[int, int, bytes] | None:
        """The record at the position if it is not part of a stream, or None if it has not all arrived."""
        # FastCGI 3.3: request id 0 is for management records and only for them.
        if BEGIN_REQUEST <= record_type <= DATA:
            if not request_id:
                raise self._error("request id 0 on an application record")
        elif request_id:
            kind = "a management" if record_type in TYPE_NAMES else "an unknown type of"
            raise self._error(f"a request id on {kind} record")
        if length != _FIXED_LENGTHS.get(record_type, length):
            raise self._error(f"{length} bytes of content instead of {_FIXED_LENGTHS[record_type]}")
        if record_type == ABORT_REQUEST or record_type not in TYPE_NAMES:
            self._position += HEADER_LENGTH
            self._skip = length + padding
            return record_type, request_id, b""
        if length > MANAGEMENT_LIMIT:
            name = TYPE_NAMES[record_type]
            raise LimitExceeded(f"{name} record of more than {MANAGEMENT_LIMIT} bytes", status=self._status)
        start = self._position + HEADER_LENGTH
        if len(self._data) < start + length:
            return None
        self._position = start + length
        self._skip = padding
        return record_type, request_id, self._data[start : self._position]

    def _error(self, problem: str) -> RemoteProtocolError:
        header = self._data[self._position : self._position + HEADER_LENGTH]
        return RemoteProtocolError(
            f"invalid FastCGI record, {problem} (header {header.hex(' ')})", status=self._status
        )
