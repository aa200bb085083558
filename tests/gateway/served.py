"""Runs real connections for tests: the pump, a Service and Http1Connection on a listening socket, or a
whole configuration, all in the test's own trio loop; and backends that behave as a script says.

Everything goes over real sockets. ``from tests.gateway.served import …``.
"""

import http.client
import io
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, TypeAlias

import trio

from gateway.backend import Handler
from gateway.build import build
from gateway.config import from_mapping
from gateway.front.entrance import address_of
from gateway.front.http1 import Http1Connection
from gateway.front.service import AccessLog, Limits, Service, Timeouts
from gateway.listener import ListeningSocket, accept
from gateway.net.pump import Pump
from gateway.net.stream import PumpStream
from gateway.protocols.ajp import AjpServer
from gateway.protocols.codec import ServerCodec
from gateway.protocols.events import Data, EndOfMessage, NeedData, RequestEvent
from gateway.protocols.fastcgi import FastCgiServer
from gateway.request import Address, Connection, Request, Responder
from gateway.router import Route, Router
from gateway.shutdown.notice import ShutdownNotice

AnyStream: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]

Answer: TypeAlias = Callable[[Request, Responder], Awaitable[None]]

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LAST_GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


# ---- the front


@asynccontextmanager
async def pumping() -> AsyncIterator[Pump]:
    """A pump that runs."""
    async with trio.open_nursery() as nursery:
        pump = Pump()
        await nursery.start(pump.run)
        yield pump
        nursery.cancel_scope.cancel()


class Answering:
    """A handler made of a function."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def handle(self, request: Request, responder: Responder) -> None:
        await self._answer(request, responder)


@dataclass
class Served:
    """A service that accepts clients."""

    service: Service
    address: Any
    open: set[Http1Connection] = field(default_factory=set)
    notice: ShutdownNotice = field(default_factory=ShutdownNotice)
    """That of the daemon's end."""
    drain: Callable[[], object] = bool
    """What the daemon calls when it stops, besides."""
    secure: ssl.SSLContext | None = None
    """With which clients of `connecting` begin, for localhost."""

    async def connect(self) -> trio.SocketStream:
        family = socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET
        sock = trio.socket.socket(family, socket.SOCK_STREAM)
        await sock.connect(self.address)
        return trio.SocketStream(sock)

    @asynccontextmanager
    async def connecting(self) -> AsyncIterator[trio.SocketStream]:
        """A connection that is closed at the end, with TLS if that is wanted."""
        async with await self.connect() as stream:
            if self.secure is None:
                yield stream
            else:
                secured = trio.SSLStream(stream, self.secure, server_hostname="localhost")
                await secured.do_handshake()
                yield secured  # type: ignore[misc]  # as far as the tests use it, it is the same

    async def ask(self, data: bytes) -> bytes:
        """All that comes for *data*; the server has to end the connection."""
        async with await self.connect() as client:
            await client.send_all(data)
            return await read_all(client)


def service_of(
    pump: Pump,
    handler: Handler,
    *,
    mount: str = "",
    timeouts: Timeouts | None = None,
    limits: Limits | None = None,
    **others: Any,
) -> Service:
    """A service whose only route is *handler*; *others* are more of its settings."""
    router = Router([Route(handler, mount=mount)])
    return Service(pump, router, timeouts or Timeouts(), limits or Limits(), **others)


@asynccontextmanager
async def serving(
    answer: Answer,
    *,
    timeouts: Timeouts | None = None,
    limits: Limits | None = None,
    access_log: AccessLog | None = None,
    path: str | None = None,
    send_buffer: int | None = None,
) -> AsyncIterator[Served]:
    """A service whose only route is *answer*, on a TCP port, or on a Unix socket at *path*."""
    async with pumping() as pump:
        service = service_of(pump, Answering(answer), timeouts=timeouts, limits=limits, access_log=access_log)
        async with accepting(service, path=path, send_buffer=send_buffer) as served:
            yield served


@asynccontextmanager
async def gateway_of(config: Mapping[str, Any]) -> AsyncIterator[Served]:
    """The backends and routes of *config*, built and started as the daemon does it."""
    data = {"listeners": [{"http": "127.0.0.1:0"}], **config}
    async with pumping() as pump:
        gateway = build(from_mapping(data, "", "."), pump, None)
        async with trio.open_nursery() as backends:
            for each in gateway.services:
                await backends.start(each.run)
            async with accepting(gateway.service) as served:
                served.notice = gateway.notice
                yield served
            backends.cancel_scope.cancel()


@asynccontextmanager
async def accepting(
    service: Service, *, path: str | None = None, send_buffer: int | None = None
) -> AsyncIterator[Served]:
    """Accept connections for *service*; those that are open at the end are ended."""
    sock = socket.socket(socket.AF_INET if path is None else socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(("127.0.0.1", 0) if path is None else path)
    sock.listen(128)
    sock.setblocking(False)
    if send_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    served = Served(service, sock.getsockname())

    async def serve(client: socket.socket) -> None:
        try:
            peer, name = address_of(client.getpeername()), address_of(client.getsockname())
        except OSError:
            client.close()  # gone before it was looked at
            return
        facts = Connection(client=peer, server=name)
        connection = Http1Connection(attached(service.pump, client), service, facts)
        served.open.add(connection)
        await connection.serve()
        served.open.discard(connection)

    with sock:
        async with each_served(sock, serve):
            yield served


@asynccontextmanager
async def each_served(
    sock: socket.socket, serve: Callable[[socket.socket], Awaitable[None]]
) -> AsyncIterator[None]:
    """Have *serve* called with each connection that comes to *sock*; what still runs at the end is ended."""
    async with trio.open_nursery() as connections:
        connections.start_soon(
            accept, ListeningSocket(sock), lambda client: connections.start_soon(serve, client)
        )
        yield
        connections.cancel_scope.cancel()


@asynccontextmanager
async def conversing(
    service: Service, *, client: Address, server: Address
) -> AsyncIterator[trio.SocketStream]:
    """The client's end of a connection from *client* to *server*, as *service* is told."""
    ours, theirs = socket.socketpair()
    connection = Http1Connection(
        attached(service.pump, ours), service, Connection(client=client, server=server)
    )
    async with trio.open_nursery() as connections:
        connections.start_soon(connection.serve)
        async with trio.SocketStream(trio.socket.from_stdlib_socket(theirs)) as stream:
            yield stream
        connections.cancel_scope.cancel()


# ---- clients


def chunked(*pieces: bytes) -> bytes:
    """A request with a body of *pieces*, the last on its connection."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


async def read_all(stream: AnyStream) -> bytes:
    """All bytes to the end of the connection. A reset raises BrokenResourceError; so does
    TLS without close_notify.
    """
    pieces = []
    while piece := await stream.receive_some(65536):
        pieces.append(piece)
    return b"".join(pieces)


async def read_while(stream: AnyStream, send: Callable[[], Awaitable[None]]) -> bytes:
    """All bytes to the end of the connection while *send* runs, which is ended then."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        received = await read_all(stream)
        nursery.cancel_scope.cancel()
    return received


def attached(pump: Pump, sock: socket.socket) -> PumpStream:
    """A stream of *sock*, which the pump watches from now on."""
    stream = PumpStream(pump, sock)
    pump.adopt(stream)
    return stream


async def read_until(stream: AnyStream, end: bytes) -> bytes:
    """All bytes up to and with *end*, which nothing follows."""
    received = b""
    while not received.endswith(end):
        piece = await stream.receive_some(65536)
        assert piece, f"the connection ended after {received[-200:]!r}"
        received += piece
    return received


def reset(stream: trio.SocketStream) -> None:
    """Close by RST (a Unix socket: at once)."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


@dataclass
class Response:
    """A response as a client of the standard library reads it."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    complete: bool


class _Source(io.BytesIO):
    def makefile(self, *_: object) -> io.BytesIO:
        return self

    def close(self) -> None:
        pass  # HTTPResponse closes its file, and the next response is in the same


def responses(data: bytes, *methods: str) -> list[Response]:
    """What `http.client`, which is not ours, finds in *data*; *methods* of the requests, default GET."""
    source = _Source(data)
    found: list[Response] = []
    while source.tell() < len(data):
        method = methods[len(found)] if len(found) < len(methods) else "GET"
        response = http.client.HTTPResponse(source, method=method)  # type: ignore[arg-type]
        response.begin()
        try:
            body, complete = response.read(), True
        except http.client.IncompleteRead as error:
            body, complete = error.partial, False
        found.append(Response(response.status, response.headers, body, complete))
    return found


def response(data: bytes, method: str = "GET") -> Response:
    """The only response in *data*."""
    (found,) = responses(data, method)
    return found


# ---- backends


@dataclass
class ScriptedBackend:
    """A server on a TCP port; ``url`` and ``address`` are as the configuration writes them."""

    address: str
    connections: int = 0
    open: int = 0


ApplicationCodec: TypeAlias = ServerCodec | FastCgiServer

Behaviour: TypeAlias = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def backend(
    behave: Behaviour, *, path: str | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[ScriptedBackend]:
    """A server that does *behave* with each connection, and closes it then."""
    sock = trio.socket.socket(socket.AF_INET if path is None else socket.AF_UNIX, socket.SOCK_STREAM)
    await sock.bind((host, port) if path is None else path)
    sock.listen(16)
    name = sock.getsockname()
    scripted = ScriptedBackend(f"unix:{path}" if path is not None else f"{host}:{name[1]}")

    async def run(client: trio.SocketStream) -> None:
        scripted.connections += 1
        scripted.open += 1
        try:
            async with client:
                await behave(client)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            scripted.open -= 1

    with sock:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, run, [trio.SocketListener(sock)])
            yield scripted
            nursery.cancel_scope.cancel()


async def echo(stream: trio.SocketStream) -> None:
    """A behaviour: sends back what comes."""
    async for data in stream:
        await stream.send_all(data)


def kernel_buffers() -> int:
    """Bytes of a response that the kernel holds at most on the way to a client that does not read (tcp(7)).

    Those of four sockets: how far the receive buffer of the gateway grows depends on how it was scheduled.
    """
    limits = (Path(f"/proc/sys/net/ipv4/{name}").read_text() for name in ("tcp_rmem", "tcp_wmem"))
    return 2 * sum(int(limit.split()[2]) for limit in limits)


def _kept_socket() -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    return sock


_KEPT = tuple(_kept_socket() for _ in range(8))
_KEPT_IN_TURN = cycle(_KEPT)


def unused_port() -> int:
    """A port that refuses connections, and that the kernel gives to nobody else; each of 8 comes again.

    Who asks for it by its number can listen there, with SO_REUSEADDR.
    """
    port: int = next(_KEPT_IN_TURN).getsockname()[1]
    return port


async def next_event(stream: AnyStream, codec: ApplicationCodec) -> RequestEvent:
    """The next event of the request that arrives on *stream*. Raises trio.BrokenResourceError at its end."""
    while isinstance(event := codec.next_event(), NeedData):
        if isinstance(codec, AjpServer):
            await stream.send_all(codec.data_to_send())  # asks for the body
        data = await stream.receive_some(65536)
        if not data:
            raise trio.BrokenResourceError("the connection ended")
        codec.receive_data(bytes(data))
    assert isinstance(event, RequestEvent)
    return event


async def read_request(stream: AnyStream, codec: ApplicationCodec) -> tuple[RequestEvent, bytes]:
    """The head and the body of the request that arrives on *stream*."""
    head = await next_event(stream, codec)
    body = b""
    while not isinstance(event := await next_event(stream, codec), EndOfMessage):
        assert isinstance(event, Data)
        body += event.data
    return head, body


# ---- backends alone


def handle_one(serving: AbstractAsyncContextManager[Handler], request: Request, responder: Responder) -> None:
    """One request to what *serving* enters. Raises what ``handle`` raises, as it is and not in a group."""
    failures: list[Exception] = []

    async def main() -> None:
        async with serving as handler:
            try:
                await handler.handle(request, responder)
            except Exception as error:
                failures.append(error)

    trio.run(main)
    if failures:
        raise failures[0]


# ---- processes that the gateway has started


class Log:
    """What is logged, as it comes."""

    def __init__(self) -> None:
        self.entries: list[MutableMapping[str, Any]] = []

    def __call__(
        self, _logger: Any, _method: str, entry: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        self.entries.append(entry)
        return entry

    def __getitem__(self, event: str) -> list[MutableMapping[str, Any]]:
        return [entry for entry in self.entries if entry["event"] == event]


async def soon(condition: Callable[[], bool]) -> None:
    """Wait for other processes, which have no clock that a test could turn."""
    with trio.fail_after(30):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)  # noqa: TID251


# ---- what must not be left


def descriptors() -> int:
    """How many file descriptors this process has. Garbage of earlier tests may give some back meanwhile."""
    return len(os.listdir("/proc/self/fd"))


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until *condition* holds; what takes 20 seconds is not to be expected any more."""
    with trio.fail_after(20):
        while not condition():
            await trio.lowlevel.checkpoint()


async def pass_time(seconds: float) -> None:
    """Let the loop turn until its clock has gone on by *seconds*."""
    due = trio.current_time() + seconds
    await until(lambda: trio.current_time() >= due)


def run(
    main: Callable[[], Awaitable[None]], *, seconds: float = 25.0, clock: trio.abc.Clock | None = None
) -> None:
    """`trio.run`, which fails after *seconds*, and when a task or descriptor of *main* is left."""

    async def bounded() -> None:
        tasks = trio.lowlevel.current_statistics().tasks_living
        before = descriptors()
        with trio.fail_after(seconds):
            await main()
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        assert descriptors() <= before, "descriptors are left open"

    trio.run(bounded, clock=clock)
