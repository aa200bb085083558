"""Where an ASGI application runs: what the trio side and the application's side ask of each other.

A host gives one application its loop. The trio side enters the application through
:meth:`Host.enter`; the application's side comes back through :meth:`Host.wait`, with an event that the
trio side may set. :class:`TrioHost` runs it on the worker's own loop, in the task that calls;
`guest.AsyncioHost` on an asyncio loop in the same thread.

Promises: each entry has its own copy of the context variables, as if it were a task of its own, so
that nothing one request sets is seen by the next one on the same connection. Cancelling the caller
cancels the application.

What an application does after its response is its own affair on asyncio: the connection goes on. On
trio it runs in the connection's task, and the next request on that connection waits for it.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar, copy_context
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import trio

from gateway.backends.asgi.entry import Entry
from gateway.backends.asgi.nurseries import close_in_the_task_that_waits
from gateway.net.resumption import current_task
from gateway.shutdown.notice import ShutdownNotice

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An ASGI 3.0 application."""

Result = TypeVar("Result")


class Event(Protocol):
    """A flag that the trio side sets and the application's side waits for, once."""

    def set(self) -> None: ...
    async def wait(self) -> object: ...


class Wait(Protocol):
    """Awaits a trio function, for the application's side: `Host.wait`."""

    def __call__(
        self, function: Callable[[], Awaitable[object]], scope: trio.CancelScope | None = None
    ) -> Awaitable[None]: ...


class Exchange(Protocol):
    """What an application is called with, besides its scope."""

    on_complete: Callable[[], None] | None
    """Called by the exchange when the response has been sent: nobody waits for the application any more."""

    wait: Wait
    """`Host.wait`, or a shorter way that the host has for this call."""

    async def receive(self) -> Message: ...
    async def send(self, message: Message, /) -> None: ...


class Host(Protocol):
    """A loop for one application."""

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve until :meth:`aclose` was called; the caller's cancellation does not end it."""
        ...

    async def drain(self, patience: trio.CancelScope) -> None:
        """Wait for what the application does after its responses, within *patience*."""
        ...

    async def aclose(self, patience: trio.CancelScope) -> None:
        """End what the application left running, within *patience*, then the host."""
        ...

    async def call(self, function: Callable[[], Result]) -> Result:
        """Call a plain function with the application's loop running (to import it there)."""
        ...

    def enter(self, app: Application, scope: Scope, exchange: Exchange) -> Awaitable[None]:
        """Run *app* until it returns or its response is complete. Raises what it raised."""
        ...

    def leave(self) -> None:
        """After `enter`, whatever came of it: nothing of the call stays with the caller's task."""
        ...

    # --- for the application's side

    async def wait(
        self, function: Callable[[], Awaitable[object]], scope: trio.CancelScope | None = None
    ) -> None:
        """Await a trio function, within *scope* if there is one. Cancelling the caller cancels it."""
        ...

    def event(self) -> Event: ...

    async def pause(self) -> None:
        """Let everybody else have a turn."""
        ...


async def wait_for_notice(notice: ShutdownNotice, host: Host) -> None:
    """Until the daemon begins to stop; for the application's side."""
    if notice.begun:
        return
    begun = host.event()
    notice.listen(begun, lambda _urgent: begun.set())
    try:
        await begun.wait()
    finally:
        notice.leave(begun)


class TrioHost:
    """The worker's own loop: the application runs in the task of the connection."""

    __slots__ = ("_closed", "_context")

    def __init__(self) -> None:
        close_in_the_task_that_waits()
        self._closed = trio.Event()
        self._context = copy_context()
        self._context.run(_host.set, self)

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        with trio.CancelScope(shield=True):
            task_status.started()
            await self._closed.wait()

    async def drain(self, patience: trio.CancelScope) -> None:
        pass

    async def aclose(self, patience: trio.CancelScope) -> None:
        self._closed.set()

    async def call(self, function: Callable[[], Result]) -> Result:
        # What it sets of context variables is there in all requests, as with other servers.
        return self._context.run(function)

    def enter(self, app: Application, scope: Scope, exchange: Exchange) -> Awaitable[None]:
        if _host.get() is self:
            return app(scope, exchange.receive, exchange.send)
        return Entry(self._context.copy(), lambda: app(scope, exchange.receive, exchange.send))

    def leave(self) -> None:
        # The connection's task goes on in the context that it came with, from its next step on; the
        # front sees to it that each request begins in a step of its own. Cheaper than a task.
        current_task().context = self._context.copy()

    async def wait(
        self, function: Callable[[], Awaitable[object]], scope: trio.CancelScope | None = None
    ) -> None:
        if scope is None:
            await function()
            return
        with scope:
            await function()

    def event(self) -> Event:
        return trio.Event()

    async def pause(self) -> None:
        await trio.lowlevel.checkpoint()


_host: Final[ContextVar[TrioHost | None]] = ContextVar("gateway.backends.asgi.host", default=None)
"""Of whose context that of the task is a copy: after its first request (`TrioHost.leave`)."""
