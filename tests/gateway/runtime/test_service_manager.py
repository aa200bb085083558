"""What the service manager is told: sd_notify(3)."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from gateway.runtime.service_manager import tell_alive, tell_ready
from tests.gateway.served import run
from tests.gateway.supervisor.supervised import CONFIG, command, supervised
from tests.gateway.test_daemon import FIXED, daemon


class Manager:
    """The end that a service manager has."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        listening.settimeout(60)

    def told(self) -> dict[str, str]:
        """The variables of the next message."""
        lines = self._listening.recv(4096).decode().splitlines()
        return dict(line.split("=", 1) for line in lines)


@contextmanager
def manager(monkeypatch: pytest.MonkeyPatch, address: str) -> Iterator[Manager]:
    """Daemons started meanwhile are to tell it at *address*."""
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address.replace("@", "\0"))
        yield Manager(listening)


def test_a_daemon_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with manager(monkeypatch, str(tmp_path / "notify")) as told_to, daemon(tmp_path, FIXED) as running:
        addresses = running.ready()
        assert told_to.told() == {"READY": "1", "STATUS": f"Serving on {addresses[0]}"}
        running.process.terminate()
        assert told_to.told() == {"STOPPING": "1", "STATUS": "Stopping"}
        running.end()


@pytest.mark.parametrize("control", [False, True], ids=["one process", "a supervisor"])
def test_it_hears_that_the_loop_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, control: bool) -> None:
    """WatchdogSec= of systemd."""
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    config = FIXED + ("control: unix:control.sock\n" if control else "")
    with manager(monkeypatch, str(tmp_path / "notify")) as told_to, daemon(tmp_path, config) as running:
        running.ready()
        while "READY" not in told_to.told():
            pass
        assert [told_to.told() for _ in range(3)] == [{"WATCHDOG": "1"}] * 3
        running.process.terminate()
        while "STOPPING" not in told_to.told():
            pass
        running.end()


@pytest.mark.parametrize("wanted", [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}])
def test_what_is_not_wanted_of_this_process_is_not_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wanted: dict[str, str]
) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in wanted.items():
        monkeypatch.setenv(name, value)
    with manager(monkeypatch, str(tmp_path / "notify")):
        run(tell_alive)  # it returns


@pytest.mark.parametrize("digits", [20, 400, 5000])
def test_a_time_without_an_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, digits: int) -> None:
    """It is told once. What is more than a float holds ended the daemon."""
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", "9" * digits)

    async def tell() -> None:
        with trio.move_on_after(0):
            await tell_alive()

    with manager(monkeypatch, str(tmp_path / "notify")) as told_to:
        run(tell)
        assert told_to.told() == {"WATCHDOG": "1"}


def test_an_address_that_is_not_utf_8(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As the command line may name one; systemd takes no such text. It ended the daemon."""
    with manager(monkeypatch, str(tmp_path / "notify")) as told_to:
        tell_ready([os.fsdecode(b"unix:/run/\xff")])
        assert told_to.told() == {"READY": "1", "STATUS": r"Serving on unix:/run/\udcff"}


def test_reloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ends with READY=1, whatever becomes of it."""
    with manager(monkeypatch, f"@{tmp_path}") as told_to, supervised(tmp_path) as running:
        running.ready()
        ready = told_to.told()
        assert ready["READY"] == "1"
        for config, status in (("backends: 1\n", 2), (CONFIG, 0)):
            (tmp_path / "gateway.yaml").write_text(config)
            done = command(tmp_path, "reload", "--control", "unix:control.sock")
            assert done.returncode == status
            reloading = told_to.told()
            assert reloading.keys() == {"RELOADING", "MONOTONIC_USEC"}
            assert reloading["RELOADING"] == "1"
            assert int(reloading["MONOTONIC_USEC"]) > 0
            assert told_to.told() == ready
        running.process.send_signal(signal.SIGTERM)
        assert told_to.told() == {"STOPPING": "1", "STATUS": "Stopping"}
        running.end()


def test_one_that_is_gone_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    with daemon(tmp_path, FIXED) as running:
        running.ready()
        said = running.wait_for("service manager not told")
        assert (said["level"], said["state"]) == ("warning", "READY=1")
        with running.ask("/") as client:
            assert client.recv(100).startswith(b"HTTP/1.1 200 ")
        running.process.terminate()
        running.end()
