"""Reloads: new code and configuration, no connection lost; what is wrong leaves the workers as they are."""

import os
import pty
import re
import resource
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from gateway.control import client
from tests.gateway.supervisor.supervised import (
    APPLICATION,
    CONFIG,
    Visitors,
    command,
    get,
    gone,
    receive_until,
    serving,
    status,
    supervised,
    until,
)
from tests.gateway.test_daemon import NOHUP, ROOT, Daemon
from tests.gateway.websocket_client import Client

TWO = CONFIG + "workers: 2\n"


def change(directory: Path, version: str) -> None:
    """Of another size: importlib knows compiled modules by the second and the size of their source."""
    (directory / "versioned.py").write_text(f"{APPLICATION.replace('one', version)}# {version}\n")


def test_no_request_is_lost_while_code_is_replaced(tmp_path: Path) -> None:
    with supervised(tmp_path, config=TWO) as running:
        running.ready()
        with Visitors(running) as visitors:
            for version in ("two", "three"):
                change(tmp_path, version)
                done = command(tmp_path, "reload", "gateway.yaml")
                assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
                until(lambda version=version: version in visitors.seen)  # type: ignore[misc]
            change(tmp_path, "four")
            running.process.send_signal(signal.SIGHUP)
            until(lambda: "four" in visitors.seen)
        assert visitors.failures == []
        assert visitors.seen == {"one", "two", "three", "four"}
        until(lambda: status(tmp_path)["reloads"] == 3)
        assert status(tmp_path)["restarts"] == 0
        running.process.terminate()
        running.end()


def test_what_runs_is_finished_or_told(tmp_path: Path) -> None:
    """A response that has begun is finished by the old worker, WebSockets are closed with 1012."""
    with supervised(tmp_path, config=TWO) as running:
        running.ready()
        before = set(serving(tmp_path))
        with running.connect() as idle, running.connect() as busy:
            idle.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            receive_until(idle, b".")
            busy.sendall(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
            receive_until(busy, b"begun \r\n")
            change(tmp_path, "two")

            async def websocket() -> int:
                stream = await trio.open_tcp_stream(*running.address)
                async with stream:
                    opened = await Client.open(stream)
                    await opened.send("x")
                    assert str(await opened.receive()).startswith("one ")
                    running.process.send_signal(signal.SIGHUP)
                    code, _ = await opened.receive_close()
                    return code

            assert trio.run(websocket) == 1012
            until(lambda: get(running).startswith("two "))

            def is_last() -> bool:
                """A connection that was idle has one more request: it was perhaps on its way."""
                idle.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                answer = receive_until(idle, b".")
                assert b"one " in answer
                return b"\r\nconnection: close\r\n" in answer

            until(is_last)  # the other old worker hears of it a little later
            assert idle.recv(100) == b""
            (tmp_path / "go").touch()
            assert b"one " in receive_until(busy, b"\r\n0\r\n\r\n")
        until(lambda: all(gone(pid) for pid in before))
        running.process.terminate()
        running.end()


def test_a_daemon_that_stops_says_so(tmp_path: Path) -> None:
    """At once, not when it has stopped."""
    with supervised(tmp_path) as running:
        running.ready()
        with running.connect() as busy:
            busy.sendall(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
            receive_until(busy, b"begun \r\n")
            running.process.terminate()
            running.wait_for("waiting for requests")
            done = command(tmp_path, "reload", "gateway.yaml")
            assert (done.returncode, done.stderr) == (1, "gateway: the daemon stops\n")
            (tmp_path / "go").touch()
            assert b"one " in receive_until(busy, b"\r\n0\r\n\r\n")
        running.end()


def test_mistakes_leave_what_serves(tmp_path: Path) -> None:
    with supervised(tmp_path, config=TWO) as running:
        running.ready()
        control = f"unix:{tmp_path}/control.sock"
        (tmp_path / "gateway.yaml").write_text(TWO + "nonsense: 1\n")
        done = command(tmp_path, "reload", "--control", control)
        assert done.returncode == 2
        assert done.stderr.startswith("gateway: gateway.yaml:7: nonsense: unknown key; expected one of ")
        failed = running.wait_for("reload failed")
        assert failed["reason"] == [done.stderr.removeprefix("gateway: ").rstrip()]

        (tmp_path / "gateway.yaml").write_text(TWO)
        (tmp_path / "versioned.py").write_text("def broken(:\n")
        done = command(tmp_path, "reload", "gateway.yaml")
        assert done.returncode == 1
        assert "the import of versioned failed: SyntaxError: " in done.stderr

        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            (tmp_path / "gateway.yaml").write_text(TWO.replace("127.0.0.1:0", f"127.0.0.1:{port}"))
            done = command(tmp_path, "reload", "gateway.yaml")
        assert done.returncode == 1
        assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr

        assert get(running).startswith("one ")
        assert status(tmp_path)["reloads"] == 0
        running.process.terminate()
        running.lines.append(running.process.stderr.read().decode() if running.process.stderr else "")
        assert "".join(running.lines).count("Traceback") == 1  # of the mistake in the application, once
        assert running.process.wait(30) == 0


def test_listeners_follow_the_configuration(tmp_path: Path) -> None:
    """One that stays is never closed, one that is new is opened, one that is gone is closed."""
    config = TWO.replace("[{http", "[{http: 'unix:old.sock'}, {http", 1)
    with supervised(tmp_path, config=config) as running:
        before = running.wait_for('"ready"')["addresses"]
        assert (tmp_path / "old.sock").exists()
        config = TWO.replace("[{http", "[{http: 'unix:new.sock', mode: '0600'}, {http", 1)
        config = config.replace("workers: 2", "workers: 1")
        (tmp_path / "gateway.yaml").write_text(config.replace("control.sock", "other.sock"))
        done = command(tmp_path, "reload", "--control", f"unix:{tmp_path}/control.sock")
        assert (done.returncode, done.stderr) == (0, "")
        assert not (tmp_path / "old.sock").exists()
        assert not (tmp_path / "control.sock").exists()
        with socket.socket(socket.AF_UNIX) as visitor:
            visitor.connect(str(tmp_path / "new.sock"))
            visitor.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"one " in receive_until(visitor, b".")
        with socket.create_connection(("127.0.0.1", int(before[1].rpartition(":")[2]))) as visitor:
            visitor.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"one " in receive_until(visitor, b".")
        described = client.status(tmp_path / "other.sock")
        assert [each["state"] for each in described["workers"]][-1] == "serving"
        running.process.terminate()
        running.end()
    assert not (tmp_path / "new.sock").exists()


def test_directory_of_a_unix_socket_that_is_none_any_more_is_a_reason(tmp_path: Path) -> None:
    """The daemon ended."""
    (tmp_path / "run").mkdir()
    with supervised(
        tmp_path, config=TWO.replace("[{http", "[{http: 'unix:run/web.sock'}, {http", 1)
    ) as running:
        running.wait_for('"ready"')
        (tmp_path / "run").rename(tmp_path / "before")
        (tmp_path / "run").touch()
        done = command(tmp_path, "reload", "gateway.yaml")
        assert done.returncode == 1
        assert done.stderr.endswith("run/web.sock: Not a directory\n")
        with socket.socket(socket.AF_UNIX) as visitor:
            visitor.connect(str(tmp_path / "before" / "web.sock"))
            visitor.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"one " in receive_until(visitor, b".")
        running.process.terminate()
        running.end()


def test_unix_sockets_whose_files_are_gone_are_opened_anew(tmp_path: Path) -> None:
    """... also that of the control socket, by a signal: the daemon ended."""
    config = TWO.replace("[{http", "[{http: 'unix:web.sock', mode: '0660'}, {http", 1)
    with supervised(tmp_path, config=config) as running:
        running.ready()
        change(tmp_path, "two")
        (tmp_path / "web.sock").unlink()
        (tmp_path / "control.sock").unlink()
        running.process.send_signal(signal.SIGHUP)
        running.wait_for('"reloaded"')
        with socket.socket(socket.AF_UNIX) as visitor:
            visitor.connect(str(tmp_path / "web.sock"))
            visitor.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"two " in receive_until(visitor, b".")
        assert (tmp_path / "web.sock").stat().st_mode & 0o777 == 0o660
        # A mistake leaves what serves, and what can be come to.
        (tmp_path / "versioned.py").write_text("import absent\n")
        (tmp_path / "web.sock").unlink()
        assert command(tmp_path, "reload", "gateway.yaml").returncode == 1
        change(tmp_path, "three")
        assert command(tmp_path, "reload", "gateway.yaml").returncode == 0
        with socket.socket(socket.AF_UNIX) as visitor:
            visitor.connect(str(tmp_path / "web.sock"))
            visitor.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"three " in receive_until(visitor, b".")
        running.process.terminate()
        assert running.process.wait(60) == 0
    assert not (tmp_path / "web.sock").exists()
    assert not (tmp_path / "control.sock").exists()


def test_code_that_hangs_is_given_up_when_the_next_reload_is_wished_for(tmp_path: Path) -> None:
    """Whoever has mended it, and asks again, was left to wait for it."""
    with supervised(tmp_path) as running:
        running.ready()
        (tmp_path / "versioned.py").write_text(
            "import sys, time\nprint('{}', file=sys.stderr)\ntime.sleep(1000)\n"
        )
        running.process.send_signal(signal.SIGHUP)
        running.wait_for("{}")
        assert get(running).startswith("one ")
        change(tmp_path, "two")
        done = command(tmp_path, "reload", "gateway.yaml")
        assert (done.returncode, done.stderr) == (0, "")
        assert get(running).startswith("two ")
        running.process.terminate()
        running.end()


# Python says so of each fork in which there are threads: what follows at once is an exec.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_terminal_that_closes_ends_the_daemon(tmp_path: Path) -> None:
    """SIGHUP reloads where there is no terminal, as with nginx; else it is the end of the terminal."""
    (tmp_path / "versioned.py").write_text(APPLICATION)
    (tmp_path / "gateway.yaml").write_text(TWO)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.environ["PYTHONPATH"] = str(ROOT)
        os.execvp(sys.executable, [sys.executable, "-m", "gateway", "serve", "gateway.yaml"])
    shown = b""
    while b"ready" not in shown:
        shown += os.read(terminal, 65536)
    assert re.search(rb"http://127\.0\.0\.1:\d+", shown)
    os.close(terminal)
    _, ended = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(ended) == 0


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_terminal_that_closes_ends_no_daemon_that_nohup_has_started(tmp_path: Path) -> None:
    """It is a signal as any other then, and reloads."""
    (tmp_path / "versioned.py").write_text(APPLICATION)
    (tmp_path / "gateway.yaml").write_text(CONFIG)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.environ["PYTHONPATH"] = str(ROOT)
        os.execvp(sys.executable, [sys.executable, "-c", NOHUP, "serve", "gateway.yaml"])
    shown = b""
    while b"ready" not in shown:
        shown += os.read(terminal, 65536)
    os.close(terminal)
    until(lambda: status(tmp_path)["reloads"] == 1)
    client.stop(tmp_path / "control.sock")
    _, ended = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(ended) == 0


def test_worker_that_is_stuck_and_was_asked_often_holds_up_no_reload(tmp_path: Path) -> None:
    """What it is told has no room any more, and the reload waited until it was killed."""
    with supervised(tmp_path) as running, ExitStack() as stack:
        running.ready()
        (stuck,) = serving(tmp_path)
        os.kill(stuck, signal.SIGSTOP)
        asking = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(700)]
        for each in asking:
            each.connect(str(tmp_path / "control.sock"))
            each.sendall(b"GET /status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        for each in asking:
            assert b'"silent"' in each.makefile("rb").read()
        change(tmp_path, "two")
        assert command(tmp_path, "reload", "gateway.yaml").returncode == 0
        assert not gone(stuck)
        assert get(running).startswith("two ")
        os.kill(stuck, signal.SIGCONT)
        until(lambda: gone(stuck))
        running.process.terminate()
        running.end()


def test_reload_without_a_descriptor_for_a_worker(tmp_path: Path) -> None:
    with supervised(tmp_path, config=TWO) as running:
        running.ready()
        pid = running.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        few = len(os.listdir(f"/proc/{pid}/fd"))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (few, before[1]))
        running.process.send_signal(signal.SIGHUP)
        assert "Too many open files" in str(running.wait_for("reload failed")["reason"])
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        assert command(tmp_path, "reload", "gateway.yaml").returncode == 0
        running.process.terminate()
        running.end()


# One worker hangs in its start, where the other has failed so often that both are given up. It has some time
# to end, in which it mends the mistake and reloads.
GIVEN_UP = """
import os, signal, time

if os.path.exists("wrong"):
    try:
        os.mkdir("hangs")
    except FileExistsError:
        os._exit(3)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signal.sigwait({signal.SIGTERM})
    with open("given_up", "x") as file:
        file.write(str(os.getpid()))
    os.unlink("wrong")
    os.kill(os.getppid(), signal.SIGHUP)
    time.sleep(60)
while os.path.exists("wait"):
    time.sleep(0.01)
if os.path.exists("broken"):
    raise SystemExit("broken")
"""


def give_up(running: Daemon, directory: Path) -> int:
    """Have the workers given up; the process of the one that hangs, when a reload has begun meanwhile."""
    (directory / "wrong").touch()
    for pid in serving(directory):
        os.kill(pid, signal.SIGKILL)
    running.wait_for('"reloading"')
    return int((directory / "given_up").read_text())


def ended(running: Daemon) -> str:
    """Wait for the end with status 1; what was logged meanwhile."""
    _, logged = running.process.communicate(timeout=60)
    assert running.process.returncode == 1, logged
    return str(logged, "utf-8")


def test_workers_that_are_given_up_while_others_take_over_do_not_end_the_daemon(tmp_path: Path) -> None:
    with supervised(tmp_path, config=TWO, code=GIVEN_UP + APPLICATION) as running:
        running.ready()
        hanging = give_up(running, tmp_path)
        running.wait_for('"reloaded"')
        until(lambda: gone(hanging))
        assert get(running).startswith("one")
        assert len(serving(tmp_path)) == 2
        running.process.terminate()
        running.end()


def test_workers_that_are_given_up_while_others_start_do_not_end_the_daemon(tmp_path: Path) -> None:
    """However long those take."""
    with supervised(tmp_path, config=TWO, code=GIVEN_UP + APPLICATION) as running:
        running.ready()
        (tmp_path / "wait").touch()
        hanging = give_up(running, tmp_path)
        assert "in a row could not start" in str(running.wait_for("workers given up: others start")["reason"])
        assert gone(hanging)
        (tmp_path / "wait").unlink()
        running.wait_for('"reloaded"')
        assert get(running).startswith("one")
        assert len(serving(tmp_path)) == 2
        running.process.terminate()
        running.end()


def test_daemon_ends_when_those_that_were_to_take_over_cannot_start_either(tmp_path: Path) -> None:
    with supervised(tmp_path, config=TWO, code=GIVEN_UP + APPLICATION) as running:
        running.ready()
        (tmp_path / "wait").touch()
        (tmp_path / "broken").touch()
        give_up(running, tmp_path)
        running.wait_for("workers given up: others start")
        (tmp_path / "wait").unlink()
        assert ended(running).endswith("the import of versioned failed: SystemExit: broken\n")


def test_daemon_ends_when_a_reload_takes_the_place_of_its_start_and_fails(tmp_path: Path) -> None:
    """It stayed, and served nothing."""
    code = "import sys, time\nprint('{}', file=sys.stderr)\ntime.sleep(1000)\n"
    with supervised(tmp_path, config=TWO, code=code) as running:
        running.wait_for("{}")
        (tmp_path / "versioned.py").write_text("raise SystemExit('broken')\n")
        running.process.send_signal(signal.SIGHUP)
        assert ended(running).endswith("the import of versioned failed: SystemExit: broken\n")
