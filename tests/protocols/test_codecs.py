"""What every codec promises, whatever its protocol: one set of tests that all of them pass."""

import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.ajp import AjpClient, AjpServer
from gateway.protocols.codec import ClientCodec, ServerCodec
from gateway.protocols.errors import LocalProtocolError, RemoteProtocolError
from gateway.protocols.events import (
    NEED_DATA,
    Data,
    EndOfMessage,
    RequestHead,
    RequestVariables,
    ResponseHead,
    Stderr,
)
from gateway.protocols.fastcgi import FastCgiClient, FastCgiServer
from gateway.protocols.http1 import Http1Server
from gateway.protocols.http1.client import Http1Client
from gateway.protocols.scgi import ScgiClient, ScgiServer
from gateway.protocols.uwsgi import UwsgiClient, UwsgiServer
from tests.protocols.conftest import Play

# Requests and responses in the form in which a codec gives them, so that sent and received compare equal

pieces = st.lists(st.binary(min_size=1, max_size=200), max_size=4)
cut_points = st.lists(st.integers(0, 600), max_size=12)
texts = st.text(st.characters(max_codepoint=255, exclude_characters="\0"), max_size=40)
names = st.text(st.characters(max_codepoint=255, exclude_characters="\0"), min_size=1, max_size=40)
attributes = st.from_regex(r"AJP_[a-z.]{1,20}", fullmatch=True)
field_names = st.from_regex(rb"x-[a-z0-9-]{1,20}", fullmatch=True)
field_values = st.from_regex(rb"([!-~\x80-\xff]([ -~]{0,20}[!-~])?)?", fullmatch=True)


AJP_REQUEST = {
    "REQUEST_METHOD": "POST",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REQUEST_URI": "/",
    "QUERY_STRING": "",
    "REMOTE_ADDR": "",
    "REMOTE_HOST": "",
    "SERVER_NAME": "",
    "SERVER_PORT": "80",
}


def message(head: Any, body: list[bytes]) -> list[Any]:
    return [head, *map(Data, body), EndOfMessage()]


@st.composite
def variable_requests(draw: st.DrawFn) -> list[Any]:
    """Requests of the CGI family."""
    body = draw(pieces)
    variables = {"CONTENT_LENGTH": str(sum(map(len, body))), "SCGI": "1"}
    extra = draw(st.dictionaries(names, texts, max_size=8))
    return message(RequestVariables(extra | variables), body)


@st.composite
def ajp_requests(draw: st.DrawFn) -> list[Any]:
    """Requests whose body is in the one packet that comes unasked."""
    body = b"".join(draw(pieces))
    extra = draw(st.dictionaries(attributes, texts.filter(bool), max_size=8))
    variables = {**AJP_REQUEST, **extra, "CONTENT_LENGTH": str(len(body))}
    return message(RequestVariables(variables), [body] if body else [])


@st.composite
def http_requests(draw: st.DrawFn) -> list[Any]:
    body = draw(pieces)
    framing = [(b"transfer-encoding", b"chunked")]
    if draw(st.booleans()):
        framing = [(b"content-length", b"%d" % sum(map(len, body)))]
    extra = draw(st.lists(st.tuples(field_names, field_values), max_size=8))
    return message(RequestHead(b"POST", b"/x?q", [(b"host", b"h"), *extra, *framing]), body)


@st.composite
def responses(draw: st.DrawFn) -> list[Any]:
    body = draw(pieces)
    fields = [(b"content-type", b"text/plain")]
    fields += draw(st.lists(st.tuples(field_names, field_values), max_size=8))
    if draw(st.booleans()):
        fields.append((b"content-length", b"%d" % sum(map(len, body))))
    status = draw(st.sampled_from([200, 201, 302, 404, 500, 599]))
    reason = draw(st.sampled_from([b"OK", b"Not so good"]))  # HTTP fills in an empty one
    return message(ResponseHead(status, fields, reason), body)


@dataclass
class Pair:
    """The two sides of one protocol; that they have the common surface is checked by mypy here."""

    client: Callable[[], ClientCodec]
    server: Callable[[], ServerCodec | FastCgiServer]
    """FastCGI's has events of its own besides."""
    requests: st.SearchStrategy[list[Any]]

    def sent(self) -> tuple[ClientCodec, bytes]:
        """A client that has sent a request without a body, and the bytes."""
        head: Any = RequestVariables({**AJP_REQUEST, "CONTENT_LENGTH": "0", "SCGI": "1"})
        if self.client is Http1Client:
            head = RequestHead(b"GET", b"/", [(b"host", b"h")])
        client = self.client()
        return client, send_all(client, message(head, []))

    def received(self, play: Play) -> Any:
        """A server that has received that request."""
        server = self.server()
        play(server, self.sent()[1])
        return server


PAIRS = {
    "scgi": Pair(ScgiClient, ScgiServer, variable_requests()),
    "uwsgi": Pair(UwsgiClient, UwsgiServer, variable_requests()),
    "fastcgi": Pair(FastCgiClient, FastCgiServer, variable_requests()),
    "ajp": Pair(AjpClient, AjpServer, ajp_requests()),
    "http1": Pair(Http1Client, Http1Server, http_requests()),
}
every_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())


def send_all(codec: Any, events: list[Any]) -> bytes:
    return b"".join(codec.send(event) for event in events)


def without_framing(events: list[Any]) -> list[Any]:
    """The events of a response without the fields by which HTTP says where the body ends."""
    head, *rest = events
    fields = [field for field in head.headers if field[0] not in {b"transfer-encoding", b"connection"}]
    return [ResponseHead(head.status, fields, head.reason), *rest]


# One side against the other


@every_pair
@given(data=st.data())
def test_requests_and_responses_pass_between_the_sides(pair: Pair, play: Play, data: st.DataObject) -> None:
    """At any split point, the server receives what the client sent and the client what the server sent."""
    client, server = pair.client(), pair.server()
    request = data.draw(pair.requests)
    wire = send_all(client, request)
    assert play(server, wire, data.draw(cut_points)) == play_back(request)

    response = data.draw(responses())
    wire = send_all(server, response)
    received = play(client, wire, data.draw(cut_points), end=True)
    assert without_framing(received) == play_back(response)


def play_back(events: list[Any]) -> list[Any]:
    """The events with the body in one piece, as the receiving side is read in these tests."""
    head, *body, end = events
    whole = b"".join(piece.data for piece in body)
    return [head, *([Data(whole)] if whole else []), end]


# Any bytes


def outcome(codec: Any, play: Play, data: bytes, cuts: list[int]) -> tuple[list[Any], str | None]:
    """The events and the kind of error that *data* makes; checks that the error stays."""
    events: list[Any] = []

    class Recorder:
        """The codec, keeping its events although an error ends the playing."""

        receive_data = codec.receive_data

        def next_event(self) -> Any:
            event = codec.next_event()
            if event is not NEED_DATA:
                if events and isinstance(event, Data) and isinstance(events[-1], Data):
                    event = Data(events.pop().data + event.data)
                events.append(event)
            return event

    try:
        play(Recorder(), data, cuts, end=True)
    except RemoteProtocolError as error:
        for more in (b"", b"GET / HTTP/1.1\r\n\r\n", data):
            codec.receive_data(more)
            with pytest.raises(type(error)) as again:
                codec.next_event()
            assert (str(again.value), again.value.status) == (str(error), error.status)  # noqa: PT017
        return events, type(error).__name__
    return events, None


@st.composite
def damaged(draw: st.DrawFn, wire: bytes) -> bytes:
    """*wire* with a few bytes replaced, taken out or put in."""
    damage = bytearray(wire)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(damage)))
        damage[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=3))
    return bytes(damage)


@every_pair
@given(data=st.data())
def test_server_turns_any_bytes_into_events_or_a_remote_error(
    pair: Pair, play: Play, data: st.DataObject
) -> None:
    """The same ones at any split point, and no other exception."""
    request = send_all(pair.client(), data.draw(pair.requests))
    wire = data.draw(st.binary() | damaged(request))
    assert outcome(pair.server(), play, wire, data.draw(cut_points)) == outcome(pair.server(), play, wire, [])


@every_pair
@given(data=st.data())
def test_client_turns_any_bytes_into_events_or_a_remote_error(
    pair: Pair, play: Play, data: st.DataObject
) -> None:
    """The same ones at any split point, and no other exception."""
    response = send_all(pair.received(play), data.draw(responses()))
    wire = data.draw(st.binary() | damaged(response))
    cuts = data.draw(cut_points)
    assert outcome(pair.sent()[0], play, wire, cuts) == outcome(pair.sent()[0], play, wire, [])


# Bounds

MEMORY = 1024 * 1024
"""Bytes that a codec may keep: above every limit of a head, far below what the tests feed."""

ENDLESS = [
    b"a",
    b"1",
    b"\0",
    b"\xff",
    b"\r\n",
    b"X: y\r\n",
    b"\x01\x04\0\x01\0\0\0\0",
    b"\x12\x34\0\1\x0a",
    b"AB\0\1\x09",
    b"5\r\nabcde\r\n",
]


def kept(codec: Any, prefix: bytes, unit: bytes) -> int:
    """Bytes of memory that *codec* holds after *prefix* and 4 MiB of *unit*, read as they come."""
    chunk = unit * (65536 // len(unit))
    tracemalloc.start()
    try:
        codec.receive_data(prefix)
        for _ in range(64):
            try:
                while codec.next_event() is not NEED_DATA:
                    pass
            except RemoteProtocolError:
                pass
            codec.receive_data(chunk)
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


@every_pair
@pytest.mark.parametrize("unit", ENDLESS)
def test_server_keeps_bounded_memory(pair: Pair, unit: bytes) -> None:
    """From the start, after a part of a request, and after a complete one."""
    request = pair.sent()[1]
    for prefix in (b"", request[:1], request[: len(request) // 2], request):
        assert kept(pair.server(), prefix, unit) < MEMORY


@every_pair
@pytest.mark.parametrize("unit", ENDLESS)
def test_client_keeps_bounded_memory(pair: Pair, unit: bytes, play: Play) -> None:
    """From the start, after a part of a response, and after a complete one."""
    head = ResponseHead(200, [(b"content-type", b"text/plain"), (b"content-length", b"2")], b"OK")
    response = send_all(pair.received(play), message(head, [b"42"]))
    for prefix in (b"", response[:10], response[: len(response) // 2], response):
        assert kept(pair.sent()[0], prefix, unit) < MEMORY


# The end of input, and misuse


@every_pair
def test_receive_data_only_stores(pair: Pair, play: Play) -> None:
    """It takes anything at any time, after the end of input and after an error too, and raises nothing."""
    for codec in (pair.client(), pair.sent()[0], pair.server(), pair.received(play)):
        for data in (b"\xff" * 1000, b"", b"more", b"", b"\0"):
            codec.receive_data(data)


@every_pair
def test_nothing_is_given_before_anything_came(pair: Pair) -> None:
    assert pair.client().next_event() is NEED_DATA
    assert pair.sent()[0].next_event() is NEED_DATA
    assert pair.server().next_event() is NEED_DATA


@every_pair
def test_client_fails_when_the_connection_is_closed_without_a_response(pair: Pair, play: Play) -> None:
    assert outcome(pair.sent()[0], play, b"", []) == ([], "Incomplete")


@every_pair
@pytest.mark.parametrize(
    "event",
    [Data(b"x"), EndOfMessage()],
    ids=lambda event: type(event).__name__,
)
def test_client_refuses_what_is_not_the_head_of_a_request(pair: Pair, event: Any) -> None:
    """A local error, which stays: not even what was legal before can be sent after it."""
    client: Any = pair.client()
    for refused in (event, EndOfMessage(), Data(b"x")):
        with pytest.raises(LocalProtocolError):
            client.send(refused)


@every_pair
@pytest.mark.parametrize(
    "event", [ResponseHead(200, []), Stderr(b"x")], ids=lambda event: type(event).__name__
)
def test_client_refuses_events_of_a_server(pair: Pair, event: Any) -> None:
    """Compiled, its declared type refuses them."""
    client: Any = pair.client()
    with pytest.raises((LocalProtocolError, TypeError)):
        client.send(event)


@every_pair
def test_server_refuses_events_of_a_client(pair: Pair, play: Play) -> None:
    """Compiled, its declared type refuses them."""
    server: Any = pair.received(play)
    with pytest.raises((LocalProtocolError, TypeError)):
        server.send(RequestVariables({}))


@every_pair
@pytest.mark.parametrize("event", [Data(b"x"), EndOfMessage()], ids=lambda event: type(event).__name__)
def test_server_refuses_what_is_not_the_head_of_a_response(pair: Pair, event: Any, play: Play) -> None:
    """A local error, which stays: not even what was legal before can be sent after it."""
    server: Any = pair.received(play)
    for refused in (event, ResponseHead(200, []), EndOfMessage()):
        with pytest.raises(LocalProtocolError):
            server.send(refused)


# The package


def test_package_needs_no_input_or_output() -> None:
    """Every module can be imported where there is no trio, no socket and no logging."""
    program = """
import importlib, pkgutil, sys
import hpack  # it imports logging; nothing of it is used above debug
for name in "trio asyncio socket ssl selectors subprocess logging structlog".split():
    sys.modules[name] = None
import gateway.protocols
for module in pkgutil.walk_packages(gateway.protocols.__path__, "gateway.protocols."):
    importlib.import_module(module.name)
print(*(name for name in sys.modules if name.startswith("gateway.")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    modules = set(done.stdout.split())
    assert {name for name in modules if not f"{name}.".startswith("gateway.protocols.")} == set()
    assert {
        "gateway.protocols.scgi",
        "gateway.protocols.uwsgi",
        "gateway.protocols.ajp.client",
        "gateway.protocols.fastcgi.client",
        "gateway.protocols.http1.server",
        "gateway.protocols.http2.server",
    } <= modules
