from typing import Any

import pytest

from gateway.protocols.errors import Incomplete, LimitExceeded, LocalProtocolError, RemoteProtocolError
from gateway.protocols.events import (
    NEED_DATA,
    Data,
    EndOfMessage,
    Headers,
    InformationalResponse,
    LocalRedirect,
    RequestHead,
    ResponseHead,
    Stderr,
)
from gateway.protocols.http1 import Http1Server
from gateway.protocols.http1.reading import MAX_CHUNK_LINE
from tests.protocols.conftest import Play

HOST = b"Host: example.com\r\n"
HOST_FIELD = (b"host", b"example.com")
GET = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"
GET_EVENTS = [RequestHead(b"GET", b"/", [HOST_FIELD]), EndOfMessage()]
CHUNKED_POST = b"POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n"


def head(method: bytes, target: bytes, *fields: tuple[bytes, bytes], version: bytes = b"1.1") -> RequestHead:
    return RequestHead(method, target, [*fields], version)


# Requests ----------------------------------------------------------------------------------------

ROWS: dict[str, tuple[bytes, list[Any]]] = {
    "a GET": (GET, GET_EVENTS),
    "names become lower-case, order and duplicates stay": (
        b"GET /a?b=c HTTP/1.1\r\nX-B: 1\r\nhOST:example.com\r\n"
        b"x-a: \t2 \t\r\nX-B:\r\nx_c: caf\xe9 \tau\r\n\r\n",
        [
            head(
                b"GET",
                b"/a?b=c",
                (b"x-b", b"1"),
                HOST_FIELD,
                (b"x-a", b"2"),
                (b"x-b", b""),
                (b"x_c", b"caf\xe9 \tau"),
            ),
            EndOfMessage(),
        ],
    ),
    "HTTP/1.0 without Host": (
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        [head(b"GET", b"/", (b"connection", b"keep-alive"), version=b"1.0"), EndOfMessage()],
    ),
    "a later minor version is 1.1": (b"GET / HTTP/1.9\r\n" + HOST + b"\r\n", GET_EVENTS),
    "a body of known length": (
        b"POST /f HTTP/1.1\r\n" + HOST + b"Content-Length: 11\r\n\r\nhello\r\n\r\nyo",
        [
            head(b"POST", b"/f", HOST_FIELD, (b"content-length", b"11")),
            Data(b"hello\r\n\r\nyo"),
            EndOfMessage(),
        ],
    ),
    "a body of no bytes": (
        b"POST /f HTTP/1.1\r\n" + HOST + b"Content-Length: 00\r\n\r\n",
        [head(b"POST", b"/f", HOST_FIELD, (b"content-length", b"00")), EndOfMessage()],
    ),
    "chunks": (
        CHUNKED_POST + b"5\r\nhello\r\n00a\r\n, world\r\n!\r\n0\r\n\r\n",
        [
            head(b"POST", b"/", HOST_FIELD, (b"transfer-encoding", b"chunked")),
            Data(b"hello, world\r\n!"),
            EndOfMessage(),
        ],
    ),
    "chunk extensions are ignored": (
        CHUNKED_POST + b'5;a=b;c="d;\\"e"\r\nhello\r\n0 \t;x\r\n\r\n',
        [
            head(b"POST", b"/", HOST_FIELD, (b"transfer-encoding", b"chunked")),
            Data(b"hello"),
            EndOfMessage(),
        ],
    ),
    "trailers": (
        CHUNKED_POST + b"1\r\nx\r\n0\r\nDigest: abc \r\nX: y\r\n\r\n",
        [
            head(b"POST", b"/", HOST_FIELD, (b"transfer-encoding", b"chunked")),
            Data(b"x"),
            EndOfMessage([(b"digest", b"abc"), (b"x", b"y")]),
        ],
    ),
    "a coding in capitals": (
        CHUNKED_POST.replace(b"chunked", b"Chunked") + b"0\r\n\r\n",
        [head(b"POST", b"/", HOST_FIELD, (b"transfer-encoding", b"Chunked")), EndOfMessage()],
    ),
    "absolute-form": (
        b"GET HTTP://other.example:8080/p?q HTTP/1.1\r\n" + HOST + b"\r\n",
        [head(b"GET", b"HTTP://other.example:8080/p?q", HOST_FIELD), EndOfMessage()],
    ),
    "asterisk-form": (
        b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
        [head(b"OPTIONS", b"*", HOST_FIELD), EndOfMessage()],
    ),
    "Upgrade stays in the head": (
        b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        [
            head(b"GET", b"/", HOST_FIELD, (b"connection", b"Upgrade"), (b"upgrade", b"websocket")),
            EndOfMessage(),
        ],
    ),
    "empty lines in front": (b"\r\n\r\n" + GET, GET_EVENTS),
}


@pytest.mark.parametrize(("data", "events"), ROWS.values(), ids=ROWS.keys())
def test_receives(play: Play, data: bytes, events: list[Any]) -> None:
    """H1-2, H1-6, H1-14, H-7, H-12: whole, byte by byte, and with requests behind it (H1-19)."""
    assert play(Http1Server(), data) == events
    assert play(Http1Server(), data, cuts=range(len(data))) == events
    behind = GET + data
    assert play(Http1Server(), data + behind) == events + GET_EVENTS + events
    assert play(Http1Server(), data + behind, cuts=range(len(data + behind)), end=True) == (
        events + GET_EVENTS + events
    )


@pytest.mark.parametrize(
    "method", [b"get", b"FOO", b"DESCRIBE", b"PRI", b"QUERY", b"M-SEARCH", b"!#$%&'*+-.^_`|~1"]
)
def test_passes_on_any_method_that_is_a_token(play: Play, method: bytes) -> None:
    """H-5: llhttp's list of methods is not ours."""
    assert play(Http1Server(), method + b" / HTTP/1.1\r\n" + HOST + b"\r\n") == [
        head(method, b"/", HOST_FIELD),
        EndOfMessage(),
    ]


def test_gives_a_body_as_the_object_that_was_received() -> None:
    server = Http1Server()
    server.receive_data(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\n")
    server.next_event()
    assert server.next_event() is NEED_DATA
    piece = bytes(60)
    server.receive_data(piece)
    event = server.next_event()
    assert isinstance(event, Data)
    assert event.data is piece


def test_pending_tells_of_bytes_without_an_event() -> None:
    server = Http1Server()
    seen = [server.pending]
    server.receive_data(GET[:5])
    assert server.next_event() is NEED_DATA
    seen.append(server.pending)
    server.receive_data(GET[5:])
    assert server.next_event() == GET_EVENTS[0]
    assert [*seen, server.pending] == [False, True, False]


def test_arrived_counts_the_bytes_without_an_event() -> None:
    server = Http1Server()
    counts = [server.arrived]
    server.receive_data(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\n" + bytes(60))
    server.next_event()
    counts.append(server.arrived)
    server.next_event()
    assert [*counts, server.arrived] == [0, 60, 0]


# Facts beside the head ---------------------------------------------------------------------------


def server_after(fields: bytes, *, line: bytes = b"POST / HTTP/1.1", host: bytes = HOST) -> Http1Server:
    server = Http1Server()
    server.receive_data(line + b"\r\n" + host + fields + b"\r\n")
    assert isinstance(server.next_event(), RequestHead)
    return server


@pytest.mark.parametrize(
    ("version", "fields", "keep_alive"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: keep-alive\r\n", True),
        (b"1.1", b"Connection: Close\r\n", False),
        (b"1.1", b"Connection: foo ,\tCLOSE,\r\n", False),
        (b"1.1", b"Connection: foo\r\nConnection: close\r\n", False),
        (b"1.1", b"Connection: keep-alive, close\r\n", False),
        (b"1.1", b"Connection: closed\r\n", True),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: Keep-Alive\r\n", True),
        (b"1.0", b"Connection: keep-alive, close\r\n", False),
        (b"1.0", b"Connection: foo\r\n", False),
    ],
)
def test_keep_alive(version: bytes, fields: bytes, keep_alive: bool) -> None:
    """H1-17"""
    assert server_after(fields, line=b"GET / HTTP/" + version).keep_alive is keep_alive


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        (b"", 0),
        (b"Content-Length: 0\r\n", 0),
        (b"Content-Length: 5 \r\n", 5),
        (b"Content-Length: 9223372036854775807\r\n", 2**63 - 1),
        (b"Content-Length: 0000000000000000005\r\n", 5),
        (b"Transfer-Encoding: chunked\r\n", None),
    ],
)
def test_body_length(fields: bytes, length: int | None) -> None:
    """H-8"""
    assert server_after(fields).body_length == length


@pytest.mark.parametrize(
    ("version", "fields", "expected"),
    [
        (b"1.1", b"Expect: 100-Continue\r\nContent-Length: 3\r\n", True),
        (b"1.1", b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", True),
        (b"1.1", b"Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 3\r\n", True),
        (b"1.1", b"Expect: 100-continue\r\n", False),  # no body to wait for
        (b"1.1", b"Content-Length: 3\r\n", False),
        (b"1.0", b"Expect: 100-continue\r\nContent-Length: 3\r\n", False),
        (b"1.0", b"Expect: more\r\nContent-Length: 3\r\n", False),
    ],
)
def test_expects_continue(version: bytes, fields: bytes, expected: bool) -> None:
    """H-10"""
    assert server_after(fields, line=b"POST / HTTP/" + version).expects_continue is expected


@pytest.mark.parametrize(
    "host",
    [
        b"example.com",
        b"example.com:",
        b"EXAMPLE.com:8080",
        b"127.0.0.1",
        b"[::1]",
        b"[2001:db8::192.0.2.1]:443",
        b"under_score.example",
        b"xn--caf-dma.example",
        b"a%20b",
        b"",
    ],
)
def test_accepts_hosts(host: bytes) -> None:
    """H1-5"""
    assert server_after(b"", host=b"Host: " + host + b"\r\n").authority == host


@pytest.mark.parametrize(
    "host",
    [
        b"a b",
        b"a/b",
        b"user@a",
        b"a:b",
        b"a:80:80",
        b"a:123456",
        b":80",
        b"[::1",
        b"::1",
        b"[1::2::3]",
        b"[fe80::1%25eth0]",
        b"[localhost]",
        b"a%2",
        b"caf\xe9",
        b'"a"',
        b"a\\b",
    ],
)
def test_rejects_hosts(play: Play, host: bytes) -> None:
    """H1-5"""
    assert rejected(play, b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n") == 400


@pytest.mark.parametrize(
    ("target", "authority"),
    [
        (b"http://other.example", b"other.example"),
        (b"https://[::1]:8443/", b"[::1]:8443"),
        (b"http://other.example?q", b"other.example"),
        (b"/", b"example.com"),
        (b"//other.example/", b"example.com"),
    ],
)
def test_an_absolute_target_overrides_host(target: bytes, authority: bytes) -> None:
    """H1-6"""
    assert server_after(b"", line=b"GET " + target + b" HTTP/1.1").authority == authority


def test_http10_without_host_has_no_authority() -> None:
    assert server_after(b"", line=b"GET / HTTP/1.0", host=b"").authority == b""


def test_facts_are_those_of_the_latest_head() -> None:
    server = server_after(b"Expect: 100-continue\r\nContent-Length: 1\r\n")
    server.receive_data(b"x" + GET.replace(b"example.com", b"b.example"))
    assert server.next_event() == Data(b"x")
    assert server.expects_continue
    assert server.next_event() == EndOfMessage()
    assert isinstance(server.next_event(), RequestHead)
    assert (server.authority, server.body_length, server.expects_continue) == (b"b.example", 0, False)


def test_reads_no_request_after_close(play: Play) -> None:
    """H1-20: what follows is thrown away."""
    server = Http1Server()
    closing = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert play(server, closing + GET) == [
        head(b"GET", b"/", HOST_FIELD, (b"connection", b"close")),
        EndOfMessage(),
    ]
    assert not server.pending
    assert play(server, b"\x00garbage", end=True) == []
    assert not server.pending


# Malformed requests ------------------------------------------------------------------------------


def rejected(play: Play, data: bytes, **limits: Any) -> int:
    """The status of the error that *data* ends in: whole, byte by byte, and behind another request."""
    statuses = set()
    for prefix, cuts in [(b"", ()), (b"", range(len(data))), (GET, ()), (GET, range(len(GET + data)))]:
        server = Http1Server(**limits)
        with pytest.raises(RemoteProtocolError) as raised:
            play(server, prefix + data, cuts=cuts)
        statuses.add(raised.value.status)
        assert not server.keep_alive
    (status,) = statuses
    return status


REQUEST_LINES = {
    "HTTP/2.0": (b"GET / HTTP/2.0", 505),
    "HTTP/3.1": (b"GET / HTTP/3.1", 505),
    "HTTP/0.9": (b"GET / HTTP/0.9", 505),
    "no version": (b"GET /", 505),
    "the HTTP/2 preface": (b"PRI * HTTP/2.0", 505),
    "HTTP/11.1": (b"GET / HTTP/11.1", 400),
    "HTTP/1": (b"GET / HTTP/1", 400),
    "http/1.1": (b"GET / http/1.1", 400),
    "HTTP/+1.1": (b"GET / HTTP/+1.1", 400),
    "no target": (b"GET  HTTP/1.1", 400),
    "no target at all": (b"GET HTTP/1.1", 400),
    "only a method": (b"GET", 400),
    "two spaces in front of the target": (b"GET  / HTTP/1.1", 400),
    "two spaces behind the target": (b"GET /  HTTP/1.1", 400),
    "a tab for a space": (b"GET\t/ HTTP/1.1", 400),
    "a space at the end": (b"GET / HTTP/1.1 ", 400),
    "a bare LF at the end": (b"GET / HTTP/1.1\nX: y", 400),
    "a space in the target": (b"GET /a b HTTP/1.1", 400),
    "a tab in the target": (b"GET /a\tb HTTP/1.1", 400),
    "a vertical tab in the target": (b"GET /a\x0bb HTTP/1.1", 400),
    "NUL in the target": (b"GET /a\0b HTTP/1.1", 400),
    "DEL in the target": (b"GET /a\x7fb HTTP/1.1", 400),
    "a bare CR in the target": (b"GET /a\rb HTTP/1.1", 400),
    "a bare CR at the end": (b"GET / HTTP/1.1\r", 400),
    "beyond ASCII in the target": (b"GET /caf\xc3\xa9 HTTP/1.1", 400),
    "a fragment": (b"GET /a#b HTTP/1.1", 400),
    "no slash": (b"GET a HTTP/1.1", 400),
    "GET *": (b"GET * HTTP/1.1", 400),
    "OPTIONS **": (b"OPTIONS ** HTTP/1.1", 400),
    "authority-form": (b"GET example.com:443 HTTP/1.1", 400),
    "another scheme": (b"GET ftp://a/ HTTP/1.1", 400),
    "no authority": (b"GET http:///a HTTP/1.1", 400),
    "user information": (b"GET http://u:p@a/ HTTP/1.1", 400),
    "an invalid authority": (b"GET http://a:b/ HTTP/1.1", 400),
    "CONNECT": (b"CONNECT example.com:443 HTTP/1.1", 501),
    "CONNECT with a path": (b"CONNECT / HTTP/1.1", 501),
    "a method that is no token": (b"G@T / HTTP/1.1", 400),
    "a method beyond ASCII": (b"G\xcbT / HTTP/1.1", 400),
    "a space in front": (b" GET / HTTP/1.1", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "a CR in front": (b"\rGET / HTTP/1.1", 400),
}


@pytest.mark.parametrize(("line", "status"), REQUEST_LINES.values(), ids=REQUEST_LINES.keys())
def test_rejects_request_lines(play: Play, line: bytes, status: int) -> None:
    """H1-1, H1-4, H1-6"""
    assert rejected(play, line + b"\r\n" + HOST + b"\r\n") == status


CONNECT = b"CONNECT a.example:443 HTTP/1.1\r\n" + HOST


@pytest.mark.parametrize("cuts", [(), range(200)])
@pytest.mark.parametrize("line", [b"", b"Content-Length: 0\r\n", b"Upgrade: x\r\nConnection: upgrade\r\n"])
def test_connect(play: Play, line: bytes, cuts: range | tuple[()]) -> None:
    """H-13 (RFC 9112 3.2.3): what is behind it is no request; the target goes before Host."""
    server = Http1Server(takes_connect=True)
    server.receive_data(CONNECT + line + b"\r\n" + GET)
    head = server.next_request()
    assert isinstance(head, RequestHead)
    assert (head.method, head.target) == (b"CONNECT", b"a.example:443")
    assert (server.authority, server.body_length) == (b"a.example:443", 0)
    assert (server.keep_alive, server.upgrade) == (False, b"")
    assert server.take_rest() == GET
    # Refused or not, nothing more is read.
    server = Http1Server(takes_connect=True)
    events = play(server, GET + CONNECT + line + b"\r\n" + GET, cuts=cuts)
    assert [type(event) for event in events] == [RequestHead, EndOfMessage] * 2


@pytest.mark.parametrize("target", [b"[::1]:1", b"1.2.3.4:65535", b"a.example.:00443", b"a:80"])
def test_targets_of_connect(play: Play, target: bytes) -> None:
    server = Http1Server(takes_connect=True)
    (head, _) = play(server, b"CONNECT " + target + b" HTTP/1.0\r\n\r\n")
    assert head.target == server.authority == target


@pytest.mark.parametrize(
    "target",
    [b"a", b"a:", b":80", b"a:0", b"a:00000", b"a:65536", b"a:123456", b"a:8O", b"[::1]", b"[::g]:1", b"/",
     b"*", b"u@a:80", b"http://a:80/", b"a:80/", b"a:80:80", b"a b:80", b"a:\xb2"],
)  # fmt: skip
def test_rejects_targets_of_connect(play: Play, target: bytes) -> None:
    """RFC 9110 9.3.6: an empty or invalid port is answered 400."""
    assert rejected(play, b"CONNECT " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n", takes_connect=True) == 400


@pytest.mark.parametrize("line", [b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_rejects_connect_with_content(play: Play, line: bytes) -> None:
    """RFC 9110 9.3.6"""
    assert rejected(play, CONNECT + line + b"\r\n", takes_connect=True) == 400


@pytest.mark.parametrize(
    ("event", "sent"),
    [
        (ResponseHead(200, []), b"HTTP/1.1 200 OK\r\n\r\n"),
        (ResponseHead(200, [(b"Content-Length", b"5"), (b"x", b"y")]), b"HTTP/1.1 200 OK\r\nx: y\r\n\r\n"),
        (ResponseHead(204, []), b"HTTP/1.1 204 No Content\r\n\r\n"),
    ],
)
def test_connect_is_answered_without_a_body(event: ResponseHead, sent: bytes) -> None:
    """H-8, H-13: neither Content-Length nor Transfer-Encoding, and the connection stays open."""
    server = Http1Server(takes_connect=True)
    server.receive_data(CONNECT + b"\r\n")
    server.next_request()
    assert server.send(event) == sent
    assert server.send(Data(b"dropped")) == b""
    assert server.send(EndOfMessage()) == b""


def test_connect_is_refused_with_a_body() -> None:
    server = Http1Server(takes_connect=True)
    server.receive_data(CONNECT + b"\r\n")
    server.next_request()
    sent = server.send(ResponseHead(403, [(b"content-length", b"2")]))
    assert sent == b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nconnection: close\r\n\r\n"
    assert server.send(Data(b"no")) == b"no"


FIELDS = {
    "no Host": (b"X: y\r\n", 400),
    "two Hosts": (HOST + HOST, 400),
    "space before the colon": (HOST + b"X : y\r\n", 400),
    "tab before the colon": (HOST + b"X\t: y\r\n", 400),
    "obs-fold": (HOST + b"X: y\r\n z\r\n", 400),
    "obs-fold by a tab": (HOST + b"X: y\r\n\tz\r\n", 400),
    "obs-fold of nothing": (HOST + b"X:\r\n y\r\n", 400),
    "whitespace before the first field": (b" X: y\r\n" + HOST, 400),
    "a line of whitespace": (HOST + b" \r\nX: y\r\n", 400),
    "no colon": (HOST + b"X\r\n", 400),
    "no name": (HOST + b": y\r\n", 400),
    "a name that is no token": (HOST + b"X@Y: z\r\n", 400),
    "a space in a name": (HOST + b"X Y: z\r\n", 400),
    "a no-break space in a name": (HOST + b"X\xa0: z\r\n", 400),
    "NUL in a name": (HOST + b"X\0: z\r\n", 400),
    "NUL in a value": (HOST + b"X: a\0b\r\n", 400),
    "a control character in a value": (HOST + b"X: a\x01b\r\n", 400),
    "DEL in a value": (HOST + b"X: a\x7fb\r\n", 400),
    "a bare CR in a value": (HOST + b"X: a\rb\r\n", 400),
    "a bare CR at the end of a value": (HOST + b"X: a\r\r\n", 400),
    "a bare CR before the end": (HOST + b"\r\r\n", 400),
    "a bare LF after a field": (HOST + b"X: y\nZ: z\r\n", 400),
    "a bare LF as the empty line": (HOST + b"\nX: y\r\n", 400),
    "Content-Length +5": (HOST + b"Content-Length: +5\r\n", 400),
    "Content-Length -5": (HOST + b"Content-Length: -5\r\n", 400),
    "Content-Length 0x5": (HOST + b"Content-Length: 0x5\r\n", 400),
    "Content-Length 5_0": (HOST + b"Content-Length: 5_0\r\n", 400),
    "Content-Length 5.0": (HOST + b"Content-Length: 5.0\r\n", 400),
    "Content-Length 5 0": (HOST + b"Content-Length: 5 0\r\n", 400),
    "Content-Length empty": (HOST + b"Content-Length:\r\n", 400),
    "Content-Length of other digits": (HOST + b"Content-Length: \xd9\xa3\r\n", 400),
    "Content-Length as a list": (HOST + b"Content-Length: 5, 5\r\n", 400),
    "Content-Length twice": (HOST + b"Content-Length: 5\r\nContent-Length: 5\r\n", 400),
    "Content-Length 2**64": (HOST + b"Content-Length: 18446744073709551616\r\n", 400),
    "Content-Length 2**63": (HOST + b"Content-Length: 9223372036854775808\r\n", 413),
    "Content-Length of zeros": (HOST + b"Content-Length: " + b"0" * 5000 + b"\r\n", 413),
    "Content-Length, then Transfer-Encoding": (
        HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        400,
    ),
    "Transfer-Encoding, then Content-Length": (
        HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        400,
    ),
    "no chunked": (HOST + b"Transfer-Encoding: gzip\r\n", 400),
    "identity": (HOST + b"Transfer-Encoding: identity\r\n", 400),
    "xchunked": (HOST + b"Transfer-Encoding: xchunked\r\n", 400),
    "chunked with a parameter": (HOST + b"Transfer-Encoding: chunked;q=1\r\n", 400),
    "quoted chunked": (HOST + b'Transfer-Encoding: "chunked"\r\n', 400),
    "no coding": (HOST + b"Transfer-Encoding:\r\n", 400),
    "an empty list of codings": (HOST + b"Transfer-Encoding: ,\r\n", 400),
    "an empty member before chunked": (HOST + b"Transfer-Encoding: ,chunked\r\n", 400),
    "an empty member after chunked": (HOST + b"Transfer-Encoding: chunked,\r\n", 400),
    "an empty field after chunked": (HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n", 400),
    "chunked is not last": (HOST + b"Transfer-Encoding: chunked, gzip\r\n", 400),
    "chunked is not last, in two fields": (
        HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        400,
    ),
    "chunked twice": (HOST + b"Transfer-Encoding: chunked, chunked\r\n", 400),
    "chunked twice, in two fields": (
        HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        400,
    ),
    "a vertical tab before chunked": (HOST + b"Transfer-Encoding: \x0bchunked\r\n", 400),
    "a no-break space before chunked": (HOST + b"Transfer-Encoding: \xa0chunked\r\n", 400),
    "another coding below chunked": (HOST + b"Transfer-Encoding: gzip, chunked\r\n", 501),
    "another coding below chunked, in two fields": (
        HOST + b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n",
        501,
    ),
    "another expectation": (HOST + b"Expect: tea\r\n", 417),
    "another expectation beside": (HOST + b"Expect: 100-continue, tea\r\n", 417),
    "an empty expectation": (HOST + b"Expect:\r\n", 417),
}


@pytest.mark.parametrize(("fields", "status"), FIELDS.values(), ids=FIELDS.keys())
def test_rejects_fields(play: Play, fields: bytes, status: int) -> None:
    """H-7, H-8, H-10, H1-1, H1-2, H1-5, H1-7, H1-8, H1-9, H1-10, H1-12, H1-15"""
    assert rejected(play, b"POST / HTTP/1.1\r\n" + fields + b"\r\n") == status


@pytest.mark.parametrize(
    "fields", [HOST + HOST, b"Host: a b\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: x\r\n"]
)
def test_rejects_fields_in_http10(play: Play, fields: bytes) -> None:
    """H1-5, H1-11"""
    assert rejected(play, b"POST / HTTP/1.0\r\n" + fields + b"\r\n") == 400


CHUNKS = {
    "no size": b"\r\nhello",
    "not hexadecimal": b"g\r\n",
    "a sign": b"+5\r\nhello\r\n",
    "0x": b"0x5\r\nhello\r\n",
    "an underscore": b"1_0\r\n",
    "a space in front": b" 5\r\nhello\r\n",
    "a space behind": b"5 \r\nhello\r\n",
    "a size beyond 63 bits": b"8000000000000000\r\n",
    "a bare LF after the size": b"5\nhello\r\n",
    "a bare LF after an extension": b"5;a\nhello\r\n",
    "a bare CR in an extension": b"5;a\rb\r\nhello\r\n",
    "NUL in an extension": b"5;a\0\r\nhello\r\n",
    "no CRLF after the data": b"5\r\nhello0\r\n\r\n",
    "a bare LF after the data": b"5\r\nhello\n0\r\n\r\n",
    "a bare CR after the data": b"5\r\nhello\r0\r\n\r\n",
    "an extension after space": b"5 a\r\nhello\r\n",
    "an extension of nothing": b"5;\r\nhello\r\n",
    "a quote that is not closed": b'5;a="b\r\nhello\r\n',
    "an extension name that is no token": b"5;a[\r\nhello\r\n",
    "a trailer that is none": b"0\r\nx\r\n\r\n",
    "obs-fold in a trailer": b"0\r\nX: y\r\n z\r\n\r\n",
    "a bare LF after the last chunk": b"0\r\n\n\r\n\r\n",
    "a bare LF in the trailers": b"0\r\nX: y\n\r\n\r\n",
    "Content-Length twice in the trailers": b"0\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
}


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS.keys())
def test_rejects_chunks(play: Play, chunks: bytes) -> None:
    """H1-14; complaint 61: a line break in a chunk extension."""
    assert rejected(play, CHUNKED_POST + chunks) == 400


def test_errors_are_sticky() -> None:
    server = Http1Server()
    server.receive_data(b"GET / HTTP/7.0\r\n\r\n" + GET)
    messages = set()
    for _ in range(3):
        with pytest.raises(RemoteProtocolError) as raised:
            server.next_event()
        messages.add((str(raised.value), raised.value.status))
        server.receive_data(GET)
    assert messages == {("HTTP/7.0 is not supported", 505)}
    assert not server.pending


@pytest.mark.parametrize(
    "data",
    [
        GET[:3],
        GET[:20],
        GET[:-1],
        b"\r",
        b"\r\n\r",
        CHUNKED_POST,
        CHUNKED_POST + b"5\r\nhel",
        CHUNKED_POST + b"5\r\nhello\r",
        CHUNKED_POST + b"5\r\nhello\r\n",
        CHUNKED_POST + b"0\r\n",
        CHUNKED_POST + b"0\r\nX: y\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nab",
    ],
)
def test_an_end_in_the_middle_is_incomplete(play: Play, data: bytes) -> None:
    """H1-14, RFC 9112 8: no cause but the framing ends a request (H1-15)."""
    for cuts in (), range(len(data)):
        with pytest.raises(Incomplete):
            play(Http1Server(), GET + data, cuts=cuts, end=True)


@pytest.mark.parametrize("data", [b"", GET, b"\r\n", GET + b"\r\n"])
def test_an_end_between_requests_is_none_of_our_business(play: Play, data: bytes) -> None:
    """H1-21"""
    assert play(Http1Server(), data, end=True) == (GET_EVENTS if GET in data else [])


# Limits ------------------------------------------------------------------------------------------


def test_the_request_line_is_limited(play: Play) -> None:
    """H1-4: 8000 bytes at least; 414 beyond."""
    line = b"GET /%b HTTP/1.1" % (b"a" * (8192 - 14))
    assert len(line) == 8192
    assert len(play(Http1Server(), line + b"\r\n" + HOST + b"\r\n")) == 2
    assert rejected(play, line.replace(b"/a", b"/aa") + b"\r\n" + HOST + b"\r\n") == 414


@pytest.mark.parametrize("target", [b"/%b", b"http://a/%b", b"*%b"])
def test_a_request_line_without_end_is_not_kept(play: Play, target: bytes) -> None:
    data = b"GET " + target % (b"a" * 200)
    assert rejected(play, data, request_line=100) == 414
    server = Http1Server(request_line=100)
    with pytest.raises(LimitExceeded):
        play(server, data, cuts=range(len(data)))
    assert not server.pending


@pytest.mark.parametrize(("size", "status"), [(99, 414), (100, 414), (101, 501), (200, 501)])
def test_a_long_method_is_one_that_nobody_implements(play: Play, size: int, status: int) -> None:
    """H1-4: RFC 9112 3."""
    line = b"%b /%b HTTP/1.1\r\n" % (b"A" * size, b"a" * 100)
    assert rejected(play, line + HOST + b"\r\n", request_line=100) == status


def test_the_field_section_is_limited(play: Play) -> None:
    def request(size: int) -> bytes:
        fields = HOST + b"X: "
        return b"GET / HTTP/1.1\r\n" + fields + b"y" * (size - len(fields) - 2) + b"\r\n\r\n"

    for cuts in (), range(600):
        assert len(play(Http1Server(headers=500), request(500), cuts=cuts)) == 2
    assert rejected(play, request(501), headers=500) == 431
    assert len(play(Http1Server(), request(65536))) == 2
    assert rejected(play, request(65537), headers=65536) == 431


@pytest.mark.parametrize("field", [b"X: ", b"X:" + b" " * 300, b"X", b"X: y\r\n" * 50])
def test_a_field_section_without_end_is_not_kept(play: Play, field: bytes) -> None:
    """Also when it dribbles in, and when what it holds will turn out to be nothing."""
    data = b"GET / HTTP/1.1\r\n" + HOST + field + b" " * 300
    assert rejected(play, data, headers=200) == 431
    assert rejected(play, data + b"\r\n\r\n", headers=200) == 431


@pytest.mark.parametrize(("line_feed", "status"), [(201, 400), (202, 431)])
def test_what_is_wrong_first_decides(play: Play, line_feed: int, status: int) -> None:
    """A bare LF inside of the limit goes before the limit, however the bytes come."""
    section = b"X: " + b"y" * (line_feed - 3) + b"\nZ: z\r\n\r\n"
    assert section.index(b"\n") == line_feed
    assert rejected(play, b"GET / HTTP/1.1\r\n" + section, headers=200) == status


def test_the_number_of_fields_is_limited(play: Play) -> None:
    def request(count: int) -> bytes:
        return b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * (count - 1) + b"\r\n"

    assert len(play(Http1Server(), request(100))) == 2
    assert rejected(play, request(101)) == 431
    assert rejected(play, request(4), header_count=3) == 431


def test_trailers_have_the_limits_of_headers(play: Play) -> None:
    end = CHUNKED_POST + b"0\r\n"
    trailers = b"X: " + b"y" * 195 + b"\r\n"
    assert play(Http1Server(headers=200), end + trailers + b"\r\n")[-1] == EndOfMessage([(b"x", b"y" * 195)])
    assert rejected(play, end + b"X" + trailers + b"\r\n", headers=200) == 431
    assert rejected(play, end + b"X: " + b"y" * 300, headers=200) == 431
    assert rejected(play, end + b"X: y\r\n" * 5 + b"\r\n", header_count=4) == 431


def test_chunk_extensions_are_limited(play: Play) -> None:
    """H1-14"""
    extension = b"1;" + b"a" * (MAX_CHUNK_LINE - 4) + b"\r\n"
    assert len(extension) == MAX_CHUNK_LINE
    assert Data(b"x") in play(Http1Server(), CHUNKED_POST + extension + b"x\r\n")
    assert rejected(play, CHUNKED_POST + b"1;a" + extension[2:] + b"x\r\n") == 400
    assert rejected(play, CHUNKED_POST + b"1;" + b"a" * 2 * MAX_CHUNK_LINE) == 400


LONG_EXTENSION = b"1;" + b"a" * 3994 + b"\r\nx\r\n"
"""A chunk of which 4000 bytes are line."""


def test_chunk_extensions_are_limited_in_all(play: Play) -> None:
    """H1-14; CVE-2023-39326: one after the other, each below its own limit."""
    assert play(Http1Server(), CHUNKED_POST + LONG_EXTENSION * 4)[-1] == Data(b"xxxx")
    assert rejected(play, CHUNKED_POST + LONG_EXTENSION * 5) == 400


@pytest.mark.parametrize(("between", "allowed"), [(1800, True), (1700, False)])
def test_data_makes_up_for_chunk_extensions(play: Play, between: int, allowed: bool) -> None:
    """H1-14: plain chunks count the same whether they are read at once or piece by piece."""
    plain = b"%x\r\n%b\r\n" % (between, b"y" * between)
    data = CHUNKED_POST + LONG_EXTENSION * 4 + plain + LONG_EXTENSION
    for cuts in ((), range(0, len(data), 7), [len(data) - 4100, len(data) - 5000]):
        if allowed:
            assert len(play(Http1Server(), data, cuts)[-1].data) == between + 5
        else:
            with pytest.raises(LimitExceeded):
                play(Http1Server(), data, cuts)


def test_small_chunks_have_no_limit(play: Play) -> None:
    """H1-14: a byte in each, with a short extension as some clients send."""
    data = CHUNKED_POST + b"1;ieof=true\r\nx\r\n" * 5000
    assert play(Http1Server(), data)[-1] == Data(b"x" * 5000)


@pytest.mark.parametrize("line", [b"1", b"1;ieof=true"])
def test_small_chunks_are_one_piece(line: bytes) -> None:
    """An event for each would take eight times as long, and others would wait for that."""
    server = Http1Server()
    server.receive_data(CHUNKED_POST + (line + b"\r\nx\r\n") * 1000)
    server.next_event()
    assert server.next_event() == Data(b"x" * 1000)


def test_empty_lines_are_limited(play: Play) -> None:
    """H1-2"""
    assert len(play(Http1Server(), (b"\r\n\r\n" + GET) * 3)) == 6
    assert rejected(play, b"\r\n\r\n\r\n" + GET) == 400


# Responses ---------------------------------------------------------------------------------------


def ready(request: bytes = GET) -> Http1Server:
    server = Http1Server()
    server.receive_data(request)
    assert isinstance(server.next_event(), RequestHead)
    return server


def sent(server: Http1Server, *events: Any) -> bytes:
    return b"".join(map(server.send, events))


TYPE = (b"content-type", b"text/plain")
HEAD_REQUEST = GET.replace(b"GET", b"HEAD")
OLD_GET = b"GET / HTTP/1.0\r\n\r\n"
OLD_KEEP_ALIVE = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
CLOSING_GET = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


def length_of(number: int) -> Headers:
    return [(b"content-length", b"%d" % number)]


RESPONSES: dict[str, tuple[bytes, list[Any], bytes, bool]] = {
    "Content-Length": (
        GET,
        [ResponseHead(200, [TYPE, *length_of(5)]), Data(b"he"), Data(b"llo"), EndOfMessage()],
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello",
        True,
    ),
    "chunks": (
        GET,
        [ResponseHead(404, [TYPE], b"Nope"), Data(b"hello, world!.."), Data(b""), Data(b"x"), EndOfMessage()],
        b"HTTP/1.1 404 Nope\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
        b"f\r\nhello, world!..\r\n1\r\nx\r\n0\r\n\r\n",
        True,
    ),
    "chunks with trailers": (
        GET,
        [ResponseHead(200, []), Data(b"x"), EndOfMessage([(b"digest", b"abc")])],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\ndigest: abc\r\n\r\n",
        True,
    ),
    "trailers without chunks are discarded": (
        GET,
        [ResponseHead(200, length_of(1)), Data(b"x"), EndOfMessage([(b"digest", b"abc")])],
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
        True,
    ),
    "no fields and no standard reason": (
        HEAD_REQUEST,
        [ResponseHead(599, []), EndOfMessage()],
        b"HTTP/1.1 599 \r\n\r\n",
        True,
    ),
    "HEAD": (
        HEAD_REQUEST,
        [ResponseHead(200, length_of(5)), Data(b"hello"), EndOfMessage()],
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
        True,
    ),
    "204": (
        GET,
        [ResponseHead(204, [TYPE, (b"Content-Length", b"0")]), Data(b"x"), EndOfMessage()],
        b"HTTP/1.1 204 No Content\r\ncontent-type: text/plain\r\n\r\n",
        True,
    ),
    "304": (
        GET,
        [ResponseHead(304, length_of(5)), EndOfMessage()],
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
        True,
    ),
    "interim responses": (
        GET,
        [
            InformationalResponse(100, []),
            InformationalResponse(103, [(b"link", b"</a>")]),
            ResponseHead(200, length_of(0)),
            EndOfMessage(),
        ],
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        True,
    ),
    "the client closes": (
        CLOSING_GET,
        [ResponseHead(200, length_of(0)), EndOfMessage()],
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        False,
    ),
    "the response closes": (
        GET,
        [ResponseHead(200, [(b"Connection", b"foo, Close"), *length_of(0)]), EndOfMessage()],
        b"HTTP/1.1 200 OK\r\nConnection: foo, Close\r\ncontent-length: 0\r\n\r\n",
        False,
    ),
    "the response says keep-alive": (
        GET,
        [ResponseHead(200, [(b"connection", b"keep-alive"), *length_of(0)]), EndOfMessage()],
        b"HTTP/1.1 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n",
        True,
    ),
    "HTTP/1.0: up to the end of the connection, no interim responses": (
        OLD_KEEP_ALIVE,
        [
            InformationalResponse(103, []),
            ResponseHead(200, [TYPE]),
            Data(b"hello"),
            EndOfMessage([(b"a", b"b")]),
        ],
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\nhello",
        False,
    ),
    "HTTP/1.0 with keep-alive": (
        OLD_KEEP_ALIVE,
        [ResponseHead(200, length_of(2)), Data(b"hi"), EndOfMessage()],
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nhi",
        True,
    ),
    "HTTP/1.0 without": (
        OLD_GET,
        [ResponseHead(200, length_of(2)), Data(b"hi"), EndOfMessage()],
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi",
        False,
    ),
}


@pytest.mark.parametrize(
    ("request_bytes", "events", "data", "keep_alive"), RESPONSES.values(), ids=RESPONSES.keys()
)
def test_sends(request_bytes: bytes, events: list[Any], data: bytes, keep_alive: bool) -> None:
    """H1-3, H1-11, H1-13, H1-17, H-8, H-9, H-11, H-16"""
    server = ready(request_bytes)
    assert sent(server, *events) == data
    assert server.keep_alive is keep_alive


def test_the_driver_may_close() -> None:
    server = ready()
    server.keep_alive = False
    assert b"\r\nconnection: close\r\n" in sent(server, ResponseHead(200, []))


def test_answers_pipelined_requests_in_order() -> None:
    """H1-19: the next request is not read before the response has ended, and is then sent its own way."""
    server = Http1Server()
    server.receive_data(HEAD_REQUEST + GET)
    assert isinstance(server.next_event(), RequestHead)
    assert server.next_event() == EndOfMessage()
    assert sent(server, ResponseHead(200, length_of(1))).endswith(b"\r\n\r\n")
    assert server.next_event() is NEED_DATA
    assert sent(server, EndOfMessage()) == b""
    assert server.next_event() == RequestHead(b"GET", b"/", [HOST_FIELD])
    assert server.next_event() == EndOfMessage()
    assert sent(server, ResponseHead(200, length_of(1)), Data(b"x"), EndOfMessage()).endswith(b"\r\n\r\nx")


def test_an_error_is_answered_and_closed() -> None:
    """RFC 9112 6.3: 400, then close; HEAD and HTTP/1.0 of an earlier request have no say."""
    server = Http1Server()
    server.receive_data(OLD_KEEP_ALIVE.replace(b"GET", b"HEAD") + b"nonsense\r\n\r\n")
    assert isinstance(server.next_event(), RequestHead)
    assert server.next_event() == EndOfMessage()
    sent(server, ResponseHead(200, []), EndOfMessage())
    server.keep_alive = True
    with pytest.raises(RemoteProtocolError):
        server.next_event()
    assert sent(server, ResponseHead(400, length_of(3)), Data(b"no\n"), EndOfMessage()) == (
        b"HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno\n"
    )


def test_an_error_in_a_body_can_be_answered() -> None:
    server = ready(CHUNKED_POST + b"nonsense\r\n")
    with pytest.raises(RemoteProtocolError):
        server.next_event()
    assert b"connection: close" in sent(server, ResponseHead(400, length_of(0)), EndOfMessage())


ILLEGAL: dict[str, list[Any]] = {
    "too much": [ResponseHead(200, length_of(3)), Data(b"ab"), Data(b"cd")],
    "too little": [ResponseHead(200, length_of(3)), Data(b"ab"), EndOfMessage()],
    "body before the head": [Data(b"x")],
    "an end before the head": [EndOfMessage()],
    "two heads": [ResponseHead(200, []), ResponseHead(200, [])],
    "interim after the head": [ResponseHead(200, []), InformationalResponse(103, [])],
    "something after the end": [ResponseHead(200, []), EndOfMessage(), Data(b"x")],
    "a second response": [ResponseHead(200, []), EndOfMessage(), ResponseHead(200, [])],
    "a local redirect": [LocalRedirect(b"/")],
    "standard error": [ResponseHead(200, []), Stderr(b"x")],
    "101": [InformationalResponse(101, [])],
    "200 as an interim response": [InformationalResponse(200, [])],
    "99 as an interim response": [InformationalResponse(99, [])],
    "101 as a final response": [ResponseHead(101, [])],
    "1000": [ResponseHead(1000, [])],
    "Content-Length twice": [ResponseHead(200, length_of(3) * 2)],
    "Content-Length in words": [ResponseHead(200, [(b"Content-Length", b"three")])],
    "Content-Length empty": [ResponseHead(200, [(b"Content-Length", b"")])],
    "Content-Length of 5000 digits": [ResponseHead(200, [(b"Content-Length", b"1" * 5000)])],
    "Transfer-Encoding": [ResponseHead(200, [(b"Transfer-Encoding", b"chunked")])],
    "a line break": [ResponseHead(200, [(b"location", b"/\r\nset-cookie: a=b")])],
    "a line break in a trailer": [ResponseHead(200, []), EndOfMessage([(b"a", b"b\n")])],
}


@pytest.mark.parametrize("events", ILLEGAL.values(), ids=ILLEGAL.keys())
def test_refuses_to_send(events: list[Any]) -> None:
    """H-7, H-8; the failure is sticky."""
    server = ready()
    *legal, illegal = events
    sent(server, *legal)
    with pytest.raises(LocalProtocolError):
        server.send(illegal)
    for event in ResponseHead(200, []), Data(b"x"), EndOfMessage():
        with pytest.raises(LocalProtocolError):
            server.send(event)


# The next request, at once -----------------------------------------------------------------------


def next_requests(*reads: bytes) -> list[Any]:
    """What `next_request` gives for each read, with the rest of the message where there is one."""
    codec = Http1Server()
    seen: list[Any] = []
    for read in reads:
        codec.receive_data(read)
        while (event := codec.next_request()) is not NEED_DATA:
            seen.append(event)
            while codec.body_length != 0 and not isinstance(seen[-1], EndOfMessage):
                seen.append(codec.next_event())
    return seen


AGAIN = b"Host: example.com\r\nUser-Agent: x\r\n\r\n"
AGAIN_FIELDS = [HOST_FIELD, (b"user-agent", b"x")]


def test_the_next_request_needs_no_end_of_message() -> None:
    assert next_requests(GET, GET + GET) == [GET_EVENTS[0]] * 3


def test_the_same_fields_mean_the_same_again() -> None:
    """A head that is recognised by its bytes gives what parsing it would."""
    reads = [b"GET /%d HTTP/1.1\r\n" % number + AGAIN for number in range(3)]
    assert next_requests(*reads) == [head(b"GET", b"/%d" % number, *AGAIN_FIELDS) for number in range(3)]


def test_recognised_fields_belong_to_their_request() -> None:
    codec = Http1Server()
    for target in (b"/a", b"/b", b"/c"):
        codec.receive_data(b"GET %b HTTP/1.1\r\n" % target + AGAIN)
        event = codec.next_request()
        assert event == head(b"GET", target, *AGAIN_FIELDS)
        assert isinstance(event, RequestHead)
        event.headers.clear()


def test_fields_by_which_a_proxy_speaks_for_its_client_are_noticed() -> None:
    """FWD-7: in each request that has them, and in no other."""
    codec = Http1Server()
    for name, expected in [
        (b"X-Forwarded-For", True),
        (b"X-Forwarded-For", True),
        (b"X-Other", False),
        (b"FORWARDED", True),
        (b"x-real-ip", True),
        (b"Via", False),
    ]:
        codec.receive_data(b"GET / HTTP/1.1\r\n%b: x\r\n" % name + AGAIN)
        assert isinstance(codec.next_request(), RequestHead)
        assert codec.forwarded is expected


@pytest.mark.parametrize(
    ("second", "events"),
    [
        (b"GET /b HTTP/1.0\r\n" + AGAIN, [head(b"GET", b"/b", *AGAIN_FIELDS, version=b"1.0")]),
        (b"GET http://h/b HTTP/1.1\r\n" + AGAIN, [head(b"GET", b"http://h/b", *AGAIN_FIELDS)]),
        (b"\r\nGET /b HTTP/1.1\r\n" + AGAIN, [head(b"GET", b"/b", *AGAIN_FIELDS)]),
        (b"GET /b HTTP/1.1\r\nX: y\r\n" + AGAIN, [head(b"GET", b"/b", (b"x", b"y"), *AGAIN_FIELDS)]),
        (
            b"POST /b HTTP/1.1\r\nContent-Length: 2\r\n" + AGAIN + b"hi",
            [head(b"POST", b"/b", (b"content-length", b"2"), *AGAIN_FIELDS), Data(b"hi"), EndOfMessage()],
        ),
    ],
)
def test_only_the_same_fields_are_recognised(second: bytes, events: list[Any]) -> None:
    """H1-10, H1-17: nothing of one request is taken for another's."""
    first = b"GET /a HTTP/1.1\r\n" + AGAIN
    third = b"GET /c HTTP/1.1\r\n" + AGAIN
    expected = [head(b"GET", b"/a", *AGAIN_FIELDS), *events]
    if events[0].version == b"1.1":
        expected.append(head(b"GET", b"/c", *AGAIN_FIELDS))
    assert next_requests(first, second, third) == expected


def test_the_limit_of_a_request_line_holds_for_recognised_fields() -> None:
    codec = Http1Server(request_line=40)
    codec.receive_data(b"GET / HTTP/1.1\r\n" + AGAIN)
    assert codec.next_request() == head(b"GET", b"/", *AGAIN_FIELDS)
    codec.receive_data(b"GET /%b HTTP/1.1\r\n" % (b"x" * 40) + AGAIN)
    with pytest.raises(LimitExceeded) as caught:
        codec.next_request()
    assert caught.value.status == 414
    with pytest.raises(LimitExceeded):
        codec.next_request()


def test_a_malformed_next_request_stays_refused() -> None:
    codec = Http1Server()
    codec.receive_data(b"GET /\r\n\r\n")
    for _ in range(2):
        with pytest.raises(RemoteProtocolError):
            codec.next_request()


def test_no_request_follows_the_last() -> None:
    """H1-20."""
    codec = Http1Server()
    codec.receive_data(b"GET / HTTP/1.1\r\nConnection: close\r\n" + AGAIN)
    assert isinstance(codec.next_request(), RequestHead)
    codec.receive_data(GET)
    assert codec.next_request() is NEED_DATA


@pytest.mark.parametrize(
    ("fields", "offered"),
    [
        (b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"websocket"),
        (b"Connection: keep-alive, upgrade\r\nUpgrade: a\r\nUpgrade: B/1\r\n", b"a,B/1"),
        (b"Upgrade: websocket\r\n", b""),
        (b"Connection: close\r\nUpgrade: websocket\r\n", b""),
        (b"Connection: upgrade\r\n", b""),
        (b"Connection: upgrade\r\nUpgrade: x\r\nContent-Length: 1\r\n", b""),
        (b"Connection: upgrade\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\n", b""),
    ],
)
def test_an_offer_to_upgrade(fields: bytes, offered: bytes) -> None:
    """H-12: told if Connection names it and there is no body; the same fields mean the same again."""
    codec = Http1Server()
    for _ in range(2):
        codec.receive_data(b"GET / HTTP/1.1\r\n" + HOST + fields + b"\r\n")
        assert isinstance(codec.next_request(), RequestHead)
        assert codec.upgrade == offered
        if codec.body_length != 0 or not codec.keep_alive:
            return
    codec.receive_data(GET)
    codec.next_request()
    assert codec.upgrade == b""


def test_no_upgrade_in_http10() -> None:
    """H-12."""
    codec = Http1Server()
    codec.receive_data(b"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
    codec.next_request()
    assert codec.upgrade == b""


@pytest.mark.parametrize("rest", [b"", b"GET / HTTP/1.1\r\n\r\n\0"])
def test_what_follows_an_upgrade_is_not_read(rest: bytes) -> None:
    """RFC 9110 7.8: it belongs to the other protocol."""
    codec = Http1Server()
    codec.receive_data(b"GET / HTTP/1.1\r\n" + HOST + b"Connection: upgrade\r\nUpgrade: x\r\n\r\n" + rest)
    codec.next_request()
    assert codec.take_rest() == rest
    codec.receive_data(GET)
    assert codec.next_request() is NEED_DATA
    assert not codec.keep_alive
