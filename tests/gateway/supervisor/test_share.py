"""What each of several workers gets, and how long it may take to end."""

from pathlib import Path
from typing import Any

import pytest

from gateway.config import Config, from_mapping
from gateway.config.backends.application import FastCGIBackend
from gateway.config.backends.cgi import CGIBackend
from gateway.config.backends.python import ASGIBackend
from gateway.shutdown.stages import HURRIED_TIME
from gateway.supervisor.share import MARGIN, cannot_be_shared, part, share_of, stop_time


def config(**settings: Any) -> Config:
    data = {"listeners": [{"http": "127.0.0.1:0"}], "routes": [{"respond": {}}], **settings}
    return from_mapping(data, "", "/")


@pytest.mark.parametrize(
    ("total", "workers", "parts"),
    [(10, 1, [10]), (10, 4, [3, 3, 2, 2]), (4, 4, [1, 1, 1, 1]), (2, 4, [1, 1, 1, 1]), (5, 2, [3, 2])],
)
def test_parts_are_the_whole_and_at_least_one(total: int, workers: int, parts: list[int]) -> None:
    assert [part(total, number, workers) for number in range(1, workers + 1)] == parts


def test_what_is_for_all_is_divided(tmp_path: Path) -> None:
    whole = config(
        limits={"connections": 1000, "connections_per_client": 10},
        backends={
            "php": {"fastcgi": "127.0.0.1:9000", "pool": {"connections": 5, "queue": 7}},
            "tools": {"cgi": str(tmp_path), "max_processes": 8},
            "any": {"fastcgi": "127.0.0.1:9000"},
            "api": {"asgi": "a:b", "directory": str(tmp_path), "concurrency": 7},
        },
    )
    assert share_of(whole, 1, 1) is whole
    assert share_of(whole, 1, 2).workers == 2
    share = share_of(whole, 1, 2)
    php, tools = share.backends["php"], share.backends["tools"]
    assert isinstance(php, FastCGIBackend)
    assert isinstance(tools, CGIBackend)
    assert (share.limits.connections, share.limits.connections_per_client) == (500, 10)
    assert (php.pool.connections, php.pool.queue) == (3, 7)
    assert tools.max_processes == 4
    api = share.backends["api"]
    assert isinstance(api, ASGIBackend)
    assert api.concurrency == 4
    assert share.backends["any"] == whole.backends["any"]


def test_processes_are_divided(tmp_path: Path) -> None:
    directory = str(tmp_path)
    whole = config(
        backends={
            "a": {"scgi": {"spawn": {"wsgi": "a:b", "directory": directory, "processes": 5}}},
            "b": {"asgi": "a:b", "directory": directory, "process": {"processes": {"min": 0, "max": 6}}},
            "c": {"http": {"spawn": {"command": ["true"], "address": "127.0.0.1:1"}}},
        }
    )

    def processes(number: int, workers: int) -> list[tuple[int, int]]:
        share = share_of(whole, number, workers).backends
        found = [share["a"].spawn.processes, share["b"].process.processes]  # type: ignore[attr-defined]
        return [(each.min, each.max) for each in found]

    assert processes(1, 2) == [(3, 3), (0, 3)]
    assert processes(2, 2) == [(2, 2), (0, 3)]
    assert processes(8, 8) == [(1, 1), (0, 1)]
    assert cannot_be_shared(whole, 1) == []
    (reason,) = cannot_be_shared(whole, 2)
    assert reason.startswith("backend c: a program at the address 127.0.0.1:1 can be started once only")


def test_time_to_stop_is_that_of_the_slowest(tmp_path: Path) -> None:
    made = config(
        timeouts={"shutdown": "10s"},
        backends={
            "a": {"asgi": "a:b", "directory": str(tmp_path), "shutdown_timeout": "20s"},
            "b": {"scgi": {"spawn": {"wsgi": "a:b", "directory": str(tmp_path), "stop_time": "40s"}}},
        },
    )
    assert stop_time(made) == 50 + MARGIN
    assert stop_time(made, hurried=True) == HURRIED_TIME + MARGIN
    assert stop_time(config(timeouts={"shutdown": "10s"})) == 10 + MARGIN
