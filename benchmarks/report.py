"""Medians, ratios and verdicts of what was measured; as tables for people and as JSON for machines."""

import datetime
import json
import os
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final, TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.peers import GATEWAY, Need
from benchmarks.process import cores
from benchmarks.run import WARM_UP, Outcome, Plan, Result, Run
from benchmarks.scenarios import TARGETS, Measure, Target

_MIB: Final = 2**20

_COMPARED: Final[dict[Measure, Callable[[Run], float]]] = {
    Measure.CPU: lambda run: run.cpu_per_request * 1e6,
    Measure.WALL: lambda run: 1e3 / run.requests_per_second,
    Measure.THROUGHPUT: lambda run: run.bytes_per_second / 1e6,
    Measure.MEMORY: lambda run: run.memory_per_connection / 1024,
    Measure.START: lambda run: run.start * 1e3,
}

_COLUMNS: Final[dict[str, tuple[Callable[[Run], float], str]]] = {
    "CPU µs/request": (_COMPARED[Measure.CPU], ",.1f"),
    "wall ms/request": (_COMPARED[Measure.WALL], ",.3f"),
    "MB/s": (_COMPARED[Measure.THROUGHPUT], ",.0f"),
    "requests/s": (lambda run: run.requests_per_second, ",.0f"),
    "p50 ms": (lambda run: run.p50 * 1e3, ",.2f"),
    "p99 ms": (lambda run: run.p99 * 1e3, ",.2f"),
    "KiB/connection": (_COMPARED[Measure.MEMORY], ",.1f"),
    "ms to the first answer": (_COMPARED[Measure.START], ",.0f"),
    "resident MiB": (lambda run: run.memory.resident / _MIB, ",.0f"),
}


_START: Final = Measure.START.value
_HIDDEN: Final = {
    Measure.CPU: {"wall ms/request", "MB/s", "KiB/connection", _START},
    # What CGI programs use is counted for some servers and lost for others (see the package).
    Measure.WALL: {"CPU µs/request", "MB/s", "KiB/connection", _START},
    Measure.THROUGHPUT: {"wall ms/request", "KiB/connection", _START},
    Measure.MEMORY: {"wall ms/request", "MB/s", _START},
    Measure.START: {"wall ms/request", "MB/s", "KiB/connection", "p50 ms", "p99 ms", "requests/s"},
}
"""Columns that say nothing, or nothing new."""


QUIET: Final = 0.15
"""The share of a core that others may use before it is said that they disturb."""


# ---- figures


def ratio(measure: Measure, gateway: Outcome, peer: Outcome) -> float | None:
    """The gateway's figure divided by the peer's: the median over the rounds in which both are valid."""
    compared = _COMPARED[measure]
    ours, theirs = gateway.valid_runs, peer.valid_runs
    both = [number for number in ours if number in theirs and compared(theirs[number]) > 0]
    if not both:
        return None
    return median(compared(ours[number]) / compared(theirs[number]) for number in both)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the gateway meets a target."""

    target: Target
    measure: Measure
    ratio: float | None
    """None if there are no valid figures to compare."""

    @property
    def met(self) -> bool | None:
        """None if it cannot be said."""
        if self.ratio is None:
            return None
        if self.measure is Measure.THROUGHPUT:
            return self.ratio >= self.target.ratio
        return self.ratio <= self.target.ratio

    def __str__(self) -> str:
        target = self.target
        sign = "≥" if self.measure is Measure.THROUGHPUT else "≤"
        limit = f"{target.peer} (target {sign} {target.ratio:g}; {self.measure.value})"
        if self.ratio is None:
            return f"{target.scenario}: no figures to compare with {limit}"
        return f"{target.scenario}: {self.ratio:.2f} × {limit} {'ok' if self.met else 'MISSED'}"


def verdicts(results: Iterable[Result], targets: Iterable[Target] = TARGETS) -> list[Verdict]:
    """A verdict for each target whose scenario and peer were wanted."""
    by_name = {result.scenario.name: result for result in results}
    found = []
    for target in targets:
        result = by_name.get(target.scenario)
        peer = result and result.outcome(target.peer)
        gateway = result and result.outcome(GATEWAY)
        if result and peer and gateway:
            measure = result.scenario.measure
            found.append(Verdict(target, measure, ratio(measure, gateway, peer)))
    return found


def broken(results: Iterable[Result]) -> list[str]:
    """What is installed and could not be measured: a fault of the gateway, of a peer or of the benchmark.

    A peer's invalid runs are not one, the gateway's are: it must stand the load.
    """
    found = []
    for result in results:
        name = result.scenario.name
        if result.failure:
            found.append(f"{name}: {result.failure}")
        for outcome in result.outcomes:
            if outcome.failure:
                found.append(f"{name}, {outcome.server}: {outcome.failure}")
            elif outcome.server == GATEWAY and len(outcome.valid_runs) < len(outcome.runs):
                found.append(f"{name}, {outcome.server}: {_problems(outcome)}")
    return found


# ---- for people


def show(console: Console, result: Result) -> None:
    """Print a scenario's table, and what is not in it."""
    scenario = result.scenario
    console.print(f"\n[bold]{scenario.name}[/]: {scenario.title}; {result.connections} connections")
    if result.missing:
        console.print(f"  not compared: {_hint(result.missing)}")
        return
    if result.failure:
        console.print(f"  not compared: {escape(result.failure)}", style="red")
        return
    columns = [name for name in _COLUMNS if name not in _HIDDEN[scenario.measure]]
    table = Table("server", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column(f"gateway ÷ it:\n{scenario.measure.value}", justify="right", no_wrap=True)
    gateway = result.outcome(GATEWAY)
    for outcome in result.outcomes:
        if outcome.valid_runs:
            compared = ratio(scenario.measure, gateway, outcome) if gateway else None
            table.add_row(
                f"{outcome.server} {outcome.version}".rstrip(),
                *(_median(column, outcome) for column in columns),
                "-" if compared is None or outcome.server == GATEWAY else f"{compared:.2f}",
                style="bold" if outcome.server == GATEWAY else None,
            )
    if table.row_count:
        console.print(table)
    for outcome in result.outcomes:
        _show_absence(console, outcome)
    _show_disturbance(console, result)


def show_verdicts(console: Console, found: Sequence[Verdict]) -> None:
    """Print a line for each target."""
    if found:
        console.print("\n[bold]Targets[/]")
    for verdict in found:
        style = {True: "green", False: "red", None: "yellow"}[verdict.met]
        console.print(escape(str(verdict)), style=style)


def _median(column: str, outcome: Outcome) -> str:
    value, form = _COLUMNS[column]
    return format(median(value(run) for run in outcome.valid_runs.values()), form)


def _show_absence(console: Console, outcome: Outcome) -> None:
    name = outcome.server
    if outcome.missing:
        console.print(f"  {name} is missing: {escape(_hint(outcome.missing))}", style="yellow")
    if outcome.failure:
        console.print(f"  {name} failed: {escape(outcome.failure)}", style="red")
    if problems := _problems(outcome):
        console.print(f"  {name}: {escape(problems)}", style="red")


def _show_disturbance(console: Console, result: Result) -> None:
    shares = [run.disturbance for outcome in result.outcomes for run in outcome.runs.values()]
    disturbed = [share for share in shares if share > QUIET]
    if disturbed:
        runs = f"{len(disturbed)} of {len(shares)} runs"
        console.print(
            f"  Others used up to {max(disturbed):.0%} of a core before {runs}: "
            "do not trust requests/s, latencies and throughput.",
            style="yellow",
        )


def _hint(missing: Iterable[Need]) -> str:
    return ", ".join(f"{need.what} ({need.install})" for need in missing)


def _problems(outcome: Outcome) -> str:
    invalid = [
        f"round {number + 1} is invalid: {', '.join(run.problems)}"
        for number, run in outcome.runs.items()
        if run.problems
    ]
    return "; ".join(invalid)


# ---- for machines


def save(file: TextIO, plan: Plan, results: Sequence[Result]) -> None:
    """Write everything that was measured, with versions and facts about the machine, as JSON."""
    data = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "plan": {**asdict(plan), "warm_up": WARM_UP},
        "scenarios": {result.scenario.name: _scenario(result) for result in results},
        "targets": [
            {**asdict(verdict.target), "measured": verdict.ratio, "met": verdict.met}
            for verdict in verdicts(results)
        ],
    }
    json.dump(data, file, indent=2, ensure_ascii=False)
    file.write("\n")


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    server, load = cores()
    return {
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "processor": _first("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "server_core": server,
        "load_core": load,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": platform.python_version(),
    }


def _first(path: str, label: str) -> str:
    """The value of the first line that starts with *label*; empty if there is none."""
    lines = Path(path).read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(label)), "")


def _scenario(result: Result) -> dict[str, Any]:
    measure, gateway = result.scenario.measure, result.outcome(GATEWAY)
    return {
        "title": result.scenario.title,
        "compared": measure.value,
        "connections": result.connections,
        "missing": [need.what for need in result.missing],
        "failure": result.failure or None,
        "servers": {
            outcome.server: {
                "version": outcome.version or None,
                "missing": [need.what for need in outcome.missing],
                "failure": outcome.failure or None,
                "medians": _medians(outcome),
                "gateway_ratio": gateway and ratio(measure, gateway, outcome),
                "rounds": [{"round": number + 1, **asdict(run)} for number, run in outcome.runs.items()],
            }
            for outcome in result.outcomes
        },
    }


def _medians(outcome: Outcome) -> dict[str, float] | None:
    runs = outcome.valid_runs.values()
    if not runs:
        return None
    return {name: median(value(run) for run in runs) for name, (value, _) in _COLUMNS.items()}
