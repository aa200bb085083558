"""The server's side of one HTTP/2 connection.

Push style, because receiving obliges to answer (acknowledgements, resets): after each call ask
:meth:`Http2Server.data_to_send`. `frames` cuts and bounds what arrives, `hpack` and `fields` understand
field sections, `windows` counts; here are the states of streams (RFC 9113 5.1), and what each frame does.

Promises: any bytes give events or one :class:`Http2Error`, for which GOAWAY is queued; a malformed
request costs its stream only (RFC 9113 8.1.1); the body of a request has the length that it said;
nothing is acknowledged that was not consumed, except what nobody will read.
"""

import struct
from math import inf
from typing import Final

from gateway.protocols.errors import LocalProtocolError
from gateway.protocols.events import Headers, RequestHead
from gateway.protocols.http2.errors import ErrorCode, Http2Error, MalformedMessage
from gateway.protocols.http2.events import (
    Http2Event,
    PeerGoesAway,
    PingAnswered,
    StreamBroken,
    StreamData,
    StreamEnded,
    StreamMalformed,
    StreamRefused,
    StreamRequest,
    WindowOpened,
)
from gateway.protocols.http2.fields import ParsedRequest, check_trailers, parse_request
from gateway.protocols.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    MAX_FRAME_SIZE,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    FrameReader,
    check_dependency,
    fragment_of,
    frame_head,
    without_padding,
)
from gateway.protocols.http2.hpack import TABLE_SIZE, FieldSection, SectionDecoder, SectionEncoder
from gateway.protocols.http2.settings import (
    ENABLE_CONNECT_PROTOCOL,
    ENABLE_PUSH,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_HEADER_LIST_SIZE,
    SETTINGS_MAX_FRAME_SIZE,
    encode_settings,
    parse_settings,
)
from gateway.protocols.http2.windows import INITIAL_WINDOW, LARGEST_WINDOW, ReceiveWindow, Stream

STREAM_WINDOW: Final = 256 * 1024
"""Bytes that a client may send on a stream before they are consumed: 5 MB/s at 50 ms of round trip."""

CONNECTION_WINDOW: Final = 2 * 1024 * 1024
"""... and on all streams together: eight handlers that read nothing leave room for the others."""

DECODED_SECTIONS: Final = 4
"""A field section this many times over the limit is still decoded, to be answered 431 (RFC 9113 10.5.1)."""

LAST_STREAM: Final = 2**31 - 1
"""The last stream id that GOAWAY can name: no stream is refused yet (RFC 9113 6.8)."""

MOST_QUEUED: Final = 512 * 1024
"""Bytes that may wait for a client that makes us answer (PING, SETTINGS, resets) and does not read: more
than a turn of responses with their heads. CVE-2019-9512, CVE-2019-9515."""

_RESETS_REMEMBERED: Final = 1024
"""Streams whose frames may still be on their way when we have reset them (RFC 9113 5.1)."""


class Http2Server:
    """One client connection."""

    __slots__ = (
        "_block",
        "_block_ends",
        "_decoder",
        "_encoder",
        "_failed",
        "_header_count",
        "_headers",
        "_highest",
        "_initial_window",
        "_last_allowed",
        "_next_push",
        "_out",
        "_push_enabled",
        "_pushes",
        "_reader",
        "_request_line",
        "_reset_here",
        "_stream_window",
        "_streams",
        "_streams_limit",
        "_takes_connect",
        "_told_peer_goes",
        "_window_in",
        "connection_window",
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
        takes_connect: bool = False,
    ) -> None:
        """*streams* may be open at a time. *request_line*, *headers* and the windows are bytes.

        A request beyond *request_line* (method and :path), *headers* (as SETTINGS_MAX_HEADER_LIST_SIZE
        counts) or *header_count* is refused with 414 or 431, with 501 if :method alone is too long, and
        without *takes_connect* a CONNECT that is not extended with 501.
        """
        self._takes_connect = takes_connect
        self._streams_limit = streams
        self._request_line = request_line
        self._headers = headers
        self._header_count = header_count
        # Compressed sections are not larger than plain ones, but for padding and the frame's own fields.
        self._reader = FrameReader(max_block=DECODED_SECTIONS * headers + MAX_FRAME_SIZE)
        self._decoder = SectionDecoder(
            max_size=DECODED_SECTIONS * headers, max_count=DECODED_SECTIONS * header_count
        )
        self._encoder = SectionEncoder()
        self._block: list[bytes] = []
        self._block_ends = False
        self._streams: dict[int, Stream] = {}
        self._reset_here: dict[int, None] = {}  # the oldest first
        self._highest = 0
        self._last_allowed = LAST_STREAM
        self._next_push = 2  # RFC 9113 5.1.1: streams of the server are even
        self._push_enabled = True  # RFC 9113 6.5.2
        self._pushes: float = inf
        """Streams of the server that the client allows at a time."""
        self._stream_window = stream_window
        self._window_in = ReceiveWindow(max(connection_window, INITIAL_WINDOW))
        self._initial_window = INITIAL_WINDOW
        self.connection_window = INITIAL_WINDOW
        """Bytes of body that may be sent on all streams together."""
        self._failed: Http2Error | None = None
        self._told_peer_goes = False
        self._out: list[bytes] = []
        self.queued = 0
        """Bytes to be sent."""
        self.last_stream = 0
        """The last stream whose request was passed on (RFC 9113 6.8)."""
        ours = {
            HEADER_TABLE_SIZE: TABLE_SIZE,
            ENABLE_PUSH: 0,
            MAX_CONCURRENT_STREAMS: streams,
            INITIAL_WINDOW_SIZE: stream_window,
            SETTINGS_MAX_FRAME_SIZE: MAX_FRAME_SIZE,
            MAX_HEADER_LIST_SIZE: headers,
            ENABLE_CONNECT_PROTOCOL: 1,
        }
        self._put(SETTINGS, 0, 0, encode_settings(ours))
        if connection_window > INITIAL_WINDOW:
            self._put_increment(0, connection_window - INITIAL_WINDOW)

    # --- facts

    @property
    def established(self) -> bool:
        """The client's preface is complete (RFC 9113 3.4)."""
        return self._reader.established

    @property
    def open_section(self) -> int:
        """The stream of the field section that has begun and not ended; nothing else can come (RFC 9113 4.3).

        0 if there is none.
        """
        return self._reader.open_section

    @property
    def takes_pushes(self) -> bool:
        """Whether the client allows streams that the server opens (RFC 9113 8.4)."""
        return self._push_enabled and self._pushes > 0

    @property
    def room_in(self) -> int:
        """Bytes of body that the client may send on all streams together."""
        return self._window_in.left

    def is_open(self, stream_id: int) -> bool:
        """Whether anything may be sent or received on the stream."""
        return stream_id in self._streams

    def renew(self, seconds: float) -> None:
        """*seconds* have passed since the last time: the client may send that much more (RFC 9113 10.5)."""
        self._reader.renew(seconds)

    # --- receiving

    def receive_data(self, data: bytes) -> list[Http2Event]:
        """What the client has said. Raises Http2Error, and the same again from then on."""
        if self._failed is not None:
            raise self._failed.again()
        reader = self._reader
        passed_on = self.last_stream
        events: list[Http2Event] = []
        try:
            reader.receive_data(data)
            while reader.advance():
                self._receive_frame(reader.kind, reader.flags, reader.stream_id, reader.payload, events)
            self._check_queue()
        except Http2Error as error:
            self.last_stream = passed_on  # what came together with the fault is not
            self._fail(error)
            raise
        return events

    def _check_queue(self) -> None:
        if self.queued > MOST_QUEUED:
            raise Http2Error("the client asks for answers and does not read", ErrorCode.ENHANCE_YOUR_CALM)

    def _fail(self, error: Http2Error) -> None:
        self._streams.clear()
        self.go_away(error.code, self.last_stream, str(error))
        self._failed = error.again()

    def _receive_frame(
        self, kind: int, flags: int, stream_id: int, payload: bytes, events: list[Http2Event]
    ) -> None:
        if kind == HEADERS:
            self._block_ends = flags & END_STREAM != 0
            self._receive_block(flags, stream_id, fragment_of(flags, stream_id, payload), events)
        elif kind == DATA:
            self._receive_body(flags, stream_id, payload, events)
        elif kind == WINDOW_UPDATE:
            self._receive_increment(stream_id, int.from_bytes(payload, "big") & LARGEST_WINDOW, events)
        elif kind == RST_STREAM:
            self._receive_reset(stream_id, int.from_bytes(payload, "big"), events)
        elif kind == SETTINGS:
            if not flags & ACK:
                self._receive_settings(payload)
                events.append(WindowOpened(0))  # RFC 9113 6.9.2: a larger initial window opens them all
        elif kind == PING:
            if flags & ACK:
                events.append(PingAnswered())
            else:
                self._put(PING, ACK, 0, payload)
        elif kind == CONTINUATION:
            self._receive_block(flags, stream_id, payload, events)
        elif kind == GOAWAY:
            if not self._told_peer_goes:
                self._told_peer_goes = True
                events.append(PeerGoesAway())
        elif kind == PRIORITY:
            check_dependency(stream_id, payload)
        # RFC 9113 5.5: others are ignored.

    def _receive_block(self, flags: int, stream_id: int, fragment: bytes, events: list[Http2Event]) -> None:
        self._block.append(fragment)
        if not flags & END_HEADERS:
            return
        block, self._block = self._block, []
        # RFC 9113 4.3: also if nobody wants it, for the state of compression.
        section = self._decoder.decode(block[0] if len(block) == 1 else b"".join(block))
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._receive_trailers(stream_id, stream, section, events)
        elif stream_id > self._highest and stream_id & 1:
            self._highest = stream_id
            self._receive_request(stream_id, section, events)
        elif stream_id not in self._reset_here:
            raise Http2Error("HEADERS on a closed stream, or one that is not a client's")  # RFC 9113 5.1.1

    def _receive_request(self, stream_id: int, section: FieldSection, events: list[Http2Event]) -> None:
        if stream_id > self._last_allowed or len(self._streams) - self._pushed() >= self._streams_limit:
            # RFC 9113 5.1.2, 6.8: it may be tried again elsewhere (8.7).
            self._reset_by_fault(stream_id, ErrorCode.REFUSED_STREAM)
            return
        request = section.request
        if request is None:
            section.request = request = parse_request(section.fields)
        ended = self._block_ends
        malformed = request.malformed
        if not malformed and ended and request.content_length:
            malformed = "content-length without content"
        if malformed:
            self._reset_by_fault(stream_id, ErrorCode.PROTOCOL_ERROR)
            events.append(StreamMalformed(stream_id, malformed))
            return
        self.last_stream = stream_id
        tunnel = request.connect or request.protocol != b""
        self._streams[stream_id] = Stream(
            request.content_length, not ended, self._initial_window, self._stream_window, tunnel
        )
        head = RequestHead(request.method, request.path, request.headers.copy(), b"2")
        status, reason = self._judge(section, request)
        if status:
            events.append(StreamRefused(stream_id, head, status, reason))
            return
        length = 0 if ended else request.content_length
        events.append(StreamRequest(stream_id, head, request.authority, request.protocol, tunnel, length))

    def _judge(self, section: FieldSection, request: ParsedRequest) -> tuple[int, str]:
        """Status and reason of a refusal; (0, "") if there is none."""
        if section.size > self._headers:
            return 431, f"more than {self._headers} bytes of header fields"
        if len(request.headers) > self._header_count:  # a cookie in pieces is one
            return 431, f"more than {self._header_count} header fields"
        if len(request.method) > self._request_line:  # as over HTTP/1.1
            return 501, f"a method of more than {self._request_line} bytes"
        if len(request.method) + len(request.path) > self._request_line:
            return 414, f"method and path are more than {self._request_line} bytes"
        if request.connect and not self._takes_connect:
            # As over HTTP/1.1. RFC 9110 9.3.6: most servers do not implement it.
            return 501, "CONNECT is not implemented"
        return request.status, request.reason

    def _receive_trailers(
        self, stream_id: int, stream: Stream, section: FieldSection, events: list[Http2Event]
    ) -> None:
        if not stream.receiving:
            self._break(stream_id, "HEADERS behind the end of the request", events, ErrorCode.STREAM_CLOSED)
            return
        if stream.tunnel:
            self._break(stream_id, "HEADERS in a tunnel", events)  # RFC 9113 8.5
            return
        if not self._block_ends or stream.left:
            reason = "the body is shorter than content-length" if stream.left else "HEADERS amid the body"
            self._break(stream_id, reason, events)
            return
        if section.size > self._headers or len(section.fields) > self._header_count:
            self._break(stream_id, "too many trailers", events, ErrorCode.ENHANCE_YOUR_CALM)
            return
        try:
            check_trailers(section.fields)
        except MalformedMessage as malformed:
            self._break(stream_id, str(malformed), events)
            return
        self._end_receiving(stream_id, stream, section.fields, events)

    def _receive_body(self, flags: int, stream_id: int, payload: bytes, events: list[Http2Event]) -> None:
        data = without_padding(flags, payload)
        size = len(payload)
        self._window_in.take(size)
        stream = self._streams.get(stream_id)
        if stream is None:
            self._give(size)
            self._receive_late_body(stream_id)
            return
        if not stream.receiving:
            self._give(size)
            self._break(stream_id, "DATA behind the end of the request", events, ErrorCode.STREAM_CLOSED)
            return
        stream.window_in.take(size)
        ended = flags & END_STREAM != 0
        if stream.left is not None:
            stream.left -= len(data)
            if stream.left < 0 or (ended and stream.left):
                # RFC 9113 8.1.1: content-length is not the sum of DATA.
                self._give(size)
                self._break(stream_id, "the body has another length than content-length", events)
                return
        if size:
            events.append(StreamData(stream_id, data, size))
        if ended:
            self._end_receiving(stream_id, stream, [], events)

    def _receive_late_body(self, stream_id: int) -> None:
        """DATA on a stream that is not open. RFC 9113 5.1: fine if we have reset it."""
        if self._is_idle(stream_id):
            raise Http2Error("DATA on an idle stream")
        if stream_id not in self._reset_here:
            self._reset_by_fault(stream_id, ErrorCode.STREAM_CLOSED)

    def _end_receiving(
        self, stream_id: int, stream: Stream, trailers: Headers, events: list[Http2Event]
    ) -> None:
        stream.receiving = False
        if not stream.sending:
            del self._streams[stream_id]
        events.append(StreamEnded(stream_id, trailers))

    def _receive_reset(self, stream_id: int, code: int, events: list[Http2Event]) -> None:
        if self._is_idle(stream_id):
            raise Http2Error("RST_STREAM on an idle stream")  # RFC 9113 6.4
        if stream_id & 1:  # it may refuse what we push (8.4.2)
            self._reader.count_reset()
        self._reset_here.pop(stream_id, None)  # nothing was on its way behind this
        if self._streams.pop(stream_id, None) is not None:
            events.append(StreamBroken(stream_id, code, "the stream was reset by the client"))

    def _receive_increment(self, stream_id: int, increment: int, events: list[Http2Event]) -> None:
        """RFC 9113 6.9: a fault costs what it is about, the stream or the connection."""
        if self._is_idle(stream_id):
            raise Http2Error("WINDOW_UPDATE on an idle stream")
        stream = self._streams.get(stream_id)
        if stream is None:
            if stream_id:
                return  # closed
            self.connection_window += increment
            window = self.connection_window
        else:
            stream.window += increment
            window = stream.window
        if increment and window <= LARGEST_WINDOW:
            events.append(WindowOpened(stream_id))
            return
        code = ErrorCode.FLOW_CONTROL_ERROR if increment else ErrorCode.PROTOCOL_ERROR
        reason = "a window is too large" if increment else "WINDOW_UPDATE of nothing"
        if stream is None:
            raise Http2Error(reason, code)
        self._break(stream_id, reason, events, code)

    def _is_idle(self, stream_id: int) -> bool:
        """RFC 9113 5.1.1: nothing was ever said on it."""
        return stream_id > self._highest if stream_id & 1 else stream_id >= self._next_push

    def _receive_settings(self, payload: bytes) -> None:
        window = self._initial_window
        for key, value in parse_settings(payload):
            if key == ENABLE_PUSH:
                self._push_enabled = value == 1
            elif key == MAX_CONCURRENT_STREAMS:
                self._pushes = float(value)
            elif key == HEADER_TABLE_SIZE:
                self._encoder.resize(value)
            elif key == INITIAL_WINDOW_SIZE:
                window = value
        # Once, however often it was said: of all streams, and to the same in the end.
        self._change_windows(window)
        self._put(SETTINGS, ACK, 0, b"")

    def _change_windows(self, size: int) -> None:
        """RFC 9113 6.9.2: windows of open streams become larger or smaller by the difference."""
        change = size - self._initial_window
        self._initial_window = size
        for stream in self._streams.values():
            stream.window += change
            if stream.window > LARGEST_WINDOW:
                raise Http2Error("a window is too large", ErrorCode.FLOW_CONTROL_ERROR)

    def _break(
        self,
        stream_id: int,
        reason: str,
        events: list[Http2Event],
        code: ErrorCode = ErrorCode.PROTOCOL_ERROR,
    ) -> None:
        """End a stream whose request was passed on, for what came later."""
        del self._streams[stream_id]
        self._reset_by_fault(stream_id, code)
        events.append(StreamBroken(stream_id, code, reason, fault=True))

    def _reset_by_fault(self, stream_id: int, code: ErrorCode) -> None:
        # Asking for resets is a flood like any other (CVE-2025-8671).
        self._reader.count_reset()
        self._put_reset(stream_id, code)

    # --- answering

    def acknowledge(self, stream_id: int, size: int) -> None:
        """*size* bytes were consumed: the client may send as many more (RFC 9113 5.2)."""
        if self._failed is not None:
            return
        self._give(size)
        stream = self._streams.get(stream_id)
        if stream is not None and stream.receiving:
            increment = stream.window_in.give(size)
            if increment:
                self._put_increment(stream_id, increment)

    def _give(self, size: int) -> None:
        increment = self._window_in.give(size)
        if increment:
            self._put_increment(0, increment)

    def send_informational(self, stream_id: int, status: int, headers: Headers) -> None:
        """A 1xx response; never END_STREAM, never 101 (RFC 9113 8.1, 8.6)."""
        if status == 101 or not 100 <= status < 200:
            raise LocalProtocolError(f"{status} is not an informational response of HTTP/2")
        self._sending(stream_id, answered=False)
        self._put_fields(stream_id, [(b":status", b"%d" % status), *headers], end=False)

    def push(self, stream_id: int, fields: Headers) -> int:
        """Promise the response to a request of *fields*, which has no body, while *stream_id* is answered.

        The new stream, on which the response is sent like any other; 0 if the client takes none now
        (RFC 9113 8.4).
        """
        stream = self._streams.get(stream_id)
        if stream is None or not stream.sending or not stream_id & 1:
            raise LocalProtocolError(f"nothing can be pushed on stream {stream_id}, or not any more")
        promised = self._next_push
        if not self._push_enabled or self._pushed() >= self._pushes:
            return 0
        if self._told_peer_goes or promised > LAST_STREAM:
            return 0
        self._next_push = promised + 2
        self._streams[promised] = Stream(0, False, self._initial_window, self._stream_window)
        self._put_fields(stream_id, fields, end=False, promised=promised)
        return promised

    def _pushed(self) -> int:
        """How many streams of the server are open."""
        if self._next_push == 2:
            return 0
        return sum(not stream_id & 1 for stream_id in self._streams)

    def send_head(self, stream_id: int, fields: Headers, *, end: bool) -> None:
        """The final response's head: *fields* begin with ``:status``, names are in lower case."""
        stream = self._sending(stream_id, answered=False)
        stream.answered = True
        self._put_fields(stream_id, fields, end=end)
        if end:
            self._end_sending(stream_id, stream)

    def send_trailers(self, stream_id: int, trailers: Headers) -> None:
        """The end of the response, with trailers (RFC 9113 8.1)."""
        stream = self._sending(stream_id, answered=True)
        self._put_fields(stream_id, trailers, end=True)
        self._end_sending(stream_id, stream)

    def room(self, stream_id: int) -> int:
        """Bytes of body that one `send_data` may have now: by both windows and the size of a frame."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return 0
        # RFC 9113 6.9.2: a window may be negative. Frames of the initial size keep turns short.
        return max(0, min(stream.window, self.connection_window, MAX_FRAME_SIZE))

    def send_data(self, stream_id: int, data: bytes | memoryview, *, end: bool) -> None:
        """One DATA frame of at most `room` bytes."""
        stream = self._sending(stream_id, answered=True)
        size = len(data)
        if size > self.room(stream_id):
            raise LocalProtocolError(f"stream {stream_id} has no room for {size} bytes")
        stream.window -= size
        self.connection_window -= size
        self._reader.credit(size)
        # A copy of what could be changed meanwhile.
        self._put(DATA, END_STREAM if end else 0, stream_id, bytes(data))
        if end:
            self._end_sending(stream_id, stream)

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """End the stream at once, both ways (RFC 9113 6.4). Nothing if it has ended."""
        if self._streams.pop(stream_id, None) is not None:
            self._put_reset(stream_id, code)

    def ping(self) -> None:
        """Ask for a sign of life; PingAnswered comes back."""
        if self._failed is None:
            self._put(PING, 0, 0, b"\0gateway")

    def go_away(self, code: ErrorCode, last_stream: int, detail: str = "") -> None:
        """Announce that streams above *last_stream* will not be handled (RFC 9113 6.8).

        It ends nothing: streams up to there go on.
        """
        if self._failed is not None:
            return  # the last word was said
        self._last_allowed = last_stream
        data = detail.encode("ascii", "replace")[:200]
        self._put(GOAWAY, 0, 0, struct.pack(">LL", last_stream, code) + data)

    def data_to_send(self) -> bytes:
        """All that is queued for the client; it is not queued any more."""
        data = b"".join(self._out)
        self._out = []
        self.queued = 0
        return data

    def _sending(self, stream_id: int, *, answered: bool) -> Stream:
        """The stream, if what comes before its final head (or what comes behind) can be sent on it."""
        stream = self._streams.get(stream_id)
        if stream is None or not stream.sending or stream.answered is not answered:
            raise LocalProtocolError(f"this cannot be sent on stream {stream_id}, or not any more")
        return stream

    def _end_sending(self, stream_id: int, stream: Stream) -> None:
        stream.sending = False
        if not stream.receiving:
            del self._streams[stream_id]

    # --- frames of ours

    def _put(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        self._out.append(frame_head(len(payload), kind, flags, stream_id))
        self._out.append(payload)
        self.queued += 9 + len(payload)

    def _put_fields(self, stream_id: int, fields: Headers, *, end: bool, promised: int = 0) -> None:
        block = self._encoder.encode(fields)
        kind, flags = HEADERS, END_STREAM if end else 0
        if promised:  # RFC 9113 6.6
            kind, block = PUSH_PROMISE, promised.to_bytes(4, "big") + block
        while len(block) > MAX_FRAME_SIZE:  # RFC 9113 4.3
            self._put(kind, flags, stream_id, block[:MAX_FRAME_SIZE])
            kind, flags, block = CONTINUATION, 0, block[MAX_FRAME_SIZE:]
        self._put(kind, flags | END_HEADERS, stream_id, block)

    def _put_increment(self, stream_id: int, increment: int) -> None:
        self._put(WINDOW_UPDATE, 0, stream_id, increment.to_bytes(4, "big"))

    def _put_reset(self, stream_id: int, code: ErrorCode) -> None:
        self._put(RST_STREAM, 0, stream_id, int(code).to_bytes(4, "big"))
        self._reset_here[stream_id] = None
        if len(self._reset_here) > _RESETS_REMEMBERED:
            del self._reset_here[next(iter(self._reset_here))]
