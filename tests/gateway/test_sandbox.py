"""The daemon where a sandbox refuses system calls, or who starts it has closed the standard files."""

import ctypes
import errno
import os
import platform
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.gateway.test_daemon import FIXED, daemon, killed_with_its_processes, read_all

PIDFD_SEND_SIGNAL, PIDFD_OPEN = 424, 434
SENDFILE = {"x86_64": 40, "aarch64": 71}.get(platform.machine(), PIDFD_OPEN)
EVENTFD2 = {"x86_64": 290}.get(platform.machine(), 19)
INOTIFY_INIT1, INOTIFY_ADD_WATCH = {"x86_64": (294, 254)}.get(platform.machine(), (26, 27))
LACKING = (PIDFD_SEND_SIGNAL, PIDFD_OPEN, SENDFILE, EVENTFD2)
"""What sandboxes and old kernels lack."""


def refusing(error: int, *numbers: int) -> Callable[[], None]:
    """What makes the kernel answer *error* to calls of these *numbers* (seccomp(2))."""
    program = struct.pack("HBBI", 0x20, 0, 0, 0)  # the number of the call
    for number in numbers:
        program += struct.pack("HBBI", 0x15, 0, 1, number)  # is it this one?
        program += struct.pack("HBBI", 0x06, 0, 0, 0x0005_0000 | error)  # SECCOMP_RET_ERRNO
    program += struct.pack("HBBI", 0x06, 0, 0, 0x7FFF_0000)  # SECCOMP_RET_ALLOW
    kept = ctypes.create_string_buffer(program, len(program))
    filters = struct.pack("HP", len(program) // 8, ctypes.addressof(kept))
    libc = ctypes.CDLL(None, use_errno=True)

    def refuse() -> None:
        assert kept
        # PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP with SECCOMP_MODE_FILTER.
        for arguments in ((38, 1, 0, 0, 0), (22, 2, filters, 0, 0)):
            if libc.prctl(*arguments):
                raise OSError(ctypes.get_errno(), "prctl")

    return refuse


SERVING = """
listeners: [{http: '127.0.0.1:0'}]
backends:
  own: {wsgi: 'slow_application:app', process: own}
  spawned: {fastcgi: {spawn: {wsgi: 'slow_application:app'}}}
  program: {cgi: program}
routes:
- {match: {path: /own}, backend: own}
- {match: {path: /spawned}, backend: spawned}
- {match: {path: /program}, mount: /program, backend: program}
- {static: .}
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(os.urandom(1 << 20))
    (tmp_path / "program").write_text("#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\ndone'\n")
    (tmp_path / "program").chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM], ids=errno.errorcode.get)
def test_calls_that_sandboxes_refuse_are_done_without(site: Path, error: int, workers: int) -> None:
    with daemon(site, SERVING, f"--workers={workers}", preexec_fn=refusing(error, *LACKING)) as running:
        running.ready()
        for path in ("/own", "/spawned", "/program"):
            with running.ask(path) as client:
                client.shutdown(socket.SHUT_WR)
                answer = read_all(client)
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"done" in answer
        with running.ask("/file") as client:
            client.shutdown(socket.SHUT_WR)
            assert read_all(client).endswith((site / "file").read_bytes())
        running.process.terminate()
        logged = running.end()
    assert '"warning"' not in logged
    assert '"error"' not in logged


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_end_with_a_daemon_that_is_killed_in_a_sandbox(site: Path, workers: int) -> None:
    """They look for themselves whether their parent is there."""
    refuse = refusing(errno.ENOSYS, *LACKING)
    with (
        daemon(site, SERVING, f"--workers={workers}", preexec_fn=refuse) as running,
        killed_with_its_processes(running, 2 * workers),
        running.ask("/program") as client,
    ):
        assert client.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("number", "error"), [(INOTIFY_INIT1, errno.EMFILE), (INOTIFY_ADD_WATCH, errno.ENOSPC)]
)
def test_reload_where_the_system_has_no_watches_left(tmp_path: Path, number: int, error: int) -> None:
    """Editors have taken them all; then it was deaf, or ended."""
    with daemon(tmp_path, FIXED, "--reload", preexec_fn=refusing(error, number)) as running:
        warning = running.wait_for("files are looked at now and then")
        assert "fs.inotify.max_user_watches" in warning["limits"]
        running.ready()
        os.utime(tmp_path / "gateway.yaml", (2**31, 2**31))  # it sees whole seconds, and what is newer
        running.wait_for('"reloaded"')
        running.process.terminate()
        running.end()


def test_static_files_without_proc_are_one_message(tmp_path: Path) -> None:
    without = (
        "import os.path; there = os.path.isdir\n"
        "os.path.isdir = lambda path: not str(path).startswith('/proc/') and there(path)\n"
        "from gateway.__main__ import main; main()\n"
    )
    config = FIXED.replace("respond: {body: fixed}", "static: .")
    with daemon(tmp_path, config, program=("-c", without)) as running:
        (line,) = running.end(1).splitlines()
    assert line == "gateway: static files with `symlinks: inside` need /proc to be mounted"


@pytest.mark.parametrize("workers", [1, 2])
def test_closed_standard_files(site: Path, workers: int) -> None:
    """No socket takes their numbers: what is logged would be sent to a client, who could be read as input."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        config = SERVING.replace("127.0.0.1:0", f"fd:{listener.fileno()}")
        with daemon(
            site,
            config,
            f"--workers={workers}",
            pass_fds=[listener.fileno()],
            preexec_fn=lambda: os.closerange(0, 3),
        ) as running:
            for path in ("/own", "/spawned", "/program"):
                with socket.create_connection(address, 20) as client:
                    client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
                    answer = read_all(client)
                assert answer.startswith(b"HTTP/1.1 200")
                assert b"done" in answer
            for descriptor in range(3):
                assert os.readlink(f"/proc/{running.process.pid}/fd/{descriptor}") == os.devnull
            running.process.terminate()
            assert running.end() == ""
