"""The PROXY protocol, versions 1 and 2: who really connected, told by a proxy ahead of its bytes.

::

    PROXY TCP4 192.0.2.1 198.51.100.1 50000 443 CRLF                  version 1, a line
    signature, version and command, family, length, addresses, TLVs   version 2, binary

Promises: :class:`ProxyHeaderReader` takes the bytes of the header and not one more, in pieces of any size,
and what it says depends on the bytes alone. Nothing is guessed: whatever is no header is an error, at the
first byte that shows it. Does not: decide whether the sender may be believed (that is the caller's), or
look for a header where none is configured.

The specification is haproxy's doc/proxy-protocol.txt; sections are cited as ``PROXY 2.1``.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import Struct
from typing import Final, TypeAlias

from gateway.protocols.errors import Incomplete, RemoteProtocolError

Endpoint: TypeAlias = tuple[str, int] | tuple[str, None]
"""(numeric address, port), or (path, None) for a Unix socket."""

# PROXY 2.1: the longest line, "PROXY UNKNOWN" with two IPv6 addresses and two ports, with its CRLF.
MAX_LINE: Final = 107

_LINE_START: Final = b"PROXY "
_PORT: Final = re.compile(rb"0|[1-9][0-9]{0,4}")

# PROXY 2.2
_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED: Final = Struct("!12sBBH")
_INET: Final = Struct("!4s4sHH")
_INET6: Final = Struct("!16s16sHH")
_UNIX: Final = Struct("!108s108s")
_TLV: Final = Struct("!BH")
_SSL: Final = Struct("!BI")

_VERSION: Final = 0x20
_UNSPEC: Final = 0x00
_ADDRESSES: Final = {0x11: _INET, 0x12: _INET, 0x21: _INET6, 0x22: _INET6, 0x31: _UNIX, 0x32: _UNIX}

# PROXY 2.2.1 to 2.2.8: the types of the TLVs that mean something here. Others are skipped.
_CRC32C: Final = 0x03
_SSL_TYPE: Final = 0x20

_CLIENT_SSL: Final = 0x01
"""PROXY 2.2.6: a bit of the client field."""


class Command(Enum):
    """What a header says about the connection (PROXY 2.2)."""

    LOCAL = 0
    """The proxy speaks for itself, as in a health check: the real endpoints count."""
    PROXY = 1
    """The connection is relayed for someone else."""


@dataclass(slots=True)
class ProxyHeader:
    """A whole header. Without a *source* the real endpoints of the connection count."""

    version: int
    command: Command
    source: Endpoint | None = None
    """The client."""
    destination: Endpoint | None = None
    """The address that it connected to."""
    tls: bool = False
    """The client spoke TLS to the proxy (PROXY 2.2.6)."""


class ProxyHeaderReader:
    """Takes a header from the beginning of a connection."""

    __slots__ = ("_data", "_wanted", "header")

    def __init__(self) -> None:
        self._data = b""
        self._wanted = 0  # bytes of a header of version 2 in all, once its length is known
        self.header: ProxyHeader | None = None
        """The header, once it is complete."""

    def receive_data(self, data: bytes) -> int:
        """Take what of *data* belongs to the header, and return how many bytes that is; b"" is the end.

        What follows the header is not taken. Raises RemoteProtocolError for bytes that cannot become a
        valid header; the reader is of no further use then.
        """
        if self.header is not None:
            return 0
        if not data:
            raise Incomplete("the connection ended before a PROXY header")
        before = len(self._data)
        self._data += data
        end = self._end()
        if end:
            self._data = self._data[:end]
            self.header = _parse_line(self._data) if self._data[0] == 0x50 else _parse_binary(self._data)
        return len(self._data) - before

    def _end(self) -> int:
        """Where the header ends, 0 if its end is not here."""
        data = self._data
        # PROXY 2.2: the two versions differ from the first byte on, so nothing is ever tried.
        if _begins(data, _LINE_START):
            return self._end_of_line()
        if not _begins(data, _SIGNATURE):
            raise RemoteProtocolError("this is not a PROXY header")
        if not self._wanted and len(data) > len(_SIGNATURE):
            _command(data[len(_SIGNATURE)])
        if not self._wanted and len(data) >= _FIXED.size:
            # PROXY 2.2: the length is what follows, whatever the family.
            self._wanted = _FIXED.size + int.from_bytes(data[_FIXED.size - 2 : _FIXED.size], "big")
        return self._wanted if 0 < self._wanted <= len(data) else 0

    def _end_of_line(self) -> int:
        """PROXY 2.1: the line ends with CRLF within 107 bytes; a CR or LF that is not of it is refused."""
        line = self._data[:MAX_LINE]
        position = line.find(b"\r")
        feed = line.find(b"\n")
        if feed >= 0 and (position < 0 or feed < position):
            raise RemoteProtocolError("a lone LF in a PROXY header")
        if 0 <= position < len(line) - 1:
            if feed != position + 1:
                raise RemoteProtocolError("a lone CR in a PROXY header")
            return feed + 1
        if len(line) == MAX_LINE:
            raise RemoteProtocolError(f"a PROXY header of more than {MAX_LINE} bytes")
        return 0


def _begins(data: bytes, start: bytes) -> bool:
    """Whether *data* begins with *start*, as far as it is here."""
    return data.startswith(start) if len(data) >= len(start) else start.startswith(data)


def _written(address: IPv4Address | IPv6Address) -> str:
    """RFC 5952 5: ::ffff:10.0.0.1, as the kernel says it; Python before 3.13 would write ::ffff:a00:1."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(address) if mapped is None else f"::ffff:{mapped}"


# ---- version 1


def _parse_line(line: bytes) -> ProxyHeader:
    """PROXY 2.1: six words with single spaces between, or UNKNOWN and anything behind it."""
    words = line[:-2].split(b" ")
    if words[1] == b"UNKNOWN":
        return ProxyHeader(1, Command.PROXY)
    if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6"):
        raise RemoteProtocolError("malformed PROXY header")
    kind = IPv4Address if words[1] == b"TCP4" else IPv6Address
    source, destination = (_address(word, kind) for word in words[2:4])
    source_port, destination_port = (_port(word) for word in words[4:])
    return ProxyHeader(1, Command.PROXY, (source, source_port), (destination, destination_port))


def _address(word: bytes, kind: type[IPv4Address] | type[IPv6Address]) -> str:
    try:
        # A zone ("%eth0") is no part of an address that another machine could mean.
        if b"%" not in word:
            return _written(kind(word.decode("ascii")))
    except ValueError:
        pass
    raise RemoteProtocolError("malformed address in a PROXY header")


def _port(word: bytes) -> int:
    if _PORT.fullmatch(word) and int(word) <= 65535:
        return int(word)
    raise RemoteProtocolError("malformed port in a PROXY header")


# ---- version 2


def _command(octet: int) -> Command:
    """PROXY 2.2: version 2 in the high half, the command in the low one; all else is refused."""
    if octet & 0xF0 != _VERSION:
        raise RemoteProtocolError(f"a PROXY header of version {octet >> 4}")
    try:
        return Command(octet & 0x0F)
    except ValueError:
        raise RemoteProtocolError(f"unknown command {octet & 0x0F} in a PROXY header") from None


def _parse_binary(data: bytes) -> ProxyHeader:
    _, octet, family, _ = _FIXED.unpack_from(data)
    command = _command(octet)
    header = ProxyHeader(2, command)
    # PROXY 2.2: LOCAL means the real endpoints, whatever the rest says; so does an unspecified family.
    if command is Command.LOCAL or family == _UNSPEC:
        return header
    layout = _ADDRESSES.get(family)
    if layout is None:
        raise RemoteProtocolError(f"unknown address family {family:#04x} in a PROXY header")
    end = _FIXED.size + layout.size
    if len(data) < end:
        raise RemoteProtocolError("a PROXY header is shorter than its addresses")
    parts = layout.unpack_from(data, _FIXED.size)
    if layout is _UNIX:
        header.source, header.destination = ((_path(part), None) for part in parts)
    else:
        header.source = (_written(ip_address(parts[0])), parts[2])
        header.destination = (_written(ip_address(parts[1])), parts[3])
    _add_tlvs(header, data, end)
    return header


def _path(field: bytes) -> str:
    """The path of a Unix socket, padded with NUL; empty for an unnamed or abstract one."""
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _add_tlvs(header: ProxyHeader, data: bytes, start: int) -> None:
    for kind, value, position in _tlvs(data, start):
        if kind == _SSL_TYPE:
            header.tls = _tells_tls(value)
        elif kind == _CRC32C:
            _check_crc32c(data, value, position)


def _tlvs(data: bytes, start: int) -> Iterator[tuple[int, bytes, int]]:
    """Type, value, and where the value begins (PROXY 2.2)."""
    while start < len(data):
        if len(data) - start < _TLV.size:
            raise RemoteProtocolError("a TLV of a PROXY header is cut short")
        kind, length = _TLV.unpack_from(data, start)
        start += _TLV.size
        if len(data) - start < length:
            raise RemoteProtocolError("a TLV of a PROXY header is cut short")
        yield kind, data[start : start + length], start
        start += length


def _tells_tls(value: bytes) -> bool:
    if len(value) < _SSL.size:
        raise RemoteProtocolError("the SSL TLV of a PROXY header is cut short")
    for _ in _tlvs(value, _SSL.size):
        pass  # version and certificate of the client
    return bool(value[0] & _CLIENT_SSL)


def _check_crc32c(data: bytes, value: bytes, position: int) -> None:
    """PROXY 2.2.3: of the whole header, with zeros in place of the checksum itself."""
    end = position + len(value)
    if len(value) != 4 or crc32c(data[:position] + bytes(4) + data[end:]) != int.from_bytes(value, "big"):
        raise RemoteProtocolError("the checksum of a PROXY header is wrong")


def _crc32c_table() -> list[int]:
    table = []
    for octet in range(256):
        for _ in range(8):
            octet = octet >> 1 ^ (0x82F63B78 if octet & 1 else 0)
        table.append(octet)
    return table


_CRC_TABLE: Final = _crc32c_table()


def crc32c(data: bytes) -> int:
    """The checksum of RFC 3720 (Castagnoli), which the standard library does not have."""
    crc = 0xFFFFFFFF
    for octet in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ octet) & 0xFF]
    return crc ^ 0xFFFFFFFF


# ---- the sender's side


def encode_header(header: ProxyHeader) -> bytes:
    """*header* as bytes; its endpoints are IP addresses, of one family."""
    source, destination = header.source, header.destination
    if header.version == 1:
        if source is None or destination is None:
            return b"PROXY UNKNOWN\r\n"
        family = "TCP6" if ":" in source[0] else "TCP4"
        line = f"PROXY {family} {source[0]} {destination[0]} {source[1]} {destination[1]}\r\n"
        return line.encode("ascii")
    kind, addresses = _UNSPEC, b""
    if source is not None and destination is not None:
        ends = [ip_address(source[0]).packed, ip_address(destination[0]).packed]
        kind, layout = (0x11, _INET) if len(ends[0]) == 4 else (0x21, _INET6)
        addresses = layout.pack(*ends, source[1], destination[1])
    return _FIXED.pack(_SIGNATURE, _VERSION | header.command.value, kind, len(addresses)) + addresses
