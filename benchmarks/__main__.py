"""The command line: ``python -m benchmarks [SCENARIO...]``. What the figures mean: see the package."""

import resource
import signal
import sys
from typing import NoReturn, TextIO

import click
from rich.console import Console

from benchmarks import report
from benchmarks.load import wrk
from benchmarks.process import cores
from benchmarks.run import Plan, run
from benchmarks.scenarios import SCENARIOS, Scenario

_BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
_PEERS = sorted({peer.name for scenario in SCENARIOS for peer in scenario.peers}, key=str.lower)
_WIDTH = 120
"""Columns where there is no terminal to ask."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("names", nargs=-1, metavar="[SCENARIO]...", type=click.Choice(list(_BY_NAME)))
@click.option("--json", "json_file", type=click.File("w", "utf-8", lazy=False), help="Save everything.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="Starts of each server.")
@click.option("--seconds", default=3, show_default=True, type=click.IntRange(1), help="Load in each round.")
@click.option(
    "--connections", default=64, show_default=True, type=click.IntRange(1, 1024), help="Kept by the load."
)
@click.option("--peers", metavar="NAME,...", help="Only these peers; an empty name for none.")
@click.option("--list", "list_only", is_flag=True, help="Show scenarios and peers, and measure nothing.")
def main(
    names: tuple[str, ...],
    json_file: TextIO | None,
    rounds: int,
    seconds: int,
    connections: int,
    peers: str | None,
    list_only: bool,
) -> None:
    """Measure the gateway beside its peers on this machine; by default in all scenarios.

    Exit status 0 if all that is installed could be measured, 1 if not, 2 for wrong usage. A missed target
    is shown, and is no failure: a busy machine is enough to miss one.
    """
    console = Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False, soft_wrap=False)
    chosen = [_BY_NAME[name] for name in dict.fromkeys(names)] or list(SCENARIOS)
    wanted = None if peers is None else _wanted(peers)
    if list_only:
        for scenario in chosen:
            _list(console, scenario)
        return
    if not wrk.installed():
        raise click.ClickException(f"wrk is missing: {wrk.INSTALL}")
    # Many connections at once, here and in the servers.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # SIGTERM unwinds like Ctrl-C, so that every server is ended.
    signal.signal(signal.SIGTERM, _end)
    plan = Plan(rounds, seconds, connections)
    results = []
    progress = Console(stderr=True)
    if cores()[0] == cores()[1]:
        progress.print("There is one core: servers and load share it, only CPU figures mean something.")
    for scenario in chosen:
        with progress.status(scenario.name) as status:
            result = run(scenario, plan, wanted, status.update)
        report.show(console, result)
        results.append(result)
    report.show_verdicts(console, report.verdicts(results))
    if json_file is not None:
        report.save(json_file, plan, results)
    broken = report.broken(results)
    for line in broken:
        click.echo(f"not measured: {line}", err=True)
    sys.exit(1 if broken else 0)


def _wanted(peers: str) -> set[str]:
    known = {name.lower(): name for name in _PEERS}
    wanted = [name.strip().lower() for name in peers.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise click.UsageError(f"Unknown peer {', '.join(unknown)}; expected {', '.join(_PEERS)}.")
    return {known[name] for name in wanted}


def _list(console: Console, scenario: Scenario) -> None:
    console.print(f"[bold]{scenario.name}[/]: {scenario.title}")
    for need in scenario.missing():
        console.print(f"  cannot be measured without {need.what}: {need.install}", style="red")
    for peer in scenario.peers:
        missing = ", ".join(f"{need.what}: {need.install}" for need in peer.missing())
        note = f"missing ({missing})" if missing else peer.version() or "installed"
        console.print(f"  {peer.name}: {note}", style="yellow" if missing else None)


def _end(signum: int, frame: object) -> NoReturn:
    sys.exit(128 + signum)


if __name__ == "__main__":
    main()
