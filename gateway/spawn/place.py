"""Whose the place is where an application listens: of two workers that want it at a reload, one has it.

A program at an address of its own is left to the worker that has taken over, at a moment without requests
(`application`). That one has waited for it, and its requests with it; those that still come here go to its
program then. If there is a third by then, those in the middle start no program: they pass on what waits with
them.
"""

from collections.abc import Awaitable, Callable
from enum import Enum, auto

import trio

from gateway.logger import get_logger
from gateway.shutdown.notice import ShutdownNotice
from gateway.spawn.endpoint import LAST_PROBE, Endpoint, OwnSocket
from gateway.spawn.turn import POLL, Turn

log = get_logger()


class _Holder(Enum):
    OURS = auto()
    """No other worker has the address, or wants it."""
    AWAITED = auto()
    """Another one has it: we have no process."""
    LEAVING = auto()
    """Another one waits for it: our processes end."""
    THEIRS = auto()
    """Another one has taken it over, and its program accepts: our requests go there."""


class Place:
    """Of the application called *name*, at *endpoint*: ours for good, unless that has a turn.

    *notice* says that another worker takes over. *changed* is called whenever somebody else has the place.
    """

    def __init__(
        self, name: str, endpoint: Endpoint, notice: ShutdownNotice, changed: Callable[[], None]
    ) -> None:
        self._name = name
        self._endpoint = endpoint
        self._turn = endpoint.turn if isinstance(endpoint, OwnSocket) else None
        self._notice = notice
        self._changed = changed
        self._holder = _Holder.OURS

    @property
    def ours(self) -> bool:
        """Whether processes of ours may be there."""
        return self._holder is _Holder.OURS

    @property
    def theirs(self) -> bool:
        """Whether a process of another worker is there, and accepts."""
        return self._holder is _Holder.THEIRS

    def take(self) -> bool:
        """Whether it is ours from the beginning; otherwise `wait` for it. Raises StartError."""
        if self._turn is None or self._turn.take():
            return True
        self._holder = _Holder.AWAITED
        return False

    async def wait(self) -> None:
        """Wait until it is ours, however long: where another program has the address, ours would end."""
        log.info("application waits for its address", backend=self._name, address=str(self._endpoint.address))
        turn = self._turn
        assert turn is not None
        while not self._takes(turn):
            if self._holder is _Holder.AWAITED and turn.passed_on and self._answers():
                self._go_to(_Holder.THEIRS)
            if self.theirs and self._notice.retired:
                await trio.sleep_forever()
            await trio.sleep(POLL)  # noqa: TID251 - nothing tells of a lock
        self._go_to(_Holder.OURS)

    def _takes(self, turn: Turn) -> bool:
        """Whether it is ours now; once another worker has taken over, it is if nobody wants it."""
        retired = self._notice.retired
        if not turn.take(waits=not retired):
            return False
        if retired and turn.wanted:
            turn.release()
            return False
        return True

    async def give_way(self, until_empty: Callable[[], Awaitable[None]]) -> None:
        """Leave it to the worker that has taken over, if it wants it; *until_empty* waits for processes."""
        turn = self._turn
        if turn is None:
            return
        await self._notice.until_retired()
        while not turn.wanted:  # noqa: ASYNC110
            await trio.sleep(POLL)  # noqa: TID251 - nothing tells of a lock
        self._go_to(_Holder.LEAVING)
        await until_empty()
        turn.release()
        while not self._answers():  # noqa: ASYNC110
            await trio.sleep(LAST_PROBE)  # noqa: TID251 - nothing tells when a program listens
        self._go_to(_Holder.THEIRS)

    def _answers(self) -> bool:
        """Whether a program accepts at the address of its own, whoever has started it."""
        return isinstance(self._endpoint, OwnSocket) and self._endpoint.accepts()

    def _go_to(self, holder: _Holder) -> None:
        self._holder = holder
        self._changed()
