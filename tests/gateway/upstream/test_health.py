"""What ejects a server, how long, and how it comes back."""

import errno
from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import BackendError, Cause, Phase
from gateway.upstream.health import LEAST_SHARE, LONGEST_EJECTION, Health, State, is_fault
from tests.gateway.upstream.policies import HEALTH


def failing(health: Health, times: int) -> list[bool]:
    return [health.failed(0.0, "broken") for _ in range(times)]


def ejected(**policy: Any) -> Health:
    health = Health(replace(HEALTH, failures=1, **policy))
    assert health.failed(0.0, "broken")
    health.eject(0.0)
    return health


def test_failures_in_a_row_are_enough() -> None:
    health = Health(replace(HEALTH, failures=3))
    assert failing(health, 2) == [False, False]
    assert not health.succeeded(0.0)
    assert failing(health, 3) == [False, False, True]
    assert health.last_failure == "broken"


def test_nothing_ejects_without_a_number() -> None:
    assert failing(Health(replace(HEALTH, failures=0)), 9) == [False] * 9


def test_ejected_server_is_tried_by_one_request_after_its_time() -> None:
    health = ejected(eject_time=10.0)
    assert (health.state(9.0), health.admits(9.0), health.returns_in(9.0)) == (State.EJECTED, False, 1.0)
    assert (health.state(10.0), health.admits(10.0), health.returns_in(10.0)) == (State.TRIAL, True, 0.0)
    health.begin_trial(10.0)
    assert not health.admits(10.0)
    health.end_trial()
    assert health.admits(10.0)


def test_trial_that_takes_long_does_not_hold_up_the_next() -> None:
    health = ejected(eject_time=10.0)
    health.begin_trial(10.0)
    assert (health.admits(19.0), health.admits(20.0)) == (False, True)


def test_success_on_trial_brings_it_back() -> None:
    health = ejected()
    assert health.succeeded(10.0)
    assert (health.up, health.failures, health.state(10.0)) == (True, 0, State.UP)


def test_without_a_slow_start_it_has_its_share_at_once() -> None:
    """Requests may ask with the time of a moment before."""
    health = ejected()
    assert health.succeeded(10.0)
    assert (health.share(9.9), health.share(10.0)) == (1.0, 1.0)


def test_failures_of_requests_that_were_on_their_way_change_nothing() -> None:
    health = ejected(eject_time=10.0)
    assert not health.failed(5.0, "broken")
    assert health.failed(10.0, "broken")


def test_time_doubles_up_to_a_bound_and_begins_anew_after_a_good_while() -> None:
    health = ejected(eject_time=100.0)
    assert [health.eject(200.0), health.eject(500.0), health.eject(900.0)] == [200.0, 300.0, LONGEST_EJECTION]
    health.succeeded(1200.0)
    assert health.eject(1200.0 + 299.0) == 300.0
    health.succeeded(2000.0)
    assert health.eject(2000.0 + 301.0) == 100.0


def test_share_grows_after_the_return() -> None:
    health = ejected(slow_start=10.0)
    assert health.share(0.0) == 1.0
    health.succeeded(20.0)
    assert [health.share(now) for now in (20.0, 25.0, 30.0)] == [LEAST_SHARE, 0.5, 1.0]


def test_a_check_takes_it_down_and_up() -> None:
    health = Health(replace(HEALTH, slow_start=10.0))
    health.mark_down("status 500")
    assert (health.state(0.0), health.admits(1e9), health.last_failure) == (State.DOWN, False, "status 500")
    assert not health.succeeded(0.0)
    assert not health.failed(0.0, "broken")
    health.mark_up(5.0)
    assert (health.state(5.0), health.share(10.0)) == (State.UP, 0.5)
    health.mark_up(6.0)
    assert health.share(10.0) == 0.5


def test_a_check_ends_an_ejection() -> None:
    health = ejected()
    health.mark_up(1.0)
    assert health.admits(1.0)


@pytest.mark.parametrize(
    ("cause", "code", "fault"),
    [
        (Cause.REFUSED, errno.ECONNREFUSED, True),
        (Cause.TERMINATED, None, True),
        (Cause.READ_TIMEOUT, None, True),
        (Cause.OVERLOADED, None, False),
        (Cause.LOOP, None, False),
        (Cause.OVERLOADED, errno.EMFILE, False),
    ],
)
def test_what_is_the_servers_fault(cause: Cause, code: int | None, fault: bool) -> None:
    failure = BackendError(cause, "", backend="b", address="a", phase=Phase.CONNECT, errno=code)
    assert is_fault(failure) is fault
