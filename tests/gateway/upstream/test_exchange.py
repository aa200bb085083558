"""Backends that misbehave, one for each way to do it, over each protocol: what the client, the log and the
connection see of it. The gateway serves the next request afterwards, and nothing is left (14.3, 14.4)."""

import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from gateway.logs.stderr import LEAST, MAX_STDERR
from gateway.protocols.errors import Refusal
from gateway.protocols.events import EndOfMessage, RequestHead, RequestVariables
from gateway.protocols.fastcgi import FastCgiServer
from gateway.protocols.fastcgi.records import STDERR, STDOUT, encode_end_request, encode_record, encode_stream
from gateway.protocols.http1 import Http1Server
from gateway.protocols.scgi import ScgiServer
from gateway.protocols.uwsgi import UwsgiServer
from gateway.request import MAX_INFORMATIONAL, Request
from gateway.upstream.exchange import Exchange
from tests.gateway.freed import freed_without_the_collector
from tests.gateway.served import (
    GET,
    LAST_GET,
    ApplicationCodec,
    Behaviour,
    Response,
    Served,
    backend,
    gateway_of,
    kernel_buffers,
    next_event,
    read_all,
    read_request,
    read_until,
    read_while,
    reset,
    response,
    responses,
    run,
    until,
)

pytestmark = pytest.mark.usefixtures("quick_sweeper")

KINDS: Final = ["fastcgi", "scgi", "uwsgi", "http"]
CODECS: Final[Mapping[str, Callable[[], ApplicationCodec]]] = {
    "fastcgi": FastCgiServer,
    "scgi": ScgiServer,
    "uwsgi": UwsgiServer,
    "http": Http1Server,
}
every_kind = pytest.mark.parametrize("kind", KINDS)

POST: Final = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
PATIENT: Final = {"connect": "60s", "send": "60s", "first_byte": "60s", "read": "60s"}
"""Longer than a test may take: where nothing is late on purpose, a busy machine makes nothing late."""


def said(kind: str, output: bytes, *, end: bool = True) -> bytes:
    """*output*, a CGI response or a part of one, as the protocol *kind* carries it."""
    if kind == "fastcgi":
        return encode_stream(STDOUT, 1, output) + (encode_end_request(1) if end else b"")
    if kind == "http" and b"\r\n\r\n" in output:
        return b"HTTP/1.1 200 OK\r\n" + output
    return output


def fine(kind: str, body: bytes = b"fine") -> bytes:
    return said(kind, b"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def config_for(kind: str, address: str, **options: Any) -> dict[str, Any]:
    target = f"http://{address}" if kind == "http" else address
    if kind == "http" and address.startswith("unix:"):
        target = f"http://{address}"
    return {
        "backends": {"app": {kind: target, "timeouts": PATIENT, **options}},
        "routes": [{"backend": "app"}],
    }


class Asked:
    """What came of a request whose backend misbehaved."""

    def __init__(self) -> None:
        self.received = b""
        self.logs: list[Any] = []

    @property
    def response(self) -> Response:
        return response(self.received)

    @property
    def failure(self) -> tuple[str, str]:
        """Phase and cause, in the log."""
        (entry,) = [entry for entry in self.logs if entry["event"] == "backend failed"]
        assert entry["backend"] == "app"
        assert entry["log_level"] == "error"
        return entry["phase"], entry["cause"]


def ask(
    kind: str,
    misbehave: Behaviour,
    data: bytes = LAST_GET,
    *,
    options: Mapping[str, Any] | None = None,
    test: Callable[[Served, trio.SocketStream], Awaitable[None]] | None = None,
) -> Asked:
    """Send *data* through a gateway whose backend does *misbehave* at first, and is fine afterwards."""
    asked = Asked()

    async def main() -> None:
        first = True

        async def behave(stream: trio.SocketStream) -> None:
            nonlocal first
            if first:
                first = False
                await misbehave(stream)
            else:
                await read_request(stream, CODECS[kind]())
                await stream.send_all(fine(kind, b"next"))

        async with (
            backend(behave) as app,
            gateway_of(config_for(kind, app.address, **(options or {}))) as served,
        ):
            with capture_logs() as logs:
                if test is None:
                    asked.received = await served.ask(data)
                else:
                    async with await served.connect() as client:
                        await client.send_all(data)
                        await test(served, client)
                await until(lambda: not served.open)
                await until(lambda: app.open == 0)
            asked.logs = list(logs)
            assert response(await served.ask(LAST_GET)).body == b"next"

    run(main)
    assert {entry["event"] for entry in asked.logs} <= {
        "backend failed",
        "application stderr",
        "application stderr dropped",
        "request failed",
        "the response is longer than its Content-Length",
        "the application says that it failed",
    }
    return asked


def after_request(kind: str, output: bytes) -> Behaviour:
    """Reads the request, says *output*, and closes the connection."""

    async def behave(stream: trio.SocketStream) -> None:
        await read_request(stream, CODECS[kind]())
        await stream.send_all(output)

    return behave


# ---- not there


def refused_by(kind: str, address: str) -> None:
    cause = "connection_refused"

    async def main() -> None:
        async with gateway_of(config_for(kind, address)) as served:
            with capture_logs() as logs:
                found = response(await served.ask(LAST_GET))
        assert found.status == 502
        assert found.headers["proxy-status"].startswith(
            f'gateway; error={cause}; next-hop="app"; details="connect: '
        )
        (entry,) = logs
        facts = {"backend": "app", "address": address, "phase": "connect", "cause": cause, "answered": True}
        assert facts.items() <= entry.items()

    run(main)


@every_kind
def test_missing_unix_socket(kind: str, tmp_path: Any) -> None:
    """caddy#546: the bare 502 of others has its reason here."""
    refused_by(kind, f"unix:{tmp_path}/none")


@every_kind
def test_refused_port(kind: str) -> None:
    with socket.socket() as sock:  # bound and not listening: nobody else can have the port
        sock.bind(("127.0.0.1", 0))
        refused_by(kind, f"127.0.0.1:{sock.getsockname()[1]}")


# ---- dies or says nonsense


@every_kind
def test_dies_before_it_answers(kind: str) -> None:
    asked = ask(kind, after_request(kind, b""))
    assert asked.response.status == 502
    assert asked.failure == ("first byte", "connection_terminated")
    assert "error=connection_terminated" in asked.response.headers["proxy-status"]


@every_kind
def test_accepts_and_closes_at_once(kind: str) -> None:
    """It may look like a reset or an end, and fail while sending or receiving."""

    async def behave(stream: trio.SocketStream) -> None:
        pass

    asked = ask(kind, behave)
    assert asked.response.status == 502
    assert asked.failure[1] == "connection_terminated"


@every_kind
def test_resets_before_it_answers(kind: str) -> None:
    async def behave(stream: trio.SocketStream) -> None:
        await read_request(stream, CODECS[kind]())
        reset(stream)

    asked = ask(kind, behave)
    assert asked.response.status == 502
    assert asked.failure == ("first byte", "connection_terminated")


@every_kind
def test_dies_in_the_head(kind: str) -> None:
    asked = ask(kind, after_request(kind, said(kind, b"Content-Type: text/pl", end=False)[: -3 or None]))
    assert asked.response.status == 502
    assert asked.failure[0] in ("head", "first byte")


@every_kind
@pytest.mark.parametrize("how", ["close", "reset"])
def test_dies_in_the_body(kind: str, how: str) -> None:
    """FCGI-15, H1-24: the client sees that the response is cut."""
    part = b"Content-Type: text/plain\r\nContent-Length: 100\r\n\r\nbegun"

    async def behave(stream: trio.SocketStream) -> None:
        await read_request(stream, CODECS[kind]())
        await stream.send_all(said(kind, part, end=False))
        await trio.testing.wait_all_tasks_blocked()
        if how == "reset":
            reset(stream)

    asked = ask(kind, behave, GET)
    found = asked.response
    assert (found.status, found.body, found.complete) == (200, b"begun", False)
    cause = "http_response_incomplete" if how == "close" else "connection_terminated"
    assert asked.failure == ("body", cause)


def test_fastcgi_dies_before_end_request() -> None:
    """FCGI-15: without a length too; the last chunk is missing."""
    part = said("fastcgi", b"Content-Type: text/plain\r\n\r\nbegun", end=False)
    asked = ask("fastcgi", after_request("fastcgi", part), GET)
    assert asked.received.endswith(b"5\r\nbegun\r\n")
    assert asked.failure == ("body", "http_response_incomplete")


@every_kind
@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x00", b"hello\r\n\r\n", b"\0" * 64, b"\xff" * 64])
def test_garbage(kind: str, garbage: bytes) -> None:
    """caddy#546: 502, with the reason."""
    asked = ask(kind, after_request(kind, garbage))
    assert asked.response.status == 502
    phase, cause = asked.failure
    assert (phase, cause) in {("head", "http_protocol_error"), ("head", "connection_terminated")}


@every_kind
@pytest.mark.parametrize(
    "head",
    [
        b"Content-Type: a\r\nX: b\0c\r\n\r\n",
        b"Content-Type: a\r\nX y: z\r\n\r\n",
        b"Content-Type: a\r\nContent-Length: x\r\n\r\n",
        b"Content-Type: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"Content-Type: a\r\n: x\r\n\r\n",
    ],
)
def test_malformed_heads(kind: str, head: bytes) -> None:
    """H-7, H1-12, CGI-32."""
    asked = ask(kind, after_request(kind, said(kind, head)))
    assert asked.response.status == 502
    assert asked.failure == ("head", "http_protocol_error")


@every_kind
def test_head_that_is_too_large(kind: str) -> None:
    """caddy#546: "too big header" says so."""
    head = b"Content-Type: a\r\nX: " + b"x" * 200_000 + b"\r\n\r\n"
    asked = ask(kind, after_request(kind, said(kind, head)))
    assert asked.response.status == 502
    assert asked.failure == ("head", "http_response_header_section_size")


@every_kind
def test_head_without_end(kind: str) -> None:
    """A bounded buffer, whatever comes."""

    async def behave(stream: trio.SocketStream) -> None:
        await read_request(stream, CODECS[kind]())
        start = b"HTTP/1.1 200 OK\r\n" if kind == "http" else b""
        await stream.send_all(said(kind, start + b"X-A: ", end=False))
        while True:
            await stream.send_all(said(kind, b"x" * 60_000, end=False))

    asked = ask(kind, behave)
    assert asked.response.status == 502
    assert asked.failure == ("head", "http_response_header_section_size")


@every_kind
def test_body_shorter_than_its_length(kind: str) -> None:
    """14.3, H1-24."""
    output = said(kind, b"Content-Type: text/plain\r\nContent-Length: 10\r\n\r\nshort")
    asked = ask(kind, after_request(kind, output))
    found = asked.response  # a 502 if nothing was sent yet
    assert (found.status, found.complete) in {(200, False), (502, True)}
    assert asked.failure[0] == "body"


@every_kind
def test_body_longer_than_its_length(kind: str) -> None:
    """14.3, H1-22: the client gets what was promised and not a byte more."""
    output = said(kind, b"Content-Type: text/plain\r\nContent-Length: 4\r\n\r\nfine and more")
    asked = ask(kind, after_request(kind, output))
    assert (asked.response.status, asked.response.body) == (200, b"fine")
    warned = [entry["event"] for entry in asked.logs]
    assert warned == ([] if kind == "http" else ["the response is longer than its Content-Length"])


@every_kind
@pytest.mark.parametrize("body", [b"", b"short", b"just right", b"longer than it says"])
def test_body_in_answer_to_head(kind: str, body: bytes) -> None:
    """RFC 9110 9.3.2: it is dropped, and its length is nobody's failure."""
    output = said(kind, b"Content-Type: text/plain\r\nContent-Length: 10\r\n\r\n" + body)
    asked = ask(kind, after_request(kind, output), LAST_GET.replace(b"GET", b"HEAD"))
    head, _, rest = asked.received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"\r\ncontent-length: 10" in head.lower()
    assert rest == b""
    assert asked.logs == []


@every_kind
def test_empty_output(kind: str) -> None:
    """CGI-39: an end without a response is an error."""
    output = said(kind, b"") if kind == "fastcgi" else b""
    asked = ask(kind, after_request(kind, output))
    assert asked.response.status == 502


def test_only_stderr() -> None:
    """FCGI-12, haproxy#743: logged, and the missing response is what fails."""
    output = encode_record(STDERR, 1, b"Traceback: oops\n") + encode_end_request(1)
    asked = ask("fastcgi", after_request("fastcgi", output))
    assert asked.response.status == 502
    lines = [entry for entry in asked.logs if entry["event"] == "application stderr"]
    assert [(entry["line"], entry["backend"]) for entry in lines] == [("Traceback: oops", "app")]


def test_stderr_is_no_failure() -> None:
    """haproxy#743."""
    output = encode_record(STDERR, 1, b"one\ntwo\n") + fine("fastcgi")
    asked = ask("fastcgi", after_request("fastcgi", output))
    assert (asked.response.status, asked.response.body) == (200, b"fine")
    assert [entry["line"] for entry in asked.logs] == ["one", "two"]


def test_stderr_is_a_failure_if_somebody_says_so() -> None:
    """fastcgi_catch_stderr: the application answers 200 with an empty page."""
    output = encode_record(STDERR, 1, b"a notice\nPHP Fatal error: no memory\n") + fine("fastcgi")
    asked = ask("fastcgi", after_request("fastcgi", output), options={"catch_stderr": "Fatal error"})
    assert asked.response.status == 502
    assert b"fine" not in asked.response.body


def test_flood_of_stderr_is_bounded_and_told() -> None:
    """civetweb#529. What is behind it is looked at all the same."""
    flood = encode_record(STDERR, 1, b"a notice\n" * 7000) * 2
    asked = ask("fastcgi", after_request("fastcgi", flood + fine("fastcgi")))
    assert (asked.response.status, asked.response.body) == (200, b"fine")
    *lines, last = asked.logs
    assert len(lines) == MAX_STDERR // LEAST
    assert (last["event"], last["lines"]) == ("application stderr dropped", 14_000 - len(lines))
    flood += encode_record(STDERR, 1, b"PHP Fatal error: no memory\n")
    options = {"catch_stderr": "Fatal error"}
    asked = ask("fastcgi", after_request("fastcgi", flood + fine("fastcgi")), options=options)
    assert asked.response.status == 502


@pytest.mark.parametrize("size", [1, 7, 30])
def test_line_of_stderr_in_several_records_is_one_line(size: int) -> None:
    """FastCGI 3.3: records of a stream end anywhere, in the middle of a character, too."""
    said = "a notice\nPHP Fatal error: nö memory\n".encode()
    pieces = [said[start : start + size] for start in range(0, len(said), size)]
    output = b"".join(encode_record(STDERR, 1, piece) for piece in pieces) + fine("fastcgi")
    asked = ask("fastcgi", after_request("fastcgi", output))
    assert [entry["line"] for entry in asked.logs] == ["a notice", "PHP Fatal error: nö memory"]
    asked = ask("fastcgi", after_request("fastcgi", output), options={"catch_stderr": "Fatal error: nö"})
    assert asked.response.status == 502


def test_line_of_stderr_without_an_end_is_caught_when_the_response_begins() -> None:
    """As php-fpm sends it."""
    pieces = (b"PHP message: PHP Fatal ", b"error: no memory")
    output = b"".join(encode_record(STDERR, 1, piece) for piece in pieces) + fine("fastcgi")
    asked = ask("fastcgi", after_request("fastcgi", output), options={"catch_stderr": "Fatal error"})
    assert asked.response.status == 502
    lines = [entry["line"] for entry in asked.logs if entry["event"] == "application stderr"]
    assert lines == ["PHP message: PHP Fatal error: no memory"]


def test_last_line_of_stderr_needs_no_end() -> None:
    output = fine("fastcgi").removesuffix(encode_end_request(1))
    output += encode_record(STDERR, 1, b"good") + encode_record(STDERR, 1, b"bye") + encode_end_request(1)
    asked = ask("fastcgi", after_request("fastcgi", output))
    assert (asked.response.status, asked.response.body) == (200, b"fine")
    assert [entry["line"] for entry in asked.logs] == ["goodbye"]


def test_stderr_is_not_caught_behind_the_beginning_of_the_response() -> None:
    large = b"x" * 200_000
    output = (
        encode_stream(STDOUT, 1, b"Content-Type: text/plain\r\n\r\n" + large)
        + encode_record(STDERR, 1, b"Fatal error\n")
        + encode_end_request(1)
    )
    asked = ask("fastcgi", after_request("fastcgi", output), options={"catch_stderr": "Fatal error"})
    assert (asked.response.status, len(asked.response.body)) == (200, 200_000)


# ---- late


def late_in(phase: str) -> dict[str, Any]:
    """Options of a backend that has little time for *phase* alone."""
    return {"timeouts": {**PATIENT, phase: "50ms"}}


@every_kind
def test_silent_backend(kind: str) -> None:
    """H-18: 504."""

    async def behave(stream: trio.SocketStream) -> None:
        await read_request(stream, CODECS[kind]())
        assert await stream.receive_some() == b""  # until the gateway has enough of it

    asked = ask(kind, behave, options=late_in("first_byte"))
    assert asked.response.status == 504
    assert asked.failure == ("first byte", "http_response_timeout")


@every_kind
def test_backend_that_falls_silent_in_the_body(kind: str) -> None:
    async def behave(stream: trio.SocketStream) -> None:
        await read_request(stream, CODECS[kind]())
        await stream.send_all(said(kind, b"Content-Type: text/plain\r\n\r\nbegun", end=False))
        assert await stream.receive_some() == b""

    asked = ask(kind, behave, GET, options=late_in("read"))
    assert asked.received.endswith(b"begun\r\n")
    assert asked.failure == ("body", "http_response_timeout")


@every_kind
def test_backend_that_does_not_take_the_request(kind: str) -> None:
    async def behave(stream: trio.SocketStream) -> None:
        await until(lambda: finished)

    finished = False

    async def test(served: Served, client: trio.SocketStream) -> None:
        nonlocal finished
        received = await read_while(client, lambda: client.send_all(b"x" * 20_000_000))
        assert response(received).status == 504
        finished = True

    asked = ask(kind, behave, POST % 20_000_000, test=test, options=late_in("send"))
    assert asked.failure[1] == "connection_write_timeout"


# ---- early answers


@every_kind
@pytest.mark.parametrize("size", [10, 100_000, 3_000_000])
@pytest.mark.parametrize("framed", [True, False])
def test_early_answer_reaches_the_client_whole(kind: str, size: int, framed: bool) -> None:
    """FCGI-10, UW-13, H1-23, haproxy#3425: although the body was not read, and the backend resets."""
    answer = b"Content-Type: text/plain\r\n" + b"Content-Length: 50000\r\n" * framed + b"\r\n" + b"r" * 50_000

    async def behave(stream: trio.SocketStream) -> None:
        await next_event(stream, CODECS[kind]())
        await stream.send_all(said(kind, answer))

    async def test(served: Served, client: trio.SocketStream) -> None:
        await client.send_all(b"x" * size)
        found = response(await read_all(client))
        assert (found.status, len(found.body), found.complete) == (200, 50_000, True)

    ask(kind, behave, POST % size, test=test)


@every_kind
def test_answer_while_the_body_is_still_sent(kind: str) -> None:
    """FCGI-10: both directions at once; a backend that echoes while it reads."""
    size = 3_000_000

    async def behave(stream: trio.SocketStream) -> None:
        codec = CODECS[kind]()
        await next_event(stream, codec)
        head = b"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % size
        await stream.send_all(said(kind, head, end=False))
        while not isinstance(event := await next_event(stream, codec), EndOfMessage):
            data = event.data  # type: ignore[union-attr]
            if kind == "fastcgi":
                await stream.send_all(encode_stream(STDOUT, 1, data))
            else:
                await stream.send_all(data)
        if kind == "fastcgi":
            await stream.send_all(encode_end_request(1))

    async def test(served: Served, client: trio.SocketStream) -> None:
        received = b""

        async def receive() -> None:
            nonlocal received
            received = await read_all(client)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await client.send_all(bytes(range(250)) * (size // 250))
        assert response(received).body == bytes(range(250)) * (size // 250)

    ask(kind, behave, POST % size, test=test)


# ---- the client goes


@every_kind
@pytest.mark.parametrize("when", ["before", "during"])
def test_client_that_goes(kind: str, when: str) -> None:
    """FCGI-16, CGI-31: closing the connection is the abort; nothing is logged as a backend's failure."""
    reached = trio.Event()
    closed = trio.Event()

    async def behave(stream: trio.SocketStream) -> None:
        await read_request(stream, CODECS[kind]())
        if when == "during":
            await stream.send_all(said(kind, b"Content-Type: text/plain\r\n\r\nbegun", end=False))
        reached.set()
        try:
            await stream.receive_some()
        except trio.BrokenResourceError:
            pass
        closed.set()

    async def test(served: Served, client: trio.SocketStream) -> None:
        if when == "during":
            await read_until(client, b"begun\r\n")
        await reached.wait()
        reset(client)
        await closed.wait()

    asked = ask(kind, behave, GET, test=test)
    assert asked.logs == []


@every_kind
def test_client_that_goes_in_the_middle_of_its_body(kind: str) -> None:
    """FCGI-20: the backend sees an incomplete request, not a short one."""
    ended: list[bool] = []

    async def behave(stream: trio.SocketStream) -> None:
        codec = CODECS[kind]()
        try:
            while not isinstance(await next_event(stream, codec), EndOfMessage):
                pass
        except Exception:
            ended.append(False)
            return
        ended.append(True)

    async def test(served: Served, client: trio.SocketStream) -> None:
        await client.send_all(b"x" * 100_000)
        await client.send_eof()
        assert await read_all(client) == b""

    asked = ask(kind, behave, POST % 1_000_000, test=test)
    assert ended == [False]
    assert asked.logs == []


@every_kind
def test_client_that_breaks_off_its_body_leaves_nothing(kind: str) -> None:
    """Not until the garbage collector runs: clients that leave must not fill the memory."""

    reached = trio.Event()

    async def behave(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            async for _ in stream:
                reached.set()

    async def test(served: Served, client: trio.SocketStream) -> None:
        await client.send_all(b"x" * 1000)
        await reached.wait()
        reset(client)

    with freed_without_the_collector(Exchange):
        ask(kind, behave, POST % 1_000_000, test=test)


@every_kind
@pytest.mark.parametrize("tries", [1, 2])
@pytest.mark.parametrize("buffering", [False, True])
def test_failure_leaves_nothing(kind: str, tries: int, buffering: bool) -> None:
    """Not until the garbage collector runs, neither of what was answered 502 nor of what was asked again."""

    async def behave(stream: trio.SocketStream) -> None:
        await read_request(stream, CODECS[kind]())

    async def main() -> None:
        async with backend(behave) as app:
            config = config_for(kind, app.address, retry={"tries": tries})
            config["routes"][0]["buffering"] = buffering
            async with gateway_of(config) as served:
                assert response(await served.ask(LAST_GET)).status == 502
                await until(lambda: not served.open)

    with (
        capture_logs() as logs,
        freed_without_the_collector(Exchange),
        freed_without_the_collector(Request),
    ):
        run(main)
    assert [entry["event"] for entry in logs] == ["backend try failed"] * (tries - 1) + ["backend failed"]


@pytest.mark.parametrize("kind", ["fastcgi", "http"])  # the others cannot say that a body has no length
def test_malformed_chunk_is_the_clients_fault(kind: str) -> None:
    async def behave(stream: trio.SocketStream) -> None:
        while await stream.receive_some(100_000):
            pass

    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"

    async def test(served: Served, client: trio.SocketStream) -> None:
        await client.send_all(b"nonsense\r\n")
        assert response(await read_all(client)).status == 400

    options = {} if kind == "http" else {"body": "stream"}
    asked = ask(kind, behave, head, test=test, options=options)
    assert [entry["event"] for entry in asked.logs] == ["request failed"]


# ---- reused connections


def requests_on(kind: str, outputs: list[bytes | None]) -> Behaviour:
    """Answers one request after the other on one connection; None closes it before it answers."""

    async def behave(stream: trio.SocketStream) -> None:
        for output in outputs:
            codec = CODECS[kind]()
            await read_request(stream, codec)
            if output is None:
                return
            await stream.send_all(output)
        await stream.receive_some()

    return behave


KEPT: Final[Mapping[str, Mapping[str, Any]]] = {
    "http": {},
    "fastcgi": {"keep_connection": True, "pool": {"idle": 4, "idle_time": "60s"}},
}
kept_kinds = pytest.mark.parametrize("kind", ["fastcgi", "http"])


def with_connections(
    kind: str,
    behaviours: list[Behaviour],
    test: Callable[[Served, list[int]], Awaitable[None]],
    **options: Any,
) -> None:
    """Run *test* with a gateway whose backend does one of *behaviours* on each connection, in order."""

    async def main() -> None:
        connections = [0]

        async def behave(stream: trio.SocketStream) -> None:
            connections[0] += 1
            await behaviours[connections[0] - 1](stream)

        async with backend(behave) as app:
            config = config_for(kind, app.address, **{**KEPT[kind], **options})
            async with gateway_of(config) as served:
                await test(served, connections)
            await until(lambda: app.open == 0)

    run(main)


@kept_kinds
def test_connection_is_reused(kind: str) -> None:
    async def test(served: Served, connections: list[int]) -> None:
        for number in range(3):
            body = b"%d" % number
            assert response(await served.ask(LAST_GET)).body == body
        assert connections == [1]

    with_connections(kind, [requests_on(kind, [fine(kind, b"%d" % number) for number in range(3)])], test)


def test_fastcgi_connection_is_not_reused_by_default() -> None:
    """haproxy#2936: php-fpm would be blocked."""

    async def main() -> None:
        async with backend(requests_on("fastcgi", [fine("fastcgi")])) as app:
            async with gateway_of(config_for("fastcgi", app.address)) as served:
                for _ in range(2):
                    assert response(await served.ask(LAST_GET)).body == b"fine"
            assert app.connections == 2

    run(main)


@kept_kinds
def test_stale_connection_is_replaced_once_for_a_safe_request(kind: str) -> None:
    """caddy#6452, H-14: it was closed while it lay in the pool, or in the very moment of use."""

    async def test(served: Served, connections: list[int]) -> None:
        with capture_logs() as logs:
            assert response(await served.ask(LAST_GET)).body == b"first"
            assert response(await served.ask(LAST_GET)).body == b"second"
        assert connections == [2]
        assert logs == []

    behaviours = [requests_on(kind, [fine(kind, b"first"), None]), requests_on(kind, [fine(kind, b"second")])]
    with_connections(kind, behaviours, test)


@kept_kinds
def test_fresh_connection_is_not_replaced(kind: str) -> None:
    async def test(served: Served, connections: list[int]) -> None:
        with capture_logs():
            assert response(await served.ask(LAST_GET)).body == b"first"
            assert response(await served.ask(LAST_GET)).status == 502
        assert connections == [2]

    with_connections(kind, [requests_on(kind, [fine(kind, b"first"), None]), requests_on(kind, [None])], test)


@kept_kinds
@pytest.mark.parametrize("body", [b"", b"x"])
def test_post_is_not_sent_again(kind: str, body: bytes) -> None:
    """varnish-cache#4413, H-14: with or without a body."""

    async def test(served: Served, connections: list[int]) -> None:
        assert response(await served.ask(LAST_GET)).body == b"first"
        with capture_logs() as logs:
            found = response(await served.ask(POST % len(body) + body))
        assert found.status == 502
        assert connections == [1]
        assert (logs[0]["phase"], logs[0]["cause"]) == ("first byte", "connection_terminated")

    with_connections(kind, [requests_on(kind, [fine(kind, b"first"), None])], test)


@kept_kinds
def test_data_on_an_idle_connection_closes_it(kind: str) -> None:
    """H1-22: it is never the answer to the next request."""
    told, forged = trio.Event(), trio.Event()

    async def talkative(stream: trio.SocketStream) -> None:
        await read_request(stream, CODECS[kind]())
        await stream.send_all(fine(kind, b"first"))
        await told.wait()
        await stream.send_all(fine(kind, b"forged"))
        forged.set()
        await stream.receive_some()

    async def test(served: Served, connections: list[int]) -> None:
        assert response(await served.ask(LAST_GET)).body == b"first"
        told.set()
        await forged.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert response(await served.ask(LAST_GET)).body == b"second"

    with_connections(kind, [talkative, requests_on(kind, [fine(kind, b"second")])], test)


@kept_kinds
def test_more_than_the_answer_closes_the_connection(kind: str) -> None:
    """14.4: the surplus reaches nobody."""

    async def test(served: Served, connections: list[int]) -> None:
        assert response(await served.ask(LAST_GET)).body == b"first"
        assert response(await served.ask(LAST_GET)).body == b"second"
        assert connections == [2]

    behaviours = [
        requests_on(kind, [fine(kind, b"first") + fine(kind, b"forged"), None]),
        requests_on(kind, [fine(kind, b"second")]),
    ]
    with_connections(kind, behaviours, test)


@kept_kinds
def test_connection_is_not_kept_after_an_early_answer(kind: str) -> None:
    """H1-18: what is left of the request would be read as the next one."""

    async def early(stream: trio.SocketStream) -> None:
        await next_event(stream, CODECS[kind]())
        await stream.send_all(fine(kind, b"early"))
        while await stream.receive_some(65536):
            pass

    async def test(served: Served, connections: list[int]) -> None:
        async with await served.connect() as client:
            await client.send_all(POST % 1_000_000 + b"x")
            assert (await read_until(client, b"early")).startswith(b"HTTP/1.1 200 ")
        assert response(await served.ask(LAST_GET)).body == b"second"
        assert connections == [2]

    with_connections(kind, [early, requests_on(kind, [fine(kind, b"second")])], test)


def test_fastcgi_application_that_closes_after_its_answer_is_no_failure() -> None:
    """caddy#1084: the response was complete."""

    async def test(served: Served, connections: list[int]) -> None:
        with capture_logs() as logs:
            for _ in range(2):
                assert response(await served.ask(LAST_GET)).body == b"fine"
        assert logs == []
        assert connections == [2]

    async def once(stream: trio.SocketStream) -> None:
        await read_request(stream, FastCgiServer())
        await stream.send_all(fine("fastcgi"))

    with_connections("fastcgi", [once, once], test)


def test_overloaded_application_is_a_503() -> None:
    """FCGI-14."""
    output = encode_end_request(1, refusal=Refusal.OVERLOADED)
    asked = ask("fastcgi", after_request("fastcgi", output))
    assert (asked.response.status, asked.response.headers["retry-after"]) == (503, "1")
    assert asked.failure[1] == "connection_limit_reached"


def test_application_status_is_logged() -> None:
    """FCGI-14: it is no failure by itself: the response stands, and the connection."""
    output = said("fastcgi", b"Content-Type: text/plain\r\n\r\nfine", end=False)
    asked = ask("fastcgi", after_request("fastcgi", output + encode_end_request(1, application_status=3)))
    assert (asked.response.status, asked.response.body) == (200, b"fine")
    [warned] = asked.logs
    assert (warned["event"], warned["status"]) == ("the application says that it failed", 3)
    assert (warned["backend"], warned["path"]) == ("app", "/")


@every_kind
@pytest.mark.parametrize("ends", [True, False], ids=["ends", "waits"])
def test_length_of_the_file_that_an_answer_names_is_no_promise(kind: str, ends: bool, tmp_path: Path) -> None:
    """Flask and Symfony: the length is the file's, and no body comes; by HTTP the connection is kept."""
    (tmp_path / "file").write_bytes(1000 * b"f")
    head = f"X-Sendfile: {tmp_path}/file\r\nContent-Type: a/b\r\nContent-Length: 1000\r\n\r\n".encode()

    async def behave(stream: trio.SocketStream) -> None:
        await read_request(stream, CODECS[kind]())
        await stream.send_all(said(kind, head, end=ends))
        if not ends:
            assert await stream.receive_some() == b""

    asked = ask(kind, behave, options={"x_sendfile": str(tmp_path)})
    assert (asked.response.status, asked.response.body) == (200, 1000 * b"f")
    assert asked.response.headers["content-type"] == "a/b"
    assert asked.logs == []


# ---- one request's bytes never reach another


@every_kind
def test_requests_do_not_mix(kind: str) -> None:
    """14.4: many at once, over pooled connections, some of which die in the middle."""

    async def echo(stream: trio.SocketStream) -> None:
        while True:
            head, body = await read_request(stream, CODECS[kind]())
            if isinstance(head, RequestVariables):
                target = head.variables["PATH_INFO"].encode()
            else:
                assert isinstance(head, RequestHead)
                target = head.target
            await stream.send_all(
                said(
                    kind,
                    b"Content-Type: a\r\nContent-Length: %d\r\n\r\n" % (len(body) + len(target)),
                    end=False,
                )
            )
            for position in range(0, len(body), 10_000):
                await stream.send_all(said(kind, body[position : position + 10_000], end=False))
            if target.endswith(b"3"):
                return
            await stream.send_all(said(kind, target))
            if kind in ("scgi", "uwsgi"):
                return

    async def talk(served: Served, number: int) -> None:
        body = b"%04d" % number * number * 50
        data = b"POST /%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (
            number,
            len(body),
        )
        found = response(await served.ask(data + body))
        if number % 10 == 3:
            assert not found.complete
            assert body.startswith(found.body)
        else:
            assert found.body == body + b"/%d" % number

    async def main() -> None:
        async with backend(echo) as app:
            config = config_for(kind, app.address, **KEPT.get(kind, {}))
            async with gateway_of(config) as served, trio.open_nursery() as nursery:
                for number in range(60):
                    nursery.start_soon(talk, served, number)

    with capture_logs() as logs:
        run(main)
    assert {entry["event"] for entry in logs} == {"backend failed"}


@every_kind
def test_slow_client_slows_the_backend(kind: str) -> None:
    """14.5: back-pressure from the client's socket to the backend's."""
    sent, most = 0, kernel_buffers()
    full = trio.Event()

    async def behave(stream: trio.SocketStream) -> None:
        nonlocal sent
        await read_request(stream, CODECS[kind]())
        await stream.send_all(said(kind, b"Content-Type: a\r\n\r\n", end=False))
        while sent < most:
            with trio.move_on_after(0.1) as scope:
                await stream.send_all(said(kind, b"x" * 60_000, end=False))
            if scope.cancelled_caught:
                break
            sent += 60_000
        full.set()
        await stream.receive_some()

    async def test(served: Served, client: trio.SocketStream) -> None:
        await full.wait()
        assert sent < most
        reset(client)

    ask(kind, behave, GET, test=test)


def test_informational_responses_are_passed_on() -> None:
    """H-11, caddy#4860: each as its own message; 100 is the gateway's to say."""
    output = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        b"HTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\n" + fine("http")
    )
    asked = ask("http", after_request("http", output))
    assert re.findall(rb"HTTP/1.1 (\d+)", asked.received) == [b"103", b"103", b"200"]
    assert asked.received.index(b"</a>") < asked.received.index(b"</b>")


@pytest.mark.parametrize("status", [b"100", b"102", b"103"])
def test_informational_responses_without_end_are_a_502(status: bytes) -> None:
    """H-11: each is progress, so no timeout would ever end them."""

    async def behave(stream: trio.SocketStream) -> None:
        await read_request(stream, CODECS["http"]())
        while True:
            await stream.send_all(b"HTTP/1.1 %b And So On\r\n\r\n" % status)

    asked = ask("http", behave)
    *informed, last = re.findall(rb"HTTP/1.1 (\d+)", asked.received)
    assert last == b"502"
    assert informed == ([] if status == b"100" else [status] * MAX_INFORMATIONAL)
    assert asked.failure == ("head", "http_protocol_error")


@pytest.mark.parametrize("data", [LAST_GET, POST % 2], ids=["after the request", "while it is sent"])
def test_informational_response_that_cannot_be_passed_on_is_a_502(data: bytes) -> None:
    """H-11: no fault of the client's, nor of the gateway's. llhttp takes lengths of 64 bits."""

    async def behave(stream: trio.SocketStream) -> None:
        await next_event(stream, CODECS["http"]())
        await stream.send_all(b"HTTP/1.1 103 Early Hints\r\nContent-Length: %d\r\n\r\n" % (2**64 - 1))
        await stream.send_all(fine("http"))

    asked = ask("http", behave, data)
    assert asked.response.status == 502
    assert asked.failure == ("head", "http_protocol_error")


def test_trailers_are_passed_on() -> None:
    """H-9, envoy#5541."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    output = head + b"4\r\nbody\r\n0\r\nX-Sum: 4\r\n\r\n"
    asked = ask("http", after_request("http", output), LAST_GET.replace(b"Host", b"TE: trailers\r\nHost"))
    assert asked.received.endswith(b"\r\n0\r\nx-sum: 4\r\n\r\n")


@pytest.mark.parametrize("kind", ["http", "uwsgi", "scgi"])
def test_unasked_switch_of_protocols_is_refused(kind: str) -> None:
    """H-12."""
    output = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nsmuggled"
    asked = ask(kind, after_request(kind, output))
    assert asked.response.status == 502
    assert b"smuggled" not in asked.received


def test_pipelined_requests_through_a_backend() -> None:
    """H1-19."""

    async def test(served: Served, connections: list[int]) -> None:
        found = responses(await served.ask(GET * 4 + LAST_GET))
        assert [each.body for each in found] == [b"0", b"1", b"2", b"3", b"4"]
        assert connections == [1]

    with_connections(
        "http", [requests_on("http", [fine("http", b"%d" % number) for number in range(5)])], test
    )
