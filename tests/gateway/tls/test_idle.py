"""What connections over TLS keep while nothing is asked of them."""

import socket
import ssl
from contextlib import AbstractContextManager, ExitStack, suppress
from http.client import HTTPSConnection
from pathlib import Path

import yaml

from gateway.runtime.memory import resident
from tests.gateway.supervisor.supervised import until
from tests.gateway.test_daemon import Daemon, daemon
from tests.gateway.tls.secured import certificate, client_context

CLIENTS = 200
SIZE = 128 * 1024
RECORD = 16 * 1024
"""Bytes of a record: what one takes, in both directions, is kept."""
BOUND = 40 * 1024
"""Bytes for each that more of them may take: buffers of all that has come at once took 100 KiB."""

# What has become free is given back at once.
APPLICATION = """
import gateway.runtime.memory
gateway.runtime.memory.INTERVAL = 0.2

def echo(environ, start_response):
    start_response("200 OK", [])
    return [environ["wsgi.input"].read()]
"""


def echoing(directory: Path) -> AbstractContextManager[Daemon]:
    files = certificate(directory, "127.0.0.1")
    (directory / "echoing.py").write_text(APPLICATION)
    tls = {"certificate": str(files.certificate), "key": str(files.key)}
    settings = {
        "listeners": [{"http": "127.0.0.1:0", "tls": tls}],
        "backends": {"app": {"wsgi": "echoing:echo"}},
        "routes": [{"backend": "app"}],
    }
    return daemon(directory, yaml.safe_dump(settings))


def test_an_idle_connection_does_not_keep_what_it_has_carried(tmp_path: Path) -> None:
    body = b"x" * SIZE
    with echoing(tmp_path) as running, ExitStack() as clients:
        running.ready()
        host, port = running.address
        context = client_context()
        connections = [HTTPSConnection(host, port, context=context, timeout=30) for _ in range(CLIENTS)]
        for connection in connections:
            clients.callback(connection.close)
            connection.connect()
            ask(connection, b"x" * RECORD)
        before = resident(running.process.pid)
        for connection in connections:
            ask(connection, body)
        until(lambda: resident(running.process.pid) - before < CLIENTS * BOUND)


def test_nor_what_came_together_with_the_end_of_its_handshake(tmp_path: Path) -> None:
    """As clients of TLS 1.3 send their first request."""
    with echoing(tmp_path) as running, ExitStack() as clients:
        running.ready()
        context = client_context()

        def take(number: int, size: int) -> int:
            for _ in range(number):
                clients.enter_context(ask_at_once(running.connect(), context, b"x" * size))
            return resident(running.process.pid)

        before = take(20, RECORD)
        more = take(CLIENTS, RECORD) - before
        before = take(0, 0)
        take(CLIENTS, SIZE // 2 - 4096)
        until(lambda: resident(running.process.pid) - before - more < CLIENTS * BOUND)


def ask_at_once(client: socket.socket, context: ssl.SSLContext, body: bytes) -> socket.socket:
    """Send the end of the handshake and a request in one piece, and take the answer."""
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(received, sent, server_hostname="127.0.0.1")
    with suppress(ssl.SSLWantReadError):
        session.do_handshake()
    client.sendall(sent.read())
    answer = b""
    agreed = False
    while not answer.endswith(body):
        received.write(client.recv(65536))
        with suppress(ssl.SSLWantReadError):
            if not agreed:
                session.do_handshake()
                agreed = True
                session.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                client.sendall(sent.read())
            while True:
                answer += session.read(65536)
    return client


def ask(connection: HTTPSConnection, body: bytes) -> None:
    connection.request("POST", "/", body)
    assert connection.getresponse().read() == body
