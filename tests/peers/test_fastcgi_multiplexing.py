"""FastCGI applications of others, asked what they can do: flup shares connections, others do not."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.peers.conftest import CHECKOUT, Gateway, Program, RequireProgram, Response, RunGateway

APPLICATION = """
import sys, threading

together = threading.Barrier(4)
held = threading.Event()

def app(environ, start_response):
    path = environ["PATH_INFO"]
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    if path == "/together":
        together.wait(30)
    elif path == "/held":
        print("held", file=sys.stderr, flush=True)
        held.wait(30)
    elif path == "/release":
        held.set()
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/large":
        return (b"x" * 100_000 for _ in range(300))
    return [path.encode(), b"|", body]
"""

LIBFCGI = r"""
#include <fcgi_stdio.h>
int main(void) {
    while (FCGI_Accept() >= 0) printf("Content-Type: text/plain\r\n\r\nlibfcgi");
    return 0;
}
"""

FPM = """
[global]
error_log = /proc/self/fd/2
daemonize = no
[www]
listen = {directory}/fpm.sock
pm = static
pm.max_children = 2
{user}
"""


@contextmanager
def flup_behind(directory: Path, run_gateway: RunGateway) -> Iterator[tuple[Gateway, Program]]:
    """A gateway that knows that flup shares its connections, of which there may be one."""
    shutil.copy(CHECKOUT / "tests/peers/apps/flup_multiplexed.py", directory)
    (directory / "meeting_app.py").write_text(APPLICATION)
    settings = "multiplex: {requests: 8}, pool: {connections: 1}"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        command = [sys.executable, "flup_multiplexed.py", "meeting_app"]
        with Program(command, cwd=directory, stdin=listener, stdout=subprocess.DEVNULL) as flup:
            text = f"""
                backends: {{app: {{fastcgi: '{host}:{port}', keep_connection: true, {settings}}}}}
                routes: [{{backend: app}}]
            """
            with run_gateway(directory, text) as gateway:
                gateway.wait_for(lambda line: '"application capabilities"' in line)
                (told,) = gateway.events("application capabilities")
                assert told["multiplexes"] is True
                yield gateway, flup


def test_flup_has_several_requests_on_a_connection(tmp_path: Path, run_gateway: RunGateway) -> None:
    """FCGI-8, FCGI-17: each waits for the others, and there is one connection."""
    with flup_behind(tmp_path, run_gateway) as (gateway, _), ThreadPoolExecutor(4) as clients:
        bodies = [bytes([number]) * 100_000 for number in range(4)]
        for _ in range(3):
            answers: list[Response] = list(clients.map(lambda body: gateway.post("/together", body), bodies))
            assert [answer.body for answer in answers] == [b"/together|" + body for body in bodies]


def test_flup_answers_large_and_small_side_by_side(tmp_path: Path, run_gateway: RunGateway) -> None:
    """FCGI-4, 14.4: nothing of one is in another."""
    with flup_behind(tmp_path, run_gateway) as (gateway, _), ThreadPoolExecutor(6) as clients:
        paths = ["/large", "/a", "/large", "/b", "/large", "/c"]
        answers = list(clients.map(gateway.get, paths))
        for path, answer in zip(paths, answers, strict=True):
            assert answer.body == (b"x" * 30_000_000 if path == "/large" else f"{path}|".encode())


def test_flup_goes_on_when_a_client_has_gone(tmp_path: Path, run_gateway: RunGateway) -> None:
    """FCGI-16: the request is aborted, the connection is not."""
    with flup_behind(tmp_path, run_gateway) as (gateway, flup):
        client = gateway.connect()
        client.request("GET", "/held")
        flup.wait_for(lambda line: line == "held")
        client.close()
        assert gateway.get("/next").body == b"/next|"
        assert gateway.get("/release").body == b"/release|"
        assert gateway.get("/last").body == b"/last|"


def test_libfcgi_never_answers(
    tmp_path: Path, run_gateway: RunGateway, require_program: RequireProgram
) -> None:
    """FCGI-17, php-src#884: requests are served meanwhile, and each connection has one."""
    require_program("cc", "apt-get install gcc libfcgi-dev")
    (tmp_path / "app.c").write_text(LIBFCGI)
    done = subprocess.run(
        ["cc", "app.c", "-o", "app", "-lfcgi"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, f"apt-get install gcc libfcgi-dev: {done.stderr}"
    text = """
        backends:
          app: {fastcgi: {spawn: {command: [./app], processes: 2}}, keep_connection: true, multiplex: true}
        routes: [{backend: app}]
    """
    with run_gateway(tmp_path, text) as gateway, ThreadPoolExecutor(2) as clients:
        answers = list(clients.map(gateway.get, ["/"] * 6))
        assert [answer.body for answer in answers] == [b"libfcgi"] * 6
        assert not gateway.events("application capabilities")


def test_php_fpm_tells_that_it_cannot_share(
    tmp_path: Path, run_gateway: RunGateway, fpm_program: str
) -> None:
    """FCGI-27: the connection that it was asked over is of no more use; another one is used."""
    user = "user = root\ngroup = root" if os.geteuid() == 0 else ""
    (tmp_path / "fpm.conf").write_text(FPM.format(directory=tmp_path, user=user))
    (tmp_path / "hello.php").write_text("<?php echo 'php';")
    command = f"[{fpm_program}, --nodaemonize, --allow-to-run-as-root, --fpm-config, fpm.conf]"
    text = f"""
        backends:
          site:
            fastcgi: {{spawn: {{command: {command}, address: 'unix:fpm.sock', stop_signal: QUIT}}}}
            root: .
            preset: php-fpm
            get_values: true
        routes: [{{backend: site}}]
    """
    with run_gateway(tmp_path, text) as gateway, ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(gateway.get, ["/hello.php"] * 8))
        assert [answer.text for answer in answers] == ["php"] * 8
        line = gateway.wait_for(lambda line: '"application capabilities"' in line)
        assert '"multiplexes": false' in line
        assert '"connections": null' in line
