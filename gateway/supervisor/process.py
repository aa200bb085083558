"""One worker as its supervisor sees it: a process, the channel to it, what it has said."""

import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import trio

from gateway.config import Config
from gateway.errors import StartError
from gateway.listener import ListeningSocket
from gateway.logger import get_logger
from gateway.programs.process import Process, spawn
from gateway.supervisor.channel import Channel, Start
from gateway.supervisor.share import stop_time

log = get_logger()

ANSWER_TIME: Final = 2.0
"""Seconds that a worker has to say what it does; one that is stuck says nothing."""

CANCEL_GRACE: Final = 5.0
"""Seconds that a worker whose start is not wanted any more has to end."""

LAST_WORDS_TIME: Final = 1.0
"""Seconds to read what a process has said before it ended; its own children may have the channel open."""


class Worker:
    """A process that stands by at first. `begin` tells it what to be, `run` follows it to its end."""

    def __init__(self, *, turns: int, stdin: int | None, caches: bool) -> None:
        """Start the process, with *stdin* as its standard input; without *caches* it writes no bytecode.

        It inherits the descriptor *turns* (`gateway.turns`). Raises StartError.
        """
        ours: socket.socket | None = None
        try:
            ours, theirs = socket.socketpair()
            with theirs, open(os.devnull, "rb") as null:
                self._process: Process = spawn(
                    # -P: a directory called `gateway` in this one must not stand in for the package.
                    [
                        *(sys.executable, "-P", *(() if caches else ("-B",))),
                        *("-m", "gateway.supervisor"),
                        *(str(theirs.fileno()), str(os.getpid()), str(turns)),
                    ],
                    env=os.environb,
                    directory=_current_directory(),
                    stdin=null.fileno() if stdin is None else stdin,
                    stdout=1,
                    stderr=2,
                    others=[theirs.fileno(), turns],
                )
        except OSError as error:
            if ours is not None:
                ours.close()
            raise StartError(f"no process can be started for a worker: {error.strerror}") from error
        self._socket = ours
        self._channel: Channel | None = None
        self._asked = 0
        self._awaited: set[int] = set()
        """What was asked, by number, and is still waited for."""
        self._answers: dict[int, dict[str, Any] | None] = {}
        self._answered = trio.Event()
        self._heard_all = trio.Event()
        self.pid = self._process.pid
        self.number = 0
        self.started_at = trio.current_time()
        """Until it is told what to be, since when it stands by."""
        self.ready = trio.Event()
        self.ended = trio.Event()
        self.stopping = False
        """It was told to end."""
        self.failed: list[str] = []
        """Why it could not start, in its own words."""
        self.status = 1
        """The exit status that fits them."""
        self.raised: list[dict[str, str]] = []
        """What the log says of the code of applications that has failed."""
        self._patience = trio.CancelScope()
        self._retired = trio.Event()
        self._last_requests = 0.0
        """Seconds for which it then keeps idle connections."""

    def begin(self, start: Start, sockets: Sequence[ListeningSocket]) -> None:
        """Tell it what to be."""
        self.number = start.number
        self.started_at = trio.current_time()
        # It waits for this and reads it at once; one that has died meanwhile is noticed by `run`.
        with suppress(OSError):
            start.send(self._socket, [each.sock for each in sockets])

    @property
    def alive(self) -> bool:
        """Whether it has not ended, before it is run."""
        if self._process.reap():
            self._socket.close()
            return False
        return True

    async def discard(self) -> None:
        """End one that is not run."""
        self._socket.close()
        await self._process.terminate(0)

    async def run(self) -> int:
        """Follow it to its end; how it ended. When cancelled, end it."""
        self._channel = Channel(self._socket)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen)
                nursery.start_soon(self._say_retired)
                with self._patience:
                    await self._process.wait()
                if self._patience.cancelled_caught:
                    log.warning("worker does not end: it is killed", number=self.number, pid=self.pid)
                if self._process.returncode is not None:
                    # What it said last may still be on its way.
                    with trio.move_on_after(LAST_WORDS_TIME):
                        await self._heard_all.wait()
                nursery.cancel_scope.cancel()
        finally:
            await self._process.terminate(0 if self._patience.cancelled_caught else CANCEL_GRACE)
            await self._channel.aclose()
            self.ended.set()
            self._answered.set()
        assert self._process.returncode is not None
        return self._process.returncode

    async def _listen(self) -> None:
        assert self._channel is not None
        async for message in self._channel.messages():
            if "ready" in message:
                self.ready.set()
            elif "failed" in message:
                self.failed = message["failed"]
                self.status = message["status"]
                self.raised = message["raised"]
            elif "answer" in message:
                if message["answer"] in self._awaited:
                    self._answers[message["answer"]] = message["state"]
                self._answered.set()
                self._answered = trio.Event()
        self._heard_all.set()

    # What it is told

    def retire(self, config: Config, patience: float) -> None:
        """Another generation has taken over: take no more connections, and end when those are done.

        Idle ones have *patience* seconds.
        """
        self._last_requests = patience
        self.stopping = True
        self._patience.deadline = trio.current_time() + stop_time(config)
        self._retired.set()

    async def _say_retired(self) -> None:
        """One that is stuck, and was asked often, has no room left for it: nobody else waits for that."""
        await self._retired.wait()
        assert self._channel is not None
        await self._channel.send(retire=self._last_requests)

    async def reopen_logs(self) -> None:
        """Let it open its log file anew; one that does not run yet opens it later anyway."""
        if self._channel is not None:
            await self._channel.send(reopen=True)

    def stop(self, config: Config, *, hurried: bool) -> None:
        """End it in order, by force if it takes too long; *hurried*, without waiting for requests."""
        self.stopping = True
        self._process.send_signal(signal.SIGINT if hurried else signal.SIGTERM)
        due = trio.current_time() + stop_time(config, hurried=hurried)
        self._patience.deadline = min(self._patience.deadline, due)

    async def state(self) -> dict[str, Any] | None:
        """What it is doing, as `gateway.control.state` describes it; None if it does not say."""
        if self._channel is None or not self.ready.is_set():
            return None
        self._asked += 1
        number = self._asked
        self._awaited.add(number)
        try:
            with trio.move_on_after(ANSWER_TIME):
                await self._channel.send(ask=number)
                while number not in self._answers and not self.ended.is_set():
                    await self._answered.wait()
        finally:
            self._awaited.discard(number)
            answer = self._answers.pop(number, None)
        return answer


def _current_directory() -> str:
    """Where that has been removed, as a release that another one has replaced, it is the root: what is
    configured is relative to its file.
    """
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"
