"""A program at an address that only one can have: a reload replaces it, and no request is lost."""

import http.client
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.gateway.served import unused_port
from tests.gateway.supervisor.supervised import Visitors, command, get, gone, until
from tests.gateway.test_daemon import Daemon, daemon

# It ends at once when it is told to, with all that it has, and cannot start while another has the address.
PROGRAM = """
import http.server, os, signal, socket, sys, time

address, version = sys.argv[1:]

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/die":
            end()
        if self.path == "/long":
            open("begun", "x").close()
            while not os.path.exists("go"):
                time.sleep(0.01)
        body = f"{version} {os.getpid()}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return "gateway"

    def log_message(self, *_):
        pass

class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_UNIX if "/" in address else socket.AF_INET

    def server_bind(self):
        if "/" in address and os.path.exists(address):
            sys.exit("the address is in use")
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self.socket.bind(address if "/" in address else ("127.0.0.1", int(address)))
        except OSError as error:
            sys.exit(str(error))

def end(*_):
    if "/" in address:
        os.unlink(address)
    os._exit(0)

signal.signal(signal.SIGTERM, end)
Server(address, Handler).serve_forever()
"""


@pytest.fixture(params=["tcp", "unix"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """As the program has it."""
    return str(unused_port()) if request.param == "tcp" else str(tmp_path / "program.sock")


def configure(directory: Path, address: str, version: str, startup_time: str = "60s") -> str:
    (directory / "program.py").write_text(PROGRAM)
    connect = f"unix:{address}" if "/" in address else f"127.0.0.1:{address}"
    return (
        "listeners: [{http: 127.0.0.1:0}]\naccess_log: false\ncontrol: unix:control.sock\n"
        "backends:\n  app:\n    http:\n"
        f"      spawn: {{command: [{sys.executable}, program.py, '{address}', {version}],\n"
        f"              address: '{connect}', startup_time: {startup_time}}}\n"
        "routes: [{match: {path: /hello}, respond: {body: hello}}, {backend: app}]\n"
    )


def test_no_request_is_lost_while_the_program_is_replaced(tmp_path: Path, address: str) -> None:
    with daemon(tmp_path, configure(tmp_path, address, "one"), start_new_session=True) as running:
        running.ready()
        assert get(running).startswith("one ")
        with Visitors(running) as visitors:
            for version in ("two", "three"):
                (tmp_path / "gateway.yaml").write_text(configure(tmp_path, address, version))
                done = command(tmp_path, "reload", "gateway.yaml")
                assert (done.returncode, done.stderr) == (0, "")
                until(lambda version=version: version in visitors.seen)  # type: ignore[misc]
        assert visitors.failures == []
        assert visitors.seen == {"one", "two", "three"}
        running.process.terminate()
        logged = running.end()
    assert "application process ended" not in logged  # none has died of the other


def test_what_runs_is_finished_before_the_program_is_replaced(tmp_path: Path, address: str) -> None:
    """Those that come meanwhile wait."""
    with daemon(tmp_path, configure(tmp_path, address, "one"), start_new_session=True) as running:
        running.ready()
        before = int(get(running).split()[1])
        answers: dict[str, str] = {}
        asking = [
            threading.Thread(target=lambda path=path: answers.update({path: get(running, path)}))
            for path in ("/long", "/next")
        ]
        asking[0].start()
        until((tmp_path / "begun").exists)
        (tmp_path / "gateway.yaml").write_text(configure(tmp_path, address, "two"))
        running.process.send_signal(signal.SIGHUP)
        running.wait_for("waiting for requests")  # the old worker takes no more
        asking[1].start()
        (tmp_path / "go").touch()
        for thread in asking:
            thread.join()
        assert answers["/long"] == f"one {before}"
        assert re.fullmatch(r"two \d+", answers["/next"])
        assert gone(before)
        running.process.terminate()
        running.end()


def test_last_request_on_a_connection_is_answered_by_the_new_program(tmp_path: Path, address: str) -> None:
    """A client that has kept its connection to the old worker has one more, whoever has the address."""
    with daemon(tmp_path, configure(tmp_path, address, "one"), start_new_session=True) as running:
        running.ready()
        idle = http.client.HTTPConnection(*running.address, timeout=60)
        idle.request("GET", "/")
        assert idle.getresponse().read().startswith(b"one ")
        (tmp_path / "gateway.yaml").write_text(configure(tmp_path, address, "two"))
        running.process.send_signal(signal.SIGHUP)
        running.wait_for('"reloaded"')
        running.wait_for("application process stopped")
        idle.request("GET", "/")
        response = idle.getresponse()
        assert (response.status, response.read()[:4]) == (200, b"two ")
        assert response.headers["connection"] == "close"
        idle.close()
        running.process.terminate()
        logged = running.end()
    assert logged.count("application process started") == 2
    assert "application process ended" not in logged


def test_program_stays_where_no_other_takes_its_place(tmp_path: Path, address: str) -> None:
    """A reload that fails has waited for it in vain, and one without the program does not want it."""
    config = configure(tmp_path, address, "one")
    begin = config.index("backends:")
    with daemon(tmp_path, config, start_new_session=True) as running:
        running.ready()
        before = get(running)
        broken = config.replace("backends:", "backends:\n  broken: {wsgi: 'absent:app'}")
        (tmp_path / "gateway.yaml").write_text(broken)
        assert "there is no module" in command(tmp_path, "reload", "gateway.yaml").stderr
        idle = http.client.HTTPConnection(*running.address, timeout=60)
        idle.request("GET", "/")
        assert idle.getresponse().read().decode() == before
        (tmp_path / "gateway.yaml").write_text(f"{config[:begin]}routes: [{{respond: {{body: two}}}}]\n")
        assert command(tmp_path, "reload", "gateway.yaml").returncode == 0
        until(lambda: get(running) == "two")
        idle.request("GET", "/")  # the last of a connection to the old worker
        assert idle.getresponse().read().decode() == before
        idle.close()
        running.process.terminate()
        running.end()


@contextmanager
def busy(running: Daemon, directory: Path) -> Iterator[None]:
    """The program has a request until the end."""
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(get(running, "/long")))
    asking.start()
    try:
        until((directory / "begun").exists)
        yield
    finally:
        (directory / "go").touch()
        asking.join()
    assert answers
    assert answers[0].startswith("one ")


def reload(directory: Path, config: str) -> None:
    (directory / "gateway.yaml").write_text(config)
    done = command(directory, "reload", "gateway.yaml")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("last", ["three", None], ids=["program", "no program"])
def test_requests_of_a_worker_that_was_replaced_while_it_waited(
    tmp_path: Path, address: str, last: str | None
) -> None:
    """They get to the program that comes in the end; if none does, to the one that they were for."""
    config = configure(tmp_path, address, "one")
    with daemon(tmp_path, config, start_new_session=True) as running:
        running.ready()
        with busy(running, tmp_path):
            reload(tmp_path, configure(tmp_path, address, "two"))
            middle = http.client.HTTPConnection(*running.address, timeout=120)
            middle.request("GET", "/hello")
            assert middle.getresponse().read() == b"hello"
            middle.request("GET", "/next")
            if last is None:
                begin = config.index("backends:")
                reload(tmp_path, f"{config[:begin]}routes: [{{respond: {{body: none}}}}]\n")
            else:
                reload(tmp_path, configure(tmp_path, address, last))
        response = middle.getresponse()
        assert (response.status, response.read().split()[0].decode()) == (200, last or "two")
        middle.close()
        assert get(running).split()[0] == (last or "none")
        if last is not None:  # and nobody is in the way of the next
            reload(tmp_path, configure(tmp_path, address, "four"))
            until(lambda: get(running).startswith("four "))
        running.process.terminate()
        logged = running.end()
    assert "application process ended" not in logged


def test_program_waits_for_the_old_one_for_as_long_as_that_is_busy(tmp_path: Path, address: str) -> None:
    """Requests do not."""
    with daemon(tmp_path, configure(tmp_path, address, "one"), start_new_session=True) as running:
        running.ready()
        with busy(running, tmp_path):
            reload(tmp_path, configure(tmp_path, address, "two", startup_time="2s"))
            running.wait_for("waiting for requests")  # the old worker takes no more
            for _ in range(2):
                asking = http.client.HTTPConnection(*running.address, timeout=60)
                asking.request("GET", "/")
                assert asking.getresponse().status == 503
                asking.close()
        running.wait_for("application process started")
        reload(tmp_path, configure(tmp_path, address, "three"))
        until(lambda: get(running).startswith("three "))
        running.process.terminate()
        logged = running.end()
    assert "application process ended" not in logged


def test_new_program_serves_where_the_old_one_is_not_started_again(tmp_path: Path, address: str) -> None:
    """What the old worker knows of its own program does not matter any more."""
    config = configure(tmp_path, address, "one")
    with daemon(
        tmp_path, config.replace("startup_time", "give_up: {deaths: 1, within: 60s}, startup_time")
    ) as running:
        running.ready()
        get(running)
        idle = http.client.HTTPConnection(*running.address, timeout=60)
        for path in ("/die", "/"):
            idle.request("GET", path)
            response = idle.getresponse()
            response.read()
            if path == "/die":
                running.wait_for("application given up")
        assert response.status == 503
        reload(tmp_path, configure(tmp_path, address, "two"))
        until(lambda: get(running).startswith("two "))
        idle.request("GET", "/")
        response = idle.getresponse()
        assert (response.status, response.read()[:4]) == (200, b"two ")
        idle.close()
        running.process.terminate()
        running.end()


def test_one_process_alone_waits_for_nobody(tmp_path: Path, address: str) -> None:
    """Whoever has the address, or says so: that its program cannot have it is told."""
    config = configure(tmp_path, address, "one").replace("control: unix:control.sock\n", "")
    others = tmp_path / "others"
    others.mkdir()
    (others / "program.py").write_text(PROGRAM)
    with daemon(tmp_path, config) as running:
        running.ready()
        assert get(running).startswith("one ")
        with daemon(others, config) as other:
            other.wait_for("application process ended")
            for each in (other, running):
                each.process.terminate()
                assert "application waits for its address" not in each.end()
