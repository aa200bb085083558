"""Every row of `spawned_faults`, over HTTP/1.1 and HTTP/2; what a death does to requests beside it.

Nothing is left of any: no descriptor, task, process, or directory of a socket. That no request fails while
processes are replaced under load is in ``tests/gateway/spawn/test_lifecycle.py``.
"""

import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from structlog.testing import capture_logs

from gateway.backends.application import ApplicationBackend
from gateway.backends.http import HttpBackend
from gateway.hosted.backend import HostedBackend
from tests.conformance.asking import Answer, asking
from tests.conformance.faults import Kept, Outcome, told
from tests.conformance.faulty import processes
from tests.conformance.spawned_faults import COMMANDS, KINDS, RUNNING, STARTING, Fate, Row, backend, rows
from tests.gateway.http2_client import entering
from tests.gateway.served import Log, Served, gateway_of, run, soon

pytestmark = pytest.mark.usefixtures("quick_sweeper")

TOKEN: Final = "token-of-the-first"
SECONDS: Final = 60
"""For all of a test: processes are started, on a machine that may be busy."""


@pytest.fixture(autouse=True)
def _homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Directories of sockets are made here, and none is left."""
    homes = tmp_path / "homes"
    homes.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(homes))
    before = processes()
    yield
    assert list(homes.iterdir()) == []
    assert processes() <= before


@asynccontextmanager
async def gateway(
    fault: str, kind: str, directory: Path, **options: Any
) -> AsyncIterator[tuple[Served, Log]]:
    """With the application; how requests reach it, and what is logged."""
    log = Log()
    config = {
        "backends": {"app": {**backend(fault, kind, directory), **options}},
        "routes": [{"backend": "app"}],
    }
    with capture_logs(processors=[log]):
        async with gateway_of(config) as accepting, entering(served := Served(accepting.service, None)):
            yield served, log


async def served_by(served: Served) -> int:
    """The process that answers a plain request, as soon as one does."""
    while True:
        async with asking("1.1", served) as client:
            await client.send("/fine?other", 0, b"")
            answer = await client.answer()
        if answer.status == 200:
            assert answer.body == b"other"
            return int(answer.header(b"x-process") or b"0")
        assert answer.status == 504  # it is being started


async def ask(served: Served, version: str, fault: str) -> Answer:
    """The answer to the request of a fault; on its connection another one follows, if that goes on."""
    async with asking(version, served) as client:
        await client.send(f"/{fault}?{TOKEN}", int(fault == "dies-in-body"), b"")
        if fault == "dies-in-body":
            await client.until_received(TOKEN)
            await client.send_body(b"x")
        answer = await client.answer()
        if answer.kept:
            await client.send("/fine?same", 0, b"")
            assert (await client.answer()).kept
    return answer


def check(answer: Answer, outcome: Outcome, log: Log, fault: str, version: str) -> None:
    """What the client and the log are told."""
    assert (answer.status, answer.whole) == (outcome.status, outcome.whole)
    assert answer.kept == (version == "2" or outcome.client is Kept.REUSED)
    assert answer.header(b"proxy-status") == (told(outcome, "app") if outcome.whole else None)
    (failed,) = [entry for entry in log["backend failed"] if entry["target"] == f"/{fault}"]
    assert outcome.cause is not None
    assert outcome.phase is not None
    assert (failed["cause"], failed["phase"]) == (outcome.cause.value, outcome.phase.value)
    assert (failed["backend"], failed["answered"]) == ("app", outcome.whole)
    assert failed["log_level"] == "error"


def _id(value: Any) -> str:
    return value.fault if isinstance(value, Row) else str(value)


@pytest.mark.parametrize("version", ["1.1", "2"])
@pytest.mark.parametrize(("row", "kind"), rows(RUNNING), ids=_id)
def test_fault_of_a_running_process(row: Row, kind: str, version: str, tmp_path: Path) -> None:
    """14.3, 14.4; Plack#238, mongoose#586."""

    async def main() -> None:
        async with gateway(row.fault, kind, tmp_path) as (served, log):
            before = await served_by(served)
            answer = await ask(served, version, row.fault)
            check(answer, row.outcome, log, row.fault, version)
            after = await served_by(served)
            if row.fate is Fate.REPLACED:
                await soon(lambda: bool(log["application process ended"]))
                (ended,) = log["application process ended"]
                assert ended["pid"] == before != after
                assert ended["end"] == "signal 9 (SIGKILL)"
            else:
                assert row.fate is Fate.FROZEN
                assert log["application process ended"] == []
            for event in row.processes:
                assert log[event]
        if row.fate is Fate.FROZEN:
            ends = {entry["end"] for entry in log["application process stopped"]}
            assert "signal 9 (SIGKILL)" in ends or not ends

    run(main, seconds=SECONDS)


@pytest.mark.parametrize("version", ["1.1", "2"])
@pytest.mark.parametrize(("row", "kind"), rows(STARTING), ids=_id)
def test_fault_of_a_start(
    row: Row, kind: str, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mongoose#586."""
    # As after many deaths.
    monkeypatch.setattr("gateway.programs.restarts.FIRST_PAUSE", 0.02 if row.fault == "vanishes" else 60.0)
    monkeypatch.setattr("gateway.programs.restarts.LONGEST_PAUSE", 60.0)

    async def main() -> None:
        async with gateway(row.fault, kind, tmp_path) as (served, log):
            if row.fault not in ("never-listens", "never-accepts"):
                await soon(lambda: all(log[event] for event in row.processes))
            answer = await ask(served, version, row.fault)
            check(answer, row.outcome, log, row.fault, version)
            await soon(lambda: all(log[event] for event in row.processes))
            if row.fault in ("exits", "vanishes"):
                assert 1 <= int(answer.header(b"retry-after") or b"0") <= 60

    run(main, seconds=SECONDS)


# ---- what a death does to others


@pytest.mark.parametrize("kind", [*KINDS, "fastcgi-kept"])
def test_death_between_requests_is_not_noticed(kind: str, tmp_path: Path) -> None:
    """E10: the next request waits for the next process; a kept connection that is dead is replaced."""
    options = {"keep_connection": True} if kind == "fastcgi-kept" else {}
    kind = "wsgi-fastcgi" if kind == "fastcgi-kept" else kind

    async def main() -> None:
        async with gateway("", kind, tmp_path, **options) as (served, log):
            first = await served_by(served)
            await soon(lambda: requests_of(served) == 0)
            os.kill(first, signal.SIGKILL)
            await soon(lambda: bool(log["application process ended"]))
            async with asking("1.1", served) as client:
                await client.send("/fine?next", 0, b"")
                answer = await client.answer()
            assert (answer.status, answer.body) == (200, b"next")
            assert answer.header(b"x-process") != b"%d" % first
            assert log["backend failed"] == []
            (ended,) = log["application process ended"]
            assert (ended["pid"], ended["end"]) == (first, "signal 9 (SIGKILL)")

    run(main, seconds=SECONDS)


@pytest.mark.parametrize("kind", COMMANDS)
def test_death_takes_only_the_request_that_the_process_had(kind: str, tmp_path: Path) -> None:
    """Those that wait in the queue of the socket are answered by the process that takes its place."""
    waiting = 5

    async def fine(served: Served, number: int) -> None:
        async with asking("1.1", served) as client:
            await client.send(f"/fine?{number}", 0, b"")
            answer = await client.answer()
        assert (answer.status, answer.body) == (200, b"%d" % number)

    async def main() -> None:
        async with gateway("", kind, tmp_path) as (served, log):
            async with asking("1.1", served) as client, trio.open_nursery() as nursery:
                await client.send(f"/dies-in-body?{TOKEN}", 1, b"")
                await client.until_received(TOKEN)
                for number in range(waiting):
                    nursery.start_soon(fine, served, number)
                await soon(lambda: requests_of(served) == 1 + waiting)
                await client.send_body(b"x")
                answer = await client.answer()
                assert not answer.whole
            assert len(log["backend failed"]) == 1
            assert len(log["application process ended"]) == 1

    run(main, seconds=SECONDS)


def requests_of(served: Served) -> int:
    """Those that the application has, as the gateway sees it."""
    (route,) = served.service.router.routes
    assert isinstance(route.handler, ApplicationBackend | HttpBackend | HostedBackend)
    return sum(server.in_flight for server in route.handler._upstream.snapshot().servers)
