"""Django on asyncio, with threads that are kept from one request to the next.

What is synchronous in a request (signals, middleware, views, the database) Django runs in one thread, which
asgiref makes for that request, and has another one join: two new threads, up to a third of what a small
request costs, and a database connection that no other request can use. asgiref's `ThreadSensitiveContext`
counts only where it is the outermost, and its caller may give it a worker, "for example in a pool". So this
enters one around each request, and the one that Django enters changes nothing.

Promises: all of a request in one thread, and no other request in it meanwhile, as without it. What a request
has left running keeps its thread to itself. The thread in which it has left a transaction open ends, and the
transaction with it: what yields rows to a client that has gone ends one too late and elsewhere, and Django
closes no such connection between requests. A thread that ends closes its connections, which Django has in
cycles: those of a burst would stay open until the collector comes round to them, and count for the database.
"""

import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any, Final

from gateway.backends.asgi.host import Application, Receive, Scope, Send

MOST_IDLE: Final = 32
"""Threads that wait for requests, of one application; behind a burst the others end."""


def keep_threads(app: Application, name: str, ending: ExitStack) -> Application:
    """*app* with threads called *name*, kept until *ending*, if it is Django; else as it is."""
    context = _context_of_django(app)
    if context is None:
        return app
    kept = KeptThreads(app, name, context)
    ending.callback(kept.close)
    return kept


def _context_of_django(app: Any) -> Any:
    """The class that Django's handler enters, if all HTTP requests to *app* are for it; else None."""
    # What is not imported made no application. Channels' router has the WebSockets go elsewhere.
    routing = sys.modules.get("channels.routing")
    if routing is not None and type(app) is getattr(routing, "ProtocolTypeRouter", None):
        app = app.application_mapping.get("http")
    handlers = sys.modules.get("django.core.handlers.asgi")
    if handlers is None or not isinstance(app, handlers.ASGIHandler):
        return None
    return getattr(handlers, "ThreadSensitiveContext", None)  # since Django 4.0


class KeptThreads:
    """The ASGI application *app* of Django, in contexts of the class *context*. Call it on asyncio."""

    def __init__(self, app: Application, name: str, context: Any) -> None:
        from asgiref.sync import SyncToAsync
        from django.db.backends.signals import connection_created

        self._app = app
        self._name = name
        self._context = context
        self._workers: Any = SyncToAsync.context_to_thread_executor
        self._idle: list[_Worker] = []
        self._most_idle = MOST_IDLE
        connection_created.connect(_note)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI says."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        worker = self._idle.pop() if self._idle else _Worker(self._name)
        async with self._context() as context:
            # Were it given as an argument, tasks that the request has left would get no thread any more.
            self._workers[context] = worker
            try:
                await self._app(scope, receive, send)
            finally:
                self._workers.pop(context, None)
                self._take_back(worker)

    def _take_back(self, worker: "_Worker") -> None:
        if worker.unfinished or worker.in_transaction or len(self._idle) >= self._most_idle:
            worker.end()
        else:
            self._idle.append(worker)

    def close(self) -> None:
        """Let the threads end, those of requests with them."""
        self._most_idle = 0
        while self._idle:
            self._idle.pop().end()


class _Worker(ThreadPoolExecutor):
    """One thread, from its first call on."""

    def __init__(self, name: str) -> None:
        super().__init__(max_workers=1, thread_name_prefix=name)
        self.unfinished: set[Future[Any]] = set()
        self.in_transaction = False
        """Behind the last call that has ended."""
        self._connected = False

    def submit(self, *call: Any, **options: Any) -> "Future[Any]":
        """As of any executor."""
        future = super().submit(self._run, *call, **options)
        self.unfinished.add(future)
        future.add_done_callback(self.unfinished.discard)
        return future

    def _run(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        finally:
            self.in_transaction = any(each.in_atomic_block for each in _opened.connections)
            self._connected = bool(_opened.connections)

    def end(self) -> None:
        """Its thread ends behind what it has been given. Waits for nothing."""
        if self._connected or self.unfinished:
            super().submit(_close_connections)
        self.shutdown(wait=False)


class _Opened(threading.local):
    def __init__(self) -> None:
        self.connections: list[Any] = []


_opened: Final = _Opened()
"""What the thread that asks has opened of Django's connections: to ask Django takes 10 µs."""


def _close_connections() -> None:
    for connection in _opened.connections:
        with suppress(Exception):  # of the database: it is of no use any more
            connection.close()


def _note(connection: Any, **_: Any) -> None:
    """Called by Django, whenever one is opened or opened again."""
    if connection not in _opened.connections:
        _opened.connections.append(connection)
