"""What falls between two steps of the supervisor's own."""

import pytest
import trio
import trio.testing

from gateway.config.document import Document
from gateway.supervisor.all_workers import AllWorkers
from gateway.supervisor.control import ControlService
from gateway.supervisor.supervisor import Supervisor

DOCUMENT = Document(
    "gateway.yaml", ".", data={"listeners": [{"http": "127.0.0.1:0"}], "routes": [{"respond": {"body": "x"}}]}
)


class StopBetween(trio.abc.Instrument):
    """Stops *supervisor*, whose task is *main*, when its *which* start of workers has succeeded, and *main*
    does not know of it yet.
    """

    def __init__(self, supervisor: Supervisor, main: trio.lowlevel.Task, which: int) -> None:
        self._supervisor = supervisor
        self._main = main
        self._left = which
        self._seen: object = None

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        coming = self._supervisor._coming
        # While they start it waits for that and for nothing else.
        if task is self._main and coming is not None and coming is not self._seen:
            self._seen = coming
            self._left -= 1
            if not self._left:
                assert all(worker.ready.is_set() for worker in coming.workers)
                self._supervisor.stop("a test")


@pytest.mark.usefixtures("logging_restored")
@pytest.mark.parametrize("which", [1, 2], ids=["start", "reload"])
def test_workers_that_serve_when_the_daemon_stops_are_stopped_too(which: int) -> None:
    """Nobody told them to end, and the daemon waited for them for ever."""
    supervisor = Supervisor(DOCUMENT, DOCUMENT.load(), lambda: DOCUMENT, workers=1, watched=None)

    async def reload() -> None:
        while supervisor.current is None:
            await trio.testing.wait_all_tasks_blocked()
        reasons.extend((await supervisor.reload("a test")).reasons)

    async def main() -> None:
        trio.lowlevel.add_instrument(StopBetween(supervisor, trio.lowlevel.current_task(), which))
        async with trio.open_nursery() as nursery:
            if which > 1:
                nursery.start_soon(reload)
            with trio.fail_after(30):
                await supervisor.run(ControlService(AllWorkers(supervisor)))

    reasons: list[str] = []
    trio.run(main)
    assert reasons == ["the daemon stops"] * (which - 1)
    assert list(supervisor.workers()) == []
