"""The lifetime of a spawned application: its processes come and go, its requests do not notice.

One task decides (`schedule`) whenever something has changed: a process has ended or become ready, a request
needs one more, time has passed. Each process has a task of its own that follows it to its end.

A process that is stopped while the application runs must not take requests with it. Our own server sees to
that itself. Of a command it is not known, nor which of several has accepted a connection; so it is stopped
at a moment without requests: one that comes by itself within the stop time, or is made by letting new
requests wait for at most `HOLD` seconds.

At an address of its own a program is stopped in the same way for the worker that has taken over, at a reload
(`place`).
"""

import os
import random
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Final, Literal, NoReturn, TypeAlias

import trio

from gateway.appserver.report import END_ANNOUNCED, END_URGENT, READY, SPENT
from gateway.errors import BackendError, Cause, Phase, StartError
from gateway.logger import get_logger
from gateway.logs.lines import LAST_LINES
from gateway.net.address import TcpAddress, UnixAddress
from gateway.programs.confinement import Confinement, ResourceLimits, User
from gateway.programs.executable import explain
from gateway.programs.process import describe_end
from gateway.programs.restarts import GiveUp, Restarts
from gateway.shutdown.notice import ShutdownNotice
from gateway.spawn.command import Command, environment, of_hosted, of_program, of_wsgi
from gateway.spawn.endpoint import FIRST_PROBE, LAST_PROBE, OwnSocket, SharedSocket, endpoint_for
from gateway.spawn.place import Place
from gateway.spawn.process import RunningProcess, start
from gateway.spawn.schedule import (
    Demand,
    Life,
    Member,
    Processes,
    Recycling,
    next_step,
)

Protocol: TypeAlias = Literal["fastcgi", "scgi", "uwsgi", "http"]

RESTART_PATIENCE: Final = 0.5
"""Seconds that a request may wait for a process to be started; a client that has to wait longer had better
be told."""

SETTLED: Final = 1.0
"""Seconds after which a command on the shared socket counts as ready: it cannot say so, but those that fail
to start mostly do it sooner."""

DYING: Final = 0.1
"""Seconds in which a process that breaks off a connection because it dies has ended: its listening socket may
outlive its connections, and requests that got into it would be lost."""

HOLD: Final = 1.0
"""Seconds that new requests are held back at most, for the running ones to end before a command is stopped,
and again for the command to end."""

CHECK_INTERVAL: Final = 5.0
"""Seconds between two looks at the memory of processes, and from the start of one to the first."""

log = get_logger()


_BROKEN_OFF: Final = frozenset({Cause.REFUSED, Cause.TERMINATED, Cause.INCOMPLETE})
"""What the death of a process looks like to its requests, before the process is known to be dead."""

_ENDLESS: Final = Life()

_NONE_YET: Final = "none was started"


@dataclass(eq=False, slots=True)
class _Process(Member):
    running: RunningProcess = None  # type: ignore[assignment]  # known once it is started
    life: Life = _ENDLESS
    counted_from: float = 0.0
    """What the count of requests for each process was at its start."""
    doubted: trio.Event = field(default_factory=trio.Event)
    """Set when it may have died: whether it still accepts is to be found out."""


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
        command: Sequence[str] | None = None,
        wsgi: str | None = None,
        hosted: str | None = None,
        address: UnixAddress | TcpAddress | None = None,
        processes: Processes | None = None,
        directory: str | os.PathLike[str] = ".",
        virtualenv: Path | None = None,
        env: Mapping[str, str] | None = None,
        pass_env: Sequence[str] | None = None,
        user: User | None = None,
        limits: ResourceLimits | None = None,
        startup_time: float = 60.0,
        stop_signal: signal.Signals = signal.SIGTERM,
        stop_time: float = 30.0,
        give_up: GiveUp | None = None,
        recycling: Recycling | None = None,
        notice: ShutdownNotice | None = None,
    ) -> None:
        assert command or wsgi or hosted, "one of command, wsgi and hosted"
        self.name = name
        self._protocol = protocol
        self._program = command
        self._wsgi = wsgi
        self._hosted = hosted
        self._directory = os.path.abspath(directory)
        self._virtualenv = virtualenv
        self._env = environment(os.environ, env or {}, pass_env=pass_env, virtualenv=virtualenv)
        self._endpoint = endpoint_for(command or (), env or {}, address)
        self._bounds = processes or Processes()
        self._dynamic = self._bounds.least < self._bounds.most
        # Our own server sees the end of the gateway itself, and finishes its requests. The signal is for the
        # end of the thread that starts the process: the main one, where the event loop runs.
        self._confinement = Confinement(user, limits, death_signal=stop_signal if command else None)
        self._startup_time = startup_time
        self._stop_signal = stop_signal
        self._stop_time = stop_time
        self._recycling = recycling or Recycling()
        self._notice = notice or ShutdownNotice()
        self._demand = Demand(self._bounds)
        self._restarts = Restarts(give_up)
        self._members: list[_Process] = []
        self._changed = trio.Event()
        """Set when there may be something to do; another takes its place then."""
        self._requests = 0
        """Those that wait for a process, and those that run."""
        self._running = 0
        self._counted = 0.0
        """Requests so far, for each of the processes that were there."""
        self._count_due = inf
        self._quiet: trio.Event | None = None
        self._held: trio.Event | None = None
        self._place = Place(name, self._endpoint, self._notice, lambda: self._changed.set())
        self._last_end = _NONE_YET
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self.renew_connections: Callable[[], None] = _nothing
        """Closes the connections that are kept for later, and keeps none of those in use."""

    @property
    def address(self) -> UnixAddress | TcpAddress:
        """Where the application listens while `run` runs."""
        return self._endpoint.address

    @property
    def running(self) -> bool:
        """Whether there is a process that accepts connections."""
        return self._place.theirs or any(member.ready and not member.stopping for member in self._members)

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
                if need > self._staying():
                    self._changed.set()
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
        self._counted += 1 / max(len(self._members), 1)
        if self._counted >= self._count_due:
            self._changed.set()
        if self._quiet is not None and not self._running:
            self._quiet.set()

    def explain(self, error: BackendError) -> BackendError:
        """*error* of an exchange with the application, as far as its processes explain it."""
        if error.backend != self.name:
            return error
        if error.cause in _BROKEN_OFF and not isinstance(self._endpoint, SharedSocket):
            # Requests that come before its end is known would be refused.
            for member in self._members:
                member.ready = False
                member.doubted.set()
        wait = self._wait()
        if wait > RESTART_PATIENCE and error.cause is Cause.TERMINATED and error.phase is Phase.FIRST_BYTE:
            return self._unavailable(wait)
        error.last_words = error.last_words or list(self._last_lines)
        return error

    def announce_end(self, urgent: bool) -> None:
        """Tell our own processes that the gateway stops (`notice.Listener`); what they have goes on."""
        self.renew_connections()
        for member in self._members:
            if member.ready:  # others do not listen yet
                member.running.send_signal(END_URGENT if urgent else END_ANNOUNCED)

    def _check(self) -> None:
        wait = self._wait()
        if wait > RESTART_PATIENCE:
            raise self._unavailable(wait)

    def _wait(self) -> float:
        """Seconds until a process is alive; where it is another worker's, we know of no reason to wait."""
        if self._staying() or not self._place.ours:
            return 0.0
        return self._restarts.not_before - trio.current_time()

    def _staying(self) -> int:
        return sum(not member.stopping for member in self._members)

    def _accepting(self) -> bool:
        """Whether a connection may be made: on a shared socket it may wait for a process."""
        if self._held is not None:
            return False
        if isinstance(self._endpoint, SharedSocket) or self._place.theirs:
            return True
        return any(member.ready for member in self._members)

    async def _until_accepting(self) -> None:
        with trio.move_on_after(self._startup_time):
            while not self._accepting():
                if self._held is not None:
                    await self._held.wait()
                else:
                    await self._changed.wait()
                self._check()
            return
        raise self._failed(f"no process was ready within {self._startup_time:g} s")

    def _unavailable(self, wait: float) -> BackendError:
        if wait == inf:
            return self._failed(f"no process is alive, and none is started any more; {self._last_end}")
        return self._failed(
            f"no process is alive; the last one: {self._last_end}; the next is started in {wait:.1f} s", wait
        )

    def _failed(self, detail: str, retry_after: float | None = None) -> BackendError:
        return BackendError(
            Cause.UNAVAILABLE,
            detail,
            backend=self.name,
            address=str(self.address),
            phase=Phase.SPAWN,
            retry_after=retry_after,
            last_words=list(self._last_lines),
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
        with self._endpoint.opened(self.name, self._confinement.user):
            async with trio.open_nursery() as nursery:
                if not self._place.take():
                    task_status.started()
                    await self._place.wait()
                    nursery.start_soon(self._place.give_way, self._until_none_is_left)
                    await self._supervise(command, nursery)
                try:
                    for _ in range(self._bounds.least):
                        self._start(command, nursery)
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
        while self._members:
            await self._changed.wait()

    async def _tell_started(self, task_status: trio.TaskStatus[None]) -> None:
        """As in the gateway's own process: when the application serves, or it is known that it does not."""
        while self._last_end == _NONE_YET and not any(member.ready for member in self._members):
            await self._changed.wait()
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
            if self._changed.is_set():  # others wait for it too
                self._changed = trio.Event()
            due = self._act(command, nursery)
            with trio.move_on_at(due):
                await self._changed.wait()

    def _act(self, command: Command, nursery: trio.Nursery) -> float:
        """Start and stop what is to be started and stopped; when to look again, if nothing happens."""
        now = trio.current_time()
        due = self._look_for_spent(command, now)
        wanted = self._demand.wanted(self._requests, now) if self._place.ours else 0
        due = min(due, self._demand.falls_at(wanted))
        step = next_step(
            self._members,
            wanted,
            least=min(self._bounds.least, wanted),
            overlap=isinstance(self._endpoint, SharedSocket),
        )
        if step.stop is not None:
            assert isinstance(step.stop, _Process)
            self._stop(step.stop, step.why if self._place.ours else "reload", command, nursery)
            return now
        if step.start and now < self._restarts.not_before:
            return min(due, self._restarts.not_before)
        for _ in range(step.start):
            if not self._restart(command, nursery):
                return now
        return due

    def _look_for_spent(self, command: Command, now: float) -> float:
        """Find processes that are to be replaced; when to look again."""
        due = now + CHECK_INTERVAL if self._recycling.max_memory and self._members else inf
        self._count_due = inf
        for member in self._members:
            if member.spent or member.stopping:
                continue
            life = member.life
            member.spent = life.over(
                now=now,
                # Our own server counts its requests itself.
                requests=0 if command.reports else self._counted - member.counted_from,
                memory=self._memory_of(member, now),
            )
            due = min(due, life.ends_at)
            if not command.reports:
                self._count_due = min(self._count_due, member.counted_from + life.requests)
        return due

    def _memory_of(self, member: _Process, now: float) -> int:
        """Bytes, as far as they count: one that needs too much to begin with is not replaced all the time."""
        if not self._recycling.max_memory or now < member.started_at + CHECK_INTERVAL:
            return 0
        return member.running.memory()

    # One of the processes

    def _restart(self, command: Command, nursery: trio.Nursery) -> bool:
        try:
            self._start(command, nursery)
        except OSError as error:
            now = trio.current_time()
            self._died(now, f"cannot be started: {explain(command.words[0], error)}")
            log.warning(
                "application process cannot be started",
                backend=self.name,
                command=list(command.words),
                cause=str(error),
            )
            self._turn_away()
            return False
        return True

    def _start(self, command: Command, nursery: trio.Nursery) -> None:
        now = trio.current_time()
        member = _Process(
            now,
            life=Life.of(self._recycling, now, random.random()),  # noqa: S311 - not a secret
            counted_from=self._counted,
        )
        self._endpoint.prepare()
        member.running = start(
            self.name,
            command,
            member.life,
            directory=self._directory,
            confinement=self._confinement,
            stdin=self._endpoint.descriptor,
            last_lines=self._last_lines,
            on_report=lambda word: self._heard(member, word),
            stop_signal=self._stop_signal,
            stop_time=self._stop_time,
            notice=self._notice,
        )
        self._members.append(member)
        log.info("application process started", backend=self.name, pid=member.running.pid)
        nursery.start_soon(self._attend, member, command)

    def _heard(self, member: Member, word: bytes) -> None:
        if word == READY:
            member.ready = True
            if len(self._members) > 1:
                self.renew_connections()  # so that it gets its share of them
        elif word == SPENT:
            member.spent = "max_requests"
        else:
            # Connections from after the signal, but before it was heeded, are with that process too.
            self.renew_connections()
        self._changed.set()

    async def _attend(self, member: _Process, command: Command) -> None:
        """Follow a process to its end, and say how it ended."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._bring_up, member, command)
            try:
                returncode = await member.running.run()
            finally:
                self._members.remove(member)
            nursery.cancel_scope.cancel()
        pid, end = member.running.pid, describe_end(returncode)
        if member.stopping:
            log.info("application process stopped", backend=self.name, pid=pid, end=end)
        else:
            pause = self._died(member.started_at, end)
            log.warning(
                "application process ended",
                backend=self.name,
                pid=pid,
                end=end,
                restart_in=None if pause == inf else round(pause, 3),
            )
        self._turn_away()
        self._changed.set()

    def _turn_away(self) -> None:
        """Answer what waits in the queue of the socket, if it would have to wait for long."""
        if self._wait() > RESTART_PATIENCE and isinstance(self._endpoint, SharedSocket):
            self._endpoint.turn_away()

    def _died(self, started_at: float, end: str) -> float:
        """The pause until the next start."""
        self._last_end = end
        had_given_up = self._restarts.given_up
        pause = self._restarts.died(started_at, trio.current_time())
        if self._restarts.given_up and not had_given_up:
            log.error("application given up", backend=self.name, end=end, last_words=list(self._last_lines))
        return pause

    async def _bring_up(self, member: _Process, command: Command) -> None:
        """See whether it becomes ready in time; end it if it does not."""
        if isinstance(self._endpoint, SharedSocket) and not command.reports:
            await trio.sleep(SETTLED)  # noqa: TID251 - see SETTLED
            self._heard(member, READY)
            return
        pause = FIRST_PROBE
        with trio.move_on_after(self._startup_time):
            while not member.ready:
                if isinstance(self._endpoint, SharedSocket):
                    await self._changed.wait()
                elif self._endpoint.accepts():
                    self._heard(member, READY)
                else:
                    await trio.sleep(pause)  # noqa: TID251 - nothing tells when a program listens
                    pause = min(2 * pause, LAST_PROBE)
        if member.ready:
            if isinstance(self._endpoint, OwnSocket):
                await self._look_again(member, self._endpoint)
            return
        log.warning(
            "application process not ready in time",
            backend=self.name,
            pid=member.running.pid,
            seconds=self._startup_time,
        )
        member.running.ask_to_stop(within=0)

    async def _look_again(self, member: _Process, endpoint: OwnSocket) -> NoReturn:
        """Whenever it is doubted, let requests wait until it accepts, for a short time, or has ended."""
        while True:
            await member.doubted.wait()
            with trio.move_on_after(RESTART_PATIENCE):
                with trio.move_on_after(DYING):
                    await member.running.ended.wait()
                    await trio.sleep_forever()  # until whoever attends it ends this too
                while not endpoint.accepts():  # noqa: ASYNC110
                    await trio.sleep(FIRST_PROBE)  # noqa: TID251 - as when it was started
            member.doubted = trio.Event()
            if not member.stopping:
                self._heard(member, READY)

    def _stop(self, member: _Process, why: str, command: Command, nursery: trio.Nursery) -> None:
        member.stopping = True
        log.info("application process stops", backend=self.name, pid=member.running.pid, reason=why)
        if command.reports:
            self.renew_connections()
            member.running.ask_to_stop()
        else:
            nursery.start_soon(self._stop_quietly, member)

    async def _stop_quietly(self, member: _Process) -> None:
        """Stop a command at a moment without requests, as the head of this module has it."""
        with trio.move_on_after(self._stop_time):
            await self._until_quiet()
        self._held = trio.Event()
        try:
            with trio.move_on_after(HOLD):
                await self._until_quiet()
            self.renew_connections()
            member.ready = False
            member.running.ask_to_stop()
            with trio.move_on_after(HOLD):
                await member.running.ended.wait()
        finally:
            self._held.set()
            self._held = None

    async def _until_quiet(self) -> None:
        """Wait until no request runs. The caller goes on before another can begin."""
        while self._running:
            self._quiet = trio.Event()
            await self._quiet.wait()
        self._quiet = None


def _nothing() -> None:
    """No connection is kept."""
