"""The store of seconds that bounds silence and dribbling."""

from gateway.front.patience import Patience


def test_silence_is_bounded() -> None:
    """traefik#10654: steady progress at the rate goes on for ever."""
    patience = Patience(30.0, 100)
    assert patience.left == 30.0
    for _ in range(1000):
        patience.spend(10.0, 1000)
        assert patience.left == 30.0


def test_dribbling_uses_it_up() -> None:
    """Below the rate only the first wait is free."""
    patience = Patience(30.0, 100)
    patience.spend(29.0, 1)
    assert patience.left == 1.01
    patience.spend(1.5, 1)
    assert patience.left == 0.0
    patience.spend(0.0, 30)  # of 49 that are owed
    assert patience.left == 0.0


def test_a_wait_that_nobody_has_ended_was_the_gateways_own() -> None:
    """It was stopped (SIGSTOP): the client may have sent all of it at the beginning."""
    patience = Patience(30.0, 100)
    patience.spend(20.0, 0)
    patience.spend(60.0, 1)
    assert patience.left == 10.01


def test_what_came_quickly_is_no_credit() -> None:
    patience = Patience(30.0, 100)
    patience.spend(0.0, 10**9)
    assert patience.left == 30.0


def test_it_comes_back() -> None:
    patience = Patience(30.0, 100)
    patience.spend(20.0, 1)
    patience.spend(0.0, 1000)
    assert 20.0 < patience.left < 30.0


def test_no_minimum() -> None:
    patience = Patience(30.0, 0)
    patience.spend(29.0, 1)
    assert patience.left == 30.0
