"""The CGI response parser and encoder, on rows of bytes and events used both ways."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.cgi import CgiEvent, ResponseParser, State, encode_response
from gateway.protocols.errors import Incomplete, LimitExceeded, LocalProtocolError, RemoteProtocolError
from gateway.protocols.events import (
    NEED_DATA,
    Data,
    EndOfMessage,
    InformationalResponse,
    LocalRedirect,
    ResponseHead,
    Stderr,
)

END = EndOfMessage()


def add(events: list[CgiEvent], event: CgiEvent) -> None:
    """Adjacent Data become one: their split has no meaning."""
    last = events[-1] if events else None
    if isinstance(event, Data) and isinstance(last, Data):
        events[-1] = Data(last.data + event.data)
    else:
        events.append(event)


def parse(parser: ResponseParser, *chunks: bytes) -> list[CgiEvent]:
    """All events of an output that comes in *chunks* and ends."""
    events: list[CgiEvent] = []
    for chunk in (*chunks, b""):
        parser.receive_data(chunk)
        while (event := parser.next_event()) is not NEED_DATA:
            add(events, event)
    return events


def both_ways(output: bytes, *, nph: bool = False, http_status_line: bool = False) -> list[CgiEvent]:
    """The events of *output*, after checking that its split makes no difference."""
    whole = parse(ResponseParser(nph=nph, http_status_line=http_status_line), output)
    single = [output[i : i + 1] for i in range(len(output))]
    assert parse(ResponseParser(nph=nph, http_status_line=http_status_line), *single) == whole
    return whole


def head(status: int, *headers: tuple[bytes, bytes], reason: bytes = b"") -> ResponseHead:
    return ResponseHead(status, list(headers), reason)


HTML = (b"content-type", b"text/html")

# Written as encode_response writes them, so that the rows hold in both directions.
ROWS: dict[str, tuple[bytes, list[CgiEvent]]] = {
    "document": (
        b"Status: 200 OK\r\ncontent-type: text/html\r\n\r\n<p>",
        [head(200, HTML, reason=b"OK"), Data(b"<p>"), END],
    ),
    "no body": (b"Status: 204 \r\n\r\n", [head(204), END]),
    "status without reason": (
        b"Status: 404 \r\ncontent-type: text/html\r\n\r\nno",
        [head(404, HTML), Data(b"no"), END],
    ),
    "status of no one": (b"Status: 799 Odd\r\n\r\n", [head(799, reason=b"Odd"), END]),
    "repeated field": (
        b"Status: 200 OK\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n\r\n",
        [head(200, (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), reason=b"OK"), END],
    ),
    "odd characters": (
        b"Status: 200 OK\r\n!#$%&'*+-.^_`|~0aZ: \xff\x01,:\r\n\r\n".replace(b"Z", b"z"),
        [head(200, (b"!#$%&'*+-.^_`|~0az", b"\xff\x01,:"), reason=b"OK"), END],
    ),
    "redirect with document": (
        b"Status: 301 Moved\r\nlocation: http://h/x\r\ncontent-type: text/html\r\n\r\n<p>",
        [head(301, (b"location", b"http://h/x"), HTML, reason=b"Moved"), Data(b"<p>"), END],
    ),
    "local redirect": (b"Location: /x/y?q=1\r\n\r\n", [LocalRedirect(b"/x/y?q=1"), END]),
    "upgrade": (b"Status: 101 Up\r\n\r\nraw", [head(101, reason=b"Up"), Data(b"raw"), END]),
}


@pytest.mark.parametrize("name", ROWS)
def test_row_parsed(name: str) -> None:
    output, events = ROWS[name]
    assert both_ways(output) == events


@pytest.mark.parametrize("name", ROWS)
def test_row_encoded(name: str) -> None:
    output, events = ROWS[name]
    assert b"".join(encode_response(event) for event in events) == output


@pytest.mark.parametrize(
    ("output", "events"),
    [
        (b"Content-Type: text/html\n\nx", [head(200, HTML, reason=b"OK"), Data(b"x"), END]),
        (b"Content-Type: text/html\r\n\nx", [head(200, HTML, reason=b"OK"), Data(b"x"), END]),
        (b"Content-Type: text/html\n\r\nx", [head(200, HTML, reason=b"OK"), Data(b"x"), END]),
        (b"Status: 404\nX: y\r\n\n\r\n", [head(404, (b"x", b"y")), Data(b"\r\n"), END]),
    ],
)
def test_line_ends_are_lf_or_crlf_mixed(output: bytes, events: list[CgiEvent]) -> None:
    """CGI-30, RFC 3875 7.2: newline is LF, CRLF is accepted too."""
    assert both_ways(output) == events


def test_default_status_is_200() -> None:
    """CGI-33, RFC 3875 6.2.1: a document response needs no Status."""
    assert both_ways(b"CONTENT-TYPE: text/html\n\n") == [head(200, HTML, reason=b"OK"), END]


def test_reason_may_have_spaces_and_white_space_around_values_is_dropped() -> None:
    """CGI-37, RFC 3875 6.3.3: three digits, space, reason."""
    assert both_ways(b"Status: \t 404   Not \t Found \t\nX:\t\n\n") == [
        head(404, (b"x", b""), reason=b"Not \t Found"),
        END,
    ]


@pytest.mark.parametrize(
    "value", [b"", b"20", b"2000", b"099", b"ok", b"200OK", b"-20", b"2\xb20", b"100 Continue", b"103"]
)
def test_rejects_invalid_status(value: bytes) -> None:
    """CGI-37, RFC 3875 6.3.3: three digits; an interim status is no final one."""
    with pytest.raises(RemoteProtocolError, match=r"status"):
        parse(ResponseParser(), b"Status: " + value + b"\n\n")


@pytest.mark.parametrize(
    "output",
    [
        b"\n",
        b"\r\n\r\nbody",
        b"X-Test: y\n\nbody",
        b"Content-Length: 1\n\nx",
        b"Content-Type : text/html\n\n",
        b" Content-Type: text/html\n\n",
        b"Content-Type: text/html\n folded\n\n",
        b"Content-Type: text/html\n\tfolded\n\n",
        b"Content-Type: text/html\nno colon\n\n",
        b"Content-Type: text/html\n: no name\n\n",
        b"Content-Type: text/html\nn\xc3\xa4me: x\n\n",
        b"Content-Type: text/html\n-\x7f: x\n\n",
        b"Content-Type: a\rb\n\n",
        b"Content-Type: a\r\r\n\n",
        b"Content-Type: a\0b\n\n",
        b"Content-Type: a\nContent-type: a\n\n",
        b"Status: 200\nstatus: 200\n\n",
        b"Location: /\nLOCATION: /\n\n",
        b"HTTP/1.1 200 OK\nContent-Type: a\n\n",
        b"<html>\n\n",
    ],
)
def test_rejects_malformed_head(output: bytes) -> None:
    """CGI-32, RFC 3875 6.3: a CGI field, each at most once, tokens, no continuation, no space before ':'."""
    for chunks in ([output], [output[i : i + 1] for i in range(len(output))]):
        parser = ResponseParser()
        with pytest.raises(RemoteProtocolError) as caught:
            parse(parser, *chunks)
        assert caught.value.status == 502
        assert parser.state is State.ERROR
        # Sticky: each later call says so again.
        parser.receive_data(b"Content-Type: text/html\n\n")
        with pytest.raises(RemoteProtocolError) as again:
            parser.next_event()
        assert repr(again.value) == repr(caught.value)


def test_content_type_may_be_missing_beside_status_or_location() -> None:
    """CGI-33: required by RFC 3875 6.2.1, but nginx, Apache and PHP take a response without."""
    assert both_ways(b"Status: 200 OK\n\nx") == [head(200, reason=b"OK"), Data(b"x"), END]
    assert both_ways(b"Location: http://h/\n\nx") == [
        head(302, (b"location", b"http://h/"), reason=b"Found"),
        Data(b"x"),
        END,
    ]


def test_client_redirect() -> None:
    """CGI-35, RFC 3875 6.2.3: an absolute Location without Status is 302."""
    assert both_ways(b"Location: https://example.com/a#b\n\n") == [
        head(302, (b"location", b"https://example.com/a#b"), reason=b"Found"),
        END,
    ]


def test_client_redirect_with_document() -> None:
    """CGI-36, RFC 3875 6.2.4: Location, Status, Content-Type and a body."""
    assert both_ways(b"Location: http://h/\nStatus: 303 See\nContent-Type: text/html\n\n<a>") == [
        head(303, (b"location", b"http://h/"), HTML, reason=b"See"),
        Data(b"<a>"),
        END,
    ]


def test_local_redirect_waits_for_the_end() -> None:
    """CGI-34, RFC 3875 6.2.2: it has no body, which only the end of the output shows."""
    parser = ResponseParser()
    parser.receive_data(b"Location: /there\n\n")
    assert parser.next_event() is NEED_DATA
    assert parser.state is State.REDIRECT
    parser.receive_data(b"")
    assert parser.next_event() == LocalRedirect(b"/there")
    assert parser.next_event() == END
    assert parser.next_event() is NEED_DATA


@pytest.mark.parametrize(
    ("output", "status"),
    [
        (b"Location: /there\nX: y\n\n", 302),
        (b"Location: /there\nX-CGI-Test: y\n\n", 302),
        (b"Location: /there\nStatus: 201 Made\n\n", 201),
        (b"Location: /there\n\nbody", 302),
        (b"Location: //host/there\n\n", 302),
        (b"Location: /there#part\n\n", 302),
        (b"Location: /a b\n\n", 302),
        (b"Location: there\n\n", 302),
        (b"Location:\n\n", 302),
    ],
)
def test_local_location_with_more_is_for_the_client(output: bytes, status: int) -> None:
    """CGI-34: with other fields, a body, or what is no path, it is an ordinary response, passed on as is."""
    first, *rest = both_ways(output)
    assert isinstance(first, ResponseHead)
    assert first.status == status
    assert first.headers[0][0] == b"location"
    assert rest[-1] == END


@pytest.mark.parametrize(
    "name",
    [
        b"Connection",
        b"Keep-Alive",
        b"Proxy-Connection",
        b"Trailer",
        b"Transfer-Encoding",
        b"Upgrade",
        b"X-CGI-Anything",
    ],
)
def test_removes_fields_of_the_connection(name: bytes) -> None:
    """CGI-40, CGI-41: communication-level fields and X-CGI-* never reach the client."""
    field = name + b": x\n"
    assert both_ways(b"Status: 200\n" + field + b"A: b\n" + field + b"\n") == [head(200, (b"a", b"b")), END]


def test_upgrade_stays_with_101() -> None:
    """CGI-40: 101 says what the connection becomes."""
    assert both_ways(
        b"HTTP/1.1 101 Up\nUpgrade: websocket\nConnection: upgrade\n\n", http_status_line=True
    ) == [
        head(101, (b"upgrade", b"websocket"), reason=b"Up"),
        END,
    ]


# Content-Length (nginx fastcgi_extra_data.t, scgi_extra_data.t)

SIZED = b"Content-Type: text/html\nContent-Length: 5\n\n"
SIZED_HEAD = head(200, HTML, (b"content-length", b"5"), reason=b"OK")


def test_content_length_kept() -> None:
    assert both_ways(SIZED + b"hello") == [SIZED_HEAD, Data(b"hello"), END]


@pytest.mark.parametrize("extra", [b"!", b"! and more"])
@pytest.mark.parametrize("together", [True, False])
def test_drops_more_body_than_content_length(extra: bytes, together: bool) -> None:
    """14.3: the client gets what was promised, and whoever asks is told that there was more."""
    parser = ResponseParser()
    for data in [SIZED + b"hello" + extra] if together else [SIZED + b"hello", extra]:
        parser.receive_data(data)
    assert [parser.next_event(), parser.next_event()] == [SIZED_HEAD, Data(b"hello")]
    assert parser.next_event() == EndOfMessage(surplus=True)
    parser.receive_data(b"more")
    assert parser.next_event() is NEED_DATA


@pytest.mark.parametrize("body", [b"", b"hell"])
def test_rejects_less_body_than_content_length(body: bytes) -> None:
    parser = ResponseParser()
    with pytest.raises(Incomplete, match="short of its Content-Length"):
        parse(parser, SIZED + body)


@pytest.mark.parametrize("value", [b"", b"-1", b"+1", b"5,5", b"5 5", b"0x5", b"\xb2", b"9" * 19])
def test_rejects_invalid_content_length(value: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="invalid Content-Length"):
        parse(ResponseParser(), b"Status: 200\nContent-Length: " + value + b"\n\n")


def test_rejects_two_content_lengths() -> None:
    with pytest.raises(RemoteProtocolError, match="more than one content-length"):
        parse(ResponseParser(), b"Status: 200\nContent-Length: 1\nContent-Length: 1\n\nx")


@pytest.mark.parametrize("body", [b"", b"hello", b"hello!"])
def test_content_length_of_a_head_request_is_not_enforced(body: bytes) -> None:
    """CGI-38, RFC 3875 4.3.3: it is what GET would have sent; a body is passed on, to be discarded."""
    events = parse(ResponseParser(head_request=True), SIZED + body)
    assert events == [SIZED_HEAD, *([Data(body)] if body else []), END]


@pytest.mark.parametrize("status", [204, 304])
def test_content_length_of_a_response_without_body_is_not_enforced(status: int) -> None:
    """H-16: a 304 may tell the length of what it does not send."""
    events = both_ways(b"Status: %d\nContent-Length: 5\n\n" % status)
    assert events == [head(status, (b"content-length", b"5")), END]


# Ends


def test_empty_output_is_an_error() -> None:
    """CGI-39, RFC 3875 6.4: empty output is no response."""
    with pytest.raises(Incomplete, match="without a response"):
        parse(ResponseParser())


@pytest.mark.parametrize("output", [b"C", b"Content-Type: text/html", b"Content-Type: text/html\r\n"])
def test_rejects_end_inside_head(output: bytes) -> None:
    with pytest.raises(Incomplete, match="inside the response head"):
        parse(ResponseParser(), output)


def test_nothing_after_the_end_counts() -> None:
    parser = ResponseParser()
    assert parse(parser, b"Status: 200\n\n") == [head(200), END]
    assert parser.state is State.DONE
    parser.receive_data(b"late")
    assert parser.next_event() is NEED_DATA


@pytest.mark.parametrize("chunk_size", [1, 7, 1000])
def test_head_limit(chunk_size: int) -> None:
    """The bound counts the blank line, and is the same for every split."""
    output = b"Status: 200\nX: " + b"x" * 80 + b"\n\n"
    chunks = [output[i : i + chunk_size] for i in range(0, len(output), chunk_size)]
    assert parse(ResponseParser(head_limit=len(output)), *chunks, b"body")[-1] == END
    for limit in (len(output) - 1, len(output) - 2, 20):
        with pytest.raises(LimitExceeded, match=f"larger than {limit} bytes"):
            parse(ResponseParser(head_limit=limit), *chunks, b"body")


def test_head_limit_without_any_line_end() -> None:
    parser = ResponseParser(head_limit=100)
    parser.receive_data(b"x" * 100)
    with pytest.raises(LimitExceeded):
        parser.next_event()


def test_body_chunks_pass_without_a_copy() -> None:
    chunk = b"x" * 5000
    parser = ResponseParser()
    parser.receive_data(b"Status: 200\n\n")
    parser.receive_data(chunk)
    assert parser.next_event() == head(200)
    event = parser.next_event()
    assert isinstance(event, Data)
    assert event.data is chunk


# Status lines: NPH, uwsgi, and applications that answer in HTTP


@pytest.mark.parametrize("version", [b"1.0", b"1.1", b"2.0"])
def test_status_line(version: bytes) -> None:
    """UW-7: uwsgi applications answer with an HTTP status line, which echoes SERVER_PROTOCOL."""
    output = b"HTTP/" + version + b" 404 Not Found\r\nX: y\r\n\r\nno"
    assert both_ways(output, http_status_line=True) == [
        head(404, (b"x", b"y"), reason=b"Not Found"),
        Data(b"no"),
        END,
    ]


def test_status_line_alone() -> None:
    assert both_ways(b"HTTP/1.1 204\n\n", http_status_line=True) == [head(204), END]


def test_status_line_is_optional_and_beats_the_field() -> None:
    """UW-7: status line or Status."""
    assert both_ways(b"Status: 404\n\n", http_status_line=True) == [head(404), END]
    assert both_ways(b"HTTP/1.1 200 OK\nStatus: 404\n\n", http_status_line=True) == [
        head(200, reason=b"OK"),
        END,
    ]


def test_status_line_with_location_is_no_local_redirect() -> None:
    """CGI-34: Location would have to be the only header."""
    assert both_ways(b"HTTP/1.1 302 Found\nLocation: /x\n\n", http_status_line=True) == [
        head(302, (b"location", b"/x"), reason=b"Found"),
        END,
    ]


@pytest.mark.parametrize(
    "line", [b"HTTP/1.1", b"HTTP/1.1 20", b"HTTP/1.1 OK", b"HTTP/11 200 OK", b"HTP/1.1 200"]
)
def test_rejects_malformed_status_line(line: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse(ResponseParser(http_status_line=True), line + b"\n\n")


def test_nph() -> None:
    """CGI-42, RFC 3875 5: a status line, then anything; only the connection's fields are not the script's."""
    assert both_ways(b"HTTP/1.0 200 Fine\r\nServer: me\r\nConnection: close\r\n\r\nx", nph=True) == [
        head(200, (b"server", b"me"), reason=b"Fine"),
        Data(b"x"),
        END,
    ]


def test_rejects_nph_without_status_line() -> None:
    """CGI-42."""
    with pytest.raises(RemoteProtocolError, match="NPH output without a status line"):
        parse(ResponseParser(nph=True), b"Status: 200 OK\n\n")


def test_what_is_known_of_other_output_is_no_excuse_for_nph() -> None:
    """CGI-42: the same head is right in an answer that may leave the status line out."""
    output = b"Content-Type: text/x-known\n\n"
    assert parse(ResponseParser(http_status_line=True), output) == [
        head(200, (b"content-type", b"text/x-known"), reason=b"OK"),
        END,
    ]
    with pytest.raises(RemoteProtocolError, match="NPH output without a status line"):
        parse(ResponseParser(nph=True), output)


def test_informational_responses_before_the_final_one() -> None:
    """H-11: any number of 1xx responses; each has a head of its own."""
    output = b"HTTP/1.1 103 Early Hints\r\nLink: </s>\r\n\r\nStatus: 100\n\nHTTP/1.1 200 OK\r\n\r\nx"
    assert both_ways(output, http_status_line=True) == [
        InformationalResponse(103, [(b"link", b"</s>")], b"Early Hints"),
        InformationalResponse(100, []),
        head(200, reason=b"OK"),
        Data(b"x"),
        END,
    ]


def test_rejects_end_after_informational_response() -> None:
    with pytest.raises(Incomplete, match="without a response"):
        parse(ResponseParser(http_status_line=True), b"HTTP/1.1 100 Continue\n\n")


# Encoding


@pytest.mark.parametrize(
    "event",
    [
        head(200, (b"a b", b"")),
        head(200, (b"", b"x")),
        head(200, (b"a:", b"x")),
        head(200, (b"a", b"x\r\nb: c")),
        head(200, (b"a", b"x\n b")),
        head(200, (b"a", b"\r")),
        head(200, (b"a", b"\0")),
        head(200, reason=b"OK\r\nX: y"),
        head(200, (b"Status", b"200")),
        head(200, (b"Location", b"/"), (b"location", b"/")),
        head(100),
        head(99),
        head(1000),
        InformationalResponse(103, []),
        EndOfMessage([(b"a", b"b")]),
        LocalRedirect(b"//x"),
        LocalRedirect(b"/x\n"),
        LocalRedirect(b"x"),
        Stderr(b"x"),
    ],
)
def test_rejects_what_a_cgi_response_cannot_say(
    event: ResponseHead | InformationalResponse | EndOfMessage | LocalRedirect | Stderr,
) -> None:
    """CGI-32: nothing is written that would be read as something else."""
    with pytest.raises(LocalProtocolError):
        encode_response(event)


# Any input


def outcome(parser: ResponseParser, *chunks: bytes) -> tuple[list[CgiEvent], str | None]:
    events: list[CgiEvent] = []
    try:
        for chunk in (*chunks, b""):
            parser.receive_data(chunk)
            while (event := parser.next_event()) is not NEED_DATA:
                add(events, event)
    except RemoteProtocolError as error:
        return events, str(error)
    return events, None


pieces = st.sampled_from(
    [
        b"\n",
        b"\r\n",
        b"\r",
        b":",
        b" ",
        b"\0",
        b"Status",
        b": 200 OK\n",
        b"Location: /x\n",
        b"Content-Length: 3\n",
        b"Content-Type: a\r\n",
        b"HTTP/1.1 ",
        b"103 Early\n",
        b"200\n",
        b"abc",
        b"X-CGI-A: b\n",
        b"Upgrade: u\n",
    ]
)
outputs = st.one_of(
    st.binary(max_size=60), st.lists(pieces | st.binary(max_size=3), max_size=12).map(b"".join)
)


@given(output=outputs, cuts=st.lists(st.integers(0, 60)), nph=st.booleans(), line=st.booleans())
def test_any_output_gives_the_same_events_for_every_split(
    output: bytes, cuts: list[int], nph: bool, line: bool
) -> None:
    """Any bytes end in events or one RemoteProtocolError, and never depend on how they arrive."""
    borders = [0, *sorted(cuts), len(output)]
    chunks = [output[a:b] for a, b in itertools.pairwise(borders) if output[a:b]]
    whole = outcome(
        ResponseParser(nph=nph, http_status_line=line, head_limit=50), *([output] if output else [])
    )
    split = outcome(ResponseParser(nph=nph, http_status_line=line, head_limit=50), *chunks)
    assert whole == split
    events, error = whole
    assert (error is None) == (bool(events) and events[-1] == END)


@given(
    status=st.integers(200, 999),
    reason=st.binary(max_size=5),
    headers=st.lists(st.tuples(st.binary(max_size=4), st.binary(max_size=6)), max_size=4),
    body=st.binary(max_size=10),
)
def test_what_can_be_encoded_is_parsed_as_it_was(
    status: int, reason: bytes, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    event = ResponseHead(status, headers, reason)
    try:
        output = encode_response(event) + body
    except LocalProtocolError:
        return
    first, *rest = parse(ResponseParser(), output)
    assert first == ResponseHead(
        status, [(name.lower(), value.strip(b" \t")) for name, value in headers], reason.strip(b" \t")
    )
    assert rest == ([Data(body), END] if body else [END])
