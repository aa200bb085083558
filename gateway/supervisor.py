"""Applications that the gateway starts itself and keeps alive.

One listening Unix socket in a private directory, and N processes that all accept on it as their file
descriptor 0, as FastCGI has it (2.2) and as SCGI and uwsgi applications take it too. The socket is the
gateway's: while a process is being replaced, connections wait in its backlog rather than being refused.
When none is alive and none will be soon, nothing waits: `check` refuses requests, and connections in the
backlog are closed.

What a process writes to its standard output and error goes to the log, line by line, with its number.
One that ends is started again, after a pause that doubles while they keep ending soon. At the end each
process group gets SIGTERM, a grace, and SIGKILL, and is reaped; the directory is removed.

When the gateway is killed itself (SIGKILL), the server processes for *wsgi* applications end by themselves; a
command stays, unless it watches its parent.

It does not know what the processes speak; `gateway.backends` talks to ``address``.
"""

import contextlib
import os
import secrets
import select
import shutil
import socket
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, NoReturn, TypeAlias

import structlog
import trio

from gateway.backend import StartError
from gateway.errors import BackendError, Cause, Phase
from gateway.process import LineSplitter, Process, describe_end, spawn

Protocol: TypeAlias = Literal["fastcgi", "scgi", "uwsgi"]

FIRST_PAUSE: Final = 0.1
"""Seconds before a process is started again."""
LONGEST_PAUSE: Final = 30.0
"""Seconds that the pause grows to, by doubling, while processes end soon after their start."""
STABLE_AFTER: Final = 10.0
"""Seconds that a process must live for the pause to begin from FIRST_PAUSE again."""

RESTART_PATIENCE: Final = 0.5
"""Seconds that a request may wait for a process to be started; a client that has to wait longer had better
be told."""

LAST_LINES: Final = 20
"""Lines of the processes' output that are kept for the developer."""

BACKLOG: Final = 4096
"""Connections that may wait for a process; the kernel cuts it to net.core.somaxconn."""

READ_SIZE: Final = 64 * 1024

# These speak to the process that they were set for: the gateway itself.
_WITHHELD: Final = (
    b"NOTIFY_SOCKET",
    b"LISTEN_FDS",
    b"LISTEN_PID",
    b"LISTEN_FDNAMES",
    b"FCGI_WEB_SERVER_ADDRS",
)

log = structlog.get_logger()


class Pauses:
    """How long to wait before a process is started again."""

    def __init__(self) -> None:
        self._next = FIRST_PAUSE

    def after(self, lived: float) -> float:
        """The pause after a process that lived that many seconds."""
        pause = FIRST_PAUSE if lived >= STABLE_AFTER else self._next
        self._next = min(2 * pause, LONGEST_PAUSE)
        return pause


class SpawnedApplication:
    """*processes* processes on one socket: of *command*, or of a server for the application *wsgi*.

    ``wsgi`` is ``module:attribute``; it is served over ``protocol`` by `gateway.appserver`. ``directory``
    is the working directory, and where modules are imported from. ``env`` is added to the gateway's own
    environment. ``grace`` is the time in seconds between SIGTERM and SIGKILL.
    """

    def __init__(
        self,
        name: str,
        *,
        protocol: Protocol,
        command: Sequence[str] | None = None,
        wsgi: str | None = None,
        processes: int = 1,
        directory: str | os.PathLike[str] = ".",
        env: Mapping[str, str] | None = None,
        grace: float = 10.0,
    ) -> None:
        self.name = name
        self._processes = processes
        self._directory = os.path.abspath(directory)
        if wsgi is not None:
            self._command = _wsgi_command(name, protocol, wsgi, self._directory)
        else:
            assert command, "either command or wsgi"
            self._command = list(command)
        self._environ = {
            **{key: value for key, value in os.environb.items() if key not in _WITHHELD},
            **{os.fsencode(key): os.fsencode(value) for key, value in (env or {}).items()},
        }
        self._grace = grace
        self._alive = 0
        self._starts: dict[int, float] = {}
        """Clock time of the next start, by slot, for each process that is not running."""
        self._last_end = ""
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)
        # Known before it exists, so that backends can be built first. Not to be guessed, as /tmp is
        # everybody's.
        self._home = os.path.join(tempfile.gettempdir(), f"gateway-{secrets.token_hex(8)}")
        self._socket_path = os.path.join(self._home, "app.sock")

    @property
    def address(self) -> str:
        """Where the application listens while `run` runs: ``unix:/path``."""
        return f"unix:{self._socket_path}"

    # What backends ask

    def check(self) -> None:
        """Raises BackendError (503) if no process is alive, and none will be for a while."""
        wait = self._wait()
        if wait > RESTART_PATIENCE:
            raise self._unavailable(wait)

    def explain(self, error: BackendError) -> BackendError:
        """*error* of an exchange with the application, as far as its processes explain it."""
        wait = self._wait()
        if wait > RESTART_PATIENCE and error.cause is Cause.TERMINATED and error.phase is Phase.FIRST_BYTE:
            return self._unavailable(wait)
        error.last_words = error.last_words or list(self._last_lines)
        return error

    def _wait(self) -> float:
        """Seconds until a process is alive."""
        if self._alive or not self._starts:
            return 0.0
        return min(self._starts.values()) - trio.current_time()

    def _unavailable(self, wait: float) -> BackendError:
        return BackendError(
            Cause.UNAVAILABLE,
            f"no process is alive; the last one: {self._last_end}; the next is started in {wait:.1f} s",
            backend=self.name,
            address=self.address,
            phase=Phase.SPAWN,
            retry_after=wait,
            last_words=list(self._last_lines),
        )

    # Lifetime

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Start the processes, say so, and keep them running until cancelled.

        Raises StartError if there is no such command or it cannot be started.
        """
        program = self._find_program()
        with self._listening() as listener:
            failure: StartError | None = None
            async with trio.open_nursery() as nursery:
                try:
                    for slot in range(self._processes):
                        await nursery.start(self._keep_running, slot, program, listener)
                except StartError as error:
                    failure = error
                    nursery.cancel_scope.cancel()  # those that were started
                else:
                    task_status.started()
            assert failure is not None, "the processes are kept running until cancelled"
            raise failure

    def _find_program(self) -> str:
        program = self._command[0]
        if not os.path.isdir(self._directory):
            raise StartError(f"backend {self.name}: {self._directory}: no such directory")
        if os.sep in program:
            path = os.path.join(self._directory, program)
            found = path if os.access(path, os.X_OK) and os.path.isfile(path) else None
        else:
            path = program
            found = shutil.which(program, path=os.fsdecode(self._environ.get(b"PATH", b"")) or None)
        if found is None:
            raise StartError(f"backend {self.name}: {path}: no such command, or it is not executable")
        return found

    @contextlib.contextmanager
    def _listening(self) -> Iterator[socket.socket]:
        with contextlib.ExitStack() as stack:
            try:
                os.mkdir(self._home, 0o700)
                stack.callback(shutil.rmtree, self._home, ignore_errors=True)
                listener = stack.enter_context(socket.socket(socket.AF_UNIX))
                listener.bind(self._socket_path)
                listener.listen(BACKLOG)
            except OSError as error:
                raise StartError(f"backend {self.name}: no socket at {self._socket_path}: {error}") from error
            yield listener

    # One of the processes

    async def _keep_running(
        self, slot: int, program: str, listener: socket.socket, *, task_status: trio.TaskStatus[None]
    ) -> None:
        """Run one process after another. Raises StartError if not even the first can be started."""
        running: _Running | None
        try:
            running = self._start(program, listener)
        except OSError as error:
            problem = f"{program} cannot be started: {error.strerror}"
            raise StartError(f"backend {self.name}: {problem}") from error
        task_status.started()
        pauses = Pauses()
        while True:
            pause = await self._end_of(running, pauses) if running is not None else pauses.after(0)
            self._starts[slot] = trio.current_time() + pause
            if self._wait() > RESTART_PATIENCE:
                _turn_away(listener)
            await trio.sleep(pause)  # noqa: TID251 (back-off: the wait is the point)
            running = self._restart(program, listener)
            del self._starts[slot]

    async def _end_of(self, running: "_Running", pauses: "Pauses") -> float:
        """Wait until a process ends, and say so; the pause before the next."""
        started_at = trio.current_time()
        self._alive += 1
        try:
            returncode = await running.watch(self._grace)
        finally:
            self._alive -= 1
        self._last_end = describe_end(returncode)
        pause = pauses.after(trio.current_time() - started_at)
        log.warning(
            "application process ended",
            backend=self.name,
            pid=running.process.pid,
            end=self._last_end,
            restart_in=pause,
        )
        return pause

    def _restart(self, program: str, listener: socket.socket) -> "_Running | None":
        try:
            return self._start(program, listener)
        except OSError as error:
            self._last_end = f"cannot be started: {error.strerror}"
            log.warning(
                "application process cannot be started",
                backend=self.name,
                command=self._command,
                cause=str(error),
            )
            return None

    def _start(self, program: str, listener: socket.socket) -> "_Running":
        stdout, stdout_end = os.pipe2(os.O_CLOEXEC)
        try:
            stderr, stderr_end = os.pipe2(os.O_CLOEXEC)
        except OSError:
            os.close(stdout)
            os.close(stdout_end)
            raise
        try:
            process = spawn(
                [program, *self._command[1:]],
                env=self._environ,
                directory=self._directory,
                stdin=listener.fileno(),
                stdout=stdout_end,
                stderr=stderr_end,
            )
        except OSError:
            os.close(stdout)
            os.close(stderr)
            raise
        finally:
            os.close(stdout_end)
            os.close(stderr_end)
        log.info("application process started", backend=self.name, pid=process.pid)
        return _Running(self.name, process, stdout, stderr, self._last_lines)


def _turn_away(listener: socket.socket) -> None:
    """Close the connections that wait for a process: their requests are answered now.

    No process is alive that would share the mode of the socket.
    """
    descriptor = listener.fileno()
    blocking = os.get_blocking(descriptor)
    os.set_blocking(descriptor, False)
    try:
        while True:
            listener.accept()[0].close()
    except OSError:
        pass  # none is left, or there is no descriptor for it
    finally:
        os.set_blocking(descriptor, blocking)


def _wsgi_command(name: str, protocol: Protocol, target: str, directory: str) -> list[str]:
    # -P: a directory called `gateway` beside the application must not stand in for this package.
    # -u: what the application prints is logged when it is printed.
    command = [sys.executable, "-P", "-u", "-m", "gateway.appserver"]
    return [
        *command,
        protocol,
        target,
        "--directory",
        directory,
        "--name",
        name,
        "--parent",
        str(os.getpid()),
    ]


class _Running:
    """A process and the pipes it writes to."""

    def __init__(
        self, backend: str, process: Process, stdout: int, stderr: int, last_lines: deque[str]
    ) -> None:
        self.process = process
        self._last_lines = last_lines
        self._backend = backend
        self._names = {stdout: "stdout", stderr: "stderr"}
        self._splitters = {stdout: LineSplitter(), stderr: LineSplitter()}
        self._poll = select.epoll()
        for descriptor in self._names:
            os.set_blocking(descriptor, False)
            self._poll.register(descriptor, select.EPOLLIN)
        self._poll.register(process.pidfd, select.EPOLLIN)

    async def watch(self, grace: float) -> int:
        """Log what it writes until it ends; how it ended. When cancelled, end it, and log the rest."""
        try:
            ended = False
            while not ended:
                await trio.lowlevel.wait_readable(self._poll.fileno())
                for descriptor, _ in self._poll.poll(0):
                    if descriptor in self._names:
                        self._read(descriptor)
                    else:
                        ended = True
        finally:
            try:
                # Also after its own end: processes that it left behind would still accept.
                await self.process.terminate(grace)
            finally:
                self._close()
        assert self.process.returncode is not None
        return self.process.returncode

    def _read(self, descriptor: int) -> None:
        """Log what is there: at most one read, so that a flood cannot hold the event loop."""
        try:
            data = os.read(descriptor, READ_SIZE)
        except BlockingIOError:
            return
        if data:
            self._log(descriptor, self._splitters[descriptor].feed(data))
        else:
            self._end(descriptor)

    def _end(self, descriptor: int) -> None:
        self._log(descriptor, self._splitters[descriptor].end())
        del self._names[descriptor]
        os.close(descriptor)

    def _close(self) -> None:
        for descriptor in tuple(self._names):
            self._read(descriptor)
        for descriptor in tuple(self._names):
            self._end(descriptor)
        self._poll.close()

    def _log(self, descriptor: int, lines: list[str]) -> None:
        self._last_lines.extend(lines)
        for line in lines:
            log.info(
                "application output",
                backend=self._backend,
                pid=self.process.pid,
                stream=self._names[descriptor],
                line=line,
            )
