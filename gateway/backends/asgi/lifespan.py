"""The lifespan of an ASGI application: started once before its first request, ended after its last.

The rules for an application that does not know the protocol are the specification's: an exception
before it has answered ``lifespan.startup`` means that it has no lifespan (`auto`), or that it cannot
start (`on`). Once it has answered, what goes wrong is real: ``lifespan.startup.failed`` stops the start
with the application's own message, and a later exception ends the backend.
"""

from collections.abc import Callable
from enum import Enum
from math import inf
from typing import Any, Final, Literal, TypeAlias

import trio

from gateway.backends.asgi.host import Application, Host, Message, Wait
from gateway.backends.start_watch import StartWatch
from gateway.errors import StartError
from gateway.logger import get_logger
from gateway.runtime import forked
from gateway.stacks import repr_of

log = get_logger()

SPEC_VERSION: Final = "2.0"

Mode: TypeAlias = Literal["auto", "on", "off"]


class _Stage(Enum):
    """How far the lifespan has come."""

    STARTING = "lifespan.startup.complete or lifespan.startup.failed"
    """No answer to the startup yet."""
    RUNNING = "nothing before lifespan.shutdown was received"
    """Startup is complete."""
    STOPPING = "lifespan.shutdown.complete or lifespan.shutdown.failed"
    """The shutdown was handed to the application."""
    OVER = "nothing"
    """Startup failed, shutdown was answered, or the application has returned."""


class Lifespan:
    """Runs the lifespan of *app*, called *name* in the log, in *host*. Implements `host.Exchange`.

    ``state`` is what the application put there, to be copied into each request's scope.
    """

    def __init__(self, app: Application, host: Host, *, name: str, mode: Mode) -> None:
        self._app = app
        self._host = host
        self._name = name
        self._mode = mode
        self._stage = _Stage.STARTING
        self._received = 0
        """Messages that the application has got; one that it gave up to wait for is not among them."""
        self._refused = ""
        self._raised: BaseException | None = None
        self._answered = trio.Event()
        self._stop_asked = trio.Event()
        self._ended = trio.Event()
        self._scope = trio.CancelScope(shield=True)
        self.state: dict[str, Any] = {}
        self.on_complete: Callable[[], None] | None = None
        self.wait: Wait = host.wait

    # --- for the backend

    async def run(self) -> None:
        """Call the application and stay until it returns; only :meth:`stop` ends it earlier.

        Raises StartError if the application fails after it has started.
        """
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": SPEC_VERSION},
            "state": self.state,
        }
        try:
            if self._mode != "off":
                with self._scope:
                    await self._host.enter(self._app, scope, self)
                    forked.end_returned()
        except BaseException as error:  # the application's, as the scope keeps what was cancelled
            forked.end_child(error)
            self._judge(error)
        finally:
            if self._stage is _Stage.STARTING and not self._refused and self._mode == "on":
                self._refused = "it returned without completing its startup"
            self._stage = _Stage.OVER
            self._answered.set()
            self._ended.set()

    async def start(self, timeout: float | None) -> None:
        """Wait until the application has started, or has shown that it has no lifespan.

        Raises StartError if it says that it failed, or says nothing for *timeout* seconds; None: no bound.
        """
        patience = inf if timeout is None else timeout
        with StartWatch(self._name, "starting"), trio.move_on_after(patience) as scope:
            await self._answered.wait()
        if scope.cancelled_caught:
            raise StartError(
                f"backend {self._name}: the application did not complete its startup within {patience:g} s "
                "(startup_timeout)"
            )
        if self._refused:
            raise StartError(
                f"backend {self._name}: the application did not start: {self._refused}",
                backend=self._name,
                raised=self._raised,
            )

    async def stop(self, patience: trio.CancelScope) -> None:
        """Shut the application down; when *patience* is over it is cancelled.

        One that has not started, or could not, is cancelled at once: there is nothing to shut down in order.
        """
        self._stop_asked.set()
        if self._stage is _Stage.STARTING or self._refused:
            self._scope.cancel()
            return
        with patience:
            await self._ended.wait()
        if patience.cancelled_caught:
            log.warning("application did not shut down in time", backend=self._name)
        self._scope.cancel()

    def _judge(self, error: BaseException) -> None:
        """The application raised *error*: and what that means depends on the stage."""
        if self._refused:
            # Frameworks answer startup.failed and raise: the answer has said it.
            log.debug("application failed to start", backend=self._name, exc_info=error)
        elif self._stage is not _Stage.STARTING:
            log.error("lifespan failed", backend=self._name, exc_info=error)
            if not self._stop_asked.is_set():
                raise StartError(
                    f"backend {self._name}: the application's lifespan failed: {repr_of(error)}"
                ) from error
        elif self._mode == "on":
            self._refused, self._raised = repr_of(error), error
        elif self._received:
            # ASGI lifespan spec, startup: go on without. But it took the message: perhaps it meant it.
            log.warning("application failed at lifespan.startup", backend=self._name, exc_info=error)
        else:
            log.debug("application has no lifespan", backend=self._name, exc_info=error)

    # --- for the application

    async def receive(self) -> Message:
        """``lifespan.startup``, then ``lifespan.shutdown`` when it is time; no more after that."""
        if not self._received:
            self._received = 1
            return {"type": "lifespan.startup"}
        await self.wait(self._stop_asked.wait)
        if self._received == 2:
            await self.wait(trio.sleep_forever)
        self._received = 2
        if self._stage is _Stage.RUNNING:
            self._stage = _Stage.STOPPING
        return {"type": "lifespan.shutdown"}

    async def send(self, message: Message) -> None:
        """Take an answer. Raises ValueError, TypeError or RuntimeError for a wrong one."""
        forked.end_returned()
        kind = message["type"]
        match kind, self._stage:
            case "lifespan.startup.complete", _Stage.STARTING:
                self._stage = _Stage.RUNNING
                self._answered.set()
            case "lifespan.startup.failed", _Stage.STARTING:
                self._refused = _reason(message)
                self._stage = _Stage.OVER
                self._answered.set()
            case "lifespan.shutdown.complete", _Stage.STOPPING:
                self._stage = _Stage.OVER
                self._ended.set()
            case "lifespan.shutdown.failed", _Stage.STOPPING:
                self._stage = _Stage.OVER
                log.error("application failed to shut down", backend=self._name, reason=_reason(message))
                self._ended.set()
            case (
                "lifespan.startup.complete"
                | "lifespan.startup.failed"
                | "lifespan.shutdown.complete"
                | "lifespan.shutdown.failed",
                _,
            ):
                raise RuntimeError(f"{kind} was sent where only {self._stage.value} is allowed")
            case _:
                raise ValueError(f"{kind!r} is not a message of the lifespan protocol")


def _reason(message: Message) -> str:
    reason = message.get("message", "")
    if not isinstance(reason, str):
        raise TypeError(f"message is {type(reason).__name__}, not str")
    return reason or "no reason given"
