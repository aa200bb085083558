"""The state of a daemon as tables on a terminal."""

from typing import Any, Final

from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_UNBOUNDED: Final = 10_000
"""Columns; a table is as wide as what is in it."""

_STYLES = {"up": "green", "trial": "yellow", "ejected": "red", "down": "red"}
_STYLES |= {"serving": "green", "starting": "yellow", "retiring": "yellow", "silent": "red"}


def show(described: dict[str, Any]) -> None:
    """Print what `supervisor.all_workers` says."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _UNBOUNDED  # for grep: one server is one line
    draining = ", draining" if described["draining"] else ""
    connections = described["connections"]
    console.print(
        f"gateway {described['version']}, process {described['pid']}, up {_duration(described['uptime'])}, "
        f"{connections} connection{'' if connections == 1 else 's'}{draining}"
    )
    if not described["workers"]:
        console.print("no worker serves: the log says why none can")
        return
    console.print(_workers(described["workers"]))
    if not described["backends"]:  # nor while the first worker starts
        return
    console.print()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("backend", "kind", "server", "state"):
        table.add_column(heading, no_wrap=True)
    for heading in ("running", "idle", "failures", "first byte"):
        table.add_column(heading, justify="right")
    table.add_column("last failure", overflow="fold")
    for name, backend in described["backends"].items():
        servers = backend.get("servers", [])
        if not servers:
            table.add_row(name, backend["kind"])
        for number, server in enumerate(servers):
            first = number == 0
            table.add_row(name if first else "", backend["kind"] if first else "", *_cells(server))
        if backend.get("queued") or backend.get("held"):
            table.add_row("", "", f"{backend['queued']} queued, {backend['held']} held")
    if not console.is_terminal or Measurement.get(console, _wide(console), table).maximum <= console.width:
        console.print(table)
        return
    # Too narrow for it: the failures, which are the longest, go below.
    table.columns.pop()
    table.columns[2].no_wrap, table.columns[2].overflow = False, "fold"
    console.print(table)
    for name, backend in described["backends"].items():
        for server in backend.get("servers", []):
            if server["last_failure"]:
                console.print(Text(f"{name}, {server['address']}: {server['last_failure']}"))


def _wide(console: Console) -> ConsoleOptions:
    return console.options.update(max_width=_UNBOUNDED)


def _workers(workers: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("worker", "process", "state"):
        table.add_column(heading)
    for heading in ("up", "connections"):
        table.add_column(heading, justify="right")
    for worker in workers:
        uptime, connections = worker.get("uptime"), worker.get("connections")
        table.add_row(
            str(worker["number"]),
            str(worker["pid"]),
            Text(worker["state"], style=_STYLES.get(worker["state"], "")),
            "" if uptime is None else _duration(uptime),
            "" if connections is None else str(connections),
        )
    return table


def _cells(server: dict[str, Any]) -> list[Text]:
    latency = server["latency"]
    address = f"{server['address']} (backup)" if server["backup"] else server["address"]
    return [
        Text(address),
        Text(server["state"], style=_STYLES.get(server["state"], "")),
        Text(str(server["in_flight"])),
        Text(str(server["idle"])),
        Text(str(server["failures"])),
        Text("" if latency is None else f"{latency * 1000:.1f} ms"),
        Text(server["last_failure"]),
    ]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"
