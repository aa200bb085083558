"""Shadow traffic: copies of requests for a second backend, whose responses nobody sees (nginx: mirror).

The client never waits for the copy, and never hears of it. Copies run beside the requests, in a nursery of
the mirror's own; beyond MOST_AT_ONCE of them further requests are not copied. A request body is stored first,
so that both can read it; offers of another protocol (WebSocket) are not copied.
"""

import random
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

import trio

from gateway.backend import Handler
from gateway.derived import SideRequest, derive
from gateway.errors import GatewayError
from gateway.logger import get_logger
from gateway.protocols.events import Headers
from gateway.request import NO_BODY, Body, Request, Responder
from gateway.spool import Spooled, spool

MOST_AT_ONCE: Final = 100
"""Copies that run at the same time."""

log = get_logger()


class Mirror:
    """Passes requests to *handler*, and copies of *percent* of them to *second*. It has a lifetime."""

    def __init__(
        self, handler: Handler, *, second: Handler, name: str, percent: float, memory: int, max_body: int
    ) -> None:
        """*name* is that of the second backend; *memory* and *max_body* bound stored bodies, in bytes."""
        self._handler = handler
        self._second = second
        self._name = name
        self._percent = percent
        self._memory = memory
        self._max_body = max_body
        self._running = 0
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the copies until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    async def handle(self, request: Request, responder: Responder) -> None:
        if request.upgrade is not None or not self._is_chosen():
            await self._handler.handle(request, responder)
            return
        if request.body.length == 0:
            self._start(request, NO_BODY, None)
            await self._handler.handle(request, responder)
            return
        with await spool(request.body, memory=self._memory, max_body=self._max_body) as spooled:
            request.body = spooled
            try:
                twin = spooled.twin()
            except OSError as error:  # no descriptor is left
                log.warning(
                    "request not mirrored", backend=self._name, cause=str(error), request_id=request.id
                )
            else:
                self._start(request, twin, twin)
            await self._handler.handle(request, responder)

    def _is_chosen(self) -> bool:
        if self._running >= MOST_AT_ONCE:
            return False
        return self._percent >= 100 or random.random() * 100 < self._percent  # noqa: S311 (a share)

    def _start(self, request: Request, body: Body, stored: Spooled | None) -> None:
        assert self._nursery is not None, "the mirror runs as long as the daemon serves"
        copy = derive(
            SideRequest,
            request,
            method=request.method,
            path=request.path,
            raw_path=request.raw_path,
            query=request.query,
            headers=request.headers,
            body=body,
        )
        copy.mount = request.mount
        copy.path_rest = request.path_rest
        copy.backend = self._name
        self._running += 1
        self._nursery.start_soon(self._run_copy, copy, stored)

    async def _run_copy(self, copy: Request, stored: Spooled | None) -> None:
        with ExitStack() as stack:
            if stored is not None:
                stack.enter_context(stored)
            try:
                await self._second.handle(copy, _Nobody())
            except GatewayError as error:
                log.info("mirrored request failed", backend=self._name, reason=str(error), request_id=copy.id)
            except Exception:
                log.exception("mirrored request crashed", backend=self._name, request_id=copy.id)
            finally:
                self._running -= 1


class _Nobody:
    """A Responder without a client. Implements `request.Responder`."""

    __slots__ = ("on_disconnect", "started")

    disconnected = False

    def __init__(self) -> None:
        self.on_disconnect: Callable[[], None] | None = None
        self.started = False

    def withdraw(self) -> bool:
        self.started = False
        return True

    async def inform(self, status: int, headers: Headers) -> None: ...

    def try_respond(self, status: int, headers: Headers, body: bytes, reason: bytes = b"") -> bool:
        self.started = True
        return True

    def start(self, status: int, headers: Headers, reason: bytes = b"") -> None:
        self.started = True

    def write(self, data: bytes) -> None: ...

    async def write_file(self, descriptor: int, offset: int, count: int) -> None: ...

    def end(self, trailers: Headers | None = None) -> None: ...

    def try_flush(self) -> bool:
        return True

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()
