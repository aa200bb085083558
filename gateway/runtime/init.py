"""Process 1 of a container: the daemon is its child.

Processes whose parents have ended become children of process 1 (pid_namespaces(7)), as those do that CGI
programs and applications leave behind. Who does not wait for them keeps them as zombies, until the container
may have no more processes. The daemon cannot wait for what it has not started: that may be a child that an
application waits for. So it is forked off, and what stays waits for all.
"""

import os
import signal
from typing import Final


def leave_process_one() -> None:
    """As process 1, become a child of it, which ends as the child does; otherwise do nothing.

    Before there are threads, for it forks.
    """
    if os.getpid() != 1:
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    daemon = os.fork()
    if daemon:
        _wait(daemon)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _wait(daemon: int) -> None:
    """Pass signals on to *daemon* until it ends. Does not return."""
    signals = signal.valid_signals()
    while True:
        info = signal.sigwaitinfo(signals)
        if info.si_signo == signal.SIGCHLD:
            _reap(daemon)
        elif info.si_code != _SI_KERNEL or info.si_signo == signal.SIGHUP:
            # What a terminal sends (Ctrl-C) goes to both; but for its own end, which goes to process 1.
            os.kill(daemon, info.si_signo)


def _reap(daemon: int) -> None:
    while (ended := os.waitpid(-1, os.WNOHANG)) != _NONE_YET:
        pid, status = ended
        if pid == daemon:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)  # as shells say that a signal ended it


_NONE_YET: Final = (0, 0)
_SI_KERNEL: Final = 0x80
"""Of sigaction(2): sent by the kernel."""
