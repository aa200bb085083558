"""Whose turn it is to run the program at an address that only one can have: at a reload two workers want to.

The right to it is a record lock (fcntl(2)) on a file that the workers share (`gateway.turns`): one process at
a time has it, a child that it forks does not, and it is free again when that process has ended, however it
did. Those that wait for it share a second lock: so the one that has it sees that it is wanted. The file
itself counts how often it was taken: so those that wait see that another one was faster.

Locks of one process do not exclude each other: of an address it has one `Turn` only.
"""

import fcntl
import os
from hashlib import sha256
from typing import Final

from gateway import turns
from gateway.errors import StartError

POLL: Final = 0.05
"""Seconds between two looks at the locks: nothing tells of them."""

_COUNTERS: Final = 4096
"""Addresses whose count is the same, which is seldom, take the other's turns for their own."""

_COUNTER_SIZE: Final = 8
"""Bytes."""


class Turn:
    """At *address*, on the file that is open as *descriptor*."""

    def __init__(self, address: object, descriptor: int) -> None:
        self._address = address
        self._file = descriptor
        number = int.from_bytes(sha256(str(address).encode()).digest()[:7])
        self._has = 2 * number
        """The byte that stands for having it."""
        self._waits = 2 * number + 1
        """And the one for waiting for it."""
        self._counter = number % _COUNTERS * _COUNTER_SIZE
        self._count: int | None = None
        """What it was when we first tried to take it."""

    def take(self, *, waits: bool = True) -> bool:
        """Whether it is ours now, until `release`. If it is not, others see whether somebody *waits* for it.

        Raises StartError if there are no locks.
        """
        if self._count is None:
            self._count = self._taken()
        if self._lock(self._has, fcntl.LOCK_EX):
            self._unlock(self._waits)
            os.pwrite(self._file, (self._taken() + 1).to_bytes(_COUNTER_SIZE), self._counter)
            return True
        if waits:
            # Somebody may just look whether it is held: then the next time.
            self._lock(self._waits, fcntl.LOCK_SH)
        else:
            self._unlock(self._waits)
        return False

    @property
    def passed_on(self) -> bool:
        """Whether somebody has taken it since we first tried to: who had it then has left."""
        return self._count is not None and self._taken() != self._count

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for it, while it is ours."""
        if self._lock(self._waits, fcntl.LOCK_EX):
            self._unlock(self._waits)
            return False
        return True

    def release(self) -> None:
        """Leave it to others, if it is ours, and do not wait for it."""
        self._unlock(self._has)
        self._unlock(self._waits)

    def _taken(self) -> int:
        return int.from_bytes(os.pread(self._file, _COUNTER_SIZE, self._counter))

    def _lock(self, byte: int, kind: int) -> bool:
        try:
            fcntl.lockf(self._file, kind | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError):
            return False
        except OSError as error:
            raise StartError(f"no place for {self._address}: {error}") from error
        return True

    def _unlock(self, byte: int) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)


def turn_at(address: object) -> Turn | None:
    """Among the workers of our supervisor; None if there is none."""
    descriptor = turns.shared()
    return None if descriptor is None else Turn(address, descriptor)
