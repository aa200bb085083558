"""Test suites of others that come with the source archive of a package: fetched when a test asks for them."""

import hashlib
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

PIP: Final = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries", "1")
"""It wants to know the metadata of what it fetches, and for that sets the package up: without isolation this
takes no time, as what they need (setuptools, setuptools-scm) is there."""


def fetch(requirements: Path, cache: pytest.Cache) -> Path:
    """The directory with the unpacked archives of *requirements*, each pinned with its hash.

    They are fetched once, into pytest's cache. Without a network the test is skipped, or fails with CI=true.
    """
    parent = cache.mkdir("sources")
    directory = parent / f"{requirements.stem}-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]}"
    if directory.exists():
        return directory
    with TemporaryDirectory(dir=parent) as scratch:
        archives, unpacked = Path(scratch, "archives"), Path(scratch, "unpacked")
        got = subprocess.run(
            [
                *(*PIP, "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--no-build-isolation"),
                *("--dest", str(archives), "--requirement", str(requirements)),
            ],
            capture_output=True,
            text=True,
        )
        if got.returncode:
            reason = f"the suite cannot be fetched: {got.stderr[-2000:]}"
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)
        for archive in archives.glob("*.tar.gz"):
            with tarfile.open(archive) as file:
                file.extractall(unpacked, filter="data")
        unpacked.rename(directory)
    return directory
