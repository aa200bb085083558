"""What became of the tries of one request, as far as that decides about the next one (`retry`)."""

from gateway.errors import BackendError
from gateway.upstream.hold import FIRST_PAUSE, LONGEST_PAUSE
from gateway.upstream.server import Server


class Tries:
    """What became of one request so far; made when the first try has failed."""

    __slots__ = ("began", "count", "failure", "held", "pause", "sent", "tried")

    def __init__(self, began: float) -> None:
        self.began = began
        """Clock time of the first: what it has waited in the queue before does not count."""
        self.count = 0
        self.sent = 0
        """Tries that have sent something."""
        self.tried: list[Server] = []
        self.failure: BackendError | None = None
        """The last one."""
        self.held = False
        self.pause = FIRST_PAUSE

    def add(self, server: Server, failure: BackendError, sent: bool) -> None:
        self.count += 1
        self.sent += sent
        self.tried.append(server)
        self.failure = failure

    def start_over(self) -> None:
        """Each server may be asked again, which is not a new attempt: nothing was sent."""
        self.count = 0
        self.tried = []
        self.held = True
        self.pause = min(2 * self.pause, LONGEST_PAUSE)
