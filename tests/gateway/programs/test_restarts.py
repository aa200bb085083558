"""When, told the time, so that hours pass at once."""

from math import inf

import pytest

from gateway.programs.restarts import FIRST_PAUSE, LONGEST_PAUSE, STABLE_AFTER, GiveUp, Restarts


def test_pause_grows_to_its_bound_and_begins_again_after_a_while() -> None:
    restarts = Restarts()
    now, pauses = 0.0, []
    for _ in range(11):
        pauses.append(restarts.died(now, now))
        assert restarts.not_before == now + pauses[-1]
        now = restarts.not_before
    assert pauses[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert pauses[-2:] == pytest.approx([LONGEST_PAUSE, LONGEST_PAUSE])
    assert restarts.died(now, now + STABLE_AFTER) == pytest.approx(FIRST_PAUSE)
    now = restarts.not_before
    assert restarts.died(now, now) == pytest.approx(2 * FIRST_PAUSE)


def test_processes_that_die_together_are_one_failure() -> None:
    restarts = Restarts()
    assert [restarts.died(0.0, 1.0) for _ in range(8)] == [pytest.approx(FIRST_PAUSE)] * 8
    assert restarts.died(1.1, 2.0) == pytest.approx(2 * FIRST_PAUSE)


def test_gives_up_after_many_deaths_within_a_time() -> None:
    restarts = Restarts(GiveUp(3, within=60))
    for now in (0.0, 50.0, 100.0):  # three, but never within a minute
        assert restarts.died(now, now) < inf
    assert restarts.died(110.0, 110.0) == inf
    assert restarts.given_up
    assert restarts.not_before == inf
    assert restarts.died(500.0, 500.0) == inf


def test_never_gives_up_unless_it_is_said() -> None:
    restarts = Restarts()
    for _ in range(1000):
        restarts.died(0.0, 0.0)
    assert not restarts.given_up
