"""An ASGI application behind the whole gateway, and clients that ask it the same over HTTP/1.1 and HTTP/2."""

import itertools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any, Final, Protocol, TypeAlias

import trio
from h2.errors import ErrorCodes

from gateway.protocols.events import Headers
from tests.conformance.reader import CutShort, Message, read_response
from tests.gateway.http2_client import Answered, Client, entering
from tests.gateway.served import Served, gateway_of, reset
from tests.gateway.websocket_client import Client as WebSocket
from tests.gateway.websocket_client import offer, read_head

App: TypeAlias = Callable[..., Any]

_number = itertools.count()


def publish(app: Any) -> str:
    """The name by which the configuration finds *app*."""
    module = ModuleType(f"published_application_{next(_number)}")
    module.app = app  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    return f"{module.__name__}:app"


@asynccontextmanager
async def hosting(
    app: Any, loop: str, *, mount: str = "", whole: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[Served]:
    """*app*, configured with *options*, on an address that speaks both versions of HTTP."""
    route: dict[str, Any] = {"backend": "api"}
    if mount:
        route |= {"match": {"path": f"{mount}/*"}, "mount": mount}
    config = {
        "backends": {"api": {"asgi": publish(app), "loop": loop, **options}},
        "routes": [route],
        **(whole or {}),
    }
    async with gateway_of(config) as served, entering(served) as entrance:
        served.drain = entrance.drain
        yield served


# --- requests


class Conversation(Protocol):
    """One request, and what comes for it."""

    answered: Answered

    async def begin(
        self, target: str = "/", *fields: tuple[str, str], method: str = "GET", body: bool = False
    ) -> None:
        """Send the head; with *body* one of unknown length follows."""
        ...

    async def send_body(self, data: bytes, *, end: bool = True) -> None: ...
    async def until(self, condition: Callable[[Answered], object]) -> None:
        """Receive until *condition* holds for what has come."""
        ...

    async def answer(self) -> Answered:
        """All that comes, to the end of the response or of the connection."""
        ...

    async def leave(self) -> None:
        """Go, without waiting for anything (HTTP/1.1: close, as a browser does; HTTP/2: RST_STREAM)."""
        ...

    async def vanish(self) -> None:
        """Break the connection."""
        ...


class Http1Conversation:
    """Implements `Conversation`."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.answered = Answered()
        self._method = "GET"
        self._received = b""
        self._closed = False

    async def begin(
        self, target: str = "/", *fields: tuple[str, str], method: str = "GET", body: bool = False
    ) -> None:
        self._method = method
        lines = [f"{method} {target} HTTP/1.1", "host: a", *(f"{name}: {value}" for name, value in fields)]
        if body:
            lines.append("transfer-encoding: chunked")
        if any(name == "te" for name, _ in fields):
            lines.append("connection: te")
        await self.stream.send_all("\r\n".join([*lines, "", ""]).encode())

    async def send_body(self, data: bytes, *, end: bool = True) -> None:
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        await self.stream.send_all(chunk + (b"0\r\n\r\n" if end else b""))

    async def until(self, condition: Callable[[Answered], object]) -> None:
        while not condition(self.answered):
            assert not self._closed, f"the connection ended after {self.answered}"
            await self._receive()

    async def answer(self) -> Answered:
        while not self.answered.ended and not self._closed:
            await self._receive()
        return self.answered

    async def _receive(self) -> None:
        try:
            piece = await self.stream.receive_some(65536)
        except trio.BrokenResourceError:
            piece = b""
        self._closed = not piece
        self._received += piece
        self._read()

    def _read(self) -> None:
        """What has come, as a strict reader has it; the body as far as it goes."""
        answered = self.answered
        while b"\r\n\r\n" in self._received and not answered.ended:
            head = self._received.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
            status = int(head[9:12])
            if status < 200:
                message, self._received = read_response(self._received, self._method)
                answered.informed.append((status, message.fields))
                continue
            try:
                message, self._received = read_response(self._received, self._method)
            except CutShort:
                self._take_part(head)
                return
            answered.status, answered.headers, answered.trailers = status, message.fields, message.trailers
            answered.received[:] = message.body
            answered.ended = self._closed or not _ends_with_connection(message, self._method)

    def _take_part(self, head: bytes) -> None:
        known, _ = read_response(head, "HEAD")
        answered = self.answered
        answered.status, answered.headers = int(known.start[0]), known.fields
        rest = self._received[len(head) :]
        body = b""
        if known.field(b"transfer-encoding") is None:
            body = rest
        while known.field(b"transfer-encoding") is not None:
            line, end, rest = rest.partition(b"\r\n")
            size = int(line, 16) if end else 0
            if not size:
                break
            body += rest[:size]
            rest = rest[size + 2 :]
        answered.received[:] = body

    async def leave(self) -> None:
        await self.stream.aclose()

    async def vanish(self) -> None:
        reset(self.stream)


def _ends_with_connection(message: Message, method: str) -> bool:
    return (
        method != "HEAD"
        and message.field(b"content-length") is None
        and message.field(b"transfer-encoding") is None
        and (int(message.start[0]) not in (204, 304))
    )


class Http2Conversation:
    """Implements `Conversation`."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.answered = Answered()
        self._stream_id = 0

    async def begin(
        self, target: str = "/", *fields: tuple[str, str], method: str = "GET", body: bool = False
    ) -> None:
        self._stream_id = await self.client.request(target, *fields, method=method, end=not body)
        self.answered = self.client.answers[self._stream_id]

    async def send_body(self, data: bytes, *, end: bool = True) -> None:
        await self.client.send_body(self._stream_id, data, end=end)

    async def until(self, condition: Callable[[Answered], object]) -> None:
        await self.client.until(lambda: bool(condition(self.answered)))

    async def answer(self) -> Answered:
        while not (self.answered.ended or self.answered.reset is not None or self.client.closed):
            await self.client.receive()
        return self.answered

    async def leave(self) -> None:
        self.client.h2.reset_stream(self._stream_id, ErrorCodes.CANCEL)
        await self.client.flush()

    async def vanish(self) -> None:
        assert isinstance(self.client.stream, trio.SocketStream)
        reset(self.client.stream)


@asynccontextmanager
async def conversing(served: Served, version: str) -> AsyncIterator[Conversation]:
    """A client on a connection of its own."""
    async with served.connecting() as stream:
        if version == "1.1":
            yield Http1Conversation(stream)
        else:
            client = Client(stream)
            await client.begin()
            yield Http2Conversation(client)


async def ask(
    served: Served,
    version: str,
    target: str = "/",
    *fields: tuple[str, str],
    method: str = "GET",
    body: bytes | None = None,
) -> Answered:
    """One request on a connection of its own."""
    async with conversing(served, version) as conversation:
        await conversation.begin(target, *fields, method=method, body=body is not None)
        if body is not None:
            await conversation.send_body(body)
        return await conversation.answer()


# --- WebSockets

_HANDSHAKE: Final = ("sec-websocket-version", "13")


class _Tunnel:
    """The bytes of an HTTP/2 stream, as far as a WebSocket client needs them."""

    def __init__(self, client: Client, stream_id: int) -> None:
        self._client = client
        self._stream_id = stream_id

    async def send_all(self, data: bytes) -> None:
        await self._client.send_body(self._stream_id, data, end=False)

    async def receive_some(self, _most: int | None = None) -> bytes:
        answered = self._client.answers[self._stream_id]
        await self._client.until(
            lambda: bool(answered.received) or answered.ended or answered.reset is not None
        )
        data = bytes(answered.received)
        answered.received.clear()
        return data

    async def send_eof(self) -> None:
        await self._client.send_body(self._stream_id, b"")

    async def reset(self) -> None:
        self._client.h2.reset_stream(self._stream_id, ErrorCodes.CANCEL)
        await self._client.flush()


@asynccontextmanager
async def websocket(
    served: Served, version: str, target: str = "/", *fields: tuple[str, str]
) -> AsyncIterator[tuple[WebSocket, Headers]]:
    """An open WebSocket (RFC 6455, or RFC 8441), and the fields of the answer to its handshake."""
    async with served.connecting() as stream:
        if version == "1.1":
            await stream.send_all(offer(target.encode(), *(f"{n}: {v}".encode() for n, v in fields)))
            head, rest = await read_head(stream)
            assert head.startswith(b"HTTP/1.1 101 "), head
            message, _ = read_response(head + b"\r\n\r\n", "GET")
            yield WebSocket(stream, head, rest), message.fields
        else:
            client = Client(stream)
            await client.begin()
            stream_id = await _extended_connect(client, target, fields)
            answered = client.answers[stream_id]
            await client.until(lambda: answered.status != 0)
            assert answered.status == 200
            yield WebSocket(_Tunnel(client, stream_id), b"", b""), answered.headers  # type: ignore[arg-type]


async def refused_websocket(served: Served, version: str) -> Answered:
    """The response to the handshake of a WebSocket that is refused."""
    async with served.connecting() as stream:
        if version == "1.1":
            conversation = Http1Conversation(stream)
            await stream.send_all(offer(b"/"))
            return await conversation.answer()
        client = Client(stream)
        await client.begin()
        return await client.answer(await _extended_connect(client, "/", ()))


async def _extended_connect(client: Client, target: str, fields: tuple[tuple[str, str], ...]) -> int:
    # RFC 8441 3: the server must have said that it may be done.
    await client.until(lambda: client.h2.remote_settings.enable_connect_protocol == 1)
    return await client.request(
        target, _HANDSHAKE, *fields, method="CONNECT", end=False, protocol="websocket"
    )


def run(main: Callable[[], Awaitable[None]]) -> None:
    """`trio.run` with a deadline for a loaded machine."""

    async def bounded() -> None:
        with trio.fail_after(30):
            await main()

    trio.run(bounded)
