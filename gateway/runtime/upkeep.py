"""What a process that serves does beside its requests: it looks for a blocked loop, and after its memory."""

import trio

from gateway.runtime.collector import settle_memory
from gateway.runtime.growth import watch_growth
from gateway.runtime.memory import give_back
from gateway.runtime.watchdog import Watchdog


async def begin_upkeep(nursery: trio.Nursery, *, blocked_after: float) -> None:
    """Have it done in *nursery*, once the applications are loaded.

    A loop that is blocked for *blocked_after* seconds is told about; 0: never.
    """
    settle_memory()
    if blocked_after:
        await nursery.start(Watchdog(blocked_after).run)
    nursery.start_soon(give_back)
    nursery.start_soon(watch_growth)
