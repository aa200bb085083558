"""From an accepted socket to the connection that serves it; one Entrance for each listener.

::

    socket ─► [PROXY header] ─► stream ─► Http1Connection.serve
"""

import socket
from typing import Protocol

import structlog

from gateway.front.http1 import Http1Connection
from gateway.front.proxy_header import ProxyHeaderStep
from gateway.front.service import Service
from gateway.request import Address

log = structlog.get_logger()


class FrontConnection(Protocol):
    """A client connection of any version of HTTP."""

    idle: bool

    async def serve(self) -> None:
        """Answer requests until the connection ends."""
        ...

    def drain(self) -> None:
        """The daemon is stopping: end when nothing is being answered."""
        ...


class Entrance:
    """Takes the connections that one listener accepts."""

    def __init__(self, service: Service, *, proxy_protocol: bool = False) -> None:
        """With *proxy_protocol* each connection begins with a PROXY header."""
        self._service = service
        self._proxy_protocol = proxy_protocol
        self._open: dict[FrontConnection, None] = {}  # the oldest first

    async def serve(self, sock: socket.socket) -> None:
        """Serve one accepted connection to its end."""
        try:
            client, server = address_of(sock.getpeername()), address_of(sock.getsockname())
        except OSError:
            sock.close()  # gone before it was looked at
            return
        scheme = "http"
        if self._proxy_protocol:
            step = ProxyHeaderStep(sock, self._service, peer=client)
            await self._serve_open(step)
            if (header := step.header) is None:
                return
            if header.source is not None:
                client, server = header.source, header.destination
            if header.ssl is not None and header.ssl.encrypted:
                scheme = "https"
        service = self._service
        # A proxy speaks for many clients.
        admitted = "" if service.proxies.trusts(client) else service.caps.admit(client)
        if admitted is None:
            log.info(
                "connection refused", client=client and client[0], reason="limits.connections_per_client"
            )
            sock.close()
            return
        try:
            stream = service.pump.attach(sock)
            connection = Http1Connection(stream, service, client=client, server=server, scheme=scheme)
            await self._serve_open(connection)
        finally:
            service.caps.release(admitted)

    async def _serve_open(self, connection: FrontConnection) -> None:
        self._open[connection] = None
        try:
            await connection.serve()
        finally:
            del self._open[connection]

    def end_idle_one(self) -> bool:
        """End the oldest connection that waits for a request, to make room; whether there was one."""
        for connection in self._open:
            if connection.idle:
                connection.drain()
                return True
        return False

    def drain(self) -> int:
        """End idle connections now, busy ones after their response; how many are busy."""
        for connection in self._open:
            connection.drain()
        return sum(not connection.idle for connection in self._open)


def address_of(name: object) -> Address:
    """A socket's name as the request's facts have it; a Unix socket without one is ``("", None)``."""
    if isinstance(name, tuple):
        return str(name[0]), int(name[1])
    return (name if isinstance(name, str) else "", None)
