"""The access log: a line for each request.

A file may be renamed or removed at any time, as logrotate does: with the next line in another second, or when
`AccessLog.reopen` is called, lines go into a file of the name again.
"""

import errno
import io
import os
import stat
import sys
import time
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from typing import Final, Literal, TextIO, TypeAlias

from gateway.errors import StartError
from gateway.escape import printable
from gateway.logger import get_logger
from gateway.logs.output import Format, is_text, writer
from gateway.request import Request

Destination: TypeAlias = Path | Literal["stdout", "stderr"]
AccessFormat: TypeAlias = Format | Literal["combined"]
"""combined: the Combined Log Format of Apache and nginx, which log analysers read."""

log = get_logger()

LOSS_INTERVAL: Final = 60
"""Seconds between two events that tell of lost lines (nginx has an alert a minute, too)."""


class AccessLog:
    """One line for each request. Call it once a response is over."""

    def __init__(self, *, format: AccessFormat, destination: Destination) -> None:  # noqa: A002
        """Open *destination*; a file is appended to. Raises StartError if that is impossible."""
        self._destination = destination
        self._path: Path | None = None
        """Of the file, if it is one that can be renamed."""
        self._file: io.FileIO | None = None
        if isinstance(destination, Path):
            try:
                self._file = io.FileIO(_open(destination), "a")
            except OSError as error:
                why = "nobody reads from it" if error.errno == errno.ENXIO else error.strerror
                raise StartError(f"access log {destination}: {why}") from error
            if stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
                self._path = destination
            stream: TextIO | io.FileIO = self._file
        else:
            stream = sys.stdout if destination == "stdout" else sys.stderr
        self._write = writer(stream)
        self._colours = stream.isatty() and "NO_COLOR" not in os.environ
        if format == "combined":
            self._line = self._combined
        else:
            self._line = self._text if is_text(format, stream) else self._json
        self._second = -1
        self._stamp = ""
        self._failing = False
        """It could not be opened anew, which was said."""
        self._lost = 0
        """Lines of the file that could not be written, as far as that was not said."""
        self._loss_told = -LOSS_INTERVAL
        """When it was: in seconds, as those of the lines."""

    def __call__(self, request: Request, status: int, size: int, seconds: float) -> None:
        """Log the response to *request*: *size* bytes of body were sent, *seconds* after it began to come."""
        target = request.raw_path + b"?" + request.query if request.query else request.raw_path
        line = self._line(request, target.decode("utf-8", "backslashreplace"), status, size, seconds)
        if not self._write(line) and self._file is not None:
            self._lost += 1
        if self._lost and abs(self._second - self._loss_told) >= LOSS_INTERVAL:
            self._tell_of_loss()

    def _tell_of_loss(self) -> None:
        log.error("access log cannot be written: lines are lost", path=self._destination, lines=self._lost)
        self._loss_told = self._second
        self._lost = 0

    def reopen(self) -> bool:
        """Open the file anew, if it is one. If that fails, lines go on into the one that is open: False."""
        self._failing = False  # who asks is told each time
        if self._path is not None:
            self._reopen(self._path)
        return not self._failing

    def _reopen(self, path: Path) -> None:
        assert self._file is not None
        try:
            descriptor = _open(path)
        except OSError as error:
            if not self._failing:
                self._failing = True
                log.warning(
                    "access log cannot be opened anew: lines go into the old file",
                    path=path,
                    cause=error.strerror,
                )
            return
        try:
            os.dup2(descriptor, self._file.fileno(), inheritable=False)
        finally:
            os.close(descriptor)
        self._failing = False

    def close(self) -> None:
        """Close the file, if it is one."""
        if self._lost:
            self._tell_of_loss()
        if self._file is not None:
            self._file.close()

    def _json(self, request: Request, target: str, status: int, size: int, seconds: float) -> bytes:
        # By hand: json.dumps of the same takes three times as long. quoted() is its C function for text.
        client = request.connection.client
        line = (
            f'{{"timestamp":"{self._now()}","event":"request"'
            f',"client":{"null" if client is None else quoted(client[0] or "unix")}'
            f',"method":{quoted(request.method)},"target":{quoted(target)},"host":{quoted(request.host)}'
            f',"status":{status},"bytes":{size},"duration":{seconds:.6f}'
        )
        if request.backend:
            line += f',"backend":{quoted(request.backend)}'
        if request.upstream_address:
            line += f',"address":{quoted(request.upstream_address)}'
        if request.tries > 1:
            line += f',"tries":{request.tries}'
        if request.upstream_time is not None:
            line += f',"upstream_time":{request.upstream_time:.6f}'
        if request.known_id is not None:
            line += f',"request_id":"{request.known_id}"'
        return f"{line}}}\n".encode("ascii")

    def _text(self, request: Request, target: str, status: int, size: int, seconds: float) -> bytes:
        client = request.connection.client
        # RFC 9110 15 ends at 599; some servers do not.
        shown = f"{_COLOURS[min(status // 100, 5)]}{status}\x1b[0m" if self._colours else str(status)
        line = (
            f"{self._now()} {'-' if client is None else _word(client[0] or 'unix')} {_word(request.method)} "
            f"{_word(target)} {shown} {size}B {seconds * 1000:.1f}ms"
        )
        if request.backend:
            line += f" backend={_word(request.backend)}"
        if request.upstream_address:
            line += f" address={_word(request.upstream_address)}"
        if request.tries > 1:
            line += f" tries={request.tries}"
        if request.upstream_time is not None:
            line += f" upstream={request.upstream_time * 1000:.1f}ms"
        if request.known_id is not None:
            line += f" id={_word(request.known_id)}"
        return f"{line}\n".encode("utf-8", "backslashreplace")

    def _combined(self, request: Request, target: str, status: int, size: int, seconds: float) -> bytes:
        client = request.connection.client
        now = self._now()
        # Not by strftime: names of months follow the locale, which an application may set.
        date = f"{now[8:10]}/{_MONTHS[int(now[5:7]) - 1]}/{now[:4]}:{now[11:19]} +0000"
        # Patterns of those who read it want HTTP/\d\.\d.
        version = "2.0" if request.version == "2" else request.version
        asked = f"{request.method} {target} HTTP/{version}".encode("utf-8", "surrogateescape")
        referer, agent = (request.header(name) or b"-" for name in (b"referer", b"user-agent"))
        line = (
            f"{'-' if client is None else _word(client[0] or 'unix')} - - [{date}] "
            f'"{_quotable(asked)}" {status} {size} "{_quotable(referer)}" "{_quotable(agent)}"'
        )
        return f"{line}\n".encode("utf-8", "backslashreplace")

    def _now(self) -> str:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            if self._path is not None:
                self._follow_name(self._path)
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._stamp}.{int((now - second) * 1000):03d}Z"

    def _follow_name(self, path: Path) -> None:
        assert self._file is not None
        try:
            if os.path.samestat(os.stat(path), os.fstat(self._file.fileno())):
                return
        except OSError:
            pass  # it is made anew
        self._reopen(path)


def _open(path: Path) -> int:
    return os.open(path, _APPEND, 0o640)


# A pipe without a reader, and a terminal without a line, would be waited for (open(2)).
_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
# By the class of the status.
_COLOURS: Final = ("\x1b[31m", "\x1b[36m", "\x1b[32m", "\x1b[36m", "\x1b[33m", "\x1b[31m")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UNQUOTABLE: Final = {
    code: f"\\x{code:02X}" for code in range(256) if not 0x20 <= code < 0x7F or chr(code) in '"\\'
}


def _quotable(value: bytes) -> str:
    """*value* between quotation marks, as nginx writes it."""
    return value.decode("latin-1").translate(_UNQUOTABLE)


def _word(text: str) -> str:
    """*text* as one word of a line."""
    return printable(text).replace(" ", "\\x20")
