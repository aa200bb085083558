# ruff: noqa: N802, N803, N815 - names of the original, which its cases use
"""Runs the cases of the Autobahn test suite against a WebSocket echo server, under Python 3.

    python -m tests.conformance.autobahn DIRECTORY ws://127.0.0.1:8080/ [7.* 12.1.* ...]

DIRECTORY is the unpacked source archive of ``autobahntestsuite`` (README.md says how to get it). Its cases
are Python 2, and so is the program that runs them. Here the cases are loaded as they are: their strings,
which are bytes, become text of one character per byte (`_Python2`), and `Fuzzer` is the connection that they
drive.

Prints a line for each case that did not pass, and a summary; the exit status is 1 if one failed.
"""

import ast
import base64
import binascii
import fnmatch
import hashlib
import importlib.abc
import importlib.util
import os
import re
import struct
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import trio
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, Ping, Pong, TextMessage
from wsproto.extensions import PerMessageDeflate

PASSED = {"OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED"}

DROP_SECONDS = 1.0
"""What the server has to close the connection after the close handshake, as in the original."""

PARALLEL = 8
"""Cases that run at the same time: most of them wait."""


# --- loading the cases


def _bytes_of(text: Any) -> bytes:
    return text if isinstance(text, bytes) else str(text).encode("latin-1")


def _encode(text: str, encoding: str) -> str:
    return text.encode(encoding, "surrogatepass").decode("latin-1")


def _decode(text: str, encoding: str) -> str:
    return text.encode("latin-1").decode(encoding)


class _Hash:
    def __init__(self) -> None:
        self._hash = hashlib.sha1()

    def update(self, data: str) -> None:
        self._hash.update(_bytes_of(data))

    def digest(self) -> bytes:
        return self._hash.digest()


class _Offer:
    """permessage-deflate as the cases offer it."""

    def __init__(self, requestNoContextTakeover: bool = False, requestMaxWindowBits: int = 0) -> None:
        self.requestNoContextTakeover = requestNoContextTakeover
        self.requestMaxWindowBits = requestMaxWindowBits

    def __str__(self) -> str:
        text = "permessage-deflate; client_no_context_takeover; client_max_window_bits"
        if self.requestNoContextTakeover:
            text += "; server_no_context_takeover"
        if self.requestMaxWindowBits:
            text += f"; server_max_window_bits={self.requestMaxWindowBits}"
        return text


class _Utf8Validator:
    def reset(self) -> None:
        pass

    def validate(self, text: str) -> tuple[bool, bool]:
        try:
            _decode(text, "utf-8")
        except UnicodeDecodeError:
            return False, False
        return True, True


class _Python2(ast.NodeTransformer):
    """What a case means in Python 2, said in Python 3."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("encode", "decode"):
            name = ast.Name(f"_{node.func.attr}", ast.Load())
            return ast.Call(name, [node.func.value, *node.args], [])
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Div):
            node.op = ast.FloorDiv()
        return node

    def visit_Tuple(self, node: ast.Tuple) -> ast.AST:
        self.generic_visit(node)
        if len(node.elts) > 1:  # the bases of a class
            node.elts = [e for e in node.elts if not (isinstance(e, ast.Name) and e.id == "object")]
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if node.kind == "u" and isinstance(node.value, str):
            try:
                node.value = _decode(node.value, "utf-8")
            except (UnicodeEncodeError, UnicodeDecodeError):
                pass  # written with \u
        return node


class _Cases(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the modules of the cases, and what stands for the libraries that they want."""

    def __init__(self, suite: Path) -> None:
        self._directory = suite / "case"
        state = SimpleNamespace(STATE_OPEN=Fuzzer.STATE_OPEN, MESSAGE_TYPE_TEXT=1)
        state.CLOSE_STATUS_CODE_NORMAL = 1000
        nothing = SimpleNamespace(IPushProducer=None)
        self._stubs: dict[str, dict[str, Any]] = {
            "hashlib_of_cases": {"sha1": _Hash},
            "binascii_of_cases": {"b2a_hex": _hex, "hexlify": _hex},
            "autobahn": {},
            "autobahn.websocket": {},
            "autobahn.websocket.protocol": {"WebSocketProtocol": state},
            "autobahn.websocket.utf8validator": {"Utf8Validator": _Utf8Validator},
            "autobahn.websocket.compress": {
                "PerMessageDeflateOffer": _Offer,
                "PerMessageDeflateOfferAccept": None,
                "PerMessageDeflateResponse": None,
            },
            "pkg_resources": {"resource_filename": lambda _package, name: str(suite / name)},
            "twisted": {},
            "twisted.internet": {"reactor": None, "interfaces": nothing},
            "zope": {},
            "zope.interface": {"implements": lambda _: None},
        }

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name in self._stubs or self._file(name).exists():
            return importlib.util.spec_from_loader(name, self, is_package=name in self._stubs)
        return None

    def _file(self, name: str) -> Path:
        return self._directory / ("__init__.py" if name == "all_cases" else f"{name}.py")

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        if name in self._stubs:
            vars(module).update(self._stubs[name])
            return
        source = re.sub(r"(?m)^(\s*)print\b.*$", r"\1pass", self._file(name).read_text("latin-1"))
        source = re.sub(r"(?m)^import (.*)$", _standard_modules, source)
        tree = ast.fix_missing_locations(_Python2().visit(ast.parse(source)))
        vars(module).update(xrange=range, unichr=chr, _encode=_encode, _decode=_decode, open=_open)
        exec(compile(tree, str(self._file(name)), "exec"), vars(module))
        if name == "case":
            module.Case.compare = lambda _self, one, other: one == other


def _standard_modules(line: re.Match[str]) -> str:
    """An import with the modules that take text for bytes."""
    return re.sub(
        r"import (hashlib|binascii)",
        r"import \1_of_cases as \1",
        "\n".join(f"import {name.strip()}" for name in line[1].split(",")),
    )


def _hex(data: Any) -> str:
    return binascii.b2a_hex(_bytes_of(data)).decode()


def _open(name: str, _mode: str) -> Any:
    return SimpleNamespace(read=lambda: Path(name).read_bytes().decode("latin-1"))


def load_cases(suite: Path) -> list[type[Any]]:
    """All cases, in the order of the suite."""
    sys.meta_path.insert(0, _Cases(suite))
    cases: list[type[Any]] = importlib.import_module("all_cases").Cases
    return cases


# --- the connection that a case drives


class Fuzzer:
    """The client's side, as far as the cases use that of the original."""

    STATE_OPEN = 3
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
        self._stream: trio.SocketStream
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
        self.perMessageCompressionOffers: list[_Offer] = []
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
        data = _bytes_of(payload)
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
            data: Any = _bytes_of(payload) if isBinary else _decode(payload, "utf-8")
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
        self._send(self._masking(_bytes_of(payload)))

    def endMessage(self) -> None:
        self.sendFrame(0)

    def sendClose(self, code: int | None = None, reason: str | None = None) -> None:
        if self.state == self.STATE_OPEN:
            self.sendCloseFrame(code, reason and _encode(reason, "utf-8"))

    def sendCloseFrame(
        self,
        code: int | None = None,
        reasonUtf8: str | None = None,
        isReply: bool = False,
    ) -> None:
        if self.state != self.STATE_OPEN:
            return
        payload = b"" if code is None else struct.pack("!H", code) + _bytes_of(reasonUtf8 or "")
        self.sendFrame(8, payload.decode("latin-1"))
        self.state = self.STATE_CLOSING
        self.closedByMe = not isReply
        self.localCloseReason = reasonUtf8

    def continueLater(self, delay: float, function: Callable[[], None], tag: str | None = None) -> None:
        self._later(delay, function)

    def killAfter(self, delay: float) -> None:
        self._later(delay, self._kill)

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

    async def run(self, url: str, case: type[Any]) -> None:
        """The whole life of the connection."""
        self.case = case(self)
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._stream = await trio.open_tcp_stream(parts.hostname, parts.port or 80)
        self._stream.setsockopt(6, 1, 1)
        async with self._stream:
            await self._shake_hands(parts.netloc, parts.path or "/")
            self._nursery.start_soon(self._write)
            self.connectionWasOpen = True
            self.case.onOpen()
            try:
                await self._read()
            except trio.BrokenResourceError:
                pass
        self.state = self.STATE_CLOSED
        self._nursery.cancel_scope.cancel()

    async def _shake_hands(self, host: str, path: str) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {host}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key}",
        ]
        if self.perMessageCompressionOffers:
            lines.append("Sec-WebSocket-Extensions: " + ", ".join(map(str, self.perMessageCompressionOffers)))
        await self._stream.send_all("\r\n".join([*lines, "", ""]).encode())
        received = b""
        while b"\r\n\r\n" not in received:
            piece = await self._stream.receive_some()
            assert piece, received
            received += piece
        head, _, rest = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        extensions = []
        for line in head.decode().split("\r\n"):
            name, _, value = line.partition(":")
            if name.lower() == "sec-websocket-extensions":
                self._perMessageCompress = PerMessageDeflate()
                self._perMessageCompress.finalize(value.strip())
                extensions.append(self._perMessageCompress)
        self._connection = Connection(ConnectionType.CLIENT, extensions, rest)

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
                            text = message.decode("latin-1") if binary else _encode(message, "utf-8")
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
        self._later(DROP_SECONDS, self._drop)

    def _drop(self) -> None:
        self.wasClean = False
        self.droppedByMe = True
        self._nursery.cancel_scope.cancel()


# --- running


def number_of(case: type[Any]) -> str:
    """``Case7_1_1`` is 7.1.1."""
    return case.__name__.removeprefix("Case").replace("_", ".")


async def run_case(url: str, case: type[Any]) -> tuple[str, str, str]:
    """Behaviour, behaviour at the close, and why."""
    async with trio.open_nursery() as nursery:
        fuzzer = Fuzzer(nursery)
        await fuzzer.run(url, case)
    fuzzer.state = Fuzzer.STATE_CLOSED
    ran = fuzzer.case
    ran.onConnectionLost(fuzzer.failedByMe)
    return ran.behavior, ran.behaviorClose, f"{ran.result} {ran.resultClose}"


async def run_all(url: str, cases: list[type[Any]]) -> int:
    """The exit status."""
    totals: Counter[str] = Counter()
    failed = 0
    limit = trio.CapacityLimiter(PARALLEL)

    async def run_one(case: type[Any]) -> None:
        nonlocal failed
        async with limit:
            behaviour, close, why = await run_case(url, case)
        totals[behaviour] += 1
        if behaviour not in PASSED or close not in PASSED:
            failed += 1
        if behaviour != "OK" or close != "OK":
            print(f"{number_of(case)}: {behaviour}, close {close}: {why}", flush=True)

    async with trio.open_nursery() as nursery:
        for case in cases:
            nursery.start_soon(run_one, case)
    print(f"{sum(totals.values())} cases: {dict(totals)}; {failed} failed")
    return int(failed > 0)


def main() -> int:
    directory, url, *patterns = sys.argv[1:]
    suite = next(iter(Path(directory).glob("**/autobahntestsuite/case/"))).parent
    cases = load_cases(suite)
    if patterns:
        cases = [c for c in cases if any(fnmatch.fnmatch(number_of(c), pattern) for pattern in patterns)]
    return trio.run(run_all, url, cases)


if __name__ == "__main__":
    sys.exit(main())
