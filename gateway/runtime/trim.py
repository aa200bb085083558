"""Gives back to the system what a burst has left, once it is over (malloc_trim(3)).

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
    """Do so now and then, until cancelled."""
    least = _resident()
    worked = time.process_time()
    while True:
        await trio.sleep(INTERVAL)  # noqa: TID251 - it is a time
        worked_before, worked = worked, time.process_time()
        resident = _resident()
        if resident - least > WORTH and worked - worked_before < INTERVAL * IDLE:
            _trim()
            least = _resident()
        else:
            least = min(least, resident)


def _resident() -> int:
    """Bytes of resident memory; 0 if the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def _trim() -> None:
    try:
        import ctypes

        ctypes.CDLL(None).malloc_trim(0)
    except (ImportError, OSError, AttributeError):  # other C libraries have none
        pass
