"""The daemon as a program: starting, failing to start, draining, hurrying."""

import fcntl
import json
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import gateway

ROOT = Path(gateway.__file__).parents[1]

# Python 3.15 has an application fail that forks beside threads, where warnings are errors; others only tell.
WARNINGS = ("error", "ignore:This process (pid=:DeprecationWarning")

# /fast answers at once; /slow says that it was reached, and waits until it is let go; /begun begins
# its answer before that.
APPLICATION = """
import threading
go_on = threading.Event()
def app(environ, start_response):
    if environ["PATH_INFO"] == "/go":
        go_on.set()
    elif environ["PATH_INFO"] == "/slow":
        environ["wsgi.errors"].write("reached\\n")
        go_on.wait(20)
    elif environ["PATH_INFO"] == "/begun":
        write = start_response("200 OK", [])
        write(b"begun")
        environ["wsgi.errors"].write("reached\\n")
        go_on.wait(20)
        return [b"ended"]
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "4")])
    return [b"done"]
"""


class Daemon:
    """A running `gateway serve`."""

    def __init__(
        self,
        directory: Path,
        config: str,
        *arguments: str,
        program: Sequence[str] = ("-m", "gateway"),
        **options: Any,
    ) -> None:
        (directory / "slow_application.py").write_text(APPLICATION)
        (directory / "gateway.yaml").write_text(config)
        self.process = subprocess.Popen(
            [sys.executable, *program, "serve", "gateway.yaml", *arguments],
            cwd=directory,
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": ",".join(WARNINGS)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            **options,
        )
        self.lines: list[str] = []

    def wait_for(self, event: str) -> dict[str, Any]:
        """The next line of the log that says *event* (in it, for lines of an application)."""
        assert self.process.stderr is not None
        for raw in self.process.stderr:
            line = raw.decode()
            self.lines.append(line)
            if event in line:
                found: dict[str, Any] = json.loads(line)
                return found
        raise AssertionError(f"the daemon ended before it said {event!r}: {''.join(self.lines)}")

    def connect(self) -> socket.socket:
        client = socket.create_connection(self.address)
        client.settimeout(10)
        return client

    def ask(self, path: str) -> socket.socket:
        client = self.connect()
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        return client

    @property
    def address(self) -> tuple[str, int]:
        return self._address

    def ready(self) -> list[str]:
        addresses: list[str] = self.wait_for('"ready"')["addresses"]
        if addresses[0].startswith(("http://127.0.0.1:", "https://127.0.0.1:", "http://0.0.0.0:")):
            self._address = ("127.0.0.1", int(addresses[0].rpartition(":")[2]))
        return addresses

    def end(self, status: int = 0) -> str:
        """Wait for the end; all that was logged."""
        _, rest = self.process.communicate(timeout=20)
        self.lines.append(rest.decode())
        logged = "".join(self.lines)
        assert self.process.returncode == status, logged
        assert "Traceback" not in logged
        return logged


@contextmanager
def daemon(directory: Path, config: str, *arguments: str, **options: Any) -> Iterator[Daemon]:
    running = Daemon(directory, config, *arguments, **options)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()
        assert running.process.stderr is not None
        running.process.stderr.close()


def slow(timeouts: str = "{}") -> str:
    return (
        "listeners: [{http: '127.0.0.1:0'}]\n"
        f"timeouts: {timeouts}\n"
        "backends: {app: {wsgi: 'slow_application:app'}}\n"
        "routes: [{backend: app}]\n"
    )


FIXED = "listeners: [{http: '127.0.0.1:0'}]\nroutes: [{respond: {body: fixed}}]\n"


NOHUP = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, "-m", "gateway", *sys.argv[1:]])
"""


def read_all(client: socket.socket) -> bytes:
    received = b""
    while data := client.recv(65536):
        received += data
    return received


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_idle_connections_do_not_hold_the_end(tmp_path: Path, number: signal.Signals) -> None:
    """gunicorn#1236, granian#611: idle ones, and those that never said anything, end at once."""
    with daemon(tmp_path, FIXED) as running:
        running.ready()
        with running.ask("/") as used, running.connect() as silent:
            assert used.recv(65536).endswith(b"fixed")
            running.process.send_signal(number)
            assert used.recv(100) == b""
            assert silent.recv(100) == b""
        logged = running.end()
        assert f'"signal": "{number.name}"' in logged
        assert '"stopped"' in logged
        assert "waiting for requests" not in logged
        with pytest.raises(ConnectionRefusedError):
            running.connect()


def test_started_by_nohup_it_goes_on_when_the_terminal_is_closed(tmp_path: Path) -> None:
    with daemon(tmp_path, FIXED, program=("-c", NOHUP)) as running:
        running.ready()
        running.process.send_signal(signal.SIGHUP)
        with running.ask("/") as client:
            assert client.recv(65536).endswith(b"fixed")
        running.process.terminate()
        assert '"signal": "SIGTERM"' in running.end()


def test_log_file_is_opened_anew_at_sigusr1(tmp_path: Path) -> None:
    """As nginx and gunicorn have it in logrotate's postrotate. What replaces their program only says so."""
    access, old = tmp_path / "access.log", tmp_path / "access.log.1"
    with daemon(tmp_path, FIXED + "access_log: {destination: access.log}\n") as running:
        running.ready()
        with running.ask("/before") as client:
            assert client.recv(65536).endswith(b"fixed")
        access.rename(old)
        running.process.send_signal(signal.SIGUSR1)
        running.wait_for('"log files opened anew"')
        assert access.exists()
        running.process.send_signal(signal.SIGUSR2)
        assert "gateway reload" in running.wait_for('"SIGUSR2"')["event"]
        with running.ask("/after") as client:
            assert client.recv(65536).endswith(b"fixed")
        running.process.terminate()
        running.end()
    lines = [[json.loads(line)["target"] for line in each.read_text().splitlines()] for each in (old, access)]
    assert lines == [["/before"], ["/after"]]


def has_open(pid: int, path: Path) -> bool:
    for each in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # it was closed just now
            if os.readlink(f"/proc/{pid}/fd/{each}") == str(path):
                return True
    return False


@pytest.mark.parametrize("workers", [1, 2])
def test_sigusr1_ends_no_daemon_that_starts_or_stops(tmp_path: Path, workers: int) -> None:
    """What rotates logs knows nothing of that; systemd started it again, as one that has failed."""
    (tmp_path / "asked.py").write_text(
        "import atexit, os, signal\n"
        "from slow_application import app\n"
        "atexit.register(os.kill, os.getpid(), signal.SIGUSR1)\n"
    )
    os.mkfifo(tmp_path / "gateway.yaml")
    held = os.open(tmp_path / "gateway.yaml", os.O_RDWR)
    config = slow().replace("slow_application:app", "asked:app")
    with daemon(tmp_path, config, "--workers", str(workers)) as running:
        while not has_open(running.process.pid, tmp_path / "gateway.yaml"):
            assert running.process.poll() is None
        running.process.send_signal(signal.SIGUSR1)
        os.close(held)  # The end of the file, which it waits for.
        running.ready()
        running.process.terminate()
        running.end()


@pytest.mark.parametrize("path", ["/slow", "/begun"])
def test_running_request_is_finished(tmp_path: Path, path: str) -> None:
    """caddy#3818, gunicorn#1236: whole, and with `Connection: close` if its head was still to be sent."""
    with daemon(tmp_path, slow()) as running:
        running.ready()
        with running.ask(path) as client, running.connect() as helper:
            running.wait_for("reached")
            helper.sendall(b"GET /go HTTP/1.1\r\nHost: a\r\n")
            running.process.terminate()
            assert running.wait_for("waiting for requests")["connections"] >= 1
            helper.sendall(b"\r\n")  # was begun before, so it is answered, too
            received = read_all(client)
            assert b"done" in received if path == "/slow" else received.endswith(b"0\r\n\r\n")
            assert (b"\r\nconnection: close\r\n" in received) is (path == "/slow")
            assert b"done" in read_all(helper)
        assert "cut off" not in running.end()


def test_idle_connection_makes_room_for_a_new_one(tmp_path: Path) -> None:
    """limits.connections: who has nothing to ask is ended."""
    with daemon(tmp_path, FIXED + "limits: {connections: 1}\n") as running:
        running.ready()
        with running.ask("/") as first:
            assert first.recv(65536).endswith(b"fixed")
            with running.ask("/") as second:
                assert second.recv(65536).endswith(b"fixed")
                assert first.recv(100) == b""
        running.process.terminate()
        assert "limits.connections is reached" in running.end()


def test_new_connection_waits_while_the_others_are_busy(tmp_path: Path) -> None:
    """limits.connections: who is in the middle of a request is not ended; who waits is accepted then."""
    with daemon(tmp_path, FIXED + "limits: {connections: 1}\n") as running:
        running.ready()
        with running.connect() as first:
            # With the beginning of the next request in the same segment it is never idle.
            first.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n")
            assert first.recv(65536).endswith(b"fixed")
            with running.ask("/") as second:
                running.wait_for("limits.connections is reached")
                first.sendall(b"Host: a\r\n\r\n")
                assert first.recv(65536).endswith(b"fixed")
                # Now it is idle, and ended.
                assert second.recv(65536).endswith(b"fixed")
                assert first.recv(100) == b""
        running.process.terminate()
        running.end()


def test_connections_of_one_client_are_capped(tmp_path: Path) -> None:
    """Those beyond are closed at once; those that end make room."""
    with daemon(tmp_path, FIXED + "limits: {connections_per_client: 2}\n") as running:
        running.ready()
        with running.ask("/") as first, running.ask("/") as second:
            assert first.recv(65536).endswith(b"fixed")
            assert second.recv(65536).endswith(b"fixed")
            with running.connect() as third:
                assert third.recv(100) == b""
            assert running.wait_for("connection refused")["reason"] == "limits.connections_per_client"
            first.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert read_all(first).endswith(b"fixed")
        running.process.terminate()
        running.end()


def test_new_connections_are_refused_while_draining(tmp_path: Path) -> None:
    """hypercorn#128: the listeners close first."""
    with daemon(tmp_path, slow("{shutdown: 10s}")) as running:
        running.ready()
        with running.ask("/slow"):
            running.wait_for("reached")
            running.process.terminate()
            running.wait_for("waiting for requests")
            with pytest.raises(ConnectionRefusedError):
                running.connect()


def test_grace_is_bounded(tmp_path: Path) -> None:
    """caddy#3818: what takes longer is cut off, and the daemon ends all the same."""
    with daemon(tmp_path, asgi("{shutdown: 200ms}")) as running:
        running.ready()
        with running.ask("/slow") as client:
            running.wait_for("reached")
            running.process.terminate()
            assert read_all(client) == b""
        assert '"requests were cut off"' in running.end()


@pytest.mark.parametrize("address", ["127.0.0.1:0", ":0"])
def test_second_signal_ends_the_wait(tmp_path: Path, address: str) -> None:
    """What is waited for is told after a while; once, also where one listener has several sockets."""
    with daemon(tmp_path, asgi("{shutdown: 60s}").replace("127.0.0.1:0", address)) as running:
        running.ready()
        with running.ask("/slow?now") as client:
            running.wait_for("reached")
            running.process.terminate()
            assert running.wait_for("waiting for requests")["connections"] == 1
            told = running.wait_for("still waiting for requests")
            assert (told["requests"], told["oldest"]) == (1, ["GET /slow"])
            assert told["seconds"] <= 59
            running.process.terminate()
            assert read_all(client) == b""
        assert '"requests were cut off"' in running.end()


@pytest.mark.parametrize("process", ["shared", "own"])
def test_second_signal_ends_the_wait_for_an_application_that_does_not_stop(
    tmp_path: Path, process: str
) -> None:
    """One in a process of its own gets the signal, too."""
    config = asgi("{shutdown: 60s}", "endless_application:stopping", "on", process)
    with daemon(tmp_path, config) as running:
        running.ready()
        running.process.terminate()
        running.wait_for("reached")
        told = running.wait_for("waiting for applications")
        assert (told["backends"], round(told["seconds"])) == (["app"], 29 if process == "own" else 59)
        running.process.terminate()
        assert '"application did not shut down in time"' in running.end()


def test_second_signal_ends_the_wait_for_a_call_in_another_process(tmp_path: Path) -> None:
    """It is of WSGI, and cannot be cancelled."""
    config = slow().replace("slow_application:app'", "endless_application:wsgi', process: own")
    with daemon(tmp_path, config) as running:
        running.ready()
        with running.ask("/"):
            running.wait_for("reached")
            running.process.terminate()
            running.wait_for("waiting for requests")
            running.process.terminate()
            assert '"application calls are still running"' in running.end()


@pytest.mark.parametrize("output", ["sys.stdout", "open('/dev/full', 'w')"], ids=["", "full"])
@pytest.mark.parametrize("workers", [1, 2])
def test_second_signal_ends_the_wait_for_a_thread(tmp_path: Path, workers: int, output: str) -> None:
    """Python waits for it when the daemon has ended; so did a full output, for good."""
    (tmp_path / "stuck_thread.py").write_text(
        "import asyncio, os, sys, threading\n"
        f"sys.stdout = {output}\n"
        "sys.stdout.write('loaded')\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan':\n"
        "        await receive()\n"
        "        await send({'type': 'lifespan.startup.complete'})\n"
        "        await receive()\n"
        "        os.write(2, b'{}\\n')\n"  # in one piece: two workers say it at the same time
        "        return\n"
        "    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': b'left'})\n"
    )
    config = slow("{shutdown: 1h}").replace("wsgi: 'slow_application:app'", "asgi: 'stuck_thread:app'")
    with daemon(tmp_path, config, "--workers", str(workers)) as running:
        running.ready()
        with running.ask("/") as client:
            assert b"left" in client.recv(1000)
        running.process.terminate()
        for _ in range(workers):
            running.wait_for("{}")
        running.process.terminate()
        assert '"threads are left behind"' in running.end()


EXECUTOR_OF_A_DAEMON_THREAD = """
import threading
from concurrent.futures import ThreadPoolExecutor
def leave():
    ThreadPoolExecutor(thread_name_prefix="mine").submit(threading.Event().wait)
starter = threading.Thread(target=leave, daemon=True)
starter.start()
starter.join()
"""

PROCESS = """
import multiprocessing, os
ended, end = os.pipe()
def wait_for_the_end_of_the_parent():
    os.close(end)
    os.read(ended, 1)
multiprocessing.get_context("fork").Process(target=wait_for_the_end_of_the_parent, name="mine").start()
"""

FUNCTION = """
import atexit, threading
atexit.register(threading.Event().wait)
"""


@pytest.mark.parametrize(
    ("code", "what", "names"),
    [
        (EXECUTOR_OF_A_DAEMON_THREAD, "threads", {"threads": ["mine_0"]}),
        (PROCESS, "processes", {"processes": ["mine"]}),
        (FUNCTION, "functions at exit", {}),
    ],
    ids=["executor", "process", "function"],
)
def test_nothing_that_python_waits_for_holds_the_end(
    tmp_path: Path, code: str, what: str, names: dict[str, list[str]]
) -> None:
    """What marimo leaves behind, for instance; uvicorn ends by its signal, and waits for none of it."""
    (tmp_path / "leaving.py").write_text(f"{code}\nfrom slow_application import app\n")
    config = slow("{shutdown: 200ms}").replace("slow_application:app", "leaving:app")
    with daemon(tmp_path, config) as running:
        running.ready()
        running.process.terminate()
        waited = running.wait_for(f"waiting for {what}")
        left = running.wait_for(f"{what} are left behind")
        running.end()
    for said in waited, left:
        assert {key: said[key] for key in names} == names


@pytest.mark.parametrize("workers", [1, 2])
def test_thread_of_an_application_that_cannot_start_holds_up_no_message(tmp_path: Path, workers: int) -> None:
    """The reason came when the thread was left behind, after 30 seconds, where there are several workers."""
    (tmp_path / "failing.py").write_text(
        "import threading\n"
        "threading.Thread(target=threading.Event().wait, name='mine').start()\n"
        "import absent\n"
    )
    config = slow().replace("slow_application:app", "failing:app")
    with daemon(tmp_path, config, "--workers", str(workers)) as running:
        left = running.wait_for("threads are left behind")
        assert (left["threads"], left["patience"]) == (["mine"], 1)
        assert running.process.wait(60) == 1
        assert running.process.stderr is not None
        logged = "".join(running.lines) + running.process.stderr.read().decode()
    assert "gateway: backend app: the import of failing failed: ModuleNotFoundError" in logged


def test_what_ends_by_itself_is_not_left_behind(tmp_path: Path) -> None:
    """However little time requests have."""
    (tmp_path / "leaving.py").write_text(
        "import atexit, pathlib, time\n"
        "from slow_application import app\n"
        "atexit.register(pathlib.Path('left').touch)\n"
        "atexit.register(time.sleep, 0.01)\n"
    )
    config = slow("{shutdown: 0}").replace("slow_application:app", "leaving:app")
    with daemon(tmp_path, config) as running:
        running.ready()
        running.process.terminate()
        assert "left behind" not in running.end()
    assert (tmp_path / "left").exists()


def test_a_thread_that_holds_the_process_of_an_application_is_named(tmp_path: Path) -> None:
    """Nothing said why it was killed."""
    (tmp_path / "leaving.py").write_text(
        "import pathlib, threading\n"
        "from slow_application import app\n"
        "threading.Thread(target=pathlib.Path('held').read_bytes, name='mine').start()\n"
    )
    os.mkfifo(tmp_path / "held")
    config = slow().replace("slow_application:app'", "leaving:app', process: own")
    with daemon(tmp_path, config) as running:
        running.ready()
        running.process.terminate()
        told = running.wait_for("waiting for threads")
        assert (told["threads"], round(told["seconds"])) == (["mine"], 29)
        (tmp_path / "held").write_bytes(b"")
        running.end()


def test_second_signal_ends_the_process_of_an_application_without_an_error(tmp_path: Path) -> None:
    """It waits for a thread, behind the end of its loop."""
    (tmp_path / "leaving.py").write_text(
        "import threading\n"
        "from slow_application import app\n"
        "threading.Thread(target=threading.Event().wait, name='mine').start()\n"
    )
    config = slow().replace("slow_application:app'", "leaving:app', process: own")
    with daemon(tmp_path, config) as running:
        running.ready()
        running.process.terminate()
        running.wait_for("waiting for threads")
        running.process.terminate()
        assert '"error"' not in running.end()


IGNORES = """
import asyncio
async def app(scope, receive, send):
    await receive()
    if scope["type"] == "lifespan":
        await send({"type": "lifespan.startup.complete"})
        await receive()
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"left"})
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
"""


def test_an_application_that_ignores_its_end_is_none_that_hangs(tmp_path: Path) -> None:
    """However often: after all that is waited for the daemon ends as ever, and other applications can."""
    (tmp_path / "ignoring.py").write_text(IGNORES)
    config = slow().replace("wsgi: 'slow_application:app'", "asgi: 'ignoring:app', shutdown_timeout: 100ms")
    with daemon(tmp_path, config) as running:
        running.ready()
        with running.ask("/") as client:
            assert b"left" in client.recv(1000)
        running.process.terminate()
        assert "application ignores its end" in running.end()


OUTLIVES = """
import os, signal
child = os.fork()
while not child:
    signal.pause()
with open("child", "w") as file:
    file.write(str(child))
from slow_application import app
"""


def test_a_child_that_outlives_the_daemon_does_not_keep_its_address(tmp_path: Path) -> None:
    (tmp_path / "outlived.py").write_text(OUTLIVES)
    with daemon(tmp_path, slow().replace("slow_application:app", "outlived:app")) as running:
        running.ready()
        running.process.terminate()
        assert running.process.wait(timeout=20) == 0
        try:
            with pytest.raises(ConnectionRefusedError):
                running.connect()
        finally:
            os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


ASGI = """
import sys, time, trio
async def app(scope, receive, send):
    print("reached", file=sys.stderr, flush=True)
    await trio.sleep_forever()

async def stopping(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await app(scope, receive, send)

def wsgi(environ, start_response):
    print("reached", file=sys.stderr, flush=True)
    while True:
        time.sleep(1)
"""


def asgi(
    timeouts: str, target: str = "endless_application:app", lifespan: str = "off", process: str = "shared"
) -> str:
    """A configuration whose application never answers."""
    return (
        "listeners: [{http: '127.0.0.1:0'}]\n"
        f"timeouts: {timeouts}\n"
        f"backends: {{app: {{asgi: '{target}', loop: trio, lifespan: {lifespan}, process: {process}}}}}\n"
        "routes: [{backend: app}]\n"
    )


@pytest.fixture(autouse=True)
def endless_application(tmp_path: Path) -> None:
    log = ASGI.replace('"reached"', '\'{"event": "reached"}\'')
    (tmp_path / "endless_application.py").write_text(log)


def test_taken_port_is_one_message(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with daemon(tmp_path, FIXED.replace(":0'", f":{port}'")) as running:
            logged = running.end(1)
        assert logged.startswith(f"gateway: cannot listen on 127.0.0.1:{port}: Address already in use (")
        assert logged.count("\n") == 1


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_backend_that_cannot_start_is_one_message(tmp_path: Path, kind: str) -> None:
    config = slow().replace("wsgi: 'slow_application:app'", f"{kind}: 'no_such_module:app'")
    with daemon(tmp_path, config) as running:
        (line,) = running.end(1).splitlines()
    assert line.startswith("gateway: backend app: there is no module 'no_such_module'")


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_application_of_the_other_kind_is_one_message(tmp_path: Path, kind: str) -> None:
    other = "wsgi" if kind == "asgi" else "asgi"
    (tmp_path / "other_kind.py").write_text(
        "def wsgi(environ, start_response): ...\nasync def asgi(scope, receive, send): ...\n"
    )
    config = slow().replace("wsgi: 'slow_application:app'", f"{kind}: 'other_kind:{other}'")
    with daemon(tmp_path, config) as running:
        (line,) = running.end(1).splitlines()
    assert line.startswith(f"gateway: backend app: other_kind:{other} cannot be called with")
    assert line.endswith(f"expected {other}, or --{other}")


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_application_that_replaces_threads_is_one_message(tmp_path: Path, kind: str) -> None:
    """It would wait for ever for the first of them, and hear no signal."""
    pytest.importorskip("gevent")
    (tmp_path / "green.py").write_text(
        "from gevent import monkey\nmonkey.patch_all()\ndef app(*arguments): ...\n"
    )
    config = slow().replace("wsgi: 'slow_application:app'", f"{kind}: 'green:app'")
    with daemon(tmp_path, config) as running:
        (line,) = running.end(1).splitlines()
    assert line.startswith("gateway: backend app: green:app has gevent replace the threads of its process")
    assert line.endswith("http: {spawn: {command: [gunicorn, -k, gevent, …]}}")


def test_threads_that_the_system_has_no_room_for_are_one_message(tmp_path: Path) -> None:
    (tmp_path / "roomy.py").write_text(
        "import resource, threading\n"
        "threading.stack_size(64 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "def app(environ, start_response): ...\n"
    )
    config = slow().replace("wsgi: 'slow_application:app'", "wsgi: 'roomy:app', threads: 64")
    with daemon(tmp_path, config) as running:
        (line,) = running.end(1).splitlines()
    assert re.fullmatch(
        r"gateway: backend app: can't start new thread: \d+ of 64 threads are running; "
        "expected fewer, or a higher limit of memory or processes",
        line,
    )


def test_the_one_thread_that_the_system_has_no_room_for_is_one_message(tmp_path: Path) -> None:
    roomy = (
        "import resource, threading\n"
        "threading.stack_size(4 << 30)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n"
        "from gateway.__main__ import main; main()\n"
    )
    with daemon(tmp_path, FIXED, program=("-c", roomy)) as running:
        (line,) = running.end(1).splitlines()
    assert line == "gateway: can't start new thread: expected a higher limit of memory or processes"


def test_every_backend_that_cannot_start_is_named(tmp_path: Path) -> None:
    failing = "one: {wsgi: 'missing_one:app'}, two: {wsgi: 'missing_two:app'}"
    config = slow().replace("{app: ", f"{{{failing}, app: ")
    with daemon(tmp_path, config) as running:
        first, second = sorted(running.end(1).splitlines())
    assert "'missing_one'" in first
    assert "'missing_two'" in second


def test_unix_listener(tmp_path: Path) -> None:
    """Its mode, a stale file in its place, and its removal at the end."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    config = FIXED.replace("{http: '127.0.0.1:0'}", "{http: 'unix:socket', mode: '0600'}")
    with daemon(tmp_path, config) as running:
        assert running.ready() == [f"unix:{path}"]
        assert path.stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert read_all(client).endswith(b"fixed")
        running.process.terminate()
        running.end()
    assert not path.exists()


def test_ready_line_names_every_listener(tmp_path: Path) -> None:
    config = FIXED.replace("{http: '127.0.0.1:0'}", "{http: '127.0.0.1:0'}, {http: 'unix:socket'}")
    with daemon(tmp_path, config) as running:
        first, second = running.ready()
        assert first == f"http://127.0.0.1:{running.address[1]}"
        assert second == f"unix:{tmp_path}/socket"
        running.process.terminate()
        running.end()


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        (b"GET /x HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\nConnection: close\r\n\r\n", b"HTTP/1.1 404"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", b""),
    ],
    ids=["the first page of a failure", "the first client of HTTP/2"],
)
def test_shortage_of_descriptors_is_survived(tmp_path: Path, said: bytes, answered: bytes) -> None:
    """EMFILE pauses accepting; when connections end, the others are served.

    So it is when something is wanted meanwhile whose modules would only now be loaded.
    """

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))

    config = FIXED.replace("respond:", "match: {path: /}, respond:")
    with daemon(tmp_path, config, preexec_fn=limit) as running:
        running.ready()
        clients = [running.connect() for _ in range(60)]
        running.wait_for("cannot accept connections")
        # The pipe of the log must not fill meanwhile.
        told: list[bytes] = []
        drain = threading.Thread(target=lambda: told.extend(running.process.stderr or ()))
        drain.start()
        clients[0].sendall(said)
        assert read_all(clients[0])[:12] == answered
        for client in clients[:50]:
            client.close()
        with clients[-1] as last:
            last.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert read_all(last).endswith(b"fixed")
        for client in clients:
            client.close()
        running.process.terminate()
        drain.join(20)
        running.process.wait(20)
        assert running.process.returncode == 0
    # It was said once, and went on.
    assert [line for line in told if b"cannot accept" in line or b"Traceback" in line] == []


@pytest.mark.parametrize("workers", [1, 2])
def test_log_that_nobody_reads_holds_up_nothing(tmp_path: Path, workers: int) -> None:
    with daemon(tmp_path, FIXED, f"--workers={workers}") as running:
        running.ready()
        assert running.process.stderr is not None
        fcntl.fcntl(running.process.stderr, fcntl.F_SETPIPE_SZ, 4096)
        for _ in range(100):
            with running.ask("/") as client:
                assert client.recv(65536).endswith(b"fixed")
        running.process.terminate()
        assert running.process.wait(20) == 0


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("descriptors", [12, 13])
def test_start_without_enough_descriptors_is_one_message(
    tmp_path: Path, descriptors: int, workers: int
) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    (tmp_path / "app.py").write_text("async def app(scope, receive, send): ...\n")
    config = slow().replace("wsgi: 'slow_application:app'", "asgi: 'app:app'")
    with daemon(tmp_path, config, f"--workers={workers}", preexec_fn=limit) as running:
        (line,) = running.end(1).splitlines()
    assert line.startswith("gateway: ")
    assert "Too many open files" in line


def test_signal_while_a_backend_starts(tmp_path: Path) -> None:
    (tmp_path / "starting_application.py").write_text(
        "import sys, trio\n"
        "async def app(scope, receive, send):\n"
        '    print(\'{"event": "starting"}\', file=sys.stderr, flush=True)\n'
        "    await trio.sleep_forever()\n"
    )
    config = (
        asgi("{}")
        .replace("endless_application", "starting_application")
        .replace("lifespan: off", "lifespan: on")
    )
    with daemon(tmp_path, config) as running:
        running.wait_for("starting")
        running.process.terminate()
        assert '"ready"' not in running.end()


IMPORTED = """
import os, time
def start():
    os.write(2, b'{"event": "importing"}\\n')  # whole: another worker says it at the same time
    try:
        while True:  # where Python looks for signals: not between two calls into C, from 3.14 on
            time.sleep(0.1)
    except KeyboardInterrupt as error:
        raise RuntimeError("the application has its own idea of it") from error
start()
"""


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("process", ["shared", "own"])
@pytest.mark.parametrize("arguments", [[], ["--workers", "2"]])
def test_signal_during_an_import(
    tmp_path: Path,
    kind: str,
    number: signal.Signals,
    process: str,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the application makes of it; and the import of the next one does not begin."""
    # The other worker may be about to write what it has compiled, and warns of that file.
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    for name in ("slow_import", "another_slow_import"):
        (tmp_path / f"{name}.py").write_text(IMPORTED)
    config = (
        "listeners: [{http: '127.0.0.1:0'}]\n"
        "backends:\n"
        f"  one: {{{kind}: 'slow_import:app', process: {process}}}\n"
        f"  two: {{{kind}: 'another_slow_import:app', process: {process}}}\n"
        "routes: [{backend: one}]\n"
    )
    with daemon(tmp_path, config, *arguments) as running:
        running.wait_for("importing")
        running.process.send_signal(number)
        logged = running.end()
        assert '"stopped"' in logged
        assert "its own idea" not in logged
        for pid in re.findall('"event": "application process started", .*"pid": ([0-9]+)', logged):
            with pytest.raises(ProcessLookupError):
                os.kill(int(pid), 0)


SPAWNING = """
listeners: [{http: '127.0.0.1:0'}]
backends: {app: {%s: {spawn: {wsgi: 'slow_application:app', processes: 2}}}}
routes: [{backend: app}]
"""


@contextmanager
def killed_with_its_processes(running: Daemon, count: int) -> Iterator[None]:
    """Then the daemon is killed, and the *count* applications that it has started end with it."""
    started = [running.wait_for("application process started")["pid"] for _ in range(count)]
    watched = [os.pidfd_open(pid) for pid in started]
    try:
        running.ready()
        yield
        running.process.kill()
        for descriptor in watched:
            assert select.select([descriptor], [], [], 20)[0] == [descriptor]
    finally:
        for descriptor in watched:
            os.close(descriptor)


@pytest.mark.parametrize("protocol", ["fastcgi", "scgi", "uwsgi"])
def test_server_processes_end_with_a_daemon_that_is_killed(
    tmp_path: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else would end them: they lead sessions of their own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with (
        daemon(tmp_path, SPAWNING % protocol) as running,
        killed_with_its_processes(running, 2),
        running.ask("/") as client,
    ):
        assert client.recv(65536).startswith(b"HTTP/1.1 200")


WEBSOCKET = """
import sys
async def app(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    print('{"event": "reached"}', file=sys.stderr, flush=True)
    message = await receive()
    print('{"event": "told", "code": %d}' % message["code"], file=sys.stderr, flush=True)
"""


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_websocket_is_closed_when_the_daemon_stops(tmp_path: Path, loop: str) -> None:
    """granian#601: with 1012 and at once; the application is told, and the grace need not pass."""
    (tmp_path / "chat_application.py").write_text(WEBSOCKET)
    config = (
        "listeners: [{http: '127.0.0.1:0'}]\n"
        f"backends: {{app: {{asgi: 'chat_application:app', loop: {loop}, lifespan: off}}}}\n"
        "routes: [{backend: app}]\n"
    )
    offer = (
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with daemon(tmp_path, config) as running:
        running.ready()
        with running.connect() as client:
            client.sendall(offer)
            running.wait_for("reached")
            running.process.terminate()
            received = b""
            while not received.endswith(b"\x88\x02\x03\xf4"):
                piece = client.recv(65536)
                assert piece, received
                received += piece
            client.sendall(b"\x88\x82\0\0\0\0\x03\xf4")
            assert read_all(client) == b""
            assert running.wait_for("told")["code"] == 1012
        assert "cut off" not in running.end()
