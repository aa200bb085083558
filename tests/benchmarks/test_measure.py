"""CPU time and memory of real process trees."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import measure, process

BURN = """
import time
while time.process_time() < 0.25:
    pass
"""

CHILD_BURNS_AND_ENDS = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {BURN!r}])
print("ready", flush=True)
sys.stdin.read()
"""

CHILD_WAITS = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import sys; print(1, flush=True); sys.stdin.read()"])
child.wait()
"""

HOLDS_MEMORY = f"""
import sys
held = bytearray({32 * 2**20})
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def python(text: str) -> Iterator[int]:
    """Run *text* until it has printed a line; at the end its standard input is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        assert program.stdin is not None
        assert program.stdout.readline()
        yield program.pid
        program.stdin.close()


def test_cpu_of_a_process_counts_nanoseconds() -> None:
    with python(f'{BURN}\nimport sys; print("ready", flush=True); sys.stdin.read()') as pid:
        used = measure.cpu_seconds([pid])
    assert used >= 0.25
    assert used * 100 != int(used * 100)  # not whole clock ticks


def test_cpu_counts_children_that_have_ended() -> None:
    with python(CHILD_BURNS_AND_ENDS) as pid:
        assert measure.cpu_seconds([pid]) >= 0.25


def test_tree_has_all_descendants() -> None:
    with python(CHILD_WAITS) as pid:
        assert len(measure.tree([pid])) == 2


def test_tree_of_an_ended_process_is_empty() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert measure.tree([process.pid]) == []
    assert measure.cpu_seconds([process.pid]) == 0


def test_core_that_computes_is_busy() -> None:
    (core, *_) = sorted(os.sched_getaffinity(0))
    with process.pinned(core):
        burning = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        assert any(measure.busy_share(core, 0.2) > 0.5 for _ in range(50))  # once it has begun
    finally:
        burning.kill()
        burning.wait()


def test_memory_is_in_bytes() -> None:
    with python(HOLDS_MEMORY) as pid:
        memory = measure.memory([pid])
    assert 32 * 2**20 <= memory.proportional <= memory.resident < 2**30
