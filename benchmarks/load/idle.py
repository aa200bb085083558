"""Connections that stay open and idle, each after one answered request."""

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final
from urllib.parse import urlsplit

from benchmarks.load import LoadError

_SPARE: Final = 256
"""Descriptors beyond those of the connections."""


@contextmanager
def held(url: str, connections: int) -> Iterator[None]:
    """Hold *connections* idle connections to *url* for the block. Raises :class:`LoadError`."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if connections + _SPARE > limit:
        raise LoadError(f"{connections} connections take more than the {limit} open files that are allowed")
    parts = urlsplit(url)
    request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
    try:
        with ExitStack() as stack:
            for _ in range(connections):
                connection = socket.create_connection((parts.hostname, parts.port), timeout=10)
                stack.enter_context(connection)
                connection.sendall(request)
                if not connection.recv(4096).startswith(b"HTTP/1.1 200 "):
                    raise LoadError(f"{url} does not answer")
            yield
    except OSError as error:
        raise LoadError(f"{connections} connections to {url}: {error}") from error
