"""HTTP/2 for clients, over real sockets: requests side by side, bodies, windows, ends."""

import socket
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count

import pytest
import trio
import trio.testing
from hpack import Encoder
from hyperframe.frame import DataFrame, GoAwayFrame
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from gateway.errors import ClientGone, RequestError
from gateway.front.entrance import Entrance
from gateway.front.http2.connection import Http2Connection
from gateway.front.service import GATHERED_BYTES, GATHERING_TIME, Limits, Timeouts
from gateway.protocols.http2 import PREFACE, ErrorCode
from gateway.protocols.http2.server import CONNECTION_WINDOW
from gateway.request import Connection, Request, Responder, respond
from gateway.tls.facts import TlsFacts
from tests.gateway.freed import freed_without_the_collector
from tests.gateway.http2_client import Answered, Client, entering, talking
from tests.gateway.served import (
    LAST_GET,
    Served,
    attached,
    pass_time,
    read_all,
    reset,
    response,
    run,
    serving,
    until,
)
from tests.protocols.http2_peer import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    GOAWAY,
    HEADERS,
    PING,
    POST,
    data,
    frame,
    parsed,
    settings,
    window,
)

pytestmark = pytest.mark.usefixtures("quick_sweeper")


async def echo(request: Request, responder: Responder) -> None:
    """Says what was asked, and gives the body back as it comes."""
    line = f"{request.method} {request.path} {request.query.decode()} {request.host} {request.version} "
    responder.start(200, [(b"content-type", b"text/plain")])
    responder.write(line.encode())
    await responder.flush()
    while piece := await request.body.read():
        responder.write(piece)
        await responder.flush()
    responder.end()
    await responder.flush()


async def hello(request: Request, responder: Responder) -> None:
    await respond(responder, 200, [(b"Content-Type", b"text/plain"), (b"connection", b"x")], b"hello")


# ---- choosing the version


def test_prior_knowledge() -> None:
    """RFC 9113 3.3: the preface on a plain listener, in one piece or byte by byte."""

    async def main() -> None:
        async with serving(hello) as served, entering(served):
            for step in (1, 5, 24, 1000):
                async with await served.connect() as stream:
                    beginning = PREFACE + settings()
                    for start in range(0, len(beginning), step):
                        await stream.send_all(beginning[start : start + step])
                    answer = await stream.receive_some(65536)
                    assert answer[3] == 4  # SETTINGS

    run(main)


def test_listener_without_http2_refuses_the_preface() -> None:
    """505 (RFC 9110 15.6.6) for `http2: false`, and for a preface behind a request."""

    async def main() -> None:
        async with serving(hello) as served, entering(served, http2=False):
            assert response(await served.ask(PREFACE)).status == 505
        async with serving(hello) as served, entering(served):
            received = await served.ask(LAST_GET.replace(b"Connection: close\r\n", b"") + PREFACE)
            assert received.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"HTTP/1.1 505" in received
            assert response(await served.ask(LAST_GET)).status == 200

    run(main)


def test_upgrade_to_http2_is_ignored() -> None:
    """RFC 9113 3.1: h2c is obsolete."""

    async def main() -> None:
        async with serving(hello) as served, entering(served):
            fields = b"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n\r\n"
            received = await served.ask(LAST_GET.replace(b"Connection: close\r\n\r\n", fields))
            assert response(received).status == 200

    run(main)


def test_alpn_chooses() -> None:
    """RFC 9113 3.2: the front is told what TLS has agreed on."""

    async def main() -> None:
        seen = []

        async def answer(request: Request, responder: Responder) -> None:
            seen.append((request.version, request.connection.scheme))
            await respond(responder, 204, [])

        async with serving(answer) as served:
            entrance = Entrance(served.service)
            for alpn in ("h2", "http/1.1"):
                async with trio.open_nursery() as nursery:
                    ours, theirs = socket.socketpair()
                    stream = attached(served.service.pump, ours)

                    agreed = TlsFacts(
                        version="TLSv1.3",
                        cipher="TLS_AES_128_GCM_SHA256",
                        cipher_bits=128,
                        cipher_suite=0x1301,
                        server_name=None,
                        protocol=alpn,
                        server_certificate="",
                        client_certificate=None,
                    )
                    facts = Connection(client=None, server=None, scheme="https", tls=agreed)
                    nursery.start_soon(entrance.serve_stream, stream, facts)
                    async with trio.SocketStream(trio.socket.from_stdlib_socket(theirs)) as pipe:
                        if alpn == "h2":
                            client = Client(pipe)
                            await client.begin()
                            assert (await client.ask()).status == 204
                        else:
                            await pipe.send_all(LAST_GET)
                            assert response(await read_all(pipe)).status == 204
        assert seen == [("2", "https"), ("1.1", "https")]

    run(main)


# ---- requests


def test_request_and_response() -> None:
    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        answer = await client.answer(await client.request("/a%20b?c=d", authority="Example.org:80"))
        assert answer.status == 200
        assert answer.body == b"GET /a b c=d example.org 2 "
        assert answer.ended
        assert answer.reset is None
        assert answer.header(b"server") == b"gateway"
        assert answer.header(b"date")

    talking(test, echo)


def test_small_response_has_its_length() -> None:
    """And no fields of HTTP/1.1 (H2-2); it comes in one piece with its head."""

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        answer = await client.ask()
        assert answer.header(b"content-length") == b"5"
        assert answer.header(b"connection") is None
        assert answer.header(b"content-type") == b"text/plain"
        assert answer.body == b"hello"

    talking(test, hello)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [200, 204, 304])
def test_responses_without_a_body(method: str, status: int) -> None:
    """H-16: HEAD and 304 may carry the length of what is not sent, 204 has none."""

    async def answer(request: Request, responder: Responder) -> None:
        await respond(responder, status, [(b"content-length", b"5")], b"hello")

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        got = await client.ask(method=method)
        assert (got.status, got.ended) == (status, True)
        assert got.body == (b"hello" if (status, method) == (200, "GET") else b"")
        assert got.header(b"content-length") == (None if status == 204 else b"5")

    talking(test, answer)


def test_body_both_ways() -> None:
    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        answer = await client.ask("/x", method="POST", body=b"some body")
        assert answer.body == b"POST /x  a 2 some body"

    talking(test, echo)


def test_small_body_is_there_when_its_request_is_handled() -> None:
    """Many clients send it in a packet of its own."""
    pieces: list[bytes | None] = []

    async def answer(request: Request, responder: Responder) -> None:
        pieces.append(request.body.read_nowait())
        await respond(responder, 200, [])

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        stream_id = await client.request("/", ("content-length", "4"), method="POST", end=False)
        for piece in (b"bo", b"dy"):
            await trio.testing.wait_all_tasks_blocked()
            await client.send_body(stream_id, piece, end=piece == b"dy")
        assert (await client.answer(stream_id)).status == 200

    talking(test, answer, clock=trio.testing.MockClock())  # which stands still: nothing is late
    assert pieces == [b"body"]


def test_client_that_takes_its_time_is_not_waited_for() -> None:
    """The request is handled, and its body read as it comes."""
    begun = trio.Event()

    async def answer(request: Request, responder: Responder) -> None:
        begun.set()
        await echo(request, responder)

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        stream_id = await client.request("/", ("content-length", "4"), method="POST", end=False)
        await begun.wait()
        await client.send_body(stream_id, b"body")
        assert (await client.answer(stream_id)).body.endswith(b"body")

    talking(test, answer)


def test_client_that_dribbles_is_not_waited_for_longer() -> None:
    begun = trio.Event()
    clock = trio.testing.MockClock()

    async def answer(request: Request, responder: Responder) -> None:
        begun.set()
        await echo(request, responder)

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        stream_id = await client.request("/", ("content-length", "8"), method="POST", end=False)
        for letter in "somebo":  # for longer than a turn of the sweeper, which is not quick if it is compiled
            await trio.testing.wait_all_tasks_blocked()
            await client.send_body(stream_id, letter.encode(), end=False)
            await trio.testing.wait_all_tasks_blocked()
            clock.jump(0.9 * GATHERING_TIME)
        await trio.testing.wait_all_tasks_blocked()
        assert begun.is_set()
        await client.send_body(stream_id, b"dy")
        assert (await client.answer(stream_id)).body.endswith(b"somebody")

    talking(test, answer, clock=clock)


def test_bodies_that_fill_the_window_of_the_connection_do_not_wait_for_one_another() -> None:
    """RFC 9113 5.2: nothing of the rest can come until some of them is read."""
    size = GATHERED_BYTES
    streams = CONNECTION_WINDOW // size + 8

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        length = ("content-length", str(size))
        posts = [await client.request("/", length, method="POST", end=False) for _ in range(streams)]
        for part in range(4):  # in turns, as most clients do
            for stream_id in posts:
                await client.send_body(stream_id, bytes(size // 4), end=part == 3)
        for stream_id in posts:
            assert len((await client.answer(stream_id)).body) > size

    talking(test, echo, clock=trio.testing.MockClock())  # which stands still: nothing is late


def test_client_that_gives_up_while_its_body_is_gathered() -> None:
    """Nobody is asked, and the connection goes on."""

    async def answer(request: Request, responder: Responder) -> None:
        assert request.method == "GET"
        await echo(request, responder)

    async def test(client: Client, _entrance: Entrance, served: Served) -> None:
        stream_id = await client.request("/", ("content-length", "4"), method="POST", end=False)
        await trio.testing.wait_all_tasks_blocked()
        client.h2.reset_stream(stream_id)
        await client.flush()
        assert (await client.ask()).status == 200

    talking(test, answer, clock=trio.testing.MockClock())


@pytest.mark.parametrize("push", [0, 1])
@pytest.mark.parametrize("end", ["answered", "reset", "broken off"])
def test_connection_and_its_requests_are_freed_without_the_collector(end: str, push: int) -> None:
    """Whether the client takes pushes, as it does if it says nothing of them (RFC 9113 6.5.2), or not."""

    async def answer(request: Request, responder: Responder) -> None:
        if end != "answered":
            await trio.sleep_forever()
        await respond(responder, 200, [])

    async def test(client: Client, entrance: Entrance, _served: Served) -> None:
        stream_id = await client.request()
        if end == "answered":
            await client.answer(stream_id)
        else:
            await until(lambda: bool(entrance.running()))
            if end == "reset":
                client.h2.reset_stream(stream_id)
                await client.flush()
            else:
                await client.stream.aclose()
        await until(lambda: not entrance.running())

    for kind in (Request, Http2Connection):
        with freed_without_the_collector(kind):
            talking(test, answer, settings={"enable_push": push})


def test_large_body_both_ways_through_small_windows() -> None:
    """H2-11: 20 MB each way; the client has windows of 20,000 bytes."""
    whole = bytes(range(256)) * 80_000

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        stream_id = await client.request("/big", method="POST", end=False)
        await client.send_body(stream_id, whole)
        answer = await client.answer(stream_id)
        assert answer.body.endswith(whole[-1000:])
        assert len(answer.body) == len(whole) + len(b"POST /big  a 2 ")

    talking(test, echo, settings={"initial_window_size": 20_000}, seconds=60)


def test_trailers_are_forwarded() -> None:
    """H2-4, RFC 9110 6.5.1: without what belongs in front of the content; no length is said before."""

    async def answer(request: Request, responder: Responder) -> None:
        responder.start(200, [])
        responder.write(b"body")
        responder.end(
            [(b"X-Sum", b"1"), (b"content-length", b"4"), (b"connection", b"x"), (b"Set-Cookie", b"a=b")]
        )
        await responder.flush()

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        got = await client.ask()
        assert (got.body, got.trailers, got.ended) == (b"body", [(b"x-sum", b"1")], True)

    talking(test, answer)


def test_informational_responses() -> None:
    """H2-7, H-11: each as its own message; there is no 101."""

    async def answer(request: Request, responder: Responder) -> None:
        await responder.inform(103, [(b"Link", b"</a>"), (b"connection", b"x")])
        await responder.inform(101, [])
        await responder.inform(103, [])
        responder.start(200, [])
        await responder.inform(103, [])
        responder.end()
        await responder.flush()

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        got = await client.ask()
        assert got.informed == [(103, [(b"link", b"</a>")]), (103, [])]
        assert got.status == 200

    talking(test, answer)


def test_continue_is_sent_when_the_body_is_wanted() -> None:
    """H-10: and not when the answer has begun."""

    async def answer(request: Request, responder: Responder) -> None:
        if request.path == "/late":
            responder.start(200, [])
            await responder.flush()
        assert await request.body.read() == b"body"
        if not responder.started:
            responder.start(200, [])
        responder.end()
        await responder.flush()

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        stream_id = await client.request("/", ("expect", "100-continue"), method="POST", end=False)
        got = client.answers[stream_id]
        await client.until(lambda: bool(got.informed))
        assert got.informed == [(100, [])]
        await client.send_body(stream_id, b"body")
        assert (await client.answer(stream_id)).status == 200
        stream_id = await client.request("/late", ("expect", "100-continue"), method="POST", end=False)
        await client.until(lambda: client.answers[stream_id].status == 200)
        await client.send_body(stream_id, b"body")
        assert (await client.answer(stream_id)).informed == []

    talking(test, answer)


def test_cookies_and_host_reach_the_handler() -> None:
    """H2-3, H2-5."""
    seen = []

    async def answer(request: Request, responder: Responder) -> None:
        seen.append(request.headers)
        await respond(responder, 200, [])

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        await client.ask("/", ("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"))

    talking(test, answer)
    assert seen == [[(b"host", b"a"), (b"cookie", b"a=1; b=2"), (b"x", b"y")]]


# ---- side by side


def test_hundred_requests_side_by_side() -> None:
    """None is answered before all have come."""
    arrived = 0
    everybody = trio.Event()

    async def answer(request: Request, responder: Responder) -> None:
        nonlocal arrived
        arrived += 1
        if arrived == 100:
            everybody.set()
        await everybody.wait()
        await respond(responder, 200, [], request.path.encode())

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        ids = [await client.request(f"/{number}") for number in range(100)]
        for number, stream_id in enumerate(ids):
            assert (await client.answer(stream_id)).body == b"/%d" % number

    talking(test, answer)


def test_stream_beyond_the_limit_is_refused_alone() -> None:
    """RFC 9113 5.1.2; h2 as a client does not do that, so the frames are made by hand."""
    go_on = trio.Event()

    async def answer(request: Request, responder: Responder) -> None:
        await go_on.wait()
        await respond(responder, 200, [], b"x")

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        ids = [await client.request() for _ in range(3)]
        refused = await client.answer(ids[2])
        assert refused.reset == ErrorCode.REFUSED_STREAM
        go_on.set()
        for stream_id in ids[:2]:
            assert (await client.answer(stream_id)).status == 200
        assert (await client.ask()).status == 200

    talking(test, answer, limits=Limits(streams=2))


def test_slow_reader_of_one_stream_does_not_block_others() -> None:
    """H2-11: the window of a stream is its own."""
    size = 1_000_000

    async def answer(request: Request, responder: Responder) -> None:
        await respond(responder, 200, [], bytes(size if request.path == "/big" else 10))

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        big = await client.request("/big")
        await client.until(lambda: len(client.answers[big].body) == 1000)
        for _ in range(20):
            assert (await client.ask("/small")).body == bytes(10)
        assert len(client.answers[big].body) == 1000
        client.h2.increment_flow_control_window(size, big)
        client.h2.increment_flow_control_window(size)
        await client.flush()
        assert len((await client.answer(big)).body) == size

    talking(test, answer, settings={"initial_window_size": 1000}, credit=False)


@pytest.mark.parametrize("body", [b"", b"x"])
def test_head_waits_for_no_window(body: bytes) -> None:
    """RFC 9113 5.2.1: flow control is for DATA; more heads come together than are written at once."""
    numbers = count()

    async def answer(request: Request, responder: Responder) -> None:
        await respond(responder, 200, [(b"x", bytes(range(0x21, 0x7F)) * 20 + b"%d" % next(numbers))], body)

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        for _ in range(100):
            client.h2.send_headers(
                stream_id := client.h2.get_next_available_stream_id(),
                [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")],
                end_stream=True,
            )
            client.answers[stream_id] = Answered()
        await client.flush()
        await client.until(lambda: all(got.status == 200 for got in client.answers.values()))
        for stream_id in client.answers:
            if body:
                client.h2.increment_flow_control_window(1, stream_id)
        await client.flush()
        await client.until(lambda: all(got.ended for got in client.answers.values()))

    talking(test, answer, settings={"initial_window_size": 0}, credit=False)


def test_turns_are_fair() -> None:
    """A large response does not hold up one that comes later."""

    async def answer(request: Request, responder: Responder) -> None:
        await respond(responder, 200, [], bytes(5_000_000 if request.path == "/big" else 50_000))

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        client.h2.increment_flow_control_window(20_000_000)
        big = await client.request("/big")
        small = await client.request("/small")
        await client.answer(small)
        assert not client.answers[big].ended
        assert len((await client.answer(big)).body) == 5_000_000

    talking(test, answer, settings={"initial_window_size": 10_000_000}, credit=False, send_buffer=65536)


def test_handlers_of_reset_streams_count() -> None:
    """CVE-2023-44487: a place is free when its handler has ended, not when the client says so."""
    go_on = trio.Event()
    begun: list[str] = []

    async def answer(request: Request, responder: Responder) -> None:
        begun.append(request.path)
        if request.path == "/stays":
            with trio.CancelScope(shield=True), trio.move_on_after(8):
                await go_on.wait()
        await respond(responder, 200, [])

    async def test(client: Client, entrance: Entrance, _served: Served) -> None:
        for number in (1, 2):
            stream_id = await client.request("/stays")
            await until(lambda: len(begun) == number)  # noqa: B023
            client.h2.reset_stream(stream_id, 8)
            await client.flush()
        first, second = [await client.request("/waits") for _ in range(2)]
        await until(lambda: len(entrance.running()) == 4)
        client.h2.reset_stream(first, 8)
        await client.flush()
        await until(lambda: len(entrance.running()) == 3)
        third = await client.request("/waits")
        await until(lambda: len(entrance.running()) == 4)
        assert begun == ["/stays", "/stays"]
        go_on.set()
        for each in (second, third):
            assert (await client.answer(each)).status == 200
        assert len(begun) == 4

    talking(test, answer, limits=Limits(streams=2))


def test_requests_that_are_reset_at_once_are_bounded() -> None:
    """Twice as many as streams may be open are there at a time; one more may be sent again."""

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        await client.ask()
        for number in range(5):
            stream_id = client.h2.get_next_available_stream_id()
            client.h2.send_headers(stream_id, GET, end_stream=True)
            client.answers[stream_id] = Answered()
            if number < 4:
                client.h2.reset_stream(stream_id, 8)
        await client.flush()
        assert (await client.answer(stream_id)).reset == ErrorCode.REFUSED_STREAM
        assert (await client.ask()).status == 200

    talking(test, hello, limits=Limits(streams=2))


@pytest.mark.parametrize("ending", ["returns", "raises"])
def test_handler_that_stays_behind_its_response(ending: str) -> None:
    """For its client the stream is over: no request is refused for it, but it waits, as over HTTP/1.1."""
    go_on = trio.Event()
    begun: list[str] = []

    async def answer(request: Request, responder: Responder) -> None:
        begun.append(request.path)
        await respond(responder, 200, [])
        if request.path == "/stays":
            await go_on.wait()
            if ending == "raises":
                raise ClientGone("behind the response")

    async def test(client: Client, entrance: Entrance, _served: Served) -> None:
        for _ in range(2):
            assert (await client.ask("/stays")).status == 200
        later = [await client.request("/later") for _ in range(2)]
        await until(lambda: len(entrance.running()) == 4)
        assert begun == ["/stays", "/stays"]
        go_on.set()
        for each in later:
            assert (await client.answer(each)).status == 200
        assert len(begun) == 4

    talking(test, answer, limits=Limits(streams=2))


def test_client_reset_cancels_the_handler() -> None:
    told, ended = [], trio.Event()

    async def answer(request: Request, responder: Responder) -> None:
        responder.on_disconnect = lambda: told.append(responder.disconnected)
        responder.start(200, [])
        await responder.flush()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async def test(client: Client, entrance: Entrance, _served: Served) -> None:
        stream_id = await client.request()
        await client.until(lambda: client.answers[stream_id].status == 200)
        client.h2.reset_stream(stream_id, 8)
        await client.flush()
        await ended.wait()
        assert told == [True]
        assert not client.closed

    talking(test, answer)


def test_client_reset_reaches_who_reads_the_body() -> None:
    failures: list[BaseException] = []
    reading, over = trio.Event(), trio.Event()

    async def answer(request: Request, responder: Responder) -> None:
        reading.set()
        try:
            with trio.CancelScope(shield=True):
                await request.body.read()
        except ClientGone as gone:
            failures.append(gone)
            over.set()

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        stream_id = await client.request(method="POST", end=False)
        await reading.wait()
        client.h2.reset_stream(stream_id, 8)
        await client.flush()
        await over.wait()

    talking(test, answer)
    assert len(failures) == 1


def test_response_of_another_length_is_reset() -> None:
    """H1-24, H2-6: INTERNAL_ERROR, never a clean end."""

    async def answer(request: Request, responder: Responder) -> None:
        responder.start(200, [(b"content-length", b"5")])
        responder.write(b"abc")
        await responder.flush()
        if request.path == "/long":
            responder.write(b"defg")
        elif request.path == "/short":
            responder.end()
        # /none: the handler just returns

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        for path in ("/long", "/short", "/none"):
            got = await client.answer(await client.request(path))
            assert (got.status, got.ended, got.reset) == (200, False, ErrorCode.INTERNAL_ERROR)

    talking(test, answer)


def test_answer_to_head_is_whole_whatever_becomes_of_the_body() -> None:
    """RFC 9110 9.3.2."""

    async def answer(_request: Request, responder: Responder) -> None:
        responder.start(200, [])
        responder.write(b"some")
        await responder.flush()
        raise RuntimeError

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        got = await client.ask(method="HEAD")
        assert (got.status, got.ended, got.body) == (200, True, b"")

    with capture_logs() as logs:
        talking(test, answer)
    assert [entry["event"] for entry in logs] == ["request crashed"]


def test_failure_before_the_answer_is_answered() -> None:
    async def answer(request: Request, responder: Responder) -> None:
        responder.start(200, [])
        responder.write(b"never sent")
        raise RequestError(403, "no")

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        got = await client.ask()
        assert (got.status, got.ended) == (403, True)
        assert b"never sent" not in got.body

    talking(test, answer)


def test_head_that_http_cannot_carry_is_answered_500() -> None:
    """H2-1 in responses, RFC 9110 8.6."""
    wrong = {
        "/name": [(b"x y", b"z")],
        "/value": [(b"x", b"a\r\nb: c")],
        "/control": [(b"x", b"a\x7f")],
        "/length": [(b"content-length", b"x")],
        "/lengths": [(b"content-length", b"1"), (b"content-length", b"2")],
    }

    async def answer(request: Request, responder: Responder) -> None:
        await respond(responder, 200, wrong[request.path], b"x")

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        for path in wrong:
            assert (await client.ask(path)).status == 500

    talking(test, answer, seconds=60.0)  # tracebacks are slow to format


@pytest.mark.parametrize("status", [100, 101, 103])
def test_no_final_response(status: int) -> None:
    """RFC 9113 8.1, 8.6, as over HTTP/1.1: there would be no final response for the body behind it."""

    async def answer(request: Request, responder: Responder) -> None:
        await respond(responder, status, [], b"x")

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        assert (await client.ask("/")).status == 500

    talking(test, answer)


def test_early_response_stops_the_upload() -> None:
    """H2-8 (RFC 9113 8.1): the whole answer, then RST_STREAM(NO_ERROR)."""

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        stream_id = await client.request(method="POST", end=False)
        answer = client.answers[stream_id]
        await client.until(lambda: answer.reset is not None)
        assert (answer.body, answer.ended, answer.reset) == (b"hello", True, ErrorCode.NO_ERROR)

    talking(test, hello)


@pytest.mark.parametrize("path", ["/read", "/early", "/unread"])
@pytest.mark.parametrize("sent", [b"", b"abc", b"x" * 11])
def test_request_body_of_another_length_is_a_protocol_error(path: str, sent: bytes) -> None:
    """H2-6, RFC 9113 8.1.1: whoever reads it, or has begun to answer; the connection goes on."""

    async def answer(request: Request, responder: Responder) -> None:
        if request.path == "/early":
            responder.start(200, [])
            responder.write(b"early")
            await responder.flush()
        if request.path == "/unread":
            await trio.sleep_forever()
        while await request.body.read():
            pass
        await respond(responder, 200, [], b"hello")

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        stream_id = await client.request(path, ("content-length", "10"), method="POST", end=False)
        if path == "/early":
            await client.until(lambda: client.answers[stream_id].body == b"early")
        await client.send(frame(DATA, END_STREAM, stream_id, sent))
        got = await client.answer(stream_id)
        assert (got.ended, got.reset) == (False, ErrorCode.PROTOCOL_ERROR)
        assert (await client.ask("/read")).body == b"hello"

    talking(test, answer)


def test_small_upload_that_nobody_reads_is_not_reset() -> None:
    """curl 7.88 takes RST_STREAM(NO_ERROR) for an error if its upload was not through."""

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        stream_id = await client.request("/", ("content-length", "1"), method="POST", end=False)
        assert (await client.answer(stream_id)).body == b"hello"
        await client.send_body(stream_id, b"x")
        assert (await client.ask()).body == b"hello"
        assert client.answers[stream_id].reset is None

    talking(test, hello)


def test_unread_bodies_cost_no_window() -> None:
    """RFC 9113 5.2.2: a handler that reads some of each body leaves the connection its window."""

    async def answer(request: Request, responder: Responder) -> None:
        assert await request.body.read()
        await respond(responder, 200, [], b"hello")

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        await client.receive()
        await client.until(lambda: client.h2.outbound_flow_control_window > 1_000_000)
        for _ in range(50):
            stream_id = await client.request(method="POST", end=False)
            for _ in range(10):
                client.h2.send_data(stream_id, bytes(16_000))
            await client.flush()
            assert (await client.answer(stream_id)).body == b"hello"
            assert client.h2.outbound_flow_control_window > 160_000

    talking(test, answer)


def test_a_body_that_is_here_is_taken_in_large_pieces_if_they_are_wanted() -> None:
    go_on = trio.Event()
    pieces = []

    async def answer(request: Request, responder: Responder) -> None:
        await go_on.wait()
        pieces.append(request.body.read_nowait(100_000))
        pieces.append(request.body.read_nowait())
        await respond(responder, 200, [])

    async def test(client: Client, _entrance: Entrance, served: Served) -> None:
        stream_id = await client.request(method="POST", end=False)
        await client.until(lambda: client.h2.local_flow_control_window(stream_id) > 200_000)
        for _ in range(20):
            client.h2.send_data(stream_id, bytes(10_000))
        client.h2.ping(bytes(8))
        await client.flush()
        await client.receive()
        go_on.set()
        assert (await client.answer(stream_id)).status == 200

    talking(test, answer)
    assert pieces == [bytes(100_000), bytes(60_000)]


def test_credit_follows_consumption() -> None:
    """H2-11: a handler that does not read stops the client, one that reads lets it go on."""
    go_on = trio.Event()
    sizes = []

    async def answer(request: Request, responder: Responder) -> None:
        await go_on.wait()
        while piece := await request.body.read():
            sizes.append(len(piece))
        await respond(responder, 200, [])

    async def test(client: Client, _entrance: Entrance, served: Served) -> None:
        stream_id = await client.request(method="POST", end=False)
        await client.until(lambda: client.h2.local_flow_control_window(stream_id) > 200_000)
        window = client.h2.local_flow_control_window(stream_id)
        await client.send_body(stream_id, bytes(window), end=False)
        client.h2.ping(bytes(8))
        await client.flush()
        await client.receive()
        assert client.h2.local_flow_control_window(stream_id) == 0
        go_on.set()
        await client.send_body(stream_id, bytes(1_000_000))
        assert (await client.answer(stream_id)).status == 200
        assert sum(sizes) == window + 1_000_000
        assert max(sizes) <= 65_536

    talking(test, answer)


@pytest.mark.parametrize("sized", [True, False])
def test_body_that_is_too_large(sized: bool) -> None:
    """413, and the rest of it is not wanted."""

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        fields = [("content-length", "1001")] if sized else []
        stream_id = await client.request("/", *fields, method="POST", end=False)
        await client.send_body(stream_id, bytes(1001), end=not sized)
        got = await client.answer(stream_id)
        assert got.status == 413
        assert (await client.ask(method="POST", body=bytes(1000))).status == 200

    async def answer(request: Request, responder: Responder) -> None:
        while await request.body.read():
            pass
        await respond(responder, 200, [])

    talking(test, answer, limits=Limits(body=1000))


def test_late_body_is_answered_408() -> None:
    """The time between two pieces, for the stream alone."""

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        late = await client.request(method="POST", end=False)
        assert (await client.answer(late)).status == 408
        assert not client.closed

    async def answer(request: Request, responder: Responder) -> None:
        await request.body.read()

    talking(test, answer, timeouts=Timeouts(body=0.05))


@pytest.mark.parametrize(("size", "setting"), [(1, "timeouts.body"), (1001, "limits.body")])
def test_log_names_the_setting_that_a_body_has_met(size: int, setting: str) -> None:
    """As over HTTP/1.1."""

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        upload = await client.request(method="POST", end=False)
        await client.send_body(upload, bytes(size), end=False)
        await client.answer(upload)

    with capture_logs() as logs:
        talking(test, echo, timeouts=Timeouts(body=0.05), limits=Limits(body=1000))
    assert [entry.get("setting") for entry in logs if entry["event"] == "request failed"] == [setting]


async def dribble(client: Client, say: Callable[[], object], condition: Callable[[], bool]) -> None:
    """Let h2 *say* something now and then until *condition* holds."""
    while not condition():
        assert not client.closed
        say()
        await client.flush()
        # Now and then: as often as it is answered would be a flood.
        with trio.move_on_after(0.02):
            while not client.closed:
                await client.receive()


def test_dribbling_a_body_does_not_put_off_its_end() -> None:
    """No silence is longer than timeouts.body, but the client is below limits.min_rate."""

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        late = await client.request(method="POST", end=False)
        answer = client.answers[late]
        await dribble(client, lambda: client.h2.send_data(late, b"x"), lambda: answer.status != 0)
        assert answer.status == 408

    async def answer(request: Request, responder: Responder) -> None:
        while await request.body.read():
            pass

    talking(test, answer, timeouts=Timeouts(body=0.1), limits=Limits(min_rate=100_000))


def test_body_that_has_come_while_the_gateway_was_stopped_is_not_late() -> None:
    clock = trio.testing.MockClock(rate=1.0)
    reads = trio.Event()

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        upload = await client.request(method="POST", end=False)
        await reads.wait()
        clock.jump(60)
        await client.send_body(upload, b"first", end=False)
        await pass_time(0.1)
        await client.send_body(upload, b", last")
        assert (await client.answer(upload)).body.endswith(b"first, last")

    async def answer(request: Request, responder: Responder) -> None:
        reads.set()
        await echo(request, responder)

    talking(test, answer, seconds=120, clock=clock, timeouts=Timeouts(body=30.0))


def test_window_that_was_opened_while_the_gateway_was_stopped_is_open() -> None:
    clock = trio.testing.MockClock(rate=1.0)

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        download = await client.request()
        got = client.answers[download]
        await client.until(lambda: len(got.body) == 100)
        clock.jump(60)
        client.h2.increment_flow_control_window(900, download)
        await client.flush()
        await client.until(lambda: got.ended or got.reset is not None)
        assert len(got.body) == 1000

    async def answer(request: Request, responder: Responder) -> None:
        await respond(responder, 200, [], bytes(1000))

    talking(
        test,
        answer,
        seconds=120,
        clock=clock,
        settings={"initial_window_size": 100},
        credit=False,
        timeouts=Timeouts(send=30.0),
    )


def test_download_that_was_read_while_the_gateway_was_stopped_goes_on() -> None:
    """It waits for its turn behind what the kernel had no room for."""
    clock = trio.testing.MockClock(rate=1.0)
    size = 30_000_000
    windows = settings((4, 2**31 - 1)) + window(0, 2**31 - 65536)
    get = frame(HEADERS, END_HEADERS | END_STREAM, 1, Encoder().encode(GET))

    async def answer(request: Request, responder: Responder) -> None:
        await respond(responder, 200, [], bytes(size))

    def read(client: socket.socket) -> int:
        count = 0
        with suppress(BlockingIOError):
            while data := client.recv(1 << 20):
                count += len(data)
        return count

    async def main() -> None:
        async with (
            serving(answer, timeouts=Timeouts(send=30.0), send_buffer=65536) as served,
            entering(served),
        ):
            with socket.create_connection(served.address) as client:
                client.sendall(PREFACE + windows + get)
                client.setblocking(False)
                await pass_time(0.2)
                clock.jump(60)
                received = more = read(client)
                while more and received < size:
                    await trio.lowlevel.wait_readable(client)
                    received += (more := read(client))
                assert received > size

    run(main, seconds=120, clock=clock)


def test_dribbling_a_window_does_not_put_off_the_end() -> None:
    """A client that takes a byte now and then holds a response for so long only."""

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        slow = await client.request()
        got = client.answers[slow]
        more = partial(client.h2.increment_flow_control_window, 1, slow)
        await dribble(client, more, lambda: got.ended or got.reset is not None)
        assert got.reset == ErrorCode.CANCEL
        assert 100 < len(got.body) < 10_000

    async def answer(request: Request, responder: Responder) -> None:
        await respond(responder, 200, [], bytes(10_000))

    talking(
        test,
        answer,
        settings={"initial_window_size": 100},
        credit=False,
        timeouts=Timeouts(send=0.1),
        limits=Limits(min_rate=100_000),
    )


def test_body_in_pieces_of_a_byte_takes_little_memory() -> None:
    """A window is counted in bytes of body; what keeps them must not be a hundred times as much."""
    kept: list[int] = []
    measured = trio.Event()

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        upload = await client.request(method="POST", end=False)
        tracemalloc.start()
        try:
            for _ in range(20):
                await client.send(data(upload, b"x") * 1000)
            # Behind all of that.
            assert (await client.ask("/other")).status == 200
            kept.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
            measured.set()
        await client.send(data(upload, end=True))
        assert (await client.answer(upload)).body == b"20000"

    async def answer(request: Request, responder: Responder) -> None:
        if request.path == "/other":
            await respond(responder, 200, [])
            return
        await measured.wait()
        size = 0
        while piece := await request.body.read():
            size += len(piece)
        await respond(responder, 200, [], b"%d" % size)

    talking(test, answer)
    assert kept[0] < 500_000


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/../x", [], 400),
        ("/%zz", [], 400),
        ("/" + "x" * 9000, [], 414),
        ("/", [("x", "y" * 30_000)] * 3, 431),
        ("/", [(f"x{number}", "y") for number in range(101)], 431),
    ],
)
def test_refused_requests(path: str, fields: list[tuple[str, str]], status: int) -> None:
    """H2-12: answered, and the connection goes on."""

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        assert (await client.ask(path, *fields)).status == status
        assert (await client.ask()).status == 200
        assert (await client.ask(path, *fields, method="POST", body=b"x")).status == status

    talking(test, hello)


@pytest.mark.parametrize("path", ["/%zz", "/" + "x" * 9000])
def test_refused_request_is_answered_as_it_asks(path: str) -> None:
    """RFC 9110 9.3.2: HEAD has no body to be answered with; and a refusal is in the format of Accept."""

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        answered = await client.ask(path, method="HEAD")
        assert (answered.body, answered.reset) == (b"", None)
        answered = await client.ask(path, ("accept", "application/problem+json"))
        assert answered.header(b"content-type") == b"application/problem+json"

    talking(test, hello)


def test_client_that_opens_no_window_loses_its_stream() -> None:
    """H2-13: the send timeout, for the stream alone."""
    ends = []

    async def answer(request: Request, responder: Responder) -> None:
        try:
            await respond(responder, 200, [], bytes(10 if request.path == "/small" else 10_000))
        except ClientGone as gone:
            ends.append(str(gone))
            raise

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        got = await client.answer(await client.request())
        assert (len(got.body), got.reset) == (100, ErrorCode.CANCEL)
        assert (await client.ask("/small")).status == 200

    talking(test, answer, settings={"initial_window_size": 100}, credit=False, timeouts=Timeouts(send=0.05))
    assert ends == ["the client did not read in time"]


def test_client_that_opens_no_window_at_all_loses_its_connection() -> None:
    """H2-13: ENHANCE_YOUR_CALM when the connection's own window stays shut."""

    async def answer(request: Request, responder: Responder) -> None:
        await respond(responder, 200, [], bytes(100_000))

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        await client.request()
        await client.until(lambda: bool(client.goaways))
        assert client.goaways == [(1, ErrorCode.ENHANCE_YOUR_CALM)]
        await client.end()

    talking(
        test, answer, settings={"initial_window_size": 100_000}, credit=False, timeouts=Timeouts(send=0.05)
    )


# ---- the whole connection


def test_error_of_the_protocol_ends_the_connection() -> None:
    """RFC 9113 5.4.1: GOAWAY, handlers are cancelled, the connection is closed."""
    running, ended = trio.Event(), trio.Event()

    async def answer(request: Request, responder: Responder) -> None:
        running.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        await client.request()
        await running.wait()
        await client.send(data(9, b"on an idle stream"))
        await client.end()
        await ended.wait()
        assert client.goaways == [(1, ErrorCode.PROTOCOL_ERROR)]

    talking(test, answer)


def test_flood_ends_the_connection() -> None:
    """H2-13."""

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        await client.send(frame(PING, 0, 0, bytes(8)) * 3000)
        await client.end()
        assert client.goaways == [(0, ErrorCode.ENHANCE_YOUR_CALM)]

    talking(test, hello)


def test_the_first_request_has_the_time_of_a_head() -> None:
    """As over HTTP/1.1: `timeouts.keep_alive: 0` is about those behind it."""

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        await client.flush()
        await pass_time(0.1)
        assert (await client.ask()).status == 200
        await client.end()
        assert client.goaways == [(1, ErrorCode.NO_ERROR)]

    talking(test, hello, timeouts=Timeouts(keep_alive=0.0))


def test_idle_connection_ends() -> None:
    """timeouts.keep_alive: GOAWAY(NO_ERROR), whatever is said that is no request."""

    async def test(client: Client, entrance: Entrance, _served: Served) -> None:
        assert (await client.ask()).status == 200
        await client.send(frame(PING, 0, 0, bytes(8)))
        await client.end()
        assert client.goaways == [(1, ErrorCode.NO_ERROR)]

    talking(test, hello, timeouts=Timeouts(keep_alive=0.05))


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (frame(HEADERS, 0, 1, b"\x82"), frame(9, 0, 1, b"\x84")),
        (frame(HEADERS, 5, 1, bytes(1000))[:10], b"\x84"),
        (frame(HEADERS, 0, 1, b"\x82") + frame(9, 4, 1, bytes(1000))[:10], b"\x84"),
    ],
)
def test_head_that_does_not_end_in_time(first: bytes, more: bytes) -> None:
    """timeouts.header, from its first byte: more of it does not help, be it of frames or of one."""

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        await client.receive()  # so that nothing is to be acknowledged in between
        await client.send(first)
        async with trio.open_nursery() as nursery:

            async def dribble() -> None:
                while True:
                    await client.stream.send_all(more)
                    await pass_time(0.02)

            nursery.start_soon(dribble)
            await client.end()
            nursery.cancel_scope.cancel()
        assert client.goaways == [(0, ErrorCode.ENHANCE_YOUR_CALM)]

    talking(test, hello, timeouts=Timeouts(header=0.1))


def test_heads_that_follow_each_other_have_their_time_each() -> None:
    """A slow link: what arrives ends amid the next head each time, and each head comes in time."""

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        await client.ask()
        before, rest = 1, b""
        for _ in range(6):
            stream_id = client.h2.get_next_available_stream_id()
            client.h2.send_headers(stream_id, GET, end_stream=True)
            client.answers[stream_id] = Answered()
            head = client.h2.data_to_send()
            await client.stream.send_all(rest + head[:-1])
            await client.answer(before)
            clock.jump(30.2)
            before, rest = stream_id, head[-1:]
        await client.stream.send_all(rest)
        assert (await client.answer(before)).status == 200

    clock = trio.testing.MockClock(rate=1.0)
    talking(test, hello, seconds=600, clock=clock, timeouts=Timeouts(header=60.0), credit=False)


def test_preface_that_does_not_end_in_time() -> None:
    async def main() -> None:
        timeouts = Timeouts(header=0.05)
        async with (
            serving(hello, timeouts=timeouts) as served,
            entering(served),
            await served.connect() as stream,
        ):
            await stream.send_all(PREFACE)
            await read_all(stream)

    run(main)


def test_drain_in_two_steps() -> None:
    """H2-10: GOAWAY for nothing, a round trip, GOAWAY for later streams; what runs is completed."""
    go_on, running = trio.Event(), trio.Event()

    async def answer(request: Request, responder: Responder) -> None:
        running.set()
        await go_on.wait()
        await respond(responder, 200, [], b"done")

    async def main() -> None:
        async with (
            serving(answer) as served,
            entering(served) as entrance,
            await served.connect() as stream,
        ):
            client = Client(stream)
            await client.begin()
            first = await client.request()
            await client.receive()
            await running.wait()
            assert entrance.drain() == 1
            await client.until(lambda: len(client.goaways) == 1)
            assert client.goaways == [(2**31 - 1, ErrorCode.NO_ERROR)]
            await client.until(lambda: len(client.goaways) == 2)
            assert client.goaways[1] == (first, ErrorCode.NO_ERROR)
            go_on.set()
            assert (await client.answer(first)).body == b"done"
            await client.end()

    run(main)


def test_request_that_comes_with_what_ends_the_connection_is_heard_to_its_end() -> None:
    """RFC 9113 6.8: it is not above the last stream of the GOAWAY; its body is still to come."""

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        client.h2.send_headers(1, POST)
        client.answers[1] = Answered()
        await client.stream.send_all(frame(GOAWAY, 0, 0, bytes(8)) + client.h2.data_to_send())
        await client.until(lambda: len(client.goaways) == 1)
        assert client.goaways == [(1, ErrorCode.NO_ERROR)]
        await client.send_body(1, b"body")
        assert (await client.answer(1)).body.endswith(b"body")
        await client.end()

    talking(test, echo)


def test_drain_of_an_idle_connection() -> None:
    """gunicorn#1236, granian#611: it is over after one round trip, or a second without an answer."""

    async def main() -> None:
        async with serving(hello) as served, entering(served) as entrance:
            async with await served.connect() as stream:
                client = Client(stream)
                await client.begin()
                assert (await client.ask()).status == 200
                assert entrance.drain() == 0
                assert entrance.drain() == 0
                await client.end()
                assert [code for _, code in client.goaways] == [0, 0]
            async with await served.connect() as stream:
                await stream.send_all(PREFACE + settings())
                await stream.receive_some(65536)
                entrance.drain()
                await read_all(stream)

    run(main)


def test_closing_in_stages_reads_on_as_long_as_something_comes() -> None:
    """The last GOAWAY is not eaten by a reset, however much still comes."""

    async def test(client: Client, entrance: Entrance, _served: Served) -> None:
        await client.send(data(9, b"on an idle stream"))
        await client.send(bytes(16 * 1024 * 1024))
        await client.end()
        assert client.goaways == [(0, ErrorCode.PROTOCOL_ERROR)]
        await client.stream.aclose()
        await until(lambda: not entrance._open)

    talking(test, hello)


def test_closing_in_stages_ends_with_silence() -> None:
    """timeouts.linger."""

    async def test(client: Client, entrance: Entrance, _served: Served) -> None:
        await client.send(data(9, b"on an idle stream"))
        await client.end()
        await until(lambda: not entrance._open)  # although the client keeps its side open

    talking(test, hello, timeouts=Timeouts(linger=0.05))


def test_closing_in_stages_ends_although_something_comes() -> None:
    """timeouts.linger_total."""

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        await client.send(data(9, b"on an idle stream"))
        await client.end()

        async def go_on() -> None:
            while True:
                await client.stream.send_all(b"x")
                await pass_time(0.01)

        with pytest.raises(trio.BrokenResourceError):
            await go_on()

    talking(test, hello, timeouts=Timeouts(linger=5.0, linger_total=0.1))


def test_drain_ends_what_is_over_but_for_the_close() -> None:
    """A client that keeps its side open holds up neither the daemon's end nor, as one of too many, others."""

    async def test(client: Client, entrance: Entrance, _served: Served) -> None:
        await client.send(data(9, b"on an idle stream"))
        await client.end()
        await wait_all_tasks_blocked()
        assert entrance.drain() == 0
        await until(lambda: not entrance._open)

    talking(test, hello, timeouts=Timeouts(linger=3600.0, linger_total=3600.0))


def test_drain_does_not_wait_for_idle_clients_that_stay() -> None:
    """complaints.md 41: who was answered nothing since has as long again as for the round trip."""

    async def test(client: Client, entrance: Entrance, _served: Served) -> None:
        assert (await client.ask()).status == 200
        await pass_time(0.05)
        assert entrance.drain() == 0
        await client.end()
        await until(lambda: not entrance._open)

    talking(test, hello, timeouts=Timeouts(linger=3600.0, linger_total=3600.0))


def test_client_that_goes_away_gets_its_answers() -> None:
    """RFC 9113 6.8."""
    go_on = trio.Event()

    async def answer(request: Request, responder: Responder) -> None:
        await go_on.wait()
        await respond(responder, 200, [], b"done")

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        stream_id = await client.request()
        await client.send(frame(7, 0, 0, bytes(8)))
        go_on.set()
        assert (await client.answer(stream_id)).body == b"done"
        await client.end()

    talking(test, answer)


def test_half_closed_client_reads_what_it_has_left_in_the_gateway() -> None:
    """It asks and asks, and does not read: at last a part of an answer waits here."""
    body = b"x" * 8192

    async def answer(request: Request, responder: Responder) -> None:
        await respond(responder, 200, [], body)

    async def test(client: Client, entrance: Entrance, served: Served) -> None:
        client.h2.increment_flow_control_window(2**31 - 1 - 65535)
        await client.flush()
        connection: Http2Connection | None = None
        while connection is None or not connection._stream.unsent:
            await client.request()
            await wait_all_tasks_blocked()
            (opened,) = entrance._open
            assert isinstance(opened, Http2Connection)
            connection = opened
        stream = client.stream
        assert isinstance(stream, trio.SocketStream)
        await stream.send_eof()
        await until(lambda: connection._stream.peer_closed)
        await wait_all_tasks_blocked()
        sent = sum(len(each.data) for each in parsed(await read_all(stream)) if isinstance(each, DataFrame))
        assert sent == len(body) * len(client.answers)

    talking(test, answer, credit=False)


@pytest.mark.parametrize("waits", [True, False], ids=["waits", "begins"])
def test_what_a_closed_window_holds_back_has_nobody(waits: bool) -> None:
    """A client that has closed its side cannot open a window: who sends is told, and not cancelled later."""
    raised: list[BaseException] = []
    told, over = trio.Event(), trio.Event()

    async def answer(request: Request, responder: Responder) -> None:
        responder.on_disconnect = told.set
        responder.start(200, [])
        try:
            if not waits:
                responder.write(bytes(65535))
                await responder.flush()
                await told.wait()
            responder.write(bytes(65536))
            await responder.flush()
        except BaseException as error:
            raised.append(error)
            raise
        finally:
            over.set()

    async def test(client: Client, entrance: Entrance, served: Served) -> None:
        stream_id = await client.request()
        await client.until(lambda: len(client.answers[stream_id].body) == 65535)
        stream = client.stream
        assert isinstance(stream, trio.SocketStream)
        await stream.send_eof()
        await over.wait()

    talking(test, answer, timeouts=Timeouts(disconnect_grace=60), credit=False)
    assert [type(error) for error in raised] == [ClientGone]


@pytest.mark.parametrize("abrupt", [True, False])
def test_client_that_leaves_ends_its_requests(abrupt: bool) -> None:
    """Reset: at once. Closed: they are told, and have the grace to end."""
    ended, told, running = trio.Event(), trio.Event(), trio.Event()

    async def answer(request: Request, responder: Responder) -> None:
        responder.on_disconnect = told.set
        running.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async def test(client: Client, entrance: Entrance, _served: Served) -> None:
        await client.request()
        await running.wait()
        if abrupt:
            assert isinstance(client.stream, trio.SocketStream)
            reset(client.stream)
        else:
            await client.stream.aclose()
        await told.wait()
        await ended.wait()

    talking(test, answer, timeouts=Timeouts(disconnect_grace=0.05))


def test_access_log() -> None:
    """One entry for each request; 499 for those that nobody waited for."""
    entries: list[tuple[str, str, int, int]] = []

    def log(request: Request, status: int, size: int, seconds: float) -> None:
        entries.append((request.version, request.path, status, size))

    async def answer(request: Request, responder: Responder) -> None:
        if request.path == "/gone":
            await trio.sleep_forever()
        await hello(request, responder)

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        assert (await client.ask("/here")).status == 200
        stream_id = await client.request("/gone")
        client.h2.reset_stream(stream_id, 8)
        await client.flush()
        await until(lambda: len(entries) == 2)

    talking(test, answer, access_log=log)
    assert entries == [("2", "/here", 200, 5), ("2", "/gone", 499, 0)]


# ---- nothing but HTTP/2


def test_only_http2_in_clear_text() -> None:
    """RFC 9113 3.4: who does not begin with the preface is told by GOAWAY, not by HTTP/1.1."""

    async def main() -> None:
        async with serving(hello) as served, entering(served, http2="only"):
            async with await served.connect() as stream:
                await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                received = await read_all(stream)
            *_, last = parsed(received)
            assert isinstance(last, GoAwayFrame)
            assert last.error_code == ErrorCode.PROTOCOL_ERROR
            async with await served.connect() as stream:
                client = Client(stream)
                await client.begin()
                assert (await client.ask()).body == b"hello"

    run(main)


def test_what_is_being_answered_is_known() -> None:
    """The daemon names at its end what it waits for."""

    async def answer(request: Request, responder: Responder) -> None:
        reached.set()
        await go_on.wait()
        await respond(responder, 200, [], b"")

    async def test(client: Client, entrance: Entrance, served: Served) -> None:
        stream_id = await client.request("/a?b")
        await reached.wait()
        assert [(each.method, each.path) for each in entrance.running()] == [("GET", "/a")]
        go_on.set()
        await client.answer(stream_id)
        assert entrance.running() == []

    reached, go_on = trio.Event(), trio.Event()
    talking(test, answer)
