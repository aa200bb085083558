"""Every row of `faults`, over HTTP/1.1 and HTTP/2."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from tests.conformance.asking import GONE, Answer, ask, asking
from tests.conformance.faults import Kept, Outcome, cases, told
from tests.conformance.faulty import (
    ABSENT,
    KEEPING,
    LATE,
    SHARED,
    STARTED,
    faulty,
    name_of,
    processes,
    until_shared,
)
from tests.gateway.http2_client import entering
from tests.gateway.served import Served, gateway_of, run, until

pytestmark = pytest.mark.usefixtures("quick_sweeper")

TOKEN: Final = "token-of-the-first"


@dataclass
class Seen:
    """All that is to be seen of one request."""

    answer: Answer
    logs: list[EventDict]
    statuses: list[int]
    """In the access log."""
    reused: bool | None
    """Whether the connection to the backend served the next request."""


async def observe(fault: str, kind: str, version: str, directory: Path) -> Seen:
    """What becomes of a request, and of two after it: on its connection if that goes on, and on another."""
    before = processes()
    statuses: list[int] = []
    STARTED.clear()
    async with (
        faulty(directory, [kind]) as backends,
        gateway_of(backends.config) as accepting,
        entering(served := Served(accepting.service, None)),
    ):
        server = backends.servers.get(kind)
        await until_shared(accepting, backends)
        served.service.access_log = lambda request, status, size, seconds: statuses.append(status)

        async def runs() -> None:
            await until(lambda: bool(processes() - before) if kind == "cgi" else TOKEN in STARTED)

        with capture_logs() as logs:
            async with asking(version, served) as client:
                answer = await ask(client, fault, kind, TOKEN, runs)
                await until(lambda: len(statuses) == 1)
                connections = server.connections if server is not None else 0
                if answer.kept:
                    await client.send(f"/{kind}/fine?same", 0, b"")
                    same = await client.answer()
                    assert (same.status, same.body, same.kept) == (200, b"same", True)
                await until(lambda: processes() <= before)
            async with asking("1.1", served) as client:
                await client.send(f"/{kind}/fine?other", 0, b"")
                other = await client.answer()
                assert (other.status, other.body) == (200, b"other")
            await until(lambda: processes() <= before)
        reused = None
        if server is not None:
            keeps = kind in (*KEEPING, SHARED)
            reused = server.connections == connections
            others = kind == SHARED and fault in LATE  # of the backend without patience, which goes on
            await until(lambda: server.open == keeps + others)
            assert keeps or server.connections == connections + 1 + answer.kept
    events = [entry for entry in logs if entry["log_level"] != "debug"]
    return Seen(answer, events, statuses[:1], reused)


@pytest.mark.parametrize("version", ["1.1", "2"])
@pytest.mark.parametrize(
    ("fault", "kind", "outcome"), [pytest.param(*case, id="-".join(case[:2])) for case in cases()]
)
def test_fault(fault: str, kind: str, outcome: Outcome, version: str, tmp_path: Path) -> None:
    """haproxy#743, #886, #2499, #3425; gunicorn#840; uvicorn#1345; caddy#546, #6452; varnish-cache#4413."""
    observed: list[Seen] = []

    async def main() -> None:
        observed.append(await observe(fault, kind, version, tmp_path))

    run(main, seconds=20)
    (seen,) = observed
    check_answer(seen.answer, fault, kind, outcome, version)
    check_logs(seen, fault, kind, outcome)
    if seen.reused is not None and fault not in (*ABSENT, *LATE):
        assert seen.reused == (kind in (*KEEPING, SHARED) and outcome.backend is Kept.REUSED)


def check_answer(answer: Answer, fault: str, kind: str, outcome: Outcome, version: str) -> None:
    if fault in GONE:
        return
    assert (answer.status, answer.whole) == (outcome.status, outcome.whole)
    assert answer.kept == (version == "2" or outcome.client is Kept.REUSED)
    proxy_status = answer.header(b"proxy-status")
    if outcome.cause is None or not outcome.whole:
        assert proxy_status is None
        assert TOKEN.encode() in answer.body
        if outcome.whole:
            assert answer.body == TOKEN.encode()
    else:
        assert proxy_status == told(outcome, name_of(kind, fault))


def check_logs(seen: Seen, fault: str, kind: str, outcome: Outcome) -> None:
    failed = [] if outcome.cause is None else ["backend failed"]
    assert [entry["event"] for entry in seen.logs] == [*outcome.logs, *failed]
    for entry in seen.logs:
        assert entry["backend"] == name_of(kind, fault)
        if entry["event"] == "backend failed":
            assert outcome.cause is not None
            assert outcome.phase is not None
            assert (entry["cause"], entry["phase"]) == (outcome.cause.value, outcome.phase.value)
            assert (entry["answered"], entry["log_level"]) == (outcome.whole, "error")
            assert entry["target"] == f"/{kind}/{fault}"
    assert seen.statuses == [outcome.status]
