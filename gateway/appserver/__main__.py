"""``python -m gateway.appserver {fastcgi,scgi,uwsgi} module:attribute``; `main` has the options."""

import argparse
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Final
from wsgiref.types import WSGIApplication

from gateway.appserver.arguments import parse
from gateway.appserver.checked import checked
from gateway.appserver.listener import take_listener
from gateway.appserver.report import Report
from gateway.loading import LoadError, load_object
from gateway.runtime.log_signals import pass_over_log_signals


def _fastcgi(application: WSGIApplication, listener: socket.socket, report: Report) -> None:
    from gateway.appserver.flup import serve_fastcgi

    serve_fastcgi(application, listener, report)


def _scgi(application: WSGIApplication, listener: socket.socket, report: Report) -> None:
    from gateway.appserver.flup import serve_scgi

    serve_scgi(application, listener, report)


def _uwsgi(application: WSGIApplication, listener: socket.socket, report: Report) -> None:
    from gateway.appserver.uwsgi import serve_uwsgi

    serve_uwsgi(application, listener, report)


# Imported when needed: importing flup's SCGI server changes the logging of the process.
_SERVERS: Final[dict[str, Callable[[WSGIApplication, socket.socket, Report], None]]] = {
    "fastcgi": _fastcgi,
    "scgi": _scgi,
    "uwsgi": _uwsgi,
}


def main() -> None:
    """Load the application and serve it on descriptor 0 until a signal says stop."""
    parser = argparse.ArgumentParser(prog="gateway.appserver", description=__doc__)
    parser.add_argument("protocol", choices=_SERVERS)
    parser.add_argument("target", metavar="module:attribute")
    arguments = parse(parser, name="spawned")
    descriptor = take_listener()
    pass_over_log_signals()
    try:
        application = load_object(arguments.target, directory=arguments.directory, factory=False)
    except LoadError as error:
        if error.own:
            traceback.print_exception(error.__cause__)
        sys.exit(f"backend {arguments.name}: {error}")
    report = Report(arguments.report, arguments.max_requests)
    _SERVERS[arguments.protocol](checked(application), socket.socket(fileno=descriptor), report)


if __name__ == "__main__":
    main()
