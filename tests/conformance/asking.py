"""Clients that ask for one response after the other, over HTTP/1.1 or HTTP/2, and can leave at any time;
and what they do for each of the faults of `faulty`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio
from h2.errors import ErrorCodes

from gateway.protocols.events import Headers
from tests.conformance.faulty import GATES
from tests.conformance.reader import CutShort, read_response
from tests.gateway.http2_client import Client
from tests.gateway.served import Served, reset

GATED: Final = ("cut-body", "short")
"""Faults behind the first bytes of a body, which wait for the byte that the client sends when it has them."""
UNREAD: Final = ("early", "unread")
"""Faults while a large body is on its way."""
GONE: Final = ("unread", "waits", "endless")
"""Here it is the client that does not wait for the end."""
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
    trailers: Headers = field(default_factory=list)

    def header(self, name: bytes) -> bytes | None:
        return next((value for each, value in self.headers if each == name), None)


class Asking(Protocol):
    """A client that asks one request."""

    async def send(
        self, target: str, length: int, body: bytes, *fields: tuple[str, str], method: str = ""
    ) -> None:
        """A request whose body has *length*, and the beginning of that; POST by default, or GET without."""
        ...

    async def upload(self, target: str, body: bytes) -> None:
        """A request that does not say the length of its body."""
        ...

    async def until_received(self, token: str) -> None:
        """Wait for it in the body."""
        ...

    async def send_body(self, body: bytes) -> None: ...
    async def answer(self) -> Answer: ...
    async def leave(self) -> Answer:
        """Do not wait for the answer any longer; as much of it as has come."""
        ...


class AskingHttp1:
    """Implements `Asking`."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._received = b""
        self._method = ""

    async def send(
        self, target: str, length: int, body: bytes, *fields: tuple[str, str], method: str = ""
    ) -> None:
        self._method = method or ("POST" if length else "GET")
        lines = [
            f"{self._method} {target} HTTP/1.1",
            "Host: a",
            *(f"{name}: {value}" for name, value in fields),
        ]
        if length:
            lines.append(f"Content-Length: {length}")
        await self._stream.send_all("\r\n".join([*lines, "", ""]).encode() + body)

    async def upload(self, target: str, body: bytes) -> None:
        self._method = "POST"
        head = f"POST {target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        await self._stream.send_all(head.encode() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))

    async def until_received(self, token: str) -> None:
        while token.encode() not in self._received:
            piece = await self._stream.receive_some(65536)
            assert piece, self._received
            self._received += piece

    async def send_body(self, body: bytes) -> None:
        await self._stream.send_all(body)

    async def answer(self) -> Answer:
        while True:
            try:
                message, self._received = read_response(self._received, self._method)
            except CutShort:
                if not (piece := await self._receive()):
                    return self._part()
                self._received += piece
            else:
                kept = message.field(b"connection") != b"close"
                return Answer(
                    int(message.start[0]), message.fields, message.body, True, kept, message.trailers
                )

    async def _receive(self) -> bytes:
        try:
            return await self._stream.receive_some(65536)
        except trio.BrokenResourceError:
            return b""

    def _part(self) -> Answer:
        return Answer(int(self._received[9:12] or b"0"), body=self._received)

    async def leave(self) -> Answer:
        reset(self._stream)
        return self._part()


class AskingHttp2:
    """Implements `Asking`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stream_id = 0

    async def send(
        self, target: str, length: int, body: bytes, *fields: tuple[str, str], method: str = ""
    ) -> None:
        if length:
            fields = (*fields, ("content-length", str(length)))
        method = method or ("POST" if length else "GET")
        self._stream_id = await self._client.request(target, *fields, method=method, end=not length)
        if body:
            await self._client.send_body(self._stream_id, body, end=False)

    async def upload(self, target: str, body: bytes) -> None:
        self._stream_id = await self._client.request(target, method="POST", end=False)
        await self._client.send_body(self._stream_id, body)

    async def until_received(self, token: str) -> None:
        answer = self._client.answers[self._stream_id]
        await self._client.until(lambda: token.encode() in answer.body)

    async def send_body(self, body: bytes) -> None:
        await self._client.send_body(self._stream_id, body)

    async def answer(self) -> Answer:
        answer = await self._client.answer(self._stream_id)
        assert answer.ended or answer.reset == ErrorCodes.INTERNAL_ERROR
        return Answer(
            answer.status, answer.headers, answer.body, answer.ended, True, trailers=answer.trailers
        )

    async def leave(self) -> Answer:
        answer = self._client.answers[self._stream_id]
        if answer.reset is None and not answer.ended:
            self._client.h2.reset_stream(self._stream_id, ErrorCodes.CANCEL)
            await self._client.flush()
        return Answer(answer.status, answer.headers, answer.body, kept=True)


@asynccontextmanager
async def asking(version: str, served: Served) -> AsyncIterator[Asking]:
    """A client on a fresh connection to *served*, which has to be entered (`http2_client.entering`)."""
    async with await served.connect() as stream:
        if version == "1.1":
            yield AskingHttp1(stream)
        else:
            client = Client(stream)
            await client.begin()
            yield AskingHttp2(client)


async def ask(
    client: Asking, fault: str, kind: str, token: str, until_it_leaves: Callable[[], Awaitable[None]]
) -> Answer:
    """Send the request of a fault, and do the client's part.

    Where that is to leave, it waits before, unless it has received something.
    """
    GATES[token] = trio.Event()
    target = f"/{kind}/{fault}?{token}"
    if fault in UNREAD:
        await client.send(target, LARGE, b"some")
    else:
        await client.send(target, int(fault in GATED), b"")
    if fault == "endless":
        await client.until_received(token)
        return await client.leave()
    if fault in GONE:
        await until_it_leaves()
        return await client.leave()
    if fault in GATED:
        await client.until_received(token)
        await client.send_body(b"x")
    elif fault == "reset-body":
        await client.until_received(token)
        GATES[token].set()
    return await client.answer()
