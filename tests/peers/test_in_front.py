"""Proxies in front of the gateway: HAProxy with PROXY headers, HAProxy and nginx with X-Forwarded-*.

The gateway listens on Unix sockets for them, so that an address on TCP can only be one that they told.
"""

import http.client
import json
import re
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.peers.conftest import WAIT, Gateway, Program, RequireProgram, RunGateway
from tests.peers.nginx import inheriting, nginx_command

FACTS = """#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
printf '%s ' "$REMOTE_ADDR" "$REMOTE_PORT" "$REQUEST_SCHEME" "${HTTPS:--}" "${HTTP_X_FORWARDED_FOR:--}"
"""

CONFIG = """
trusted_proxies: [unix]
backends:
  facts: {cgi: facts.sh}
  echo: {asgi: "in_front_echo:app", lifespan: "off"}
  next: {http: 'http://unix:http.sock'}     # the gateway once more: what it tells as a proxy it believes
routes:
  - match: {path: /next/*}
    mount: /next
    backend: next
  - mount: /facts
    backend: facts
  - {match: {path: /echo}, backend: echo}
"""

LISTENERS = "[{http: 127.0.0.1:0}, {http: 'unix:http.sock'}, {http: 'unix:proxy.sock', proxy_protocol: true}]"

HAPROXY = """
defaults
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen front
    mode {mode}
    bind fd@{descriptor}
    {option}
    server gateway unix@{socket} {server}
"""

SERVERS = """
server {{
    listen unix:{directory}/public.sock;
    listen 127.0.0.1:{port};
    location / {{
        proxy_pass http://unix:{directory}/http.sock;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto https;
    }}
}}
"""

README = (Path(__file__).parents[2] / "README.md").read_text()

ECHO = """
async def app(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": scope["client"][0] + " " + scope["scheme"]})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"]})
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the sockets are."""
    directory = tmp_path_factory.mktemp("front")
    program = directory / "facts.sh"
    program.write_text(FACTS)
    program.chmod(0o755)
    (directory / "in_front_echo.py").write_text(ECHO)
    return directory


@pytest.fixture(scope="module", autouse=True)
def gateway(run_gateway: RunGateway, directory: Path) -> Iterator[Gateway]:
    with run_gateway(directory, CONFIG, listeners=LISTENERS) as running:
        yield running


def ask(port: int, target: str = "/facts", **fields: str) -> tuple[list[str], int]:
    """The facts that the program saw, and the port that the client had."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
    try:
        connection.request("GET", target, headers={name.replace("_", "-"): v for name, v in fields.items()})
        assert connection.sock is not None
        own = int(connection.sock.getsockname()[1])
        response = connection.getresponse()
        body = response.read().decode()
        assert response.status == 200, body
        return body.split(), own
    finally:
        connection.close()


@contextmanager
def haproxy(program: str, directory: Path, **settings: str) -> Iterator[int]:
    """A running HAProxy; its port. It inherits the socket, so nobody has to wait for it."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        config = directory / "haproxy.cfg"
        defaults = {"mode": "tcp", "option": "", "server": "", "socket": str(directory / "proxy.sock")}
        config.write_text(HAPROXY.format(**{**defaults, **settings}, descriptor=listener.fileno()))
        stack.enter_context(
            Program(
                [program, "-db", "-f", str(config)],
                pass_fds=[listener.fileno()],
                stdout=subprocess.DEVNULL,
            )
        )
        yield int(listener.getsockname()[1])


@pytest.fixture
def haproxy_program(require_program: RequireProgram) -> str:
    return require_program("haproxy", "apt-get install haproxy")


@pytest.mark.parametrize(
    "server", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority"]
)
def test_haproxy_tells_the_client_by_a_proxy_header(
    directory: Path, haproxy_program: str, server: str
) -> None:
    """PP-3, PP-5, PP-8: its own port is how the client is recognised; a forged field is dropped (FWD-7)."""
    with haproxy(haproxy_program, directory, server=server) as port:
        for _ in range(2):
            facts, own = ask(port, X_Forwarded_For="192.0.2.66")
            assert facts == ["127.0.0.1", str(own), "http", "-", "-"]


def test_health_checks_of_haproxy(gateway: Gateway, directory: Path, haproxy_program: str) -> None:
    """PP-7: LOCAL, the client is HAProxy itself; and a relayed client beside it."""
    settings = {
        "server": "send-proxy-v2 check inter 100ms",
        "option": "option httpchk GET /facts?check",
    }
    with haproxy(haproxy_program, directory, **settings) as port:
        logged = json.loads(gateway.wait_for(lambda line: "/facts?check" in line))
        assert (logged["client"], logged["status"]) == ("unix", 200)
        facts, own = ask(port)
        assert facts[:2] == ["127.0.0.1", str(own)]


def test_haproxy_tells_the_client_by_x_forwarded_for(directory: Path, haproxy_program: str) -> None:
    """FWD-5, uvicorn#589: on a Unix socket; its field is the last."""
    settings = {"mode": "http", "option": "option forwardfor", "socket": str(directory / "http.sock")}
    with haproxy(haproxy_program, directory, **settings) as port:
        facts, _ = ask(port, X_Forwarded_For="192.0.2.66")
        assert facts == ["127.0.0.1", "http", "-", "192.0.2.66,", "127.0.0.1"]


@pytest.fixture(scope="module")
def nginx(directory: Path, require_program: RequireProgram) -> Iterator[int]:
    """nginx in front of the gateway; its port."""
    program = require_program("nginx", "apt-get install nginx")
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        local = stack.enter_context(socket.socket(socket.AF_UNIX))
        local.bind(str(directory / "public.sock"))
        local.listen(16)
        port = int(listener.getsockname()[1])
        servers = SERVERS.format(directory=directory, port=port)
        with running_nginx(program, directory, servers, [listener, local]):
            yield port


@contextmanager
def running_nginx(
    program: str, directory: Path, servers: str, listeners: Sequence[socket.socket]
) -> Iterator[None]:
    """nginx with *servers*; it inherits *listeners*, so nobody has to wait for it."""
    with Program(
        nginx_command(program, directory, servers),
        pass_fds=[listener.fileno() for listener in listeners],
        stdout=subprocess.DEVNULL,
        env=inheriting(listeners),
    ):
        yield


def test_nginx_as_the_readme_has_it(directory: Path, require_program: RequireProgram) -> None:
    """Applications see the client's address and scheme, of WebSockets too."""
    program = require_program("nginx", "apt-get install nginx")
    (written,) = re.findall(r"^```nginx\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    servers = written.replace("/run/gateway", str(directory))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
        servers = servers.replace("server {\n", f"server {{\n    listen 127.0.0.1:{port};\n")
        with running_nginx(program, directory, servers, [listener]):
            facts, _ = ask(port, X_Forwarded_For="192.0.2.66")
            assert facts == ["127.0.0.1", "http", "-", "192.0.2.66,", "127.0.0.1"]
            with connect(f"ws://127.0.0.1:{port}/echo", open_timeout=WAIT) as websocket:
                assert websocket.recv(WAIT) == "127.0.0.1 ws"
                websocket.send("hello")
                assert websocket.recv(WAIT) == "hello"


def test_nginx_tells_client_and_scheme(nginx: int) -> None:
    """FWD-5: from the right; what the client itself claims stays in front, unbelieved."""
    assert ask(nginx)[0] == ["127.0.0.1", "https", "on", "127.0.0.1"]
    facts, _ = ask(nginx, X_Forwarded_For="192.0.2.66", X_Forwarded_Proto="http", Forwarded="for=192.0.2.6")
    assert facts == ["127.0.0.1", "https", "on", "192.0.2.66,", "127.0.0.1"]


def test_gateway_behind_nginx_tells_the_next_one(nginx: int) -> None:
    """FWD-5, FWD-7: two hops, and a proxy on a Unix socket adds no address."""
    facts, _ = ask(nginx, "/next/facts", X_Forwarded_For="192.0.2.66")
    assert facts == ["127.0.0.1", "https", "on", "192.0.2.66,", "127.0.0.1"]


def test_client_of_nginx_on_a_unix_socket(nginx: int, directory: Path) -> None:
    """nginx calls it ``unix:``."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(WAIT)
        client.connect(str(directory / "public.sock"))
        client.sendall(b"GET /facts HTTP/1.0\r\n\r\n")
        received = b""
        while data := client.recv(65536):
            received += data
    assert received.endswith(b"\r\n\r\nunix:  https on unix: ")


def test_without_a_proxy_nobody_is_believed(gateway: Gateway) -> None:
    """FWD-7."""
    facts, own = ask(gateway.port, X_Forwarded_For="192.0.2.66", X_Forwarded_Proto="https")
    assert facts == ["127.0.0.1", str(own), "http", "-", "-"]
