"""What proxies say about whom they speak for: ``Forwarded`` (RFC 7239) and the ``X-Forwarded-*`` fields.

Plain functions over field values. Each value is taken whole or refused whole: a quotation mark that a
client leaves open must not swallow what the proxy has added behind it. Whether a proxy may be believed is
not known here.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.grammar import TOKEN
from gateway.protocols.lists import list_members

Node: TypeAlias = tuple[str, int] | tuple[str, None]
"""(address, port) of a hop, port 0 if it is not told; the address may be ``unknown`` or an obfuscated
identifier (``_name``). ``("", None)`` is a Unix socket, which nginx writes ``unix:``."""

UNKNOWN: Final = "unknown"

MAX_HOPS: Final = 100
"""Hops in one chain: more than there is anywhere; each costs the parsing of an address."""

CLIENT_FIELDS: Final = (
    *(b"x-forwarded", b"forwarded", b"x-real-ip"),
    *(b"x_forwarded", b"x_real_ip", b"x_real-ip", b"x-real_ip"),
)
"""How the names (lower-case) of the fields begin by which a proxy speaks for its client. Applications
believe them all, X-Forwarded-User and X-Forwarded-Client-Cert no less than X-Forwarded-For; those that make
variables of them, also their twins with underscores, which are the word of no proxy."""


def is_twin(name: bytes) -> bool:
    """Whether *name* (lower-case) is one of the latter."""
    return b"_" in name and name.startswith(CLIENT_FIELDS)


# RFC 9110 5.6.4
_QUOTED: Final = rb'"((?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*)"'
# RFC 7239 4: forwarded-pair = token "=" value; value = token / quoted-string
_PAIR: Final = re.compile(rb"(%b)=(?:(%b)|%b)" % (TOKEN.pattern, TOKEN.pattern, _QUOTED))
_ESCAPE: Final = re.compile(rb"\\(.)")

# RFC 7239 6: node = nodename [ ":" node-port ]; names and ports that are obfuscated begin with "_".
_OBFUSCATED: Final = rb"_[0-9A-Za-z._\-]+"
_NODE: Final = re.compile(
    rb"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)|(unknown|%b))(?::(?:([0-9]{1,5})|%b))?" % (_OBFUSCATED, _OBFUSCATED),
    re.IGNORECASE,
)

# What is said in the scheme of a WebSocket is said over the same connection (Traefik does).
_SCHEMES: Final = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}


@dataclass(slots=True)
class ForwardedElement:
    """What one proxy says about the request as it got it (RFC 7239 5)."""

    node: Node
    """Who sent it the request; unknown if it does not tell."""
    scheme: str | None = None
    """``http`` or ``https``."""
    host: bytes | None = None
    """The Host that it saw."""


# ---- Forwarded


def parse_forwarded(value: bytes) -> list[ForwardedElement]:
    """The elements of a Forwarded field (several fields joined by commas), as they stand.

    Raises RemoteProtocolError if any of it is malformed.
    """
    elements: list[ForwardedElement] = []
    pairs: dict[bytes, bytes] = {}
    position = _skip_space(value, 0)
    while True:
        match = _PAIR.match(value, position)
        if match is not None:
            name, token, quoted = match.groups()
            name = name.lower()
            if name in pairs:  # RFC 7239 4: each parameter at most once
                raise RemoteProtocolError("a parameter of Forwarded is repeated")
            pairs[name] = token if token is not None else _ESCAPE.sub(rb"\1", quoted)
            position = _skip_space(value, match.end())
        if position == len(value) or value[position] == 0x2C:
            if pairs:  # RFC 9110 5.6.1: empty list elements mean nothing
                elements.append(_element(pairs))
                pairs = {}
            if position == len(value):
                break
        elif value[position] != 0x3B:
            raise RemoteProtocolError("malformed Forwarded")
        position = _skip_space(value, position + 1)
    _check_count(len(elements))
    return elements


def _skip_space(value: bytes, position: int) -> int:
    """RFC 7239 has no space around a semicolon, but many senders do."""
    while position < len(value) and value[position] in b" \t":
        position += 1
    return position


def _element(pairs: dict[bytes, bytes]) -> ForwardedElement:
    node = pairs.get(b"for")
    by = pairs.get(b"by")
    scheme = pairs.get(b"proto")
    if by is not None:
        parse_node(by)
    return ForwardedElement(
        (UNKNOWN, 0) if node is None else parse_node(node),
        None if scheme is None else parse_scheme(scheme),
        pairs.get(b"host"),
    )


def parse_node(value: bytes) -> Node:
    """A node identifier (RFC 7239 6). Raises RemoteProtocolError."""
    match = _NODE.fullmatch(value)
    if match is not None:
        v6, v4, name, port = match.groups()
        try:
            if v6 is not None:
                host = _written(IPv6Address(v6.decode("ascii")))
            elif v4 is not None:
                host = str(IPv4Address(v4.decode("ascii")))
            else:
                host = name.decode("ascii")
                if not host.startswith("_"):
                    host = UNKNOWN
        except ValueError:
            pass
        else:
            number = int(port or b"0")
            if number <= 65535:
                return host, number
    raise RemoteProtocolError("malformed address of a forwarded request")


def _written(address: IPv6Address) -> str:
    """::ffff:10.0.0.1 is 10.0.0.1 seen through a dual-stack socket of the proxy (RFC 4291 2.5.5.2); Python
    would write ::ffff:a00:1, which no application knows.
    """
    return str(address.ipv4_mapped or address)


def parse_scheme(value: bytes) -> str:
    """``http`` or ``https``. Raises RemoteProtocolError."""
    scheme = _SCHEMES.get(value.lower())
    if scheme is None:
        raise RemoteProtocolError("malformed scheme of a forwarded request")
    return scheme


# ---- X-Forwarded-*


def parse_x_forwarded_for(value: bytes) -> list[Node]:
    """The hops of an X-Forwarded-For field (several fields joined by commas), the farthest first.

    Entries are nodes as in Forwarded; an IPv6 address usually has no brackets (RFC 7239 7.4).
    Raises RemoteProtocolError if any of them is malformed.
    """
    members = list_members(value)
    _check_count(len(members))
    return [_parse_plain_node(member) for member in members]


def _parse_plain_node(member: bytes) -> Node:
    if member == b"unix:":
        return "", None
    if member.count(b":") > 1 and not member.startswith(b"["):
        member = b"[" + member + b"]"
    return parse_node(member)


def _check_count(hops: int) -> None:
    if hops > MAX_HOPS:
        raise RemoteProtocolError(f"a request that was forwarded more than {MAX_HOPS} times")


# ---- the sender's side


def encode_x_forwarded_for(node: Node) -> bytes:
    """A hop as an entry of X-Forwarded-For, without its port; b"" for a Unix socket, which has no address."""
    return b"" if node[1] is None else node[0].encode("ascii")


def encode_forwarded(node: Node | None, *, scheme: str | None = None, host: bytes = b"") -> bytes:
    """One element of Forwarded. A Unix socket, and None, have no address and are unknown."""
    element = b"for=" + _encode_node(node)
    if host:
        element += b";host=" + _encode_value(host)
    if scheme is not None:
        element += b";proto=" + scheme.encode("ascii")
    return element


def _encode_node(node: Node | None) -> bytes:
    if node is None or node[1] is None:
        return UNKNOWN.encode()
    host = node[0].encode("ascii")
    # RFC 7239 6.1: brackets, and the quotes that they force.
    return b'"[%b]"' % host if b":" in host else host


def _encode_value(value: bytes) -> bytes:
    if TOKEN.fullmatch(value):
        return value
    return b'"%b"' % value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
