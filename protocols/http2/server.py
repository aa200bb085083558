"""The server's side of one HTTP/2 connection, over h2's H2Connection.

Push style, because receiving obliges to answer (acknowledgements, resets): after each call ask
:meth:`Http2Server.data_to_send`. Received bytes go through `frames` first, field sections through `hpack`
and `fields`; the engine has the rest. It is given settings of its own once ours are written, so that it
counts no streams: one too many is refused alone (RFC 9113 5.1.2), where h2 would end the connection.

Promises: any bytes give events or one :class:`Http2Error`, for which GOAWAY is queued; a malformed
request costs its stream only (RFC 9113 8.1.1); the body of a request has the length that it said;
nothing is acknowledged that was not consumed, except what nobody will read.
"""

import struct
from typing import Any, Final, NoReturn

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    PingAckReceived,
    RemoteSettingsChanged,
    RequestReceived,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.events import StreamEnded as EngineStreamEnded
from h2.exceptions import H2Error, ProtocolError
from h2.settings import SettingCodes, Settings

from protocols.errors import LocalProtocolError
from protocols.events import Headers, RequestHead
from protocols.http2.errors import ErrorCode, Http2Error, MalformedMessage
from protocols.http2.events import (
    Http2Event,
    PeerGoesAway,
    PingAnswered,
    StreamBroken,
    StreamData,
    StreamEnded,
    StreamRefused,
    StreamRequest,
    WindowOpened,
)
from protocols.http2.fields import ParsedRequest, check_trailers, parse_request
from protocols.http2.frames import MAX_FRAME_SIZE, FrameGuard
from protocols.http2.hpack import TABLE_SIZE, FieldSection, SectionDecoder, SectionEncoder

STREAM_WINDOW: Final = 256 * 1024
"""Bytes that a client may send on a stream before they are consumed: 5 MB/s at 50 ms of round trip."""

CONNECTION_WINDOW: Final = 2 * 1024 * 1024
"""... and on all streams together: eight handlers that read nothing leave room for the others."""

DECODED_SECTIONS: Final = 4
"""A field section this many times over the limit is still decoded, to be answered 431 (RFC 9113 10.5.1)."""

LAST_STREAM: Final = 2**31 - 1
"""The last stream id that GOAWAY can name: no stream is refused yet (RFC 9113 6.8)."""

_INITIAL_WINDOW: Final = 65_535  # RFC 9113 6.9.2
_UNLIMITED: Final = 2**31 - 1

# An engine remembers how closed streams were closed, to judge frames that are still on their way.
_Engine: Any = type("_Engine", (H2Connection,), {"MAX_CLOSED_STREAMS": 1024})


class _Stream:
    """What is known about an open stream."""

    __slots__ = ("left", "receiving", "sending")

    def __init__(self, left: int | None, receiving: bool) -> None:
        self.left = left
        """Bytes of body still to come, as content-length promises; None if it promises nothing."""
        self.receiving = receiving
        self.sending = True


class Http2Server:
    """One client connection."""

    __slots__ = (
        "_engine",
        "_failed",
        "_guard",
        "_header_count",
        "_headers",
        "_last_allowed",
        "_out",
        "_request_line",
        "_streams",
        "_streams_limit",
        "_told_peer_goes",
        "last_stream",
        "queued",
    )

    def __init__(
        self,
        *,
        streams: int = 100,
        request_line: int = 8 * 1024,
        headers: int = 64 * 1024,
        header_count: int = 100,
        stream_window: int = STREAM_WINDOW,
        connection_window: int = CONNECTION_WINDOW,
    ) -> None:
        """*streams* may be open at a time. *request_line*, *headers* and the windows are bytes.

        A request beyond *request_line* (method and :path), *headers* (as SETTINGS_MAX_HEADER_LIST_SIZE
        counts) or *header_count* is refused with 414 or 431.
        """
        self._streams_limit = streams
        self._request_line = request_line
        self._headers = headers
        self._header_count = header_count
        # Compressed sections are not larger than plain ones, but for padding and the frame's own fields.
        self._guard = FrameGuard(max_block=DECODED_SECTIONS * headers + MAX_FRAME_SIZE)
        self._streams: dict[int, _Stream] = {}
        self._last_allowed = LAST_STREAM
        self._failed: Http2Error | None = None
        self._out: list[bytes] = []
        self.queued = 0
        """Bytes to be sent, about."""
        self.last_stream = 0
        """The last stream whose request was passed on (RFC 9113 6.8)."""
        self._told_peer_goes = False
        self._engine = self._start_engine(stream_window, connection_window)
        self._collect()

    def _start_engine(self, stream_window: int, connection_window: int) -> Any:
        engine = _Engine(
            H2Configuration(
                client_side=False,
                header_encoding=None,
                # All of these are done here, for one stream at a time.
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        written: dict[SettingCodes, int] = {
            SettingCodes.HEADER_TABLE_SIZE: TABLE_SIZE,
            SettingCodes.INITIAL_WINDOW_SIZE: stream_window,
            SettingCodes.MAX_FRAME_SIZE: MAX_FRAME_SIZE,
            SettingCodes.MAX_CONCURRENT_STREAMS: self._streams_limit,
            SettingCodes.MAX_HEADER_LIST_SIZE: self._headers,
            SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,  # RFC 8441 3
        }
        engine.local_settings = Settings(client=False, initial_values=written)
        engine.initiate_connection()
        engine.local_settings = Settings(
            client=False, initial_values={**written, SettingCodes.MAX_CONCURRENT_STREAMS: _UNLIMITED}
        )
        engine.max_inbound_frame_size = MAX_FRAME_SIZE
        engine.decoder = SectionDecoder(max_size=DECODED_SECTIONS * self._headers)
        engine.encoder = SectionEncoder()
        if connection_window > _INITIAL_WINDOW:
            engine.increment_flow_control_window(connection_window - _INITIAL_WINDOW)
        return engine

    # --- facts

    @property
    def established(self) -> bool:
        """The client's preface is complete (RFC 9113 3.4)."""
        return self._guard.established

    @property
    def in_field_section(self) -> bool:
        """A field section has begun and not ended; nothing else can come (RFC 9113 4.3)."""
        return self._guard.block_stream != 0

    @property
    def connection_window(self) -> int:
        """Bytes of body that may be sent on all streams together."""
        return int(self._engine.outbound_flow_control_window)

    def is_open(self, stream_id: int) -> bool:
        """Whether anything may be sent or received on the stream."""
        return stream_id in self._streams

    def renew(self, seconds: float) -> None:
        """*seconds* have passed since the last time: the client may send that much more (RFC 9113 10.5)."""
        self._guard.renew(seconds)

    # --- receiving

    def receive_data(self, data: bytes) -> list[Http2Event]:
        """What the client has said. Raises Http2Error, and the same again from then on."""
        if self._failed is not None:
            raise Http2Error(str(self._failed), self._failed.code)
        self._collect()
        events: list[Http2Event] = []
        try:
            for event in self._engine.receive_data(self._guard.inspect(data)):
                self._translate(event, events)
        except Http2Error as error:
            self._fail(error)
        except ProtocolError as broken:
            # The engine has queued a GOAWAY too, with what it takes for the last stream: ours goes out.
            self._engine.clear_outbound_data_buffer()
            self._fail(Http2Error(str(broken) or type(broken).__name__, ErrorCode(int(broken.error_code))))
        guard = self._guard
        if guard.fault is not None:
            self._fail(guard.fault)
        if guard.goes_away and not self._told_peer_goes:
            self._told_peer_goes = True
            events.append(PeerGoesAway())
        self._collect()
        return events

    def _fail(self, error: Http2Error) -> NoReturn:
        self._streams.clear()
        self._collect()
        self.go_away(error.code, self.last_stream, str(error))
        # Not the error itself: its traceback leads back to this object.
        self._failed = Http2Error(str(error), error.code)
        raise error

    def _translate(self, event: Event, events: list[Http2Event]) -> None:
        match event:
            case DataReceived():
                self._receive_body(event, events)
            case RequestReceived():
                self._receive_request(event, events)
            case TrailersReceived():
                self._receive_trailers(event, events)
            case EngineStreamEnded():
                pass  # said with what ended it
            case WindowUpdated():
                events.append(WindowOpened(event.stream_id or 0))
            case RemoteSettingsChanged():
                events.append(WindowOpened(0))  # RFC 9113 6.9.2: a larger initial window opens them all
            case StreamReset():
                self._receive_reset(event, events)
            case PingAckReceived():
                events.append(PingAnswered())

    def _receive_request(self, event: RequestReceived, events: list[Http2Event]) -> None:
        stream_id = event.stream_id
        assert stream_id is not None
        if stream_id > self._last_allowed or len(self._streams) >= self._streams_limit:
            # RFC 9113 5.1.2, 6.8: it may be tried again elsewhere (8.7).
            self._reset_by_fault(stream_id, ErrorCode.REFUSED_STREAM)
            return
        section = _section_of(event.headers)
        request = section.request
        if request is None:
            section.request = request = parse_request(section.fields)
        ended = event.stream_ended is not None
        if request.malformed or (ended and request.content_length):
            self._reset_by_fault(stream_id, ErrorCode.PROTOCOL_ERROR)
            return
        self.last_stream = stream_id
        self._streams[stream_id] = _Stream(request.content_length, not ended)
        status, reason = self._judge(section, request)
        if status:
            events.append(StreamRefused(stream_id, status, reason, ended))
            return
        length = 0 if ended else request.content_length
        head = RequestHead(request.method, request.path, request.headers.copy(), b"2")
        events.append(StreamRequest(stream_id, head, request.authority, request.protocol, length))

    def _judge(self, section: FieldSection, request: ParsedRequest) -> tuple[int, str]:
        """Status and reason of a refusal; (0, "") if there is none."""
        if section.size > self._headers:
            return 431, f"more than {self._headers} bytes of header fields"
        if len(request.headers) > self._header_count:  # a cookie in pieces is one
            return 431, f"more than {self._header_count} header fields"
        if len(request.method) + len(request.path) > self._request_line:
            return 414, f"method and path are more than {self._request_line} bytes"
        return request.status, request.reason

    def _receive_body(self, event: DataReceived, events: list[Http2Event]) -> None:
        stream_id = event.stream_id or 0
        size = event.flow_controlled_length or 0
        data = event.data or b""
        stream = self._streams.get(stream_id)
        if stream is None:
            self.acknowledge(stream_id, size)
            return
        ended = event.stream_ended is not None
        if stream.left is not None:
            stream.left -= len(data)
            if stream.left < 0 or (ended and stream.left):
                # RFC 9113 8.1.1: content-length is not the sum of DATA.
                self.acknowledge(stream_id, size)
                self._break(stream_id, "the body has another length than content-length", events)
                return
        if size:
            events.append(StreamData(stream_id, bytes(data), size))
        if ended:
            self._end_receiving(stream_id, stream, [], events)

    def _receive_trailers(self, event: TrailersReceived, events: list[Http2Event]) -> None:
        stream_id = event.stream_id or 0
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        fields = _section_of(event.headers).fields
        try:
            check_trailers(fields)
        except MalformedMessage as malformed:
            self._break(stream_id, str(malformed), events)
            return
        if stream.left:
            self._break(stream_id, "the body is shorter than content-length", events)
            return
        self._end_receiving(stream_id, stream, fields, events)

    def _end_receiving(
        self, stream_id: int, stream: _Stream, trailers: Headers, events: list[Http2Event]
    ) -> None:
        stream.receiving = False
        if not stream.sending:
            del self._streams[stream_id]
        events.append(StreamEnded(stream_id, trailers))

    def _receive_reset(self, event: StreamReset, events: list[Http2Event]) -> None:
        stream_id = event.stream_id or 0
        if not event.remote_reset:
            # The engine answers some faults by itself (RFC 9113 5.1, 6.9.1); asking for them is a flood
            # like any other (CVE-2025-8671).
            self._guard.count_reset()
        if self._streams.pop(stream_id, None) is not None:
            code = int(event.error_code or 0)
            by = "the client" if event.remote_reset else "a fault of the client"
            events.append(StreamBroken(stream_id, code, f"the stream was reset by {by}"))

    def _break(self, stream_id: int, reason: str, events: list[Http2Event]) -> None:
        """End a stream whose request was passed on and turns out to be malformed."""
        self._reset_by_fault(stream_id, ErrorCode.PROTOCOL_ERROR)
        events.append(StreamBroken(stream_id, ErrorCode.PROTOCOL_ERROR, reason))

    def _reset_by_fault(self, stream_id: int, code: ErrorCode) -> None:
        self._guard.count_reset()
        self.reset(stream_id, code)

    # --- answering

    def acknowledge(self, stream_id: int, size: int) -> None:
        """*size* bytes were consumed: the client may send as many more (RFC 9113 5.2)."""
        self._engine.acknowledge_received_data(size, stream_id)
        self.queued += 13

    def send_informational(self, stream_id: int, status: int, headers: Headers) -> None:
        """A 1xx response; never END_STREAM, never 101 (RFC 9113 8.1, 8.6)."""
        if status == 101 or not 100 <= status < 200:
            raise LocalProtocolError(f"{status} is not an informational response of HTTP/2")
        self._send_fields(stream_id, [(b":status", b"%d" % status), *headers], end=False)

    def send_head(self, stream_id: int, fields: Headers, *, end: bool) -> None:
        """The final response's head: *fields* begin with ``:status``, names are in lower case."""
        self._send_fields(stream_id, fields, end=end)

    def send_trailers(self, stream_id: int, trailers: Headers) -> None:
        """The end of the response, with trailers (RFC 9113 8.1)."""
        self._send_fields(stream_id, trailers, end=True)

    def room(self, stream_id: int) -> int:
        """Bytes of body that one `send_data` may have now: by both windows and the size of a frame."""
        if stream_id not in self._streams:
            return 0
        engine = self._engine
        # RFC 9113 6.9.2: a window may be negative. Frames of the initial size keep turns short.
        return max(0, min(int(engine.local_flow_control_window(stream_id)), MAX_FRAME_SIZE))

    def send_data(self, stream_id: int, data: bytes | memoryview, *, end: bool) -> None:
        """One DATA frame of at most `room` bytes."""
        stream = self._sending(stream_id)
        self._command("send_data", stream_id, data, end)
        size = len(data)
        self._guard.credit(size)
        self.queued += size + 9
        if end:
            self._end_sending(stream_id, stream)

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """End the stream at once, both ways (RFC 9113 6.4). Nothing if it has ended."""
        self._streams.pop(stream_id, None)
        stream = self._engine.streams.get(stream_id)
        if stream is not None and stream.open:
            self._command("reset_stream", stream_id, ErrorCodes(int(code)))
            self.queued += 13

    def ping(self) -> None:
        """Ask for a sign of life; PingAnswered comes back."""
        self._command("ping", b"\0gateway")
        self.queued += 17

    def go_away(self, code: ErrorCode, last_stream: int, detail: str = "") -> None:
        """Announce that streams above *last_stream* will not be handled (RFC 9113 6.8).

        Unlike the engine's own, it ends nothing: streams up to there go on.
        """
        self._last_allowed = last_stream
        self._collect()
        data = detail.encode("ascii", "replace")[:200]
        frame = struct.pack(">HBBBLLL", 0, 8 + len(data), 0x7, 0, 0, last_stream, code)
        self._out.append(frame + data)
        self.queued += len(frame) + len(data)

    def data_to_send(self) -> bytes:
        """All that is queued for the client; it is not queued any more."""
        self._collect()
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out = []
        self.queued = 0
        return data

    def _send_fields(self, stream_id: int, fields: Headers, *, end: bool) -> None:
        stream = self._sending(stream_id)
        self._command("send_headers", stream_id, fields, end)
        self.queued += 100
        if end:
            self._end_sending(stream_id, stream)

    def _sending(self, stream_id: int) -> _Stream:
        stream = self._streams.get(stream_id)
        if stream is None or not stream.sending:
            raise LocalProtocolError(f"nothing can be sent on stream {stream_id} any more")
        return stream

    def _end_sending(self, stream_id: int, stream: _Stream) -> None:
        stream.sending = False
        if not stream.receiving:
            del self._streams[stream_id]

    def _command(self, name: str, *arguments: Any) -> None:
        try:
            getattr(self._engine, name)(*arguments)
        except H2Error as error:
            raise LocalProtocolError(f"{name}: {error}") from error

    def _collect(self) -> None:
        data = self._engine.data_to_send()
        if data:
            self._out.append(data)


def _section_of(headers: Any) -> FieldSection:
    """What `SectionDecoder` has put in the place of the fields."""
    section = headers[0][1]
    assert isinstance(section, FieldSection)
    return section
