"""What a peer is, and how the servers written for Python applications are started; the gateway too.

A peer turns a :class:`Place` into the commands that run it there in the foreground, and writes the files
they need into the place's directory. It runs on one worker, keeps connections alive and logs no accesses.
"""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import yaml

from benchmarks.process import HOST, gateway_directory

THREADS: Final = 8
"""Application threads of each WSGI server; the gateway's own default."""

KEEP_ALIVE: Final = 75
"""Seconds that an idle connection is kept where the default is less than a run takes."""

ENDLESS: Final = 1_000_000_000
"""Requests on one connection, for servers that would otherwise close it now and then."""

Commands: TypeAlias = list[list[str]]


@dataclass(frozen=True, slots=True)
class Place:
    """What one start of a server is given."""

    directory: Path
    """Private to this start: configuration, pid files, sockets."""
    port: int
    """Where to listen, on the loopback address."""
    content: Path
    """The files and programs of the scenario."""
    backend: str
    """Where the scenario's backend listens: ``host:port``, the path of a Unix socket, or nothing."""
    connections: int
    """How many connections the load has."""

    @property
    def certificate(self) -> str:
        """The certificate chain of the scenario, if it has one."""
        return str(self.content / "certificate.pem")

    @property
    def key(self) -> str:
        """The key of the certificate."""
        return str(self.content / "key.pem")

    @property
    def listen(self) -> str:
        """The address as ``host:port``."""
        return f"{HOST}:{self.port}"

    def write(self, name: str, text: str) -> str:
        """Write a file into the directory; its path."""
        path = self.directory / name
        path.write_text(text)
        return str(path)


@dataclass(frozen=True, slots=True)
class Need:
    """Something that must be installed."""

    what: str
    install: str
    """The command that installs it."""
    present: Callable[[], bool]
    version: Callable[[], str]
    """Its version, empty if it does not tell."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server in one scenario."""

    name: str
    start: Callable[[Place], Commands]
    needs: tuple[Need, ...]

    def missing(self) -> list[Need]:
        """What is not installed."""
        return [need for need in self.needs if not need.present()]

    def version(self) -> str:
        """The version of the server itself, empty if it does not tell."""
        return self.needs[0].version()


# ---- what must be installed

_SBIN: Final = "/usr/local/sbin:/usr/sbin:/sbin"
"""Servers live there; it is not on every user's PATH."""


def find(name: str) -> str | None:
    """The path of a program."""
    return shutil.which(name, path=os.environ.get("PATH", os.defpath) + os.pathsep + _SBIN)


def program(name: str, package: str, tell: str = "") -> Need:
    """A program of a Debian package, whose option or command *tell* prints its version."""
    return Need(name, f"apt-get install {package}", lambda: find(name) is not None, lambda: _told(name, tell))


def file(path: str, package: str) -> Need:
    """A file of a Debian package."""
    return Need(path, f"apt-get install {package}", Path(path).exists, str)


def module(name: str) -> Need:
    """A Python package."""
    return Need(
        name,
        f"pip install {name}",
        lambda: importlib.util.find_spec(name) is not None,
        lambda: importlib.metadata.version(name),
    )


def _told(name: str, tell: str) -> str:
    path = find(name)
    if path is None or not tell:
        return ""
    try:
        told = subprocess.run([path, tell], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"\d+\.\d+(\.\d+)*", told.stdout + told.stderr)
    return found.group() if found else ""


# ---- the gateway

GATEWAY: Final = "gateway"


def _gateway_version() -> str:
    told = subprocess.run(
        [sys.executable, "-P", "-m", "gateway", "--version"],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(gateway_directory())},
    )
    return told.stdout.removeprefix("gateway ").strip()


_INSTALLED_GATEWAY: Final = Need(
    GATEWAY,
    "pip install -e .",
    lambda: importlib.util.find_spec(GATEWAY) is not None,
    _gateway_version,
)


def gateway(backend: Callable[[Place], dict[str, Any]], *, tls: bool = False) -> Peer:
    """The gateway with one backend, given as in its configuration."""

    def rest(place: Place) -> dict[str, Any]:
        listener: dict[str, Any] = {"http": place.listen}
        if tls:
            listener["tls"] = {"certificate": place.certificate, "key": place.key}
        return {"listeners": [listener], "backends": {"app": backend(place)}, "routes": [{"backend": "app"}]}

    return _gateway(rest)


def gateway_static() -> Peer:
    """The gateway serving files."""
    return _gateway(lambda place: {"routes": [{"static": str(place.content)}]})


def _gateway(rest: Callable[[Place], dict[str, Any]]) -> Peer:
    def start(place: Place) -> Commands:
        config = {"listeners": [{"http": place.listen}], "workers": 1, "access_log": False, **rest(place)}
        name = place.write("gateway.yaml", yaml.safe_dump(config, sort_keys=False))
        return [[sys.executable, "-m", "gateway", "serve", name]]

    return Peer(GATEWAY, start, (_INSTALLED_GATEWAY,))


# ---- servers for ASGI and WSGI applications


def _python(name: str, arguments: Callable[[Place], Sequence[str]], *others: str) -> Peer:
    """A server that is a Python package with a ``__main__``."""
    return Peer(
        name,
        lambda place: [[sys.executable, "-m", name, *arguments(place)]],
        tuple(module(needed) for needed in (name, *others)),
    )


def uvicorn(app: str, *, tls: bool = False) -> Peer:
    """Uvicorn at its fastest: uvloop and httptools; WebSocket by websockets without its asyncio."""
    return _python(
        "uvicorn",
        lambda place: [
            app, f"--host={HOST}", f"--port={place.port}", "--loop=uvloop", "--http=httptools",
            "--ws=websockets-sansio", "--no-access-log", "--log-level=warning",
            f"--timeout-keep-alive={KEEP_ALIVE}",
            *([f"--ssl-certfile={place.certificate}", f"--ssl-keyfile={place.key}"] if tls else ()),
        ],
        "uvloop", "httptools", "websockets",
    )  # fmt: skip


def hypercorn(app: str, *, loop: Literal["trio", "uvloop"] = "trio", tls: bool = False) -> Peer:
    """Hypercorn's worker of that name."""
    return _python(
        "hypercorn",
        lambda place: [
            app, f"--bind={place.listen}", f"--worker-class={loop}", "--workers=1", "--log-level=warning",
            f"--keep-alive={KEEP_ALIVE}",
            *([f"--certfile={place.certificate}", f"--keyfile={place.key}"] if tls else ()),
        ],
        loop,
    )  # fmt: skip


def granian(interface: str, app: str, *, tls: bool = False) -> Peer:
    """Granian with its own choice of loop and runtime."""
    return _python(
        "granian",
        lambda place: [
            app, f"--interface={interface}", f"--host={HOST}", f"--port={place.port}", "--workers=1",
            "--no-access-log", "--log-level=warning",
            *([f"--ssl-certificate={place.certificate}", f"--ssl-keyfile={place.key}"] if tls else ()),
        ],
    )  # fmt: skip


def gunicorn(app: str) -> Peer:
    """Gunicorn with threads."""
    return _python(
        "gunicorn",
        lambda place: [
            app, f"--bind={place.listen}", "--worker-class=gthread", "--workers=1", f"--threads={THREADS}",
            f"--keep-alive={KEEP_ALIVE}", "--log-level=warning", "--no-control-socket",
        ],
    )  # fmt: skip


# By default it writes a warning for each request that finds all threads busy.
_WAITRESS: Final = """\
import logging, waitress
from {module} import {name}
logging.getLogger("waitress").setLevel(logging.ERROR)
waitress.serve({name}, listen="{listen}", threads={threads})
"""


def waitress(app: str) -> Peer:
    """Waitress."""
    module_name, _, name = app.partition(":")

    def start(place: Place) -> Commands:
        text = _WAITRESS.format(module=module_name, name=name, listen=place.listen, threads=THREADS)
        return [[sys.executable, place.write("serve.py", text)]]

    return Peer("waitress", start, (module("waitress"),))
