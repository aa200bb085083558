"""What becomes of an accepted socket before anything was read of it."""

import socket
from pathlib import Path

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from gateway.front.entrance import Entrance
from gateway.net.pump import SWEEP_INTERVAL
from gateway.request import Request, Responder, respond
from gateway.tls.context import Certificates
from tests.gateway.http2_client import Client, talking
from tests.gateway.served import (
    GET,
    LAST_GET,
    Answering,
    Served,
    pumping,
    read_all,
    read_until,
    run,
    service_of,
)
from tests.gateway.tls.secured import certificate, tls_options


async def unasked(request: Request, responder: Responder) -> None:
    raise AssertionError


@pytest.mark.parametrize("secure", [False, True], ids=["clear text", "TLS"])
def test_a_client_that_cannot_be_watched_is_turned_away(secure: bool, tmp_path: Path) -> None:
    """epoll_ctl(2): no memory, or too many descriptors for a user. Here it is one that is watched already."""
    certificates = Certificates(tls_options(), [certificate(tmp_path, "localhost")]) if secure else None

    async def main() -> None:
        async with pumping() as pump:
            entrance = Entrance(service_of(pump, Answering(unasked)), certificates=certificates)
            for _ in range(2):
                client, accepted = socket.socketpair()
                with client:
                    descriptor = accepted.fileno()
                    pump.watch(descriptor, lambda: None)
                    await entrance.serve(accepted)
                    assert accepted.fileno() < 0
                    assert client.recv(1) == b""

    with capture_logs() as logs:
        run(main)
    assert [(each["log_level"], each["reason"]) for each in logs] == [
        ("error", "it cannot be watched: File exists")
    ] * 2


def test_a_request_that_comes_with_its_connection_has_not_waited_in_an_idle_daemon() -> None:
    """Nothing has told the pump of the time since it has last had something to do."""
    seconds: list[float] = []

    async def answer(request: Request, responder: Responder) -> None:
        responder.start(204, [])
        responder.end()
        await responder.flush()

    async def main() -> None:
        async with pumping() as pump:
            service = service_of(pump, Answering(answer))
            service.access_log = lambda request, status, size, duration: seconds.append(duration)
            client, accepted = socket.socketpair()
            with client:
                client.sendall(LAST_GET)
                client.shutdown(socket.SHUT_WR)
                clock.jump(SWEEP_INTERVAL / 2)
                await Entrance(service).serve(accepted)
                assert client.recv(12) == b"HTTP/1.1 204"

    clock = trio.testing.MockClock()
    trio.run(main, clock=clock)
    assert seconds == [0.0]


def test_room_is_made_by_the_next_connection_if_one_takes_its_time_to_end() -> None:
    """Who does not read, nor answers a PING (RFC 9113 6.8), keeps no others in their places."""

    async def answer(request: Request, responder: Responder) -> None:
        await respond(responder, 200, [], b"ok")

    async def test(client: Client, entrance: Entrance, served: Served) -> None:
        await client.ask()
        async with await served.connect() as other:
            await other.send_all(GET)
            await read_until(other, b"ok")
            assert entrance.end_idle_one()
            assert entrance.end_idle_one()
            assert await read_all(other) == b""
            assert not entrance.end_idle_one()

    talking(test, answer)
