"""A program at an address that only one can have: a reload replaces it, and no request is lost."""

import http.client
import re
import signal
import sys
import threading
from pathlib import Path

import pytest

from tests.gateway.served import unused_port
from tests.gateway.supervisor.supervised import Visitors, command, get, gone, until
from tests.gateway.test_daemon import daemon

# It ends at once when it is told to, with all that it has, and cannot start while another has the address.
PROGRAM = """
import http.server, os, signal, socket, sys, time

address, version = sys.argv[1:]

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
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
        self.socket.bind(address if "/" in address else ("127.0.0.1", int(address)))

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


def configure(directory: Path, address: str, version: str) -> str:
    (directory / "program.py").write_text(PROGRAM)
    connect = f"unix:{address}" if "/" in address else f"127.0.0.1:{address}"
    return (
        "listeners: [{http: 127.0.0.1:0}]\naccess_log: false\ncontrol: unix:control.sock\n"
        "backends:\n  app:\n    http:\n"
        f"      spawn: {{command: [{sys.executable}, program.py, '{address}', {version}],\n"
        f"              address: '{connect}'}}\n"
        "routes: [{backend: app}]\n"
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
        running.wait_for('"reloaded"')
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
        running.end()


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
