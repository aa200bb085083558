"""``python -m gateway.hosted OPTIONS``: started by `gateway.spawn`, and no command for people."""

from gateway.runtime.collector import loading
from gateway.runtime.lean import import_structlog


def main() -> None:
    """Serve the application, and exit."""
    with loading():
        import_structlog()
        from gateway.hosted.command import main as serve
    serve()


if __name__ == "__main__":
    main()
