"""The request body of HTTP/1.1: pieces, waiting, limits, and whether the connection can go on."""

import socket
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from gateway.errors import ClientGone, RequestError
from gateway.front.http1.body import Http1Body
from gateway.front.service import DRAINED_BYTES, Limits, Service, Timeouts
from gateway.protocols.events import RequestHead
from gateway.protocols.http1 import Http1Server
from gateway.request import LARGE_PIECE, PIECE
from gateway.router import Router
from tests.gateway.net.pumped import fill
from tests.gateway.served import attached, pumping, read_until, reset, run

pytestmark = pytest.mark.usefixtures("quick_sweeper")

CHUNKED = b"Transfer-Encoding: chunked"

Test = Callable[[Http1Body, trio.SocketStream], Awaitable[None]]


def reading(test: Test, framing: bytes, *fields: bytes, clock: trio.abc.Clock | None = None) -> None:
    """Run *test* with the body of a request, and the client that sends it."""

    async def main() -> None:
        async with pumping() as pump:
            service = Service(pump, Router([]), Timeouts(body=0.05), Limits(body=DRAINED_BYTES + 10))
            ours, theirs = socket.socketpair()
            stream = attached(pump, ours)
            codec = Http1Server()
            lines = b"".join(field + b"\r\n" for field in (b"Host: a", framing, *fields))
            codec.receive_data(b"POST / HTTP/1.1\r\n" + lines + b"\r\n")
            assert isinstance(codec.next_event(), RequestHead)
            async with trio.SocketStream(trio.socket.from_stdlib_socket(theirs)) as client:
                await test(Http1Body(codec, stream, service), client)
            stream.close()

    run(main, clock=clock)


async def whole(body: Http1Body) -> bytes:
    pieces = b""
    while piece := await body.read():
        pieces += piece
    return pieces


@pytest.mark.parametrize(
    ("framing", "data", "length"),
    [(b"Content-Length: 6", b"abcdef", 6), (CHUNKED, b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n", None)],
)
def test_body_in_single_bytes(framing: bytes, data: bytes, length: int | None) -> None:
    async def test(body: Http1Body, client: trio.SocketStream) -> None:
        assert body.length == length
        assert body.read_nowait() is None
        read = b""

        async def send() -> None:
            for position in range(len(data)):
                await client.send_all(data[position : position + 1])
                await trio.testing.wait_all_tasks_blocked()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            read = await whole(body)
        assert read == b"abcdef"
        assert body.complete
        assert (await body.read(), body.read_nowait()) == (b"", b"")
        assert body.settle()

    reading(test, framing)


@pytest.mark.parametrize(
    ("framing", "begin", "end"),
    [(b"Content-Length: 150000", b"", b""), (CHUNKED, b"249f0\r\n", b"\r\n0\r\n\r\n")],
)
def test_an_upload_that_comes_quickly_is_read_in_large_pieces_if_they_are_wanted(
    framing: bytes, begin: bytes, end: bytes
) -> None:
    async def test(body: Http1Body, client: trio.SocketStream) -> None:
        await client.send_all(begin + bytes(150_000) + end)
        first = body.read_nowait(LARGE_PIECE)
        assert first is not None
        assert len(first) <= PIECE
        assert body.read_nowait(LARGE_PIECE) == bytes(150_000 - len(first))
        assert body.read_nowait(LARGE_PIECE) == b""

    reading(test, framing, clock=trio.testing.MockClock())  # which stands still: its turn does not end


def test_an_upload_is_read_in_pieces_of_one_read_otherwise() -> None:
    """Those that share a connection to an application get equally far by that."""

    async def test(body: Http1Body, client: trio.SocketStream) -> None:
        await client.send_all(bytes(150_000))
        sizes = [len(body.read_nowait() or b""), len(await body.read()), len(body.read_nowait() or b"")]
        assert sizes == [PIECE, PIECE, 150_000 - 2 * PIECE]

    reading(test, b"Content-Length: 150000")


def test_an_upload_that_comes_slowly_is_asked_for_no_large_pieces() -> None:
    """Memory for those is got from the system for each, and given back."""

    async def test(body: Http1Body, client: trio.SocketStream) -> None:
        await client.send_all(bytes(1_000))
        assert body.read_nowait(LARGE_PIECE) == bytes(1_000)
        await client.send_all(bytes(100_000))
        assert await body.read() == bytes(PIECE)
        assert body.read_nowait(LARGE_PIECE) == bytes(100_000 - PIECE)
        await client.send_all(bytes(1_000))
        assert await body.read() == bytes(1_000)
        await client.send_all(bytes(100_000))
        await trio.testing.wait_all_tasks_blocked()
        assert body.read_nowait(LARGE_PIECE) == bytes(PIECE)

    reading(test, b"Content-Length: 1000000")


def test_what_has_arrived_is_here() -> None:
    async def test(body: Http1Body, client: trio.SocketStream) -> None:
        await client.send_all(b"3\r\nabc\r\n0\r\n\r\n")
        with trio.testing.assert_no_checkpoints():
            assert (body.read_nowait(), body.read_nowait()) == (b"abc", b"")
            assert await body.read() == b""

    reading(test, CHUNKED)


@pytest.mark.parametrize("how", ["end", "reset"])
def test_client_that_has_gone_is_noticed_without_a_wait(how: str) -> None:
    async def test(body: Http1Body, client: trio.SocketStream) -> None:
        if how == "end":
            await client.send_eof()
        else:
            reset(client)
        for _ in range(2):
            with pytest.raises(ClientGone):
                body.read_nowait()

    reading(test, b"Content-Length: 6")


def test_silent_client_is_late() -> None:
    async def test(body: Http1Body, client: trio.SocketStream) -> None:
        await client.send_all(b"abc")
        assert await body.read() == b"abc"
        with pytest.raises(RequestError) as caught:
            await body.read()
        assert (caught.value.status, caught.value.close) == (408, True)
        assert not body.settle()

    reading(test, b"Content-Length: 6")


@pytest.mark.parametrize("how", ["end", "reset"])
def test_client_that_goes(how: str) -> None:
    async def test(body: Http1Body, client: trio.SocketStream) -> None:
        await client.send_all(b"abc")
        assert await body.read() == b"abc"
        if how == "end":
            await client.send_eof()
        else:
            reset(client)
        for _ in range(2):
            with pytest.raises(ClientGone):
                await body.read()

    reading(test, b"Content-Length: 6")


def test_malformed_chunk() -> None:
    async def test(body: Http1Body, client: trio.SocketStream) -> None:
        await client.send_all(b"3\r\nabcX")
        assert await body.read() == b"abc"
        for _ in range(2):
            with pytest.raises(RequestError) as caught:
                await body.read()
            assert (caught.value.status, caught.value.close) == (400, True)
        assert not body.settle()
        assert not await body.drain()

    reading(test, CHUNKED)


def test_chunked_body_that_is_too_large() -> None:
    async def test(body: Http1Body, client: trio.SocketStream) -> None:
        size = DRAINED_BYTES + 11
        caught: list[RequestError] = []

        async def read() -> None:
            try:
                await whole(body)
            except RequestError as error:
                caught.append(error)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await client.send_all(b"%x\r\n" % size + b"x" * size)
        assert (caught[0].status, caught[0].close) == (413, True)
        assert not body.settle()

    reading(test, CHUNKED)


# ---- a small body, before its request is handled


SMALL = b"Content-Length: 6"


def test_small_body_is_gathered() -> None:
    """What comes in pieces behind its head is there in one."""

    async def test(body: Http1Body, client: trio.SocketStream) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(body.gather)
            for piece in (b"a", b"bcd", b"ef"):
                await trio.testing.wait_all_tasks_blocked()
                assert body.comes_soon
                await client.send_all(piece)
        assert not body.comes_soon
        assert (body.read_nowait(), body.read_nowait()) == (b"abcdef", b"")

    reading(test, SMALL, clock=trio.testing.MockClock())  # which stands still: nothing is late


@pytest.mark.parametrize(
    ("framing", "fields", "comes_soon"),
    [
        (b"Content-Length: 65536", (), True),
        (b"Content-Length: 65537", (), False),
        (CHUNKED, (), False),
        (SMALL, (b"Expect: 100-continue",), False),
    ],
)
def test_which_bodies_are_gathered(framing: bytes, fields: tuple[bytes, ...], comes_soon: bool) -> None:
    """H-10: not one that has to be asked for."""

    async def test(body: Http1Body, client: trio.SocketStream) -> None:
        assert body.comes_soon is comes_soon

    reading(test, framing, *fields)


def test_client_that_takes_its_time_is_not_waited_for() -> None:
    """The request is handled, and its body read as it comes."""

    async def test(body: Http1Body, client: trio.SocketStream) -> None:
        await client.send_all(b"abc")
        await body.gather()
        assert body.read_nowait() == b"abc"
        assert body.read_nowait() is None
        await client.send_all(b"def")
        assert await body.read() == b"def"

    reading(test, SMALL)


async def gather_and_read(body: Http1Body) -> None:
    await body.gather()
    assert body.read_nowait() == b"abc"
    body.read_nowait()


@pytest.mark.parametrize("how", ["end", "reset"])
def test_client_that_goes_while_its_body_is_gathered(how: str) -> None:
    async def test(body: Http1Body, client: trio.SocketStream) -> None:
        await client.send_all(b"abc")
        if how == "end":
            await client.send_eof()
        else:
            reset(client)
        with pytest.raises(ClientGone):
            await gather_and_read(body)

    reading(test, SMALL, clock=trio.testing.MockClock())


def test_waiting_while_a_body_is_gathered_counts() -> None:
    """Who dribbles is not given the time twice."""

    async def test(body: Http1Body, client: trio.SocketStream) -> None:
        await body.gather()
        with pytest.raises(RequestError) as caught:
            await body.read()
        assert caught.value.status == 408

    reading(test, SMALL)


@pytest.mark.parametrize(
    ("framing", "fields", "goes_on"),
    [
        (b"Content-Length: %d" % DRAINED_BYTES, (), True),
        (b"Content-Length: %d" % (DRAINED_BYTES + 1), (), False),
        (CHUNKED, (), False),
        (b"Content-Length: 1", (b"Expect: 100-continue",), False),
    ],
)
def test_whether_the_connection_can_go_on(framing: bytes, fields: tuple[bytes, ...], goes_on: bool) -> None:
    """H1-18: small unread bodies are read, others end the connection; so does a client that waits for 100."""

    async def test(body: Http1Body, client: trio.SocketStream) -> None:
        assert body.settle() is goes_on

    reading(test, framing, *fields)


def test_drain_reads_what_is_left() -> None:
    async def test(body: Http1Body, client: trio.SocketStream) -> None:
        await client.send_all(b"abcdef")
        assert await body.drain()
        assert body.complete

    reading(test, b"Content-Length: 6")


def test_drain_gives_up_on_a_silent_client() -> None:
    async def test(body: Http1Body, client: trio.SocketStream) -> None:
        await client.send_all(b"abc")
        assert not await body.drain()

    reading(test, b"Content-Length: 6")


def test_continue_is_sent_once_and_only_when_waiting() -> None:
    """H-10."""

    async def test(body: Http1Body, client: trio.SocketStream) -> None:
        assert body.read_nowait() is None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(body.read)
            assert await read_until(client, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.send_all(b"abc")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(body.read)
            await trio.testing.wait_all_tasks_blocked()
            await client.send_all(b"def")
        assert body.read_nowait() == b""
        with trio.move_on_after(0.01) as scope:
            await client.receive_some(100)
        assert scope.cancelled_caught

    reading(test, b"Content-Length: 6", b"Expect: 100-continue")


def test_client_that_waits_for_100_and_reads_nothing() -> None:
    """What it was sent before fills the kernel's buffer; that is no failure of the handler's."""

    async def main() -> None:
        async with pumping() as pump:
            service = Service(pump, Router([]), Timeouts(send=0.05), Limits())
            ours, theirs = socket.socketpair()
            with theirs:
                stream = attached(pump, ours)
                fill(stream)
                codec = Http1Server()
                codec.receive_data(
                    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n"
                )
                assert isinstance(codec.next_event(), RequestHead)
                with pytest.raises(ClientGone):
                    await Http1Body(codec, stream, service).read()
                stream.close()

    run(main)
