"""What several workers say, added up."""

from typing import Any

from gateway.supervisor.totals import total


def server(**facts: Any) -> dict[str, Any]:
    return {
        "address": "127.0.0.1:1", "state": "up", "in_flight": 1, "idle": 2, "failures": 0, "latency": None,
        "last_failure": "", "backup": False, **facts,
    }  # fmt: skip


def worker(*servers: dict[str, Any]) -> dict[str, Any]:
    backends = {"a": {"kind": "wsgi"}, "b": {"kind": "http", "servers": [*servers], "queued": 1, "held": 2}}
    return {"connections": 3, "backends": backends}


def test_counts_are_added_and_what_differs_is_said() -> None:
    found = total(
        [
            worker(server(latency=0.1)),
            worker(server(latency=0.3, state="ejected", failures=4, last_failure="refused")),
            worker(server()),
        ]
    )
    assert found["connections"] == 9
    assert found["backends"]["a"] == {"kind": "wsgi"}
    backend = found["backends"]["b"]
    assert (backend["queued"], backend["held"]) == (3, 6)
    assert backend["servers"] == [
        server(state="up 2, ejected 1", in_flight=3, idle=6, failures=4, latency=0.2, last_failure="refused")
    ]


def test_servers_that_one_worker_alone_knows_are_there() -> None:
    """Each asks the name servers for itself."""
    found = total([worker(server()), worker(server(), server(address="127.0.0.1:2"))])
    servers = found["backends"]["b"]["servers"]
    assert [(each["address"], each["in_flight"]) for each in servers] == [
        ("127.0.0.1:1", 2),
        ("127.0.0.1:2", 1),
    ]


def test_nothing_serves() -> None:
    assert total([]) == {"connections": 0, "backends": {}}
