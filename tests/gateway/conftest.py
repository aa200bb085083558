"""What tests of handlers and backends share: a Responder that records, and a short way to a Request.

``from tests.gateway.conftest import RecordingResponder, make_request``.
"""

import logging
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator

import pytest
import structlog

from gateway.backends.intake import BodyIntake
from gateway.errors import Cause, ClientGone, RequestError, ResponseAborted
from gateway.logger import settle
from gateway.protocols.events import Headers
from gateway.request import NO_BODY, Address, Body, Connection, Request
from gateway.spool import BodyPolicy
from gateway.target import decode_path, split_target

_FIELD_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_FIELD_VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*\Z")


class BytesBody:
    """A request body that is given in pieces; *length* None makes it one of unknown length."""

    def __init__(self, *pieces: bytes, sized: bool = True, waits: bool = False) -> None:
        self._pieces = [piece for piece in pieces if piece]
        self._waits = waits
        self.length = sum(map(len, self._pieces)) if sized else None
        self.trailers: Headers = []

    def read_nowait(self, _most: int = 0) -> bytes | None:
        if self._waits and self._pieces:
            return None
        return self._pieces.pop(0) if self._pieces else b""

    async def read(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


class FailingBody(BytesBody):
    """A body that breaks off after its pieces."""

    def __init__(self, *pieces: bytes, error: RequestError | ClientGone) -> None:
        super().__init__(*pieces, sized=False)
        self._error = error

    def read_nowait(self, _most: int = 0) -> bytes | None:
        return self._pieces.pop(0) if self._pieces else None

    async def read(self) -> bytes:
        if self._pieces:
            return self._pieces.pop(0)
        raise self._error


class RecordingResponder:
    """A Responder that keeps everything, and holds its caller to the contract of the real one."""

    def __init__(self, *, method: str = "GET") -> None:
        self.on_disconnect: Callable[[], None] | None = None
        self.disconnected = False
        self.informed: list[tuple[int, Headers]] = []
        self.status = 0
        self.reason = b""
        self.headers: Headers = []
        self.trailers: Headers = []
        self.pieces: list[bytes] = []
        """What ``write`` was given, one item a call, without what the real one drops."""
        self.files: list[tuple[int, int]] = []
        """(offset, count) of each ``write_file``."""
        self.flushes = 0
        self.unflushed = False
        self.ended = False
        self._method = method
        self._written = 0

    # What a test asks.

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def header(self, name: bytes) -> bytes | None:
        """The only value of the field *name*; None if it is absent."""
        values = [value for field, value in self.headers if field == name]
        assert len(values) <= 1, f"{name!r} was sent {len(values)} times"
        return values[0] if values else None

    def disconnect(self) -> None:
        """The client closes its side."""
        self.disconnected = True
        if self.on_disconnect is not None:
            self.on_disconnect()

    # What a handler calls.

    @property
    def started(self) -> bool:
        return self.status != 0

    def withdraw(self) -> bool:
        if self.started and self.flushes:
            return False
        self.status = 0
        self.headers, self.pieces, self.files = [], [], []
        self.ended = False
        self._written = 0
        return True

    async def inform(self, status: int, headers: Headers) -> None:
        assert not self.started
        assert 100 <= status <= 199
        self.informed.append((status, list(headers)))

    def try_respond(self, status: int, headers: Headers, body: bytes, reason: bytes = b"") -> bool:
        self.start(status, headers, reason)
        if body:
            self.write(body)
        self.end()
        return self.try_flush()

    def start(self, status: int, headers: Headers, reason: bytes = b"") -> None:
        assert not self.started, "start was called twice"
        assert 200 <= status <= 999
        for name, value in headers:
            if not _FIELD_NAME.match(name) or not _FIELD_VALUE.match(value):
                raise ValueError(f"HTTP cannot carry the field {name!r}: {value!r}")
        self.status = status
        self.headers = list(headers)
        self.reason = reason
        self.unflushed = True

    def write(self, data: bytes) -> None:
        assert self.started
        assert not self.ended
        self._count(len(data))
        if self._has_body:
            self.pieces.append(bytes(data))
        self.unflushed = True

    async def write_file(self, descriptor: int, offset: int, count: int) -> None:
        assert self.started
        assert not self.ended
        self.files.append((offset, count))
        self._count(count)
        if self._has_body:
            data = os.pread(descriptor, count, offset)
            if len(data) < count:
                raise ResponseAborted("the file is shorter than it was")
            self.pieces.append(data)
        self.unflushed = True

    def end(self, trailers: Headers | None = None) -> None:
        assert self.started
        assert not self.ended
        promised = self._promised
        if promised is not None and self._has_body and self._written < promised:
            raise ResponseAborted(f"{self._written} of {promised} bytes were written")
        self.trailers = list(trailers or [])
        self.ended = True
        self.unflushed = True

    def try_flush(self) -> bool:
        self.flushes += 1
        self.unflushed = False
        return True

    async def flush(self) -> None:
        self.try_flush()

    @property
    def _has_body(self) -> bool:
        return self._method != "HEAD" and self.status not in (204, 304)

    @property
    def _promised(self) -> int | None:
        length = self.header(b"content-length")
        return None if length is None else int(length)

    def _count(self, size: int) -> None:
        self._written += size
        promised = self._promised
        if promised is not None and self._written > promised:
            raise ResponseAborted(f"more than the promised {promised} bytes were written", Cause.MALFORMED)


def make_request(
    target: bytes = b"/",
    *,
    method: str = "GET",
    headers: Headers | None = None,
    host: str = "example.com",
    scheme: str = "http",
    client: Address = ("127.0.0.1", 40000),
    server: Address = ("127.0.0.1", 80),
    version: str = "1.1",
    body: Body = NO_BODY,
    mount: str = "",
) -> Request:
    """A Request as a front would make it from *target*, with *mount* as the router would set it."""
    raw_path, query = split_target(target)
    request = Request(
        method=method,
        path=decode_path(raw_path),
        raw_path=raw_path,
        query=query,
        version=version,
        headers=[] if headers is None else headers,
        host=host,
        connection=Connection(client=client, server=server, scheme=scheme),
        body=body,
    )
    request.mount = mount
    return request


def make_intake(
    policy: BodyPolicy = "spool", *, spool_memory: int = 256 * 1024, max_body: int = 1024**3
) -> BodyIntake:
    """How a backend takes bodies."""
    return BodyIntake("app", policy, spool_memory=spool_memory, max_body=max_body)


@pytest.fixture
def no_leak() -> Iterator[None]:
    """Complaints 29, 30: no descriptor, no process and no zombie stays."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert set(os.listdir("/proc/self/fd")) <= before  # garbage of earlier tests may have gone
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.fixture
def recorder() -> RecordingResponder:
    """A Responder for one GET request."""
    return RecordingResponder()


@pytest.fixture
def logging_restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Logging is the process's own: leave it as it was."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)  # pytest has its own
    monkeypatch.setattr(logging, "basicConfig", logging.basicConfig)
    yield
    settle(None)
    structlog.reset_defaults()
    root.handlers, root.level = handlers, level
