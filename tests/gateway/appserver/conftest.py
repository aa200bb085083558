"""What the tests of the application servers share: one of them as a real process, on a real socket."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from gateway.protocols.codec import ClientCodec
from gateway.protocols.events import (
    NEED_DATA,
    Data,
    EndOfMessage,
    Headers,
    RequestVariables,
    ResponseHead,
    Stderr,
)

CHECKOUT = Path(__file__).parents[3]

# The application asks the test what to do: QUERY_STRING is the name of a function.
APPLICATION = """
import json, os, resource, subprocess, sys, threading
from pathlib import Path

HERE = Path(__file__).parent
PLAIN = [("Content-Type", "text/plain")]

def app(environ, start_response):
    return globals()[environ["QUERY_STRING"]](environ, start_response)

def variables(environ, start_response):
    start_response("200 OK", PLAIN)
    names = sorted(n for n, v in environ.items() if type(v) is str and not n.startswith("wsgi."))
    return [f"{n}={environ[n]}\\n".encode("latin-1") for n in names]

def wsgi(environ, start_response):
    start_response("200 OK", PLAIN)
    names = ("version", "url_scheme", "multithread", "multiprocess", "run_once")
    return [repr([environ["wsgi." + n] for n in names]).encode()]

def standard_input(environ, start_response):
    start_response("200 OK", PLAIN)
    cat = subprocess.run("cat; stat -Lc %F /dev/stdin", shell=True, capture_output=True)
    return [repr((sys.stdin.read(), cat.stdout, cat.stderr)).encode()]

def echo(environ, start_response):
    start_response("200 OK", PLAIN)
    yield environ["wsgi.input"].read()
    assert environ["wsgi.input"].read() == b"", "reading ends with the body"
    assert environ["wsgi.input"].read(10) == b""

def lines(environ, start_response):
    body = environ["wsgi.input"]
    start_response("200 OK", PLAIN)
    yield repr([body.readline(), body.read(2), *body]).encode()

def ignore_body(environ, start_response):
    start_response("403 Forbidden", [*PLAIN, ("Content-Length", "2")])
    return [b"no"]

def stream(environ, start_response):
    start_response("200 OK", PLAIN)
    for name in ("first", "second"):
        yield name.encode()
        with open(HERE / name) as fifo:  # until the test has seen it
            fifo.read()

def fail(environ, start_response):
    raise RuntimeError("the application is broken")

def lose(environ, start_response):
    raise ConnectionResetError("the database is gone")

def break_off(environ, start_response):
    start_response("200 OK", PLAIN)
    yield b"begun"
    raise RuntimeError("the application is broken")

def head(environ, start_response):
    status, name, value = json.loads(environ["HTTP_X_HEAD"])
    start_response(status, [*PLAIN, (name, value)])
    return [b"ok"]

def errors(environ, start_response):
    environ["wsgi.errors"].write("a complaint\\n")
    start_response("200 OK", PLAIN)
    return [b"ok"]

def meet(environ, start_response):
    start_response("200 OK", PLAIN)
    meeting.wait(60)  # passes only if all twenty requests run at the same time
    return [b"met"]

def slow(environ, start_response):
    with open(HERE / "started", "w"):
        pass
    with open(HERE / "go") as fifo:
        fifo.read()
    start_response("200 OK", PLAIN)
    return [b"finished"]

def keep_files_open(environ, start_response):
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    kept.extend(os.dup(0) for _ in range(1024))
    return variables(environ, start_response)

kept = []

def last_thread(environ, start_response):
    def start(thread):
        raise RuntimeError("can't start new thread")
    threading.Thread.start = start
    return slow(environ, start_response)

meeting = threading.Barrier(20)
"""


class Response:
    """What came back."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = []
        self.body = b""
        self.stderr = b""


class Exchange:
    """One request on a connection of its own."""

    def __init__(self, address: str, codec: ClientCodec, query: str, body: bytes, variables: dict[str, str]):
        self.response = Response()
        self._codec = codec
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(address)
        environ = {
            "CONTENT_LENGTH": str(len(body)),
            "REQUEST_METHOD": "POST" if body else "GET",
            "REQUEST_URI": f"/m/x%20y?{query}",
            "SCRIPT_NAME": "/m",
            "PATH_INFO": "/x y",
            "QUERY_STRING": query,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            **variables,
        }
        data = codec.send(RequestVariables(environ))
        self._socket.sendall(data + (codec.send(Data(body)) if body else b"") + codec.send(EndOfMessage()))

    def read_until(self, body: bytes | None) -> Response:
        """Read until the body is *body*, or until the end for None."""
        response = self.response
        while body is None or response.body != body:
            event = self._codec.next_event()
            if event is NEED_DATA:
                self._codec.receive_data(self._socket.recv(65536))
            elif isinstance(event, ResponseHead):
                response.status, response.headers = event.status, event.headers
            elif isinstance(event, Data):
                response.body += event.data
            elif isinstance(event, Stderr):
                response.stderr += event.data
            elif isinstance(event, EndOfMessage):
                assert body is None
                self.close()
                break
        return response

    def close(self) -> None:
        self._socket.close()


class Server:
    """``python -m gateway.appserver`` with APPLICATION."""

    def __init__(
        self,
        protocol: str,
        make_codec: Callable[[], ClientCodec],
        directory: Path,
        *,
        report: int | None = None,
        max_requests: int = 0,
    ) -> None:
        self.directory = directory
        self._make_codec = make_codec
        (directory / "application.py").write_text(APPLICATION)
        self.address = str(directory / "socket")
        self._errors = directory / "errors"
        with socket.socket(socket.AF_UNIX) as listener, self._errors.open("w") as errors:
            listener.bind(self.address)
            listener.listen()
            command = [sys.executable, "-W", "error", "-m", "gateway.appserver", protocol, "application:app"]
            if report is not None:
                command += ["--report", str(report), "--max-requests", str(max_requests)]
            self.process = subprocess.Popen(
                [*command, "--directory", str(directory)],
                pass_fds=() if report is None else (report,),
                stdin=listener.fileno(),
                stdout=errors,
                stderr=errors,
                cwd=directory,
                env={"PYTHONPATH": str(CHECKOUT), "PATH": os.environ["PATH"]},
            )

    def start(
        self, query: str, body: bytes = b"", codec: ClientCodec | None = None, **variables: str
    ) -> Exchange:
        return Exchange(self.address, codec or self._make_codec(), query, body, variables)

    def ask(self, query: str, body: bytes = b"", **variables: str) -> Response:
        return self.start(query, body, None, **variables).read_until(None)

    def fifo(self, name: str) -> Path:
        path = self.directory / name
        os.mkfifo(path)
        return path

    @property
    def errors(self) -> str:
        """What the process has written so far."""
        return self._errors.read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(protocol: tuple[str, Callable[[], ClientCodec]], tmp_path: Path) -> Iterator[Server]:
    with Server(*protocol, tmp_path) as server:
        yield server
