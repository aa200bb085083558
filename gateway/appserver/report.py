"""What this process tells the supervisor that started it: that it serves, and that it has served enough.

One byte each, over a pipe that it inherits. The supervisor tells things by signals.
"""

import os
import signal
import threading
from contextlib import suppress
from typing import Final

READY: Final = b"R"
"""The application is loaded, and connections are accepted."""
SPENT: Final = b"S"
"""The process has had as many requests as it may: another is wanted in its place. It serves on meanwhile."""
DRAINING: Final = b"D"
"""No more connections are accepted. Those that are open are served until they are closed."""

END_ANNOUNCED: Final = signal.SIGRTMIN
END_URGENT: Final = signal.SIGRTMAX
"""From the supervisor, to processes of `gateway.hosted`: the two steps of the notice that the gateway stops
(`gateway.shutdown.notice`). The stop signal comes after them. Nobody else sends these; SIGUSR1 reaches all
processes of the daemon where logs are rotated by `systemctl kill`."""

END_AT_ONCE: Final = signal.SIGINT
"""From the supervisor to processes of `gateway.hosted`, after the stop signal: nothing is waited for any
more. It is not the same number again, because two that have not been taken yet would be one (signal(7))."""


class Report:
    """*descriptor* is where to, None for nobody; *max_requests* 0 means any number."""

    def __init__(self, descriptor: int | None, max_requests: int = 0) -> None:
        self._descriptor = descriptor
        self._left = max_requests
        self._lock = threading.Lock()

    def ready(self) -> None:
        self._say(READY)

    def draining(self) -> None:
        self._say(DRAINING)

    def request_ended(self) -> None:
        if self._left:
            with self._lock:
                self._left -= 1
                spent = self._left == 0
            if spent:
                self._say(SPENT)

    def _say(self, word: bytes) -> None:
        if self._descriptor is not None:
            with suppress(OSError):  # the supervisor is gone; `gateway.shutdown.orphan` sees to that
                os.write(self._descriptor, word)
