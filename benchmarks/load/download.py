"""Load by downloads: each connection fetches one large response after the other, and counts its bytes.

wrk counts requests, of which there are too few here, and stops in the middle of the last one. This client
ends each download that it has begun, and reads into one buffer, so that it costs less than the servers.
"""

import select
import socket
import time
from typing import Final
from urllib.parse import urlsplit

from benchmarks.load import Load, LoadError

_TIMEOUT: Final = 30.0
_BUFFER: Final = 1 << 20


def run(url: str, *, connections: int, seconds: int) -> Load:
    """Download on *connections* connections at once. Implements :class:`load.Generator`."""
    parts = urlsplit(url)
    request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
    opened: dict[int, _Download] = {}
    try:
        for _ in range(connections):
            connection = socket.create_connection((parts.hostname, parts.port), timeout=_TIMEOUT)
            opened[connection.fileno()] = _Download(connection, request)
        return _download(opened, seconds)
    except OSError as error:
        raise LoadError(f"download of {url}: {error}") from error
    finally:
        for download in opened.values():
            download.connection.close()


class _Download:
    """A connection, and how much of its present response is still to come."""

    def __init__(self, connection: socket.socket, request: bytes) -> None:
        self.connection = connection
        self._request = request
        self.size = 0
        """Bytes received since the request, the head included."""
        self._left: int | None = None
        self._head = bytearray()
        self.started = 0.0

    def start(self) -> None:
        self.size = 0
        self._left = None
        self._head.clear()
        self.started = time.perf_counter()
        self.connection.sendall(self._request)

    def receive(self, buffer: memoryview) -> bool:
        """Take what is there; whether the response is complete. Raises LoadError."""
        count = self.connection.recv_into(buffer)
        if not count:
            raise LoadError(f"the response ended after {self.size} bytes")
        self.size += count
        if self._left is None:
            self._head += buffer[:count]
            head, end, rest = self._head.partition(b"\r\n\r\n")
            if not end:
                return False
            self._left = _length(bytes(head)) - len(rest)
        else:
            self._left -= count
        if self._left < 0:
            raise LoadError("more came than Content-Length says")
        return self._left == 0


def _length(head: bytes) -> int:
    status, *lines = head.split(b"\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    length = fields.get(b"content-length", b"")
    if not (status.startswith(b"HTTP/1.1 200 ") and length.isdigit()):
        raise LoadError(f"no response with a length: {head[:200]!r}")
    return int(length)


def _download(opened: dict[int, _Download], seconds: int) -> Load:
    taken: list[float] = []
    size = 0
    buffer = memoryview(bytearray(_BUFFER))
    with select.epoll() as epoll:
        began = time.perf_counter()
        for fd, download in opened.items():
            epoll.register(fd, select.EPOLLIN)
            download.start()
        running = len(opened)
        while running:
            ready = epoll.poll(_TIMEOUT)
            if not ready:
                raise LoadError(f"nothing came for {_TIMEOUT:g} s")
            for fd, _ in ready:
                download = opened[fd]
                if not download.receive(buffer):
                    continue
                now = time.perf_counter()
                taken.append(now - download.started)
                size += download.size
                if now - began < seconds:
                    download.start()
                else:
                    running -= 1
        ran = time.perf_counter() - began
    taken.sort()
    return Load(
        requests=len(taken),
        size=size,
        seconds=ran,
        p50=taken[len(taken) // 2],
        p99=taken[len(taken) * 99 // 100],
    )
