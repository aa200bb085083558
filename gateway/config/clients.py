"""The configuration of patience with clients, and of what they may ask for."""

from gateway.config.base import Model, written
from gateway.config.values.numbers import Count
from gateway.config.values.quantities import Duration, Limit, Size, Timeout


class ClientTimeouts(Model):
    """How long the gateway waits for clients."""

    handshake: Timeout = written("10s")
    """For a TLS handshake, in all."""
    header: Timeout = written("10s")
    """For a complete request head, from its first byte (or from connecting)."""
    body: Timeout = written("30s")
    """For the next bytes of a request body, and for a client to take some of a response."""
    keep_alive: Duration = written("75s")
    """For the next request on an idle connection; 0 closes after each response."""
    shutdown: Duration = written("30s")
    """For running requests when the daemon stops."""
    drain: Duration = written("15s")
    """From there until ASGI applications whose responses still run are told to end; at most half of
    shutdown."""
    disconnect_grace: Duration = written("3s")
    """For an application to end after it was told that its client has gone, before it is cancelled."""
    tunnel: Duration = written("1h")
    """For the next data, either way, of a connection that was upgraded (WebSocket); 0 waits for ever."""


class ClientLimits(Model):
    """How much the gateway takes from clients."""

    request_line: Limit = written("8KiB")
    """Bytes of the request line; more is answered 414, or 501 if the method alone is longer."""
    headers: Limit = written("64KiB")
    """Bytes of all header fields together; more is answered 431, four times as much ends an HTTP/2
    connection."""
    header_count: Count = 100
    """Header fields; more is answered 431, four times as many end an HTTP/2 connection."""
    body: Size = written("1GiB")
    """Bytes of a request body; more is answered 413."""
    streams: Count = 100
    """Requests that run at the same time on one HTTP/2 connection; it is told to the client."""
    min_rate: Size = written(240)
    """Bytes per second that a client must keep up, sending a request body or taking a response that is not a
    file, beyond timeouts.body; a slower one is cut off. 0: only silence is bounded."""
    connections: Count | None = None
    """Connections at the same time. Beyond them idle ones are ended, and new ones wait to be accepted."""
    connections_per_client: Count | None = None
    """Connections at the same time from one address (IPv6: from one /64); more are closed. Clients on Unix
    sockets and trusted_proxies are not counted."""
