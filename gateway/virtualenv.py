"""The packages of a virtual environment (PEP 405), for an application in a process of another Python.

That works only where both are of the same version: packages are compiled for one, and kept in a directory
that is named after it.
"""

import os
import re
import site
import sys
from pathlib import Path

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}{'t' if 't' in sys.abiflags else ''}"
"""Of the Python that runs the gateway, as directories are called: a free-threaded one has its own."""


def site_packages(virtualenv: Path) -> list[Path]:
    """The directories of the packages. Raises ValueError if they are for another version of Python.

    Where compiled packages have a directory of their own (lib64), it was a link to the other one until
    Python 3.15.
    """
    found: list[Path] = []
    for name in ("lib", sys.platlibdir):
        directory = virtualenv / name / f"python{VERSION}" / "site-packages"
        if directory.is_dir() and not any(map(directory.samefile, found)):
            found.append(directory)
    if not found:
        theirs = _version(virtualenv)
        what = f"is of Python {theirs}" if theirs else "has no packages"
        raise ValueError(f"{virtualenv} {what}: expected one of Python {VERSION}, which runs the gateway")
    return found


def _version(virtualenv: Path) -> str:
    """As its ``pyvenv.cfg`` has it; empty if that does not say."""
    try:
        text = (virtualenv / "pyvenv.cfg").read_text("utf-8", "replace")
    except OSError:
        return ""
    found = re.search(r"^version(?:_info)?\s*=\s*(\d+\.\d+)", text, re.MULTILINE)
    return found[1] if found else ""


def add_site_packages(virtualenv: Path) -> None:
    """Have modules imported from *virtualenv* before those of the gateway's own environment.

    What is imported already stays. Its ``.pth`` files are obeyed (site). Raises ValueError.
    """
    directories = [str(each) for each in site_packages(virtualenv)]
    if set(directories) <= set(sys.path):
        return
    # The first WebSocket takes it; an earlier version, which mypy may have brought there, has less than that.
    import librt.strings  # noqa: F401

    before = list(sys.path)
    for directory in directories:
        site.addsitedir(directory)
    added = [entry for entry in sys.path if entry not in before]
    sys.path[:] = [*added, *(entry for entry in sys.path if entry in before)]


def stand_in(virtualenv: Path) -> None:
    """Have this process look like one of *virtualenv*'s own Python, for the one application that it has.

    What applications keep beside their packages (``share``, ``etc``) they find by ``sys.prefix``, and a
    program that they start by ``sys.executable`` is to have the packages.
    """
    sys.prefix = sys.exec_prefix = str(virtualenv)
    site.PREFIXES[:] = [sys.prefix]
    python = virtualenv / "bin" / "python"
    if os.access(python, os.X_OK):
        sys.executable = str(python)
