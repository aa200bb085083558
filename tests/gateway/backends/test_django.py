"""The threads of Django's requests on asyncio."""

import asyncio
import gc
import os
import threading
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import django
import pytest
import trio
from asgiref.sync import sync_to_async
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.db import connection, connections
from django.db.transaction import atomic
from django.http import HttpRequest, HttpResponse
from django.urls import path

from gateway.backends.asgi import AsgiBackend
from gateway.backends.asgi import django as kept
from tests.gateway.backends.asgi_harness import answering, serving
from tests.gateway.conftest import RecordingResponder, make_request

WAIT = 60

both = threading.Barrier(2)
leave = threading.Event()
left: "list[asyncio.Task[tuple[int, int]]]" = []


def answer(*threads: int) -> HttpResponse:
    return HttpResponse(" ".join(map(str, threads)))


def which(request: HttpRequest) -> HttpResponse:
    return answer(threading.get_ident())


def together(request: HttpRequest) -> HttpResponse:
    both.wait(WAIT)
    return answer(threading.get_ident())


async def several(request: HttpRequest) -> HttpResponse:
    return answer(*[await sync_to_async(threading.get_ident)() for _ in range(3)])


async def leave_running(request: HttpRequest) -> HttpResponse:
    """Answers while something of it waits in its thread."""
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait() -> int:
        loop.call_soon_threadsafe(begun.set)
        assert leave.wait(WAIT)
        return threading.get_ident()

    async def go_on() -> tuple[int, int]:
        return await sync_to_async(wait)(), await sync_to_async(threading.get_ident)()

    left.append(asyncio.create_task(go_on()))
    await begun.wait()
    return HttpResponse()


def query(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return answer(threading.get_ident())


async def leave_transaction(request: HttpRequest) -> HttpResponse:
    """As a generator does that is closed behind the end of its request."""
    await sync_to_async(atomic().__enter__)()
    return answer(await sync_to_async(threading.get_ident)())


async def let_it_end(request: HttpRequest) -> HttpResponse:
    leave.set()
    return answer(*await left.pop())


urlpatterns = [
    path("which", which),
    path("together", together),
    path("several", several),
    path("leave", leave_running),
    path("end", let_it_end),
    path("query", query),
    path("transaction", leave_transaction),
]


@pytest.fixture(params=["alone", "channels"])
def application(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="tests", MIDDLEWARE=[])
        django.setup()
    monkeypatch.setattr(settings, "ROOT_URLCONF", __name__, raising=False)
    app = get_asgi_application()
    return app if request.param == "alone" else ProtocolTypeRouter({"http": app})


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[AsgiBackend]:
    async with serving(app, loop="asyncio") as backend:
        with trio.fail_after(WAIT):
            yield backend


async def threads_of(backend: AsgiBackend, target: bytes) -> list[int]:
    """What the view answers."""
    responder = RecordingResponder()
    await backend.handle(make_request(target, headers=[(b"host", b"localhost")]), responder)
    assert responder.status == 200
    return [int(ident) for ident in responder.body.split()]


def ending(*idents: int) -> None:
    """Wait for the end of these threads, some of which may have ended."""
    for thread in threading.enumerate():
        # By its name, too: a thread that begins meanwhile may get the ident of one that has ended.
        if thread.ident in idents and thread.name.startswith("api"):
            thread.join(WAIT)
            assert not thread.is_alive()


def test_a_thread_is_kept(application: Any) -> None:
    """A request gets the thread of one that has ended, which may be a moment behind its response."""

    async def main() -> None:
        async with running(application) as backend:
            seen: set[int] = set()
            while not seen.intersection(found := await threads_of(backend, b"/which")):
                seen.update(found)

    trio.run(main)


def test_a_request_has_one_thread(application: Any) -> None:
    async def main() -> None:
        async with running(application) as backend:
            assert len(set(await threads_of(backend, b"/several"))) == 1

    trio.run(main)


def test_requests_at_the_same_time_have_threads_of_their_own(application: Any) -> None:
    found: list[int] = []

    async def main() -> None:
        async def ask(backend: AsgiBackend) -> None:
            found.extend(await threads_of(backend, b"/together"))

        async with running(application) as backend, trio.open_nursery() as nursery:
            nursery.start_soon(ask, backend)
            nursery.start_soon(ask, backend)

    trio.run(main)
    assert len(set(found)) == 2


def test_what_a_request_has_left_keeps_its_thread(application: Any) -> None:
    """Other requests do not wait for it; nor is it refused a thread, behind the end of its request."""
    leave.clear()

    async def main() -> None:
        async with running(application) as backend:
            await threads_of(backend, b"/leave")
            others = {ident for _ in range(20) for ident in await threads_of(backend, b"/which")}
            busy, behind = await threads_of(backend, b"/end")
            assert others.isdisjoint([busy, behind])

    trio.run(main)


@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")  # from Python 3.13 on
def test_a_transaction_that_a_request_has_left_open_ends_with_its_thread(
    application: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The requests that follow are not part of it, nor refused for it."""
    monkeypatch.setitem(connections.settings["default"], "ENGINE", "django.db.backends.sqlite3")
    monkeypatch.setitem(connections.settings["default"], "NAME", ":memory:")

    async def main() -> None:
        async with running(application) as backend:
            await trio.to_thread.run_sync(ending, *await threads_of(backend, b"/transaction"))

    trio.run(main)
    gc.collect()  # the warning is about what is left here, and belongs to no other test


def test_threads_of_a_burst_end(application: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST_IDLE", 0)

    async def main() -> None:
        async with running(application) as backend:
            # In a thread: on the loop the request has not ended yet.
            await trio.to_thread.run_sync(ending, *await threads_of(backend, b"/which"))

    trio.run(main)


def test_a_thread_that_ends_closes_its_connections(
    application: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not when the collector of cycles finds them: a database has only so many."""
    file = tmp_path / "db.sqlite3"
    monkeypatch.setitem(connections.settings["default"], "ENGINE", "django.db.backends.sqlite3")
    monkeypatch.setitem(connections.settings["default"], "NAME", file)
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", None)

    async def main() -> None:
        async with running(application) as backend:
            idents = await threads_of(backend, b"/query")
            assert file in opened()
        await trio.to_thread.run_sync(ending, *idents)
        assert file not in opened()

    gc.disable()
    try:
        trio.run(main)
    finally:
        gc.enable()


def opened() -> list[Path]:
    """The files that this process has open."""
    descriptors = os.listdir("/proc/self/fd")
    return [Path(os.path.realpath(f"/proc/self/fd/{descriptor}")) for descriptor in descriptors]


def test_threads_end_with_the_application(application: Any) -> None:
    found: list[int] = []

    async def main() -> None:
        async with running(application) as backend:
            for _ in range(5):
                found.extend(await threads_of(backend, b"/several"))

    trio.run(main)
    ending(*found)


@pytest.mark.parametrize("app", [answering(), ProtocolTypeRouter({"http": URLRouter([])})])
def test_other_applications_are_as_they_are(app: Any) -> None:
    with ExitStack() as stack:
        assert kept.keep_threads(app, "app", stack) is app
