"""Requests that wait for a connection, because every server has as many as it may have.

First come, first served: a connection that becomes free is handed to the first request that may have it, so
that none which came later can take it. What waits for a server that is left out does so no longer: it chooses
again, as if it had come now.
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

    async def wait(self, wanted: Server | None, until: float) -> Server | None:
        """A server that was entered for the caller: *wanted*, or whichever has room first.

        None if none has had room by *until*, or is to be waited for (`send_away`).
        """
        waiting = Waiting(wanted)
        self.waiting.append(waiting)
        try:
            with trio.move_on_at(until):
                await waiting.woken.wait()
        except BaseException:
            if waiting.server is not None:  # granted in the moment of the cancellation
                waiting.server.leave()
                self.grant(waiting.server)
            raise
        finally:
            if not waiting.woken.is_set():
                self.waiting.remove(waiting)
        return waiting.server

    def grant(self, server: Server) -> None:
        """*server* may have room, for several if it is back: hand it on."""
        while server.has_room and (waiting := self._first_for(server)) is not None:
            server.enter(trio.current_time())
            waiting.server = server
            waiting.woken.set()
            self.waiting.remove(waiting)

    def send_away(self, server: Server, *, others: bool) -> None:
        """*server* is left out: nobody waits for it any more, nor for any if there are no *others*."""
        stay: deque[Waiting] = deque()
        for waiting in self.waiting:
            if waiting.wanted is server or not others:
                waiting.woken.set()
            else:
                stay.append(waiting)
        self.waiting = stay

    def _first_for(self, server: Server) -> "Waiting | None":
        for waiting in self.waiting:
            if waiting.wanted is server or (waiting.wanted is None and server.health.up):
                return waiting
        return None


class Waiting:
    """A request in the queue."""

    __slots__ = ("server", "wanted", "woken")

    def __init__(self, wanted: Server | None) -> None:
        self.wanted = wanted
        self.server: Server | None = None
        self.woken = trio.Event()
