"""What a program writes to its standard error."""

import os
import re
from typing import Final

from gateway.backends.cgi.program import Script
from gateway.logger import get_logger
from gateway.logs.lines import LAST_LINES, LineSplitter
from gateway.request import Request

MAX_STDERR: Final = 64 * 1024
"""Bytes of standard error that are logged for one request; the rest is read and counted."""

log = get_logger()


class ErrorLog:
    """A program's standard error, logged line by line with the request's id, up to a bound."""

    def __init__(self, backend: str, script: Script, request: Request, catch: re.Pattern[str] | None) -> None:
        self._backend = backend
        self._script = script
        self._request = request
        self._splitter: LineSplitter | None = None  # most programs never say anything
        self._logged = 0
        self._dropped = 0
        self._catch = catch
        self._caught: str | None = None
        self._last_lines: list[str] = []

    @property
    def last_words(self) -> list[str]:
        """The last lines, with what has come of one that is not complete."""
        pending = self._splitter.pending if self._splitter is not None else []
        return self._last_lines + pending

    @property
    def caught(self) -> str | None:
        """The first line that *catch* matches."""
        if self._caught is None and self._catch is not None and self._splitter is not None:
            self._look_at(self._splitter.pending)
        return self._caught

    @property
    def facts(self) -> dict[str, str]:
        return {
            "backend": self._backend,
            "program": os.fsdecode(self._script.filename),
            "request_id": self._request.id,
        }

    def write(self, data: bytes) -> None:
        if self._logged >= MAX_STDERR:
            self._dropped += len(data)
            return
        self._logged += len(data)
        if self._splitter is None:
            self._splitter = LineSplitter()
        self._log(self._splitter.feed(data))

    def end(self) -> None:
        if self._splitter is not None:
            self._log(self._splitter.end())
        if self._dropped:
            log.warning("CGI program wrote too much to stderr", **self.facts, dropped=self._dropped)

    def _log(self, lines: list[str]) -> None:
        for line in lines:
            log.warning("application stderr", **self.facts, line=line)
        self._look_at(lines)
        self._last_lines = (self._last_lines + lines)[-LAST_LINES:]

    def _look_at(self, lines: list[str]) -> None:
        if self._catch is not None and self._caught is None:
            self._caught = next(filter(self._catch.search, lines), None)
