"""What an application writes to its error stream during one request: logged, bounded, its end kept for the
developer. It is never a failure by itself (FCGI-12); a line is one where the operator has said so.
"""

import re
from collections.abc import Mapping
from typing import Final

from gateway.logger import get_logger
from gateway.logs.lines import LAST_LINES, LineSplitter

MAX_STDERR: Final = 64 * 1024
"""Characters of an error stream that are logged for one request. The rest is read, and looked at."""

LEAST: Final = 64
"""What a line counts for: an entry of the log has more than the line."""

log = get_logger()


class ErrorStream:
    """The error stream of one request, logged with *facts*; a line that *catch* matches is kept."""

    __slots__ = ("_catch", "_dropped", "_facts", "_last_lines", "_room", "_splitter", "caught")

    def __init__(self, facts: Mapping[str, str], catch: re.Pattern[str] | None) -> None:
        self._facts = facts
        self._catch = catch
        self._splitter = LineSplitter()
        """What is written, and records of a stream, end anywhere in a line."""
        self._room = MAX_STDERR
        self._dropped = 0
        self._last_lines: list[str] = []
        self.caught: str | None = None
        """The first line that is a failure."""

    @property
    def last_words(self) -> list[str]:
        """The last lines, with what has come of one that is not complete."""
        return self._last_lines + self._splitter.pending

    def write(self, data: bytes) -> None:
        """Take the lines that are complete."""
        self._take(self._splitter.feed(data))

    def end_line(self) -> None:
        """Nothing is known to follow: take what is there of the last line."""
        self._take(self._splitter.end())

    def end(self) -> None:
        """Nothing follows."""
        self.end_line()
        if self._dropped:
            log.warning("application stderr dropped", **self._facts, lines=self._dropped)
            self._dropped = 0

    def _take(self, lines: list[str]) -> None:
        for line in lines:
            if self._catch is not None and self.caught is None and self._catch.search(line):
                self.caught = line
            if self._room <= 0:
                self._dropped += 1
                continue
            self._room -= max(len(line), LEAST)
            log.warning("application stderr", **self._facts, line=line)
        self._last_lines = (self._last_lines + lines)[-LAST_LINES:]
