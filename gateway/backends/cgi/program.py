"""Finding the program that a request runs, and splitting its path there (SCRIPT_NAME | PATH_INFO).

It does not run anything outside the configured directory, nor what the rules do not allow: by default
whatever is executable.
"""

import contextlib
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from gateway.backends.cgi.indexed_query import search_words
from gateway.errors import RequestError, StartError
from gateway.programs.executable import shebang
from gateway.request import Request

Execute: TypeAlias = Literal["auto", "x-only", "shebang"]
"""Which files may be run: executable ones and those that have an interpreter; executable ones only; or also
those whose first line names an interpreter."""


@dataclass(slots=True, frozen=True)
class Script:
    """The program that a request runs, and how its path is split around it."""

    filename: bytes
    script_name: str
    path_info: str
    command: tuple[bytes, ...]
    """What is run: the file, or an interpreter with it, and arguments."""
    interpreted: bool
    """Whether the configuration has an interpreter for it."""


@dataclass(slots=True, frozen=True)
class ProgramRules:
    """What may be run, and how.

    ``index``: the program to look for when a path ends at a directory. ``interpreters``: commands by the
    extension of what they run. ``extensions``: those of programs; none given means any. ``indexed_query``:
    whether the words of a query that has no ``=`` are arguments.
    """

    index: str | None
    interpreters: Mapping[str, tuple[str, ...]]
    extensions: Sequence[str]
    execute: Execute
    indexed_query: bool


class Programs:
    """The programs of a directory, or one program."""

    def __init__(self, path: str | os.PathLike[str], rules: ProgramRules) -> None:
        # Links in the configured path itself are the operator's; those below it must not lead out.
        self._path = os.path.realpath(os.fsencode(path))
        self._one_program = not os.path.isdir(self._path)
        self._rules = rules
        self._interpreters = {
            os.fsencode(extension): tuple(map(os.fsencode, command))
            for extension, command in rules.interpreters.items()
        }
        self._extensions = (*map(os.fsencode, rules.extensions), *self._interpreters)

    @property
    def document_root(self) -> bytes:
        """The directory that the programs are in."""
        return os.path.dirname(self._path) if self._one_program else self._path

    def check(self, backend: str) -> None:
        """Raises StartError, in the name of *backend*, if there is nothing to run."""
        path = os.fsdecode(self._path)
        if not os.path.exists(path):
            raise StartError(f"backend {backend}: {path}: no such file or directory")
        if self._one_program:
            try:
                self._command(self._path)
            except RequestError as error:
                raise StartError(f"backend {backend}: {path}: {error.detail}") from error

    def find(self, request: Request) -> Script:
        """The program for the path of *request*. Raises RequestError 403 or 404 if there is none."""
        if self._one_program:
            return self._script(self._path, request.mount, request.rest, request)
        # %2F would be a separator in the file system that it was not in the URL (RFC 3875 4.1.5).
        if b"%2f" in request.raw_path.lower():
            raise RequestError(404, "an encoded slash is in no program's path")
        filename = self._path
        script_name = request.mount
        segments = request.rest.split("/")[1:]
        for position, segment in enumerate(segments, 1):
            if not segment and position == len(segments):
                break  # `/directory/`
            filename, mode = self._look_up(filename, segment)
            script_name += f"/{segment}"
            if stat.S_ISREG(mode):
                path_info = "".join(f"/{rest}" for rest in segments[position:])
                return self._script(filename, script_name, path_info, request)
            if not stat.S_ISDIR(mode):
                raise RequestError(404, "there is no such program")
        return self._find_index(filename, script_name, request)

    def _find_index(self, directory: bytes, script_name: str, request: Request) -> Script:
        index = self._rules.index
        if index is not None:
            with contextlib.suppress(RequestError):
                filename, mode = self._look_up(directory, index)
                if stat.S_ISREG(mode):
                    return self._script(filename, f"{script_name}/{index}", "", request)
        raise RequestError(403, "the path is a directory of programs")

    def _look_up(self, directory: bytes, segment: str) -> tuple[bytes, int]:
        """The file or directory *segment*, and its mode; never outside the configured path."""
        # `//` names nothing (RFC 3875 9.8); the rest cannot come from a request, but costs nothing.
        if segment in ("", ".", "..") or "\0" in segment:
            raise RequestError(404, "there is no such program")
        filename = os.path.join(directory, segment.encode("utf-8", "surrogateescape"))
        try:
            mode = os.lstat(filename).st_mode
            if stat.S_ISLNK(mode):
                filename = os.path.realpath(filename, strict=True)
                mode = os.stat(filename).st_mode
                if not filename.startswith(os.path.join(self._path, b"")):
                    raise RequestError(403, "the link leads out of the programs' directory")
        except OSError as error:  # ENOENT, ENAMETOOLONG, ELOOP, EACCES
            raise RequestError(404, "there is no such program") from error
        return filename, mode

    def _script(self, filename: bytes, script_name: str, path_info: str, request: Request) -> Script:
        command, interpreted = self._command(filename)
        if self._rules.indexed_query:
            command = (*command, *search_words(request))
        return Script(filename, script_name, path_info, command, interpreted)

    def _command(self, filename: bytes) -> tuple[tuple[bytes, ...], bool]:
        """How *filename* is run, and whether by a configured interpreter. Raises RequestError 403."""
        if self._rules.extensions and not filename.endswith(self._extensions):
            raise RequestError(403, "the file is no program, by its extension")
        execute = self._rules.execute
        executable = os.access(filename, os.X_OK)
        if executable or execute != "x-only":
            for extension, command in self._interpreters.items():
                if filename.endswith(extension):
                    return (*command, filename), True
        if executable:
            return (filename,), False
        if execute == "shebang" and (command := shebang(filename)):
            return (*command, filename), False
        raise RequestError(403, "the file is not executable")
