"""The command line of the process: ``python -m gateway.hosted OPTIONS``, which `gateway.spawn` starts."""

import argparse
import os
import sys
from typing import NoReturn

import trio

from gateway.appserver.arguments import parse
from gateway.appserver.report import Report
from gateway.errors import StartError, each_of
from gateway.hosted.options import Hosted
from gateway.hosted.server import run
from gateway.logger import get_logger
from gateway.logs.events import configure
from gateway.logs.lines import ENTRY_LIMIT
from gateway.shutdown.exit import leave


def main() -> NoReturn:
    """Serve the application on descriptor 0 until a signal says stop, and exit."""
    parser = argparse.ArgumentParser(prog="gateway.hosted", description=__doc__)
    parser.add_argument("options", help="as gateway.hosted.options encodes them")
    parser.add_argument("--own", type=int, metavar="FD", help="a socket of this process alone")
    arguments = parse(parser, name="hosted")
    if arguments.own is not None:
        os.set_inheritable(arguments.own, False)
    os.chdir(arguments.directory)
    hosted = Hosted.decode(arguments.options)
    configure(format="json", debug=hosted.debug, longest=ENTRY_LIMIT)
    failures: list[StartError] = []
    try:
        report = Report(arguments.report, arguments.max_requests)
        trio.run(run, hosted, arguments.name, report, arguments.own)
    except* StartError as errors:
        failures.extend(each_of(errors))
    for failure in failures:
        if fields := failure.log_fields():
            get_logger().error("application cannot start", **fields)
        print(failure, file=sys.stderr)
    leave(1 if failures else 0, patience=hosted.stop_time)
