"""The lifetime of a spawned application: its processes come and go, its requests do not notice.

One task decides (`schedule`) whenever something has changed: a process has ended or become ready, a request
needs one more, time has passed.

A process that is stopped while the application runs must not take requests with it. Our own server sees to
that itself. Of a command it is not known, nor which of several has accepted a connection; so it is stopped
at a moment without requests: one that comes by itself within the stop time, or is made by letting new
requests wait for at most `HOLD` seconds.

At an address of its own a program is stopped in the same way for the worker that has taken over, at a reload
(`place`).
"""

import os
import signal
from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Final, Literal, NoReturn, TypeAlias

import trio

from gateway.appserver.report import END_ANNOUNCED, END_URGENT
from gateway.errors import BackendError, Cause, Phase, StartError
from gateway.logger import get_logger
from gateway.net.address import TcpAddress, UnixAddress
from gateway.programs.confinement import Confinement, ResourceLimits, User
from gateway.programs.executable import explain
from gateway.programs.restarts import GiveUp, Restarts
from gateway.shutdown.notice import ShutdownNotice
from gateway.spawn.command import Command, environment, of_hosted, of_program, of_wsgi
from gateway.spawn.endpoint import SharedSocket, endpoint_for
from gateway.spawn.place import Place
from gateway.spawn.processes import NONE_YET, RESTART_PATIENCE, ApplicationProcess, ProcessPool
from gateway.spawn.schedule import Demand, Processes, Recycling, next_step

Protocol: TypeAlias = Literal["fastcgi", "scgi", "uwsgi", "http"]

HOLD: Final = 1.0
"""Seconds that new requests are held back at most, for the running ones to end before a command is stopped,
and again for the command to end."""

log = get_logger()


_BROKEN_OFF: Final = frozenset({Cause.REFUSED, Cause.TERMINATED, Cause.INCOMPLETE})
"""What the death of a process looks like to its requests, before the process is known to be dead."""


class SpawnedApplication:
    """Processes of *command*, or of a server for the WSGI application *wsgi* (``module:attribute``), or of
    our own for the application that *hosted* describes (`gateway.hosted.options`).

    ``directory`` is the working directory, and where modules are imported from. ``env`` is added to what
    ``pass_env`` names of the gateway's own environment, by default all. ``address`` is where a command
    listens that opens its own socket. *notice* is that of the gateway's end. Times are in seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        protocol: Protocol,
        processes: Processes,
        directory: str | os.PathLike[str],
        virtualenv: Path | None,
        env: Mapping[str, str],
        pass_env: Sequence[str] | None,
        user: User | None,
        limits: ResourceLimits | None,
        startup_time: float,
        stop_time: float,
        give_up: GiveUp | None,
        recycling: Recycling,
        notice: ShutdownNotice,
        command: Sequence[str] | None = None,
        wsgi: str | None = None,
        hosted: str | None = None,
        address: UnixAddress | TcpAddress | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        assert command or wsgi or hosted, "one of command, wsgi and hosted"
        self.name = name
        self._protocol = protocol
        self._program = command
        self._wsgi = wsgi
        self._hosted = hosted
        self._directory = os.path.abspath(directory)
        self._virtualenv = virtualenv
        self._env = environment(os.environ, env, pass_env=pass_env, user=user, virtualenv=virtualenv)
        self._endpoint = endpoint_for(command or (), env, address)
        self._bounds = processes
        self.seated = hosted is not None and processes.most > 1
        """Whether each process has a socket of its own, beside the one that they share."""
        self._dynamic = self._bounds.least < self._bounds.most
        self._user = user
        self._startup_time = startup_time
        self._stop_time = stop_time
        self._demand = Demand(self._bounds)
        self._restarts = Restarts(give_up)
        self.pool = ProcessPool(
            name,
            self._endpoint,
            directory=self._directory,
            # Our own server sees the end of the gateway itself, and finishes its requests. The signal is for
            # the end of the thread that starts the process: the main one, where the event loop runs.
            confinement=Confinement(user, limits, death_signal=stop_signal if command else None),
            startup_time=startup_time,
            stop_signal=stop_signal,
            stop_time=stop_time,
            restarts=self._restarts,
            recycling=recycling,
            seated=self.seated,
            notice=notice,
            on_end=self._turn_away,
        )
        self._place = Place(name, self._endpoint, notice, lambda: self.pool.changed.set())
        self._requests = 0
        """Those that wait for a process, and those that run."""
        self._running = 0
        self._quiet: trio.Event | None = None
        self._held: trio.Event | None = None

    @property
    def address(self) -> UnixAddress | TcpAddress:
        """Where the application listens while `run` runs."""
        return self._endpoint.address

    @property
    def running(self) -> bool:
        """Whether there is a process that accepts connections."""
        return self._place.theirs or any(member.ready and not member.stopping for member in self.pool.members)

    @property
    def awaited(self) -> bool:
        """Whether a connection that is made now does not wait for long on a shared socket."""
        return not isinstance(self._endpoint, SharedSocket) or self._wait() <= RESTART_PATIENCE

    # What backends ask

    async def enter(self) -> None:
        """A request begins; waits if it has to wait for a process. `leave` ends it.

        Raises BackendError (503) if no process is alive, and none will be for a while.
        """
        self._requests += 1
        try:
            self._check()
            if self._dynamic:
                need = self._demand.note(self._requests, trio.current_time())
                if need > self.pool.staying:
                    self.pool.changed.set()
            while not self._accepting():
                await self._until_accepting()
        except BaseException:
            self._requests -= 1
            raise
        self._running += 1

    def leave(self) -> None:
        """A request has ended, one way or another."""
        if self._dynamic:
            self._demand.note(self._requests, trio.current_time())
        self._requests -= 1
        self._running -= 1
        self.pool.count_request()
        if self._quiet is not None and not self._running:
            self._quiet.set()

    def explain(self, error: BackendError) -> BackendError:
        """*error* of an exchange with the application, as far as its processes explain it."""
        if error.backend != self.name:
            return error
        if error.cause in _BROKEN_OFF and not isinstance(self._endpoint, SharedSocket):
            # Requests that come before its end is known would be refused.
            self.pool.doubt()
        wait = self._wait()
        if wait > RESTART_PATIENCE and error.cause is Cause.TERMINATED and error.phase is Phase.FIRST_BYTE:
            return self._unavailable(wait)
        error.last_words = error.last_words or list(self.pool.last_lines)
        return error

    def announce_end(self, urgent: bool) -> None:
        """Tell our own processes that the gateway stops (`notice.Listener`); what they have goes on."""
        self.pool.renew_connections()
        for member in self.pool.members:
            if member.ready:  # others do not listen yet
                member.running.send_signal(END_URGENT if urgent else END_ANNOUNCED)

    def _check(self) -> None:
        wait = self._wait()
        if wait > RESTART_PATIENCE:
            raise self._unavailable(wait)

    def _wait(self) -> float:
        """Seconds until a process is alive; where it is another worker's, we know of no reason to wait."""
        if self.pool.staying or not self._place.ours:
            return 0.0
        return self._restarts.not_before - trio.current_time()

    def _accepting(self) -> bool:
        """Whether a connection may be made: on a shared socket it may wait for a process."""
        if self._held is not None:
            return False
        if isinstance(self._endpoint, SharedSocket) or self._place.theirs:
            return True
        return self.pool.ready

    async def _until_accepting(self) -> None:
        with trio.move_on_after(self._startup_time):
            while not self._accepting():
                if self._held is not None:
                    await self._held.wait()
                else:
                    await self.pool.changed.wait()
                self._check()
            return
        raise self._failed(f"no process was ready within {self._startup_time:g} s")

    def _unavailable(self, wait: float) -> BackendError:
        last_end = self.pool.last_end
        if wait == inf:
            return self._failed(f"no process is alive, and none is started any more; {last_end}")
        return self._failed(
            f"no process is alive; the last one: {last_end}; the next is started in {wait:.1f} s", wait
        )

    def _failed(self, detail: str, retry_after: float | None = None) -> BackendError:
        return BackendError(
            Cause.UNAVAILABLE,
            detail,
            backend=self.name,
            address=str(self.address),
            phase=Phase.SPAWN,
            retry_after=retry_after,
            last_words=list(self.pool.last_lines),
        )

    # Lifetime

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Start the processes, say so, and keep them running until cancelled.

        Of our own, one is ready when that is said, or has failed. Where another worker still has the address,
        it is said before: that one does not leave it before this one serves.

        Raises StartError if there is no such command or it cannot be started.
        """
        command = self._command()
        failure: OSError | None = None
        with self._endpoint.opened(self.name, self._user):
            async with trio.open_nursery() as nursery:
                if not self._place.take():
                    task_status.started()
                    await self._place.wait()
                    nursery.start_soon(self._place.give_way, self._until_none_is_left)
                    await self._supervise(command, nursery)
                try:
                    for _ in range(self._bounds.least):
                        self.pool.start(command, nursery)
                        # Each holds the loop until the new process has had its first turn, which takes long
                        # where many load: signals are heard in between.
                        await trio.lowlevel.checkpoint()
                except OSError as error:
                    failure = error
                    nursery.cancel_scope.cancel()  # those that were started
                else:
                    if self._hosted is not None and self._bounds.least:
                        nursery.start_soon(self._tell_started, task_status)
                    else:
                        task_status.started()
                    nursery.start_soon(self._place.give_way, self._until_none_is_left)
                    await self._supervise(command, nursery)
        assert failure is not None, "the processes are kept running until cancelled"
        program = command.words[0]
        problem = f"{program} cannot be started: {explain(program, failure)}"
        raise StartError(f"backend {self.name}: {problem}") from failure

    async def _until_none_is_left(self) -> None:
        while self.pool.members:
            await self.pool.changed.wait()

    async def _tell_started(self, task_status: trio.TaskStatus[None]) -> None:
        """As in the gateway's own process: when the application serves, or it is known that it does not."""
        while self.pool.last_end == NONE_YET and not self.pool.ready:
            await self.pool.changed.wait()
        task_status.started()

    def _command(self) -> Command:
        if not os.path.isdir(self._directory):
            raise StartError(f"backend {self.name}: {self._directory}: no such directory")
        if self._wsgi is not None:
            return of_wsgi(
                self._wsgi,
                self._protocol,
                self._env,
                backend=self.name,
                directory=self._directory,
                virtualenv=self._virtualenv,
            )
        if self._hosted is not None:
            return of_hosted(self._hosted, self._env, backend=self.name, directory=self._directory)
        assert self._program is not None
        return of_program(
            self._program, self._endpoint, self._env, backend=self.name, directory=self._directory
        )

    async def _supervise(self, command: Command, nursery: trio.Nursery) -> NoReturn:
        while True:
            if self.pool.changed.is_set():  # others wait for it too
                self.pool.changed = trio.Event()
            due = self._act(command, nursery)
            with trio.move_on_at(due):
                await self.pool.changed.wait()

    def _act(self, command: Command, nursery: trio.Nursery) -> float:
        """Start and stop what is to be started and stopped; when to look again, if nothing happens."""
        now = trio.current_time()
        due = self.pool.look_for_spent(command, now)
        wanted = self._demand.wanted(self._requests, now) if self._place.ours else 0
        due = min(due, self._demand.falls_at(wanted))
        step = next_step(
            self.pool.members,
            wanted,
            least=min(self._bounds.least, wanted),
            overlap=isinstance(self._endpoint, SharedSocket),
        )
        if step.stop is not None:
            assert isinstance(step.stop, ApplicationProcess)
            self._stop(step.stop, step.why if self._place.ours else "reload", command, nursery)
            return now
        if step.start and now < self._restarts.not_before:
            return min(due, self._restarts.not_before)
        if step.start:
            self.pool.restart(command, nursery)
            return now  # one after the other, as at the start
        return due

    def _turn_away(self) -> None:
        """Answer what waits in the queue of the socket, if it would have to wait for long."""
        if self._wait() > RESTART_PATIENCE and isinstance(self._endpoint, SharedSocket):
            self._endpoint.turn_away()

    def _stop(self, member: ApplicationProcess, why: str, command: Command, nursery: trio.Nursery) -> None:
        member.stopping = True
        log.info("application process stops", backend=self.name, pid=member.running.pid, reason=why)
        self.pool.look_who_serves()
        if command.reports:
            self.pool.renew_connections()
            member.running.ask_to_stop()
        else:
            nursery.start_soon(self._stop_quietly, member)

    async def _stop_quietly(self, member: ApplicationProcess) -> None:
        """Stop a command at a moment without requests, as the head of this module has it."""
        with trio.move_on_after(self._stop_time):
            await self._until_quiet()
        if member.running.ended.is_set():
            return  # by itself: nothing is to be held for it
        # The next one may be stopped meanwhile, when this one has just ended.
        held = self._held = trio.Event()
        try:
            with trio.move_on_after(HOLD):
                await self._until_quiet()
            self.pool.renew_connections()
            member.ready = False
            member.running.ask_to_stop()
            with trio.move_on_after(HOLD):
                await member.running.ended.wait()
        finally:
            held.set()
            if self._held is held:
                self._held = None

    async def _until_quiet(self) -> None:
        """Wait until no request runs. The caller goes on before another can begin."""
        while self._running:
            self._quiet = trio.Event()
            await self._quiet.wait()
        self._quiet = None
