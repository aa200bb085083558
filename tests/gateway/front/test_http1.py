"""HTTP/1.1 connections over real sockets: what goes on the wire, and what becomes of the connection."""

import errno
import re
import socket
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from gateway.errors import BackendError, Cause, Phase, RequestError, ResponseAborted
from gateway.front.service import DRAINED_BYTES, Limits, Timeouts
from gateway.request import Request, Responder, respond
from tests.gateway.served import (
    GET,
    LAST_GET,
    Answer,
    Served,
    pass_time,
    read_all,
    read_until,
    read_while,
    reset,
    response,
    responses,
    run,
    serving,
    until,
)

pytestmark = pytest.mark.usefixtures("quick_sweeper")


async def echo(request: Request, responder: Responder) -> None:
    """Answers with method, path, query and body."""
    body = b""
    while piece := await request.body.read():
        body += piece
    line = f"{request.method} {request.path} {request.query.decode()} ".encode()
    await respond(responder, 200, [(b"content-type", b"text/plain")], line + body)


async def ignore(request: Request, responder: Responder) -> None:
    """Answers without a look at the body."""
    await respond(responder, 200, [], b"ignored")


def endless(failed: trio.Event) -> Answer:
    """Writes until it fails."""

    async def answer(request: Request, responder: Responder) -> None:
        responder.start(200, [])
        try:
            while True:
                responder.write(b"x" * 65536)
                await responder.flush()
        finally:
            failed.set()

    return answer


def asked(data: bytes, answer: Answer = echo, **options: Any) -> bytes:
    """All that the server sends to a client that sends *data*."""
    received = b""

    async def main() -> None:
        nonlocal received
        async with serving(answer, **options) as served:
            received = await served.ask(data)

    run(main)
    return received


def served(
    test: Callable[[Served, trio.SocketStream], Awaitable[None]],
    answer: Answer = echo,
    *,
    seconds: float = 25.0,
    clock: trio.abc.Clock | None = None,
    **options: Any,
) -> None:
    """Run *test* with a client that is connected."""

    async def main() -> None:
        async with (
            serving(answer, **options) as service,
            await service.connect() as client,
        ):
            await test(service, client)

    run(main, seconds=seconds, clock=clock)


# ---- requests on one connection


def test_connection_is_kept_for_the_next_request() -> None:
    """H1-17: HTTP/1.1 persists unless told otherwise, and says so by saying nothing."""

    async def test(service: Served, client: trio.SocketStream) -> None:
        for number in range(3):
            await client.send_all(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
            received = await read_until(client, b"GET /%d  " % number)
            assert response(received).status == 200
            assert b"connection:" not in received
        await client.send_all(LAST_GET)
        received = await read_all(client)
        assert response(received).headers["connection"] == "close"

    served(test)


def test_small_body_is_there_when_its_request_is_handled() -> None:
    """Many clients send it in a packet of its own (Python's http.client)."""
    pieces: list[bytes | None] = []

    async def answer(request: Request, responder: Responder) -> None:
        pieces.append(request.body.read_nowait())
        await respond(responder, 200, [], b"")

    async def main() -> None:
        async with serving(answer) as service, await service.connect() as client:
            await client.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
            for piece in (b"bo", b"dy"):
                await trio.testing.wait_all_tasks_blocked()
                await client.send_all(piece)
            await read_until(client, b"\r\n\r\n")

    run(main, clock=trio.testing.MockClock())  # which stands still: nothing is late
    assert pieces == [b"body"]


@pytest.mark.parametrize("whole", [True, False])
def test_an_application_may_end_the_connection(whole: bool) -> None:
    """RFC 9112 9.6: a server that says close processes no further request."""

    async def last(request: Request, responder: Responder) -> None:
        fields = [(b"Connection", b"x, Close")]
        if whole:
            await respond(responder, 200, fields, b"bye")
            return
        responder.start(200, fields)
        responder.write(b"b")
        await responder.flush()
        responder.write(b"ye")
        responder.end()
        await responder.flush()

    async def test(service: Served, client: trio.SocketStream) -> None:
        await client.send_all(GET * 2)
        (answer,) = responses(await read_all(client))
        assert (answer.headers["connection"], answer.body) == ("close", b"bye")

    served(test, last)


def test_pipelined_requests_are_answered_in_order() -> None:
    """H1-19: all in one write, with bodies of every kind in between."""
    data, expected = b"", []
    for number in range(60):
        body = b"b" * number
        match number % 3:
            case 0:
                data += b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number
                expected.append(b"GET /%d  " % number)
            case 1:
                data += b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (
                    number,
                    number,
                    body,
                )
                expected.append(b"POST /%d  %b" % (number, body))
            case _:
                data += b"PUT /%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" % number
                data += b"%x\r\n%b\r\n0\r\n\r\n" % (number, body)
                expected.append(b"PUT /%d  %b" % (number, body))
    data += LAST_GET
    expected.append(b"GET /  ")
    assert [each.body for each in responses(asked(data))] == expected


def test_request_in_single_bytes() -> None:
    data = b"POST /x?q HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    data += b"3\r\nabc\r\n0\r\n\r\n"

    async def test(service: Served, client: trio.SocketStream) -> None:
        for position in range(len(data)):
            await client.send_all(data[position : position + 1])
        assert response(await read_all(client)).body == b"POST /x q abc"

    served(test)


def test_nothing_is_processed_after_close() -> None:
    """H1-20."""
    assert len(responses(asked(LAST_GET + GET))) == 1


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/a/b?q=1", b"/a/b q=1"),
        (b"http://a/b/c?q", b"/b/c q"),
        (b"http://a", b"* "),  # RFC 9112 3.2.4: OPTIONS without a path
        (b"http://a/", b"/ "),
        (b"http://a?q", b"/ q"),
        (b"HTTP://a:80/x", b"/x "),
        (b"*", b"* "),
    ],
)
def test_forms_of_the_target(target: bytes, path: bytes) -> None:
    """H1-6: origin-form, absolute-form, asterisk-form."""
    data = b"OPTIONS %b HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n" % target
    assert response(asked(data)).body == b"OPTIONS " + path + b" "


def test_authority_of_an_absolute_target_wins_over_host() -> None:
    """H1-6."""

    async def host(request: Request, responder: Responder) -> None:
        await respond(responder, 200, [], f"{request.host} {request.header(b'host')!r}".encode())

    data = b"GET http://Real.example:81/ HTTP/1.1\r\nHost: claimed.example\r\nConnection: close\r\n\r\n"
    assert response(asked(data, host)).body == b"real.example b'Real.example:81'"


def test_empty_lines_before_a_request_are_ignored() -> None:
    """H1-2."""
    assert response(asked(b"\r\n" + LAST_GET)).status == 200


# ---- framing of responses


def test_small_response_gets_its_length() -> None:
    received = asked(LAST_GET)
    found = response(received)
    assert found.headers["content-length"] == str(len(found.body))
    assert found.headers["date"]
    assert found.headers["server"]


async def stream(request: Request, responder: Responder) -> None:
    """A body in pieces, of unknown length, with trailers."""
    responder.start(200, [(b"trailer", b"x-sum")])
    for piece in (b"one", b"two", b"", b"three"):
        responder.write(piece)
        await responder.flush()
    responder.end([(b"x-sum", b"11")])
    await responder.flush()


def test_body_of_unknown_length_is_chunked_with_trailers() -> None:
    received = asked(LAST_GET.replace(b"Host", b"TE: gzip, Trailers\r\nHost"), stream)
    found = response(received)
    assert (found.body, found.headers["transfer-encoding"]) == (b"onetwothree", "chunked")
    assert "content-length" not in found.headers
    assert received.endswith(b"\r\n5\r\nthree\r\n0\r\nx-sum: 11\r\n\r\n")


def test_trailers_are_for_clients_that_take_them() -> None:
    """H-9: without ``TE: trailers`` they are discarded (RFC 9110 6.5.1)."""
    received = asked(LAST_GET, stream)
    assert response(received).complete
    assert received.endswith(b"\r\n5\r\nthree\r\n0\r\n\r\n")


def test_http_1_0_body_of_unknown_length_ends_with_the_connection() -> None:
    """H1-11: no Transfer-Encoding for a 1.0 client, even if it wants to keep the connection."""
    received = asked(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", stream)
    found = response(received)
    assert found.body == b"onetwothree"
    assert "transfer-encoding" not in found.headers
    assert found.headers["connection"] == "close"


def test_http_1_0_closes_unless_asked() -> None:
    """H1-17, H1-3: the response is of our version."""
    received = asked(b"GET / HTTP/1.0\r\n\r\n" + GET)
    assert received.startswith(b"HTTP/1.1 200 ")
    assert [each.headers["connection"] for each in responses(received)] == ["close"]


def test_http_1_0_keep_alive() -> None:
    """H1-17."""
    kept = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    found = responses(asked(kept + kept + b"GET / HTTP/1.0\r\n\r\n"))
    assert [each.headers["connection"] for each in found] == ["keep-alive", "keep-alive", "close"]


def test_head_has_the_head_and_no_body() -> None:
    """H-16, H1-13; the next response follows at once."""
    data = b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n" + LAST_GET
    first, second = responses(asked(data), "HEAD", "GET")
    assert (first.body, second.body) == (b"", b"GET /  ")
    assert first.headers["content-length"] in (None, str(len(b"HEAD /x  ")))


@pytest.mark.parametrize("status", [204, 304])
def test_bodiless_statuses(status: int) -> None:
    """H1-13, H-8: no body whatever the handler writes; no Content-Length in a 204."""

    async def answer(request: Request, responder: Responder) -> None:
        await respond(responder, status, [(b"content-length", b"4")], b"body")

    first, second = responses(asked(GET + LAST_GET, answer))
    assert (first.status, first.body, second.status) == (status, b"", status)
    assert first.headers["content-length"] == (None if status == 204 else "4")


def test_connection_fields_of_a_handler_are_dropped() -> None:
    """H-2: framing and the connection are the front's."""

    async def answer(request: Request, responder: Responder) -> None:
        fields = [
            (b"Connection", b"x-a"), (b"Keep-Alive", b"timeout=5"), (b"Transfer-Encoding", b"gzip"),
            (b"Upgrade", b"h2c"), (b"Proxy-Connection", b"close"), (b"X-Kept", b"1"),
        ]  # fmt: skip
        await respond(responder, 200, fields, b"body")

    found = response(asked(LAST_GET, answer))
    assert found.body == b"body"
    assert {name.lower() for name in found.headers} == {
        "x-kept",
        "date",
        "server",
        "content-length",
        "connection",
    }


def test_informational_responses_come_before_the_final_one() -> None:
    """H-11; without what ends with a connection, and not for an HTTP/1.0 client."""

    async def answer(request: Request, responder: Responder) -> None:
        await responder.inform(103, [(b"link", b"</x>"), (b"transfer-encoding", b"chunked")])
        await responder.inform(103, [(b"connection", b"close"), (b"link", b"</y>")])
        await respond(responder, 200, [], b"body")

    received = asked(LAST_GET, answer)
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"103", b"103", b"200"]
    assert b"103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 103" in received
    assert b"103 Early Hints\r\nlink: </y>\r\n\r\nHTTP/1.1 200" in received
    assert re.findall(rb"HTTP/1.1 (\d+)", asked(b"GET / HTTP/1.0\r\n\r\n", answer)) == [b"200"]


# ---- Expect: 100-continue

EXPECTING = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"


def test_continue_is_sent_when_the_body_is_read() -> None:
    """H-10."""

    async def test(service: Served, client: trio.SocketStream) -> None:
        await client.send_all(EXPECTING)
        assert await read_until(client, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send_all(b"abc" + LAST_GET)
        assert [each.body for each in responses(await read_all(client))] == [b"POST /x  abc", b"GET /  "]

    served(test)


def test_no_continue_for_a_body_that_is_not_read() -> None:
    """H-10: the final status comes without 100, and the connection ends: the body may come or not."""
    received = asked(EXPECTING, ignore)
    assert received.startswith(b"HTTP/1.1 200 ")
    assert response(received).headers["connection"] == "close"


def test_no_continue_after_the_response_has_begun() -> None:
    async def late(request: Request, responder: Responder) -> None:
        responder.start(200, [])
        responder.write(b"early")
        await responder.flush()
        body = await request.body.read()
        responder.write(body)
        responder.end()
        await responder.flush()

    async def test(service: Served, client: trio.SocketStream) -> None:
        await client.send_all(EXPECTING)
        await read_until(client, b"early\r\n")
        await client.send_all(b"abc")
        assert await read_all(client) == b"3\r\nabc\r\n0\r\n\r\n"

    served(test, late)


def test_no_continue_when_the_body_is_here_already() -> None:
    received = asked(EXPECTING + b"abc" + LAST_GET)
    assert [each.body for each in responses(received)] == [b"POST /x  abc", b"GET /  "]


def test_expectation_of_http_1_0_is_ignored() -> None:
    """H-10."""
    assert response(asked(EXPECTING.replace(b"1.1", b"1.0") + b"abc")).body == b"POST /x  abc"


# ---- limits

HEAD_LIMITS = Limits(request_line=100, headers=400, header_count=5, body=10)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * 100), 414),
        (b"GET /%b" % (b"a" * 200), 414),
        (b"%b /" % (b"A" * 200), 501),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"a" * 400), 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: %b" % (b"a" * 800), 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 5 + b"\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n", 413),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n0\r\n\r\n",
            413,
        ),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"6\r\n123456\r\n6\r\n123456\r\n0\r\n\r\n",
            413,
        ),
    ],
)
def test_limits(data: bytes, status: int) -> None:
    """H1-4, issue 2: each limit has its status, and the connection ends."""
    found = response(asked(data, limits=HEAD_LIMITS))
    assert (found.status, found.headers["connection"]) == (status, "close")


@pytest.mark.parametrize(
    "data",
    [
        b"GET /%b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % (b"a" * 80),
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: %b\r\n\r\n" % (b"a" * 350),
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + b"X: 1\r\n" * 3 + b"\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 10\r\n\r\n1234567890",
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\n12345\r\n5\r\n12345\r\n0\r\n\r\n",
    ],
)
def test_what_is_at_a_limit_passes(data: bytes) -> None:
    assert response(asked(data, limits=HEAD_LIMITS)).status == 200


# ---- time

SHORT = Timeouts(header=0.05, body=0.05, send=0.05, keep_alive=0.05, disconnect_grace=0.05)


@pytest.mark.parametrize("before", [b"", GET, GET + b"\r\n"])
def test_late_head_is_answered_408(before: bytes) -> None:
    """On a new connection, after another request, and when a part came together with another request."""
    timeouts = Timeouts(header=0.05, keep_alive=60)
    found = responses(asked(before + b"GET / HTTP/1.1\r\nHos", timeouts=timeouts))
    assert [each.status for each in found] == [200] * bool(before) + [408]
    assert found[-1].headers["connection"] == "close"


def test_dripping_a_head_does_not_put_off_its_deadline() -> None:
    async def test(service: Served, client: trio.SocketStream) -> None:
        await client.send_all(b"GET / HTTP/1.1\r\n")

        async def drip() -> None:
            while True:
                await client.send_all(b"X: y\r\n")
                await pass_time(0.01)

        assert response(await read_while(client, drip)).status == 408

    served(test, timeouts=Timeouts(header=0.1), limits=Limits(header_count=10_000))


@pytest.mark.parametrize("framing", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
def test_dribbling_a_body_does_not_put_off_its_end(framing: bytes) -> None:
    """No silence is longer than timeouts.body, but the client is below limits.min_rate."""

    async def test(service: Served, client: trio.SocketStream) -> None:
        await client.send_all(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")

        async def dribble() -> None:
            while True:
                await client.send_all(b"1\r\nx\r\n")
                await pass_time(0.02)

        assert response(await read_while(client, dribble)).status == 408

    served(test, timeouts=Timeouts(body=0.1), limits=Limits(min_rate=100_000))


def test_dribbling_reader_is_cut_off() -> None:
    """A client that takes a little now and then holds a response for so long only."""
    failed = trio.Event()

    async def main() -> None:
        limits = Limits(min_rate=1024**3)
        timeouts = Timeouts(send=0.2)
        async with serving(endless(failed), timeouts=timeouts, limits=limits, send_buffer=65536) as service:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
            sock.connect(service.address)
            async with trio.SocketStream(trio.socket.from_stdlib_socket(sock)) as client:
                await client.send_all(GET)
                while not failed.is_set():
                    await client.receive_some(65536)
                    await pass_time(0.02)

    run(main)


def test_closing_in_stages_reads_on_as_long_as_something_comes() -> None:
    """H1-20: the refusal of a large body is not eaten by a reset, however much of the body still comes."""

    async def refuse(request: Request, responder: Responder) -> None:
        await respond(responder, 413, [], b"no")

    async def test(service: Served, client: trio.SocketStream) -> None:
        size = 16 * 1024 * 1024
        await client.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        await client.send_all(b"x" * size)
        found = response(await read_all(client))
        assert (found.status, found.headers["connection"]) == (413, "close")
        await client.send_eof()
        await until(lambda: not service.open)

    served(test, refuse)


def test_closing_in_stages_ends_with_silence() -> None:
    """H1-20: nginx's lingering_timeout."""

    async def test(service: Served, client: trio.SocketStream) -> None:
        await client.send_all(LAST_GET)
        await read_all(client)
        await until(lambda: not service.open)  # although the client keeps its side open

    served(test, timeouts=Timeouts(linger=0.05))


def test_closing_in_stages_ends_although_something_comes() -> None:
    """H1-20: nginx's lingering_time."""

    async def test(service: Served, client: trio.SocketStream) -> None:
        await client.send_all(LAST_GET)
        await read_all(client)

        async def go_on() -> None:
            while True:
                await client.send_all(b"x")
                await pass_time(0.01)

        with pytest.raises(trio.BrokenResourceError):
            await go_on()

    served(test, timeouts=Timeouts(linger=5.0, linger_total=0.1))


@pytest.mark.parametrize("before", [b"", GET, b"\r\n", GET + b"\r\n"])
def test_idle_connection_is_closed_without_a_word(before: bytes) -> None:
    """RFC 9112 2.2: an empty line in front of a request is ignored, also if no request follows."""
    received = asked(before, timeouts=SHORT)
    assert [each.status for each in responses(received)] == [200] * before.count(GET)


def test_new_connection_has_the_time_of_a_head() -> None:
    """``keep_alive: 0`` closes after each response, but gives a client the time to ask."""

    async def test(service: Served, client: trio.SocketStream) -> None:
        await pass_time(0.05)
        await client.send_all(GET)
        found = response(await read_all(client))
        assert (found.status, found.headers["connection"]) == (200, "close")

    served(test, timeouts=Timeouts(keep_alive=0.0))


@pytest.mark.parametrize("framing", [b"Content-Length: 10", b"Transfer-Encoding: chunked"])
def test_late_body_is_answered_408(framing: bytes) -> None:
    """H-18; traefik#10654: silence counts, not the whole transfer."""
    data = b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n5\r\n" % framing
    found = response(asked(data, timeouts=SHORT))
    assert (found.status, found.headers["connection"]) == (408, "close")


def test_slow_body_that_goes_on_is_read() -> None:
    """traefik#10654: longer in all than the timeout, never silent for so long."""
    clock = trio.testing.MockClock(rate=1.0)
    read: list[bytes] = []

    async def answer(request: Request, responder: Responder) -> None:
        while piece := await request.body.read():
            read.append(piece)
        await respond(responder, 200, [], b"".join(read))

    async def test(service: Served, client: trio.SocketStream) -> None:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        await client.send_all(head)
        for count in range(1, 9):
            await client.send_all(b"1\r\nx\r\n")
            await until(lambda: len(read) == count)  # noqa: B023
            clock.jump(30.2)
        await client.send_all(b"0\r\n\r\n")
        assert response(await read_all(client)).body == b"xxxxxxxx"

    served(test, answer, seconds=600, clock=clock, timeouts=Timeouts(body=60.0), limits=Limits(min_rate=0))


def test_client_that_does_not_read_is_cut_off() -> None:
    """A slow reader holds its connection for the send timeout, not for ever."""
    failed = trio.Event()

    async def test(service: Served, client: trio.SocketStream) -> None:
        await client.send_all(GET)
        await failed.wait()
        await until(lambda: not service.open)

    served(test, endless(failed), timeouts=SHORT)


def test_slow_reader_that_goes_on_gets_a_whole_file(tmp_path: Path) -> None:
    """traefik#10654: the send timeout counts silence, also for a file that the kernel sends."""
    size = 2 * 1024 * 1024
    (tmp_path / "file").write_bytes(b"x" * size)

    async def answer(request: Request, responder: Responder) -> None:
        with (tmp_path / "file").open("rb") as file:
            responder.start(200, [(b"content-length", b"%d" % size)])
            await responder.write_file(file.fileno(), 0, size)
            responder.end()
            await responder.flush()

    clock = trio.testing.MockClock(rate=1.0)

    async def main() -> None:
        async with serving(answer, timeouts=Timeouts(send=60.0), send_buffer=65536) as service:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
            sock.connect(service.address)
            async with trio.SocketStream(trio.socket.from_stdlib_socket(sock)) as client:
                await client.send_all(LAST_GET)
                received = pauses = 0
                while data := await client.receive_some(65536):
                    received += len(data)
                    if received > (pauses + 1) * 400_000:  # more than the kernel holds: some was sent since
                        pauses += 1
                        clock.jump(30.2)
                assert received > size
                assert pauses == 5

    run(main, seconds=600, clock=clock)


# ---- clients that go


def test_half_closed_client_reads_its_answer() -> None:
    """H1-21: neither the end of a request nor an abort."""

    async def test(service: Served, client: trio.SocketStream) -> None:
        await client.send_all(GET + b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
        await client.send_eof()
        assert [each.body for each in responses(await read_all(client))] == [b"GET /  ", b"POST /  abc"]

    served(test)


class Waiting:
    """A handler that tells when it began, and how it ended."""

    def __init__(self) -> None:
        self.began = trio.Event()
        self.go_on = trio.Event()
        self.told = 0
        self.outcome = ""

    async def __call__(self, request: Request, responder: Responder) -> None:
        def tell() -> None:
            self.told += 1

        responder.on_disconnect = tell
        self.began.set()
        try:
            await self.go_on.wait()
            self.outcome = "answered"
        except trio.Cancelled:
            self.outcome = "cancelled"
            raise
        await respond(responder, 200, [], b"late")


def test_handler_goes_on_for_a_half_closed_client() -> None:
    """H1-21: it is told, and may still answer within the grace."""
    answer = Waiting()

    async def test(service: Served, client: trio.SocketStream) -> None:
        await client.send_all(GET)
        await client.send_eof()
        await until(lambda: answer.told == 1)
        answer.go_on.set()
        assert response(await read_all(client)).body == b"late"

    served(test, answer)


def test_disconnect_grace_ends_the_handler() -> None:
    answer = Waiting()

    async def test(service: Served, client: trio.SocketStream) -> None:
        await client.send_all(GET)
        await client.send_eof()
        assert await read_all(client) == b""
        assert (answer.outcome, answer.told) == ("cancelled", 1)

    served(test, answer, timeouts=SHORT)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_reset_ends_the_handler_at_once(kind: str, tmp_path: Path) -> None:
    """A Unix socket has no reset: its close says the same."""
    answer = Waiting()
    logged: list[int] = []

    async def main() -> None:
        path = str(tmp_path / "socket") if kind == "unix" else None
        async with serving(
            answer,
            path=path,
            access_log=lambda request, status, size, seconds: logged.append(status),
        ) as service:
            client = await service.connect()
            await client.send_all(GET)
            await answer.began.wait()
            reset(client)
            await until(lambda: not service.open)
            assert (answer.outcome, answer.told) == ("cancelled", 1)
            assert logged == [499]

    run(main)


@pytest.mark.parametrize("sent", [b"", b"GE", b"GET / HTTP/1.1\r\nHost: a\r\n", b"\r", b"\r\n\r"])
def test_client_that_goes_before_its_request_is_complete(sent: bytes) -> None:
    assert asked_and_closed(sent) == b""


@pytest.mark.parametrize("framing", [b"Content-Length: 10", b"Transfer-Encoding: chunked"])
def test_client_that_goes_in_the_middle_of_its_body(framing: bytes) -> None:
    assert asked_and_closed(b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n5\r\nabc" % framing) == b""


def asked_and_closed(data: bytes) -> bytes:
    received = b""

    async def test(service: Served, client: trio.SocketStream) -> None:
        nonlocal received
        await client.send_all(data)
        await client.send_eof()
        received = await read_all(client)

    with capture_logs() as logs:
        served(test)
    assert not [entry for entry in logs if entry["log_level"] == "error"]
    return received


# ---- bodies that nobody reads


@pytest.mark.parametrize("size", [1, 1000, DRAINED_BYTES])
def test_small_unread_body_is_drained_and_the_connection_kept(size: int) -> None:
    """H1-18."""
    data = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size + LAST_GET
    first, second = responses(asked(data, ignore))
    assert (first.headers["connection"], second.status) == (None, 200)


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2dc6c0\r\n",
    ],
)
def test_whole_response_reaches_a_client_that_still_uploads(head: bytes) -> None:
    """gunicorn#840, uvicorn#1345, H1-20: `Connection: close`, and no reset eats the response on its way."""

    async def large(request: Request, responder: Responder) -> None:
        await respond(responder, 413, [], b"r" * 100_000)

    async def test(service: Served, client: trio.SocketStream) -> None:
        # As simple clients do: first send all, then read.
        await client.send_all(head + b"x" * 3_000_000)
        found = response(await read_all(client))
        assert (found.status, len(found.body), found.complete) == (413, 100_000, True)
        assert found.headers["connection"] == "close"

    served(test, large)


def test_handler_may_read_the_body_after_it_began_to_answer() -> None:
    async def reverse(request: Request, responder: Responder) -> None:
        responder.start(200, [])
        while piece := await request.body.read():
            responder.write(piece.upper())
            await responder.flush()
        responder.end()
        await responder.flush()

    async def test(service: Served, client: trio.SocketStream) -> None:
        await client.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 600000\r\n\r\n")
        await client.send_all(b"a")
        await read_until(client, b"1\r\nA\r\n")
        await client.send_all(b"b")
        await read_until(client, b"1\r\nB\r\n")

    served(test, reverse)


# ---- responses that fail


def begun_then(failure: Exception, *, length: int | None = None) -> Answer:
    async def answer(request: Request, responder: Responder) -> None:
        responder.start(200, [] if length is None else [(b"content-length", b"%d" % length)])
        responder.write(b"begun")
        await responder.flush()
        raise failure

    return answer


def test_chunked_response_that_fails_is_visibly_cut() -> None:
    """H1-24: no last chunk."""
    with capture_logs() as logs:
        received = asked(GET + GET, begun_then(ValueError("a bug")))
    assert received.endswith(b"\r\n\r\n5\r\nbegun\r\n")
    assert len(re.findall(rb"HTTP/1.1", received)) == 1
    assert logs[0]["event"] == "request crashed"


@pytest.mark.parametrize("fields", [[], [(b"content-length", b"1000")]])
def test_answer_to_head_is_whole_whatever_becomes_of_the_body(fields: list[tuple[bytes, bytes]]) -> None:
    """RFC 9110 9.3.2: the next request on the connection is answered."""

    async def answer(request: Request, responder: Responder) -> None:
        if request.method == "GET":
            await respond(responder, 200, [], b"next")
            return
        responder.start(200, fields)
        responder.write(b"some")
        await responder.flush()
        raise BackendError(Cause.INCOMPLETE, "gone", backend="app", address="here", phase=Phase.BODY)

    with capture_logs() as logs:
        received = asked(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + LAST_GET, answer)
    first, second = responses(received, "HEAD", "GET")
    assert (first.status, first.headers["connection"]) == (200, None)
    assert (second.status, second.body) == (200, b"next")
    assert [entry["event"] for entry in logs] == ["backend failed"]


def test_response_with_length_that_fails_is_visibly_cut() -> None:
    """H1-24."""
    with capture_logs():
        found = response(asked(GET, begun_then(ResponseAborted("gone"), length=10)))
    assert (found.body, found.complete) == (b"begun", False)


def test_http_1_0_response_that_fails_is_reset() -> None:
    """H1-24: only a reset tells it from a whole one."""

    async def test(service: Served, client: trio.SocketStream) -> None:
        await client.send_all(b"GET / HTTP/1.0\r\n\r\n")
        await read_until(client, b"begun")
        with pytest.raises(trio.BrokenResourceError) as broken:
            await client.receive_some(100)
        assert isinstance(broken.value.__cause__, OSError)
        assert broken.value.__cause__.errno == errno.ECONNRESET

    with capture_logs():
        served(test, begun_then(ValueError("a bug")))


def test_http_1_0_response_to_a_client_that_was_too_slow_is_reset() -> None:
    """H1-24: what was ended by the handler but not taken by the client is not whole either."""

    async def answer(request: Request, responder: Responder) -> None:
        responder.start(200, [])
        await responder.flush()
        responder.write(b"x" * 20_000_000)
        responder.end()
        await responder.flush()

    async def test(service: Served, client: trio.SocketStream) -> None:
        await client.send_all(b"GET / HTTP/1.0\r\n\r\n")
        await until(lambda: bool(service.open))
        await until(lambda: not service.open)
        with pytest.raises(trio.BrokenResourceError):
            await read_all(client)

    served(test, answer, timeouts=SHORT)


@pytest.mark.parametrize("ended", [False, True])
def test_http_1_0_response_that_is_cut_off_is_reset(ended: bool) -> None:
    """H1-24: by the end of the daemon's grace."""

    async def answer(request: Request, responder: Responder) -> None:
        responder.start(200, [])
        await responder.flush()
        responder.write(b"x" * 20_000_000 if ended else b"begun")
        if ended:
            responder.end()
        await responder.flush()
        await trio.sleep_forever()

    async def test(service: Served, client: trio.SocketStream) -> None:
        await client.send_all(b"GET / HTTP/1.0\r\n\r\n")
        await read_until(client, b"x" if ended else b"begun")
        for connection in list(service.open):
            connection._scope.cancel()
        with pytest.raises(trio.BrokenResourceError):
            await read_all(client)

    served(test, answer)


@pytest.mark.parametrize(("written", "seen"), [(b"123", b"123"), (b"1234567", b"")])
def test_length_that_is_not_kept_cuts_the_connection(written: bytes, seen: bytes) -> None:
    """H1-24, WSGI-14: never more than was promised, and less is visible."""

    async def answer(request: Request, responder: Responder) -> None:
        responder.start(200, [(b"content-length", b"5")])
        await responder.flush()
        responder.write(written)
        await responder.flush()
        responder.end()

    with capture_logs() as logs:
        (found,) = responses(asked(GET + GET, answer))
    assert (found.body, found.complete) == (seen, False)
    assert [entry["event"] for entry in logs] == ["request failed"]


def test_exception_of_a_handler_is_a_500_with_a_log_entry() -> None:
    async def answer(request: Request, responder: Responder) -> None:
        if request.path == "/":
            raise ValueError("secret")
        await respond(responder, 200, [], b"fine")

    with capture_logs() as logs:
        received = asked(GET + LAST_GET.replace(b"/ ", b"/x ", 1), answer)
    first, second = responses(received)
    assert (first.status, second.body) == (500, b"fine")
    assert b"secret" not in received
    assert isinstance(logs[0]["exc_info"], ValueError)
    assert (logs[0]["event"], logs[0]["target"], logs[0]["log_level"]) == ("request crashed", "/", "error")


def test_shortage_that_a_handler_meets_is_a_503_with_a_log_entry() -> None:
    async def answer(request: Request, responder: Responder) -> None:
        raise OSError(errno.EMFILE, "Too many open files", "/secret")

    with capture_logs() as logs:
        received = asked(LAST_GET, answer)
    assert response(received).status == 503
    assert b"secret" not in received
    assert (logs[0]["event"], logs[0]["log_level"]) == ("request failed", "error")
    assert logs[0]["cause"] == "[Errno 24] Too many open files: '/secret'"


def test_handler_that_answers_nothing_is_a_500() -> None:
    async def answer(request: Request, responder: Responder) -> None:
        return

    with capture_logs() as logs:
        assert response(asked(LAST_GET, answer)).status == 500
    assert logs[0]["event"] == "request crashed"


def test_handler_that_does_not_end_its_response_is_cut() -> None:
    async def answer(request: Request, responder: Responder) -> None:
        responder.start(200, [])
        responder.write(b"begun")
        await responder.flush()

    assert not asked(GET + GET, answer).endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("close", [True, False])
def test_refusal_by_a_handler(close: bool) -> None:
    async def answer(request: Request, responder: Responder) -> None:
        raise RequestError(418 if request.path == "/" else 404, "no coffee", close=close)

    with capture_logs():
        found = responses(asked(GET + LAST_GET.replace(b"/ ", b"/x ", 1), answer))
    assert [each.status for each in found] == ([418] if close else [418, 404])


def test_failure_of_a_backend_is_told_to_the_client_and_the_log() -> None:
    """H-18, RFC 9209."""

    async def answer(request: Request, responder: Responder) -> None:
        raise BackendError(Cause.OVERLOADED, "full", backend="b", address="unix:/x", phase=Phase.QUEUE)

    with capture_logs() as logs:
        found = response(asked(LAST_GET, answer))
    assert found.status == 503
    assert found.headers["retry-after"]
    assert found.headers["proxy-status"].startswith("gateway; error=connection_limit_reached;")
    facts = {"backend": "b", "address": "unix:/x", "phase": "queue", "cause": "connection_limit_reached"}
    assert facts.items() <= logs[0].items()


# ---- what is not HTTP

HOST = b"Host: a\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        # The request line.
        (b"GET\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 505),
        (b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n", 400),
        (b"GET / /x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b" GET / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"G@T / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET\t/\tHTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET a:80 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET ftp://a/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET http:///x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET http://u@a/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 501),
        (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 505),
        (b"GET / HTTP/0.9\r\n" + HOST + b"\r\n", 505),
        (b"GET / HTTP/1.\r\n" + HOST + b"\r\n", 400),
        (b"GET / http/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET / HTTP/1.1x\r\n" + HOST + b"\r\n", 400),
        (b"GET / HTTP/11\r\n" + HOST + b"\r\n", 400),
        (b"GET / HTTP/1.1\n" + b"Host: a\n\n", 400),
        (b"GET /\x00 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /\x7f HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /\xc3\xa4\x01 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"\r\n\r\n\r\n\r\n\r\n", 400),
        # The path.
        (b"GET /#x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /% HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /%zz HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /%00 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /../x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /%2e%2e/x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /a/..%2f../x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        # Host: H1-5.
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a:x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
        # Fields: H1-1, H1-2, H1-7, H1-8, H-7.
        (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X : y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n z\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b": y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X@: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X\x00: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: y\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: y\rz\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: y\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X\xa0: y\r\n\r\n", 400),
        # Framing: H1-9 to H1-15, H-8.
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +1\r\n\r\nx", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1 1\r\n\r\nx", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0x1\r\n\r\nx", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999999\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length:\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: \x0bchunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Expect: 200-ok\r\nContent-Length: 1\r\n\r\n", 417),
        # Chunks: H1-14.
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n 1\r\na\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\na\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1;\x01\r\na\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX : y\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n X: y\r\n\r\n", 400),
    ],
)
def test_malformed_request_is_refused_and_the_connection_closed(data: bytes, status: int) -> None:
    """RFC 9112 11.2: refused, not repaired; whatever comes after it is not looked at."""
    with capture_logs():
        for before in (b"", GET):
            found = responses(asked(before + data + GET, timeouts=SHORT))
            assert [each.status for each in found] == [200] * bool(before) + [status]
            assert found[-1].headers["connection"] == "close"


# ---- one request's bytes never reach another


def test_connections_do_not_mix() -> None:
    """14.4: fifty clients at once, every one pipelines, some go in the middle."""

    async def mixed(request: Request, responder: Responder) -> None:
        body = b""
        while piece := await request.body.read():
            body += piece
        responder.start(200, [] if len(body) % 2 else [(b"content-length", b"%d" % (2 * len(body)))])
        for _ in range(2):
            responder.write(body)
            await responder.flush()
            await trio.lowlevel.checkpoint()
        if request.path == "/fail":
            raise ResponseAborted("as asked")
        responder.end()
        await responder.flush()

    async def talk(service: Served, mark: int) -> None:
        client = await service.connect()
        async with client:
            data, bodies = b"", []
            for number in range(5):
                body = b"%03d." % mark * (number * 100 + mark)
                path = b"/fail" if number == 4 and mark % 3 == 0 else b"/"
                data += b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n" % (path, len(body))
                data += b"Connection: close\r\n\r\n" * (number == 4) + b"\r\n" * (number != 4) + body
                bodies.append(body * 2)
            if mark % 5 == 0:
                await client.send_all(data[: len(data) // 2])
                reset(client)
                return
            received = b""

            async def receive() -> None:
                nonlocal received
                received = await read_all(client)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                await client.send_all(data)
            found = [each.body for each in responses(received)]
            assert found[:4] == bodies[:4]
            assert bodies[4].startswith(found[4])

    async def main() -> None:
        async with serving(mixed) as service, trio.open_nursery() as nursery:
            for mark in range(50):
                nursery.start_soon(talk, service, mark)

    with capture_logs() as logs:
        run(main)
    assert {entry["event"] for entry in logs} == {"request failed"}


def test_slow_reader_bounds_the_memory_of_its_response() -> None:
    """14.5: a write waits for the client; nothing piles up in the gateway."""
    produced = 0

    async def endless(request: Request, responder: Responder) -> None:
        nonlocal produced
        responder.start(200, [])
        while True:
            responder.write(b"x" * 65536)
            await responder.flush()
            produced += 65536

    async def main() -> None:
        async with serving(endless, send_buffer=65536) as service:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            sock.connect(service.address)
            async with trio.SocketStream(trio.socket.from_stdlib_socket(sock)) as client:
                await client.send_all(GET)
                await until(lambda: produced > 0)
                await trio.testing.wait_all_tasks_blocked()
                assert produced < 1_000_000

    run(main)


def test_slow_reader_gets_what_was_said_before_the_response_broke_off() -> None:
    """H1-24: it is visibly cut short where it ended, and not before."""
    pieces, piece = 100, bytes(4096)

    async def broken(request: Request, responder: Responder) -> None:
        responder.start(200, [(b"content-length", b"9000000")])
        for _ in range(pieces):  # more than the kernel takes, within one step
            responder.write(piece)
            assert responder.try_flush()
        raise ResponseAborted("the server behind has failed")

    async def main() -> None:
        async with serving(broken, send_buffer=65536) as service:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(service.address)
            async with trio.SocketStream(trio.socket.from_stdlib_socket(sock)) as client:
                await client.send_all(GET)
                await trio.testing.wait_all_tasks_blocked()
                received = await read_all(client)
                assert len(received.partition(b"\r\n\r\n")[2]) == pieces * len(piece)

    with capture_logs() as logs:
        run(main)
    assert {entry["event"] for entry in logs} == {"request failed"}


def test_unread_body_stays_in_the_kernel() -> None:
    """14.5: the gateway does not read ahead of its handler."""

    async def test(service: Served, client: trio.SocketStream) -> None:
        await client.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
        await answer.began.wait()
        sent = 0
        with trio.move_on_after(0.2):
            while True:
                sent += await client.socket.send(b"x" * 65536)
        assert sent < 20_000_000  # what two kernel buffers hold
        (connection,) = service.open
        assert len(connection._codec._data) <= 65536

    answer = Waiting()
    served(test, answer)


# ---- the daemon's part


def test_connection_is_told_to_close_when_the_service_drains() -> None:
    """gunicorn#1236: busy ones get `Connection: close`; what is pipelined behind is not begun."""
    answer = Waiting()

    async def test(service: Served, client: trio.SocketStream) -> None:
        await client.send_all(GET + GET)
        await answer.began.wait()
        service.service.closing = True
        for connection in service.open:
            connection.drain()
        answer.go_on.set()
        (found,) = responses(await read_all(client))
        assert found.headers["connection"] == "close"

    served(test, answer)


@pytest.mark.parametrize("begun", ["before", "behind the last one"])
def test_half_a_head_has_a_moment_when_the_service_drains(begun: str) -> None:
    """timeouts.stopping; 408 says that it may be sent again (RFC 9110 15.5.9). Nor is a client waited for
    that does not close its side.
    """
    answer = Waiting()

    async def test(service: Served, client: trio.SocketStream) -> None:
        if begun == "before":
            await client.send_all(b"GET / HTTP/1.1\r\nHo")
            await until(lambda: [each.idle for each in service.open] == [False])
        else:
            await client.send_all(GET)
            await answer.began.wait()
        service.service.draining = True
        (connection,) = service.open
        connection.drain()
        if begun == "before":
            assert (response(await read_all(client)).status, connection.idle) == (408, True)
        else:
            answer.go_on.set()
            assert response(await read_all(client)).status == 200
        await until(lambda: not service.open)

    served(test, answer, timeouts=Timeouts(header=3600.0, linger=3600.0, linger_total=3600.0, stopping=0.05))


def test_rest_of_a_head_is_taken_when_the_service_drains() -> None:
    """The request was on its way."""

    async def test(service: Served, client: trio.SocketStream) -> None:
        await client.send_all(GET[:-4])
        await until(lambda: [each.idle for each in service.open] == [False])
        service.service.closing = service.service.draining = True
        for connection in service.open:
            connection.drain()
        await client.send_all(GET[-4:])
        found = response(await read_all(client))
        assert (found.status, found.headers["connection"]) == (200, "close")

    served(test, timeouts=Timeouts(header=3600.0, stopping=60.0))


def test_idle_connection_is_closed_when_the_service_drains() -> None:
    """gunicorn#1236, granian#611."""

    async def test(service: Served, client: trio.SocketStream) -> None:
        await client.send_all(GET)
        await read_until(client, b"GET /  ")
        (connection,) = service.open
        await until(lambda: connection.idle)
        connection.drain()
        assert await read_all(client) == b""

    served(test)


@pytest.mark.parametrize("end", ["drain", "idle for too long", "half-closed", "half-closed in a head"])
def test_idle_connection_ends_after_what_the_client_has_still_to_read(end: str) -> None:
    """A client that asks and asks, and does not read: at last a part of an answer waits in the gateway."""
    body = b"x" * 8192
    requests = 0

    async def answer(request: Request, responder: Responder) -> None:
        await respond(responder, 200, [], body)

    async def test(service: Served, client: trio.SocketStream) -> None:
        nonlocal requests
        connection = None
        while connection is None or not connection._stream.unsent:
            await client.send_all(GET)
            requests += 1
            await until(lambda: any(each.idle for each in service.open))
            await trio.testing.wait_all_tasks_blocked()
            (connection,) = service.open
        if end == "drain":
            connection.drain()
        elif end == "idle for too long":
            connection._stream.read_deadline = 0.0
        else:
            if end == "half-closed in a head":
                await client.send_all(GET[:-2])
            await client.send_eof()
            await until(lambda: connection._stream.peer_closed)
            await trio.testing.wait_all_tasks_blocked()
        found = responses(await read_all(client))
        assert [each.body for each in found] == requests * [body]
        assert all(each.complete for each in found)

    served(test, answer)


def test_access_log_has_status_and_size() -> None:
    entries: list[tuple[str, int, int]] = []

    async def test(service: Served, client: trio.SocketStream) -> None:
        await client.send_all(GET + LAST_GET.replace(b"/ ", b"/x ", 1))
        await read_all(client)

    served(
        test,
        access_log=lambda request, status, size, seconds: entries.append((request.path, status, size)),
    )
    assert entries == [("/", 200, 7), ("/x", 200, 8)]


def test_an_idle_connection_keeps_nothing_of_its_last_request() -> None:
    """Neither what it has read last, nor the fields: with large ones these were 80 KiB each."""
    size, connections = 50_000, 20
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nX: " % size + size * b"x" + b"\r\n\r\n"
    body = size * b"y"

    async def counted(request: Request, responder: Responder) -> None:
        read = 0
        while piece := await request.body.read():
            read += len(piece)
        await respond(responder, 200, [], b"%d" % read)

    async def main() -> None:
        async with serving(counted) as service, AsyncExitStack() as stack:
            tracemalloc.start()
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(connections):
                client = await stack.enter_async_context(await service.connect())
                await client.send_all(head)
                await trio.testing.wait_all_tasks_blocked()
                await client.send_all(body)
                await read_until(client, b"%d" % size)
            await trio.testing.wait_all_tasks_blocked()
            after, _ = tracemalloc.get_traced_memory()
            assert after - before < connections * size / 2

    try:
        run(main)
    finally:
        tracemalloc.stop()
