"""A loop that is blocked is told about: by its own watchdog, in a daemon, over both loops and versions."""

import http.client
import io
import json
import os
import pdb
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import anyio
import anyio.lowlevel
import pytest
import trio
from structlog.testing import capture_logs

from gateway.runtime.watchdog import Watchdog
from tests.conformance.asgi_client import ask, hosting, run, websocket
from tests.gateway.served import until
from tests.gateway.test_daemon import daemon

BLOCKED, GOES_ON = "event loop is blocked", "event loop goes on"


def told(logs: list[Any], event: str, path: str | None = None) -> list[Any]:
    """A loaded machine may be told about, too; not with that path."""
    return [entry for entry in logs if entry["event"] == event and entry.get("path") == path]


def block_until(condition: Callable[[], object]) -> None:
    """As applications do it that wait without ``await``."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("version", ["1.1", "2"])
def test_application_and_request_are_named(loop: str, version: str) -> None:
    """Once for each blockage, with the stack, and again when it is over."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while not told(logs, BLOCKED, scope["path"]):
            # What has begun before is told of without the path, and once only.
            enough = time.monotonic() + 1
            block_until(lambda: told(logs, BLOCKED, scope["path"]) or time.monotonic() > enough)  # noqa: B023
            due = anyio.current_time() + 0.1
            while anyio.current_time() < due:
                await anyio.lowlevel.checkpoint()
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            return
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"ok"})

    async def main() -> None:
        async with (
            hosting(app, loop, lifespan="off", mount="/m") as served,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(Watchdog(0.05).run)
            assert (await ask(served, version, "/m/slow?q", method="POST")).body == b"ok"
            await until(lambda: bool(told(logs, GOES_ON, "/m/slow")))
            async with websocket(served, version, "/m/socket") as (client, _):
                await client.receive_close()
            await until(lambda: bool(told(logs, GOES_ON, "/m/socket")))
            nursery.cancel_scope.cancel()

    with capture_logs() as logs:
        run(main)
    (first,), (second,) = told(logs, BLOCKED, "/m/slow"), told(logs, BLOCKED, "/m/socket")
    assert (first["backend"], first["method"]) == ("api", "POST")
    assert (second["backend"], second["method"]) == ("api", "websocket")
    assert first["log_level"] == "warning"
    assert "block_until" in first["stack"]
    for blocked in (first, second):
        (over,) = told(logs, GOES_ON, blocked["path"])
        assert over["seconds"] >= blocked["seconds"]
        assert over["backend"] == "api"
        assert "stack" not in over


class Elementwise:
    """Compares as arrays do: with a result that is neither true nor false."""

    def __eq__(self, other: object) -> "Elementwise":  # type: ignore[override]
        return self

    def __bool__(self) -> bool:
        raise ValueError("ambiguous")


@pytest.mark.parametrize("kind", [Elementwise(), "http"])
def test_other_code_is_told_by_its_stack(kind: object) -> None:
    """Whatever its variables hold that looks like a scope."""

    async def main() -> None:
        mine = {"type": kind, "path": None, "extensions": None}
        async with trio.open_nursery() as nursery:
            await nursery.start(Watchdog(0.05).run)
            block_until(lambda: told(logs, BLOCKED))
            await until(lambda: bool(told(logs, GOES_ON)))
            nursery.cancel_scope.cancel()
        assert mine

    with capture_logs() as logs:
        run(main)
    entry = told(logs, BLOCKED)[-1]
    assert "block_until" in entry["stack"]


class Reading:
    """The terminal of a developer who looks at what the debugger says for a while."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def readline(self) -> str:
        enough = time.monotonic() + self._seconds
        block_until(lambda: time.monotonic() > enough)
        return "continue\n"


def test_a_breakpoint_is_no_blockage() -> None:
    """The prompt is not written over; what blocks behind it is told."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(Watchdog(0.05).run)
            debugger = pdb.Pdb(stdin=cast("IO[str]", Reading(0.5)), stdout=said, nosigint=True, readrc=False)
            debugger.use_rawinput = False
            debugger.set_trace()
            quiet.append(not told(logs, BLOCKED))
            block_until(lambda: told(logs, BLOCKED))
            nursery.cancel_scope.cancel()

    said, quiet = io.StringIO(), list[bool]()
    with capture_logs() as logs:
        run(main)
    assert "(Pdb)" in said.getvalue()
    assert quiet == [True]


def test_code_in_c_that_lets_no_thread_run() -> None:
    """It is told, too, though afterwards."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(Watchdog(0.02).run)
            while not any(entry["seconds"] for entry in entries()):
                began = time.monotonic()
                sum(range(20_000_000))
                taken.append(time.monotonic() - began)
                # Not told where the machine stood still meanwhile.
                with trio.move_on_after(1):
                    await until(lambda: any(entry["seconds"] for entry in entries()))
            nursery.cancel_scope.cancel()

    def entries() -> list[Any]:
        return told(logs, GOES_ON) + told(logs, "event loop was blocked")

    taken: list[float] = []
    with capture_logs() as logs:
        run(main)
    assert 0 < max(entry["seconds"] for entry in entries()) <= max(taken) + 20


def test_its_thread_ends_with_it() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(Watchdog(3600).run)
            assert "watchdog" in [thread.name for thread in threading.enumerate()]
            nursery.cancel_scope.cancel()
        assert "watchdog" not in [thread.name for thread in threading.enumerate()]

    run(main)


APPLICATION = """
import os, time

async def app(scope, receive, send):
    if scope["path"] == "/block":
        while not os.path.exists("go on"):
            time.sleep(0.01)
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"ok"})
"""


def config(**top: Any) -> str:
    return json.dumps(
        {
            "listeners": [{"http": "127.0.0.1:0"}],
            "backends": {"app": {"asgi": "blocking_application:app", "lifespan": "off"}},
            "routes": [{"backend": "app"}],
            **top,
        }
    )


@pytest.mark.parametrize(
    "top", [{"blocked_after": "200ms"}, {"blocked_after": "4s", "debug": True}], ids=["plain", "debug"]
)
def test_daemon_tells(tmp_path: Path, top: dict[str, Any]) -> None:
    """With ``debug: true`` of a quarter of it."""
    (tmp_path / "blocking_application.py").write_text(APPLICATION)
    with daemon(tmp_path, config(**top)) as running:
        running.ready()
        client = http.client.HTTPConnection(*running.address, timeout=20)
        client.request("GET", "/block")
        entry = running.wait_for(BLOCKED)
        assert (entry["backend"], entry["path"]) == ("app", "/block")
        assert "blocking_application.py" in entry["stack"]
        (tmp_path / "go on").touch()
        assert client.getresponse().read() == b"ok"
        assert running.wait_for(GOES_ON)["path"] == "/block"
        client.close()
        running.process.terminate()
        running.end()


def test_process_that_was_stopped_is_not_blocked(tmp_path: Path) -> None:
    (tmp_path / "blocking_application.py").write_text(APPLICATION)
    with daemon(tmp_path, config(blocked_after="1s")) as running:
        running.ready()
        running.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, running.process.pid, os.WSTOPPED | os.WNOWAIT)
        time.sleep(2)  # longer than what is told
        running.process.send_signal(signal.SIGCONT)
        client = http.client.HTTPConnection(*running.address, timeout=20)
        client.request("GET", "/")
        assert client.getresponse().read() == b"ok"
        client.close()
        running.process.terminate()
        assert "blocked" not in running.end()
