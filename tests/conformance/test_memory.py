"""Memory of the daemon while it is between a fast side and one that stands still, over every kind (14.5).

Four bodies of 16 MiB at once, of which nothing is read: what is not bounded takes 64 MiB.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import pytest
import trio
import yaml

from gateway.front.service import Service
from gateway.protocols.ajp import AjpServer
from gateway.protocols.events import NEED_DATA, Data, EndOfMessage
from tests.conformance.asking import asking
from tests.conformance.faulty import CODECS, KINDS, SHARED, SOCKETS, Talk
from tests.conformance.large_apps import LENGTH, PIECE, SIZE
from tests.gateway.multiplexing import Application
from tests.gateway.served import Served, backend, next_event, run
from tests.gateway.test_daemon import daemon

AT_ONCE: Final = 4
BOUND: Final = 16 * 1024 * 1024
"""Bytes that the daemon may grow by: sockets' buffers are the kernel's, everything else is pieces."""

NOWHERE: Final = cast(Service, None)
"""It is in the daemon."""

CGI_PROGRAM: Final = """#!/bin/sh
case $REQUEST_METHOD in
GET) printf 'Content-Type: text/plain\\r\\nContent-Length: %d\\r\\n\\r\\n'; exec head -c %d /dev/zero ;;
esac
cat "$GATE" >/dev/null
printf 'Content-Type: text/plain\\r\\n\\r\\n%%s' "$(wc -c)"
"""


@dataclass
class Running:
    """A daemon with one backend."""

    pid: int
    served: Served
    gate: Path
    go: trio.Event

    def open_gate(self) -> None:
        """Let the backend read."""
        os.close(os.open(self.gate, os.O_RDWR))
        self.go.set()

    @property
    def memory(self) -> int:
        """Bytes that it has in memory: whatever it keeps for somebody is among them."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * int(status.partition("VmRSS:")[2].split()[0])

    async def at_rest(self) -> None:
        """Return when it does nothing any more: whoever is fast has come as far as it gets."""
        before = -1
        while (now := self._ticks()) != before:
            before = now
            with trio.move_on_after(0.3):
                await trio.sleep_forever()

    def _ticks(self) -> int:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])


def large(kind: str, go: trio.Event) -> Callable[[trio.SocketStream], Awaitable[None]]:
    """A server that does what `large_apps` do."""

    async def behave(stream: trio.SocketStream) -> None:
        codec = CODECS[kind]()
        talk = Talk(kind, stream, codec, await next_event(stream, codec))
        if talk.fault == "download":
            await talk.read_body()
            await talk.say(talk.head((b"content-length", LENGTH.encode())))
            for _ in range(SIZE // len(PIECE)):
                await stream.send_all(PIECE if kind == "http" else talk.piece(PIECE))
            await stream.send_all(talk.ending)
            return
        await go.wait()
        size = 0
        while not isinstance(event := codec.next_event(), EndOfMessage):
            if isinstance(codec, AjpServer):
                await stream.send_all(codec.data_to_send())
            if isinstance(event, Data):
                size += len(event.data)
            elif event is NEED_DATA:
                codec.receive_data(await stream.receive_some(65536))
        body = b"%d" % size
        await talk.say(talk.sized(len(body), body), end=True)

    return behave


@asynccontextmanager
async def running(
    kind: str, direction: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Running]:
    gate, go = directory / "gate", trio.Event()
    os.mkfifo(gate)
    monkeypatch.setenv("GATE", str(gate))
    behave = large("fastcgi" if kind == SHARED else kind, go)
    sharing = Application(behave)
    if direction == "up":
        sharing.reads = go
    async with backend(sharing if kind == SHARED else behave) as server:
        program = directory / "program"
        program.write_text(CGI_PROGRAM % (SIZE, SIZE))
        program.chmod(0o755)
        protocol, _, loop = kind.partition("-")
        config: dict[str, Any] = {protocol: f"tests.conformance.large_apps:{protocol}"}
        if loop:
            config["loop"] = loop
        elif kind == "cgi":
            config = {"cgi": str(program), "variables": {"GATE": str(gate)}}
        elif kind == SHARED:
            config = {"fastcgi": server.address, "keep_connection": True, "multiplex": {"stall": "1h"}}
        elif kind in SOCKETS:
            config = {kind: f"http://{server.address}" if kind == "http" else server.address}
        settings = {
            "listeners": [{"http": "127.0.0.1:0"}],
            "backends": {"app": config},
            "routes": [{"match": {"path": "/warm"}, "respond": {"body": "warm"}}, {"backend": "app"}],
        }
        with daemon(directory, yaml.safe_dump(settings)) as started:
            started.ready()
            if kind == SHARED:
                await trio.to_thread.run_sync(started.wait_for, '"application capabilities"')
            served = Served(NOWHERE, started.address)
            async with asking("1.1", served) as client:
                await client.send("/warm", 0, b"")
                assert (await client.answer()).body == b"warm"
            yield Running(started.process.pid, served, gate, go)


@pytest.mark.parametrize("version", ["1.1", "2"])
@pytest.mark.parametrize("kind", [*KINDS, SHARED])
def test_clients_that_do_not_read(
    kind: str, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """14.5; hypercorn#176."""

    async def main() -> None:
        async with running(kind, "down", tmp_path, monkeypatch) as gateway:
            before = gateway.memory

            async def ask(started: trio.Event) -> None:
                async with asking(version, gateway.served) as client:
                    await client.send("/download", 0, b"")
                    started.set()
                    await trio.sleep_forever()

            async with trio.open_nursery() as nursery:
                for _ in range(AT_ONCE):
                    started = trio.Event()
                    nursery.start_soon(ask, started)
                    await started.wait()
                await gateway.at_rest()
                assert gateway.memory - before < BOUND
                nursery.cancel_scope.cancel()
            assert await download(gateway.served) == SIZE
            assert gateway.memory - before < BOUND

    run(main, seconds=120)


async def download(served: Served) -> int:
    """The bytes of a whole body."""
    async with await served.connect() as client:
        await client.send_all(b"GET /download HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        head, _, body = (await client.receive_some(65536)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        size = len(body)
        while piece := await client.receive_some(262144):
            size += len(piece)
        return size


@pytest.mark.parametrize("kind", [*KINDS, SHARED])
def test_backends_that_do_not_read(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """14.5; uwsgi#311, hypercorn#176."""

    async def main() -> None:
        async with running(kind, "up", tmp_path, monkeypatch) as gateway:
            before = gateway.memory
            sizes: list[bytes] = []

            async def upload() -> None:
                async with asking("1.1", gateway.served) as client:
                    await client.send("/upload", SIZE, b"")
                    for _ in range(SIZE // len(PIECE)):
                        await client.send_body(PIECE)
                    sizes.append((await client.answer()).body.strip())

            async with trio.open_nursery() as nursery:
                for _ in range(AT_ONCE):
                    nursery.start_soon(upload)
                await gateway.at_rest()
                assert gateway.memory - before < BOUND
                gateway.open_gate()
            assert sizes == [LENGTH.encode()] * AT_ONCE
            assert gateway.memory - before < BOUND

    run(main, seconds=120)
