"""One HTTP request as ASGI 3.0 sees it: the scope, and `receive` and `send`.

Promises: `receive` gives what is there without passing a checkpoint (an application polls it for a
disconnect); `send` checks every message strictly and returns when the bytes are on their way. The
head is held until the first body message, so an application that fails between the two still gets a
proper 500, and a small response leaves in one system call.

It decides what an application's return or failure means for the response (`complete`, `take_failure`)
but does not call the application, and logs nothing.
"""

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, Final

from gateway.backends.asgi.host import Event, Host, Message, Scope
from gateway.backends.disconnect import ClientDisconnected
from gateway.errors import ClientGone, GatewayError, RequestError, ResponseAborted
from gateway.request import Address, Request, Responder
from protocols.events import Headers

SPEC_VERSION: Final = "2.5"
"""Of the HTTP and WebSocket message format; 2.4 brought OSError from `send`."""

_EVENTS_PER_TURN: Final = 16
"""Body messages that may follow each other without a wait. An application that streams to a fast client
would otherwise keep the worker to itself; a turn costs as much as a small message."""


class _Stage(Enum):
    """How far the response has come."""

    START = "http.response.start"
    """Nothing was sent: only the start may come."""
    HELD = "http.response.body"
    """The start was sent and is held: the first body message releases it."""
    BODY = "more http.response.body"
    """The response is on its way: more body may come."""
    COMPLETE = "nothing"
    """Whatever comes is ignored."""


# A member of an Enum is found in 50 times the time of a global (CPython 3.11), eight times a request.
_START: Final = _Stage.START
_HELD: Final = _Stage.HELD
_BODY: Final = _Stage.BODY
_COMPLETE: Final = _Stage.COMPLETE

_ASGI: Final = {"version": "3.0", "spec_version": SPEC_VERSION}


def http_scope(request: Request, state: dict[str, Any]) -> Scope:
    """The connection scope of *request*; *state* is the lifespan's, copied shallowly."""
    connection = request.connection
    path = request.path
    mount = request.mount
    if not path.isascii():
        path = _replace_surrogates(path)
        mount = _replace_surrogates(mount)
    scope: Scope = {
        "type": "http",
        "asgi": _ASGI.copy(),
        "http_version": request.version,
        "method": request.method,
        "scheme": connection.scheme,
        "path": path,
        "raw_path": request.raw_path,
        "query_string": request.query,
        "root_path": mount,
        "headers": request.headers,
        "client": _host_and_port(connection.client),
        "server": connection.server,
        "state": state.copy(),
    }
    if connection.tls is not None:
        scope["extensions"] = {"tls": connection.tls.extension()}
    return scope


def _host_and_port(client: Address) -> Address:
    # A client on a Unix socket has no host; only `server` may be a path (ASGI HTTP spec, scope).
    return None if client is None or client[1] is None else client


def _replace_surrogates(path: str) -> str:
    """Bytes that are not UTF-8 as U+FFFD: an application could not encode a lone surrogate."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class HttpExchange:
    """`receive` and `send` of one request."""

    __slots__ = (
        "_ahead",
        "_body",
        "_closed",
        "_failure",
        "_headers",
        "_host",
        "_reading",
        "_received",
        "_responder",
        "_stage",
        "_status",
        "_unpaused",
        "gone",
        "on_complete",
    )

    def __init__(self, host: Host, request: Request, responder: Responder) -> None:
        self._host = host
        self._body = request.body
        self._responder = responder
        self._stage = _START
        self._status = 0
        self._headers: Headers = []
        self._ahead: bytes | None = None
        self._received = False
        self._reading = False
        self._closed: Event | None = None
        self._failure: GatewayError | None = None
        self._unpaused = 0
        self.on_complete: Callable[[], None] | None = None
        self.gone = False
        """Nobody is left to answer: the client left, or the exchange was given up."""

    # --- receive

    async def receive(self) -> Message:
        """``http.request`` until the body has ended, then ``http.disconnect`` when it is over."""
        if self._stage is _COMPLETE or self.gone:
            return {"type": "http.disconnect"}
        if not self._received:
            piece = self._ahead
            if piece is None:
                piece = self._read_nowait()
            if piece is None:
                piece = await self._read()
            if piece is not None:
                return self._request_message(piece)
        if not self.gone:
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
            return self._body.read_nowait()
        except (ClientGone, RequestError) as error:
            self._leave(error)
            return None

    async def _read(self) -> bytes | None:
        """Wait for the next piece; None if there will be none."""
        if self.gone:
            return None
        if self._reading:
            raise RuntimeError("receive() is waiting for the request body already")
        self._reading = True
        try:
            await self._host.wait(self._read_ahead)
        except (ClientGone, RequestError) as error:
            self._leave(error)
            return None
        finally:
            self._reading = False
        return self._ahead

    async def _read_ahead(self) -> None:
        # Kept here and not returned: a piece that arrives while the application cancels its
        # receive() belongs to the next one.
        self._ahead = await self._body.read()

    async def _wait_until_over(self) -> None:
        if self._closed is None:
            responder = self._responder
            if responder.disconnected:
                self.gone = True
                return
            self._closed = self._host.event()
            responder.on_disconnect = self._disconnected
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

    # --- send

    async def send(self, message: Message) -> None:
        """Take one message of the response.

        Raises ClientDisconnected once the client has gone, and TypeError, ValueError or RuntimeError
        for a message that is wrong in itself or here.
        """
        kind = message["type"]
        if kind == "http.response.body":
            body = message.get("body", b"")
            if body.__class__ is not bytes:
                body = _as_bytes(body)
            stage = self._stage
            if stage is _COMPLETE:
                return  # ASGI HTTP spec, response body: later messages are ignored.
            if self.gone:
                raise ClientDisconnected("the client has disconnected")
            if stage is _START:
                raise _misplaced(kind, stage)
            responder = self._responder
            more = message.get("more_body", False)
            try:
                if stage is _HELD and not more:
                    flushed = responder.try_respond(self._status, self._headers, body)
                else:
                    if stage is _HELD:
                        responder.start(self._status, self._headers)
                        self._stage = _BODY
                    if body:
                        responder.write(body)
                    if more:
                        await self._flush_some()
                        return
                    responder.end()
                    flushed = responder.try_flush()
                self._stage = _COMPLETE
                if self._closed is not None:
                    self._closed.set()
                if not flushed:
                    await self._host.wait(responder.flush)
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
                status = _check_status(message)
            self._status = status
            self._headers = _check_headers(message.get("headers", ()))
            self._stage = _HELD
        else:
            raise ValueError(f"{kind!r} is not a message of an HTTP response")

    async def _flush_some(self) -> None:
        """Send what was queued, and give way to others now and then."""
        responder = self._responder
        if not responder.try_flush():
            self._unpaused = 0
            await self._host.wait(responder.flush)
            return
        self._unpaused += 1
        if self._unpaused >= _EVENTS_PER_TURN:
            self._unpaused = 0
            await self._host.pause()

    # --- the end

    @property
    def complete(self) -> bool:
        """The response was sent whole."""
        return self._stage is _COMPLETE and self._failure is None

    def take_failure(self, raised: str = "") -> GatewayError | None:
        """Why the exchange cannot be completed, whatever the application makes of it.

        *raised* says how the application ended, unless it returned.

        It is forgotten here: its traceback leads back to this exchange, and the two would keep each
        other, and the body that could not be sent, until the next look for cycles.
        """
        failure, self._failure = self._failure, None
        if failure is None and self.gone:
            failure = ClientGone("the client closed the connection before it was answered")
        if failure is None and self._stage is _BODY:
            failure = ResponseAborted(raised or "the application returned before its response was complete")
        try:
            return failure
        finally:
            del failure

    def abandon(self) -> None:
        """Nobody waits for the application any more: if it still runs it is told so."""
        self._disconnected()


def _check_status(message: Message) -> int:
    try:
        status = message["status"]
    except KeyError:
        raise ValueError("http.response.start has no status") from None
    if not isinstance(status, int):
        raise TypeError(f"status is {type(status).__name__}, not int")
    if not 200 <= status <= 999:
        raise ValueError(f"{status} is not the status of a final response")
    return int(status)


def _check_headers(headers: Iterable[Iterable[bytes]]) -> Headers:
    fields: Headers = []
    for name, value in headers:
        if name.__class__ is not bytes or value.__class__ is not bytes:
            raise TypeError(f"the header {name!r}: {value!r} is not two byte strings")
        fields.append((name, value))
    return fields


def _as_bytes(body: object) -> bytes:
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    raise TypeError(f"body is {type(body).__name__}, not bytes")


def _misplaced(kind: str, stage: _Stage) -> RuntimeError:
    return RuntimeError(f"{kind} was sent where only {stage.value} is allowed")
