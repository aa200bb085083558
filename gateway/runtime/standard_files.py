"""Standard input, output and error: they are open, so that nothing else gets their numbers.

A connection or a file that did would be read, written and closed as if it were one of them.
"""

import os
import sys


def keep_standard_files() -> None:
    """Put /dev/null in the place of those that are closed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free


def open_standard_files() -> None:
    """The same for those that were closed at the start (``<&- >&- 2>&-``), for which Python has None."""
    keep_standard_files()
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "w" if descriptor else "r", closefd=False))  # noqa: SIM115 - they stay open


def drop_unwritten() -> None:
    """Leave out what standard output does not take: at the end Python would try again, and exit with 120."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
