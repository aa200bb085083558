"""Servers of others as the gateway starts them: uWSGI, gunicorn, php-fpm, programs of any kind.

They accept on the socket that they inherit, or open their own; they are replaced while requests come, and
none fails; at the end nothing of them is left.
"""

import os
import select
import shutil
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from tests.peers.conftest import CHECKOUT, WAIT, Gateway, RequireProgram, RunGateway

PYTHON = sys.executable

PERL = r"""
use strict; use Socket;
# SCGI: one request after the other, on the standard input as it comes.
while (accept(my $connection, *STDIN)) {
    my ($size, $head, $char) = ("", "", "");
    $size .= $char while read($connection, $char, 1) && $char ne ":";
    read($connection, $head, $size + 1);
    my %variables = split /\0/, substr($head, 0, -1), -1;
    read($connection, my $body, $variables{CONTENT_LENGTH});
    print {$connection} "Status: 201 Created\r\nContent-Type: text/plain\r\n\r\n$$ $body";
    close $connection;
}
"""

NODE = """
const http = require("http");
const server = http.createServer((request, response) => {
  const pieces = [];
  request.on("data", piece => pieces.push(piece));
  request.on("end", () => {
    response.writeHead(201, {"Content-Type": "text/plain"});
    response.end(`${request.url} ${process.pid} ${Buffer.concat(pieces)}`);
  });
});
server.listen(process.env.PORT, "127.0.0.1");
process.on("SIGTERM", () => server.close(() => process.exit(0)));
"""

FPM = """
[global]
error_log = /proc/self/fd/2
daemonize = no
[www]
listen = {directory}/fpm.sock
{user}
pm = static
pm.max_children = 2
catch_workers_output = yes
"""

UWSGI = (
    "[uwsgi, --plugin, python3, --socket, 'fd://0', --need-app, --master, --processes, '2', "
    "--module, 'echo_app:app']"
)
GUNICORN = f"[{PYTHON}, -m, gunicorn, --workers, '1', --threads, '4', 'echo_app:app', --bind"

KINDS: dict[str, tuple[tuple[str, str] | None, str]] = {
    # kind: the program that it needs and how it is installed, the backend
    "uwsgi": (
        ("uwsgi", "apt-get install uwsgi-core uwsgi-plugin-python3"),
        f"{{uwsgi: {{spawn: {{command: {UWSGI}, stop_signal: INT, ...}}}}, buffer_size: 4096}}",
    ),
    "gunicorn-fd": (None, f"{{http: {{spawn: {{command: {GUNICORN}, 'fd://0'], ...}}}}}}"),
    "gunicorn-socket": (None, f"{{http: {{spawn: {{command: {GUNICORN}, 'unix:{{socket}}'], ...}}}}}}"),
    "gunicorn-port": (None, f"{{http: {{spawn: {{command: {GUNICORN}, '127.0.0.1:{{port}}'], ...}}}}}}"),
    "perl": (
        ("perl", "apt-get install perl"),
        "{scgi: {spawn: {command: [perl, echo.pl], ...}}}",
    ),
    "node": (
        ("node", "apt-get install nodejs"),
        "{http: {spawn: {command: [node, echo.js], env: {PORT: '{port}'}, ...}}}",
    ),
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    shutil.copy(CHECKOUT / "tests/peers/apps/echo_app.py", tmp_path)
    (tmp_path / "echo.pl").write_text(PERL)
    (tmp_path / "echo.js").write_text(NODE)
    return tmp_path


def descendants(pid: int) -> set[int]:
    """The processes below *pid*."""
    found: set[int] = set()
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            found |= {child} | descendants(child)
    return found


def assert_all_gone(pids: set[int]) -> None:
    """What was killed with its group may take a moment."""
    for pid in pids:
        with suppress(ProcessLookupError), os.fdopen(os.pidfd_open(pid)) as pidfd:
            assert select.select([pidfd], [], [], WAIT)[0], f"process {pid} is left"


@pytest.mark.parametrize("kind", KINDS)
def test_server_is_started_replaced_and_stopped(
    kind: str, directory: Path, run_gateway: RunGateway, require_program: RequireProgram
) -> None:
    """POSTs, which nobody repeats, go on while the processes behind them are replaced twice."""
    program, backend = KINDS[kind]
    if program is not None:
        require_program(*program)
    backend = backend.replace("...", "max_requests: 20")
    failures: list[object] = []

    def client(gateway: Gateway, number: int) -> None:
        while not failures and len(gateway.events("application process stopped")) < 2:
            answer = gateway.post(f"/{number}", b"the body")
            if answer.status != 201 or not answer.body.endswith(b"the body"):
                failures.append((answer.status, answer.body))

    with run_gateway(directory, f"backends: {{app: {backend}}}\nroutes: [{{backend: app}}]") as gateway:
        clients = [threading.Thread(target=client, args=(gateway, number)) for number in range(3)]
        for each in clients:
            each.start()
        for each in clients:
            each.join()
        assert not failures
        processes = descendants(gateway.pid)
        assert processes
    assert_all_gone(processes)


def test_php_fpm_at_an_address_of_its_own(directory: Path, run_gateway: RunGateway, fpm_program: str) -> None:
    """J01: php-fpm opens its socket itself; its graceful signal is QUIT."""
    user = "user = root\ngroup = root" if os.geteuid() == 0 else ""
    (directory / "fpm.conf").write_text(FPM.format(directory=directory, user=user))
    (directory / "hello.php").write_text("<?php echo getmypid();")
    command = f"[{fpm_program}, --nodaemonize, --allow-to-run-as-root, --fpm-config, fpm.conf]"
    spawn = f"{{command: {command}, address: 'unix:fpm.sock', stop_signal: QUIT}}"
    text = f"""
        backends: {{site: {{fastcgi: {{spawn: {spawn}}}, root: ., preset: php-fpm}}}}
        routes: [{{backend: site}}]
    """
    with run_gateway(directory, text) as gateway:
        assert int(gateway.get("/hello.php").text) in descendants(gateway.pid)
        processes = descendants(gateway.pid)
        assert len(processes) == 3  # the master and two workers
    assert_all_gone(processes)


@pytest.mark.parametrize("kind", ["gunicorn-fd", "perl"])
def test_command_ends_when_the_gateway_is_killed(
    kind: str, directory: Path, require_program: RequireProgram
) -> None:
    """prctl(2), PR_SET_PDEATHSIG: nobody is left who would stop it."""
    program, backend = KINDS[kind]
    if program is not None:
        require_program(*program)
    require_program("setpriv", "apt-get install util-linux")
    backend = backend.replace(", ...", "")
    config = directory / "gateway.yaml"
    config.write_text(
        f"listeners: [{{http: '127.0.0.1:0'}}]\nbackends: {{app: {backend}}}\nroutes: [{{backend: app}}]"
    )
    with Gateway(config, cwd=directory, env={**os.environ, "TMPDIR": str(directory)}) as gateway:
        assert gateway.post("/", b"x").status == 201
        processes = descendants(gateway.pid)
        assert processes
        os.kill(gateway.pid, signal.SIGKILL)
        assert_all_gone(processes)
