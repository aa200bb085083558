"""A client of HTTP/2 for tests: frames made by hand, so that they can be wrong.

``from tests.protocols.http2_peer import …``.
"""

from collections.abc import Iterator
from typing import Any

from hpack import Decoder, Encoder
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, RstStreamFrame

from gateway.protocols.events import Headers
from gateway.protocols.http2 import PREFACE, Http2Event, Http2Server

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9

END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 1, 1, 4, 8, 32

GET: Headers = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a")]
POST: Headers = [(b":method", b"POST"), *GET[1:]]


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """RFC 9113 4.1."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big") + payload


def data(stream_id: int, payload: bytes = b"", *, end: bool = False) -> bytes:
    return frame(DATA, END_STREAM * end, stream_id, payload)


def reset(stream_id: int, code: int = 8) -> bytes:
    return frame(RST_STREAM, 0, stream_id, code.to_bytes(4, "big"))


def settings(*pairs: tuple[int, int]) -> bytes:
    payload = b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in pairs)
    return frame(SETTINGS, 0, 0, payload)


def window(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, increment.to_bytes(4, "big"))


def parsed(received: bytes) -> Iterator[Frame]:
    """The frames in *received*, all of which are whole."""
    while received:
        each, length = Frame.parse_frame_header(memoryview(received[:9]))
        assert len(received) >= 9 + length
        each.parse_body(memoryview(received[9 : 9 + length]))
        yield each
        received = received[9 + length :]


class Peer:
    """A client whose connection to *codec* has begun."""

    def __init__(self, codec: Http2Server | None = None, *, settings_first: bytes = settings()) -> None:
        self.codec = codec or Http2Server()
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.say(PREFACE + settings_first)
        self.greeting = self.heard()

    def say(self, *pieces: bytes) -> list[Http2Event]:
        """The events of all *pieces*."""
        return [event for piece in pieces for event in self.codec.receive_data(piece)]

    def headers(self, stream_id: int, fields: Headers = GET, *, end: bool = True) -> bytes:
        """A whole field section in one frame."""
        return frame(HEADERS, END_HEADERS | END_STREAM * end, stream_id, self.encoder.encode(fields))

    def heard(self) -> list[Frame]:
        """The frames that the server has sent since the last time."""
        return list(parsed(self.codec.data_to_send()))

    def response(self) -> tuple[list[Headers], bytes, bool]:
        """Field sections, body and end of the only stream that the server has sent something on."""
        sections: list[Headers] = []
        body, ended = b"", False
        for each in self.heard():
            if isinstance(each, HeadersFrame):
                sections.append([(name, value) for name, value in self.decoder.decode(each.data, raw=True)])
            elif isinstance(each, DataFrame):
                body += each.data
            ended = ended or "END_STREAM" in each.flags
        return sections, body, ended


def resets(frames: list[Frame]) -> list[tuple[int, int]]:
    """Stream and code of each RST_STREAM."""
    return [(each.stream_id, each.error_code) for each in frames if isinstance(each, RstStreamFrame)]


def goaways(frames: list[Frame]) -> list[tuple[int, int]]:
    """Last stream and code of each GOAWAY."""
    return [(each.last_stream_id, each.error_code) for each in frames if isinstance(each, GoAwayFrame)]


def kinds(events: list[Any]) -> list[str]:
    return [type(event).__name__ for event in events]
