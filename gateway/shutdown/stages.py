"""How far the end of a worker has come: it serves, retires, drains, hurries.

::

    SERVING ─► RETIRING ─► DRAINING ─► HURRIED
       └───────────────────────┘

A worker *retires* when another process has taken over its sockets: it accepts no more, but a client that
sends one more request on a connection that it has is answered for a while. It *drains* when the daemon stops:
idle connections end at once, what runs has its grace. *Hurried* ends the grace.
"""

from enum import IntEnum
from typing import Final

import trio

HURRIED_TIME: Final = 5.0
"""Seconds that the processes of spawned applications have left after a second signal to the gateway. Our own
need less to give up what they wait for (`gateway.shutdown.notice`)."""


class Stage(IntEnum):
    """Of the end; it only goes forward."""

    SERVING = 0
    RETIRING = 1
    DRAINING = 2
    HURRIED = 3


class Ending:
    """What signals, and the supervisor, say to a worker."""

    def __init__(self) -> None:
        self.stage = Stage.SERVING
        self.patience = 0.0
        """Seconds for which who retires keeps idle connections."""
        self._reached = {stage: trio.Event() for stage in Stage}

    def advance(self, stage: Stage) -> None:
        """Come to *stage*, unless the end is further on."""
        if stage > self.stage:
            self.stage = stage
            for each in Stage:
                if each <= stage:
                    self._reached[each].set()

    def retire(self, patience: float) -> None:
        """Others have taken over; idle connections have *patience* seconds for one more request."""
        self.patience = patience
        self.advance(Stage.RETIRING)

    def signalled(self) -> None:
        """The first signal drains, the second hurries."""
        self.advance(Stage.DRAINING if self.stage < Stage.DRAINING else Stage.HURRIED)

    async def reached(self, stage: Stage) -> None:
        """Wait for *stage*, or a later one."""
        await self._reached[stage].wait()
