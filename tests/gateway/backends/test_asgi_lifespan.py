"""Startup and shutdown, on both loops."""

from typing import Any

import anyio
import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from gateway.config.backends.python import ASGIBackend
from tests.gateway.backends.asgi_harness import (
    answering,
    both_loops,
    make_backend,
    serving,
    start_error,
    start_failure,
)
from tests.gateway.conftest import RecordingResponder, make_request
from tests.gateway.served import pumping

COMPLETE = {"type": "lifespan.startup.complete"}


class Silent(Exception):
    def __repr__(self) -> str:
        raise ValueError("no words")


def lifespan(*steps: Any, http: Any = None, seen: list[Any] | None = None) -> Any:
    """An application whose lifespan receives (None), sends (a message) or raises, step by step."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await (http or answering())(scope, receive, send)
            return
        for step in steps:
            if step is None:
                message = await receive()
                if seen is not None:
                    seen.append(message["type"])
            elif isinstance(step, BaseException):
                raise step
            else:
                await send(step)

    return app


def run_once(app: Any, **options: Any) -> RecordingResponder:
    """Start, one request, stop."""
    responder = RecordingResponder()

    async def main() -> None:
        async with serving(app, **options) as backend:
            await backend.handle(make_request(), responder)

    trio.run(main)
    return responder


def levels(logs: Any) -> list[str]:
    return [entry["log_level"] for entry in logs]


@both_loops
@pytest.mark.parametrize("mode", ["auto", "on"])
def test_startup_comes_before_and_shutdown_after_the_requests(loop: str, mode: str) -> None:
    """ASGI-19, ASGI-21."""

    async def http(scope: Any, receive: Any, send: Any) -> None:
        seen.append("http")
        await answering()(scope, receive, send)

    seen: list[str] = []
    app = lifespan(None, COMPLETE, None, {"type": "lifespan.shutdown.complete"}, http=http, seen=seen)
    with capture_logs() as logs:
        run_once(app, loop=loop, lifespan=mode)
    assert seen == ["lifespan.startup", "http", "lifespan.shutdown"]
    assert logs == []


@both_loops
def test_lifespan_scope_and_state(loop: str) -> None:
    """ASGI-2, ASGI-22: each request has a shallow copy of the lifespan's state."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            assert scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}
            scope["state"]["pool"] = pool
            await receive()
            await send(COMPLETE)
            await receive()
            ended.append(scope["state"])
        else:
            assert scope["state"]["pool"] is pool
            scope["state"]["mine"] = True
            await answering()(scope, receive, send)

    pool = object()
    ended: list[Any] = []
    responder = run_once(app, loop=loop, lifespan="on")
    assert responder.body == b"ok"
    assert ended == [{"pool": pool}]


@both_loops
def test_off_never_calls_it(loop: str) -> None:
    seen: list[str] = []
    run_once(lifespan(None, seen=seen), loop=loop, lifespan="off")
    assert seen == []


@both_loops
@pytest.mark.parametrize(
    ("steps", "level"),
    [
        ([ValueError("only HTTP")], "debug"),
        ([{"type": "http.response.start", "status": 200}], "debug"),
        ([None, ValueError("KeyError: body")], "warning"),
    ],
    ids=["refuses the scope", "sends HTTP", "fails at the message"],
)
def test_auto_goes_on_without_lifespan(loop: str, steps: list[Any], level: str) -> None:
    """ASGI-20, starlette#177, unit#661: an expected refusal is a debug line, with the exception."""
    with capture_logs() as logs:
        responder = run_once(lifespan(*steps), loop=loop, lifespan="auto")
    assert responder.body == b"ok"
    (entry,) = logs
    assert entry["log_level"] == level
    assert isinstance(entry["exc_info"], ValueError)


@both_loops
def test_auto_accepts_a_lifespan_that_returns(loop: str) -> None:
    assert run_once(lifespan(), loop=loop, lifespan="auto").body == b"ok"


@both_loops
@pytest.mark.parametrize("mode", ["auto", "on"])
def test_startup_failed_stops_the_start(loop: str, mode: str) -> None:
    """ASGI-20: with the application's message; frameworks raise after it."""
    app = lifespan(None, {"type": "lifespan.startup.failed", "message": "no database"}, ValueError("again"))
    message = trio.run(lambda: start_error(app, loop=loop, lifespan=mode))
    assert message == "backend api: the application did not start: no database"


@both_loops
def test_startup_that_failed_is_waited_for_no_longer(loop: str) -> None:
    """The error was told after shutdown_timeout only, when the application stayed."""

    async def main() -> None:
        assert (
            await start_error(app, loop=loop, lifespan="on")
            == "backend api: the application did not start: no database"
        )
        assert trio.current_time() < started_at + 1

    app = lifespan(None, {"type": "lifespan.startup.failed", "message": "no database"}, None, None)
    started_at = 0.0
    with capture_logs() as logs:
        on_virtual_time(main)
    assert logs == []


@both_loops
@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([ValueError("bug")], "ValueError('bug')"),
        ([KeyboardInterrupt()], "KeyboardInterrupt()"),
        ([GeneratorExit()], "GeneratorExit()"),
        ([Silent()], "Silent: repr() of it failed: ValueError"),
        ([None], "it returned without completing its startup"),
    ],
    ids=["raises", "raises an interrupt", "raises an exit", "raises what cannot be shown", "returns"],
)
def test_on_needs_a_completed_startup(loop: str, steps: list[Any], reason: str) -> None:
    """Complaint 51: no start-up error is hidden."""
    message = trio.run(lambda: start_error(lifespan(*steps), loop=loop, lifespan="on"))
    assert message == f"backend api: the application did not start: {reason}"


@both_loops
def test_a_lifespan_may_wait_again(loop: str) -> None:
    """One that looks for the shutdown now and then was never told of it."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(await receive())
        with anyio.move_on_after(0):
            await receive()
        await send(COMPLETE)
        seen.append(await receive())
        await send({"type": "lifespan.shutdown.complete"})
        with anyio.move_on_after(0):
            seen.append(await receive())

    async def main() -> None:
        async with serving(app, loop=loop, lifespan="on", shutdown_timeout=5.0):
            pass

    trio.run(main)
    assert [message["type"] for message in seen] == ["lifespan.startup", "lifespan.shutdown"]


@both_loops
def test_a_lifespan_that_fails_later_ends_the_backend(loop: str) -> None:
    """Complaints 49 and 51: after the startup was answered errors are real."""
    error = ValueError("lost")
    with capture_logs() as logs:
        message = trio.run(lambda: start_error(lifespan(None, COMPLETE, error), loop=loop, lifespan="auto"))
    assert message == "backend api: the application's lifespan failed: ValueError('lost')"
    assert [entry["exc_info"] for entry in logs] == [error]


@both_loops
def test_a_lifespan_may_return_early(loop: str) -> None:
    with capture_logs() as logs:
        assert run_once(lifespan(None, COMPLETE), loop=loop, lifespan="on").body == b"ok"
    assert logs == []


@both_loops
@pytest.mark.parametrize(
    ("steps", "event"),
    [
        ([{"type": "lifespan.shutdown.failed", "message": "x"}], "application failed to shut down"),
        ([ValueError("bug")], "lifespan failed"),
    ],
    ids=["says so", "raises"],
)
def test_a_failed_shutdown_is_logged(loop: str, steps: list[Any], event: str) -> None:
    """ASGI-21: it ends all the same."""
    with capture_logs() as logs:
        run_once(lifespan(None, COMPLETE, None, *steps), loop=loop, lifespan="on")
    assert [entry["event"] for entry in logs] == [event]


@both_loops
@pytest.mark.parametrize(
    ("steps", "error"),
    [
        ([{"type": "lifespan.shutdown.complete"}], RuntimeError),
        ([COMPLETE, COMPLETE], RuntimeError),
        ([{"type": "lifespan.unknown"}], ValueError),
        ([{"type": "lifespan.startup.failed", "message": b"bytes"}], TypeError),
    ],
)
def test_rejects_wrong_messages(loop: str, steps: list[Any], error: type[Exception]) -> None:
    """ASGI-3."""
    with capture_logs() as logs:
        failure = trio.run(lambda: start_failure(lifespan(*steps), loop=loop, lifespan="on"))
    if steps[0] == COMPLETE:  # it had started
        assert [type(entry["exc_info"]) for entry in logs] == [error]
    else:
        assert logs == []
        assert f"\n{error.__name__}: " in failure.log_fields()["exception"]


def on_virtual_time(function: Any) -> None:
    trio.run(function, clock=trio.testing.MockClock(autojump_threshold=0.01))


@both_loops
def test_startup_has_a_time_limit(loop: str) -> None:
    app = lifespan(None, None)

    async def main() -> None:
        messages.append(await start_error(app, loop=loop, lifespan="on", startup_timeout=5.0))
        ended_at.append(trio.current_time())

    messages: list[str] = []
    ended_at: list[float] = []
    started_at = 0.0
    on_virtual_time(main)
    assert messages == [
        "backend api: the application did not complete its startup within 5 s (startup_timeout)"
    ]
    assert ended_at[0] - started_at == pytest.approx(5.0, abs=0.5)


def test_startup_takes_as_long_as_it_takes() -> None:
    """Models are loaded and databases migrated then: two minutes here, and the configuration says nothing."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        with trio.move_on_after(120):
            await receive()
        await send(COMPLETE)
        await receive()

    async def main() -> None:
        unsaid = ASGIBackend.model_validate({"asgi": "main:app"}).startup_timeout
        async with serving(app, loop="trio", lifespan="on", startup_timeout=unsaid):
            started.append(True)

    started: list[bool] = []
    with capture_logs() as logs:
        on_virtual_time(main)
    assert started == [True]
    assert {entry["event"] for entry in logs} <= {
        "application is still starting",
        "application took long starting",
    }


@both_loops
def test_shutdown_has_a_time_limit(loop: str) -> None:
    async def main() -> None:
        async with serving(app, loop=loop, lifespan="on", shutdown_timeout=5.0):
            started_at.append(trio.current_time())
        assert trio.current_time() - started_at[0] == pytest.approx(5.0, abs=0.5)

    app = lifespan(None, COMPLETE, None, None)
    started_at: list[float] = []
    with capture_logs() as logs:
        on_virtual_time(main)
    assert [entry["event"] for entry in logs] == ["application did not shut down in time"]


@both_loops
def test_start_that_is_not_wanted_any_more_ends(loop: str) -> None:
    """At whichever checkpoint it hears of it, the first among them."""
    started = 0

    async def start(checkpoints: int) -> None:
        async with pumping() as pump, trio.open_nursery() as backends:
            backends.start_soon(cancel_after, checkpoints, backends.cancel_scope)
            await backends.start(make_backend(lifespan(None, COMPLETE, None), pump, loop=loop).run)
            nonlocal started
            started += 1
            await trio.Event().wait()

    async def cancel_after(checkpoints: int, scope: trio.CancelScope) -> None:
        for _ in range(checkpoints):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    checkpoints = 0
    while not started:
        trio.run(start, checkpoints)
        checkpoints += 1
