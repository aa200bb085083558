"""Starts a program by the function in C that `subprocess.Popen` is made of, without what is around it.

Popen has a form for every need, and prepares for all of them at each start: that is 45 µs of about 650 for a
small C program. What the child gets is the same, and it is started by vfork as well: the event loop stands
for 0.1 ms. That function is nobody's business but Python's, so it is used in the versions whose form of it
is known. In others, and wherever something is out of the ordinary or the program cannot be run, Popen does
it, and says what is wrong.

`os.posix_spawn` is no faster, and knows no working directory. `trio.run_process` takes three times as long.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final


def _find_fork_exec() -> Any:
    """The function, or None if this Python has another one or none."""
    if sys.implementation.name != "cpython" or sys.version_info >= (3, 16):
        return None
    try:
        from _posixsubprocess import fork_exec
    except ImportError:
        return None
    return fork_exec


_fork_exec: Final = _find_fork_exec()

_BY_VFORK: Final = (True,) if sys.version_info < (3, 14) else ()
"""The last argument, which newer versions take for granted."""

DIRECT: Final = _fork_exec is not None
"""Python has what is used here."""


def start_program(
    argv: Sequence[str | bytes],
    *,
    env: Mapping[bytes, bytes],
    directory: str | bytes,
    stdin: int,
    stdout: int,
    stderr: int,
    others: Sequence[int] = (),
    session: bool = True,
) -> int:
    """Start ``argv[0]`` as the leader of a new *session*, or else of a new process group.

    It has no descriptors but the three and *others*. Returns its number; to reap it is up to the caller.
    Raises OSError if it cannot be started.
    """
    program = os.fsencode(argv[0])
    # A name without a path is to be searched for.
    if DIRECT and b"/" in program:

        def fork_exec(failure: int, theirs: int) -> int:
            pid: int = _fork_exec(
                argv,
                (program,),
                True,  # close all but:
                tuple(sorted((*others, theirs))),
                directory,
                list(map(b"=".join, env.items())),
                *(stdin, -1, -1, stdout, -1, stderr),  # -1: the other ends of pipes are none of its business
                *(failure, theirs),
                True,  # restore the signals that Python ignores
                *((True, -1) if session else (False, 0)),  # setsid(2), or setpgid(2)
                *(None, None, None),  # group, groups and user stay
                -1,  # the umask stays
                None,  # nothing is to be called in between
                *_BY_VFORK,
            )
            return pid

        # What Popen tells those who watch the process from within.
        sys.audit("subprocess.Popen", argv[0], argv, directory, env)
        pid = _running(fork_exec)
        if pid is not None:
            return pid
    popen = subprocess.Popen(
        argv,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=env,
        cwd=directory,
        start_new_session=session,
        process_group=None if session else 0,
        pass_fds=others,
    )
    popen.returncode = 0  # it is not Popen's to reap
    return popen.pid


def _running(fork_exec: Callable[[int, int], int]) -> int | None:
    """The number of the child that *fork_exec* starts, or None if Popen is to try.

    The child gets both ends of a pipe, whose end is its exec: what comes before that is an error.
    """
    failure, theirs = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            if theirs <= 2:
                return None  # one of the child's three takes its place
            pid = fork_exec(failure, theirs)
        finally:
            os.close(theirs)
        failed = os.read(failure, 1)
    finally:
        os.close(failure)
    if not failed:
        return pid
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    return None
