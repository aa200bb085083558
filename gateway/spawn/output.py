"""What a process writes to its standard output and error: to the log, line by line.

A process of our own writes log entries to its standard error, as JSON; they are entries of this log again.
"""

import json
import logging
from collections import deque
from typing import Any, Final

from gateway.logger import get_logger
from gateway.logs.lines import ENTRY_LIMIT, LAST_LINES, LINE_LIMIT, LineSplitter

LINES_PER_SECOND: Final = 1000
"""Lines of one process that are logged in a second; a flood would be written at the requests' cost. systemd's
journal takes as many from a service in the long run, by default 10,000 in 30 s."""

_TAIL: Final = 16 * 1024
"""Bytes of what is not logged on standard error that are kept: its last lines may say why the process
has ended. Those of standard output would take the place of just these."""

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}

_MEANINGFUL: Final = frozenset(
    {"timestamp", "level", "event", "self", "method_name", "args", "kw", "exc_info", "stack_info"}
)
_TEXTS: Final = frozenset({"exception", "stack", "logger"})

log = get_logger()


class Output:
    """One of the two streams of a process. With *has_entries* some of its lines are log entries of ours."""

    def __init__(
        self, backend: str, pid: int, stream: str, last_lines: deque[str], *, has_entries: bool = False
    ) -> None:
        self._backend = backend
        self._pid = pid
        self._stream = stream
        self._last_lines = last_lines
        self._has_entries = has_entries
        self._limit = ENTRY_LIMIT if has_entries else LINE_LIMIT
        self._splitter = LineSplitter(self._limit)
        self._second = 0
        self._logged = 0
        self._dropped = 0
        self._tail = b""
        """The last of what was not looked at in this second."""

    def feed(self, data: bytes, now: float) -> None:
        """Log the lines that *data* completes, as far as there is room in this second."""
        if int(now) == self._second and self._logged == LINES_PER_SECOND:
            self._splitter = LineSplitter(self._limit)  # the line that it began with is incomplete now
            self._dropped += data.count(b"\n")
            if self._stream == "stderr":
                self._tail = (self._tail + data)[-_TAIL:]
            return
        self._tail = b""
        self._log(self._splitter.feed(data), now)

    def end(self, now: float) -> None:
        """Nothing more will come."""
        if self._tail:
            lines = self._splitter.feed(self._tail)
            # Of the first the beginning may be missing.
            self._last_lines.extend((lines[1:] or lines)[-LAST_LINES:])
        self._log(self._splitter.end(), now)
        self._tell_dropped()

    def _log(self, lines: list[str], now: float) -> None:
        if int(now) != self._second:
            self._tell_dropped()
            self._second, self._logged = int(now), 0
        room = LINES_PER_SECOND - self._logged
        self._dropped += max(len(lines) - room, 0)
        self._logged += min(len(lines), room)
        for line in lines[:room]:
            if self._has_entries and self._log_entry(line):
                continue
            self._last_lines.append(line)
            # What servers write to standard error is mostly no error: its level is the reader's to judge.
            log.info(
                "application output", backend=self._backend, pid=self._pid, stream=self._stream, line=line
            )
        self._last_lines.extend(lines[room:][-LAST_LINES:])

    def _log_entry(self, line: str) -> bool:
        """Log *line* as the entry of ours that it is; False if it is none."""
        try:
            entry = _entry(line)
            if entry is None:
                return False
            words = _in_words(entry)
            log.log(entry.pop("level"), entry.pop("event"), **{**entry, "pid": self._pid})
        except RecursionError:  # from an application, which may nest what it writes as deep as it likes
            return False
        self._last_lines.extend(words)
        return True

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


def _entry(line: str) -> dict[str, Any] | None:
    """The log entry of ours that *line* is, if it is one; its level is the number."""
    if not line.startswith('{"timestamp": '):
        return None
    try:
        found: dict[str, Any] = json.loads(line)
        event, level = str(found["event"]), _LEVELS[found["level"]]
    except (ValueError, KeyError, TypeError):
        return None
    # The application may have written it: nothing that means something to the logger, and text where it
    # expects text.
    facts = {key: value for key, value in found.items() if key not in _MEANINGFUL}
    for key in _TEXTS & facts.keys():
        facts[key] = str(facts[key])
    return {**facts, "event": event, "level": level}


def _in_words(entry: dict[str, Any]) -> list[str]:
    """For the developer: what has happened, and the end of the traceback."""
    return [entry["event"], *str(entry.get("exception", "")).splitlines()]
