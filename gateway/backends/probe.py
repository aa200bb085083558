"""The request by which an active health check asks a server (`gateway.upstream.check`).

It is the gateway's own, of a client at 127.0.0.1: a backend makes of it what it makes of any request.
"""

import re
from dataclasses import dataclass
from typing import Final

from gateway.environ import SOFTWARE
from gateway.request import Connection, Request
from gateway.target import decode_path, split_target

_AGENT: Final = (b"user-agent", f"{SOFTWARE} (health check)".encode("ascii"))
_OWN_CONNECTION: Final = Connection(client=("127.0.0.1", 0), server=("127.0.0.1", 0))


@dataclass(frozen=True, slots=True)
class Probe:
    """What is asked for."""

    target: str
    """Path and query."""
    method: str
    host: str | None
    """By default the server's address."""

    def request(self, authority: str) -> Request:
        """The request to the server that calls itself *authority*."""
        host = self.host or authority
        raw_path, query = split_target(self.target.encode("ascii"))
        return Request(
            method=self.method,
            path=decode_path(raw_path),
            raw_path=raw_path,
            query=query,
            version="1.1",
            headers=[(b"host", host.encode("ascii")), _AGENT],
            host=re.sub(r":[0-9]*$", "", host),
            connection=_OWN_CONNECTION,
        )
