"""Processes of spawned applications come and go under requests, none of which may notice."""

import json
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from gateway.programs.restarts import LONGEST_PAUSE
from tests.gateway.served import LAST_GET, Log, Response, Served, gateway_of, response, soon

WSGI = """
import os, sys, time
hoard = []

def app(environ, start_response):
    body = environ["wsgi.input"].read()
    exec(environ.get("HTTP_X_DO", ""))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d %s" % (os.getpid(), body)]
"""

# A program of the plainest kind, by SCGI: one request after the other, and SIGTERM kills it in the middle.
COMMAND = """
import os, socket, sys, time
listener = socket.socket(fileno=0)
hoard = []
while True:
    connection, _ = listener.accept()
    with connection, connection.makefile("rb") as stream:
        size = int(b"".join(iter(lambda: stream.read(1), b":")))
        words = stream.read(size).split(b"\\0")[:-1]
        variables = dict(zip(words[::2], words[1::2]))
        stream.read(1)
        body = stream.read(int(variables[b"CONTENT_LENGTH"]))
        exec(variables.get(b"HTTP_X_DO", b""))
        connection.sendall(b"Content-Type: text/plain\\r\\n\\r\\n%d %s" % (os.getpid(), body))
"""


@pytest.fixture
def directory(tmp_path: Path) -> str:
    (tmp_path / "spawned_app.py").write_text(WSGI)
    return str(tmp_path)


def config(kind: str, spawn: dict[str, Any], **options: Any) -> dict[str, Any]:
    spawn = {"stop_time": "60s", **spawn}
    return {
        "debug": True,
        "backends": {"app": {kind: {"spawn": spawn}, **options}},
        "routes": [{"backend": "app"}],
    }


def wsgi(directory: str, **spawn: Any) -> dict[str, Any]:
    return {"wsgi": "spawned_app:app", "directory": directory, **spawn}


def command(**spawn: Any) -> dict[str, Any]:
    return {"command": [sys.executable, "-u", "-c", COMMAND], **spawn}


async def post(served: Served, do: str) -> Response:
    head = f"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Do: {do}\r\nContent-Length: 1\r\n\r\n"
    return response(await served.ask(head.encode() + b"x"))


async def pid_of(served: Served, do: str = "") -> int:
    found = await post(served, do)
    assert found.status == 200, found.body
    return int(found.body.split()[0])


def run(configuration: dict[str, Any], test: Callable[[Served, Log], Awaitable[None]]) -> Log:
    """Run *test* while the gateway runs; what was logged."""
    log = Log()

    async def main() -> None:
        with trio.fail_after(90):
            async with gateway_of(configuration) as served:
                await test(served, log)

    with capture_logs(processors=[log]):
        trio.run(main)
    return log


# ---- nothing is lost

KINDS: dict[str, tuple[str, Callable[..., dict[str, Any]], dict[str, Any]]] = {
    "fastcgi": ("fastcgi", wsgi, {}),
    "fastcgi-kept": ("fastcgi", wsgi, {"keep_connection": True}),
    "scgi": ("scgi", wsgi, {}),
    "uwsgi": ("uwsgi", wsgi, {}),
    "command": ("scgi", lambda _, **spawn: command(**spawn), {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_request_fails_while_processes_are_replaced(kind: str, directory: str) -> None:
    """Each process is replaced after three requests, in the middle of all others."""
    protocol, make, options = KINDS[kind]
    answers: Counter[int] = Counter()

    async def ask(served: Served, log: Log) -> None:
        while len(log["application process stopped"]) < 6:
            answers[await pid_of(served)] += 1

    async def test(served: Served, log: Log) -> None:
        async with trio.open_nursery() as clients:
            for _ in range(4):
                clients.start_soon(ask, served, log)

    spawn = make(directory, processes=2, max_requests=3, max_requests_jitter=2)
    log = run(config(protocol, spawn, **options), test)
    assert len(answers) >= 6
    assert {entry["reason"] for entry in log["application process stops"]} == {"max_requests"}
    assert log["application process ended"] == []
    # By the signal, not by force; our own server ends by itself.
    ends = {entry["end"] for entry in log["application process stopped"]}
    assert ends == {"signal 15 (SIGTERM)" if kind == "command" else "exit status 0"}


@pytest.mark.parametrize("kind", ["fastcgi-kept", "uwsgi", "command"])
def test_processes_follow_the_requests(kind: str, directory: str) -> None:
    """None, one for the first request, more for several, none again."""
    protocol, make, options = KINDS[kind]

    async def burst(served: Served, log: Log) -> None:
        started = len(log["application process started"])
        await pid_of(served)
        async with trio.open_nursery() as clients:
            for _ in range(3):
                clients.start_soon(pid_of, served, "time.sleep(0.5)")
            await soon(lambda: len(log["application process started"]) >= started + 2)
        await soon(lambda: len(log["application process stopped"]) == len(log["application process started"]))

    async def test(served: Served, log: Log) -> None:
        assert log["application process started"] == []
        await burst(served, log)
        await burst(served, log)

    processes = {"min": 0, "max": 3, "spare": 0, "idle_time": "50ms"}
    log = run(config(protocol, make(directory, processes=processes), **options), test)
    assert log["backend failed"] == []
    assert {entry["reason"] for entry in log["application process stops"]} == {"idle"}


def test_first_request_waits_for_a_slow_start(directory: str) -> None:
    slow = wsgi(directory, wsgi="slow_app:app", processes={"min": 0})
    Path(directory, "slow_app.py").write_text("import time; time.sleep(1)\nfrom spawned_app import app\n")

    async def test(served: Served, _log: Log) -> None:
        async with trio.open_nursery() as clients:
            for _ in range(5):
                clients.start_soon(pid_of, served)

    log = run(config("uwsgi", slow), test)
    assert len(log["application process started"]) == 1


def test_running_request_outlives_the_order_to_stop(directory: str) -> None:
    """The process is spent in the middle of a long request, and finishes it."""
    os.mkfifo(Path(directory, "fifo"))

    async def test(served: Served, log: Log) -> None:
        found: list[int] = []

        async def long() -> None:
            found.append(await pid_of(served, f"open('{directory}/fifo').read()"))

        async with trio.open_nursery() as clients:
            clients.start_soon(long)
            fifo = await trio.to_thread.run_sync(Path(directory, "fifo").open, "w")
            with fifo:
                first = await pid_of(served)
                await soon(lambda: bool(log["application process stops"]))
                while await pid_of(served) == first:  # until it hears of that, it takes what comes
                    pass
        assert found == [first]

    run(config("uwsgi", wsgi(directory, max_requests=1)), test)


# ---- replacement


def test_process_that_hoards_memory_is_replaced(directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.spawn.processes.CHECK_INTERVAL", 0.05)

    async def test(served: Served, log: Log) -> None:
        hog = await pid_of(served, "hoard.append(bytearray(b'x' * 200_000_000))")
        await soon(lambda: bool(log["application process stopped"]))
        assert [entry["pid"] for entry in log["application process stopped"]] == [hog]
        assert await pid_of(served) != hog

    log = run(config("scgi", wsgi(directory, max_memory="150MiB")), test)
    assert [entry["reason"] for entry in log["application process stops"]] == ["max_memory"]


def test_memory_of_a_process_counts_after_a_while(directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With less than an application needs, processes would come and go without end."""
    monkeypatch.setattr("gateway.spawn.processes.CHECK_INTERVAL", 3600.0)

    async def test(served: Served, log: Log) -> None:
        first = await pid_of(served)
        assert await pid_of(served) == first

    log = run(config("scgi", wsgi(directory, max_memory="1MiB")), test)
    assert len(log["application process started"]) == 1


def test_old_process_is_replaced() -> None:
    async def test(served: Served, log: Log) -> None:
        old = await pid_of(served)
        await soon(lambda: bool(log["application process stopped"]))
        assert await pid_of(served) != old

    log = run(config("scgi", command(max_age="300ms", max_age_jitter="10ms")), test)
    assert "max_age" in {entry["reason"] for entry in log["application process stops"]}


# ---- who they are


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")
def test_processes_run_as_another_user_within_limits() -> None:
    # Our own Python may be where other users cannot look.
    python = shutil.which("python3", path="/usr/bin:/bin")
    if python is None:
        pytest.skip("there is no python3 for all users")
    facts = (
        "import resource; names = [os.environ[name] for name in ('HOME', 'LOGNAME', 'USER')];"
        "body = repr((os.getuid(), os.getgid(), resource.getrlimit(7), *names)).encode()"
    )
    expected = b"(33, 33, (99, 99), '/var/www', 'www-data', 'www-data')"
    spawn = {"command": [python, "-c", COMMAND], "user": "www-data", "limits": {"open_files": 99}}

    async def test(served: Served, _log: Log) -> None:
        found = await post(served, facts)
        assert found.body.split(b" ", 1)[1] == expected, found.body

    run(config("scgi", spawn), test)


# ---- trouble


def test_gives_up_after_too_many_deaths() -> None:
    """Said once, with the last words; requests do not wait for what will not come."""
    dying = {"command": ["/bin/sh", "-c", "echo the password is wrong >&2; exit 3"]}

    async def test(served: Served, log: Log) -> None:
        await soon(lambda: bool(log["application given up"]))
        for _ in range(2):
            found = response(await served.ask(LAST_GET))
            assert found.status == 503
            assert b"none is started any more; exit status 3" in found.body
            assert b"the password is wrong" in found.body

    log = run(config("scgi", {**dying, "give_up": {"deaths": 3, "within": "60s"}}), test)
    (said,) = log["application given up"]
    assert said["log_level"] == "error"
    assert "the password is wrong" in said["last_words"]
    assert len(log["application process started"]) == 3


def test_process_that_is_never_ready_is_ended(directory: str) -> None:
    Path(directory, "stuck_app.py").write_text("import time; time.sleep(1000)\n")

    async def test(_served: Served, log: Log) -> None:
        await soon(lambda: bool(log["application process ended"]))

    log = run(config("uwsgi", wsgi(directory, wsgi="stuck_app:app", startup_time="200ms")), test)
    assert log["application process ended"][0]["end"] in ("signal 15 (SIGTERM)", "signal 9 (SIGKILL)")
    assert log["application process not ready in time"]


def test_frozen_process_is_ended_by_force(directory: str) -> None:
    """It is stopped by SIGSTOP, and hears nothing."""

    async def test(served: Served, _log: Log) -> None:
        os.kill(await pid_of(served), signal.SIGSTOP)

    run(config("uwsgi", wsgi(directory, stop_time="100ms")), test)


def test_children_of_a_deaf_process_are_ended_with_it(tmp_path: Path) -> None:
    """Plack#238. The daemon's own stop; the child would hold the pipes for a quarter of an hour."""
    deaf = "import signal, subprocess; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    deaf += f"open({str(tmp_path / 'pid')!r}, 'w').write(str(subprocess.Popen(['sleep', '1000']).pid))\n"
    spawn = {"command": [sys.executable, "-c", deaf + COMMAND], "stop_time": "100ms", "processes": 2}

    async def test(served: Served, _log: Log) -> None:
        await pid_of(served)

    run(config("scgi", spawn), test)
    child = int((tmp_path / "pid").read_text())
    # Nobody of ours is its parent: it is gone as soon as its new parent has looked.
    trio.run(soon, lambda: _is_over(child))


def _is_over(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_flood_of_output_leaves_the_daemon_alive() -> None:
    """Requests go on meanwhile; the log gets a bounded part, and is told how much is missing."""
    flood = "import threading, sys\n"
    flood += (
        "threading.Thread(target=lambda: [sys.stdout.write('x\\n' * 500) for _ in iter(int, 1)]).start()\n"
    )
    spawn = {"command": [sys.executable, "-c", flood + COMMAND], "stop_time": "100ms"}

    async def test(served: Served, log: Log) -> None:
        while not log["application output dropped"]:
            await pid_of(served)

    log = run(config("scgi", spawn), test)
    assert json.dumps(log["application output"][0]["line"]) == '"x"'


def test_process_that_is_killed_takes_only_its_own_request(directory: str) -> None:
    async def test(served: Served, log: Log) -> None:
        found = await post(served, "os.kill(os.getpid(), 9)")
        assert found.status == 502
        await pid_of(served)

    log = run(config("uwsgi", wsgi(directory)), test)
    assert [entry["end"] for entry in log["application process ended"]] == ["signal 9 (SIGKILL)"]
    assert log["application process ended"][0]["restart_in"] <= LONGEST_PAUSE
