from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.errors import (
    Incomplete,
    LimitExceeded,
    LocalProtocolError,
    RemoteProtocolError,
    TooLargeToEncode,
)
from gateway.protocols.events import (
    Data,
    EndOfMessage,
    InformationalResponse,
    LocalRedirect,
    RequestVariables,
    ResponseHead,
    Stderr,
)
from gateway.protocols.uwsgi import (
    MAX_BLOCK_SIZE,
    MAX_VARIABLES,
    PING,
    PONG,
    PacketHeader,
    UwsgiClient,
    UwsgiServer,
    decode_variables,
    encode_variables,
)
from gateway.protocols.variables import block_size
from tests.protocols.conftest import Play, rows


def pair(name: bytes, value: bytes) -> bytes:
    return len(name).to_bytes(2, "little") + name + len(value).to_bytes(2, "little") + value


def packet(block: bytes, modifier1: int = 0, modifier2: int = 0) -> bytes:
    return bytes([modifier1]) + len(block).to_bytes(2, "little") + bytes([modifier2]) + block


REQUESTS = {
    "no body": (
        [RequestVariables({"REQUEST_METHOD": "GET"}), EndOfMessage()],
        b"\x00\x15\x00\x00\x0e\x00REQUEST_METHOD\x03\x00GET",
    ),
    "a body": (
        [RequestVariables({"CONTENT_LENGTH": "4"}), Data(b"a\0b\n"), EndOfMessage()],
        b"\x00\x13\x00\x00\x0e\x00CONTENT_LENGTH\x01\x004a\0b\n",
    ),
    "an empty value and Latin-1": (
        [RequestVariables({"A": "", "\xe9": "\xff\0"}), EndOfMessage()],
        packet(pair(b"A", b"") + pair(b"\xe9", b"\xff\0")),
    ),
    "an empty CONTENT_LENGTH": (
        [RequestVariables({"CONTENT_LENGTH": ""}), EndOfMessage()],
        packet(pair(b"CONTENT_LENGTH", b"")),
    ),
    "lengths above one byte": (
        [RequestVariables({"A" * 256: "b" * 1023, "C" * 1024: "d" * 0x1234}), EndOfMessage()],
        packet(pair(b"A" * 256, b"b" * 1023) + pair(b"C" * 1024, b"d" * 0x1234)),
    ),
    "the largest block": (
        [RequestVariables({"A": "b" * (MAX_BLOCK_SIZE - 5)}), EndOfMessage()],
        b"\x00\xff\xff\x00\x01\x00A\xfa\xff" + b"b" * (MAX_BLOCK_SIZE - 5),
    ),
}
RESPONSES = {
    "a document": (
        [ResponseHead(200, [(b"content-type", b"text/plain")], b"OK"), Data(b"42"), EndOfMessage()],
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n42",
    ),
    "no body, no reason": (
        [ResponseHead(404, []), EndOfMessage()],
        b"HTTP/1.1 404 \r\n\r\n",
    ),
}


# Rows, both ways


@rows(REQUESTS)
def test_client_sends_requests(events: list[Any], wire: bytes) -> None:
    """UW-1, UW-2, UW-3, UW-4."""
    client = UwsgiClient()
    assert b"".join(client.send(event) for event in events) == wire


@rows(REQUESTS)
def test_server_receives_requests(events: list[Any], wire: bytes, play: Play) -> None:
    """UW-1, UW-2, UW-3, UW-4: whole, byte by byte, with bytes after the end."""
    assert play(UwsgiServer(), wire) == events
    assert play(UwsgiServer(), wire, range(len(wire))) == events
    assert play(UwsgiServer(), wire + b"\x00\x15\x00", end=True) == events


@rows(RESPONSES)
def test_server_sends_responses(events: list[Any], wire: bytes) -> None:
    """UW-7."""
    server = UwsgiServer()
    assert b"".join(server.send(event) for event in events) == wire


@rows(RESPONSES)
def test_client_receives_responses(events: list[Any], wire: bytes, play: Play) -> None:
    """UW-7: the response ends when the application closes the connection, and not before."""
    client = UwsgiClient()
    client.send(RequestVariables({"A": "b"}))
    assert play(client, wire) == events[:-1]
    assert play(client, b"", end=True) == events[-1:]
    assert play(UwsgiClient(), wire, range(len(wire)), end=True) == events


# Client: what it sends


def test_client_sends_modifiers() -> None:
    """UW-1, UW-8: modifier1 is the first byte of the header, modifier2 the last."""
    wire = UwsgiClient(modifier1=14, modifier2=3).send(RequestVariables({"A": "b"}))
    assert wire == b"\x0e\x06\x00\x03\x01\x00A\x01\x00b"


@pytest.mark.parametrize("variables", [{"": "value"}, {"A": "\u20ac"}, {"\u20ac": "a"}])
def test_client_refuses_variables_it_cannot_express(variables: dict[str, str]) -> None:
    """UW-3; the error stays."""
    client = UwsgiClient()
    with pytest.raises(LocalProtocolError) as first:
        client.send(RequestVariables(variables))
    with pytest.raises(LocalProtocolError) as again:
        client.send(RequestVariables({"A": "b"}))
    assert repr(again.value) == repr(first.value)


def test_client_refuses_more_than_the_buffer_size_of_the_application() -> None:
    """UW-4: before anything is sent, with the variables that are to blame."""
    variables = {"A": "a" * 10, "HTTP_COOKIE": "b" * 2000, "HTTP_X": "c" * 1500, "QUERY_STRING": "d" * 600}
    size = block_size(variables)
    assert len(UwsgiClient(buffer_size=size).send(RequestVariables(variables))) == size + 4
    with pytest.raises(TooLargeToEncode) as caught:
        UwsgiClient(buffer_size=size - 1).send(RequestVariables(variables))
    assert str(caught.value) == (
        f"{size} bytes of variables where the application's buffer_size is {size - 1};"
        " the largest are HTTP_COOKIE (2011), HTTP_X (1506), QUERY_STRING (612)"
    )


@pytest.mark.parametrize("value_size", [MAX_BLOCK_SIZE - 4, 0x10000, 0x10005, 0x30000])
def test_client_refuses_more_than_16_bits(value_size: int) -> None:
    """UW-4: 65,536 bytes must not become 0, whatever the application's buffer_size is said to be."""
    with pytest.raises(TooLargeToEncode, match="buffer_size is 65535"):
        UwsgiClient(buffer_size=1_000_000).send(RequestVariables({"A": "b" * value_size}))


def test_block_size_is_the_size_on_the_wire() -> None:
    """UW-4: known before connecting."""
    variables = {"REQUEST_METHOD": "GET", "A": ""}
    assert block_size(variables) == len(encode_variables(variables)) == 21 + 5
    assert block_size({}) == 0


# Client: what it receives


def test_client_accepts_cgi_response(play: Play) -> None:
    """UW-7: a Status field instead of a status line."""
    head = play(UwsgiClient(), b"Status: 404 Not Found\r\nA: b\r\n\r\n", end=True)[0]
    assert head == ResponseHead(404, [(b"a", b"b")], b"Not Found")


def test_client_removes_transfer_encoding(play: Play) -> None:
    """UW-15."""
    wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\nbody"
    assert play(UwsgiClient(), wire)[0] == ResponseHead(200, [(b"a", b"b")], b"OK")


def test_client_receives_switching_protocols(play: Play) -> None:
    """UW-16: the application does the WebSocket handshake; what follows is the tunnel."""
    wire = b"HTTP/1.1 101 Web Socket Protocol Handshake\r\nUpgrade: WebSocket\r\n\r\n\x81\x01a"
    head, data = play(UwsgiClient(), wire)
    assert (head.status, data) == (101, Data(b"\x81\x01a"))


@pytest.mark.parametrize(
    ("method", "wire", "body"),
    [
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n42", [Data(b"42")]),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", []),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", []),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", []),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", []),
    ],
)
def test_client_ends_response_where_it_says(method: str, wire: bytes, body: list[Any], play: Play) -> None:
    """UW-7: an application that keeps the connection open does not delay the end.

    RFC 9112 6.3; what comes after it is dropped, at whatever point it is split off.
    """
    for rest in (b"", b"more"):
        for cuts in ((), range(len(wire) + 4), [len(wire)]):
            client = UwsgiClient()
            client.send(RequestVariables({"REQUEST_METHOD": method}))
            _, *events = play(client, wire + rest, cuts)
            assert events[:-1] == body
            # What comes with the end is noticed, what comes later is nobody's.
            noticed = bool(rest and not cuts and method == "GET" and b"200" in wire)
            assert events[-1] == EndOfMessage(surplus=noticed)
            assert play(client, wire, end=True) == []


def test_client_fails_when_response_is_shorter_than_it_says(play: Play) -> None:
    client = UwsgiClient()
    client.send(RequestVariables({"A": "b"}))
    with pytest.raises(Incomplete, match="1 bytes short"):
        play(client, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n4", end=True)


# Server: what it receives


@pytest.mark.parametrize("modifier1", sorted(set(range(256)) - {0}))
def test_server_refuses_every_modifier_but_requests(modifier1: int, play: Play) -> None:
    """UW-8, UW-9: these reload, evaluate or control a uWSGI server; the error stays."""
    server = UwsgiServer()
    with pytest.raises(RemoteProtocolError) as first:
        play(server, packet(pair(b"A", b"b"), modifier1))
    server.receive_data(packet(pair(b"A", b"b")))
    with pytest.raises(RemoteProtocolError) as again:
        server.next_event()
    assert repr(again.value) == repr(first.value)


def test_server_ignores_modifier2_of_a_request(play: Play) -> None:
    """UW-1: with modifier1 0 it says nothing."""
    assert play(UwsgiServer(), packet(pair(b"A", b"b"), 0, 7))[0] == RequestVariables({"A": "b"})


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (b"", "without variables"),
        (pair(b"", b"value"), "no name"),
        (pair(b"A", b"b") + pair(b"", b""), "no name"),
        (b"\x01", "beyond the end"),
        (b"\x01\x00", "beyond the end"),
        (b"\x02\x00A", "beyond the end"),
        (b"\x01\x00A", "beyond the end"),
        (b"\x01\x00A\x01", "beyond the end"),
        (b"\x01\x00A\x01\x00", "beyond the end"),
        (b"\x01\x00A\xff\xffb", "beyond the end"),
        (b"\xff\xffA\x01\x00b", "beyond the end"),
        (pair(b"CONTENT_LENGTH", b"-1"), "CONTENT_LENGTH"),
        (pair(b"CONTENT_LENGTH", b"1x"), "CONTENT_LENGTH"),
        (pair(b"CONTENT_LENGTH", b"\xb2"), "CONTENT_LENGTH"),
        (pair(b"CONTENT_LENGTH", b"9" * 19), "CONTENT_LENGTH"),
        (pair(b"CONTENT_LENGTH", b"1") + pair(b"CONTENT_LENGTH", b"2"), "occurs twice"),
    ],
)
def test_server_rejects_malformed_request(block: bytes, message: str, play: Play) -> None:
    """UW-2, UW-3; the error stays."""
    wire = packet(block)
    for cuts in ((), range(len(wire))):
        server = UwsgiServer()
        with pytest.raises(RemoteProtocolError, match=message) as first:
            play(server, wire, cuts)
        assert first.value.status == 400
        with pytest.raises(RemoteProtocolError) as again:
            server.next_event()
        assert repr(again.value) == repr(first.value)


def test_server_merges_repeated_header_fields() -> None:
    """CGI-22: a web server that sends one variable per field leaves the merging to us."""
    block = b"".join(
        pair(name, value)
        for name, value in [
            (b"REQUEST_METHOD", b"GET"),
            (b"HTTP_X", b"a"),
            (b"HTTP_COOKIE", b"b=1"),
            (b"REQUEST_METHOD", b"GET"),
            (b"HTTP_X", b"c"),
            (b"HTTP_COOKIE", b"d=2"),
        ]
    )
    assert decode_variables(block) == {
        "REQUEST_METHOD": "GET",
        "HTTP_X": "a, c",
        "HTTP_COOKIE": "b=1; d=2",
    }


def test_server_limits_the_number_of_variables(play: Play) -> None:
    """UW-5."""
    block = b"".join(pair(b"A%d" % number, b"") for number in range(MAX_VARIABLES))
    assert len(play(UwsgiServer(), packet(block))[0].variables) == MAX_VARIABLES
    with pytest.raises(LimitExceeded, match="more than 1000 variables") as caught:
        play(UwsgiServer(), packet(block + pair(b"B", b"")))
    assert caught.value.status == 431


# PING and PONG


def test_ping_and_pong_on_the_wire() -> None:
    """UW-10."""
    assert PING.encode() == b"\x64\x00\x00\x00"
    assert PONG.encode() == b"\x64\x00\x00\x01"
    assert PacketHeader.decode(b"\x64\x00\x00\x01") == PONG
    assert PacketHeader.decode(b"\x00\x34\x12\x02") == PacketHeader(0, 0x1234, 2)


@pytest.mark.parametrize("cuts", [(), range(4)])
def test_server_answers_ping(cuts: Any, play: Play) -> None:
    """UW-9, UW-10: no request comes, only the end of the exchange, and the answer is there once."""
    server = UwsgiServer()
    assert play(server, PING.encode(), cuts, end=True) == [EndOfMessage()]
    assert server.data_to_send() == PONG.encode()
    assert server.data_to_send() == b""


def test_server_answers_one_ping_a_connection(play: Play) -> None:
    server = UwsgiServer()
    assert play(server, PING.encode() * 3) == [EndOfMessage()]
    assert server.data_to_send() == PONG.encode()


@pytest.mark.parametrize("wire", [PONG.encode(), packet(b"payload", 100), packet(b"", 100, 2)])
def test_server_refuses_other_packets_of_ping(wire: bytes, play: Play) -> None:
    """UW-9."""
    server = UwsgiServer()
    with pytest.raises(RemoteProtocolError, match="modifier1 100"):
        play(server, wire)
    assert server.data_to_send() == b""


# Server: what it sends


@pytest.mark.parametrize(
    "event",
    [
        Stderr(b"oops"),
        InformationalResponse(103, []),
        LocalRedirect(b"/"),
        ResponseHead(200, [(b"a", b"b\r\nc: d")]),
    ],
)
def test_server_refuses_what_uwsgi_cannot_express(event: Any) -> None:
    """UW-7: the error stays."""
    server = UwsgiServer()
    with pytest.raises(LocalProtocolError) as first:
        server.send(event)
    with pytest.raises(LocalProtocolError) as again:
        server.send(ResponseHead(200, []))
    assert repr(again.value) == repr(first.value)


# Any input


@given(st.dictionaries(st.text(), st.text(), min_size=1))
def test_any_variables_are_sent_or_refused(play: Play, variables: dict[str, str]) -> None:
    try:
        wire = UwsgiClient().send(RequestVariables(variables))
    except LocalProtocolError:
        return
    assert len(wire) == block_size(variables) + 4
    assert play(UwsgiServer(), wire)[0] == RequestVariables(variables)
