"""CPU time and memory of a process and everything below it, and how busy a core is, from ``/proc``.

A living process is read with its CPU clock, which counts nanoseconds over all its threads, ended ones
included. What it has inherited from children that it waited for (cutime, cstime) comes in clock ticks of
10 ms, but the kernel rounds only the sum, so that a run of seconds is exact to a few parts in a thousand.
"""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
_KIB: Final = 1024

_CPUCLOCK_SCHED: Final = 2
"""linux/posix-timers.h: scheduler time of a whole process, in nanoseconds."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a process tree, in bytes."""

    resident: int
    """RSS, summed: pages shared by several processes count for each of them."""
    proportional: int
    """PSS, summed: shared pages are divided among those who share them. 0 where it may not be read."""


def tree(roots: Iterable[int]) -> list[int]:
    """The living processes among *roots* and all their descendants."""
    children: dict[int, list[int]] = {}
    alive = set()
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))) is not None:
            alive.add(int(entry.name))
            children.setdefault(int(stat[1]), []).append(int(entry.name))
    found: list[int] = []
    waiting = [pid for pid in roots if pid in alive]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, ())
    return found


def cpu_seconds(roots: Iterable[int]) -> float:
    """User and system time that the trees of *roots* have used, with the children they waited for."""
    return sum(_own_cpu(pid) + _inherited_cpu(pid) for pid in tree(roots))


def memory(roots: Iterable[int]) -> Memory:
    """Memory of the trees of *roots* now."""
    pids = tree(roots)
    return Memory(
        resident=sum(_field(pid, "status", "VmRSS:") for pid in pids),
        proportional=sum(_field(pid, "smaps_rollup", "Pss:") for pid in pids),
    )


def busy_share(core: int, seconds: float) -> float:
    """Watch *core* for *seconds*: the share of the time in which it was not idle, stolen time included."""
    busy_before, all_before = _core_ticks(core)
    time.sleep(seconds)
    busy, everything = _core_ticks(core)
    return (busy - busy_before) / max(everything - all_before, 1)


def _core_ticks(core: int) -> tuple[int, int]:
    """Clock ticks since boot in which the core was busy, and all."""
    lines = (_PROC / "stat").read_text().splitlines()
    (fields,) = (line.split()[1:] for line in lines if line.startswith(f"cpu{core} "))
    # proc(5): user nice system idle iowait irq softirq steal; guest times are part of user and nice.
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, fields[:8])
    busy = user + nice + system + irq + softirq + steal
    return busy, busy + idle + iowait


def _own_cpu(pid: int) -> float:
    try:
        # What clock_getcpuclockid(3) computes.
        return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:
        return 0.0  # it has ended; its parent inherits the time


def _inherited_cpu(pid: int) -> float:
    stat = _stat(pid)
    # proc(5): cutime and cstime are the fields 16 and 17, counted from 1.
    return 0.0 if stat is None else (int(stat[13]) + int(stat[14])) * _TICK


def _stat(pid: int) -> list[str] | None:
    """``/proc/PID/stat`` from the state (field 3) on; None if there is no such process."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # Field 2 is the program's name in parentheses; it may contain anything.
    return text.rpartition(")")[2].split()


def _field(pid: int, name: str, label: str) -> int:
    """A size in bytes from a file of labelled lines; 0 if it cannot be read."""
    try:
        lines = (_PROC / str(pid) / name).read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * _KIB for line in lines if line.startswith(label)), 0)
