"""Load by WebSocket messages: each connection sends one, waits until it comes back, and sends the next.

The client is a loop over one epoll set in this process. It knows the bytes of its message and of the answer
beforehand, so that it costs less than the servers that it measures.
"""

import select
import socket
import time
from typing import Final
from urllib.parse import urlsplit

from benchmarks.load import Load, LoadError

MESSAGE: Final = b"Hello, world!"

_TIMEOUT: Final = 10.0
# RFC 6455 5.2: a final text frame; masked with zeros on its way to the server, not masked on its way back.
_SENT: Final = bytes([0x81, 0x80 | len(MESSAGE), 0, 0, 0, 0]) + MESSAGE
_RECEIVED: Final = bytes([0x81, len(MESSAGE)]) + MESSAGE


def run(url: str, *, connections: int, seconds: int) -> Load:
    """Echo messages on *connections* connections. Implements :class:`load.Generator`."""
    opened: dict[int, socket.socket] = {}
    try:
        for _ in range(connections):
            connection = _open(url)
            opened[connection.fileno()] = connection
        return _echo(opened, seconds)
    except OSError as error:
        raise LoadError(f"WebSocket at {url}: {error}") from error
    finally:
        for connection in opened.values():
            connection.close()


def _open(url: str) -> socket.socket:
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=_TIMEOUT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(
        f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        if not piece:
            break
        head += piece
    if not head.startswith(b"HTTP/1.1 101 "):
        connection.close()
        raise LoadError(f"WebSocket at {url} was not accepted: {head[:60]!r}")
    return connection


def _echo(opened: dict[int, socket.socket], seconds: int) -> Load:
    problems: set[str] = set()
    taken: list[float] = []
    sent_at: dict[int, float] = {}
    with select.epoll() as epoll:
        started = time.perf_counter()
        for fd, connection in opened.items():
            epoll.register(fd, select.EPOLLIN)
            sent_at[fd] = time.perf_counter()
            connection.send(_SENT)
        while (now := time.perf_counter()) - started < seconds and len(problems) == 0:
            ready = epoll.poll(_TIMEOUT)
            if not ready:
                problems.add(f"no message came back for {_TIMEOUT:g} s")
            for fd, _ in ready:
                connection = opened[fd]
                received = connection.recv(4096)
                if received != _RECEIVED:
                    problems.add(f"a message came back as {received[:40]!r}")
                    break
                now = time.perf_counter()
                taken.append(now - sent_at[fd])
                sent_at[fd] = now
                connection.send(_SENT)
        ran = time.perf_counter() - started
    taken.sort()
    if not taken:
        problems.add("no message came back")
        taken.append(0.0)
    return Load(
        requests=len(taken),
        size=len(taken) * len(_RECEIVED),
        seconds=ran,
        p50=taken[len(taken) // 2],
        p99=taken[len(taken) * 99 // 100],
        problems=tuple(problems),
    )
