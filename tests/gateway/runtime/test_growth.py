"""How often it is looked for cycles: rarely, but in a process that has grown as often as CPython does."""

from pathlib import Path
from urllib.request import urlopen

import pytest

from gateway.runtime.collector import DEFAULT_GC_THRESHOLD, GC_THRESHOLD
from tests.gateway.runtime.hosting import hosting
from tests.gateway.supervisor.supervised import until

APPLICATION = """
import gc
import gateway.runtime.growth
gateway.runtime.growth.INTERVAL = 0.1
held = []

def app(environ, start_response):
    match environ["PATH_INFO"]:
        case "/grow":
            held.append(b"x" * (100 << 20))
        case "/shrink":
            held.clear()
        case "/own":
            gc.set_threshold(1234)
    start_response("200 OK", [])
    return [b"%d" % gc.get_threshold()[0]]
"""


@pytest.mark.parametrize("process", ["shared", "own"])
def test_a_process_that_has_grown_looks_for_cycles_as_often_as_others_do(
    process: str, tmp_path: Path
) -> None:
    """Few cycles could hold gigabytes until there were 20,000 containers in them."""
    with hosting(tmp_path, APPLICATION, process) as address:

        def threshold(path: str = "/") -> int:
            with urlopen(address + path, timeout=30) as response:
                return int(response.read())

        assert threshold() == GC_THRESHOLD[0]
        threshold("/grow")
        until(lambda: threshold() == DEFAULT_GC_THRESHOLD[0])
        threshold("/shrink")
        until(lambda: threshold() == GC_THRESHOLD[0])
        threshold("/own")
        threshold("/grow")
        assert threshold() == 1234
