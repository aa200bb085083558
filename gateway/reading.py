"""Reads a file at once: what would be waited for, perhaps for ever, is an error."""

import errno
import os
import stat


def read_now(path: str | os.PathLike[str], most: int = -1) -> bytes:
    """The content of a file, *most* bytes of it, or of a pipe that somebody writes to, as ``<(…)`` of shells.

    Raises OSError, and ValueError for a path with NUL.
    """
    with open(path, "rb", opener=open_at_once) as file:
        mode = os.fstat(file.fileno()).st_mode
        pipe = stat.S_ISFIFO(mode)
        if not (pipe or stat.S_ISREG(mode) or os.path.samefile(path, os.devnull)):
            raise OSError(errno.EINVAL, "it is not a regular file")
        os.set_blocking(file.fileno(), True)
        content = file.read(most)
    if pipe and not content:
        raise OSError(errno.ENODATA, "nobody writes to this pipe")
    return content


def open_at_once(path: str, flags: int) -> int:
    """An opener for `open`: a pipe without a writer, and a terminal without a line, are not waited for."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
