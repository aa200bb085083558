"""What h2load printed and logged becomes figures, and what went wrong makes them invalid."""

import pytest

from benchmarks.load import LoadError
from benchmarks.load.h2load import parse

LOG = "".join(f"1700000000{number:06}\t200\t{number}\n" for number in range(1, 101))


def printed(*, done: int = 100, good: int = 100, failed: int = 0) -> str:
    return (
        "finished in 1.00s, 100.00 req/s, 3.41KB/s\n"
        f"requests: 100 total, 101 started, {done} done, {done} succeeded, "
        f"{failed} failed, 0 errored, 0 timeout\n"
        f"status codes: {good} 2xx, 0 3xx, {done - good} 4xx, 0 5xx\n"
        "traffic: 3.41KB (3492) total, 891B (891) headers (space savings 90.00%), 1.27KB (1300) data\n"
    )


def test_reads_figures_and_computes_percentiles() -> None:
    load = parse(printed(), LOG, 2)
    assert (load.requests, load.size, load.seconds) == (100, 3492, 2.0)
    assert (load.p50, load.p99) == (51e-6, 100e-6)
    assert load.problems == ()


def test_failures_are_a_problem() -> None:
    assert parse(printed(failed=3), LOG, 1).problems == ("3 failed, 0 errored, 0 without an answer",)


def test_other_statuses_are_a_problem() -> None:
    assert parse(printed(good=90), LOG, 1).problems == ("10 answers that were not 2xx or 3xx",)


def test_no_answer_at_all_is_a_problem() -> None:
    assert parse(printed(done=0, good=0), "", 1).problems == ("no request was answered",)


def test_rejects_output_without_figures() -> None:
    with pytest.raises(LoadError, match="refused"):
        parse("connection refused\n", "", 1)
