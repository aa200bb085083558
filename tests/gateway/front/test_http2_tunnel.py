"""Extended CONNECT (RFC 8441): the offer, the tunnel, and handlers that do not look at the offer."""

import trio

from gateway.errors import ClientGone
from gateway.front.entrance import Entrance
from gateway.front.service import Limits, Timeouts
from gateway.protocols.http2 import ErrorCode
from gateway.request import Request, Responder, respond
from tests.gateway.http2_client import Answered, Client, talking
from tests.gateway.served import Served, pass_time


async def open_tunnel(client: Client, protocol: str = "WebSocket") -> int:
    return await client.request(
        "/chat",
        ("sec-websocket-version", "13"),
        ("origin", "http://a"),
        method="CONNECT",
        end=False,
        protocol=protocol,
    )


async def reverse(request: Request, responder: Responder) -> None:
    """A protocol of its own: each piece comes back reversed, ``bye`` at the end."""
    assert request.upgrade is not None
    duplex = await request.upgrade.accept(
        [(b"Sec-WebSocket-Protocol", b"x"), (b"Sec-WebSocket-Accept", b"y")]
    )
    while piece := await duplex.receive():
        await duplex.send(piece[::-1])
    await duplex.send(b"bye")


def test_tunnel() -> None:
    """H2-16: 200 without a length, DATA both ways, END_STREAM both ways."""
    seen: list[Request] = []
    entries: list[tuple[int, int]] = []

    async def answer(request: Request, responder: Responder) -> None:
        seen.append(request)
        await reverse(request, responder)
        assert responder.started

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        stream_id = await open_tunnel(client)
        got = client.answers[stream_id]
        await client.until(lambda: got.status != 0)
        assert got.status == 200
        assert got.header(b"sec-websocket-protocol") == b"x"
        assert got.header(b"sec-websocket-accept") is None
        assert got.header(b"content-length") is None
        await client.send_body(stream_id, b"abc", end=False)
        await client.until(lambda: got.body == b"cba")
        await client.send_body(stream_id, b"")
        assert (await client.answer(stream_id)).body == b"cbabye"
        assert got.reset is None

    talking(
        test,
        answer,
        timeouts=Timeouts(body=0.01),
        limits=Limits(body=1),
        access_log=lambda _request, status, size, _seconds: entries.append((status, size)),
    )
    (request,) = seen
    assert (request.method, request.path, request.body.length) == ("GET", "/chat", 0)
    assert request.upgrade is not None
    assert request.upgrade.protocol == "websocket"
    assert request.headers == [(b"host", b"a"), (b"sec-websocket-version", b"13"), (b"origin", b"http://a")]
    assert entries == [(200, 6)]


def test_server_ends_the_tunnel_first() -> None:
    """The handler's end is END_STREAM; a client that goes on is told that nobody listens."""
    pieces: list[bytes] = []

    async def answer(request: Request, responder: Responder) -> None:
        assert request.upgrade is not None
        duplex = await request.upgrade.accept([])
        await duplex.send(b"")
        await duplex.end()
        await duplex.end()
        pieces.append(await duplex.receive())

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        stream_id = await open_tunnel(client)
        got = client.answers[stream_id]
        await client.until(lambda: got.ended)
        await client.send_body(stream_id, b"still here", end=False)
        await client.until(lambda: got.reset is not None)
        assert got.reset == ErrorCode.NO_ERROR
        assert (await client.answer(await open_tunnel(client, "other"))).status == 200

    talking(test, answer)
    assert pieces[0] == b"still here"


def test_large_data_through_a_tunnel() -> None:
    """Flow control holds in both directions."""
    size = 2_000_000

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        stream_id = await open_tunnel(client)
        await client.until(lambda: client.answers[stream_id].status == 200)
        await client.send_body(stream_id, bytes(size))
        assert len((await client.answer(stream_id)).body) == size + 3

    talking(test, reverse, settings={"initial_window_size": 30_000})


def test_client_that_reads_nothing_for_a_while() -> None:
    """It has `timeouts.tunnel` for that, as over HTTP/1.1: what is paused goes on."""

    async def answer(request: Request, responder: Responder) -> None:
        assert request.upgrade is not None
        duplex = await request.upgrade.accept([])
        await duplex.send(bytes(1000))
        await duplex.send(bytes(1000))

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        stream_id = await open_tunnel(client)
        got = client.answers[stream_id]
        await client.until(lambda: len(got.received) == 100)
        await pass_time(0.6)
        client.h2.increment_flow_control_window(2000, stream_id)
        await client.flush()
        assert len((await client.answer(stream_id)).body) == 2000

    talking(
        test,
        answer,
        settings={"initial_window_size": 100},
        credit=False,
        timeouts=Timeouts(send=0.1, body=0.1),
    )


def test_reset_tunnel_is_gone() -> None:
    """RFC 8441 5: RST_STREAM is what RST is to TCP."""
    failures: list[Exception] = []
    over = trio.Event()

    async def answer(request: Request, responder: Responder) -> None:
        assert request.upgrade is not None
        duplex = await request.upgrade.accept([])
        try:
            with trio.CancelScope(shield=True):
                await duplex.receive()
        except ClientGone as gone:
            failures.append(gone)
        try:
            await duplex.send(b"x")
        except ClientGone as gone:
            failures.append(gone)
        over.set()

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        stream_id = await open_tunnel(client)
        await client.until(lambda: client.answers[stream_id].status == 200)
        client.h2.reset_stream(stream_id, 8)
        await client.flush()
        await over.wait()

    talking(test, answer)
    assert len(failures) == 2


def test_failing_handler_resets_the_tunnel() -> None:
    async def answer(request: Request, responder: Responder) -> None:
        assert request.upgrade is not None
        await request.upgrade.accept([])
        raise RuntimeError("a bug")

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        got = await client.answer(await open_tunnel(client))
        assert (got.status, got.reset) == (200, ErrorCode.INTERNAL_ERROR)

    talking(test, answer)


def test_page_is_no_tunnel() -> None:
    """A handler that answers as if it were a GET has not accepted: 2xx would say that it has (RFC 8441 5)."""

    async def answer(request: Request, responder: Responder) -> None:
        await respond(
            responder, 200 if request.path == "/chat" else 403, [(b"content-length", b"4")], b"page"
        )

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        got = await client.answer(await open_tunnel(client))
        assert (got.status, got.body, got.ended) == (501, b"", True)
        stream_id = await client.request("/no", method="CONNECT", end=False, protocol="websocket")
        got = await client.answer(stream_id)
        assert (got.status, got.body) == (403, b"page")

    talking(test, answer)


def test_offer_cannot_be_accepted_behind_an_answer() -> None:
    async def answer(request: Request, responder: Responder) -> None:
        assert request.upgrade is not None
        responder.start(403, [])
        try:
            await request.upgrade.accept([])
        except RuntimeError as error:
            responder.write(str(error).encode())
        responder.end()
        await responder.flush()

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        got = await client.answer(await open_tunnel(client))
        assert (got.status, got.body) == (403, b"the response was started before")

    talking(test, answer)


def test_plain_connect_is_refused() -> None:
    """H2-15, H-13: 501, as over HTTP/1.1."""

    async def test(client: Client, _entrance: Entrance, _served: Served) -> None:
        stream_id = client.h2.get_next_available_stream_id()
        client.h2.send_headers(stream_id, [(":method", "CONNECT"), (":authority", "a:443")])
        client.answers[stream_id] = Answered()
        await client.flush()
        assert (await client.answer(stream_id)).status == 501

    talking(test, reverse)
