"""HTTP/2 connections: one task reads, one writes, and each stream has one while it is answered.

::

    bytes ─► Http2Server (codec) ─► Request ─► Service.dispatch ─► Http2Responder ─► Output ─► bytes

All of them live in the nursery of the connection. When the client resets a stream, or breaks the connection,
a task whose handler listens for that (`Responder.on_disconnect`) has ``timeouts.disconnect_grace`` to end, as
all have when it closes the connection; others are cancelled at once.

``:scheme`` is not looked at: the scheme of a request is that of the connection (RFC 9113 8.3.1 lets a gateway
translate schemes), which no client can choose.

There is one clock for all streams: the stream's ``hangup_deadline``, kept by the pump's sweeper, is the
earliest of their deadlines.
"""

from functools import partial
from math import inf
from typing import TYPE_CHECKING, Final, assert_never

import trio

from gateway.errors import ClientGone, RequestError
from gateway.front.http2.body import Http2Body
from gateway.front.http2.output import Outlet, Output
from gateway.front.http2.responder import Http2Responder
from gateway.front.http2.stream import Http2Stream
from gateway.front.http2.tasks import StreamTasks
from gateway.front.http2.tunnel import Http2Upgrade
from gateway.front.linger import linger
from gateway.front.patience import Patience
from gateway.front.service import GATHERED_BYTES, Service
from gateway.logger import get_logger
from gateway.net.stream import PumpStream
from gateway.protocols.events import Headers, RequestHead
from gateway.protocols.forwarded import CLIENT_FIELDS
from gateway.protocols.http2 import (
    ErrorCode,
    Http2Error,
    Http2Event,
    Http2Server,
    PeerGoesAway,
    PingAnswered,
    StreamBroken,
    StreamData,
    StreamEnded,
    StreamMalformed,
    StreamRefused,
    StreamRequest,
    WindowOpened,
)
from gateway.protocols.http2.server import LAST_STREAM
from gateway.request import NO_BODY, Connection, Request, respond
from gateway.slots import Slots
from gateway.target import decode_path, host_of, split_target

if TYPE_CHECKING:
    from gateway.tls.facts import TlsFacts

log = get_logger()

TASKS_KEPT: Final = 1.0
"""Seconds for which tasks are kept that answer nothing."""

DRAIN_ROUND_TRIP: Final = 1.0
"""Seconds that the client has to answer the PING behind a first GOAWAY: a long round trip."""


class Http2Connection:
    """Serves one client connection."""

    __slots__ = (
        "_closing",
        "_codec",
        "_drain_deadline",
        "_drained_at",
        "_ends",
        "_facts",
        "_head_deadline",
        "_idle_since",
        "_left",
        "_lingers",
        "_opened",
        "_output",
        "_places",
        "_reading",
        "_received",
        "_renewed_at",
        "_scope",
        "_section",
        "_service",
        "_stream",
        "_streams",
        "_tasks",
        "_trim_at",
    )

    def __init__(self, stream: PumpStream, service: Service, facts: Connection, *, received: bytes) -> None:
        """*facts* are what its requests know of it; *received* is what was read of the connection already."""
        limits = service.limits
        self._stream = stream
        self._service = service
        self._facts = facts
        self._received = received
        self._codec = Http2Server(
            streams=limits.streams,
            request_line=limits.request_line,
            headers=limits.headers,
            header_count=limits.header_count,
            takes_connect=service.router.takes_connect,
        )
        self._output = Output(self._codec, stream, service.pump, send_timeout=service.timeouts.send)
        self._streams: dict[int, Http2Stream] = {}
        """All that are not answered to the end, also those that the client has reset."""
        self._opened: list[Http2Stream] = []
        """What has come of new ones, until all that was read is understood."""
        self._tasks = StreamTasks()
        self._trim_at = inf
        self._places = Slots(limits.streams)
        self._scope = trio.CancelScope()
        self._reading = trio.CancelScope()
        self._ends = False
        """What was read last ends the connection, but for the streams that came with it."""
        self._closing = False
        """The last GOAWAY is out: end with the streams that run."""
        self._left = False
        """The client has closed its side."""
        self._lingers = False
        """All is over but the close."""
        self._drained_at = -inf
        self._drain_deadline = inf
        self._section = 0
        """The stream whose head, or trailers, `_head_deadline` is for."""
        self._head_deadline = inf
        self._idle_since = self._renewed_at = service.pump.now

    @property
    def idle(self) -> bool:
        """No request is being answered."""
        return not self._streams

    @property
    def running(self) -> list[Request]:
        """What is being answered."""
        return [stream.request for stream in self._streams.values() if stream.request is not None]

    async def serve(self) -> None:
        """Answer requests until the connection ends. Lets nothing out but cancellation from outside."""
        stream = self._stream
        stream.on_hangup = self._on_hangup
        stream.on_hangup_deadline = self._on_deadline
        with self._scope:
            try:
                await self._run()
            finally:
                # Without these the connection and its stream would keep each other until the garbage
                # collector runs.
                stream.on_hangup = stream.on_hangup_deadline = None
                self._let_all_go("the connection has ended")
                stream.close()

    def retire(self) -> None:
        """Another process takes over: a client can be told so without a race."""
        self.drain()

    def drain(self) -> None:
        """The daemon is stopping. RFC 9113 6.8: GOAWAY for nothing yet, a round trip, then the real one."""
        if self._lingers and not self._stream.unsent:
            self._scope.cancel()
        if self._closing or self._drain_deadline != inf:
            return
        self._codec.go_away(ErrorCode.NO_ERROR, LAST_STREAM)
        self._codec.ping()
        self._output.wake()
        self._drained_at = self._service.pump.now
        self._drain_deadline = self._drained_at + DRAIN_ROUND_TRIP
        self._await_deadline(self._drain_deadline)
        for stream in self._streams.values():
            if stream.upgrade is not None:
                stream.upgrade.drain()

    # --- the three kinds of tasks

    async def _run(self) -> None:
        sound = True
        async with trio.open_nursery() as connection:
            connection.start_soon(self._write)
            async with trio.open_nursery() as streams:
                self._tasks.open(streams, self._answer)
                try:
                    sound = await self._read()
                finally:
                    self._closing = True  # in a cancelled one, too: nothing is pushed any more
                    self._tasks.close()
                if not sound:
                    streams.cancel_scope.cancel()
            self._output.finish()
        if not self._left or self._stream.unsent:
            self._lingers = True
            # Who knows of the end and was answered nothing since has nothing to lose but the last GOAWAY.
            idle = self._idle_since < self._drained_at
            await linger(self._stream, self._service, most=DRAIN_ROUND_TRIP if idle else inf)

    async def _write(self) -> None:
        try:
            await self._output.run()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            self._break_off()

    async def _read(self) -> bool:
        """Read until the connection has no more requests; whether no rule was broken."""
        try:
            with self._reading:
                received, self._received = self._received, b""
                if received:
                    self._receive(received)
                while True:
                    self._stream.read_deadline = self._patience()
                    data = await self._stream.receive_some()
                    if not data:
                        self._left = self._closing = True
                        self._client_closes()
                        return True
                    self._receive(data)
        except Http2Error as error:
            log.info(
                "connection refused", client=self._client_host(), code=error.code.name, reason=str(error)
            )
            self._closing = True
            self._let_all_go(str(error))
            return False
        except trio.TooSlowError:
            return self._expire()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._break_off()
        return True

    def _receive(self, data: bytes) -> None:
        now = self._service.pump.now
        self._codec.renew(now - self._renewed_at)
        self._renewed_at = now
        for event in self._codec.receive_data(data):
            self._take(event)
        opened, self._opened = self._opened, []
        for stream in opened:
            self._tasks.start(stream)
        if self._ends:
            self._ends = False
            self._close()
        if self._codec.room_in < GATHERED_BYTES:
            # Bodies that wait for their rest keep one another from it: none is read, and no credit given.
            for stream in self._streams.values():
                stream.body.look_again()
        if self._codec.queued:
            self._output.wake()

    def _take(self, event: Http2Event) -> None:
        match event:
            case StreamRequest():
                self._open(event)
            case StreamData():
                stream = self._streams.get(event.stream_id)
                if stream is None:
                    self._codec.acknowledge(event.stream_id, event.size)
                else:
                    stream.body.receive(event.data, event.size)
            case StreamEnded():
                if event.stream_id in self._streams:
                    stream = self._streams[event.stream_id]
                    stream.body.finish(event.trailers)
                    if stream.upgrade is not None:
                        stream.upgrade.disconnect()
            case StreamBroken():
                if event.stream_id in self._streams:
                    stream = self._streams[event.stream_id]
                    if event.fault and stream.request is not None:
                        _log_fault(event, stream.request)
                    self._lose(stream, event.reason)
            case WindowOpened():
                if not event.stream_id:
                    self._output.open_windows(None)
                elif event.stream_id in self._streams:
                    self._output.open_windows(self._streams[event.stream_id].outlet)
            case StreamRefused():
                self._refuse(event.stream_id, event.head, event.status, event.reason)
            case StreamMalformed():
                self._service.log_refusal(event.reason, self._facts, code=ErrorCode.PROTOCOL_ERROR.name)
            case PingAnswered():
                self._ends = self._ends or self._drain_deadline != inf
            case PeerGoesAway():
                self._ends = True
            case _:
                assert_never(event)

    # --- one stream

    def _open(self, event: StreamRequest) -> None:
        if len(self._streams) >= 2 * self._service.limits.streams:
            # So many wait for handlers whose response was sent, or whose stream was reset (CVE-2023-44487).
            self._codec.reset(event.stream_id, ErrorCode.REFUSED_STREAM)
            return
        try:
            stream, request = self._make_request(event)
        except RequestError as refused:
            self._refuse(event.stream_id, event.head, refused.status, refused.detail)
            return
        stream.request = request
        self._streams[event.stream_id] = stream
        self._opened.append(stream)

    def _make_request(self, event: StreamRequest) -> tuple[Http2Stream, Request]:
        """Raises RequestError for what cannot become a Request."""
        service = self._service
        head = event.head
        limit = service.limits.body
        tunnel = event.tunnel
        connects = tunnel and not event.protocol
        if event.length is not None and event.length > limit and not tunnel:
            raise RequestError(413, f"the request body is larger than {limit} bytes")
        raw_path, query = split_target(head.target)
        path = "" if connects else decode_path(raw_path)
        host = host_of(event.authority)
        tls = self._facts.tls
        if tls is not None and not connects and self._is_misdirected(tls, host):
            raise RequestError(421, f"the connection is not for {host}")
        method = "GET" if event.protocol else head.method.decode("ascii")
        stream = self._make_stream(
            event.stream_id,
            length=None if tunnel and event.length != 0 else event.length,
            head_only=method == "HEAD",
            tunnel=tunnel,
            expects_continue=not tunnel and event.length != 0 and _expects_continue(event),
        )
        request = Request(
            method=method,
            path=path,
            raw_path=raw_path,
            query=query,
            version="2",
            headers=head.headers,
            host=host,
            connection=self._facts,
            body=NO_BODY if tunnel or event.length == 0 else stream.body,
        )
        if any(name.startswith(CLIENT_FIELDS) for name, _ in head.headers):
            service.proxies.apply(request)
        if self._codec.takes_pushes:
            request.push = partial(self._push, stream, request)
        if tunnel:
            stream.upgrade = Http2Upgrade(
                event.protocol.decode("ascii"),
                stream.body,
                stream.responder,
                stream.outlet,
                service,
            )
            request.upgrade = stream.upgrade
        return stream, request

    def _push(self, parent: Http2Stream, request: Request, target: bytes, headers: Headers) -> bool:
        """Promise the response to a GET of *target* on the stream that *request* came by (RFC 9113 8.4)."""
        if self._closing or parent.gone or parent.outlet.ended:
            return False
        if len(self._streams) >= self._service.limits.streams // 2:
            return False  # the client's own requests need room
        authority = request.header(b"host") or b""
        raw_path, query = split_target(target)
        pushed = Request(
            method="GET",
            path=decode_path(raw_path),
            raw_path=raw_path,
            query=query,
            version="2",
            headers=[(b"host", authority), *headers],
            host=request.host,
            connection=request.connection,
        )
        fields = [
            (b":method", b"GET"),
            (b":scheme", self._facts.scheme.encode()),
            (b":authority", authority),
            (b":path", target),
            *headers,
        ]
        stream_id = self._codec.push(parent.stream_id, fields)
        if not stream_id:
            return False
        self._streams[stream_id] = stream = self._make_stream(stream_id, length=0, head_only=False)
        stream.request = pushed
        self._tasks.start_soon(stream)
        self._output.wake()
        return True

    def _is_misdirected(self, tls: "TlsFacts", host: str) -> bool:
        """A client that reuses the connection for *host* goes beyond the certificate (RFC 9113 9.1.1)."""
        # A proxy may ask for one host (SNI) on behalf of all its clients.
        return tls.is_misdirected(host) and not self._service.proxies.trusts(self._facts.client)

    def _make_stream(
        self,
        stream_id: int,
        *,
        length: int | None,
        head_only: bool,
        tunnel: bool = False,
        expects_continue: bool = False,
    ) -> Http2Stream:
        service = self._service
        limits, timeouts = service.limits, service.timeouts
        # A tunnel may be silent, and as slow as its ends like; over HTTP/1.1 it waits as long for its client.
        rate = 0 if tunnel else limits.min_rate
        patience = Patience(timeouts.tunnel if tunnel else timeouts.send, rate)
        outlet = Outlet(self._output, self._codec, stream_id, patience)
        body = Http2Body(
            self._codec,
            self._output,
            self._stream,
            service.pump,
            stream_id=stream_id,
            length=length,
            limit=inf if tunnel else limits.body,
            patience=None if tunnel or length == 0 else Patience(timeouts.body, rate),
            expects_continue=expects_continue,
        )
        if length == 0:
            body.complete = True
        responder = Http2Responder(
            self._codec,
            self._output,
            outlet,
            body,
            head_only=head_only,
            offers_tunnel=tunnel,
        )
        return Http2Stream(stream_id, outlet, body, responder)

    async def _answer(self, stream: Http2Stream) -> None:
        service = self._service
        responder = stream.responder
        request = stream.request
        if request is None:
            await self._answer_refused(stream)
            return
        started_at = service.pump.now
        finished = False
        try:
            if not stream.gone:
                finished = await self._handle_in_turn(stream, request)
        finally:
            service.tell_of(request, responder, started_at)
            self._end(stream, finished)

    async def _handle_in_turn(self, stream: Http2Stream, request: Request) -> bool:
        """`_handle`, when fewer than ``limits.streams`` handlers run.

        For the client a stream is over with its response; the handler may stay for what is to be done behind
        it. Requests wait for that, as the next one does over HTTP/1.1 (and over HTTP/2 in Go's net/http).
        """
        await self._places.enter()
        try:
            return await self._handle(stream, request)
        finally:
            self._places.leave()

    async def _handle(self, stream: Http2Stream, request: Request) -> bool:
        """Whether the response is complete, and all of it handed on."""
        service = self._service
        responder = stream.responder
        try:
            if stream.body.comes_soon:
                await stream.body.gather()
            await service.dispatch(request, responder)
            if stream.upgrade is not None and stream.upgrade.accepted:
                responder.finish_tunnel()
            sound = responder.ended or await service.answer_unfinished(request, responder)
        except Exception as error:
            sound = await service.answer_failure(error, request, responder)
        if not (sound or responder.ended):
            return False
        try:
            await stream.outlet.flush()
        except ClientGone:
            return False
        await stream.body.drain()
        return True

    def _end(self, stream: Http2Stream, finished: bool) -> None:
        """The stream was answered, or given up: nothing of it may stay."""
        stream_id = stream.stream_id
        del self._streams[stream_id]
        if stream.request is not None:
            stream.request.push = None  # which leads back to the request, and to all of the connection
        if self._codec.is_open(stream_id):
            # RFC 9113 8.1: the response is whole, the rest of the request is not wanted; or it is not,
            # which the client must not take for an end.
            self._codec.reset(stream_id, ErrorCode.NO_ERROR if finished else _failure_code(stream.upgrade))
        self._output.withdraw(stream.outlet, "the stream has ended")
        stream.body.discard()
        self._output.wake()
        if self._trim_at == inf:
            self._trim_at = self._service.pump.now + TASKS_KEPT
            self._await_deadline(self._trim_at)
        if not self._streams:
            self._idle_since = self._service.pump.now
            if self._closing:
                self._reading.cancel()
            else:
                self._stream.read_deadline = self._patience()

    def _lose(self, stream: Http2Stream, reason: str) -> None:
        """The stream is reset: nobody waits for what its task does."""
        stream.gone = True
        self._output.withdraw(stream.outlet, reason)
        stream.body.fail(ClientGone(reason))
        stream.disconnect()
        if stream.scope is None:
            return  # it will be ended as soon as it begins
        if stream.told:
            deadline = trio.current_time() + self._service.timeouts.disconnect_grace
            stream.scope.deadline = min(stream.scope.deadline, deadline)
        else:
            stream.scope.cancel()

    # --- refusals

    def _refuse(self, stream_id: int, head: RequestHead, status: int, reason: str) -> None:
        """Answer what cannot become a Request."""
        failure = self._service.refuse(status, reason, self._facts, head)
        stream = self._make_stream(stream_id, length=None, head_only=head.method == b"HEAD")
        stream.body.discard()
        self._streams[stream_id] = stream
        stream.refusal = failure
        self._opened.append(stream)

    async def _answer_refused(self, stream: Http2Stream) -> None:
        failure = stream.refusal
        assert failure is not None
        finished = False
        try:
            await respond(stream.responder, failure.status, failure.headers, failure.body)
            finished = True
        except ClientGone:
            pass
        finally:
            self._end(stream, finished)

    # --- time

    def _patience(self) -> float:
        """Until when the next bytes have to come."""
        timeouts = self._service.timeouts
        section = self._codec.open_section
        if section or not self._codec.established:
            # From its first byte: more bytes do not make it longer, unless they are of the next one.
            if section != self._section:
                self._section, self._head_deadline = section, inf
            self._head_deadline = min(self._head_deadline, self._service.pump.now + timeouts.header)
            return self._head_deadline
        self._head_deadline = inf
        if self._streams:
            return inf  # bodies have deadlines of their own
        idle = timeouts.keep_alive
        if not self._codec.last_stream:
            idle = max(idle, timeouts.header)  # the first request has as long as over HTTP/1.1
        return self._idle_since + idle  # PING does not count as a sign of use

    def _expire(self) -> bool:
        """Nothing came in time; whether that is no fault."""
        self._closing = True
        if self._codec.open_section:
            code, reason = ErrorCode.ENHANCE_YOUR_CALM, "a head came too slowly"
            self._service.log_refusal(reason, self._facts, code=code.name, setting="timeouts.header")
            self._codec.go_away(code, self._codec.last_stream, reason)
            self._let_all_go("the client was too slow")
            return False
        self._codec.go_away(ErrorCode.NO_ERROR, self._codec.last_stream)
        return True

    def _await_deadline(self, deadline: float) -> None:
        if deadline < self._stream.hangup_deadline:
            self._stream.hangup_deadline = deadline

    def _on_deadline(self) -> None:
        """Called by the sweeper: some deadline may have passed."""
        now = trio.current_time()
        if self._drain_deadline <= now:
            self._drain_deadline = inf
            self._close()
        for outlet in self._output.overdue(now):
            if self._codec.connection_window <= 0:
                # The client lets nothing through for any stream.
                self._close(ErrorCode.ENHANCE_YOUR_CALM, "the window stays shut")
                self._let_all_go("the client did not read in time")
                break
            stream = self._streams[outlet.stream_id]
            self._codec.reset(outlet.stream_id, ErrorCode.CANCEL)
            self._lose(stream, "the client did not read in time")
        if self._trim_at <= now:
            self._trim_at = now + TASKS_KEPT if self._tasks.trim() else inf
        deadline = min(self._drain_deadline, self._output.next_deadline(), self._trim_at)
        for stream in self._streams.values():
            if stream.body.deadline <= now:
                stream.body.expire()
            deadline = min(deadline, stream.body.deadline)
        self._await_deadline(deadline)
        self._output.wake()

    # --- the end

    def _close(self, code: ErrorCode = ErrorCode.NO_ERROR, detail: str = "") -> None:
        """No more streams (RFC 9113 6.8): end when those that run have ended."""
        if self._closing:
            return
        self._closing = True
        self._drain_deadline = inf
        self._codec.go_away(code, self._codec.last_stream, detail)
        self._output.wake()
        if not self._streams:
            self._reading.cancel()

    def _client_closes(self) -> None:
        """The client has closed its side. What runs is told, and has the grace to end."""
        self._tasks.expire(trio.current_time() + self._service.timeouts.disconnect_grace)
        for stream in self._streams.values():
            stream.body.fail(ClientGone("the client closed the connection"))
            stream.disconnect()
        self._output.close_windows()

    def _let_all_go(self, reason: str) -> None:
        for stream in self._streams.values():
            self._lose(stream, reason)

    def _on_hangup(self) -> None:
        """The connection broke (called from the pump); the reader sees a client that closes."""
        if self._stream.hung_up:
            self._break_off()

    def _break_off(self) -> None:
        """Nobody can be told anything any more; who listens for that has the grace to end."""
        self._left = self._closing = True
        self._let_all_go("the client reset the connection")
        deadline = trio.current_time() + self._service.timeouts.disconnect_grace
        self._scope.deadline = min(self._scope.deadline, deadline)
        if not self._streams:
            self._reading.cancel()

    def _client_host(self) -> str | None:
        client = self._facts.client
        return client[0] if client else None


def _failure_code(upgrade: Http2Upgrade | None) -> ErrorCode:
    """What says that a response is not whole.

    RFC 9113 7: INTERNAL_ERROR, an endpoint that has met what it did not expect; for a fault of the client's
    the codec has sent PROTOCOL_ERROR before (8.1.1). RFC 9113 8.5: CONNECT_ERROR is any error of a connection
    that CONNECT has opened, a reset among them.
    """
    connected = upgrade is not None and upgrade.accepted and not upgrade.protocol
    return ErrorCode.CONNECT_ERROR if connected else ErrorCode.INTERNAL_ERROR


def _log_fault(event: StreamBroken, request: Request) -> None:
    """As over HTTP/1.1, where it is answered; here the stream was reset."""
    log.info(
        "request failed",
        reason=event.reason,
        code=ErrorCode(event.code).name,
        request_id=request.id,
        method=request.method,
        target=request.subject,
        backend=request.backend or None,
    )


def _expects_continue(event: StreamRequest) -> bool:
    # There is no other expectation that a request could come here with.
    return any(name == b"expect" for name, _ in event.head.headers)
