"""FastCGI applications are asked what they take, and get no more than that."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from gateway.control.state import Observed
from gateway.protocols.fastcgi import Capabilities, FastCgiServer, encode_pairs
from gateway.protocols.fastcgi.records import (
    GET_VALUES,
    GET_VALUES_RESULT,
    encode_record,
    encode_unknown_type,
)
from gateway.upstream.upstream import Upstream
from tests.gateway.served import (
    LAST_GET,
    Served,
    backend,
    gateway_of,
    next_event,
    read_request,
    response,
    run,
    until,
)
from tests.gateway.upstream.test_exchange import fine
from tests.gateway.upstream.test_upstream import upstream_of

pytestmark = pytest.mark.usefixtures("quick_sweeper")


def values_record(values: Mapping[str, str]) -> bytes:
    return encode_record(GET_VALUES_RESULT, 0, encode_pairs(dict(values)))


class Application:
    """Answers GET_VALUES with *answer*, None: never; everything else with its number of open connections."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer
        self.asked = 0
        self.open = 0
        self.most = 0
        self.held = trio.Event()
        self.held.set()

    async def __call__(self, stream: trio.SocketStream) -> None:
        first = await stream.receive_some(65536)
        if first[1:2] == bytes([GET_VALUES]):
            self.asked += 1
            if self.answer is None:
                while await stream.receive_some(65536):
                    pass
            else:
                await stream.send_all(self.answer)
            return
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await self.serve(stream, bytes(first))
        finally:
            self.open -= 1

    async def serve(self, stream: trio.SocketStream, first: bytes) -> None:
        codec = FastCgiServer()
        codec.receive_data(first)
        while True:
            await read_request(stream, codec)
            await self.held.wait()
            await stream.send_all(fine("fastcgi", b"%d" % self.open))
            codec = FastCgiServer()


def config_of(address: str, **options: Any) -> dict[str, Any]:
    return {
        "backends": {"app": {"fastcgi": address, "get_values": True, "keep_connection": True, **options}},
        "routes": [{"backend": "app"}],
    }


def asking(
    application: Application,
    test: Callable[[Served, Upstream], Any],
    **options: Any,
) -> list[Any]:
    logs: list[Any] = []

    async def main() -> None:
        async with backend(application) as app, gateway_of(config_of(app.address, **options)) as served:
            with capture_logs() as captured:
                await test(served, upstream_of(served))
            logs.extend(captured)

    run(main)
    return logs


ANSWER = {"FCGI_MAX_CONNS": "2", "FCGI_MAX_REQS": "50", "FCGI_MPXS_CONNS": "0"}


async def ask(served: Served) -> int:
    return response(await served.ask(LAST_GET)).status


def test_no_more_connections_than_the_application_takes() -> None:
    """FCGI-17; haproxy#2936, docker#1977: further requests wait, and all are served."""
    application = Application(values_record(ANSWER))

    async def test(served: Served, upstream: Upstream) -> None:
        await until(lambda: upstream.servers[0].told is not None)
        application.held = trio.Event()
        statuses: list[int] = []

        async def client() -> None:
            statuses.append(await ask(served))

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(client)
            await until(lambda: upstream.snapshot().queued == 4)
            application.held.set()
        assert statuses == [200] * 6
        assert application.most == 2
        (server,) = upstream.snapshot().servers
        assert (server.in_flight, server.idle) == (0, 2)
        assert server.told == Capabilities(connections=2, requests=50)

    logs = asking(application, test)
    (entry,) = [entry for entry in logs if entry["event"] == "application capabilities"]
    assert (entry["connections"], entry["requests"], entry["multiplexes"]) == (2, 50, False)
    assert application.asked == 1


def test_what_is_configured_is_known_better() -> None:
    """One process of several tells what it takes itself."""
    application = Application(values_record({"FCGI_MAX_CONNS": "1"}))

    async def test(served: Served, upstream: Upstream) -> None:
        await until(lambda: upstream.servers[0].told is not None)
        assert upstream.servers[0].limit == 4

    asking(application, test, pool={"connections": 4})


@pytest.mark.parametrize(("workers", "limit"), [(1, 7), (2, 3), (8, 1)])
def test_each_worker_of_the_gateway_takes_its_part(workers: int, limit: int) -> None:
    application = Application(values_record({**ANSWER, "FCGI_MAX_CONNS": "7"}))
    limits: list[int] = []

    async def main() -> None:
        async with (
            backend(application) as app,
            gateway_of({**config_of(app.address), "workers": workers}) as served,
        ):
            server = upstream_of(served).servers[0]
            await until(lambda: server.told is not None)
            limits.append(server.limit)

    run(main)
    assert limits == [limit]


@pytest.mark.parametrize(
    "answer",
    [b"", encode_unknown_type(GET_VALUES), values_record({}), b"HTTP/1.1 400 Bad Request\r\n\r\n"],
)
def test_application_that_does_not_answer_rightly(answer: bytes) -> None:
    """php-src#884: it closes the connection, does not know the record, knows nothing, speaks nonsense."""
    application = Application(answer)

    async def test(served: Served, upstream: Upstream) -> None:
        await until(lambda: upstream.servers[0].told is not None)
        assert upstream.servers[0].told == Capabilities()
        assert upstream.servers[0].limit > 2**31
        assert await ask(served) == 200

    asking(application, test)


def test_application_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """php-src#884: requests do not wait for it, and the question is given up."""
    monkeypatch.setattr("gateway.upstream.capabilities.PATIENCE", 0.05)
    application = Application(None)

    async def test(served: Served, upstream: Upstream) -> None:
        assert await ask(served) == 200
        await until(lambda: application.asked == 1)
        assert await ask(served) == 200
        assert upstream.servers[0].told is None

    asking(application, test)


def test_restarted_application_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept connection that was closed is a sign of it; what was told before holds until then."""
    monkeypatch.setattr("gateway.upstream.capabilities.FIRST_PAUSE", 0.01)

    class OnlyOne(Application):
        async def serve(self, stream: trio.SocketStream, first: bytes) -> None:
            codec = FastCgiServer()
            codec.receive_data(first)
            await read_request(stream, codec)
            await stream.send_all(fine("fastcgi", b"1"))
            await next_event(stream, FastCgiServer())  # and closes the connection in the middle of the next

    application = OnlyOne(values_record(ANSWER))

    async def test(served: Served, upstream: Upstream) -> None:
        await until(lambda: upstream.servers[0].told is not None)
        assert await ask(served) == 200
        application.answer = values_record({"FCGI_MAX_CONNS": "7"})
        assert await ask(served) == 200
        await until(lambda: upstream.servers[0].limit == 7)

    asking(application, test)
    assert application.asked == 2


def test_application_that_is_there_later_is_asked_then(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr("gateway.upstream.capabilities.FIRST_PAUSE", 0.01)
    path = str(tmp_path / "app.sock")
    application = Application(values_record(ANSWER))

    async def main() -> None:
        async with gateway_of(config_of(f"unix:{path}")) as served:
            upstream = upstream_of(served)
            assert await ask(served) == 502
            async with backend(application, path=path):
                await until(lambda: upstream.servers[0].told is not None)
                assert await ask(served) == 200

    run(main)


def test_question_has_its_place_among_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that serves one connection could not answer while an idle one is kept."""
    monkeypatch.setattr("gateway.upstream.capabilities.INTERVAL", 0.05)
    free = trio.Lock()

    class Single(Application):
        async def __call__(self, stream: trio.SocketStream) -> None:
            async with free:
                await super().__call__(stream)

    application = Single(values_record({"FCGI_MAX_CONNS": "1"}))

    async def test(served: Served, upstream: Upstream) -> None:
        await until(lambda: application.asked == 1)
        assert await ask(served) == 200
        assert upstream.snapshot().servers[0].idle == 1
        await until(lambda: application.asked == 2)

    asking(application, test)


def test_status_has_what_was_told() -> None:
    application = Application(values_record(ANSWER))

    async def test(served: Served, upstream: Upstream) -> None:
        await until(lambda: upstream.servers[0].told is not None)
        handler = served.service.router.routes[0].handler
        assert isinstance(handler, Observed)
        assert handler.snapshot().servers[0].told == Capabilities(2, 50)

    asking(application, test)
