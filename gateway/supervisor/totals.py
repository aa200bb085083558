"""What all workers do, added up: each knows its own connections, and judges the servers by itself."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any


def total(described: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Connections and backends of workers as `gateway.control.state` describes them, in the same form."""
    names = dict.fromkeys(name for each in described for name in each["backends"])
    return {
        "connections": sum(each["connections"] for each in described),
        "backends": {
            name: _backend([each["backends"][name] for each in described if name in each["backends"]])
            for name in names
        },
    }


def _backend(shares: list[dict[str, Any]]) -> dict[str, Any]:
    whole = {"kind": shares[0]["kind"]}
    if "servers" not in shares[0]:
        return whole
    servers: dict[str, list[dict[str, Any]]] = {}
    for share in shares:
        for server in share["servers"]:
            servers.setdefault(server["address"], []).append(server)
    return {
        **whole,
        "servers": [_server(seen) for seen in servers.values()],
        "queued": sum(share["queued"] for share in shares),
        "held": sum(share["held"] for share in shares),
    }


def _server(seen: list[dict[str, Any]]) -> dict[str, Any]:
    latencies = [each["latency"] for each in seen if each["latency"] is not None]
    return {
        **seen[0],
        "state": _state([each["state"] for each in seen]),
        "in_flight": sum(each["in_flight"] for each in seen),
        "idle": sum(each["idle"] for each in seen),
        "failures": max(each["failures"] for each in seen),
        "latency": sum(latencies) / len(latencies) if latencies else None,
        "last_failure": next(filter(None, (each["last_failure"] for each in seen)), ""),
    }


def _state(states: Iterable[str]) -> str:
    """``up``, if all say so; else how many say what: ``up 3, ejected 1``."""
    counted = Counter(states).most_common()
    return counted[0][0] if len(counted) == 1 else ", ".join(f"{state} {count}" for state, count in counted)
