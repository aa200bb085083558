"""What becomes of an accepted socket before anything was read of it."""

import socket
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.front.entrance import Entrance
from gateway.front.service import Limits, Service, Timeouts
from gateway.request import Request, Responder
from gateway.router import Route, Router
from gateway.tls.context import Certificates, TlsOptions
from tests.gateway.served import Answering, pumping, run
from tests.gateway.tls.secured import certificate


async def unasked(request: Request, responder: Responder) -> None:
    raise AssertionError


@pytest.mark.parametrize("secure", [False, True], ids=["clear text", "TLS"])
def test_a_client_that_cannot_be_watched_is_turned_away(secure: bool, tmp_path: Path) -> None:
    """epoll_ctl(2): no memory, or too many descriptors for a user. Here it is one that is watched already."""
    certificates = Certificates(TlsOptions(), [certificate(tmp_path, "localhost")]) if secure else None

    async def main() -> None:
        async with pumping() as pump:
            router = Router([Route(Answering(unasked))])
            service = Service(pump=pump, router=router, timeouts=Timeouts(), limits=Limits())
            entrance = Entrance(service, certificates=certificates)
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
