"""Applications on the asyncio loop inside the daemon: clients, drivers, threads, processes, errors."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.conftest import CHECKOUT, Gateway, RunGateway

CONFIG = """
backends: {{app: {{asgi: "asyncio_app:app", directory: ., lifespan: on, {options}}}}}
routes: [{{backend: app}}]
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the application is imported from."""
    made = tmp_path_factory.mktemp("asyncio")
    shutil.copy(CHECKOUT / "tests/peers/apps/asyncio_app.py", made)
    return made


@pytest.fixture(scope="module")
def gateway(directory: Path, run_gateway: RunGateway) -> Iterator[Gateway]:
    with run_gateway(directory, CONFIG.format(options=""), expect=["uncaught in asyncio"]) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("hello", "'hello'"),
        ("with_aiohttp", str(["'hello'"] * 5)),
        ("with_httpx", str(["'hello'"] * 5)),
        ("with_a_protocol", "'6000000 bytes'"),
        ("with_a_subprocess", "(b'x', 3)"),
        ("with_a_timeout", "'in time'"),
        ("with_a_task_group", """["ValueError('one')", 'True']"""),
        ("with_anyio", """["'hello'", 'True']"""),
        ("with_asgiref", "('same loop', True)"),
        ("with_a_context", "['nothing', 'something']"),
    ],
)
def test_works_as_on_any_loop(gateway: Gateway, path: str, said: str) -> None:
    # Twice on one connection: nothing of the first is seen by the second.
    connection = gateway.connect()
    for _ in range(2):
        connection.request("GET", f"/{path}")
        assert connection.getresponse().read().decode() == said
    connection.close()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("stop", "RuntimeError('the loop belongs to the gateway: an application cannot stop it')"),
        ("close", "RuntimeError('Cannot close a running event loop')"),
        ("run_until_complete", "RuntimeError('This event loop is already running')"),
        (
            "have_a_signal_handler",
            "NotImplementedError(\"signals are the gateway's: an application is told of the end by"
            ' lifespan.shutdown")',
        ),
        (
            "stop_from_a_thread",
            "['the loop belongs to the gateway: an application cannot stop it', 'Cannot close a running event"
            " loop', 'This event loop is already running']",
        ),
    ],
)
def test_misuse_of_the_loop_is_an_error_and_not_the_end(gateway: Gateway, path: str, said: str) -> None:
    assert gateway.get(f"/{path}").text == said
    assert gateway.get("/hello").text == "'hello'"


def test_what_nobody_awaits_is_logged(gateway: Gateway) -> None:
    gateway.get("/fail_in_a_callback")
    gateway.get("/fail_in_a_task")
    for said in ("ValueError: callback", "ValueError: task"):
        event = json.loads(gateway.wait_for(lambda line: said in line))  # noqa: B023 - called at once
        assert (event["event"], event["backend"]) == ("uncaught in asyncio", "app")


@pytest.mark.parametrize(
    ("options", "env"), [("asyncio_debug: true", {}), ("", {"PYTHONASYNCIODEBUG": "1"})], ids=["key", "env"]
)
def test_debug_mode_tells_of_slow_steps(
    directory: Path, run_gateway: RunGateway, options: str, env: dict[str, str]
) -> None:
    with run_gateway(
        directory, CONFIG.format(options=options), expect=["asyncio", "uncaught in asyncio"], env=env
    ) as gateway:
        assert gateway.get("/block_the_loop").text == "None"
        said = json.loads(gateway.wait_for(lambda line: "Executing " in line and " took " in line))
        assert (said["level"], said["logger"]) == ("warning", "asyncio")
        assert "asyncio_app.py" in said["event"] or "crossing.py" in said["event"]
        gateway.get("/fail_in_a_callback")
        failed = json.loads(gateway.wait_for(lambda line: "ValueError: callback" in line))
        assert "asyncio_app.py" in failed["source_traceback"]


def test_what_is_left_running_is_ended_in_order(
    directory: Path, run_gateway: RunGateway, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    with (
        said.open("wb") as stdout,
        run_gateway(directory, CONFIG.format(options=""), stdout=stdout) as gateway,
    ):
        assert gateway.get("/leave_everything").text == "None"
    assert said.read_text().splitlines() == ["thread ran", "task cancelled", "generator closed"]


def test_a_thread_that_never_ends_does_not_hold_the_daemon(directory: Path, run_gateway: RunGateway) -> None:
    """The executor has its time; then the daemon ends without it, with its status."""
    config = CONFIG.format(options="shutdown_timeout: 200ms") + "timeouts: {shutdown: 200ms}\n"
    troubles = ["application ignores its end", "threads are left behind"]
    with run_gateway(directory, config, expect=troubles, last="threads are left behind") as gateway:
        assert gateway.get("/leave_a_stuck_thread").text == "None"
    (left,) = gateway.events("threads are left behind")
    assert [name for name in left["threads"] if name.startswith("app")]
