"""What the system says when it has no descriptor or memory left: nothing is wrong with who is asked for."""

import errno
import os
import resource
from math import inf
from typing import Final

EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

SILENCE: Final = 60.0
"""Seconds between two messages that say the same: while nothing is left, it is tried ten times a second."""


class Repeated:
    """How often something has happened that is not to be said each time."""

    def __init__(self) -> None:
        self._said_at = -inf
        self._times = 0

    def happened(self, now: float) -> int:
        """How often since it was said last, if it is time to say so again; otherwise 0."""
        self._times += 1
        if now - self._said_at < SILENCE:
            return 0
        times, self._times, self._said_at = self._times, 0, now
        return times


def no_room(code: int) -> str:
    """One of them in words, with the limit that was reached."""
    words = os.strerror(code)
    if code == errno.EMFILE:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        words += f": expected a higher limit than {limit} (ulimit -n, LimitNOFILE of systemd)"
    return words


def shortage_in(error: Exception) -> OSError | None:
    """What of them *error* says, also where the reason is that a module could not be loaded."""
    if isinstance(error, OSError):
        return error if error.errno in EXHAUSTED else None
    if isinstance(error, ImportError):  # of a compiled module: dlopen(3) has only words
        for code in EXHAUSTED:
            if os.strerror(code) in str(error):
                return OSError(code, str(error))
    return None
