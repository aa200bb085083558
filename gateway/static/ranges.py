"""Byte ranges (RFC 9110 section 14): which parts of a file the client wants, and how several are sent.

A server may ignore Range at any time (14.2), and does so here for what is malformed, for units other than
bytes, for an empty file, and for requests that cost more than the whole file: more than MAX_RANGES parts,
or parts that overlap to more bytes than there are.
"""

import re
import secrets
from collections.abc import Sequence
from typing import Final, NamedTuple

MAX_RANGES: Final = 16
"""Parts of one answer. Readers of PDF ask for a handful; Apache's bound is 200, and thousands were an
attack on it (CVE-2011-3192)."""

# RFC 9110 14.1.1: int-range = first-pos "-" [ last-pos ]; suffix-range = "-" suffix-length
_SPEC: Final = re.compile(rb"(\d*)-(\d*)\Z")
_UNIT: Final = re.compile(rb"bytes=", re.IGNORECASE)
_MAX_DIGITS: Final = 18
"""Longer numbers are beyond any file, and int() is slow for very long ones."""


class ByteRange(NamedTuple):
    """A part of a file that is there."""

    first: int
    length: int

    def content_range(self, size: int) -> bytes:
        """The value of Content-Range in a file of *size* bytes (RFC 9110 14.4)."""
        return b"bytes %d-%d/%d" % (self.first, self.first + self.length - 1, size)


def parse_range(value: bytes, size: int) -> list[ByteRange] | None:
    """The parts that *value* asks for, in its order; None to ignore it; empty if none can be had (416)."""
    unit = _UNIT.match(value)
    if unit is None or size == 0:
        return None
    specs = [spec.strip(b" \t") for spec in value[unit.end() :].split(b",")]
    wanted = [_SPEC.match(spec) for spec in specs if spec]  # RFC 9110 5.6.1: empty elements are ignored
    if not 0 < len(wanted) <= MAX_RANGES:
        return None
    ranges: list[ByteRange] = []
    for spec in wanted:
        if spec is None:
            return None
        first, last = _number(spec[1]), _number(spec[2])
        if first is None:
            if last is None:
                return None
            first, last = max(size - last, 0), None
        elif last is not None and last < first:
            return None
        if first < size:
            end = size if last is None else min(last + 1, size)
            ranges.append(ByteRange(first, end - first))
    return ranges if sum(part.length for part in ranges) <= size else None


def _number(digits: bytes) -> int | None:
    if not digits:
        return None
    return int(digits) if len(digits) <= _MAX_DIGITS else 10**_MAX_DIGITS


class Multipart:
    """The framing of several parts in one body: multipart/byteranges (RFC 9110 14.6)."""

    def __init__(self, ranges: Sequence[ByteRange], size: int, kind: bytes) -> None:
        # Random, so that it is in no file, and 24 characters of the 70 allowed (RFC 2046 5.1.1).
        boundary = secrets.token_hex(12).encode("ascii")
        self.content_type = b"multipart/byteranges; boundary=" + boundary
        self.heads = [
            b"\r\n--%b\r\ncontent-type: %b\r\ncontent-range: %b\r\n\r\n"
            % (boundary, kind, part.content_range(size))
            for part in ranges
        ]
        """What stands before each part."""
        self.end = b"\r\n--%b--\r\n" % boundary
        self.length = sum(map(len, self.heads)) + sum(part.length for part in ranges) + len(self.end)
        """Bytes of the whole body."""
