"""Applications that take what is the daemon's: its log, its signals, its standard files, a copy of itself."""

import contextlib
import http.client
import json
import os
import signal
import socket
from pathlib import Path
from typing import Final

import pytest

from tests.gateway.supervisor.supervised import receive_until, until
from tests.gateway.test_daemon import Daemon, daemon

ANSWER: Final = """
async def asgi(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    body = answer()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})

def wsgi(environ, start_response):
    body = answer()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body]
"""

OFFER: Final = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
"""Of a WebSocket."""

HELLO: Final = "def answer():\n    return b'hello'\n"

KINDS: Final = {
    "asyncio": "asgi: manners:asgi",
    "trio": "asgi: manners:asgi, loop: trio",
    "wsgi": "wsgi: manners:wsgi",
}
SPAWNED: Final = {
    protocol: f"{protocol}: {{spawn: {{wsgi: 'manners:wsgi'}}}}" for protocol in ("fastcgi", "scgi", "uwsgi")
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def config(kind: str) -> str:
    return (
        "listeners: [{http: '127.0.0.1:0'}]\n"
        f"backends: {{app: {{{(KINDS | SPAWNED)[kind]}}}}}\n"
        "routes: [{backend: app}]\n"
    )


def write(directory: Path, source: str) -> None:
    (directory / "manners.py").write_text(source + ANSWER)


def get(running: Daemon, status: int = 200, path: str = "/") -> bytes:
    connection = http.client.HTTPConnection(*running.address, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        assert response.status == status
        return response.read()
    finally:
        connection.close()


class Unix:
    """A connection to a Unix socket, which may not be there yet."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        until(lambda: self._socket.connect_ex(str(path)) == 0)

    def get(self) -> bytes:
        self._socket.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        head, _, body = receive_until(self._socket, b"hello").partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        return body

    def close(self) -> None:
        self._socket.close()


STRUCTLOG: Final = """
import structlog

def with_tenant(logger, method, event):
    event["tenant"] = structlog.contextvars.get_contextvars()["tenant"]
    return event

structlog.configure(
    processors=[with_tenant, structlog.processors.KeyValueRenderer()],
    logger_factory=structlog.WriteLoggerFactory(open("own.log", "w", buffering=1)),
)

def answer():
    with structlog.contextvars.bound_contextvars(tenant="acme"):
        structlog.get_logger().info("asked")
    1 / 0
"""


@each_kind
def test_structlog_of_an_application_is_its_own(tmp_path: Path, kind: str) -> None:
    write(tmp_path, STRUCTLOG)
    with daemon(tmp_path, config(kind)) as running:
        running.ready()
        get(running, status=500)
        failed = running.wait_for("application failed")
        assert (failed["level"], failed["path"]) == ("error", "/")
        assert "ZeroDivisionError" in failed["exception"]
        running.process.terminate()
        assert running.process.wait(20) == 0
    assert (tmp_path / "own.log").read_text() == "event='asked' tenant='acme'\n"


@each_kind
def test_signals_that_an_application_takes_stop_the_daemon(tmp_path: Path, kind: str) -> None:
    write(tmp_path, "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + HELLO)
    with daemon(tmp_path, config(kind)) as running:
        running.ready()
        assert get(running) == b"hello"
        running.process.terminate()
        assert "signal handler of an application is not kept" in running.end()


@each_kind
def test_no_connection_gets_the_log(tmp_path: Path, kind: str) -> None:
    """Descriptor 2 is where the log is written; the next connection would be it."""
    write(tmp_path, "import os\nfor descriptor in range(3):\n    os.close(descriptor)\n" + HELLO)
    source = config(kind).replace("0'}", "0'}, {http: 'unix:http.sock'}")
    with daemon(tmp_path, source) as running:
        # Nothing is logged any more: the address is that of the socket's file.
        connections = [Unix(tmp_path / "http.sock") for _ in range(4)]
        for each in connections:
            assert each.get() == b"hello"
        for each in connections:
            assert each.get() == b"hello"
            each.close()
        running.process.terminate()
        assert running.process.wait(20) == 0


def test_process_of_its_own_without_standard_files(tmp_path: Path) -> None:
    """Descriptor 0 is where it is told to listen."""
    write(tmp_path, "import os\nfor descriptor in range(3):\n    os.close(descriptor)\n" + HELLO)
    source = config("asyncio").replace("manners:asgi", "manners:asgi, process: own")
    with daemon(tmp_path, source) as running:
        running.ready()
        assert get(running) == b"hello"
        running.process.terminate()
        assert running.process.wait(20) == 0


FORK: Final = """
import os, sys

def fork(error, prepare=lambda: None):
    child = os.fork()
    if not child:
        prepare()
        raise error
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


@each_kind
def test_child_that_leaves_by_an_exception_ends(tmp_path: Path, kind: str) -> None:
    """At import and in a request: else there would be two daemons with the same connections."""
    source = """
ended = [fork(SystemExit(3))]

def answer():
    return repr([*ended, fork(SystemExit()), fork(SystemExit("last words")), fork(ValueError())]).encode()
"""
    write(tmp_path, FORK + source)
    with daemon(tmp_path, config(kind)) as running:
        running.ready()
        for _ in range(2):
            assert json.loads(get(running)) == [3, 0, 1, 1]
        running.process.terminate()
        assert running.process.wait(20) == 0
        assert running.process.stderr is not None
        assert b"not kept" not in running.process.stderr.read()
    assert "not kept" not in "".join(running.lines)


@each_kind
def test_child_ends_whatever_has_become_of_its_streams(tmp_path: Path, kind: str) -> None:
    source = """
def break_pipe():
    reads, writes = os.pipe()
    os.close(reads)
    sys.stdout = sys.stderr = open(writes, "w")

def lose():
    sys.stdout = sys.stderr = None

def answer():
    return repr([
        fork(SystemExit(4), sys.stdout.close),
        fork(SystemExit(4), sys.stderr.close),
        fork(SystemExit("last words"), sys.stderr.close),
        fork(SystemExit(4), lose),
        fork(ValueError(), lose),
        fork(ValueError(), break_pipe),
        fork(SystemExit(2**40 + 5)),
    ]).encode()
"""
    write(tmp_path, FORK + source)
    with daemon(tmp_path, config(kind)) as running:
        running.ready()
        for _ in range(2):
            assert json.loads(get(running)) == [4, 4, 1, 4, 1, 1, 5]
        running.process.terminate()
        assert running.process.wait(20) == 0


@pytest.mark.parametrize("kind", ["asyncio", "trio"])
def test_child_ends_in_the_lifespan_and_in_websockets(tmp_path: Path, kind: str) -> None:
    source = """
from pathlib import Path

async def asgi(scope, receive, send):
    await receive()
    with open(scope["type"], "a") as file:
        print(fork(SystemExit(3)), file=file)
    if scope["type"] == "lifespan":
        await send({"type": "lifespan.startup.complete"})
        await receive()
        with open("lifespan", "a") as file:
            print(fork(SystemExit(4)), file=file)
        await send({"type": "lifespan.shutdown.complete"})
    else:
        await send({"type": "websocket.close"})
"""
    (tmp_path / "manners.py").write_text(FORK + source)
    with daemon(tmp_path, config(kind)) as running:
        running.ready()
        with running.connect() as client:
            client.sendall(OFFER)
            assert client.recv(13) == b"HTTP/1.1 403 "
        running.process.terminate()
        logged = running.end()
        assert logged.count('"ready"') == 1
        assert "failed" not in logged
    assert (tmp_path / "lifespan").read_text() == "3\n4\n"
    assert (tmp_path / "websocket").read_text() == "3\n"


@each_kind
def test_an_exception_that_cannot_be_shown_is_a_500(kind: str, tmp_path: Path) -> None:
    """Whatever it makes of being asked what it says, there are other requests."""
    source = """
import logging

class Kind(type):
    def __getattribute__(cls, name):
        if name in ("__name__", "__qualname__"):
            raise KeyError(name)
        return super().__getattribute__(name)

class Mute(Exception, metaclass=Kind):
    @property
    def __notes__(self):
        raise LookupError

def answer():
    try:
        raise Mute("secret")
    except Mute:
        logging.exception("told")
        raise
"""
    write(tmp_path, source)
    with daemon(tmp_path, config(kind)) as running:
        running.ready()
        for _ in range(2):
            get(running, 500)
            told, failed = running.wait_for("told"), running.wait_for("application failed")
            for entry in (told, failed):
                assert "in answer" in entry["exception"]
                assert "Mute: what it says cannot be shown: " in entry["exception"]
        running.process.terminate()
        assert running.process.wait(60) == 0


def test_child_ends_in_close_of_a_wsgi_response(tmp_path: Path) -> None:
    source = """
class Body:
    def __iter__(self):
        return iter([b"hello"])

    def close(self):
        ended.append(fork(SystemExit(3)))

ended = []

def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return Body() if environ["PATH_INFO"] == "/close" else [repr(ended).encode()]
"""
    (tmp_path / "manners.py").write_text(FORK + source)
    source = config("wsgi").replace("manners:wsgi", "manners:wsgi, threads: 1")
    with daemon(tmp_path, source) as running:
        running.ready()
        assert get(running, path="/close") == b"hello"
        assert get(running) == b"[3]"
        running.process.terminate()
        assert "failed" not in running.end()


GO_ON: Final = """
import os

def go_on():
    child = os.fork()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if child else "child"
"""


@pytest.mark.parametrize("kind", [*KINDS, *SPAWNED])
def test_child_that_answers_in_its_parents_place_ends(tmp_path: Path, kind: str) -> None:
    """Else the client would have two answers, and the daemon another with the same connections."""
    write(tmp_path, GO_ON + "\ndef answer():\n    return b'%r' % go_on()\n")
    with daemon(tmp_path, config(kind), start_new_session=True) as running:
        try:
            running.ready()
            with contextlib.closing(http.client.HTTPConnection(*running.address, timeout=10)) as client:
                for _ in range(2):
                    client.request("GET", "/")
                    assert client.getresponse().read() == b"1"
            running.process.terminate()
            assert running.process.wait(20) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.process.pid, signal.SIGKILL)


@each_kind
def test_child_that_goes_on_after_the_import_ends(tmp_path: Path, kind: str) -> None:
    write(tmp_path, GO_ON + "\nended = go_on()\n\ndef answer():\n    return b'%r' % ended\n")
    with daemon(tmp_path, config(kind), start_new_session=True) as running:
        try:
            running.ready()
            assert get(running) == b"1"
            running.process.terminate()
            assert running.process.wait(20) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.process.pid, signal.SIGKILL)


@pytest.mark.parametrize("kind", ["asyncio", "trio"])
@pytest.mark.parametrize("then", ["await send(answer)", "return"])
def test_child_that_goes_on_in_the_lifespan_or_a_websocket_ends(tmp_path: Path, kind: str, then: str) -> None:
    source = f"""
async def asgi(scope, receive, send):
    await receive()
    name, answer = {{
        "lifespan": ("started", {{"type": "lifespan.startup.complete"}}),
        "websocket": ("websocket", {{"type": "websocket.close"}}),
    }}[scope["type"]]
    ended = go_on()
    if ended == "child":
        {then}
        return
    with open(name, "a") as file:
        print(ended, file=file)
    await send(answer)
    if scope["type"] == "lifespan":
        await receive()
        await send({{"type": "lifespan.shutdown.complete"}})
"""
    (tmp_path / "manners.py").write_text(GO_ON + source)
    with daemon(tmp_path, config(kind), start_new_session=True) as running:
        try:
            running.ready()
            with running.connect() as client:
                client.sendall(OFFER)
                assert client.recv(13) == b"HTTP/1.1 403 "
            running.process.terminate()
            assert running.process.wait(20) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.process.pid, signal.SIGKILL)
    assert (tmp_path / "started").read_text() == "1\n"
    assert (tmp_path / "websocket").read_text() == "1\n"


@pytest.mark.parametrize("kind", SPAWNED)
def test_child_of_a_spawned_application_ends(tmp_path: Path, kind: str) -> None:
    source = """
process = os.getpid()

class Body:
    def __iter__(self):
        yield b"%d" % fork(SystemExit(4))

    def close(self):
        if os.getpid() == process:
            with open("closed", "a") as file:
                print(fork(SystemExit(5)), file=file)

def wsgi(environ, start_response):
    start_response("200 OK", [("X-Ended", str(fork(SystemExit(3))))])
    return Body()
"""
    (tmp_path / "manners.py").write_text(FORK + source)
    with daemon(tmp_path, config(kind)) as running:
        running.ready()
        with contextlib.closing(http.client.HTTPConnection(*running.address, timeout=10)) as client:
            client.request("GET", "/")
            response = client.getresponse()
            assert response.status == 200
            assert response.getheader("X-Ended") == "3"
            assert response.read() == b"4"
        running.process.terminate()
        running.end()
    assert (tmp_path / "closed").read_text() == "5\n"


def test_daemon_in_a_forked_process_is_none_of_its_children(tmp_path: Path) -> None:
    """What fails in its application does not end it."""
    source = """
import os, signal, sys
import gateway.daemon
from gateway.cli.commands import main

child = os.fork()
if not child:
    main()
signal.signal(signal.SIGTERM, lambda number, frame: os.kill(child, number))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    write(tmp_path, "def answer():\n    1 / 0\n")
    (tmp_path / "forks.py").write_text(source)
    with daemon(tmp_path, config("wsgi"), program=("forks.py",), start_new_session=True) as running:
        try:
            running.ready()
            for _ in range(2):
                get(running, status=500)
            running.process.terminate()
            assert running.process.wait(20) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.process.pid, signal.SIGKILL)


@pytest.mark.parametrize("kind", [*KINDS, *SPAWNED])
def test_processes_of_a_fork_server_are_none_of_this_server(tmp_path: Path, kind: str) -> None:
    """How multiprocessing starts them from Python 3.14 on: they import the main program, this one, anew."""
    source = """
import multiprocessing, os, signal, time
context = multiprocessing.get_context("forkserver")

def sockets():
    opened = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
    return [target for target in map(os.readlink, filter(os.path.exists, opened)) if "socket" in target]

def tell(sender):
    sender.send([sockets(), signal.getsignal(signal.SIGTERM) == signal.SIG_DFL])

def answer():
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=tell, args=(sender,))
    child.start()
    told = receiver.recv()
    child.join(5)
    receiver.close()
    sender.close()
    stuck = context.Process(target=time.sleep, args=(60,))
    stuck.start()
    stuck.terminate()
    stuck.join(5)
    return repr([*told, child.exitcode, stuck.exitcode]).encode()
"""
    write(tmp_path, source)
    with daemon(tmp_path, config(kind)) as running:
        running.ready()
        for _ in range(2):
            assert get(running) == b"[[], True, 0, -15]"
        running.process.terminate()
        assert "stopped" in running.end()


@pytest.mark.parametrize("kind", [*KINDS, *SPAWNED])
def test_signals_end_children(tmp_path: Path, kind: str) -> None:
    source = """
import multiprocessing, os, signal, threading
context = multiprocessing.get_context("fork")

def end(child):
    child.start()
    child.terminate()
    child.join(5)
    return child.exitcode

def have_a_handler():
    signal.signal(signal.SIGTERM, print)
    child = os.fork()
    kept = signal.getsignal(signal.SIGTERM) is print
    os._exit(kept if not child else os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

def answer():
    family = context.Process(target=have_a_handler)
    family.start()
    family.join(5)
    return repr([os.getpid(), end(context.Process(target=threading.Event().wait)), family.exitcode]).encode()
"""
    write(tmp_path, source)
    with daemon(tmp_path, config(kind)) as running:
        running.ready()
        process, *ended = json.loads(get(running))
        assert ended == [-15, 1]
        assert json.loads(get(running))[0] == process
        running.process.terminate()
        assert "application process ended" not in running.end()


@pytest.mark.parametrize("kind", ["asyncio", "trio"])
@pytest.mark.parametrize("size", [5, 200_000])
def test_child_forked_between_head_and_body_says_nothing(tmp_path: Path, kind: str, size: int) -> None:
    source = f"""
import os

async def asgi(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    await send({{"type": "http.response.body", "body": b"%d " % os.getpid() + b"x" * {size}}})
"""
    (tmp_path / "manners.py").write_text(source)
    with daemon(tmp_path, config(kind)) as running:
        running.ready()
        with socket.create_connection(running.address, timeout=10) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            received = b"".join(iter(lambda: client.recv(65536), b""))
        assert received.count(b"HTTP/1.1 200 OK") == 2
        assert received.count(b"%d x" % running.process.pid) == 2
        running.process.terminate()
        assert running.end().count("came back to answer") == 2


@pytest.mark.parametrize("kind", SPAWNED)
def test_signals_of_children_are_not_the_parents(tmp_path: Path, kind: str) -> None:
    """Not even those that a child handles itself."""
    source = """
import os, signal

def answer():
    child = os.fork()
    if not child:
        signal.signal(signal.SIGTERM, lambda number, frame: os._exit(3))
        signal.raise_signal(signal.SIGTERM)
        os._exit(4)
    return repr([os.getpid(), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]).encode()
"""
    write(tmp_path, source)
    with daemon(tmp_path, config(kind)) as running:
        running.ready()
        process, ended = json.loads(get(running))
        assert ended == 3
        assert json.loads(get(running))[0] == process
        running.process.terminate()
        assert "application process ended" not in running.end()


@pytest.mark.parametrize("kind", SPAWNED)
def test_other_signals_do_not_stop_a_spawned_application(tmp_path: Path, kind: str) -> None:
    source = """
import os, signal

signal.signal(signal.SIGCHLD, lambda number, frame: None)

def answer():
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return b"%d" % os.getpid()
"""
    write(tmp_path, source)
    with daemon(tmp_path, config(kind)) as running:
        running.ready()
        assert get(running) == get(running)
        running.process.terminate()
        assert "application process ended" not in running.end()


@pytest.mark.parametrize("kind", SPAWNED)
def test_spawned_application_without_standard_input(tmp_path: Path, kind: str) -> None:
    """Descriptor 0 is where it is told to listen."""
    write(tmp_path, "import os\nos.close(0)\n" + HELLO)
    with daemon(tmp_path, config(kind)) as running:
        running.ready()
        assert get(running) == b"hello"
        running.process.terminate()
        running.end()


def test_wsgi_application_runs_loops_of_its_own(tmp_path: Path) -> None:
    """When it is imported, too: it knows nothing of the loop around it."""
    source = """
import anyio, asyncio, sniffio

async def name():
    await anyio.sleep(0)
    return sniffio.current_async_library()

names = [asyncio.run(name()), anyio.run(name)]

def answer():
    return repr([*names, anyio.run(name, backend="trio")]).encode()
"""
    write(tmp_path, source)
    with daemon(tmp_path, config("wsgi")) as running:
        running.ready()
        assert get(running) == b"['asyncio', 'asyncio', 'trio']"
        running.process.terminate()
        running.end()


@pytest.mark.parametrize("kind", ["asyncio", "trio"])
def test_context_variables_of_the_import_are_in_all_requests(kind: str, tmp_path: Path) -> None:
    """As they are with uvicorn and hypercorn; what a request sets is its own."""
    source = """
from contextvars import ContextVar

service = ContextVar("service", default="none")
service.set("shop")

def answer():
    found = service.get()
    service.set("changed")
    return found.encode()
"""
    write(tmp_path, source)
    with daemon(tmp_path, config(kind)) as running:
        running.ready()
        assert [get(running), get(running)] == [b"shop", b"shop"]
        running.process.terminate()
        running.end()
