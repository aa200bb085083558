"""RFC 9110 section 13 on one file: etag "e", modified 1994-11-06 08:49:37."""

import tracemalloc
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.static.conditional import (
    conditional_fields,
    failed_precondition,
    http_date,
    parse_date,
    range_is_current,
)

ETAG = b'"e"'
MODIFIED = 784111777
DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"
EARLIER = b"Sun, 06 Nov 1994 08:49:36 GMT"
LATER = b"Sun, 06 Nov 1994 08:49:38 GMT"


def test_collects_conditional_fields_and_joins_lines() -> None:
    """RFC 9110 5.3."""
    headers = [
        (b"host", b"x"),
        (b"if-none-match", b'"a"'),
        (b"range", b"bytes=0-1"),
        (b"if-none-match", b'"b"'),
    ]
    assert conditional_fields(headers) == {b"if-none-match": b'"a", "b"', b"range": b"bytes=0-1"}


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (b'"e"', None),
        (b'"a", "e"', None),
        (b'"a","e" , "b"', None),
        (b"*", None),
        (b'W/"e"', 412),
        (b'"a"', 412),
        (b"e", 412),
        (b"", 412),
    ],
)
def test_if_match_compares_strongly(value: bytes, status: int | None) -> None:
    """RFC 9110 13.1.1."""
    assert failed_precondition({b"if-match": value}, ETAG, MODIFIED) == status


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (b'"e"', 304),
        (b'W/"e"', 304),
        (b'"a", W/"e"', 304),
        (b'"a,b", "e"', 304),
        (b"*", 304),
        (b" * ", 304),
        (b'"a"', None),
        (b'"E"', None),
        (b"e", None),
        (b'"*"', None),
        (b"", None),
    ],
)
def test_if_none_match_compares_weakly(value: bytes, status: int | None) -> None:
    """RFC 9110 13.1.2."""
    assert failed_precondition({b"if-none-match": value}, ETAG, MODIFIED) == status


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (DATE, 304),
        (LATER, 304),
        (EARLIER, None),
        (b"yesterday", None),
        (b"", None),
        (DATE + b", " + DATE, None),
    ],
)
def test_if_modified_since(value: bytes, status: int | None) -> None:
    """RFC 9110 13.1.3: a value that is no date is ignored."""
    assert failed_precondition({b"if-modified-since": value}, ETAG, MODIFIED) == status


@pytest.mark.parametrize(
    ("value", "status"), [(DATE, None), (LATER, None), (EARLIER, 412), (b"yesterday", None), (b"", None)]
)
def test_if_unmodified_since(value: bytes, status: int | None) -> None:
    """RFC 9110 13.1.4."""
    assert failed_precondition({b"if-unmodified-since": value}, ETAG, MODIFIED) == status


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({b"if-match": b'"e"', b"if-unmodified-since": EARLIER}, None),  # step 1 hides 2
        ({b"if-match": b'"a"', b"if-none-match": b'"e"'}, 412),  # 1 before 3
        ({b"if-unmodified-since": EARLIER, b"if-none-match": b'"e"'}, 412),  # 2 before 3
        ({b"if-match": b'"e"', b"if-none-match": b'"e"'}, 304),  # 1 holds, go on to 3
        ({b"if-unmodified-since": DATE, b"if-modified-since": DATE}, 304),  # 2 holds, go on to 4
        ({b"if-none-match": b'"a"', b"if-modified-since": DATE}, None),  # step 3 hides 4
        ({b"if-none-match": b'"e"', b"if-modified-since": EARLIER}, 304),
        ({}, None),
        ({b"range": b"bytes=0-0"}, None),
    ],
)
def test_conditions_are_evaluated_in_order(fields: dict[bytes, bytes], status: int | None) -> None:
    """RFC 9110 13.2.2."""
    assert failed_precondition(fields, ETAG, MODIFIED) == status


@pytest.mark.parametrize(
    ("value", "after", "expected"),
    [
        (b'"e"', 0, True),
        (b'W/"e"', 100, False),
        (b'"a"', 100, False),
        (b'"a", "e"', 100, False),  # one validator, not a list
        (DATE, 100, True),
        (DATE, 1, True),
        (DATE, 0.5, False),  # may change again in this second: weak
        (LATER, 100, False),  # not "not later" but exactly
        (EARLIER, 100, False),
        (b"e", 100, False),
    ],
)
def test_if_range_needs_a_strong_validator(value: bytes, after: float, expected: bool) -> None:
    """RFC 9110 13.1.5, 8.8.2.2."""
    assert range_is_current({b"if-range": value}, ETAG, MODIFIED, MODIFIED + after) is expected


def test_range_without_if_range_is_obeyed() -> None:
    assert range_is_current({b"range": b"bytes=0-0"}, ETAG, MODIFIED, MODIFIED)


@pytest.mark.parametrize(
    "value",
    [DATE, b"Sunday, 06-Nov-94 08:49:37 GMT", b"Sun Nov  6 08:49:37 1994", b"Sun, 06 Nov 1994 08:49:37 GMT"],
)
def test_reads_all_three_forms_of_a_date(value: bytes) -> None:
    """RFC 9110 5.6.7."""
    assert parse_date(value) == MODIFIED


def test_a_year_of_two_digits_is_at_most_fifty_years_ahead() -> None:
    """RFC 9110 5.6.7."""
    this_year = datetime.now(UTC).year
    for ahead, year in [(50, this_year + 50), (51, this_year - 49), (0, this_year)]:
        seconds = parse_date(b"Sunday, 06-Nov-%02d 08:49:37 GMT" % ((this_year + ahead) % 100))
        assert seconds is not None
        assert datetime.fromtimestamp(seconds, UTC).year == year


@pytest.mark.parametrize(
    "value",
    [
        b"Sun, 31 Feb 1994 08:49:37 GMT",
        b"Sun, 06 Foo 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 25:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49:37 +0000",
        b"Sun, 06 Nov 1994 08:49:37",
        b"784111777",
        DATE + b"x",
        DATE + b"\n",
    ],
)
def test_what_is_no_date_is_none(value: bytes) -> None:
    assert parse_date(value) is None


def test_what_is_too_long_for_a_date_is_not_kept() -> None:
    tracemalloc.start()
    try:
        for number in range(20):
            assert parse_date(b"%d" % number * 50_000) is None
        assert tracemalloc.get_traced_memory()[0] < 300_000  # all of them: 1.5 MB; other threads count, too
    finally:
        tracemalloc.stop()


def test_a_leap_second_is_a_date() -> None:
    assert parse_date(b"Sat, 31 Dec 2016 23:59:60 GMT") == parse_date(b"Sat, 31 Dec 2016 23:59:59 GMT")


@given(st.integers(0, 253402300799))
def test_dates_survive_the_way_there_and_back(seconds: int) -> None:
    assert parse_date(http_date(seconds)) == seconds


@given(st.binary(max_size=40))
def test_any_bytes_are_a_date_or_none(value: bytes) -> None:
    assert isinstance(parse_date(value), int | None)
