"""The connection below the WebSocket: its handshake, then bytes both ways.

`open_http1` upgrades a connection (RFC 6455 4.1). `open_http2` opens a stream by extended CONNECT (RFC 8441),
in clear text, and leaves its windows as small as HTTP/2 begins with. Both raise HandshakeFailed.
"""

import base64
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, TypeAlias
from urllib.parse import SplitResult

import trio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes


class HandshakeFailed(Exception):
    """The server has not agreed to a WebSocket."""


class Stream(Protocol):
    """Bytes both ways. Both methods raise BrokenResourceError once the connection is lost."""

    async def send_all(self, data: bytes) -> None: ...

    async def receive_some(self) -> bytes:
        """``b""`` when the server has ended the connection."""


@dataclass
class Opened:
    """What a handshake ends with."""

    stream: Stream
    extensions: list[str]
    """Values of Sec-WebSocket-Extensions in the answer."""
    received: bytes = b""
    """What came behind the answer."""


class Open(Protocol):
    """A function that opens a WebSocket; *offers* are those of extensions."""

    def __call__(self, url: SplitResult, offers: list[str]) -> AbstractAsyncContextManager[Opened]: ...


async def _connect(url: SplitResult) -> trio.SocketStream:
    assert url.hostname is not None
    stream = await trio.open_tcp_stream(url.hostname, url.port or 80)
    stream.setsockopt(6, 1, 1)
    return stream


# --- HTTP/1.1


@asynccontextmanager
async def open_http1(url: SplitResult, offers: list[str]) -> AsyncIterator[Opened]:
    """A connection that was upgraded."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [
        f"GET {url.path or '/'} HTTP/1.1",
        f"Host: {url.netloc}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
    ]
    if offers:
        lines.append("Sec-WebSocket-Extensions: " + ", ".join(offers))
    async with await _connect(url) as stream:
        await stream.send_all("\r\n".join([*lines, "", ""]).encode())
        received = b""
        while b"\r\n\r\n" not in received:
            piece = await stream.receive_some()
            if not piece:
                raise HandshakeFailed(f"the connection ended after {received!r}")
            received += piece
        head, _, rest = received.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            raise HandshakeFailed(repr(head))
        fields = [line.partition(":") for line in head.decode().split("\r\n")]
        extensions = [v.strip() for name, _, v in fields if name.lower() == "sec-websocket-extensions"]
        yield Opened(stream, extensions, rest)


# --- HTTP/2

Fields: TypeAlias = list[tuple[str, str]]


class Http2Stream:
    """The only stream of an HTTP/2 connection. Implements `Stream`; `write` runs beside it."""

    def __init__(self, socket: trio.SocketStream) -> None:
        self._socket = socket
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._id = 1
        self._received = bytearray()
        self._ended = False
        self._written = trio.Event()
        self._changed = trio.Event()
        self._answer: Fields | None = None

    async def open(self, url: SplitResult, offers: list[str]) -> Fields:
        """The answer's header fields."""
        self._h2.initiate_connection()
        self._written.set()
        # RFC 8441 3: not before the server has said that it knows extended CONNECT.
        while not self._h2.remote_settings.get(SettingCodes.ENABLE_CONNECT_PROTOCOL):
            await self._receive()
        fields = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", url.path or "/"),
            (":authority", url.netloc),
            ("sec-websocket-version", "13"),
        ]
        if offers:
            fields.append(("sec-websocket-extensions", ", ".join(offers)))
        self._h2.send_headers(self._id, fields)
        self._written.set()
        while self._answer is None:
            await self._receive()
        return self._answer

    async def write(self) -> None:
        """Send what the others have left to be sent: never the reader, which must go on."""
        try:
            while True:
                await self._written.wait()
                self._written = trio.Event()
                while data := self._h2.data_to_send():
                    await self._socket.send_all(data)
        except trio.BrokenResourceError:
            pass  # the reader sees it too

    async def send_all(self, data: bytes) -> None:
        """A DATA frame, or several if the windows or the largest frame ask for it."""
        rest = memoryview(data)
        try:
            while rest:
                window = self._h2.local_flow_control_window(self._id)
                if window <= 0:
                    self._changed = trio.Event()
                    await self._changed.wait()
                    continue
                size = min(window, self._h2.max_outbound_frame_size)
                self._h2.send_data(self._id, bytes(rest[:size]))
                rest = rest[size:]
                self._written.set()
        except ProtocolError as closed:
            raise trio.BrokenResourceError("the stream is closed") from closed

    async def receive_some(self) -> bytes:
        while not self._received and not self._ended:
            await self._receive()
        data = bytes(self._received)
        self._received.clear()
        return data

    async def end(self) -> None:
        """RFC 8441 5: END_STREAM is what FIN is to TCP. The server has ended its side."""
        try:
            self._h2.end_stream(self._id)
            await self._socket.send_all(self._h2.data_to_send())
        except (ProtocolError, trio.BrokenResourceError):
            pass

    async def _receive(self) -> None:
        data = await self._socket.receive_some()
        if not data:
            raise trio.BrokenResourceError("the HTTP/2 connection ended before its stream")
        for event in self._h2.receive_data(data):
            self._take(event)
        self._written.set()

    def _take(self, event: Event) -> None:
        match event:
            case ResponseReceived():
                self._answer = [(str(name), str(value)) for name, value in event.headers]
            case DataReceived():
                self._received += event.data
                self._h2.acknowledge_received_data(event.flow_controlled_length, self._id)
            case StreamEnded():
                self._ended = True
            case StreamReset() if not self._ended:
                raise trio.BrokenResourceError(f"RST_STREAM, error code {event.error_code}")
            case WindowUpdated() | RemoteSettingsChanged():
                self._changed.set()


@asynccontextmanager
async def open_http2(url: SplitResult, offers: list[str]) -> AsyncIterator[Opened]:
    """A stream that is a tunnel."""
    async with await _connect(url) as socket:
        stream = Http2Stream(socket)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.write)
            answer = await stream.open(url, offers)
            if dict(answer)[":status"] != "200":
                raise HandshakeFailed(repr(answer))
            yield Opened(stream, [value for name, value in answer if name == "sec-websocket-extensions"])
            nursery.cancel_scope.cancel()
        await stream.end()
