"""backends.asgi.nurseries: what it changes of trio holds nobody up where trio is another one.

What it is for is tested with a whole gateway, by test_entrances.
"""

import os
import subprocess
import sys

import pytest

from tests.gateway.test_daemon import ROOT

FRAME = """
import trio
from trio._core import _run

close = trio.Nursery._nested_child_finished
{other}

from gateway.backends.asgi.nurseries import close_in_the_task_that_waits

close_in_the_task_that_waits()

async def main():
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.lowlevel.checkpoint)
            raise KeyError
    except* KeyError:
        print("closed")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        nursery.cancel_scope.cancel()
    print("closed")

trio.run(main)
"""

RENAMED = """
del trio.Nursery._nested_child_finished
trio.Nursery._finished = close

async def leave(self, kind, error, trace, leave=_run.NurseryManager.__aexit__):
    self._nursery._nested_child_finished = self._nursery._finished
    return await leave(self, kind, error, trace)

_run.NurseryManager.__aexit__ = leave
"""

ANOTHER_ARGUMENT = """
async def finished(self, error, *, why):
    assert why == "over"
    return await close(self, error)

trio.Nursery._nested_child_finished = finished

class Managed:
    def __init__(self, nursery):
        self._nursery = nursery

    def _nested_child_finished(self, error):
        return self._nursery._nested_child_finished(error, why="over")

async def leave(self, kind, error, trace, leave=_run.NurseryManager.__aexit__):
    self._nursery = Managed(self._nursery)
    return await leave(self, kind, error, trace)

_run.NurseryManager.__aexit__ = leave
"""


@pytest.mark.parametrize("other", ["", RENAMED, ANOTHER_ARGUMENT], ids=["as it is", "renamed", "argument"])
def test_nurseries_close_where_trio_does_it_otherwise(other: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FRAME.format(other=other)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("closed\nclosed\n", "")
