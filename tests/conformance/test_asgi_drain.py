"""Peers.md J18, ◇14: before the daemon cuts what still runs, applications are told.

At once those that wait for it (``gateway.shutdown``), and WebSockets by their end (1012) unless the
application waits for it; after ``timeouts.drain`` responses that have begun, by ``http.disconnect``.
"""

import http.client
import json
import signal
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from tests.conformance.asgi_client import ask, conversing, hosting, run, websocket
from tests.conformance.test_asgi_rules import (
    ACCEPT,
    BODY,
    MORE,
    START,
    Sockets,
    answer_ok,
    both_loops,
    each,
    errors,
)
from tests.gateway.served import Served, until
from tests.gateway.test_daemon import daemon


def stop(served: Served) -> None:
    """What the daemon does first when it stops."""
    served.notice.begin()
    served.drain()


@each
def test_application_that_waits_for_it_ends_its_response(loop: str, version: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(MORE)
        await scope["extensions"]["gateway.shutdown"]["wait"]()
        await scope["extensions"]["gateway.shutdown"]["wait"]()  # it is over already
        await send({**BODY, "body": b"bye"})

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served, conversing(served, version) as conversation:
            await conversation.begin()
            await conversation.until(lambda answered: answered.body)
            stop(served)
            answered = await conversation.answer()
            assert (answered.body, answered.ended) == (b"okbye", True)

    run(main)


@each
def test_wait_can_be_cancelled(loop: str, version: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        with anyio.move_on_after(0):
            await scope["extensions"]["gateway.shutdown"]["wait"]()
        await answer_ok(scope, receive, send)

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served:
            assert (await ask(served, version)).body == b"ok"
            await until(lambda: served.notice.listeners == 0)
            stop(served)

    run(main)


@each
@pytest.mark.parametrize("completes", [True, False], ids=["ends its response", "returns"])
def test_listening_application_is_told_in_the_end(loop: str, version: str, completes: bool) -> None:
    """It may still send. If it just returns the client sees that the response is cut; no error is logged."""
    told: list[str] = []
    listening = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({**START, "headers": [(b"content-type", b"text/event-stream")]})
        await send(MORE)
        listening.set()
        told.append((await receive())["type"])
        told.append((await receive())["type"])
        await send({**MORE, "body": b"bye"})
        if completes:
            await send({"type": "http.response.body"})

    async def main() -> None:
        async with hosting(app, loop, lifespan="off") as served, conversing(served, version) as conversation:
            await conversation.begin()
            await conversation.until(lambda answered: answered.body)
            await listening.wait()
            await trio.testing.wait_all_tasks_blocked()
            stop(served)
            await trio.testing.wait_all_tasks_blocked()
            assert told == []
            served.notice.hurry()
            answered = await conversation.answer()
            assert (answered.body, answered.ended) == (b"okbye", completes)
            await until(lambda: served.notice.listeners == 0)

    with capture_logs() as logs:
        run(main)
    assert told == ["http.disconnect", "http.disconnect"]
    assert errors(logs) == []


@each
def test_response_that_has_not_begun_is_not_given_up(loop: str, version: str) -> None:
    """Frameworks cancel what they do when they are told: an answer may still come."""
    told: list[str] = []
    listening = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def listen() -> None:
            await receive()
            listening.set()
            told.append((await receive())["type"])
            heard.set()

        heard = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            await scope["extensions"]["gateway.shutdown"]["wait"]()
            assert told == []
            await send(START)
            if scope["path"] == "/streams":
                await send(MORE)  # now it has
                await heard.wait()
            await send(BODY)

    async def main() -> None:
        nonlocal listening
        for target, body in (("/", b"ok"), ("/streams", b"okok")):
            listening = trio.Event()
            told.clear()
            async with (
                hosting(app, loop, lifespan="off") as served,
                conversing(served, version) as conversation,
            ):
                await conversation.begin(target)
                await listening.wait()
                stop(served)
                served.notice.hurry()
                assert (await conversation.answer()).body == body

    run(main)


@each
def test_websocket_whose_application_does_not_wait_is_closed_at_once(loop: str, version: str) -> None:
    received: list[Any] = []

    async def act(receive: Any, send: Any) -> None:
        await send(ACCEPT)
        await send({"type": "websocket.send", "text": "hello"})
        received.append(await receive())

    app = Sockets(act)

    async def main() -> None:
        async with (
            hosting(app, loop, lifespan="off") as served,
            websocket(served, version) as (client, _),
        ):
            assert await client.receive() == "hello"
            stop(served)
            assert await client.receive_close() == (1012, "")
            await app.ended.wait()

    run(main)
    assert [(message["type"], message["code"]) for message in received] == [("websocket.disconnect", 1012)]


@each
@pytest.mark.parametrize("closes", [True, False], ids=["closes", "goes on"])
def test_websocket_whose_application_waits_may_say_goodbye(loop: str, version: str, closes: bool) -> None:
    """... until it is urgent."""
    app: Sockets

    async def act(receive: Any, send: Any) -> None:
        await send(ACCEPT)
        await send({"type": "websocket.send", "text": "hello"})
        await app.scopes[0]["extensions"]["gateway.shutdown"]["wait"]()
        await send({"type": "websocket.send", "text": "bye"})
        if closes:
            await send({"type": "websocket.close", "code": 1001, "reason": "deploying"})
        assert (await receive())["type"] == "websocket.disconnect"

    app = Sockets(act)

    async def main() -> None:
        async with (
            hosting(app, loop, lifespan="off") as served,
            websocket(served, version) as (client, _),
        ):
            assert await client.receive() == "hello"
            await trio.testing.wait_all_tasks_blocked()
            stop(served)
            assert await client.receive() == "bye"
            if not closes:
                await trio.testing.wait_all_tasks_blocked()
                served.notice.hurry()
            assert await client.receive_close() == ((1001, "deploying") if closes else (1012, ""))
            await app.ended.wait()

    run(main)


# --- the daemon

APPLICATION: Final = """
async def app(scope, receive, send):
    if scope["path"] == "/waits":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await scope["extensions"]["gateway.shutdown"]["wait"]()
        await send({"type": "http.response.body", "body": b" told"})
    elif scope["path"] == "/listens":
        await receive()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        message = await receive()
        await send({"type": "http.response.body", "body": b" " + message["type"].encode()})
"""


@both_loops
@pytest.mark.parametrize(
    ("target", "timeouts", "said"),
    [
        ("/waits", {"shutdown": "1m", "drain": "1m"}, b"begun told"),
        ("/listens", {"shutdown": "1m", "drain": "100ms"}, b"begun http.disconnect"),
        # However long drain is, half of the time is for what is to be done then.
        ("/listens", {"shutdown": "4s", "drain": "1m"}, b"begun http.disconnect"),
    ],
)
def test_daemon_tells(tmp_path: Path, loop: str, target: str, timeouts: dict[str, str], said: bytes) -> None:
    (tmp_path / "long_application.py").write_text(APPLICATION)
    config = {
        "listeners": [{"http": "127.0.0.1:0"}],
        "timeouts": timeouts,
        "backends": {"app": {"asgi": "long_application:app", "loop": loop, "lifespan": "off"}},
        "routes": [{"backend": "app"}],
    }
    with daemon(tmp_path, json.dumps(config)) as running:
        running.ready()
        client = http.client.HTTPConnection(*running.address, timeout=20)
        client.request("GET", target)
        response = client.getresponse()
        begun = response.read1()
        running.process.send_signal(signal.SIGTERM)
        assert begun + response.read() == said
        client.close()
        assert "cut off" not in running.end()
