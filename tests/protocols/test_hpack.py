"""Field sections of HTTP/2: large ones are decoded in pieces, and mean what they mean as a whole."""

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.http2 import ErrorCode, Http2Error
from gateway.protocols.http2.hpack import SectionDecoder, SectionEncoder, pieces_of

PIECE = 1024

SMALL_FIELD = b"\x00\x01x\x01y"  # RFC 7541 6.2.2: a literal with a name of its own, for no table

fields = st.lists(
    st.tuples(
        st.text("abcdefgh-", min_size=1, max_size=200).map(str.encode),
        st.binary(max_size=20) | st.binary(min_size=100, max_size=600),
    ),
    max_size=40,
)


def decoder(*, max_count: int = 10_000) -> SectionDecoder:
    return SectionDecoder(max_size=1_000_000, max_count=max_count)


def refused(block: bytes, **limits: int) -> ErrorCode:
    with pytest.raises(Http2Error) as caught:
        decoder(**limits).decode(block)
    return caught.value.code


@given(sections=st.lists(fields, max_size=4), huffman=st.booleans(), size=st.sampled_from([0, 200, 4096]))
def test_pieces_mean_the_same_as_the_whole(
    sections: list[list[tuple[bytes, bytes]]], huffman: bool, size: int
) -> None:
    """One section after the other, with the table that they share."""
    encoder, ours, theirs = Encoder(), decoder(), Decoder()
    encoder.header_table_size = size
    for section in sections:
        block = encoder.encode(section, huffman=huffman)
        assert ours.decode(block).fields == theirs.decode(block, raw=True)


@given(st.binary(max_size=30).map(lambda data: data * 100))
def test_pieces_of_anything_are_all_of_it(block: bytes) -> None:
    assert b"".join(pieces_of(block)) == block


def test_pieces_are_small() -> None:
    """hpack copies what is left of what it was given, for each literal in it."""
    pieces = list(pieces_of(SMALL_FIELD * 10_000))
    assert max(map(len, pieces)) < PIECE + len(SMALL_FIELD)
    assert decoder().decode(SMALL_FIELD * 10_000).fields == [(b"x", b"y")] * 10_000


def test_size_of_the_table_changes_at_the_beginning_only() -> None:
    """RFC 7541 4.2."""
    change = b"\x3f\xe1\x1f"
    assert len(decoder().decode(change + SMALL_FIELD * 1000).fields) == 1000
    assert refused(SMALL_FIELD * 205 + change + SMALL_FIELD * 1000) == ErrorCode.COMPRESSION_ERROR


@pytest.mark.parametrize("rest", [b"\x00\xff" + b"\x80" * 5000, b"\x00\x01x\x7f", b"\x80", b"\x00"])
def test_malformed_behind_the_first_pieces(rest: bytes) -> None:
    assert refused(SMALL_FIELD * 1000 + rest) == ErrorCode.COMPRESSION_ERROR


@pytest.mark.parametrize("block", [b"\xff" + b"\x80" * 10, b"\xff"])
def test_no_address_of_memory_is_told(block: bytes) -> None:
    """What is wrong goes to the client in GOAWAY."""
    with pytest.raises(Http2Error, match=r"malformed field section: [\w ]+$"):
        decoder().decode(block)


@pytest.mark.parametrize("block", [SMALL_FIELD * 101, b"\x82" * 101, b"\x82" * 5000])
def test_more_fields_than_anybody_sends_end_the_connection(block: bytes) -> None:
    assert refused(block, max_count=100) == ErrorCode.ENHANCE_YOUR_CALM


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ([], b""),
        ([4096], b""),
        ([0], b"\x20"),
        ([0, 0], b"\x20"),
        ([0, 100, 100], b"\x20\x3f\x45"),
        ([100, 0, 4096, 4096], b"\x20\x3f\xe1\x1f"),
        ([0, 100] * 1000, b"\x20\x3f\x45"),
        ([0, 1_000_000], b"\x20\x3f\xe1\x1f"),
    ],
)
def test_changes_of_the_clients_table_are_said_once(sizes: list[int], said: bytes) -> None:
    """RFC 7541 4.2: the smallest size and the last one, at the beginning of the next section."""
    encoder = SectionEncoder()
    for size in sizes:
        encoder.resize(size)
    ok = [(b":status", b"200")]
    assert encoder.encode(ok) == said + b"\x88"
    assert encoder.encode(ok) == b"\x88"


@pytest.mark.parametrize(("length", "shortened"), [(500, True), (10_000, False)])
def test_long_values_are_sent_as_they_are(length: int, shortened: bool) -> None:
    """A value of 1 MB took minutes of the event loop: hpack's Huffman coding is quadratic."""
    headers = [(b"a", b"b"), (b"location", b"/" * length), (b"c", b"d" * 100)]
    encoder = SectionEncoder()
    encoder.resize(100)
    block = encoder.encode(headers)
    assert (headers[1][1] in block) is not shortened
    assert headers[2][1] not in block
    peer = Decoder()
    peer.max_allowed_table_size = 4096
    assert list(peer.decode(block, raw=True)) == headers
