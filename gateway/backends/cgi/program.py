"""Finding the program that a request runs, and splitting its path there (SCRIPT_NAME | PATH_INFO).

It does not run anything that is not executable, and nothing outside the configured directory.
"""

import contextlib
import os
import stat
from dataclasses import dataclass

from gateway.backend import StartError
from gateway.errors import RequestError
from gateway.request import Request


@dataclass(slots=True, frozen=True)
class Script:
    """The program that a request runs, and how its path is split around it."""

    filename: bytes
    script_name: str
    path_info: str


class Programs:
    """The programs of a directory, or one program.

    ``index``: the program to look for when a path ends at a directory.
    """

    def __init__(self, path: str | os.PathLike[str], *, index: str | None) -> None:
        # Links in the configured path itself are the operator's; those below it must not lead out.
        self._path = os.path.realpath(os.fsencode(path))
        self._one_program = not os.path.isdir(self._path)
        self._index = index

    @property
    def document_root(self) -> bytes:
        """The directory that the programs are in."""
        return os.path.dirname(self._path) if self._one_program else self._path

    def check(self, backend: str) -> None:
        """Raises StartError, in the name of *backend*, if there is nothing to run."""
        path = os.fsdecode(self._path)
        if not os.path.exists(path):
            raise StartError(f"backend {backend}: {path}: no such file or directory")
        if self._one_program and not os.access(path, os.X_OK):
            raise StartError(f"backend {backend}: {path} is not executable")

    def find(self, request: Request) -> Script:
        """The program for the path of *request*. Raises RequestError 403 or 404 if there is none."""
        if self._one_program:
            return Script(self._path, request.mount, request.rest)
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
                return self._executable(filename, script_name, "".join(f"/{s}" for s in segments[position:]))
            if not stat.S_ISDIR(mode):
                raise RequestError(404, "there is no such program")
        return self._find_index(filename, script_name)

    def _find_index(self, directory: bytes, script_name: str) -> Script:
        if self._index is not None:
            with contextlib.suppress(RequestError):
                filename, mode = self._look_up(directory, self._index)
                if stat.S_ISREG(mode):
                    return self._executable(filename, f"{script_name}/{self._index}", "")
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

    def _executable(self, filename: bytes, script_name: str, path_info: str) -> Script:
        if not os.access(filename, os.X_OK):
            raise RequestError(403, "the file is not executable")
        return Script(filename, script_name, path_info)
