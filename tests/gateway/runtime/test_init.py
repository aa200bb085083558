"""The daemon as process 1 of a container."""

import fcntl
import os
import pty
import signal
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.supervisor.supervised import receive_until, until
from tests.gateway.test_daemon import Daemon, daemon, read_all, slow

UNSHARE = ["unshare", "--pid", "--fork", "--kill-child", *(["--map-root-user"] if os.getuid() else [])]
AS_PROCESS_ONE = (
    "-c",
    f"import os, sys; os.execvp('unshare', [*{UNSHARE}, sys.executable, '-m', 'gateway', *sys.argv[1:]])",
)

# Leaves a process behind that ends when something is written to the fifo.
PROGRAM = """#!/bin/sh
mkfifo left
(sh -c 'read _ <left' >/dev/null 2>&1 &)
printf 'Status: 200\\nContent-Length: 4\\n\\ndone'
"""
CONFIG = """
listeners: [{http: '127.0.0.1:0'}]
backends: {program: {cgi: program}}
routes: [{backend: program}]
"""

pytestmark = pytest.mark.skipif(
    not os.environ.get("CI")
    and subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode != 0,
    reason="namespaces of processes are not allowed here",
)


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def as_process_one(directory: Path, config: str, **options: Any) -> Iterator[tuple[Daemon, int, int]]:
    """The daemon, its process 1, and the child of that one."""
    (directory / "program").write_text(PROGRAM)
    (directory / "program").chmod(0o755)
    with daemon(directory, config, program=AS_PROCESS_ONE, **options) as running:
        running.ready()
        (init,) = children(running.process.pid)
        (child,) = children(init)
        yield running, init, child


def test_what_programs_leave_behind_is_reaped(tmp_path: Path) -> None:
    with as_process_one(tmp_path, CONFIG) as (running, init, child):
        with running.ask("/") as client:
            assert receive_until(client, b"done")
        until(lambda: len(children(init)) == 2)
        (tmp_path / "left").write_text("go on\n")
        until(lambda: children(init) == [child])
        os.kill(init, signal.SIGTERM)
        assert "stopping" in running.end()


def test_a_daemon_that_is_killed_ends_the_container(tmp_path: Path) -> None:
    with as_process_one(tmp_path, CONFIG) as (running, _, child):
        os.kill(child, signal.SIGKILL)
        running.end(status=128 + signal.SIGKILL)


def test_a_terminal_interrupts_once(tmp_path: Path) -> None:
    """It sends SIGINT to both processes, and a second one would cut off what runs."""
    terminal, ours = pty.openpty()
    with as_process_one(
        tmp_path,
        slow(),
        stdin=ours,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as (running, _, _):
        with running.ask("/slow") as client, running.connect() as helper:
            running.wait_for("reached")
            helper.sendall(b"GET /go HTTP/1.1\r\nHost: a\r\n")
            os.write(terminal, b"\x03")
            running.wait_for("waiting for requests")
            helper.sendall(b"\r\n")
            assert b"done" in read_all(client)
        assert "cut off" not in running.end()
    os.close(terminal)
    os.close(ours)
