"""One WebSocket connection as ASGI 3.0 sees it: `receive` and `send`.

::

    Duplex ─► reader ─► WebSocketServer (codec) ─► inbox ─► receive ─► application
    Duplex ◄── output ◄───── codec ◄───────────────────────── send ◄──┘

The application runs in the connection's task (or on its own loop); beside it one task reads for the whole
life of the connection, and one writes while the client is slower than the application (`output`).
So pings are answered and a client that leaves is noticed whatever the application does, and nothing is made
per message.

Promises: an application that does not take its messages stops the reading (`inbox`), and so its client; one
that sends waits for the client. A client that answers no ping in time is let go (`clock`). Every end has its
code: the client's own, 1000 when the application returns, 1011 when it fails, 1012 when the daemon stops: at
once, or for an application that waits for the notice of that (``gateway.shutdown``) when it is urgent
(`gateway.shutdown.notice`).

An application whose client has left is told so by `receive` and `send`, and has the grace to end
(``timeouts.disconnect_grace``), anew with each message that it still takes of what came before; then its
call is cancelled.

The handshake was looked at before (`handshake`); the values in messages are checked by `messages`.
It works the same over HTTP/1.1 and HTTP/2 (RFC 8441).
"""

from collections.abc import Callable
from enum import Enum
from math import inf
from typing import Final

import trio

from gateway.backends.asgi.host import Event, Host, Message, Wait, wait_for_notice
from gateway.backends.asgi.http import HttpExchange, do_nothing
from gateway.backends.asgi.scope import BACKEND, SHUTDOWN, Extensions
from gateway.backends.asgi.settings import WebSocketSettings
from gateway.backends.asgi.shutdown_wait import ShutdownWait
from gateway.backends.asgi.websocket.clock import WebSocketClock
from gateway.backends.asgi.websocket.inbox import WebSocketInbox
from gateway.backends.asgi.websocket.messages import KINDS, NORMAL, acceptance, closing, payload
from gateway.backends.asgi.websocket.output import WebSocketOutput
from gateway.backends.disconnect import ClientDisconnected
from gateway.errors import ClientGone, GatewayError
from gateway.logger import get_logger
from gateway.protocols.events import NEED_DATA, Headers
from gateway.protocols.websocket.server import ABNORMAL, Closed, Pong, WebSocketServer
from gateway.request import Duplex, Request, Responder, Upgrade
from gateway.runtime import forked
from gateway.shutdown.notice import ShutdownNotice

log = get_logger()

UNSENT_BYTES: Final = 64 * 1024
"""Bytes of answers to pings that wait for the client before nothing more is read from it."""

_MESSAGES_PER_TURN: Final = 16
"""Messages that an application may send, or ask for at the end, without a wait before the others have a turn
(as in `http`)."""

_FAILED: Final = 1011
_RESTART: Final = 1012


class _Stage(Enum):
    """How far the connection has come."""

    CONNECTING = "websocket.accept, websocket.close or websocket.http.response.start"
    """The application has not decided."""
    ACCEPTING = "nothing"
    """The handshake is being answered."""
    OPEN = "websocket.send or websocket.close"
    """Messages go both ways."""
    DENIED = "websocket.http.response.body"
    """The handshake was answered by an HTTP response."""
    CLOSED = "nothing, the connection is closed"
    """Either side has closed, or the client has gone."""


_CONNECTING: Final = _Stage.CONNECTING
_ACCEPTING: Final = _Stage.ACCEPTING
_OPEN: Final = _Stage.OPEN
_DENIED: Final = _Stage.DENIED
_CLOSED: Final = _Stage.CLOSED


class WebSocketExchange:
    """`receive` and `send` of one connection.

    Start `read` in *nursery* before the application, call `finish` after it; the nursery then waits for the
    end of the connection.
    """

    __slots__ = (
        "_accepted",
        "_backend",
        "_clock",
        "_codec",
        "_connected",
        "_decided",
        "_denial",
        "_duplex",
        "_fields",
        "_heeds",
        "_host",
        "_inbox",
        "_left",
        "_notice",
        "_nursery",
        "_output",
        "_request",
        "_responder",
        "_settings",
        "_stage",
        "_unpaused",
        "_upgrade",
        "gone",
        "on_complete",
        "told",
        "wait",
    )

    def __init__(
        self,
        host: Host,
        request: Request,
        responder: Responder,
        upgrade: Upgrade,
        settings: WebSocketSettings,
        nursery: trio.Nursery,
        notice: ShutdownNotice,
        backend: str,
    ) -> None:
        self._host = host
        self._request = request
        self._responder = responder
        self._upgrade = upgrade
        self._settings = settings
        self._nursery = nursery
        self._notice = notice
        self._backend = backend
        self._heeds = False
        self._stage = _CONNECTING
        self._denial: HttpExchange | None = None
        self._duplex: Duplex
        self._codec: WebSocketServer
        self._accepted = trio.Event()
        self._decided: Event
        """The handshake has been answered, or could not be; there as soon as it is being answered."""
        self._fields: Headers = []
        # Towards the application.
        self._connected = False
        self._inbox = WebSocketInbox(host)
        self._left = False
        """The client has left an open connection: the application has the grace to end."""
        # Towards the client.
        self._output = WebSocketOutput(host, nursery)
        self._unpaused = 0
        self._clock = WebSocketClock(settings)
        self.gone = False
        """The connection is closed, and not by the application."""
        self.told = False
        """As of HttpExchange: here it is told by the end of its connection."""
        self.on_complete: Callable[[], None] | None = None
        self.wait: Wait = host.wait
        responder.on_disconnect = self._left_early

    @property
    def extensions(self) -> Extensions:
        """What the application may do besides (EXT-1)."""
        return {
            "websocket.http.response": {},
            SHUTDOWN: {"wait": ShutdownWait(self.wait_for_shutdown)},
            BACKEND: {"name": self._backend},
        }

    # --- receive

    async def receive(self) -> Message:
        """``websocket.connect``, then the messages, then ``websocket.disconnect`` for good."""
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        inbox = self._inbox
        while (data := inbox.take()) is None:
            if inbox.farewell is not None:
                if self._turn_is_over():
                    await self._host.pause()
                return inbox.farewell.copy()
            self._unpaused = 0
            await inbox.arrival().wait()
        if self._left:
            self._duplex.begin_grace()
        return {"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data}

    def _turn_is_over(self) -> bool:
        """One more message without a wait: whether the others are to have their turn now."""
        self._unpaused += 1
        if self._unpaused < _MESSAGES_PER_TURN:
            return False
        self._unpaused = 0
        return True

    def _left_early(self) -> None:
        """Called by the front: the client has closed its side before it was answered."""
        if self._stage is _CONNECTING or self._stage is _DENIED:
            self._disconnect(ABNORMAL, "")

    def _on_disconnect(self) -> None:
        """Called by the front: the client will send no more; the reader may not have come to the end."""
        if self._stage is _OPEN:
            self.gone = self._left = True
            self._duplex.begin_grace()

    def _leave(self, code: int, reason: str) -> None:
        """The client has left, as its last messages or their absence say."""
        self._on_disconnect()
        self._disconnect(code, reason)

    def _disconnect(self, code: int, reason: str) -> None:
        """The connection is over for the application. What arrived before is still its."""
        self._stage = _CLOSED
        if self._inbox.end(code, reason):
            self.gone = True
        self._output.release()

    # --- send

    async def send(self, message: Message) -> None:
        """Take one message.

        Raises ClientDisconnected once the connection is closed, by whichever side, and TypeError, ValueError
        or RuntimeError for a message that is wrong in itself or here.
        """
        if forked.is_child:
            forked.end_returned()
        kind = message["type"]
        if self._stage is _ACCEPTING:
            await self._decided.wait()  # Another task accepts: what was sent behind that follows it.
        if kind == "websocket.send" and self._stage is _OPEN:
            self._output.write(self._codec.send_message(payload(message)))
            if self._output.blocked:
                await self._output.wait_drained()
            elif self._turn_is_over():
                await self._host.pause()
        elif kind not in KINDS:
            raise ValueError(f"{kind!r} is not a message of a WebSocket")
        elif self._stage is _CLOSED:
            raise ClientDisconnected("the WebSocket is closed")
        elif self._stage is _OPEN and kind == "websocket.close":
            self._close(*closing(message), "application")
        elif self._stage is _CONNECTING:
            await self._answer_handshake(kind, message)
        elif self._stage is _DENIED and kind == "websocket.http.response.body":
            await self._deny(kind, message)
        else:
            raise RuntimeError(f"{kind} was sent where only {self._stage.value} is allowed")

    async def _answer_handshake(self, kind: str, message: Message) -> None:
        if kind == "websocket.accept":
            await self._accept(message)
        elif kind == "websocket.close":
            # ASGI-15: the handshake is refused.
            start = {"type": "websocket.http.response.start", "status": 403}
            await self._answer_handshake("websocket.http.response.start", start)
            await self._deny("websocket.http.response.body", {})
        elif kind == "websocket.http.response.start":
            self._denial = HttpExchange(self._host, self._request, self._responder, self._notice)
            self._denial.on_complete = self.on_complete
            await self._deny(kind, {**message, "trailers": False})  # it has no message for them
            self._stage = _DENIED
        else:
            raise RuntimeError(f"{kind} was sent where only {_CONNECTING.value} is allowed")

    async def _deny(self, kind: str, message: Message) -> None:
        """EXT-2: the messages of a denial are those of an HTTP response."""
        denial = self._denial
        assert denial is not None
        try:
            await denial.send({**message, "type": kind.removeprefix("websocket.")})
        finally:
            if denial.complete or denial.gone:
                self._disconnect(ABNORMAL, "")
                self.gone = denial.gone

    async def _accept(self, message: Message) -> None:
        self._fields, deflate = acceptance(message, self._request, self._settings)
        self._codec = WebSocketServer(max_message=self._settings.max_message, deflate=deflate)
        self._decided = decided = self._host.event()
        self._stage = _ACCEPTING
        try:
            await self.wait(self._switch)
        except ClientGone as gone:
            self._disconnect(ABNORMAL, "")
            raise ClientDisconnected("the client has disconnected") from gone
        finally:
            if self._stage is _ACCEPTING and not self._responder.started:
                self._stage = _CONNECTING  # wrong fields, or cancelled before it began
            decided.set()

    async def _switch(self) -> None:
        self._responder.on_disconnect = do_nothing  # the reader notices, and the application has the grace
        self._duplex = await self._upgrade.accept(self._fields)
        self._output.open(self._duplex, self._lose)
        self._stage = _OPEN
        self._clock.restart()
        self._accepted.set()
        self._notice.listen(self, self._on_shutdown)
        self._duplex.on_drain = self._restart
        if self._duplex.draining:
            self._restart()
        self._duplex.on_disconnect = self._on_disconnect
        if self._duplex.disconnected:
            self._on_disconnect()

    # --- closing

    def _close(self, code: int, reason: str, by: str) -> None:
        """Begin the close handshake: a Close frame now, and some time for the client's answer."""
        log.debug("websocket closed", path=self._request.path, by=by, code=code, reason=reason)
        self._output.write(self._codec.close(code, reason))
        self._inbox.clear()
        self._disconnect(code, reason)
        self.gone = by != "application"
        settings = self._settings
        patience = settings.restart_timeout if code == _RESTART else settings.close_timeout
        self._clock.set(trio.current_time() + patience)

    async def wait_for_shutdown(self) -> None:
        """Until the daemon begins to stop: for applications that want to close by themselves then."""
        self._heeds = True
        await wait_for_notice(self._notice, self._host)

    def _restart(self) -> None:
        """The daemon stops (called by the front): the application has the grace that is left.

        One that waits for the notice may say something first, until it is urgent.
        """
        if self._heeds and self._notice.begun and not self._notice.urgent:
            return
        if self._stage is _OPEN:
            self._close(_RESTART, "", "gateway")

    def _on_shutdown(self, urgent: bool) -> None:
        if urgent:
            self._restart()

    def _lose(self) -> None:
        """The client has gone without a word."""
        self._leave(ABNORMAL, "")
        self._output.drop()
        self._clock.set(-inf)

    def finish(self, *, failed: bool) -> None:
        """The application has ended: close what it left open; a connection that never opened ends at once."""
        self._let_go()
        if self._stage is _OPEN:
            self._close(_FAILED if failed else NORMAL, "", "gateway")
        elif not self._accepted.is_set():
            self._nursery.cancel_scope.cancel()

    def abandon(self) -> None:
        """The handler was cancelled: the daemon's grace is over."""
        self._let_go()
        if self._stage is _OPEN:
            self._close(_RESTART, "", "gateway")

    def _let_go(self) -> None:
        """Nobody has to find this any more."""
        self._notice.leave(self)
        self._responder.on_disconnect = None
        # By their scope they would lead back here.
        self.on_complete = None
        self.wait = self._host.wait
        if self._denial is not None:
            self._denial.on_complete = None

    async def settle(self) -> None:
        """As `HttpExchange.settle`, if the handshake was answered by an HTTP response."""
        if self._denial is not None and self._denial.unsettled:
            await self._denial.settle()

    @property
    def answered(self) -> bool:
        """The handshake was answered, by a switch or by a whole HTTP response."""
        return self._accepted.is_set() or (self._denial is not None and self._denial.complete)

    def take_failure(self) -> GatewayError | None:
        """Why the handshake cannot be answered any more, whatever the application makes of it."""
        failure = None if self._denial is None else self._denial.take_failure()
        if failure is None and self._stage is _CLOSED:
            failure = ClientGone("the client closed the connection before its handshake was answered")
        try:
            return failure
        finally:
            del failure

    # --- the reader

    async def read(self) -> None:
        """Read from acceptance to the end of the connection. Lets nothing out but cancellation."""
        await self._accepted.wait()
        codec = self._codec
        clock = self._clock
        try:
            while True:
                with trio.CancelScope(deadline=clock.deadline) as clock.reading:
                    await self._receive()
                if codec.over or not self._attend():
                    break
        except ClientGone:
            self._lose()
        self._duplex.on_drain = self._duplex.on_disconnect = None
        # RFC 6455 7.1.1: the server closes first; what is still unsent has as long as the handshake.
        await self._output.finish(trio.current_time() + self._settings.close_timeout)
        try:
            await self._duplex.end()
        except ClientGone:
            pass

    async def _receive(self) -> None:
        """Receive until there is something to do besides, or the deadline cancels it."""
        codec = self._codec
        receive = self._duplex.receive
        while not self._take_events():
            if self._inbox.room is not None:
                await self._wait_for_room(self._inbox.room)
            elif self._output.backlog > UNSENT_BYTES:
                await self._output.wait_flushed()
            elif codec.paused:
                await trio.lowlevel.checkpoint()
            else:
                codec.receive_data(await receive())

    async def _wait_for_room(self, room: trio.Event) -> None:
        await room.wait()
        if self._stage is _OPEN:
            self._clock.restart()  # What the client answered to a ping may have waited unread.

    def _take_events(self) -> bool:
        """Take what has arrived, up to an inbox that is full; whether the connection is over."""
        codec = self._codec
        inbox = self._inbox
        while inbox.room is None:
            event = codec.next_event()
            if event is NEED_DATA:
                break
            if isinstance(event, (str, bytes)):
                if self._stage is _OPEN:
                    inbox.put(event)
            elif isinstance(event, Pong):
                if self._stage is _OPEN:
                    self._clock.take_pong(event.payload)
            elif isinstance(event, Closed):
                self._on_closed(event)
        replies = codec.replies()
        if replies:
            self._output.write(replies)
        return codec.over

    def _on_closed(self, event: Closed) -> None:
        path = self._request.path
        if event.failed:
            log.info("websocket failed", path=path, by="client", code=event.code, reason=event.reason)
        elif self._stage is _OPEN:
            log.debug("websocket closed", path=path, by="client", code=event.code, reason=event.reason)
        self._leave(event.code, event.reason)

    def _attend(self) -> bool:
        """Do what is due; False if that is the end of the connection."""
        clock = self._clock
        if trio.current_time() < clock.deadline:
            return True
        if self._stage is _CLOSED:
            return False  # lost, or the Close frame was not answered
        if self._inbox.room is not None:
            clock.set(inf)  # The client cannot be heard now; the clock goes on when there is room.
            return True
        if clock.forgives():
            return True
        if clock.waits_for_pong:
            log.info("websocket closed", path=self._request.path, by="gateway", reason="no pong in time")
            self._output.write(self._codec.close(_FAILED, "no pong in time"))
            self._leave(ABNORMAL, "no pong in time")
            return False
        self._output.write(self._codec.ping(clock.ping()))
        return True
