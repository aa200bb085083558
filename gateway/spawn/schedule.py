"""How many processes there should be, and which is to go: decisions without waiting, told the time.

`Demand` turns requests into a number of processes, `next_step` compares what is wanted with what is there.
When one may be started after some have died says `gateway.programs.restarts`. All times are seconds of one
clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

# ---- how many


@dataclass(frozen=True, slots=True)
class Processes:
    """From *least* to *most*, *spare* more than are busy; those idle for *idle_time* seconds end."""

    least: int
    most: int
    spare: int
    idle_time: float


class Demand:
    """How many processes the requests need: one for each that runs, and the spare ones while there are any.

    A number that was needed less than ``idle_time`` ago is still wanted.
    """

    def __init__(self, processes: Processes) -> None:
        self._bounds = processes
        self._needed_at = [-inf] * (processes.most + 1)
        """When that many processes were needed for the last time."""

    def note(self, running: int, now: float) -> int:
        """So many requests run; how many processes they need."""
        bounds = self._bounds
        need = bounds.least
        if running:
            need = min(max(running + bounds.spare, need), bounds.most)
        self._needed_at[need] = now
        return need

    def wanted(self, running: int, now: float) -> int:
        """How many processes there should be now."""
        need = self.note(running, now)
        recent = now - self._bounds.idle_time
        return max(
            (number for number in range(need + 1, self._bounds.most + 1) if self._needed_at[number] > recent),
            default=need,
        )

    def falls_at(self, wanted: int) -> float:
        """When *wanted* is too many, if nothing else comes; infinity if it stays."""
        return self._needed_at[wanted] + self._bounds.idle_time if wanted > self._bounds.least else inf


# ---- which


@dataclass(eq=False, slots=True)
class Member:
    """What is known of one process."""

    started_at: float
    ready: bool = False
    spent: str = ""
    """Why it is to be replaced, or nothing."""
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next: start so many processes, and stop one, with the reason."""

    start: int = 0
    stop: Member | None = None
    why: str = ""


NOTHING: Final = Step()


def next_step(members: Sequence[Member], wanted: int, *, least: int, overlap: bool) -> Step:
    """What brings *members* nearer to the *wanted* number.

    Beyond *least*, no more are starting at the same time than are ready: a short peak is over before all
    are there. One that is spent is replaced first and stopped then, one after the other; without *overlap*
    (the program opens its own socket) it is stopped first.
    """
    staying = [member for member in members if not member.stopping]
    spent = [member for member in staying if member.spent]
    stopping = len(staying) < len(members)
    if not overlap:
        if spent and not stopping:
            return Step(stop=spent[0], why=spent[0].spent)
        if stopping:
            return NOTHING
    goal = wanted + (1 if overlap and spent and wanted else 0)
    if len(staying) < goal:
        starting = sum(not member.ready for member in staying)
        at_once = max(least - len(staying), max(1, len(staying) - starting) - starting)
        if at_once > 0:
            return Step(start=min(goal - len(staying), at_once))
        return NOTHING
    if stopping:
        return NOTHING
    if spent and sum(member.ready for member in staying) > wanted:
        return Step(stop=spent[0], why=spent[0].spent)
    if len(staying) > goal:
        # Of those that are not ready none has a request, and the oldest has leaked the most.
        return Step(stop=min(staying, key=lambda m: (m.ready, not m.spent, m.started_at)), why="idle")
    return NOTHING


# ---- how long


@dataclass(frozen=True, slots=True)
class Recycling:
    """When a process is replaced; 0 means never.

    Of *max_requests* and *max_age* (seconds) each process has its own, up to the jitter more, so that they
    are not replaced together. *max_memory* is in bytes.
    """

    max_requests: int
    max_requests_jitter: int
    max_age: float
    max_age_jitter: float
    max_memory: int


@dataclass(frozen=True, slots=True)
class Life:
    """What one process may have before it is spent; infinity for no bound."""

    requests: float = inf
    ends_at: float = inf
    memory: float = inf

    @classmethod
    def of(cls, recycling: Recycling, now: float, chance: float) -> "Life":
        """For a process that starts now; *chance* is from 0 to 1."""
        requests = recycling.max_requests + round(chance * recycling.max_requests_jitter)
        age = recycling.max_age + chance * recycling.max_age_jitter
        return cls(
            requests if recycling.max_requests else inf,
            now + age if recycling.max_age else inf,
            recycling.max_memory or inf,
        )

    def over(self, *, now: float, requests: float, memory: int) -> str:
        """Why a process of that age, with about so many requests, is spent, or nothing."""
        if now >= self.ends_at:
            return "max_age"
        if requests >= self.requests:
            return "max_requests"
        if memory > self.memory:
            return "max_memory"
        return ""
