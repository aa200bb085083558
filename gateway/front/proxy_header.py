"""The PROXY header in front of a connection: who the client is, before anything else is looked at.

::

    socket ─► ProxyHeaderStep ─► (TLS handshake) ─► HTTP

Promises: a connection goes on only after a valid header from a trusted proxy, which came in time (PP-1,
PP-2); all others are closed, and the log says why. Exactly the header is taken from the socket, so that
what follows it is the next step's, whether that reads bytes or hands the socket to TLS.
"""

import socket
from typing import Final

import trio

from gateway.front.service import Service
from gateway.logger import get_logger
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.proxy_protocol import ProxyHeader, ProxyHeaderReader
from gateway.request import Address

log = get_logger()

_PEEKED: Final = 4096
"""Bytes looked at in one turn: more than any header but one that carries a certificate."""


class ProxyHeaderStep:
    """Reads the header of one accepted connection. Implements `entrance.FrontConnection`."""

    idle = True
    """Nothing was asked yet: it may end without loss."""
    running = ()

    def __init__(self, sock: socket.socket, service: Service, *, peer: Address) -> None:
        self._sock = sock
        self._service = service
        self._peer = peer
        self._scope = trio.CancelScope()
        self._reader = ProxyHeaderReader()
        self.header: ProxyHeader | None = None
        """The header, if the connection may go on; otherwise it is closed."""

    async def serve(self) -> None:
        """Read the header. Lets nothing out but cancellation from outside."""
        try:
            await self._serve()
        finally:
            if self.header is None:
                self._sock.close()

    def retire(self) -> None:
        """Another process takes over; the request that is to come is answered."""

    def drain(self) -> None:
        """The daemon is stopping: nothing is lost with this connection."""
        self._scope.cancel()

    async def _serve(self) -> None:
        if not self._service.proxies.trusts(self._peer):
            # As HAProxy's expect-proxy and Apache: who need not be believed need not be served, either.
            self._refuse("the peer is not one of trusted_proxies")
            return
        patience = self._service.timeouts.header
        self._sock.setblocking(False)
        try:
            with trio.move_on_after(patience) as time, self._scope:
                await self._read()
        except RemoteProtocolError as malformed:
            self._refuse(str(malformed))
        except OSError as error:
            self._refuse(error.strerror or str(error))
        if time.cancelled_caught:
            self._refuse(f"no PROXY header within {patience:g} seconds")

    async def _read(self) -> None:
        sock, reader = self._sock, self._reader
        while reader.header is None:
            await trio.lowlevel.wait_readable(sock)
            try:
                seen = sock.recv(_PEEKED, socket.MSG_PEEK)
            except BlockingIOError:
                continue
            # What belongs to the header is taken at once, so that the next wait is for more of it.
            taken = reader.receive_data(seen)
            sock.recv(taken)
        self.header = reader.header

    def _refuse(self, reason: str) -> None:
        client = self._peer and self._peer[0]
        log.info("connection refused", client=client, reason=reason)
