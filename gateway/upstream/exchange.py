"""One exchange with an application over a connection: any client codec, one driver.

::

    head, body ──► codec.send ──► stream ──► application
    responder ◄── codec.next_event ◄── stream ◄──┘

The request goes out in one write when all of it is here. Otherwise the body is sent by a task beside
the one that receives, because an application may answer before it has read everything (FCGI-10, UW-13,
H1-23); then sending stops, and the answer reaches the client whole. Where the application asks for the body
(AJP), the codec keeps what was not asked for, and nothing more is read from the client meanwhile.

What goes wrong leaves here as a GatewayError: the application's faults as BackendError with their phase,
the client's as they came. It does not dial, pool or retry: `StaleConnectionError` says that a reused
connection turned out to be dead before a byte of the answer came, `UnwantedStatus` that the answer has a
status for which another server is to be asked. The caller may repair either.
"""

from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Final

import trio

from gateway.errors import BackendError, Cause, ClientGone, GatewayError, Phase, ResponseAborted
from gateway.logger import get_logger
from gateway.logs.stderr import ErrorStream
from gateway.protocols.codec import PullingClient
from gateway.protocols.errors import (
    Incomplete,
    LimitExceeded,
    LocalProtocolError,
    Refusal,
    RemoteProtocolError,
    RequestRefused,
)
from gateway.protocols.events import (
    NEED_DATA,
    BodyWanted,
    Data,
    EndOfMessage,
    InformationalResponse,
    LocalRedirect,
    ResponseHead,
    Stderr,
)
from gateway.request import FLUSH_BYTES, MAX_INFORMATIONAL, Request, Responder
from gateway.tls.errors import TlsBrokenError
from gateway.upstream.lookout import Lookout
from gateway.upstream.multiplex import RequestStream
from gateway.upstream.outcome import (
    CannotShareError,
    CrowdedError,
    StaleConnectionError,
    UnreadError,
    Unwanted,
    UnwantedStatus,
)
from gateway.upstream.pool import UpstreamConnection
from gateway.upstream.switch import Switch
from gateway.upstream.terms import Terms

GATHER_BYTES: Final = 64 * 1024
"""Request body bytes sent together with the head if they are here already."""

WHOLE_BYTES: Final = 32 * 1024
"""A write of so many bytes is one buffer of a Unix socket (net/unix/af_unix.c cuts it from 35 KiB on), which
one read takes as a whole."""

CONTINUE_SECONDS: Final = 1.0
"""How long an upstream may take to answer ``Expect: 100-continue`` before the body is sent anyway
(RFC 9110 10.1.1 asks not to wait for ever; curl waits as long)."""


# As globals: members of an Enum are found slowly (`gateway.protocols`).
_SEND: Final = Phase.SEND
_FIRST_BYTE: Final = Phase.FIRST_BYTE
_HEAD: Final = Phase.HEAD
_BODY: Final = Phase.BODY


_END: Final = EndOfMessage()

log = get_logger()


class Exchange:
    """One request and its response. Make it, call `run`, look at `sent`."""

    __slots__ = (
        "_added",
        "_address",
        "_awaits_continue",
        "_body",
        "_client_failure",
        "_connection",
        "_has_trailers",
        "_lookout",
        "_over",
        "_phase",
        "_request",
        "_responder",
        "_sending",
        "_stderr",
        "_switch",
        "_terms",
        "_unwanted",
        "_waiting_since",
        "_wanted",
        "answered_at",
        "half_closed",
        "sent",
        "status",
    )

    def __init__(
        self,
        connection: UpstreamConnection,
        request: Request,
        responder: Responder,
        terms: Terms,
        *,
        address: str,
        switch: Switch | None,
        unwanted: Unwanted | None,
        lookout: Lookout | None,
        added: tuple[bytes, bytes] | None,
    ) -> None:
        """*switch* stands for the client's offer of another protocol, if the request carries it. By *lookout*
        a frozen server is given up before ``timeouts.first_byte``. *added* is a field that the answer gets on
        its way to the client.
        """
        self._connection = connection
        self._request = request
        self._responder = responder
        self._body = request.body
        self._terms = terms
        self._address = address
        self._switch = switch
        self._unwanted = unwanted
        self._lookout = lookout
        self._added = added
        self._waiting_since = inf
        """Clock time from which the first byte is waited for."""
        self._phase = _SEND
        self.sent = False
        """Whether the whole request went out, or into a codec that the application asks for it."""
        self._sending = False
        """Whether a task sends the body: until it is through, nobody can say that the answer is late."""
        self.answered_at = inf
        """Clock time of the first byte of the answer."""
        self.status = 0
        """Of the answer."""
        self.half_closed = False
        """Whether that was told: the connection takes no other request."""
        self._client_failure: GatewayError | None = None
        self._awaits_continue: trio.Event | None = None
        self._wanted: trio.Event | None = None
        """Set when the application asks for more of the body, if the sending task waits for that."""
        self._has_trailers = False
        """Whether the protocol has trailer fields."""
        self._over = False
        """Whether the application has said everything (or broken off): nothing more is sent to it."""
        self._stderr: ErrorStream | None = None

    async def run(
        self, head: bytes, *, has_trailers: bool = False, awaits_continue: bool = False
    ) -> LocalRedirect | None:
        """Send the request, pass the response on. A local redirect is returned, not followed.

        *head* is what the connection's codec has made of the request's head; *has_trailers* says whether
        trailer fields may follow its body. With *awaits_continue* the body is held back until the application
        says 100 (Continue).
        Raises BackendError, RequestError, ClientGone, ResponseAborted, StaleConnectionError, UnwantedStatus.
        """
        connection = self._connection
        codec = connection.codec
        data = head
        self._has_trailers = has_trailers
        if awaits_continue:
            self._awaits_continue = trio.Event()
        elif self._body.length == 0:
            data += codec.send(_END)
            self.sent = True
        else:
            data += self._gather()
        if not self.sent or len(data) > WHOLE_BYTES:
            connection.whole = False
        try:
            taken = connection.stream.try_send(data)
            if taken < len(data):
                connection.whole = False
                await self._send_rest(memoryview(data)[taken:])
        except trio.BrokenResourceError as error:
            if self._is_unread():
                raise UnreadError from error
            if self._is_excused():
                raise StaleConnectionError from error
            # The application may have answered before it closed its end; if so, that is the answer.
            self.sent = False
            return await self._receive()
        if self.sent:
            return await self._receive()
        return await self._receive_while_sending()

    # --- sending

    def _gather(self) -> bytes:
        """What has arrived of the body, so that a small request is one write."""
        codec = self._connection.codec
        pieces: list[bytes] = []
        gathered = 0
        while gathered < GATHER_BYTES and (piece := self._body.read_nowait()) is not None:
            if not piece:
                pieces.append(codec.send(self._ending()))
                self.sent = True
                break
            gathered += len(piece)
            pieces.append(codec.send(Data(piece)))
        return b"".join(pieces)

    def _ending(self) -> EndOfMessage:
        """The end of the body. HTTP alone has trailers, and a chunked body alone sends them."""
        if self._has_trailers and (trailers := self._body.trailers):
            return EndOfMessage(trailers)
        return _END

    async def _send(self, data: bytes) -> None:
        taken = self._connection.stream.try_send(data)
        await self._send_rest(memoryview(data)[taken:])

    async def _send_held(self, codec: PullingClient) -> None:
        """Return when the application has asked for all that the codec held."""
        while codec.holding:
            if data := codec.data_to_send():
                await self._send(data)
            else:
                self._wanted = trio.Event()
                self._expect_answer()  # the application keeps everybody waiting
                await self._wanted.wait()
                self._sending = True

    async def _send_wanted(self) -> None:
        """The application asks for more of the body. The task that sends hears of it; after it, this one
        sends, so that never two do.
        """
        if self.sent:
            codec = self._connection.codec
            assert isinstance(codec, PullingClient)
            with suppress(trio.BrokenResourceError):  # its answer, or its end, comes by the other way
                await self._send(codec.data_to_send())
        elif self._wanted is not None:
            self._wanted.set()

    async def _send_rest(self, rest: memoryview) -> None:
        """Send what the kernel did not take at once."""
        stream = self._connection.stream
        while rest:
            stream.write_deadline = trio.current_time() + self._terms.timeouts.send
            try:
                await stream.wait_writable()
            except trio.TooSlowError as error:
                raise self._failed(Cause.WRITE_TIMEOUT, "the request was not taken in time") from error
            taken = stream.try_send(rest)
            rest = rest[taken:]

    async def _send_body(self, finished: Callable[[], None]) -> None:
        """The task beside the receiving one. A failure of the client ends the exchange by *finished*."""
        codec = self._connection.codec
        try:
            if self._awaits_continue is not None:
                with trio.move_on_after(CONTINUE_SECONDS):
                    await self._awaits_continue.wait()
            piece = None
            while piece != b"":
                if isinstance(codec, PullingClient):
                    await self._send_held(codec)
                piece = await self._body.read()
                if self._over:
                    return  # The answer ended while this waited; the codec takes nothing more.
                await self._send(codec.send(Data(piece) if piece else self._ending()))
            self.sent = True
            if self._terms.companion is not None and self._responder.disconnected:
                self._client_left()
        except trio.BrokenResourceError:
            pass  # The application reads no further; its answer, or its end, comes by the other way.
        except LocalProtocolError as unsayable:
            self._client_failure = self._failed(Cause.MALFORMED, str(unsayable))
            finished()
        except GatewayError as error:
            self._client_failure = error
            finished()
        finally:
            self._expect_answer()

    def _expect_answer(self) -> None:
        """Nothing is being sent: from now on it is the application that may be late."""
        self._sending = False
        now = self._terms.pump.now
        if self._phase is _FIRST_BYTE:
            self._waiting_since = now
            self._connection.stream.read_deadline = self._first_deadline(now)
        else:
            self._connection.stream.read_deadline = now + self._terms.timeouts.read

    def _first_deadline(self, now: float) -> float:
        """When somebody has to look at the wait for the first byte."""
        deadline = self._waiting_since + self._terms.timeouts.first_byte
        return deadline if self._lookout is None else min(deadline, self._lookout.next_look(now))

    def _tell_when_client_leaves(self) -> None:
        """Close our side when the client closes its own, as it would be seen in one process."""
        if self._responder.disconnected:
            self._client_left()
        else:
            self._responder.on_disconnect = self._client_left

    def _client_left(self) -> None:
        # A body that is not complete fails by itself.
        if self.sent and not self._over and self._switch is None:
            self.half_closed = True
            # If it is broken, that is found out elsewhere.
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                self._connection.stream.shut_down()

    # --- receiving

    async def _receive_while_sending(self) -> LocalRedirect | None:
        outcome: LocalRedirect | None = None
        failure: Exception | None = None
        self._sending = True
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send_body, nursery.cancel_scope.cancel)
                try:
                    outcome = await self._receive()
                except (GatewayError, StaleConnectionError, UnwantedStatus) as error:
                    failure = error
                self._over = True
                nursery.cancel_scope.cancel()
        finally:
            # Their tracebacks hold this, and with it the connections: nothing of it may hold them.
            client_failure, self._client_failure = self._client_failure, None
        if client_failure is not None:
            failure = client_failure
        if failure is not None:
            try:
                raise failure
            finally:
                del failure, client_failure
        return outcome

    async def _receive(self) -> LocalRedirect | None:
        codec = self._connection.codec
        responder = self._responder
        # The head and the first piece of the body are held until it is known whether they are all:
        # then the whole response goes out at once.
        head: ResponseHead | None = None
        first = b""
        queued = 0
        informed = 0
        redirect: LocalRedirect | None = None
        self._phase = _FIRST_BYTE
        if self._terms.companion is not None:
            self._tell_when_client_leaves()
        data = await self._receive_some()
        codec.receive_data(data)
        while True:
            try:
                event = codec.next_event()
            except RemoteProtocolError as error:
                raise self._protocol_failure(error) from error
            if event is NEED_DATA:
                if head is not None:
                    self._begin(head, first)
                    head = None
                    queued = 1
                if queued:
                    await responder.flush()
                    queued = 0
                codec.receive_data(await self._receive_some())
            elif isinstance(event, Data):
                if head is not None and not first:
                    first = event.data
                    continue
                if head is not None:
                    self._begin(head, first)
                    head = None
                self._write(event.data)
                queued += len(event.data)
                if queued >= FLUSH_BYTES:
                    await responder.flush()
                    queued = 0
            elif isinstance(event, ResponseHead):
                if self._stderr is not None:
                    self._stderr.end_line()
                    self._check_stderr(self._stderr)
                self._phase = _BODY
                self.status = event.status
                head = event
                terms = self._terms
                if terms.companion is not None:
                    terms.companion(event)
                if self._unwanted is not None or self._added is not None or terms.rewriter is not None:
                    head = self._look_at(event)
                if event.status == 101:
                    await self._switch_protocols(head)
                    return None
                if terms.references is not None and self._promises_what_it_names(head, terms.references):
                    self._over = True
                    self._begin(head, b"")
                    responder.end()
                    return None
            elif isinstance(event, EndOfMessage):
                self._over = True
                if event.surplus:
                    self._warn("the response is longer than its Content-Length")
                if event.application_status:  # FCGI-14
                    self._warn("the application says that it failed", status=event.application_status)
                if redirect is None and not self._end(head, first, event):
                    await responder.flush()
                return redirect
            elif isinstance(event, Stderr):
                self._log_stderr(event.data)
            elif isinstance(event, InformationalResponse):
                informed += 1
                await self._inform(event, informed)
            elif isinstance(event, BodyWanted):
                await self._send_wanted()
            else:
                redirect = event

    def _look_at(self, head: ResponseHead) -> ResponseHead:
        """*head* as the client gets it. Raises UnwantedStatus."""
        unwanted = self._unwanted
        if (
            unwanted is not None
            and head.status in unwanted.statuses
            and self._terms.pump.now < unwanted.until
        ):
            raise UnwantedStatus
        headers = head.headers
        rewriter = self._terms.rewriter
        if rewriter is not None:
            headers = rewriter.apply(headers, self._request)
        if self._added is not None:
            headers = [*headers, self._added]
        return head if headers is head.headers else ResponseHead(head.status, headers, head.reason)

    def _promises_what_it_names(self, head: ResponseHead, references: frozenset[bytes]) -> bool:
        """Whether the answer names another one, and has a Content-Length.

        That may be the other's (Flask and Symfony: the file's), and nothing of the body come. As with nginx
        the rest of it is not waited for.
        """
        names = {name.lower(): value for name, value in head.headers}
        return (
            not references.isdisjoint(names)
            and names.get(b"content-length", b"0") != b"0"
            and self._request.method != "HEAD"
        )

    async def _switch_protocols(self, head: ResponseHead) -> None:
        """RFC 9110 15.2.2: HTTP ends here, on both sides, if the client has offered it."""
        self._over = True
        switch = self._switch
        if switch is None:
            raise self._failed(Cause.MALFORMED, "101 without an offer to switch protocols")
        try:
            await switch.run(head, self._connection)
        except RemoteProtocolError as wrong:
            raise self._protocol_failure(wrong) from wrong
        except LocalProtocolError as unsayable:
            raise self._failed(Cause.MALFORMED, str(unsayable)) from unsayable
        except trio.BrokenResourceError as broken:
            raise self._failed(Cause.TERMINATED, str(broken)) from broken

    async def _receive_some(self) -> bytes:
        """More of the response; ``b""`` at its end."""
        connection = self._connection
        stream = connection.stream
        beginning = self._phase is _FIRST_BYTE
        if self._sending:
            # Whoever is slow now, the client or the application, is found so where the body is sent.
            stream.read_deadline = inf
        elif beginning:
            now = self._waiting_since = self._terms.pump.now
            stream.read_deadline = self._first_deadline(now)
        else:
            stream.read_deadline = self._terms.pump.now + self._terms.timeouts.read
        try:
            if beginning and self._lookout is not None:
                data = await self._receive_first(self._lookout)
            else:
                data = await stream.receive_some()
        except trio.TooSlowError as late:
            raise self._failed(Cause.READ_TIMEOUT, "nothing was received in time") from late
        except trio.BrokenResourceError as broken:
            if beginning or self._body.length == 0 or isinstance(broken, TlsBrokenError):
                raise self._ended_early(broken) from broken
            # tcp(7): an application that closes before it has read the whole body resets the
            # connection. What it said before is all it had to say; the framing tells whether
            # that is a whole answer.
            data = b""
        if beginning:
            if data:
                self._phase = _HEAD
                self.answered_at = self._terms.pump.now
            elif self._terms.companion is None and self._is_excused():
                raise StaleConnectionError
        return data

    async def _receive_first(self, lookout: Lookout) -> bytes:
        """What comes first. Raises TooSlowError as soon as waiting is not worth while."""
        stream = self._connection.stream
        while True:
            try:
                return await stream.receive_some()
            except trio.TooSlowError as late:
                now = self._terms.pump.now
                if now >= self._waiting_since + self._terms.timeouts.first_byte:
                    raise
                if lookout.is_frozen(now):
                    raise self._failed(
                        Cause.READ_TIMEOUT,
                        f"no byte for {lookout.seconds:g} s, nor an answer to anybody else",
                    ) from late
                stream.read_deadline = self._first_deadline(now)

    def _begin(self, head: ResponseHead, first: bytes) -> None:
        """Start the response, of which there is more to come."""
        try:
            self._responder.start(head.status, head.headers, head.reason)
        except LocalProtocolError as error:
            raise self._failed(Cause.MALFORMED, str(error)) from error
        self._write(first)

    def _write(self, data: bytes) -> None:
        try:
            self._responder.write(data)
        except ResponseAborted as aborted:
            raise self._failed(aborted.cause, str(aborted)) from aborted

    def _end(self, head: ResponseHead | None, whole: bytes, event: EndOfMessage) -> bool:
        """The response is complete; whether it is on its way, too. *whole* is its body if *head* is held."""
        responder = self._responder
        try:
            if head is not None:
                if not event.trailers:
                    return responder.try_respond(head.status, head.headers, whole, head.reason)
                self._begin(head, whole)
            responder.end(event.trailers)
        except LocalProtocolError as unsayable:
            raise self._failed(Cause.MALFORMED, str(unsayable)) from unsayable
        except ResponseAborted as aborted:
            raise self._failed(aborted.cause, str(aborted)) from aborted
        return False

    async def _inform(self, event: InformationalResponse, number: int) -> None:
        if number > MAX_INFORMATIONAL:
            raise self._failed(Cause.MALFORMED, f"more than {MAX_INFORMATIONAL} informational responses")
        if event.status != 100:
            try:
                await self._responder.inform(event.status, event.headers)
            except LocalProtocolError as unsayable:
                raise self._failed(Cause.MALFORMED, str(unsayable)) from unsayable
        elif self._awaits_continue is not None:
            # RFC 9110 15.2.1: the client is told when its body is read.
            self._awaits_continue.set()

    def _log_stderr(self, data: bytes) -> None:
        if self._stderr is None:
            facts = {"backend": self._terms.backend, "request_id": self._request.id}
            self._stderr = ErrorStream(facts, self._terms.catch_stderr)
        self._stderr.write(data)
        self._check_stderr(self._stderr)

    def end_stderr(self) -> None:
        """Nothing more comes of the error stream."""
        if self._stderr is not None:
            self._stderr.end()

    def _check_stderr(self, stderr: ErrorStream) -> None:
        """Raises BackendError if a line is a failure."""
        if stderr.caught is not None and not self._responder.started:
            raise self._failed(
                Cause.MALFORMED, f"its error output is caught by catch_stderr: {stderr.caught}"
            )

    def _warn(self, what: str, **facts: object) -> None:
        request = self._request
        log.warning(
            what,
            backend=self._terms.backend,
            address=self._address,
            request_id=request.id,
            method=request.method,
            path=request.path,
            **facts,
        )

    # --- failures

    def _is_excused(self) -> bool:
        """Whether the end of the connection may have nothing to do with the request."""
        connection = self._connection
        if connection.reused:
            return True
        stream = connection.stream
        return isinstance(stream, RequestStream) and stream.accompanied and not connection.repairs

    def _is_unread(self) -> bool:
        """Whether a connection to a process of ours, that broke, tells that nothing of the request was read.

        af_unix.c, unix_release_sock: a reset is what the other end of a Unix socket gets if something is
        unread in this one when it is closed; otherwise it gets the end.
        """
        connection = self._connection
        return (
            self._terms.companion is not None
            and connection.whole
            and connection.stream.was_reset
            and not self.half_closed
            and self._phase in (_SEND, _FIRST_BYTE)
        )

    def _ended_early(self, broken: trio.BrokenResourceError) -> Exception:
        """The connection broke; before the first byte on a reused one that is the pool's risk."""
        if self._is_unread():
            return UnreadError()
        if self._phase is _FIRST_BYTE and self._terms.companion is None and self._is_excused():
            return StaleConnectionError()
        if self.half_closed:
            return ClientGone("the client had left when the application gave up")
        cause = Cause.TERMINATED
        if isinstance(broken, TlsBrokenError) and broken.alert:
            # RFC 8446 4.4.2: the server judges the gateway's certificate after we are through.
            cause = Cause.TLS_ALERT
        return self._failed(cause, str(broken))

    def _protocol_failure(self, error: RemoteProtocolError) -> Exception:
        match error:
            case RequestRefused(refusal=Refusal.CANT_MULTIPLEX) if (
                self._connection.reused or self._connection.shared
            ) and self._phase is not _BODY:
                return CannotShareError()
            case RequestRefused(refusal=Refusal.OVERLOADED):
                cause = Cause.OVERLOADED
                if self._connection.shared and self._phase is not _BODY:
                    return CrowdedError(self._failed(cause, str(error)))
            case LimitExceeded():
                cause = Cause.HEAD_TOO_LARGE
            case Incomplete() if self.half_closed:
                return ClientGone("the client had left when the application gave up")
            case Incomplete() if self._phase in (_FIRST_BYTE, Phase.HEAD):
                cause = Cause.TERMINATED
            case Incomplete():
                cause = Cause.INCOMPLETE
            case _:
                cause = Cause.MALFORMED
        return self._failed(cause, str(error))

    def _failed(self, cause: Cause, detail: str) -> BackendError:
        self.end_stderr()
        return BackendError(
            cause,
            detail,
            backend=self._terms.backend,
            address=self._address,
            phase=self._phase,
            last_words=() if self._stderr is None else self._stderr.last_words,
        )
