from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from gateway.protocols.events import (
    Data,
    EndOfMessage,
    InformationalResponse,
    LocalRedirect,
    RequestVariables,
    ResponseHead,
    Stderr,
)
from gateway.protocols.scgi import MAX_BLOCK_SIZE, ScgiClient, ScgiServer, decode_variables, encode_variables
from tests.protocols.conftest import Play, rows

DEEPTHOUGHT_VARIABLES = {
    "CONTENT_LENGTH": "27",
    "SCGI": "1",
    "REQUEST_METHOD": "POST",
    "REQUEST_URI": "/deepthought",
}
DEEPTHOUGHT = (
    b"70:"
    b"CONTENT_LENGTH\x0027\x00"
    b"SCGI\x001\x00"
    b"REQUEST_METHOD\x00POST\x00"
    b"REQUEST_URI\x00/deepthought\x00"
    b","
    b"What is the answer to life?"
)
ANSWER = b"Status: 200 OK\r\nContent-Type: text/plain\r\n\r\n42"

REQUESTS = {
    "the example of the specification": (
        [RequestVariables(DEEPTHOUGHT_VARIABLES), Data(b"What is the answer to life?"), EndOfMessage()],
        DEEPTHOUGHT,
    ),
    "no body": (
        [RequestVariables({"CONTENT_LENGTH": "0", "SCGI": "1"}), EndOfMessage()],
        b"24:CONTENT_LENGTH\x000\x00SCGI\x001\x00,",
    ),
    "an empty value and Latin-1": (
        [
            RequestVariables({"CONTENT_LENGTH": "1", "SCGI": "1", "A": "", "\xe9": "\xff"}),
            Data(b"\0"),
            EndOfMessage(),
        ],
        b"31:CONTENT_LENGTH\x001\x00SCGI\x001\x00A\x00\x00\xe9\x00\xff\x00,\0",
    ),
}
RESPONSES = {
    "a document": (
        [ResponseHead(200, [(b"content-type", b"text/plain")], b"OK"), Data(b"42"), EndOfMessage()],
        b"Status: 200 OK\r\ncontent-type: text/plain\r\n\r\n42",
    ),
    "no body": (
        [ResponseHead(404, [], b"Not Found"), EndOfMessage()],
        b"Status: 404 Not Found\r\n\r\n",
    ),
}


# Rows, both ways


@rows(REQUESTS)
def test_client_sends_requests(events: list[Any], wire: bytes) -> None:
    """SCGI-1, SCGI-2, SCGI-3, SCGI-4, SCGI-5, SCGI-7."""
    client = ScgiClient()
    assert b"".join(client.send(event) for event in events) == wire


@rows(REQUESTS)
def test_server_receives_requests(events: list[Any], wire: bytes, play: Play) -> None:
    """SCGI-1, SCGI-2, SCGI-3, SCGI-4, SCGI-5, SCGI-7: whole, byte by byte, with bytes after the end."""
    assert play(ScgiServer(), wire) == events
    assert play(ScgiServer(), wire, range(len(wire))) == events
    assert play(ScgiServer(), wire + b"24:CONTENT", end=True) == events


@rows(RESPONSES)
def test_server_sends_responses(events: list[Any], wire: bytes) -> None:
    """SCGI-6."""
    server = ScgiServer()
    assert b"".join(server.send(event) for event in events) == wire


@rows(RESPONSES)
def test_client_receives_responses(events: list[Any], wire: bytes, play: Play) -> None:
    """SCGI-6: the response ends when the application closes the connection, and not before."""
    client = ScgiClient()
    client.send(RequestVariables({}))
    assert play(client, wire) == events[:-1]
    assert play(client, b"", end=True) == events[-1:]
    assert play(ScgiClient(), wire, range(len(wire)), end=True) == events


def test_example_of_the_specification_has_70_bytes_of_variables() -> None:
    """SCGI-7."""
    assert encode_variables(DEEPTHOUGHT_VARIABLES) + b"What is the answer to life?" == DEEPTHOUGHT
    assert len(DEEPTHOUGHT.split(b":", 1)[1].split(b",")[0]) == 70
    assert decode_variables(DEEPTHOUGHT[3:73]) == DEEPTHOUGHT_VARIABLES


# Client: what it sends


@pytest.mark.parametrize("variables", [{"A": "b"}, {"A": "b", "CONTENT_LENGTH": ""}, {"SCGI": "1", "A": "b"}])
def test_client_completes_required_variables(variables: dict[str, str]) -> None:
    """SCGI-3, SCGI-4: CONTENT_LENGTH comes first, "0" without a body, and SCGI is "1"."""
    assert (
        ScgiClient().send(RequestVariables(variables))
        == b"28:CONTENT_LENGTH\x000\x00SCGI\x001\x00A\x00b\x00,"
    )


def test_client_puts_content_length_first() -> None:
    """SCGI-3, and no variable twice (SCGI-2)."""
    wire = ScgiClient().send(RequestVariables({"A": "b", "SCGI": "1", "CONTENT_LENGTH": "7"}))
    assert wire == b"28:CONTENT_LENGTH\x007\x00SCGI\x001\x00A\x00b\x00,"


@pytest.mark.parametrize(
    "variables",
    [
        {"": "value"},
        {"A\0B": "value"},
        {"A": "val\0ue"},
        {"A": "\u20ac"},
        {"\u20ac": "a"},
        {"SCGI": "2"},
        {"CONTENT_LENGTH": "-1"},
        {"CONTENT_LENGTH": "+1"},
        {"CONTENT_LENGTH": "1 "},
        {"CONTENT_LENGTH": "\u00b2"},
        {"CONTENT_LENGTH": "\u0661"},
        {"CONTENT_LENGTH": "9" * 19},
    ],
)
def test_client_refuses_variables_it_cannot_express(variables: dict[str, str]) -> None:
    """SCGI-2, SCGI-3, SCGI-4."""
    client = ScgiClient()
    with pytest.raises(LocalProtocolError) as first:
        client.send(RequestVariables(variables))
    with pytest.raises(LocalProtocolError) as again:
        client.send(RequestVariables({}))
    assert repr(again.value) == repr(first.value)


# Client: what it receives


def test_client_accepts_status_line(play: Play) -> None:
    """SCGI-6: the form is not specified; uWSGI's scgi-socket answers in HTTP."""
    head = play(ScgiClient(), b"HTTP/1.1 404 Not Found\r\nA: b\r\n\r\n", end=True)[0]
    assert head == ResponseHead(404, [(b"a", b"b")], b"Not Found")


# Server: what it receives


def netstring(block: bytes) -> bytes:
    return b"%d:%b," % (len(block), block)


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        (b":,", "length of a netstring"),
        (b"GET / HTTP/1.1\r\n", "length of a netstring"),
        (b"-1:", "length of a netstring"),
        (b"+1:", "length of a netstring"),
        (b" 1:", "length of a netstring"),
        (b"1 :", "length of a netstring"),
        (b"\xb2:", "length of a netstring"),
        (b"00", "length of a netstring"),
        (b"0" + DEEPTHOUGHT, "length of a netstring"),
        (b"0:,", "do not begin with a CONTENT_LENGTH"),
        (b"0:;", "comma"),
        (DEEPTHOUGHT.replace(b",", b";"), "comma"),
        (b"69" + DEEPTHOUGHT[2:], "comma"),
        (netstring(b"CONTENT_LENGTH\x000\x00SCGI\x001"), "NUL"),
        (netstring(b"CONTENT_LENGTH\x000\x00SCGI\x00"), "NUL"),
        (netstring(b"CONTENT_LENGTH\x00"), "NUL"),
        (netstring(b"\x00"), "NUL"),
        (netstring(b"SCGI\x001\x00CONTENT_LENGTH\x000\x00"), "CONTENT_LENGTH"),
        (netstring(b"CONTENT_LENGTH\x00\x00SCGI\x001\x00"), "CONTENT_LENGTH"),
        (netstring(b"CONTENT_LENGTH\x00-1\x00SCGI\x001\x00"), "CONTENT_LENGTH"),
        (netstring(b"CONTENT_LENGTH\x001x\x00SCGI\x001\x00"), "CONTENT_LENGTH"),
        (netstring(b"CONTENT_LENGTH\x00\xb2\x00SCGI\x001\x00"), "CONTENT_LENGTH"),
        (netstring(b"CONTENT_LENGTH\x00" + b"9" * 19 + b"\x00SCGI\x001\x00"), "CONTENT_LENGTH"),
        (netstring(b"CONTENT_LENGTH\x000\x00"), "SCGI"),
        (netstring(b"CONTENT_LENGTH\x000\x00SCGI\x002\x00"), "SCGI"),
        (netstring(b"CONTENT_LENGTH\x000\x00SCGI\x001\x00\x00x\x00"), "no name"),
        (netstring(b"CONTENT_LENGTH\x000\x00SCGI\x001\x00A\x00b\x00A\x00b\x00"), "twice"),
        (netstring(b"CONTENT_LENGTH\x000\x00SCGI\x001\x00CONTENT_LENGTH\x000\x00"), "twice"),
    ],
)
def test_server_rejects_malformed_request(wire: bytes, message: str, play: Play) -> None:
    """SCGI-1, SCGI-2, SCGI-3, SCGI-4; the error stays."""
    for cuts in ((), range(len(wire))):
        server = ScgiServer()
        with pytest.raises(RemoteProtocolError, match=message) as first:
            play(server, wire, cuts)
        assert first.value.status == 400
        server.receive_data(DEEPTHOUGHT)
        with pytest.raises(RemoteProtocolError) as again:
            server.next_event()
        assert repr(again.value) == repr(first.value)


def test_server_needs_more_until_the_request_is_complete(play: Play) -> None:
    assert play(ScgiServer(), DEEPTHOUGHT[:-1])[-1] == Data(b"What is the answer to life")


@pytest.mark.parametrize("wire", [b"101", b"101:", b"999:", b"1000", b"12345678"])
def test_server_refuses_too_many_variables(wire: bytes, play: Play) -> None:
    """SCGI-1: as soon as the length is known to be too large, however many digits it has."""
    for cuts in ((), range(len(wire))):
        with pytest.raises(LimitExceeded, match="more than 100 bytes") as caught:
            play(ScgiServer(max_block_size=100), wire, cuts)
        assert caught.value.status == 431


def test_server_accepts_variables_up_to_the_limit(play: Play) -> None:
    fill = MAX_BLOCK_SIZE - len("CONTENT_LENGTH.0.SCGI.1.A..")
    variables = {"CONTENT_LENGTH": "0", "SCGI": "1", "A": "x" * fill}
    wire = encode_variables(variables)
    assert wire.startswith(b"%d:" % MAX_BLOCK_SIZE)
    assert play(ScgiServer(), wire) == [RequestVariables(variables), EndOfMessage()]
    with pytest.raises(LimitExceeded):
        play(ScgiServer(), encode_variables({**variables, "A": "x" * (fill + 1)}))


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
def test_server_refuses_what_scgi_cannot_express(event: Any) -> None:
    """SCGI-6: no error stream and no interim response; the error stays."""
    server = ScgiServer()
    with pytest.raises(LocalProtocolError) as first:
        server.send(event)
    with pytest.raises(LocalProtocolError) as again:
        server.send(ResponseHead(200, []))
    assert repr(again.value) == repr(first.value)


# Any input


@given(st.dictionaries(st.text(), st.text()))
def test_any_variables_are_sent_or_refused(play: Play, variables: dict[str, str]) -> None:
    try:
        wire = ScgiClient().send(RequestVariables(variables))
    except LocalProtocolError:
        return
    required = {"CONTENT_LENGTH": variables.get("CONTENT_LENGTH") or "0", "SCGI": "1"}
    assert play(ScgiServer(), wire)[0] == RequestVariables(variables | required)
