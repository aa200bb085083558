"""The notice that the daemon stops, for what would not end by itself in time.

It comes in two steps. At the beginning of the grace that requests have (``timeouts.shutdown``) it is for
whoever wants to know; after ``timeouts.drain`` it is urgent: what still runs is told to end, and has the rest
of the grace for it. Then everything is cancelled, and what backends wait for at their own end is bounded by
`ShutdownNotice.patience`, which a second signal cuts short.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

import trio

Listener: TypeAlias = Callable[[bool], None]
"""Called with False at the beginning, with True when it is urgent; synchronously, in a trio task."""

_HURRIED_PATIENCE: Final = 1.0
"""Seconds for each thing that a backend still has to do after a second signal."""


class ShutdownNotice:
    """One for a worker; whoever listens adds a callback and takes it away at its own end."""

    __slots__ = ("_cut_off", "_listeners", "_retired", "_waits", "begun", "urgent")

    def __init__(self) -> None:
        self._listeners: dict[object, Listener] = {}
        self._waits: dict[str, trio.CancelScope] = {}
        self.begun = False
        """The daemon has begun to stop."""
        self.urgent = False
        """What runs should end now."""
        self._retired = trio.Event()
        """Another worker has taken over."""
        self._cut_off = trio.Event()
        """A second signal has come: nothing is worth waiting for."""

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

    def retire(self) -> None:
        """Another worker has taken over: what only one can have is for that one."""
        self._retired.set()

    @property
    def retired(self) -> bool:
        """Whether it has."""
        return self._retired.is_set()

    async def until_retired(self) -> None:
        """Wait for that."""
        await self._retired.wait()

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

    def cut_off(self) -> None:
        """A second signal: what backends wait for is over in a second."""
        self._cut_off.set()
        for wait in self._waits.values():
            wait.deadline = min(wait.deadline, trio.current_time() + _HURRIED_PATIENCE)

    async def until_cut_off(self) -> None:
        """Wait for the second signal."""
        await self._cut_off.wait()

    def patience(self, backend: str, seconds: float) -> trio.CancelScope:
        """A shielded scope for something that *backend* waits for at its end, *seconds* at most.

        One thing after the other: the scope before is done with.
        """
        if self._cut_off.is_set():
            seconds = min(seconds, _HURRIED_PATIENCE)
        wait = trio.CancelScope(deadline=trio.current_time() + seconds, shield=True)
        self._waits[backend] = wait
        return wait

    def time_left(self, backend: str) -> float | None:
        """Seconds until what *backend* waits for now is left behind; None if it waits for nothing."""
        wait = self._waits.get(backend)
        return None if wait is None else max(0.0, wait.deadline - trio.current_time())

    def _tell(self) -> None:
        for listener in list(self._listeners.values()):
            listener(self.urgent)
