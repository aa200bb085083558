"""The daemon: opens listeners and backends, runs until told to stop, ends from the inside out.

::

    pump > backends > connections > listeners

Each stands in the nursery of the one before. On SIGTERM, SIGINT, SIGQUIT or SIGHUP the listeners close at
once, idle connections too; requests that run have ``timeouts.shutdown`` to end; then the backends stop. A
second signal ends the wait. SIGUSR1 opens the log files anew.
"""

import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain

import trio

from gateway.backend import Runnable
from gateway.build import Gateway, build
from gateway.build.entrances import Door, Entrances
from gateway.config import Config, Listener
from gateway.config.backends.common import BackendModel, end_time
from gateway.connections import Connections
from gateway.control.state import WorkerState
from gateway.errors import StartError, each_of
from gateway.front.entrance import Entrance
from gateway.listener import ListeningSocket, open_listener, own_listener
from gateway.logger import get_logger
from gateway.logs.access import AccessLog
from gateway.logs.events import configure
from gateway.net.pump import Pump
from gateway.runtime.exhaustion import EXHAUSTED, no_room
from gateway.runtime.log_signals import LOG_SIGNALS, heed_log_signal
from gateway.runtime.service_manager import tell_alive, tell_ready, tell_stopping
from gateway.runtime.upkeep import begin_upkeep
from gateway.runtime.watchdog import patience
from gateway.shutdown.exit import TELL_AFTER, hurry
from gateway.shutdown.notice import ShutdownNotice
from gateway.shutdown.signals import open_stop_signals
from gateway.shutdown.stages import Ending, Stage

log = get_logger()


def serve(config: Config) -> int:
    """Run the daemon until a signal ends it; the exit status of the command.

    0 after a stop signal, 1 if something could not start or the daemon failed.
    """
    configure(debug=config.debug)
    failures: list[StartError] = []
    try:
        with ExitStack() as stack:
            access_log = open_access_log(config, stack)
            sockets = [_opened(listener, stack) for listener in config.listeners]
            metrics = [] if config.metrics is None else _opened(own_listener(config.metrics), stack)
            trio.run(run, config, list(chain(*sockets)), access_log, metrics)
    except* StartError as errors:
        failures.extend(each_of(errors))
    for failure in failures:
        if fields := failure.log_fields():
            log.error("application cannot start", **fields)
        print(f"gateway: {failure}", file=sys.stderr)
    return 1 if failures else 0


def open_access_log(config: Config, stack: ExitStack) -> AccessLog | None:
    """The log of requests, which *stack* closes; None for none. Raises StartError."""
    if config.access_log is None:
        return None
    access_log = AccessLog(format=config.access_log.format, destination=config.access_log.destination)
    stack.callback(access_log.close)
    return access_log


def _opened(listener: Listener, stack: ExitStack) -> list[ListeningSocket]:
    sockets = open_listener(listener)
    for each in sockets:
        stack.callback(each.close)
    return sockets


def _metrics_doors(sockets: Sequence[ListeningSocket], worker: WorkerState) -> list[Door]:
    """They lead to the metrics of this process, and to no route."""
    if not sockets:
        return []
    from gateway.control import metrics
    from gateway.control.handlers import metrics_router

    class Alone:
        async def metrics(self) -> bytes:
            described = worker.describe()
            return metrics.text([*metrics.metrics_of(described), *metrics.metrics_of_process(os.getpid())])

    entrance = Entrance(replace(worker.service, router=metrics_router(Alone()), access_log=None, tally=None))
    return [(listening, entrance) for listening in sockets]


async def run(
    config: Config,
    sockets: list[ListeningSocket],
    access_log: AccessLog | None,
    metrics: list[ListeningSocket],
) -> None:
    """Serve on *sockets* until a stop signal; tell on those for *metrics*.

    Raises StartError (in groups) if a backend cannot start.
    """
    addresses = [str(each) for each in (*sockets, *metrics)]
    ending = Ending()

    def ready(_: WorkerState) -> None:
        log.info("ready", addresses=addresses)
        tell_ready(addresses)

    # A terminal that closes sends SIGHUP; its end is the daemon's, in order.
    with open_stop_signals(*LOG_SIGNALS) as signals:
        async with trio.open_nursery() as following:
            following.start_soon(_follow, signals, ending, access_log)
            following.start_soon(tell_alive)
            await work(config, sockets, access_log, ending, metrics=metrics, on_ready=ready)
            following.cancel_scope.cancel()
    log.info("stopped")


async def _follow(signals: AsyncIterator[int], ending: Ending, access_log: AccessLog | None) -> None:
    def reopen() -> bool:
        return access_log is None or access_log.reopen()

    async for number in signals:
        if number in LOG_SIGNALS:
            heed_log_signal(number, reopen)
            continue
        if ending.stage is Stage.SERVING:
            log.info("stopping", signal=signal.Signals(number).name)
            tell_stopping()
        ending.signalled()


async def work(
    config: Config,
    sockets: list[ListeningSocket],
    access_log: AccessLog | None,
    ending: Ending,
    *,
    on_ready: Callable[[WorkerState], object],
    metrics: Sequence[ListeningSocket] = (),
) -> None:
    """Serve on *sockets* until *ending* says otherwise; *on_ready* is called once they are served.

    Raises StartError (in groups) if a backend cannot start.
    """
    serving = False

    def ready(worker: WorkerState) -> None:
        nonlocal serving
        serving = True
        on_ready(worker)

    try:
        await _work(config, sockets, access_log, ending, ready, metrics)
    except* OSError as errors:
        codes = {error.errno or 0 for error in each_of(errors)}
        if serving or not codes <= EXHAUSTED:
            raise
        raise StartError(f"cannot start: {'; '.join(map(no_room, sorted(codes)))}") from None


async def _work(
    config: Config,
    sockets: list[ListeningSocket],
    access_log: AccessLog | None,
    ending: Ending,
    on_ready: Callable[[WorkerState], object],
    metrics: Sequence[ListeningSocket],
) -> None:
    pump = Pump()
    async with trio.open_nursery() as pumping:
        await pumping.start(pump.run)
        gateway = build(config, pump, access_log)
        pumping.start_soon(_cut_off, ending, gateway.notice)
        entrances = Entrances(config, gateway.service, sockets)
        gateway.services.extend(entrances.certificates)
        worker = WorkerState(
            gateway.service,
            gateway.backends,
            {name: backend.kind for name, backend in config.backends.items()},
            time.monotonic(),
        )
        doors = [*entrances.doors, *_metrics_doors(metrics, worker)]
        running: list[Runnable] = []
        async with trio.open_nursery() as backends:
            if await _start(gateway, backends, running, ending):
                connections = Connections(gateway, doors, config.timeouts)
                async with trio.open_nursery() as watching:
                    blocked_after = patience(config.blocked_after, debug=config.debug)
                    await begin_upkeep(watching, blocked_after=blocked_after)
                    await connections.serve(ending, lambda: on_ready(worker))
                    watching.cancel_scope.cancel()
            backends.cancel_scope.cancel()
            pumping.start_soon(tell_running, running, config, gateway.notice)
        pumping.cancel_scope.cancel()


async def _cut_off(ending: Ending, notice: ShutdownNotice) -> None:
    """Applications that take their time to stop are not waited for either when the end is hurried."""
    await ending.reached(Stage.HURRIED)
    hurry()
    notice.cut_off()


async def _start(gateway: Gateway, backends: trio.Nursery, running: list[Runnable], ending: Ending) -> bool:
    """Start all backends side by side; False if the end came before they were ready.

    Those that have not ended are *running*.
    """
    ready = False
    async with trio.open_nursery() as waiting:
        waiting.start_soon(_cancel_at_end, waiting.cancel_scope, ending)
        async with trio.open_nursery() as starting:
            for service in gateway.services:
                starting.start_soon(backends.start, _run, service, running)
        ready = True
        waiting.cancel_scope.cancel()
    return ready


async def _run(service: Runnable, running: list[Runnable], *, task_status: trio.TaskStatus[None]) -> None:
    running.append(service)
    try:
        await service.run(task_status=task_status)
    finally:
        running.remove(service)


async def tell_running(running: list[Runnable], config: Config, notice: ShutdownNotice) -> None:
    """Say, after a while, which of the applications that are *running* are still waited for."""
    await trio.sleep(TELL_AFTER)  # noqa: TID251 - it is a time
    ending = {getattr(service, "name", None) for service in running}
    names = [name for name in config.backends if name in ending]
    if names:
        seconds = max(_time_left(config.backends[name], notice.time_left(name)) for name in names)
        log.info("waiting for applications", backends=names, seconds=round(seconds, 2))


def _time_left(config: BackendModel, waits: float | None) -> float:
    """Seconds for one to end; *waits* is None for those in processes of their own: they were told at once."""
    return max(0.0, end_time(config) - TELL_AFTER) if waits is None else waits


async def _cancel_at_end(scope: trio.CancelScope, ending: Ending) -> None:
    await ending.reached(Stage.RETIRING)
    scope.cancel()
