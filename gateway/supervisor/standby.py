"""Workers that stand by: started, with the gateway loaded, and not told yet what to be.

With --reload there are some, so that a change shows after no more than loading the application takes.
"""

import trio

from gateway import turns
from gateway.errors import StartError
from gateway.supervisor.process import Worker


class Standby:
    """Keeps *count* of them once `refill` is called.

    It starts all workers, and has the file that they share (`gateway.turns`).
    """

    def __init__(self, count: int, *, stdin: int | None, caches: bool) -> None:
        """*stdin* is what the workers have as their standard input, None for the null device.

        Without *caches* they keep no compiled modules: those are known by size and second of their source,
        and one that is saved twice in a second would stay as it was.

        Raises StartError.
        """
        self._count = count
        self._stdin = stdin
        self._caches = caches
        self._waiting: list[Worker] = []
        self.turn = trio.Lock()
        """Whose turn it is to `take`: each start holds the loop until the new process has had its first turn,
        which takes long where many load, and signals are to be heard in between."""
        try:
            self._turns = turns.make()
        except OSError as error:
            raise StartError(f"workers cannot share a file: {error.strerror}") from error

    def take(self) -> Worker:
        """One of them, or a new one. Raises StartError."""
        while self._waiting:
            worker = self._waiting.pop(0)
            if worker.alive:
                return worker
        return self._start()

    async def refill(self) -> None:
        """Start those that are missing. Raises StartError."""
        while len(self._waiting) < self._count:
            async with self.turn:
                self._waiting.append(self._start())

    def _start(self) -> Worker:
        return Worker(turns=self._turns.fileno(), stdin=self._stdin, caches=self._caches)

    async def aclose(self) -> None:
        """End all; none is started any more."""
        while self._waiting:
            await self._waiting.pop().discard()
        self._turns.close()
