"""The file on which the workers of one supervisor agree whose turn it is (`gateway.spawn.turn`).

It has no name: nobody else can open it. The supervisor makes it and hands it on to each worker; a gateway of
one process has none, and nobody to agree with.
"""

import os
from typing import IO

_descriptor: int | None = None


def make() -> IO[bytes]:
    """Make one, for a supervisor. Raises OSError."""
    try:
        return open(os.memfd_create("turns", os.MFD_CLOEXEC), "r+b", buffering=0)
    except (AttributeError, OSError):  # there is no such call, or a sandbox forbids it
        from tempfile import TemporaryFile

        return TemporaryFile(buffering=0)


def share(descriptor: int) -> None:
    """In a worker: it has inherited the file as *descriptor*, and hands it on to nobody."""
    global _descriptor
    os.set_inheritable(descriptor, False)
    _descriptor = descriptor


def shared() -> int | None:
    """The descriptor of the file; None if there is no supervisor."""
    return _descriptor
