"""The signals that are about log files.

Other daemons open theirs anew at SIGUSR1, and nginx and gunicorn replace their program at SIGUSR2: neither
ends this one.
"""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

LOG_SIGNALS: Final = (signal.SIGUSR1, signal.SIGUSR2)


def outlive_log_signals() -> None:
    """Ignore them until they are followed, and again behind that: they would end the process.

    No handler: one that does nothing is taken away before Python has ended.
    """
    for number in LOG_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def pass_over_log_signals(*others: signal.Signals) -> None:
    """In the process of an application, which they may reach too (`systemctl kill`), before it is loaded.

    Also *others*, until they are followed, and again behind that. By a handler: programs that it starts would
    inherit that they are ignored.
    """
    for number in (*LOG_SIGNALS, *others):
        signal.signal(number, _do_nothing)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    pass


def heed_log_signal(number: int, reopen: Callable[[], bool]) -> None:
    """Do what *number*, of `LOG_SIGNALS`, asks for, or say what to do for it; *reopen* says why it cannot."""
    from gateway.logger import get_logger  # not loaded by commands that need no daemon

    log = get_logger()
    if number == signal.SIGUSR1:
        if reopen():
            log.info("log files opened anew", signal="SIGUSR1")
    else:
        log.warning(
            "signal ignored: expected gateway reload for new code, and a restart for a new version, which "
            "refuses no connection with a socket of systemd",
            signal="SIGUSR2",
        )
