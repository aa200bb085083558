"""Ends this process when the supervisor that started it has gone without a word (SIGKILL, a crash).

Nobody else would: it leads a session of its own. A thread waits for the end of the parent, so it works while
the application is being loaded too. prctl(PR_SET_PDEATHSIG) would do with less, but means the *thread*
that has started the child.
"""

import contextlib
import os
import select
import signal
import threading
import time
from typing import Final

GRACE: Final = 30.0
"""Seconds that running requests have then; the supervisor that would count them is gone."""

LOOK_INTERVAL: Final = 0.5
"""Seconds between two looks at the parent where no descriptor tells of its end."""


def end_with(parent: int, *, grace: float = GRACE, silent: bool = True) -> None:
    """Stop as on SIGTERM once the process *parent* has ended, and for good after *grace* seconds.

    *silent*: it has read what this process writes, so nothing can be written any more.
    """
    try:
        descriptor = os.pidfd_open(parent)
    except (OSError, AttributeError):  # it has ended, or there are no pidfds here (`programs.process`)
        descriptor = -1
    arguments = (parent, descriptor, grace, silent)
    threading.Thread(target=_wait, args=arguments, name="orphan", daemon=True).start()


def _wait(parent: int, descriptor: int, grace: float, silent: bool) -> None:
    # Its number may be another's already, but only of one that is not our parent.
    while os.getppid() == parent:
        if descriptor >= 0:
            select.select([descriptor], [], [])
        else:
            time.sleep(LOOK_INTERVAL)
    if silent:
        # The supervisor had the other end of both: whatever is still written must not raise.
        with contextlib.suppress(OSError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    os._exit(1)
