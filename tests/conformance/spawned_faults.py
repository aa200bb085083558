"""What becomes of a request whose spawned application dies, freezes or does not start, and of its process.

As `faults`, for what only applications have that the gateway runs itself. `spawned` is the application; it
is one process, unless a row says otherwise. Behind each fault the next request is answered, by a process that
was started in the place of the one that has died, if one can be.
"""

import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from gateway.errors import Cause, Phase
from tests.conformance.faults import Kept, Outcome

PROGRAM: Final = str(Path(__file__).with_name("spawned.py"))

COMMANDS: Final = ("fastcgi", "scgi", "uwsgi", "http")
SERVED: Final = ("wsgi-fastcgi", "wsgi-scgi", "wsgi-uwsgi")
"""By our own servers of a WSGI application."""
OWN: Final = tuple(f"{kind}-own" for kind in COMMANDS)
"""Commands that open a socket of their own."""
HOSTED: Final = ("process-wsgi", "process-asgi")
"""Python applications with ``process: own``."""
KINDS: Final = (*COMMANDS, *OWN, *SERVED, *HOSTED)


class Fate(Enum):
    """Of the process that had the request."""

    REPLACED = "it is dead, and another is there"
    FROZEN = "it stays, and is ended by force when all end; the other one serves"
    NONE = "none is there that serves"


@dataclass(frozen=True)
class Row:
    """A fault of applications of these kinds."""

    fault: str
    kinds: tuple[str, ...]
    outcome: Outcome
    fate: Fate
    processes: tuple[str, ...] = ()
    """What is logged of the processes, each event at least once, before the end."""
    why: str = ""


_ENDED: Final = "application process ended"
_TERMINATED: Final = Outcome(502, Cause.TERMINATED, Phase.FIRST_BYTE)
_SHARED: Final = (*COMMANDS, *SERVED, *HOSTED)

RUNNING: Final = (
    Row("dies", KINDS, _TERMINATED, Fate.REPLACED, (_ENDED,)),
    Row(
        "dies-in-head",
        (*COMMANDS, *OWN),
        Outcome(502, Cause.TERMINATED, Phase.HEAD),
        Fate.REPLACED,
        (_ENDED,),
    ),
    Row(
        "dies-in-body",
        KINDS,
        Outcome(200, Cause.INCOMPLETE, Phase.BODY, whole=False, client=Kept.CLOSED),
        Fate.REPLACED,
        (_ENDED,),
    ),
    Row(
        "freezes",
        _SHARED,
        Outcome(504, Cause.READ_TIMEOUT, Phase.FIRST_BYTE),
        Fate.FROZEN,
        why="Nobody can tell a frozen process from one that thinks, so neither is ended.",
    ),
)
"""Faults of a process that has answered before."""

_UNAVAILABLE: Final = Outcome(503, Cause.UNAVAILABLE, Phase.SPAWN)

STARTING: Final = (
    Row("exits", _SHARED, _UNAVAILABLE, Fate.NONE, (_ENDED,), "The pause is long by now: Retry-After."),
    Row("given-up", _SHARED, _UNAVAILABLE, Fate.NONE, (_ENDED, "application given up")),
    Row(
        "vanishes",
        COMMANDS,
        _UNAVAILABLE,
        Fate.NONE,
        (_ENDED, "application process cannot be started"),
        "The command was there when the gateway was started; without it that fails (test_application.py).",
    ),
    Row(
        "never-listens",
        OWN,
        _UNAVAILABLE,
        Fate.NONE,
        ("application process not ready in time", _ENDED),
    ),
    Row(
        "never-accepts",
        COMMANDS,
        Outcome(504, Cause.READ_TIMEOUT, Phase.FIRST_BYTE),
        Fate.NONE,
        why="The socket is the gateway's: a connection to it is made without the program.",
    ),
)
"""Faults of an application of which no process ever answers."""


def rows(table: tuple[Row, ...]) -> list[tuple[Row, str]]:
    """Row and kind, each kind by itself."""
    return [(row, kind) for row in table for kind in row.kinds]


def backend(fault: str, kind: str, directory: Path) -> dict[str, Any]:
    """The configuration of an application of *kind* with that fault; without one it serves."""
    if kind in HOSTED:
        return _hosted(fault, kind.removeprefix("process-"), directory)
    spawn: dict[str, Any] = {"directory": str(directory), "stop_time": "60s"}
    protocol = kind.removesuffix("-own").removeprefix("wsgi-")
    timeouts = {"connect": "60s", "send": "60s", "first_byte": "60s", "read": "60s"}
    if kind in SERVED:
        spawn["wsgi"] = {
            "exits": "absent:application",
            "given-up": "absent:application",
        }.get(fault, "spawned:application")
        (directory / "spawned.py").symlink_to(PROGRAM)
    else:
        spawn["command"] = _command(fault, kind, directory)
        spawn["env"] = {"PYTHONPATH": str(Path(__file__).parents[2])}
    match fault:
        case "freezes":
            spawn |= {"processes": 2, "stop_time": "100ms"}
            timeouts["first_byte"] = "500ms"
        case "never-accepts":
            timeouts["first_byte"] = "50ms"
        case "never-listens":
            spawn["startup_time"] = "50ms"
        case "given-up":
            spawn["give_up"] = {"deaths": 1, "within": "60s"}
    return {protocol: {"spawn": spawn}, "timeouts": timeouts}


def _hosted(fault: str, kind: str, directory: Path) -> dict[str, Any]:
    (directory / "spawned.py").symlink_to(PROGRAM)
    target = "spawned:application" if kind == "wsgi" else "spawned:asgi_application"
    process: dict[str, Any] = {"stop_time": "60s"}
    match fault:
        case "exits" | "given-up":
            target = "absent:application"
            process |= {"give_up": {"deaths": 1, "within": "60s"}} if fault == "given-up" else {}
        case "freezes":
            process |= {"processes": 2, "stop_time": "100ms", "timeout": "500ms"}
    return {kind: target, "directory": str(directory), "process": process}


def _command(fault: str, kind: str, directory: Path) -> list[str]:
    own = ["{socket}"] if kind in OWN else []
    match fault:
        case "exits" | "given-up":
            return ["/bin/sh", "-c", "exit 3"]
        case "never-accepts" | "never-listens":
            return ["/bin/sh", "-c", "exec sleep 1000", *own]
        case "vanishes":
            program = directory / "vanishes"
            program.write_text('#!/bin/sh\nrm "$0"\n')
            program.chmod(0o755)
            return [str(program)]
        case _:
            return [sys.executable, PROGRAM, kind.removesuffix("-own"), *own]
