"""Several requests on one FastCGI connection: whose records are whose."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.errors import LocalProtocolError, RemoteProtocolError
from gateway.protocols.events import NEED_DATA, Data, EndOfMessage, RequestVariables, ResponseHead
from gateway.protocols.fastcgi import FastCgiClient, encode_pairs
from gateway.protocols.fastcgi.multiplex import HIGHEST_ID, Multiplexer
from gateway.protocols.fastcgi.records import (
    ABORT_REQUEST,
    BEGIN_REQUEST,
    END_REQUEST,
    GET_VALUES_RESULT,
    PARAMS,
    STDERR,
    STDIN,
    STDOUT,
    RecordReader,
    encode_end_request,
    encode_record,
    encode_stream,
    encode_unknown_type,
)
from tests.protocols.conftest import joined, pieces, read_events

HEAD = b"Content-Type: text/plain\r\n\r\n"


def records_of(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    reader = RecordReader(status=400)
    reader.receive_data(data)
    while (record := reader.next_record()) is not None:
        yield record
    assert reader.at_boundary


def received(codec: Multiplexer, data: bytes) -> list[tuple[int, bytes, bool]]:
    codec.receive_data(data)
    found = []
    while (record := codec.next_record()) is not None:
        found.append(record)
    return found


def test_ids_are_small_and_used_again() -> None:
    """FCGI-8."""
    codec = Multiplexer()
    assert [codec.begin() for _ in range(4)] == [1, 2, 3, 4]
    codec.release(3)
    assert received(codec, encode_end_request(2)) == [(2, encode_end_request(1), True)]
    assert codec.active == 2
    assert [codec.begin() for _ in range(3)] == [2, 3, 5]


def test_there_are_so_many_ids() -> None:
    """FCGI-1: 16 bits."""
    codec = Multiplexer()
    assert [codec.begin() for _ in range(HIGHEST_ID)][-1] == 65535
    with pytest.raises(LocalProtocolError, match="65535 FastCGI requests are active"):
        codec.begin()


@pytest.mark.parametrize("request_id", [1, 2, 0x1234])
@pytest.mark.parametrize("size", [0, 1, 65535, 200_000])
def test_request_gets_its_id(request_id: int, size: int) -> None:
    """FCGI-9: all records of a request, whatever their sizes."""
    client = FastCgiClient(keep_connection=True)
    variables = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(size), "LONG": "x" * 1000}
    data = client.send(RequestVariables(variables)) + client.send(Data(b"b" * size))
    data += client.send(EndOfMessage())
    sent = Multiplexer().to_application(request_id, memoryview(data))
    found = list(records_of(sent))
    assert {each for _, each, _ in found} == {request_id}
    assert [(kind, content) for kind, _, content in found] == [
        (kind, content) for kind, _, content in records_of(data)
    ]


def test_padding_is_no_record() -> None:
    """FCGI-6: whoever has encoded them."""
    padded = bytes([1, STDIN, 0, 1, 0, 3, 5, 0]) + b"abc" + bytes(5)
    found = Multiplexer().to_application(7, padded + encode_record(STDIN, 1))
    assert list(records_of(found)) == [(STDIN, 7, b"abc"), (STDIN, 7, b"")]


@given(data=st.data())
def test_answers_are_told_apart(data: st.DataObject) -> None:
    """FCGI-4, FCGI-8: records of several requests in any order, cut anywhere."""
    count = data.draw(st.integers(1, 4))
    outputs = [HEAD + b"answer %d " % number + data.draw(st.binary(max_size=40)) for number in range(count)]
    codec = Multiplexer()
    clients: dict[int, FastCgiClient] = {}
    streams: dict[int, list[bytes]] = {}
    for output in outputs:
        request_id = codec.begin()
        client = clients[request_id] = FastCgiClient(keep_connection=True)
        client.send(RequestVariables({"REQUEST_METHOD": "GET"}))
        client.send(EndOfMessage())
        cut = data.draw(st.integers(1, len(output) - 1))
        streams[request_id] = [
            encode_stream(STDOUT, request_id, output[:cut]),
            encode_record(STDERR, request_id),
            encode_stream(STDOUT, request_id, output[cut:]) + encode_record(STDOUT, request_id),
            encode_end_request(request_id),
        ]
    wire = b""
    while any(streams.values()):
        wire += data.draw(st.sampled_from([each for each in streams.values() if each])).pop(0)
        if data.draw(st.booleans()):
            wire += encode_unknown_type(99) + encode_record(GET_VALUES_RESULT, 0, encode_pairs({"A": "1"}))
    events: dict[int, list[object]] = {request_id: [] for request_id in clients}
    ends = []
    for piece in pieces(wire, data.draw(st.lists(st.integers(0, len(wire)), max_size=8))):
        for request_id, record, ended in received(codec, piece):
            clients[request_id].receive_data(record)
            events[request_id] += read_events(clients[request_id])
            ends += [request_id] if ended else []
    assert sorted(ends) == sorted(clients)
    assert codec.active == 0
    assert codec.sound
    for number, found in enumerate(events.values()):
        head, body, end = joined(found)
        assert isinstance(head, ResponseHead)
        assert body == Data(outputs[number].removeprefix(HEAD))
        assert end == EndOfMessage()


def test_abandoned_request_holds_its_id_to_its_end() -> None:
    """FCGI-16: what still comes is dropped."""
    codec = Multiplexer()
    assert [codec.begin(), codec.begin()] == [1, 2]
    assert list(records_of(codec.abandon(1))) == [(ABORT_REQUEST, 1, b"")]
    late = encode_stream(STDOUT, 1, HEAD) + encode_stream(STDERR, 1, b"late") + encode_record(STDOUT, 1)
    assert received(codec, late + encode_stream(STDOUT, 2, HEAD)) == [
        (2, encode_stream(STDOUT, 1, HEAD), False)
    ]
    assert codec.begin() == 3
    assert received(codec, encode_end_request(1)) == [(1, b"", True)]
    assert codec.begin() == 1
    assert codec.sound


@pytest.mark.parametrize(
    "data",
    [
        encode_end_request(2),
        encode_end_request(1) * 2,
        encode_stream(STDOUT, 9, b"whose?"),
        encode_record(STDERR, 9),
    ],
)
def test_records_of_nobody_are_ignored(data: bytes) -> None:
    """FCGI-8; and no further request is to be begun."""
    codec = Multiplexer()
    codec.begin()
    assert [ended for _, _, ended in received(codec, data)] in ([], [True])
    assert not codec.sound


@pytest.mark.parametrize(
    ("offence", "problem"),
    [
        (b"HTTP/1.1 200 OK\r\n", "version 72"),
        (encode_record(STDIN, 1, b"x"), "STDIN record from an application"),
        (encode_record(PARAMS, 9, b"x"), "PARAMS record from an application"),
        (encode_record(BEGIN_REQUEST, 1, bytes(8)), "BEGIN_REQUEST"),
        (encode_record(END_REQUEST, 1, b"short"), "5 bytes of content instead of 8"),
        (encode_record(STDOUT, 0, b"x"), "request id 0"),
        (encode_record(GET_VALUES_RESULT, 1, b""), "a request id on a management record"),
        (bytes([1, 77, 0, 1, 0, 0, 0, 0]), "a request id on an unknown type"),
        (encode_record(GET_VALUES_RESULT, 0, bytes(5000)), "more than 4096 bytes"),
    ],
)
def test_nonsense_is_everybodys_fault(offence: bytes, problem: str) -> None:
    """FCGI-3, FCGI-18: the codec of each request finds the same, and so does each later call."""
    codec = Multiplexer()
    codec.begin()
    assert received(codec, encode_stream(STDOUT, 1, HEAD))
    codec.receive_data(offence)
    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match=problem):
            codec.next_record()
    assert not codec.sound
    client = FastCgiClient(keep_connection=True)
    client.send(RequestVariables({}))
    client.receive_data(codec.offence)
    with pytest.raises(RemoteProtocolError):
        client.next_event()


def test_whole_small_response_is_one_for_the_codec() -> None:
    """A small response in one read takes the codec's short way."""
    codec = Multiplexer()
    codec.begin()
    number = codec.begin()
    client = FastCgiClient(keep_connection=True)
    client.send(RequestVariables({}))
    client.send(EndOfMessage())
    response = encode_stream(STDOUT, number, HEAD + b"hi") + encode_record(STDOUT, number)
    found = received(codec, response + encode_end_request(number))
    client.receive_data(b"".join(record for _, record, _ in found))
    assert [type(event) for event in read_events(client)] == [ResponseHead, Data, EndOfMessage]
    assert client.next_event() is NEED_DATA
    assert client.reusable
