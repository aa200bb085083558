"""The private directories of sockets: made, removed, and removed later if the gateway was killed meanwhile.

One that is in use is locked (flock(2)); the kernel ends the lock with the process, whichever way that ended.
"""

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from typing import Final

from gateway.errors import StartError
from gateway.programs.confinement import User

_NAME: Final = re.compile(r"gateway-[0-9a-f]{16}")


def new_home() -> str:
    """The path of a directory that does not exist yet. Not to be guessed, as /tmp is everybody's.

    Raises StartError if there is no place for it.
    """
    try:
        place = tempfile.gettempdir()
    except FileNotFoundError as error:
        raise StartError(
            f"no directory for a socket: {error.strerror}; TMPDIR can name another one"
        ) from error
    return os.path.join(place, f"gateway-{secrets.token_hex(8)}")


@contextlib.contextmanager
def home(path: str, user: User | None = None) -> Iterator[None]:
    """The directory, for nobody but us, or *user*. Raises OSError if it cannot be made."""
    _remove_abandoned(os.path.dirname(path))
    # Nobody finds it by that name before it is locked.
    hidden = f"{path}.new"
    os.mkdir(hidden, 0o700)
    try:
        with _locked(hidden):
            os.rename(hidden, path)
            if user is not None:
                os.chown(path, -1 if user.uid is None else user.uid, user.gid)
            yield
    finally:
        for each in (hidden, path):
            shutil.rmtree(each, ignore_errors=True)


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    """Raises BlockingIOError if somebody else has it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise PermissionError(f"{path} belongs to somebody else")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _remove_abandoned(directory: str) -> None:
    """Those of gateways that were killed."""
    for name in os.listdir(directory):
        if _NAME.fullmatch(name):
            path = os.path.join(directory, name)
            with contextlib.suppress(OSError), _locked(path):
                shutil.rmtree(path, ignore_errors=True)
