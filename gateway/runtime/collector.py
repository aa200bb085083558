"""The collector of cycles, in a process that has loaded what it will keep."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

DEFAULT_GC_THRESHOLD: Final = gc.get_threshold()

GC_THRESHOLD: Final = (20_000, *DEFAULT_GC_THRESHOLD[1:])
"""New containers between two looks for cycles: a few MiB at most, and rare enough not to be felt. What the
containers hold is not counted: see `growth`."""


@contextmanager
def loading() -> Iterator[None]:
    """What is loaded meanwhile stays: the collector of cycles does not look at it, now or later.

    The gateway's own modules leave hardly anything to collect, and a look at them takes 30 ms of its start.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # first: what was made while it was off would be looked at as soon as it is on
        gc.enable()


def settle_memory() -> None:
    """Tell the collector of cycles that the applications stay, too, and to look less often.

    By default CPython looks after every 700 new containers (2,000 from Python 3.13 on), which is every few
    requests, and walks all modules of the applications now and then: a tenth of an asyncio request, from
    Python 3.13 on a thirtieth. An application that has set its own threshold keeps it.
    """
    gc.collect()
    gc.freeze()
    if gc.get_threshold() == DEFAULT_GC_THRESHOLD:
        gc.set_threshold(*GC_THRESHOLD)
