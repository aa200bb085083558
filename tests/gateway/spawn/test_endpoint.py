"""Where applications listen, with real HTTP servers that open their own sockets."""

import os
import resource
import signal
import socket
import stat
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from gateway.net.address import TcpAddress, UnixAddress
from gateway.programs.confinement import User
from gateway.spawn.endpoint import OwnSocket, SharedSocket, endpoint_for
from tests.gateway.served import LAST_GET, Served, gateway_of, response, unused_port

# HTTP servers of the standard library: on a port, on a path, on descriptor 0.
SERVER = """
import http.server, os, socket, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{os.getpid()} {self.server.server_address}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
    def address_string(self):
        return "-"

class Server(http.server.HTTPServer):
    def server_bind(self):
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "-", 0

class UnixServer(Server):
    address_family = socket.AF_UNIX
    def get_request(self):
        return self.socket.accept()[0], ("-", 0)

def on(where):
    time.sleep(float(os.environ.get("SLOW", "0")))
    if where == "fd":
        server = UnixServer("", Handler, bind_and_activate=False)
        server.socket = socket.socket(fileno=0)
        return server
    if where.isdigit():
        return http.server.HTTPServer(("127.0.0.1", int(where)), Handler)
    return UnixServer(where, Handler)

on(sys.argv[1] if len(sys.argv) > 1 else os.environ["PORT"]).serve_forever()
"""


def spawn(*words: str, **options: Any) -> dict[str, Any]:
    return {"command": [sys.executable, "-u", "-c", SERVER, *words], "stop_time": "60s", **options}


def run(spawned: dict[str, Any], test: Callable[[Served], Awaitable[None]]) -> list[Any]:
    config = {
        "debug": True,
        "backends": {"app": {"http": {"spawn": spawned}}},
        "routes": [{"backend": "app"}],
    }

    async def main() -> None:
        with trio.fail_after(60):
            async with gateway_of(config) as served:
                await test(served)

    with capture_logs() as logs:
        trio.run(main)
    return logs


def test_those_who_wait_are_turned_away_when_there_is_a_descriptor_for_it() -> None:
    shared = SharedSocket()
    with shared.opened("app"), socket.socket(socket.AF_UNIX) as waiting:
        assert isinstance(shared.address, UnixAddress)
        waiting.connect(shared.address.path)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket() as highest:
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest.fileno() + 1, hard))
            try:
                shared.turn_away()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        with pytest.raises(BlockingIOError):
            waiting.recv(1, socket.MSG_DONTWAIT)
        shared.turn_away()
        assert waiting.recv(1) == b""


async def ask(served: Served) -> bytes:
    found = response(await served.ask(LAST_GET))
    assert found.status == 200, found.body
    return found.body


WAYS: dict[str, Callable[[], dict[str, Any]]] = {
    "descriptor 0": lambda: spawn("fd"),
    "socket": lambda: spawn("{socket}"),
    "port": lambda: spawn("{port}"),
    "port in the environment": lambda: spawn(env={"PORT": "{port}"}),
    "slow": lambda: spawn("{port}", env={"SLOW": "0.5"}),
    "on demand": lambda: spawn("{socket}", processes={"min": 0}, env={"SLOW": "0.3"}),
}


@pytest.mark.parametrize("way", WAYS)
def test_http_server_learns_where_to_listen(way: str) -> None:
    """Requests that come before it listens wait."""

    async def test(served: Served) -> None:
        first = await ask(served)
        assert await ask(served) == first

    run(WAYS[way](), test)


def test_server_at_an_address_that_it_knows_itself() -> None:
    port = unused_port()

    async def test(served: Served) -> None:
        assert f"('127.0.0.1', {port})".encode() in await ask(served)

    run(spawn(str(port), address=f"127.0.0.1:{port}"), test)


@pytest.mark.parametrize("where", ["{socket}", "{port}"])
def test_server_with_its_own_socket_is_started_again(where: str) -> None:
    """Its socket, which it left behind, does not stand in the way, and its port is still its own."""

    async def test(served: Served) -> None:
        first = await ask(served)
        os.kill(int(first.split()[0]), signal.SIGKILL)
        second = first
        while second.split()[0] == first.split()[0]:
            found = response(await served.ask(LAST_GET))
            second = found.body if found.status == 200 else first
        assert first.split()[1:] == second.split()[1:]

    run(spawn(where), test)


def test_server_with_its_own_socket_is_replaced_under_requests() -> None:
    """It is stopped first; requests wait for the new one, and none fails."""
    pids: set[bytes] = set()

    async def test(served: Served) -> None:
        async def client() -> None:
            while len(pids) < 4:
                pids.add((await ask(served)).split()[0])

        async with trio.open_nursery() as clients:
            clients.start_soon(client)
            clients.start_soon(client)

    logs = run(spawn("{socket}", max_requests=5), test)
    assert "application process ended" not in {entry["event"] for entry in logs}


def test_request_does_not_wait_for_ever_for_a_server_that_does_not_listen() -> None:
    async def test(served: Served) -> None:
        found = response(await served.ask(LAST_GET))
        assert found.status == 503
        assert b"spawn" in found.body

    run({"command": ["sleep", "1000", "{port}"], "startup_time": "200ms", "stop_time": "60s"}, test)


# ---- the parts


def test_what_a_program_expects_is_seen_from_its_command() -> None:
    assert isinstance(endpoint_for(["a"], {}, None), SharedSocket)
    assert isinstance(endpoint_for(["a", "--unix={socket}"], {}, None).address, UnixAddress)
    assert isinstance(endpoint_for(["a"], {"PORT": "{port}"}, None).address, TcpAddress)
    assert endpoint_for(["a"], {}, UnixAddress("/x")).address == UnixAddress("/x")


def test_port_is_nobody_elses() -> None:
    own = OwnSocket(port=True)
    assert isinstance(own.address, TcpAddress)
    with own.opened("app"), socket.socket() as other:
        assert not own.accepts()
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", own.address.port))
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("127.0.0.1", own.address.port))
            server.listen()
            assert own.accepts()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_directory_of_the_socket_is_the_users() -> None:
    own = OwnSocket()
    assert isinstance(own.address, UnixAddress)
    home = Path(own.address.path).parent
    with own.opened("app", User(33, 34)):
        found = home.stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (33, 34, 0o700)
    assert not home.exists()
