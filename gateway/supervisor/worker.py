"""A worker from within: it waits for what the supervisor says, and is that."""

import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack

import trio

from gateway import daemon
from gateway.config import Config, ConfigError
from gateway.control.state import WorkerState
from gateway.errors import StartError, each_of
from gateway.listener import ListeningSocket
from gateway.logs.access import AccessLog
from gateway.logs.events import configure
from gateway.runtime.log_signals import LOG_SIGNALS
from gateway.shutdown.orphan import end_with
from gateway.shutdown.signals import open_stop_signals
from gateway.shutdown.stages import Ending, Stage
from gateway.supervisor.channel import Channel, Start, write
from gateway.supervisor.share import share_of, stop_time


def work(descriptor: int, parent: int) -> int:
    """Wait for the word of the supervisor, the process *parent*, and be what it says; the exit status.

    *descriptor* is the channel to it.
    """
    os.set_inheritable(descriptor, False)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's way is to raise, also behind the end of the loop
    with socket.socket(fileno=descriptor) as channel:
        told = Start.receive(channel)
        if told is None:
            return 0
        start, descriptors, rest = told
        try:
            config = share_of(start.document.load(), start.number, start.workers)
        except ConfigError as error:
            write(channel, failed=[str(mistake) for mistake in error.mistakes], status=2, raised=[])
            return 2
        end_with(parent, grace=stop_time(config), silent=False)
        configure(debug=config.debug, worker=start.number if start.workers > 1 else None)
        failures: list[StartError] = []
        try:
            with ExitStack() as stack:
                access_log = daemon.open_access_log(config, stack)
                sockets = _sockets(config, start, descriptors)
                for each in sockets:
                    stack.callback(each.close)
                trio.run(_serve, config, sockets, access_log, channel, rest)
        except* StartError as errors:
            failures.extend(each_of(errors))
        if failures:
            channel.setblocking(True)
            raised = list(filter(None, (failure.log_fields() for failure in failures)))
            write(channel, failed=[str(failure) for failure in failures], status=1, raised=raised)
        return 1 if failures else 0


def _sockets(config: Config, start: Start, descriptors: list[int]) -> list[ListeningSocket]:
    """Those of the supervisor: the file of a Unix socket is not for a worker to remove."""
    sockets = []
    for number, descriptor in zip(start.listeners, descriptors, strict=True):
        listening = ListeningSocket(socket.socket(fileno=descriptor))
        listening.listener = config.listeners[number]
        listening.shared = start.workers > 1
        sockets.append(listening)
    return sockets


async def _serve(
    config: Config,
    sockets: list[ListeningSocket],
    access_log: AccessLog | None,
    channel: socket.socket,
    received: bytes,
) -> None:
    ending = Ending()
    async with Channel(channel.dup(), received) as spoken:
        await _work(config, sockets, access_log, _Orders(spoken, ending, access_log), ending)


async def _work(
    config: Config,
    sockets: list[ListeningSocket],
    access_log: AccessLog | None,
    orders: "_Orders",
    ending: Ending,
) -> None:
    with open_stop_signals(*LOG_SIGNALS) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_follow, signals, ending)
            nursery.start_soon(orders.follow)
            await daemon.work(
                config, sockets, access_log, ending, on_ready=lambda state: orders.ready(state, nursery)
            )
            nursery.cancel_scope.cancel()


async def _follow(signals: AsyncIterator[int], ending: Ending) -> None:
    """SIGINT is the supervisor's word to hurry; what else comes twice may be its, and one for all processes.

    systemd sends SIGTERM to all of them, unless a unit says otherwise. What is about log files the supervisor
    passes on itself.
    """
    async for number in signals:
        if number in LOG_SIGNALS:
            continue
        ending.advance(Stage.HURRIED if number == signal.SIGINT else Stage.DRAINING)


class _Orders:
    """What the supervisor says, once the worker is on its way."""

    def __init__(self, channel: Channel, ending: Ending, access_log: AccessLog | None) -> None:
        self._channel = channel
        self._ending = ending
        self._access_log = access_log
        self._state: WorkerState | None = None

    def ready(self, state: WorkerState, nursery: trio.Nursery) -> None:
        """Connections are accepted."""
        self._state = state

        async def say() -> None:
            await self._channel.send(ready=True)

        nursery.start_soon(say)

    async def follow(self) -> None:
        """Do what is said until cancelled; the supervisor's end is that of the worker, in order."""
        async for message in self._channel.messages():
            if "retire" in message:
                self._ending.retire(message["retire"])
            elif "reopen" in message:
                if self._access_log is not None:
                    self._access_log.reopen()
            elif "ask" in message:
                state = None if self._state is None else self._state.describe()
                await self._channel.send(answer=message["ask"], state=state)
        self._ending.advance(Stage.DRAINING)
