"""concurrency: how many requests an ASGI application has at the same time."""

import sys
from types import ModuleType
from typing import Any

import pytest
import trio
import trio.testing

from tests.gateway.served import gateway_of, read_until, response, run


class Holding:
    """An application that answers when it is let go."""

    def __init__(self) -> None:
        self.running = 0
        self.go_on = trio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
        self.running += 1
        await self.go_on.wait()
        self.running -= 1
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"hello"})


@pytest.fixture
def application(monkeypatch: pytest.MonkeyPatch) -> Holding:
    module: Any = ModuleType("concurrency_application_of_a_test")
    module.app = Holding()
    monkeypatch.setitem(sys.modules, module.__name__, module)
    holding: Holding = module.app
    return holding


def config(**options: Any) -> dict[str, Any]:
    backend = {"asgi": "concurrency_application_of_a_test:app", "loop": "trio", "lifespan": "off", **options}
    return {"backends": {"app": backend}, "routes": [{"backend": "app"}]}


GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
WEBSOCKET = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def test_one_too_many_is_answered_503(application: Holding) -> None:
    """And told when to come back; a WebSocket has its place as long as it is open."""

    async def main() -> None:
        async with gateway_of(config(concurrency=2, queue=1, queue_time="9s")) as served:
            answers: list[bytes] = []

            async def ask() -> None:
                answers.append(await served.ask(GET))

            async with trio.open_nursery() as nursery, await served.connect() as websocket:
                await websocket.send_all(WEBSOCKET)
                assert (await read_until(websocket, b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
                nursery.start_soon(ask)
                nursery.start_soon(ask)
                while not answers:  # whichever of those that come now is the first, one is too many
                    nursery.start_soon(ask)
                    await trio.testing.wait_all_tasks_blocked(0.02)
                assert application.running == 2
                refused = response(answers[0])
                assert (refused.status, refused.headers["retry-after"]) == (503, "9")
                assert "error=connection_limit_reached" in refused.headers["proxy-status"]
                application.go_on.set()
            assert b"hello" in await served.ask(GET)

    run(main, seconds=60)


def test_without_a_bound_nothing_waits(application: Holding) -> None:
    async def main() -> None:
        async with gateway_of(config()) as served, trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(served.ask, GET)
            while application.running < 20:
                await trio.lowlevel.checkpoint()
            application.go_on.set()

    run(main, seconds=60)
