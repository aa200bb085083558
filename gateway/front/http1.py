"""HTTP/1.1 connections: one function with a loop per connection, one turn of it per request.

::

    bytes ─► Http1Server (codec) ─► RequestHead ─► Request ─► Service.answer ─► Http1Responder ─► bytes

A connection has one cancel scope for its whole life. It is cancelled when the client is gone (reset,
or closed for longer than the grace) while a request runs, and when the daemon's own grace has ended.
"""

import socket
import struct
from math import inf
from typing import Final

import trio

from gateway.errors import ClientGone, RequestError
from gateway.failure import plain_response
from gateway.front.body import Http1Body
from gateway.front.response import Http1Responder
from gateway.front.service import Service
from gateway.pump import PumpStream
from gateway.request import NO_BODY, Address, Request
from gateway.target import decode_path, split_target
from protocols.errors import Incomplete, RemoteProtocolError
from protocols.events import NEED_DATA, RequestHead
from protocols.http1 import Http1Server

LINGER_BYTES: Final = 4 * 1024 * 1024
LINGER_SECONDS: Final = 5.0
"""What is read from a client after our last byte, so that a reset does not eat the response on its way."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)

_HOSTS_KEPT: Final = 1024


class Http1Connection:
    """Serves one client connection. Implements `request.Connection`."""

    __slots__ = (
        "_codec",
        "_responder",
        "_scope",
        "_service",
        "_stream",
        "client",
        "environ",
        "idle",
        "scheme",
        "server",
    )

    def __init__(
        self, stream: PumpStream, service: Service, *, client: Address, server: Address, scheme: str = "http"
    ) -> None:
        limits = service.limits
        self._stream = stream
        self._service = service
        self._codec = Http1Server(
            request_line=limits.request_line, headers=limits.headers, header_count=limits.header_count
        )
        self._scope = trio.CancelScope()
        self._responder: Http1Responder | None = None
        self.client = client
        self.server = server
        self.scheme = scheme
        self.environ: dict[str, str] | None = None
        self.idle = False
        """Waiting for a request of which no byte has come: may be closed without loss."""

    async def serve(self) -> None:
        """Answer requests until the connection ends. Lets nothing out but cancellation from outside."""
        stream = self._stream
        stream.on_hangup = self._on_hangup
        stream.on_hangup_deadline = self._scope.cancel
        with self._scope:
            try:
                if await self._answer_requests():
                    await self._linger()
            except (trio.BrokenResourceError, trio.ClosedResourceError, ClientGone):
                pass
            finally:
                stream.close()

    def close_if_idle(self) -> None:
        """The daemon is stopping: end the connection unless a request is under way."""
        if self.idle:
            self._scope.cancel()

    def cancel(self) -> None:
        """End the connection now."""
        self._scope.cancel()

    # --- one request after the other

    async def _answer_requests(self) -> bool:
        """Whether to linger: True unless the client has closed first."""
        codec = self._codec
        service = self._service
        while True:
            try:
                event = codec.next_event()
                head = event if isinstance(event, RequestHead) else await self._receive_head()
                if head is None:
                    return False
                request, body = self._make_request(head)
            except RemoteProtocolError as error:
                return await self._refuse(error.status, str(error))
            except RequestError as error:
                return await self._refuse(error.status, error.detail)
            started_at = service.pump.now
            responder = Http1Responder(
                self._stream,
                head_only=request.method == "HEAD",
                version10=head.version == b"1.0",
                keep_alive=codec.keep_alive and not service.draining,
                now=started_at,
                send_timeout=service.timeouts.send,
            )
            responder.body = body
            self._responder = responder
            if self._stream.peer_closed:
                self._on_hangup()
            sound = await service.answer(request, responder)
            self._responder = None
            if service.access_log is not None:
                service.access_log(
                    request, responder.status, responder.body_sent, trio.current_time() - started_at
                )
            if not responder.ended:
                self._reset_if_ambiguous(responder)
                return False
            if not sound or not responder.keep_alive:
                return True
            if body is not None and not (body.complete or await body.drain()):
                return True

    async def _receive_head(self) -> RequestHead | None:
        """The next head; None if the client closed the connection, or let it idle for too long."""
        codec = self._codec
        stream = self._stream
        pump = self._service.pump
        timeouts = self._service.timeouts
        stream.read_deadline = pump.now + timeouts.keep_alive
        self.idle = not codec.pending
        event: object = NEED_DATA
        try:
            while event is NEED_DATA:
                data = await stream.receive_some()
                if self.idle:
                    self.idle = False
                    stream.read_deadline = pump.now + timeouts.header
                codec.receive_data(data)
                if not data and not codec.pending:
                    return None
                event = codec.next_event()
        except trio.TooSlowError:
            if self.idle:
                return None
            raise RequestError(408, "the request head did not arrive in time") from None
        except Incomplete:
            return None
        finally:
            self.idle = False
        assert isinstance(event, RequestHead)
        return event

    def _make_request(self, head: RequestHead) -> tuple[Request, Http1Body | None]:
        codec = self._codec
        raw_path, query = split_target(head.target)
        body = None
        if codec.body_length == 0:
            codec.next_event()  # EndOfMessage
        else:
            limit = self._service.limits.body
            if codec.body_length is not None and codec.body_length > limit:
                raise RequestError(413, f"the request body is larger than {limit} bytes")
            body = Http1Body(codec, self._stream, self._service)
        request = Request(
            method=head.method.decode("ascii"),
            path=decode_path(raw_path),
            raw_path=raw_path,
            query=query,
            version=head.version.decode("ascii"),
            headers=head.headers,
            host=_host_of(codec.authority),
            connection=self,
            body=NO_BODY if body is None else body,
        )
        return request, body

    # --- the end of a connection

    async def _refuse(self, status: int, detail: str) -> bool:
        """Answer what cannot become a Request, and end the connection."""
        failure = plain_response(status, detail)
        responder = Http1Responder(
            self._stream,
            head_only=False,
            version10=False,
            keep_alive=False,
            now=self._service.pump.now,
            send_timeout=self._service.timeouts.send,
        )
        responder.start(failure.status, failure.headers)
        responder.write(failure.body)
        responder.end()
        await responder.flush()
        return True

    def _reset_if_ambiguous(self, responder: Http1Responder) -> None:
        """Make a response that was cut short look so even if only the close ends it (RFC 9112 8)."""
        if responder.close_delimited:
            self._stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)

    async def _linger(self) -> None:
        """Close in stages (RFC 9112 9.6): no more from us, read what still comes for a while, close."""
        stream = self._stream
        self.idle = True
        stream.hangup_deadline = inf
        stream.on_hangup = None
        await stream.send_eof()
        stream.read_deadline = trio.current_time() + LINGER_SECONDS
        left = LINGER_BYTES
        try:
            while left > 0 and (data := await stream.receive_some()):
                left -= len(data)
        except trio.TooSlowError:
            pass

    def _on_hangup(self) -> None:
        """The client closed its side, or the connection broke (called from the pump)."""
        responder = self._responder
        if responder is None:
            return
        if self._stream.hung_up:
            self._scope.cancel()
        elif self._stream.hangup_deadline == inf:
            self._stream.hangup_deadline = self._service.pump.now + self._service.timeouts.disconnect_grace
        if responder.on_disconnect is not None:
            callback, responder.on_disconnect = responder.on_disconnect, None
            callback()


_hosts: dict[bytes, str] = {}


def _host_of(authority: bytes) -> str:
    """The host without its port, lower-case. Authorities are few and repeat: a bounded memory of them."""
    host = _hosts.get(authority)
    if host is None:
        text = authority.decode("latin-1").lower()
        name, colon, port = text.rpartition(":")
        host = name if colon and (port.isdigit() or not port) else text
        if len(_hosts) < _HOSTS_KEPT and len(authority) <= 255:
            _hosts[authority] = host
    return host
