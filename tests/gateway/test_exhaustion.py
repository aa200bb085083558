from gateway.exhaustion import SILENCE, Repeated


def test_what_goes_on_is_said_once_in_a_while_with_its_count() -> None:
    repeated = Repeated()
    begun = 5.0
    assert [repeated.happened(begun + step / 8) for step in range(10)] == [1] + [0] * 9
    assert repeated.happened(begun + SILENCE) == 10
    assert repeated.happened(begun + SILENCE + 1) == 0
    assert repeated.happened(begun + 3 * SILENCE) == 2
