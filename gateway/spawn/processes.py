"""The processes of a spawned application: each has a task of its own, which follows it to its end.

Which are to be started and stopped is not decided here (`application`, `schedule`).
"""

import random
import signal
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final, NoReturn

import trio

from gateway.appserver.report import READY, SPENT
from gateway.logger import get_logger
from gateway.logs.lines import LAST_LINES
from gateway.net.address import UnixAddress
from gateway.programs.confinement import Confinement
from gateway.programs.executable import explain
from gateway.programs.process import describe_end
from gateway.programs.restarts import Restarts
from gateway.runtime.memory import resident
from gateway.shutdown.notice import ShutdownNotice
from gateway.spawn.command import Command
from gateway.spawn.endpoint import FIRST_PROBE, LAST_PROBE, Endpoint, OwnSocket, ProcessSocket, SharedSocket
from gateway.spawn.process import RunningProcess, start
from gateway.spawn.schedule import Life, Member, Recycling

RESTART_PATIENCE: Final = 0.5
"""Seconds that a request may wait for a process to be started; a client that has to wait longer had better
be told."""

SETTLED: Final = 1.0
"""Seconds after which a command on the shared socket counts as ready: it cannot say so, but those that fail
to start mostly do it sooner."""

DYING: Final = 0.1
"""Seconds in which a process that breaks off a connection because it dies has ended: its listening socket may
outlive its connections, and requests that got into it would be lost."""

CHECK_INTERVAL: Final = 5.0
"""Seconds between two looks at the memory of processes, and from the start of one to the first."""

NONE_YET: Final = "none was started"

log = get_logger()

_ENDLESS: Final = Life()


@dataclass(eq=False, slots=True)
class ApplicationProcess(Member):
    """One of them, with what is to be known to replace it."""

    running: RunningProcess = None  # type: ignore[assignment]  # known once it is started
    life: Life = _ENDLESS
    own: ProcessSocket | None = None
    """Where it accepts beside the others, if it is seated."""
    counted_from: float = 0.0
    """What the count of requests for each process was at its start."""
    doubted: trio.Event = field(default_factory=trio.Event)
    """Set when it may have died: whether it still accepts is to be found out."""


class ProcessPool:
    """The processes of the backend *name*, which take requests at *endpoint*.

    *notice* is that of the gateway's end. *on_end* is called when one has ended, or cannot be started, before
    anybody else learns of it. *seated*: each process has a socket of its own, too. Times are in seconds.
    """

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        *,
        directory: str,
        confinement: Confinement,
        startup_time: float,
        stop_signal: signal.Signals,
        stop_time: float,
        restarts: Restarts,
        recycling: Recycling,
        seated: bool,
        notice: ShutdownNotice,
        on_end: Callable[[], None],
    ) -> None:
        self._name = name
        self._endpoint = endpoint
        self._directory = directory
        self._confinement = confinement
        self._startup_time = startup_time
        self._stop_signal = stop_signal
        self._stop_time = stop_time
        self._restarts = restarts
        self._recycling = recycling
        self._seated = seated
        self._notice = notice
        self._on_end = on_end
        self.members: list[ApplicationProcess] = []
        self.changed = trio.Event()
        """Set when there may be something to do; another takes its place then."""
        self.last_end = NONE_YET
        """How the last one ended, in words."""
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        """Of what they have written."""
        self.renew_connections: Callable[[], None] = _nothing
        """Closes the connections that are kept for later, and keeps none of those in use."""
        self.tell_serving: Callable[[Sequence[UnixAddress]], None] = _nowhere
        """Told where the processes take requests that are seated, whenever that changes."""
        self._counted = 0.0
        """Requests so far, for each of the processes that were there."""
        self._count_due = inf

    @property
    def staying(self) -> int:
        """How many are there that are not being stopped."""
        return sum(not member.stopping for member in self.members)

    @property
    def ready(self) -> bool:
        """Whether one accepts connections."""
        return any(member.ready for member in self.members)

    def count_request(self) -> None:
        """A request has ended: nobody knows which of them has had it."""
        self._counted += 1 / max(len(self.members), 1)
        if self._counted >= self._count_due:
            self.changed.set()

    def doubt(self) -> None:
        """One of them may have died: they are not ready before that is found out."""
        for member in self.members:
            member.ready = False
            member.doubted.set()

    def look_for_spent(self, command: Command, now: float) -> float:
        """Find processes that are to be replaced; when to look again."""
        due = now + CHECK_INTERVAL if self._recycling.max_memory and self.members else inf
        self._count_due = inf
        for member in self.members:
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

    def _memory_of(self, member: ApplicationProcess, now: float) -> int:
        """Bytes, as far as they count: one that needs too much to begin with is not replaced all the time."""
        if not self._recycling.max_memory or now < member.started_at + CHECK_INTERVAL:
            return 0
        return resident(member.running.pid)

    def restart(self, command: Command, nursery: trio.Nursery) -> None:
        """As `start`; if it is not possible, that is a death."""
        try:
            self.start(command, nursery)
        except OSError as error:
            now = trio.current_time()
            self._died(now, f"cannot be started: {explain(command.words[0], error)}")
            log.warning(
                "application process cannot be started",
                backend=self._name,
                command=list(command.words),
                cause=str(error),
            )
            self._on_end()

    def start(self, command: Command, nursery: trio.Nursery) -> None:
        """Start one; a task in *nursery* follows it. Raises OSError."""
        now = trio.current_time()
        member = ApplicationProcess(
            now,
            life=Life.of(self._recycling, now, random.random()),  # noqa: S311 - not a secret
            counted_from=self._counted,
        )
        self._endpoint.prepare()
        if self._seated and isinstance(self._endpoint, SharedSocket):
            member.own = self._endpoint.for_one()
        try:
            member.running = self._running(member, command)
        except OSError:
            _remove(member)
            raise
        finally:
            if member.own is not None:
                member.own.hand_over()
        self.members.append(member)
        log.info("application process started", backend=self._name, pid=member.running.pid)
        nursery.start_soon(self._attend, member, command)

    def _running(self, member: ApplicationProcess, command: Command) -> RunningProcess:
        return start(
            self._name,
            command,
            member.life,
            directory=self._directory,
            confinement=self._confinement,
            stdin=self._endpoint.descriptor,
            own=None if member.own is None else member.own.descriptor,
            last_lines=self.last_lines,
            on_report=lambda word: self._heard(member, word),
            stop_signal=self._stop_signal,
            stop_time=self._stop_time,
            notice=self._notice,
        )

    def look_who_serves(self) -> None:
        """Some have become ready, are stopped, or have ended."""
        self.tell_serving(
            [
                member.own.address
                for member in self.members
                if member.own is not None and member.ready and not member.stopping
            ]
        )

    def _heard(self, member: Member, word: bytes) -> None:
        if word == READY:
            member.ready = True
            self.look_who_serves()
            if len(self.members) > 1:
                self.renew_connections()  # so that it gets its share of them
        elif word == SPENT:
            member.spent = "max_requests"
        else:
            # Connections from after the signal, but before it was heeded, are with that process too.
            self.renew_connections()
        self.changed.set()

    async def _attend(self, member: ApplicationProcess, command: Command) -> None:
        """Follow a process to its end, and say how it ended."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._bring_up, member, command)
            try:
                returncode = await member.running.run()
            finally:
                self.members.remove(member)
                _remove(member)
                self.look_who_serves()
            nursery.cancel_scope.cancel()
        pid, end = member.running.pid, describe_end(returncode)
        if member.stopping:
            log.info("application process stopped", backend=self._name, pid=pid, end=end)
        else:
            pause = self._died(member.started_at, end)
            log.warning(
                "application process ended",
                backend=self._name,
                pid=pid,
                end=end,
                restart_in=None if pause == inf else round(pause, 3),
            )
        self._on_end()
        self.changed.set()

    def _died(self, started_at: float, end: str) -> float:
        """The pause until the next start."""
        self.last_end = end
        had_given_up = self._restarts.given_up
        pause = self._restarts.died(started_at, trio.current_time())
        if self._restarts.given_up and not had_given_up:
            log.error("application given up", backend=self._name, end=end, last_words=list(self.last_lines))
        return pause

    async def _bring_up(self, member: ApplicationProcess, command: Command) -> None:
        """See whether it becomes ready in time; end it if it does not."""
        if isinstance(self._endpoint, SharedSocket) and not command.reports:
            await trio.sleep(SETTLED)  # noqa: TID251 - see SETTLED
            self._heard(member, READY)
            return
        pause = FIRST_PROBE
        with trio.move_on_after(self._startup_time):
            while not member.ready:
                if isinstance(self._endpoint, SharedSocket):
                    await self.changed.wait()
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
            backend=self._name,
            pid=member.running.pid,
            seconds=self._startup_time,
        )
        member.running.ask_to_stop(within=0)

    async def _look_again(self, member: ApplicationProcess, endpoint: OwnSocket) -> NoReturn:
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


def _remove(member: ApplicationProcess) -> None:
    if member.own is not None:
        member.own.remove()


def _nothing() -> None:
    """No connection is kept."""


def _nowhere(_addresses: Sequence[UnixAddress]) -> None:
    """Nobody wants to know."""
