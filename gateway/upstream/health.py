"""What is known of one server's health, from what became of its requests. A clock is handed in.

::

    UP ── failures in a row ──► EJECTED ── eject_time ──► TRIAL ── success ──► UP, slowly
                                   ▲                        │
                                   └─ failure: twice as long┘

    DOWN: a check of its own has said so (`mark_down`), until it says otherwise (`mark_up`).

A server on trial takes one request at a time. Who may be ejected at all is the group's decision
(`gateway.upstream.group`): never too many at once.
"""

from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Final

from gateway.errors import BackendError, Cause
from gateway.runtime.exhaustion import EXHAUSTED

LONGEST_EJECTION: Final = 300.0
"""Seconds that an ejection grows to, by doubling (Envoy: max_ejection_time)."""

LEAST_SHARE: Final = 0.05
"""Part of its weight that a server which starts slowly has from the beginning, so that it gets requests."""


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """When a server is left out. Times in seconds."""

    failures: int
    """So many in a row eject it; 0: nothing does."""
    eject_time: float
    """How long it is left out the first time."""
    max_ejected: float
    """The part of all servers that may be left out at a time, 0 to 1."""
    slow: float
    """A first byte that comes later counts as a failure; infinity: none does."""
    slow_start: float
    """How long it takes from its return to its whole share of requests."""


class State(Enum):
    """Whether requests go to a server."""

    UP = "up"
    EJECTED = "ejected"
    TRIAL = "trial"
    DOWN = "down"


_FAULTS: Final = frozenset(
    {
        Cause.REFUSED,
        Cause.UNREACHABLE,
        Cause.UNKNOWN_HOST,
        Cause.CONNECT_TIMEOUT,
        Cause.TLS_FAILED,
        Cause.TLS_ALERT,
        Cause.BAD_CERTIFICATE,
        Cause.READ_TIMEOUT,
        Cause.WRITE_TIMEOUT,
        Cause.TERMINATED,
        Cause.INCOMPLETE,
        Cause.MALFORMED,
        Cause.HEAD_TOO_LARGE,
        Cause.FAILED,
    }
)


def is_fault(failure: BackendError) -> bool:
    """Whether *failure* says something about the server. OVERLOADED does not: it, or the gateway, is busy."""
    return failure.cause in _FAULTS


def is_ours(failure: BackendError) -> bool:
    """Whether the gateway itself has run out of something: another server would not help."""
    return failure.errno in EXHAUSTED


class Health:
    """Of one server."""

    __slots__ = (
        "_down",
        "_ejected_for",
        "_policy",
        "_trial_until",
        "_until",
        "_up_since",
        "failures",
        "last_failure",
        "up",
        "warm_at",
    )

    def __init__(self, policy: HealthPolicy) -> None:
        self._policy = policy
        self.up = True
        """Neither ejected nor down: the common case, for a quick look."""
        self.failures = 0
        """In a row."""
        self.last_failure = ""
        self.warm_at = -inf
        """Clock time from which it gets its whole share."""
        self._up_since = -inf
        self._until = 0.0
        self._ejected_for = 0.0
        self._trial_until = 0.0
        self._down = ""

    def state(self, now: float) -> State:
        if self.up:
            return State.UP
        if self._down:
            return State.DOWN
        return State.EJECTED if now < self._until else State.TRIAL

    def admits(self, now: float) -> bool:
        """Whether a request may go there."""
        return self.up or (not self._down and now >= self._until and now >= self._trial_until)

    def returns_in(self, now: float) -> float:
        """Seconds until it may be tried again, at most; 0 if that is not known."""
        return 0.0 if self.up or self._down else max(0.0, self._until - now)

    def share(self, now: float) -> float:
        """The part of its weight that it has, more than 0."""
        if now >= self.warm_at:
            return 1.0
        return max(LEAST_SHARE, 1.0 - (self.warm_at - now) / self._policy.slow_start)

    # --- what became of requests

    def begin_trial(self, now: float) -> None:
        """A request goes there. One that takes long does not hold up the next for ever."""
        self._trial_until = now + self._policy.eject_time

    def end_trial(self) -> None:
        """A request is over, whatever became of it."""
        self._trial_until = 0.0

    def succeeded(self, now: float) -> bool:
        """The server answered; whether it has come back by that."""
        self.failures = 0
        if self.up or self._down:
            return False
        self._return(now)
        return True

    def failed(self, now: float, reason: str) -> bool:
        """The server failed; whether it ought to be ejected (again)."""
        self.last_failure = reason
        self.failures += 1
        enough = self._policy.failures
        if not enough or self._down:
            return False
        if self.up:
            return self.failures >= enough
        return now >= self._until  # the trial; before it others fail that were on their way already

    def eject(self, now: float) -> float:
        """Leave it out; for how many seconds."""
        if self.up and now - self._up_since > self._ejected_for:
            self._ejected_for = 0.0
        longest = max(LONGEST_EJECTION, self._policy.eject_time)
        self._ejected_for = min(2 * self._ejected_for or self._policy.eject_time, longest)
        self._until = now + self._ejected_for
        self.up = False
        return self._ejected_for

    # --- what a check of its own says

    def mark_down(self, reason: str) -> None:
        """No request goes there until `mark_up`."""
        self._down = self.last_failure = reason
        self.up = False

    def mark_up(self, now: float) -> None:
        """Requests go there again, few at first; an ejection ends, too."""
        if not self.up:
            self._down = ""
            self.failures = 0
            self._return(now)

    def _return(self, now: float) -> None:
        self.up = True
        self._up_since = now
        # Requests of the same moment ask with the time of their batch, before the return.
        self.warm_at = now + self._policy.slow_start if self._policy.slow_start else -inf
