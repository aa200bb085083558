"""Several requests on one FastCGI connection: whose is what, slow clients, and whatever ends too soon."""

import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from gateway.net.pump import OVERSLEPT, SWEEP_INTERVAL, Pump
from gateway.net.stream import PumpStream
from gateway.protocols.errors import Refusal
from gateway.protocols.events import RequestVariables
from gateway.protocols.fastcgi import Capabilities, FastCgiServer, encode_pairs
from gateway.protocols.fastcgi.records import (
    ABORT_REQUEST,
    GET_VALUES,
    GET_VALUES_RESULT,
    STDERR,
    STDIN,
    STDOUT,
    RecordReader,
    encode_end_request,
    encode_record,
    encode_stream,
)
from gateway.upstream.multiplex import RequestStream, SharedConnection
from gateway.upstream.shared_pool import SharedPool
from gateway.upstream.upstream import Upstream
from tests.gateway.freed import freed_without_the_collector
from tests.gateway.multiplexing import MULTIPLEXES, Application, RequestEnd
from tests.gateway.served import (
    LAST_GET,
    Served,
    attached,
    backend,
    gateway_of,
    next_event,
    pass_time,
    read_all,
    read_request,
    read_until,
    reset,
    response,
    run,
    until,
    unused_port,
)
from tests.gateway.upstream.policies import SHARING
from tests.gateway.upstream.test_exchange import PATIENT, fine, said
from tests.gateway.upstream.test_upstream import upstream_of

pytestmark = pytest.mark.usefixtures("quick_sweeper")

POST: Final = b"POST %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
PLAIN: Final = b"Content-Type: text/plain\r\n\r\n"
BUFFER: Final = 64 * 1024

Behave = Callable[[Any], Awaitable[None]]


def get(path: str, *, last: bool = True) -> bytes:
    close = "Connection: close\r\n" if last else ""
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n{close}\r\n".encode()


async def path_of(stream: Any) -> str:
    """The path of the request, read whole."""
    head, _ = await read_request(stream, FastCgiServer())
    assert isinstance(head, RequestVariables)
    return head.variables["PATH_INFO"]


async def echoes(stream: RequestEnd) -> None:
    """Answers with the path and the body."""
    head, body = await read_request(stream, FastCgiServer())  # type: ignore[arg-type]
    assert isinstance(head, RequestVariables)
    await stream.send_all(fine("fastcgi", head.variables["PATH_INFO"].encode() + body))


def holding(held: trio.Event) -> Behave:
    """Answers with the path: ``/held`` when *held* is set, others at once."""

    async def behave(stream: RequestEnd) -> None:
        path = await path_of(stream)
        if path == "/held":
            await held.wait()
        await stream.send_all(fine("fastcgi", path.encode()))

    return behave


class Meeting:
    """Answers as `echoes`, when so many requests are there."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.come = 0

    async def __call__(self, stream: RequestEnd) -> None:
        path = await path_of(stream)
        self.come += 1
        while self.come < self._number:
            await trio.lowlevel.checkpoint()
        await stream.send_all(fine("fastcgi", path.encode()))


def sharing(
    application: Application,
    test: Callable[[Served, Upstream], Awaitable[None]],
    *,
    seconds: float = 25,
    path: str | None = None,
    clock: trio.abc.Clock | None = None,
    **options: Any,
) -> list[Any]:
    """Run *test* with a gateway that knows what *application* takes; what was logged."""
    logs: list[Any] = []

    async def main() -> None:
        async with backend(application, path=path) as app:
            config = {
                "backends": {
                    "app": {
                        "fastcgi": app.address,
                        "keep_connection": True,
                        "multiplex": {"buffer": BUFFER},
                        "timeouts": PATIENT,
                        **options,
                    }
                },
                "routes": [{"backend": "app"}],
            }
            async with gateway_of(config) as served:
                upstream = upstream_of(served)
                await until(lambda: upstream.servers[0].told is not None)
                with capture_logs() as captured:
                    await test(served, upstream)
                logs.extend(captured)
                await until(lambda: not served.open)
                (server,) = upstream.snapshot().servers
                assert server.in_flight == 0

    run(main, seconds=seconds, clock=clock)
    return logs


def connections_of(upstream: Upstream) -> list[SharedConnection]:
    pool = upstream.servers[0].pool
    assert isinstance(pool, SharedPool)
    return pool._connections


async def ask_all(served: Served, *requests: bytes) -> list[tuple[int, bytes]]:
    """Status and body of each answer; all are asked at the same time."""
    found: dict[int, tuple[int, bytes]] = {}

    async def ask(number: int, data: bytes) -> None:
        answer = response(await served.ask(data))
        found[number] = answer.status, answer.body

    async with trio.open_nursery() as nursery:
        for number, data in enumerate(requests):
            nursery.start_soon(ask, number, data)
    return [found[number] for number in range(len(requests))]


# ---- sharing


def test_requests_share_a_connection() -> None:
    """FCGI-8, FCGI-17: ids are small, and used again after the end of their requests."""
    application = Application(Meeting(4))

    async def test(served: Served, upstream: Upstream) -> None:
        asked = [get(f"/{number}") for number in range(4)]
        assert await ask_all(served, *asked) == [(200, b"/%d" % number) for number in range(4)]
        assert await ask_all(served, get("/again")) == [(200, b"/again")]
        assert upstream.snapshot().servers[0].idle == 1

    sharing(application, test)
    assert application.begun == [[1, 2, 3, 4, 1]]
    assert application.asked == 1


@pytest.mark.parametrize(
    "values", [{}, {"FCGI_MPXS_CONNS": "0"}, {"FCGI_MPXS_CONNS": "1", "FCGI_MAX_REQS": "1"}]
)
def test_nothing_is_shared_unless_the_application_says_so(values: dict[str, str]) -> None:
    """php-src#884: without an answer, and with no, a connection has one request at a time."""
    application = Application(Meeting(1), values)

    async def test(served: Served, upstream: Upstream) -> None:
        for _ in range(2):
            answers = await ask_all(served, get("/a"), get("/b"))
            assert answers == [(200, b"/a"), (200, b"/b")]

    sharing(application, test)
    assert all(set(begun) == {1} for begun in application.begun)


def test_answers_are_told_apart_however_they_are_mixed() -> None:
    """FCGI-4, FCGI-8, 14.4: records of several requests in turns, cut anywhere, error output between."""
    pieces = 60

    async def mixed(stream: RequestEnd) -> None:
        path = (await path_of(stream)).encode()
        output = PLAIN + path * 997 * pieces
        step = len(output) // pieces
        for start in range(0, len(output), step):
            await stream.send_all(encode_stream(STDOUT, 1, output[start : start + step]))
            await stream.send_all(encode_stream(STDERR, 1, b"said of " + path + b"\n"))
            await trio.lowlevel.checkpoint()
        await stream.send_all(encode_record(STDOUT, 1) + encode_end_request(1))

    async def test(served: Served, upstream: Upstream) -> None:
        answers = await ask_all(served, *(get(f"/{number}") for number in range(5)))
        assert answers == [(200, b"/%d" % number * 997 * pieces) for number in range(5)]

    logs = sharing(application := Application(mixed), test, seconds=30)
    assert application.begun == [[1, 2, 3, 4, 5]]
    assert {entry["line"] for entry in logs} == {f"said of /{number}" for number in range(5)}


def test_request_that_comes_while_a_connection_is_made_is_on_it() -> None:
    """A burst makes no more connections than it needs, and no more than there may be."""
    application = Application(Meeting(7))

    async def test(served: Served, upstream: Upstream) -> None:
        answers = await ask_all(served, *(get("/x") for _ in range(7)))
        assert answers == [(200, b"/x")] * 7

    sharing(application, test, multiplex={"requests": 3})
    assert sorted(map(len, application.begun)) == [1, 3, 3]


def test_requests_beyond_all_places_wait_in_the_queue() -> None:
    """FCGI-17: FCGI_MAX_CONNS times the places of each, and no more than FCGI_MAX_REQS."""
    meeting = Meeting(3)
    application = Application(meeting, {**MULTIPLEXES, "FCGI_MAX_CONNS": "2", "FCGI_MAX_REQS": "3"})

    async def test(served: Served, upstream: Upstream) -> None:
        async def more() -> None:
            await until(lambda: meeting.come == 2)
            assert upstream.servers[0].limit == 3
            assert await ask_all(served, *(get("/x") for _ in range(4))) == [(200, b"/x")] * 4

        async with trio.open_nursery() as nursery:
            nursery.start_soon(more)
            assert await ask_all(served, get("/x"), get("/x")) == [(200, b"/x")] * 2

    sharing(application, test, multiplex={"requests": 2})
    assert len(application.begun) <= 2


def test_refused_connection_is_everybodys_failure() -> None:
    """The requests that wait for the same connection fail with it."""
    application = Application(echoes)

    async def test(served: Served, upstream: Upstream) -> None:
        upstream.servers[0].dialer.targets = ((socket.AF_INET, ("127.0.0.1", unused_port())),)
        assert {status for status, _ in await ask_all(served, *(get("/x") for _ in range(5)))} == {502}

    sharing(application, test)


def test_connection_that_has_served_enough_is_replaced() -> None:
    application = Application(echoes)

    async def test(served: Served, upstream: Upstream) -> None:
        for _ in range(5):
            assert await ask_all(served, get("/x")) == [(200, b"/x")]

    sharing(application, test, pool={"requests": 2})
    assert list(map(len, application.begun)) == [2, 2, 1]


def test_idle_connection_grows_old_and_is_closed() -> None:
    application = Application(echoes)

    async def test(served: Served, upstream: Upstream) -> None:
        assert await ask_all(served, get("/x")) == [(200, b"/x")]
        upstream.servers[0].pool.close_expired()
        assert connections_of(upstream)
        await pass_time(0.25 + 2 * SWEEP_INTERVAL)  # whose clock may be as much behind
        upstream.servers[0].pool.close_expired()
        assert not connections_of(upstream)

    sharing(application, test, pool={"idle_time": "250ms"})


def test_renewed_connections_finish_what_they_have() -> None:
    """A process that is replaced gets no new requests, and ends the old ones."""
    meeting = Meeting(2)
    application = Application(meeting)

    async def test(served: Served, upstream: Upstream) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_all, served, get("/old"))
            await until(lambda: meeting.come == 1)
            upstream.upkeep.renew()
            assert await ask_all(served, get("/new")) == [(200, b"/new")]
        await until(lambda: len(connections_of(upstream)) == 1)

    sharing(application, test)
    assert application.begun == [[1], [1]]


def test_application_that_multiplexes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was restarted as something else: the next answer counts."""
    monkeypatch.setattr("gateway.upstream.capabilities.INTERVAL", 0.05)
    application = Application(Meeting(1))

    async def test(served: Served, upstream: Upstream) -> None:
        assert await ask_all(served, get("/x")) == [(200, b"/x")]
        application.values = {"FCGI_MPXS_CONNS": "0"}
        told = upstream.servers[0].told
        await until(lambda: upstream.servers[0].told != told)
        assert not connections_of(upstream)
        assert await ask_all(served, get("/x"), get("/y")) == [(200, b"/x"), (200, b"/y")]

    sharing(application, test)
    assert all(set(begun) == {1} for begun in application.begun)


def test_restarted_application_is_asked_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """FCGI-17: the end of a connection without requests is a sign of it."""
    monkeypatch.setattr("gateway.upstream.capabilities.FIRST_PAUSE", 0.01)
    path = tmp_path / "app.sock"
    before = Application(echoes)
    after = Application(Meeting(2), {"FCGI_MPXS_CONNS": "0"})

    config = {
        "backends": {"app": {"fastcgi": f"unix:{path}", "keep_connection": True, "multiplex": True}},
        "routes": [{"backend": "app"}],
    }

    async def main() -> None:
        async with gateway_of(config) as served:
            (server,) = upstream_of(served).servers
            async with backend(before, path=str(path)):
                await until(lambda: server.told is not None)
                assert await ask_all(served, get("/x")) == [(200, b"/x")]
            path.unlink()
            async with backend(after, path=str(path)):
                await until(lambda: server.told == Capabilities())
                assert await ask_all(served, get("/a"), get("/b")) == [(200, b"/a"), (200, b"/b")]

    run(main)
    assert after.begun == [[1], [1]]


# ---- slow clients


class Large:
    """A large answer for /large, small ones for others."""

    def __init__(self, size: int) -> None:
        self.body = b"x" * size
        self.sent = 0

    async def __call__(self, stream: RequestEnd) -> None:
        await self.answer(stream, await path_of(stream))

    async def answer(self, stream: RequestEnd, path: str) -> None:
        if path != "/large":
            await stream.send_all(fine("fastcgi", path.encode()))
            return
        await stream.send_all(encode_stream(STDOUT, 1, PLAIN))
        for start in range(0, len(self.body), 32768):
            await stream.send_all(encode_stream(STDOUT, 1, self.body[start : start + 32768]))
            self.sent += 32768
        await stream.send_all(encode_end_request(1))


def test_client_alone_on_a_connection_may_be_slow() -> None:
    """Back-pressure as ever: nothing is read meanwhile, nothing broken off, and others go elsewhere."""
    large = Large(30_000_000)
    application = Application(large)

    async def test(served: Served, upstream: Upstream) -> None:
        async with await served.connect() as client:
            await client.send_all(get("/large"))
            await until(lambda: bool(connections_of(upstream)) and connections_of(upstream)[0].paused)
            (connection,) = connections_of(upstream)
            (stream,) = connection._streams.values()
            assert BUFFER < stream.waiting_bytes <= 2 * BUFFER + 32768
            assert await ask_all(served, get("/other")) == [(200, b"/other")]
            received = await read_all(client)
            assert received.count(b"x" * 1000) > 29_000  # in chunks
        assert large.sent >= 30_000_000

    sharing(application, test, multiplex={"buffer": BUFFER, "stall": "1ms"}, seconds=60)
    assert application.begun == [[1], [1]]


def test_slow_client_keeps_others_waiting_for_so_long() -> None:
    """jetty.project#2095: its response is broken off, the application told, and the connection goes on."""
    large = Large(30_000_000)
    begun = trio.Event()

    async def behave(stream: RequestEnd) -> None:
        path = await path_of(stream)
        if path == "/patient":
            await stream.send_all(encode_stream(STDOUT, 1, PLAIN + b"begun"))
            await begun.wait()
            await stream.send_all(encode_record(STDOUT, 1, b", and ended"))
            # Behind all that there is for the other one, which would be too much for nobody.
            await until(lambda: bool(stream.connection.aborted))
            await stream.send_all(encode_end_request(1))
        else:
            await large.answer(stream, path)

    application = Application(behave)

    async def test(served: Served, upstream: Upstream) -> None:
        async with await served.connect() as patient, await served.connect() as slow:
            await patient.send_all(get("/patient"))
            await until(lambda: bool(application.begun))
            await slow.send_all(get("/large"))
            await until(lambda: connections_of(upstream)[0].paused)
            begun.set()
            assert b", and ended" in await read_all(patient)
            assert application.connections[0].aborted == [2]
            cut = await read_all(slow)
            assert not cut.endswith(b"0\r\n\r\n")
            assert await ask_all(served, get("/next")) == [(200, b"/next")]

    logs = sharing(application, test, multiplex={"buffer": BUFFER, "stall": "30ms"}, seconds=60)
    assert application.begun == [[1, 2, 1]]
    (entry,) = [entry for entry in logs if entry["event"].startswith("response broken off")]
    assert entry["bytes"] <= 2 * BUFFER + 32768
    assert not [entry for entry in logs if entry["event"] == "backend failed"]


def test_client_that_has_read_while_the_gateway_was_stopped_is_not_slow() -> None:
    clock = trio.testing.MockClock(rate=1.0)
    application = Application(Large(30_000_000))

    async def test(served: Served, upstream: Upstream) -> None:
        async with await served.connect() as first, await served.connect() as second:
            for client in (first, second):
                await client.send_all(get("/large"))
            await until(lambda: bool(application.begun) and connections_of(upstream)[0].paused)
            clock.jump(2 + OVERSLEPT)
            bodies = [b"", b""]

            async def read(number: int, client: trio.SocketStream) -> None:
                bodies[number] = await read_all(client)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read, 0, first)
                nursery.start_soon(read, 1, second)
            assert [body[-5:] for body in bodies] == [b"0\r\n\r\n"] * 2

    logs = sharing(application, test, multiplex={"buffer": BUFFER, "stall": "2s"}, seconds=60, clock=clock)
    assert application.begun == [[1, 2]]
    assert not [entry for entry in logs if entry["event"].startswith("response broken off")]


def test_where_there_may_be_one_connection_a_slow_client_is_broken_off_for_the_next() -> None:
    """Alone it has all the time; the next request has no other place."""
    large = Large(30_000_000)
    application = Application(large, {**MULTIPLEXES, "FCGI_MAX_CONNS": "1"})

    async def test(served: Served, upstream: Upstream) -> None:
        async with await served.connect() as slow:
            await slow.send_all(get("/large"))
            await until(lambda: bool(connections_of(upstream)) and connections_of(upstream)[0].paused)
            assert await ask_all(served, get("/next")) == [(200, b"/next")]
            await read_all(slow)

    sharing(application, test, multiplex={"buffer": BUFFER, "stall": "30ms"}, seconds=60)
    assert application.begun == [[1, 2]]
    assert application.connections[0].aborted == [1]


def test_two_slow_clients_make_room_for_one_of_them() -> None:
    """Who is left waits for nobody."""
    large = Large(30_000_000)
    application = Application(large)

    async def test(served: Served, upstream: Upstream) -> None:
        async with await served.connect() as first, await served.connect() as second:
            await first.send_all(get("/large", last=False))
            await second.send_all(get("/large", last=False))
            await until(lambda: bool(application.connections) and bool(application.connections[0].aborted))
            assert len(connections_of(upstream)[0]._streams) == 1

    sharing(application, test, multiplex={"buffer": BUFFER, "stall": "30ms"}, seconds=60)
    assert len(application.connections[0].aborted) >= 1


# ---- uploads


def test_uploads_take_turns(tmp_path: Path) -> None:
    """While the application reads slowly, each upload gets as far as the others."""
    size = 3_000_000
    application = Application(echoes)
    bodies = [bytes([number]) * size for number in (65, 66, 67)]

    async def test(served: Served, upstream: Upstream) -> None:
        application.reads = trio.Event()

        async def begin() -> None:
            await until(lambda: bool(connections_of(upstream)))
            await until(lambda: len(connections_of(upstream)[0]._queue) >= 2)
            application.reads.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(begin)
            answers = await ask_all(served, *(POST % (b"/u", size, body) for body in bodies))
            assert answers == [(200, b"/u" + body) for body in bodies]

    # The kernel keeps less for a Unix socket than one of them.
    sharing(application, test, seconds=60, path=str(tmp_path / "app.sock"))
    (connection,) = application.connections
    sent = {1: 0, 2: 0, 3: 0}
    for record_type, request_id, length in connection.records:
        if record_type == STDIN:
            sent[request_id] += length
            if not length:
                break
    assert min(sent.values()) > size / 2


def test_application_that_answers_early_gets_no_more_of_the_body() -> None:
    """FCGI-10, FCGI-16, gunicorn#840: the connection is not closed for it."""

    async def early(stream: RequestEnd) -> None:
        head = await next_event(stream, FastCgiServer())  # type: ignore[arg-type]
        assert isinstance(head, RequestVariables)
        if head.variables["PATH_INFO"] == "/early":
            body = b"Status: 413 No\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nbig"
            await stream.send_all(said("fastcgi", body))
        else:
            await stream.send_all(fine("fastcgi", b"fine"))

    application = Application(early)

    async def test(served: Served, upstream: Upstream) -> None:
        async with await served.connect() as client:
            await client.send_all(POST % (b"/early", 10_000_000, b"some"))
            assert response(await read_all(client)).status == 413
        assert await ask_all(served, get("/next")) == [(200, b"fine")]

    sharing(application, test)
    assert application.begun == [[1, 1]]


def test_time_for_connecting_is_over_when_there_is_a_connection() -> None:
    """What the socket was given for that ends nothing later."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            pump = Pump()
            await nursery.start(pump.run)
            ours, theirs = socket.socketpair()
            theirs.setblocking(False)
            peer = trio.socket.from_stdlib_socket(theirs)
            stream = attached(pump, ours)
            stream.write_deadline = stream.read_deadline = trio.current_time()
            connection = SharedConnection(
                stream, pump, SHARING, places=2, backend="", address="", changed=lambda _: None
            )
            nursery.start_soon(connection.run)
            request = connection.open()
            record = encode_stream(STDIN, 1, b"x" * 4_000_000)
            assert request.try_send(record) == len(record)
            assert request.try_send(record) == 0
            due = trio.current_time() + 0.1
            await until(lambda: pump.now > due)
            received = 0
            while received < len(record):
                received += len(await peer.recv(65536))
            peer.close()
            await until(lambda: connection.closed)
            assert connection.lost
            nursery.cancel_scope.cancel()

    run(main)


# ---- clients that go


def test_client_that_goes_leaves_the_connection_to_the_others() -> None:
    """FCGI-16: aborted, what still comes is dropped, and the id is not used before END_REQUEST."""
    streams: dict[str, RequestEnd] = {}

    async def behave(stream: RequestEnd) -> None:
        path = await path_of(stream)
        if path in ("/goes", "/stays"):
            streams[path] = stream
            await trio.sleep_forever()
        await stream.send_all(fine("fastcgi", path.encode()))

    application = Application(behave, ends_aborted=False)

    async def test(served: Served, upstream: Upstream) -> None:
        async with await served.connect() as stays:
            async with await served.connect() as goes:
                await goes.send_all(get("/goes"))
                await until(lambda: "/goes" in streams)
                await stays.send_all(get("/stays"))
                await until(lambda: "/stays" in streams)
                reset(goes)
            (connection,) = application.connections
            await until(lambda: connection.aborted == [1])
            await streams["/goes"].send_all(encode_stream(STDOUT, 1, PLAIN + b"of the one that has gone"))
            assert await ask_all(served, get("/third")) == [(200, b"/third")]
            await streams["/goes"].send_all(encode_end_request(1))
            await streams["/stays"].send_all(fine("fastcgi", b"stayed"))
            assert response(await read_all(stays)).body == b"stayed"
            assert await ask_all(served, get("/fourth")) == [(200, b"/fourth")]

    sharing(application, test)
    assert application.begun == [[1, 2, 3, 1]]


def test_application_that_does_not_end_an_aborted_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """FCGI-16: the connection gets no more requests then, and is closed behind the last."""
    monkeypatch.setattr("gateway.upstream.multiplex.ABORT_PATIENCE", 0.02)

    async def behave(stream: RequestEnd) -> None:
        if await path_of(stream) == "/hangs":
            await trio.sleep_forever()
        await stream.send_all(fine("fastcgi", b"fine"))

    application = Application(behave, ends_aborted=False)

    async def test(served: Served, upstream: Upstream) -> None:
        async with await served.connect() as goes:
            await goes.send_all(get("/hangs"))
            await until(lambda: bool(application.connections))
            reset(goes)
        await until(lambda: application.connections[0].aborted == [1])

        def gone() -> bool:
            upstream.servers[0].pool.close_expired()
            return not connections_of(upstream)

        await until(gone)
        assert await ask_all(served, get("/x")) == [(200, b"fine")]

    sharing(application, test)
    assert application.begun == [[1], [1]]


def test_application_that_goes_on_sending_for_an_aborted_request() -> None:
    """FCGI-16: as the connection of a single request would be, that of aborted ones is closed then."""

    async def behave(stream: RequestEnd) -> None:
        await path_of(stream)
        await stream.send_all(encode_stream(STDOUT, 1, PLAIN))
        while True:
            await stream.send_all(encode_stream(STDOUT, 1, bytes(50_000)))

    application = Application(behave, ends_aborted=False)

    async def test(served: Served, upstream: Upstream) -> None:
        async with await served.connect() as goes:
            await goes.send_all(get("/"))
            await read_until(goes, b"\r\n\r\n")
            reset(goes)
        await until(lambda: application.counted.open == 0)
        assert connections_of(upstream) == []

    sharing(application, test)


def test_places_that_aborted_requests_have_are_waited_for() -> None:
    """Where there may be no other connection: until the application has ended one."""
    ended = trio.Event()

    async def behave(stream: RequestEnd) -> None:
        if await path_of(stream) == "/hangs":
            await ended.wait()
            await stream.send_all(encode_end_request(1))
        else:
            await stream.send_all(fine("fastcgi", b"fine"))

    values = {**MULTIPLEXES, "FCGI_MAX_CONNS": "1"}
    application = Application(behave, values, ends_aborted=False)

    async def test(served: Served, upstream: Upstream) -> None:
        for number in (1, 2):
            async with await served.connect() as goes:
                await goes.send_all(get("/hangs"))
                await until(lambda number=number: sum(map(len, application.begun)) == number)  # type: ignore[misc]
                reset(goes)
            await until(lambda number=number: len(application.connections[0].aborted) == number)  # type: ignore[misc]
        await until(lambda: upstream.servers[0].in_flight == 0)

        async def ends() -> None:
            await until(lambda: upstream.servers[0].in_flight == 2)
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends)
            assert await ask_all(served, get("/x"), get("/y")) == [(200, b"fine")] * 2

    sharing(application, test, multiplex={"requests": 2})
    assert len(application.begun) == 1


@pytest.mark.parametrize(("aborted", "status"), [(1, 503), (2, 200)])
def test_no_place_in_time(aborted: int, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an overload, unless nobody else is on the connection: then that makes room for another."""
    monkeypatch.setattr("gateway.upstream.shared_pool.PLACE_SECONDS", 0.02)

    async def behave(stream: RequestEnd) -> None:
        path = await path_of(stream)
        if path == "/hangs":
            await trio.sleep_forever()
        await stream.send_all(fine("fastcgi", path.encode()))

    application = Application(behave, {**MULTIPLEXES, "FCGI_MAX_CONNS": "1"}, ends_aborted=False)

    async def test(served: Served, upstream: Upstream) -> None:
        async with await served.connect() as stays:
            if aborted == 1:
                await stays.send_all(get("/hangs"))
            for number in range(1, aborted + 1):
                async with await served.connect() as goes:
                    await goes.send_all(get("/hangs"))
                    there = number + 2 - aborted
                    await until(lambda there=there: sum(map(len, application.begun)) == there)  # type: ignore[misc]
                    reset(goes)
                await until(lambda number=number: len(application.connections[0].aborted) == number)  # type: ignore[misc]
            await until(lambda: upstream.servers[0].in_flight == 2 - aborted)
            answers = await ask_all(served, *[get("/x")] * aborted)
            assert {got for got, _ in answers} == {status}

    sharing(application, test, multiplex={"requests": 2})


# ---- refusals


def refusing(refusal: Refusal, beyond: int, answer: Behave = echoes) -> Behave:
    """Refuses a request if the connection has more than *beyond*."""

    async def behave(stream: RequestEnd) -> None:
        if len(stream.connection._requests) > beyond:
            await read_request(stream, FastCgiServer())  # type: ignore[arg-type]
            await stream.send_all(encode_end_request(1, refusal=refusal))
        else:
            await answer(stream)

    return behave


def test_application_that_says_it_can_and_cannot() -> None:
    """FCGI-14: CANT_MPX_CONN: again on a connection of its own, for any method, and remembered."""
    held = trio.Event()
    application = Application(refusing(Refusal.CANT_MULTIPLEX, 1, holding(held)))

    async def test(served: Served, upstream: Upstream) -> None:
        async with await served.connect() as first:
            await first.send_all(get("/held"))
            await until(lambda: bool(application.connections))
            assert await ask_all(served, POST % (b"/post", 4, b"body")) == [(200, b"/post")]
            held.set()
            assert response(await read_all(first)).body == b"/held"
        for _ in range(2):
            assert await ask_all(served, get("/x"), get("/y")) == [(200, b"/x"), (200, b"/y")]

    sharing(application, test)
    assert application.begun[0] == [1, 2]
    assert all(set(begun) == {1} for begun in application.begun[1:])


def test_several_that_are_refused_together() -> None:
    """FCGI-14: each again by itself; connections are kept as before, for one request at a time."""
    held = trio.Event()
    application = Application(refusing(Refusal.CANT_MULTIPLEX, 1, holding(held)))

    async def test(served: Served, upstream: Upstream) -> None:
        async with await served.connect() as first:
            await first.send_all(get("/held"))
            await until(lambda: bool(application.connections))
            assert await ask_all(served, *[get("/x")] * 3) == [(200, b"/x")] * 3
            held.set()
            await read_all(first)
        assert upstream.snapshot().servers[0].idle > 0

    sharing(application, test)


def test_overloaded_connection_is_left_for_another() -> None:
    """FCGI-14: OVERLOADED: another process may have room; the connection gets no more than it has taken."""
    held = trio.Event()
    application = Application(refusing(Refusal.OVERLOADED, 1, holding(held)))

    async def test(served: Served, upstream: Upstream) -> None:
        async with await served.connect() as first:
            await first.send_all(get("/held"))
            await until(lambda: bool(application.connections))
            assert await ask_all(served, POST % (b"/post", 4, b"body")) == [(200, b"/post")]
            assert await ask_all(served, get("/x")) == [(200, b"/x")]
            held.set()
            assert response(await read_all(first)).body == b"/held"

    sharing(application, test)
    assert application.begun == [[1, 2], [1], [1]]


def test_overload_where_there_may_be_no_other_connection() -> None:
    """FCGI-14: 503."""
    held = trio.Event()
    values = {**MULTIPLEXES, "FCGI_MAX_CONNS": "1"}
    application = Application(refusing(Refusal.OVERLOADED, 1, holding(held)), values)

    async def test(served: Served, upstream: Upstream) -> None:
        async with await served.connect() as first:
            await first.send_all(get("/held"))
            await until(lambda: bool(application.connections))
            assert [status for status, _ in await ask_all(served, get("/x"))] == [503]
            held.set()
            assert response(await read_all(first)).body == b"/held"

    sharing(application, test)


# ---- connections that end


def test_dead_connection_is_the_end_of_all_its_requests() -> None:
    """FCGI-15: each in its phase: what has not begun is asked again where that does no harm."""
    come: set[str] = set()
    dies = trio.Event()

    async def behave(stream: RequestEnd) -> None:
        path = await path_of(stream)
        first = path not in come
        come.add(path)
        if path == "/begun":
            await stream.send_all(encode_stream(STDOUT, 1, PLAIN + b"begun"))
        if first:
            await dies.wait()
            return
        await stream.send_all(fine("fastcgi", path.encode()))

    application = Application(behave)

    async def test(served: Served, upstream: Upstream) -> None:
        async with await served.connect() as begun, trio.open_nursery() as nursery:
            # One is there before, so that the others share its connection, and know that others were on it.
            await begun.send_all(get("/begun"))
            await read_until(begun, b"begun\r\n")
            found: dict[str, tuple[int, bytes]] = {}

            async def ask(path: str, data: bytes) -> None:
                (found[path],) = await ask_all(served, data)

            nursery.start_soon(ask, "/get", get("/get"))
            nursery.start_soon(ask, "/post", POST % (b"/post", 1, b"x"))
            await until(lambda: {"/get", "/post"} <= come)
            dies.set()
            assert await read_all(begun) == b""  # cut: no last chunk
            await until(lambda: len(found) == 2)
            assert found == {"/get": (200, b"/get"), "/post": (502, found["/post"][1])}

    logs = sharing(application, test)
    failed = {
        entry["target"]: (entry["phase"], entry["cause"])
        for entry in logs
        if entry["event"] == "backend failed"
    }
    assert failed == {
        "/begun": ("body", "http_response_incomplete"),
        "/post": ("first byte", "connection_terminated"),
    }


def test_request_that_ends_every_connection_does_not_end_others_twice() -> None:
    """Nobody knows whose request has broken a connection: each is asked again on one of its own."""
    come: Counter[str] = Counter()

    async def behave(stream: RequestEnd) -> None:
        path = await path_of(stream)
        come[path] += 1
        if come[path] == 1:
            await until(lambda: come.total() >= 3)
        if path == "/ends":
            return
        # The second connection of the one that ends them is gone, and two are there.
        await until(lambda: come["/ends"] == 2 and application.counted.open == 2)
        await stream.send_all(fine("fastcgi", path.encode()))

    application = Application(behave)

    async def test(served: Served, upstream: Upstream) -> None:
        answers = await ask_all(served, get("/a"), get("/b"), get("/ends"))
        assert [status for status, _ in answers] == [200, 200, 502]
        # From then on their connections are for several again.
        assert [connection.has_room for connection in connections_of(upstream)] == [True, True]

    sharing(application, test)
    assert [len(ids) for ids in application.begun] == [3, 1, 1, 1]


@pytest.mark.parametrize(
    "garbage", [b"HTTP/1.1 200 OK\r\n\r\n", encode_record(STDIN, 1, b"?"), encode_record(STDOUT, 0, b"?")]
)
def test_nonsense_is_the_end_of_all_requests(garbage: bytes) -> None:
    """FCGI-3, FCGI-18: nobody knows any more where a record begins, or whose it is.

    What has no answer yet is asked again where that does no harm, and fails on its own then.
    """
    meeting = Meeting(3)

    async def behave(stream: RequestEnd) -> None:
        path = await path_of(stream)
        meeting.come += 1
        first = meeting.come <= 3
        if path == "/begun":
            await stream.send_all(encode_stream(STDOUT, 1, PLAIN))
        await until(lambda: meeting.come >= 3)
        if path == "/nonsense":
            await until(lambda: begun.is_set())
            await stream.connection.send(garbage)
        if first:
            await trio.sleep_forever()
        await stream.send_all(fine("fastcgi", path.encode()))

    begun = trio.Event()
    application = Application(behave)

    async def test(served: Served, upstream: Upstream) -> None:
        async with await served.connect() as stream, trio.open_nursery() as nursery:

            async def ask() -> None:
                await stream.send_all(get("/begun"))
                await read_until(stream, b"\r\n\r\n")
                begun.set()
                await read_all(stream)

            nursery.start_soon(ask)
            answers = await ask_all(served, get("/a"), get("/nonsense"))
        assert [status for status, _ in answers] == [200, 502]

    logs = sharing(application, test)
    (broken,) = [entry for entry in logs if entry["event"] == "shared connection broken off"]
    assert (broken["requests"], broken["log_level"]) == (3, "warning")
    failed = [(entry["target"], entry["cause"]) for entry in logs if entry["event"] == "backend failed"]
    assert sorted(failed) == [("/begun", "http_protocol_error"), ("/nonsense", "http_protocol_error")]


@pytest.mark.parametrize(
    "late", [encode_end_request(1), encode_record(STDOUT, 7, b"whose?"), encode_end_request(9)]
)
def test_records_that_nobody_has_asked_for_end_the_use_of_a_connection(late: bytes) -> None:
    """FCGI-8: they are ignored; but ids are used again, and what comes late may come late once more."""
    held = trio.Event()

    async def behave(stream: RequestEnd) -> None:
        path = await path_of(stream)
        if path == "/held":
            await held.wait()
        await stream.send_all(fine("fastcgi", path.encode()))
        if path == "/late":
            await stream.connection.send(late)

    application = Application(behave)

    async def test(served: Served, upstream: Upstream) -> None:
        async with await served.connect() as client:
            await client.send_all(get("/early"))
            await client.send_all(b"")
            await read_all(client)
        async with await served.connect() as other:
            if late == encode_end_request(1):
                assert await ask_all(served, get("/late")) == [(200, b"/late")]
                await until(lambda: not connections_of(upstream))
            else:
                await other.send_all(get("/held"))
                await until(lambda: len(application.begun[0]) == 2)
                assert await ask_all(served, get("/late")) == [(200, b"/late")]
                await until(lambda: connections_of(upstream)[0].retired)
                held.set()
                assert response(await read_all(other)).body == b"/held"
        assert await ask_all(served, get("/next")) == [(200, b"/next")]

    sharing(application, test)
    assert application.begun[1] == [1]


def test_malformed_answer_is_the_failure_of_its_request_only() -> None:
    held = trio.Event()

    async def behave(stream: RequestEnd) -> None:
        path = await path_of(stream)
        if path == "/held":
            await held.wait()
            await stream.send_all(fine("fastcgi", b"fine"))
        else:
            await stream.send_all(encode_stream(STDOUT, 1, b"no head\r\n\r\n") + encode_end_request(1))

    application = Application(behave)

    async def test(served: Served, upstream: Upstream) -> None:
        async with await served.connect() as client:
            await client.send_all(get("/held"))
            await until(lambda: bool(application.connections))
            assert [status for status, _ in await ask_all(served, get("/bad"))] == [502]
            held.set()
            assert response(await read_all(client)).body == b"fine"

    sharing(application, test)
    assert application.begun == [[1, 2]]


def test_late_answer_is_the_failure_of_its_request_only() -> None:
    """FCGI-16: each has its own deadlines, and the connection goes on."""
    held = trio.Event()

    async def behave(stream: RequestEnd) -> None:
        path = await path_of(stream)
        if path == "/late":
            await trio.sleep_forever()
        await stream.send_all(fine("fastcgi", path.encode()))

    application = Application(behave)

    async def test(served: Served, upstream: Upstream) -> None:
        answers = await ask_all(served, get("/late"), get("/good"))
        assert [status for status, _ in answers] == [504, 200]
        assert await ask_all(served, get("/next")) == [(200, b"/next")]

    held.set()
    sharing(application, test, timeouts={**PATIENT, "first_byte": "100ms"})
    assert len(application.begun) == 1


def test_application_that_does_not_read() -> None:
    """Who waits for a turn waits no longer than `send`."""

    async def deaf(stream: trio.SocketStream) -> None:
        first = await stream.receive_some(4096)
        if first[1] == GET_VALUES:
            await stream.send_all(encode_record(GET_VALUES_RESULT, 0, encode_pairs(MULTIPLEXES)))
            return
        await trio.sleep_forever()

    async def main() -> None:
        async with backend(deaf) as app:
            config = {
                "backends": {
                    "app": {
                        "fastcgi": app.address,
                        "keep_connection": True,
                        "multiplex": True,
                        "timeouts": {**PATIENT, "send": "100ms", "first_byte": "300ms"},
                    }
                },
                "routes": [{"backend": "app"}],
            }
            async with gateway_of(config) as served:
                upstream = upstream_of(served)
                await until(lambda: upstream.servers[0].told is not None)
                size = 8_000_000
                answers = await ask_all(served, *[POST % (b"/u", size, b"x" * size)] * 2)
                assert [status for status, _ in answers] == [504, 504]

    run(main, seconds=30)


def test_shutdown_ends_open_connections() -> None:
    """Nothing is left, whatever is on its way (`run` looks)."""

    async def hangs(stream: RequestEnd) -> None:
        await trio.sleep_forever()

    application = Application(hangs)

    async def main() -> None:
        async with backend(application) as app:
            config = {
                "backends": {"app": {"fastcgi": app.address, "keep_connection": True, "multiplex": True}},
                "routes": [{"backend": "app"}],
            }
            async with gateway_of(config) as served:
                await until(lambda: upstream_of(served).servers[0].told is not None)
                async with await served.connect() as client:
                    await client.send_all(LAST_GET)
                    await until(lambda: bool(application.connections))

    run(main)


def test_a_stream_of_a_request_is_gone_with_it() -> None:
    """Not when somebody looks for cycles."""

    async def test(served: Served, upstream: Upstream) -> None:
        with freed_without_the_collector(RequestStream, in_hand=1):  # what the loop of the pump has
            for _ in range(3):
                await ask_all(served, get("/a"))
                await until(lambda: not served.open)

    sharing(Application(Meeting(1)), test)


def test_aborts_that_fill_the_kernel_before_a_turn_is_taken() -> None:
    """What they have left of a record goes before what the next request sends."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the least that the kernel has
        pump = Pump()
        connection = SharedConnection(
            PumpStream(pump, ours),
            pump,
            SHARING,
            places=102,
            backend="app",
            address="app",
            changed=lambda _: None,
        )
        given_up = [connection.open() for _ in range(100)]
        large, last = connection.open(), connection.open()
        reader = RecordReader(status=400)
        got: list[tuple[int, int]] = []

        async def send(stream: RequestStream, size: int) -> None:
            record = encode_record(STDIN, 1, b"x" * size)
            while not stream.try_send(record):
                await stream.wait_writable()
                if stream is last:  # It is its turn, and others are quicker.
                    for each in given_up:
                        each.close()

        async with (
            trio.SocketStream(trio.socket.from_stdlib_socket(theirs)) as application,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(pump.run)
            nursery.start_soon(connection.run)
            for stream in given_up:
                nursery.start_soon(send, stream, 1)
            await until(lambda: len(connection._queue) > 0)
            while (STDIN, last.request_id) not in got:
                if all(stream.begun for stream in given_up) and not large.begun:
                    await send(large, 60_000)
                    nursery.start_soon(send, last, 1)
                reader.receive_data(await application.receive_some())
                while (record := reader.next_record()) is not None:
                    got.append(record[:2])
            nursery.cancel_scope.cancel()
        aborted = [request_id for kind, request_id in got if kind == ABORT_REQUEST]
        assert aborted == [stream.request_id for stream in given_up]

    run(main)
