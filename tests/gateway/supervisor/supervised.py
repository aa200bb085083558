"""What tests of several workers share: an application that says which process of which version it is."""

import http.client
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.control import client
from tests.gateway.test_daemon import ROOT, Daemon, daemon

APPLICATION = """
import asyncio, os
VERSION = "one"

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            await send({"type": "websocket.send", "text": f"{VERSION} {os.getpid()}"})
        return
    if scope["path"] == "/exit":
        os._exit(3)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/long":
        await send({"type": "http.response.body", "body": b"begun ", "more_body": True})
        while not os.path.exists("go"):
            await asyncio.sleep(0.02)
    await send({"type": "http.response.body", "body": f"{VERSION} {os.getpid()}.".encode()})
"""

CONFIG = """\
listeners: [{http: "127.0.0.1:0"}]
access_log: false
control: unix:control.sock
backends: {app: {asgi: "versioned:app"}}
routes: [{backend: app}]
"""


@contextmanager
def supervised(
    directory: Path, *arguments: str, config: str = CONFIG, code: str = APPLICATION
) -> Iterator[Daemon]:
    """A daemon with the application, without a terminal."""
    (directory / "versioned.py").write_text(code)
    with daemon(directory, config, *arguments, start_new_session=True) as running:
        yield running


def command(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``gateway ARGUMENTS``."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def status(directory: Path) -> dict[str, Any]:
    return client.status(directory / "control.sock")


def serving(directory: Path) -> list[int]:
    """The processes of the workers that serve."""
    return [each["pid"] for each in status(directory)["workers"] if each["state"] == "serving"]


def get(running: Daemon, path: str = "/") -> str:
    """The body of the answer on a connection of its own."""
    connection = http.client.HTTPConnection(*running.address, timeout=60)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        assert response.status == 200
        return response.read().decode()
    finally:
        connection.close()


def until(condition: Callable[[], bool]) -> None:
    """Ask again and again; each time takes a while of its own. The test's time-out ends it."""
    waiting = threading.Event()
    for _ in range(2000):
        if condition():
            return
        waiting.wait(0.03)
    raise AssertionError("it did not come to that")


def gone(pid: int) -> bool:
    """Whether the process has ended; one that nobody has reaped is."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
    return text.rpartition(")")[2].split()[0] == "Z"


def receive_until(connection: socket.socket, end: bytes) -> bytes:
    received = b""
    while not received.endswith(end):
        data = connection.recv(65536)
        assert data, received
        received += data
    return received


class Visitors:
    """Clients that ask all the time, some on connections of their own, some on one that is kept."""

    def __init__(self, running: Daemon) -> None:
        self._address = running.address
        self._enough = threading.Event()
        self.failures: list[str] = []
        self.seen: set[str] = set()
        self.requests = 0
        self._threads = [
            threading.Thread(target=self._visit, args=(keep,)) for keep in (True, True, False, False)
        ]

    def __enter__(self) -> "Visitors":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def _visit(self, keep: bool) -> None:
        connection = http.client.HTTPConnection(*self._address, timeout=60)
        while not self._enough.is_set():
            try:
                connection.request("GET", "/", headers={} if keep else {"Connection": "close"})
                response = connection.getresponse()
                body = response.read().decode()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
                continue
            self.requests += 1
            self.seen.add(body.partition(" ")[0])
            if response.status != 200:
                self.failures.append(f"{response.status} {body}")
        connection.close()
