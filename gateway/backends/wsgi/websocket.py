"""WebSockets of WSGI applications that speak the protocol themselves, in their thread.

PEP 3333 has no word for it. Flask-Sock, Flask-SocketIO and whatever else stands on simple-websocket write
their 101 and their frames to the client's socket, which they find in the environ of gunicorn's threads
(``gunicorn.socket``) or of Werkzeug's server (``werkzeug.socket``). Here they find one end of a pair, and
what is behind it is a tunnel like that to an HTTP server which has switched protocols::

    client ◄─► Duplex ◄─► Tunnel ◄─► ours ═ theirs ◄─► application

By gunicorn's key, of the two: then the application ends by StopIteration, which says that the connection was
its own. With Werkzeug's it begins a response behind its frames, or fails with a ConnectionError.

Promises: only the call of a client that offers WebSocket costs anything, and descriptors only while it runs.
Such a client is shown as one of HTTP/1.1, whatever it speaks. What the application says on the socket before
it answers in another way is its answer; otherwise the socket was for nothing. The end of either side is
passed on; when the daemon stops, the application is told that its client has ended, and the client gets the
code 1012. An application that returns and keeps the socket has :data:`CLOSE_TIMEOUT` to end. If it fails, the
client gets the code 1011.

It knows nothing of frames, but for these two.
"""

import secrets
import socket
from base64 import b64encode
from collections.abc import Iterable
from contextlib import suppress
from math import inf
from typing import Any, Final
from wsgiref.types import StartResponse, WSGIApplication

import trio

from gateway.backends.wsgi.call import ApplicationCall
from gateway.backends.wsgi.threads import WorkerThreads
from gateway.net.pump import Pump
from gateway.net.stream import PumpStream
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.events import NEED_DATA, RequestHead, ResponseHead
from gateway.protocols.http1.client import Http1Client
from gateway.request import Duplex, Request, Upgrade
from gateway.upstream.pool import UpstreamConnection
from gateway.upstream.switch import Switch
from gateway.upstream.tunnel import Tunnel

KEY: Final = "gunicorn.socket"

CLOSE_TIMEOUT: Final = 5.0
"""Seconds from the return of the application to the end of the connection: for its last bytes, and for the
client to answer a Close frame (as of `asgi.settings`)."""

_OFFER: Final = RequestHead(
    b"GET", b"/", [(b"host", b"application"), (b"connection", b"upgrade"), (b"upgrade", b"websocket")]
)
"""What the application's head answers, as far as that matters."""

_FAILED: Final = b"\x88\x02\x03\xf3"
"""A Close frame with the code 1011, "internal error" (RFC 6455 5.5.1, 7.4.1)."""

_RESTART: Final = b"\x88\x02\x03\xf4"
"""A Close frame with the code 1012, "service restart" (IANA)."""


class ClientSocket(socket.socket):
    """The application's end. Who drops it has closed it: a server's socket is the server's to close."""

    def __del__(self) -> None:
        self.close()


class SocketOffer:
    """The socket that one call may take instead of answering: stands in for *application* in its thread."""

    def __init__(
        self, call: ApplicationCall, application: WSGIApplication, threads: WorkerThreads, pump: Pump
    ) -> None:
        self._call = call
        self._environ = call.environ
        self._application = application
        self._threads = threads
        self._pump = pump
        self._key: bytes | None = None
        self._ours: socket.socket | None = None
        self._shortage: OSError | None = None
        self._withdrawn = False
        self._told = False
        """The application was told that its client has ended, for the daemon does."""
        self._failed = False
        """The application has failed: known before it drops the socket."""

    # --- in the thread

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Call the application with the socket."""
        call = self._call
        try:
            # Not before: those that wait for a thread need no descriptors yet.
            ours, theirs = socket.socketpair()
        except OSError as error:
            self._shortage = error
            call.finished = True
            self._threads.post(call)
            return []
        ours.setblocking(False)
        self._ours = ours
        if self._withdrawn:
            ours.close()  # The other side may have looked for it before it was there.
        environ[KEY] = ClientSocket(fileno=theirs.detach())
        environ[KEY].settimeout(None)  # whatever the application has for others (socket.setdefaulttimeout)
        self._threads.post(call)
        try:
            answer = self._application(environ, start_response)
        except BaseException as error:
            # It has answered by itself, or meets the end that it was told of: no failure to log.
            if isinstance(error, StopIteration) or (
                isinstance(error, OSError) and (self._told or call.client_disconnected())
            ):
                call.over = True
            self._failed = not call.over
            environ.pop(KEY, None)  # The traceback keeps the environ, and may be kept.
            raise
        if call.status:
            self._failed = call.status >= 500  # Of an exception frameworks make a response.
            environ.pop(KEY, None)  # It has answered. Tracebacks that it has caught may be kept, too.
        elif isinstance(answer, list | tuple):
            call.over = True  # As by StopIteration, in a word of its own.
        return answer

    # --- in the trio thread

    def describe(self, request: Request) -> None:
        """Show the client's offer in the environ as HTTP/1.1 has it (RFC 6455 4.1)."""
        environ = self._environ
        environ["HTTP_CONNECTION"] = "upgrade"
        environ["HTTP_UPGRADE"] = "websocket"
        if request.version == "2":
            # RFC 8441 5: the client's handshake has no key of its own.
            self._key = b64encode(secrets.token_bytes(16))
            environ["HTTP_SEC_WEBSOCKET_KEY"] = self._key.decode()
            environ["SERVER_PROTOCOL"] = "HTTP/1.1"

    async def taken(self) -> bool:
        """Run the call until it has said something on the socket, or answers in another way.

        Raises OSError if there is no room for the socket.
        """
        call = self._call
        await call.submitted()
        if self._shortage is not None:
            raise self._shortage
        ours = self._ours
        if ours is None:
            return False
        self._pump.watch(ours.fileno(), call.deliver, edge=True)
        try:
            while True:
                # In this order: what it says on the socket it says before it ends.
                answers = call.finished or call.failed or bool(call.blocks)
                with suppress(BlockingIOError):
                    if ours.recv(1, socket.MSG_PEEK):
                        return True
                if answers:
                    return False
                await call.posted()
        finally:
            self._pump.unwatch(ours.fileno())

    async def speak(self, upgrade: Upgrade, idle: float) -> None:
        """Switch protocols as the application says, and copy until both sides have ended.

        Raises RemoteProtocolError or LocalProtocolError if what it has said is not a 101, ClientGone.
        """
        assert self._ours is not None
        stream = PumpStream(self._pump, self._ours)
        try:
            connection = UpstreamConnection(stream, Http1Client(), epoch=0, retires_at=inf)
            head = await _read_head(connection)
            switch = Switch(upgrade, pump=self._pump, idle=idle, key=self._key)
            duplex, first = await switch.accept(head, connection)
            # However long it lasts: it waits for its client.
            self._call.waits_for_client = True
            try:
                await self._copy(duplex, Tunnel(duplex, stream, pump=self._pump, idle=idle), first)
            finally:
                duplex.on_disconnect = duplex.on_drain = None  # what they call keeps the duplex
        finally:
            self._call.over = True  # before the application meets the end of the socket
            stream.close()

    async def _copy(self, duplex: Duplex, tunnel: Tunnel, first: bytes) -> None:
        def stop() -> None:
            self._told = True
            tunnel.end_input()

        tunnel.farewell = self._farewell
        duplex.on_drain = stop
        if duplex.draining:
            stop()
        duplex.on_disconnect = duplex.begin_grace
        if duplex.disconnected:
            duplex.begin_grace()
        with trio.CancelScope() as scope:
            self._call.when_left(lambda: self._end_soon(tunnel, scope))
            # Not by `suppress`: from Python 3.12 on that leaves groups of exceptions, as of a cancellation,
            # in a cycle.
            try:
                await tunnel.run(first)
            except trio.BrokenResourceError:
                pass  # The application has closed it with something unread: an end like any other.

    def _end_soon(self, tunnel: Tunnel, scope: trio.CancelScope) -> None:
        self._environ.pop(KEY, None)  # closed, unless the application has kept it
        if not self._told and self._farewell():
            assert self._ours is not None
            tunnel.end_input()
            with suppress(OSError):
                self._ours.shutdown(socket.SHUT_RD)  # what it has said is all, whoever has kept the other end
        scope.deadline = trio.current_time() + CLOSE_TIMEOUT

    def _farewell(self) -> bytes:
        """The Close frame for the client, if the application has not ended by itself."""
        if self._told:
            return _RESTART
        call = self._call
        return _FAILED if (self._failed or call.failed) and not call.over else b""

    def withdraw(self) -> None:
        """The socket is of no use, or not any more."""
        self._withdrawn = True
        if self._ours is not None:
            self._ours.close()
        self._call.application = self._application  # They do not keep each other.


async def _read_head(connection: UpstreamConnection) -> ResponseHead:
    codec = connection.codec
    codec.send(_OFFER)
    try:
        while (event := codec.next_event()) is NEED_DATA:
            codec.receive_data(await connection.stream.receive_some())
    except trio.BrokenResourceError as broken:
        raise RemoteProtocolError("the application has closed its socket within a head") from broken
    if not isinstance(event, ResponseHead) or event.status != 101:
        raise RemoteProtocolError(f"what the application has written to {KEY} is not a 101: {event}")
    return event
