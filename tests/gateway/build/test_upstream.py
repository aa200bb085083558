"""Every setting about servers reaches the part that it is for."""

from typing import Any

import pytest
import trio

from gateway.backends.application import ApplicationBackend
from gateway.backends.http import HttpBackend
from gateway.build import build
from gateway.config import from_mapping
from gateway.net.pump import Pump
from gateway.upstream.balance import Hashed, LeastConnections, PowerOfTwo, RoundRobin
from gateway.upstream.health import HealthPolicy
from gateway.upstream.pool import PoolPolicy
from gateway.upstream.retry import RetryPolicy
from gateway.upstream.upstream import Upstream
from tests.gateway.upstream.policies import HEALTH, POOL


def built(**backend: Any) -> Upstream:
    async def main() -> Upstream:
        data = {"listeners": [{"http": ":1"}], "routes": [{"backend": "b"}], "backends": {"b": backend}}
        (made,) = build(from_mapping(data, "", "."), Pump(), None).services
        assert isinstance(made, ApplicationBackend | HttpBackend)
        return made._upstream

    return trio.run(main)


def test_servers() -> None:
    upstream = built(
        http=["http://a", {"url": "http://b:81", "weight": 3}, {"url": "http://c", "backup": True}]
    )
    assert [(server.name, server.weight, server.backup) for server in upstream.servers] == [
        ("a:80", 1.0, False), ("b:81", 3.0, False), ("c:80", 1.0, True)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("balance", "kind"),
    [
        ("round-robin", RoundRobin),
        ("least-connections", LeastConnections),
        ("power-of-two", PowerOfTwo),
        ({"hash": "client"}, Hashed),
    ],
)
def test_balance(balance: Any, kind: type) -> None:
    assert type(built(scgi="a:1", balance=balance)._group._balance) is kind


def test_pool() -> None:
    pool = {"idle": 1, "idle_time": "2s", "requests": 3, "age": "4s"}
    upstream = built(http="http://a", pool={**pool, "connections": 5, "queue": 6, "queue_time": "7s"})
    server = upstream.servers[0]
    assert server.pool._policy == PoolPolicy(idle=1, idle_time=2.0, requests=3, age=4.0)
    assert (server.limit, upstream._queue._length, upstream._queue.time) == (5, 6, 7.0)


def test_no_connection_is_kept_where_none_can_be() -> None:
    """haproxy#2936: php-fpm is blocked by them; SCGI and uwsgi end with the connection."""
    for upstream in (built(fastcgi="a:1"), built(scgi="a:1"), built(uwsgi="a:1")):
        assert upstream.servers[0].pool._policy.idle == 0
    assert built(fastcgi="a:1", keep_connection=True).servers[0].pool._policy == POOL


def test_retry_hold_and_health() -> None:
    upstream = built(
        uwsgi="a:1",
        retry={"tries": 2, "time": "3s", "status": [502, 503], "methods": "all", "per_try": "6s"},
        hold="4s",
        health={"failures": 5, "eject_time": "6s", "max_ejected": "70%", "slow": "8s", "slow_start": "9s"},
    )
    assert upstream._retry == RetryPolicy(2, 3.0, frozenset({502, 503}), all_methods=True, per_try=6.0)
    assert upstream._hold.time == 4.0
    policy = HealthPolicy(failures=5, eject_time=6.0, max_ejected=0.7, slow=8.0, slow_start=9.0)
    assert upstream._group._policy == policy


def test_defaults() -> None:
    """Those of docs/configuration.md."""
    upstream = built(http="http://a")
    assert upstream._retry == RetryPolicy(None, 10.0, frozenset(), all_methods=False, per_try=5.0)
    assert upstream._group._policy == HEALTH
    assert upstream.servers[0].pool._policy == POOL
    assert upstream._sticky is None


def test_secret_makes_the_cookie() -> None:
    """With one, another start knows the clients; without, each backend has its own for this start."""
    upstreams = [
        built(http="http://a", sticky=sticky)
        for sticky in (
            {"cookie": "n", "secret": "0123456789abcdef"},
            {"cookie": "m", "secret": "0123456789abcdef"},
            {"cookie": "n", "secret": "0123456789abcdeX"},
            "n",
        )
    ]
    tokens = [each._sticky._token_of(each.servers[0]) for each in upstreams if each._sticky is not None]
    assert tokens[0] == tokens[1]
    assert len(set(tokens)) == 3
    assert b"a:80" not in tokens[0]
