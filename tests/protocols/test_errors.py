"""Errors that stay: said again with the same facts, and without what the first one was raised from."""

from collections.abc import Callable, Iterator
from traceback import walk_tb
from typing import Any

import pytest

from gateway.protocols.ajp import AjpClient, AjpServer
from gateway.protocols.cgi import ResponseParser
from gateway.protocols.errors import (
    Incomplete,
    LimitExceeded,
    LocalProtocolError,
    ProtocolError,
    Refusal,
    RemoteProtocolError,
    RequestRefused,
    TooLargeToEncode,
)
from gateway.protocols.events import EndOfMessage, RequestVariables
from gateway.protocols.fastcgi import FastCgiClient, FastCgiServer
from gateway.protocols.fastcgi.multiplex import Multiplexer
from gateway.protocols.fastcgi.records import encode_end_request
from gateway.protocols.http1 import Http1Server, Http2Preface
from gateway.protocols.http1.client import Http1Client
from gateway.protocols.http2 import Http2Server
from gateway.protocols.http2.errors import ErrorCode, Http2Error, MalformedMessage
from gateway.protocols.scgi import ScgiClient, ScgiServer
from gateway.protocols.uwsgi import UwsgiClient, UwsgiServer
from tests.gateway.freed import freed_without_the_collector

Step = Callable[[], Any]


def reading(codec: Any, wire: bytes, *sent: Any) -> tuple[Any, Step]:
    """*codec* after *wire*, and what raises its error."""
    for event in sent:
        codec.send(event)
    codec.receive_data(wire)
    return codec, codec.next_record if isinstance(codec, Multiplexer) else codec.next_event


def http2() -> tuple[Any, Step]:
    server = Http2Server()
    return server, lambda: server.receive_data(b"GET / HTTP/1.1\r\n\r\n")


def refused() -> tuple[Any, Step]:
    wire = encode_end_request(1, refusal=Refusal.OVERLOADED)
    return reading(FastCgiClient(), wire, RequestVariables({}), EndOfMessage())


def sending(codec: Any) -> tuple[Any, Step]:
    return codec, lambda: codec.send(EndOfMessage())


FAILED: dict[str, Callable[[], tuple[Any, Step]]] = {
    "cgi": lambda: reading(ResponseParser(), b"\n"),
    "cgi, too large": lambda: reading(ResponseParser(head_limit=1), b"Status: 200"),
    "cgi, incomplete": lambda: reading(ResponseParser(), b""),
    "scgi client": lambda: reading(ScgiClient(), b"\n"),
    "scgi client, sending": lambda: sending(ScgiClient()),
    "scgi server": lambda: reading(ScgiServer(), b"x"),
    "scgi server, incomplete": lambda: reading(ScgiServer(), b""),
    "scgi server, sending": lambda: sending(ScgiServer()),
    "uwsgi client": lambda: reading(UwsgiClient(), b"\n"),
    "uwsgi server": lambda: reading(UwsgiServer(), b"\xff\xff\xff\xff"),
    "fastcgi client": lambda: reading(FastCgiClient(), b"\2" * 8),
    "fastcgi client, refused": refused,
    "fastcgi server": lambda: reading(FastCgiServer(), b"\2" * 8),
    "fastcgi requests": lambda: reading(Multiplexer(), b"\2" * 8),
    "ajp client": lambda: reading(AjpClient(), b"GET "),
    "ajp server": lambda: reading(AjpServer(), b"GET "),
    "http1 client": lambda: reading(Http1Client(), b"x"),
    "http1 server": lambda: reading(Http1Server(), b"\x16"),
    "http1 server, preface": lambda: reading(Http1Server(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "http2 server": http2,
}
each_failed = pytest.mark.parametrize("make", FAILED.values(), ids=FAILED.keys())


def errors_of(step: Step) -> Iterator[ProtocolError]:
    while True:
        try:
            step()
        except ProtocolError as error:
            yield error


def facts(error: ProtocolError) -> tuple[object, ...]:
    names = ("status", "refusal", "received", "code")
    return type(error), error.args, *(getattr(error, name, None) for name in names)


@each_failed
def test_an_error_stays(make: Callable[[], tuple[Any, Step]]) -> None:
    """The same kind and facts on each call; no call makes its traceback longer."""
    errors = errors_of(make()[1])
    first, second, third, fourth = (next(errors) for _ in range(4))
    assert facts(first) == facts(second) == facts(third) == facts(fourth)
    assert len(list(walk_tb(second.__traceback__))) == len(list(walk_tb(fourth.__traceback__)))
    assert second is not third


@each_failed
def test_a_codec_that_failed_is_freed(make: Callable[[], tuple[Any, Step]]) -> None:
    """What it keeps of its error does not lead back to it."""

    def fail() -> None:
        _, step = make()
        for _ in range(3):
            with pytest.raises(ProtocolError):
                step()

    with freed_without_the_collector(type(make()[0])):
        fail()


ERRORS = (
    LocalProtocolError("a"),
    TooLargeToEncode("b"),
    RemoteProtocolError("c", status=502),
    LimitExceeded("d", status=431),
    Incomplete("e", status=502),
    RequestRefused(Refusal.OVERLOADED),
    Http2Preface("f", received=b"PRI"),
    Http2Error("g", ErrorCode.ENHANCE_YOUR_CALM),
    MalformedMessage("h"),
)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_is_said_again(error: Any) -> None:
    """Whatever facts its kind has."""
    again = error.again()
    assert again is not error
    assert facts(again) == facts(error)


def test_all_kinds_are_tried() -> None:
    """A kind with facts of its own has to say them again, and to be among these."""

    def below(kind: type) -> set[type]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    kinds = {kind for kind in below(ProtocolError) if kind.__module__.startswith("gateway.protocols.")}
    assert kinds == {ProtocolError, *map(type, ERRORS)}
