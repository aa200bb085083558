"""From an accepted socket to the connection that serves it; one Entrance for each listener.

::

    socket ─► stream ─► Http1Connection.serve ─► Http2Connection.serve
                               (a client that begins with HTTP/2's preface, RFC 9113 3.3)
"""

import socket
from typing import Protocol

from gateway.front.http1 import Http1Connection
from gateway.front.http2 import Http2Connection
from gateway.front.service import Service
from gateway.pump import PumpStream
from gateway.request import Address


class FrontConnection(Protocol):
    """A client connection of any version of HTTP."""

    @property
    def idle(self) -> bool:
        """Nothing is being answered."""
        ...

    async def serve(self) -> None:
        """Answer requests until the connection ends."""
        ...

    def drain(self) -> None:
        """The daemon is stopping: end when nothing is being answered."""
        ...


class Entrance:
    """Takes the connections that one listener accepts."""

    def __init__(self, service: Service, *, http2: bool = True) -> None:
        """*http2*: whether it is spoken; over TLS it is chosen by ALPN then, else by the preface."""
        self._service = service
        self._http2 = http2
        self._open: set[FrontConnection] = set()

    async def serve(self, sock: socket.socket) -> None:
        """Serve one accepted connection to its end."""
        try:
            client, server = _address(sock.getpeername()), _address(sock.getsockname())
        except OSError:
            sock.close()  # gone before it was looked at
            return
        stream = self._service.pump.attach(sock)
        await self.serve_stream(stream, client=client, server=server)

    async def serve_stream(
        self,
        stream: PumpStream,
        *,
        client: Address,
        server: Address,
        scheme: str = "http",
        alpn: str | None = None,
    ) -> None:
        """Serve one stream in the version of HTTP that *alpn* names (RFC 9113 3.2).

        Without it, HTTP/1.1 unless the client begins with the preface of HTTP/2 (3.3). Over TLS nobody
        may: "h2" is an identifier of ALPN only.
        """
        service = self._service
        if alpn == "h2":
            await self._serve_open(
                Http2Connection(stream, service, client=client, server=server, scheme=scheme)
            )
            return
        first = Http1Connection(
            stream,
            service,
            client=client,
            server=server,
            scheme=scheme,
            takes_http2=self._http2 and scheme == "http",
        )
        await self._serve_open(first)
        if first.http2_preface:
            await self._serve_open(
                Http2Connection(stream, service, client=client, server=server, received=first.http2_preface)
            )

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
