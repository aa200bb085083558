"""The ASGI backend: imports an application, starts it, and calls it once per request.

Promises: the application is imported, started, called and stopped on one and the same loop; an
exception ends the request that it belongs to and nothing else; a failure before the response has begun
is a 500, one after it cuts the connection. Nothing is logged as an error because a client left.

It serves HTTP, WebSocket and lifespan; other upgrades are ignored. Does not reload the application.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from math import inf
from pathlib import Path
from typing import Any, Final, Literal, NoReturn, Protocol

import trio

from gateway.backends.asgi.django import keep_threads
from gateway.backends.asgi.guest import AsyncioHost
from gateway.backends.asgi.host import Application, Host, TrioHost, wait_for_notice
from gateway.backends.asgi.http import HttpExchange, do_nothing
from gateway.backends.asgi.interface import Interface, as_single_callable
from gateway.backends.asgi.lifespan import Lifespan, Mode
from gateway.backends.asgi.scope import PATHSEND, HttpExtensions, http_scope, websocket_scope
from gateway.backends.asgi.settings import WebSocketSettings
from gateway.backends.asgi.websocket.handshake import check_handshake
from gateway.backends.called import check_called
from gateway.backends.load import Surroundings, load_application
from gateway.errors import BackendError, Cause, GatewayError, Phase, ResponseAborted, StartError
from gateway.logger import get_logger
from gateway.net.pump import Pump
from gateway.request import Request, Responder, Upgrade
from gateway.runtime import forked
from gateway.shutdown.exit import end_within
from gateway.shutdown.notice import ShutdownNotice
from gateway.shutdown.signals import Interrupted
from gateway.stacks import name_of, traceback_of

log = get_logger()

_CANCEL_PATIENCE: Final = 5.0
"""Seconds that an asyncio application may take to end a request that was cancelled: its client has gone, or
the daemon's grace is over."""

_END_MARGIN: Final = _CANCEL_PATIENCE + 5.0
"""Seconds beyond all that is waited for at the end, until what is cancelled then is left behind, too; an
application that takes longer never ends."""


class _Exchange(Protocol):
    """A request or a WebSocket, as far as it matters to failures."""

    @property
    def gone(self) -> bool: ...

    @property
    def told(self) -> bool: ...

    def abandon(self) -> None: ...


class AsgiBackend:
    """Serves the application *target* (``module:attribute``) on *loop*, with asyncio in debug mode if asked.

    *directory* is put in front of the module search path, and *surroundings* in place. With *factory* the
    attribute is a function that returns the application, which is of ASGI 2 or 3 by its *interface*.
    *lifespan* says whether the application is told of start and stop, or has to be asked (``auto``). It has
    *startup_timeout* seconds to start, if they are bounded, and *shutdown_timeout* to end what it does after
    its responses, then as long again for its shutdown. *websocket* bounds its WebSockets.
    *dropped_extensions* are not offered to it; with *response_debug* that is which is for tests
    (``http.response.debug``). *notice* is that of the daemon's end.
    """

    def __init__(
        self,
        name: str,
        *,
        target: str,
        pump: Pump,
        directory: Path | None,
        loop: Literal["asyncio", "trio"],
        asyncio_debug: bool,
        factory: bool,
        lifespan: Mode,
        startup_timeout: float | None,
        shutdown_timeout: float,
        websocket: WebSocketSettings,
        interface: Interface,
        dropped_extensions: Sequence[str],
        response_debug: bool,
        notice: ShutdownNotice,
        surroundings: Surroundings,
    ) -> None:
        self.name = name
        self._surroundings = surroundings
        self._target = target
        self._pump = pump
        self._directory = directory
        self._loop = loop
        self._asyncio_debug = asyncio_debug
        self._factory = factory
        self._lifespan: Mode = lifespan
        self._startup_timeout = startup_timeout
        self._shutdown_timeout = shutdown_timeout
        self._websocket = websocket
        self._interface: Interface = interface
        self._dropped_extensions = frozenset(dropped_extensions)
        self._response_debug = response_debug
        self._notice = notice
        # Set while `run` runs.
        self._host: Host
        self._extensions: HttpExtensions
        self._app: Application
        self._state: dict[str, Any] = {}

    # --- lifetime

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Import and start the application, stay until cancelled, then stop it.

        Raises StartError if it cannot be imported or says that it cannot start.
        """
        try:
            with ExitStack() as ending:
                await self._run(task_status, ending)
        except BaseExceptionGroup as group:
            _raise_start_error(group)

    async def _run(self, task_status: trio.TaskStatus[None], ending: ExitStack) -> None:
        async with trio.open_nursery() as nursery:
            self._host = host = self._make_host()
            self._extensions = HttpExtensions(
                self.name,
                self._wait_for_shutdown,
                dropped=self._dropped_extensions,
                debug=self._response_debug,
            )
            with trio.CancelScope(shield=True):
                await nursery.start(host.run)  # it would not hear that it is not wanted any more
            try:
                await self._serve(host, nursery, task_status, ending)
            finally:
                await host.aclose(self._patience())

    def _make_host(self) -> Host:
        if self._loop == "trio":
            return TrioHost()
        return AsyncioHost(self.name, pump=self._pump, patience=_CANCEL_PATIENCE, debug=self._asyncio_debug)

    async def _serve(
        self, host: Host, nursery: trio.Nursery, task_status: trio.TaskStatus[None], ending: ExitStack
    ) -> None:
        # On its loop, as with other servers: modules may ask for the running loop when imported.
        try:
            self._app = keep_threads(await host.call(self._load), self.name, ending)
        except Interrupted:
            await trio.sleep_forever()  # the signal cancels it
        lifespan = Lifespan(self._app, host, name=self.name, mode=self._lifespan)
        nursery.start_soon(lifespan.run)
        try:
            await lifespan.start(self._startup_timeout)
            self._state = lifespan.state
            task_status.started()
            await trio.sleep_forever()
        finally:
            # For each of the three things that are waited for.
            ending.enter_context(end_within(3 * self._shutdown_timeout + _END_MARGIN))
            await host.drain(self._patience())
            await lifespan.stop(self._patience())

    def _patience(self) -> trio.CancelScope:
        return self._notice.patience(self.name, self._shutdown_timeout)

    def _load(self) -> Application:
        app = load_application(
            self._target,
            directory=self._directory,
            factory=self._factory,
            backend=self.name,
            surroundings=self._surroundings,
        )
        if self._interface == "auto":
            check_called(app, "asgi", target=self._target, backend=self.name)
        return as_single_callable(app, self._interface)

    async def _wait_for_shutdown(self) -> None:
        await wait_for_notice(self._notice, self._host)

    # --- requests

    async def handle(self, request: Request, responder: Responder) -> None:
        """Call the application and pass on what it answers.

        Raises BackendError if it fails (500 before its response has begun) or does not complete what
        it began, RequestError or ClientGone if the request came to that.
        """
        if request.upgrade is not None and request.upgrade.protocol == "websocket":
            await self._handle_websocket(request, responder, request.upgrade)
            return
        # It learns by itself that its client has gone, and has the grace to end.
        responder.on_disconnect = do_nothing
        exchange = HttpExchange(self._host, request, responder, self._notice, self._response_debug)
        extensions = self._extensions.of(request)
        raised = ""
        last_words: list[str] = []
        try:
            await self._host.enter(self._app, http_scope(request, self._state, extensions), exchange)
        except BaseException as error:  # its own, all of them: signals come otherwise
            if isinstance(error, trio.Cancelled) and _is_cancelled():
                exchange.abandon()
                raise
            last_words = self._take_raised(error, exchange, request)
            raised = f"the application raised {name_of(error)}"
        finally:
            self._host.leave()
            exchange.leave()
        if forked.is_child:
            forked.end_returned()
        if request.method == "HEAD" and not raised:
            exchange.complete_head()
        if exchange.unsettled:
            await exchange.settle()
        if not exchange.complete:
            if not raised and PATHSEND in extensions and exchange.untouched and _is_repeatable(request):
                # A middleware that knows no pathsend (brotli-asgi, that of Gradio) has swallowed a file.
                exchange.abandon()
                self._withdraw_pathsend(request)
                await self.handle(request, responder)
                return
            # Out here and without a cause: what the application raised may stem from this very failure,
            # and two exceptions that name each other keep the response until the collector runs.
            failure = exchange.take_failure(raised)
            exchange.abandon()
            try:
                if exchange.told and failure is not None:
                    raise failure  # no fault of the application's
                raise self._named(failure) or self._failed(
                    raised or "the application returned without a response", last_words
                )
            finally:
                del failure  # Its traceback holds this frame.

    def _withdraw_pathsend(self, request: Request) -> None:
        """From now on files come by messages of the body, as behind servers that know nothing else."""
        if self._extensions.withdraw(PATHSEND):
            log.warning(
                "pathsend is not offered any more",
                backend=self.name,
                reason="the application returned without a response, which may have been a file that a "
                "middleware does not pass on; drop_extensions: http.response.pathsend avoids this",
                request_id=request.id,
                method=request.method,
                path=request.path,
            )

    def _named(self, failure: GatewayError | None) -> GatewayError | None:
        """*failure*, as this application's if it is a broken response."""
        if isinstance(failure, ResponseAborted):
            return self._failed(str(failure), [], failure.cause, Phase.BODY)
        return failure

    async def _handle_websocket(self, request: Request, responder: Responder, upgrade: Upgrade) -> None:
        if not await check_handshake(request, responder):
            return
        # With wsproto it takes long to load: whoever gets no WebSockets starts without.
        from gateway.backends.asgi.websocket.exchange import WebSocketExchange

        failed = False
        last_words: list[str] = []
        async with trio.open_nursery() as nursery:
            exchange = WebSocketExchange(
                self._host, request, responder, upgrade, self._websocket, nursery, self._notice, self.name
            )
            nursery.start_soon(exchange.read)
            try:
                await self._host.enter(
                    self._app, websocket_scope(request, self._state, exchange.extensions), exchange
                )
            except BaseException as error:
                if isinstance(error, trio.Cancelled) and _is_cancelled():
                    exchange.abandon()
                    raise
                last_words = self._take_raised(error, exchange, request)
                failed = True
            finally:
                self._host.leave()
            if forked.is_child:
                forked.end_returned()
            exchange.finish(failed=failed)
        await exchange.settle()
        if not exchange.answered:
            outcome = "raised an exception" if failed else "returned"
            raise self._named(exchange.take_failure()) or self._failed(
                f"the application {outcome} before it accepted", last_words
            )

    def _take_raised(self, error: BaseException, exchange: _Exchange, request: Request) -> list[str]:
        """Log *error*, which the application has raised; its traceback, if there is a client to be answered.

        Raises what of it has to reach the cancel scope.
        """
        forked.end_child(error)
        if exchange.gone or exchange.told:
            # Whatever it was doing, it was doing it for nobody.
            log.debug("application ended after its client", backend=self.name, exc_info=error)
        else:
            log.error(
                "application failed",
                backend=self.name,
                request_id=request.id,
                method=request.method,
                path=request.path,
                exc_info=error,
            )
        _pass_on_cancelled(error, exchange)
        return [] if exchange.gone else traceback_of(error)

    def _failed(
        self, detail: str, last_words: list[str], cause: Cause = Cause.FAILED, phase: Phase = Phase.RUN
    ) -> BackendError:
        return BackendError(
            cause,
            detail,
            backend=self.name,
            address=self._target,
            phase=phase,
            last_words=last_words,
        )


def _is_repeatable(request: Request) -> bool:
    """Whether an application that has not answered *request* can be asked again (RFC 9110 9.2.1)."""
    return request.method in ("GET", "HEAD") and request.body.length == 0


def _is_cancelled() -> bool:
    """Whether this task is: an application may raise what it has from another one (of a request whose client
    has left, say), which no scope would end here.
    """
    return trio.current_effective_deadline() == -inf


def _pass_on_cancelled(error: BaseException, exchange: _Exchange) -> None:
    """Raise what of *error* has to reach the cancel scope, if it came of a nursery that was cancelled.

    The rest is the application's own: no scope would end it, and it would end the daemon.
    """
    cancelled = error.subgroup(trio.Cancelled) if isinstance(error, BaseExceptionGroup) else None
    if cancelled is not None and _is_cancelled():
        exchange.abandon()
        try:
            raise cancelled from None
        finally:
            del cancelled  # Its traceback holds this frame, and with it the request.


def _raise_start_error(group: BaseExceptionGroup[BaseException]) -> NoReturn:
    """Callers expect the one StartError that ended the backend, if that is all there was."""
    errors, others = group.split(StartError)
    if errors is None or (others is not None and others.subgroup(Exception)):
        raise group
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    raise error
