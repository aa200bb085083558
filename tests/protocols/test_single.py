from typing import Any

import pytest

from gateway.protocols.errors import Incomplete, LocalProtocolError
from gateway.protocols.events import (
    NEED_DATA,
    Data,
    EndOfMessage,
    RequestHead,
    RequestVariables,
    ResponseHead,
)
from gateway.protocols.scgi import ScgiClient, ScgiServer
from gateway.protocols.uwsgi import UwsgiClient, UwsgiServer
from tests.protocols.conftest import Play

ClientClass = type[ScgiClient] | type[UwsgiClient]
ServerClass = type[ScgiServer] | type[UwsgiServer]

clients = pytest.mark.parametrize("client_class", [ScgiClient, UwsgiClient])
servers = pytest.mark.parametrize("server_class", [ScgiServer, UwsgiServer])
pairs = pytest.mark.parametrize(
    ("client_class", "server_class"), [(ScgiClient, ScgiServer), (UwsgiClient, UwsgiServer)]
)

ANSWER = b"Status: 200 OK\r\nContent-Type: text/plain\r\n\r\n42"


# Client, sending


@clients
@pytest.mark.parametrize("value", ["-1", "1 ", "\u00b2"])
def test_client_refuses_content_length_that_is_none(client_class: ClientClass, value: str) -> None:
    with pytest.raises(LocalProtocolError, match="not a number"):
        client_class().send(RequestVariables({"CONTENT_LENGTH": value}))


@clients
def test_client_refuses_body_longer_than_content_length(client_class: ClientClass) -> None:
    """SCGI-5, UW-6; the error stays."""
    client = client_class()
    client.send(RequestVariables({"CONTENT_LENGTH": "3"}))
    assert client.send(Data(b"ab")) == b"ab"
    with pytest.raises(LocalProtocolError, match="2 bytes of body more than CONTENT_LENGTH") as first:
        client.send(Data(b"cde"))
    with pytest.raises(LocalProtocolError) as again:
        client.send(EndOfMessage())
    assert repr(again.value) == repr(first.value)


@clients
def test_client_refuses_body_shorter_than_content_length(client_class: ClientClass) -> None:
    """SCGI-5, UW-6."""
    client = client_class()
    client.send(RequestVariables({"CONTENT_LENGTH": "3"}))
    client.send(Data(b"ab"))
    with pytest.raises(LocalProtocolError, match="1 bytes of body less than CONTENT_LENGTH"):
        client.send(EndOfMessage())


@clients
@pytest.mark.parametrize(
    ("before", "event"),
    [
        ([], Data(b"")),
        ([], EndOfMessage()),
        ([], RequestHead(b"GET", b"/", [])),
        ([RequestVariables({})], RequestVariables({})),
        ([RequestVariables({})], EndOfMessage([(b"a", b"b")])),
        ([RequestVariables({}), EndOfMessage()], Data(b"")),
        ([RequestVariables({}), EndOfMessage()], EndOfMessage()),
        ([RequestVariables({}), EndOfMessage()], RequestVariables({})),
    ],
)
def test_client_refuses_events_out_of_order(client_class: ClientClass, before: list[Any], event: Any) -> None:
    client = client_class()
    for earlier in before:
        client.send(earlier)
    with pytest.raises(LocalProtocolError) as first:
        client.send(event)
    with pytest.raises(LocalProtocolError) as again:
        client.send(EndOfMessage())
    assert repr(again.value) == repr(first.value)


@clients
def test_illegal_event_is_named_with_the_state(client_class: ClientClass) -> None:
    with pytest.raises(LocalProtocolError, match="cannot send Data when the head is to be sent"):
        client_class().send(Data(b"x"))


# Client, receiving


@clients
def test_client_receives_while_it_sends(client_class: ClientClass, play: Play) -> None:
    """UW-13: an application may answer and close without reading the body."""
    client = client_class()
    client.send(RequestVariables({"CONTENT_LENGTH": "6"}))
    assert client.send(Data(b"abc")) == b"abc"
    assert play(client, ANSWER, end=True)[1:] == [Data(b"42"), EndOfMessage()]
    assert client.send(Data(b"def")) == b"def"
    assert client.send(EndOfMessage()) == b""
    assert not client.reusable  # SCGI-6, UW-12


@clients
def test_client_receives_answer_to_head_request(client_class: ClientClass, play: Play) -> None:
    """RFC 9110 9.3.2: the Content-Length of an answer to HEAD promises no body."""
    wire = b"Content-Type: text/plain\nContent-Length: 5\n\n"
    client = client_class()
    client.send(RequestVariables({"REQUEST_METHOD": "HEAD"}))
    assert play(client, wire, end=True)[-1] == EndOfMessage()
    client = client_class()
    client.send(RequestVariables({"REQUEST_METHOD": "GET"}))
    with pytest.raises(Incomplete):
        play(client, wire, end=True)


@clients
def test_client_has_nothing_before_anything_arrives(client_class: ClientClass) -> None:
    client = client_class()
    assert client.next_event() is NEED_DATA
    client.send(RequestVariables({}))
    assert client.next_event() is NEED_DATA


@clients
def test_client_receives_answer_that_came_before_the_request(client_class: ClientClass, play: Play) -> None:
    client = client_class()
    client.receive_data(ANSWER)
    client.send(RequestVariables({}))
    assert play(client, b"", end=True)[1:] == [Data(b"42"), EndOfMessage()]


@clients
def test_client_fails_without_response(client_class: ClientClass) -> None:
    """SCGI-6, UW-7: a connection that is closed at once is no response; the error stays."""
    client = client_class()
    client.send(RequestVariables({}))
    client.receive_data(b"")
    for _ in range(2):
        with pytest.raises(Incomplete) as caught:
            client.next_event()
        assert caught.value.status == 502


# Server, receiving


@pairs
def test_server_rejects_request_cut_short(
    client_class: ClientClass, server_class: ServerClass, play: Play
) -> None:
    """SCGI-5, UW-2: a connection that is closed too early is not the end of a request."""
    client = client_class()
    wire = client.send(RequestVariables({"CONTENT_LENGTH": "3", "A": "b"})) + client.send(Data(b"abc"))
    assert play(server_class(), wire, end=True)[-2:] == [Data(b"abc"), EndOfMessage()]
    for length in range(len(wire)):
        server = server_class()
        with pytest.raises(Incomplete, match="closed before") as first:
            play(server, wire[:length], end=True)
        with pytest.raises(Incomplete) as again:
            server.next_event()
        assert repr(again.value) == repr(first.value)


@pairs
def test_server_gives_body_as_it_comes(
    client_class: ClientClass, server_class: ServerClass, play: Play
) -> None:
    server = server_class()
    wire = client_class().send(RequestVariables({"CONTENT_LENGTH": "5"}))
    assert len(play(server, wire + b"ab")) == 2
    assert server.next_event() is NEED_DATA
    assert play(server, b"cde" + b"more") == [Data(b"cde"), EndOfMessage()]


@pairs
def test_server_drops_what_comes_after_the_request(
    client_class: ClientClass, server_class: ServerClass, play: Play
) -> None:
    """No second request can follow, so that what comes after the body is dropped."""
    server = server_class()
    wire = client_class().send(RequestVariables({"A": "b"}))
    assert play(server, wire + wire) == play(server_class(), wire)
    assert play(server, wire, end=True) == []


# Server, sending


@servers
@pytest.mark.parametrize(
    ("before", "event"),
    [
        ([], Data(b"")),
        ([], EndOfMessage()),
        ([ResponseHead(200, [])], ResponseHead(200, [])),
        ([ResponseHead(200, [])], EndOfMessage([(b"a", b"b")])),
        ([ResponseHead(200, []), EndOfMessage()], Data(b"")),
        ([ResponseHead(200, []), EndOfMessage()], ResponseHead(200, [])),
    ],
)
def test_server_refuses_events_out_of_order(server_class: ServerClass, before: list[Any], event: Any) -> None:
    server = server_class()
    for earlier in before:
        server.send(earlier)
    with pytest.raises(LocalProtocolError) as first:
        server.send(event)
    with pytest.raises(LocalProtocolError) as again:
        server.send(ResponseHead(200, []))
    assert repr(again.value) == repr(first.value)


@servers
def test_server_refuses_transfer_encoding(server_class: ServerClass) -> None:
    """UW-15: the body ends with the connection, whatever framing the application meant."""
    with pytest.raises(LocalProtocolError, match="Transfer-Encoding"):
        server_class().send(ResponseHead(200, [(b"Transfer-Encoding", b"chunked")]))


@pairs
def test_server_answers_before_it_has_read_the_body(
    client_class: ClientClass, server_class: ServerClass, play: Play
) -> None:
    """UW-13."""
    server = server_class()
    play(server, client_class().send(RequestVariables({"CONTENT_LENGTH": "5"})))
    events: list[Any] = [ResponseHead(413, [], b"Content Too Large"), EndOfMessage()]
    assert play(client_class(), b"".join(server.send(event) for event in events), end=True) == events
