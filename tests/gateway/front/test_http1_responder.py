"""The Responder of HTTP/1.1 on a connected pair of sockets: framing, queueing, partial sends."""

import socket
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from gateway.errors import ClientGone, ResponseAborted
from gateway.front.http1.responder import Http1Responder
from gateway.net.stream import PumpStream
from gateway.protocols.errors import LocalProtocolError
from gateway.protocols.events import Headers
from tests.gateway.served import attached, pumping, response, run

pytestmark = pytest.mark.usefixtures("quick_sweeper")

Test = Callable[[Http1Responder, trio.SocketStream], Awaitable[None]]


TAKES_TRAILERS: Headers = [(b"te", b"gzip, trailers")]


def responder_for(stream: PumpStream, **options: bool) -> Http1Responder:
    return Http1Responder(
        stream,
        None,
        head_only=options.get("head_only", False),
        version10=options.get("version10", False),
        keep_alive=options.get("keep_alive", True),
        send_timeout=0.05 if options.get("impatient", False) else 30.0,
        fields=TAKES_TRAILERS,
    )


def responding(test: Test, **options: bool) -> None:
    """Run *test* with a responder and its client."""

    async def main() -> None:
        async with pumping() as pump:
            ours, theirs = socket.socketpair()
            stream = attached(pump, ours)
            async with trio.SocketStream(trio.socket.from_stdlib_socket(theirs)) as client:
                await test(responder_for(stream, **options), client)
                stream.close()

    run(main)


async def received(client: trio.SocketStream) -> bytes:
    return bytes(await client.receive_some(1_000_000))


def test_small_response_leaves_in_one_piece() -> None:
    async def test(responder: Http1Responder, client: trio.SocketStream) -> None:
        responder.start(200, [(b"x", b"y")])
        responder.write(b"one")
        responder.write(b"two")
        responder.end()
        assert responder.try_flush()
        found = response(await received(client))
        assert (found.body, found.headers["content-length"]) == (b"onetwo", "6")
        assert (responder.status, responder.body_sent, responder.ended) == (200, 6, True)

    responding(test)


@pytest.mark.parametrize("fields", [[], [(b"content-length", b"3")]])
def test_whole_response_in_one_call(fields: list[tuple[bytes, bytes]]) -> None:
    async def test(responder: Http1Responder, client: trio.SocketStream) -> None:
        assert responder.try_respond(200, [*fields, (b"connection", b"x")], b"abc")
        found = response(await received(client))
        assert (found.body, found.headers["content-length"]) == (b"abc", "3")
        assert found.headers["connection"] is None
        assert (responder.status, responder.body_sent, responder.ended) == (200, 3, True)

    responding(test)


@pytest.mark.parametrize("length", [b"2", b"4"])
def test_whole_response_with_another_length_is_aborted(length: bytes) -> None:
    async def test(responder: Http1Responder, client: trio.SocketStream) -> None:
        with pytest.raises(ResponseAborted):
            responder.try_respond(200, [(b"content-length", length)], b"abc")
        assert responder.started
        assert responder.withdraw()
        assert responder.try_respond(502, [], b"instead")
        assert response(await received(client)).body == b"instead"

    responding(test)


@pytest.mark.parametrize("chunks", [True, False])
def test_partial_sends_lose_nothing(chunks: bool) -> None:
    """The kernel takes a part; the end is told meanwhile; the client gets all of it, the end too."""

    async def test(responder: Http1Responder, client: trio.SocketStream) -> None:
        size = 3_000_000
        responder.start(200, [] if chunks else [(b"content-length", b"%d" % (size + 3))])
        responder.write(b"x" * size)
        assert not responder.try_flush()
        responder.write(b"end")
        responder.end()
        data = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(responder.flush)
            while not data.endswith(b"end\r\n0\r\n\r\n" if chunks else b"end"):
                data += await received(client)
        assert response(data).body == b"x" * size + b"end"

    responding(test)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("way", ["whole", "steps", "closing"])
def test_a_large_body_follows_its_head(way: str, full: bool) -> None:
    """Where the kernel takes a part of it, and where it does not take the head."""
    body = bytes(range(256)) * 10_000

    async def test(responder: Http1Responder, client: trio.SocketStream) -> None:
        before = 0
        if full:
            with suppress(BlockingIOError):
                while True:
                    before += responder._stream.sock.send(b"before")
        if way == "steps":
            responder.start(200, [(b"content-length", b"%d" % len(body))])
            responder.write(body)
            responder.end()
            assert not responder.try_flush()
        else:
            assert not responder.try_respond(200, [], body)
        data = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(responder.flush)
            while not data[before:].endswith(body):
                data += await received(client)
        found = response(data[before:])
        assert (found.body, found.headers["content-length"]) == (body, str(len(body)))
        assert found.headers["connection"] == ("close" if way == "closing" else None)

    responding(test, keep_alive=way != "closing")


def test_a_large_body_is_not_copied_for_its_head() -> None:
    async def test(responder: Http1Responder, client: trio.SocketStream) -> None:
        tracemalloc.start()
        try:
            assert not responder.try_respond(200, [], body)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert most < len(body) / 10

    body = bytes(10_000_000)
    responding(test)


def test_end_that_comes_while_something_is_unsent() -> None:
    """The last chunk follows although nothing more was written."""

    async def test(responder: Http1Responder, client: trio.SocketStream) -> None:
        responder.start(200, [])
        responder.write(b"x" * 3_000_000)
        assert not responder.try_flush()
        responder.end()
        data = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(responder.flush)
            while not data.endswith(b"0\r\n\r\n"):
                with trio.fail_after(20):
                    data += await received(client)
        assert response(data).body == b"x" * 3_000_000

    responding(test)


def test_head_that_waits_is_sent_without_a_body() -> None:
    async def test(responder: Http1Responder, client: trio.SocketStream) -> None:
        responder.start(200, [])
        await responder.flush()
        assert (await received(client)).endswith(b"transfer-encoding: chunked\r\n\r\n")

    responding(test)


def test_slow_client_is_given_up() -> None:
    async def test(responder: Http1Responder, client: trio.SocketStream) -> None:
        responder.start(200, [])
        responder.write(b"x" * 3_000_000)
        with pytest.raises(ClientGone):
            await responder.flush()

    responding(test, impatient=True)


def test_client_that_is_gone() -> None:
    async def test(responder: Http1Responder, client: trio.SocketStream) -> None:
        client.socket.close()
        with pytest.raises(ClientGone):
            responder.try_respond(200, [], b"body")

    responding(test)


@pytest.mark.parametrize(
    "fields",
    [
        [(b"x", b"a\r\nb")],
        [(b"x", b"a\0")],
        [(b"x", b"a\x01")],
        [(b"transfer-encoding:chunked", b"x")],
        [(b"a b", b"x")],
        [(b"", b"x")],
        [(b"content-length", b"x")],
        [(b"content-length", b"-1")],
        [(b"content-length", b"1"), (b"content-length", b"2")],
    ],
)
def test_field_that_http_cannot_carry(fields: list[tuple[bytes, bytes]]) -> None:
    """H-7, H-8: refused before the response has begun, so another can be given."""

    async def test(responder: Http1Responder, client: trio.SocketStream) -> None:
        for attempt in (
            lambda: responder.start(200, fields),
            lambda: responder.try_respond(200, fields, b""),
        ):
            with pytest.raises(LocalProtocolError):
                attempt()
            assert not responder.started
        assert responder.try_respond(500, [], b"")

    responding(test)


@pytest.mark.parametrize("status", [99, 100, 101, 103])
def test_no_final_response(status: int) -> None:
    """H1-13: the body behind it would be read as the next response."""

    async def test(responder: Http1Responder, client: trio.SocketStream) -> None:
        with pytest.raises(LocalProtocolError):
            responder.start(status, [])
        with pytest.raises(LocalProtocolError):
            responder.try_respond(status, [], b"body")
        assert responder.try_respond(502, [], b"")

    responding(test)


def test_trailers_that_may_not_be_passed_on_are_dropped() -> None:
    """H-9: none is left, so the length can be told."""

    async def test(responder: Http1Responder, client: trio.SocketStream) -> None:
        responder.start(200, [])
        responder.write(b"body")
        responder.end([(b"Content-Length", b"5"), (b"set-cookie", b"a=b")])
        await responder.flush()
        assert response(await received(client)).headers["content-length"] == "4"

    responding(test)


def test_misuse_is_a_bug() -> None:
    async def test(responder: Http1Responder, client: trio.SocketStream) -> None:
        responder.start(200, [])
        with pytest.raises(RuntimeError):
            responder.start(200, [])
        responder.end()
        with pytest.raises(RuntimeError):
            responder.end()

    responding(test)


def test_answer_of_which_nothing_was_sent_is_withdrawn() -> None:
    async def test(responder: Http1Responder, client: trio.SocketStream) -> None:
        assert responder.withdraw()
        responder.start(204, [(b"content-length", b"10"), (b"x-first", b"1")])
        responder.end()
        assert responder.withdraw()
        assert (responder.started, responder.ended, responder.status, responder.body_sent) == (
            False,
            False,
            0,
            0,
        )
        responder.start(200, [])
        responder.write(b"second")
        responder.end()
        await responder.flush()
        assert not responder.withdraw()
        found = response(await received(client))
        assert (found.status, found.body, found.headers["x-first"]) == (200, b"second", None)

    responding(test)


@pytest.mark.parametrize("sized", [True, False])
def test_part_of_a_file(sized: bool, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(range(256)) * 2000)

    async def test(responder: Http1Responder, client: trio.SocketStream) -> None:
        with (tmp_path / "file").open("rb") as file:
            responder.start(200, [(b"content-length", b"400000")] if sized else [])

            async def send() -> None:
                await responder.write_file(file.fileno(), 256, 400_000)
                responder.end([(b"x-end", b"1")])
                await responder.flush()
                await client_stream.send_eof()

            client_stream = responder._stream
            data = b""
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                while piece := await received(client):
                    data += piece
        assert response(data).body == (bytes(range(256)) * 2000)[256:400_256]
        assert responder.body_sent == 400_000

    responding(test)


@pytest.mark.parametrize("sized", [True, False])
def test_file_that_became_shorter_aborts_the_response(sized: bool, tmp_path: Path) -> None:
    """H1-24."""
    (tmp_path / "file").write_bytes(b"x" * 100)

    async def test(responder: Http1Responder, client: trio.SocketStream) -> None:
        with (tmp_path / "file").open("rb") as file:
            responder.start(200, [(b"content-length", b"200")] if sized else [])
            with pytest.raises(ResponseAborted):
                await responder.write_file(file.fileno(), 0, 200)
        assert not responder.ended

    responding(test)


def test_file_for_head_is_not_sent(tmp_path: Path) -> None:
    async def test(responder: Http1Responder, client: trio.SocketStream) -> None:
        responder.start(200, [(b"content-length", b"200")])
        await responder.write_file(-1, 0, 200)
        responder.end()
        await responder.flush()
        assert response(await received(client), "HEAD").headers["content-length"] == "200"

    responding(test, head_only=True)


def test_framing_fields_are_no_trailers() -> None:
    """RFC 9110 6.5.1, H-9: what frames a message is said before it, or not at all."""

    async def test(responder: Http1Responder, client: trio.SocketStream) -> None:
        responder.start(200, [])
        responder.write(b"body")
        framing = (b"Content-Length", b"Transfer-Encoding", b"connection", b"TE", b"upgrade", b"keep-alive")
        responder.end([*((name, b"1") for name in framing), (b"x-sum", b"1")])
        await responder.flush()
        assert (await received(client)).endswith(b"\r\n0\r\nx-sum: 1\r\n\r\n")

    responding(test)


@pytest.mark.parametrize(
    ("promised", "body", "told"),
    [
        (4, b"sixsix", "the response body is 2 bytes longer than its Content-Length"),
        (10, b"six", "the response body is 7 bytes shorter than its Content-Length"),
    ],
)
def test_broken_promise_of_a_length_says_by_how_much(promised: int, body: bytes, told: str) -> None:
    async def test(responder: Http1Responder, client: trio.SocketStream) -> None:
        with pytest.raises(ResponseAborted, match=f"^{told}$"):
            responder.try_respond(200, [(b"content-length", b"%d" % promised)], body)

    async def in_parts(responder: Http1Responder, client: trio.SocketStream) -> None:
        responder.start(200, [(b"content-length", b"10")])
        responder.write(b"six")
        with pytest.raises(
            ResponseAborted, match=r"^the response body is 7 bytes shorter than its Content-Length$"
        ):
            responder.end()

    async def too_much(responder: Http1Responder, client: trio.SocketStream) -> None:
        longer = r"^the response body is 2 bytes longer than its Content-Length$"
        responder.start(200, [(b"content-length", b"4")])
        with pytest.raises(ResponseAborted, match=longer):
            responder.write(b"sixsix")
        assert responder.withdraw()
        responder.start(200, [(b"content-length", b"4")])
        with pytest.raises(ResponseAborted, match=longer):
            await responder.write_file(-1, 0, 6)

    responding(test)
    responding(in_parts)
    responding(too_much)


def test_trailers_need_chunks() -> None:
    """H-9: a small response with trailers is chunked; an HTTP/1.0 client gets none."""

    async def chunked(responder: Http1Responder, client: trio.SocketStream) -> None:
        responder.start(200, [])
        responder.write(b"body")
        responder.end([(b"x-sum", b"1")])
        await responder.flush()
        assert (await received(client)).endswith(b"\r\n\r\n4\r\nbody\r\n0\r\nx-sum: 1\r\n\r\n")

    async def plain(responder: Http1Responder, client: trio.SocketStream) -> None:
        responder.start(200, [])
        responder.write(b"body")
        responder.end([(b"x-sum", b"1")])
        await responder.flush()
        assert response(await received(client)).headers["content-length"] == "4"

    responding(chunked)
    responding(plain, version10=True)


def test_an_interim_response_leaves_at_once() -> None:
    """Who has sent it may compute the final one without a wait."""

    async def test(responder: Http1Responder, client: trio.SocketStream) -> None:
        await client.send_all(b"?")
        assert await responder._stream.receive_some() == b"?"
        await responder.inform(103, [(b"link", b"</a.css>")])
        assert not responder._stream.unsent
        responder.try_respond(200, [], b"done")
        assert (await received(client)).startswith(b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n")

    responding(test)


def test_a_piece_of_what_goes_on_leaves_at_once() -> None:
    async def test(responder: Http1Responder, client: trio.SocketStream) -> None:
        await client.send_all(b"?")
        assert await responder._stream.receive_some() == b"?"
        responder.start(200, [])
        responder.write(b"event")
        assert responder.try_flush()
        assert not responder._stream.unsent
        responder.end()
        assert responder.try_flush()
        assert b"event" in await received(client)

    responding(test)


@pytest.mark.parametrize("way", ["length", "chunks", "close"])
def test_the_end_waits_for_large_pieces_that_are_held(way: str) -> None:
    """Who waits for the client knows for how long it may take."""
    piece = b"x" * 65536
    count = 64

    async def test(responder: Http1Responder, client: trio.SocketStream) -> None:
        async def send() -> None:
            responder.start(
                200, [(b"content-length", b"%d" % (count * len(piece)))] if way == "length" else []
            )
            for _ in range(count):
                responder.write(piece)
                await responder.flush()
            responder.end()
            await responder.flush()
            assert not responder._stream.unsent

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            taken = 0
            while taken < count * len(piece):
                taken += (await received(client)).count(b"x")

    responding(test, version10=way == "close")
