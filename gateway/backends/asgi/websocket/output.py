"""What goes to the client of a WebSocket: at once as far as it takes it, and the rest by a task of its own.

The task is there while the client is slower than the application. It is none of the application's: a send
that its application cancels must not end in the middle of a frame.
"""

from collections.abc import Callable

import trio

from gateway.backends.asgi.host import Event, Host
from gateway.errors import ClientGone
from gateway.request import Duplex


class WebSocketOutput:
    """The bytes of one connection, in the order in which they are written. Its task is one of *nursery*;
    *host* is that of the application, which waits for it.
    """

    __slots__ = (
        "_backlog",
        "_drained",
        "_duplex",
        "_flushed",
        "_host",
        "_nursery",
        "_on_lost",
        "_scope",
        "blocked",
    )

    def __init__(self, host: Host, nursery: trio.Nursery) -> None:
        self._host = host
        self._nursery = nursery
        self._duplex: Duplex
        self._on_lost: Callable[[], None] | None = None
        self._backlog = bytearray()
        self._drained: Event | None = None
        self._flushed: trio.Event | None = None
        self._scope = trio.CancelScope()
        self.blocked = False
        """The client has not taken all: what is written now waits behind that."""

    def open(self, duplex: Duplex, on_lost: Callable[[], None]) -> None:
        """Write to *duplex* from now on; *on_lost* is called when it turns out that the client has gone."""
        self._duplex = duplex
        self._on_lost = on_lost

    @property
    def backlog(self) -> int:
        """Bytes that wait."""
        return len(self._backlog)

    def write(self, data: bytes) -> None:
        """Send *data* now as far as the client takes it, and the rest by the task. Raises nothing."""
        if self.blocked:
            self._backlog += data
            return
        try:
            taken = self._duplex.try_send(data)
        except ClientGone:
            self._lose()
            return
        if taken < len(data):
            self._backlog += memoryview(data)[taken:]
            self.blocked = True
            self._nursery.start_soon(self._write_backlog)

    def _lose(self) -> None:
        if self._on_lost is not None:
            self._on_lost()

    async def _write_backlog(self) -> None:
        with trio.CancelScope() as self._scope:
            try:
                while self._backlog:
                    data, self._backlog = bytes(self._backlog), bytearray()
                    await self._duplex.send(data)
            except ClientGone:
                self._lose()
        self.blocked = False
        self.release()

    async def wait_drained(self) -> None:
        """For the application: wait until what was written so far is on its way, or `release`; whatever other
        tasks write then.
        """
        if self._drained is None:
            self._drained = self._host.event()
        await self._drained.wait()

    async def wait_flushed(self) -> None:
        """The same for the reader."""
        if self._flushed is None:
            self._flushed = trio.Event()
        await self._flushed.wait()

    def release(self) -> None:
        """Let those go on that wait."""
        if self._drained is not None:
            self._drained.set()
            self._drained = None
        if self._flushed is not None:
            self._flushed.set()
            self._flushed = None

    def drop(self) -> None:
        """Nobody will take what waits."""
        self._backlog.clear()

    async def finish(self, deadline: float) -> None:
        """Wait until all has left, which is given up at *deadline*. Who is lost now was on the way out."""
        self._on_lost = None  # it leads back here
        self._scope.deadline = deadline
        while self.blocked:
            await self.wait_flushed()
