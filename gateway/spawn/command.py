"""What is run: the words of a command, or a server of our own for an application, and its environment."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from math import inf
from pathlib import Path
from typing import Final

from gateway.errors import StartError
from gateway.programs.confinement import User
from gateway.spawn.endpoint import Endpoint
from gateway.spawn.schedule import Life

# These speak to the process that they were set for: the gateway itself.
_WITHHELD: Final = frozenset(
    {
        *("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"),
        *("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"),
        "FCGI_WEB_SERVER_ADDRS",
    }
)


@dataclass(frozen=True, slots=True)
class Command:
    """What each process is started with. One that *reports* is our own server, and gets more words then.

    One that is *hosted* is this gateway once more: it writes log entries, and is told when to end at once.
    """

    words: Sequence[str]
    env: Mapping[bytes, bytes]
    reports: bool = False
    hosted: bool = False

    def argv(self, report: int, life: Life, own: int | None) -> list[str]:
        """For a process that reports on the descriptor *report*, and has a socket to itself as *own*."""
        words = [*self.words, "--report", str(report)]
        if own is not None:
            words += ["--own", str(own)]
        return words if life.requests == inf else [*words, "--max-requests", str(life.requests)]


def of_program(
    command: Sequence[str], endpoint: Endpoint, env: Mapping[str, str], *, backend: str, directory: str
) -> Command:
    """A program of any kind. Raises StartError if there is none, or it may not be run."""
    env = {name: endpoint.fill(value) for name, value in env.items()}
    program, *arguments = (endpoint.fill(word) for word in command)
    if os.sep in program:
        path = os.path.join(directory, program)
        found = path if os.access(path, os.X_OK) and os.path.isfile(path) else None
    else:
        path = program
        found = shutil.which(program, path=env.get("PATH") or None)
    if found is None:
        raise StartError(f"backend {backend}: {path}: no such command, or it is not executable")
    return Command([os.path.abspath(found), *arguments], _encoded(env))


def of_wsgi(
    target: str,
    protocol: str,
    env: Mapping[str, str],
    *,
    backend: str,
    directory: str,
    virtualenv: Path | None,
) -> Command:
    """A server for the WSGI application *target*, ``module:attribute``, by `gateway.appserver`.

    Raises StartError if the virtual environment has no Python.
    """
    # -P: a directory called `gateway` beside the application must not stand in for this package.
    # -u: what the application prints is logged when it is printed.
    if virtualenv is None:
        words = [sys.executable, "-P", "-u", "-m", "gateway.appserver"]
    else:
        # Its Python knows nothing of the gateway, and gets to see no more of it than it needs.
        python = virtualenv / "bin" / "python"
        if not os.access(python, os.X_OK):
            raise StartError(f"backend {backend}: {python}: no such program: expected a virtual environment")
        places = [f"{name}={_place(name)}" for name in ("gateway", "flup")]
        words = [str(python), "-P", "-u", str(_BOOTSTRAP), *places]
    words += [protocol, target, *_told(backend, directory)]
    return Command(words, _encoded(env), reports=True)


def of_hosted(options: str, env: Mapping[str, str], *, backend: str, directory: str) -> Command:
    """The process of `gateway.hosted` for the application that *options* describe."""
    words = [sys.executable, "-P", "-u", "-m", "gateway.hosted", options, *_told(backend, directory)]
    return Command(words, _encoded(env), reports=True, hosted=True)


def _told(backend: str, directory: str) -> list[str]:
    """What our own servers are told, whatever they serve (`gateway.appserver.arguments`)."""
    return ["--directory", directory, "--name", backend, "--parent", str(os.getpid())]


_BOOTSTRAP: Final = Path(__file__).parents[1] / "appserver" / "bootstrap.py"


def _place(package: str) -> str:
    """The directory that *package* is in."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return os.path.dirname(next(iter(spec.submodule_search_locations)))


def environment(
    ours: Mapping[str, str],
    added: Mapping[str, str],
    *,
    pass_env: Sequence[str] | None = None,
    user: User | None = None,
    virtualenv: Path | None = None,
) -> dict[str, str]:
    """The environment of the processes: what *pass_env* names of *ours* (by default all), and *added*.

    A name that ends in ``*`` means all that begin so. What speaks to the gateway alone is never passed.
    Those of *user* would look for their files in the home of the gateway's own, where they may not.
    """
    env = {
        name: value
        for name, value in ours.items()
        if name not in _WITHHELD and (pass_env is None or any(_names(each, name) for each in pass_env))
    }
    if user is not None:
        env.update(user.variables())
    if virtualenv is not None:
        # As its bin/activate does it.
        env["VIRTUAL_ENV"] = str(virtualenv)
        env["PATH"] = os.pathsep.join([str(virtualenv / "bin"), env.get("PATH", os.defpath)])
        env.pop("PYTHONHOME", None)
    return {**env, **added}


def _names(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def _encoded(env: Mapping[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
