"""The suites of anyio, asgiref and CPython on the asyncio loop that the gateway steps (README.md)."""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

import pytest

from tests.conformance.sources import fetch

HERE: Final = Path(__file__).parent

ANYIO: Final = (
    *(
        "test_eventloop.py",
        "test_taskgroups.py",
        "test_synchronization.py",
        "test_lowlevel.py",
        "test_futures.py",
    ),
    *(
        "test_debugging.py",
        "test_from_thread.py",
        "test_to_thread.py",
        "test_subprocesses.py",
        "test_sockets.py",
    ),
    *("streams/test_tls.py", "streams/test_memory.py"),
)
"""What has to do with a loop. Not test_signals.py: applications cannot have signal handlers."""

ASGIREF: Final = (
    *("test_sync.py", "test_sync_contextvars.py", "test_sync_thread_sensitive_context.py", "test_local.py"),
    *(
        "test_sync_executor_context_scenario.py",
        "test_compatibility.py",
        "test_testing.py",
        "test_timeout.py",
    ),
    *("test_wsgi.py", "test_garbage_collection.py"),
)
"""Not test_server.py: its fixtures are of pytest-asyncio, which runs them on a loop of its own."""


CPYTHON: Final = (
    *("test_events.py", "test_base_events.py", "test_unix_events.py", "test_context.py"),
    *("test_tasks.py", "test_eager_task_factory.py", "test_taskgroups.py", "test_timeouts.py"),
    *("test_futures2.py", "test_locks.py", "test_queues.py", "test_waitfor.py", "test_staggered.py"),
    *("test_server.py", "test_streams.py", "test_buffered_proto.py", "test_sendfile.py"),
    *("test_sock_lowlevel.py", "test_ssl.py", "test_sslproto.py"),
    *("test_subprocess.py", "test_threads.py"),
)
"""Where loops of the kind that an application has are made. Some came with later versions of Python."""


@pytest.mark.parametrize(
    ("package", "sources", "files", "least"),
    [("anyio", "src", ANYIO, 650), ("asgiref", ".", ASGIREF, 110)],
    ids=["anyio", "asgiref"],
)
def test_suite(
    pytestconfig: pytest.Config,
    tmp_path: Path,
    package: str,
    sources: str,
    files: tuple[str, ...],
    least: int,
) -> None:
    """All of its tests pass, and *least* of them were run."""
    assert pytestconfig.cache is not None
    (suite,) = fetch(HERE / "guest_loop" / f"{package}.txt", pytestconfig.cache).iterdir()
    output = run_suite(
        *("-p", "guest_loop.plugin", "-c", f"{HERE / 'guest_loop' / package}.ini", "--rootdir", "."),
        *(f"tests/{file}" for file in files),
        directory=suite,
        sources=(suite / sources,),
        cache=tmp_path,
    )
    passed = re.search(r"(\d+) passed", output)
    assert passed is not None, output
    assert int(passed[1]) >= least, output


def test_cpython(tmp_path: Path) -> None:
    """All tests of asyncio that come with this interpreter pass, and hundreds of them ran on the loop."""
    suite = Path(sysconfig.get_path("stdlib"), "test", "test_asyncio")
    if not suite.exists():
        pytest.skip("this Python has come without its tests")
    paths = (suite / file for file in CPYTHON)
    output = run_suite(
        *("-p", "guest_loop.cpython", "-c", f"{HERE}/guest_loop/cpython.ini", "--rootdir", str(suite)),
        *(str(path) for path in paths if path.exists()),
        directory=tmp_path,
        cache=tmp_path,
    )
    ran = re.search(r"(\d+) on the loop of the gateway", output)
    assert ran is not None, output
    assert int(ran[1]) >= 550, output


def run_suite(*arguments: str, directory: Path, sources: tuple[Path, ...] = (), cache: Path) -> str:
    """What pytest says that is run with *arguments* in *directory*, with *sources* to import from."""
    command = (
        *(sys.executable, "-m", "pytest", "--quiet", "--tb=short", "-o", f"cache_dir={cache}"),
        *arguments,
    )
    path = os.pathsep.join(str(source) for source in (*sources, HERE))

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *options],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": path, "PYTEST_ADDOPTS": ""},
            capture_output=True,
            text=True,
            timeout=300,
        )

    ran = run()
    if ran.returncode:
        # Some of them count on a machine that has nothing else to do: what failed has a second chance.
        again = run("--last-failed")
        assert again.returncode == 0, ran.stdout + ran.stderr + again.stdout + again.stderr
    return ran.stdout
