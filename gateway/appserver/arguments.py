"""The part of their command lines that all processes have which `gateway.spawn` starts in Python."""

import argparse
import os
from pathlib import Path

from gateway.shutdown.orphan import end_with


def parse(parser: argparse.ArgumentParser, *, name: str) -> argparse.Namespace:
    """What *parser* wants and what all have; *name* is the backend's if none is told.

    From here on this process ends with its parent. What the application starts inherits no descriptor of it.
    """
    parser.add_argument("--directory", type=Path, default=Path())
    parser.add_argument("--name", default=name, help="the backend's, for messages")
    parser.add_argument("--parent", type=int, help="the process with which this one ends")
    parser.add_argument("--report", type=int, metavar="FD", help="where the supervisor is told")
    parser.add_argument("--max-requests", type=int, default=0, help="after which a replacement is wanted")
    arguments = parser.parse_args()
    if arguments.parent is not None:
        end_with(arguments.parent)
    if arguments.report is not None:
        os.set_inheritable(arguments.report, False)
    return arguments
