"""An application's error stream during one request: logged, bounded, its end kept for the developer."""

from typing import Final

from gateway.logger import get_logger
from gateway.logs.lines import LAST_LINES, LineSplitter

STDERR_LIMIT: Final = 16 * 1024
"""Bytes of an application's error stream that are logged for one request."""

log = get_logger()


class ErrorStream:
    """FCGI-12: an error stream is never a failure by itself; it is logged with its request.

    What is one all the same, because somebody has said so, is for `Exchange` to find.
    """

    __slots__ = ("_backend", "_request_id", "_room", "_splitter", "last_lines")

    def __init__(self, backend: str, request_id: str) -> None:
        self._backend = backend
        self._request_id = request_id
        self._room = STDERR_LIMIT
        self._splitter = LineSplitter()
        """Records of a stream end anywhere in a line."""
        self.last_lines: list[str] = []

    def write(self, data: bytes) -> list[str]:
        """Log the lines that are complete, as far as there is room; these lines."""
        data = data[: self._room]
        self._room -= len(data)
        return self._log(self._splitter.feed(data))

    def end_line(self) -> list[str]:
        """Nothing is known to follow: log what is there of the last line; it, if there is any."""
        return self._log(self._splitter.end())

    def _log(self, lines: list[str]) -> list[str]:
        for line in lines:
            log.warning("application stderr", backend=self._backend, request_id=self._request_id, line=line)
        self.last_lines = (self.last_lines + lines)[-LAST_LINES:]
        return lines
