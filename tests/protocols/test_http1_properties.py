"""HTTP/1.1 under any bytes, any splits, and with our two sides talking to each other."""

from itertools import pairwise
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.events import NEED_DATA, Data, EndOfMessage, RequestHead, ResponseHead
from gateway.protocols.http1 import Http1Server
from gateway.protocols.http1.client import Http1Client

LIMITS: dict[str, Any] = {"headers": 80, "header_count": 4}


def outcome(codec: Any, data: bytes, cuts: list[int]) -> list[Any]:
    """The events, body pieces joined, and the error that *data* and the end of input lead to."""
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[start:stop] for start, stop in pairwise(edges)]
    result: list[Any] = []
    try:
        for piece in [*pieces, b""]:
            codec.receive_data(piece)
            while (event := codec.next_event()) is not NEED_DATA:
                if isinstance(event, Data) and result and isinstance(result[-1], Data):
                    event = Data(result.pop().data + event.data)
                result.append(event)
    except RemoteProtocolError as error:
        result.append((type(error), error.status))
        again = None
        try:
            codec.next_event()
        except RemoteProtocolError as same:
            again = (type(same), same.status)
        assert again == result[-1]
    return result


REQUEST_PIECES = [
    b"GET / HTTP/1.1\r\n",
    b"POST http://a/ HTTP/1.1\r\n",
    b"PUT /x HTTP/1.0\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n",
    b"GET / HTTP/3.0\r\n",
    b"Host: a\r\n",
    b"Connection: keep-alive\r\n",
    b"Expect: 100-continue\r\n",
]
RESPONSE_PIECES = [
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 404\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 204 \r\n",
    b"HTTP/1.1 101 \r\n",
]
PIECES = [
    b"\r\n",
    b"\r",
    b"\n",
    b" ",
    b":",
    b"x",
    b"\0",
    b"A: b\r\n",
    b"A: b \r\n",
    b"A: b\n",
    b"B: " + b"c" * 75 + b"\r\n",
    b"Connection: close\r\n",
    b"Content-Length: 3\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"3\r\nabc\r\n",
    b"1;x\r\na\r\n",
    b"0\r\n\r\n",
    b"0\r\nA: b\r\n\r\n",
    b"abc",
]


def messages(pieces: list[bytes]) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(pieces) | st.binary(max_size=3), max_size=14).map(b"".join)


CUTS = st.lists(st.integers(1, 300), max_size=6)


@given(messages(REQUEST_PIECES + PIECES), CUTS)
@example(b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET", [60])
@example(b"GET / HTTP/1.1\r\nB: " + b"c" * 77 + b"\n", [])
@example(b"\r\n\r", [])
def test_any_bytes_to_a_server_mean_the_same_however_they_are_split(data: bytes, cuts: list[int]) -> None:
    whole = outcome(Http1Server(request_line=30, **LIMITS), data, [])
    assert outcome(Http1Server(request_line=30, **LIMITS), data, cuts) == whole
    assert outcome(Http1Server(request_line=30, **LIMITS), data, [*range(1, len(data))]) == whole


@given(
    messages(RESPONSE_PIECES + PIECES),
    CUTS,
    st.sampled_from([b"GET", b"HEAD", b"CONNECT"]),
    st.booleans(),
)
def test_any_bytes_to_a_client_mean_the_same_however_they_are_split(
    data: bytes, cuts: list[int], method: bytes, upgrade: bool
) -> None:
    head = RequestHead(method, b"/", [(b"host", b"a"), *([(b"upgrade", b"x")] if upgrade else [])])

    def client() -> Http1Client:
        codec = Http1Client(**LIMITS)
        codec.send(head)
        codec.send(EndOfMessage())
        return codec

    whole = outcome(client(), data, [])
    assert outcome(client(), data, cuts) == whole
    assert outcome(client(), data, [*range(1, len(data))]) == whole


TOKENS = st.text("abcXYZ-_.!1", min_size=1, max_size=8).map(str.encode)
VALUES = st.binary(max_size=12).map(
    lambda value: bytes(byte for byte in value if byte >= 0x20 and byte != 0x7F).strip(b" ")
)
# In front of the name, so that it never is one with a meaning for the framing.
FIELDS = st.lists(st.tuples(TOKENS.map(lambda name: b"x-" + name), VALUES), max_size=5)
BODIES = st.lists(st.binary(min_size=1, max_size=40), max_size=4)
TARGETS = st.text([chr(code) for code in range(0x21, 0x7F) if chr(code) != "#"], max_size=20).map(
    lambda rest: b"/" + rest.encode()
)


def lowered(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value) for name, value in fields]


@given(
    st.lists(
        st.tuples(
            TOKENS.filter(lambda method: method != b"HEAD"),
            TARGETS,
            FIELDS,
            BODIES,
            FIELDS,
            BODIES,
            st.booleans(),
        ),
        min_size=1,
        max_size=3,
    ),
    CUTS,
)
def test_client_and_server_understand_each_other(exchanges: list[Any], cuts: list[int]) -> None:
    """Several exchanges over one connection, sized and in chunks; trailers arrive with the chunks."""
    client, server = Http1Client(), Http1Server()

    def crossed(sender: Any, receiver: Any, events: list[Any]) -> list[Any]:
        data = b"".join(sender.send(event) for event in events)
        edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        received: list[Any] = []
        for start, stop in pairwise(edges):
            receiver.receive_data(data[start:stop])
            while (event := receiver.next_event()) is not NEED_DATA:
                received.append(event)
        return received

    for method, target, fields, request_body, trailers, response_body, chunked in exchanges:
        size = sum(map(len, request_body))
        framing = (b"transfer-encoding", b"chunked") if chunked else (b"content-length", b"%d" % size)
        request = [
            RequestHead(method, target, [(b"host", b"a.example"), *fields, framing]),
            *map(Data, request_body),
            EndOfMessage(trailers),
        ]
        head, *middle, end = crossed(client, server, request)
        assert head == RequestHead(method, target, lowered([(b"host", b"a.example"), *fields, framing]))
        assert b"".join(event.data for event in middle) == b"".join(request_body)
        assert end == EndOfMessage(lowered(trailers) if chunked else [])

        size = sum(map(len, response_body))
        framing = (b"transfer-encoding", b"chunked") if chunked else (b"content-length", b"%d" % size)
        response = [
            ResponseHead(200, fields if chunked else [*fields, framing], b"Fine"),
            *map(Data, response_body),
            EndOfMessage(trailers),
        ]
        head, *middle, end = crossed(server, client, response)
        assert head == ResponseHead(200, lowered([*fields, framing]), b"Fine")
        assert b"".join(event.data for event in middle) == b"".join(response_body)
        assert end == EndOfMessage(lowered(trailers) if chunked else [])
        assert client.reusable
        assert server.keep_alive
