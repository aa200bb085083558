"""The masks of clients' frames (RFC 6455 5.3): four bytes that a payload is XORed with again and again.

Compiled, eight bytes are taken at a time, by mypyc's own library: a tenth of the time of all that Python
itself offers, which is what is left where nothing is compiled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librt.strings import BytesWriter, read_i64_le, write_i64_le

if TYPE_CHECKING:
    from mypy_extensions import i64  # a type that mypyc knows

_COMPILED: Final = not __file__.endswith(".py")

_LONGEST_INTEGER: Final = 512
"""Bytes up to which long integers are faster than tables."""

_XOR: Final = [bytes([byte ^ mask for byte in range(256)]) for mask in range(256)]
"""For each byte of a mask what becomes of a byte."""


def unmask(payload: bytes, mask: bytes) -> bytes:
    """*payload* with *mask*, four bytes, taken off: or put on, which is the same."""
    return unmask_words(payload, mask) if _COMPILED else unmask_whole(payload, mask)


def unmask_words(payload: bytes, mask: bytes) -> bytes:
    """Eight bytes at a time: slow unless it is compiled."""
    size: i64 = len(payload)
    key: i64 = read_i64_le(mask + mask, 0)
    out = BytesWriter()
    at: i64 = 0
    while at + 8 <= size:
        write_i64_le(out, read_i64_le(payload, at) ^ key)
        at += 8
    while at < size:
        out.append(payload[at] ^ mask[at & 3])
        at += 1
    return out.getvalue()


def unmask_whole(payload: bytes, mask: bytes) -> bytes:
    """Short ones by one operation on long integers, long ones by tables, as wsproto does."""
    size = len(payload)
    if size > _LONGEST_INTEGER:
        data = bytearray(payload)
        for i in range(4):
            data[i::4] = data[i::4].translate(_XOR[mask[i]])
        return bytes(data)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")
