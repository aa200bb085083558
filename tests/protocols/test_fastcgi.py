"""FastCGI 1.0, both roles: records, name-value pairs, and whole conversations split in any way."""

import itertools
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.protocols.errors import (
    Incomplete,
    LimitExceeded,
    LocalProtocolError,
    Refusal,
    RemoteProtocolError,
    RequestRefused,
    TooLargeToEncode,
)
from gateway.protocols.events import (
    NEED_DATA,
    Data,
    EndOfMessage,
    InformationalResponse,
    LocalRedirect,
    RequestVariables,
    ResponseEvent,
    ResponseHead,
    Stderr,
)
from gateway.protocols.fastcgi import (
    GET_CAPABILITIES,
    AbortRequest,
    Capabilities,
    FastCgiClient,
    FastCgiServer,
    FilterData,
    Role,
    authorizer_variables,
    capabilities_of,
    decode_pairs,
    encode_get_values,
    encode_pairs,
    server,
)
from gateway.protocols.fastcgi.client import SentEvent
from gateway.protocols.fastcgi.records import (
    ABORT_REQUEST,
    BEGIN_REQUEST,
    DATA,
    END_REQUEST,
    GET_VALUES,
    GET_VALUES_RESULT,
    PARAMS,
    STDERR,
    STDIN,
    STDOUT,
    UNKNOWN_TYPE,
)

END = EndOfMessage()
ROLES = tuple(Role)
Codec = FastCgiClient | FastCgiServer


def record(kind: int, content: bytes = b"", *, request: int = 1, padding: int = 0, version: int = 1) -> bytes:
    """A record, written by the letter of FastCGI 3.3."""
    header = [version, kind, request >> 8, request & 255, len(content) >> 8, len(content) & 255, padding, 0]
    return bytes(header) + content + b"\xaa" * padding


def begin(role: int = 1, flags: int = 0, *, request: int = 1) -> bytes:
    return record(BEGIN_REQUEST, bytes([role >> 8, role & 255, flags, 0, 0, 0, 0, 0]), request=request)


def end(
    protocol_status: int = 0, application_status: int = 0, *, request: int = 1, padding: int = 0
) -> bytes:
    content = application_status.to_bytes(4, "big") + bytes([protocol_status, 0, 0, 0])
    return record(END_REQUEST, content, request=request, padding=padding)


def add(events: list[Any], event: Any) -> None:
    """Adjacent pieces of a stream become one: their split has no meaning."""
    if events and isinstance(event, Data | Stderr | FilterData) and event.data:
        last = events[-1]
        if type(last) is type(event):
            events[-1] = type(event)(last.data + event.data)
            return
    events.append(event)


def receive(codec: Codec, *chunks: bytes) -> list[Any]:
    """The events that *codec* gives for *chunks*."""
    events: list[Any] = []
    for chunk in chunks:
        codec.receive_data(chunk)
        while (event := codec.next_event()) is not NEED_DATA:
            add(events, event)
    return events


def events_of(codec: Codec) -> list[Any]:
    """The events that *codec* gives without more data."""
    events: list[Any] = []
    while (event := codec.next_event()) is not NEED_DATA:
        add(events, event)
    return events


def bytewise(data: bytes) -> Iterable[bytes]:
    return (data[i : i + 1] for i in range(len(data)))


def asked(codec: FastCgiClient, variables: dict[str, str] | None = None, *events: SentEvent) -> FastCgiClient:
    """*codec* after it sent a whole request."""
    codec.send(RequestVariables(variables or {}))
    for event in events or (END,):
        codec.send(event)
    return codec


HTML = [(b"content-type", b"text/html")]
OK = ResponseHead(200, HTML, b"OK")
OK_TEXT = b"Content-Type: text/html\r\n\r\n"

# Name-value pairs


@pytest.mark.parametrize(
    ("variables", "block"),
    [
        ({}, b""),
        ({"": ""}, b"\0\0"),
        (
            {"SERVER_PORT": "80", "SERVER_ADDR": "199.170.183.42"},
            b"\x0b\x02SERVER_PORT80\x0b\x0eSERVER_ADDR199.170.183.42",
        ),
        ({"A": "\xff\0"}, b"\x01\x02A\xff\0"),
        ({"A": "v" * 127}, b"\x01\x7fA" + b"v" * 127),
        ({"A": "v" * 128}, b"\x01\x80\0\0\x80A" + b"v" * 128),
        ({"N" * 128: "v"}, b"\x80\0\0\x80\x01" + b"N" * 128 + b"v"),
        ({"N" * 300: "v" * 70000}, b"\x80\0\x01\x2c\x80\x01\x11\x70" + b"N" * 300 + b"v" * 70000),
    ],
)
def test_pairs(variables: dict[str, str], block: bytes) -> None:
    """FCGI-5: lengths up to 127 in one byte, else four bytes with the top bit set; no terminator."""
    assert encode_pairs(variables) == block
    assert decode_pairs(block) == variables


def test_long_form_of_a_short_length_is_legal() -> None:
    """FCGI-5: 3.4 does not demand the shortest form."""
    assert decode_pairs(b"\x80\0\0\x01\x80\0\0\x01AB") == {"A": "B"}


@pytest.mark.parametrize(
    "block",
    [b"\x01", b"\x01\x01", b"\x01\x01A", b"\x80\0\0", b"\x01\x80\0\0", b"\x80", b"\0\x80", b"\xff" * 20],
)
def test_rejects_pair_longer_than_its_block(block: bytes) -> None:
    """FCGI-5: lengths are checked before they are believed."""
    with pytest.raises(RemoteProtocolError, match="longer than its block"):
        decode_pairs(block)


def test_rejects_too_many_pairs() -> None:
    assert decode_pairs(b"\0\0" * 3, limit=3) == {"": ""}
    with pytest.raises(LimitExceeded, match="more than 3") as caught:
        decode_pairs(b"\0\0" * 4, limit=3)
    assert caught.value.status == 431


def test_last_of_equal_names_wins() -> None:
    """As in php-fpm, so that a configuration's later fastcgi_param overrides the earlier one."""
    assert decode_pairs(b"\x01\x01A1\x01\x01A2") == {"A": "2"}


def test_rejects_character_outside_latin_1() -> None:
    with pytest.raises(LocalProtocolError, match="'B' has a character outside Latin-1"):
        encode_pairs({"A": "\xff", "B": "\u0100"})


@given(
    st.dictionaries(
        st.text(st.characters(max_codepoint=255), max_size=200),
        st.text(st.characters(max_codepoint=255), max_size=200),
    )
)
def test_pairs_survive(variables: dict[str, str]) -> None:
    assert decode_pairs(encode_pairs(variables)) == variables


@given(st.binary(max_size=40))
def test_any_block_is_decoded_or_rejected(block: bytes) -> None:
    try:
        variables = decode_pairs(block)
    except RemoteProtocolError:
        return
    assert len(encode_pairs(variables)) <= len(block)


# Conversations: the examples of FastCGI appendix B and others, read by both roles

PORT = {"SERVER_PORT": "80", "SERVER_ADDR": "199.170.183.42"}
PORT_BLOCK = b"\x0b\x02SERVER_PORT80\x0b\x0eSERVER_ADDR199.170.183.42"
POST = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": "9"}
POST_BLOCK = b"\x0e\x04REQUEST_METHODPOST\x0e\x01CONTENT_LENGTH9"
FILTER = {"FCGI_DATA_LAST_MOD": "0", "FCGI_DATA_LENGTH": "4"}

# Name: role, what the web server sends, its bytes.
REQUESTS: dict[str, tuple[Role, list[SentEvent], bytes]] = {
    "appendix B example 1": (
        Role.RESPONDER,
        [RequestVariables(PORT), END],
        begin() + record(PARAMS, PORT_BLOCK) + record(PARAMS) + record(STDIN),
    ),
    "no variables": (Role.RESPONDER, [RequestVariables({}), END], begin() + record(PARAMS) + record(STDIN)),
    "body": (
        Role.RESPONDER,
        [RequestVariables(POST), Data(b"quantity="), END],
        begin() + record(PARAMS, POST_BLOCK) + record(PARAMS) + record(STDIN, b"quantity=") + record(STDIN),
    ),
    "authorizer": (
        Role.AUTHORIZER,
        [RequestVariables(PORT), END],
        begin(role=2) + record(PARAMS, PORT_BLOCK) + record(PARAMS) + record(STDIN),
    ),
    "filter": (
        Role.FILTER,
        [RequestVariables(FILTER), Data(b"in"), END, FilterData(b"file"), FilterData(b"")],
        begin(role=3)
        + record(PARAMS, encode_pairs(FILTER))
        + record(PARAMS)
        + record(STDIN, b"in")
        + record(STDIN)
        + record(DATA, b"file")
        + record(DATA),
    ),
}

# Name: what the application sends, its bytes, what the web server receives.
RESPONSES: dict[str, tuple[list[ResponseEvent], bytes, list[Any]]] = {
    "document": (
        [ResponseHead(200, HTML, b"OK"), Data(b"<html>"), END],
        record(STDOUT, b"Status: 200 OK\r\ncontent-type: text/html\r\n\r\n")
        + record(STDOUT, b"<html>")
        + record(STDOUT)
        + end(),
        [OK, Data(b"<html>"), END],
    ),
    "standard error before, between and after": (
        [Stderr(b"a"), ResponseHead(200, [], b""), Stderr(b"b"), Data(b"x"), Stderr(b"c"), END],
        record(STDERR, b"a")
        + record(STDOUT, b"Status: 200 \r\n\r\n")
        + record(STDERR, b"b")
        + record(STDOUT, b"x")
        + record(STDERR, b"c")
        + record(STDOUT)
        + end(),
        [Stderr(b"a"), ResponseHead(200, []), Stderr(b"b"), Data(b"x"), Stderr(b"c"), END],
    ),
    "local redirect": (
        [LocalRedirect(b"/x"), Stderr(b"e"), END],
        record(STDOUT, b"Location: /x\r\n\r\n") + record(STDERR, b"e") + record(STDOUT) + end(),
        [Stderr(b"e"), LocalRedirect(b"/x"), END],
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_request_encoded(name: str) -> None:
    """FCGI-1, FCGI-2, FCGI-7, FCGI-9: BEGIN, PARAMS, empty PARAMS, STDIN, and always an empty STDIN."""
    role, events, data = REQUESTS[name]
    codec = FastCgiClient(role=role)
    assert b"".join(codec.send(event) for event in events) == data


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("chop", [lambda data: [data], bytewise], ids=["whole", "bytewise"])
def test_request_decoded(name: str, chop: Callable[[bytes], Iterable[bytes]]) -> None:
    """FCGI-4: the split has no meaning; FCGI-21, FCGI-22: every role's streams."""
    role, events, data = REQUESTS[name]
    codec = FastCgiServer(roles=ROLES)
    assert receive(codec, *chop(data)) == events
    assert codec.role is role
    assert codec.receiving is server.Receiving.DONE
    assert codec.data_to_send() == b""
    # Trailing bytes are no part of it.
    assert receive(codec, record(UNKNOWN_TYPE, bytes(8), request=0)) == []
    assert codec.data_to_send() == b""


@pytest.mark.parametrize("name", RESPONSES)
def test_response_encoded(name: str) -> None:
    """FCGI-11, FCGI-12, FCGI-13: a CGI response on STDOUT, STDERR anywhere, END_REQUEST."""
    events, data, _ = RESPONSES[name]
    codec = FastCgiServer()
    receive(codec, REQUESTS["body"][2])
    assert b"".join(codec.send(event) for event in events) == data
    assert codec.must_close


@pytest.mark.parametrize("name", RESPONSES)
@pytest.mark.parametrize("padding", [0, 1, 255])
def test_response_decoded(name: str, padding: int) -> None:
    """FCGI-4, FCGI-6, FCGI-12: every split, every padding; FCGI-19: then the connection may be used again."""
    _, data, events = RESPONSES[name]
    reader = receive_records(data)
    data = b"".join(record(kind, content, padding=padding) for kind, content in reader)
    codec = FastCgiClient(keep_connection=True)
    assert receive(asked(codec), data) == events
    assert codec.reusable
    assert receive(asked(codec), *bytewise(data)) == events
    assert codec.reusable
    # Trailing bytes: what is not asked for makes the connection useless, and harms nothing.
    assert receive(asked(codec), data) == events
    codec.receive_data(b"\x01")
    assert not codec.reusable


def receive_records(data: bytes) -> Sequence[tuple[int, bytes]]:
    """The records in *data*, read by the letter of FastCGI 3.3."""
    records = []
    while data:
        length = data[4] << 8 | data[5]
        records.append((data[1], data[8 : 8 + length]))
        data = data[8 + length + data[6] :]
    return records


def test_appendix_b_example_4() -> None:
    """FCGI-13, FCGI-14: an exit status is no protocol error; STDERR needs no end."""
    codec = asked(FastCgiClient(), PORT)
    data = (
        record(STDERR, b"config error: missing SI_UID\n")
        + record(STDOUT, b"Content-type: text/html\r\n\r\n<html>\n<head> ... ")
        + record(STDOUT)
        + end(application_status=938)
    )
    assert receive(codec, data) == [
        Stderr(b"config error: missing SI_UID\n"),
        OK,
        Data(b"<html>\n<head> ... "),
        EndOfMessage(application_status=938),
    ]


# The web server's role: sending


def test_keep_connection_flag() -> None:
    """FCGI-7: flag bit 0 is KEEP_CONN."""
    assert FastCgiClient(keep_connection=True).send(RequestVariables({}))[10] == 1
    assert FastCgiClient(keep_connection=False).send(RequestVariables({}))[10] == 0


def test_no_record_for_no_data() -> None:
    """FCGI-4: an empty STDIN record would be the end of the stream."""
    codec = FastCgiClient()
    codec.send(RequestVariables({}))
    assert codec.send(Data(b"")) == b""
    assert codec.send(Data(b"x")) == record(STDIN, b"x")


def test_large_body_in_several_records() -> None:
    """FCGI-1: at most 65,535 bytes of content in a record."""
    codec = FastCgiClient()
    codec.send(RequestVariables({}))
    assert codec.send(Data(b"x" * 65535)) == record(STDIN, b"x" * 65535)
    assert codec.send(Data(b"x" * 131072)) == (
        record(STDIN, b"x" * 65535) + record(STDIN, b"x" * 65535) + record(STDIN, b"xx")
    )


def test_pairs_are_not_split_over_records() -> None:
    """FCGI-25: uWSGI parses each PARAMS record alone; FCGI-26: more than one record for more than 64 KiB."""
    variables = {f"NAME_{i}": "v" * 5000 for i in range(40)}
    records = receive_records(FastCgiClient().send(RequestVariables(variables)))
    blocks = [content for kind, content in records if kind == PARAMS]
    assert len(blocks) == 5
    assert blocks[-1] == b""
    alone = [decode_pairs(block) for block in blocks]
    assert {name: value for pairs in alone for name, value in pairs.items()} == variables


def test_pair_larger_than_a_record_is_split() -> None:
    """FCGI-4, FCGI-26: never cut short."""
    variables = {"A": "a", "LONG": "v" * 200_000, "B": "b"}
    data = FastCgiClient().send(RequestVariables(variables))
    blocks = [content for kind, content in receive_records(data) if kind == PARAMS]
    assert decode_pairs(b"".join(blocks)) == variables
    assert b"" not in blocks[:-1]
    assert receive(FastCgiServer(), data) == [RequestVariables(variables)]


def test_first_pair_larger_than_a_record() -> None:
    """FCGI-4: no empty PARAMS record before the end."""
    data = FastCgiClient().send(RequestVariables({"LONG": "v" * 70_000}))
    assert [len(content) for kind, content in receive_records(data) if kind == PARAMS] == [65535, 4474, 0]


def test_rejects_variables_above_the_limit() -> None:
    """FCGI-26: too much is an error, never a cut."""
    assert FastCgiClient(variables_limit=10).send(RequestVariables({"A": "1234567"}))
    with pytest.raises(TooLargeToEncode, match="11 bytes, more than 10"):
        FastCgiClient(variables_limit=10).send(RequestVariables({"A": "12345678"}))


@pytest.mark.parametrize("length", ["x", "-1", "1 ", "\xb2", "\u0661", "9" * 19])
def test_rejects_sending_an_invalid_content_length(length: str) -> None:
    with pytest.raises(LocalProtocolError, match="CONTENT_LENGTH is not a number"):
        FastCgiClient().send(RequestVariables({"CONTENT_LENGTH": length}))


def test_rejects_sending_more_than_content_length() -> None:
    """FCGI-20: at most CONTENT_LENGTH bytes on STDIN, fewer only if the client failed."""
    codec = FastCgiClient()
    codec.send(RequestVariables({"CONTENT_LENGTH": "3"}))
    codec.send(Data(b"ab"))
    with pytest.raises(LocalProtocolError, match="longer than CONTENT_LENGTH"):
        codec.send(Data(b"cd"))
    short = FastCgiClient()
    short.send(RequestVariables({"CONTENT_LENGTH": "3"}))
    assert short.send(END) == record(STDIN)


def test_empty_content_length_declares_nothing() -> None:
    codec = FastCgiClient()
    codec.send(RequestVariables({"CONTENT_LENGTH": ""}))
    assert codec.send(Data(b"x")) == record(STDIN, b"x")


def test_rejects_request_trailers() -> None:
    codec = FastCgiClient()
    codec.send(RequestVariables({}))
    with pytest.raises(LocalProtocolError, match="trailers"):
        codec.send(EndOfMessage([(b"a", b"b")]))


@pytest.mark.parametrize("name", ["CONTENT_LENGTH", "PATH_INFO", "PATH_TRANSLATED", "SCRIPT_NAME"])
def test_rejects_variables_not_for_an_authorizer(name: str) -> None:
    """FCGI-21."""
    with pytest.raises(LocalProtocolError, match=f"not for an authorizer: {name}"):
        FastCgiClient(role=Role.AUTHORIZER).send(RequestVariables({name: ""}))


def test_rejects_body_for_an_authorizer() -> None:
    """FCGI-21: an Authorizer gets the variables only."""
    codec = FastCgiClient(role=Role.AUTHORIZER)
    codec.send(RequestVariables({}))
    with pytest.raises(LocalProtocolError, match="cannot send Data to a FastCGI authorizer in state BODY"):
        codec.send(Data(b"x"))


def test_authorizer_variables() -> None:
    """FCGI-21: 200 allows, and its Variable-* fields are variables of the request."""
    headers = [(b"variable-auth_method", b"database lookup"), (b"x", b"y"), (b"variable-a", b"\xff")]
    assert authorizer_variables(headers) == {"AUTH_METHOD": "database lookup", "A": "\xff"}


@pytest.mark.parametrize("variables", [{}, {"FCGI_DATA_LENGTH": "4"}])
def test_rejects_filter_without_its_variables(variables: dict[str, str]) -> None:
    """FCGI-22: FCGI_DATA_LAST_MOD and FCGI_DATA_LENGTH."""
    with pytest.raises(LocalProtocolError, match="missing for a filter: FCGI_DATA_LAST_MOD"):
        FastCgiClient(role=Role.FILTER).send(RequestVariables(variables))


def test_rejects_illegal_move_and_stays_failed() -> None:
    codec = FastCgiClient()
    with pytest.raises(LocalProtocolError, match="cannot send Data to a FastCGI responder in state IDLE"):
        codec.send(Data(b"x"))
    with pytest.raises(LocalProtocolError, match=r"RequestVariables .* in state ERROR"):
        codec.send(RequestVariables({}))
    assert not codec.reusable


def test_response_is_still_received_after_a_local_error() -> None:
    codec = asked(FastCgiClient(keep_connection=True))
    with pytest.raises(LocalProtocolError, match="state DONE"):
        codec.send(Data(b"x"))
    assert receive(codec, record(STDOUT, OK_TEXT) + end()) == [OK, END]
    with pytest.raises(LocalProtocolError, match="state ERROR"):
        codec.send(RequestVariables({}))
    assert not codec.reusable


# The web server's role: receiving


def test_answer_before_the_request_was_sent() -> None:
    """FCGI-10: the application may answer before STDIN ended; that connection is not used again."""
    codec = FastCgiClient(keep_connection=True)
    codec.send(RequestVariables(POST))
    codec.receive_data(record(STDOUT, OK_TEXT + b"early"))
    assert codec.next_event() == OK
    assert codec.send(Data(b"abc")) == record(STDIN, b"abc")
    assert events_of(codec) == [Data(b"early")]
    assert receive(codec, end()) == [END]
    assert not codec.reusable
    with pytest.raises(LocalProtocolError, match="state CLOSED"):
        codec.send(END)


def test_end_without_the_end_of_stdout() -> None:
    """FCGI-15: acceptable."""
    assert receive(asked(FastCgiClient()), record(STDOUT, OK_TEXT) + end()) == [OK, END]


def test_end_of_streams_may_be_said_twice() -> None:
    """FCGI-12: an empty STDERR, and a repeated empty STDOUT, say nothing new."""
    data = record(STDOUT, OK_TEXT) + record(STDERR) + record(STDOUT) + record(STDOUT) + end()
    assert receive(asked(FastCgiClient()), data) == [OK, END]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        record(STDOUT, OK_TEXT + b"x"),
        record(STDOUT, OK_TEXT) + record(STDOUT),
        record(STDOUT, OK_TEXT)[:-1],
        record(STDOUT, OK_TEXT) + end()[:-1],
        end()[:5],
    ],
)
def test_close_before_end_request_is_incomplete(data: bytes) -> None:
    """FCGI-15: only END_REQUEST ends a request."""
    codec = asked(FastCgiClient())
    receive(codec, *bytewise(data))
    codec.receive_data(b"")
    with pytest.raises(Incomplete, match="before END_REQUEST") as caught:
        codec.next_event()
    assert caught.value.status == 502


def test_close_after_end_request_harms_nothing() -> None:
    """FCGI-19, caddy#1084: the response was complete; the connection is not used again."""
    codec = asked(FastCgiClient(keep_connection=True))
    codec.receive_data(record(STDOUT, OK_TEXT) + end())
    codec.receive_data(b"")
    assert events_of(codec) == [OK, END]
    assert not codec.reusable
    with pytest.raises(LocalProtocolError, match="not fit for another request"):
        codec.send(RequestVariables({}))


def test_bytes_after_a_last_response_are_dropped() -> None:
    """Complaints.md 2: garbage after END_REQUEST is no failure of the response."""
    codec = asked(FastCgiClient())
    assert receive(codec, record(STDOUT, OK_TEXT) + end() + b"garbage!!", b"more garbage") == [OK, END]
    codec.receive_data(b"")
    assert codec.next_event() is NEED_DATA
    assert not codec.reusable


@pytest.mark.parametrize(
    ("number", "refusal"),
    [(1, Refusal.CANT_MULTIPLEX), (2, Refusal.OVERLOADED), (3, Refusal.UNKNOWN_ROLE)],
)
def test_refusal(number: int, refusal: Refusal) -> None:
    """FCGI-13, FCGI-14: protocolStatus other than REQUEST_COMPLETE."""
    codec = asked(FastCgiClient(keep_connection=True))
    codec.receive_data(record(STDOUT) + end(protocol_status=number))
    for _ in range(2):
        with pytest.raises(RequestRefused) as caught:
            codec.next_event()
        assert caught.value.refusal is refusal
    assert not codec.reusable


def test_rejects_unknown_protocol_status() -> None:
    """FCGI-13."""
    codec = asked(FastCgiClient())
    codec.receive_data(end(protocol_status=4))
    with pytest.raises(RemoteProtocolError, match="unknown FastCGI protocolStatus 4"):
        codec.next_event()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (record(STDOUT, b"x", version=0), "version 0 instead of 1 .header 00 06 00 01"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "version 72"),
        (record(STDOUT, b"x", request=0), "request id 0"),
        (record(END_REQUEST, bytes(8), request=0), "request id 0"),
        (record(GET_VALUES_RESULT), "a request id on a management record"),
        (record(UNKNOWN_TYPE, bytes(8)), "a request id on a management record"),
        (record(12, b"x"), "a request id on an unknown type"),
        (record(0, b"x"), "a request id on an unknown type"),
        (record(END_REQUEST, bytes(7)), "7 bytes of content instead of 8"),
        (record(UNKNOWN_TYPE, bytes(9), request=0), "9 bytes of content instead of 8"),
        (record(GET_VALUES_RESULT, bytes(4097), request=0), "more than 4096 bytes"),
        (record(STDIN, b"x"), "STDIN record from an application"),
        (begin(), "BEGIN_REQUEST record from an application"),
        (begin(request=7), "BEGIN_REQUEST record from an application"),
        (record(ABORT_REQUEST), "ABORT_REQUEST record from an application"),
        (record(PARAMS), "PARAMS record from an application"),
        (record(STDOUT) + record(STDOUT, b"x"), "STDOUT after its end"),
        (record(STDOUT, b"no head\n\n"), "malformed header line"),
        (end(), "without a response"),
        (record(GET_VALUES_RESULT, b"\x01", request=0), "longer than its block"),
    ],
)
@pytest.mark.parametrize("chop", [lambda data: [data], bytewise], ids=["whole", "bytewise"])
def test_client_rejects(data: bytes, message: str, chop: Callable[[bytes], Iterable[bytes]]) -> None:
    """FCGI-1, FCGI-2, FCGI-3, FCGI-18, CGI-32: what no application may send; for good."""
    codec = asked(FastCgiClient(keep_connection=True))
    with pytest.raises(RemoteProtocolError, match=message) as caught:
        receive(codec, *chop(data))
    assert caught.value.status == 502
    codec.receive_data(record(STDOUT, OK_TEXT) + end())
    with pytest.raises(RemoteProtocolError) as again:
        codec.next_event()
    assert repr(again.value) == repr(caught.value)
    with pytest.raises(LocalProtocolError, match="state ERROR"):
        codec.send(RequestVariables({}))
    assert not codec.reusable


def test_client_rejects_a_whole_response_behind_the_end_of_stdout() -> None:
    """FCGI-4: however it is read."""
    codec = asked(FastCgiClient(keep_connection=True))
    with pytest.raises(RemoteProtocolError, match="STDOUT after its end"):
        receive(codec, record(STDOUT), record(STDOUT, OK_TEXT) + end())


def test_ignores_records_of_inactive_requests() -> None:
    """FCGI-8: ignored; but such a connection is not trusted with another request."""
    data = record(STDOUT, b"not yours", request=2) + record(STDOUT, OK_TEXT) + end(request=2) + end()
    codec = asked(FastCgiClient(keep_connection=True))
    assert receive(codec, *bytewise(data)) == [OK, END]
    assert not codec.reusable


def test_late_records_make_a_connection_useless() -> None:
    """FCGI-8: request ids are used again, so a late record might come into another response."""
    codec = asked(FastCgiClient(keep_connection=True))
    assert receive(codec, record(STDOUT, OK_TEXT) + end() + record(STDOUT, b"late")) == [OK, END]
    assert not codec.reusable
    with pytest.raises(LocalProtocolError, match="not fit"):
        codec.send(RequestVariables({}))


def test_padding_of_the_last_record_is_waited_for_before_reuse() -> None:
    """FCGI-6: padding belongs to its record."""
    codec = asked(FastCgiClient(keep_connection=True))
    data = record(STDOUT, OK_TEXT) + end(padding=7)
    assert receive(codec, data[:-3]) == [OK, END]
    assert not codec.reusable
    assert receive(codec, data[-3:]) == []
    assert codec.reusable


def test_management_records_are_ignored() -> None:
    """FCGI-18: unknown management types, of any length, anywhere; the connection stays sound."""
    odd = record(200, b"x" * 9000, request=0, padding=3) + record(GET_VALUES, request=0)
    data = odd + record(STDOUT, OK_TEXT) + odd + end() + odd
    codec = asked(FastCgiClient(keep_connection=True))
    assert receive(codec, data) == [OK, END]
    assert receive(codec, b"") == []
    codec = asked(FastCgiClient(keep_connection=True))
    assert receive(codec, *bytewise(data)) == [OK, END]
    assert codec.reusable


def test_get_values() -> None:
    """FCGI-17: names with empty values; the answer may come at any time."""
    names = ["FCGI_MAX_CONNS", "FCGI_MPXS_CONNS"]
    assert encode_get_values(names) == record(
        GET_VALUES, b"\x0e\0FCGI_MAX_CONNS\x0f\0FCGI_MPXS_CONNS", request=0
    )
    assert FastCgiClient().values is None
    codec = FastCgiClient()
    answer = record(GET_VALUES_RESULT, b"\x0e\x01FCGI_MAX_CONNS8", request=0, padding=1)
    assert receive(codec, *bytewise(answer)) == []
    assert codec.values == {"FCGI_MAX_CONNS": "8"}
    with pytest.raises(TooLargeToEncode):
        encode_get_values(["x" * 70000])


def test_application_that_does_not_know_get_values() -> None:
    """FCGI-18: UNKNOWN_TYPE is its answer."""
    codec = FastCgiClient()
    assert receive(codec, record(UNKNOWN_TYPE, bytes([GET_VALUES]) + bytes(7), request=0)) == []
    assert codec.values == {}


def test_close_while_idle_is_no_error() -> None:
    """FCGI-19: an application may close a connection that has no active request."""
    codec = FastCgiClient(keep_connection=True)
    assert codec.reusable
    assert receive(codec, b"") == []
    assert not codec.reusable


def test_content_length_of_a_response_is_enforced_unless_the_request_was_head() -> None:
    """Peers.md G11: nginx fastcgi_extra_data.t."""
    sized = record(STDOUT, b"Status: 200\nContent-Length: 5\n\n")
    head = ResponseHead(200, [(b"content-length", b"5")])
    assert receive(asked(FastCgiClient(), {"REQUEST_METHOD": "HEAD"}), sized + end()) == [head, END]
    with pytest.raises(Incomplete):
        receive(asked(FastCgiClient(), {"REQUEST_METHOD": "GET"}), sized + end())


@pytest.mark.parametrize("pieces", [(b"123456",), (b"12345", b"6"), (b"123456", b"7")])
def test_more_than_the_content_length_of_a_response_is_dropped(pieces: tuple[bytes, ...]) -> None:
    """Peers.md G11, as in nginx; and the connection serves no other request."""
    client = asked(FastCgiClient(keep_connection=True))
    sized = record(STDOUT, b"Status: 200\nContent-Length: 5\n\n")
    events = receive(client, sized + b"".join(record(STDOUT, piece) for piece in pieces) + end())
    assert events == [
        ResponseHead(200, [(b"content-length", b"5")]),
        Data(b"12345"),
        EndOfMessage(surplus=True),
    ]
    assert not client.reusable


def test_head_limit() -> None:
    codec = asked(FastCgiClient(head_limit=100))
    with pytest.raises(LimitExceeded):
        receive(codec, record(STDOUT, b"Status: 200\nX: " + b"x" * 100))


def test_status_line_and_interim_response() -> None:
    """FCGI-11: no NPH; but a status line is read, for applications that answer in HTTP."""
    data = record(STDOUT, b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n") + end()
    assert receive(asked(FastCgiClient()), data) == [
        InformationalResponse(103, [(b"link", b"x")], b"Early"),
        ResponseHead(200, [], b"OK"),
        END,
    ]


def test_record_content_is_handed_over_as_it_arrives() -> None:
    """FCGI-4: no record is assembled, so the codec holds no more than one read."""
    codec = asked(FastCgiClient())
    data = record(STDOUT, OK_TEXT + b"x" * 60000)
    codec.receive_data(data[:1000])
    assert events_of(codec) == [OK, Data(b"x" * (1000 - 8 - len(OK_TEXT)))]


# Abort


def test_abort() -> None:
    """FCGI-16: the application answers with END_REQUEST; what it still says is dropped."""
    codec = FastCgiClient(keep_connection=True)
    codec.send(RequestVariables(POST))
    codec.receive_data(record(STDOUT, OK_TEXT + b"x"))
    assert codec.next_event() == OK
    assert codec.abort() == record(ABORT_REQUEST)
    rest = record(STDOUT, b"more") + record(STDERR, b"stopped") + record(STDERR) + record(STDOUT)
    ending = EndOfMessage(application_status=1)
    assert receive(codec, rest, end(application_status=1)) == [Stderr(b"stopped"), ending]
    assert codec.reusable
    assert receive(asked(codec), record(STDOUT, OK_TEXT) + end()) == [OK, END]


def test_close_after_abort_is_incomplete() -> None:
    """FCGI-15, FCGI-16."""
    codec = asked(FastCgiClient(keep_connection=True))
    codec.abort()
    with pytest.raises(Incomplete):
        receive(codec, record(STDOUT, b"x"), b"")


def test_nothing_to_abort() -> None:
    codec = FastCgiClient()
    with pytest.raises(LocalProtocolError, match="no request to abort in state IDLE"):
        codec.abort()
    asked(codec)
    codec.abort()
    with pytest.raises(LocalProtocolError, match="no request to abort in state DONE, ABORTED"):
        codec.abort()


# The application's role: receiving


def test_variables_split_anywhere() -> None:
    """FCGI-4: every split point, also inside a length."""
    block = encode_pairs({"N" * 200: "v" * 300, "A": "b"})
    for cut in range(1, len(block)):
        data = begin() + record(PARAMS, block[:cut]) + record(PARAMS, block[cut:], padding=5) + record(PARAMS)
        assert receive(FastCgiServer(), data) == [RequestVariables({"N" * 200: "v" * 300, "A": "b"})]


def test_variables_in_small_pieces_take_no_more_memory_than_they_have_bytes() -> None:
    """FCGI-4: a record may have a byte or two, and each piece of its own would take some forty."""
    codec = FastCgiServer(variables_limit=200_000)
    records = begin() + record(PARAMS, b"ab") * 100_000
    tracemalloc.start()
    try:
        assert receive(codec, records) == []
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1_000_000


@pytest.mark.parametrize(
    ("data", "message", "status"),
    [
        (record(BEGIN_REQUEST, bytes(8), version=2), "version 2", 400),
        (begin(request=0), "request id 0", 400),
        (record(BEGIN_REQUEST, bytes(9)), "9 bytes of content instead of 8", 400),
        (begin() + begin(), "BEGIN_REQUEST for the active request 1", 400),
        (begin() + record(STDIN), "STDIN record in state PARAMS", 400),
        (begin() + record(PARAMS) + record(PARAMS), "PARAMS record in state BODY", 400),
        (begin() + record(PARAMS) + record(DATA, b"x"), "DATA record in state BODY", 400),
        (begin() + record(PARAMS) + record(STDIN) + record(STDIN, b"x"), "STDIN record in state DONE", 400),
        (record(STDOUT, b"x"), "STDOUT record from a web server", 400),
        (end(), "END_REQUEST record from a web server", 400),
        (record(GET_VALUES), "a request id on a management record", 400),
        (record(99), "a request id on an unknown type", 400),
        (record(GET_VALUES, bytes(4097), request=0), "more than 4096 bytes", 400),
        (record(GET_VALUES, b"\x05", request=0), "longer than its block", 400),
        (begin() + record(PARAMS, b"\x01\x05A") + record(PARAMS), "longer than its block", 400),
        (begin() + record(PARAMS, b"x" * 101), "more than 100 bytes of variables", 431),
        (begin() + record(PARAMS, b"\0\0" * 6) + record(PARAMS), "more than 5 FastCGI name-value", 431),
        (
            begin() + record(PARAMS, b"\x0e\x01CONTENT_LENGTHx") + record(PARAMS),
            "CONTENT_LENGTH is not a number",
            400,
        ),
        (
            begin() + record(PARAMS, b"\x0e\x01CONTENT_LENGTH2") + record(PARAMS) + record(STDIN, b"abc"),
            "STDIN is longer",
            400,
        ),
        (
            begin()
            + record(PARAMS, b"\x0e\x01CONTENT_LENGTH2")
            + record(PARAMS)
            + record(STDIN, b"a")
            + record(STDIN),
            "STDIN ended 1 bytes short",
            400,
        ),
        (
            begin(role=3) + record(PARAMS, b"\x10\x01FCGI_DATA_LENGTH2") + record(PARAMS) + record(DATA),
            "DATA ended 2 bytes short",
            400,
        ),
    ],
)
@pytest.mark.parametrize("chop", [lambda data: [data], bytewise], ids=["whole", "bytewise"])
def test_server_rejects(
    data: bytes, message: str, status: int, chop: Callable[[bytes], Iterable[bytes]]
) -> None:
    """FCGI-3, FCGI-8, FCGI-9, FCGI-20, FCGI-22: what no web server may send; for good."""
    codec = FastCgiServer(roles=ROLES, variables_limit=100, pair_limit=5)
    with pytest.raises(RemoteProtocolError, match=message) as caught:
        receive(codec, *chop(data))
    assert caught.value.status == status
    codec.receive_data(begin())
    with pytest.raises(RemoteProtocolError) as again:
        codec.next_event()
    assert repr(again.value) == repr(caught.value)
    assert codec.must_close
    with pytest.raises(LocalProtocolError, match="state ERROR"):
        codec.send(ResponseHead(200, []))


def test_body_up_to_content_length_is_given_before_the_rest_is_an_error() -> None:
    """FCGI-20."""
    codec = FastCgiServer()
    codec.receive_data(
        begin() + record(PARAMS, b"\x0e\x01CONTENT_LENGTH2") + record(PARAMS) + record(STDIN, b"abc")
    )
    assert codec.next_event() == RequestVariables({"CONTENT_LENGTH": "2"})
    assert codec.next_event() == Data(b"ab")
    with pytest.raises(RemoteProtocolError, match="longer"):
        codec.next_event()


@pytest.mark.parametrize("data", [begin()[:3], begin(), begin() + record(PARAMS) + record(STDIN, b"x")])
def test_server_input_ends_inside_a_request(data: bytes) -> None:
    codec = FastCgiServer()
    with pytest.raises(Incomplete, match="inside a request"):
        receive(codec, data, b"")


@pytest.mark.parametrize("data", [b"", begin() + record(PARAMS) + record(STDIN)])
def test_server_input_ends_between_requests(data: bytes) -> None:
    codec = FastCgiServer()
    codec.receive_data(data)
    codec.receive_data(b"")
    assert len(events_of(codec)) in (0, 2)


def test_authorizer_needs_no_stdin() -> None:
    """FCGI-21: an Authorizer gets PARAMS and nothing else; an empty STDIN harms nothing."""
    codec = FastCgiServer(roles=[Role.AUTHORIZER])
    assert receive(codec, begin(role=2) + record(PARAMS)) == [RequestVariables({}), END]
    assert receive(codec, record(STDIN)) == []
    with pytest.raises(RemoteProtocolError, match="STDIN record in state DONE"):
        receive(codec, record(STDIN, b"x"))


def test_filter_data_in_any_order_and_unsized() -> None:
    """FCGI-22."""
    codec = FastCgiServer(roles=ROLES)
    data = (
        begin(role=3)
        + record(PARAMS)
        + record(DATA, b"f")
        + record(DATA)
        + record(STDIN, b"b")
        + record(STDIN)
    )
    assert receive(codec, data) == [
        RequestVariables({}),
        FilterData(b"f"),
        FilterData(b""),
        Data(b"b"),
        END,
    ]
    with pytest.raises(RemoteProtocolError, match="DATA record in state DONE"):
        receive(codec, record(DATA))


def test_concurrent_request_is_refused() -> None:
    """FCGI-8, FCGI-13: CANT_MPX_CONN for another id; its records are then those of an inactive request."""
    codec = FastCgiServer()
    data = (
        begin(request=5) + begin(request=6) + record(PARAMS, b"junk", request=6) + record(PARAMS, request=5)
    )
    assert receive(codec, data + record(STDIN, request=5)) == [RequestVariables({}), END]
    assert codec.data_to_send() == end(1, request=6)
    assert codec.data_to_send() == b""
    assert codec.send(ResponseHead(204, [])) == record(STDOUT, b"Status: 204 \r\n\r\n", request=5)


@pytest.mark.parametrize("keep", [0, 1])
def test_unknown_role_is_refused(keep: int) -> None:
    """FCGI-13, FCGI-7: UNKNOWN_ROLE; then the connection is closed unless it is to be kept."""
    codec = FastCgiServer()
    assert receive(codec, begin(role=2, flags=keep) + record(PARAMS, b"junk") + record(PARAMS)) == []
    assert codec.data_to_send() == end(3)
    assert codec.must_close is (not keep)
    assert codec.keep_connection is bool(keep)


def test_get_values_is_answered() -> None:
    """FCGI-17: at any time, with the known names only."""
    codec = FastCgiServer(max_connections=8, max_requests=4)
    question = encode_get_values(["FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS", "OTHER"])
    data = begin() + question + record(PARAMS)
    assert receive(codec, *bytewise(data)) == [RequestVariables({})]
    asker = FastCgiClient()
    assert receive(asker, codec.data_to_send()) == []
    assert asker.values == {"FCGI_MAX_CONNS": "8", "FCGI_MAX_REQS": "4", "FCGI_MPXS_CONNS": "0"}


def test_unknown_management_type_is_answered() -> None:
    """FCGI-18: UNKNOWN_TYPE with that type."""
    codec = FastCgiServer()
    assert receive(codec, record(77, b"what?", request=0, padding=3)) == []
    assert codec.data_to_send() == record(UNKNOWN_TYPE, bytes([77]) + bytes(7), request=0)


def test_answers_are_bounded() -> None:
    codec = FastCgiServer()
    codec.receive_data(record(77, request=0) * 2000)
    with pytest.raises(LimitExceeded, match="answers to management records"):
        codec.next_event()


@pytest.mark.parametrize("keep", [0, 1])
def test_abort_before_the_variables_is_answered_at_once(keep: int) -> None:
    """FCGI-16: no one was told of the request."""
    codec = FastCgiServer()
    assert receive(codec, begin(flags=keep) + record(PARAMS, b"junk") + record(ABORT_REQUEST)) == []
    assert codec.data_to_send() == end()
    assert codec.must_close is (not keep)


def test_abort_of_a_running_request() -> None:
    """FCGI-16: END_REQUEST as soon as possible, with the exit status; then the next request."""
    codec = FastCgiServer()
    data = begin(flags=1) + record(PARAMS) + record(STDIN, b"x") + record(ABORT_REQUEST)
    late = record(STDIN, b"late") + record(ABORT_REQUEST)
    assert receive(codec, data + late) == [RequestVariables({}), Data(b"x"), AbortRequest()]
    assert codec.receiving is server.Receiving.ABORTED
    codec.application_status = -1
    assert codec.abandon() == end(application_status=0xFFFFFFFF)
    assert codec.application_status == 0
    assert receive(codec, record(STDIN), begin(flags=1) + record(PARAMS)) == [RequestVariables({})]
    with pytest.raises(LocalProtocolError, match="no request to end in state IDLE"):
        FastCgiServer().abandon()


def test_abort_of_an_inactive_request_is_ignored() -> None:
    """FCGI-8."""
    codec = FastCgiServer()
    assert receive(codec, record(ABORT_REQUEST) + begin() + record(ABORT_REQUEST, request=9)) == []
    assert codec.data_to_send() == b""
    assert codec.receiving is server.Receiving.PARAMS


# The application's role: sending


def test_refuse() -> None:
    """FCGI-13, FCGI-14: OVERLOADED."""
    codec = FastCgiServer()
    with pytest.raises(LocalProtocolError, match="no request to refuse in state IDLE"):
        codec.refuse(Refusal.OVERLOADED)
    receive(codec, begin() + record(PARAMS))
    assert codec.refuse(Refusal.OVERLOADED) == end(2)
    assert codec.must_close


def test_application_status_is_told() -> None:
    """FCGI-13."""
    codec = FastCgiServer()
    receive(codec, begin() + record(PARAMS) + record(STDIN))
    codec.send(ResponseHead(204, []))
    codec.application_status = 3
    assert codec.send(END) == record(STDOUT) + end(application_status=3)


def test_server_sends_no_record_for_no_data() -> None:
    """FCGI-4."""
    codec = FastCgiServer()
    receive(codec, begin() + record(PARAMS))
    codec.send(ResponseHead(200, []))
    assert codec.send(Data(b"")) == codec.send(Stderr(b"")) == b""


def test_early_response_on_a_kept_connection() -> None:
    """FCGI-8, FCGI-10: the rest of the request is for an inactive id, also inside a record."""
    codec = FastCgiServer()
    body = record(STDIN, b"x" * 100, padding=4)
    receive(codec, begin(flags=1) + record(PARAMS) + body[:50])
    codec.send(ResponseHead(413, []))
    codec.send(END)
    assert not codec.must_close
    rest = body[50:] + record(STDIN)
    assert receive(codec, rest + begin(flags=1) + record(PARAMS)) == [RequestVariables({})]


def test_bytes_after_the_last_request_are_dropped() -> None:
    codec = FastCgiServer()
    receive(codec, begin() + record(PARAMS))
    codec.abandon()
    assert receive(codec, begin(), b"") == []


@pytest.mark.parametrize(
    "event", [InformationalResponse(103, []), Data(b"x"), END, ResponseHead(200, [(b"a", b"\n")])]
)
def test_server_rejects_illegal_move_and_stays_failed(event: ResponseEvent) -> None:
    codec = FastCgiServer()
    receive(codec, begin() + record(PARAMS))
    with pytest.raises(LocalProtocolError):
        codec.send(event)
    with pytest.raises(LocalProtocolError, match="state ERROR"):
        codec.send(ResponseHead(200, []))


# Any input

record_pieces = st.sampled_from(
    [
        begin(),
        begin(flags=1),
        begin(role=3, flags=1),
        begin(role=2),
        begin(request=2),
        begin(role=9),
        record(PARAMS),
        record(PARAMS, PORT_BLOCK),
        record(PARAMS, b"\x0e\x01CONTENT_LENGTH3"),
        record(ABORT_REQUEST),
        record(STDIN),
        record(STDIN, b"body"),
        record(STDIN, b"abc", padding=5),
        record(DATA, b"x"),
        record(DATA),
        record(STDOUT),
        record(STDOUT, OK_TEXT),
        record(STDOUT, b"x", padding=2),
        record(STDOUT, b"\n"),
        record(STDERR, b"oops"),
        record(STDERR),
        end(),
        end(2),
        end(9),
        end(request=3),
        record(GET_VALUES, b"\x0e\0FCGI_MAX_CONNS", request=0),
        record(GET_VALUES_RESULT, request=0),
        record(50, b"odd", request=0),
        record(50),
        record(UNKNOWN_TYPE, bytes(8), request=0),
    ]
)
inputs = st.lists(record_pieces | st.binary(max_size=9), max_size=12).map(b"".join)


def outcome(codec: Codec, data: bytes, cuts: Iterable[int]) -> tuple[list[Any], str | None, bytes]:
    """Events, error and answers for *data* that comes in pieces and ends."""
    events: list[Any] = []
    error = None
    answers = b""
    borders = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    chunks = [data[a:b] for a, b in itertools.pairwise(borders) if a < b]
    try:
        for chunk in (*chunks, b""):
            codec.receive_data(chunk)
            while (event := codec.next_event()) is not NEED_DATA:
                add(events, event)
            if isinstance(codec, FastCgiServer):
                answers += codec.data_to_send()
    except RemoteProtocolError as caught:
        error = str(caught)
    if isinstance(codec, FastCgiServer):
        answers += codec.data_to_send()
    return events, error, answers


@given(data=inputs, cuts=st.lists(st.integers(1, 200)))
def test_client_gives_the_same_for_every_split(data: bytes, cuts: list[int]) -> None:
    """Any bytes end in events or one RemoteProtocolError, and never depend on how they arrive."""
    whole = outcome(asked(FastCgiClient(keep_connection=True)), data, [])
    assert outcome(asked(FastCgiClient(keep_connection=True)), data, cuts) == whole
    assert outcome(asked(FastCgiClient(keep_connection=True)), data, range(1, len(data))) == whole
    events, error, _ = whole
    assert error is not None or END in events


@given(data=inputs, cuts=st.lists(st.integers(1, 200)))
def test_server_gives_the_same_for_every_split(data: bytes, cuts: list[int]) -> None:
    whole = outcome(FastCgiServer(roles=ROLES), data, [])
    assert outcome(FastCgiServer(roles=ROLES), data, cuts) == whole
    assert outcome(FastCgiServer(roles=ROLES), data, range(1, len(data))) == whole


@given(
    variables=st.dictionaries(st.text("AB_", min_size=1), st.text(st.characters(max_codepoint=255))),
    body=st.lists(st.binary(min_size=1, max_size=50), max_size=4),
    keep=st.booleans(),
)
def test_client_to_server(variables: dict[str, str], body: list[bytes], keep: bool) -> None:
    """What one role says, the other hears."""
    events: list[SentEvent] = [RequestVariables(variables), *map(Data, body), END]
    codec = FastCgiClient(keep_connection=keep)
    data = b"".join(codec.send(event) for event in events)
    received = receive(FastCgiServer(), *bytewise(data))
    joined = [Data(b"".join(body))] if body else []
    assert received == [RequestVariables(variables), *joined, END]


# Every move: legal, or LocalProtocolError


class ClientMoves(RuleBasedStateMachine):
    """Walks send, abort and END_REQUEST of the client against a model of what is legal."""

    def __init__(self) -> None:
        super().__init__()
        self.codec = FastCgiClient(keep_connection=True)
        self.state = "idle"

    def attempt(self, event: SentEvent, legal_in: str, following: str) -> None:
        if self.state == legal_in:
            self.codec.send(event)
            self.state = following
        else:
            with pytest.raises(LocalProtocolError):
                self.codec.send(event)
            self.state = "error"

    @rule()
    def variables(self) -> None:
        self.attempt(RequestVariables({}), "idle", "body")

    @rule()
    def data(self) -> None:
        self.attempt(Data(b"x"), "body", "body")

    @rule()
    def end(self) -> None:
        self.attempt(END, "body", "sent")

    @rule()
    def filter_data(self) -> None:
        self.attempt(FilterData(b"x"), "never", "error")

    @precondition(lambda self: self.state in ("body", "sent"))
    @rule()
    def response(self) -> None:
        assert receive(self.codec, record(STDOUT, OK_TEXT) + end()) == [OK, END]
        self.state = "idle" if self.state == "sent" else "closed"

    @rule()
    def abort(self) -> None:
        if self.state in ("body", "sent"):
            self.codec.abort()
            assert receive(self.codec, end()) == [END]
            self.state = "idle"
        else:
            with pytest.raises(LocalProtocolError):
                self.codec.abort()

    @invariant()
    def states_agree(self) -> None:
        assert self.codec.reusable == (self.state == "idle")


class ServerMoves(RuleBasedStateMachine):
    """Walks what the application may send against a model of what is legal."""

    def __init__(self) -> None:
        super().__init__()
        self.codec = FastCgiServer()
        self.state = "idle"

    def attempt(self, event: ResponseEvent, moves: dict[str, str]) -> None:
        if self.state in moves:
            self.codec.send(event)
            self.state = moves[self.state]
        else:
            with pytest.raises(LocalProtocolError):
                self.codec.send(event)
            self.state = "error"

    @precondition(lambda self: self.state == "idle")
    @rule()
    def request(self) -> None:
        assert receive(self.codec, begin(flags=1) + record(PARAMS)) == [RequestVariables({})]
        self.state = "head"

    @rule()
    def head(self) -> None:
        self.attempt(ResponseHead(200, []), {"head": "body"})

    @rule()
    def redirect(self) -> None:
        self.attempt(LocalRedirect(b"/"), {"head": "end"})

    @rule()
    def data(self) -> None:
        self.attempt(Data(b"x"), {"body": "body"})

    @rule()
    def stderr(self) -> None:
        self.attempt(Stderr(b"x"), {"head": "head", "body": "body", "end": "end"})

    @rule()
    def end(self) -> None:
        self.attempt(END, {"body": "idle", "end": "idle"})

    @precondition(lambda self: self.state in ("head", "body", "end"))
    @rule()
    def abandon(self) -> None:
        self.codec.abandon()
        self.state = "idle"

    @invariant()
    def states_agree(self) -> None:
        assert self.codec.sending.value == self.state


TestClientMoves = ClientMoves.TestCase
TestClientMoves.settings = settings(max_examples=50, stateful_step_count=20)
TestServerMoves = ServerMoves.TestCase
TestServerMoves.settings = settings(max_examples=50, stateful_step_count=20)


# What an application tells of itself


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, Capabilities()),
        (
            {"FCGI_MAX_CONNS": "10", "FCGI_MAX_REQS": "50", "FCGI_MPXS_CONNS": "1"},
            Capabilities(10, 50, multiplexes=True),
        ),
        ({"FCGI_MAX_CONNS": "1", "FCGI_MPXS_CONNS": "0", "OTHER": "1"}, Capabilities(1)),
        ({"FCGI_MAX_CONNS": "", "FCGI_MAX_REQS": "0", "FCGI_MPXS_CONNS": ""}, Capabilities()),
        ({"FCGI_MAX_CONNS": "-1", "FCGI_MAX_REQS": "many", "FCGI_MPXS_CONNS": "yes"}, Capabilities()),
        ({"FCGI_MAX_CONNS": "\xb2", "FCGI_MAX_REQS": "9" * 10}, Capabilities()),
    ],
)
def test_capabilities(values: dict[str, str], expected: Capabilities) -> None:
    """FCGI-17: known names only, digits only; what is none says nothing."""
    assert capabilities_of(values) == expected


def test_question_for_capabilities() -> None:
    """FCGI-17: id 0, names with empty values; our own application answers it."""
    server = FastCgiServer(max_connections=3, max_requests=4)
    server.receive_data(GET_CAPABILITIES)
    assert server.next_event() is NEED_DATA
    client = FastCgiClient()
    client.receive_data(server.data_to_send())
    assert client.next_event() is NEED_DATA
    assert client.values is not None
    assert capabilities_of(client.values) == Capabilities(3, 4)
