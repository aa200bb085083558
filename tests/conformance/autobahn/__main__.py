"""Runs the cases of the Autobahn test suite against a WebSocket echo server, under Python 3.

    python -m tests.conformance.autobahn [--http2] DIRECTORY ws://127.0.0.1:8080/ [7.* 12.1.* ...]

DIRECTORY is the unpacked source archive of ``autobahntestsuite`` (README.md says how to get it). Its cases
are Python 2, and so is the program that runs them: `cases` loads them as they are, `fuzzer` is the connection
that they drive, and `transport` is what carries it.

Prints a line for each case that is not plainly OK, and a summary; the exit status is 1 if one failed.
"""

import argparse
import fnmatch
import sys
import traceback
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import trio

from tests.conformance.autobahn.cases import load_cases, number_of
from tests.conformance.autobahn.fuzzer import Fuzzer
from tests.conformance.autobahn.transport import Open, open_http1, open_http2

PASSED = {"OK", "NON-STRICT", "INFORMATIONAL"}


async def run_case(open_websocket: Open, url: SplitResult, case: type[Any]) -> tuple[str, str, str]:
    """Behaviour, behaviour at the close, and why."""
    try:
        async with trio.open_nursery() as nursery:
            fuzzer = Fuzzer(nursery)
            await fuzzer.run(open_websocket, url, case)
    except Exception as error:  # the handshake failed, or what came is no HTTP, or no WebSocket
        return "FAILED", "FAILED", "".join(traceback.format_exception(error))
    fuzzer.state = Fuzzer.STATE_CLOSED
    ran = fuzzer.case
    ran.onConnectionLost(fuzzer.failedByMe)
    return ran.behavior, ran.behaviorClose, f"{ran.result} {ran.resultClose}"


async def run_all(open_websocket: Open, url: SplitResult, cases: list[type[Any]], parallel: int) -> int:
    """The exit status."""
    totals: Counter[str] = Counter()
    failed = 0
    limit = trio.CapacityLimiter(parallel)

    async def run_one(case: type[Any]) -> None:
        nonlocal failed
        async with limit:
            behaviour, close, why = await run_case(open_websocket, url, case)
        totals[behaviour] += 1
        if behaviour not in PASSED or close not in PASSED:
            failed += 1
        if behaviour != "OK" or close != "OK":
            print(f"{number_of(case)}: {behaviour}, close {close}: {why}", flush=True)

    async with trio.open_nursery() as nursery:
        for case in cases:
            nursery.start_soon(run_one, case)
    print(f"{sum(totals.values())} cases: {dict(totals)}; {failed} failed")
    return int(failed > 0)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.autobahn")
    parser.add_argument("directory", type=Path, help="the unpacked source archive of autobahntestsuite")
    parser.add_argument("url", type=urlsplit, help="of an echo server: ws://host:port/path")
    parser.add_argument("patterns", nargs="*", default=["*"], help="of the numbers of cases: 7.* 12.1.*")
    parser.add_argument(
        "--parallel", type=int, default=8, metavar="N", help="cases at a time: most of 1-7 wait (default: 8)"
    )
    parser.add_argument(
        "--messages",
        type=int,
        metavar="N",
        help="at most, in a case of 9.7, 9.8, 12 or 13 (default: its own, 1000)",
    )
    parser.add_argument("--http2", action="store_true", help="with RFC 8441 in place of Upgrade")
    arguments = parser.parse_args()
    suite = next(arguments.directory.glob("**/autobahntestsuite/case/"), None)
    if suite is None:
        parser.error(f"{arguments.directory} holds no autobahntestsuite/case")
    cases = [
        case
        for case in load_cases(suite.parent)
        if any(fnmatch.fnmatch(number_of(case), pattern) for pattern in arguments.patterns)
    ]
    if not cases:
        parser.error("no case has such a number")
    if arguments.messages is not None:
        for case in cases:
            if hasattr(case, "COUNT"):
                case.COUNT = min(case.COUNT, arguments.messages)
    open_websocket = open_http2 if arguments.http2 else open_http1
    return trio.run(run_all, open_websocket, arguments.url, cases, arguments.parallel)


if __name__ == "__main__":
    sys.exit(main())
