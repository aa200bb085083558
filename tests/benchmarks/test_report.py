"""Ratios are taken round by round; verdicts know which way is better."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from benchmarks import report
from benchmarks.measure import Memory
from benchmarks.peers import program
from benchmarks.run import Outcome, Plan, Result, Run
from benchmarks.scenarios import SCENARIOS, TARGETS, Measure, Target

RUN = Run(1000.0, 2e6, 10e-6, 0.001, 0.002, Memory(2**20, 2**19), 0.0, 0.2, 0.0, ())


def outcome(server: str, *cpu: float, problems: tuple[str, ...] = ()) -> Outcome:
    runs = {
        number: replace(RUN, cpu_per_request=value, problems=problems) for number, value in enumerate(cpu)
    }
    return Outcome(server, "1.2.3", runs=runs)


def result(*outcomes: Outcome) -> Result:
    (scenario,) = (scenario for scenario in SCENARIOS if scenario.name == "asgi-trio")
    return Result(scenario, 64, outcomes=list(outcomes))


def test_ratio_is_the_median_of_the_rounds() -> None:
    gateway, peer = outcome("gateway", 1e-6, 9e-6, 4e-6), outcome("uvicorn", 2e-6, 9e-6, 1e-6)
    assert report.ratio(Measure.CPU, gateway, peer) == 1.0


def test_ratio_leaves_out_rounds_that_are_invalid_for_one() -> None:
    gateway, peer = outcome("gateway", 1e-6, 9e-6), outcome("uvicorn", 2e-6, 9e-6)
    peer.runs[1] = replace(peer.runs[1], problems=("1 read errors",))
    assert report.ratio(Measure.CPU, gateway, peer) == 0.5


def test_ratio_of_nothing_valid_is_none() -> None:
    gateway, peer = outcome("gateway", 1e-6), outcome("uvicorn", 2e-6, problems=("1 read errors",))
    assert report.ratio(Measure.CPU, gateway, peer) is None


@pytest.mark.parametrize(
    ("measure", "ours", "limit", "met"),
    [
        (Measure.CPU, 10e-6, 1.0, True),
        (Measure.CPU, 11e-6, 1.0, False),
        (Measure.THROUGHPUT, 10e-6, 1.0, True),
        (Measure.THROUGHPUT, 10e-6, 1.1, False),
    ],
)
def test_verdict_is_at_most_for_costs_and_at_least_for_throughput(
    measure: Measure, ours: float, limit: float, met: bool
) -> None:
    gateway, peer = outcome("gateway", ours), outcome("uvicorn", 10e-6)
    verdict = report.Verdict(
        Target("asgi-trio", "uvicorn", limit), measure, report.ratio(measure, gateway, peer)
    )
    assert verdict.met is met


def test_verdict_reads_as_a_line() -> None:
    verdict = report.Verdict(Target("asgi-trio", "uvicorn", 0.75), Measure.CPU, 0.706)
    assert str(verdict) == "asgi-trio: 0.71 × uvicorn (target ≤ 0.75; CPU µs/request) ok"


def test_verdicts_are_given_for_what_was_wanted() -> None:
    found = report.verdicts([result(outcome("gateway", 1e-6), outcome("granian", 2e-6))], TARGETS)
    assert [(verdict.target.peer, verdict.met) for verdict in found] == [("granian", True)]


def test_gateway_with_an_invalid_run_is_broken_and_a_peer_is_not() -> None:
    problems = ("3 read errors",)
    results = [
        result(outcome("gateway", 1e-6, problems=problems), outcome("uvicorn", 1e-6, problems=problems))
    ]
    assert report.broken(results) == ["asgi-trio, gateway: round 1 is invalid: 3 read errors"]


def test_missing_peer_is_named_with_its_install_command_and_is_not_broken() -> None:
    absent = Outcome("nginx", missing=[program("no-such-nginx", "nginx")])
    results = [result(outcome("gateway", 1e-6), absent)]
    text = io.StringIO()
    report.show(Console(file=text, width=120), results[0])
    assert "nginx is missing: no-such-nginx (apt-get install nginx)" in text.getvalue()
    assert report.broken(results) == []


def test_disturbance_by_others_is_said() -> None:
    quiet, disturbed = result(outcome("gateway", 1e-6, 1e-6)), result(outcome("gateway", 1e-6, 1e-6))
    disturbed.outcomes[0].runs[1] = replace(RUN, disturbance=0.8)
    texts = []
    for shown in (quiet, disturbed):
        file = io.StringIO()
        report.show(Console(file=file, width=120), shown)
        texts.append(file.getvalue())
    assert "Others" not in texts[0]
    assert "Others used up to 80% of a core before 1 of 2 runs" in texts[1]


def test_json_has_every_round_with_the_facts_it_depends_on() -> None:
    file = io.StringIO()
    report.save(
        file, Plan(2, 1, 64), [result(outcome("gateway", 1e-6, 2e-6), outcome("uvicorn", 2e-6, 2e-6))]
    )
    saved = json.loads(file.getvalue())
    servers = saved["scenarios"]["asgi-trio"]["servers"]
    assert [run["cpu_per_request"] for run in servers["gateway"]["rounds"]] == [1e-6, 2e-6]
    assert servers["uvicorn"]["version"] == "1.2.3"
    assert servers["uvicorn"]["gateway_ratio"] == 0.75
    assert {"kernel", "processor", "cores", "python"} <= saved["machine"].keys()
