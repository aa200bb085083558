"""One running process of an application: its output, what it reports, how it is stopped and ends.

The ladder at the end of a life: the stop signal to the process itself, a time for it to finish what runs,
SIGKILL to its whole group, reap. Its output is logged to the last line meanwhile. When the end of the gateway
is hurried, so is that of the process: our own is told, others have `HURRIED_TIME`, too.
"""

import os
import select
import signal
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Final

import trio

from gateway.appserver.report import DRAINING, END_AT_ONCE, READY, SPENT
from gateway.logger import get_logger
from gateway.programs.confinement import Confinement
from gateway.programs.process import Process, spawn
from gateway.shutdown.notice import ShutdownNotice
from gateway.shutdown.stages import HURRIED_TIME
from gateway.spawn.command import Command
from gateway.spawn.output import Output
from gateway.spawn.schedule import Life

READ_SIZE: Final = 16 * 1024
"""Bytes of output that are read at once: a flood must leave the event loop time for requests."""

LAST_READS: Final = 1024 * 1024 // READ_SIZE
"""Behind its end: as many bytes as a pipe may hold (pipe(7)). What a process has left behind, in a group of
its own, may write for ever."""

log = get_logger()


class RunningProcess:
    """Made by `start`; `run` must be called, and returns when nothing of it is left."""

    def __init__(
        self,
        backend: str,
        process: Process,
        outputs: dict[int, Output],
        report: int | None,
        on_report: Callable[[bytes], None],
        *,
        stop_signal: signal.Signals,
        stop_time: float,
        notice: ShutdownNotice,
        heeds_hurry: bool,
    ) -> None:
        self.pid = process.pid
        self._backend = backend
        self._process = process
        self._outputs = outputs
        self._report = report
        self._on_report = on_report
        self._stop_signal = stop_signal
        self._stop_time = stop_time
        self._notice = notice
        self._heeds_hurry = heeds_hurry
        self._patience = trio.CancelScope()
        self._had_time = False
        """It was asked to stop, and had some time to."""
        self._has_ended = False
        self.ended = trio.Event()
        """Nothing of it is left."""
        self._poll = select.epoll()
        for descriptor in (*outputs, *(() if report is None else (report,))):
            os.set_blocking(descriptor, False)
            self._poll.register(descriptor, select.EPOLLIN)
        self._poll.register(process.open_pidfd(), select.EPOLLIN)

    def ask_to_stop(self, within: float | None = None) -> None:
        """Send the stop signal; after the stop time (or *within* seconds) it is ended by force."""
        if self._patience.deadline == inf:
            self._process.send_signal(self._stop_signal)
            seconds = self._stop_time if within is None else within
            self._had_time = seconds > 0
            self._patience.deadline = trio.current_time() + seconds

    def send_signal(self, number: signal.Signals) -> None:
        """Tell the process something; nothing if it has ended."""
        self._process.send_signal(number)

    async def run(self) -> int:
        """Log what it writes until it ends; how it ended. When cancelled, stop it first."""
        try:
            with self._patience:
                await self._follow()
        finally:
            try:
                await self._end()
            finally:
                self._close()
                self.ended.set()
        assert self._process.returncode is not None
        return self._process.returncode

    async def _end(self) -> None:
        late = self._patience.cancelled_caught
        if not self._has_ended and not late:
            self.ask_to_stop()
            with trio.CancelScope(deadline=self._patience.deadline, shield=True) as waiting:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._hurry, waiting)
                    await self._follow()
                    nursery.cancel_scope.cancel()
            late = waiting.cancelled_caught
        if late and self._had_time:
            log.warning("application process does not end: it is killed", backend=self._backend, pid=self.pid)
        # Also after its own end: processes that it left behind would still accept.
        await self._process.terminate(0)

    async def _hurry(self, waiting: trio.CancelScope) -> None:
        """A second signal to the gateway is one to the process."""
        await self._notice.until_cut_off()
        if self._heeds_hurry:
            self._process.send_signal(END_AT_ONCE)
        waiting.deadline = min(waiting.deadline, trio.current_time() + HURRIED_TIME)

    async def _follow(self) -> None:
        """Read from it until it has ended."""
        while True:
            await trio.lowlevel.wait_readable(self._poll.fileno())
            for descriptor, _ in self._poll.poll(0):
                if descriptor in self._outputs:
                    self._read(descriptor)
                elif descriptor == self._report:
                    self._hear(descriptor)
                else:
                    self._has_ended = True
            if self._has_ended:
                return

    def _read(self, descriptor: int) -> bool:
        """Log what is there: at most one read, so that a flood cannot hold the event loop. Whether there was
        something.
        """
        try:
            data = os.read(descriptor, READ_SIZE)
        except BlockingIOError:
            return False
        if data:
            self._outputs[descriptor].feed(data, trio.current_time())
        else:
            self._finish(descriptor)
        return bool(data)

    def _hear(self, descriptor: int) -> None:
        words = os.read(descriptor, READ_SIZE)
        if not words:  # it has closed its end; the pidfd tells of its own
            self._poll.unregister(descriptor)
        for word in (READY, SPENT, DRAINING):
            if word in words:
                self._on_report(word)

    def _finish(self, descriptor: int) -> None:
        self._outputs.pop(descriptor).end(trio.current_time())
        os.close(descriptor)

    def _close(self) -> None:
        for descriptor in tuple(self._outputs):
            for _ in range(LAST_READS):
                if not self._read(descriptor):
                    break
        for descriptor in tuple(self._outputs):
            self._finish(descriptor)
        if self._report is not None:
            os.close(self._report)
        self._poll.close()


def start(
    backend: str,
    command: Command,
    life: Life,
    *,
    directory: str,
    confinement: Confinement | None,
    stdin: int,
    own: int | None,
    last_lines: deque[str],
    on_report: Callable[[bytes], None],
    stop_signal: signal.Signals,
    stop_time: float,
    notice: ShutdownNotice,
) -> RunningProcess:
    """Start a process of *command*; *notice* is that of the gateway's end.

    *own* is a listening socket that no other process gets. Raises OSError if it cannot be started.
    """
    opened: list[int] = []
    try:
        for _ in range(3 if command.reports else 2):
            opened += os.pipe2(os.O_CLOEXEC)
        ours, theirs = opened[::2], opened[1::2]
        process = spawn(
            command.argv(theirs[2], life, own) if command.reports else command.words,
            env=command.env,
            directory=directory,
            stdin=stdin,
            stdout=theirs[0],
            stderr=theirs[1],
            confinement=confinement,
            others=theirs[2:] if own is None else [*theirs[2:], own],
        )
    except OSError:
        for descriptor in opened:
            os.close(descriptor)
        raise
    for descriptor in theirs:
        os.close(descriptor)
    outputs = {
        descriptor: Output(backend, process.pid, stream, last_lines, has_entries=command.hosted)
        for descriptor, stream in zip(ours[:2], ("stdout", "stderr"), strict=True)
    }
    return RunningProcess(
        backend,
        process,
        outputs,
        ours[2] if command.reports else None,
        on_report,
        stop_signal=stop_signal,
        stop_time=stop_time,
        notice=notice,
        heeds_hurry=command.hosted,
    )
