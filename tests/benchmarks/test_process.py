"""Servers run on their core, tell why they fail, and leave nothing behind."""

import os
import select
import sys
from pathlib import Path

import pytest

from benchmarks import measure
from benchmarks.process import StartError, cores, free_port, pinned, running

# Answers with the number of cores that it may use, and has a child.
SERVE = """
import os, subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"%d" % len(os.sched_getaffinity(0)))

subprocess.Popen(["sleep", "1000"])
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_server_has_one_core_and_ends_with_its_children(tmp_path: Path) -> None:
    port = free_port()
    with running([[sys.executable, "-c", SERVE, str(port)]], tmp_path, cores()[0]) as server:
        server.wait_for_answer(port, "/", b"1")
        tree = [os.pidfd_open(pid) for pid in measure.tree(server.pids)]
    try:
        assert len(tree) == 2
        for fd in tree:  # a descriptor is readable once its process has ended
            assert select.select([fd], [], [], 10)[0]
    finally:
        for fd in tree:
            os.close(fd)


def test_server_that_ends_is_an_error_with_what_it_said(tmp_path: Path) -> None:
    command = ["sh", "-c", "echo no such option >&2; exit 3"]
    with (
        pytest.raises(StartError, match=r"sh ended with status 3\n  no such option"),
        running([command], tmp_path, cores()[0]) as server,
    ):
        server.wait_for_answer(free_port(), "/", b"")


def test_program_that_cannot_be_run_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(StartError, match=r"no-such-program: No such file"),
        running([["no-such-program"]], tmp_path, cores()[0]),
    ):
        pass


def test_pinning_ends_with_the_block() -> None:
    before = os.sched_getaffinity(0)
    with pinned(cores()[0]):
        assert os.sched_getaffinity(0) == {cores()[0]}
    assert os.sched_getaffinity(0) == before
