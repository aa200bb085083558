"""What a program writes to its standard error."""

import os
from typing import Final

import structlog

from gateway.backends.cgi.program import Script
from gateway.process import LineSplitter
from gateway.request import Request
from gateway.upstream.stderr import LAST_LINES

MAX_STDERR: Final = 64 * 1024
"""Bytes of standard error that are logged for one request; the rest is read and counted."""

log = structlog.get_logger()


class ErrorLog:
    """A program's standard error, logged line by line with the request's id, up to a bound."""

    def __init__(self, backend: str, script: Script, request: Request) -> None:
        self._backend = backend
        self._script = script
        self._request = request
        self._splitter: LineSplitter | None = None  # most programs never say anything
        self._logged = 0
        self._dropped = 0
        self.last_lines: list[str] = []

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
            log.warning("stderr", **self.facts, line=line)
        self.last_lines = (self.last_lines + lines)[-LAST_LINES:]
