"""Load by wrk: as many requests as the server answers, over a fixed number of connections.

One thread of wrk is enough for one core. What it found comes as JSON from ``done.lua`` rather than from its
report for people, which rounds to three digits.
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Final

from benchmarks.load import Load, LoadError

INSTALL: Final = "apt-get install wrk"

_SCRIPT: Final = Path(__file__).with_name("done.lua")
_ANSWER_TIMEOUT: Final = 10
"""Seconds until an unanswered request is an error; wrk's own 2 s are few where each starts a program."""
_GRACE: Final = 30
"""Seconds that wrk may take beyond its time: it first connects, and at the end sorts its figures."""

_ERRORS: Final = {
    "connect": "failed to connect",
    "read": "read errors",
    "write": "write errors",
    "status": "answers that were not 2xx or 3xx",
    "timeout": f"without an answer for {_ANSWER_TIMEOUT} s",
}


def installed() -> bool:
    """Whether wrk can be run."""
    return shutil.which("wrk") is not None


def run(url: str, *, connections: int, seconds: int) -> Load:
    """Requests on kept connections. Implements :class:`load.Generator`."""
    return _run(url, connections, seconds)


def run_closing(url: str, *, connections: int, seconds: int) -> Load:
    """A new connection for each request. Implements :class:`load.Generator`."""
    return _run(url, connections, seconds, "--header=Connection: close")


def _run(url: str, connections: int, seconds: int, *options: str) -> Load:
    command = [
        "wrk",
        "--threads=1",
        f"--connections={connections}",
        f"--duration={seconds}s",
        f"--timeout={_ANSWER_TIMEOUT}s",
        f"--script={_SCRIPT}",
        *options,
        url,
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + _GRACE, check=False)
    except OSError as error:
        raise LoadError(f"wrk cannot be run: {error.strerror} ({INSTALL})") from error
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"wrk did not end {_GRACE} s after its time") from error
    if done.returncode:
        raise LoadError(f"wrk failed: {(done.stderr or done.stdout).strip()}")
    return parse(done.stdout)


def parse(output: str) -> Load:
    """Read the line of ``done.lua`` from what wrk printed."""
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if not lines:
        raise LoadError(f"wrk printed no figures: {output.strip()!r}")
    found = json.loads(lines[-1])
    problems = [f"{found['errors'][kind]} {text}" for kind, text in _ERRORS.items() if found["errors"][kind]]
    if not found["requests"]:
        problems.append("no request was answered")
    return Load(
        requests=found["requests"],
        size=found["bytes"],
        seconds=found["duration"] / 1e6,
        p50=found["p50"] / 1e6,
        p99=found["p99"] / 1e6,
        problems=tuple(problems),
    )
