"""Caps of connections: in all, and for each client."""

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from gateway.front.caps import RETRY_INTERVAL, ConnectionCaps
from gateway.request import Address


def test_connections_of_a_client_are_counted() -> None:
    caps = ConnectionCaps(per_client=2)
    keys = [caps.admit(("192.0.2.1", port)) for port in range(3)]
    assert keys[2] is None
    assert caps.admit(("192.0.2.2", 1)) is not None
    assert keys[0]
    caps.release(keys[0])
    assert caps.admit(("192.0.2.1", 9)) is not None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_addresses_of_one_client(one: str, other: str, same: bool) -> None:
    """RFC 6177: a client has a /64 for itself."""
    caps = ConnectionCaps(per_client=1)
    assert caps.admit((one, 1)) is not None
    assert (caps.admit((other, 1)) is None) is same


@pytest.mark.parametrize("client", [("", None), ("/run/x", None), None])
def test_clients_without_an_address_are_not_counted(client: Address) -> None:
    caps = ConnectionCaps(per_client=1)
    for _ in range(3):
        key = caps.admit(client)
        assert key == ""
        caps.release(key)


def test_without_a_limit_nothing_is_counted() -> None:
    caps = ConnectionCaps()
    for _ in range(100):
        caps.enter()
        assert caps.admit(("192.0.2.1", 1)) == ""
    assert not caps.full


def test_those_who_wait_go_on_one_by_one() -> None:
    """Room is asked for while there is none, and taken by who comes first."""

    async def main() -> None:
        caps = ConnectionCaps(2)
        asked = 0
        served: list[int] = []

        def make_room() -> None:
            nonlocal asked
            asked += 1

        caps.make_room = make_room

        async def wait(number: int) -> None:
            await caps.wait_for_room()
            caps.enter()
            served.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(wait, number)
            await trio.testing.wait_all_tasks_blocked()
            assert (len(served), caps.full, asked) == (2, True, 2)
            caps.leave()
            await trio.testing.wait_all_tasks_blocked()
            assert (len(served), asked) == (3, 3)
            clock.jump(RETRY_INTERVAL)
            await trio.testing.wait_all_tasks_blocked()
            assert (len(served), asked) == (3, 4)
            caps.leave()
        assert sorted(served) == [0, 1, 2, 3]

    clock = trio.testing.MockClock()
    with capture_logs() as logs:
        trio.run(main, clock=clock)
    # Once in a while, not for each.
    assert [each["connections"] for each in logs] == [2]
