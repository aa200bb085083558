"""The servers of spawned WSGI applications: the same promises for FastCGI, SCGI and uwsgi."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.appserver.flup import _FastCGIServer, _SCGIServer
from gateway.appserver.listener import OpenConnections
from gateway.appserver.report import DRAINING, READY, SPENT, Report
from gateway.protocols.codec import ClientCodec
from gateway.protocols.errors import Incomplete
from gateway.protocols.fastcgi import FastCgiClient
from gateway.protocols.scgi import ScgiClient
from gateway.protocols.uwsgi import PING, PONG, UwsgiClient
from tests.gateway.appserver.conftest import CHECKOUT, Server

PROTOCOLS: list[tuple[str, Callable[[], ClientCodec]]] = [
    ("fastcgi", FastCgiClient),
    ("scgi", ScgiClient),
    ("uwsgi", UwsgiClient),
]


@pytest.fixture(params=PROTOCOLS, ids=[name for name, _ in PROTOCOLS])
def protocol(request: pytest.FixtureRequest) -> tuple[str, Callable[[], ClientCodec]]:
    return request.param  # type: ignore[no-any-return]


def test_application_sees_the_variables(server: Server) -> None:
    response = server.ask("variables", HTTP_X_TEA="gr\xfcn", HTTPS="on")
    assert response.status == 200
    assert (b"content-type", b"text/plain") in response.headers
    variables = dict(line.split(b"=", 1) for line in response.body.splitlines())
    assert variables.pop(b"SCGI", b"1") == b"1"
    assert variables == {
        b"CONTENT_LENGTH": b"0",
        b"HTTPS": b"on",
        b"HTTP_X_TEA": b"gr\xfcn",
        b"PATH_INFO": b"/x y",
        b"QUERY_STRING": b"variables",
        b"REQUEST_METHOD": b"GET",
        b"REQUEST_URI": b"/m/x%20y?variables",
        b"SCRIPT_NAME": b"/m",
        b"SERVER_NAME": b"localhost",
        b"SERVER_PORT": b"80",
        b"SERVER_PROTOCOL": b"HTTP/1.1",
    }


def test_empty_path_info_stays_empty(server: Server) -> None:
    """CGI-24: REQUEST_URI is no source of it."""
    assert b"PATH_INFO=\n" in server.ask("variables", SCRIPT_NAME="/m/x y", PATH_INFO="").body


def test_wsgi_variables(server: Server) -> None:
    """PEP 3333."""
    response = server.ask("wsgi", HTTPS="on")
    assert response.body == b"[(1, 0), 'https', True, True, False]"


def test_standard_input_is_empty(server: Server) -> None:
    """For the application and for programs that it starts: none of them gets the listening socket."""
    assert server.ask("standard_input").body == b"('', b'character special file\\n', b'')"


def test_no_descriptor_is_left(server: Server) -> None:
    """Who comes then waits until there is one."""
    server.ask("variables")
    pid = server.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    exchange = server.start("wsgi")
    while "cannot accept connections: Too many open files" not in server.errors:
        assert server.process.poll() is None, server.errors
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    assert exchange.read_until(None).status == 200


@pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000])
def test_body_is_read_to_its_end(server: Server, size: int) -> None:
    body = os.urandom(size)
    assert server.ask("echo", body).body == body


def test_body_is_a_file(server: Server) -> None:
    assert server.ask("lines", b"one\ntwo\nthree").body == b"[b'one\\n', b'tw', b'o\\n', b'three']"


def test_body_that_is_not_read_does_not_harm_the_response(server: Server) -> None:
    """Complaint 16: no reset instead of the end."""
    response = server.ask("ignore_body", b"x" * 100_000)
    assert (response.status, response.body) == (403, b"no")


def test_response_is_streamed(server: Server) -> None:
    first, second = server.fifo("first"), server.fifo("second")
    exchange = server.start("stream")
    exchange.read_until(b"first")
    first.write_text("")
    exchange.read_until(b"firstsecond")
    second.write_text("")
    assert exchange.read_until(None).body == b"firstsecond"


@pytest.mark.parametrize(
    ("application", "error"),
    [
        ("fail", "RuntimeError: the application is broken"),
        ("lose", "ConnectionResetError: the database is gone"),
    ],
)
def test_exception_is_500_and_a_traceback_for_the_operator(
    server: Server, application: str, error: str
) -> None:
    """Also one that says of another connection what is said of that of the web server."""
    response = server.ask(application)
    assert response.status == 500
    assert b"Traceback" not in response.body
    assert server.stop() == 0
    assert error in server.errors + response.stderr.decode()


@pytest.mark.parametrize(
    ("status", "name", "value"),
    [
        ("200 OK\r\nX-Mine: 1", "X-A", "a"),
        ("200 OK", "X-A: 1\r\nX-Mine", "1"),
        ("200 OK", "X-Mine:", "1"),
        ("200 OK", "X-A", "a\r\nX-Mine: 1"),
        ("200 OK", "X-A", "a\nX-Mine: 1"),
        ("200 OK", "X-A", "a\n\n<script>"),
        ("200 OK", "X-A", "a\0b"),
    ],
)
def test_no_line_ends_in_the_head(server: Server, status: str, name: str, value: str) -> None:
    """PEP 3333: no control characters. What comes from a client is no header of the response."""
    response = server.ask("head", HTTP_X_HEAD=json.dumps([status, name, value]))
    assert response.status == 500
    assert b"x-mine" not in dict(response.headers)
    assert server.stop() == 0
    assert "ValueError: " in server.errors + response.stderr.decode()


def test_head_is_sent_as_it_is(server: Server) -> None:
    response = server.ask("head", HTTP_X_HEAD=json.dumps(["299 Sm\xf8rrebr\xf8d", "x_a.b", "\xe6 ,;b"]))
    assert response.status == 299
    assert (b"x_a.b", b"\xe6 ,;b") in response.headers


def test_application_may_complain(server: Server) -> None:
    response = server.ask("errors")
    assert response.body == b"ok"
    assert server.stop() == 0
    assert "a complaint" in server.errors + response.stderr.decode()


def test_requests_run_at_the_same_time(server: Server) -> None:
    exchanges = [server.start("meet") for _ in range(20)]
    assert [exchange.read_until(None).body for exchange in exchanges] == [b"met"] * 20


def test_signals_about_log_files_end_nothing(server: Server) -> None:
    """What rotates logs may tell all processes of the daemon, as `systemctl kill` does by default."""
    assert server.start("variables").read_until(None).status == 200
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        server.process.send_signal(number)
        assert server.start("variables").read_until(None).status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_running_request_is_finished_at_the_end(server: Server, number: int) -> None:
    """FCGI-24; complaint 41."""
    started, go = server.fifo("started"), server.fifo("go")
    exchange = server.start("slow")
    started.read_text()
    server.process.send_signal(number)
    go.write_text("")
    assert exchange.read_until(None).body == b"finished"
    assert server.process.wait(60) == 0
    assert server.errors == ""


def test_rejects_a_broken_request_and_lives_on(server: Server) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(server.address)
        connection.sendall(b"\xff" * 100)
        connection.shutdown(socket.SHUT_WR)
        while True:
            try:
                if not connection.recv(100):
                    break
            except ConnectionResetError:
                break
    assert server.ask("echo", b"next").body == b"next"


def test_rejects_a_target_that_cannot_be_loaded(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gateway.appserver", "uwsgi", "no_such:app", "--name", "blog"]
    result = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(CHECKOUT)}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "backend blog: there is no module 'no_such'" in result.stderr
    assert "Traceback" not in result.stderr


def test_stops_after_a_request_with_a_body(server: Server) -> None:
    """A request that was answered leaves no thread behind that keeps the process."""
    assert server.ask("echo", b"the body").body == b"the body"
    assert server.stop() == 0


@pytest.mark.parametrize(("name", "make_codec"), PROTOCOLS)
def test_reports_what_it_is_ready_for(
    name: str, make_codec: Callable[[], ClientCodec], tmp_path: Path
) -> None:
    """It counts its own requests, says when they are enough, and serves on until it is told to stop."""
    reports, theirs = os.pipe()
    with open(reports, "rb", buffering=0) as report:
        try:
            server = Server(name, make_codec, tmp_path, report=theirs, max_requests=3)
        finally:
            os.close(theirs)
        with server:
            assert report.read(10) == READY
            for body in (b"1", b"2"):
                assert server.ask("echo", body).body == body
            os.set_blocking(report.fileno(), False)
            assert report.read(10) is None
            os.set_blocking(report.fileno(), True)
            assert server.ask("echo", b"3").body == b"3"
            assert report.read(10) == SPENT
            assert server.ask("echo", b"4").body == b"4"
            assert server.stop() == 0
            assert report.read(10) == (b"" if name == "uwsgi" else DRAINING)


def test_idle_connection_does_not_keep_fastcgi_alive(tmp_path: Path) -> None:
    """flup would wait for its thread, and so for the web server to close."""
    with Server("fastcgi", FastCgiClient, tmp_path) as server:
        codec = FastCgiClient(keep_connection=True)
        exchange = server.start("variables", codec=codec)
        exchange.read_until(None)
        assert server.stop() == 0


def test_kept_fastcgi_connections_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """They are accepted together, since they are here before the server is."""
    with Server("fastcgi", FastCgiClient, tmp_path) as server:
        exchanges = [server.start("errors", codec=FastCgiClient(keep_connection=True)) for _ in range(20)]
        for exchange in exchanges:
            exchange.read_until(b"ok")
        for exchange in exchanges:
            exchange.read_until(None)


def test_connections_may_have_descriptors_beyond_those_of_select(server: Server) -> None:
    assert server.ask("keep_files_open").status == 200
    assert server.ask("echo", b"x" * 100_000).body == b"x" * 100_000
    assert server.ask("ignore_body", b"x" * 100_000).body == b"no"


def test_idle_connection_with_such_a_descriptor_does_not_keep_fastcgi_alive(tmp_path: Path) -> None:
    with Server("fastcgi", FastCgiClient, tmp_path) as server:
        assert server.ask("keep_files_open").status == 200
        exchange = server.start("variables", codec=FastCgiClient(keep_connection=True))
        exchange.read_until(None)
        assert server.stop() == 0


@pytest.mark.parametrize("keep", [False, True])
def test_fastcgi_response_that_is_broken_off_has_no_end(keep: bool, tmp_path: Path) -> None:
    """So the web server does not pass it on as a whole one. The other protocols cannot say so."""
    with Server("fastcgi", FastCgiClient, tmp_path) as server:
        codec = FastCgiClient(keep_connection=keep)
        with closing(server.start("break_off", codec=codec)) as exchange, pytest.raises(Incomplete):
            exchange.read_until(None)
        assert exchange.response.body == b"begun"
        assert b"RuntimeError: the application is broken" in exchange.response.stderr
        assert server.ask("errors").body == b"ok"
        assert server.stop() == 0


@pytest.mark.parametrize("make_server", [_FastCGIServer, _SCGIServer])
def test_connection_is_closed_if_there_is_no_thread_for_it(
    make_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    server = make_server(None, maxSpare=0)
    server.connections = OpenConnections(Report(None))
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(threading.Thread, "start", start)
    with ours:
        server._accepted(theirs)
        assert ours.recv(1) == b""
    server.connections.drain()


def test_uwsgi_connection_waits_if_there_is_no_thread_for_it(tmp_path: Path) -> None:
    with Server("uwsgi", UwsgiClient, tmp_path) as server:
        started, go = server.fifo("started"), server.fifo("go")
        first = server.start("last_thread")
        started.read_text()
        second = server.start("wsgi")
        go.write_text("")
        assert first.read_until(None).body == b"finished"
        assert second.read_until(None).status == 200
        assert server.ask("wsgi").status == 200
        assert server.stop() == 0, server.errors


def test_uwsgi_answers_ping(tmp_path: Path) -> None:
    """UW-10."""
    with Server("uwsgi", UwsgiClient, tmp_path) as server, socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(server.address)
        connection.sendall(PING.encode())
        assert connection.recv(100) == PONG.encode()
        assert connection.recv(100) == b""
