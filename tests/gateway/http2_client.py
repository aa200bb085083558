"""A client of HTTP/2 over a real socket, for tests: h2 with a loop around it.

``from tests.gateway.http2_client import …``.
"""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import trio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    InformationalResponseReceived,
    PushedStreamReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes

from gateway.front.entrance import Entrance
from gateway.protocols.events import Headers
from gateway.tls.context import Certificates
from tests.gateway.served import Answer, Served, each_served, run, serving
from tests.protocols.http2_peer import GOAWAY


@dataclass
class Answered:
    """What has come on one stream."""

    status: int = 0
    headers: Headers = field(default_factory=list)
    received: bytearray = field(default_factory=bytearray)
    trailers: Headers = field(default_factory=list)
    informed: list[tuple[int, Headers]] = field(default_factory=list)
    ended: bool = False
    reset: int | None = None
    pushed: list[tuple[int, Headers]] = field(default_factory=list)
    """Streams that were promised on this one, and the fields of their requests."""

    @property
    def body(self) -> bytes:
        return bytes(self.received)

    def header(self, name: bytes) -> bytes | None:
        """The only value of *name*; None if it is absent."""
        values = [value for each, value in self.headers if each == name]
        assert len(values) <= 1, values
        return values[0] if values else None


class Client:
    """A connection whose events are gathered by stream; windows are opened as data comes."""

    def __init__(self, stream: trio.abc.Stream, *, credit: bool = True) -> None:
        self.stream = stream
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self.answers: dict[int, Answered] = {}
        self.goaways: list[tuple[int, int]] = []
        """Last stream and code of each GOAWAY. h2 does not get to see them: it would hear nothing more."""
        self._received = b""
        self.closed = False
        self.credit = credit
        """Whether windows are opened for what has come."""

    async def begin(self, **settings: int) -> None:
        """Say the preface. *settings* are names of SETTINGS, lower-case."""
        self.h2.initiate_connection()
        if settings:
            self.h2.update_settings({SettingCodes[name.upper()]: value for name, value in settings.items()})
        await self.flush()

    async def flush(self) -> None:
        if data := self.h2.data_to_send():
            await self.stream.send_all(data)

    async def send(self, data: bytes) -> None:
        """Frames of the test's own."""
        await self.flush()
        await self.stream.send_all(data)

    async def request(
        self, path: str = "/", *headers: tuple[str, str], method: str = "GET", end: bool = True, **pseudo: str
    ) -> int:
        """Open a stream; its id. *pseudo* are further pseudo-header fields, or others than usual."""
        stream_id: int = self.h2.get_next_available_stream_id()
        fields = {"method": method, "scheme": "http", "path": path, "authority": "a", **pseudo}
        self.h2.send_headers(
            stream_id, [*[(f":{name}", value) for name, value in fields.items()], *headers], end_stream=end
        )
        self.answers[stream_id] = Answered()
        await self.flush()
        return stream_id

    async def send_body(self, stream_id: int, data: bytes, *, end: bool = True) -> None:
        """Send *data* as the server's windows allow."""
        rest = memoryview(data)
        while rest:
            room = min(self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size)
            if not room:
                await self.receive()
                continue
            self.h2.send_data(stream_id, rest[:room], end_stream=end and room >= len(rest))
            rest = rest[room:]
            await self.flush()
        if end and not data:
            self.h2.end_stream(stream_id)
            await self.flush()

    async def receive(self) -> None:
        """Take what comes next."""
        data = await self.stream.receive_some(65536)
        if not data:
            self.closed = True
            return
        received = self._received + data
        while len(received) >= 9 and len(received) >= (size := 9 + int.from_bytes(received[:3], "big")):
            each, received = received[:size], received[size:]
            if each[3] == GOAWAY:
                self.goaways.append((int.from_bytes(each[9:13], "big"), int.from_bytes(each[13:17], "big")))
                continue
            for event in self.h2.receive_data(each):
                self._take(event)
        self._received = received
        await self.flush()

    def _take(self, event: Any) -> None:
        match event:
            case ResponseReceived():
                answer = self.answers[event.stream_id]
                fields = [(name, value) for name, value in event.headers]
                assert fields[0][0] == b":status"
                answer.status, answer.headers = int(fields[0][1]), fields[1:]
            case PushedStreamReceived(parent_stream_id=int(parent), pushed_stream_id=int(promised)):
                fields = [(bytes(name), bytes(value)) for name, value in event.headers or []]
                self.answers[parent].pushed.append((promised, fields))
                self.answers[promised] = Answered()
            case InformationalResponseReceived():
                fields = [(name, value) for name, value in event.headers]
                self.answers[event.stream_id].informed.append((int(fields[0][1]), fields[1:]))
            case TrailersReceived():
                self.answers[event.stream_id].trailers = [(name, value) for name, value in event.headers]
            case DataReceived():
                self.answers[event.stream_id].received += event.data
                if self.credit:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case StreamEnded():
                self.answers[event.stream_id].ended = True
            case StreamReset():
                self.answers[event.stream_id].reset = int(event.error_code)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Receive until *condition* holds."""
        while not condition():
            assert not self.closed, "the server has closed the connection"
            await self.receive()

    async def answer(self, stream_id: int) -> Answered:
        """The whole answer, or as much of it as there is before a reset."""
        answer = self.answers[stream_id]
        await self.until(lambda: answer.ended or answer.reset is not None)
        return answer

    async def ask(
        self, path: str = "/", *headers: tuple[str, str], method: str = "GET", body: bytes | None = None
    ) -> Answered:
        """One request with its answer."""
        stream_id = await self.request(path, *headers, method=method, end=body is None)
        if body is not None:
            await self.send_body(stream_id, body)
        return await self.answer(stream_id)

    async def end(self) -> None:
        """Receive until the server has closed the connection."""
        while not self.closed:
            await self.receive()


@asynccontextmanager
async def entering(
    served: Served,
    *,
    http2: bool | Literal["only"] = True,
    path: str | None = None,
    certificates: Certificates | None = None,
) -> AsyncIterator[Entrance]:
    """Accept connections for the service of *served* as the daemon does, on its address, or at *path*."""
    entrance = Entrance(served.service, http2=http2, certificates=certificates)
    if path is None:
        sock = socket.create_server(("127.0.0.1", 0), backlog=128)
    else:
        sock = socket.create_server(path, family=socket.AF_UNIX, backlog=128)
    sock.setblocking(False)
    served.address = sock.getsockname()
    with sock:
        async with each_served(sock, entrance.serve):
            yield entrance


def talking(
    test: Callable[[Client, Entrance, Served], Awaitable[None]],
    answer: Answer,
    *,
    settings: dict[str, int] | None = None,
    credit: bool = True,
    seconds: float = 25.0,
    clock: trio.abc.Clock | None = None,
    **options: Any,
) -> None:
    """Run *test* with a client whose preface is said, on a server that answers by *answer*."""

    async def main() -> None:
        async with (
            serving(answer, **options) as served,
            entering(served) as entrance,
            await served.connect() as stream,
        ):
            client = Client(stream, credit=credit)
            await client.begin(**(settings or {}))
            await test(client, entrance, served)

    run(main, seconds=seconds, clock=clock)
