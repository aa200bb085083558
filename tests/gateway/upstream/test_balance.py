"""Who is chosen: shares, loads, and keys that stay where they are."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.upstream.balance import (
    Balance,
    Candidate,
    Hashed,
    HashKey,
    LeastConnections,
    PowerOfTwo,
    RoundRobin,
    cookie_of,
)
from tests.gateway.conftest import make_request

WEIGHTS = st.lists(st.integers(1, 20), min_size=1, max_size=6)
REQUEST = make_request()


def candidates(*weights: float) -> list[Candidate]:
    return [Candidate(f"10.0.0.{number}:80", weight) for number, weight in enumerate(weights)]


def names(balance: Balance, servers: list[Candidate], count: int) -> str:
    """The last digits of whom it chooses, one after the other."""
    return "".join(balance.choose(servers, REQUEST, 0.0).name[7] for _ in range(count))


def test_round_robin_takes_turns() -> None:
    assert names(RoundRobin(), candidates(1, 1, 1), 6) == "012012"


def test_round_robin_is_smooth() -> None:
    """As nginx: five to one to one does not mean five in a row."""
    assert names(RoundRobin(), candidates(5, 1, 1), 7) == "0010200"


@given(WEIGHTS, st.integers(1, 4))
def test_round_robin_gives_each_its_share_in_every_round(weights: list[int], rounds: int) -> None:
    servers = candidates(*weights)
    balance = RoundRobin()
    for _ in range(rounds):
        chosen = Counter(balance.choose(servers, REQUEST, 0.0).name for _ in range(sum(weights)))
        assert [chosen[server.name] for server in servers] == weights


@given(WEIGHTS, st.lists(st.sets(st.integers(0, 5)), max_size=20))
def test_round_robin_survives_that_servers_come_and_go(weights: list[int], away: list[set[int]]) -> None:
    """Nobody that was away for long gets all requests when it is back."""
    servers = candidates(*weights)
    balance = RoundRobin()
    for gone in away:
        present = [server for number, server in enumerate(servers) if number not in gone] or servers
        assert balance.choose(present, REQUEST, 0.0) in present
    total = sum(weights)
    assert all(abs(server.turn) <= total * (len(servers) + 1) for server in servers)


def test_least_connections_by_weight() -> None:
    servers = candidates(1, 2)
    chosen = []
    for _ in range(6):
        server = LeastConnections().choose(servers, REQUEST, 0.0)
        server.in_flight += 1
        chosen.append(server.name[7])
    assert (servers[0].in_flight, servers[1].in_flight) == (2, 4)


def test_least_connections_takes_turns_among_equals() -> None:
    assert names(LeastConnections(), candidates(1, 1, 1), 6) == "012012"


def test_power_of_two_never_takes_the_busiest() -> None:
    servers = candidates(1, 1, 1)
    servers[1].in_flight = 9
    assert set(names(PowerOfTwo(random.Random(1)), servers, 200)) == {"0", "2"}


def test_power_of_two_of_one() -> None:
    assert names(PowerOfTwo(random.Random(1)), candidates(1), 3) == "000"


def test_power_of_two_draws_by_weight() -> None:
    servers = candidates(1, 1, 8)
    chosen = Counter(names(PowerOfTwo(random.Random(1)), servers, 1000))
    assert chosen["2"] > 800


# ---- hashes


def homes(servers: list[Candidate], keys: int) -> dict[int, Candidate]:
    balance = Hashed(HashKey("path"))
    return {key: balance.choose(servers, make_request(b"/%d" % key), 0.0) for key in range(keys)}


def test_hash_is_the_same_for_another_gateway_and_another_order() -> None:
    servers = candidates(1, 1, 1)
    assert homes(servers, 100) == homes(servers[::-1], 100)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 8), st.data())
def test_only_the_keys_of_a_server_move_when_it_goes(count: int, data: st.DataObject) -> None:
    servers = candidates(*[1] * count)
    gone = data.draw(st.sampled_from(servers))
    before = homes(servers, 200)
    after = homes([server for server in servers if server is not gone], 200)
    assert [key for key in before if before[key] is not after[key]] == [
        key for key in before if before[key] is gone
    ]


def test_hash_spreads_by_weight() -> None:
    chosen = Counter(server.name[7] for server in homes(candidates(1, 1, 2), 4000).values())
    assert 1800 < chosen["2"] < 2200
    assert 850 < chosen["0"] < 1150


def test_requests_without_the_key_take_turns() -> None:
    assert names(Hashed(HashKey("cookie.sid")), candidates(1, 1), 4) == "0101"
    assert Hashed(HashKey("path")).binds
    assert not RoundRobin().binds


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("client", b"192.0.2.7"),
        ("path", b"/a b"),
        ("host", b"example.com"),
        ("header.X-User", b"ann"),
        ("header.X-Nobody", None),
        ("cookie.sid", b"1=2"),
        ("cookie.id", None),
        ("query.id", b"x y"),
        ("query.empty", b""),
        ("query.no", None),
    ],
)
def test_keys(key: str, value: bytes | None) -> None:
    request = make_request(
        b"/a%20b?id=x+y&empty=&id=2",
        headers=[(b"x-user", b"ann"), (b"cookie", b"asid=0; sid=1=2; sid=3")],
        client=("192.0.2.7", 5),
    )
    assert HashKey(key).of(request) == value


def test_clients_on_a_unix_socket_have_no_key() -> None:
    assert HashKey("client").of(make_request(client=("", None))) is None
    assert HashKey("client").of(make_request(client=None)) is None


def test_cookie_in_several_fields() -> None:
    """RFC 9113 8.2.3."""
    request = make_request(headers=[(b"cookie", b"a=1"), (b"cookie", b"b=2")])
    assert cookie_of(request, b"b") == b"2"
    assert cookie_of(request, b"c") is None
