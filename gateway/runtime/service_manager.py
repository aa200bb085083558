"""Tells the service manager how far the daemon is: sd_notify(3), `Type=notify` of systemd.

Whatever is started after it, and a restart, then wait until it serves; one that cannot start has failed.
"""

import os
import socket
import time
from collections.abc import Iterable
from typing import Final

import trio

from gateway.logger import get_logger

log = get_logger()


def tell_ready(addresses: Iterable[str]) -> None:
    """It serves, on *addresses*: for the first time, or again after a reload, whatever became of that."""
    _tell("READY=1", f"STATUS=Serving on {', '.join(addresses)}")


def tell_reloading() -> None:
    """It reloads, and will say that it is ready."""
    _tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def tell_stopping() -> None:
    """It finishes what runs."""
    _tell("STOPPING=1", "STATUS=Stopping")


async def tell_alive() -> None:
    """Tell it that the loop turns, twice as often as it wants to hear (`WatchdogSec=`), until cancelled."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if not (microseconds.isascii() and microseconds.isdigit() and float(microseconds)):
        return
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return  # It is for another process (sd_watchdog_enabled(3)).
    while True:
        _tell("WATCHDOG=1")
        await trio.sleep(float(microseconds) / 2e6)  # noqa: TID251 - it is a clock


def _tell(*lines: str) -> None:
    """Nothing without a manager. One that does not take it in time has not been told."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = f"\0{address[1:]}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as telling:
            telling.settimeout(_PATIENCE)
            telling.sendto("\n".join(lines).encode("utf-8", "backslashreplace"), address)
    except OSError as error:
        log.warning("service manager not told", state=lines[0], cause=str(error))


_PATIENCE: Final = 1.0
"""Seconds; its queue is full while many services start. Nothing else goes on meanwhile."""
