"""``python -m gateway.hosted OPTIONS``: started by `gateway.spawn`, and no command for people."""

import sys

from gateway.runtime.collector import loading
from gateway.runtime.lean import import_structlog


def main() -> int:
    """Serve the application; the exit status."""
    with loading():
        import_structlog()
        from gateway.hosted.command import main as serve
    return serve()


if __name__ == "__main__":
    sys.exit(main())
