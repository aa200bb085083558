"""When a server that keeps a request waiting counts as frozen; that it is then asked no further."""

from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from gateway.upstream.balance import RoundRobin
from gateway.upstream.group import ServerGroup
from gateway.upstream.lookout import Lookout
from gateway.upstream.server import Server
from tests.gateway.served import LAST_GET, Served, backend, gateway_of, response, run
from tests.gateway.upstream.policies import HEALTH
from tests.gateway.upstream.test_queue import make_server
from tests.gateway.upstream.test_upstream import POST, PUT, named, upstream_of

pytestmark = pytest.mark.usefixtures("quick_sweeper")


def group_of(*servers: Server) -> ServerGroup:
    return ServerGroup("app", servers, balance=RoundRobin(), health=HEALTH)


async def _server(port: int) -> Server:
    return make_server(port)


@pytest.fixture
def first() -> Server:
    return trio.run(_server, 1)


@pytest.fixture
def second() -> Server:
    return trio.run(_server, 2)


def looking_out(group: ServerGroup, server: Server, *tried: Server) -> Lookout:
    return Lookout(group, server, tried, seconds=5.0, now=100.0, until=120.0)


def test_server_that_answers_nobody_is_frozen(first: Server, second: Server) -> None:
    first.answered(0.1, 99.0)  # before the request
    second.answered(0.1, 104.0)
    assert looking_out(group_of(first, second), first).is_frozen(105.0)


def test_server_that_answers_others_takes_its_time(first: Server, second: Server) -> None:
    lookout = looking_out(group_of(first, second), first)
    first.answered(0.1, 104.0)
    assert not lookout.is_frozen(105.0)
    first.answered(0.1, 106.0)
    assert not lookout.is_frozen(110.0)
    assert lookout.is_frozen(115.0)  # it has frozen meanwhile


def test_server_is_waited_for_where_no_other_can_be_asked(first: Server, second: Server) -> None:
    group = group_of(first, second)
    assert not looking_out(group, first, second).is_frozen(105.0)
    second.health.mark_down("down")
    assert not looking_out(group, first).is_frozen(105.0)
    assert not looking_out(group_of(first), first).is_frozen(105.0)


def test_there_is_no_other_try_after_the_time_of_retries(first: Server, second: Server) -> None:
    lookout = looking_out(group_of(first, second), first)
    assert lookout.next_look(100.0) == 105.0
    assert lookout.next_look(114.0) == 119.0
    assert lookout.next_look(115.0) == inf
    assert not lookout.is_frozen(120.0)


def test_silence_counts_from_the_last_answer(first: Server, second: Server) -> None:
    """Counted from the last look, a server that froze after the first would have time until the third."""
    lookout = looking_out(group_of(first, second), first)
    first.answered(0.1, 100.5)
    assert not lookout.is_frozen(105.0)
    assert lookout.next_look(105.0) == 105.5
    assert lookout.is_frozen(105.5)


# ---- in a backend


def with_frozen(test: Callable[[Served], Awaitable[None]], **options: Any) -> list[Any]:
    """Run *test* with a frozen server and two that answer; what was logged.

    Time passes by 5 seconds where a request waits for the frozen one.
    """
    logs: list[Any] = []
    clock = trio.testing.MockClock(rate=1.0)

    async def frozen(stream: trio.SocketStream) -> None:
        """It takes what is sent, and says nothing."""
        while await stream.receive_some(65536):
            await trio.testing.wait_all_tasks_blocked()
            clock.jump(5.0)

    async def main() -> None:
        nonlocal logs
        async with backend(frozen) as one, backend(named(b"two")) as two, backend(named(b"three")) as three:
            targets = [f"http://{each.address}" for each in (one, two, three)]
            config = {"backends": {"app": {"http": targets, **options}}, "routes": [{"backend": "app"}]}
            async with gateway_of(config) as served:
                with capture_logs() as logs:
                    await test(served)

    run(main, seconds=90.0, clock=clock)
    return logs


SOON = {"per_try": "4s"}


@pytest.mark.parametrize("request_", [LAST_GET, PUT % (4, b"body")], ids=["GET", "PUT"])
def test_request_to_a_frozen_server_is_answered_by_another(request_: bytes) -> None:
    """And the frozen one is left out, so that only a few requests have to wait."""

    async def test(served: Served) -> None:
        for _ in range(20):
            assert response(await served.ask(request_)).status == 200
        assert not upstream_of(served).servers[0].health.up

    logs = with_frozen(test, retry=SOON, health={"eject_time": "1h"})
    failed = [entry for entry in logs if entry["event"] == "backend try failed"]
    assert len(failed) == 3
    for entry in failed:
        assert (entry["cause"], entry["phase"]) == ("http_response_timeout", "first byte")
        assert entry["detail"] == "no byte for 4 s, nor an answer to anybody else"


def test_other_requests_wait_for_the_first_byte() -> None:
    """What must not be sent twice is not, whoever else could answer."""

    async def test(served: Served) -> None:
        statuses = [response(await served.ask(POST % (4, b"body"))).status for _ in range(3)]
        assert sorted(statuses) == [200, 200, 504]

    logs = with_frozen(test, retry=SOON, timeouts={"first_byte": "5s"})
    (failed,) = [entry for entry in logs if entry["event"] == "backend failed"]
    assert failed["detail"] == "nothing was received in time"


def test_per_try_of_0_waits_for_the_first_byte() -> None:
    async def test(served: Served) -> None:
        for _ in range(3):
            assert response(await served.ask(LAST_GET)).status == 200

    logs = with_frozen(test, retry={"per_try": "0s"}, timeouts={"first_byte": "5s"})
    (failed,) = [entry for entry in logs if entry["event"] == "backend try failed"]
    assert failed["detail"] == "nothing was received in time"
