"""Memory that is not used any more is the system's again."""

from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.gateway.runtime.hosting import hosting
from tests.gateway.supervisor.supervised import until

# What stays lies between all that goes, so that the C library can give nothing back by itself.
APPLICATION = """
import os
import gateway.runtime.memory
gateway.runtime.memory.INTERVAL = 0.2

def app(environ, start_response):
    global kept
    pieces = [b"x" * 40_000 for _ in range(2000)]
    kept = pieces[::50]
    del pieces
    start_response("200 OK", [])
    with open("/proc/self/statm", "rb") as file:
        return [b"%d %s" % (os.getpid(), file.read().split()[1])]
"""

PAGES = 40 * 1024 * 1024 // 4096


@pytest.mark.parametrize("process", ["shared", "own"])
def test_what_a_burst_has_left_is_given_back(process: str, tmp_path: Path) -> None:
    """It stayed for good."""
    with hosting(tmp_path, APPLICATION, process) as address:
        with urlopen(address, timeout=30) as response:
            pid, peak = map(int, response.read().split())
        statm = Path(f"/proc/{pid}/statm")
        until(lambda: int(statm.read_text().split()[1]) < peak - PAGES)
