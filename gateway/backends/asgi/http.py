"""One HTTP request as ASGI 3.0 sees it: `receive` and `send`.

Promises: `receive` gives what is there without passing a checkpoint (an application polls it for a
disconnect); `send` checks every message strictly and returns when the bytes are on their way. The
head is held until the first body message, so an application that fails between the two still gets a
proper 500, and a small response leaves in one system call.

When the daemon stops and a response that has begun still runs after a time, an application that waits in
`receive` is told by ``http.disconnect``, though its client is there and it may still send (see
`gateway.shutdown.notice`). Others are spared, because frameworks give up on a request when they are told.

It decides what an application's return or failure means for the response (`complete`, `take_failure`)
but does not call the application.
"""

from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Final

import trio

from gateway.backends.asgi.host import Event, Host, Message, Wait
from gateway.backends.asgi.messages import (
    FilePart,
    as_bytes,
    check_headers,
    check_status,
    debug_information,
    flag,
    link_fields,
    open_path,
    part_of_file,
    push_target,
    pushed_fields,
    trailer_fields,
)
from gateway.backends.disconnect import ClientDisconnected
from gateway.errors import ClientGone, GatewayError, MachineError, RequestError, ResponseAborted
from gateway.logger import get_logger
from gateway.protocols.events import Headers
from gateway.protocols.trailers import takes_trailers
from gateway.references import with_own_length
from gateway.request import LARGE_PIECE, Request, Responder
from gateway.runtime import forked
from gateway.shutdown.notice import ShutdownNotice

log = get_logger()

_EVENTS_PER_TURN: Final = 16
"""Body messages that may follow each other without a wait. An application that streams to a fast client
would otherwise keep the worker to itself; a turn costs as much as a small message. As many times it may ask
for more, or send more, when all is over."""


class _Stage(Enum):
    """How far the response has come."""

    START = "http.response.start"
    """Nothing of the response was sent: the start has to come, pushes and early hints may before it."""
    HELD = "http.response.body"
    """The start was sent and is held: the first body message releases it."""
    BODY = "more http.response.body"
    """The response is on its way: more body may come."""
    TRAILERS = "http.response.trailers"
    """The body is complete, and trailers were announced."""
    COMPLETE = "nothing"
    """Whatever comes is ignored."""


# As globals: members of an Enum are found slowly (`gateway.protocols`).
_START: Final = _Stage.START
_HELD: Final = _Stage.HELD
_BODY: Final = _Stage.BODY
_TRAILERS: Final = _Stage.TRAILERS
_COMPLETE: Final = _Stage.COMPLETE


class HttpExchange:
    """`receive` and `send` of one request.

    *notice* is that of the daemon's end. With *debug* the application may say things about its response that
    are for tests only (``http.response.debug``): they are logged.
    """

    __slots__ = (
        "_ahead",
        "_body",
        "_closed",
        "_debug",
        "_failure",
        "_headers",
        "_host",
        "_line",
        "_notice",
        "_read_scope",
        "_reading",
        "_received",
        "_request",
        "_responder",
        "_sent",
        "_stage",
        "_status",
        "_trailers",
        "_unpaused",
        "_unsent",
        "gone",
        "on_complete",
        "sending",
        "told",
        "wait",
    )

    def __init__(
        self,
        host: Host,
        request: Request,
        responder: Responder,
        notice: ShutdownNotice,
        debug: bool = False,
    ) -> None:
        self._host = host
        self._request = request
        self._body = request.body
        self._responder = responder
        self._notice = notice
        self._debug = debug
        self._stage = _START
        self._status = 0
        self._headers: Headers = []
        self._trailers: Headers | None = None
        self._ahead: bytes | None = None
        self._received = False
        self._reading: Event | None = None
        """Set when the read has ended that waits for the client."""
        self._read_scope: trio.CancelScope | None = None
        self._closed: Event | None = None
        self._line: list[Event] | None = None
        """The turns of the messages of other tasks that wait behind it; None if nothing waits."""
        self._failure: GatewayError | None = None
        self._unpaused = 0
        self.on_complete: Callable[[], None] | None = None
        self.wait: Wait = host.wait
        self.gone = False
        """Nobody is left to answer: the client left, or the exchange was given up."""
        self.sending = False
        """A message waits for the client."""
        self._sent: trio.Event | None = None
        """Set when it has left, or will not."""
        self._unsent = False
        """The end of the response was not flushed, or that was broken off."""
        self.told = False
        """The application was told to end, though its client is there: the daemon stops."""

    # --- receive

    async def receive(self) -> Message:
        """``http.request`` until the body has ended, then ``http.disconnect`` when it is over.

        A response is over when it has left: many cancel what they send when they are told.
        """
        while True:
            if self._stage is _COMPLETE or self.gone:
                await self._wait_until_over()
                return {"type": "http.disconnect"}
            if self._reading is None:
                break
            await self._reading.wait()  # another task has the next piece
        if not self._received:
            piece = self._ahead
            if piece is None:
                piece = self._read_nowait()
            if piece is None:
                piece = await self._read()
            if piece is not None:
                return self._request_message(piece)
        await self._wait_until_over()
        return {"type": "http.disconnect"}

    def _request_message(self, piece: bytes) -> Message:
        self._ahead = None
        if piece:
            # Look one piece ahead, so that the last one says that it is the last.
            self._ahead = self._read_nowait()
        self._received = not piece or self._ahead == b""
        return {"type": "http.request", "body": piece, "more_body": not self._received}

    def _read_nowait(self) -> bytes | None:
        """The next piece that is here already; None if it must be waited for or will not come."""
        try:
            return self._body.read_nowait(LARGE_PIECE)
        except (ClientGone, MachineError, RequestError) as error:
            self._leave(error)
            return None

    async def _read(self) -> bytes | None:
        """Wait for the next piece; None if there will be none."""
        if self.gone:
            return None
        self._reading = reading = self._host.event()
        self._read_scope = trio.CancelScope()
        try:
            await self.wait(self._read_ahead, self._read_scope)
        except (ClientGone, MachineError, RequestError) as error:
            self._leave(error)
            return None
        finally:
            self._reading = None
            reading.set()
        return self._ahead

    async def _read_ahead(self) -> None:
        # Kept here and not returned: a piece that arrives while the application cancels its
        # receive() belongs to the next one.
        if not (self.gone or self._stage is _COMPLETE):
            self._ahead = await self._body.read()

    def _stop_reading(self) -> None:
        """The request is over: what comes of its body is the front's to read."""
        if self._reading is not None and self._read_scope is not None:
            self._read_scope.cancel()

    async def _wait_until_over(self) -> None:
        """Until the client has left, or the whole response has, or the application is told to end."""
        if self.gone or self.told or (self._stage is _COMPLETE and not self.sending):
            if self._turn_is_over():
                await self._host.pause()
            return
        if self._closed is None:
            responder = self._responder
            if responder.disconnected:
                self.gone = True
                return
            self._closed = self._host.event()
            responder.on_disconnect = self._disconnected
            self._notice.listen(self, self._on_shutdown)
            self._on_shutdown(self._notice.urgent)
        await self._closed.wait()

    def _disconnected(self) -> None:
        """Called by the front: the client has closed its side."""
        self.gone = True
        if self._closed is not None:
            self._closed.set()

    def _leave(self, error: GatewayError) -> None:
        """Go on as if the client had left, because of *error*.

        The request cannot be completed (the answer to a malformed, late or too large body is the
        front's, not the application's), or the response cannot.
        """
        if self._failure is None:
            self._failure = error
        self._disconnected()

    def _on_shutdown(self, urgent: bool) -> None:
        """The daemon stops: in the end an application that listens is told, if its response has begun."""
        if urgent and self._closed is not None and (self._stage is _BODY or self._stage is _TRAILERS):
            self.told = True
            self._closed.set()

    # --- send

    async def send(self, message: Message) -> None:
        """Take one message of the response.

        Raises ClientDisconnected once the client has gone, and TypeError, ValueError or RuntimeError
        for a message that is wrong in itself or here.
        """
        if forked.is_child:
            forked.end_returned()
        kind = message["type"]
        if self._line is not None:
            await self._wait_for_turn(self._line)
        if kind == "http.response.body":
            body = message.get("body", b"")
            if body.__class__ is not bytes:
                body = as_bytes(body)
            stage = self._stage
            if stage is _COMPLETE:
                if self._turn_is_over():
                    await self._host.pause()
                return  # ASGI HTTP spec, response body: later messages are ignored.
            if self.gone:
                raise ClientDisconnected("the client has disconnected")
            if stage is _START or stage is _TRAILERS:
                raise _misplaced(kind, stage)
            more = message.get("more_body", False)
            if more is not False and more is not True:
                raise TypeError(f"more_body is {type(more).__name__}, not bool")
            responder = self._responder
            try:
                if stage is _HELD and not more and self._trailers is None:
                    try:
                        flushed = responder.try_respond(self._status, self._headers, body)
                    except ResponseAborted:
                        own = None if body else with_own_length(self._headers)
                        if own is None or not responder.withdraw():
                            raise
                        flushed = responder.try_respond(self._status, own, b"")
                else:
                    if stage is _HELD:
                        self._start()
                    if body:
                        responder.write(body)
                    if more or self._trailers is not None:
                        if not more:
                            self._stage = _TRAILERS
                        await self._flush_some()
                        return
                    responder.end()
                    flushed = responder.try_flush()
                self._complete(flushed)
                if not flushed:
                    await self._flush_rest()
                if self.on_complete is not None:
                    self.on_complete()
            except ClientGone as gone:
                self._leave(gone)
                raise ClientDisconnected("the client has disconnected") from gone
            except ResponseAborted as aborted:
                self._leave(aborted)
                raise
        elif kind == "http.response.start":
            if self._stage is _COMPLETE:
                return
            if self.gone:
                raise ClientDisconnected("the client has disconnected")
            if self._stage is not _START:
                raise _misplaced(kind, self._stage)
            status = message.get("status")
            if status.__class__ is not int or not 200 <= status <= 999:
                status = check_status(message)
            headers = check_headers(message.get("headers", ()))
            if "trailers" in message and flag(message, "trailers"):
                self._trailers = []
            self._status = status
            self._headers = headers
            self._stage = _HELD
        elif kind in _EXTENDED:
            await self._send_extended(kind, message)
        else:
            raise ValueError(f"{kind!r} is not a message of an HTTP response")

    def _start(self) -> None:
        """Begin the response that was held, of which more will come."""
        self._responder.start(self._status, self._headers)
        self._stage = _BODY
        self._on_shutdown(self._notice.urgent)

    async def _flush_some(self) -> None:
        """Send what was queued, and give way to others now and then."""
        responder = self._responder
        if not responder.try_flush():
            self._unpaused = 0
            await self._wait_for_client(responder.flush)
            return
        if self._turn_is_over():
            await self._host.pause()

    def _turn_is_over(self) -> bool:
        """One more message without a wait: whether the others are to have their turn now."""
        self._unpaused += 1
        if self._unpaused < _EVENTS_PER_TURN:
            return False
        self._unpaused = 0
        return True

    async def _flush_rest(self) -> None:
        """Send what is left of a response that is complete."""
        self._unsent = True
        try:
            await self._wait_for_client(self._responder.flush)
        except GatewayError:
            raise
        except BaseException:
            # Cancelled by its application, which may have more to do behind its response: `settle` goes on.
            if self.on_complete is not None:
                self.on_complete()
            raise
        finally:
            if self._closed is not None:
                self._closed.set()
        self._unsent = False

    async def _wait_for_client(self, function: Callable[[], Awaitable[None]]) -> None:
        """Await *function* of the responder; other messages wait meanwhile."""
        self.sending = True
        self._line = line = self._line or []
        try:
            # In a task of its own: an application may return before all has left (`settle`).
            await self._host.wait(function)
        finally:
            self.sending = False
            if self._sent is not None:
                self._sent.set()
            self._call_next(line)

    async def _wait_for_turn(self, line: list[Event]) -> None:
        """Wait for the messages of other tasks that came before; they follow each other."""
        turn = self._host.event()
        line.append(turn)
        try:
            await turn.wait()
            while self.sending:  # who sent a file had more to send, or another was cancelled
                line[0] = turn = self._host.event()
                await turn.wait()
        finally:
            line.remove(turn)
            self._call_next(line)

    def _call_next(self, line: list[Event]) -> None:
        if line:
            line[0].set()
        elif not self.sending:
            self._line = None

    # --- extensions

    async def _send_extended(self, kind: str, message: Message) -> None:
        """Take a message of an extension (EXT-3 to EXT-8).

        All but debug belong behind the start; but Starlette and Quart send pushes and early hints when they
        are asked to, and that is before there is a response.
        """
        stage = self._stage
        if stage is _COMPLETE:
            return
        if self.gone:
            raise ClientDisconnected("the client has disconnected")
        if kind == "http.response.debug":
            if not self._debug:
                raise ValueError("http.response.debug was not offered: it is for tests")
            if stage is not _START:
                raise _misplaced(kind, stage)
            log.info("response debug", request_id=self._request.id, info=debug_information(message))
            return
        try:
            if kind == "http.response.early_hint":
                await self._send_early_hint(message, stage)
            elif kind == "http.response.push" and stage is not _TRAILERS:
                self._push(message)
            elif kind == "http.response.trailers" and stage is _TRAILERS:
                await self._take_trailers(message)
            elif kind == "http.response.pathsend" and stage is _HELD:
                await self._send_file(open_path(message), more=False)
            elif kind == "http.response.zerocopysend" and (stage is _HELD or stage is _BODY):
                await self._send_file(part_of_file(message), more=flag(message, "more_body"))
            else:
                raise _misplaced(kind, stage)
        except ClientGone as gone:
            self._leave(gone)
            raise ClientDisconnected("the client has disconnected") from gone
        except (ResponseAborted, MachineError) as aborted:
            self._leave(aborted)
            raise

    async def _send_early_hint(self, message: Message, stage: _Stage) -> None:
        """EXT-6: 103 can come until the head leaves, which is held; behind it there is no place for one."""
        links = link_fields(message)
        if (stage is _START or stage is _HELD) and links and self._request.version != "1.0":
            await self._wait_for_client(lambda: self._responder.inform(103, links))

    def _push(self, message: Message) -> None:
        """EXT-3: whether it can be pushed now is the client's affair, and not the application's."""
        push = self._request.push
        if push is None:
            raise ValueError("http.response.push was not offered: the client takes none")
        target, headers = push_target(message), pushed_fields(message)
        try:
            push(target, headers)
        except RequestError as error:
            raise ValueError(f"{target!r} cannot be pushed: {error}") from error

    async def _take_trailers(self, message: Message) -> None:
        assert self._trailers is not None
        fields = trailer_fields(message)
        more = flag(message, "more_trailers")
        self._trailers += fields
        if not more:
            # EXT-7, RFC 9110 6.5.1: only for those who ask for them.
            await self._finish(self._trailers if takes_trailers(self._request.headers) else None)

    async def _send_file(self, part: FilePart, more: bool) -> None:
        """EXT-4, EXT-5: by the kernel where that is possible."""
        try:
            if self._stage is _HELD:
                if not more and self._trailers is None:
                    self._promise_length(part.count)
                self._start()
            if part.count:
                await self._write_file(part)
                part.advance()
        finally:
            part.close()
        if more:
            await self._flush_some()
        elif self._trailers is not None:
            self._stage = _TRAILERS
            await self._flush_some()
        else:
            await self._finish(None)

    async def _write_file(self, part: FilePart) -> None:
        responder = self._responder
        try:
            await self._wait_for_client(
                lambda: responder.write_file(part.descriptor, part.offset, part.count)
            )
        except (ClientGone, ResponseAborted, MachineError):
            raise
        except BaseException:
            # Cancelled by its application: how much of the file is on its way is not known.
            if self._failure is None:
                self._failure = ResponseAborted("the sending of a file was broken off")
            raise

    def _promise_length(self, size: int) -> None:
        """The file is the whole body: say how long it is, if the application does not."""
        if not any(name.lower() == b"content-length" for name, _ in self._headers):
            self._headers.append((b"content-length", b"%d" % size))

    async def _finish(self, trailers: Headers | None) -> None:
        """End the response, as the last http.response.body does."""
        responder = self._responder
        responder.end(trailers)
        flushed = responder.try_flush()
        self._complete(flushed)
        if not flushed:
            await self._flush_rest()
        if self.on_complete is not None:
            self.on_complete()

    # --- the end

    def _complete(self, flushed: bool) -> None:
        self._stage = _COMPLETE
        self._stop_reading()
        if flushed and self._closed is not None:
            self._closed.set()

    def complete_head(self) -> None:
        """The application has returned from a HEAD: some say nothing of the body that it has not (Lilya)."""
        if self._stage is not _HELD or self.gone or self._trailers is not None or self._failure is not None:
            return
        try:
            flushed = self._responder.try_respond(self._status, self._headers, b"")
        except (ClientGone, ResponseAborted) as error:
            self._leave(error)
            return
        self._unsent = not flushed
        self._complete(flushed)

    @property
    def complete(self) -> bool:
        """The response was sent whole."""
        return self._stage is _COMPLETE and self._failure is None

    def take_failure(self, raised: str = "") -> GatewayError | None:
        """Why the exchange cannot be completed, whatever the application makes of it.

        *raised* says how the application ended, unless it returned.

        It is forgotten here: its traceback leads back to this exchange, and the two would keep each
        other, and the body that could not be sent, until the garbage collector runs.
        """
        failure, self._failure = self._failure, None
        if failure is None and self.gone:
            failure = ClientGone("the client closed the connection before it was answered")
        if failure is None and (self._stage is _BODY or self._stage is _TRAILERS):
            failure = ResponseAborted(raised or "the application returned before its response was complete")
        try:
            return failure
        finally:
            del failure

    @property
    def untouched(self) -> bool:
        """The client waits for its response, and nothing has been sent of one."""
        if self.gone or self.told or self._failure is not None:
            return False
        return self._stage is _START or self._stage is _HELD

    @property
    def unsettled(self) -> bool:
        """The response is complete, and not all of it has left."""
        return (self.sending or self._unsent) and self.complete

    async def settle(self) -> None:
        """The application is done: have the whole response leave.

        Another task of it may be sending still, and what follows on the connection would come in between. Or
        it has cancelled its last `send`.
        """
        try:
            while self.sending:
                self._sent = trio.Event()
                await self._sent.wait()
            if self._unsent:
                await self._responder.flush()
        except (ClientGone, ResponseAborted) as error:
            self._leave(error)
        except trio.Cancelled:
            self.abandon()
            raise

    def leave(self) -> None:
        """The call is over."""
        self._stop_reading()
        if self._closed is not None:
            self._notice.leave(self)

    def abandon(self) -> None:
        """Nobody waits for the application any more: if it still runs it is told so."""
        self._disconnected()


_EXTENDED: Final = frozenset(
    {
        "http.response.debug",
        "http.response.early_hint",
        "http.response.pathsend",
        "http.response.push",
        "http.response.trailers",
        "http.response.zerocopysend",
    }
)


def do_nothing() -> None:
    """What is called when a client leaves and the application does not listen."""


def _misplaced(kind: str, stage: _Stage) -> RuntimeError:
    return RuntimeError(f"{kind} was sent where only {stage.value} is allowed")
