"""Starting servers on a core, waiting until they answer, and ending them.

A server runs in a session of its own, in a private directory, with a small environment. At the end it gets
SIGTERM, and after a grace whatever is left of its tree is killed; nothing that was started stays.
"""

import http.client
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from benchmarks import measure

HOST: Final = "127.0.0.1"
ROOT: Final = Path(__file__).parents[1]
APPS: Final = Path(__file__).with_name("apps")
COMPILED: Final = ROOT / "build" / "compiled"
"""Where ``make build`` puts the gateway as it is installed."""

_START: Final = 20.0
"""Seconds that a server has until it answers."""
_STOP: Final = 10.0
"""Seconds from SIGTERM to SIGKILL."""
_POLL: Final = 0.005
"""Seconds between two tries; a server that starts has nothing that one could wait for."""
_SAID: Final = 5
"""Lines of a failed server's output that are shown."""


class StartError(Exception):
    """A server did not start, or answers wrongly."""


def cores() -> tuple[int, int]:
    """The core of the server, and that of the load and the backend: the same if there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[1 if len(usable) > 1 else 0]


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Run this process, and all that it starts meanwhile, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(commands: Sequence[Sequence[str]], directory: Path, core: int) -> Iterator["Processes"]:
    """Run *commands* together, in *directory*, on *core*; end them with the block."""
    processes = Processes(directory)
    try:
        with pinned(core):
            for command in commands:
                processes.start(command)
        yield processes
    finally:
        processes.end()


class Processes:
    """Programs that make up a server. Raises :class:`StartError` as soon as one has ended by itself."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._output = directory / "output.txt"
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    @property
    def pids(self) -> list[int]:
        """The processes that were started, without those they have started."""
        return [process.pid for _, process in self._running]

    def start(self, command: Sequence[str]) -> None:
        """Start one more program."""
        with self._output.open("ab") as output:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=self._directory,
                    env=_environment(self._directory),
                    start_new_session=True,
                )
            except OSError as error:
                raise StartError(f"{command[0]}: {error.strerror}") from error
        self._running.append((Path(command[0]).name, process))

    def wait_for_socket(self, address: str) -> None:
        """Wait until somebody listens on *address*, ``host:port`` or a path."""

        def wrong() -> str:
            try:
                _connect(address).close()
            except OSError as error:
                return f"nobody listens on {address}: {error}"
            return ""

        self._wait(wrong)

    def wait_for_answer(self, port: int, path: str, body: bytes, *, tls: bool = False) -> None:
        """Wait until ``GET path`` is answered 200 with exactly *body*; any certificate will do."""

        def wrong() -> str:
            try:
                status, got = _get(port, path, tls)
            except (OSError, http.client.HTTPException) as error:
                return f"GET {path} is not answered: {error!r}"
            if (status, got) == (200, body):
                return ""
            return f"GET {path} is answered {status} with {got[:60]!r}"

        self._wait(wrong)

    def end(self) -> None:
        """End all of them, and what they have started."""
        with ExitStack() as stack:
            # A descriptor of a process means that process for ever, where its number may mean another.
            tree = [fd for pid in measure.tree(self.pids) if (fd := _pidfd(pid)) is not None]
            for fd in tree:
                stack.callback(os.close, fd)
            for _, process in self._running:
                process.terminate()
            deadline = time.monotonic() + _STOP
            for _, process in self._running:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
            for fd in tree:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
            for _, process in self._running:
                process.wait()

    def _wait(self, wrong: Callable[[], str]) -> None:
        """Wait until nothing is *wrong* any more."""
        deadline = time.monotonic() + _START
        while problem := wrong():
            for name, process in self._running:
                if (status := process.poll()) is not None:
                    raise StartError(f"{name} ended with status {status}{self._said()}")
            if time.monotonic() > deadline:
                raise StartError(problem + self._said())
            time.sleep(_POLL)

    def _said(self) -> str:
        lines = self._output.read_text(errors="replace").strip().splitlines()[-_SAID:]
        return "".join(f"\n  {line}" for line in lines)


def gateway_directory() -> Path:
    """The compiled gateway, if there is one that is no older than the sources; otherwise the sources.

    BENCHMARKED names the directory of another one.
    """
    if other := os.environ.get("BENCHMARKED"):
        return Path(other).absolute()
    built = COMPILED / ".built"
    sources = [ROOT / "setup.py", *(ROOT / "gateway").rglob("*.py")]
    if built.exists() and built.stat().st_mtime >= max(path.stat().st_mtime for path in sources):
        return COMPILED
    return ROOT


def _environment(directory: Path) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": f"{gateway_directory()}{os.pathsep}{APPS}",
        "HOME": str(directory),
        "TMPDIR": str(directory),
        "LANG": "C.UTF-8",
    }


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _connect(address: str) -> socket.socket:
    if address.startswith("/"):
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(address)
        except OSError:
            connection.close()
            raise
        return connection
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)))


def _get(port: int, path: str, tls: bool) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(HOST, port, timeout=_START)
    if tls:
        unverified = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(HOST, port, timeout=_START, context=unverified)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
