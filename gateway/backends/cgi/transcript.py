"""A file that shows what went between the gateway and a program, for who debugs it (Apache: ScriptLog).

::

    %% 2026-11-28T00:37:00Z GET /cgi-bin/x?q 4f1c… malformed header line
    %% /usr/lib/cgi-bin/x
    %environment
    CONTENT_LENGTH=3
    …
    %body
    %stderr
    %stdout

Credentials are left out by the names of the variables, but bodies and outputs are as they are: the file is
readable for its owner, and perhaps a group, only. It stops growing at its bound.
"""

import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from gateway.logger import get_logger
from gateway.protocols.events import Headers
from gateway.request import PIECE, Body, Request

_SECRET: Final = re.compile(rb"AUTH|COOKIE|PASS|SECRET|TOKEN|KEY|CREDENTIAL")
"""In the name of a variable: its value is nobody's business."""

_OPENED: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""fifo(7): to open one that nobody reads would wait for a reader, and with it the whole daemon."""

log = get_logger()


@dataclass(slots=True, frozen=True)
class Transcript:
    """Where exchanges are written down: failed ones, or with ``always`` all.

    ``size``: bytes beyond which nothing is added. ``excerpt``: bytes of body and output that are kept.
    """

    path: str
    size: int
    always: bool
    excerpt: int

    def add(self, recording: "Recording", outcome: str) -> None:
        """Write one exchange down. A file that cannot be written is logged, and is no failure."""
        try:
            descriptor = os.open(self.path, _OPENED, 0o600)
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise OSError("it is no regular file, and could keep everybody waiting")
                if status.st_mode & 0o007:
                    os.fchmod(descriptor, stat.S_IMODE(status.st_mode) & ~0o007)
                if status.st_size < self.size:
                    os.write(descriptor, recording.text(outcome)[: self.size - status.st_size])
            finally:
                os.close(descriptor)
        except OSError as error:
            log.warning("transcript cannot be written", path=self.path, cause=str(error))


class Recording:
    """What is kept of one exchange: the first *excerpt* bytes of body and output."""

    def __init__(self, request: Request, program: str, excerpt: int) -> None:
        self._request = request
        self._program = program
        self._excerpt = excerpt
        self._body = b""
        self._output = b""
        self.environ: Mapping[bytes, bytes] = {}
        self.stderr: Sequence[str] = ()

    def body(self, data: bytes) -> None:
        """Some of the request body."""
        if len(self._body) < self._excerpt:
            self._body = (self._body + data)[: self._excerpt]

    def output(self, data: bytes) -> None:
        """Some of what the program wrote."""
        if len(self._output) < self._excerpt:
            self._output = (self._output + data)[: self._excerpt]

    def text(self, outcome: str) -> bytes:
        """The entry of the transcript."""
        request = self._request
        asked = request.raw_path + (b"?" + request.query if request.query else b"")
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        lines = [
            b"%%%% %s %s %s %s %s" % (now.encode(), request.method.encode(), asked, request.id.encode(),
                                      outcome.encode("utf-8", "backslashreplace")),
            b"%% " + os.fsencode(self._program),
            b"%environment",
            *(b"%s=%s" % (name, b"[left out]" if _SECRET.search(name) else value)
              for name, value in sorted(self.environ.items())),
        ]  # fmt: skip
        stderr = "\n".join(self.stderr).encode("utf-8", "backslashreplace")
        for title, content in ((b"%body", self._body), (b"%stderr", stderr), (b"%stdout", self._output)):
            if content:
                lines += [title, content]
        return b"\n".join(lines) + b"\n\n"


class RecordedBody:
    """A body of which the beginning is kept."""

    __slots__ = ("_body", "_recording", "length")

    def __init__(self, body: Body, recording: Recording) -> None:
        self.length = body.length
        self._body = body
        self._recording = recording

    @property
    def trailers(self) -> Headers:
        return self._body.trailers

    def read_nowait(self, most: int = PIECE) -> bytes | None:
        piece = self._body.read_nowait(most)
        if piece:
            self._recording.body(piece)
        return piece

    async def read(self) -> bytes:
        piece = await self._body.read()
        self._recording.body(piece)
        return piece
