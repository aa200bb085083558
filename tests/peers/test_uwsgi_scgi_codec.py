"""The SCGI and uwsgi codecs against programs that others wrote.

Every listening socket is made here and inherited by the program: what connects early waits in its queue.
"""

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.protocols.codec import ClientCodec
from gateway.protocols.errors import Incomplete
from gateway.protocols.events import (
    NEED_DATA,
    Data,
    EndOfMessage,
    RequestEvent,
    RequestVariables,
    ResponseEvent,
    ResponseHead,
)
from gateway.protocols.scgi import ScgiClient, ScgiServer
from gateway.protocols.uwsgi import PING, PONG, PacketHeader, UwsgiClient, UwsgiServer
from tests.peers.conftest import WAIT, Program, RequireProgram, RunGateway
from tests.peers.nginx import inheriting, nginx_command

UWSGI_INSTALL = "apt-get install uwsgi-core uwsgi-plugin-python3"

APPLICATION = '''
def application(environ, start_response):
    """Tells what came; /early does not read the body, /length tells its own length."""
    if environ["PATH_INFO"] == "/early":
        start_response("413 Content Too Large", [("Content-Type", "text/plain")])
        return [b"too much"]
    size = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(size) if size else b""  # flup gives an empty body as text
    seen = "|".join(environ.get(name, "-") for name in (
        "REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "HTTP_X_EMPTY", "HTTP_X_LATIN"))
    answer = seen.encode("latin-1") + b"|" + body
    fields = [("Content-Type", "text/plain"), ("X-Test", "a"), ("X-Test", "b")]
    if environ["PATH_INFO"] == "/length":
        fields.append(("Content-Length", str(len(answer))))
    start_response("200 Fine", fields)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer]
'''

FLUP = """
import socket, sys
sys.path.insert(0, '.')  # also with PYTHONSAFEPATH
from app import application
from flup.server.scgi import WSGIServer

class InheritedServer(WSGIServer):
    def _setupSocket(self):
        return socket.socket(fileno=0)

    def _cleanupSocket(self, sock):
        sock.close()

InheritedServer(application, umask=None).run()
"""


@contextmanager
def running(command: list[str], listener: socket.socket, directory: Path, **more: Any) -> Iterator[None]:
    """A program that inherits *listener*, until the end of the block."""
    with listener:
        options = {"pass_fds": [listener.fileno()], "stdout": subprocess.DEVNULL, **more}
        program = Program(command, cwd=directory, **options)
    with program:
        yield


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the WSGI application."""
    directory = tmp_path_factory.mktemp("application")
    (directory / "app.py").write_text(APPLICATION)
    (directory / "scgi_server.py").write_text(FLUP)
    return directory


def listen() -> tuple[socket.socket, int]:
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, listener.getsockname()[1]


@pytest.fixture(scope="module")
def flup_scgi(application: Path) -> Iterator[int]:
    """The port of flup's SCGI server, in a process of its own."""
    listener, port = listen()
    command = [sys.executable, "scgi_server.py"]
    with running(command, listener, application, stdin=listener.fileno()):
        yield port


def uwsgi_command(require_program: RequireProgram, option: str, listener: socket.socket) -> list[str]:
    program = require_program("uwsgi", UWSGI_INSTALL)
    return [
        *(program, "--plugin", "python3,ping", option, f"fd://{listener.fileno()}"),
        *("--wsgi-file", "app.py", "--need-app", "--die-on-term"),
    ]


@pytest.fixture(scope="module")
def uwsgi_socket(application: Path, require_program: RequireProgram) -> Iterator[int]:
    """The port of uWSGI's own protocol."""
    listener, port = listen()
    with running(uwsgi_command(require_program, "--socket", listener), listener, application):
        yield port


@pytest.fixture(scope="module")
def uwsgi_scgi_socket(application: Path, require_program: RequireProgram) -> Iterator[int]:
    """The port of uWSGI speaking SCGI."""
    listener, port = listen()
    with running(uwsgi_command(require_program, "--scgi-socket", listener), listener, application):
        yield port


@pytest.fixture(scope="module", params=["sync", "gthread"])
def gunicorn(request: pytest.FixtureRequest, application: Path) -> Iterator[int]:
    """The port of gunicorn speaking uwsgi; the gthread worker keeps connections open where it can."""
    pytest.importorskip(
        "gunicorn.uwsgi", reason="gunicorn is older than its uwsgi mode: pip install gunicorn"
    )
    listener, port = listen()
    command = [
        *(sys.executable, "-m", "gunicorn", "--protocol", "uwsgi", "--bind", f"fd://{listener.fileno()}"),
        *("--worker-class", request.param, "--threads", "2", "--keep-alive", "3600"),
        *("--graceful-timeout", "0", "--no-control-socket", "app:application"),
    ]
    with running(command, listener, application):
        yield port


# Our client, their server


def variables(method: str = "GET", path: str = "/x", body: bytes = b"", **more: str) -> dict[str, str]:
    return {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "q=1&r",
        "REQUEST_URI": f"{path}?q=1&r",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_LENGTH": str(len(body)) if body else "",
        "HTTP_X_EMPTY": "",
        "HTTP_X_LATIN": "\xe9",
        **more,
    }


def receive(connection: socket.socket, codec: ClientCodec) -> list[ResponseEvent]:
    """The events of one response."""
    events: list[ResponseEvent] = []
    while not events or not isinstance(events[-1], EndOfMessage):
        event = codec.next_event()
        if event is not NEED_DATA:
            events.append(event)
            continue
        try:
            codec.receive_data(connection.recv(65536))
        except ConnectionResetError:  # closed with some of our body unread
            codec.receive_data(b"")
    return events


def call(
    port: int, codec: ClientCodec, request: dict[str, str], body: bytes = b"", unsent: int = 0
) -> tuple[ResponseHead, bytes]:
    """The response to *request*; the last *unsent* bytes of its body are kept back."""
    with socket.create_connection(("127.0.0.1", port), WAIT) as connection:
        data = codec.send(RequestVariables(request))
        data += codec.send(Data(body[: len(body) - unsent]))
        if not unsent:
            data += codec.send(EndOfMessage())
        connection.sendall(data)
        head, *rest = receive(connection, codec)
    assert isinstance(head, ResponseHead)
    return head, b"".join(event.data for event in rest if isinstance(event, Data))


def check_application(port: int, codec_class: Callable[[], ClientCodec]) -> None:
    """What every server must do with the same application."""
    head, body = call(port, codec_class(), variables())
    assert (head.status, head.reason) == (200, b"Fine")
    assert [value for name, value in head.headers if name == b"x-test"] == [b"a", b"b"]
    assert body == b"GET||/x|q=1&r||\xe9|"

    upload = bytes(range(256)) * 1024
    _, body = call(port, codec_class(), variables("POST", body=upload), upload)
    assert body == b"POST||/x|q=1&r||\xe9|" + upload

    head, body = call(port, codec_class(), variables("HEAD", "/length"))
    assert (head.status, body) == (200, b"")
    _, body = call(port, codec_class(), variables("GET", "/length"))
    assert body == b"GET||/length|q=1&r||\xe9|"


def check_early_response(port: int, codec: ClientCodec) -> None:
    upload = bytes(100_000)
    head, body = call(port, codec, variables("POST", "/early", upload), upload, unsent=50_000)
    assert (head.status, body) == (413, b"too much")


def test_scgi_client_with_flup(flup_scgi: int) -> None:
    """SCGI-1 to SCGI-6."""
    check_application(flup_scgi, ScgiClient)


def test_uwsgi_is_pinged(uwsgi_socket: int, tmp_path: Path, run_gateway: RunGateway) -> None:
    """UW-10, E08: uWSGI's own answer, before the first request."""
    config = f"""
    access_log: false
    backends: {{app: {{uwsgi: "127.0.0.1:{uwsgi_socket}", health: {{check: {{ping: true, start: down}}}}}}}}
    routes: [{{backend: app}}]
    """
    with run_gateway(tmp_path, config) as gateway:
        gateway.wait_for(lambda line: '"server is up"' in line)
        assert gateway.get("/").status == 200


def test_scgi_client_with_uwsgi(uwsgi_scgi_socket: int) -> None:
    """SCGI-1 to SCGI-6."""
    check_application(uwsgi_scgi_socket, ScgiClient)
    check_early_response(uwsgi_scgi_socket, ScgiClient())


def test_uwsgi_client_with_uwsgi(uwsgi_socket: int) -> None:
    """UW-1 to UW-7."""
    check_application(uwsgi_socket, UwsgiClient)


def test_uwsgi_client_with_early_response_of_uwsgi(uwsgi_socket: int) -> None:
    """UW-13: the whole answer comes although half of the body was never sent."""
    check_early_response(uwsgi_socket, UwsgiClient())


def test_uwsgi_client_with_variables_above_the_buffer_size_of_uwsgi(uwsgi_socket: int) -> None:
    """UW-4: uWSGI closes the connection without an answer, for one byte above its 4096."""
    request = variables()
    fits = 4096 - len(UwsgiClient().send(RequestVariables(request | {"HTTP_X_FILL": ""}))) + 4
    head, _ = call(uwsgi_socket, UwsgiClient(buffer_size=4096), request | {"HTTP_X_FILL": "x" * fits})
    assert head.status == 200
    with pytest.raises(Incomplete):
        call(uwsgi_socket, UwsgiClient(), request | {"HTTP_X_FILL": "x" * (fits + 1)})


def test_ping_with_uwsgi(uwsgi_socket: int) -> None:
    """UW-10."""
    with socket.create_connection(("127.0.0.1", uwsgi_socket), WAIT) as connection:
        connection.sendall(PING.encode())
        assert PacketHeader.decode(connection.recv(5)) == PONG


def test_uwsgi_client_with_gunicorn(gunicorn: int) -> None:
    """UW-1 to UW-7; the end of the response is seen although the connection stays open."""
    check_application(gunicorn, UwsgiClient)


# Their client, our server


class Server:
    """Our side of one connection: it records the request and answers with its body."""

    def __init__(self, codec: ScgiServer | UwsgiServer) -> None:
        self.listener, self.port = listen()
        self.listener.settimeout(WAIT)
        self.request: dict[str, str] = {}
        self._codec = codec
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(WAIT)
        self.listener.close()

    def _serve(self) -> None:
        connection, _ = self.listener.accept()
        connection.settimeout(WAIT)
        with connection:
            body = b""
            while not isinstance(event := self._next_event(connection), EndOfMessage):
                if isinstance(event, RequestVariables):
                    self.request = dict(event.variables)
                elif isinstance(event, Data):
                    body += event.data
            fields = [(b"content-type", b"text/plain"), (b"x-test", b"a")]
            for answer in (ResponseHead(200, fields, b"Fine"), Data(body), EndOfMessage()):
                connection.sendall(self._codec.send(answer))

    def _next_event(self, connection: socket.socket) -> RequestEvent:
        while (event := self._codec.next_event()) is NEED_DATA:
            self._codec.receive_data(connection.recv(65536))
        return event


def http_call(port: int, request: bytes) -> tuple[bytes, bytes]:
    """Head and body of the answer to an HTTP request after which the server closes."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), WAIT) as connection:
        connection.sendall(request)
        while piece := connection.recv(65536):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


UPLOAD = bytes(range(256)) * 512
HTTP_REQUEST = (
    b"POST /x%%20y?q=1 HTTP/1.0\r\nHost: example\r\nX-Empty:\r\nX-Latin: \xe9\r\n"
    b"Cookie: a=1\r\nContent-Type: text/x\r\nContent-Length: %d\r\n\r\n" % len(UPLOAD)
) + UPLOAD


def check_request(request: dict[str, str]) -> None:
    assert request["REQUEST_METHOD"] == "POST"
    assert request["REQUEST_URI"] == "/x%20y?q=1"
    assert request["QUERY_STRING"] == "q=1"
    assert request["CONTENT_LENGTH"] == str(len(UPLOAD))
    assert request["CONTENT_TYPE"] == "text/x"
    assert request["HTTP_COOKIE"] == "a=1"
    assert request["HTTP_X_LATIN"] == "\xe9"


@pytest.mark.parametrize(("protocol", "codec_class"), [("uwsgi", UwsgiServer), ("scgi", ScgiServer)])
def test_servers_with_nginx(
    protocol: str,
    codec_class: type[ScgiServer] | type[UwsgiServer],
    require_program: RequireProgram,
    tmp_path: Path,
) -> None:
    """SCGI-1 to SCGI-6, UW-1 to UW-7: nginx's uwsgi_pass and scgi_pass."""
    nginx = require_program("nginx", "apt-get install nginx")
    listener, port = listen()
    with Server(codec_class()) as server:
        http = f"""
            server {{
                listen 127.0.0.1:{port};
                location / {{
                    include /etc/nginx/{protocol}_params;
                    {protocol}_pass 127.0.0.1:{server.port};
                }}
            }}"""
        command = nginx_command(nginx, tmp_path, http)
        with running(command, listener, tmp_path, env=inheriting([listener])):
            head, body = http_call(port, HTTP_REQUEST)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"x-test: a" in head
    assert body == UPLOAD
    check_request(server.request)


def test_uwsgi_server_with_uwsgi(require_program: RequireProgram, tmp_path: Path) -> None:
    """UW-1 to UW-7: uWSGI's router, which passes a request on as it came."""
    program = require_program("uwsgi", UWSGI_INSTALL)
    listener, port = listen()
    with Server(UwsgiServer()) as server:
        command = [
            *(program, "--plugin", "router_uwsgi", "--http-socket", f"fd://{listener.fileno()}"),
            *("--route-run", f"uwsgi:127.0.0.1:{server.port},0,0", "--die-on-term"),
        ]
        with running(command, listener, tmp_path):
            head, body = http_call(port, HTTP_REQUEST)
    assert head.startswith(b"HTTP/1.0 200 Fine")
    assert b"x-test: a" in head
    assert body == UPLOAD
    check_request(server.request)
