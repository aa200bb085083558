"""From an accepted socket to the connection that serves it; one Entrance for each listener.

::

    socket ─► [PROXY header] ─► [TLS handshake] ─► stream ─► Http1Connection.serve ─► Http2Connection.serve
                                                         (a client that begins with HTTP/2's preface)
"""

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

import trio

from gateway.front.http1 import Http1Connection
from gateway.front.service import Service
from gateway.front.tls_handshake import TlsHandshake
from gateway.logger import get_logger
from gateway.net.stream import PumpStream
from gateway.request import Address, Connection, Request
from gateway.runtime.exhaustion import shortage_in

if TYPE_CHECKING:
    from gateway.tls.context import Certificates

log = get_logger()


class FrontConnection(Protocol):
    """A client connection of any version of HTTP."""

    @property
    def idle(self) -> bool:
        """Nothing is being answered."""
        ...

    @property
    def running(self) -> Sequence[Request]:
        """What is being answered."""
        ...

    async def serve(self) -> None:
        """Answer requests until the connection ends."""
        ...

    def retire(self) -> None:
        """Another process takes over: end with the next response."""
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
        http2: "bool | Literal['only']" = True,
    ) -> None:
        """With *proxy_protocol* each connection begins with a PROXY header, with *certificates* it goes on
        with a handshake. *http2*: whether it is spoken; chosen by ALPN over TLS, else by the preface. With
        ``only`` there is no choice: who begins with anything else is told so in HTTP/2 (RFC 9113 3.4).
        """
        self._service = service
        self._proxy_protocol = proxy_protocol
        self._certificates = certificates
        self._http2 = http2 is not False
        self._http1 = http2 != "only"
        self._open: dict[FrontConnection, bool] = {}
        """The oldest first; whether it was told to make room."""

    async def serve(self, sock: socket.socket) -> None:
        """Serve one accepted connection to its end. Lets nothing out but cancellation."""
        nurseries = len(trio.lowlevel.current_task().child_nurseries)
        try:
            await self._serve(sock)
        except Exception:  # a bug, or no memory: it ends this connection, and no other
            log.exception("connection crashed")
            sock.close()
        finally:
            _end_left_nurseries(nurseries)

    async def _serve(self, sock: socket.socket) -> None:
        self._service.pump.look_at_the_clock()  # the request may be here already, in no batch of the pump's
        try:
            client, server = address_of(sock.getpeername()), address_of(sock.getsockname())
        except OSError:
            sock.close()  # gone before it was looked at
            return
        scheme = "http"
        if self._proxy_protocol:
            from gateway.front.proxy_header import ProxyHeaderStep

            step = ProxyHeaderStep(sock, self._service, peer=client)
            await self._serve_open(step)
            if (header := step.header) is None:
                return
            if header.source is not None:
                client, server = header.source, header.destination
            if header.tls:
                scheme = "https"
        caps = self._service.caps
        # A proxy speaks for many clients.
        admitted = "" if self._service.proxies.trusts(client) else caps.admit(client)
        if admitted is None:
            log.info(
                "connection refused", client=client and client[0], reason="limits.connections_per_client"
            )
            sock.close()
            return
        try:
            if self._certificates is None:
                stream = PumpStream(self._service.pump, sock)
                if _watch(stream, client):
                    facts = Connection(client=client, server=server, scheme=scheme)
                    await self.serve_stream(stream, facts)
            else:
                await self._secure(sock, self._certificates, client=client, server=server)
        finally:
            caps.release(admitted)

    async def _secure(
        self, sock: socket.socket, certificates: "Certificates", *, client: Address, server: Address
    ) -> None:
        handshake = TlsHandshake(sock, certificates, self._service, client=client)
        if not _watch(handshake.stream, client):
            return
        await self._serve_open(handshake)
        if handshake.completed is not None:
            tls = certificates.facts(handshake.completed.session)
            facts = Connection(client=client, server=server, scheme="https", tls=tls)
            await self.serve_stream(handshake.completed, facts)

    async def serve_stream(self, stream: PumpStream, facts: Connection) -> None:
        """Serve one stream in the version of HTTP that was agreed on (RFC 9113 3.2).

        In clear text, HTTP/1.1 unless the client begins with the preface of HTTP/2 (3.3). Over TLS nobody
        may: "h2" is an identifier of ALPN only.
        """
        service = self._service
        tls = facts.tls
        received = b""
        if self._http1 and (tls is None or tls.protocol != "h2"):
            first = Http1Connection(stream, service, facts, takes_http2=self._http2 and tls is None)
            await self._serve_open(first)
            received = first.http2_preface
            if not received:
                return
        try:
            # It takes long to load: a daemon whose clients speak HTTP/1.1 does without.
            from gateway.front.http2 import Http2Connection
        except Exception as error:
            if shortage_in(error) is None:
                raise
            _refuse(stream, facts.client, f"HTTP/2 cannot be loaded: {error}")
            return
        await self._serve_open(Http2Connection(stream, service, facts, received=received))

    async def _serve_open(self, connection: FrontConnection) -> None:
        self._open[connection] = False
        try:
            await connection.serve()
        finally:
            del self._open[connection]

    def running(self) -> list[Request]:
        """What is being answered, on the oldest connection first."""
        return [request for connection in self._open for request in connection.running]

    def end_idle_one(self) -> bool:
        """End the oldest connection that waits for a request, to make room; whether there was one.

        One that was told before takes its time: for the answer to a PING, or a client that does not read.
        """
        for connection, told in self._open.items():
            if connection.idle and not told:
                self._open[connection] = True
                connection.drain()
                return True
        return False

    def announce_end(self) -> None:
        """Let what is being answered be the last on its connection, and tell WebSockets of the end."""
        for connection in self._open:
            if not connection.idle:
                connection.drain()

    def retire(self) -> None:
        """End each connection with its next response: a client that has just sent a request gets its answer.

        Clients of HTTP/2 are told at once, and of the tunnels that they have.
        """
        self._service.closing = True
        for connection in self._open:
            connection.retire()

    def drain(self) -> int:
        """End idle connections now, busy ones after their response; how many are busy."""
        self._service.closing = self._service.draining = True
        for connection in self._open:
            connection.drain()
        return sum(not connection.idle for connection in self._open)


def _watch(stream: PumpStream, client: Address) -> bool:
    """Whether the kernel can watch the connection; if it cannot, that is closed, and the operator told."""
    try:
        stream.watch()
    except trio.BrokenResourceError as error:
        # epoll_ctl(2): no memory, or this user's processes watch fs.epoll.max_user_watches descriptors.
        _refuse(stream, client, f"it cannot be watched: {error}")
        return False
    return True


def _refuse(stream: PumpStream, client: Address, reason: str) -> None:
    log.error("connection refused", client=client and client[0], reason=reason)
    stream.close()


def address_of(name: object) -> Address:
    """A socket's name as the request's facts have it; a Unix socket without one is ``("", None)``."""
    if isinstance(name, tuple):
        return str(name[0]), int(name[1])
    return (name if isinstance(name, str) else "", None)


def _end_left_nurseries(before: int) -> None:
    """End those that an application on trio has opened in this task and not closed, beyond as many *before*.

    To trio they would be a failure of the task itself, which nobody within it can catch.
    """
    task = trio.lowlevel.current_task()
    for nursery in task.child_nurseries[before:]:
        nursery.cancel_scope.cancel()
    del task._child_nurseries[before:]
