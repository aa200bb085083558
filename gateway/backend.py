"""What a backend is: one awaitable call per request, and a lifetime around all of them."""

from typing import Protocol

import trio

from gateway.request import Request, Responder


class Runnable(Protocol):
    """Something with a lifetime: a backend, an application that the gateway spawns, a mirror."""

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None: ...


class Handler(Protocol):
    """Answers a request: a backend, static files, a redirect, a fixed response."""

    async def handle(self, request: Request, responder: Responder) -> None:
        """Answer *request* through *responder*. A task that answers several passes a checkpoint between.

        Raises GatewayError for what goes wrong; the front turns it into a response if none has begun,
        and cuts the connection otherwise. Cancelled when the client is gone or the daemon's grace ends.
        """
        ...


class Backend(Handler, Protocol):
    """A handler that has a name and a lifetime."""

    @property
    def name(self) -> str: ...

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Start what requests need (pools, threads, application processes, lifespan), call
        ``task_status.started()`` when requests may come, and stay until cancelled; then end it all.

        Raises StartError if the backend cannot start.
        """
        ...
