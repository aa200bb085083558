"""From an accepted socket to the connection that serves it; one Entrance for each listener.

::

    socket ─► [PROXY header] ─► [TLS handshake] ─► stream ─► Http1Connection.serve
"""

import socket
from typing import TYPE_CHECKING, Protocol

from gateway.front.http1 import Http1Connection
from gateway.front.proxy_header import ProxyHeaderStep
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
    """Takes the connections that one listener accepts."""

    def __init__(
        self,
        service: Service,
        *,
        proxy_protocol: bool = False,
        certificates: "Certificates | None" = None,
    ) -> None:
        """With *proxy_protocol* each connection begins with a PROXY header, with *certificates* it goes on
        with a handshake.
        """
        self._service = service
        self._proxy_protocol = proxy_protocol
        self._certificates = certificates
        self._open: set[FrontConnection] = set()

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
        stream: PumpStream
        facts: TlsFacts | None = None
        if self._certificates is None:
            stream = self._service.pump.attach(sock)
        else:
            secured = await self._secure(sock, self._certificates, client)
            if secured is None:
                return
            stream, facts, scheme = secured, self._certificates.facts(secured.session), "https"
        connection = Http1Connection(
            stream, self._service, client=client, server=server, scheme=scheme, tls=facts
        )
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


def address_of(name: object) -> Address:
    """A socket's name as the request's facts have it; a Unix socket without one is ``("", None)``."""
    if isinstance(name, tuple):
        return str(name[0]), int(name[1])
    return (name if isinstance(name, str) else "", None)
