"""The rules ASGI-19 to ASGI-22 (starlette#177, unit#661), on both loops: in the tests' own loop where
requests matter, and of a whole daemon where its end does.
"""

import http.client
import json
import signal
from pathlib import Path
from typing import Any, Final

import pytest
import sniffio
from structlog.testing import capture_logs

from tests.conformance.asgi_client import ask, hosting, run
from tests.conformance.test_asgi_rules import answer_ok, both_loops, each, errors
from tests.gateway.test_daemon import Daemon, daemon

COMPLETE: Final = {"type": "lifespan.startup.complete"}


@each
def test_asgi_19_one_lifespan_around_all_requests_on_their_loop(loop: str, version: str) -> None:
    seen: list[tuple[str, str]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        library = sniffio.current_async_library()
        if scope["type"] == "lifespan":
            assert (await receive()) == {"type": "lifespan.startup"}
            seen.append(("startup", library))
            await send(COMPLETE)
            assert (await receive()) == {"type": "lifespan.shutdown"}
            seen.append(("shutdown", library))
            await send({"type": "lifespan.shutdown.complete"})
        else:
            seen.append(("request", library))
            await answer_ok(scope, receive, send)

    async def main() -> None:
        async with hosting(app, loop) as served:
            for _ in range(2):
                assert (await ask(served, version)).body == b"ok"

    run(main)
    assert seen == [(event, loop) for event in ("startup", "request", "request", "shutdown")]


@each
@pytest.mark.parametrize("received", [False, True], ids=["scope", "message"])
def test_asgi_20_exception_means_no_lifespan(loop: str, version: str, received: bool) -> None:
    """Complaints 51, 52: a refusal of the scope is nothing to warn of; later it may have been meant."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await answer_ok(scope, receive, send)
            return
        if received:
            await receive()
        raise ValueError("only HTTP here")

    async def main() -> None:
        async with hosting(app, loop) as served:
            assert (await ask(served, version)).body == b"ok"

    with capture_logs() as logs:
        run(main)
    (entry,) = [entry for entry in logs if "exc_info" in entry]
    assert str(entry["exc_info"]) == "only HTTP here"
    assert entry["log_level"] == ("warning" if received else "debug")
    assert errors(logs) == ([entry] if received else [])


@both_loops
@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([{}], KeyError),
        ([{"type": "lifespan.unknown"}], ValueError),
        ([{"type": "http.response.start", "status": 200}], ValueError),
        ([{"type": "lifespan.shutdown.complete"}], RuntimeError),
        ([COMPLETE, COMPLETE], RuntimeError),
        ([{"type": "lifespan.startup.failed", "message": 1}], TypeError),
    ],
)
def test_asgi_3_misuse_of_send_in_the_lifespan(
    loop: str, messages: list[dict[str, Any]], error: type[Exception]
) -> None:
    raised: list[type[Exception]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await answer_ok(scope, receive, send)
            return
        await receive()
        for message in messages:
            try:
                await send(message)
            except Exception as caught:
                raised.append(type(caught))
        if COMPLETE not in messages:
            await send(COMPLETE)
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def main() -> None:
        async with hosting(app, loop) as served:
            assert (await ask(served, "1.1")).body == b"ok"

    run(main)
    assert raised == [error]


@each
def test_asgi_22_state(loop: str, version: str) -> None:
    """A shallow copy for each request: what it adds is its own, what it changes is everybody's."""
    pool: list[str] = []
    states: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            scope["state"]["pool"] = pool
            await receive()
            await send(COMPLETE)
            await receive()
            states.append(scope["state"])
            await send({"type": "lifespan.shutdown.complete"})
            return
        states.append(dict(scope["state"]))
        scope["state"]["own"] = True
        scope["state"]["pool"].append(scope["path"])
        await answer_ok(scope, receive, send)

    async def main() -> None:
        async with hosting(app, loop) as served:
            for target in ("/a", "/b"):
                await ask(served, version, target)

    run(main)
    assert states == [{"pool": pool}] * 3
    assert pool == ["/a", "/b"]


# --- the daemon

APPLICATION: Final = """
import sys

def say(event):
    print('{"event": "%s"}' % event, file=sys.stderr, flush=True)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    else:
        if scope["path"] == "/long":
            say("reached")
            await scope["extensions"]["gateway.shutdown"]["wait"]()
            say("answered")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

async def lifespan(receive, send):
"""


def lifespan(directory: Path, loop: str, *lines: str, mode: str = "auto") -> str:
    """A configuration whose application has *lines* for a lifespan."""
    source = APPLICATION + "".join(f"    {line}\n" for line in lines)
    (directory / "lifespan_application.py").write_text(source)
    return (
        "listeners: [{http: '127.0.0.1:0'}]\n"
        f"backends: {{app: {{asgi: 'lifespan_application:app', loop: {loop}, lifespan: {mode}}}}}\n"
        "routes: [{backend: app}]\n"
    )


STARTS: Final = ("await receive()", "await send({'type': 'lifespan.startup.complete'})")


def failed(running: Daemon) -> str:
    """All that a daemon has said that could not start."""
    said: bytes = running.process.communicate(timeout=30)[1]
    assert running.process.returncode == 1
    return said.decode()


@both_loops
def test_asgi_19_no_request_before_startup_is_complete(tmp_path: Path, loop: str) -> None:
    """The daemon is ready when its applications are."""
    lines = (
        "import anyio",
        STARTS[0],
        "await anyio.sleep(0.2)",
        "say('started')",
        STARTS[1],
        "await receive()",
    )
    with daemon(tmp_path, lifespan(tmp_path, loop, *lines)) as running:
        running.ready()
        assert any('"started"' in line for line in running.lines)
        client = http.client.HTTPConnection(*running.address, timeout=20)
        client.request("GET", "/")
        assert client.getresponse().read() == b"ok"
        client.close()
        running.process.send_signal(signal.SIGTERM)
        running.end()


@both_loops
def test_asgi_20_startup_failed_ends_the_daemon(tmp_path: Path, loop: str) -> None:
    """Complaint 51: with the message, and status 1."""
    lines = (
        "await receive()",
        "await send({'type': 'lifespan.startup.failed', 'message': 'no database'})",
        "raise ValueError",
    )
    with daemon(tmp_path, lifespan(tmp_path, loop, *lines)) as running:
        said = failed(running)
    assert said.splitlines()[-1] == "gateway: backend app: the application did not start: no database"
    assert '"ready"' not in said


@both_loops
def test_asgi_20_exception_at_the_start_of_one_that_is_on(tmp_path: Path, loop: str) -> None:
    """Complaint 51: with its traceback."""
    lines = ("await receive()", "raise LookupError('no settings')")
    with daemon(tmp_path, lifespan(tmp_path, loop, *lines, mode="on")) as running:
        said = failed(running)
    assert "gateway: backend app: the application did not start: LookupError('no settings')" in said
    assert "Traceback" in said
    assert "lifespan_application.py" in said


@both_loops
def test_complaint_51_failure_after_the_startup_ends_the_daemon(tmp_path: Path, loop: str) -> None:
    lines = (*STARTS, "import anyio", "await anyio.sleep(0.1)", "raise LookupError('lost')")
    with daemon(tmp_path, lifespan(tmp_path, loop, *lines)) as running:
        said = failed(running)
    assert "gateway: backend app: the application's lifespan failed: LookupError('lost')" in said


@both_loops
@pytest.mark.parametrize("outcome", ["complete", "failed"])
def test_asgi_21_shutdown_comes_last_and_is_waited_for(tmp_path: Path, loop: str, outcome: str) -> None:
    """After the last request, and the connections."""
    lines = (
        *STARTS,
        "await receive()",
        "say('shutting down')",
        "import anyio",
        "await anyio.sleep(0.1)",
        f"await send({{'type': 'lifespan.shutdown.{outcome}', 'message': 'half done'}})",
        "say('shut down')",
    )
    with daemon(tmp_path, lifespan(tmp_path, loop, *lines)) as running:
        running.ready()
        client = http.client.HTTPConnection(*running.address, timeout=20)
        client.request("GET", "/long")
        running.wait_for('"reached"')
        running.process.send_signal(signal.SIGTERM)
        assert client.getresponse().read() == b"ok"
        logged = running.end()
        client.close()
    events = [json.loads(line)["event"] for line in logged.splitlines()]
    wanted = ["answered", "shutting down", "shut down"]
    assert [event for event in events if event in wanted] == wanted
    assert ("half done" in logged) == (outcome == "failed")


@both_loops
def test_complaint_52_django_starts_without_a_word(tmp_path: Path, loop: str) -> None:
    """It refuses the scope, as the specification allows: no line of the log is about that."""
    config = lifespan(tmp_path, loop, "raise ValueError('Django can only handle HTTP')")
    with daemon(tmp_path, config) as running:
        running.ready()
        running.process.send_signal(signal.SIGTERM)
        assert "Django can only" not in running.end()
