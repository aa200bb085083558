from typing import Any

import pytest

from gateway.protocols.errors import Incomplete, LimitExceeded, LocalProtocolError, RemoteProtocolError
from gateway.protocols.events import (
    NEED_DATA,
    Data,
    EndOfMessage,
    Headers,
    InformationalResponse,
    RequestHead,
    RequestVariables,
    ResponseHead,
)
from gateway.protocols.http1.client import Http1Client
from tests.protocols.conftest import Play

HOST = (b"host", b"example.com")
CHUNKED = (b"transfer-encoding", b"chunked")
OK = b"HTTP/1.1 200 OK\r\n"


def sent(client: Http1Client, *events: Any) -> bytes:
    return b"".join(map(client.send, events))


def waiting(
    method: bytes = b"GET", *fields: tuple[bytes, bytes], limits: dict[str, Any] | None = None
) -> Http1Client:
    """A client whose request is sent."""
    client = Http1Client(**limits or {})
    sent(client, RequestHead(method, b"/", [HOST, *fields]), EndOfMessage())
    return client


def head(
    status: int, *fields: tuple[bytes, bytes], reason: bytes = b"OK", version: bytes = b"1.1"
) -> ResponseHead:
    return ResponseHead(status, [*fields], reason, version)


# Requests ----------------------------------------------------------------------------------------

REQUESTS: dict[str, tuple[list[Any], bytes]] = {
    "no body": (
        [RequestHead(b"GET", b"/a?b", [(b"Host", b"a"), (b"x", b"y"), (b"X", b"")], b"1.0"), EndOfMessage()],
        b"GET /a?b HTTP/1.1\r\nHost: a\r\nx: y\r\nX: \r\n\r\n",
    ),
    "Content-Length": (
        [
            RequestHead(b"POST", b"/", [HOST, (b"Content-Length", b"5")]),
            Data(b"he"),
            Data(b"llo"),
            EndOfMessage([(b"a", b"b")]),
        ],
        b"POST / HTTP/1.1\r\nhost: example.com\r\nContent-Length: 5\r\n\r\nhello",
    ),
    "chunks": (
        [
            RequestHead(b"POST", b"/", [HOST, (b"Transfer-Encoding", b"Chunked")]),
            Data(b"hello"),
            EndOfMessage(),
        ],
        b"POST / HTTP/1.1\r\nhost: example.com\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ),
    "chunks with trailers": (
        [RequestHead(b"PUT", b"/", [HOST, CHUNKED]), EndOfMessage([(b"a", b"b")])],
        b"PUT / HTTP/1.1\r\nhost: example.com\r\ntransfer-encoding: chunked\r\n\r\n0\r\na: b\r\n\r\n",
    ),
}


@pytest.mark.parametrize(("events", "data"), REQUESTS.values(), ids=REQUESTS.keys())
def test_sends(events: list[Any], data: bytes) -> None:
    """H1-3, H-9"""
    assert sent(Http1Client(), *events) == data


def post(*fields: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead(b"POST", b"/", [HOST, *fields])


ILLEGAL: dict[str, list[Any]] = {
    "no Host": [RequestHead(b"GET", b"/", [])],
    "two Hosts": [post(HOST)],
    "a method that is no token": [RequestHead(b"G T", b"/", [HOST])],
    "an empty method": [RequestHead(b"", b"/", [HOST])],
    "a space in the target": [RequestHead(b"GET", b"/ HTTP/1.1\r\nx: y", [HOST])],
    "an empty target": [RequestHead(b"GET", b"", [HOST])],
    "beyond ASCII in the target": [RequestHead(b"GET", b"/\xe9", [HOST])],
    "a line break": [post((b"a", b"b\r\nc: d"))],
    "Content-Length twice": [post((b"content-length", b"1"), (b"content-length", b"1"))],
    "Content-Length in words": [post((b"content-length", b"one"))],
    "another coding": [post((b"transfer-encoding", b"gzip, chunked"))],
    "chunked twice": [post(CHUNKED, CHUNKED)],
    "both framings": [post(CHUNKED, (b"content-length", b"1"))],
    "a body without framing": [post(), Data(b"x")],
    "too much": [post((b"content-length", b"1")), Data(b"xy")],
    "too little": [post((b"content-length", b"1")), EndOfMessage()],
    "body before the head": [Data(b"x")],
    "another request at once": [post(), post()],
    "another request before the response": [post(), EndOfMessage(), post()],
    "something after the end": [post(), EndOfMessage(), Data(b"x")],
    "variables": [RequestVariables({})],
}


@pytest.mark.parametrize("events", ILLEGAL.values(), ids=ILLEGAL.keys())
def test_refuses_to_send(events: list[Any]) -> None:
    """H-7, H-8, H1-5; the failure is sticky."""
    client = Http1Client()
    *legal, illegal = events
    sent(client, *legal)
    with pytest.raises(LocalProtocolError):
        client.send(illegal)
    with pytest.raises(LocalProtocolError):
        client.send(post())
    assert not client.reusable


# Responses ---------------------------------------------------------------------------------------

ROWS: dict[str, tuple[bytes, bytes, list[Any]]] = {
    "Content-Length": (
        b"GET",
        OK + b"Content-Type: text/plain\r\nX: a\r\nx:  b \r\ncontent-length: 5\r\n\r\nhello",
        [
            head(
                200, (b"content-type", b"text/plain"), (b"x", b"a"), (b"x", b"b"), (b"content-length", b"5")
            ),
            Data(b"hello"),
            EndOfMessage(),
        ],
    ),
    "no body": (
        b"POST",
        b"HTTP/1.1 404 Caf\xe9 \t!\r\nContent-Length: 0\r\n\r\n",
        [head(404, (b"content-length", b"0"), reason=b"Caf\xe9 \t!"), EndOfMessage()],
    ),
    "chunks and trailers": (
        b"GET",
        OK + b"Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n1;x\r\n!\r\n0\r\nA: b\r\n\r\n",
        [head(200, (b"transfer-encoding", b"Chunked")), Data(b"hello!"), EndOfMessage([(b"a", b"b")])],
    ),
    "Connection and the fields that it names": (
        b"GET",
        OK + b"X-Hop: 1\r\nX: 2\r\nConnection: x-hop, keep-alive\r\nContent-Length: 0\r\n\r\n",
        [
            head(200, (b"x", b"2"), (b"content-length", b"0")),
            EndOfMessage(),
        ],
    ),
    "chunks": (
        b"GET",
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        [head(200, CHUNKED), EndOfMessage()],
    ),
    "HEAD with Content-Length": (
        b"HEAD",
        OK + b"Content-Length: 5\r\n\r\n",
        [head(200, (b"content-length", b"5")), EndOfMessage()],
    ),
    "HEAD with Transfer-Encoding": (
        b"HEAD",
        OK + b"Transfer-Encoding: chunked\r\n\r\n",
        [head(200, CHUNKED), EndOfMessage()],
    ),
    "HEAD without either": (b"HEAD", OK + b"\r\n", [head(200), EndOfMessage()]),
    "204 with Content-Length": (
        b"GET",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
        [head(204, (b"content-length", b"5"), reason=b"No Content"), EndOfMessage()],
    ),
    "304 with Transfer-Encoding": (
        b"GET",
        b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: gzip\r\n\r\n",
        [head(304, (b"transfer-encoding", b"gzip"), reason=b"Not Modified"), EndOfMessage()],
    ),
    "interim responses": (
        b"GET",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\nConnection: close, x-hop\r\n"
        b"X-Hop: 1\r\nContent-Length: 7\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\nx",
        [
            InformationalResponse(100, [], b"Continue"),
            InformationalResponse(
                103,
                [(b"link", b"x"), (b"content-length", b"7")],
                b"Early Hints",
            ),
            head(200, (b"content-length", b"1")),
            Data(b"x"),
            EndOfMessage(),
        ],
    ),
    "no reason": (
        b"GET",
        b"HTTP/1.1 599 \r\nContent-Length: 0\r\n\r\n",
        [head(599, (b"content-length", b"0"), reason=b""), EndOfMessage()],
    ),
    "no reason and no space": (
        b"GET",
        b"HTTP/1.2 200\r\nContent-Length: 0\r\n\r\n",
        [head(200, (b"content-length", b"0"), reason=b""), EndOfMessage()],
    ),
    "HTTP/1.0 with keep-alive": (
        b"GET",
        b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\nx",
        [
            head(200, (b"content-length", b"1"), version=b"1.0"),
            Data(b"x"),
            EndOfMessage(),
        ],
    ),
}


@pytest.mark.parametrize(("method", "data", "events"), ROWS.values(), ids=ROWS.keys())
def test_receives(play: Play, method: bytes, data: bytes, events: list[Any]) -> None:
    """H-11, H-16, H1-13, H1-14: whole and byte by byte, and the connection is used again."""
    client = Http1Client()
    for cuts in (), range(len(data)):
        before = client.reusable
        sent(client, RequestHead(method, b"/", [HOST]), EndOfMessage())
        assert (before, client.reusable) == (True, False)
        assert play(client, data, cuts=cuts) == events
    before = client.reusable
    assert play(client, b"", end=True) == []
    assert (before, client.reusable) == (True, False)


@pytest.mark.parametrize(("method", "data", "events"), ROWS.values(), ids=ROWS.keys())
def test_bytes_after_a_response_end_the_connection(
    play: Play, method: bytes, data: bytes, events: list[Any]
) -> None:
    """H1-22: what nobody asked for is never a response."""
    client = waiting(method)
    client.receive_data(data + OK)
    while client.next_event() != events[-1]:
        assert not client.reusable
    assert client.pending
    assert not client.reusable
    with pytest.raises(LocalProtocolError):
        sent(client, post())
    for _ in range(2):
        with pytest.raises(RemoteProtocolError) as raised:
            client.next_event()
        assert raised.value.status == 502


def test_end_of_the_connection_is_passed_on(play: Play) -> None:
    """RFC 9112 9.6: to who has asked for it; of the rest of the field nothing is."""
    data = OK + b"Connection: x, Close\r\nX: 1\r\nContent-Length: 0\r\n\r\n"
    (found, _) = play(waiting(limits={"passes_close": True}), data)
    assert found == head(200, (b"content-length", b"0"), (b"connection", b"close"))


def test_data_on_an_idle_connection_is_an_error(play: Play) -> None:
    """H1-22: also before the first request."""
    client = Http1Client()
    assert client.next_event() is NEED_DATA
    with pytest.raises(RemoteProtocolError):
        play(client, OK)


UNTIL_CLOSE: dict[str, tuple[bytes, bytes, list[Any]]] = {
    "HTTP/1.1": (b"GET", OK + b"\r\nhello", [head(200), Data(b"hello"), EndOfMessage()]),
    "HTTP/1.1 without a body": (b"GET", OK + b"\r\n", [head(200), EndOfMessage()]),
    "HTTP/1.0": (
        b"GET",
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        [head(200, version=b"1.0"), Data(b"hello"), EndOfMessage()],
    ),
    "HTTP/1.0 with keep-alive": (
        b"GET",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nx",
        [head(200, version=b"1.0"), Data(b"x"), EndOfMessage()],
    ),
    "a tunnel": (
        b"CONNECT",
        OK + b"Content-Length: 1\r\n\r\nwhatever",
        [head(200, (b"content-length", b"1")), Data(b"whatever"), EndOfMessage()],
    ),
}


@pytest.mark.parametrize(("method", "data", "events"), UNTIL_CLOSE.values(), ids=UNTIL_CLOSE.keys())
def test_the_end_of_input_ends_a_body_without_framing(
    play: Play, method: bytes, data: bytes, events: list[Any]
) -> None:
    """RFC 9112 6.3; H-13"""
    for cuts in (), range(len(data)):
        client = waiting(method)
        assert play(client, data, cuts=cuts) == events[:-1]
        assert client.next_event() is NEED_DATA
        assert play(client, b"", end=True) == events[-1:]
        assert not client.reusable


def test_another_protocol_after_101(play: Play) -> None:
    """H-12"""
    data = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n\0\1\2"
    fields = [(b"connection", b"upgrade"), (b"upgrade", b"x")]
    client = waiting(b"GET", *fields)
    assert play(client, data, end=True) == [
        ResponseHead(101, fields[1:], b"Switching Protocols"),
        Data(b"\0\1\2"),
        EndOfMessage(),
    ]


def test_a_refused_connect_has_a_body(play: Play) -> None:
    client = waiting(b"CONNECT")
    assert play(client, b"HTTP/1.1 403 No\r\nContent-Length: 1\r\n\r\nx")[1:] == [Data(b"x"), EndOfMessage()]
    assert client.reusable


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ([(b"Connection", b"Close")], b"HTTP/1.1 200 OK\r\n"),
        ([], b"HTTP/1.1 200 OK\r\nConnection: x\r\nConnection: y, close\r\n"),
        ([], b"HTTP/1.0 200 OK\r\n"),
        ([(b"connection", b"keep-alive")], b"HTTP/1.0 200 OK\r\nConnection: x\r\n"),
    ],
)
def test_either_side_closes(play: Play, asked: Headers, answered: bytes) -> None:
    """H1-17"""
    client = waiting(b"GET", *asked)
    assert play(client, answered + b"Content-Length: 0\r\n\r\n")[-1] == EndOfMessage()
    assert not client.reusable


def test_an_early_response_is_received_whole_and_ends_the_connection(play: Play) -> None:
    """H1-23: the rest of the request may still be sent, but nothing after it."""
    client = Http1Client()
    sent(client, post((b"content-length", b"3")), Data(b"a"))
    assert play(client, b"HTTP/1.1 413 No\r\nContent-Length: 1\r\n\r\nx")[-1] == EndOfMessage()
    assert not client.reusable
    assert sent(client, Data(b"bc"), EndOfMessage()) == b"bc"
    assert not client.reusable


# Malformed responses -----------------------------------------------------------------------------


def rejected(play: Play, data: bytes, **limits: int) -> type[RemoteProtocolError]:
    kinds = set()
    for cuts in (), range(len(data)):
        client = waiting(b"GET", limits=limits)
        with pytest.raises(RemoteProtocolError) as raised:
            play(client, data, cuts=cuts)
        assert raised.value.status == 502
        assert not client.reusable
        assert not client.pending
        kinds.add(type(raised.value))
    (kind,) = kinds
    return kind


MALFORMED = {
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\n\r\n",
    "HTTP/0.9": b"<html>hello</html>",
    "an empty line in front": b"\r\n" + OK + b"\r\n",
    "no status": b"HTTP/1.1 \r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "status 099": b"HTTP/1.1 099 OK\r\n\r\n",
    "a signed status": b"HTTP/1.1 +20 OK\r\n\r\n",
    "two spaces": b"HTTP/1.1  200 OK\r\n\r\n",
    "a control character in the reason": b"HTTP/1.1 200 O\x01K\r\n\r\n",
    "a bare CR in the reason": b"HTTP/1.1 200 O\rK\r\n\r\n",
    "a bare LF after the status line": b"HTTP/1.1 200 OK\n\r\n",
    "a bare LF after a field": OK + b"A: b\n\r\n\r\n",
    "space before the colon": OK + b"A : b\r\n\r\n",
    "obs-fold": OK + b"A: b\r\n c\r\n\r\n",
    "no colon": OK + b"A\r\n\r\n",
    "NUL in a value": OK + b"A: \0\r\n\r\n",
    "Content-Length -1": OK + b"Content-Length: -1\r\n\r\n",
    "Content-Length as a list": OK + b"Content-Length: 5, 5\r\n\r\nhello",
    "Content-Length twice": OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "Content-Length of two sizes": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "Content-Length 2**64": OK + b"Content-Length: 18446744073709551616\r\n\r\n",
    "both framings": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both framings, the other way round": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    "a coding below chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked is not last": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n",
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "another coding": OK + b"Transfer-Encoding: identity\r\n\r\n",
    "Transfer-Encoding in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "101 that nobody asked for": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
    "a malformed chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nx\r\n",
    "a malformed trailer": OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nx\r\n\r\n",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_rejects(play: Play, data: bytes) -> None:
    """H-8, H-12, H1-7 to H1-12, H1-14: whatever two readers could understand differently."""
    assert rejected(play, data) is RemoteProtocolError


TOO_LARGE = {
    "a status line": b"HTTP/1.1 200 " + b"x" * 300,
    "a status line with its end": b"HTTP/1.1 200 " + b"x" * 300 + b"\r\n\r\n",
    "a field section": OK + b"X: " + b"y" * 300,
    "a field section with its end": OK + b"X: " + b"y" * 300 + b"\r\n\r\n",
    "too many fields": OK + b"X: y\r\n" * 11 + b"\r\n",
    "trailers": OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"y" * 300,
    "a chunk extension": OK + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 5000,
}


@pytest.mark.parametrize("data", TOO_LARGE.values(), ids=TOO_LARGE.keys())
def test_heads_are_limited(play: Play, data: bytes) -> None:
    """H1-14"""
    assert rejected(play, data, headers=200, header_count=10) is LimitExceeded


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTT",
        OK,
        OK + b"A: b\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        OK + b"Content-Length: 5\r\n\r\n",
        OK + b"Content-Length: 5\r\n\r\nhell",
        OK + b"Transfer-Encoding: chunked\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhell",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n",
    ],
)
def test_an_end_in_the_middle_is_incomplete(play: Play, data: bytes) -> None:
    """H1-24: a cut response never looks like a whole one."""
    for cuts in (), range(len(data)):
        client = waiting()
        with pytest.raises(Incomplete) as raised:
            play(client, data, cuts=cuts, end=True)
        assert raised.value.status == 502
        assert not client.reusable


# Heads that come again ---------------------------------------------------------------------------


def test_the_same_head_means_the_same_again(play: Play) -> None:
    """A head that is recognised by its bytes gives what parsing it would, each time anew."""
    data = OK + b"X-Again: yes\r\nContent-Length: 5\r\n\r\nhello"
    for _ in range(3):
        first, *rest = play(waiting(), data)
        assert first == ResponseHead(200, [(b"x-again", b"yes"), (b"content-length", b"5")], b"OK")
        assert rest == [Data(b"hello"), EndOfMessage()]
        first.headers.clear()


def test_the_limits_hold_for_a_head_that_came_before(play: Play) -> None:
    data = OK + b"X-Known: %b\r\nContent-Length: 0\r\n\r\n" % (b"y" * 300)
    assert isinstance(play(waiting(), data)[0], ResponseHead)
    assert rejected(play, data, headers=200) is LimitExceeded
    assert rejected(play, data, header_count=1) is LimitExceeded


def test_the_same_head_has_no_body_after_head(play: Play) -> None:
    """H1-13, H-16: what a head means depends on the method."""
    data = OK + b"X-Method: any\r\nContent-Length: 5\r\n\r\n"
    assert play(waiting(b"GET"), data + b"hello")[1:] == [Data(b"hello"), EndOfMessage()]
    assert play(waiting(b"HEAD"), data)[1:] == [EndOfMessage()]


def test_long_and_personal_heads_are_not_kept(play: Play) -> None:
    for field in (b"Set-Cookie: a=b", b"X-Long: " + b"y" * 2000):
        data = OK + field + b"\r\nContent-Length: 0\r\n\r\n"
        assert play(waiting(), data) == play(waiting(), data)


def test_long_request_fields_are_not_kept() -> None:
    long = RequestHead(b"GET", b"/", [(b"host", b"h"), (b"x", b"y" * 2000)])
    assert sent(Http1Client(), long) == sent(Http1Client(), long)
