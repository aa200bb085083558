"""Resident memory; what a burst has left of it is given back to the system once it is over (malloc_trim(3)).

What was freed between blocks that stay in use the C library keeps, for good: of 2,000 requests at a time
with 40 KB of header fields, or with bodies of 64 KB, two thirds of the resident memory afterwards.
"""

import os
import time
from typing import Final

import trio

INTERVAL: Final = 30.0
"""Seconds between two looks."""

WORTH: Final = 16 * 1024 * 1024
"""Bytes that resident memory must have grown by. Giving back 100 MiB takes up to 50 ms, nothing takes 1."""

IDLE: Final = 0.05
"""The share of a CPU up to which a process does so little that nobody minds."""


async def give_back() -> None:
    """Look now and then whether there is something to give back, until cancelled."""
    own = os.getpid()
    least = resident(own)
    worked = time.process_time()
    while True:
        await trio.sleep(INTERVAL)  # noqa: TID251 - it is a time
        worked_before, worked = worked, time.process_time()
        now = resident(own)
        if now - least > WORTH and worked - worked_before < INTERVAL * IDLE:
            _trim()
            least = resident(own)
        else:
            least = min(least, now)


_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def resident(pid: int) -> int:
    """Bytes of resident memory of a process, without its children; 0 if it has ended."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def _trim() -> None:
    try:
        import ctypes

        ctypes.CDLL(None).malloc_trim(0)
    except (ImportError, OSError, AttributeError):  # other C libraries have none
        pass
