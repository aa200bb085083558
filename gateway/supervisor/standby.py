"""Workers that stand by: started, with the gateway loaded, and not told yet what to be.

With --reload there are some, so that a change shows after no more than loading the application takes.
"""

from gateway.supervisor.process import Worker


class Standby:
    """Keeps *count* of them once `refill` is called."""

    def __init__(self, count: int = 0, *, stdin: int | None = None) -> None:
        """*stdin* is what the workers have as their standard input; None for the null device."""
        self._count = count
        self._stdin = stdin
        self._waiting: list[Worker] = []

    def take(self) -> Worker:
        """One of them, or a new one. Raises StartError."""
        while self._waiting:
            worker = self._waiting.pop(0)
            if worker.alive:
                return worker
        return Worker(stdin=self._stdin)

    def refill(self) -> None:
        """Start those that are missing. Raises StartError."""
        while len(self._waiting) < self._count:
            self._waiting.append(Worker(stdin=self._stdin))

    async def aclose(self) -> None:
        """End all."""
        while self._waiting:
            await self._waiting.pop().discard()
