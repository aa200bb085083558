"""``python -m gateway.supervisor CHANNEL PARENT TURNS``: a worker, started by its supervisor.

It loads the gateway before it is told what to be, so that one can stand by: then only the application is
still to be loaded. CHANNEL and TURNS (`gateway.turns`) are descriptors, PARENT is the number of the
supervisor's process.
"""

import sys

from gateway.runtime.collector import loading
from gateway.runtime.lean import import_structlog
from gateway.runtime.log_signals import outlive_log_signals


def main() -> None:
    """Be a worker, and exit with its status."""
    outlive_log_signals()
    with loading():
        import_structlog()
        from gateway.shutdown.exit import leave
        from gateway.shutdown.orphan import GRACE
        from gateway.supervisor.worker import work
        from gateway.turns import share
    share(int(sys.argv[3]))
    leave(work(int(sys.argv[1]), int(sys.argv[2])), patience=GRACE)


if __name__ == "__main__":
    main()
