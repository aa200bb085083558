"""``python -m gateway.hosted OPTIONS``: started by `gateway.spawn`, and no command for people."""

import sys

from gateway.lean import import_structlog
from gateway.memory import loading


def main() -> int:
    """Serve the application; the exit status."""
    with loading():
        import_structlog()
        from gateway.hosted.command import main as serve
    return serve()


if __name__ == "__main__":
    sys.exit(main())
