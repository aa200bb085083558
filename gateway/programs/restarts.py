"""When a process may be started after others have died: decisions without waiting, told the time.

The pause doubles while they keep dying soon after their start. All times are seconds of one clock.
"""

from collections import deque
from dataclasses import dataclass
from math import inf
from typing import Final

FIRST_PAUSE: Final = 0.1
"""Seconds before a process is started again."""
LONGEST_PAUSE: Final = 30.0
"""Seconds that the pause grows to, by doubling, while processes end soon after their start."""
STABLE_AFTER: Final = 10.0
"""Seconds that a process must live for the pause to begin from FIRST_PAUSE again."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No process is started any more after *deaths* of them *within* seconds."""

    deaths: int
    within: float


class Restarts:
    """When a process may be started after others have died."""

    def __init__(self, give_up: GiveUp | None = None) -> None:
        self.not_before = -inf
        """The next start, infinity once given up."""
        self._give_up = give_up
        self._deaths: deque[float] = deque(maxlen=give_up.deaths if give_up is not None else 0)
        self._next_pause = FIRST_PAUSE
        self._paused_at = -inf

    @property
    def given_up(self) -> bool:
        return self.not_before == inf

    def died(self, started_at: float, now: float) -> float:
        """A process that was *started_at* has ended unasked; the pause until the next start."""
        give_up = self._give_up
        if give_up is not None:
            self._deaths.append(now)
            if len(self._deaths) == give_up.deaths and now - self._deaths[0] <= give_up.within:
                self.not_before = inf
        if self.given_up:
            return inf
        lived = now - started_at
        # Those that were started together and die together are one failure.
        if lived >= STABLE_AFTER or started_at >= self._paused_at:
            pause = FIRST_PAUSE if lived >= STABLE_AFTER else self._next_pause
            self._next_pause = min(2 * pause, LONGEST_PAUSE)
            self._paused_at = now
            self.not_before = now + pause
        return max(self.not_before - now, 0.0)
