"""The asyncio loop inside the worker's thread: what applications do on it works as usual."""

import asyncio
import gc
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.to_thread
import pytest
import sniffio
import trio
import trio.testing
import uvloop
from structlog.testing import capture_logs

from gateway.backends.asgi import stepping
from gateway.backends.asgi.crossing import Crossing
from gateway.backends.asgi.host import Event
from gateway.errors import BackendError
from tests.gateway.backends.asgi_harness import answering, both_loops, published, serving
from tests.gateway.conftest import BytesBody, RecordingResponder, make_request
from tests.gateway.freed import freed_without_the_collector
from tests.gateway.served import gateway_of, read_all, response, run


def in_application(function: Callable[[], Awaitable[Any]], **options: Any) -> Any:
    """What *function* returns when an application awaits it while it answers a request."""
    results: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        results.append(await function())
        await answering()(scope, receive, send)

    async def main() -> None:
        async with serving(app, loop="asyncio", **options) as backend:
            await backend.handle(make_request(), RecordingResponder())

    trio.run(main)
    return results[0]


# --- the loop is an asyncio loop


def test_the_running_loop_and_task_are_asyncios() -> None:
    async def look() -> None:
        assert asyncio.get_running_loop() is asyncio.get_event_loop()
        assert asyncio.current_task() in asyncio.all_tasks()
        assert sniffio.current_async_library() == "asyncio"

    in_application(look)


def test_timers_follow_trios_clock() -> None:
    """One clock: a timer of asyncio fires when a deadline of trio would."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        late = loop.call_later(9, lambda: None)
        await asyncio.sleep(2)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.sleep(5)
        late.cancel()
        elapsed.append(loop.time() - began)
        await answering()(scope, receive, send)

    async def main() -> None:
        async with serving(app, loop="asyncio") as backend:
            began = trio.current_time()
            await backend.handle(make_request(), RecordingResponder())
            elapsed.append(trio.current_time() - began)

    elapsed: list[float] = []
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.01))
    assert elapsed == [pytest.approx(3, abs=0.1), pytest.approx(3, abs=0.1)]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_tasks_may_be_eager() -> None:
    """Those that an application starts begin at once; those of requests come from outside of the loop."""
    ended: list[bool] = []

    async def nothing() -> None:
        pass

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if sys.version_info >= (3, 12):
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        ended.append(asyncio.create_task(nothing()).done())
        await answering()(scope, receive, send)

    async def main() -> None:
        async with serving(app, loop="asyncio") as backend:
            for _ in range(2):
                responder = RecordingResponder()
                await backend.handle(make_request(), responder)
                assert responder.ended

    trio.run(main)
    assert ended == [True, True]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="single tasks can be eager from Python 3.14 on")
def test_a_single_task_may_be_eager() -> None:
    async def current() -> asyncio.Task[Any] | None:
        return asyncio.current_task()

    async def start() -> bool:
        options: Any = {"eager_start": True}
        task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(current(), **options)
        return task.done() and task.result() is task and asyncio.current_task() is not task

    assert in_application(start)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="Python 3.14 brought the call graph of tasks")
def test_tasks_tell_who_waits_for_them() -> None:
    """Those of a request up to the application, from within and from other threads."""

    async def look() -> list[str]:
        held: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def hold() -> None:
            begun.set()
            await held

        async def gather() -> None:
            async with asyncio.TaskGroup() as group:
                seen.append(group.create_task(hold()))

        begun = asyncio.Event()
        seen: list[asyncio.Task[None]] = []
        waiting = asyncio.create_task(gather())
        await begun.wait()
        graph = await asyncio.to_thread(asyncio.format_call_graph, seen[0])  # type: ignore[attr-defined]
        assert asyncio.current_task() in await asyncio.to_thread(asyncio.all_tasks, held.get_loop())
        waiting.cancel()
        return [graph, asyncio.format_call_graph()]  # type: ignore[attr-defined]

    held, current = in_application(look)
    assert held.index(".hold()") < held.index("Awaited by") < held.index(".gather()")
    assert current.index(".look()") < current.index("Crossing.run()")


def test_tasks_may_be_made_by_a_factory_that_knows_nothing_of_contexts() -> None:
    """As all were before Python 3.11: asyncio calls it so unless a context is asked for."""
    variable: ContextVar[int] = ContextVar("variable", default=0)
    seen: list[int] = []

    def make_task(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        made.append(main)
        variable.set(variable.get() + 1)  # for this task
        return asyncio.Task(main, loop=loop)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asyncio.get_running_loop().set_task_factory(make_task)  # type: ignore[arg-type]
        seen.append(variable.get())
        variable.set(10)
        await answering()(scope, receive, send)

    async def main() -> None:
        async with serving(app, loop="asyncio") as backend:
            for _ in range(3):
                responder = RecordingResponder()
                await backend.handle(make_request(), responder)
                assert responder.ended

    made: list[object] = []
    trio.run(main)
    assert seen == [0, 1, 1]
    assert made


def test_executors_and_threads_call_back() -> None:
    async def work() -> tuple[int, str]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[str] = loop.create_future()
        thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(future.set_result, "called"))
        thread.start()
        called = await future
        thread.join()
        return await loop.run_in_executor(None, lambda: 6 * 7), called

    assert in_application(work) == (42, "called")


def test_streams_and_sockets_work() -> None:
    async def echo() -> bytes:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.read())
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"x" * 1_000_000)
        writer.write_eof()
        received = await reader.read()
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return received

    assert in_application(echo) == b"x" * 1_000_000


def test_a_subprocess_works() -> None:
    async def run() -> bytes:
        process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        output, _ = await process.communicate(b"hello")
        return output

    assert in_application(run) == b"hello"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_subprocess_works_beside_the_policy_of_another_loop() -> None:
    """Applications that set uvloop's, for gunicorn or to be run alone, could start none."""

    async def run() -> bytes:
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        output, _ = await process.communicate(b"hello")
        return output

    try:
        assert in_application(run) == b"hello"
    finally:
        asyncio.set_event_loop_policy(None)


def test_trio_goes_on_while_an_application_waits_in_a_thread() -> None:
    """The loop never blocks the worker."""
    turns: list[int] = []
    blocked = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.to_thread(blocked.wait)
        await answering()(scope, receive, send)

    async def main() -> None:
        async with serving(app, loop="asyncio") as backend, trio.open_nursery() as nursery:
            nursery.start_soon(backend.handle, make_request(), RecordingResponder())
            for turn in range(3):
                await trio.lowlevel.checkpoint()
                turns.append(turn)
            blocked.set()

    trio.run(main)
    assert turns == [0, 1, 2]


def test_anyio_keeps_its_worker_threads_between_requests() -> None:
    """FastAPI's plain functions run in anyio's threads: a new one for each request would be slow."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        threads.append(await anyio.to_thread.run_sync(threading.current_thread))
        await answering()(scope, receive, send)

    async def main() -> None:
        async with serving(app, loop="asyncio") as backend:
            for _ in range(3):
                await backend.handle(make_request(), RecordingResponder())

    threads: list[threading.Thread] = []
    trio.run(main)
    assert len({id(thread) for thread in threads}) == 1
    threads[0].join(10)
    assert not threads[0].is_alive()


# --- turns


def test_a_task_that_never_waits_lets_trio_have_its_turn() -> None:
    stop: list[bool] = []

    async def spin() -> None:
        while not stop:  # noqa: ASYNC110 - never to wait is the point
            await asyncio.sleep(0)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await spin()
        await answering()(scope, receive, send)

    async def main() -> None:
        async with serving(app, loop="asyncio") as backend, trio.open_nursery() as nursery:
            nursery.start_soon(backend.handle, make_request(), RecordingResponder())
            for _ in range(10):
                await trio.lowlevel.checkpoint()
            stop.append(True)

    trio.run(main)
    assert stop == [True]


def test_an_idle_loop_costs_no_turns() -> None:
    """The stepper is parked while nothing is to be done: trio finds all tasks blocked."""

    async def main() -> None:
        async with serving(answering(), loop="asyncio") as backend:
            await backend.handle(make_request(), RecordingResponder())
            with trio.fail_after(20):
                await trio.testing.wait_all_tasks_blocked(0.01)

    trio.run(main)


# --- what goes wrong


def test_uncaught_exceptions_are_logged() -> None:
    """By the loop's exception handler, with the backend's name."""

    async def leave_failed_task() -> None:
        async def fail() -> None:
            raise ValueError("nobody asks")

        task = asyncio.create_task(fail())
        await asyncio.wait([task])
        del task
        asyncio.get_running_loop().call_soon(fail_in_callback)

    def fail_in_callback() -> None:
        raise KeyError("callback")

    with capture_logs() as logs:
        in_application(leave_failed_task)
        gc.collect()
    assert {(entry["event"], entry["backend"], type(entry["exc_info"])) for entry in logs} == {
        ("uncaught in asyncio", "api", ValueError),
        ("uncaught in asyncio", "api", KeyError),
    }


def test_a_task_that_exits_does_not_end_the_worker() -> None:
    responder = RecordingResponder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def leave() -> None:
            raise SystemExit(3)

        task = asyncio.create_task(leave())
        await asyncio.wait([task])
        assert isinstance(task.exception(), SystemExit)
        await answering()(scope, receive, send)

    async def main() -> None:
        async with serving(app, loop="asyncio") as backend:
            await backend.handle(make_request(), responder)

    with capture_logs() as logs:
        trio.run(main)
    assert responder.body == b"ok"
    assert [entry["event"] for entry in logs] == ["uncaught in asyncio"]


class Grave(BaseException):
    """What an application raises that no handler of its own shall catch."""


@pytest.mark.parametrize(
    "error", [ValueError("late"), SystemExit(1), Grave(), BaseExceptionGroup("", [Grave()])]
)
def test_work_after_the_response_does_not_hold_the_connection(error: BaseException) -> None:
    """And what goes wrong in it is logged."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answering()(scope, receive, send)
        await go[0].wait()
        raise error

    async def main() -> None:
        async with serving(app, loop="asyncio") as backend:
            go.append(backend._host.event())
            await backend.handle(make_request(b"/x"), RecordingResponder())
            gc.collect()
            go[0].set()
            await trio.testing.wait_all_tasks_blocked()

    go: list[Event] = []
    with capture_logs() as logs:
        trio.run(main)
    assert [(entry["event"], entry["path"], entry["exc_info"]) for entry in logs] == [
        ("application failed after its response", "/x", error)
    ]


def test_work_after_the_response_is_waited_for_at_the_end() -> None:
    """Within the time to stop, then it is cancelled."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answering()(scope, receive, send)
        await asyncio.sleep(2)
        done.append("short")
        await asyncio.sleep(10)
        done.append("long")

    async def main() -> None:
        async with serving(app, loop="asyncio", shutdown_timeout=5.0) as backend:
            await backend.handle(make_request(), RecordingResponder())
            began.append(trio.current_time())
        began.append(trio.current_time())

    done: list[str] = []
    began: list[float] = []
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.01))
    assert done == ["short"]
    assert began[1] - began[0] == pytest.approx(5.0, abs=0.3)


def test_an_application_that_ignores_its_cancellation_is_left_behind() -> None:
    """A stop of the daemon is never held up by it."""
    entered = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        entered.set()
        while True:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                if (await receive())["type"] == "http.disconnect":
                    left.append(True)
                    return

    async def main() -> None:
        async with serving(app, loop="asyncio", shutdown_timeout=1.0) as backend:
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(backend.handle, make_request(), RecordingResponder())
                await entered.wait()
                nursery.cancel_scope.cancel()
            waited.append(trio.current_time() - began)

    left: list[bool] = []
    waited: list[float] = []
    with capture_logs() as logs:
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.01))
    assert waited == [pytest.approx(5.0, abs=0.1)]
    assert "application ignores its cancellation" in [entry["event"] for entry in logs]


@pytest.mark.parametrize(
    ("error", "events"),
    [
        (asyncio.CancelledError(), []),
        (BaseExceptionGroup("", [asyncio.CancelledError()]), []),
        (ValueError("no"), ["application failed"]),
        (ExceptionGroup("", [ValueError("no")]), ["application failed"]),
        (BaseExceptionGroup("", [asyncio.CancelledError(), ValueError("no")]), ["application failed"]),
    ],
)
def test_what_goes_wrong_while_it_is_cancelled_is_logged(error: BaseException, events: list[str]) -> None:
    """Also in a group of tasks."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            entered.set()
            await asyncio.Event().wait()
        finally:
            raise error

    async def main() -> None:
        async with serving(app, loop="asyncio") as backend, trio.open_nursery() as nursery:

            async def ask() -> None:
                with suppress(BackendError):
                    await backend.handle(make_request(), RecordingResponder())

            nursery.start_soon(ask)
            await entered.wait()
            nursery.cancel_scope.cancel()

    entered = trio.Event()
    with capture_logs() as logs:
        trio.run(main)
    assert [entry["event"] for entry in logs] == events


def test_cancelled_before_it_began() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        called.append(True)

    async def main() -> None:
        async with serving(app, loop="asyncio") as backend:
            with trio.CancelScope() as scope:
                scope.cancel()
                await backend.handle(make_request(), RecordingResponder())
            assert scope.cancelled_caught

    called: list[bool] = []
    with freed_without_the_collector(Crossing):  # nor is the request left, with a client that has gone
        trio.run(main)
    assert called == []


def test_an_application_that_is_cancelled_may_still_receive_and_send() -> None:
    """Once it is told, and no more: what it awaits of trio in its patience comes to its end."""

    class Slow(RecordingResponder):
        def try_flush(self) -> bool:
            return False

        async def flush(self) -> None:
            await trio.lowlevel.checkpoint()

    class Late(BytesBody):
        async def read(self) -> bytes:
            await trio.lowlevel.checkpoint()
            return await super().read()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append((await receive())["body"])
            await send({"type": "http.response.body", "body": b"bye"})
            task = asyncio.current_task()
            assert task is not None
            seen.append(task.cancelling())
            raise

    async def main() -> None:
        async with serving(app, loop="asyncio") as backend, trio.open_nursery() as nursery:
            nursery.start_soon(backend.handle, make_request(body=Late(b"x", waits=True)), Slow())
            await entered.wait()
            nursery.cancel_scope.cancel()

    entered = trio.Event()
    seen: list[Any] = []
    trio.run(main)
    assert seen == [b"x", 1]


def test_what_another_task_sends_goes_on_when_the_application_has_returned() -> None:
    size = 8 * 1024 * 1024
    tasks: list[asyncio.Task[None]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        fields = [(b"content-length", b"%d" % size)]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        tasks.append(asyncio.create_task(send({"type": "http.response.body", "body": bytes(size)})))
        await asyncio.sleep(0)

    async def main() -> None:
        settings = {"asgi": published(app), "loop": "asyncio", "lifespan": "off"}
        config = {"backends": {"app": settings}, "routes": [{"backend": "app"}]}
        async with gateway_of(config) as served, await served.connect() as client:
            await client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert len(response(await read_all(client)).body) == size

    run(main)


@both_loops
def test_a_request_that_was_cancelled_is_not_kept(loop: str) -> None:
    """Nor its application's frame, on whichever loop, also where it was the first of its connection."""

    class Kept:
        pass

    async def app(scope: Any, receive: Any, send: Any) -> None:
        kept = Kept()
        entered.set()
        await anyio.sleep_forever()
        del kept

    async def main() -> None:
        async with serving(app, loop=loop) as backend:
            with freed_without_the_collector(Kept):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(backend.handle, make_request(), RecordingResponder())
                    await entered.wait()
                    nursery.cancel_scope.cancel()
                await trio.testing.wait_all_tasks_blocked()

    entered = trio.Event()
    trio.run(main)


def test_an_application_that_finishes_in_spite_of_its_cancellation() -> None:
    """Its answer counts; the cancellation is delivered at the next checkpoint."""
    responder = RecordingResponder()
    entered = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await answering()(scope, receive, send)

    async def main() -> None:
        async with serving(app, loop="asyncio") as backend, trio.open_nursery() as nursery:
            nursery.start_soon(backend.handle, make_request(), responder)
            await entered.wait()
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert responder.ended


# --- the end


def test_a_request_that_is_over_cannot_be_cancelled_by_another_that_ends_with_it() -> None:
    """Both responses are complete in one step of asyncio; what runs behind the second one goes on."""
    ended: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        gates.append(asyncio.get_running_loop().create_future())
        await gates[-1]
        await answering()(scope, receive, send)
        await asyncio.sleep(0.01)
        ended.append("behind the response")

    async def main() -> None:
        async with serving(app, loop="asyncio") as backend:
            scopes = [trio.CancelScope(), trio.CancelScope()]

            async def ask(number: int) -> None:
                with scopes[number]:
                    await backend.handle(make_request(), RecordingResponder())
                    ended.append("response")
                    scopes[1 - number].cancel()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, 0)
                nursery.start_soon(ask, 1)
                await trio.testing.wait_all_tasks_blocked(0.01)
                for gate in gates:
                    gate.set_result(None)

    gates: list[asyncio.Future[None]] = []
    trio.run(main)
    assert ended == ["response"] * 2 + ["behind the response"] * 2


def test_what_is_awaited_of_trio_has_ended_however_often_it_is_cancelled() -> None:
    """Two messages of one response would be written at the same time."""

    class Slow(RecordingResponder):
        waiting = 0

        def try_flush(self) -> bool:
            return False

        async def flush(self) -> None:
            self.waiting += 1
            try:
                if self.waiting == 1 and not self.ended:
                    await trio.sleep_forever()
            finally:
                seen.append(self.waiting)
                self.waiting -= 1

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        more = asyncio.create_task(send({"type": "http.response.body", "body": b"a", "more_body": True}))
        while not responder.waiting:  # noqa: ASYNC110
            await asyncio.sleep(0)
        while not more.done():
            more.cancel()
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"b"})

    async def main() -> None:
        async with serving(app, loop="asyncio") as backend:
            await backend.handle(make_request(), responder)

    responder = Slow()
    seen: list[int] = []
    trio.run(main)
    assert seen == [1, 1]


def test_what_is_left_running_is_cancelled_at_the_end() -> None:
    ended: list[str] = []

    async def leave_tasks() -> None:
        async def run_on() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("task")

        async def generate() -> Any:
            try:
                yield
            finally:
                ended.append("generator")

        tasks.append(asyncio.create_task(run_on()))
        generators.append(generate())
        await anext(generators[0])

    tasks: list[Any] = []
    generators: list[Any] = []
    in_application(leave_tasks)
    assert ended == ["task", "generator"]


def test_an_application_may_cancel_all_tasks_that_there_are_at_its_shutdown() -> None:
    """It was told that it had tried to stop the loop."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await send({"type": "lifespan.shutdown.complete"})

    async def main() -> None:
        async with serving(app, lifespan="on"):
            pass

    with capture_logs() as logs:
        trio.run(main)
    assert logs == []


def test_a_task_that_fails_when_cancelled_is_logged() -> None:
    async def leave_task() -> None:
        async def fail() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                raise ValueError("clean-up")

        tasks.append(asyncio.create_task(fail()))
        await asyncio.sleep(0)

    tasks: list[Any] = []
    with capture_logs() as logs:
        in_application(leave_task)
    assert [entry["event"] for entry in logs] == ["task failed while it was cancelled"]


def test_the_end_waits_for_a_busy_thread_only_so_long() -> None:
    blocked = threading.Event()

    async def leave_thread() -> None:
        asyncio.get_running_loop().run_in_executor(None, blocked.wait)

    with capture_logs() as logs:
        in_application(leave_thread, shutdown_timeout=0.01)
    blocked.set()
    assert [entry["event"] for entry in logs] == ["application ignores its end"]


def _before_close(last: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], Awaitable[None]]:
    """What has *last* run on the loop when that is closed, as channels_redis does for its connections."""

    async def wrap_close() -> None:
        loop = asyncio.get_running_loop()
        close = loop.close

        def close_behind() -> None:
            loop.run_until_complete(last())
            close()

        loop.close = close_behind  # type: ignore[method-assign]
        loops.append(loop)

    loops.clear()
    return wrap_close


loops: list[asyncio.AbstractEventLoop] = []


def test_what_a_library_has_put_before_the_close_of_the_loop_is_run() -> None:
    async def last() -> None:
        loop = asyncio.get_running_loop()
        assert sniffio.current_async_library() == "asyncio"
        ended.append(await loop.run_in_executor(own, threading.get_ident))
        await asyncio.sleep(0.01)
        ours, theirs = socket.socketpair()
        _, writer = await asyncio.open_connection(sock=ours)
        writer.close()
        await writer.wait_closed()
        assert theirs.recv(1) == b""
        theirs.close()

    ended: list[int] = []
    with ThreadPoolExecutor(1) as own, capture_logs() as logs:
        in_application(_before_close(last))
    assert len(ended) == 1
    assert loops[0].is_closed()
    assert logs == []


def test_what_fails_before_the_close_of_the_loop_is_logged() -> None:
    async def last() -> None:
        raise ValueError("connection lost")

    with capture_logs() as logs:
        in_application(_before_close(last))
    assert [entry["event"] for entry in logs] == ["the end of the loop failed"]
    assert loops[0].is_closed()


def test_what_hangs_before_the_close_of_the_loop_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def last() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(stepping, "SECONDS_AT_END", 0.01)
    with capture_logs() as logs:
        in_application(_before_close(last))
    assert [entry["event"] for entry in logs] == ["the end of the loop failed"]
    assert loops[0].is_closed()


def test_no_descriptor_is_left_open() -> None:
    async def nothing() -> None:
        pass

    in_application(nothing)
    before = _next_descriptor()
    in_application(nothing)
    assert _next_descriptor() == before


def _next_descriptor() -> int:
    with socket.socket() as probe:
        return probe.fileno()
