"""From a path of a URL to an open file below a directory, and to nothing else.

Promises, whatever the path and whoever changes the tree meanwhile:

* what is judged is the file that was opened (the kernel's name of the descriptor), not a name that could
  mean another file a moment later;
* only regular files and directories; a FIFO does not block, a device is closed again;
* symbolic links as the policy says: they may lead anywhere inside the directory (``inside``), anywhere at
  all (``follow``), or nowhere (``refuse``). The directory itself may be reached through links, and may be
  exchanged while the daemon runs (deployment by a ``current`` link): it is looked up for each request.

Not served (404), so that one file has one name and no route in front of it can be walked round: names with
an encoded slash (``%2F``), empty segments (``//``), and hidden files, except below ``/.well-known/``
(RFC 8615). nginx and Caddy serve hidden files; ``.git`` and ``.env`` are left in document roots too often.

Opening blocks the thread for a few microseconds if the names are in the kernel's cache, as in nginx.
"""

import errno
import os
import stat
from typing import Literal, TypeAlias

from gateway.errors import RequestError, StartError

Symlinks: TypeAlias = Literal["inside", "follow", "refuse"]

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

# The path does not name a file that could be served: for the client all of these are "not there".
_NOT_FOUND = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENXIO,  # a socket, or a FIFO without a reader
    errno.ENODEV,
    errno.EINVAL,
}


def check_names(raw_path: bytes, rest: str) -> None:
    """Refuse the names that are never served. *raw_path* is of the whole request, *rest* what it means here.

    Raises RequestError (404).
    """
    check_segments(raw_path, rest)
    if "/." in rest and "/." in (rest[12:] if rest.startswith("/.well-known/") else rest):
        raise RequestError(404, "hidden files are not served")


def check_segments(raw_path: bytes, rest: str) -> None:
    """Refuse the paths that are a second name of a file. Raises RequestError (404)."""
    if rest and rest[0] != "/":
        raise RequestError(404, "the path is not below the directory")  # `GET *`
    if 37 in raw_path and b"%2f" in raw_path.lower():  # "%"
        raise RequestError(404, "the path has an encoded slash")
    if "//" in rest:
        raise RequestError(404, "the path has an empty segment")


class Tree:
    """A directory whose files may be opened."""

    def __init__(self, root: str | os.PathLike[str], *, symlinks: Symlinks = "inside") -> None:
        """Raises StartError if links are to be judged and the kernel's names (``/proc``) are not there."""
        if symlinks != "follow" and not os.path.isdir("/proc/self/fd"):
            raise StartError(f"static files with `symlinks: {symlinks}` need /proc to be mounted")
        self._root = os.path.join(os.getcwdb(), os.fsencode(root)).rstrip(b"/")
        self._symlinks = symlinks

    def open(self, rest: str) -> tuple[int, os.stat_result]:
        """An open descriptor of the regular file or directory at *rest* (empty or with a slash before it).

        The caller closes it. Raises RequestError (403, 404), or OSError if the machine is at fault.
        """
        name = rest.encode("utf-8", "surrogateescape")
        try:
            descriptor = os.open(self._root + name or b"/", _FLAGS)
        except OSError as error:
            raise _refusal(error) from error
        try:
            facts = os.fstat(descriptor)
            self._judge(descriptor, facts, name)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor, facts

    def _judge(self, descriptor: int, facts: os.stat_result, name: bytes) -> None:
        if not (stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode)):
            raise RequestError(404, "neither a file nor a directory")
        if self._symlinks == "follow":
            return
        actual = _kernel_name(descriptor)
        # No kernel name goes through a link. So if it begins with the root as configured, that is the real
        # one; only otherwise the root's own name must be asked for.
        if not self._may_be(actual, self._root, name) and not self._may_be(actual, self._real_root(), name):
            raise RequestError(404, "a symbolic link leads where files are not served")

    def _may_be(self, actual: bytes, root: bytes, name: bytes) -> bool:
        if self._symlinks == "refuse":
            return actual == (root + name.rstrip(b"/") or b"/")
        return actual.startswith(root + b"/") or actual == root

    def _real_root(self) -> bytes:
        descriptor = os.open(self._root or b"/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return _kernel_name(descriptor).rstrip(b"/")
        finally:
            os.close(descriptor)


def _kernel_name(descriptor: int) -> bytes:
    return os.readlink(b"/proc/self/fd/%d" % descriptor)


def _refusal(error: OSError) -> Exception:
    if error.errno in _NOT_FOUND:
        return RequestError(404, "no such file")
    if error.errno in (errno.EACCES, errno.EPERM):
        return RequestError(403, "the file may not be read")
    return error
