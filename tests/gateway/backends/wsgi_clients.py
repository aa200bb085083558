"""A WSGI application behind the real entrance on a TCP port, and one client for each version of HTTP.

Both clients have the same surface, so that a test says once what has to be true of both.
"""

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import trio

from gateway.front.entrance import Entrance
from gateway.front.service import Timeouts
from tests.gateway.backends.wsgi_harness import running
from tests.gateway.http2_client import Client as H2Client
from tests.gateway.served import each_served, pumping, read_all, reset, responses, service_of

VERSIONS = ("1.1", "2")


@dataclass
class Seen:
    """A response as its client has it."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    complete: bool
    informed: list[int] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """The only value of *name*; None if it is absent."""
        values = [value for each, value in self.headers if each.lower() == name]
        assert len(values) <= 1, values
        return values[0] if values else None


class AnyClient(Protocol):
    """One request on a connection of its own."""

    async def open(
        self, method: str, path: str, headers: Sequence[tuple[str, str]], body: bytes | None, *, sized: bool
    ) -> None:
        """Send the head, and with *body* all of it; None: a body follows by `send`."""
        ...

    async def send(self, data: bytes, *, end: bool) -> None: ...

    async def until(self, text: bytes) -> None:
        """Receive until *text* has come, in the body or (HTTP/1.1) in the head."""
        ...

    async def until_informed(self) -> None:
        """Receive until a 1xx response has come."""
        ...

    async def seen(self) -> Seen:
        """Receive to the end."""
        ...

    def leave(self) -> None:
        """Close the connection by force."""
        ...


class Http1Client:
    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._received = b""
        self._method = ""
        self._sized = True

    async def open(
        self, method: str, path: str, headers: Sequence[tuple[str, str]], body: bytes | None, *, sized: bool
    ) -> None:
        self._method, self._sized = method, sized
        lines = [f"{method} {path} HTTP/1.1", "Host: example.com", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers]
        if not sized:
            lines.append("Transfer-Encoding: chunked")
        elif body:
            lines.append(f"Content-Length: {len(body)}")
        await self._stream.send_all("\r\n".join([*lines, "", ""]).encode("latin-1"))
        if body and sized:
            await self._stream.send_all(body)
        elif body is not None and not sized:
            await self.send(body, end=True)

    async def send(self, data: bytes, *, end: bool) -> None:
        if self._sized:
            await self._stream.send_all(data)
            return
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        await self._stream.send_all(chunk + (b"0\r\n\r\n" if end else b""))

    async def until(self, text: bytes) -> None:
        while text not in self._received:
            piece = await self._stream.receive_some(65536)
            assert piece, f"the connection ended after {self._received[-200:]!r}"
            self._received += piece

    async def until_informed(self) -> None:
        await self.until(b"\r\n\r\n")
        assert self._received.startswith(b"HTTP/1.1 1")

    async def seen(self) -> Seen:
        try:
            self._received += await read_all(self._stream)
        except trio.BrokenResourceError:
            pass
        informed = []
        while self._received.startswith(b"HTTP/1.1 1"):
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            informed.append(int(head[9:12]))
        (found,) = responses(self._received, self._method)
        chunked = "chunked" in found.headers.get("transfer-encoding", "")
        complete = found.complete and (not chunked or self._received.endswith(b"0\r\n\r\n"))
        return Seen(found.status, found.headers.items(), found.body, complete, informed)

    def leave(self) -> None:
        reset(self._stream)


class Http2Client:
    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._client = H2Client(stream)
        self._id = 0

    async def open(
        self, method: str, path: str, headers: Sequence[tuple[str, str]], body: bytes | None, *, sized: bool
    ) -> None:
        await self._client.begin()
        fields: list[Any] = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
        if body and sized:
            fields.append((b"content-length", b"%d" % len(body)))
        self._id = await self._client.request(
            path, *fields, method=method, authority="example.com", end=body is not None and not body
        )
        if body:
            await self.send(body, end=True)

    async def send(self, data: bytes, *, end: bool) -> None:
        await self._client.send_body(self._id, data, end=end)

    async def until(self, text: bytes) -> None:
        answer = self._client.answers[self._id]
        await self._client.until(lambda: text in answer.received)

    async def until_informed(self) -> None:
        answer = self._client.answers[self._id]
        await self._client.until(lambda: bool(answer.informed))

    async def seen(self) -> Seen:
        answer = await self._client.answer(self._id)
        headers = [(name.decode(), value.decode("latin-1")) for name, value in answer.headers]
        informed = [status for status, _ in answer.informed]
        return Seen(answer.status, headers, answer.body, answer.reset is None, informed)

    def leave(self) -> None:
        reset(self._stream)


@dataclass
class Application:
    """An application that is being served."""

    version: str
    address: Any

    @asynccontextmanager
    async def client(self) -> AsyncIterator[AnyClient]:
        stream = await trio.open_tcp_stream(*self.address)
        async with stream:
            yield Http1Client(stream) if self.version == "1.1" else Http2Client(stream)

    async def ask(
        self,
        method: str = "GET",
        path: str = "/",
        *headers: tuple[str, str],
        body: bytes = b"",
        sized: bool = True,
    ) -> Seen:
        """One request with its response; a body that is not *sized* is chunked, or has no Content-Length."""
        async with self.client() as client:
            await client.open(method, path, headers, body, sized=sized)
            return await client.seen()


@asynccontextmanager
async def entered(
    app: Any, version: str, *, mount: str = "", timeouts: Timeouts | None = None, **options: Any
) -> AsyncIterator[Application]:
    """*app* on a TCP port of 127.0.0.1; *options* are those of its backend."""
    async with pumping() as pump, running(app, pump, **options) as backend:
        entrance = Entrance(service_of(pump, backend, mount=mount, timeouts=timeouts))
        with socket.create_server(("127.0.0.1", 0), backlog=128) as sock:
            sock.setblocking(False)
            async with each_served(sock, entrance.serve):
                yield Application(version, sock.getsockname())


def ask(app: Any, version: str, *request: Any, mount: str = "", threads: int = 4, **options: Any) -> Seen:
    """One request, from the start of the backend to its stop; see `Application.ask`."""

    async def main() -> Seen:
        async with entered(app, version, mount=mount, threads=threads) as application:
            with trio.fail_after(60):
                return await application.ask(*request, **options)

    return trio.run(main)
