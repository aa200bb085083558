"""``python -m gateway.hosted OPTIONS``: started by `gateway.spawn`, and no command for people."""

import signal

from gateway.appserver.report import END_ANNOUNCED, END_URGENT
from gateway.runtime.collector import loading
from gateway.runtime.lean import import_structlog
from gateway.runtime.log_signals import pass_over_log_signals


def main() -> None:
    """Serve the application, and exit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's way is to raise, also before and behind the loop
    # The notice may come while it exits, when it has been replaced just before.
    pass_over_log_signals(END_ANNOUNCED, END_URGENT)
    with loading():
        import_structlog()
        from gateway.hosted.command import main as serve
    serve()


if __name__ == "__main__":
    main()
