"""A process that grows, and looks for cycles more often then.

Apart from `collector`, which every command loads first: this needs trio.
"""

import gc
import os
from typing import Final

import trio

from gateway.runtime.collector import DEFAULT_GC_THRESHOLD, GC_THRESHOLD
from gateway.runtime.memory import resident

ROOM: Final = 64 * 1024 * 1024
"""Bytes that resident memory may grow by while it is looked for cycles that rarely."""

INTERVAL: Final = 1.0
"""Seconds between two looks at resident memory, of some microseconds each."""


async def watch_growth() -> None:
    """Have a process that has grown look for cycles as often as CPython does by default, until cancelled.

    A few containers may hold much: an exception that is kept where it was caught holds the request that it
    came through, with its upload. An application that sets a threshold itself keeps it.
    """
    own = os.getpid()
    least = resident(own)
    threshold = GC_THRESHOLD
    while gc.get_threshold() == threshold:
        await trio.sleep(INTERVAL)  # noqa: TID251 - it is a time
        now = resident(own)
        least = min(least, now)
        wanted = DEFAULT_GC_THRESHOLD if now - least > ROOM else GC_THRESHOLD
        if wanted != threshold and gc.get_threshold() == threshold:
            threshold = wanted
            gc.set_threshold(*threshold)
