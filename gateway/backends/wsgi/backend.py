"""The WSGI backend: one application, its threads, and the trio half of each call.

Promises: PEP 3333 in full, with any number of threads; a small response takes one hop to a thread and
one back; a request body is read as the application reads it. Does not reload the application, and does
not stop one that hangs: a thread cannot be killed.
"""

import io
from collections.abc import Sequence
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Any, Final
from wsgiref.types import WSGIApplication

import sniffio
import trio

from gateway.backends.called import check_called
from gateway.backends.intake import BodyIntake
from gateway.backends.load import Surroundings, load_application
from gateway.backends.wsgi.call import ApplicationCall
from gateway.backends.wsgi.input import open_input, open_stored
from gateway.backends.wsgi.streams import FileWrapper, WsgiErrors
from gateway.backends.wsgi.stuck import StuckWatch
from gateway.backends.wsgi.threads import WorkerThreads
from gateway.environ import build_environ
from gateway.errors import BackendError, Cause, ClientGone, Phase, RequestError, ResponseAborted
from gateway.net.pump import Pump
from gateway.protocols.errors import LocalProtocolError, RemoteProtocolError
from gateway.request import LARGE_PIECE, Body, Request, Responder, Upgrade, respond
from gateway.shutdown.signals import Interrupted
from gateway.slots import Slots
from gateway.spool import Spooled, disk_failure

_READ_AHEAD: Final = 64 * 1024
"""Bytes of a body that is here already which go along with the call, and save a hop."""

_STOP_GRACE: Final = 1.0
"""Seconds for close() methods and the like once all requests have ended; requests have had their own."""


class WsgiBackend:
    """Runs the application *target* (``module:attribute``) in *threads* threads.

    *directory* is put in front of the module search path, and *surroundings* in place. With *factory* the
    attribute is a function that returns the application. *multiprocess* says that other processes run the
    same application.

    *intake* says which request bodies are taken. One that is streamed has no CONTENT_LENGTH: Werkzeug reads
    it all the same, and Django takes it for none. *slots* bounds how many requests wait for a thread, and for
    how long. A call that runs for *stuck_after* seconds is told about in the log, with its stack; 0: never.
    A WebSocket on which nothing passed for *tunnel_timeout* seconds is ended.
    """

    def __init__(
        self,
        name: str,
        *,
        pump: Pump,
        target: str,
        directory: Path | None,
        threads: int,
        factory: bool,
        multiprocess: bool,
        intake: BodyIntake,
        slots: Slots | None,
        stuck_after: float,
        surroundings: Surroundings,
        tunnel_timeout: float = inf,
    ) -> None:
        self.name = name
        self._pump = pump
        self._surroundings = surroundings
        self._slots = slots
        self._stuck_after = stuck_after
        self._tunnel_timeout = tunnel_timeout
        self._intake = intake
        self._target = target
        self._directory = directory
        self._factory = factory
        self._threads = WorkerThreads(name, threads)
        self._application: WSGIApplication
        self._variables: dict[str, Any] = {
            "wsgi.version": (1, 0),
            "wsgi.errors": WsgiErrors(name),
            "wsgi.multithread": threads > 1,
            "wsgi.multiprocess": multiprocess,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
            # Reading ends by itself, with or without CONTENT_LENGTH (Werkzeug and gunicorn agree on it).
            "wsgi.input_terminated": True,
        }

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Import the application, start its threads, end them when cancelled."""
        try:
            self._application = self._load()
        except Interrupted:
            await trio.sleep_forever()  # the signal cancels it
        self._threads.start(self._pump)
        try:
            task_status.started()
            if self._stuck_after:
                await StuckWatch(self._threads, self.name, self._stuck_after).run()
            else:
                await trio.sleep_forever()
        finally:
            await self._threads.stop(_STOP_GRACE)

    def _load(self) -> WSGIApplication:
        # It knows of no loop around it, and may run one of its own, as it will in its threads.
        library, sniffio.thread_local.name = sniffio.thread_local.name, None
        try:
            application: WSGIApplication = load_application(
                self._target,
                directory=self._directory,
                factory=self._factory,
                backend=self.name,
                surroundings=self._surroundings,
            )
        finally:
            sniffio.thread_local.name = library
        check_called(application, "wsgi", target=self._target, backend=self.name)
        return application

    async def handle(self, request: Request, responder: Responder) -> None:
        """Call the application in a thread and pass on what it answers."""
        body = self._intake.take(request.body)
        if body is not None:
            await self._handle(request, body, responder)
        else:
            with await self._intake.store(request.body) as spooled:
                await self._handle(request, spooled, responder)

    async def _handle(self, request: Request, body: Body, responder: Responder) -> None:
        began = perf_counter()
        call = ApplicationCall(self._application, request, responder, self._threads, self.name)
        slots = self._slots
        if slots is not None:
            await slots.enter(self._target)
        try:
            length = body.length
            environ: dict[str, Any] = {
                **build_environ(
                    request, script_name=request.mount, path_info=request.rest, content_length=length
                ),
                **self._variables,
                "wsgi.url_scheme": request.connection.scheme,
                "gw.client_disconnected": call.client_disconnected,  # rules WSGI-4
            }
            environ["wsgi.input"] = io.BytesIO() if length == 0 else _open_input(body, call)
            call.environ = environ  # `ApplicationCall.run` takes it away again
            if request.upgrade is None:
                await call.submitted()
            elif await self._offer(call, request, request.upgrade):
                request.upstream_time = perf_counter() - began
                return
            if call.finished and call.file is None and not call.short:
                await respond(responder, call.status, call.headers, call.take_blocks(), call.reason)
            else:
                await self._converse(call, body, responder)
        except ResponseAborted as aborted:
            raise self._failed(aborted.cause, str(aborted), Phase.BODY) from aborted
        finally:
            call.end()
            if slots is not None:
                call.when_left(slots.leave)
        request.upstream_time = perf_counter() - began

    async def _offer(self, call: ApplicationCall, request: Request, upgrade: Upgrade) -> bool:
        """Run the call of a client that offers to switch protocols, until it answers in another way; whether
        it has switched, and all of that is over.
        """
        if upgrade.protocol != "websocket":
            await call.submitted()
            return False
        from gateway.backends.wsgi.websocket import SocketOffer  # what few applications need

        call.application = offer = SocketOffer(call, self._application, self._threads, self._pump)
        offer.describe(request)
        try:
            if not await offer.taken():
                return False
            await offer.speak(upgrade, self._tunnel_timeout)
        except (LocalProtocolError, RemoteProtocolError) as wrong:
            raise self._failed(Cause.MALFORMED, str(wrong), Phase.HEAD) from wrong
        finally:
            offer.withdraw()
        return True

    async def _converse(self, call: ApplicationCall, body: Body, responder: Responder) -> None:
        """Do what the call asks for until it has finished or failed."""
        while True:
            # In this order: what is final is set after the last block.
            finished = call.finished
            failed = call.failed
            block = call.take_blocks()
            if (finished or block) and not responder.started:
                responder.start(call.status, call.headers, call.reason)
            if block:
                responder.write(block)
            if finished:
                if call.short:
                    await responder.flush()  # What there is reaches the client, whatever came together.
                await _finish(call, responder)
                return
            if block:
                await responder.flush()
                call.flushed(len(block))
            if failed:
                raise self._failure(call, responder)
            if call.wants_body:
                call.wants_body = False
                await _answer_body(call, body)
            await call.posted()

    def _failure(self, call: ApplicationCall, responder: Responder) -> Exception:
        detail = f"the application raised {call.raised}"
        if responder.started:
            return self._failed(Cause.INCOMPLETE, detail, Phase.BODY)
        if call.body_error is not None:
            return call.body_error
        return self._failed(Cause.FAILED, detail, Phase.RUN, call.last_words or ())

    def _failed(
        self, cause: Cause, detail: str, phase: Phase, last_words: Sequence[str] = ()
    ) -> BackendError:
        return BackendError(
            cause, detail, backend=self.name, address=self._target, phase=phase, last_words=last_words
        )


async def _finish(call: ApplicationCall, responder: Responder) -> None:
    if call.file is not None:
        await responder.write_file(*call.file)
    responder.end()
    await responder.flush()


async def _answer_body(call: ApplicationCall, body: Body) -> None:
    pieces: list[bytes] = []
    error = call.body_error
    if error is None:
        try:
            pieces.append(await body.read())
            if pieces[0] and (more := body.read_nowait(LARGE_PIECE)) is not None:
                pieces.append(more)
        except RequestError as refused:
            # The application may answer in its own way; what it leaves to us becomes this error.
            error = refused
        except ClientGone:
            if not pieces:
                raise
            # What came before is the application's; the next read tells of it again.
    call.answer_body(pieces, error)


def _open_input(body: Body, call: ApplicationCall) -> io.BufferedIOBase:
    """A file over *body*; what has not arrived is not waited for, so that 100 Continue comes late enough."""
    if isinstance(body, Spooled):
        return _open_spooled(body, call)
    arrived: list[bytes] = []
    size = 0
    while size < _READ_AHEAD:
        piece = body.read_nowait()
        if piece == b"":
            return io.BytesIO(b"".join(arrived))
        if piece is None:
            break
        arrived.append(piece)
        size += len(piece)
    return open_input(arrived, call.next_pieces)


def _open_spooled(body: Spooled, call: ApplicationCall) -> io.BufferedIOBase:
    """A file that can be read again (`seek`), as Zope does after a conflict."""
    descriptor = body.descriptor
    if descriptor is None:
        return io.BytesIO(body.read_nowait(body.length))
    try:
        # A disk that fails the thread fails the loop, too, which answers for it when asked for the body.
        return open_stored(descriptor, call.next_pieces)
    except OSError as error:
        raise disk_failure("the stored request body cannot be read", error) from error
