"""Forwarded and X-Forwarded-For: what is taken, what is refused, and what is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.forwarded import (
    CLIENT_FIELDS,
    MAX_HOPS,
    ForwardedElement,
    Node,
    encode_forwarded,
    encode_x_forwarded_for,
    is_twin,
    parse_forwarded,
    parse_node,
    parse_scheme,
    parse_x_forwarded_for,
)

ELEMENTS = [
    # RFC 7239 4
    (b'for="_gazonk"', [ForwardedElement(("_gazonk", 0))]),
    (b'For="[2001:db8:cafe::17]:4711"', [ForwardedElement(("2001:db8:cafe::17", 4711))]),
    (b"for=192.0.2.60;proto=http;by=203.0.113.43", [ForwardedElement(("192.0.2.60", 0), "http")]),
    (
        b"for=192.0.2.43, for=198.51.100.17",
        [ForwardedElement(("192.0.2.43", 0)), ForwardedElement(("198.51.100.17", 0))],
    ),
    # RFC 7239 7.1
    (
        b'for=192.0.2.43,for="[2001:db8:cafe::17]",for=unknown',
        [
            ForwardedElement(("192.0.2.43", 0)),
            ForwardedElement(("2001:db8:cafe::17", 0)),
            ForwardedElement(("unknown", 0)),
        ],
    ),
    # FWD-1: names in any case, any order, unknown ones skipped, empty ones and spaces allowed
    (
        b'HOST="a:81" ; PROTO=HTTPS;;secret="a\\"b" ;FOR=Unknown',
        [ForwardedElement(("unknown", 0), "https", b"a:81")],
    ),
    (b" , for=1.2.3.4 ,\t, ", [ForwardedElement(("1.2.3.4", 0))]),
    (b"", []),
    (b"proto=wss", [ForwardedElement(("unknown", 0), "https")]),
    (b'host="a\\\\,b;c"', [ForwardedElement(("unknown", 0), None, b"a\\,b;c")]),
    (b'for="1.2.3.4:_port";by="_me:80"', [ForwardedElement(("1.2.3.4", 0))]),
]


@pytest.mark.parametrize(("value", "elements"), ELEMENTS)
def test_forwarded_is_read(value: bytes, elements: list[ForwardedElement]) -> None:
    """FWD-1, FWD-2, FWD-3."""
    assert parse_forwarded(value) == elements


@pytest.mark.parametrize(
    "value",
    [
        b'for="1.2.3.4',  # the quotation swallows whatever a proxy adds
        b'for="1.2.3.4, for=5.6.7.8',
        b"for=",
        b"for",
        b"=1.2.3.4",
        b"for=1.2.3.4 proto=http",
        b"for=1.2.3.4;for=5.6.7.8",
        b"for=1.2.3.4;FOR=1.2.3.4",
        b"for =1.2.3.4",
        b"for= 1.2.3.4",
        b"for=1.2.3.4:80",  # FWD-3: a colon has to be quoted
        b"for=[::1]",
        b'for="::1"',
        b'for="[1.2.3.4]"',
        b'for="[::1%eth0]"',
        b'for="[::1]:"',
        b'for="[::1]:65536"',
        b'for="[::1]:123456"',
        b"for=1.2.3",
        b"for=01.2.3.4",
        b"for=256.1.1.1",
        b"for=_",
        b"for=_a*b",
        b"for=example.com",
        b'for=""',
        b"for=1.2.3.4;by=me",
        b"for=1.2.3.4;proto=gopher",
        b"for=1.2.3.4;proto=",
        b"1.2.3.4",
        b"for=1.2.3.4|",
        b'for="1.2.3.4\\',
    ],
)
def test_malformed_forwarded_is_refused(value: bytes) -> None:
    """FWD-6: whole, wherever the mistake is."""
    for text in (value, b"for=9.9.9.9, " + value, value + b", for=9.9.9.9"):
        with pytest.raises(RemoteProtocolError):
            parse_forwarded(text)


@pytest.mark.parametrize(
    ("value", "nodes"),
    [
        (b"192.0.2.1", [("192.0.2.1", 0)]),
        (b"192.0.2.1, 10.0.0.1,10.0.0.2", [("192.0.2.1", 0), ("10.0.0.1", 0), ("10.0.0.2", 0)]),
        (b"192.0.2.1:5000", [("192.0.2.1", 5000)]),
        (b"2001:DB8::1", [("2001:db8::1", 0)]),
        (b"[2001:db8::1]:5000, ::1", [("2001:db8::1", 5000), ("::1", 0)]),
        (b"unknown, _hidden", [("unknown", 0), ("_hidden", 0)]),
        (b"unix:", [("", None)]),
        (b" ,\t192.0.2.1 , ,", [("192.0.2.1", 0)]),
        (b"", []),
    ],
)
def test_x_forwarded_for_is_read(value: bytes, nodes: list[Node]) -> None:
    """FWD-4: IPv6 without quotes and brackets."""
    assert parse_x_forwarded_for(value) == nodes


@pytest.mark.parametrize(
    "value",
    [
        b"example.com",
        b"1.2.3",
        b"1.2.3.4 5.6.7.8",
        b"1.2.3.4;5.6.7.8",
        b'"1.2.3.4"',
        b"1.2.3.4:65536",
        b"1.2.3.4:x",
        b"fe80::1%eth0",
        b"[::1",
        b"::1]",
        b"1:2:3",
        b"for=1.2.3.4",
        b"unix:/run/x",
        b"\xe9",
        b"' OR 1=1",
    ],
)
def test_malformed_x_forwarded_for_is_refused(value: bytes) -> None:
    """FWD-6."""
    for text in (value, b"9.9.9.9, " + value, value + b", 9.9.9.9"):
        with pytest.raises(RemoteProtocolError):
            parse_x_forwarded_for(text)


def test_chain_is_bounded() -> None:
    assert len(parse_x_forwarded_for(b",".join([b"1.2.3.4"] * MAX_HOPS))) == MAX_HOPS
    assert len(parse_forwarded(b",".join([b"for=1.2.3.4"] * MAX_HOPS))) == MAX_HOPS
    with pytest.raises(RemoteProtocolError, match="100 times"):
        parse_x_forwarded_for(b",".join([b"1.2.3.4"] * (MAX_HOPS + 1)))
    with pytest.raises(RemoteProtocolError, match="100 times"):
        parse_forwarded(b",".join([b"for=1.2.3.4"] * (MAX_HOPS + 1)))


@pytest.mark.parametrize(
    ("value", "scheme"), [(b"http", "http"), (b"HTTPS", "https"), (b"ws", "http"), (b"wss", "https")]
)
def test_schemes(value: bytes, scheme: str) -> None:
    assert parse_scheme(value) == scheme


@pytest.mark.parametrize(
    ("name", "speaks", "twin"),
    [
        (b"forwarded", True, False),
        (b"x-forwarded-for", True, False),
        (b"x-forwarded-user", True, False),
        (b"x-forwarded", True, False),
        (b"x-real-ip", True, False),
        (b"forwarded-for", True, False),
        (b"x-forwarded-client-cert", True, False),
        (b"x_forwarded_for", True, True),
        (b"x-forwarded_user", True, True),
        (b"x_real-ip", True, True),
        (b"x-real_ip", True, True),
        (b"x-real", False, False),
        (b"x_real", False, False),
        (b"for", False, False),
        (b"x-forward", False, False),
        (b"host", False, False),
        (b"x_request_id", False, False),
    ],
)
def test_fields_that_speak_for_a_client(name: bytes, speaks: bool, twin: bool) -> None:
    """FWD-7."""
    assert name.startswith(CLIENT_FIELDS) is speaks
    assert is_twin(name) is twin


@pytest.mark.parametrize(
    ("node", "plain", "quoted"),
    [
        (("192.0.2.1", 80), b"192.0.2.1", b"for=192.0.2.1"),
        (("2001:db8::1", 0), b"2001:db8::1", b'for="[2001:db8::1]"'),
        (("unknown", 0), b"unknown", b"for=unknown"),
        (("_x", 0), b"_x", b"for=_x"),
        (("/run/x.sock", None), b"", b"for=unknown"),
    ],
)
def test_nodes_are_written(node: Node, plain: bytes, quoted: bytes) -> None:
    """FWD-3, FWD-4."""
    assert encode_x_forwarded_for(node) == plain
    assert encode_forwarded(node) == quoted


def test_element_is_written() -> None:
    element = encode_forwarded(None, scheme="https", host=b"a.example:81")
    assert element == b'for=unknown;host="a.example:81";proto=https'
    assert encode_forwarded(("1.2.3.4", 1), host=b"a.example") == b"for=1.2.3.4;host=a.example"
    tricky = b'a"\\,b'
    assert parse_forwarded(encode_forwarded(None, host=tricky))[0].host == tricky


# An IPv4-mapped address is read as the IPv4 address that it is (RFC 4291 2.5.5.2).
plain_addresses = st.ip_addresses().filter(lambda address: not getattr(address, "ipv4_mapped", None))
addresses = plain_addresses.map(str) | st.from_regex(r"_[A-Za-z0-9._-]{1,9}", fullmatch=True)


@given(st.lists(st.tuples(addresses, st.sampled_from(["http", "https"]), st.binary(max_size=9)), max_size=9))
def test_what_is_written_is_read_again(hops: list[tuple[str, str, bytes]]) -> None:
    """FWD-4: both forms say the same."""
    # Field values hold no control characters.
    clean = [(host, scheme, bytes(c for c in name if c > 31 and c != 127)) for host, scheme, name in hops]
    value = b", ".join(encode_forwarded((host, 0), scheme=scheme, host=name) for host, scheme, name in clean)
    found = parse_forwarded(value)
    assert [(each.node[0], each.scheme, each.host or b"") for each in found] == clean
    plain = b", ".join(encode_x_forwarded_for((host, 0)) for host, _, _ in clean)
    assert [host for host, _ in parse_x_forwarded_for(plain)] == [host for host, _, _ in clean]


@given(st.binary() | st.text('for=by;,"\\[]:._ 1a', max_size=40).map(str.encode))
def test_any_value_is_read_or_refused(value: bytes) -> None:
    """Nothing but RemoteProtocolError, and a node that is read is canonical."""
    for parse in (parse_forwarded, parse_x_forwarded_for, parse_node):
        try:
            parse(value)
        except RemoteProtocolError:
            continue


@pytest.mark.parametrize("value", [b"::ffff:10.1.2.3", b"::ffff:a01:203", b"[::ffff:10.1.2.3]:80"])
def test_mapped_addresses_are_those_of_version_4(value: bytes) -> None:
    """RFC 4291 2.5.5.2: what a proxy sees of its clients on a dual-stack socket."""
    ((host, _port),) = parse_x_forwarded_for(value)
    assert host == "10.1.2.3"
