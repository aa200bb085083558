"""The daemon: opens listeners and backends, runs until told to stop, ends from the inside out.

::

    pump > backends > connections > listeners

Each stands in the nursery of the one before. On SIGTERM, SIGINT or SIGHUP the listeners close at once, idle
connections too; requests that run have ``timeouts.shutdown`` to end; then the backends stop. A second
signal ends the wait.
"""

import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import chain

import structlog
import trio

from gateway.backend import StartError
from gateway.build import Gateway, build
from gateway.build.entrances import Door, Entrances
from gateway.config import Config, Listener
from gateway.config.clients import ClientTimeouts
from gateway.control.handlers import control_router, metrics_router
from gateway.control.state import Worker
from gateway.front.entrance import Entrance
from gateway.listener import ListeningSocket, accept, open_listener, own_listener
from gateway.logs import AccessLog, configure
from gateway.memory import settle_memory
from gateway.pump import Pump
from gateway.watchdog import Watchdog, patience

log = structlog.get_logger()


def serve(config: Config) -> int:
    """Run the daemon until a signal ends it; the exit status of the command.

    0 after SIGTERM or SIGINT, 1 if something could not start or the daemon failed.
    """
    configure(debug=config.debug)
    failures: list[StartError] = []
    try:
        with ExitStack() as stack:
            access_log = None
            if config.access_log is not None:
                access_log = AccessLog(
                    format=config.access_log.format, destination=config.access_log.destination
                )
                stack.callback(access_log.close)
            sockets = [_opened(listener, stack) for listener in config.listeners]
            control = config.control and _opened(own_listener(config.control, mode=0o600), stack)
            metrics = config.metrics and _opened(own_listener(config.metrics), stack)
            trio.run(run, config, list(chain(*sockets)), access_log, Windows(control or [], metrics or []))
    except* StartError as errors:
        failures.extend(_leaves(errors))
    for failure in failures:
        print(f"gateway: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _opened(listener: Listener, stack: ExitStack) -> list[ListeningSocket]:
    sockets = open_listener(listener)
    for each in sockets:
        stack.callback(each.close)
    return sockets


@dataclass(frozen=True, slots=True)
class Windows:
    """The sockets through which operators look in."""

    control: list[ListeningSocket] = field(default_factory=list)
    metrics: list[ListeningSocket] = field(default_factory=list)

    def doors(self, config: Config, gateway: Gateway) -> Iterator[Door]:
        """Entrances that lead to what operators ask for, and to no route."""
        worker = Worker(
            gateway.service,
            gateway.backends,
            {name: backend.kind for name, backend in config.backends.items()},
            time.time(),
        )
        for sockets, make in ((self.control, control_router), (self.metrics, metrics_router)):
            if sockets:
                entrance = Entrance(replace(gateway.service, router=make(worker), access_log=None))
                yield from ((listening, entrance) for listening in sockets)


async def run(
    config: Config,
    sockets: list[ListeningSocket],
    access_log: AccessLog | None,
    windows: Windows | None = None,
) -> None:
    """Serve on *sockets* until SIGTERM, SIGINT or SIGHUP.

    Raises StartError (in groups) if a backend cannot start.
    """
    pump = Pump()
    if config.workers > 1:
        log.warning("several workers are not supported yet: one process serves", workers=config.workers)
    # A terminal that closes sends SIGHUP; its end is the daemon's, in order.
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with trio.open_nursery() as pumping:
            await pumping.start(pump.run)
            gateway = build(config, pump, access_log)
            entrances = Entrances(config, gateway.service, sockets)
            gateway.services.extend(entrances.certificates)
            doors = [*entrances.doors, *(windows or Windows()).doors(config, gateway)]
            async with trio.open_nursery() as backends:
                if await _start(gateway, backends, signals):
                    settle_memory()
                    connections = Connections(gateway, doors, config.timeouts)
                    async with trio.open_nursery() as watching:
                        if config.blocked_after:
                            after = patience(config.blocked_after, debug=config.debug)
                            await watching.start(Watchdog(after).run)
                        await connections.serve(signals)
                        watching.cancel_scope.cancel()
                backends.cancel_scope.cancel()
            pumping.cancel_scope.cancel()


async def _start(gateway: Gateway, backends: trio.Nursery, signals: AsyncIterator[int]) -> bool:
    """Start all backends side by side; False if a signal came before they were ready."""
    ready = False
    async with trio.open_nursery() as waiting:
        waiting.start_soon(_cancel_at_signal, waiting.cancel_scope, signals)
        async with trio.open_nursery() as starting:
            for service in gateway.services:
                starting.start_soon(backends.start, service.run)
        ready = True
        waiting.cancel_scope.cancel()
    return ready


class Connections:
    """The client connections of a worker: accepts them, and ends them when the daemon stops."""

    def __init__(self, gateway: Gateway, doors: list[Door], timeouts: ClientTimeouts) -> None:
        self._service = gateway.service
        self._notice = gateway.notice
        self._listening = doors
        self._grace = timeouts.shutdown
        # Who is told has as long again to end.
        self._patience = min(timeouts.drain, timeouts.shutdown / 2)
        self._service.caps.make_room = self._end_idle_one

    async def serve(self, signals: AsyncIterator[int]) -> None:
        """Serve until a signal comes, then drain: what runs has the grace, a second signal ends it."""
        async with trio.open_nursery() as hurrying:
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as accepting:
                    for listening, entrance in self._listening:
                        accepting.start_soon(self._accept, listening, entrance, connections)
                    log.info("ready", addresses=[str(listening) for listening, _ in self._listening])
                    async for number in signals:
                        log.info("stopping", signal=signal.Signals(number).name)
                        break
                    accepting.cancel_scope.cancel()
                for listening, _ in self._listening:
                    listening.close()
                self._drain()
                connections.cancel_scope.deadline = trio.current_time() + self._grace
                hurrying.start_soon(self._hurry)
                hurrying.start_soon(_cancel_at_signal, connections.cancel_scope, signals)
            if connections.cancel_scope.cancelled_caught:
                log.warning("requests were cut off", grace=self._grace)
            hurrying.cancel_scope.cancel()
        log.info("stopped")

    async def _hurry(self) -> None:
        """What still runs after a while is told to end, and has the rest of the grace for it."""
        await trio.sleep(self._patience)  # noqa: TID251 - it is a time
        self._notice.hurry()

    def _drain(self) -> None:
        """complaints.md 40, 41: idle connections end now, busy ones after their response."""
        self._service.draining = True
        self._notice.begin()
        busy = sum(entrance.drain() for _, entrance in self._listening)
        if busy:
            log.info("waiting for requests", connections=busy, seconds=self._grace)

    async def _accept(self, listening: ListeningSocket, entrance: Entrance, nursery: trio.Nursery) -> None:
        caps = self._service.caps

        def take(sock: socket.socket) -> None:
            caps.enter()
            nursery.start_soon(self._serve_one, entrance, sock)

        await accept(listening, take, caps)

    async def _serve_one(self, entrance: Entrance, sock: socket.socket) -> None:
        try:
            await entrance.serve(sock)
        finally:
            self._service.caps.leave()

    def _end_idle_one(self) -> None:
        for _, entrance in self._listening:
            if entrance.end_idle_one():
                return


async def _cancel_at_signal(scope: trio.CancelScope, signals: AsyncIterator[int]) -> None:
    async for _ in signals:
        scope.cancel()
        return


def _leaves(group: BaseExceptionGroup[StartError]) -> Iterator[StartError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
