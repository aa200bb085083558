"""Runs `gateway.appserver` by a Python in which the gateway is not installed: that of a virtual environment.

``python bootstrap.py NAME=DIRECTORY … ARGUMENTS``: the package NAME is in DIRECTORY. Only these packages are
found there, nothing that lies beside them: the application imports from its own environment. Their sources
are used, because what is compiled is for one version of Python.
"""

import runpy
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from types import ModuleType


class PackageFinder(MetaPathFinder):
    """Finds packages, and what is in them, in directories that are not on the search path."""

    def __init__(self, directories: dict[str, str]) -> None:
        self._directories = directories

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package = fullname.partition(".")[0]
        if package not in self._directories:
            return None
        for directory in [self._directories[package]] if path is None else path:
            spec = FileFinder(directory, (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(fullname, target)
            if spec is not None:
                return spec
        return None


def main() -> None:
    """Put the finder first: a module of the application must not stand in for one of ours."""
    directories: dict[str, str] = {}
    while len(sys.argv) > 1 and "=" in sys.argv[1]:
        name, _, directory = sys.argv.pop(1).partition("=")
        directories[name] = directory
    sys.meta_path.insert(0, PackageFinder(directories))
    runpy.run_module("gateway.appserver", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
