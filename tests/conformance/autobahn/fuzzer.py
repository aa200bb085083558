# ruff: noqa: N802, N803, N815 - names of the original, which its cases use
"""The connection that a case drives, the client's side: frames as the case wants them, right or wrong."""

import os
import struct
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from urllib.parse import SplitResult

import trio
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, Ping, Pong, TextMessage
from wsproto.extensions import PerMessageDeflate

from tests.conformance.autobahn.cases import STATE_OPEN, Offer, bytes_of, decode, encode
from tests.conformance.autobahn.transport import Open, Stream

PATIENCE = 10.0
"""Seconds until a server that does not answer, or does not close the connection, has failed the case. The
original waits for one, which a busy machine may need for itself."""


class Fuzzer:
    """The client's side, as far as the cases use that of the original."""

    STATE_OPEN = STATE_OPEN
    STATE_CLOSING = 2
    STATE_CLOSED = 0
    CLOSE_STATUS_CODE_NORMAL = 1000
    CLOSE_STATUS_CODE_PROTOCOL_ERROR = 1002
    CLOSE_STATUS_CODE_INVALID_PAYLOAD = 1007
    factory = SimpleNamespace(isServer=False)
    trafficStats = None

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._outgoing, self._to_send = trio.open_memory_channel[bytes](100_000)
        self._connection: Connection
        self._stream: Stream
        self._opcode = 1
        self._mask = b"\0\0\0\0"
        self._masked = 0
        self.case: Any = None
        self.state = self.STATE_OPEN
        self.autoFragmentSize = 0
        self.createWirelog = False
        self.txFrameStats: Counter[int] = Counter()
        self.connectionWasOpen = False
        self.closedByMe = self.failedByMe = self.droppedByMe = self.wasClean = False
        self.remoteCloseCode: int | None = None
        self.localCloseReason: str | None = None
        self.perMessageCompressionOffers: list[Offer] = []
        self.perMessageCompressionAccept: Any = None
        self._perMessageCompress: Any = None

    # What the cases call.

    def sendFrame(
        self,
        opcode: int,
        payload: str = "",
        fin: bool = True,
        rsv: int = 0,
        mask: bytes | None = None,
        payload_len: int | None = None,
        chopsize: int | None = None,
        sync: bool = False,
    ) -> None:
        data = bytes_of(payload)
        if payload_len is not None:
            data = (data * (payload_len // max(len(data), 1) + 1))[:payload_len]
        self.txFrameStats[opcode] += 1
        frame = self._head(opcode, len(data), fin, rsv) + self._masking(data)
        step = chopsize or len(frame)
        for start in range(0, len(frame), step):
            self._send(frame[start : start + step])

    def sendMessage(self, payload: str, isBinary: bool = False, fragmentSize: int = 0) -> None:
        size = fragmentSize or self.autoFragmentSize
        if self._perMessageCompress is not None:
            data: Any = bytes_of(payload) if isBinary else decode(payload, "utf-8")
            step = size or max(len(data), 1)
            pieces = [data[i : i + step] for i in range(0, len(data), step)] or [data]
            for i, piece in enumerate(pieces):
                self._send(self._connection.send(Message(piece, message_finished=i == len(pieces) - 1)))
            return
        step = size or max(len(payload), 1)
        starts = range(0, len(payload), step) or range(1)
        for i in starts:
            last = i + step >= len(payload)
            self.sendFrame((2 if isBinary else 1) if i == 0 else 0, payload[i : i + step], fin=last)

    def beginMessage(self, isBinary: bool = False) -> None:
        self._opcode = 2 if isBinary else 1

    def beginMessageFrame(self, length: int) -> None:
        self._send(self._head(self._opcode, length, False, 0))
        self._opcode = 0

    def sendMessageFrameData(self, payload: str, sync: bool = False) -> None:
        self._send(self._masking(bytes_of(payload)))

    def endMessage(self) -> None:
        self.sendFrame(0)

    def sendClose(self, code: int | None = None, reason: str | None = None) -> None:
        if self.state == self.STATE_OPEN:
            self.sendCloseFrame(code, reason and encode(reason, "utf-8"))

    def sendCloseFrame(
        self,
        code: int | None = None,
        reasonUtf8: str | None = None,
        isReply: bool = False,
    ) -> None:
        if self.state != self.STATE_OPEN:
            return
        payload = b"" if code is None else struct.pack("!H", code) + bytes_of(reasonUtf8 or "")
        self.sendFrame(8, payload.decode("latin-1"))
        self.state = self.STATE_CLOSING
        self.closedByMe = not isReply
        self.localCloseReason = reasonUtf8

    def continueLater(self, delay: float, function: Callable[[], None], tag: str | None = None) -> None:
        self._later(delay, function)

    def killAfter(self, delay: float) -> None:
        self._later(max(delay, PATIENCE), self._kill)

    def closeAfter(self, delay: float) -> None:
        self._later(delay, lambda: self.sendClose())

    def enableWirelog(self, enable: bool) -> None:
        pass

    def _kill(self) -> None:
        self.failedByMe = self.droppedByMe = True
        self.wasClean = False
        self._nursery.cancel_scope.cancel()

    def _later(self, delay: float, function: Callable[[], None]) -> None:
        async def wait() -> None:
            await trio.sleep(delay)  # noqa: TID251 - the cases count seconds
            if self.state != self.STATE_CLOSED:
                function()

        self._nursery.start_soon(wait)

    def _head(self, opcode: int, size: int, fin: bool, rsv: int) -> bytes:
        first = fin << 7 | rsv << 4 | opcode
        self._mask, self._masked = os.urandom(4), 0
        if size < 126:
            return struct.pack("!BB", first, 0x80 | size) + self._mask
        if size < 65536:
            return struct.pack("!BBH", first, 0xFE, size) + self._mask
        return struct.pack("!BBQ", first, 0xFF, size) + self._mask

    def _masking(self, data: bytes) -> bytes:
        turn = self._masked % 4
        self._masked += len(data)
        key = ((self._mask[turn:] + self._mask[:turn]) * (len(data) // 4 + 1))[: len(data)]
        return (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(len(data), "big")

    def _send(self, data: bytes) -> None:
        self._outgoing.send_nowait(data)

    # What runs it.

    async def run(self, open_websocket: Open, url: SplitResult, case: type[Any]) -> None:
        """The whole life of the connection."""
        self.case = case(self)
        async with open_websocket(url, [str(offer) for offer in self.perMessageCompressionOffers]) as opened:
            self._stream = opened.stream
            extensions = []
            for answer in opened.extensions:
                self._perMessageCompress = PerMessageDeflate()
                self._perMessageCompress.finalize(answer)
                extensions.append(self._perMessageCompress)
            self._connection = Connection(ConnectionType.CLIENT, extensions, opened.received)
            self._nursery.start_soon(self._write)
            self.connectionWasOpen = True
            self.case.onOpen()
            try:
                await self._read()
            except trio.BrokenResourceError:
                pass
        self.state = self.STATE_CLOSED
        self._nursery.cancel_scope.cancel()

    async def _write(self) -> None:
        try:
            async for data in self._to_send:
                await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def _read(self) -> None:
        pieces: list[Any] = []
        while True:
            for event in self._connection.events():
                match event:
                    case TextMessage() | BytesMessage():
                        pieces.append(event.data)
                        if event.message_finished:
                            message, pieces = pieces[0][:0].join(pieces), []
                            binary = isinstance(message, bytes | bytearray)
                            text = message.decode("latin-1") if binary else encode(message, "utf-8")
                            self.case.onMessage(text, binary)
                    case Ping():
                        if self.state == self.STATE_OPEN:
                            self.sendFrame(10, bytes(event.payload).decode("latin-1"))
                        self.case.onPing(bytes(event.payload).decode("latin-1"))
                    case Pong():
                        self.case.onPong(bytes(event.payload).decode("latin-1"))
                    case CloseConnection():
                        self._on_close(event)
            data = await self._stream.receive_some()
            if not data:
                return
            self._connection.receive_data(data)

    def _on_close(self, event: CloseConnection) -> None:
        code = int(event.code)
        self.remoteCloseCode = None if code == 1005 else code
        self.wasClean = True
        if self.state == self.STATE_OPEN:
            self.sendCloseFrame(None if code == 1005 else code, isReply=True)
        self._later(PATIENCE, self._drop)

    def _drop(self) -> None:
        self.wasClean = False
        self.droppedByMe = True
        self._nursery.cancel_scope.cancel()
