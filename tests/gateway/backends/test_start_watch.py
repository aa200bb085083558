"""An application that takes long to load, or to start, is told about: with the place where it stands."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.backends.start_watch import StartWatch
from tests.gateway.test_daemon import daemon

# Told sooner than it would be, and as often as it is looked for.
PROGRAM = (
    "-c",
    "from gateway.backends import start_watch\n"
    "start_watch.StartWatch.__init__.__kwdefaults__['first'] = 0.05\n"
    "from gateway.__main__ import main\n"
    "main()\n",
)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def stay(condition: Callable[[], object]) -> None:
    wait_until(condition)


def test_it_is_told_again_each_time_that_it_has_taken_twice_as_long() -> None:
    with capture_logs() as logs, StartWatch("api", "loading", below=stay, first=0.02):
        stay(lambda: len(logs) == 3)
    *still, took = logs
    assert {entry["event"] for entry in still} == {"application is still loading"}
    assert {(entry["backend"], entry["pid"]) for entry in still} == {("api", os.getpid())}
    assert all("in wait_until" in entry["stack"] for entry in still)
    assert all("in stay" not in entry["stack"] for entry in still)  # what is below it
    assert took["event"] == "application took long loading"
    assert took["seconds"] >= 0.1  # 0.02, 0.04, 0.08
    assert {entry["log_level"] for entry in logs} == {"warning"}


def test_who_is_done_soon_is_not_told_of() -> None:
    with capture_logs() as logs, StartWatch("api", "loading"):
        wait_until(is_watching)
    wait_until(lambda: not is_watching())
    assert logs == []


def is_watching() -> bool:
    """Whether its thread runs."""
    code = StartWatch._watch.__code__
    return any(frame.f_code is code for frame in sys._current_frames().values())


def test_who_fails_is_told_of_by_what_has_failed() -> None:
    with capture_logs() as logs, pytest.raises(ValueError, match="no"):  # noqa: PT012, SIM117
        with StartWatch("api", "loading", first=0.01):
            wait_until(lambda: logs)
            raise ValueError("no")
    assert {entry["event"] for entry in logs} == {"application is still loading"}


def test_code_in_c_that_lets_no_thread_run_is_told_of_afterwards() -> None:
    with capture_logs() as logs, StartWatch("api", "loading", first=0.02):
        sum(range(20_000_000))
    assert logs[-1]["event"] == "application took long loading"


CONFIG = """
listeners: [{http: "127.0.0.1:0"}]
backends: {app: {asgi: "slow:app"}}
routes: [{backend: app}]
"""

# Both wait until nobody writes to the FIFO any more: the one in its import, the other in its startup.
IMPORT = """
def connect():
    with open("gate") as gate:
        gate.read()
connect()

async def app(scope, receive, send):
    raise NotImplementedError
"""

STARTUP = """
import asyncio

def connect():
    with open("gate") as gate:
        gate.read()

async def app(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    %s
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
"""


@pytest.mark.parametrize(
    ("code", "doing", "function"),
    [
        (IMPORT, "loading", "connect"),
        (STARTUP % "connect()", "starting", "connect"),
        (STARTUP % "await asyncio.get_running_loop().run_in_executor(None, connect)", "starting", None),
    ],
)
def test_daemon_tells_where_its_application_stands(
    tmp_path: Path, code: str, doing: str, function: str | None
) -> None:
    (tmp_path / "slow.py").write_text(code)
    os.mkfifo(tmp_path / "gate")
    with daemon(tmp_path, CONFIG, program=PROGRAM) as running:
        writer = os.open(tmp_path / "gate", os.O_RDWR)
        for _ in range(2):
            told = running.wait_for(f"application is still {doing}")
            while not stands(told, function):  # it may not have come there yet
                told = running.wait_for(f"application is still {doing}")
            assert (told["backend"], told["pid"]) == ("app", running.process.pid)
        os.close(writer)
        assert running.wait_for("application took long")["event"] == f"application took long {doing}"
        running.ready()
        running.process.terminate()
        running.end()


def stands(told: dict[str, Any], function: str | None) -> bool:
    """Whether it stands in *function*, or else in no code of the application."""
    if function is None:
        return "stack" not in told
    return f", in {function}\n" in told["stack"] and told["stack"].rstrip().endswith("gate.read()")
