"""HTTP/2: what a client may say, what it costs it to say something else, and what is said to it."""

import tracemalloc
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, PushedStreamReceived
from hyperframe.frame import (
    ContinuationFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from gateway.protocols.errors import LocalProtocolError
from gateway.protocols.events import Headers
from gateway.protocols.http2 import (
    PREFACE,
    ErrorCode,
    Http2Error,
    Http2Server,
    PeerGoesAway,
    PingAnswered,
    StreamBroken,
    StreamData,
    StreamEnded,
    StreamRefused,
    StreamRequest,
    WindowOpened,
)
from gateway.protocols.http2.server import MOST_QUEUED
from tests.protocols.http2_peer import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    PADDED,
    PING,
    POST,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    Peer,
    data,
    frame,
    goaways,
    kinds,
    reset,
    resets,
    settings,
    window,
)

CONNECT: Headers = [
    (b":method", b"CONNECT"),
    (b":protocol", b"WebSocket"),
    (b":scheme", b"https"),
    (b":path", b"/chat?x"),
    (b":authority", b"a:1"),
]


def without(fields: Headers, name: bytes) -> Headers:
    return [field for field in fields if field[0] != name]


def replaced(name: bytes, value: bytes, fields: Headers = GET) -> Headers:
    return [(each, value if each == name else old) for each, old in fields]


def request_of(events: list[Any]) -> StreamRequest:
    (event,) = events
    assert isinstance(event, StreamRequest)
    return event


# Beginning


def test_settings_come_first() -> None:
    """RFC 9113 3.4, H2-12, H2-16: what the client should know, and room for all streams together."""
    peer = Peer(Http2Server(streams=7, headers=1000, stream_window=70_000, connection_window=100_000))
    first, update, acknowledged = peer.greeting
    assert isinstance(first, SettingsFrame)
    assert first.settings == {1: 4096, 2: 0, 3: 7, 4: 70_000, 5: 16_384, 6: 1000, 8: 1}
    assert isinstance(update, WindowUpdateFrame)
    assert (update.stream_id, update.window_increment) == (0, 100_000 - 65_535)
    assert set(acknowledged.flags) == {"ACK"}
    assert peer.codec.established


def test_preface_may_come_byte_by_byte() -> None:
    codec = Http2Server(connection_window=65_535)
    assert [frame.stream_id for frame in Peer(codec).greeting] == [0, 0]
    codec = Http2Server()
    for byte in PREFACE + settings()[:8]:
        assert codec.receive_data(bytes((byte,))) == []
        assert not codec.established
    codec.receive_data(settings()[8:])
    assert codec.established


@pytest.mark.parametrize(
    "beginning",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        PREFACE[:-1] + b"x",
        PREFACE + frame(PING, 0, 0, bytes(8)),
        PREFACE + frame(SETTINGS, ACK, 0),
    ],
)
def test_rejects_another_beginning(beginning: bytes) -> None:
    """RFC 9113 3.4: the magic string, then SETTINGS."""
    codec = Http2Server()
    with pytest.raises(Http2Error):
        codec.receive_data(beginning)


# Requests


def test_request_without_body() -> None:
    """H2-4, H2-5: host comes first, made of :authority."""
    peer = Peer()
    event = request_of(peer.say(peer.headers(1, [*GET, (b"accept", b"*/*"), (b"te", b"trailers")])))
    assert (event.stream_id, event.length, event.authority, event.protocol) == (1, 0, b"a", b"")
    head = event.head
    assert (head.method, head.target, head.version) == (b"GET", b"/", b"2")
    assert head.headers == [(b"host", b"a"), (b"accept", b"*/*"), (b"te", b"trailers")]
    assert peer.codec.last_stream == 1


def test_the_same_request_again_is_not_the_same_object() -> None:
    """What is remembered of a field section is not given away."""
    peer = Peer()
    peer.say(peer.headers(1))
    first, second = (request_of(peer.say(peer.headers(number))) for number in (3, 5))
    first.head.headers.append((b"x", b"y"))
    third = request_of(peer.say(peer.headers(7)))
    assert second.head.headers == third.head.headers == [(b"host", b"a")]


def test_body_and_trailers() -> None:
    """H2-6, RFC 9113 8.1: DATA, then a second field section."""
    peer = Peer()
    events = peer.say(
        peer.headers(1, [*POST, (b"content-length", b"5")], end=False),
        data(1, b"hel"),
        frame(DATA, PADDED, 1, b"\x03lo" + bytes(3)),
        peer.headers(1, [(b"x-sum", b"1")]),
    )
    assert kinds(events) == ["StreamRequest", "StreamData", "StreamData", "StreamEnded"]
    assert events[0].length == 5  # type: ignore[union-attr]
    assert events[1:3] == [StreamData(1, b"hel", 3), StreamData(1, b"lo", 6)]
    assert events[3] == StreamEnded(1, [(b"x-sum", b"1")])
    assert peer.codec.is_open(1)


def test_body_of_unknown_length_ends_with_the_stream() -> None:
    peer = Peer()
    events = peer.say(peer.headers(1, POST, end=False), data(1, b"a"), data(1, end=True))
    assert events[0].length is None  # type: ignore[union-attr]
    assert events[1:] == [StreamData(1, b"a", 1), StreamEnded(1, [])]


def test_cookies_are_joined() -> None:
    """H2-3 (RFC 9113 8.2.3)."""
    peer = Peer()
    fields = [*GET, (b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2"), (b"cookie", b"c=3")]
    event = request_of(peer.say(peer.headers(1, fields)))
    assert event.head.headers == [(b"host", b"a"), (b"cookie", b"a=1; b=2; c=3"), (b"x", b"y")]


@pytest.mark.parametrize(
    ("fields", "authority"),
    [
        ([*GET, (b"host", b"A")], b"a"),
        ([*without(GET, b":authority"), (b"x", b"y"), (b"host", b"b:8080")], b"b:8080"),
        (replaced(b":authority", b"[::1]:80"), b"[::1]:80"),
    ],
)
def test_authority(fields: Headers, authority: bytes) -> None:
    """H2-5: :authority or Host, one of them, or both if they are the same."""
    peer = Peer()
    event = request_of(peer.say(peer.headers(1, fields)))
    assert event.authority == authority
    assert [value for name, value in event.head.headers if name == b"host"] == [authority]
    assert event.head.headers[0][0] == b"host"


def test_asterisk_is_for_options() -> None:
    """RFC 9113 8.3.1."""
    peer = Peer()
    fields = replaced(b":path", b"*", replaced(b":method", b"OPTIONS"))
    assert request_of(peer.say(peer.headers(1, fields))).head.target == b"*"


def test_extended_connect() -> None:
    """H2-16 (RFC 8441 4): no length, whatever is said about one."""
    peer = Peer()
    fields = [*CONNECT, (b"content-length", b"3"), (b"sec-websocket-version", b"13")]
    event = request_of(peer.say(peer.headers(1, fields, end=False)))
    assert (event.protocol, event.head.method, event.head.target) == (b"websocket", b"CONNECT", b"/chat?x")
    assert event.length is None
    assert event.head.headers == [(b"host", b"a:1"), (b"sec-websocket-version", b"13")]


PLAIN_CONNECT: Headers = [(b":method", b"CONNECT"), (b":authority", b"a.example:443")]


@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize("more", [[], [(b"content-length", b"0")], [(b"host", b"a.example:443")]])
def test_connect(more: Headers, end: bool) -> None:
    """H2-15 (RFC 9113 8.5): the target is the authority, DATA is the tunnel's."""
    peer = Peer(Http2Server(takes_connect=True))
    event = request_of(peer.say(peer.headers(1, PLAIN_CONNECT + more, end=end)))
    assert (event.tunnel, event.protocol, event.authority) == (True, b"", b"a.example:443")
    assert (event.head.method, event.head.target) == (b"CONNECT", b"a.example:443")
    assert event.length == (0 if end else None)
    if not end:
        assert kinds(peer.say(data(1, b"x"))) == ["StreamData"]


@pytest.mark.parametrize("fields", [CONNECT, PLAIN_CONNECT])
def test_nothing_but_data_in_a_tunnel(fields: Headers) -> None:
    """RFC 9113 8.5: a stream error."""
    peer = Peer(Http2Server(takes_connect=True))
    assert request_of(peer.say(peer.headers(1, fields, end=False))).tunnel
    assert kinds(peer.say(data(1, b"x"))) == ["StreamData"]
    assert kinds(peer.say(peer.headers(1, [(b"x", b"y")]))) == ["StreamBroken"]
    assert resets(peer.heard()) == [(1, ErrorCode.PROTOCOL_ERROR)]


@pytest.mark.parametrize(
    "fields",
    [
        *(
            replaced(b":authority", value, PLAIN_CONNECT)
            for value in (b"a", b"a:", b"a:0", b"a:65536", b"[::1]")
        ),
        [*PLAIN_CONNECT, (b"content-length", b"1")],
    ],
)
def test_connect_that_cannot_be(fields: Headers) -> None:
    """RFC 9110 9.3.6: it can be answered, with 400; without *takes_connect* it is 501 all the same."""
    for takes_connect, status in ((True, 400), (False, 501)):
        peer = Peer(Http2Server(takes_connect=takes_connect))
        (event,) = peer.say(peer.headers(1, fields, end=False))
        assert isinstance(event, StreamRefused)
        assert event.status == status


MALFORMED: list[tuple[str, str, Headers]] = [
    ("H2-1", "upper-case name", [*GET, (b"X-A", b"b")]),
    ("H2-1", "space in a name", [*GET, (b"x a", b"b")]),
    ("H2-1", "control character in a name", [*GET, (b"x\x1f", b"b")]),
    ("H2-1", "DEL in a name", [*GET, (b"x\x7f", b"b")]),
    ("H2-1", "name beyond ASCII", [*GET, (b"x\xff", b"b")]),
    ("H2-1", "colon in a name", [*GET, (b"x:y", b"b")]),
    ("H2-1", "empty name", [*GET, (b"", b"b")]),
    ("H2-1", "name that is no token", [*GET, (b"x(y)", b"b")]),
    ("H2-1", "NUL in a value", [*GET, (b"x", b"a\0b")]),
    ("H2-1", "CR in a value", [*GET, (b"x", b"a\rb")]),
    ("H2-1", "LF in a value", [*GET, (b"x", b"a\nb: c")]),
    ("H2-1", "control character in a value", [*GET, (b"x", b"a\x01b")]),
    ("H2-1", "space before a value", [*GET, (b"x", b" a")]),
    ("H2-1", "tab behind a value", [*GET, (b"x", b"a\t")]),
    ("H2-1", "a value of one space", [*GET, (b"x", b" ")]),
    ("H2-2", "connection", [*GET, (b"connection", b"x")]),
    ("H2-2", "proxy-connection", [*GET, (b"proxy-connection", b"x")]),
    ("H2-2", "keep-alive", [*GET, (b"keep-alive", b"x")]),
    ("H2-2", "transfer-encoding", [*GET, (b"transfer-encoding", b"chunked")]),
    ("H2-2", "upgrade", [*GET, (b"upgrade", b"h2c")]),
    ("H2-2", "te", [*GET, (b"te", b"trailers, deflate")]),
    ("H2-4", "no method", without(GET, b":method")),
    ("H2-4", "empty method", replaced(b":method", b"")),
    ("H2-4", "no scheme", without(GET, b":scheme")),
    ("H2-4", "no path", without(GET, b":path")),
    ("H2-4", "empty path", replaced(b":path", b"")),
    ("H2-4", "path twice", [*GET, (b":path", b"/")]),
    ("H2-4", "unknown pseudo-header field", [*GET, (b":x", b"y")]),
    ("H2-4", "field of responses", [*GET, (b":status", b"200")]),
    ("H2-4", "interim response", [(b":status", b"100")]),
    ("H2-4", "pseudo-header field behind a field", [*GET[:3], (b"x", b"y"), GET[3]]),
    ("H2-4", "pseudo-header field behind host", [*GET[:3], (b"host", b"a"), GET[3]]),
    ("H2-5", "another Host", [*GET, (b"host", b"b")]),
    ("H2-5", "two Hosts", [*GET, (b"host", b"a"), (b"host", b"a")]),
    ("H2-5", "user information", replaced(b":authority", b"me@a")),
    ("H2-5", "authority with a slash", replaced(b":authority", b"a/b")),
    ("H2-6", "content-length without a body", [*GET, (b"content-length", b"1")]),
    ("H2-6", "content-length that is no number", [*GET, (b"content-length", b"+0")]),
    ("H2-6", "content-length twice", [*GET, (b"content-length", b"0"), (b"content-length", b"0")]),
    ("H2-6", "content-length without end", [*GET, (b"content-length", b"0" * 21 + b"x")]),
    ("H2-14", "space in the method", replaced(b":method", b"GET /x HTTP/1.1")),
    ("H2-14", "line break in the path", replaced(b":path", b"/ HTTP/1.1\r\nx: y")),
    ("H2-14", "space in the path", replaced(b":path", b"/a b")),
    ("H2-14", "fragment in the path", replaced(b":path", b"/a#b")),
    ("H2-14", "path beyond ASCII", replaced(b":path", b"/\xff")),
    ("H2-14", "path that is a URL", replaced(b":path", b"http://a/")),
    ("H2-14", "asterisk for GET", replaced(b":path", b"*")),
    ("H2-14", "scheme with a slash", replaced(b":scheme", b"http://evil/")),
    ("H2-14", "line break in the authority", replaced(b":authority", b"a\r\nx: y")),
    ("H2-15", "CONNECT with a path", replaced(b":method", b"CONNECT")),
    ("H2-15", "CONNECT without authority", [(b":method", b"CONNECT")]),
    ("H2-16", ":protocol for GET", [*GET, (b":protocol", b"websocket")]),
    ("H2-16", ":protocol without a path", without(CONNECT, b":path")),
    ("H2-16", ":protocol without a scheme", without(CONNECT, b":scheme")),
    ("H2-16", "empty :protocol", replaced(b":protocol", b"", CONNECT)),
]


@pytest.mark.parametrize(
    ("rule", "what", "fields"), MALFORMED, ids=[f"{rule} {what}" for rule, what, _ in MALFORMED]
)
def test_malformed_request_costs_its_stream(rule: str, what: str, fields: Headers) -> None:
    """RFC 9113 8.1.1: a stream error of type PROTOCOL_ERROR; the next request is answered."""
    peer = Peer()
    assert kinds(peer.say(peer.headers(1, fields))) == ["StreamMalformed"]
    assert resets(peer.heard()) == [(1, ErrorCode.PROTOCOL_ERROR)]
    assert not peer.codec.is_open(1)
    assert request_of(peer.say(peer.headers(3))).stream_id == 3


@pytest.mark.parametrize(
    ("length", "pieces", "trailers"),
    [
        (3, [b"four"], False),
        (3, [b"th", b"ree!"], False),
        (3, [b"tw"], False),
        (3, [b"tw"], True),
        (0, [b"x"], False),
    ],
)
def test_body_of_another_length_costs_its_stream(length: int, pieces: list[bytes], trailers: bool) -> None:
    """H2-6: content-length is the sum of DATA."""
    peer = Peer()
    peer.say(peer.headers(1, [*POST, (b"content-length", b"%d" % length)], end=False))
    events = peer.say(*[data(1, piece) for piece in pieces[:-1]])
    events += peer.say(data(1, pieces[-1], end=not trailers))
    if trailers:
        events += peer.say(peer.headers(1, [(b"x", b"y")]))
    broken = events[-1]
    assert isinstance(broken, StreamBroken)
    assert broken.code == ErrorCode.PROTOCOL_ERROR
    assert (1, ErrorCode.PROTOCOL_ERROR) in resets(peer.heard())
    assert request_of(peer.say(peer.headers(3))).stream_id == 3


@pytest.mark.parametrize("fields", [[(b"x", b"y")] * 101, [(b"x", b"y" * 6000)] * 2])
def test_trailers_have_the_limits_of_heads(fields: Headers) -> None:
    """As over HTTP/1.1; there is no answer any more that could be 431."""
    peer = Peer(Http2Server(headers=10_000))
    peer.say(peer.headers(1, POST, end=False))
    peer.heard()
    assert kinds(peer.say(peer.headers(1, fields))) == ["StreamBroken"]
    assert resets(peer.heard()) == [(1, ErrorCode.ENHANCE_YOUR_CALM)]
    peer.say(peer.headers(3, POST, end=False))
    assert kinds(peer.say(peer.headers(3, fields[:1]))) == ["StreamEnded"]


@pytest.mark.parametrize("field", [(b":path", b"/"), (b"X", b"y"), (b"connection", b"x")])
def test_malformed_trailers_cost_their_stream(field: tuple[bytes, bytes]) -> None:
    """H2-4: no pseudo-header fields in trailers."""
    peer = Peer()
    events = peer.say(peer.headers(1, POST, end=False), peer.headers(1, [field]))
    assert kinds(events) == ["StreamRequest", "StreamBroken"]
    assert resets(peer.heard()) == [(1, ErrorCode.PROTOCOL_ERROR)]


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (431, [*GET, (b"x", b"y" * 1000)]),
        (431, [*GET, *[(b"x%d" % number, b"y") for number in range(7)]]),
        (414, replaced(b":path", b"/" + b"p" * 300)),
        (501, replaced(b":method", b"M" * 201)),
        (413, [*GET, (b"content-length", b"9223372036854775808")]),
        (413, [*GET, (b"content-length", b"0" * 21)]),
        (417, [*GET, (b"expect", b"x, 100-continue")]),
        (417, [*GET, (b"expect", b"100-continue"), (b"expect", b"")]),
        (501, [(b":method", b"CONNECT"), (b":authority", b"a:443")]),
        (400, without(GET, b":authority")),
    ],
)
@pytest.mark.parametrize("end", [True, False])
def test_refused_request_can_be_answered(status: int, fields: Headers, end: bool) -> None:
    """H2-12, H2-15: with a status, and the state of compression is kept."""
    peer = Peer(Http2Server(headers=900, header_count=6, request_line=200))
    (event,) = peer.say(peer.headers(1, fields, end=end))
    assert isinstance(event, StreamRefused)
    method = dict(fields)[b":method"]
    assert (event.stream_id, event.status, event.head.method) == (1, status, method)
    peer.codec.send_head(1, [(b":status", b"%d" % status)], end=True)
    assert peer.response() == ([[(b":status", b"%d" % status)]], b"", True)
    assert request_of(peer.say(peer.headers(3, [*GET, (b"x1", b"y")]))).head.headers[1] == (b"x1", b"y")


def test_section_far_too_large_ends_the_connection() -> None:
    """H2-12: a bomb of references is not unpacked."""
    peer = Peer(Http2Server(headers=1000))
    peer.say(peer.headers(1, [*GET, (b"x", b"y" * 900)]))
    with pytest.raises(Http2Error) as caught:
        peer.say(peer.headers(3, [*GET, *[(b"x", b"y" * 900)] * 5]))
    assert caught.value.code == ErrorCode.ENHANCE_YOUR_CALM


def test_one_stream_too_many_is_refused_alone() -> None:
    """RFC 9113 5.1.2, H2-9: REFUSED_STREAM, because nothing was done for it."""
    peer = Peer(Http2Server(streams=2))
    peer.say(peer.headers(1), peer.headers(3))
    assert peer.say(peer.headers(5)) == []
    assert resets(peer.heard()) == [(5, ErrorCode.REFUSED_STREAM)]
    assert peer.codec.last_stream == 3
    peer.codec.send_head(1, [(b":status", b"200")], end=True)
    assert kinds(peer.say(peer.headers(7))) == ["StreamRequest"]


def test_body_of_a_refused_stream_costs_no_window() -> None:
    """H2-11: what nobody reads is acknowledged for the connection."""
    peer = Peer(Http2Server(streams=1, connection_window=65_535))
    peer.say(peer.headers(1), peer.headers(3, POST, end=False))
    peer.heard()
    assert peer.say(*[data(3, bytes(16_000))] * 3) == []
    updates = [each for each in peer.heard() if isinstance(each, WindowUpdateFrame)]
    assert {each.stream_id for each in updates} == {0}


def test_late_frames_of_a_stream_that_was_reset_are_ignored() -> None:
    """RFC 9113 5.1: the client may not know yet; when it has reset the stream too, it knows."""
    peer = Peer()
    peer.say(peer.headers(1, POST, end=False))
    peer.codec.reset(1, ErrorCode.NO_ERROR)
    peer.codec.reset(1, ErrorCode.NO_ERROR)
    assert resets(peer.heard()) == [(1, ErrorCode.NO_ERROR)]
    assert peer.say(data(1, b"late"), window(1, 5), reset(1)) == []
    assert resets(peer.heard()) == []
    assert peer.say(data(1, b"more")) == []
    assert resets(peer.heard()) == [(1, ErrorCode.STREAM_CLOSED)]


@pytest.mark.parametrize("late", ["DATA", "HEADERS"])
def test_what_comes_after_the_end_costs_its_stream(late: str) -> None:
    """RFC 9113 5.1: half-closed (remote)."""
    peer = Peer()
    events = peer.say(peer.headers(1), data(1, b"x") if late == "DATA" else peer.headers(1, [(b"x", b"y")]))
    reason = f"{late} behind the end of the request"
    assert events[1:] == [StreamBroken(1, ErrorCode.STREAM_CLOSED, reason, fault=True)]
    assert resets(peer.heard()) == [(1, ErrorCode.STREAM_CLOSED)]


def test_second_head_that_does_not_end_costs_its_stream() -> None:
    """RFC 9113 8.1: trailers have END_STREAM."""
    peer = Peer()
    events = peer.say(peer.headers(1, POST, end=False), peer.headers(1, [(b"x", b"y")], end=False))
    assert events[1:] == [StreamBroken(1, ErrorCode.PROTOCOL_ERROR, "HEADERS amid the body", fault=True)]


def test_body_of_a_closed_stream_is_refused_once() -> None:
    """RFC 9113 5.1: STREAM_CLOSED; the window of the connection stays what it was."""
    peer = Peer(Http2Server(connection_window=65_535))
    peer.say(peer.headers(1, POST, end=False), reset(1))
    peer.heard()
    for _ in range(5):
        assert peer.say(data(1, bytes(16_384))) == []
    frames = peer.heard()
    assert resets(frames) == [(1, ErrorCode.STREAM_CLOSED)]
    assert {each.stream_id for each in frames if isinstance(each, WindowUpdateFrame)} == {0}


def test_resets_of_ours_are_remembered_for_a_while() -> None:
    """RFC 9113 5.1: of so many streams nothing is on its way any more."""
    peer = Peer(Http2Server(streams=1))
    peer.say(peer.headers(1))
    for number in range(3, 2 * 1026 + 3, 2):
        peer.codec.renew(1.0)
        peer.say(peer.headers(number, POST, end=False))
    assert len(resets(peer.heard())) == 1026
    assert peer.say(peer.headers(2 * 1026 + 1, [(b"x", b"y")])) == []
    with pytest.raises(Http2Error):
        peer.say(peer.headers(3, [(b"x", b"y")]))


def test_priorities_have_no_effect() -> None:
    """RFC 9113 5.3.2, 6.3; and frames of unknown kinds are ignored (5.5)."""
    peer = Peer()
    block = peer.encoder.encode(GET)
    priority = b"\x80\0\0\x03\xff"
    assert peer.say(frame(PRIORITY, 0, 1, priority), frame(0xFA, 0xFF, 1, b"x")) == []
    head = frame(
        HEADERS, END_HEADERS | END_STREAM | PADDED | HAS_PRIORITY, 1, b"\x01" + priority + block + b"\0"
    )
    assert request_of(peer.say(head)).stream_id == 1


@pytest.mark.parametrize("rest", ["data", "trailers", "reset"])
def test_what_comes_together_with_a_fault_is_ignored(rest: str) -> None:
    """It is on its way before the reset arrives."""
    peer = Peer()
    peer.say(peer.headers(1, [*POST, (b"content-length", b"1")], end=False))
    more = {"data": data(1, b"3"), "trailers": peer.headers(1, [(b"x", b"y")]), "reset": reset(1)}
    assert kinds(peer.say(data(1, b"22") + more[rest])) == ["StreamBroken"]


# What ends a connection

BEGUN = frame(HEADERS, 0, 1, b"\x82")
"""A field section that has not ended."""

WRONG: list[tuple[str, ErrorCode, bytes]] = [
    ("broken compression", ErrorCode.COMPRESSION_ERROR, frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff")),
    ("index zero", ErrorCode.COMPRESSION_ERROR, frame(HEADERS, END_HEADERS, 1, b"\x80")),
    ("frame too long", ErrorCode.FRAME_SIZE_ERROR, b"\xff\xff\xff" + frame(DATA, 0, 1)[3:]),
    ("DATA on an idle stream", ErrorCode.PROTOCOL_ERROR, data(1, b"x")),
    ("RST_STREAM on an idle stream", ErrorCode.PROTOCOL_ERROR, reset(1)),
    ("WINDOW_UPDATE on an idle stream", ErrorCode.PROTOCOL_ERROR, window(1, 1)),
    ("CONTINUATION on its own", ErrorCode.PROTOCOL_ERROR, frame(CONTINUATION, END_HEADERS, 1)),
    ("even stream", ErrorCode.PROTOCOL_ERROR, frame(HEADERS, END_HEADERS, 2, b"\x82")),
    ("stream zero", ErrorCode.PROTOCOL_ERROR, frame(HEADERS, END_HEADERS, 0, b"\x82")),
    ("PING in a section", ErrorCode.PROTOCOL_ERROR, BEGUN + frame(PING, 0, 0, bytes(8))),
    ("HEADERS in a section", ErrorCode.PROTOCOL_ERROR, BEGUN * 2),
    ("CONTINUATION of another stream", ErrorCode.PROTOCOL_ERROR, BEGUN + frame(CONTINUATION, 0, 3)),
    ("PUSH_PROMISE", ErrorCode.PROTOCOL_ERROR, frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4) + b"\x82")),
    ("PING of seven bytes", ErrorCode.FRAME_SIZE_ERROR, frame(PING, 0, 0, bytes(7))),
    ("PING on a stream", ErrorCode.PROTOCOL_ERROR, frame(PING, 0, 1, bytes(8))),
    ("SETTINGS of seven bytes", ErrorCode.FRAME_SIZE_ERROR, frame(SETTINGS, 0, 0, bytes(7))),
    ("SETTINGS on a stream", ErrorCode.PROTOCOL_ERROR, frame(SETTINGS, 0, 1)),
    ("acknowledgement with a payload", ErrorCode.FRAME_SIZE_ERROR, frame(SETTINGS, ACK, 0, bytes(6))),
    ("ENABLE_PUSH of two", ErrorCode.PROTOCOL_ERROR, settings((2, 2))),
    ("ENABLE_PUSH of two, then of none", ErrorCode.PROTOCOL_ERROR, settings((2, 2), (2, 0))),
    ("initial window too large", ErrorCode.FLOW_CONTROL_ERROR, settings((4, 2**31))),
    ("frame size too small", ErrorCode.PROTOCOL_ERROR, settings((5, 100))),
    ("WINDOW_UPDATE of nothing", ErrorCode.PROTOCOL_ERROR, window(0, 0)),
    ("window too large", ErrorCode.FLOW_CONTROL_ERROR, window(0, 2**31 - 1)),
    ("GOAWAY on a stream", ErrorCode.PROTOCOL_ERROR, frame(GOAWAY, 0, 1, bytes(8))),
    ("GOAWAY of four bytes", ErrorCode.FRAME_SIZE_ERROR, frame(GOAWAY, 0, 0, bytes(4))),
    ("PRIORITY of four bytes", ErrorCode.FRAME_SIZE_ERROR, frame(PRIORITY, 0, 1, bytes(4))),
    ("priority of four bytes", ErrorCode.FRAME_SIZE_ERROR, frame(HEADERS, HAS_PRIORITY | 4, 1, bytes(4))),
    ("PRIORITY on itself", ErrorCode.PROTOCOL_ERROR, frame(PRIORITY, 0, 1, b"\0\0\0\x01\0")),
    ("padding without its length", ErrorCode.PROTOCOL_ERROR, frame(HEADERS, END_HEADERS | PADDED, 1)),
    ("RST_STREAM of three bytes", ErrorCode.FRAME_SIZE_ERROR, frame(RST_STREAM, 0, 1, bytes(3))),
    ("padding too long", ErrorCode.PROTOCOL_ERROR, frame(HEADERS, END_HEADERS | PADDED, 1, b"\x05\x82")),
]  # fmt: skip


@pytest.mark.parametrize(("what", "code", "wrong"), WRONG, ids=[what for what, _, _ in WRONG])
def test_what_ends_the_connection(what: str, code: ErrorCode, wrong: bytes) -> None:
    """RFC 9113 5.4.1: GOAWAY with the code of the rule, and nothing is heard any more."""
    peer = Peer()
    for _ in range(2):
        with pytest.raises(Http2Error) as caught:
            peer.say(wrong)
        assert caught.value.code == code
    assert goaways(peer.heard()) == [(0, code)]


def test_goaway_names_the_last_request_that_was_passed_on() -> None:
    """RFC 9113 6.8, H2-9: those above it may be sent again."""
    peer = Peer()
    peer.say(peer.headers(1), peer.headers(3))
    with pytest.raises(Http2Error):
        peer.say(peer.headers(5) + data(9, b"x"))
    # Stream 5 came in one piece with what is wrong, and was not passed on.
    assert goaways(peer.heard()) == [(3, ErrorCode.PROTOCOL_ERROR)]
    assert not peer.codec.is_open(1)


def test_failed_connection_says_nothing_more() -> None:
    """Whoever has not noticed yet may go on calling."""
    peer = Peer()
    peer.say(peer.headers(1, POST, end=False))
    with pytest.raises(Http2Error):
        peer.say(data(9, b"x"))
    peer.heard()
    codec = peer.codec
    codec.ping()
    codec.acknowledge(1, 60_000)
    codec.reset(1, ErrorCode.CANCEL)
    codec.go_away(ErrorCode.NO_ERROR, 1)
    assert (codec.room(1), codec.data_to_send()) == (0, b"")


def test_body_beyond_the_window_ends_the_connection() -> None:
    """RFC 9113 5.2: a window is a promise."""
    peer = Peer(Http2Server(stream_window=65_535, connection_window=65_535))
    peer.say(peer.headers(1, POST, end=False))
    with pytest.raises(Http2Error) as caught:
        peer.say(*[data(1, bytes(16_384))] * 5)
    assert caught.value.code == ErrorCode.FLOW_CONTROL_ERROR


# Floods (H2-13)


def flood(peer: Peer, piece: bytes, times: int) -> ErrorCode | None:
    try:
        for _ in range(times):
            peer.say(piece)
            peer.heard()
    except Http2Error as error:
        return error.code
    return None


FLOODS = {
    "PING (CVE-2019-9512)": frame(PING, 0, 0, bytes(8)),
    "SETTINGS (CVE-2019-9515)": settings(),
    "empty DATA (CVE-2019-9518)": data(1),
    "PRIORITY (CVE-2019-9513)": frame(PRIORITY, 0, 1, bytes(5)),
    "WINDOW_UPDATE (CVE-2019-9511)": window(1, 1),
    "unknown frames": frame(0xFA, 0, 1),
    "GOAWAY": frame(GOAWAY, 0, 0, bytes(8)),
}


@pytest.mark.parametrize("piece", FLOODS.values(), ids=FLOODS)
def test_flood_ends_the_connection(piece: bytes) -> None:
    """H2-13 (RFC 9113 10.5): ENHANCE_YOUR_CALM; the same number over a long time is fine."""
    for seconds, outcome in ((0.0, ErrorCode.ENHANCE_YOUR_CALM), (1.0, None)):
        peer = Peer()
        peer.say(peer.headers(1, POST, end=False))
        ends = []
        for _ in range(21):
            ends.append(flood(peer, piece, 100))
            if ends[-1] is not None:
                break
            peer.codec.renew(seconds)
        assert ends[-1] == outcome


def test_data_behind_a_reset_calls_for_no_answers() -> None:
    """H2-13: a client that takes nothing could have any number of them queued."""
    peer = Peer()
    peer.say(peer.headers(1, [*POST, (b"X", b"y")], end=False))
    queued = peer.codec.queued
    peer.say(data(1, b"x") * 10_000)
    assert peer.codec.queued == queued


def test_rapid_reset_ends_the_connection() -> None:
    """H2-13 (CVE-2023-44487)."""
    for seconds, outcome in ((0.0, ErrorCode.ENHANCE_YOUR_CALM), (4.0, None)):
        peer = Peer()
        end = None
        for number in range(1, 2 * 1010, 2):
            end = flood(peer, peer.headers(number) + reset(number), 1)
            if end is not None:
                break
            peer.codec.renew(seconds / 100)
        assert end == outcome


def test_asking_for_resets_ends_the_connection() -> None:
    """CVE-2025-8671: malformed requests cost as resets do."""
    peer = Peer()
    ends = [flood(peer, peer.headers(number, [*GET, (b"X", b"y")]), 1) for number in range(1, 2 * 1001, 2)]
    assert ends[-1] == ErrorCode.ENHANCE_YOUR_CALM
    assert set(ends[:-1]) == {None}


def test_answers_that_are_not_read_are_bounded() -> None:
    """CVE-2019-9512: frames without use are earned by heads (on a stream that was reset, so they cost
    nothing); the client takes none of the answers."""
    peer = Peer()
    peer.say(peer.headers(1, [*GET, (b"X", b"y")]))
    piece = peer.headers(1) + frame(PING, 0, 0, bytes(8)) * 4
    for _ in range(MOST_QUEUED // (17 * 4) - 1):
        assert peer.say(piece) == []
    with pytest.raises(Http2Error) as caught:
        peer.say(piece, piece)
    assert caught.value.code == ErrorCode.ENHANCE_YOUR_CALM
    assert MOST_QUEUED < peer.codec.queued < MOST_QUEUED + 1000
    assert goaways(peer.heard()[-1:]) == [(0, ErrorCode.ENHANCE_YOUR_CALM)]
    # A client that reads may go on for ever.
    peer = Peer()
    peer.say(peer.headers(1, [*GET, (b"X", b"y")]))
    assert flood(peer, peer.headers(1) + piece[-17 * 4 :], MOST_QUEUED // (17 * 4) + 10) is None


def test_small_sections_of_large_fields_are_not_kept() -> None:
    """RFC 7541 7.3: one byte names a field of 3900 bytes, and cookies are joined."""
    peer = Peer()
    cookie = (b"cookie", b"c" * 3900)
    peer.say(peer.headers(1, [*GET, cookie]))
    tracemalloc.start()
    try:
        for number in range(240):
            # Fields of the static table, in another order each time.
            fields = [
                (b"accept-encoding", b"gzip, deflate") if number >> bit & 1 else (b"age", b"")
                for bit in range(8)
            ]
            block = peer.encoder.encode([*GET, *fields, *[cookie] * 15])
            peer.say(frame(HEADERS, END_HEADERS | END_STREAM, 3 + 2 * number, block))
            peer.codec.reset(3 + 2 * number, ErrorCode.NO_ERROR)
            peer.heard()
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()


def test_field_section_without_end_is_bounded() -> None:
    """CVE-2024-27316: bytes are counted while they come."""
    peer = Peer(Http2Server(headers=8000))
    first = frame(HEADERS, 0, 1, bytes(16_000))
    assert peer.say(first) == []
    assert peer.codec.open_section
    end = flood(peer, frame(CONTINUATION, 0, 1, bytes(16_000)), 10)
    assert end == ErrorCode.ENHANCE_YOUR_CALM


def test_field_section_in_many_frames() -> None:
    """RFC 9113 4.3: one section, in HEADERS and CONTINUATION."""
    peer = Peer()
    block = peer.encoder.encode(GET)
    pieces = [frame(HEADERS, END_STREAM, 1, block[:1])]
    pieces += [frame(CONTINUATION, 0, 1, bytes((byte,))) for byte in block[1:-1]]
    assert peer.say(*pieces) == []
    assert request_of(peer.say(frame(CONTINUATION, END_HEADERS, 1, block[-1:]))).stream_id == 1
    assert not peer.codec.open_section


def test_uploads_and_downloads_earn_control_frames() -> None:
    """A client that acknowledges much, because it gets much, is no flood."""
    peer = Peer(Http2Server(stream_window=2**20, connection_window=2**24))
    peer.say(peer.headers(1, POST, end=False))
    for _ in range(40):
        assert flood(peer, data(1, bytes(16_000)), 1) is None
        assert flood(peer, frame(PING, 0, 0, bytes(8)), 100) is None
        peer.codec.acknowledge(1, 16_000)
        peer.codec.renew(0.7)


# Answers


def test_response() -> None:
    peer = Peer()
    peer.say(peer.headers(1))
    codec = peer.codec
    codec.send_informational(1, 103, [(b"link", b"</a>")])
    codec.send_head(1, [(b":status", b"200"), (b"x", b"y")], end=False)
    codec.send_data(1, b"he", end=False)
    codec.send_data(1, memoryview(b"llo"), end=False)
    codec.send_trailers(1, [(b"x-sum", b"2")])
    sections, body, ended = peer.response()
    assert sections == [
        [(b":status", b"103"), (b"link", b"</a>")],
        [(b":status", b"200"), (b"x", b"y")],
        [(b"x-sum", b"2")],
    ]
    assert (body, ended) == (b"hello", True)
    assert not codec.is_open(1)
    assert codec.queued == 0


def test_large_head_is_in_many_frames() -> None:
    """RFC 9113 4.3, 6.10: nothing but CONTINUATION in between, END_STREAM with the first."""
    peer = Peer()
    peer.say(peer.headers(1))
    head = [(b":status", b"200"), *[(b"x%d" % number, b"\xff" * 1000) for number in range(20)]]
    peer.codec.send_head(1, head, end=True)
    frames = peer.heard()
    assert [type(each).__name__ for each in frames] == ["HeadersFrame"] + ["ContinuationFrame"] * (
        len(frames) - 1
    )
    assert len(frames) > 1
    assert max(each.body_len for each in frames) == 16_384
    assert ["END_STREAM" in each.flags for each in frames] == [True] + [False] * (len(frames) - 1)
    assert ["END_HEADERS" in each.flags for each in frames] == [False] * (len(frames) - 1) + [True]
    block = b"".join(each.data for each in frames if isinstance(each, HeadersFrame | ContinuationFrame))
    assert peer.decoder.decode(block, raw=True) == head


def test_response_may_end_before_its_request() -> None:
    """H2-8: the stream is open until the client has ended its side."""
    peer = Peer()
    peer.say(peer.headers(1, POST, end=False))
    peer.codec.send_head(1, [(b":status", b"200")], end=True)
    assert peer.codec.is_open(1)
    assert peer.say(data(1, end=True)) == [StreamEnded(1, [])]
    assert not peer.codec.is_open(1)


def test_informational_response_is_no_switch() -> None:
    """H2-7: there is no 101."""
    peer = Peer()
    peer.say(peer.headers(1))
    for status in (101, 200):
        with pytest.raises(LocalProtocolError):
            peer.codec.send_informational(1, status, [])


def test_nothing_is_sent_on_a_stream_that_is_not_open() -> None:
    peer = Peer()
    peer.say(peer.headers(1))
    peer.codec.send_head(1, [(b":status", b"200")], end=True)
    for stream_id in (1, 3):
        assert peer.codec.room(stream_id) == 0
        with pytest.raises(LocalProtocolError):
            peer.codec.send_data(stream_id, b"x", end=True)


def test_body_before_the_head_is_a_local_error() -> None:
    """And so is more than there is room for."""
    peer = Peer()
    peer.say(peer.headers(1), settings((4, 10)))
    peer.codec.send_head(1, [(b":status", b"200")], end=False)
    with pytest.raises(LocalProtocolError):
        peer.codec.send_data(1, b"x" * 11, end=False)


def test_room_is_what_windows_allow() -> None:
    """RFC 9113 6.9: the stream's, the connection's, and a frame at a time."""
    peer = Peer()
    codec = peer.codec
    peer.say(settings((4, 100_000)), peer.headers(1), peer.headers(3))
    for stream_id in (1, 3):
        codec.send_head(stream_id, [(b":status", b"200")], end=False)
    assert codec.room(1) == 16_384
    for _ in range(3):
        codec.send_data(1, bytes(16_384), end=False)
    assert codec.connection_window == codec.room(3) == 65_535 - 3 * 16_384
    codec.send_data(3, bytes(codec.room(3)), end=False)
    assert codec.room(1) == codec.room(3) == 0
    assert peer.say(window(0, 7)) == [WindowOpened(0)]
    assert codec.room(1) == 7
    assert peer.say(settings((4, 10))) == [WindowOpened(0)]
    assert codec.room(1) == 0  # RFC 9113 6.9.2: below zero
    assert peer.say(frame(SETTINGS, ACK, 0)) == []
    assert peer.say(window(1, 100_000)) == [WindowOpened(1)]
    assert codec.room(1) == 7


def test_window_of_a_stream_beyond_all_bounds_costs_the_stream() -> None:
    """RFC 9113 6.9.1."""
    peer = Peer()
    peer.say(peer.headers(1))
    assert kinds(peer.say(window(1, 2**31 - 1))) == ["StreamBroken"]
    assert resets(peer.heard()) == [(1, ErrorCode.FLOW_CONTROL_ERROR)]


def test_settings_that_make_a_window_too_large_end_the_connection() -> None:
    """RFC 9113 6.9.2."""
    peer = Peer()
    peer.say(peer.headers(1), window(1, 2**31 - 1 - 65_535))
    with pytest.raises(Http2Error) as caught:
        peer.say(settings((4, 65_536)))
    assert caught.value.code == ErrorCode.FLOW_CONTROL_ERROR


def test_settings_that_are_said_twice_count_in_their_order() -> None:
    """RFC 9113 6.5.3: as if they came one after the other."""
    peer = Peer()
    codec = peer.codec
    head = [(b":status", b"200"), (b"x", b"y" * 20)]
    peer.say(peer.headers(1))
    codec.send_head(1, head, end=False)
    (sent,) = peer.heard()
    assert isinstance(sent, HeadersFrame)
    assert peer.decoder.decode(sent.data, raw=True) == head
    # The client forgets its table, and windows are the last that was said.
    peer.say(settings((4, 10), (1, 0), (4, 70_000), (4, 7), (1, 4096)), peer.headers(3))
    peer.decoder.header_table_size = 0
    peer.decoder.header_table_size = 4096
    assert codec.room(1) == 7
    codec.send_head(3, head, end=False)
    assert codec.room(3) == 7
    _, sent = peer.heard()
    assert isinstance(sent, HeadersFrame)
    assert peer.decoder.decode(sent.data, raw=True) == head


def test_credit_is_given_for_what_was_consumed() -> None:
    """H2-11 (RFC 9113 5.2): not on receipt."""
    peer = Peer(Http2Server(stream_window=65_535, connection_window=65_535))
    peer.say(peer.headers(1, POST, end=False), *[data(1, bytes(16_000))] * 4)
    assert [each for each in peer.heard() if isinstance(each, WindowUpdateFrame)] == []
    assert peer.codec.room_in == 1_535
    peer.codec.acknowledge(1, 64_000)
    assert peer.codec.room_in == 65_535
    updates = {
        each.stream_id: each.window_increment for each in peer.heard() if isinstance(each, WindowUpdateFrame)
    }
    assert updates == {0: 64_000, 1: 64_000}
    peer.say(data(1, bytes(16_000)))
    peer.codec.acknowledge(1, 16_000)
    assert peer.heard() == []  # it is little: later, with more
    peer.say(data(1, bytes(16_384)), data(1, bytes(8_000), end=True))
    peer.codec.acknowledge(1, 24_384)
    assert [each.stream_id for each in peer.heard()] == [0]


PUSHED: Headers = [*GET[:2], (b":path", b"/style.css"), *GET[3:]]


def test_push() -> None:
    """RFC 9113 8.4, 6.6: h2 understands it; the promised stream is answered like any other."""
    client = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    server = Http2Server()
    client.initiate_connection()
    client.send_headers(1, GET, end_stream=True)
    server.receive_data(client.data_to_send())
    assert server.takes_pushes
    large = [*PUSHED, (b"x", bytes(b"0123456789" * 3000))]
    assert [server.push(1, PUSHED), server.push(1, large)] == [2, 4]
    server.send_head(1, [(b":status", b"200")], end=True)
    with pytest.raises(LocalProtocolError):
        server.push(1, PUSHED)  # its end is sent
    with pytest.raises(LocalProtocolError):
        server.push(2, PUSHED)  # RFC 9113 6.6: a stream of the client's
    server.send_head(2, [(b":status", b"200")], end=False)
    server.send_data(2, b"style", end=True)
    server.send_head(4, [(b":status", b"404")], end=True)
    assert not any(server.is_open(stream_id) for stream_id in (1, 2, 4))
    events = client.receive_data(server.data_to_send())
    promises: list[Any] = [event for event in events if isinstance(event, PushedStreamReceived)]
    assert [(each.parent_stream_id, each.pushed_stream_id) for each in promises] == [(1, 2), (1, 4)]
    assert [tuple(field) for field in promises[0].headers] == PUSHED
    assert [event.data for event in events if isinstance(event, DataReceived)] == [b"style"]


@pytest.mark.parametrize(
    ("pairs", "pushes"),
    [([], 3), ([(2, 0)], 0), ([(2, 1), (3, 2)], 2), ([(3, 0)], 0)],
    ids=["default", "disabled", "two at a time", "none at a time"],
)
def test_push_as_the_client_allows(pairs: list[tuple[int, int]], pushes: int) -> None:
    """RFC 9113 6.5.2: ENABLE_PUSH, MAX_CONCURRENT_STREAMS."""
    peer = Peer(settings_first=settings(*pairs))
    peer.say(peer.headers(1))
    assert peer.codec.takes_pushes is (pushes > 0)
    assert [bool(peer.codec.push(1, PUSHED)) for _ in range(3)] == [True] * pushes + [False] * (3 - pushes)
    # Room is made by the end of one; what was forbidden stays so.
    peer.say(reset(2)) if pushes else peer.say(settings((3, 5)))
    assert bool(peer.codec.push(1, PUSHED)) is (pushes > 0 or pairs == [(3, 0)])


def test_pushed_streams_do_not_count_as_those_of_the_client() -> None:
    peer = Peer(Http2Server(streams=1))
    peer.say(peer.headers(1))
    assert peer.codec.push(1, PUSHED) == 2
    peer.codec.send_head(1, [(b":status", b"200")], end=True)
    assert kinds(peer.say(peer.headers(3))) == ["StreamRequest"]
    peer.heard()
    assert peer.say(peer.headers(5)) == []
    assert resets(peer.heard()) == [(5, ErrorCode.REFUSED_STREAM)]


def test_client_refuses_what_is_pushed() -> None:
    """RFC 9113 8.4.2: however often; it may open its window before."""
    peer = Peer()
    peer.say(peer.headers(1))
    for _ in range(2000):
        promised = peer.codec.push(1, PUSHED)
        assert kinds(peer.say(window(promised, 5), reset(promised))) == ["WindowOpened", "StreamBroken"]
        peer.codec.renew(1.0)
        peer.heard()


def test_nothing_is_pushed_behind_goaway_of_the_client() -> None:
    """RFC 9113 6.8."""
    peer = Peer()
    peer.say(peer.headers(1), frame(GOAWAY, 0, 0, bytes(8)))
    assert peer.codec.push(1, PUSHED) == 0


@pytest.mark.parametrize("what", [window(4, 5), reset(4), data(4, b"x")], ids=["window", "reset", "data"])
def test_streams_that_were_not_promised_are_idle(what: bytes) -> None:
    """RFC 9113 5.1."""
    peer = Peer()
    peer.say(peer.headers(1), peer.headers(9))
    peer.codec.push(1, PUSHED)
    with pytest.raises(Http2Error, match="idle"):
        peer.say(what)


def test_client_says_nothing_on_what_is_pushed() -> None:
    """RFC 9113 5.1: reserved (local)."""
    peer = Peer()
    peer.say(peer.headers(1))
    peer.codec.push(1, PUSHED)
    peer.heard()
    assert kinds(peer.say(data(2, b"x"))) == ["StreamBroken"]
    assert resets(peer.heard()) == [(2, ErrorCode.STREAM_CLOSED)]


def test_field_sections_that_repeat_are_few_bytes() -> None:
    """RFC 7541 6.1, both ways: and a smaller table of the client's is respected."""
    peer = Peer()
    head = [(b":status", b"200"), (b"content-type", b"text/plain"), (b"x", b"y" * 20)]
    sizes = []
    for number in range(1, 9, 2):
        peer.say(peer.headers(number))
        peer.codec.send_head(number, head, end=True)
        (sent,) = peer.heard()
        assert isinstance(sent, HeadersFrame)
        sizes.append(len(sent.data))
        assert peer.decoder.decode(sent.data, raw=True) == head
    assert sizes[1:] == [3, 3, 3]
    peer.say(settings((1, 0)), peer.headers(9))
    peer.decoder.max_allowed_table_size = 0
    peer.codec.send_head(9, head, end=True)
    _, sent = peer.heard()
    assert isinstance(sent, HeadersFrame)
    assert peer.decoder.decode(sent.data, raw=True) == head
    assert len(sent.data) > 20


def test_a_large_table_of_the_client_is_not_used() -> None:
    """RFC 7541 4.2: the encoder may choose a smaller one; it is our memory."""
    peer = Peer()
    peer.say(settings((1, 2**32 - 1)))
    for number in range(1, 2 * 12, 2):
        peer.say(peer.headers(number))
        peer.codec.send_head(number, [(b":status", b"200"), (b"x%d" % number, b"y" * 1000)], end=True)
    peer.say(peer.headers(101))
    peer.codec.send_head(101, [(b":status", b"200"), (b"x1", b"y" * 1000)], end=True)
    assert len(peer.codec.data_to_send()) > 12 * 600  # huffman; the last one was forgotten


def test_long_heads_are_not_remembered() -> None:
    peer = Peer(Http2Server(header_count=200))
    head = [(b":status", b"200"), *[(b"x%d" % number, b"") for number in range(60)] * 3]
    for number in range(1, 7, 2):
        peer.say(peer.headers(number, [*GET, *head[1:]]))
        peer.codec.send_head(number, head, end=True)
    sections = [each for each in peer.heard() if isinstance(each, HeadersFrame)]
    assert [len(list(peer.decoder.decode(each.data, raw=True))) for each in sections] == [181, 181, 181]


# Resets, PING, GOAWAY


def test_client_resets_a_stream() -> None:
    peer = Peer()
    peer.say(peer.headers(1))
    assert peer.say(reset(1)) == [StreamBroken(1, ErrorCode.CANCEL, "the stream was reset by the client")]
    assert not peer.codec.is_open(1)


def test_pings() -> None:
    """RFC 9113 6.7: theirs are answered, ours are too."""
    peer = Peer()
    assert peer.say(frame(PING, 0, 0, b"12345678")) == []
    (answer,) = peer.heard()
    assert isinstance(answer, PingFrame)
    assert (answer.opaque_data, set(answer.flags)) == (b"12345678", {"ACK"})
    peer.codec.ping()
    (ping,) = peer.heard()
    assert isinstance(ping, PingFrame)
    assert peer.say(frame(PING, ACK, 0, ping.opaque_data)) == [PingAnswered()]


def test_going_away_in_two_steps() -> None:
    """H2-10: streams up to the last one are completed, later ones can be sent elsewhere."""
    peer = Peer()
    codec = peer.codec
    peer.say(peer.headers(1))
    codec.go_away(ErrorCode.NO_ERROR, 2**31 - 1)
    assert kinds(peer.say(peer.headers(3, POST, end=False))) == ["StreamRequest"]
    codec.go_away(ErrorCode.NO_ERROR, codec.last_stream, "bye")
    assert peer.say(peer.headers(5)) == []
    assert peer.say(data(3, b"x", end=True)) == [StreamData(3, b"x", 1), StreamEnded(3, [])]
    for stream_id in (1, 3):
        codec.send_head(stream_id, [(b":status", b"200")], end=True)
    frames = peer.heard()
    assert goaways(frames) == [(2**31 - 1, 0), (3, 0)]
    assert resets(frames) == [(5, ErrorCode.REFUSED_STREAM)]
    assert [each.additional_data for each in frames if isinstance(each, GoAwayFrame)] == [b"", b"bye"]


def test_client_that_goes_away_gets_its_answers() -> None:
    """RFC 9113 6.8: GOAWAY is no end, in whatever pieces it comes."""
    farewell = frame(GOAWAY, 0, 0, bytes(8) + b"see you")
    for cut in range(len(farewell)):
        peer = Peer()
        peer.say(peer.headers(1, POST, end=False))
        events = peer.say(data(1, b"a") + farewell[:cut], farewell[cut:] + data(1, b"b", end=True))
        assert [event for event in events if not isinstance(event, PeerGoesAway)] == [
            StreamData(1, b"a", 1),
            StreamData(1, b"b", 1),
            StreamEnded(1, []),
        ]
        assert kinds(events).count("PeerGoesAway") == 1
        peer.codec.send_head(1, [(b":status", b"200")], end=True)
        assert peer.response() == ([[(b":status", b"200")]], b"", True)


# With another implementation


def test_h2_as_the_client() -> None:
    """Byte by byte."""
    client = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    server = Http2Server()
    client.initiate_connection()
    client.send_headers(1, [*POST, (b"x", b"y")])
    client.send_data(1, b"body", end_stream=True)
    events = [event for byte in client.data_to_send() for event in server.receive_data(bytes((byte,)))]
    assert kinds(events) == ["WindowOpened", "StreamRequest", "StreamData", "StreamEnded"]
    server.send_head(1, [(b":status", b"200")], end=False)
    server.send_data(1, b"answer", end=True)
    heard = [event for byte in server.data_to_send() for event in client.receive_data(bytes((byte,)))]
    assert "ResponseReceived" in kinds(heard)
    assert kinds(heard)[-2:] == ["DataReceived", "StreamEnded"]
