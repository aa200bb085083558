"""The FastCGI codec against programs that others wrote: flup and php-fpm behind it, cgi-fcgi in front.

Every listening socket exists before its program runs: what connects early waits in its queue.
"""

import hashlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.protocols.events import (
    NEED_DATA,
    Data,
    EndOfMessage,
    RequestVariables,
    ResponseEvent,
    ResponseHead,
    Stderr,
)
from gateway.protocols.fastcgi import FastCgiClient, FastCgiServer, encode_get_values
from tests.peers.conftest import WAIT, Program, RequireProgram

Connect = Callable[[], socket.socket]

END = EndOfMessage()

FLUP = """
import sys
from flup.server.fcgi import WSGIServer

def application(environ, start_response):
    if environ["PATH_INFO"] == "/early":
        start_response("413 Content Too Large", [("Content-Type", "text/plain")])
        return [b"too much"]
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.errors"].write("seen " + environ["PATH_INFO"])
    environ["wsgi.errors"].flush()
    seen = "|".join(environ.get(name, "-") for name in ("REQUEST_METHOD", "PATH_INFO", "LONG"))
    start_response("200 Fine", [("Content-Type", "text/plain"), ("X-Test", "a"), ("X-Test", "b")])
    return [seen.encode("latin-1"), b"|", body]

WSGIServer(application).run()
"""

PHP = {
    "hello.php": "<?php header('X-Test: 1'); echo 'Hello, ', $_SERVER['QUERY_STRING'];",
    "post.php": "<?php echo $_SERVER['REQUEST_METHOD'], ' ', md5(file_get_contents('php://input'));",
    "long.php": "<?php echo strlen($_SERVER['HTTP_LONG']), ' ', md5($_SERVER['HTTP_LONG']);",
    "big.php": "<?php for ($i = 0; $i < 5000; $i++) echo str_repeat('x', 1000);",
    "redirect.php": "<?php header('Location: https://example.com/');",
    "status.php": "<?php http_response_code(404); error_log('not here'); echo 'no';",
    "silent.php": "<?php header_remove(); http_response_code(204);",
    "finish.php": "<?php echo 'done'; fastcgi_finish_request(); echo 'never seen';",
}


@pytest.fixture(scope="module")
def flup() -> Iterator[Connect]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        # FastCGI 2.2: the listening socket is file descriptor 0.
        with Program([sys.executable, "-c", FLUP], stdin=listener):
            yield lambda: socket.create_connection(address, WAIT)


@pytest.fixture(scope="module")
def php_fpm(fpm_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Connect, Path]]:
    root = tmp_path_factory.mktemp("php")
    for script, text in PHP.items():
        (root / script).write_text(text)
    path = str(root / "php.sock")
    config = root / "php-fpm.conf"
    config.write_text(
        f"[global]\nerror_log = /proc/self/fd/2\ndaemonize = no\n"
        f"[www]\nlisten = {path}\npm = static\npm.max_children = 1\nuser = root\ngroup = root\n"
    )

    def connect() -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(WAIT)
        sock.connect(path)
        return sock

    command = [fpm_program, "-n", "-y", str(config), *(["-R"] if os.geteuid() == 0 else [])]
    with Program(command) as program:
        program.wait_for(lambda line: "ready to handle connections" in line)
        yield connect, root


def exchange(sock: socket.socket, codec: FastCgiClient, data: bytes) -> list[Any]:
    """Send *data* while receiving a response (FastCGI 6.2); its events, neighbouring pieces joined."""

    def send() -> None:
        with suppress(ConnectionError):  # an application may answer and close before it read all
            sock.sendall(data)

    sender = threading.Thread(target=send)
    sender.start()
    events: list[Any] = []
    try:
        while not events or events[-1] != END:
            if (event := codec.next_event()) is NEED_DATA:
                codec.receive_data(sock.recv(65536))
            elif events and isinstance(event, Data | Stderr) and type(event) is type(events[-1]):
                events[-1] = type(event)(events[-1].data + event.data)
            else:
                events.append(event)
    finally:
        sender.join(WAIT)
    return events


def request(codec: FastCgiClient, variables: dict[str, str], body: bytes = b"") -> bytes:
    """The bytes of a whole request."""
    if body:
        variables["CONTENT_LENGTH"] = str(len(body))
    return codec.send(RequestVariables(variables)) + codec.send(Data(body)) + codec.send(END)


def ask_values(sock: socket.socket, names: Iterable[str]) -> dict[str, str]:
    """What the application tells of *names* (FastCGI 4.1)."""
    codec = FastCgiClient()
    sock.sendall(encode_get_values(names))
    while codec.values is None:
        codec.receive_data(sock.recv(4096))
        assert codec.next_event() is NEED_DATA
    return codec.values


def of_type(kind: type, events: list[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


# flup


def flup_variables(method: str, path: str, **more: str) -> dict[str, str]:
    return {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
    } | more


def test_flup_answers_several_requests_on_a_connection(flup: Connect) -> None:
    """FCGI-7, FCGI-9, FCGI-12, FCGI-19: KEEP_CONN, with and without a body, output and error output."""
    codec = FastCgiClient(keep_connection=True)
    with flup() as sock:
        for body in (b"", b"quantity=1", b"x" * 300_000):
            events = exchange(sock, codec, request(codec, flup_variables("POST", "/p"), body))
            [head] = of_type(ResponseHead, events)
            assert (head.status, head.reason) == (200, b"Fine")
            assert [value for name, value in head.headers if name == b"x-test"] == [b"a", b"b"]
            assert b"".join(event.data for event in of_type(Data, events)) == b"POST|/p|-|" + body
            assert of_type(Stderr, events) == [Stderr(b"seen /p")]
            assert events[-1] == EndOfMessage()
            assert codec.reusable


def test_flup_closes_a_connection_that_is_not_kept(flup: Connect) -> None:
    """FCGI-7: KEEP_CONN=0 leaves closing to the application."""
    codec = FastCgiClient()
    with flup() as sock:
        events = exchange(sock, codec, request(codec, flup_variables("GET", "/g")))
        assert events[-1] == END
        assert sock.recv(1) == b""
        assert not codec.reusable


@pytest.mark.parametrize("length", [127, 128, 65_000])
def test_flup_reads_long_variables(flup: Connect, length: int) -> None:
    """FCGI-5: both forms of a length."""
    codec = FastCgiClient()
    value = "\xe9" * length
    with flup() as sock:
        events = exchange(sock, codec, request(codec, flup_variables("GET", "/l", LONG=value)))
    assert of_type(Data, events) == [Data(f"GET|/l|{value}|".encode("latin-1"))]


def test_flup_reads_several_records_of_variables(flup: Connect) -> None:
    """FCGI-25, FCGI-26: flup, like uWSGI, parses each PARAMS record alone."""
    codec = FastCgiClient()
    filling = {f"X_{number}": "x" * 9000 for number in range(20)}
    with flup() as sock:
        variables = flup_variables("GET", "/l", **filling, LONG="last")
        events = exchange(sock, codec, request(codec, variables))
    assert of_type(Data, events) == [Data(b"GET|/l|last|")]


def test_flup_answers_before_the_body_came(flup: Connect) -> None:
    """FCGI-10, FCGI-20: the whole early answer is received; the connection is not used again."""
    codec = FastCgiClient(keep_connection=True)
    with flup() as sock:
        variables = flup_variables("POST", "/early", CONTENT_LENGTH="1000000")
        events = exchange(sock, codec, codec.send(RequestVariables(variables)))
        assert of_type(ResponseHead, events)[0].status == 413
        assert of_type(Data, events) == [Data(b"too much")]
        assert not codec.reusable


def test_flup_answers_get_values(flup: Connect) -> None:
    """FCGI-17: with the values it knows, which on Python 3 are none."""
    names = {"FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS"}
    with flup() as sock:
        values = ask_values(sock, names)
    assert values.keys() <= names


# php-fpm


@pytest.fixture
def php(php_fpm: tuple[Connect, Path]) -> Callable[..., list[Any]]:
    """``php(script, method=..., body=..., codec=..., sock=...)``: the events of one request."""
    connect, root = php_fpm

    def run(
        script: str,
        *,
        method: str = "GET",
        body: bytes = b"",
        codec: FastCgiClient | None = None,
        sock: socket.socket | None = None,
        **more: str,
    ) -> list[Any]:
        codec = codec or FastCgiClient()
        variables = {
            "SCRIPT_FILENAME": str(root / script),
            "SCRIPT_NAME": f"/{script}",
            "REQUEST_METHOD": method,
            "REQUEST_URI": f"/{script}",
            "QUERY_STRING": "",
            "SERVER_PROTOCOL": "HTTP/1.1",
        } | more
        data = request(codec, variables, body)
        if sock is not None:
            return exchange(sock, codec, data)
        with connect() as new:
            return exchange(new, codec, data)

    return run


Php = Callable[..., list[Any]]


def test_php_get(php: Php) -> None:
    events = php("hello.php", QUERY_STRING="world")
    [head, *rest] = events
    assert head.status == 200
    assert (b"x-test", b"1") in head.headers
    assert rest == [Data(b"Hello, world"), END]


@pytest.mark.parametrize("size", [1, 65535, 65536, 3_000_000])
def test_php_post(php: Php, size: int) -> None:
    """FCGI-9, FCGI-27: with CONTENT_LENGTH the whole body arrives."""
    body = os.urandom(size)
    digest = hashlib.md5(body).hexdigest().encode()
    events = php("post.php", method="POST", body=body, CONTENT_TYPE="application/octet-stream")
    assert events[1:] == [Data(b"POST " + digest), END]


def test_php_long_variable(php: Php) -> None:
    """FCGI-4, FCGI-5."""
    value = "v" * 60_000
    digest = hashlib.md5(value.encode()).hexdigest().encode()
    assert php("long.php", HTTP_LONG=value)[1:] == [Data(b"60000 " + digest), END]


def test_php_large_response(php: Php) -> None:
    """FCGI-4: the stream's records in any sizes."""
    assert php("big.php")[1:] == [Data(b"x" * 5_000_000), END]


def test_php_head(php: Php) -> None:
    """CGI-38."""
    head, *rest = php("hello.php", method="HEAD")
    assert head.status == 200
    assert rest == [END]


def test_php_redirect(php: Php) -> None:
    """CGI-35, CGI-36."""
    head, *_ = php("redirect.php")
    assert head.status == 302
    assert (b"location", b"https://example.com/") in head.headers


def test_php_status_and_error_output(php: Php) -> None:
    """FCGI-12, haproxy#743: error output is no error of the response."""
    events = php("status.php")
    [head] = of_type(ResponseHead, events)
    assert head.status == 404
    assert of_type(Data, events) == [Data(b"no")]
    [stderr] = of_type(Stderr, events)
    assert b"not here" in stderr.data


def test_php_without_body(php: Php) -> None:
    head, *rest = php("silent.php")
    assert head.status == 204
    assert rest == [END]


def test_php_missing_script(php: Php) -> None:
    head, *_ = of_type(ResponseHead, php("absent.php"))
    assert head.status == 404


def test_php_ends_the_request_before_the_script(php: Php) -> None:
    """FCGI-13: END_REQUEST is the end, whatever the script does then."""
    assert php("finish.php")[1:] == [Data(b"done"), END]


def test_php_answers_several_requests_on_a_connection(php: Php, php_fpm: tuple[Connect, Path]) -> None:
    """FCGI-7, FCGI-19."""
    connect, _ = php_fpm
    codec = FastCgiClient(keep_connection=True)
    with connect() as sock:
        for word in ("one", "two", "three"):
            events = php("hello.php", codec=codec, sock=sock, QUERY_STRING=word)
            assert events[1:] == [Data(b"Hello, " + word.encode()), END]
            assert codec.reusable


def test_php_answers_get_values(php: Php, php_fpm: tuple[Connect, Path]) -> None:
    """FCGI-17, FCGI-27: on a connection of its own, where php-fpm then reads no further."""
    connect, _ = php_fpm
    with connect() as sock:
        assert ask_values(sock, ["FCGI_MPXS_CONNS"]) == {"FCGI_MPXS_CONNS": "0"}
    assert php("hello.php")[-1] == END


# cgi-fcgi of libfcgi


def serve_one(listener: socket.socket) -> list[Any]:
    """Answer one request with what it said, as an application; the events received."""
    events: list[Any] = []
    with listener.accept()[0] as sock:
        sock.settimeout(WAIT)
        codec = FastCgiServer()
        while not events or events[-1] != END:
            if (event := codec.next_event()) is NEED_DATA:
                sock.sendall(codec.data_to_send())
                codec.receive_data(sock.recv(65536))
            elif isinstance(event, Data) and events and isinstance(events[-1], Data):
                events[-1] = Data(events[-1].data + event.data)
            else:
                events.append(event)
        body = b"".join(event.data for event in of_type(Data, events))
        codec.application_status = 3
        answer: list[ResponseEvent] = [
            Stderr(b"told on stderr\n"),
            ResponseHead(200, [(b"content-type", b"text/plain")], b"OK"),
            Data(b"got " + body),
            END,
        ]
        sock.sendall(b"".join(codec.send(event) for event in answer))
        assert codec.must_close
    return events


@pytest.mark.parametrize("body", [b"", b"a=b&c=d", b"\0\xff" * 50_000])
def test_cgi_fcgi_asks_our_application(require_program: RequireProgram, body: bytes) -> None:
    """FCGI-7, FCGI-9, FCGI-12, FCGI-13, FCGI-20: libfcgi's web server role against our application role."""
    program = require_program("cgi-fcgi", "apt-get install libfcgi-bin")
    variables = {
        "REQUEST_METHOD": "POST" if body else "GET",
        "CONTENT_LENGTH": str(len(body)),
        "SCRIPT_NAME": "/x",
        "LONG": "v" * 1000,
    }
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(WAIT)
        port = listener.getsockname()[1]
        results: list[list[Any]] = []
        thread = threading.Thread(target=lambda: results.append(serve_one(listener)))
        thread.start()
        command = [program, "-bind", "-connect", f"127.0.0.1:{port}"]
        done = subprocess.run(command, env=variables, input=body, capture_output=True, timeout=WAIT)
        thread.join(WAIT)
    [events] = results
    assert isinstance(events[0], RequestVariables)
    assert variables.items() <= events[0].variables.items()
    assert events[1:] == ([Data(body), END] if body else [END])
    assert done.stdout == b"Status: 200 OK\r\ncontent-type: text/plain\r\n\r\ngot " + body
    assert done.stderr == b"told on stderr\n"
    assert done.returncode == 3
