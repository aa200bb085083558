"""The suites of anyio and asgiref on the asyncio loop that the gateway steps (README.md)."""

import os
import re
import subprocess
import sys
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
    command = [
        *(sys.executable, "-m", "pytest", "--quiet", "--tb=short", "-p", "guest_loop.plugin"),
        *("-c", str(HERE / "guest_loop" / f"{package}.ini"), "--rootdir", ".", "-o", f"cache_dir={tmp_path}"),
        *(f"tests/{file}" for file in files),
    ]

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *options],
            cwd=suite,
            env={**os.environ, "PYTHONPATH": f"{suite / sources}{os.pathsep}{HERE}", "PYTEST_ADDOPTS": ""},
            capture_output=True,
            text=True,
            timeout=300,
        )

    ran = run()
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed is not None, ran.stdout + ran.stderr
    assert int(passed[1]) >= least, ran.stdout
    if ran.returncode:
        # Some of them count on a machine that has nothing else to do: what failed has a second chance.
        again = run("--last-failed")
        assert again.returncode == 0, ran.stdout + again.stdout + again.stderr
