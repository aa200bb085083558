"""Several requests on one connection, in the role of the web server (FastCGI 3.3): who gets which record.

To the codec of each request (:class:`gateway.protocols.fastcgi.client.FastCgiClient`) the connection looks
as if it had it for itself: there its id is 1. Here each has an id of its own, and the ids of records are
exchanged both ways::

    FastCgiClient ──► id 1 ─┐                       ┌─► id 1 ──►
    FastCgiClient ──► id 1 ─┼─► to_application ─►   ├─► id 2 ──► application
    FastCgiClient ──► id 1 ─┘                       └─► id 3 ──►

and back by `next_record`. What a response means is the codecs' concern; here only END_REQUEST is understood,
which frees an id. The protocol has no flow control: how much may wait for one request, and what becomes of
the others then, is the caller's.
"""

from heapq import heappop, heappush
from typing import Final

from gateway.protocols.errors import LocalProtocolError, RemoteProtocolError
from gateway.protocols.fastcgi.records import (
    ABORT_REQUEST,
    END_REQUEST,
    FROM_APPLICATIONS,
    HEADER_LENGTH,
    RecordReader,
    encode_record,
    not_from_applications,
)

HIGHEST_ID: Final = 65535
"""FastCGI 3.3: requestId has 16 bits, and 0 is for management records."""


class Multiplexer:
    """One connection to an application that takes several requests on it.

    ``sound`` becomes false when something came that no request had asked for: FastCGI 3.3 lets it be ignored,
    but the id will be used again, and what comes late once may come late into another response. Then begin no
    more requests.
    """

    __slots__ = ("_error", "_free", "_highest", "_reader", "_requests", "offence", "sound")

    def __init__(self) -> None:
        self._reader = RecordReader(status=502)
        # Ids in use: whether somebody still wants what comes for it.
        self._requests: dict[int, bool] = {}
        # FastCGI 3.3: ids are small numbers, used again and again.
        self._free: list[int] = []
        self._highest = 0
        self._error: RemoteProtocolError | None = None
        self.sound = True
        self.offence = b""
        """After RemoteProtocolError: what makes the codec of each request find the same fault."""

    @property
    def active(self) -> int:
        """How many ids are in use, those of abandoned requests among them."""
        return len(self._requests)

    # Sending

    def begin(self) -> int:
        """An id for a new request."""
        if self._free:
            request_id = heappop(self._free)
        elif self._highest < HIGHEST_ID:
            self._highest += 1
            request_id = self._highest
        else:
            raise LocalProtocolError(f"{HIGHEST_ID} FastCGI requests are active")
        self._requests[request_id] = True
        return request_id

    def release(self, request_id: int) -> None:
        """The request was given up before anything of it was sent."""
        del self._requests[request_id]
        heappush(self._free, request_id)

    def abandon(self, request_id: int) -> bytes:
        """The bytes that ask the application to end the request (FastCGI 5.4).

        What still comes of it is dropped. Its id is used again only after END_REQUEST.
        """
        self._requests[request_id] = False
        return encode_record(ABORT_REQUEST, request_id)

    def to_application(self, request_id: int, records: bytes | memoryview) -> bytes:
        """Whole *records* of the codec of that request, as the application gets them."""
        if request_id == 1:
            return bytes(records)
        out = bytearray(records)
        number = request_id.to_bytes(2, "big")
        position = 0
        while position < len(out):
            out[position + 2 : position + 4] = number
            # FastCGI 3.3: contentLengthB1, contentLengthB0, paddingLength.
            position += HEADER_LENGTH + (out[position + 4] << 8) + out[position + 5] + out[position + 6]
        return bytes(out)

    # Receiving

    def receive_data(self, data: bytes) -> None:
        """Store bytes from the application."""
        self._reader.receive_data(data)

    def next_record(self) -> tuple[int, bytes, bool] | None:
        """The id of a request, a record for its codec, and whether that is its last; None if more is needed.

        A record comes in pieces, each as a record of its own, as they arrive. Of an abandoned request only
        the end comes, without a record. Raises RemoteProtocolError for what is no FastCGI, or not from an
        application.
        """
        if self._error is not None:
            raise self._error.again()
        try:
            return self._next_record()
        except RemoteProtocolError as error:
            self._error = error.again()
            self.sound = False
            self.offence = self.offence or self._reader.rest
            raise

    def _next_record(self) -> tuple[int, bytes, bool] | None:
        while (record := self._reader.next_record()) is not None:
            record_type, request_id, content = record
            if not request_id:
                continue  # FastCGI 4: an answer to what nobody has asked here
            if record_type not in FROM_APPLICATIONS:
                self.offence = encode_record(record_type, 1)
                raise not_from_applications(record_type)
            wanted = self._requests.get(request_id)
            ended = record_type == END_REQUEST
            if wanted is None:
                self.sound = False
                continue
            if ended:
                self.release(request_id)
            if wanted:
                return request_id, encode_record(record_type, 1, content), ended
            if ended:
                return request_id, b"", True
        return None
