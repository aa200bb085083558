"""``python -m gateway.appserver {fastcgi,scgi,uwsgi} module:attribute``; `main` has the options."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final
from wsgiref.types import WSGIApplication

from gateway.appserver.orphan import end_with
from gateway.backend import StartError
from gateway.backends.load import load_application


def _fastcgi(application: WSGIApplication) -> None:
    from gateway.appserver.flup import serve_fastcgi

    serve_fastcgi(application)


def _scgi(application: WSGIApplication) -> None:
    from gateway.appserver.flup import serve_scgi

    serve_scgi(application)


def _uwsgi(application: WSGIApplication) -> None:
    from gateway.appserver.uwsgi import serve_uwsgi

    serve_uwsgi(application)


# Imported when needed: importing flup's SCGI server changes the logging of the process.
_SERVERS: Final[dict[str, Callable[[WSGIApplication], None]]] = {
    "fastcgi": _fastcgi,
    "scgi": _scgi,
    "uwsgi": _uwsgi,
}


def main() -> None:
    """Load the application and serve it on descriptor 0 until a signal says stop."""
    parser = argparse.ArgumentParser(prog="gateway.appserver", description=__doc__)
    parser.add_argument("protocol", choices=_SERVERS)
    parser.add_argument("target", metavar="module:attribute")
    parser.add_argument("--directory", type=Path, default=Path())
    parser.add_argument("--name", default="spawned", help="the backend's, for messages")
    parser.add_argument("--parent", type=int, help="the process with which this one ends")
    arguments = parser.parse_args()
    if arguments.parent is not None:
        end_with(arguments.parent)
    try:
        application = load_application(
            arguments.target, directory=arguments.directory, factory=False, backend=arguments.name
        )
    except StartError as error:
        sys.exit(str(error))
    _SERVERS[arguments.protocol](application)


if __name__ == "__main__":
    main()
