"""The lifetime of all workers: generations follow each other; the listening sockets stay.

A reload reads the configuration again, starts a generation of workers with it, and once that serves lets the
one before retire. Whatever goes wrong on the way is said once, and the one before serves on.
"""

import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

import trio

from gateway.config import Config, ConfigError
from gateway.config.document import Document
from gateway.errors import StartError
from gateway.logger import get_logger
from gateway.logs.events import configure
from gateway.runtime.log_signals import LOG_SIGNALS, heed_log_signal
from gateway.runtime.service_manager import tell_alive, tell_ready, tell_reloading, tell_stopping
from gateway.shutdown.signals import OUTLIVES_TERMINAL, on_terminal
from gateway.supervisor.control import ControlService
from gateway.supervisor.generation import Generation, WorkerError
from gateway.supervisor.process import Worker
from gateway.supervisor.share import cannot_be_shared
from gateway.supervisor.sockets import Sockets
from gateway.supervisor.standby import Standby
from gateway.supervisor.watch import Watched, Watcher

log = get_logger()


@dataclass(slots=True)
class Reload:
    """A wish, and what became of it."""

    why: str
    reasons: list[str] = field(default_factory=list)
    """Why it failed; none if it did not."""
    status: int = 0
    """The exit status that fits them."""
    done: trio.Event = field(default_factory=trio.Event)

    def settle(self, reasons: list[str], status: int = 1) -> None:
        """Say what became of it."""
        self.reasons, self.status = reasons, status
        self.done.set()


class Supervisor:
    """Runs the workers of *document*, which *read* reads again for a reload (raises ConfigError)."""

    def __init__(
        self,
        document: Document,
        config: Config,
        read: Callable[[], Document],
        *,
        workers: int | None,
        watched: Watched | None,
    ) -> None:
        """*workers* is how many there are, by default what the configuration says. With *watched*, changes of
        files reload. Raises StartError if an address cannot be listened on, or nothing shared.
        """
        self.config = config
        self.started_at = time.monotonic()
        self.reloads = 0
        """Those that succeeded."""
        self.stopping = False
        self.current: Generation | None = None
        self.retiring: list[Generation] = []
        self._coming: Generation | None = None
        self._document = document
        self._read = read
        self._workers = workers
        self._sockets = Sockets()
        self._opened = self._sockets.open(config)
        self._watcher = None if watched is None else Watcher(watched, self._files_changed)
        self._control: ControlService
        count = self._count(config)
        # Interactive debuggers read from the terminal, which only one process can do.
        self._standby = Standby(
            count if watched else 0, stdin=0 if count == 1 else None, caches=watched is None
        )
        self._restarts = 0
        """Those of generations that have ended."""
        self._wanted: list[Reload] = []
        self._wish = trio.Event()
        self._announced = False
        self._serving = trio.CancelScope()
        self._starting = trio.CancelScope()
        self._attempt_began = -inf
        """The last start of a generation, by trio's clock."""
        self._patience = _PATIENCE
        self._failure: WorkerError | None = None

    async def run(self, control: ControlService) -> None:
        """Serve until SIGTERM, SIGINT or SIGQUIT, and be told about and to by *control*.

        Raises WorkerError if workers do not start, or do not any more.
        """
        self._control = control
        try:
            stops = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
            with trio.open_signal_receiver(*stops, *LOG_SIGNALS) as signals:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._follow, signals, nursery)
                    nursery.start_soon(tell_alive)
                    await nursery.start(control.run)
                    control.open(self._opened)
                    if self._watcher is not None:
                        await nursery.start(self._watcher.run, self.config)
                    await self._run_generations()
                    nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):  # what is ended here is ended by force
                await self._standby.aclose()
            self._sockets.close()
        if self._failure is not None:
            raise self._failure
        log.info("stopped")

    async def reload(self, why: str) -> Reload:
        """Reload, and wait for what becomes of it. Wishes that come meanwhile are one."""
        wish = self._wish_for(why)
        await wish.done.wait()
        return wish

    def stop(self, why: str) -> None:
        """Let all workers finish; the second time, without waiting for requests."""
        hurried, self.stopping = self.stopping, True
        if not hurried:
            log.info("stopping", signal=why)
            tell_stopping()
        for generation in self._all():
            generation.stop(hurried=hurried)
        self._serving.cancel()
        self._sockets.close_listeners()

    def workers(self) -> Iterator[Worker]:
        """All that run: those that retire first, those that are started last."""
        for generation in self._all():
            yield from generation.workers
        if self._coming is not None:
            yield from self._coming.workers

    @property
    def restarts(self) -> int:
        """Workers that were started in the place of others that had died."""
        return self._restarts + sum(generation.restarts for generation in self._all())

    # ---- what comes from outside

    async def _follow(self, signals: AsyncIterator[int], nursery: trio.Nursery) -> None:
        def reopen() -> bool:
            for worker in self.workers():
                nursery.start_soon(worker.reopen_logs)  # nobody waits for one that is stuck
            return True

        # A terminal that closes sends SIGHUP; where there is none, it means what it does to other daemons.
        hangs_up = on_terminal() and not OUTLIVES_TERMINAL
        async for number in signals:
            if number in LOG_SIGNALS:
                heed_log_signal(number, reopen)
            elif number == signal.SIGHUP and not hangs_up:
                self._wish_for("SIGHUP")
            else:
                self.stop(signal.Signals(number).name)

    def _files_changed(self, paths: list[str]) -> None:
        named = [Path(path).name for path in paths[:_NAMED]]
        more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
        self._wish_for(f"changed: {', '.join(named)}{more}")

    def _wish_for(self, why: str) -> Reload:
        wish = Reload(why)
        if self._serving.cancel_called:
            wish.settle(_STOPS)
            return wish
        self._wanted.append(wish)
        self._wish.set()
        # What is being loaded is not wanted any more; it may be what hangs, and has just been mended. Or it
        # has changed files itself, and would do so the next time.
        self._starting.deadline = max(trio.current_time(), self._attempt_began + self._patience)
        return wish

    # ---- generations

    def _all(self) -> list[Generation]:
        return [*self.retiring, *([] if self.current is None else [self.current])]

    def _count(self, config: Config) -> int:
        return config.workers if self._workers is None else self._workers

    async def _run_generations(self) -> None:
        async with trio.open_nursery() as generations:
            with self._serving:
                await self._serve(generations)
            for wish in self._wanted:
                wish.settle(_STOPS)

    async def _serve(self, generations: trio.Nursery) -> None:
        try:
            await self._advance(self._document, self.config, generations)
        except WorkerError as error:
            if self._watcher is None:
                self._failure = error
                return
            log.error("workers cannot start: waiting for changes", reason=error.reasons)  # noqa: TRY400
        except _Overtaken:
            pass  # by a wish that is there already
        while True:
            if self.current is not None:
                addresses = [str(listening) for listening in self._opened.all()]
                if not self._announced:
                    self._announced = True
                    log.info("ready", addresses=addresses, workers=self.current.count)
                tell_ready(addresses)
            await self._refill()
            await self._wish.wait()
            self._wish = trio.Event()
            wishes, self._wanted = self._wanted, []
            await self._reload(wishes, generations)

    async def _reload(self, wishes: list[Reload], generations: trio.Nursery) -> None:
        log.info("reloading", reason=wishes[-1].why)
        tell_reloading()
        begun = trio.current_time()
        reasons, status = _STOPS, 1
        try:
            document = self._read()
            await self._advance(document, document.load(), generations)
            reasons, status = [], 0
        except _Overtaken:
            self._wanted[:0], wishes = wishes, []
            return
        except ConfigError as error:
            reasons, status = [str(mistake) for mistake in error.mistakes], 2
        except StartError as error:
            reasons = [str(error)]
        except WorkerError as error:
            reasons, status = error.reasons, error.status
        finally:
            for wish in wishes:
                wish.settle(reasons, status)
        if reasons and self.current is None and self._watcher is None:
            # Those before have been given up meanwhile, or never served: it ends as by a start that fails.
            self._failure = WorkerError(reasons, status)
            self._serving.cancel()
            return
        if reasons:
            log.error("reload failed: what served before serves on", reason=reasons)
            return
        self.reloads += 1
        log.info("reloaded", seconds=round(trio.current_time() - begun, 3))

    async def _advance(self, document: Document, config: Config, generations: trio.Nursery) -> None:
        """Put workers of *config* in the place of those that serve, if there are any.

        Raises StartError and WorkerError, and _Overtaken if there is another wish before the new ones serve.
        """
        if reasons := cannot_be_shared(config, self._count(config)):
            raise WorkerError(reasons)
        opened = self._sockets.open(config)
        served = self._opened
        generation = Generation(document, config, opened, count=self._count(config), standby=self._standby)
        try:
            self._attempt_began = trio.current_time()
            self._coming = generation
            with trio.CancelScope() as self._starting:
                await generations.start(self._run_one, generation)
            if self._starting.cancelled_caught:
                self._patience *= 2
                raise _Overtaken  # noqa: TRY301
            if self.stopping:
                # Since it has said that it serves: it was not among those that were stopped.
                self.retiring.append(generation)
                generation.stop()
                await trio.lowlevel.checkpoint()  # which is cancelled
            self._patience = _PATIENCE
        except BaseException:
            self._sockets.keep(served)
            raise
        finally:
            self._coming = None
        self._opened, self.config = opened, config
        self._sockets.keep(opened)
        configure(debug=config.debug)
        self._control.open(opened)
        if self._watcher is not None:
            self._watcher.follow(config)
        if self.current is not None:
            self.retiring.append(self.current)
        previous, self.current = self.current, generation
        if previous is not None:
            previous.retire(LAST_REQUEST_PATIENCE if self._watcher is None else DEVELOPERS_PATIENCE)

    async def _run_one(self, generation: Generation, *, task_status: trio.TaskStatus[None]) -> None:
        try:
            await generation.run(task_status=task_status)
        except WorkerError as error:
            if generation is self._coming:
                raise
            if generation is not self.current:
                pass  # others have taken over meanwhile
            elif self._watcher is not None:
                log.error("workers given up: waiting for changes", reason=error.reasons)  # noqa: TRY400
            elif self._coming is not None or self._wanted:
                log.error("workers given up: others start", reason=error.reasons)  # noqa: TRY400
            else:
                self._failure = error
                self._serving.cancel()
        finally:
            self._restarts += generation.restarts
            if generation in self.retiring:
                self.retiring.remove(generation)
            elif generation is self.current:
                self.current = None

    async def _refill(self) -> None:
        try:
            await self._standby.refill()
        except StartError as error:
            log.warning("no worker stands by", cause=str(error))


class _Overtaken(Exception):
    """Another reload is wished for, and the workers of the last one do not serve yet."""


_PATIENCE = 1.0
"""Seconds that a start has at least when another reload is wished for meanwhile; twice as many each time
that it was too few, until one succeeds, so that code which writes files whenever it is loaded serves in the
end."""

_STOPS = ["the daemon stops"]
"""Why a reload fails that is wished for when there are to be no more workers."""

LAST_REQUEST_PATIENCE = 5.0
"""Seconds for which workers that retire keep idle connections: a client that has sent a request just now
would lose it with the connection (RFC 9112 9.3.1)."""

DEVELOPERS_PATIENCE = 0.5
"""The same, with --reload: who has changed something wants to see that on the next page."""

_NAMED = 3
"""Changed files that are named in the log."""
