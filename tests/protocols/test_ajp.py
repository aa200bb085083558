from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.ajp import LARGEST_PACKET_SIZE, AjpClient, AjpServer, check_size, is_told
from gateway.protocols.ajp.client import Receiving, Sending
from gateway.protocols.ajp.packets import PacketReader, body_room, encode_body
from gateway.protocols.ajp.request import METHODS, REQUEST_HEADERS, encode_request
from gateway.protocols.ajp.response import encode_chunks, encode_end, encode_get_body
from gateway.protocols.ajp.server import REPLIES_LIMIT
from gateway.protocols.errors import (
    Incomplete,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
    TooLargeToEncode,
)
from gateway.protocols.events import (
    NEED_DATA,
    BodyWanted,
    Data,
    EndOfMessage,
    InformationalResponse,
    LocalRedirect,
    RequestVariables,
    ResponseHead,
    Stderr,
)
from tests.protocols.conftest import Play, rows

BASE = {
    "REQUEST_METHOD": "GET",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REQUEST_URI": "/",
    "QUERY_STRING": "",
    "REMOTE_ADDR": "",
    "REMOTE_HOST": "",
    "SERVER_NAME": "",
    "SERVER_PORT": "80",
}
"""The variables that every request has."""

# What BASE becomes between the method and the headers.
FIXED = b"\x00\x08HTTP/1.1\x00\x00\x01/\x00\xff\xff\xff\xff\xff\xff\x00\x50\x00"

NO_BODY = [RequestVariables(BASE), EndOfMessage()]
NO_BODY_PACKET = b"\x12\x34\x00\x1d\x02\x02" + FIXED + b"\x00\x00\xff"


def packet(content: bytes) -> bytes:
    return b"\x12\x34" + len(content).to_bytes(2, "big") + content


def answer(content: bytes) -> bytes:
    return b"AB" + len(content).to_bytes(2, "big") + content


def string(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text + b"\0"


def request(headers: bytes = b"\0\0", attributes: bytes = b"", method: bytes = b"\x02") -> bytes:
    """A packet that forwards BASE with other headers, attributes or another method."""
    return packet(b"\x02" + method + FIXED + headers + attributes + b"\xff")


REQUESTS = {
    "no body": (NO_BODY, NO_BODY_PACKET),
    "all fields": (
        [
            RequestVariables(
                {
                    "REQUEST_METHOD": "OPTIONS",
                    "SERVER_PROTOCOL": "HTTP/2.0",
                    "REQUEST_URI": "/a%20b?c=d",
                    "QUERY_STRING": "c=d",
                    "REMOTE_ADDR": "192.0.2.1",
                    "REMOTE_HOST": "client.example",
                    "SERVER_NAME": "a.example",
                    "SERVER_PORT": "8443",
                    "HTTPS": "on",
                }
            ),
            EndOfMessage(),
        ],
        packet(
            b"\x02\x01"
            + string(b"HTTP/2.0")
            + string(b"/a%20b")
            + string(b"192.0.2.1")
            + string(b"client.example")
            + string(b"a.example")
            + b"\x20\xfb\x01\x00\x00\x05"
            + string(b"c=d")
            + b"\xff"
        ),
    ),
    "headers": (
        [
            RequestVariables(
                {
                    **BASE,
                    "HTTP_HOST": "a.example",
                    "CONTENT_TYPE": "text/plain",
                    "HTTP_X_FORWARDED_FOR": "192.0.2.1",
                    "HTTP_ACCEPT": "",
                    "HTTP_X_Y": "\xe9",
                }
            ),
            EndOfMessage(),
        ],
        request(
            b"\x00\x05\xa0\x0b"
            + string(b"a.example")
            + b"\xa0\x07"
            + string(b"text/plain")
            + string(b"x-forwarded-for")
            + string(b"192.0.2.1")
            + b"\xa0\x01"
            + string(b"")
            + string(b"x-y")
            + string(b"\xe9")
        ),
    ),
    "attributes": (
        [
            RequestVariables(
                {
                    **BASE,
                    "REMOTE_USER": "u",
                    "AUTH_TYPE": "Basic",
                    "JVM_ROUTE": "n1",
                    "SSL_CLIENT_CERT": "-----\nx\n",
                    "SSL_CIPHER": "TLS_X",
                    "SSL_SESSION_ID": "5e",
                    "SSL_CIPHER_USEKEYSIZE": "256",
                    "REMOTE_PORT": "4711",
                    "SERVER_ADDR": "127.0.0.1",
                    "SSL_PROTOCOL": "TLSv1.3",
                    "AJP_note": "a\nb",
                }
            ),
            EndOfMessage(),
        ],
        request(
            attributes=b"\x03"
            + string(b"u")
            + b"\x04"
            + string(b"Basic")
            + b"\x06"
            + string(b"n1")
            + b"\x07"
            + string(b"-----\nx\n")
            + b"\x08"
            + string(b"TLS_X")
            + b"\x09"
            + string(b"5e")
            + b"\x0b\x01\x00\x0a"
            + string(b"AJP_REMOTE_PORT")
            + string(b"4711")
            + b"\x0a"
            + string(b"AJP_LOCAL_ADDR")
            + string(b"127.0.0.1")
            + b"\x0a"
            + string(b"AJP_SSL_PROTOCOL")
            + string(b"TLSv1.3")
            + b"\x0a"
            + string(b"note")
            + string(b"a\nb")
        ),
    ),
    "a method without a code": (
        [RequestVariables({**BASE, "REQUEST_METHOD": "PATCH"}), EndOfMessage()],
        request(method=b"\xff", attributes=b"\x0d" + string(b"PATCH")),
    ),
    "a body": (
        [RequestVariables({**BASE, "CONTENT_LENGTH": "3"}), Data(b"\0AB"), EndOfMessage()],
        request(b"\x00\x01\xa0\x08" + string(b"3")) + b"\x12\x34\x00\x05\x00\x03\0AB",
    ),
    "a length of 0": (
        [RequestVariables({**BASE, "CONTENT_LENGTH": "0"}), EndOfMessage()],
        request(b"\x00\x01\xa0\x08" + string(b"0")),
    ),
}
RESPONSES = {
    "a document": (
        [
            ResponseHead(200, [(b"content-type", b"text/plain"), (b"x-y", b"")], b"OK"),
            Data(b"42"),
            EndOfMessage(),
        ],
        answer(
            b"\x04\x00\xc8"
            + string(b"OK")
            + b"\x00\x02\xa0\x01"
            + string(b"text/plain")
            + string(b"x-y")
            + string(b"")
        )
        + b"AB\x00\x06\x03\x00\x0242\0"
        + b"AB\x00\x02\x05\x01",
    ),
    "no reason": (
        [ResponseHead(404, [], b""), EndOfMessage()],
        answer(b"\x04\x01\x94" + string(b"404") + b"\x00\x00") + b"AB\x00\x02\x05\x01",
    ),
}


def asked(variables: dict[str, str] | None = None, *body: bytes) -> Any:
    """A client that has sent a request."""
    client = AjpClient()
    client.send(RequestVariables({**BASE, **(variables or {})}))
    for piece in body:
        client.send(Data(piece))
    client.send(EndOfMessage())
    return client


def told(wire: bytes = NO_BODY_PACKET, **options: Any) -> AjpServer:
    """A server that has received a request."""
    server = AjpServer(**options)
    server.receive_data(wire)
    while server.next_event() is not NEED_DATA:
        pass
    return server


# Rows, both ways


@rows(REQUESTS)
def test_client_sends_requests(events: list[Any], wire: bytes) -> None:
    """AJP-1 to AJP-6."""
    client = AjpClient()
    assert b"".join(client.send(event) for event in events) == wire
    assert not client.holding


@rows(REQUESTS)
def test_server_receives_requests(events: list[Any], wire: bytes, play: Play) -> None:
    """AJP-1 to AJP-6: whole, byte by byte."""
    server = AjpServer()
    assert play(server, wire) == events
    assert play(AjpServer(), wire, range(len(wire)), end=True) == events
    assert server.data_to_send() == b""


@rows(RESPONSES)
def test_server_sends_responses(events: list[Any], wire: bytes) -> None:
    """AJP-7."""
    server = told()
    assert b"".join(server.send(event) for event in events) == wire


@rows(RESPONSES)
def test_client_receives_responses(events: list[Any], wire: bytes, play: Play) -> None:
    """AJP-7: whole, byte by byte, with bytes after the end."""
    client = asked()
    assert play(client, wire) == events
    assert client.reusable
    assert play(asked(), wire, range(len(wire)), end=True) == events
    client = asked()
    assert play(client, wire + b"AB\x00\x01\x09") == events
    assert not client.reusable


@pytest.mark.parametrize("code", range(1, 28))
def test_methods_have_the_codes_of_the_specification(code: int, play: Play) -> None:
    """AJP-3."""
    variables = {**BASE, "REQUEST_METHOD": METHODS[code - 1]}
    wire = AjpClient().send(RequestVariables(variables))
    assert wire == request(method=bytes((code,)))
    assert play(AjpServer(), wire) == [RequestVariables(variables), EndOfMessage()]


def test_first_and_last_method() -> None:
    """AJP-3."""
    assert (METHODS[0], METHODS[1], METHODS[3], METHODS[26]) == ("OPTIONS", "GET", "POST", "MKACTIVITY")


def test_first_and_last_common_header() -> None:
    """AJP-4."""
    assert (REQUEST_HEADERS[0], REQUEST_HEADERS[7], REQUEST_HEADERS[13]) == (
        "accept",
        "content-length",
        "user-agent",
    )


# Client: what it sends


def test_client_leaves_out_what_ajp_has_no_place_for() -> None:
    variables = {
        **BASE,
        "SCRIPT_NAME": "/a",
        "GATEWAY_INTERFACE": "CGI/1.1",
        "REMOTE_USER": "",
        "CONTENT_TYPE": "",
    }
    assert AjpClient().send(RequestVariables(variables)) == NO_BODY_PACKET


def test_client_takes_the_query_off_the_uri() -> None:
    """A variable QUERY_STRING that is missing changes nothing."""
    variables = {**BASE, "REQUEST_URI": "/?a?b"}
    del variables["QUERY_STRING"]
    assert AjpClient().send(RequestVariables(variables)) == request(attributes=b"\x05" + string(b"a?b"))


def test_client_tells_the_secret() -> None:
    """AJP-5, AJP-10."""
    client = AjpClient(secret="s3")
    assert client.send(RequestVariables(BASE)) == request(attributes=b"\x0c" + string(b"s3"))


@pytest.mark.parametrize(
    "variables",
    [
        {"REQUEST_METHOD": ""},
        {"REQUEST_URI": ""},
        {"REQUEST_URI": "/\n"},
        {"REMOTE_ADDR": "a\0"},
        {"SERVER_NAME": "\u20ac"},
        {"SERVER_PORT": "65536"},
        {"SERVER_PORT": "-1"},
        {"SERVER_PORT": "\u0661"},
        {"SERVER_PORT": "1" * 5000},
        {"SSL_CIPHER_USEKEYSIZE": "much"},
        {"SSL_CLIENT_CERT": "a\0"},
        {"AJP_a\nb": "c"},
        {"AJP_a": "\0"},
        {"HTTP_A": "b\r\nc"},
        {"HTTP_A": "b\0"},
        {"HTTP_A\n": "b"},
        {"HTTP_": "b"},
        {"HTTP_CONTENT_LENGTH": "5"},
        {"HTTP_CONTENT_TYPE": "text/html"},
        {"CONTENT_LENGTH": "-1"},
        {"CONTENT_LENGTH": "9" * 19},
        {"HTTP_TRANSFER_ENCODING": "gzip, chunked"},
        {"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": "1"},
    ],
)
def test_client_refuses_variables_it_cannot_express(variables: dict[str, str]) -> None:
    client = AjpClient()
    with pytest.raises(LocalProtocolError) as refused:
        client.send(RequestVariables(BASE | variables))
    assert not isinstance(refused.value, TooLargeToEncode)
    with pytest.raises(LocalProtocolError):
        client.send(RequestVariables(BASE))


def test_client_refuses_a_header_whose_name_would_be_a_code() -> None:
    """Headers: "no header names will have length greater than 0x9FFF"."""
    client = AjpClient(packet_size=LARGEST_PACKET_SIZE)
    assert len(client.send(RequestVariables({**BASE, "HTTP_" + "A" * 0x9FFF: ""}))) > 0x9FFF
    with pytest.raises(LocalProtocolError, match="40960 bytes"):
        AjpClient(packet_size=LARGEST_PACKET_SIZE).send(
            RequestVariables({**BASE, "HTTP_" + "A" * 0xA000: ""})
        )


@pytest.mark.parametrize("size", [8192, 65536])
def test_client_refuses_a_request_larger_than_a_packet(size: int) -> None:
    """AJP-10: the largest that fits, and one byte more."""
    room = size - len(encode_request({**BASE, "HTTP_COOKIE": ""}, packet_size=size))
    assert (
        len(AjpClient(packet_size=size).send(RequestVariables({**BASE, "HTTP_COOKIE": "c" * room}))) == size
    )
    client = AjpClient(packet_size=size)
    with pytest.raises(TooLargeToEncode) as refused:
        client.send(RequestVariables({**BASE, "HTTP_COOKIE": "c" * (room + 1)}))
    assert str(refused.value).startswith(
        f"the request takes {size + 1} bytes where an AJP packet has {size}; the largest are HTTP_COOKIE ("
    )
    with pytest.raises(TooLargeToEncode):
        AjpClient(packet_size=size).send(RequestVariables({**BASE, "HTTP_COOKIE": "c" * 1_000_000}))


@pytest.mark.parametrize("secret", [None, "s" * 20])
@pytest.mark.parametrize(
    "name", ["AJP_a", "HTTP_A", "HTTP_COOKIE", "SERVER_ADDR", "REMOTE_USER", "SERVER_PORT"]
)
def test_size_is_known_before_anything_is_sent(name: str, secret: str | None) -> None:
    """AJP-10: the same that the client raises, also where nearly all of the packet is overhead."""
    for value in ("1", "12345", "x" * 4000, "x" * 9000):
        few = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/", name: value}
        for variables in (few, few | {f"HTTP_{number}": "" for number in range(900)}):
            outcomes: list[str] = []
            for check in (
                lambda variables: AjpClient(secret=secret).send(RequestVariables(variables)),
                lambda variables: check_size(variables, packet_size=8192, secret=secret),
            ):
                try:
                    check(variables)
                except TooLargeToEncode as error:
                    outcomes.append(str(error))
                except LocalProtocolError:
                    outcomes.append("")
                else:
                    outcomes.append("")
            assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("REQUEST_URI", True),
        ("CONTENT_TYPE", True),
        ("REMOTE_USER", True),
        ("REMOTE_PORT", True),
        ("SSL_CIPHER_USEKEYSIZE", True),
        ("HTTP_A", True),
        ("AJP_a", True),
        ("SCRIPT_NAME", False),
        ("SSL_CLIENT_S_DN", False),
    ],
)
def test_variables_that_a_container_is_told(name: str, told: bool) -> None:
    assert is_told(name) is told


def test_client_sends_what_is_asked_for() -> None:
    """AJP-6: the first packet at once, each further one when it is asked for, at most 8186 bytes."""
    body = bytes(range(256)) * 80
    client: Any = AjpClient()
    client.send(RequestVariables({**BASE, "CONTENT_LENGTH": str(len(body))}))
    assert client.send(Data(body[:9000])) == encode_body(body[:8186])
    assert client.holding
    assert client.data_to_send() == b""
    assert client.send(Data(body[9000:])) == b""
    client.receive_data(encode_get_body(8186))
    assert client.next_event() == BodyWanted()
    assert client.data_to_send() == encode_body(body[8186:16372])
    assert client.data_to_send() == b""
    client.receive_data(encode_get_body(100))
    assert client.next_event() == BodyWanted()
    assert client.data_to_send() == encode_body(body[16372:16472])
    client.receive_data(encode_get_body(0xFFFF))
    assert client.next_event() == BodyWanted()
    assert client.data_to_send() == encode_body(body[16472:])
    assert not client.holding
    client.receive_data(encode_get_body(8186))
    assert client.next_event() == BodyWanted()
    assert client.data_to_send() == b""
    assert client.send(EndOfMessage()) == b"\x12\x34\x00\x00"


def test_client_sends_at_once_what_was_asked_for_before() -> None:
    client = AjpClient()
    client.send(RequestVariables({**BASE, "HTTP_TRANSFER_ENCODING": "chunked"}))
    client.receive_data(encode_get_body(8186))
    assert client.next_event() == BodyWanted()
    assert client.send(Data(b"abc")) == encode_body(b"abc")
    assert client.send(Data(b"def")) == b""


def test_client_ends_a_body_of_unknown_length_when_it_is_asked_again() -> None:
    """Get Body Chunk: "an empty packet", as often as the container tries to read past the end."""
    client = asked({"HTTP_TRANSFER_ENCODING": "chunked"}, b"abc")
    for expected in (encode_body(b"abc"), b"\x12\x34\0\0", b"\x12\x34\0\0"):
        client.receive_data(encode_get_body(8186))
        assert client.next_event() == BodyWanted()
        assert client.data_to_send() == expected


@pytest.mark.parametrize(("size", "room"), [(8192, 8186), (65536, 65530)])
def test_client_fills_packets(size: int, room: int) -> None:
    """AJP-1, AJP-6."""
    client = AjpClient(packet_size=size)
    client.send(RequestVariables({**BASE, "CONTENT_LENGTH": "100000"}))
    assert len(client.send(Data(b"x" * 100000))) == 4 + 2 + room == size


@pytest.mark.parametrize("coding", [None, "chunked"])
def test_client_counts_the_body(coding: str | None) -> None:
    """The variables say whether there is one, and how long it is."""
    variables = {"CONTENT_LENGTH": "2"} if coding is None else {"HTTP_TRANSFER_ENCODING": coding}
    client = AjpClient()
    client.send(RequestVariables({**BASE, **variables}))
    client.send(Data(b"a"))
    if coding is None:
        with pytest.raises(LocalProtocolError, match="1 bytes of body more"):
            client.send(Data(b"bc"))
    else:
        client.send(Data(b"bc"))
    client = AjpClient()
    client.send(RequestVariables({**BASE, **variables}))
    if coding is None:
        with pytest.raises(LocalProtocolError, match="2 bytes of body less"):
            client.send(EndOfMessage())
    else:
        client.send(EndOfMessage())


def test_client_sends_no_body_without_a_length() -> None:
    """RFC 9112 6.3: as in HTTP."""
    client = AjpClient()
    client.send(RequestVariables(BASE))
    with pytest.raises(LocalProtocolError, match="1 bytes of body more"):
        client.send(Data(b"a"))


def test_client_refuses_trailers() -> None:
    client = AjpClient()
    client.send(RequestVariables(BASE))
    with pytest.raises(LocalProtocolError, match="trailers"):
        client.send(EndOfMessage([(b"a", b"b")]))


# Client: what it receives

HEAD = answer(b"\x04\x00\xc8" + string(b"200") + b"\x00\x00")
END = encode_end(reuse=True)


def test_client_receives_common_headers_and_others(play: Play) -> None:
    """AJP-7; RFC 9110 5.5: whitespace around a value is no part of it."""
    wire = answer(
        b"\x04\x00\xc8"
        + string(b"")
        + b"\x00\x03\xa0\x0b"
        + string(b"Basic")
        + b"\xa0\x07\xff\xff"
        + string(b"X-Y")
        + string(b" z\t")
    )
    assert play(asked(), wire) == [
        ResponseHead(200, [(b"www-authenticate", b"Basic"), (b"set-cookie", b""), (b"x-y", b"z")])
    ]


def test_client_receives_informational_responses(play: Play) -> None:
    """RFC 9110 15.2: any number before the final one."""
    wire = answer(b"\x04\x00\x67" + string(b"103") + b"\x00\x00") + HEAD + END
    assert play(asked(), wire) == [InformationalResponse(103, []), ResponseHead(200, []), EndOfMessage()]


def test_client_takes_empty_chunks_for_nothing(play: Play) -> None:
    """Tomcat asks for all to be flushed by them, before the head too."""
    flush = answer(b"\x03\0\0\0")
    assert play(asked(), flush + HEAD + flush + answer(b"\x03\0\0") + END) == [
        ResponseHead(200, []),
        EndOfMessage(),
    ]


def test_client_takes_chunks_without_the_nul_behind_them(play: Play) -> None:
    """It is not documented."""
    assert play(asked(), HEAD + answer(b"\x03\0\x02ab"))[1:] == [Data(b"ab")]


@pytest.mark.parametrize("pieces", [(b"abcde",), (b"abcd", b"e"), (b"ab", b"cde")])
def test_client_drops_more_body_than_content_length(pieces: tuple[bytes, ...], play: Play) -> None:
    """14.3: the response is what was promised, and the connection serves no other."""
    fields = [(b"content-length", b"4")]
    head = answer(b"\x04\x00\xc8" + string(b"200") + b"\x00\x01\xa0\x03" + string(b"4"))
    chunks = b"".join(answer(b"\x03" + len(piece).to_bytes(2, "big") + piece + b"\0") for piece in pieces)
    client = asked()
    events = play(client, head + chunks + END)
    assert events[0] == ResponseHead(200, fields)
    assert b"".join(event.data for event in events[1:-1]) == b"abcd"
    assert events[-1] == EndOfMessage(surplus=True)
    assert not client.reusable


def test_connection_is_reused_if_the_container_says_so(play: Play) -> None:
    """AJP-8."""
    client = asked()
    assert not client.reusable
    for _ in range(2):
        play(client, HEAD + END)
        assert client.reusable
        client.send(RequestVariables(BASE))
        client.send(EndOfMessage())
    play(client, HEAD + encode_end(reuse=False))
    assert not client.reusable
    assert (client._sending, client._receiving) == (Sending.CLOSED, Receiving.CLOSED)
    client.receive_data(b"anything")
    assert client.next_event() is NEED_DATA
    with pytest.raises(LocalProtocolError):
        client.send(RequestVariables(BASE))


def test_connection_is_not_reused_while_a_packet_is_owed(play: Play) -> None:
    """It would be taken for the next request."""
    client = asked({"HTTP_TRANSFER_ENCODING": "chunked"})
    play(client, HEAD + encode_get_body(10) + END)
    assert not client.reusable


def test_connection_is_not_reused_before_the_request_was_given(play: Play) -> None:
    client = AjpClient()
    client.send(RequestVariables({**BASE, "CONTENT_LENGTH": "5"}))
    client.send(Data(b"abc"))
    assert play(client, HEAD + END)[-1] == EndOfMessage()
    assert not client.reusable
    with pytest.raises(LocalProtocolError):
        client.send(Data(b"de"))


def test_connection_is_reused_although_the_body_was_not_asked_for(play: Play) -> None:
    """The container has done without the rest."""
    client = asked({"CONTENT_LENGTH": "20000"}, b"x" * 20000)
    assert client.holding
    play(client, HEAD + END)
    assert client.reusable
    assert not client.holding


@pytest.mark.parametrize("wire", [b"A", encode_get_body(5), b""])
def test_connection_is_not_reused_after_anything_unasked(wire: bytes) -> None:
    client = AjpClient()
    client.receive_data(wire)
    assert client.next_event() is NEED_DATA
    assert not client.reusable
    with pytest.raises(LocalProtocolError, match="not fit"):
        client.send(RequestVariables(BASE))


def test_client_stays_failed_after_an_early_end(play: Play) -> None:
    """The request failed on our side; the response is still good."""
    client = AjpClient()
    client.send(RequestVariables(BASE))
    with pytest.raises(LocalProtocolError):
        client.send(Data(b"x"))
    assert play(client, HEAD + END) == [ResponseHead(200, []), EndOfMessage()]
    assert client._sending is Sending.ERROR
    assert not client.reusable


def test_sign_of_life() -> None:
    """AJP-9."""
    client: Any = AjpClient()
    assert client.ping() == b"\x12\x34\x00\x01\x0a"
    assert client.awaits_pong
    assert not client.reusable
    with pytest.raises(LocalProtocolError):
        client.ping()
    client.receive_data(b"AB\x00\x01\x09")
    assert client.next_event() is NEED_DATA
    assert not client.awaits_pong
    assert client.reusable


def test_sign_of_life_that_nobody_has_asked_for(play: Play) -> None:
    """Without a request it makes the connection doubtful; in a response it is harmless (lighttpd)."""
    pong = b"AB\x00\x01\x09"
    client = AjpClient()
    play(client, pong)
    assert not client.reusable
    client = asked()
    assert play(client, HEAD + pong + END) == [ResponseHead(200, []), EndOfMessage()]
    assert client.reusable


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        (b"HTTP/1.1 400", "this is no AJP packet, it begins with b'HT'"),
        (b"AC", "no AJP packet"),
        (b"\x12\x34", "no AJP packet"),
        (answer(b""), "ends too early"),
        (answer(b"\x08"), "code 8 in state HEAD"),
        (answer(b"\x05\x01"), "code 5 in state HEAD"),
        (answer(b"\x03\0\x01a\0"), "a body before its head"),
        (HEAD + HEAD, "code 4 in state BODY"),
        (HEAD + answer(b"\x05"), "ends too early"),
        (HEAD + answer(b"\x03\0"), "ends too early"),
        (HEAD + answer(b"\x03\0\x03ab"), "ends too early"),
        (HEAD + answer(b"\x03\0\x01ab"), "not as long as it says"),
        (HEAD + answer(b"\x03\0\x01a\0\0"), "not as long as it says"),
        (answer(b"\x06\0\0"), "nothing of the body"),
        (encode_get_body(5) * 2, "asked for again"),
        (answer(b"\x04\0\x10" + string(b"") + b"\0\0"), "not a status code: 16"),
        (answer(b"\x04\x03\xe8" + string(b"") + b"\0\0"), "not a status code: 1000"),
        (answer(b"\x04\x00\x65" + string(b"") + b"\0\0"), "101"),
        (answer(b"\x04\x00\xc8" + string(b"a\nb") + b"\0\0"), "line break"),
        (answer(b"\x04\x00\xc8\x00\x01ab\0\0"), "no NUL"),
        (answer(b"\x04\x00\xc8" + string(b"") + b"\0\0x"), "something behind"),
        (answer(b"\x04\x00\xc8" + string(b"") + b"\0\x01\xa0\x00" + string(b"")), "header 0xA000"),
        (answer(b"\x04\x00\xc8" + string(b"") + b"\0\x01\xa0\x0c" + string(b"")), "header 0xA00C"),
        (answer(b"\x04\x00\xc8" + string(b"") + b"\0\x01\xff\xff" + string(b"")), "name of a header"),
        (
            answer(b"\x04\x00\xc8" + string(b"") + b"\0\x01" + string(b"a b") + string(b"")),
            "name of a header",
        ),
        (answer(b"\x04\x00\xc8" + string(b"") + b"\0\x01\xa0\x01" + string(b"a\r\nb: c")), "line break"),
        (answer(b"\x04\x00\xc8" + string(b"") + b"\0\x01\xa0\x01" + string(b"a\0b")), "NUL"),
    ],
)
def test_client_refuses_what_is_no_ajp(wire: bytes, message: str, play: Play) -> None:
    """Status 502, and the error stays."""
    client = asked()
    with pytest.raises(RemoteProtocolError, match=message) as first:
        play(client, wire)
    assert first.value.status == 502
    assert not client.reusable
    client.receive_data(HEAD)
    with pytest.raises(RemoteProtocolError) as again:
        client.next_event()
    assert repr(again.value) == repr(first.value)
    with pytest.raises(LocalProtocolError):
        client.send(RequestVariables(BASE))


@pytest.mark.parametrize(
    "wire", [b"", HEAD, HEAD[:-1], HEAD + answer(b"\x03\0\x01a\0"), HEAD + END[:-1], b"A"]
)
def test_client_misses_the_end(wire: bytes, play: Play) -> None:
    """AJP-7: only End Response ends a response."""
    with pytest.raises(Incomplete) as failed:
        play(asked(), wire, end=True)
    assert failed.value.status == 502


# Server: what it receives


def test_server_asks_for_the_body() -> None:
    """AJP-6: when the packet before was taken, and for no more than there is."""
    server = AjpServer()
    server.receive_data(request(b"\x00\x01\xa0\x08" + string(b"10000")))
    assert isinstance(server.next_event(), RequestVariables)
    assert server.next_event() is NEED_DATA
    assert server.data_to_send() == b""
    server.receive_data(encode_body(b"x" * 8186))
    assert server.next_event() == Data(b"x" * 8186)
    assert server.data_to_send() == b""
    assert server.next_event() is NEED_DATA
    assert server.next_event() is NEED_DATA
    assert server.data_to_send() == b"AB\x00\x03\x06\x07\x16"
    server.receive_data(encode_body(b"y" * 1814))
    assert server.next_event() == Data(b"y" * 1814)
    assert server.next_event() == EndOfMessage()
    assert server.data_to_send() == b""


@pytest.mark.parametrize("end", [b"\x12\x34\x00\x00", b"\x12\x34\x00\x02\x00\x00"])
def test_server_asks_for_a_body_of_unknown_length(end: bytes) -> None:
    """Apache ends it with a length of 0."""
    server = AjpServer(packet_size=16384)
    server.receive_data(request(b"\x00\x01" + string(b"Transfer-Encoding") + string(b"chunked")))
    assert isinstance(server.next_event(), RequestVariables)
    for answered, event in ((encode_body(b"ab"), Data(b"ab")), (end, EndOfMessage())):
        assert server.next_event() is NEED_DATA
        assert server.data_to_send() == b"AB\x00\x03\x06\x3f\xfa"
        server.receive_data(answered)
        assert server.next_event() == event
    assert server.next_event() is NEED_DATA
    assert server.data_to_send() == b""


def test_server_merges_headers(play: Play) -> None:
    """RFC 9110 5.3, RFC 6265 5.4."""
    headers = [(b"cookie", b"a"), (b"x-y", b"1"), (b"Cookie", b"b"), (b"X-Y", b"2"), (b"content-type", b"t")]
    wire = (
        b"\x00\x06"
        + b"".join(string(name) + string(value) for name, value in headers)
        + b"\xa0\x07"
        + string(b"t")
    )
    variables = {**BASE, "HTTP_COOKIE": "a; b", "HTTP_X_Y": "1, 2", "CONTENT_TYPE": "t"}
    assert play(AjpServer(), request(wire))[0] == RequestVariables(variables)


def test_server_drops_headers_that_hide_others(play: Play) -> None:
    """gunicorn#2799; httpoxy."""
    wire = b"\x00\x02" + string(b"x_y") + string(b"1") + string(b"Proxy") + string(b"evil")
    assert play(AjpServer(), request(wire))[0] == RequestVariables(BASE)


def test_server_answers_signs_of_life(play: Play) -> None:
    """AJP-9."""
    server = AjpServer()
    assert play(server, b"\x12\x34\x00\x01\x0a" + NO_BODY_PACKET) == NO_BODY
    assert server.data_to_send() == b"AB\x00\x01\x09"
    assert server.data_to_send() == b""


@pytest.mark.parametrize("answered", [False, True])
def test_server_takes_an_end_of_no_body_for_nothing(answered: bool, play: Play) -> None:
    """lighttpd sends one for a Content-Length of 0."""
    server = told()
    if answered:
        server.send(ResponseHead(200, []))
        server.send(EndOfMessage())
    assert play(server, b"\x12\x34\0\0" * 2) == []
    if not answered:
        server.send(ResponseHead(200, []))
        assert server.send(EndOfMessage()) == encode_end(reuse=True)
    assert play(server, NO_BODY_PACKET) == NO_BODY


def test_server_bounds_its_answers(play: Play) -> None:
    with pytest.raises(RemoteProtocolError, match="too many"):
        play(AjpServer(), b"\x12\x34\x00\x01\x0a" * (REPLIES_LIMIT // 5 + 2))


@pytest.mark.parametrize("secret", [b"", b"\x0c" + string(b"s4"), b"\x0c\xff\xff"])
def test_server_refuses_who_does_not_know_the_secret(secret: bytes, play: Play) -> None:
    """AJP-10."""
    with pytest.raises(RemoteProtocolError, match="secret") as refused:
        play(AjpServer(secret="s3"), request(attributes=secret))
    assert refused.value.status == 403


def test_server_takes_who_knows_the_secret(play: Play) -> None:
    """It is no variable: applications would show it."""
    wire = AjpClient(secret="s3").send(RequestVariables(BASE))
    assert play(AjpServer(secret="s3"), wire) == NO_BODY
    assert play(AjpServer(), wire) == NO_BODY


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        (b"GET / HTTP/1.1", "no AJP packet"),
        (b"AB", "no AJP packet"),
        (packet(b"\x07"), "code 7 is refused"),
        (packet(b"\x08"), "code 8 is refused"),
        (packet(b"\x02"), "ends too early"),
        (NO_BODY_PACKET[:2] + b"\0\x1c" + NO_BODY_PACKET[4:-1], "ends too early"),
        (packet(NO_BODY_PACKET[4:] + b"x"), "something behind"),
        (request(method=b"\x00"), "unknown method 0"),
        (request(method=b"\x1c"), "unknown method 28"),
        (request(method=b"\xff"), "unknown method 255"),
        (request(method=b"\x02", attributes=b"\x0d" + string(b"PATCH")), "unknown attribute 13"),
        (request().replace(b"\0\x01/\0", b"\0\x01\n\0"), "line break"),
        (request().replace(b"\0\x01/\0", b"\0\x01//"), "no NUL"),
        (request(b"\0\x01\xa0\x0f" + string(b"")), "header 0xA00F"),
        (request(b"\0\x01" + string(b"a:") + string(b"")), "name of a header"),
        (request(b"\0\x01" + string(b"a") + string(b"\r\n")), "line break"),
        (request(b"\0\x02\xa0\x08" + string(b"1") + b"\xa0\x08" + string(b"2")), "occurs twice"),
        (request(b"\0\x01\xa0\x08" + string(b"+1")), "not a number"),
        (
            request(b"\0\x02\xa0\x08" + string(b"1") + string(b"transfer-encoding") + string(b"chunked")),
            "CONTENT_LENGTH, or",
        ),
        (request(attributes=b"\x01" + string(b"")), "unknown attribute 1"),
        (request(attributes=b"\x0e" + string(b"")), "unknown attribute 14"),
        (request(attributes=2 * (b"\x03" + string(b"u"))), "'REMOTE_USER' occurs twice"),
        (request(attributes=b"\x05" + string(b"a\nb")), "line break"),
    ],
)
def test_server_refuses_what_is_no_request(wire: bytes, message: str, play: Play) -> None:
    """Status 400, and the error stays."""
    server = AjpServer()
    with pytest.raises(RemoteProtocolError, match=message) as first:
        play(server, wire)
    assert first.value.status == 400
    server.receive_data(NO_BODY_PACKET)
    with pytest.raises(RemoteProtocolError) as again:
        server.next_event()
    assert repr(again.value) == repr(first.value)


def test_server_refuses_a_request_without_a_uri(play: Play) -> None:
    wire = packet(NO_BODY_PACKET[4:].replace(b"\0\x01/\0", b"\xff\xff"))
    with pytest.raises(RemoteProtocolError, match="no URI"):
        play(AjpServer(), wire)


SIZED = request(b"\x00\x01\xa0\x08" + string(b"4"))


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        (encode_body(b"abcde"), "longer than its Content-Length"),
        (encode_body(b""), "4 bytes short"),
        (packet(b"\0\x01ab"), "not as long as it says"),
        (packet(b"\0"), "not as long as it says"),
        (packet(b"\0\x03ab"), "not as long as it says"),
        (encode_body(b"ab") * 2, "not asked for"),
        (encode_body(b"abcd") * 2, "before the response was complete"),
        (b"AB", "no AJP packet"),
    ],
)
def test_server_refuses_what_is_no_body(wire: bytes, message: str, play: Play) -> None:
    with pytest.raises(RemoteProtocolError, match=message):
        play(AjpServer(), SIZED + wire)


@pytest.mark.parametrize("wire", [SIZED, SIZED[:-1], SIZED + encode_body(b"abcd")[:-1], b"\x12"])
def test_server_misses_the_end(wire: bytes, play: Play) -> None:
    with pytest.raises(Incomplete):
        play(AjpServer(), wire, end=True)


def test_server_serves_one_request_after_the_other(play: Play) -> None:
    """AJP-8."""
    server = AjpServer()
    for _ in range(2):
        assert play(server, NO_BODY_PACKET) == NO_BODY
        server.send(ResponseHead(200, []))
        assert server.send(EndOfMessage()) == encode_end(reuse=True)
    assert server.next_event() is NEED_DATA
    server.receive_data(b"")
    assert server.next_event() is NEED_DATA


@pytest.mark.parametrize("asked_for", [False, True])
def test_server_ends_early(asked_for: bool) -> None:
    """A packet of the body that is on its way would be taken for a request, so the connection is closed."""
    server = AjpServer()
    server.receive_data(SIZED + encode_body(b"ab"))
    assert isinstance(server.next_event(), RequestVariables)
    assert server.next_event() == Data(b"ab")
    if asked_for:
        assert server.next_event() is NEED_DATA
    server.send(ResponseHead(413, []))
    assert server.send(EndOfMessage()) == encode_end(reuse=not asked_for)
    server.receive_data(NO_BODY_PACKET)
    if asked_for:
        assert server.next_event() is NEED_DATA
    else:
        assert server.next_event() == RequestVariables(BASE)


def test_server_answers_a_request_that_it_refused(play: Play) -> None:
    """And the connection is closed."""
    server = AjpServer()
    with pytest.raises(RemoteProtocolError):
        play(server, SIZED + encode_body(b"abcde"))
    server.send(ResponseHead(400, []))
    assert server.send(EndOfMessage()) == encode_end(reuse=False)
    with pytest.raises(RemoteProtocolError):
        server.next_event()


# Server: what it sends


@pytest.mark.parametrize(("size", "room"), [(8192, 8184), (65536, 65528)])
def test_server_fills_packets(size: int, room: int, play: Play) -> None:
    """AJP-1."""
    server = told(packet_size=size)
    server.send(ResponseHead(200, []))
    wire = server.send(Data(b"x" * (room + 1)))
    assert wire == encode_chunks(b"x" * room, size) + encode_chunks(b"x", size)
    assert len(wire) == size + 9
    assert play(asked(), HEAD + wire)[1:] == [Data(b"x" * (room + 1))]
    assert server.send(Data(b"")) == b""


@pytest.mark.parametrize(
    "head",
    [
        ResponseHead(199, []),
        ResponseHead(1000, []),
        ResponseHead(200, [], b"a\nb"),
        ResponseHead(200, [(b"a b", b"")]),
        ResponseHead(200, [(b"", b"")]),
        ResponseHead(200, [(b"a" * 0xA000, b"")]),
        ResponseHead(200, [(b"a", b"\r\n")]),
        ResponseHead(200, [(b"a", b"\0")]),
        ResponseHead(200, [(b"Transfer-Encoding", b"chunked")]),
    ],
)
def test_server_refuses_heads_it_cannot_express(head: ResponseHead) -> None:
    server = told()
    with pytest.raises(LocalProtocolError) as refused:
        server.send(head)
    assert not isinstance(refused.value, TooLargeToEncode)
    with pytest.raises(LocalProtocolError):
        server.send(ResponseHead(200, []))


@pytest.mark.parametrize("length", [8180, 70000])
def test_server_refuses_a_head_larger_than_a_packet(length: int) -> None:
    with pytest.raises(TooLargeToEncode):
        told().send(ResponseHead(200, [(b"a", b"x" * length)]))


@pytest.mark.parametrize(
    "event", [InformationalResponse(103, []), LocalRedirect(b"/"), Stderr(b"x"), BodyWanted()]
)
def test_server_refuses_other_events(event: Any) -> None:
    with pytest.raises(LocalProtocolError):
        told().send(event)


def test_server_refuses_trailers() -> None:
    server = told()
    server.send(ResponseHead(200, []))
    with pytest.raises(LocalProtocolError, match="trailers"):
        server.send(EndOfMessage([(b"a", b"b")]))


# One side against the other

texts = st.text(st.characters(max_codepoint=255, exclude_characters="\0\r\n"), max_size=40)
filled = st.text(st.characters(max_codepoint=255, exclude_characters="\0\r\n"), min_size=1, max_size=40)
names = st.from_regex(r"X_[A-Z0-9_]{1,20}", fullmatch=True)


@st.composite
def variables(draw: st.DrawFn) -> dict[str, str]:
    """In the form in which a server gives them."""
    found = {
        **BASE,
        "REQUEST_METHOD": draw(st.sampled_from(["GET", "POST", "MKACTIVITY", "PATCH", "X"])),
        "REQUEST_URI": draw(filled.filter(lambda text: "?" not in text)),
        "REMOTE_ADDR": draw(texts),
        "SERVER_PORT": str(draw(st.integers(0, 65535))),
    }
    found |= draw(st.dictionaries(names.map("HTTP_{}".format), texts, max_size=8))
    found |= draw(st.dictionaries(names.map("AJP_{}".format), filled, max_size=4))
    optional = ["HTTP_HOST", "HTTP_USER_AGENT", "CONTENT_TYPE", "REMOTE_USER", "SSL_CIPHER", "REMOTE_PORT"]
    found |= draw(st.dictionaries(st.sampled_from(optional), filled, max_size=4))
    if query := draw(texts):
        found["QUERY_STRING"] = query
        found["REQUEST_URI"] += f"?{query}"
    if draw(st.booleans()):
        found["HTTPS"] = "on"
    return found


@given(
    found=variables(),
    lengths=st.lists(st.integers(1, 20000), max_size=4),
    sized=st.booleans(),
    size=st.sampled_from([8192, 9000, 65536]),
)
def test_requests_pass_between_the_sides(
    found: dict[str, str], lengths: list[int], sized: bool, size: int
) -> None:
    """In lock-step: nothing of the body is sent that was not asked for, and both know that it is over."""
    client, server = AjpClient(packet_size=size), AjpServer(packet_size=size)
    pieces = [bytes((number,)) * length for number, length in enumerate(lengths)]
    body = b"".join(pieces)
    if sized:
        found["CONTENT_LENGTH"] = str(len(body))
    else:
        found["HTTP_TRANSFER_ENCODING"] = "chunked"
    waiting: list[Any] = [*map(Data, pieces), EndOfMessage()]
    server.receive_data(client.send(RequestVariables(found)))
    assert server.next_event() == RequestVariables(found)
    received = b""
    while (event := server.next_event()) != EndOfMessage():
        if isinstance(event, Data):
            received += event.data
            continue
        assert event is NEED_DATA
        if asked_for := server.data_to_send():
            client.receive_data(asked_for)
            assert client.next_event() == BodyWanted()
        wire = client.data_to_send()
        if not wire and not client.holding:
            wire = client.send(waiting.pop(0))
        assert len(wire) <= size
        server.receive_data(wire)
    assert received == body
    for event in waiting:
        assert client.send(event) == b""

    client.receive_data(server.send(ResponseHead(200, [])) + server.send(EndOfMessage()))
    assert client.next_event() == ResponseHead(200, [])
    assert client.next_event() == EndOfMessage()
    assert client.reusable


@given(moves=st.lists(st.sampled_from(range(8)), max_size=8))
def test_client_takes_legal_moves_only(moves: list[int]) -> None:
    """Any order of events and packets: each is taken or refused by the right error."""
    client = AjpClient()
    sent: list[Any] = [RequestVariables({**BASE, "CONTENT_LENGTH": "1"}), Data(b"x"), EndOfMessage()]
    received = [HEAD, answer(b"\x03\0\x01a\0"), encode_get_body(1), END, b"AB\x00\x01\x09"]
    for move in moves:
        try:
            if move < len(sent):
                client.send(sent[move])
            else:
                client.receive_data(received[move - len(sent)])
                while client.next_event() is not NEED_DATA:
                    client.data_to_send()
        except ProtocolError:
            pass
        if client.reusable:
            assert client.send(RequestVariables(BASE)) == NO_BODY_PACKET
            return


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_content_gives_events_or_an_error(first: bytes, second: bytes) -> None:
    """Packets of any content, to both sides."""
    for codec, wrap in ((asked(), answer), (AjpServer(), packet)):
        for content in (first, second):
            codec.receive_data(wrap(content))
            try:
                while codec.next_event() is not NEED_DATA:
                    pass
            except RemoteProtocolError:
                break


def test_room_of_a_packet() -> None:
    """AJP-6: 8 KiB - 6."""
    assert body_room(8192) == 8186


def test_reader_keeps_the_largest_packet() -> None:
    reader = PacketReader(b"AB", status=502)
    reader.receive_data(b"AB\xff\xff" + b"x" * 0xFFFE)
    assert reader.next_packet() is None
    assert not reader.at_boundary
    reader.receive_data(b"x")
    assert reader.next_packet() == b"x" * 0xFFFF
    assert reader.at_boundary
