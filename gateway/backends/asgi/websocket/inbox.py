"""What has arrived on a WebSocket and waits for the application, and how much of it may."""

from collections import deque
from typing import Any, Final

import trio

from gateway.backends.asgi.host import Event, Host

QUEUED_MESSAGES: Final = 16
QUEUED_BYTES: Final = 256 * 1024
"""Messages, and bytes of them, that wait for the application before the client is kept waiting."""


class WebSocketInbox:
    """The messages of one connection, for its application on *host*, and the disconnect behind them."""

    __slots__ = ("_arrived", "_host", "_messages", "_size", "farewell", "room")

    def __init__(self, host: Host) -> None:
        self._host = host
        self._messages: deque[str | bytes] = deque()
        self._size = 0
        self._arrived: Event | None = None
        self.farewell: dict[str, Any] | None = None
        """How the connection has ended for the application."""
        self.room: trio.Event | None = None
        """For the reader, while the inbox is full: set when the application has taken all of it."""

    def put(self, message: str | bytes) -> None:
        """A message has arrived."""
        self._messages.append(message)
        self._size += len(message)
        if len(self._messages) >= QUEUED_MESSAGES or self._size >= QUEUED_BYTES:
            self.room = trio.Event()
        self._notify()

    def take(self) -> str | bytes | None:
        """The next message, if there is one."""
        if not self._messages:
            return None
        message = self._messages.popleft()
        self._size -= len(message)
        if not self._messages:
            self._make_room()
        return message

    def arrival(self) -> Event:
        """Set when there is something to take, or the farewell."""
        if self._arrived is None:
            self._arrived = self._host.event()
        return self._arrived

    def end(self, code: int, reason: str) -> bool:
        """Nothing more will arrive; whether it had not ended before. What has arrived is still there."""
        first = self.farewell is None
        if first:
            self.farewell = {"type": "websocket.disconnect", "code": code, "reason": reason}
        self._make_room()
        self._notify()
        return first

    def clear(self) -> None:
        """The application wants no more of it."""
        self._messages.clear()
        self._size = 0

    def _make_room(self) -> None:
        if self.room is not None:
            self.room.set()
            self.room = None

    def _notify(self) -> None:
        if self._arrived is not None:
            self._arrived.set()
            self._arrived = None
