"""The configuration of CGI programs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from gateway.config.backends.common import CGIFamily
from gateway.config.base import Model, Place, queue_contradictions, written
from gateway.config.confined import Confined
from gateway.config.values.files import PATH_SCHEMA, FileName, FilePath, ProgramOrDirectory, check_runnable
from gateway.config.values.numbers import Count, CountOrNone, Flag
from gateway.config.values.programs import Extension, Interpreter, VariableName
from gateway.config.values.quantities import Duration, Size, Timeout
from gateway.config.values.shapes import Many, Short
from gateway.config.values.texts import Regex


class Transcript(Model):
    """A file that shows exchanges with programs."""

    file: FilePath
    """The file, a regular one; it is made readable for its owner only."""
    size: Size = written("10MiB")
    """Bytes beyond which nothing is added (Apache: ScriptLogLength)."""
    always: Flag = False
    """true: all exchanges are written down, not only those that failed."""
    excerpt: Size = written("1KiB")
    """Bytes of the request body and of the output that are shown (Apache: ScriptLogBuffer)."""


def _transcript(value: Any) -> Any:
    return {"file": value} if isinstance(value, str) else value


class CGIBackend(CGIFamily, Confined):
    """A program started for each request (RFC 3875)."""

    kind: ClassVar[str] = "cgi"
    interpreter: dict[Extension, Interpreter] = Field(default_factory=dict)
    """Programs, with arguments or without, that run the files of an extension: {.php: php-cgi, .pl: perl}.
    Such files need not be executable."""
    extensions: Annotated[tuple[Extension, ...], Many()] = ()
    """How the names of programs end, beside those that have an interpreter; by default as they like."""
    execute: Literal["auto", "x-only", "shebang"] = "auto"
    """Which files are run: auto, executable ones and those that have an interpreter; x-only, executable ones;
    shebang, also those whose first line names an interpreter (#!)."""
    path: ProgramOrDirectory = Field(alias="cgi")
    """One program, or a directory of programs that are found by the path of the request."""
    index: FileName | None = None
    """The program for a path that ends in a directory."""
    timeout: Timeout = written("60s")
    """For the program to write something; then it is ended and the request answered 504."""
    kill_after: Duration = written("5s")
    """From SIGTERM to SIGKILL, for the whole process group."""
    nph: Annotated[tuple[FileName, ...], Many()] = ("nph-*",)
    """Names of programs that write whole HTTP responses (RFC 3875 5); * stands for anything."""
    pass_env: Annotated[tuple[VariableName, ...], Many()] = ()
    """Variables of the gateway's own environment that programs get, such as [LANG, TZ]."""
    pass_authorization: Flag = False
    """Whether programs see the credentials of clients, as HTTP_AUTHORIZATION (Apache: CGIPassAuth)."""
    indexed_query: Flag = False
    """Whether the words of a query without = are arguments of the program (RFC 3875 4.4); a query with a word
    that begins with - never is."""

    max_processes: Count | None = None
    """Programs that run at the same time; further requests wait."""
    queue: CountOrNone = 100
    """Requests that may wait, with max_processes; more are answered 503 at once, with Retry-After."""
    queue_time: Timeout = written("10s")
    """How long one may wait, before it is answered 503."""
    catch_stderr: Regex | None = None
    """A regular expression: a line of standard error that it matches before the response has begun makes it a
    502 (nginx: fastcgi_catch_stderr)."""
    transcript: (
        Annotated[
            Transcript,
            Short(_transcript, PATH_SCHEMA, "a file or a mapping with file"),
        ]
        | None
    ) = None
    """A file that shows what went between the gateway and programs that failed (Apache: ScriptLog)."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        yield from super().contradictions(data)
        yield from queue_contradictions(data, bound="max_processes")

    @field_validator("path")
    @classmethod
    def _runnable(cls, path: Path, info: ValidationInfo) -> Path:
        execute = info.data.get("execute")
        interpreted = path.name.endswith(tuple(info.data.get("interpreter", ())))
        if execute == "x-only" or (execute == "auto" and not interpreted):
            check_runnable(path)
        return path
