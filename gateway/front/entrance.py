"""From an accepted socket to the connection that serves it; one Entrance for each listener.

::

    socket ─► stream ─► Http1Connection.serve
"""

import socket
from typing import Protocol

from gateway.front.http1 import Http1Connection
from gateway.front.service import Service
from gateway.request import Address


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

    def __init__(self, service: Service) -> None:
        self._service = service
        self._open: set[FrontConnection] = set()

    async def serve(self, sock: socket.socket) -> None:
        """Serve one accepted connection to its end."""
        try:
            client, server = _address(sock.getpeername()), _address(sock.getsockname())
        except OSError:
            sock.close()  # gone before it was looked at
            return
        stream = self._service.pump.attach(sock)
        await self._serve_open(Http1Connection(stream, self._service, client=client, server=server))

    async def _serve_open(self, connection: FrontConnection) -> None:
        self._open.add(connection)
        try:
            await connection.serve()
        finally:
            self._open.discard(connection)

    def drain(self) -> int:
        """End idle connections now, busy ones after their response; how many are busy."""
        for connection in self._open:
            connection.drain()
        return sum(not connection.idle for connection in self._open)


def _address(name: object) -> Address:
    """A socket's name as the request's facts have it."""
    if isinstance(name, tuple):
        return str(name[0]), int(name[1])
    return (str(name), None) if name else None
