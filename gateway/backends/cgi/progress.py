"""The wait for a program: for its output or its end, and not longer than it may be idle."""

from trio.lowlevel import Abort, RaiseCancelT, Task

from gateway.net.pump import Pump
from gateway.net.resumption import Parking, current_task, resume


class Progress:
    """Of one program, for the one task that waits for it; the pump wakes that.

    *timeout*: seconds without a byte in or out.
    """

    def __init__(self, pump: Pump, timeout: float) -> None:
        self._pump = pump
        self._timeout = timeout
        self._active_at = 0.0
        self._task: Task | None = None
        self._parking = Parking(self._abort)
        self.stirred = False
        """There may be output, or the end of it or of the program: the pump has said so."""
        self.paused = False
        """The client is waited for, which does not count."""

    def begin(self) -> None:
        """The program runs."""
        self._pump.at_each_sweep(self.stir)
        self.touch()

    def end(self) -> None:
        """Nobody will wait any more."""
        self._pump.not_at_sweeps(self.stir)
        self._parking.abandon()

    def touch(self) -> None:
        """A byte went in or out, or what comes now has all of the time."""
        self._active_at = self._pump.time()

    def stir(self) -> None:
        """Called by the pump when there is something, and at each sweep."""
        self.stirred = True
        if (task := self._task) is not None:
            self._task = None
            resume(task)

    async def wait(self) -> bool:
        """Wait until there may be output or an end; False if the time is over.

        Error output is taken care of elsewhere, and is no sign of progress.
        """
        while not self.stirred:
            if self.paused:
                self.touch()
            if self._pump.time() >= self._active_at + self._timeout:
                return False
            self._task = current_task()
            await self._parking
        return True

    def _abort(self, _raise_cancel: RaiseCancelT) -> Abort:
        self._task = None
        return Abort.SUCCEEDED
