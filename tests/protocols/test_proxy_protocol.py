# ruff: noqa: E501 - one row is one case
"""The PROXY protocol: rows of (header, bytes) used both ways, whole and cut everywhere; each refusal."""

from itertools import chain, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.errors import Incomplete, RemoteProtocolError
from gateway.protocols.proxy_protocol import (
    Command,
    ProxyHeader,
    ProxyHeaderReader,
    crc32c,
    encode_header,
)

SIGNATURE = bytes.fromhex("0D0A0D0A000D0A515549540A")
V4 = bytes([192, 0, 2, 1, 198, 51, 100, 1]) + (50000).to_bytes(2, "big") + (443).to_bytes(2, "big")
V6 = bytes.fromhex("20010db8000000000000000000000001 20010db8000000000000000000000002") + b"\xc3\x50\x01\xbb"
UNIX = b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0")
PROXY = Command.PROXY


def binary(command: int, family: int, rest: bytes) -> bytes:
    """A header of version 2 by hand."""
    return SIGNATURE + bytes([command, family]) + len(rest).to_bytes(2, "big") + rest


def tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + len(value).to_bytes(2, "big") + value


def checked(command: int, family: int, rest: bytes) -> bytes:
    """As `binary`, with a checksum (PROXY 2.2.3)."""
    zeros = binary(command, family, rest + tlv(3, bytes(4)))
    return zeros[:-4] + crc32c(zeros).to_bytes(4, "big")


def read(data: bytes, cuts: tuple[int, ...] = ()) -> tuple[ProxyHeader | None, int]:
    """The header in *data*, given in pieces, and how many bytes were taken."""
    reader = ProxyHeaderReader()
    taken = 0
    edges = (0, *cuts, len(data))
    for start, stop in pairwise(edges):
        if start < stop:
            taken += reader.receive_data(data[start:stop])
    return reader.header, taken


FROM4 = ("192.0.2.1", 50000)
TO4 = ("198.51.100.1", 443)
FROM6 = ("2001:db8::1", 50000)
TO6 = ("2001:db8::2", 443)
MAPPED = ("::ffff:10.0.0.1", 50000)

ROWS = [
    (ProxyHeader(1, PROXY, FROM4, TO4), b"PROXY TCP4 192.0.2.1 198.51.100.1 50000 443\r\n"),
    (ProxyHeader(1, PROXY, FROM6, TO6), b"PROXY TCP6 2001:db8::1 2001:db8::2 50000 443\r\n"),
    (ProxyHeader(1, PROXY, MAPPED, TO6), b"PROXY TCP6 ::ffff:10.0.0.1 2001:db8::2 50000 443\r\n"),
    (ProxyHeader(1, PROXY, ("0.0.0.0", 0), TO4), b"PROXY TCP4 0.0.0.0 198.51.100.1 0 443\r\n"),
    (ProxyHeader(1, PROXY), b"PROXY UNKNOWN\r\n"),
    (ProxyHeader(2, PROXY, FROM4, TO4), binary(0x21, 0x11, V4)),
    (ProxyHeader(2, PROXY, FROM6, TO6), binary(0x21, 0x21, V6)),
    (ProxyHeader(2, PROXY, MAPPED, TO6), binary(0x21, 0x21, bytes(10) + b"\xff\xff\x0a\0\0\1" + V6[16:])),
    (ProxyHeader(2, PROXY), binary(0x21, 0x00, b"")),
    (ProxyHeader(2, Command.LOCAL), binary(0x20, 0x00, b"")),
]
"""What is written and read in the same form."""

READ_ONLY = [
    # PP-4: the rest of the line is ignored.
    (ProxyHeader(1, PROXY), b"PROXY UNKNOWN ffff::1 whatever  it\tsays\r\n"),
    (ProxyHeader(1, PROXY), b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n"),
    (ProxyHeader(1, PROXY, ("255.255.255.255", 65535), TO4), b"PROXY TCP4 255.255.255.255 198.51.100.1 65535 443\r\n"),
    # PP-6: datagrams have the same addresses; an unspecified family has none that mean something.
    (ProxyHeader(2, PROXY, FROM4, TO4), binary(0x21, 0x12, V4)),
    (ProxyHeader(2, PROXY, FROM6, TO6), binary(0x21, 0x22, V6)),
    (ProxyHeader(2, PROXY, ("/run/a", None), ("/run/b", None)), binary(0x21, 0x31, UNIX)),
    (ProxyHeader(2, PROXY, ("", None), ("/run/b", None)), binary(0x21, 0x32, b"\0abstract".ljust(108, b"\0") + UNIX[108:])),
    (ProxyHeader(2, PROXY), binary(0x21, 0x00, b"anything")),
    # PP-7: LOCAL skips its length, whatever the family.
    (ProxyHeader(2, Command.LOCAL), binary(0x20, 0x11, V4)),
    (ProxyHeader(2, Command.LOCAL), binary(0x20, 0xFF, b"x" * 500)),
    # PP-8: what is not known, or not needed, is skipped; whether the client spoke TLS is told.
    (ProxyHeader(2, PROXY, FROM4, TO4), binary(0x21, 0x11, V4 + tlv(1, b"h2") + tlv(2, b"a.example") + tlv(5, b"\0\1"))),
    (ProxyHeader(2, PROXY, FROM4, TO4), binary(0x21, 0x11, V4 + tlv(4, b"\0\0") + tlv(0xE0, b"x" * 300) + tlv(0x30, b"ns") + tlv(0xF7, b""))),
    (ProxyHeader(2, PROXY, FROM4, TO4), binary(0x21, 0x11, V4 + tlv(0x20, b"\0\0\0\0\1"))),
    (ProxyHeader(2, PROXY, FROM4, TO4, tls=True), binary(0x21, 0x11, V4 + tlv(0x20, b"\x01\0\0\0\0"))),
    (
        ProxyHeader(2, PROXY, FROM4, TO4, tls=True),
        binary(0x21, 0x11, V4 + tlv(0x20, b"\x07\0\0\0\2" + tlv(0x21, b"TLSv1.3") + tlv(0x22, b"me"))),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("header", "data"), [*ROWS, *READ_ONLY])
@pytest.mark.parametrize("follows", [b"", b"G", b"GET / HTTP/1.1\r\n\r\n", SIGNATURE, b"PROXY TCP4"])
def test_header_is_read_and_nothing_more(header: ProxyHeader, data: bytes, follows: bytes) -> None:
    """PP-3, PP-5, PP-6: what follows is not taken."""
    assert read(data + follows) == (header, len(data))


@pytest.mark.parametrize(("header", "data"), [*ROWS, *READ_ONLY])
def test_header_is_read_in_any_pieces(header: ProxyHeader, data: bytes) -> None:
    """PP-2: each split point, and byte by byte; nothing is known before the whole is here."""
    whole = data + b"rest"
    for cut in range(1, len(data)):
        reader = ProxyHeaderReader()
        assert reader.receive_data(data[:cut]) == cut
        assert reader.header is None
        assert reader.receive_data(whole[cut:]) == len(data) - cut
        assert reader.header == header
    assert read(whole, tuple(range(1, len(whole)))) == (header, len(data))


@pytest.mark.parametrize(("header", "data"), ROWS)
def test_header_is_written(header: ProxyHeader, data: bytes) -> None:
    """PP-10: the same bytes."""
    assert encode_header(header) == data


ADDRESS_LINES = [
    b"PROXY TCP4 192.0.2.1 198.51.100.1 50000 443\n",  # a lone LF
    b"PROXY TCP4 192.0.2.1 198.51.100.1 50000\r443\r\n",  # a lone CR
    b"PROXY TCP4 192.0.2.1 198.51.100.1 50000 443\r\r\n",
    b"PROXY UNKNOWN a\nb\r\n",
    b"PROXY  TCP4 192.0.2.1 198.51.100.1 50000 443\r\n",  # two spaces
    b"PROXY TCP4 192.0.2.1  198.51.100.1 50000 443\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 50000 443 \r\n",
    b"PROXY TCP4 192.0.2.1\t198.51.100.1 50000 443\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 050000 443\r\n",  # leading zeros
    b"PROXY TCP4 192.0.2.1 198.51.100.1 50000 00\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 65536 443\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 -1 443\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 +1 443\r\n",
    b"PROXY TCP4 192.0.2.01 198.51.100.1 50000 443\r\n",
    b"PROXY TCP4 192.0.2 198.51.100.1 50000 443\r\n",
    b"PROXY TCP4 ::1 ::1 50000 443\r\n",  # of the other family
    b"PROXY TCP6 192.0.2.1 198.51.100.1 50000 443\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 50000 443\r\n",
    b"PROXY TCP4 \xb9\xb2.0.2.1 198.51.100.1 50000 443\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 50000\r\n",  # a word too few, and too many
    b"PROXY TCP4 192.0.2.1 198.51.100.1 50000 443 x\r\n",
    b"PROXY UDP4 192.0.2.1 198.51.100.1 50000 443\r\n",
    b"PROXY tcp4 192.0.2.1 198.51.100.1 50000 443\r\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY \r\n",
    b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",  # 108 bytes
    b"PROXY UNKNOWN " + b"x" * 200,
    b"PROXY" + b"\r\n",
    b"proxy TCP4 192.0.2.1 198.51.100.1 50000 443\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\x16\x03\x01\x02\x00",
    b"\r\n\r\nGET / HTTP/1.1\r\n",
    b" PROXY UNKNOWN\r\n",
    b"X",
]

CHECKED = binary(0x21, 0x11, V4 + tlv(3, b"\0\0\0\0"))

BINARY_MISTAKES = [
    binary(0x11, 0x11, V4),  # PP-5: version 1 in the binary form, and others
    binary(0x31, 0x11, V4),
    binary(0x22, 0x11, V4),  # PP-5: neither LOCAL nor PROXY
    binary(0x2F, 0x11, V4),
    binary(0x21, 0x10, V4),  # PP-6: families that are none
    binary(0x21, 0x13, V4),
    binary(0x21, 0x41, V4),
    binary(0x21, 0x01, V4),
    binary(0x21, 0x11, V4[:-1]),  # shorter than its addresses
    binary(0x21, 0x21, V4),
    binary(0x21, 0x31, V6),
    binary(0x21, 0x11, V4 + b"\1"),  # PP-8: TLVs that are cut short
    binary(0x21, 0x11, V4 + b"\1\0"),
    binary(0x21, 0x11, V4 + b"\1\0\3h2"),
    binary(0x21, 0x11, V4 + tlv(0x20, b"\1\0\0\0")),
    binary(0x21, 0x11, V4 + tlv(0x20, b"\1\0\0\0\0\x21\0\7TLS")),
    CHECKED,  # PP-8: the checksum is wrong, or is none
    binary(0x21, 0x11, V4 + tlv(3, b"\0\0")),
]


@pytest.mark.parametrize("data", [*ADDRESS_LINES, *BINARY_MISTAKES])
def test_malformed_header_is_refused(data: bytes) -> None:
    """PP-3, PP-5, PP-6, PP-8, PP-9: whole, and byte by byte with the same words."""
    with pytest.raises(RemoteProtocolError) as whole:
        read(data)
    with pytest.raises(RemoteProtocolError) as in_bytes:
        read(data, tuple(range(1, len(data))))
    assert not isinstance(whole.value, Incomplete)
    assert str(in_bytes.value) == str(whole.value)


@pytest.mark.parametrize(
    "data", [b"", b"P", b"PROXY TCP4 192.0.2.1", b"PROXY UNKNOWN\r", SIGNATURE, ROWS[4][1][:-1]]
)
def test_end_before_the_header_is_complete(data: bytes) -> None:
    """PP-2."""
    reader = ProxyHeaderReader()
    assert not data or reader.receive_data(data) == len(data)
    with pytest.raises(Incomplete):
        reader.receive_data(b"")


def test_nothing_is_taken_after_the_header() -> None:
    reader = ProxyHeaderReader()
    reader.receive_data(b"PROXY UNKNOWN\r\n")
    assert (reader.receive_data(b"GET"), reader.receive_data(b"")) == (0, 0)


# ---- the checksum


def test_checksum_is_castagnoli() -> None:
    """RFC 3720 B.4, and the check value of the algorithm."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43


def test_checksum_covers_the_whole_header() -> None:
    """PP-8: with it any change of a bit is noticed."""
    data = checked(0x21, 0x11, V4 + tlv(2, b"a"))
    assert read(data) == (ProxyHeader(2, PROXY, FROM4, TO4), len(data))
    for position in range(16, len(data) - 7):
        changed = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        with pytest.raises(RemoteProtocolError):
            read(changed)


# ---- properties

ports = st.integers(0, 65535)
v4 = st.tuples(st.ip_addresses(v=4).map(str), ports)
# Python before 3.13 writes mapped ones in its own way: ROWS has one.
v6 = st.tuples(st.ip_addresses(v=6).map(str).filter(lambda text: not text.startswith("::ffff:")), ports)
ends = st.tuples(v4, v4) | st.tuples(v6, v6)


@given(ends, st.integers(1, 2))
def test_endpoints_survive(between: tuple[tuple[str, int], tuple[str, int]], version: int) -> None:
    header = ProxyHeader(version, PROXY, *between)
    data = encode_header(header)
    assert read(data + b"x") == (header, len(data))


@given(st.lists(st.tuples(st.integers(0x80, 0xFF), st.binary(max_size=40))), st.booleans(), st.data())
def test_tlvs_are_read_in_any_pieces(tlvs: list[tuple[int, bytes]], tls: bool, data: st.DataObject) -> None:
    others = b"".join(tlv(kind, value) for kind, value in tlvs)
    encoded = checked(0x21, 0x11, V4 + others + tlv(0x20, bytes([tls, 0, 0, 0, 0])))
    cuts = data.draw(st.lists(st.integers(1, len(encoded) - 1), max_size=5).map(sorted))
    header = ProxyHeader(2, PROXY, FROM4, TO4, tls=tls)
    assert read(encoded + b"x", tuple(cuts)) == (header, len(encoded))


@given(
    st.binary(max_size=300)
    | st.binary(max_size=300).map(lambda rest: b"PROXY TCP4 " + rest)
    | st.builds(
        binary, st.integers(0x20, 0x21), st.sampled_from([0, 0x11, 0x21, 0x31]), st.binary(max_size=300)
    )
)
def test_any_bytes_are_a_header_or_refused(data: bytes) -> None:
    """The same in one piece and byte by byte; never more is taken than there is."""
    outcomes = []
    for cuts in ((), tuple(range(1, len(data)))):
        try:
            header, taken = read(data, cuts)
        except RemoteProtocolError as error:
            outcomes.append((str(error), 0))
        else:
            assert taken <= len(data)
            outcomes.append((repr(header), taken))
    assert outcomes[0] == outcomes[1]


def test_bytes_of_the_rows_are_different() -> None:
    """The rows name each header once."""
    datas = [data for _, data in chain(ROWS, READ_ONLY)]
    assert len(set(datas)) == len(datas)
