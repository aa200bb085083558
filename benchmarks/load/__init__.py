"""Load generators: what puts a server under load, and what it found.

::

    wrk        HTTP/1.1, also over TLS
    h2load     HTTP/2: several streams on each connection
    websocket  messages that come back
    download   large responses, one after the other
    idle       connections that only stay open
"""

from dataclasses import dataclass
from typing import Protocol


class LoadError(Exception):
    """A load generator is missing or did not do its work."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a load generator found in one run."""

    requests: int
    """Complete answers."""
    size: int
    """Bytes received, heads included."""
    seconds: float
    """How long it really ran."""
    p50: float
    """Median latency in seconds."""
    p99: float
    """Latency in seconds that one answer in a hundred exceeds."""
    problems: tuple[str, ...] = ()
    """What went wrong; the figures are invalid if there is any."""


class Generator(Protocol):
    """Puts the server at *url* under load, on the cores of this process. Raises :class:`LoadError`."""

    def __call__(self, url: str, *, connections: int, seconds: int) -> Load: ...
