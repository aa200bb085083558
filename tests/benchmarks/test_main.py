"""The command, run as people run it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.load import wrk
from benchmarks.scenarios import SCENARIOS

CHECKOUT = Path(__file__).parents[2]


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)


def test_list_names_every_scenario_and_measures_nothing() -> None:
    done = benchmarks("--list")
    assert done.returncode == 0
    assert [line.partition(":")[0] for line in done.stdout.splitlines() if line[0] != " "] == [
        scenario.name for scenario in SCENARIOS
    ]


@pytest.mark.parametrize("arguments", [["no-such-scenario"], ["--peers=no-such-peer"], ["--rounds=0"]])
def test_wrong_usage_is_status_2_without_a_traceback(arguments: list[str]) -> None:
    done = benchmarks(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_measures_the_gateway(tmp_path: Path) -> None:
    if not wrk.installed():
        if os.environ.get("CI") == "true":
            pytest.fail(f"wrk is missing: {wrk.INSTALL}")
        pytest.skip(f"wrk is missing: {wrk.INSTALL}")
    saved = tmp_path / "figures.json"
    done = benchmarks(
        "--rounds=1", "--seconds=1", "--connections=4", "--peers=", f"--json={saved}", "static-1k"
    )
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(saved.read_text())["scenarios"]["static-1k"]["servers"]["gateway"]["rounds"]
    assert run["problems"] == []
    assert run["requests_per_second"] > 0
    assert 0 < run["cpu_per_request"] < 1
    assert "static-1k" in done.stdout
