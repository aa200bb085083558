"""What wrk found becomes figures, and what went wrong makes them invalid."""

import json
from typing import Any

import pytest

from benchmarks.load import LoadError
from benchmarks.load.wrk import parse

NO_ERRORS = {"connect": 0, "read": 0, "write": 0, "status": 0, "timeout": 0}


def printed(requests: int = 3000, **errors: int) -> str:
    figures: dict[str, Any] = {"requests": requests, "bytes": 600_000, "duration": 3_000_000}
    figures |= {"p50": 1500, "p99": 4000, "errors": NO_ERRORS | errors}
    return f"Running 3s test @ http://127.0.0.1:1/\n  1 threads and 64 connections\n{json.dumps(figures)}\n"


def test_reads_figures_in_seconds_and_bytes() -> None:
    load = parse(printed())
    assert (load.requests, load.size, load.seconds) == (3000, 600_000, 3.0)
    assert (load.p50, load.p99) == (0.0015, 0.004)
    assert load.problems == ()


@pytest.mark.parametrize("kind", NO_ERRORS)
def test_any_error_is_a_problem(kind: str) -> None:
    (problem,) = parse(printed(**{kind: 7})).problems
    assert problem.startswith("7 ")


def test_no_answer_at_all_is_a_problem() -> None:
    assert parse(printed(requests=0)).problems == ("no request was answered",)


def test_rejects_output_without_figures() -> None:
    with pytest.raises(LoadError, match="unable to connect"):
        parse("unable to connect to 127.0.0.1:1 Connection refused\n")
