"""When something is due on a WebSocket: a ping, its pong, or the end of the close handshake."""

from math import inf

import trio

from gateway.backends.asgi.settings import WebSocketSettings
from gateway.net.pump import overslept


class WebSocketClock:
    """The deadline of one connection's reader, and the ping that is on its way."""

    __slots__ = ("_number", "_settings", "deadline", "reading", "waits_for_pong")

    def __init__(self, settings: WebSocketSettings) -> None:
        self._settings = settings
        self._number = 0
        self.deadline = inf
        self.reading = trio.CancelScope()
        """That of the reader while it waits."""
        self.waits_for_pong = False

    def set(self, deadline: float) -> None:
        """It is due at *deadline*, also for a reader that waits already."""
        self.deadline = self.reading.deadline = deadline

    def restart(self) -> None:
        """All of the time from now: the client was heard, or could not be."""
        waited = self._settings.ping_timeout if self.waits_for_pong else self._settings.ping_interval
        self.set(trio.current_time() + waited if waited else inf)

    def ping(self) -> bytes:
        """What the next ping holds, whose pong is due from now on."""
        self._number += 1
        self.waits_for_pong = True
        self.set(trio.current_time() + self._settings.ping_timeout)
        return b"%d" % self._number

    def take_pong(self, payload: bytes) -> None:
        """The pong of the last ping counts, and no other."""
        if payload == b"%d" % self._number:
            self.waits_for_pong = False
            self.restart()

    def forgives(self) -> bool:
        """Whether a pong that is late gets its time once more: the gateway itself did not run."""
        if self.waits_for_pong and overslept(self.deadline):
            self.restart()
            return True
        return False
