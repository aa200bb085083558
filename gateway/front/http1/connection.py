"""HTTP/1.1 connections: one function with a loop per connection, one turn of it per request.

::

    bytes ─► Http1Server (codec) ─► RequestHead ─► Request ─► Service.dispatch ─► Http1Responder ─► bytes

A connection has one cancel scope for its whole life. It is cancelled when the client has closed it for longer
than the grace while a request runs, or has reset it and the handler does not listen for that, and when the
daemon's own grace has ended.
"""

from contextlib import suppress
from math import inf
from typing import Final

import trio

from gateway.errors import ClientGone, RequestError
from gateway.front.http1.body import Http1Body
from gateway.front.http1.responder import Http1Responder
from gateway.front.http1.upgrade import Http1Upgrade, offered_protocol
from gateway.front.linger import linger
from gateway.front.service import Service
from gateway.net.resumption import innermost_scope
from gateway.net.stream import PumpStream
from gateway.protocols.errors import Incomplete, RemoteProtocolError
from gateway.protocols.events import NEED_DATA, NeedData, RequestHead
from gateway.protocols.http1 import Http1Server, Http2Preface
from gateway.request import NO_BODY, Connection, Request, respond
from gateway.target import decode_path, host_of, split_target

_SLASH: Final = 0x2F


class Http1Connection:
    """Serves one client connection."""

    __slots__ = (
        "_codec",
        "_facts",
        "_request",
        "_responder",
        "_scope",
        "_service",
        "_stream",
        "_takes_http2",
        "_told",
        "_upgrade",
        "http2_preface",
        "idle",
    )

    def __init__(
        self, stream: PumpStream, service: Service, facts: Connection, *, takes_http2: bool = False
    ) -> None:
        """*facts* are what its requests know of it. *takes_http2*: a client that begins with HTTP/2's preface
        is left to another connection.
        """
        limits = service.limits
        self._stream = stream
        self._service = service
        self._facts = facts
        self._codec = Http1Server(
            request_line=limits.request_line,
            headers=limits.headers,
            header_count=limits.header_count,
            takes_connect=service.router.takes_connect,
        )
        self._scope = trio.CancelScope()
        self._request: Request | None = None
        self._responder: Http1Responder | None = None
        self._upgrade: Http1Upgrade | None = None
        self._told = False
        """A handler was told that the client has gone: it has the grace to end."""
        self.idle = False
        """Waiting for a request of which no byte has come: may be closed without loss."""
        self._takes_http2 = takes_http2
        self.http2_preface = b""
        """What has come from a client that speaks HTTP/2 (RFC 9113 3.3); the stream stays open for it."""

    @property
    def running(self) -> list[Request]:
        """What is being answered."""
        return [] if self._request is None else [self._request]

    async def serve(self) -> None:
        """Answer requests until the connection ends. Lets nothing out but cancellation from outside."""
        stream = self._stream
        stream.on_hangup = self._on_hangup
        stream.on_hangup_deadline = self._scope.cancel
        with self._scope:
            try:
                if await self._answer_requests():
                    self.idle = True
                    await linger(stream, self._service)
            except (trio.BrokenResourceError, trio.ClosedResourceError, ClientGone):
                pass
            finally:
                # Without these the connection and its stream would keep each other, and whatever could
                # not be sent, until the garbage collector runs.
                stream.on_hangup = stream.on_hangup_deadline = None
                if not self.http2_preface:
                    if self.idle:
                        stream.conclude()
                    stream.close()

    def retire(self) -> None:
        """Another process takes over: the next response is the last. Who has switched protocols is told."""
        if self._upgrade is not None:
            self._upgrade.drain()

    def drain(self) -> None:
        """The daemon is stopping: an idle connection ends now, a busy one with its response.

        A request of which something has come is answered if the rest of its head comes soon.
        """
        if self.idle:
            if self._stream.unsent:
                self._stream.read_deadline = 0.0  # after what the client has still to take
            else:
                self._scope.cancel()
        elif self._responder is not None:
            self._responder.keep_alive = False
            if self._upgrade is not None:
                self._upgrade.drain()
        else:
            stream = self._stream
            stream.read_deadline = min(stream.read_deadline, self._due_head())

    def _due_head(self) -> float:
        """Until when the rest of a head may come that has begun just now."""
        service = self._service
        timeouts = service.timeouts
        return service.pump.now + (timeouts.stopping if service.draining else timeouts.header)

    # --- one request after the other

    async def _answer_requests(self) -> bool:
        """Whether to linger: True unless the client has closed first, and has been sent everything.

        The hot path: what becomes of anything but the usual case is elsewhere.
        """
        codec = self._codec
        service = self._service
        stream = self._stream
        pump = service.pump
        persistent = service.timeouts.keep_alive > 0
        patience = service.timeouts.header
        own = innermost_scope()
        while True:
            head: RequestHead | NeedData | None = None
            try:
                if not codec.pending:
                    stream.read_deadline = pump.now if service.draining else pump.now + patience
                    self.idle = True
                    data = await stream.receive_some()
                    if not data:
                        return stream.unsent
                    self.idle = False
                    codec.receive_data(data)
                head = codec.next_request()
                if head is NEED_DATA:
                    if not codec.pending:
                        continue  # RFC 9112 2.2: an empty line is no beginning
                    head = await self._receive_head()
                if head is None:
                    return stream.unsent
                body = None if codec.body_length == 0 else self._make_body()
                request = self._make_request(head, body)
            except RemoteProtocolError as malformed:
                if self._takes_http2 and isinstance(malformed, Http2Preface):
                    self.http2_preface = malformed.received
                    return False
                return await self._refuse(malformed, head)
            except RequestError as refused:
                return await self._refuse(refused, head)
            except trio.TooSlowError:
                return stream.unsent  # idle for too long
            started_at = pump.now
            self._request = request
            self._responder = responder = Http1Responder(
                stream,
                body,
                head_only=request.method == "HEAD",
                version10=head.version == b"1.0",
                keep_alive=codec.keep_alive and persistent and not service.closing,
                send_timeout=service.timeouts.send,
                min_rate=service.limits.min_rate,
                fields=head.headers,
            )
            if codec.upgrade or request.method == "CONNECT":
                self._offer_upgrade(request, responder)
            if stream.peer_closed:
                self._on_hangup()
            client_failed = False
            try:
                if body is not None and body.comes_soon:
                    await body.gather()
                await service.dispatch(request, responder)
                sound = responder.ended or await service.answer_unfinished(request, responder)
            except Exception as error:
                client_failed = isinstance(error, ClientGone)
                sound = await service.answer_failure(error, request, responder)
                if self._upgrade is not None:
                    self._upgrade.break_off()
            except BaseException:
                # Cancelled: the daemon's grace is over, or that for a client which has closed its side.
                if self._upgrade is not None:
                    self._upgrade.break_off()
                if not responder.ended:
                    self._reset_if_ambiguous(responder)
                raise
            finally:
                self._request = self._responder = None
                service.tell_of(request, responder, started_at)
            if not responder.ended:
                self._reset_if_ambiguous(responder)
                if not client_failed:
                    await self._deliver()
                return False
            if not (sound and responder.keep_alive) or innermost_scope() is not own:
                return True  # a scope that an application has left open would be the next request's, too
            if body is not None and not (body.complete or await body.drain()):
                return True
            patience = service.timeouts.keep_alive
            # Nothing of the request stays while the connection waits for the next one.
            body, data = None, b""
            del request, responder
            if codec.pending or stream.readable:
                # Pipelined: others must have their turn, and each request begins in a step of its own.
                await trio.lowlevel.checkpoint()

    async def _receive_head(self) -> RequestHead | None:
        """The next head, of which something has come; None if the client closed before the rest did."""
        codec = self._codec
        stream = self._stream
        stream.read_deadline = self._due_head()
        try:
            while (head := codec.next_request()) is NEED_DATA:
                data = await stream.receive_some()
                if not data and not codec.pending:
                    return None
                codec.receive_data(data)
        except trio.TooSlowError:
            raise RequestError(408, "the request head did not arrive in time") from None
        except Incomplete:
            return None
        return head

    def _make_request(self, head: RequestHead, body: Http1Body | None) -> Request:
        """What *head* and *body* say, which the codec has read last. Raises RequestError."""
        codec = self._codec
        if head.target[0] != _SLASH:
            _make_origin_form(head, codec.authority)
        method = head.method.decode("ascii")
        raw_path, query = split_target(head.target)
        request = Request(
            method=method,
            path="" if method == "CONNECT" else decode_path(raw_path),
            raw_path=raw_path,
            query=query,
            version="1.1" if head.version == b"1.1" else "1.0",
            headers=head.headers,
            host=host_of(codec.authority),
            connection=self._facts,
            body=NO_BODY if body is None else body,
        )
        if codec.forwarded:
            self._service.proxies.apply(request)
        return request

    def _offer_upgrade(self, request: Request, responder: Http1Responder) -> None:
        connects = request.method == "CONNECT"
        protocol = "" if connects else offered_protocol(self._codec.upgrade, request.method)
        if protocol or connects:
            self._upgrade = Http1Upgrade(protocol, self._stream, self._codec, responder, self._service)
            request.upgrade = self._upgrade

    def _make_body(self) -> Http1Body:
        length = self._codec.body_length
        limit = self._service.limits.body
        if length is not None and length > limit:
            raise RequestError(413, f"the request body is larger than {limit} bytes")
        return Http1Body(self._codec, self._stream, self._service)

    # --- the end of a connection

    async def _refuse(
        self, error: RemoteProtocolError | RequestError, head: RequestHead | NeedData | None
    ) -> bool:
        """Answer what cannot become a Request, and end the connection; *head* if it could be read."""
        known = head if isinstance(head, RequestHead) else None
        failure = self._service.refuse(error.status, str(error), self._facts, known)
        responder = Http1Responder(
            self._stream,
            None,
            head_only=known is not None and known.method == b"HEAD",
            version10=False,
            keep_alive=False,
            send_timeout=self._service.timeouts.send,
        )
        await respond(responder, failure.status, failure.headers, failure.body)
        return True

    def _reset_if_ambiguous(self, responder: Http1Responder) -> None:
        """Make a response that was cut short look so even if only the close ends it (RFC 9112 8)."""
        if responder.close_delimited:
            self._stream.reset_on_close()

    async def _deliver(self) -> None:
        """Let a slow client have what was said of a response before that was cut short."""
        self._stream.write_deadline = trio.current_time() + self._service.timeouts.send
        with suppress(trio.TooSlowError):
            await self._stream.settle()

    def _on_hangup(self) -> None:
        """The client closed its side, or the connection broke (called from the pump)."""
        responder = self._responder
        if responder is None:
            return
        if responder.on_disconnect is not None:
            self._told = True
        if self._stream.hung_up and not self._told:
            self._scope.cancel()
        elif self._stream.hangup_deadline == inf:
            self._stream.hangup_deadline = self._service.pump.now + self._service.timeouts.disconnect_grace
        responder.disconnect()


def _make_origin_form(head: RequestHead, authority: bytes) -> None:
    """RFC 9112 3.2.2: absolute-form means the same; its authority replaces Host, as does that of CONNECT,
    which has no other form (3.2.3).
    """
    if head.target == b"*":
        return
    if head.method != b"CONNECT":
        _drop_origin(head, authority)
    head.headers = [(b"host", authority), *(field for field in head.headers if field[0] != b"host")]


def _drop_origin(head: RequestHead, authority: bytes) -> None:
    target = head.target[head.target.index(b"://") + 3 + len(authority) :]
    if not target and head.method == b"OPTIONS":
        head.target = b"*"  # RFC 9112 3.2.4: without a path it is about the server as a whole
    else:
        head.target = target if target.startswith(b"/") else b"/" + target
