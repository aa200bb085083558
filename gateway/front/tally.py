"""How many requests were answered with which status, and how long that took, for those who ask."""

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

from gateway.request import Request

BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds up to which a request belongs to a bucket of the histogram: those of Prometheus' own libraries."""


@dataclass(slots=True)
class Answers:
    """Those of one backend."""

    statuses: dict[int, int] = field(default_factory=dict)
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    """How many took up to so many seconds, and more than the bucket before; the last: longer than all."""
    seconds: float = 0.0
    """What those in the buckets took together."""


class Tally:
    """By the name of the backend, which is empty for what the gateway answers itself."""

    def __init__(self) -> None:
        self.backends: dict[str, Answers] = {}

    def add(self, request: Request, status: int, seconds: float) -> None:
        """Count *request*, which was answered with *status* within *seconds*."""
        answers = self.backends.get(request.backend)
        if answers is None:
            answers = self.backends[request.backend] = Answers()
        answers.statuses[status] = answers.statuses.get(status, 0) + 1
        if request.upgrade is None or not request.upgrade.accepted:  # what a tunnel takes says nothing
            answers.buckets[bisect_left(BOUNDS, seconds)] += 1
            answers.seconds += seconds
