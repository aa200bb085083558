"""The control socket and the metrics listener of a running daemon, and the commands that use them."""

import fcntl
import http.client
import json
import os
import pty
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import termios
import threading
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.control import client
from gateway.front.tally import BOUNDS
from tests.gateway.served import unused_port
from tests.gateway.test_daemon import ROOT, Daemon, daemon

CONFIG = """\
listeners: [{http: 127.0.0.1:0}]
access_log: false
control: unix:control.sock
metrics: 127.0.0.1:0
backends:
  dead: {http: ["http://127.0.0.1:%d", "http://127.0.0.1:%d"], health: {eject_time: 1h}}
  app: {wsgi: "slow_application:app"}
routes:
  - {match: {path: /dead}, backend: dead}
  - {match: {path: /own}, respond: {status: 204}}
  - backend: app
"""


ACCEPTING = """\
async def app(scope, receive, send):
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    await receive()
"""

UPGRADE = (
    b"GET /websocket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

Samples: TypeAlias = dict[str, dict[tuple[str, ...], float]]
"""Values of metrics by name and labels."""

ADDRESSES: list[str] = []


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Daemon]:
    with daemon(tmp_path, CONFIG % (unused_port(), unused_port())) as started:
        # Of the listener, the control socket, the metrics.
        ADDRESSES[:] = started.ready()
        yield started


def command(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "40"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def status(directory: Path) -> dict[str, Any]:
    done = command(directory, "status", "gateway.yaml", "--json")
    assert done.returncode == 0, done.stderr
    described: dict[str, Any] = json.loads(done.stdout)
    return described


def measured(url: str, wanted: Callable[[Samples], bool]) -> Samples:
    """What is there once it is *wanted*: the client may have its response before that is counted."""
    for _ in range(1000):
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as response:
            families = text_string_to_metric_families(response.read().decode())
        found: Samples = defaultdict(dict)
        for sample in (sample for family in families for sample in family.samples):
            labels = {name: value for name, value in sample.labels.items() if name != "worker"}
            found[sample.name][tuple(labels.values())] = sample.value
        if wanted(found):
            return found
    raise AssertionError(found)


def on_terminal(directory: Path, *arguments: str, columns: int) -> list[str]:
    """The lines that the command prints on a terminal of that width, without their colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 50, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    with subprocess.Popen(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=directory,
        env=environment | {"PYTHONPATH": str(ROOT), "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
    ) as process:
        os.close(theirs)
        printed = b""
        # Linux: the end of a terminal that nobody has open is EIO.
        with suppress(OSError):
            while piece := os.read(ours, 65536):
                printed += piece
        os.close(ours)
    assert process.returncode == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", printed.decode()).splitlines()


def test_status_on_a_narrow_terminal_cuts_off_nothing(running: Daemon, tmp_path: Path) -> None:
    """What does not fit goes below, each heading and each failure whole."""
    for _ in range(3):
        assert b" 502 " in answer(running.ask("/dead"))
    lines = on_terminal(tmp_path, "status", "gateway.yaml", columns=80)
    assert max(map(len, lines)) <= 80
    assert " ".join(lines[4].split()) == "backend kind server state running idle failures first byte"
    servers = [server["address"] for server in status(tmp_path)["backends"]["dead"]["servers"]]
    assert [f"dead, {address}: Connection refused" in lines for address in servers] == [True, True]
    wide = on_terminal(tmp_path, "status", "gateway.yaml", columns=120)
    assert wide[4].split()[-2:] == ["last", "failure"]
    assert sum(line.rstrip().endswith("Connection refused") for line in wide) == 2


@contextmanager
def gate(directory: Path) -> Iterator[None]:
    """The application is loaded when nobody writes to the FIFO any more."""
    os.mkfifo(directory / "gate")
    # Opened for both ways, which waits for no reader.
    with open(os.open(directory / "gate", os.O_RDWR), "rb"):
        yield
        os.unlink(directory / "gate")


GATED = """
from contextlib import suppress
with suppress(FileNotFoundError):
    open('gate').read()
app = print
"""


def test_status_shows_workers_that_are_loading(tmp_path: Path) -> None:
    """At the start and at a reload, with their processes, and for how long."""
    (tmp_path / "gated.py").write_text(GATED)
    config = "listeners: [{http: 127.0.0.1:0}]\nworkers: 2\ncontrol: unix:control.sock\n"
    config += "metrics: 127.0.0.1:0\nbackends: {a: {wsgi: 'gated:app'}}\nroutes: [{backend: a}]\n"

    def states() -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for worker in client.status(tmp_path / "control.sock")["workers"]:
            found.setdefault(worker["state"], []).append(worker["pid"])
            assert worker["state"] != "starting" or worker["uptime"] >= 0
        return found

    with daemon(tmp_path, config) as running:
        with gate(tmp_path):
            while command(tmp_path, "status", "gateway.yaml").returncode or not states():
                assert running.process.poll() is None
            first, heading, *rows = command(tmp_path, "status", "gateway.yaml").stdout.splitlines()
            found = states()
        assert first.endswith(", 0 connections")
        assert heading.split() == ["worker", "process", "state", "up", "connections"]
        assert list(found) == ["starting"]
        assert all(re.fullmatch(r"[12] +\d+ +starting +\d+ s *", row) for row in rows)
        assert {int(row.split()[1]) for row in rows} <= {*found["starting"]}
        metrics = running.ready()[-1]
        before = states()["serving"]
        with gate(tmp_path):
            running.process.send_signal(signal.SIGHUP)
            while "starting" not in (found := states()):
                assert running.process.poll() is None
            assert found["serving"] == before
            assert before[0] not in found["starting"]
            with urllib.request.urlopen(f"{metrics}/metrics", timeout=10) as response:
                assert 'gateway_workers{state="starting"} 0.0' not in response.read().decode()
        running.wait_for('"reloaded"')
        assert "starting" not in states()


def answer(client: Any) -> bytes:
    with client:
        received: bytes = client.recv(65536)
        return received


def test_status_tells_of_servers_and_their_health(running: Daemon, tmp_path: Path) -> None:
    before = status(tmp_path)
    assert before["pid"] == running.process.pid
    assert before["draining"] is False
    assert before["backends"]["app"] == {"kind": "wsgi"}
    assert [server["state"] for server in before["backends"]["dead"]["servers"]] == ["up", "up"]
    for _ in range(3):
        assert b" 502 " in answer(running.ask("/dead"))
    after = status(tmp_path)["backends"]["dead"]["servers"]
    assert "ejected" in {server["state"] for server in after}
    assert all("refused" in server["last_failure"].lower() for server in after if server["failures"])
    table = command(tmp_path, "status", "gateway.yaml").stdout
    # Not to a terminal: one line for each server, however long.
    assert any(line.endswith(" refused") and " ejected " in line for line in table.splitlines())
    for server in after:
        assert any(server["address"] in line.split() for line in table.splitlines())


@pytest.mark.parametrize("workers", [1, 2])
def test_uptime_when_the_clock_is_put_back(tmp_path: Path, workers: int) -> None:
    put_back = (
        "import itertools, time; now, hours = time.time, itertools.count()\n"
        "time.time = lambda: now() - next(hours) * 3600\n"
        "from gateway.__main__ import main; main()\n"
    )
    config = CONFIG % (unused_port(), unused_port())
    with daemon(tmp_path, config, f"--workers={workers}", program=("-c", put_back)) as started:
        started.ready()
        assert 0 <= status(tmp_path)["uptime"] < 3600


def test_metrics_are_for_prometheus(running: Daemon, tmp_path: Path) -> None:
    for _ in range(3):
        answer(running.ask("/dead"))
    connection = http.client.HTTPConnection(ADDRESSES[2].removeprefix("http://"), timeout=10)
    connection.request("GET", "/metrics")
    response = connection.getresponse()
    text = response.read().decode()
    connection.request("GET", "/dead")
    other = connection.getresponse()
    other.read()
    connection.close()
    assert (response.status, other.status) == (200, 404)
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = [line for line in text.splitlines() if line.startswith("gateway_backend_server_up{")]
    assert len(lines) == 2
    assert any(line.endswith(" 0.0") for line in lines)
    assert '\nprocess_resident_memory_bytes{worker="1"} ' in text


def test_metrics_count_requests_by_backend_and_status(running: Daemon) -> None:
    """Those that the gateway answers itself are of no backend."""
    for path in ("/dead", "/", "/", "/own"):
        answer(running.ask(path))
    counts = {("app", "200"): 2, ("dead", "502"): 1, ("", "204"): 1}
    found = measured(ADDRESSES[2], lambda found: sum(found["gateway_requests_total"].values()) >= 4)
    assert found["gateway_requests_total"] == counts
    assert found["gateway_request_seconds_count"] == {("app",): 2, ("dead",): 1, ("",): 1}
    buckets = found["gateway_request_seconds_bucket"]
    of_app = [buckets["app", f"{bound}"] for bound in (*BOUNDS, "+Inf")]
    assert of_app == sorted(of_app)
    assert of_app[-1] == 2
    assert 0 < found["gateway_request_seconds_sum"]["app",] < 20


def test_tunnels_are_no_part_of_the_times(tmp_path: Path) -> None:
    (tmp_path / "accepting.py").write_text(ACCEPTING)
    config = "listeners: [{http: 127.0.0.1:0}]\nmetrics: 127.0.0.1:0\n"
    config += "backends: {a: {asgi: 'accepting:app'}}\nroutes: [{backend: a}]\n"
    with daemon(tmp_path, config) as running:
        metrics = running.ready()[-1]
        with running.connect() as client:
            client.sendall(UPGRADE)
            assert client.recv(65536).startswith(b"HTTP/1.1 101 ")
        found = measured(metrics, lambda found: bool(found["gateway_requests_total"]))
    assert found["gateway_requests_total"] == {("a", "101"): 1}
    assert found["gateway_request_seconds_count"] == {("a",): 0}


def test_an_offer_that_is_not_taken_is_a_part_of_the_times(running: Daemon) -> None:
    """Java's HttpClient and curl --http2 make one with each request in clear text (RFC 7540 3.2)."""
    with running.connect() as client:
        client.sendall(UPGRADE.replace(b"/websocket", b"/own").replace(b"websocket", b"h2c"))
        assert client.recv(65536).startswith(b"HTTP/1.1 204 ")
    found = measured(ADDRESSES[2], lambda found: bool(found["gateway_requests_total"]))
    assert found["gateway_request_seconds_count"] == {("",): 1}


def test_one_worker_reloads(running: Daemon, tmp_path: Path) -> None:
    """Who has a control socket has a supervisor: nobody is told to restart."""
    (before,) = status(tmp_path)["workers"]
    (tmp_path / "slow_application.py").write_text("app = None\n")
    failed = command(tmp_path, "reload", "gateway.yaml")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "slow_application:app is not callable" in failed.stderr
    assert [worker["pid"] for worker in status(tmp_path)["workers"]] == [before["pid"]]  # it serves on
    (tmp_path / "slow_application.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Length', '3')])\n"
        "    return [b'new']\n"
    )
    done = command(tmp_path, "reload", "gateway.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert answer(running.ask("/")).endswith(b"new")
    after = status(tmp_path)
    assert after["pid"] == running.process.pid
    assert after["reloads"] == 1
    assert before["pid"] not in [each["pid"] for each in after["workers"] if each["state"] == "serving"]


def test_one_process_tells_its_metrics(tmp_path: Path) -> None:
    """Without a control socket there is no supervisor."""
    config = "".join(line for line in CONFIG.splitlines(keepends=True) if not line.startswith("control:"))
    with daemon(tmp_path, config % (unused_port(), unused_port())) as started:
        _, metrics = started.ready()
        with urllib.request.urlopen(f"{metrics}/metrics", timeout=10) as response:
            text = response.read().decode()
        children = Path(f"/proc/{started.process.pid}/task/{started.process.pid}/children").read_text()
    assert children == ""
    assert text.count("\ngateway_backend_server_up{") == 2
    assert "\nprocess_resident_memory_bytes " in text


def test_only_its_own_user_may_use_the_control_socket(running: Daemon, tmp_path: Path) -> None:
    assert stat.S_IMODE(os.stat(tmp_path / "control.sock").st_mode) == 0o600


def test_stop_ends_the_daemon_in_order(running: Daemon, tmp_path: Path) -> None:
    done = command(tmp_path, "stop", "--control", f"unix:{tmp_path}/control.sock")
    assert (done.returncode, done.stderr) == (0, "")
    assert running.process.wait(20) == 0
    assert not (tmp_path / "control.sock").exists()
    again = command(tmp_path, "stop", "gateway.yaml")
    assert again.returncode == 1
    assert again.stderr.startswith(f"gateway: no daemon listens on {tmp_path}/control.sock: ")


@pytest.mark.parametrize(
    ("asked", "status", "body", "said"),
    [
        ("status", "200 OK", b"<h1>It works!</h1>", "what listens on {} does not answer as a gateway does"),
        ("status", "200 OK", b"\xff", "what listens on {} does not answer as a gateway does"),
        ("status", "200 OK", b"[]", "what listens on {} does not answer as a gateway does"),
        ("status", "200 OK", b'{"ok": true}', "what listens on {} does not answer as a gateway does"),
        ("reload", "200 OK", b"", "what listens on {} does not answer as a gateway does"),
        (
            "reload",
            "409 Conflict",
            b'{"reasons": []}',
            "what listens on {} does not answer as a gateway does",
        ),
        ("stop", "200 OK", b"<h1>It works!</h1>", "the daemon on {} answers 200"),
        ("stop", "404 Not Found", b"", "the daemon on {} answers 404"),
    ],
)
def test_who_is_no_gateway_is_told_by_one_message(
    tmp_path: Path, asked: str, status: str, body: bytes, said: str
) -> None:
    path = tmp_path / "control.sock"

    def answer(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client:
            client.recv(1000)
            client.sendall(
                b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (status.encode(), len(body), body)
            )

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        answering = threading.Thread(target=answer, args=(listener,))
        answering.start()
        done = command(tmp_path, asked, "--control", f"unix:{path}")
        answering.join(10)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"gateway: {said.format(path)}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Expected a CONFIG, or --control"),
        (["--control", "127.0.0.1:1"], "expected unix:/path"),
        (["plain.yaml"], "has no control socket"),
    ],
)
def test_wrong_usage(tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "plain.yaml").write_text("listeners: [{http: ':0'}]\nroutes: [{respond: {}}]\n")
    done = command(tmp_path, "status", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
