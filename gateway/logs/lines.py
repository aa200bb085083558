"""What a program or application writes to its error stream, in lines fit for a log."""

import re
from typing import Final

LINE_LIMIT: Final = 8 * 1024
"""Bytes of one logged line; what is longer is logged in pieces. Apache's limit is the same."""

ENTRY_LIMIT: Final = 256 * 1024
"""Bytes of a line that is a log entry of one of our processes: it may hold a traceback."""

LAST_LINES: Final = 20
"""Lines that are kept for the developer."""


class LineSplitter:
    """Cuts what a process writes into lines fit for a log: decoded, bounded, no control characters."""

    __slots__ = ("_limit", "_rest")

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        """What is longer than *limit* bytes becomes several lines."""
        self._limit = limit
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that *data* completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) >= self._limit:
            lines.append(self._rest)
            self._rest = b""
        return [text for line in lines for text in _loggable(line, self._limit)]

    @property
    def pending(self) -> list[str]:
        """What has come of a line that is not complete."""
        return _loggable(self._rest, self._limit)

    def end(self) -> list[str]:
        """What is left when no more will come."""
        rest, self._rest = self._rest, b""
        return _loggable(rest, self._limit)


_CONTROLS: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def _loggable(line: bytes, limit: int) -> list[str]:
    # A terminal acts on control characters, so a log must not carry them.
    line = line.rstrip(b"\r")
    return [
        _CONTROLS.sub(
            lambda match: f"\\x{ord(match[0]):02x}",
            line[start : start + limit].decode("utf-8", "backslashreplace"),
        )
        for start in range(0, len(line), limit)
    ]
