"""What all exchanges with one backend have in common (`exchange`)."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from gateway.net.pump import Pump
from gateway.protocols.events import ResponseHead
from gateway.upstream.rewriting import ResponseRewriter


@dataclass(frozen=True, slots=True)
class UpstreamTimeouts:
    """How long a backend may take, in seconds, each counted from the last progress."""

    send: float
    first_byte: float
    read: float


class Terms:
    """What holds for each exchange with one backend."""

    __slots__ = ("backend", "catch_stderr", "companion", "pump", "references", "rewriter", "timeouts")

    def __init__(self, backend: str, pump: Pump, timeouts: UpstreamTimeouts) -> None:
        self.backend = backend
        """Its name."""
        self.pump = pump
        self.timeouts = timeouts
        self.rewriter: ResponseRewriter | None = None
        """What becomes of addresses and cookies in the answers."""
        self.catch_stderr: re.Pattern[str] | None = None
        """A line of the error stream that it matches is a failure, if the response has not begun."""
        self.references: frozenset[bytes] | None = None
        """Fields by which an answer names another one, that the gateway has (`filters.sendfile`)."""
        self.companion: Callable[[ResponseHead], None] | None = None
        """Set if the application is in a process of ours: it looks at the head of the answer, and may raise a
        GatewayError that it tells of. Such an application is told when the client closes its side, too.

        It never closes a connection that it may get a request on. One that ends has ended with its process,
        perhaps because of this request, which is not sent to the next process unless that is asked for, or
        nothing of it was read (`UnreadError`)."""
