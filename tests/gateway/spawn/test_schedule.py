"""How many, when, which: told the time, so that hours pass at once."""

from dataclasses import dataclass, replace
from math import inf
from typing import Any

import pytest

from gateway.spawn.schedule import NOTHING, Demand, Life, Member, Processes, Recycling, Step, next_step

# ---- how many


def test_fixed_number_does_not_depend_on_requests() -> None:
    demand = Demand(Processes(4, 4, spare=0, idle_time=60))
    assert [demand.wanted(running, 0.0) for running in (0, 1, 4, 100)] == [4, 4, 4, 4]
    assert demand.falls_at(4) == inf


@pytest.mark.parametrize(("running", "wanted"), [(0, 1), (1, 3), (2, 4), (5, 7), (6, 8), (7, 8), (1000, 8)])
def test_each_request_needs_one_and_some_are_spare(running: int, wanted: int) -> None:
    assert Demand(Processes(1, 8, spare=2, idle_time=60)).wanted(running, 0.0) == wanted


def test_nothing_is_spare_when_there_are_no_requests() -> None:
    demand = Demand(Processes(0, 8, spare=1, idle_time=60))
    assert [demand.wanted(0, 0.0), demand.wanted(1, 1.0)] == [0, 2]


def test_what_was_needed_is_kept_for_the_idle_time() -> None:
    demand = Demand(Processes(0, 8, spare=1, idle_time=60))
    assert demand.wanted(5, 0.0) == 6
    assert demand.wanted(2, 10.0) == 6
    assert demand.wanted(0, 20.0) == 6
    assert demand.falls_at(6) == 60.0
    assert demand.wanted(0, 60.0) == 3  # the two of the second look, and a spare one
    assert demand.falls_at(3) == 70.0
    assert demand.wanted(0, 70.0) == 0
    assert demand.falls_at(0) == inf


def test_a_peak_between_two_looks_counts() -> None:
    demand = Demand(Processes(1, 8, spare=0, idle_time=60))
    demand.note(5, 1.0)
    assert demand.wanted(0, 2.0) == 5


# ---- which


def member(started_at: float = 0.0, **options: Any) -> Member:
    return Member(started_at, **{"ready": True, **options})


def step(members: list[Member], wanted: int, *, least: int = 0, overlap: bool = True) -> Step:
    return next_step(members, wanted, least=least, overlap=overlap)


def test_all_that_must_be_there_are_started_at_once() -> None:
    assert step([], 4, least=4) == Step(start=4)
    assert step([member()], 4, least=4) == Step(start=3)


def test_no_more_are_starting_than_are_ready() -> None:
    """One second of many requests does not start all that may be."""
    members: list[Member] = []
    started = []
    while len(members) < 16:
        started.append(step(members, 16).start)
        members += [member(ready=False) for _ in range(started[-1])]
        assert step(members, 16) == NOTHING
        for each in members:
            each.ready = True
    assert started == [1, 1, 2, 4, 8]


def test_the_oldest_goes_first_but_those_that_are_not_ready_before() -> None:
    old, young, starting = member(1.0), member(2.0), member(3.0, ready=False)
    assert step([young, old, starting], 1).stop is starting
    assert step([young, old], 1).stop is old
    assert step([young], 1) == NOTHING
    assert step([young], 0).stop is young


def test_one_is_stopped_after_the_other() -> None:
    stopping = member(stopping=True)
    assert step([stopping, member(), member()], 0) == NOTHING


def test_spent_process_is_replaced_before_it_is_stopped() -> None:
    spent, other = member(spent="max_age"), member(1.0)
    assert step([spent, other], 2, least=2) == Step(start=1)
    replacement = member(2.0, ready=False)
    assert step([spent, other, replacement], 2, least=2) == NOTHING
    replacement.ready = True
    assert step([spent, other, replacement], 2, least=2) == Step(stop=spent, why="max_age")
    spent.stopping = True
    assert step([spent, other, replacement], 2, least=2) == NOTHING


def test_spent_processes_are_replaced_one_by_one() -> None:
    members = [member(number, spent="max_requests") for number in range(3)]
    assert step(members, 3, least=3) == Step(start=1)
    fresh = member(9.0)
    assert step([*members, fresh], 3, least=3) == Step(stop=members[0], why="max_requests")
    members[0].stopping = True
    # The next replacement may start, but nothing more is stopped before the first has gone.
    assert step([*members, fresh], 3, least=3) == Step(start=1)
    assert step([*members, fresh, member(10.0)], 3, least=3) == NOTHING


def test_spent_process_that_nobody_needs_is_just_stopped() -> None:
    spent = member(5.0, spent="max_age")
    assert step([member(), spent], 0).stop is spent
    assert step([spent], 0).stop is spent


def test_program_with_its_own_socket_is_stopped_before_it_is_replaced() -> None:
    spent = member(spent="max_memory")
    assert step([spent], 1, least=1, overlap=False) == Step(stop=spent, why="max_memory")
    spent.stopping = True
    assert step([spent], 1, least=1, overlap=False) == NOTHING
    assert step([], 1, least=1, overlap=False) == Step(start=1)


@dataclass
class _World:
    """Processes that start in a second, for the schedule to run through a day."""

    demand: Demand
    members: list[Member]
    now: float = 0.0

    def turn(self, running: int, bounds: Processes) -> None:
        self.now += 1.0
        for each in self.members:
            each.ready = each.ready or self.now - each.started_at >= 1.0
        self.members = [each for each in self.members if not each.stopping]
        wanted = self.demand.wanted(running, self.now)
        while (found := next_step(self.members, wanted, least=bounds.least, overlap=True)) != NOTHING:
            if found.stop is not None:
                found.stop.stopping = True
            self.members += [Member(self.now) for _ in range(found.start)]


def test_number_stays_within_its_bounds_and_comes_to_rest() -> None:
    bounds = Processes(1, 8, spare=1, idle_time=30)
    world = _World(Demand(bounds), [])
    for second in range(2000):
        world.turn(second * 7919 % 13 if second < 1000 else 0, bounds)
        staying = sum(not each.stopping for each in world.members)
        assert 1 <= staying <= 8
    assert len(world.members) == 1


# ---- how long


def test_life_has_its_own_bounds_by_chance() -> None:
    recycling = Recycling(
        max_requests=100, max_requests_jitter=50, max_age=60, max_age_jitter=10, max_memory=0
    )
    assert Life.of(recycling, 1000.0, 0.0) == Life(100, 1060.0, inf)
    assert Life.of(recycling, 1000.0, 0.5) == Life(125, 1065.0, inf)
    assert Life.of(recycling, 1000.0, 1.0) == Life(150, 1070.0, inf)
    endless = replace(recycling, max_requests=0, max_age=0, max_memory=7)
    assert Life.of(endless, 0.0, 1.0) == Life(memory=7)


@pytest.mark.parametrize(
    ("now", "requests", "memory", "why"),
    [
        (59.9, 99, 1000, ""),
        (60.0, 0, 0, "max_age"),
        (0.0, 100, 0, "max_requests"),
        (0.0, 0, 1001, "max_memory"),
    ],
)
def test_life_is_over_at_the_first_bound(now: float, requests: int, memory: int, why: str) -> None:
    life = Life(requests=100, ends_at=60.0, memory=1000)
    assert life.over(now=now, requests=requests, memory=memory) == why
    assert Life().over(now=1e9, requests=10**9, memory=2**60) == ""
