"""RFC 9110 section 14 on files of some size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.static.ranges import MAX_RANGES, ByteRange, Multipart, parse_range


@pytest.mark.parametrize(
    ("value", "ranges"),
    [
        (b"bytes=0-0", [(0, 1)]),
        (b"bytes=0-9", [(0, 10)]),
        (b"bytes=0-99", [(0, 10)]),
        (b"bytes=3-", [(3, 7)]),
        (b"bytes=-3", [(7, 3)]),
        (b"bytes=-99", [(0, 10)]),
        (b"BYTES=1-2", [(1, 2)]),
        (b"bytes=0-1,4-5", [(0, 2), (4, 2)]),
        (b"bytes=4-5 ,\t0-1", [(4, 2), (0, 2)]),
        (b"bytes=,0-1,,-1,", [(0, 2), (9, 1)]),
        (b"bytes=0-0,10-", [(0, 1)]),
        (b"bytes=0-" + b"9" * 5000, [(0, 10)]),
    ],
)
def test_gives_the_parts_that_are_there(value: bytes, ranges: list[tuple[int, int]]) -> None:
    """RFC 9110 14.1.2."""
    assert parse_range(value, 10) == ranges


@pytest.mark.parametrize(
    "value", [b"bytes=10-", b"bytes=10-20,30-", b"bytes=-0", b"bytes=" + b"9" * 5000 + b"-"]
)
def test_nothing_is_left_of_unsatisfiable_ranges(value: bytes) -> None:
    """RFC 9110 14.1.2, 15.5.17."""
    assert parse_range(value, 10) == []


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"bytes",
        b"bytes=",
        b"bytes=,",
        b"bytes=-",
        b"bytes=a-b",
        b"bytes=5-4",
        b"bytes=0-1;2-3",
        b"bytes=0-1,x",
        b"bytes= 0 - 1",
        b"bytes=+1-2",
        b"bytes=0x1-2",
        b"bytes=0--1",
        b"bytes 0-1",
        b"lines=0-1",
        b"bytes=0-1, bytes=2-3",
        "bytes=\u0660-".encode(),
    ],
)
def test_malformed_ranges_and_other_units_are_ignored(value: bytes) -> None:
    """RFC 9110 14.2."""
    assert parse_range(value, 10) is None


def test_ranges_of_an_empty_file_are_ignored() -> None:
    assert parse_range(b"bytes=0-", 0) is None
    assert parse_range(b"bytes=-1", 0) is None


def test_too_many_ranges_are_ignored() -> None:
    """RFC 9110 14.2, 17.15: many small ranges are an attack or a mistake."""

    def value(count: int) -> bytes:
        return b"bytes=" + b",".join(b"%d-%d" % (2 * i, 2 * i) for i in range(count))

    ranges = parse_range(value(MAX_RANGES), 1000)
    assert ranges is not None
    assert len(ranges) == MAX_RANGES
    assert parse_range(value(MAX_RANGES + 1), 1000) is None


def test_overlapping_ranges_that_are_more_than_the_file_are_ignored() -> None:
    """RFC 9110 14.2."""
    assert parse_range(b"bytes=0-,0-", 10) is None
    assert parse_range(b"bytes=0-4,4-8", 10) == [(0, 5), (4, 5)]


@given(st.text(st.sampled_from("0123456789-, "), max_size=20), st.integers(1, 200))
def test_any_range_is_within_the_file(specs: str, size: int) -> None:
    for part in parse_range(b"bytes=" + specs.encode(), size) or []:
        assert 0 <= part.first < part.first + part.length <= size


def test_content_range_counts_from_zero_to_the_last_byte() -> None:
    """RFC 9110 14.4."""
    assert ByteRange(0, 500).content_range(1234) == b"bytes 0-499/1234"


def test_multipart_promises_the_length_that_it_has() -> None:
    """RFC 9110 14.6."""
    ranges = [ByteRange(0, 2), ByteRange(5, 3)]
    multipart = Multipart(ranges, 10, b"text/plain")
    content = b"0123456789"
    parts = zip(multipart.heads, ranges, strict=True)
    body = b"".join(head + content[r.first : r.first + r.length] for head, r in parts) + multipart.end
    assert len(body) == multipart.length
    boundary = multipart.content_type.removeprefix(b"multipart/byteranges; boundary=")
    assert body == (
        b"\r\n--B\r\ncontent-type: text/plain\r\ncontent-range: bytes 0-1/10\r\n\r\n01"
        b"\r\n--B\r\ncontent-type: text/plain\r\ncontent-range: bytes 5-7/10\r\n\r\n567"
        b"\r\n--B--\r\n".replace(b"--B", b"--" + boundary)
    )


def test_boundaries_differ() -> None:
    first, second = (Multipart([ByteRange(0, 1)], 1, b"text/plain").content_type for _ in range(2))
    assert first != second
