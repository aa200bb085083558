"""The command line of the process: ``python -m gateway.hosted OPTIONS``, which `gateway.spawn` starts."""

import argparse
import os
import sys
from pathlib import Path

import trio

from gateway.appserver.report import Report
from gateway.backend import StartError, start_errors
from gateway.hosted.options import Hosted
from gateway.hosted.server import run
from gateway.logs import configure
from gateway.orphan import end_with


def main() -> int:
    """Serve the application on descriptor 0 until a signal says stop; the exit status."""
    parser = argparse.ArgumentParser(prog="gateway.hosted", description=__doc__)
    parser.add_argument("options", help="as gateway.hosted.options encodes them")
    parser.add_argument("--directory", type=Path, default=Path())
    parser.add_argument("--name", default="hosted", help="the backend's, for messages")
    parser.add_argument("--parent", type=int, help="the process with which this one ends")
    parser.add_argument("--report", type=int, metavar="FD", help="where the supervisor is told")
    parser.add_argument("--max-requests", type=int, default=0, help="after which a replacement is wanted")
    arguments = parser.parse_args()
    if arguments.parent is not None:
        end_with(arguments.parent)
    os.chdir(arguments.directory)
    hosted = Hosted.decode(arguments.options)
    configure(format="json", debug=hosted.debug)
    failures: list[StartError] = []
    try:
        report = Report(arguments.report, arguments.max_requests)
        trio.run(run, hosted, arguments.name, report)
    except* StartError as errors:
        failures.extend(start_errors(errors))
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0
