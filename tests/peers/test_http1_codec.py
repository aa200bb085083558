"""The HTTP/1.1 codec against programs that others wrote: curl as client, http.server and nginx as servers.

Every listening socket of ours is open before its peer starts: what connects early waits in its queue.
"""

import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.events import (
    NEED_DATA,
    Data,
    EndOfMessage,
    InformationalResponse,
    RequestEvent,
    RequestHead,
    ResponseHead,
)
from gateway.protocols.http1 import Http1Server
from gateway.protocols.http1.client import Http1Client
from tests.peers.conftest import WAIT, Curl, Program, RequireProgram
from tests.peers.nginx import inheriting, nginx_command


def next_event(codec: Http1Server | Http1Client, connection: socket.socket) -> Any:
    """The next event; NEED_DATA if the peer has closed the connection between two messages."""
    while (event := codec.next_event()) is NEED_DATA:
        data = connection.recv(65536)
        codec.receive_data(data)
        if not data:
            return codec.next_event()
    return event


# curl as the client ------------------------------------------------------------------------------


def answer(server: Http1Server, connection: socket.socket) -> None:
    """Answer each request with its own head and body: chunked, or sized for /sized."""

    def send(*events: Any) -> None:
        connection.sendall(b"".join(map(server.send, events)))

    while server.keep_alive:
        try:
            head = next_event(server, connection)
        except RemoteProtocolError as error:
            send(ResponseHead(error.status, [(b"content-length", b"0")]), EndOfMessage())
            return
        if head is NEED_DATA:
            return
        if server.expects_continue:
            send(InformationalResponse(100, []))
        body = b""
        while isinstance(event := next_event(server, connection), Data):
            body += event.data
        said = b"%b %b %b|%b" % (head.method, head.target, server.authority, body)
        fields = [(b"content-type", b"text/plain")]
        if head.target == b"/sized":
            fields.append((b"content-length", b"%d" % len(said)))
        send(ResponseHead(200, fields), Data(said), EndOfMessage(event.trailers))


def serve(listener: socket.socket, connections: list[int]) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(WAIT)
            if connection.recv(1, socket.MSG_PEEK) == b"Q":
                return
            connections.append(1)
            answer(Http1Server(), connection)


@pytest.fixture
def origin() -> Iterator[tuple[str, list[int]]]:
    """``(address, connections)`` of a server made of our codec."""
    connections: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        thread = threading.Thread(target=serve, args=(listener, connections))
        thread.start()
        try:
            yield f"127.0.0.1:{address[1]}", connections
        finally:
            with socket.create_connection(address, timeout=WAIT) as last:
                last.sendall(b"Q")
                thread.join(WAIT)
    assert not thread.is_alive()


@pytest.fixture
def curl(curl: Curl) -> Callable[..., str]:
    def run(*arguments: str) -> str:
        return curl(*arguments).stdout.decode()

    return run


def test_curl_reuses_the_connection(origin: tuple[str, list[int]], curl: Callable[..., str]) -> None:
    """H1-17: sized and chunked responses are followed by another request."""
    address, connections = origin
    url = f"http://{address}"
    assert curl(f"{url}/a?b", f"{url}/sized", f"{url}/c") == (
        f"GET /a?b {address}|GET /sized {address}|GET /c {address}|"
    )
    assert len(connections) == 1


@pytest.mark.parametrize("version", ["--http1.1", "--http1.0"])
@pytest.mark.parametrize("path", ["/sized", "/chunked"])
def test_curl_versions(
    origin: tuple[str, list[int]], curl: Callable[..., str], version: str, path: str
) -> None:
    """H1-11: no chunks for HTTP/1.0."""
    address, _ = origin
    assert curl(version, f"http://{address}{path}") == f"GET {path} {address}|"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-H", "Transfer-Encoding: chunked"],
        ["-H", "Expect: 100-continue", "--expect100-timeout", str(WAIT)],
    ],
    ids=["sized", "chunks", "100-continue"],
)
def test_curl_sends_a_body(
    origin: tuple[str, list[int]], curl: Callable[..., str], tmp_path: Path, arguments: list[str]
) -> None:
    """H-10: after 100 the body comes at once."""
    address, _ = origin
    body = "0123456789abcdef" * 20_000
    (tmp_path / "body").write_text(body)
    assert curl(*arguments, "--data-binary", f"@{tmp_path}/body", f"http://{address}/sized") == (
        f"POST /sized {address}|{body}"
    )


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["-H", "Transfer-Encoding: gzip, chunked", "--data", "x"], 501),
        (["-H", "Host: a b"], 400),
        (["-H", "Host:"], 400),
        (["-H", "Expect: tea"], 417),
        (["-H", "X: " + "y" * 70_000], 431),
        (["--request-target", "/" + "x" * 9_000], 414),
        (["--request-target", "/ x"], 400),
    ],
)
def test_curl_understands_a_refusal(
    origin: tuple[str, list[int]], curl: Callable[..., str], arguments: list[str], status: int
) -> None:
    address, _ = origin
    assert curl(*arguments, "--write-out", "%{http_code}", f"http://{address}/") == str(status)


# Servers of others -------------------------------------------------------------------------------


def ask(
    connection: socket.socket, client: Http1Client, method: bytes, target: bytes, body: bytes = b""
) -> tuple[ResponseHead, bytes]:
    """One exchange; the body goes out in chunks."""
    fields = [(b"host", b"a.example")]
    if body:
        fields.append((b"transfer-encoding", b"chunked"))
    events: list[RequestEvent] = [RequestHead(method, target, fields), Data(body), EndOfMessage()]
    connection.sendall(b"".join(map(client.send, events)))
    head = next_event(client, connection)
    assert isinstance(head, ResponseHead)
    received = b""
    while isinstance(event := next_event(client, connection), Data):
        received += event.data
    assert event == EndOfMessage()
    return head, received


@contextmanager
def connected(port: int) -> Iterator[tuple[socket.socket, Http1Client]]:
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as connection:
        yield connection, Http1Client()


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    directory = tmp_path / "documents"
    directory.mkdir()
    (directory / "page.txt").write_bytes(b"hello\n" * 50_000)
    (directory / "empty.txt").touch()
    return directory


@pytest.fixture(params=["HTTP/1.0", "HTTP/1.1"])
def python_server(request: pytest.FixtureRequest, documents: Path) -> Iterator[tuple[str, int]]:
    """Python's own server, in both versions: ``(version, port)``."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        protocol_version = request.param

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(documents))

        def log_message(self, *arguments: Any) -> None:
            """Standard error belongs to the tests."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield request.param, server.server_address[1]
        finally:
            server.shutdown()
            thread.join(WAIT)


def test_http_server(python_server: tuple[str, int]) -> None:
    """H1-17: an HTTP/1.0 server is not asked twice."""
    version, port = python_server
    with connected(port) as (connection, client):
        head, body = ask(connection, client, b"GET", b"/page.txt")
        assert (head.status, body) == (200, b"hello\n" * 50_000)
        assert head.version == version.removeprefix("HTTP/").encode()
        assert client.reusable is (version == "HTTP/1.1")
        if client.reusable:
            head, body = ask(connection, client, b"HEAD", b"/page.txt")
            assert (head.status, body) == (200, b"")
            assert ask(connection, client, b"GET", b"/empty.txt")[1] == b""
            assert ask(connection, client, b"GET", b"/missing")[0].status == 404


NGINX = """
server {{
    listen 127.0.0.1:{port};
    root {directory}/documents;
    location = /chunked {{ ssi on; ssi_types *; try_files /page.txt =404; }}
    location = /nothing {{ return 204; }}
    location = /moved {{ return 301 /elsewhere; }}
    location = /closing {{ keepalive_timeout 0; return 200 "bye"; }}
}}
"""


@pytest.fixture
def nginx(require_program: RequireProgram, documents: Path, tmp_path: Path) -> Iterator[int]:
    """The port of an nginx that inherits its listening socket."""
    program = require_program("nginx", "apt-get install nginx-light")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = nginx_command(program, tmp_path, NGINX.format(directory=tmp_path, port=port))
        running = Program(command, env=inheriting([listener]), pass_fds=[listener.fileno()])
    with running:
        yield port


def test_nginx(nginx: int) -> None:
    """H-16, H1-13, H1-14, H1-17: sized, chunked and empty responses on one connection, until it is closed."""
    page = b"hello\n" * 50_000
    with connected(nginx) as (connection, client):
        head, body = ask(connection, client, b"GET", b"/page.txt")
        assert (head.status, head.reason, body) == (200, b"OK", page)
        head, body = ask(connection, client, b"GET", b"/chunked")
        assert (b"transfer-encoding", b"chunked") in head.headers
        assert body == page
        head, body = ask(connection, client, b"HEAD", b"/page.txt")
        assert (b"content-length", b"%d" % len(page)) in head.headers
        assert body == b""
        assert ask(connection, client, b"GET", b"/nothing")[0].status == 204
        assert ask(connection, client, b"GET", b"/moved")[0].status == 301
        assert ask(connection, client, b"POST", b"/page.txt", b"x" * 1000)[0].status == 405
        assert client.reusable
        assert ask(connection, client, b"GET", b"/closing")[1] == b"bye"
        assert not client.reusable
