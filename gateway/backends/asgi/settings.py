"""How WebSocket connections are bounded; what serves them is loaded with the first."""

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class WebSocketSettings:
    """What a backend is configured with: bytes and seconds."""

    max_message: int
    ping_interval: float
    """Between a pong and the next ping; 0 sends none."""
    ping_timeout: float
    compression: bool
    close_timeout: float = 5.0
    """For the client to answer a Close frame (RFC 6455 7.1.1), and to take what was sent before."""
    restart_timeout: float = 2.0
    """For the answer when the daemon stops."""
