"""Requests that wait while no server can be reached, because it is being restarted."""

from typing import Final

import trio

MAX_HELD: Final = 1000
"""Requests of one backend that wait at a time; each of them holds a client's connection."""

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 0.5
"""Seconds between two looks at the servers. What comes back is told at once to all that wait."""


class Hold:
    """Lets requests wait for at most *time* seconds each; 0: none waits."""

    __slots__ = ("_back", "count", "time")

    def __init__(self, time: float) -> None:
        self.time = time
        self.count = 0
        """How many wait now."""
        self._back = trio.Event()

    @property
    def full(self) -> bool:
        return self.count >= MAX_HELD

    async def wait(self, pause: float, deadline: float) -> None:
        """Wait until a server may be back: for *pause* seconds, or less; not beyond *deadline*."""
        self.count += 1
        try:
            with trio.move_on_at(min(trio.current_time() + pause, deadline)):
                await self._back.wait()
        finally:
            self.count -= 1

    def wake(self) -> None:
        """A server has been reached."""
        self._back.set()
        self._back = trio.Event()
