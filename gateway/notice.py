"""The notice that the daemon stops, for what would not end by itself in time.

It comes in two steps. At the beginning of the grace that requests have (``timeouts.shutdown``) it is for
whoever wants to know; after ``timeouts.drain`` it is urgent: what still runs is told to end, and has the rest
of the grace for it. Then everything is cancelled.
"""

from collections.abc import Callable
from typing import TypeAlias

Listener: TypeAlias = Callable[[bool], None]
"""Called with False at the beginning, with True when it is urgent; synchronously, in a trio task."""


class ShutdownNotice:
    """One for a worker; whoever listens adds a callback and takes it away at its own end."""

    __slots__ = ("_listeners", "begun", "urgent")

    def __init__(self) -> None:
        self._listeners: dict[object, Listener] = {}
        self.begun = False
        """The daemon has begun to stop."""
        self.urgent = False
        """What runs should end now."""

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._listeners)

    def listen(self, who: object, listener: Listener) -> None:
        """Call *listener* at each step from now on; *who* identifies it."""
        self._listeners[who] = listener

    def leave(self, who: object) -> None:
        """Do not call the listener of *who* any more, if there is one."""
        self._listeners.pop(who, None)

    def begin(self) -> None:
        """The grace begins."""
        if not self.begun:
            self.begun = True
            self._tell()

    def hurry(self) -> None:
        """The time to end by itself is over."""
        self.begun = True
        if not self.urgent:
            self.urgent = True
            self._tell()

    def _tell(self) -> None:
        for listener in list(self._listeners.values()):
            listener(self.urgent)
