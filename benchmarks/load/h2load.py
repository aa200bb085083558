"""Load by nghttp2's h2load: HTTP/2 with several streams on each connection.

Its report has no percentiles, so they are computed from its log: a line for each request with the time of
its start, its status and the microseconds that it took.
"""

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.load import Load, LoadError
from benchmarks.peers import Need, program

STREAMS: Final = 16
"""Requests under way on each connection."""

_GRACE: Final = 30
_REQUESTS: Final = re.compile(
    r"requests: \d+ total, \d+ started, (\d+) done, \d+ succeeded, "
    r"(\d+) failed, (\d+) errored, (\d+) timeout"
)
_STATUSES: Final = re.compile(r"status codes: (\d+) 2xx, (\d+) 3xx")
_TRAFFIC: Final = re.compile(r"traffic: \S+ \((\d+)\) total")

NEED: Final[Need] = program("h2load", "nghttp2-client", "--version")


def run(url: str, *, connections: int, seconds: int) -> Load:
    """Keep *connections* connections busy with STREAMS streams each. Implements :class:`load.Generator`."""
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory, "requests.tsv")
        command = [
            "h2load",
            f"--clients={connections}",
            f"--max-concurrent-streams={STREAMS}",
            f"--duration={seconds}",
            f"--log-file={log}",
            url,
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=seconds + _GRACE, check=False
            )
        except OSError as error:
            raise LoadError(f"h2load cannot be run: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            raise LoadError(f"h2load did not end {_GRACE} s after its time") from error
        if done.returncode:
            raise LoadError(f"h2load failed: {(done.stderr or done.stdout).strip()}")
        return parse(done.stdout, log.read_text() if log.exists() else "", seconds)


def parse(output: str, log: str, seconds: int) -> Load:
    """Read h2load's report and the lines of its log."""
    requests, statuses, traffic = (pattern.search(output) for pattern in (_REQUESTS, _STATUSES, _TRAFFIC))
    if requests is None or statuses is None or traffic is None:
        raise LoadError(f"h2load printed no figures: {output.strip()!r}")
    done, failed, errored, late = map(int, requests.groups())
    good = sum(map(int, statuses.groups()))
    taken = sorted(int(line.split("\t")[2]) for line in log.splitlines())
    problems = []
    # Requests under way when the time is over are neither done nor failed.
    if failed or errored or late:
        problems.append(f"{failed} failed, {errored} errored, {late} without an answer")
    if done > good:
        problems.append(f"{done - good} answers that were not 2xx or 3xx")
    if not done or not taken:
        problems.append("no request was answered")
        taken = [0]
    return Load(
        requests=done,
        size=int(traffic.group(1)),
        seconds=float(seconds),
        p50=taken[len(taken) // 2] / 1e6,
        p99=taken[len(taken) * 99 // 100] / 1e6,
        problems=tuple(problems),
    )
