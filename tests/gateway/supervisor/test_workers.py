"""Several workers behind one address: what they share, how they end, what becomes of those that die."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.gateway.supervisor.supervised import (
    APPLICATION,
    CONFIG,
    command,
    get,
    gone,
    receive_until,
    serving,
    status,
    supervised,
    until,
)
from tests.gateway.test_daemon import ROOT, Daemon, daemon

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def answer_of(client: socket.socket) -> int:
    """Ask on a connection that stays open; the process that answers."""
    client.sendall(REQUEST)
    found = re.search(rb"\w+ (\d+)\.\Z", receive_until(client, b"."))
    assert found
    return int(found[1])


def refused(running: Daemon) -> bool:
    try:
        running.connect().close()
    except (ConnectionRefusedError, ConnectionResetError):
        return True
    return False


def test_workers_share_what_is_bounded_and_are_looked_at_together(tmp_path: Path) -> None:
    """limits.connections: 2 is one for each of two workers; status and metrics are of both."""
    config = CONFIG + "workers: 2\nlimits: {connections: 2}\nmetrics: 127.0.0.1:0\n"
    with supervised(tmp_path, config=config) as running:
        addresses = running.ready()
        metrics = addresses[2]
        with running.connect() as first, running.connect() as second:
            pids = {answer_of(first), answer_of(second)}
            assert len(pids) == 2
            described = status(tmp_path)
            assert described["pid"] == running.process.pid
            assert described["connections"] == 2
            assert {each["pid"] for each in described["workers"]} == pids
            assert [each["connections"] for each in described["workers"]] == [1, 1]
            assert described["backends"] == {"app": {"kind": "asgi"}}
        with urlopen(f"{metrics}/metrics", timeout=30) as response:
            text = response.read().decode()
        assert re.findall(r'^gateway_connections\{worker="(\d)"\}', text, re.MULTILINE) == ["1", "2"]
        assert re.search(r'^process_resident_memory_bytes\{worker="2"\} ', text, re.MULTILINE)
        assert 'gateway_workers{state="serving"} 2.0' in text
        table = command(tmp_path, "status", "gateway.yaml").stdout
        assert len(re.findall(r"^[12] +\d+ +serving ", table, re.MULTILINE)) == 2
        running.process.terminate()
        running.end()
    assert all(gone(pid) for pid in pids)


def test_several_ask_at_the_same_time(tmp_path: Path) -> None:
    """Each gets the answers of all workers: status and metrics, or two that collect metrics."""
    with supervised(tmp_path, "--workers", "2") as running, ExitStack() as stack:
        running.ready()
        clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(5)]
        for each in clients:
            each.connect(str(tmp_path / "control.sock"))
        for each in clients:
            each.sendall(b"GET /status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        for each in clients:
            described = json.loads(each.makefile("rb").read().partition(b"\r\n\r\n")[2])
            assert [worker["state"] for worker in described["workers"]] == ["serving", "serving"]
        running.process.terminate()
        running.end()


def test_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    with supervised(tmp_path, "--workers", "2") as running:
        running.ready()
        before = serving(tmp_path)
        os.kill(before[0], signal.SIGKILL)
        ended = running.wait_for("worker ended")
        assert (ended["pid"], ended["end"]) == (before[0], "signal 9 (SIGKILL)")
        assert get(running).startswith("one ")  # by the other
        until(lambda: len(serving(tmp_path)) == 2)
        described = status(tmp_path)
        assert described["restarts"] == 1
        assert before[1] in serving(tmp_path)
        assert before[0] not in serving(tmp_path)
        # A crash of the application takes the connections of its own worker only.
        with running.connect() as client:
            client.sendall(b"GET /exit HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(100) == b""
        assert running.wait_for("worker ended")["end"] == "exit status 3"
        assert get(running).startswith("one ")
        running.process.terminate()
        running.end()


def test_worker_is_replaced_when_the_directory_of_the_start_was_removed(tmp_path: Path) -> None:
    """As that of a release is, which the next one replaces."""
    release, app = tmp_path / "release", tmp_path / "app"
    release.mkdir()
    app.mkdir()
    (app / "versioned.py").write_text(APPLICATION)
    config = CONFIG.replace("control: unix:control.sock", "workers: 2")
    config = config.replace('"versioned:app"', f'"versioned:app", directory: "{app}"')
    with supervised(release, config=config) as running:
        running.ready()
        shutil.rmtree(release)
        for _ in range(2):
            with running.connect() as client:
                client.sendall(b"GET /exit HTTP/1.1\r\nHost: a\r\n\r\n")
                assert client.recv(100) == b""
            assert running.wait_for("worker ended")["end"] == "exit status 3"
        assert get(running).startswith("one ")
        # A file that is named relative to it is gone, too.
        running.process.send_signal(signal.SIGHUP)
        failed = running.wait_for("reload failed")
        assert failed["reason"] == ["gateway.yaml: cannot be read: No such file or directory"]
        assert get(running).startswith("one ")
        running.process.terminate()
        running.end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_running_requests_are_finished_and_nothing_is_left(tmp_path: Path, number: signal.Signals) -> None:
    """As with one process: idle connections end at once, what runs has its grace."""
    with supervised(tmp_path, "--workers", "2") as running:
        running.ready()
        pids = serving(tmp_path)
        with (
            running.connect() as idle,
            running.connect() as busy,
        ):
            answer_of(idle)
            busy.sendall(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
            receive_until(busy, b"begun \r\n")
            running.process.send_signal(number)
            assert idle.recv(100) == b""
            running.wait_for("waiting for requests")
            until(lambda: refused(running))  # once both workers have closed the socket
            (tmp_path / "go").touch()
            assert receive_until(busy, b"0\r\n\r\n").count(b"one ") == 1
        running.end()
    assert all(gone(pid) for pid in pids)
    assert not (tmp_path / "control.sock").exists()


def test_a_signal_for_all_processes_is_one(tmp_path: Path) -> None:
    """As systemd sends it: to the workers it is the supervisor's, too."""
    with supervised(tmp_path) as running:
        running.ready()
        (pid,) = serving(tmp_path)
        with running.connect() as busy:
            busy.sendall(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
            receive_until(busy, b"begun \r\n")
            os.kill(pid, signal.SIGTERM)
            running.wait_for("waiting for requests")
            running.process.terminate()
            until(lambda: refused(running))
            (tmp_path / "go").touch()
            assert receive_until(busy, b"0\r\n\r\n").count(b"one ") == 1
        running.end()


def test_second_signal_ends_the_wait(tmp_path: Path) -> None:
    with supervised(tmp_path, "--workers", "2") as running:
        running.ready()
        with running.connect() as busy:
            busy.sendall(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
            receive_until(busy, b"begun \r\n")
            running.process.terminate()
            running.wait_for("waiting for requests")
            running.process.terminate()
            assert busy.recv(100) == b""
        assert '"requests were cut off"' in running.end()


def test_worker_that_is_stuck_is_killed(tmp_path: Path) -> None:
    """And says nothing of itself meanwhile."""
    code = APPLICATION.replace(
        'if scope["path"] == "/exit":', 'if scope["path"] == "/stuck": time.sleep(600)\n    if 0:'
    )
    config = CONFIG.replace('"versioned:app"', '"versioned:app", shutdown_timeout: 100ms')
    config += "timeouts: {shutdown: 100ms}\n"
    with supervised(tmp_path, "--workers", "2", config=config, code=f"import time\n{code}") as running:
        running.ready()
        pids = serving(tmp_path)
        with running.connect() as client:
            client.sendall(b"GET /stuck HTTP/1.1\r\nHost: a\r\n\r\n")
            running.wait_for("blocked")
            assert sorted(each["state"] for each in status(tmp_path)["workers"]) == ["serving", "silent"]
            running.process.terminate()
            assert running.wait_for("worker does not end")["pid"] in pids
        running.process.wait(60)
    assert all(gone(pid) for pid in pids)


def test_worker_that_is_stuck_is_killed_soon_after_a_second_signal(tmp_path: Path) -> None:
    """Applications have no shutdown_timeout then: it waited for it all the same."""
    (tmp_path / "versioned.py").write_text(
        "import time\nasync def app(scope, receive, send):\n    time.sleep(600)\n"
    )
    config = CONFIG.replace('"versioned:app"', '"versioned:app", lifespan: "off", shutdown_timeout: 1h')
    program = (
        "-c",
        "from gateway.supervisor import share\n"
        "share.HURRIED_TIME = share.MARGIN = 0.05\n"
        "from gateway.__main__ import main\n"
        "main()\n",
    )
    with daemon(tmp_path, config, program=program, start_new_session=True) as running:
        running.ready()
        (pid,) = serving(tmp_path)
        with running.connect() as client:
            client.sendall(REQUEST)
            running.wait_for("blocked")
            running.process.terminate()
            running.wait_for("stopping")
            running.process.terminate()
            assert running.wait_for("worker does not end")["pid"] == pid
        assert running.process.wait(60) == 0


def test_workers_end_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    """In order: what runs has its grace."""
    with supervised(tmp_path, "--workers", "2") as running:
        running.ready()
        pids = serving(tmp_path)
        with running.connect() as busy:
            busy.sendall(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
            receive_until(busy, b"begun \r\n")
            running.process.kill()
            running.process.wait(20)
            running.wait_for("waiting for requests")
            until(lambda: refused(running))
            (tmp_path / "go").touch()
            assert receive_until(busy, b"0\r\n\r\n").count(b"one ") == 1
        until(lambda: all(gone(pid) for pid in pids))


# Goes on when three are there: so many workers load it at the same time.
TOGETHER = """
import os, time
os.makedirs("{0}", exist_ok=True)
open(f"{0}/{{os.getpid()}}", "x").close()
while len(os.listdir("{0}")) < 3:
    time.sleep(0.01)
"""


def test_workers_load_the_application_at_the_same_time(tmp_path: Path) -> None:
    """At the start and at a reload: it takes as long as for one."""
    with supervised(tmp_path, "--workers", "3", code=TOGETHER.format("first") + APPLICATION) as running:
        running.ready()
        before = {int(name) for name in os.listdir(tmp_path / "first")}
        assert set(serving(tmp_path)) == before
        (tmp_path / "versioned.py").write_text(TOGETHER.format("second") + APPLICATION)
        done = command(tmp_path, "reload", "gateway.yaml")
        assert (done.returncode, done.stderr) == (0, "")
        after = {int(name) for name in os.listdir(tmp_path / "second")}
        assert set(serving(tmp_path)) == after
        running.process.terminate()
        running.end()


def test_mistake_that_all_come_to_is_told_once(tmp_path: Path) -> None:
    """In the words of one of them, by the log and by the command; others are ended without a word."""
    with supervised(tmp_path, "--workers", "3") as running:
        running.ready()
        before = serving(tmp_path)
        (tmp_path / "versioned.py").write_text(TOGETHER.format("broken") + "import absent\n")
        done = command(tmp_path, "reload", "gateway.yaml")
        assert done.returncode == 1
        mistake = "backend app: the import of versioned failed: ModuleNotFoundError: No module named 'absent'"
        assert done.stderr == f"gateway: {mistake}\n"
        assert serving(tmp_path) == before
        assert all(gone(int(name)) for name in os.listdir(tmp_path / "broken"))
        running.process.terminate()
        assert running.process.stderr is not None
        logged = running.process.stderr.read().decode().splitlines()
        assert running.process.wait(60) == 0
    events = [json.loads(line)["event"] for line in logged]
    assert events == ["reloading", "application cannot start", FAILED, "stopping", "stopped"]
    told = json.loads(logged[1])
    assert told["backend"] == "app"
    assert told["exception"].count("Traceback") == 1


FAILED = "reload failed: what served before serves on"


def test_mistake_of_the_application_is_told_once(tmp_path: Path) -> None:
    with supervised(tmp_path, "--workers", "3", code="import absent\n") as running:
        assert running.process.wait(60) == 1
        assert running.process.stderr is not None
        logged = running.process.stderr.read().decode()
    assert logged.count("Traceback") == 1
    assert logged.endswith(
        "gateway: backend app: the import of versioned failed: "
        "ModuleNotFoundError: No module named 'absent'\n"
    )


def test_workers_that_cannot_start_any_more_end_the_daemon(tmp_path: Path) -> None:
    with supervised(tmp_path, "--workers", "2") as running:
        running.ready()
        pids = serving(tmp_path)
        (tmp_path / "versioned.py").write_text("raise SystemExit('gone')\n")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert running.process.wait(100) == 1
        assert running.process.stderr is not None
        logged = running.process.stderr.read().decode()
    assert "workers in a row could not start" in logged
    assert logged.endswith("gateway: backend app: the import of versioned failed: SystemExit: gone\n")


def test_address_that_is_taken_is_one_message(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        config = CONFIG.replace("127.0.0.1:0", f"127.0.0.1:{port}") + "workers: 2\n"
        with supervised(tmp_path, config=config) as running:
            logged = running.end(1)
    assert logged.startswith(f"gateway: cannot listen on 127.0.0.1:{port}: Address already in use")
    assert logged.count("\n") == 1


def test_stop_while_it_starts(tmp_path: Path) -> None:
    code = "import sys, time\nprint('loading', file=sys.stderr, flush=True)\ntime.sleep(60)\n"
    with supervised(tmp_path, "--workers", "2", code=code) as running:
        assert running.process.stderr is not None
        assert running.process.stderr.readline() == b"loading\n"
        running.process.terminate()
        assert '"stopped"' in running.end()


STOPPED_AT_ITS_START = """
import os, signal, sys
from gateway.__main__ import main

started = 0

def count(event, arguments):
    global started
    if event == "subprocess.Popen":
        started += 1
        print("a process is started", file=sys.stderr, flush=True)
        if started == {}:
            os.kill(os.getpid(), signal.SIGTERM)

sys.addaudithook(count)
main()
"""


@pytest.mark.parametrize(
    ("number", "arguments", "backend", "code"),
    [
        (2, ["--workers", "16"], '{asgi: "versioned:app"}', ""),
        (17 + 2, ["--workers", "17", "--reload"], '{asgi: "versioned:app"}', ""),  # those that stand by
        (2, [], '{fastcgi: {spawn: {wsgi: "versioned:app", processes: 16}}}', ""),
        (
            16 + 2,
            [],
            '{fastcgi: {spawn: {wsgi: "versioned:app", processes: 16}}}',
            TOGETHER.format("first").replace("< 3", "< 16") + "os._exit(1)\n",
        ),
    ],
    ids=["workers", "standby", "spawned", "spawned again"],
)
def test_stop_while_processes_are_started(
    tmp_path: Path, number: int, arguments: list[str], backend: str, code: str
) -> None:
    """Those that are still to be started are not: the signal was heard when all had been."""
    config = CONFIG.replace('{asgi: "versioned:app"}', backend).replace("control: unix:control.sock\n", "")
    (tmp_path / "versioned.py").write_text(code + APPLICATION)
    program = ("-c", STOPPED_AT_ITS_START.format(number))
    with daemon(tmp_path, config, *arguments, program=program, start_new_session=True) as running:
        logged = running.end()
    assert number <= logged.count("a process is started") < number + 14
    assert '"stopped"' in logged


def test_log_of_all_workers_is_one_file(tmp_path: Path) -> None:
    config = CONFIG.replace("access_log: false", "access_log: {destination: access.log}") + "workers: 2\n"
    with supervised(tmp_path, config=config + "limits: {connections: 2}\n") as running:
        running.ready()
        with (
            running.connect() as first,
            running.connect() as second,
        ):
            pids = {answer_of(client) for client in (first, second, first, second)}
        assert len(pids) == 2
        running.process.terminate()
        running.end()
    lines = (tmp_path / "access.log").read_text().splitlines()
    assert len(lines) == 4
    assert all(line.startswith("{") and line.endswith("}") for line in lines)


def test_unix_socket_is_removed_by_the_supervisor_alone(tmp_path: Path) -> None:
    config = CONFIG.replace("127.0.0.1:0", "unix:http.sock") + "workers: 2\n"
    with supervised(tmp_path, config=config) as running:
        running.wait_for('"ready"')
        os.kill(serving(tmp_path)[0], signal.SIGTERM)  # by an operator: it ends in order, and is replaced
        running.wait_for("worker ended")
        assert (tmp_path / "http.sock").exists()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "http.sock"))
            answer_of(client)
        running.process.terminate()
        running.end()
    assert not (tmp_path / "http.sock").exists()


def test_output_of_the_application_goes_where_that_of_the_daemon_goes(tmp_path: Path) -> None:
    (tmp_path / "versioned.py").write_text("print('on stdout', flush=True)\n")
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", "--asgi", "versioned:app", "--listen", "127.0.0.1:0",
         "--workers", "2"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert set(done.stdout.splitlines()) == {"on stdout"}  # by one worker, or by both
    assert done.stderr == "gateway: backend app: 'versioned' has no attribute 'app'\n"


def test_programs_that_an_application_starts_inherit_no_descriptor(tmp_path: Path) -> None:
    """One that outlived the daemon had the listening sockets, and no other could have their addresses."""
    code = """
import subprocess

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [subprocess.run(["ls", "/proc/self/fd"], stdout=subprocess.PIPE, close_fds=False).stdout]
"""
    with supervised(tmp_path, config=CONFIG.replace("asgi:", "wsgi:") + "workers: 2\n", code=code) as running:
        running.ready()
        assert get(running).split() == ["0", "1", "2", "3"]  # the last is of the directory itself
        running.process.terminate()
        running.end()


def test_worker_that_fails_and_is_stuck_in_its_end_is_replaced(tmp_path: Path) -> None:
    """Nobody has told it to end, so nobody counted the time: it was there for ever, and served nothing."""
    (tmp_path / "stuck.py").write_text(
        "import time\n"
        "async def app(scope, receive, send):\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.complete'})\n"
        "    await receive()\n"
        "    time.sleep(600)\n"
    )
    code = (
        "import asyncio, os\n"
        "failing = asyncio.Event()\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan':\n"
        "        await receive()\n"
        "        await send({'type': 'lifespan.startup.complete'})\n"
        "        await failing.wait()\n"
        "        raise ValueError\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': f'one {os.getpid()}.'.encode()})\n"
        "    if scope['path'] == '/fail':\n"
        "        failing.set()\n"
    )
    config = CONFIG.replace(
        'app: {asgi: "versioned:app"}',
        'app: {asgi: "versioned:app", shutdown_timeout: 100ms}, '
        'stuck: {asgi: "stuck:app", shutdown_timeout: 100ms}',
    )
    config += "timeouts: {shutdown: 100ms}\n"
    with supervised(tmp_path, config=config, code=code) as running:
        running.ready()
        (pid,) = serving(tmp_path)
        assert get(running, "/fail") == f"one {pid}."
        assert "time.sleep(600)" in running.wait_for("the end takes too long")["stack"]
        assert running.wait_for("worker ended")["pid"] == pid
        assert get(running) != f"one {pid}."


def test_log_files_of_all_workers_are_opened_anew_at_sigusr1(tmp_path: Path) -> None:
    """Also where it goes to the workers besides, as `systemctl kill` sends it."""
    config = CONFIG.replace("access_log: false", "access_log: {destination: access.log}") + "workers: 2\n"
    access, old = tmp_path / "access.log", tmp_path / "access.log.1"

    def opened(pid: int) -> list[str]:
        links = [os.path.realpath(f"/proc/{pid}/fd/{each}") for each in os.listdir(f"/proc/{pid}/fd")]
        return [os.path.basename(each) for each in links if os.path.basename(each).startswith("access")]

    with supervised(tmp_path, config=config) as running:
        running.ready()
        workers = serving(tmp_path)
        assert [opened(pid) for pid in workers] == [["access.log"]] * 2
        access.rename(old)
        assert [opened(pid) for pid in workers] == [["access.log.1"]] * 2
        running.process.send_signal(signal.SIGUSR1)
        running.wait_for('"log files opened anew"')
        until(lambda: [opened(pid) for pid in workers] == [["access.log"]] * 2)
        for pid in (running.process.pid, *workers):
            os.kill(pid, signal.SIGUSR2)
            os.kill(pid, signal.SIGUSR1)
        running.wait_for('"log files opened anew"')
        get(running)
        assert serving(tmp_path) == workers
        assert status(tmp_path)["restarts"] == 0
        running.process.terminate()
        running.end()
