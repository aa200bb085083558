"""An asyncio loop for test suites that is run as any other, and is the gateway's: stepped by a trio task."""

import time
from collections.abc import Callable

import trio

from gateway.backends.asgi.stepping import GuestLoop
from gateway.net.pump import Pump


class _Clock(trio.abc.Clock):
    """One time over all runs of a loop: trio's own clock begins anew with each."""

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return time.monotonic()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return deadline - self.current_time()


class SteppedLoop(GuestLoop):
    """Does within `run_forever` what a worker does all the time: a pump, and the task that steps the loop.

    What the gateway forbids its applications, to stop the loop, is allowed here, because
    `run_until_complete` does it.
    """

    # asyncio's own.
    _check_closed: Callable[[], None]
    _check_running: Callable[[], None]

    def __init__(self) -> None:
        self._clock = _Clock()
        self._stopped = trio.Event()
        self._exit: BaseException | None = None
        super().__init__("suite", self._clock)

    def run_forever(self) -> None:
        """Until `stop`, or until a task raises SystemExit or KeyboardInterrupt."""
        self._check_closed()
        self._check_running()
        if trio.lowlevel.in_trio_run():  # in a child that was forked within a step
            super().run_forever()
            return
        trio.run(self._step_until_stopped, self._stopped.is_set(), clock=self._clock)
        error, self._exit = self._exit, None
        if error is not None:
            raise error

    async def _step_until_stopped(self, at_once: bool) -> None:
        self._stopped = trio.Event()
        async with trio.open_nursery() as nursery:
            pump = Pump()
            await nursery.start(pump.run)
            await nursery.start(self.run_stepped, pump)
            if not at_once:
                await self._stopped.wait()
            nursery.cancel_scope.cancel()
        self._stopped = trio.Event()

    def stop(self) -> None:
        """End `run_forever` after this iteration."""
        super(GuestLoop, self).stop()
        self._stopped.set()

    def _run_once(self) -> None:
        if not self._stopped.is_set():
            super()._run_once()

    def on_exit(self, error: BaseException) -> None:
        """End `run_forever` with *error*."""
        self._exit = error
        self._stopped.set()
