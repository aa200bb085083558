"""Whether the daemon belongs to a terminal, whose end would be its own."""

import os


def on_terminal() -> bool:
    """Whether there is a controlling terminal: then SIGHUP means that it was closed (tty_ioctl(4))."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
