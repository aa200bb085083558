"""HTTP/2 under any bytes and any frames: events or one error, and streams that add up."""

from itertools import pairwise

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.http2 import (
    PREFACE,
    ErrorCode,
    Http2Error,
    Http2Server,
    StreamBroken,
    StreamEnded,
    StreamRequest,
)
from tests.protocols.http2_peer import END_HEADERS, GET, HEADERS, POST, frame, parsed, settings

BLOCKS = [
    Encoder().encode(fields) for fields in (GET, POST, [*POST, (b"content-length", b"3")], [(b"x", b"y")])
]

payloads = st.one_of(
    st.sampled_from(
        [*BLOCKS, b"", bytes(4), bytes(5), bytes(8), b"\x00\x04\x00\x00\x00\x01", b"\x7f" + bytes(3)]
    ),
    st.binary(max_size=20),
)
frames = st.one_of(
    st.builds(
        frame,
        st.integers(0, 10),
        st.sampled_from([0, 1, 4, 5, 8, 0x20, 0x25, 0xFF]),
        st.sampled_from([0, 1, 1, 3, 5, 2, 7]),
        payloads,
    ),
    st.builds(
        lambda stream_id, end, block: frame(HEADERS, END_HEADERS | end, stream_id, block),
        st.sampled_from([1, 3, 5, 7, 9]),
        st.sampled_from([0, 1]),
        st.sampled_from(BLOCKS),
    ),
)


def play(codec: Http2Server, data: bytes, cuts: list[int]) -> tuple[set[int], ErrorCode | None]:
    """The streams that are being answered, and how the connection ended."""
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    running: set[int] = set()
    ended: set[int] = set()
    failed: Http2Error | None = None
    try:
        for start, stop in pairwise(edges):
            for event in codec.receive_data(data[start:stop]):
                if isinstance(event, StreamRequest):
                    assert event.stream_id not in running
                    running.add(event.stream_id)
                elif isinstance(event, StreamBroken):
                    running.remove(event.stream_id)
                elif isinstance(event, StreamEnded):
                    assert event.stream_id in running
                    assert event.stream_id not in ended
                    ended.add(event.stream_id)
            assert all(codec.is_open(stream_id) for stream_id in running)
    except Http2Error as error:
        failed = error
    if failed is None:
        return running, None
    with pytest.raises(Http2Error) as again:
        codec.receive_data(b"x")
    assert again.value.code == failed.code
    return running, failed.code


@given(st.lists(frames, max_size=12), st.lists(st.integers(0, 400)))
def test_any_frames(pieces: list[bytes], cuts: list[int]) -> None:
    """Streams begin once and end once, what is open can be answered, and all that is sent is frames."""
    codec = Http2Server(streams=3)
    running, error = play(codec, PREFACE + settings() + b"".join(pieces), cuts)
    for stream_id in running:
        if error is None:
            codec.send_head(stream_id, [(b":status", b"200")], end=False)
            room = codec.room(stream_id)
            if room > 0:
                codec.send_data(stream_id, b"x", end=True)
            codec.reset(stream_id, ErrorCode.NO_ERROR)
        assert not codec.is_open(stream_id)
    assert list(parsed(codec.data_to_send()))


@given(st.binary(max_size=300), st.lists(st.integers(0, 400)), st.booleans())
def test_any_bytes(data: bytes, cuts: list[int], begun: bool) -> None:
    play(Http2Server(), (PREFACE + settings()) * begun + data, cuts)


@given(st.lists(frames, max_size=8), st.lists(st.integers(0, 400)))
def test_pieces_have_no_meaning(pieces: list[bytes], cuts: list[int]) -> None:
    """The outcome is the same in one piece and in many."""
    data = PREFACE + settings() + b"".join(pieces)
    assert play(Http2Server(), data, [])[1] == play(Http2Server(), data, cuts)[1]
