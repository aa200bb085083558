"""What a process writes to its standard output and error: to the log, line by line."""

from collections import deque
from typing import Final

import structlog

from gateway.process import LineSplitter

LAST_LINES: Final = 20
"""Lines of the processes' output that are kept for the developer."""

LINES_PER_SECOND: Final = 1000
"""Lines of one process that are logged in a second; a flood would be written at the requests' cost. systemd's
journal takes as many from a service in the long run, by default 10,000 in 30 s."""

log = structlog.get_logger()


class Output:
    """One of the two streams of a process."""

    def __init__(self, backend: str, pid: int, stream: str, last_lines: deque[str]) -> None:
        self._backend = backend
        self._pid = pid
        self._stream = stream
        self._last_lines = last_lines
        self._splitter = LineSplitter()
        self._second = 0
        self._logged = 0
        self._dropped = 0

    def feed(self, data: bytes, now: float) -> None:
        """Log the lines that *data* completes, as far as there is room in this second."""
        if int(now) == self._second and self._logged == LINES_PER_SECOND:
            self._splitter = LineSplitter()  # the line that it began with is incomplete now
            self._dropped += data.count(b"\n")
            return
        self._log(self._splitter.feed(data), now)

    def end(self, now: float) -> None:
        """Nothing more will come."""
        self._log(self._splitter.end(), now)
        self._tell_dropped()

    def _log(self, lines: list[str], now: float) -> None:
        self._last_lines.extend(lines[-LAST_LINES:])
        if int(now) != self._second:
            self._tell_dropped()
            self._second, self._logged = int(now), 0
        room = LINES_PER_SECOND - self._logged
        self._dropped += max(len(lines) - room, 0)
        self._logged += min(len(lines), room)
        # What servers write to their standard error is mostly no error: its level is the reader's to judge.
        for line in lines[:room]:
            log.info(
                "application output", backend=self._backend, pid=self._pid, stream=self._stream, line=line
            )

    def _tell_dropped(self) -> None:
        if self._dropped:
            log.warning(
                "application output dropped",
                backend=self._backend,
                pid=self._pid,
                stream=self._stream,
                lines=self._dropped,
            )
            self._dropped = 0
