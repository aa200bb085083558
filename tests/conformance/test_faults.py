"""Every row of `faults`, over HTTP/1.1 and HTTP/2."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import pytest
import trio
from h2.errors import ErrorCodes
from structlog.testing import capture_logs
from structlog.typing import EventDict

from gateway.errors import BackendError
from gateway.failure import failure_of
from protocols.events import Headers
from tests.conformance.faults import Kept, Outcome, cases
from tests.conformance.faulty import (
    ABSENT,
    GATES,
    KEEPING,
    LATE,
    STARTED,
    faulty,
    name_of,
    processes,
)
from tests.conformance.reader import CutShort, read_response
from tests.gateway.http2_client import Client, entering
from tests.gateway.served import Served, gateway_of, quick_sweeper, reset, run, until  # noqa: F401

pytestmark = pytest.mark.usefixtures("quick_sweeper")

TOKEN: Final = "token-of-the-first"
GATED: Final = ("cut-body", "short")
"""Faults behind the first bytes of a body, which wait for the byte that the client sends when it has them."""
UNREAD: Final = ("early", "unread")
"""Faults while a large body is on its way."""
GONE: Final = ("unread", "waits", "endless")
LARGE: Final = 1_000_000


@dataclass
class Answer:
    """As much of a response as has come."""

    status: int = 0
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    whole: bool = False
    kept: bool = False
    """The connection goes on."""

    def header(self, name: bytes) -> bytes | None:
        return next((value for each, value in self.headers if each == name), None)


class Asking(Protocol):
    """A client that asks one request."""

    async def send(self, target: str, length: int, body: bytes) -> None: ...
    async def first_bytes(self) -> None:
        """Wait for the token."""
        ...

    async def send_body(self, body: bytes) -> None: ...
    async def answer(self) -> Answer: ...
    async def leave(self) -> None:
        """Do not wait for the answer any longer."""
        ...


class AskingHttp1:
    """Implements `Asking`."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._received = b""

    async def send(self, target: str, length: int, body: bytes) -> None:
        method, fields = ("POST", f"Content-Length: {length}\r\n") if length else ("GET", "")
        head = f"{method} {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"
        await self._stream.send_all(head.encode() + body)

    async def first_bytes(self) -> None:
        while TOKEN.encode() not in self._received:
            piece = await self._stream.receive_some(65536)
            assert piece, self._received
            self._received += piece

    async def send_body(self, body: bytes) -> None:
        await self._stream.send_all(body)

    async def answer(self) -> Answer:
        while True:
            try:
                message, self._received = read_response(self._received, "GET")
            except CutShort:
                if not (piece := await self._receive()):
                    return self._part()
                self._received += piece
            else:
                kept = message.field(b"connection") != b"close"
                return Answer(int(message.start[0]), message.fields, message.body, True, kept)

    async def _receive(self) -> bytes:
        try:
            return await self._stream.receive_some(65536)
        except trio.BrokenResourceError:
            return b""

    def _part(self) -> Answer:
        return Answer(int(self._received[9:12] or b"0"), body=self._received)

    async def leave(self) -> None:
        reset(self._stream)


class AskingHttp2:
    """Implements `Asking`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stream_id = 0

    async def send(self, target: str, length: int, body: bytes) -> None:
        fields = [("content-length", str(length))] if length else []
        method = "POST" if length else "GET"
        self._stream_id = await self._client.request(target, *fields, method=method, end=not length)
        if body:
            await self._client.send_body(self._stream_id, body, end=False)

    async def first_bytes(self) -> None:
        answer = self._client.answers[self._stream_id]
        await self._client.until(lambda: TOKEN.encode() in answer.body)

    async def send_body(self, body: bytes) -> None:
        await self._client.send_body(self._stream_id, body)

    async def answer(self) -> Answer:
        answer = await self._client.answer(self._stream_id)
        assert answer.ended or answer.reset == ErrorCodes.INTERNAL_ERROR
        return Answer(answer.status, answer.headers, answer.body, answer.ended, True)

    async def leave(self) -> None:
        self._client.h2.reset_stream(self._stream_id, ErrorCodes.CANCEL)
        await self._client.flush()


@asynccontextmanager
async def asking(version: str, served: Served) -> AsyncIterator[Asking]:
    """A client of a fresh connection."""
    async with AsyncExitStack() as stack:
        if version == "2":
            served = Served(served.service, None)
            await stack.enter_async_context(entering(served))
        stream = await stack.enter_async_context(await served.connect())
        if version == "1.1":
            yield AskingHttp1(stream)
        else:
            client = Client(stream)
            await client.begin()
            yield AskingHttp2(client)


@dataclass
class Seen:
    """All that is to be seen of one request."""

    answer: Answer
    logs: list[EventDict]
    statuses: list[int]
    """In the access log."""
    reused: bool | None
    """Whether the connection to the backend served the next request."""


async def observe(fault: str, kind: str, version: str, directory: Path) -> Seen:
    """What becomes of a request, and of two after it: on its connection if that goes on, and on another."""
    before = processes()
    statuses: list[int] = []
    GATES[TOKEN] = trio.Event()
    STARTED.clear()
    async with faulty(directory, [kind]) as backends, gateway_of(backends.config) as served:
        server = backends.servers.get(kind)
        served.service.access_log = lambda request, status, size, seconds: statuses.append(status)
        with capture_logs() as logs:
            async with asking(version, served) as client:
                answer = await ask(client, fault, kind, before)
                await until(lambda: len(statuses) == 1)
                connections = server.connections if server is not None else 0
                if answer.kept:
                    await client.send(f"/{kind}/fine?same", 0, b"")
                    same = await client.answer()
                    assert (same.status, same.body, same.kept) == (200, b"same", True)
                await until(lambda: processes() <= before)
            async with asking("1.1", served) as client:
                await client.send(f"/{kind}/fine?other", 0, b"")
                other = await client.answer()
                assert (other.status, other.body) == (200, b"other")
            await until(lambda: processes() <= before)
        reused = None
        if server is not None:
            keeps = kind in KEEPING
            reused = server.connections == connections
            await until(lambda: server.open == keeps)
            assert keeps or server.connections == connections + 1 + answer.kept
    events = [entry for entry in logs if entry["log_level"] != "debug"]
    return Seen(answer, events, statuses[:1], reused)


async def ask(client: Asking, fault: str, kind: str, before: set[int]) -> Answer:
    """Send the request of a fault, and do the client's part."""
    target = f"/{kind}/{fault}?{TOKEN}"
    if fault in UNREAD:
        await client.send(target, LARGE, b"some")
    else:
        await client.send(target, int(fault in GATED), b"")
    if fault in GONE:
        if fault == "endless":
            await client.first_bytes()
        else:
            await until(lambda: bool(processes() - before) if kind == "cgi" else TOKEN in STARTED)
        await client.leave()
        return Answer(200 if fault == "endless" else 0)
    if fault in GATED:
        await client.first_bytes()
        await client.send_body(b"x")
    elif fault == "reset-body":
        await client.first_bytes()
        GATES[TOKEN].set()
    return await client.answer()


@pytest.mark.parametrize("version", ["1.1", "2"])
@pytest.mark.parametrize(
    ("fault", "kind", "outcome"), [pytest.param(*case, id="-".join(case[:2])) for case in cases()]
)
def test_fault(fault: str, kind: str, outcome: Outcome, version: str, tmp_path: Path) -> None:
    """14.3, 14.4; complaints.md 5-8, 16, 17, 30, 35-37; peers.md G06, G11."""
    observed: list[Seen] = []

    async def main() -> None:
        observed.append(await observe(fault, kind, version, tmp_path))

    run(main, seconds=20)
    (seen,) = observed
    check_answer(seen.answer, fault, kind, outcome, version)
    check_logs(seen, fault, kind, outcome)
    if seen.reused is not None and fault not in (*ABSENT, *LATE):
        assert seen.reused == (kind in KEEPING and outcome.backend is Kept.REUSED)


def check_answer(answer: Answer, fault: str, kind: str, outcome: Outcome, version: str) -> None:
    if fault in GONE:
        return
    assert (answer.status, answer.whole) == (outcome.status, outcome.whole)
    assert answer.kept == (version == "2" or outcome.client is Kept.REUSED)
    proxy_status = answer.header(b"proxy-status")
    if outcome.cause is None or not outcome.whole:
        assert proxy_status is None
        assert TOKEN.encode() in answer.body
        if outcome.whole:
            assert answer.body == TOKEN.encode()
    else:
        assert outcome.phase is not None
        name = name_of(kind, fault)
        failure = BackendError(outcome.cause, "", backend=name, address="", phase=outcome.phase)
        told = f"{outcome.phase.value}: {failure_of(failure).detail}"
        expected = f'gateway; error={outcome.cause.value}; next-hop="{name}"; details="{told}"'
        assert proxy_status == expected.encode()


def check_logs(seen: Seen, fault: str, kind: str, outcome: Outcome) -> None:
    failed = [] if outcome.cause is None else ["backend failed"]
    assert [entry["event"] for entry in seen.logs] == [*outcome.logs, *failed]
    for entry in seen.logs:
        assert entry["backend"] == name_of(kind, fault)
        if entry["event"] == "backend failed":
            assert outcome.cause is not None
            assert outcome.phase is not None
            assert (entry["cause"], entry["phase"]) == (outcome.cause.value, outcome.phase.value)
            assert (entry["answered"], entry["log_level"]) == (outcome.whole, "error")
            assert entry["target"] == f"/{kind}/{fault}"
    assert seen.statuses == [outcome.status]
