"""Bytes both ways between a client and a server, until both sides have ended: behind a 101 (`switch`) and
behind CONNECT (`gateway.connect`).

::

    client ◄─► Duplex ◄─► Tunnel ◄─► PumpStream ◄─► server

Promises: each direction waits for its reader, and ends by itself: one side's end is passed on, and the other
may go on sending. Nothing is copied for `idle` seconds, and the tunnel ends, whichever sides have ended by
then. What breaks on one side is raised, silence too, so that the other can see that it was no orderly end.
"""

from collections.abc import Callable
from math import inf

import trio

from gateway.errors import ClientGone
from gateway.logger import get_logger
from gateway.net.pump import Pump, overslept
from gateway.net.stream import PumpStream
from gateway.request import Duplex

log = get_logger()


class Tunnel:
    """A client's end and a server's."""

    __slots__ = ("_active", "_duplex", "_failure", "_idle", "_input", "_pump", "_stream", "farewell")

    def __init__(self, duplex: Duplex, stream: PumpStream, *, pump: Pump, idle: float) -> None:
        self._duplex = duplex
        self._stream = stream
        self._pump = pump
        self._idle = idle
        self._active = pump.now
        self._failure: Exception | None = None
        self._input = trio.CancelScope()
        self.farewell: Callable[[], bytes] | None = None
        """What the client gets behind all that the server has said: asked for when it has ended."""

    def end_input(self) -> None:
        """Let the server see that the client has ended."""
        self._input.cancel()

    async def run(self, first: bytes) -> None:
        """Copy, beginning with the server's *first* bytes.

        Raises trio.BrokenResourceError if the server broke the connection, ClientGone, also for silence.
        """
        self._stream.write_deadline = inf
        self._stream.watch()  # its deadlines are this one's clock
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._copy_to_server, nursery.cancel_scope)
                await self._copy_to_client(first, nursery.cancel_scope)
        finally:
            self._stream.on_hangup_deadline = None
            # Its traceback leads here, also if this was cancelled meanwhile.
            failure, self._failure = self._failure, None
        if failure is not None:
            # ... and, once it is raised, to this frame, and to all that are above.
            try:
                raise failure
            finally:
                del failure

    async def _copy_to_client(self, data: bytes, scope: trio.CancelScope) -> None:
        duplex = self._duplex
        try:
            while True:
                if data:
                    await duplex.send(data)
                    self._active = self._pump.now
                data = await self._receive()
                if not data:
                    break
            if self.farewell is not None and (farewell := self.farewell()):
                await duplex.send(farewell)
            await duplex.end()
            self._await_client(scope)
        except (ClientGone, trio.BrokenResourceError, trio.TooSlowError) as failure:
            self._end(failure, scope)

    async def _copy_to_server(self, scope: trio.CancelScope) -> None:
        duplex, stream = self._duplex, self._stream
        try:
            with self._input:
                while data := await duplex.receive():
                    self._active = self._pump.now
                    stream.write_deadline = self._pump.now + self._idle
                    await stream.send_all(data)
            stream.write_deadline = self._pump.now + self._idle
            await stream.send_eof()
        except (ClientGone, trio.BrokenResourceError, trio.TooSlowError) as failure:
            self._end(failure, scope)

    async def _receive(self) -> bytes:
        """Something from the server, ``b""`` at its end. Raises TooSlowError if nothing passed at all."""
        stream = self._stream
        while True:
            stream.read_deadline = self._active + self._idle
            try:
                data = await stream.receive_some()
            except trio.TooSlowError:
                if self._is_silent():
                    raise
                continue
            self._active = self._pump.now
            return data

    def _await_client(self, scope: trio.CancelScope) -> None:
        """The server has ended, and nobody waits for it any more: the sweeper looks after the other side."""
        stream = self._stream
        if self._is_silent():
            self._end(trio.TooSlowError("nothing passed in time"), scope)
        else:
            stream.on_hangup_deadline = lambda: self._await_client(scope)
            stream.hangup_deadline = self._active + self._idle

    def _is_silent(self) -> bool:
        """Whether nothing has passed for too long."""
        deadline = self._active + self._idle
        if overslept(deadline):  # what has come while the gateway was stopped may still have to be copied
            self._active = self._pump.now
            return False
        return self._pump.now >= deadline

    def _end(self, failure: Exception, scope: trio.CancelScope) -> None:
        """Neither direction goes on."""
        if isinstance(failure, trio.TooSlowError):
            log.info("tunnel ended", reason="nothing passed in time", seconds=self._idle)
            failure = ClientGone("nothing passed in time")
        self._failure = self._failure or failure
        scope.cancel()
