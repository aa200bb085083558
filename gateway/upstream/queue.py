"""Requests that wait for a connection, because every server has as many as it may have (complaints.md 38).

First come, first served: a connection that becomes free is handed to the first request that may have it, so
that none which came later can take it.
"""

from collections import deque

import trio

from gateway.upstream.server import Server


class Queue:
    """At most *length* requests, each for at most *time* seconds."""

    __slots__ = ("_length", "time", "waiting")

    def __init__(self, length: int, time: float) -> None:
        self._length = length
        self.time = time
        self.waiting: deque[Waiting] = deque()

    @property
    def full(self) -> bool:
        return len(self.waiting) >= self._length

    async def wait(self, wanted: Server | None) -> Server | None:
        """A server that was entered for the caller: *wanted*, or whichever has room first.

        None if none has had room in time.
        """
        waiting = Waiting(wanted)
        self.waiting.append(waiting)
        try:
            with trio.move_on_after(self.time):
                await waiting.granted.wait()
        except BaseException:
            if waiting.server is not None:  # granted in the moment of the cancellation
                waiting.server.leave()
                self.grant(waiting.server)
            raise
        finally:
            if waiting.server is None:
                self.waiting.remove(waiting)
        return waiting.server

    def grant(self, server: Server) -> None:
        """*server* may have room: hand it on."""
        for waiting in self.waiting:
            if not server.has_room:
                return
            if waiting.wanted is server or (waiting.wanted is None and server.health.up):
                server.enter(trio.current_time())
                waiting.server = server
                waiting.granted.set()
                self.waiting.remove(waiting)
                return


class Waiting:
    """A request in the queue."""

    __slots__ = ("granted", "server", "wanted")

    def __init__(self, wanted: Server | None) -> None:
        self.wanted = wanted
        self.server: Server | None = None
        self.granted = trio.Event()
