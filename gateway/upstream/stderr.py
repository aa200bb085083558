"""An application's error stream during one request: logged, bounded, its end kept for the developer."""

from typing import Final

from gateway.logger import get_logger

STDERR_LIMIT: Final = 16 * 1024
"""Bytes of an application's error stream that are logged for one request."""

LAST_LINES: Final = 20

log = get_logger()


class ErrorStream:
    """FCGI-12: an error stream is never a failure by itself; it is logged with its request.

    What is one all the same, because somebody has said so, is for `Exchange` to find.
    """

    __slots__ = ("_backend", "_begun", "_request_id", "_room", "last_lines")

    def __init__(self, backend: str, request_id: str) -> None:
        self._backend = backend
        self._request_id = request_id
        self._room = STDERR_LIMIT
        self._begun = b""
        """A line of which the end has not come: records of a stream end anywhere."""
        self.last_lines: list[str] = []

    def write(self, data: bytes) -> list[str]:
        """Log the lines that are complete, as far as there is room; these lines."""
        data = data[: self._room]
        self._room -= len(data)
        whole, end, self._begun = (self._begun + data).rpartition(b"\n")
        return self._log(whole + end)

    def end_line(self) -> list[str]:
        """Nothing is known to follow: log what is there of the last line; it, if there is any."""
        begun, self._begun = self._begun, b""
        return self._log(begun)

    def _log(self, data: bytes) -> list[str]:
        lines = data.decode("utf-8", "replace").splitlines()
        for line in lines:
            log.warning("application stderr", backend=self._backend, request_id=self._request_id, line=line)
        self.last_lines = (self.last_lines + lines)[-LAST_LINES:]
        return lines
