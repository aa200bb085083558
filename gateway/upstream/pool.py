"""Idle connections to one address, kept for the next request where the protocol allows it.

Deciding is synchronous (`take`, `give_back`), connecting is not (`Dialer`). The most recently used
connection goes first, so that the others grow old and are closed.
"""

from dataclasses import dataclass

from gateway.pump import Pump, PumpStream
from gateway.upstream.dial import Dialer
from protocols.codec import ClientCodec


@dataclass(slots=True, eq=False)
class UpstreamConnection:
    """A connection to an application, and the codec that keeps its state."""

    stream: PumpStream
    codec: ClientCodec
    reused: bool = False
    idle_since: float = 0.0
    epoch: int = 0

    def close(self) -> None:
        self.stream.close()


class Pool:
    """At most *idle* unused connections, each for at most *idle_time* seconds. ``idle=0`` keeps none."""

    def __init__(self, pump: Pump, dialer: Dialer, *, idle: int, idle_time: float) -> None:
        self._pump = pump
        self._idle_limit = idle
        self._idle_time = idle_time
        self._idle: list[UpstreamConnection] = []
        self.dialer = dialer
        self.epoch = 0
        """New connections belong to it; one of an earlier epoch is not used again (`renew`)."""

    def take(self) -> UpstreamConnection | None:
        """An idle connection that still looks alive, or None."""
        oldest = self._pump.now - self._idle_time
        while self._idle:
            connection = self._idle.pop()
            # RFC 9112 9.2: whatever arrives on an idle connection is not an answer to the next request.
            if connection.idle_since >= oldest and connection.stream.quiet:
                connection.reused = True
                return connection
            connection.close()
        return None

    def give_back(self, connection: UpstreamConnection) -> None:
        """Keep *connection* for later, or close it."""
        if (
            len(self._idle) >= self._idle_limit
            or connection.epoch != self.epoch
            or not connection.stream.quiet
        ):
            connection.close()
            return
        connection.idle_since = self._pump.now
        self._idle.append(connection)

    def close_expired(self) -> None:
        """Close what was idle for too long; called now and then by the backend's task."""
        oldest = self._pump.now - self._idle_time
        kept = []
        for connection in self._idle:
            if connection.idle_since >= oldest and connection.stream.quiet:
                kept.append(connection)
            else:
                connection.close()
        self._idle = kept

    def renew(self) -> None:
        """From now on use fresh connections only: the server behind the present ones is about to end."""
        self.epoch += 1
        self.close()

    def close(self) -> None:
        """Close all idle connections."""
        while self._idle:
            self._idle.pop().close()
