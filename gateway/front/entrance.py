"""From an accepted socket to the connection that serves it; one Entrance for each listener.

::

    socket ─► [handshake] ─► stream ─► Http1Connection.serve
"""

import socket
from typing import TYPE_CHECKING, Protocol

from gateway.front.http1 import Http1Connection
from gateway.front.service import Service
from gateway.pump import PumpStream
from gateway.request import Address
from gateway.tls.handshake import Handshake
from gateway.tls.stream import TlsStream

if TYPE_CHECKING:
    from gateway.tls.context import Certificates
    from gateway.tls.facts import TlsFacts


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
    """Takes the connections that one listener accepts; with *certificates* they begin with a handshake."""

    def __init__(self, service: Service, certificates: "Certificates | None" = None) -> None:
        self._service = service
        self._certificates = certificates
        self._open: set[FrontConnection] = set()

    async def serve(self, sock: socket.socket) -> None:
        """Serve one accepted connection to its end."""
        try:
            client, server = _address(sock.getpeername()), _address(sock.getsockname())
        except OSError:
            sock.close()  # gone before it was looked at
            return
        stream: PumpStream
        facts: TlsFacts | None = None
        if self._certificates is None:
            stream = self._service.pump.attach(sock)
        else:
            secured = await self._secure(sock, self._certificates, client)
            if secured is None:
                return
            stream, facts = secured, self._certificates.facts(secured.session)
        connection = Http1Connection(stream, self._service, client=client, server=server, tls=facts)
        await self._serve_open(connection)

    async def _secure(
        self, sock: socket.socket, certificates: "Certificates", client: Address
    ) -> TlsStream | None:
        handshake = Handshake(sock, certificates, self._service, client=client)
        await self._serve_open(handshake)
        return handshake.completed

    async def _serve_open(self, connection: FrontConnection) -> None:
        self._open.add(connection)
        try:
            await connection.serve()
        finally:
            self._open.discard(connection)

    def drain(self) -> int:
        """End idle connections now, busy ones after their response; how many are busy."""
        self._service.draining = True
        for connection in self._open:
            connection.drain()
        return sum(not connection.idle for connection in self._open)


def _address(name: object) -> Address:
    """A socket's name as the request's facts have it."""
    if isinstance(name, tuple):
        return str(name[0]), int(name[1])
    return (str(name), None) if name else None
