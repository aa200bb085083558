"""The collector of cycles, in a process that has loaded what it will keep."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

DEFAULT_GC_THRESHOLD: Final = gc.get_threshold()

GC_THRESHOLD: Final = 20_000
"""New containers between two looks for cycles: a few MiB at most, and rare enough not to be felt."""


@contextmanager
def loading() -> Iterator[None]:
    """Nothing is collected meanwhile: imports leave no garbage, and looks for it are a tenth of a start."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def keep_loaded() -> None:
    """Tell the collector of cycles that what was loaded so far stays.

    Called before applications are loaded: walking the gateway's own modules, which leave hardly anything to
    collect, takes 30 ms of its start.
    """
    gc.freeze()


def settle_memory() -> None:
    """Tell the collector of cycles that the applications stay, too, and to look less often.

    By default CPython looks after every 700 new containers, which is every few requests, and walks all
    modules of the applications now and then: a tenth of an asyncio request. An application that has set
    its own threshold keeps it.
    """
    gc.collect()
    gc.freeze()
    if gc.get_threshold() == DEFAULT_GC_THRESHOLD:
        gc.set_threshold(GC_THRESHOLD, *DEFAULT_GC_THRESHOLD[1:])
