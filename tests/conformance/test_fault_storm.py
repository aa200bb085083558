"""Faults of `faults` after and beside each other, all kinds behind one gateway: nothing is left of them.

Each request has a token of its own. Whatever comes back for it holds no other (14.4). The requests are drawn
at random, the same in each run: ``FAULT_STORM_SEED`` draws others, ``FAULT_STORM`` says how many.
"""

import os
import random
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import trio
from structlog.testing import capture_logs

from gateway.backends.ajp import AjpBackend
from gateway.backends.application import ApplicationBackend
from gateway.backends.http import HttpBackend
from gateway.upstream.server import ServerState
from tests.conformance.asking import GONE, Answer, Asking, ask, asking
from tests.conformance.faults import Kept, Outcome, cases
from tests.conformance.faulty import (
    GATES,
    KEEPING,
    KINDS,
    SHARED,
    SOCKETS,
    Faulty,
    faulty,
    processes,
    until_shared,
)
from tests.gateway.http2_client import entering
from tests.gateway.served import Served, descriptors, gateway_of, run, until

COUNT: Final = int(os.environ.get("FAULT_STORM", "1000"))
SEED: Final = int(os.environ.get("FAULT_STORM_SEED", "14"))
CLIENTS: Final = ("1.1", "2", "1.1", "2")
LARGE_BODY: Final = 300_000
"""Bytes of unknown length that go to a file before the backend sees them."""
TOKEN: Final = re.compile(rb"token-\d+-\d+-end")


@dataclass(frozen=True)
class Step:
    """One request."""

    fault: str
    kind: str
    outcome: Outcome
    token: str
    uploads: bool
    """The body is large, and its length is not said."""
    patience: int
    """Turns of the loop after which a client leaves."""


def steps() -> Iterator[Step]:
    draw = random.Random(SEED)
    # A connection that ends is the end of others on it, too: they have other outcomes then.
    table = [case for case in cases() if case[1] != SHARED or case[2].backend is Kept.REUSED]
    for number in range(COUNT):
        fault, kind, outcome = draw.choice(table)
        token = f"token-{number}-{draw.randrange(10**9)}-end"
        uploads = fault == "fine" and draw.random() < 0.5
        yield Step(fault, kind, outcome, token, uploads, draw.randrange(60))


async def take(client: Asking, step: Step) -> bool:
    """One request; whether the connection goes on."""
    if step.uploads:
        await client.upload(f"/{step.kind}/fine?{step.token}", b"x" * LARGE_BODY)
        answer = await client.answer()
    else:

        async def leaves() -> None:
            for _ in range(step.patience):
                await trio.lowlevel.checkpoint()

        answer = await ask(client, step.fault, step.kind, step.token, leaves)
        del GATES[step.token]
    check(answer, step)
    return answer.kept


def check(answer: Answer, step: Step) -> None:
    came = b"".join(name + value for name, value in answer.headers) + answer.body
    assert set(TOKEN.findall(came)) <= {step.token.encode()}, step
    if step.fault in GONE:
        return
    assert (answer.status, answer.whole) == (step.outcome.status, step.outcome.whole), step
    if answer.whole and step.outcome.cause is None:
        assert answer.body == step.token.encode(), step


async def work(version: str, served: Served, plan: Iterator[Step]) -> None:
    """Take steps, on one connection as long as it goes on."""
    step = next(plan, None)
    while step is not None:
        async with asking(version, served) as client:
            kept = True
            while kept and step is not None:
                kept = await take(client, step)
                step = next(plan, None)


async def ask_each(served: Served) -> None:
    """Something plain of each kind."""
    async with asking("1.1", served) as client:
        for kind in (*KINDS, SHARED):
            await client.send(f"/{kind}/fine?{kind}", 0, b"")
            answer = await client.answer()
            assert (answer.status, answer.body, answer.kept) == (200, kind.encode(), True)


def servers_of(served: Served) -> dict[str, list[ServerState]]:
    """Those of each kind, as its backends see them; nobody waits for one."""
    found: dict[str, list[ServerState]] = {kind: [] for kind in (*SOCKETS, SHARED)}
    for backend in {id(route.handler): route.handler for route in served.service.router.routes}.values():
        if isinstance(backend, ApplicationBackend | AjpBackend | HttpBackend):
            state = backend._upstream.snapshot()
            assert not state.queued
            assert not state.held
            found[backend.name.partition("-")[0]] += state.servers
    return found


def is_quiet(served: Served, backends: Faulty) -> bool:
    """Nobody is asked anything, and who keeps connections has as many as the gateway."""
    for kind, servers in servers_of(served).items():
        idle = sum(server.idle for server in servers)
        if any(server.in_flight for server in servers) or backends.servers[kind].open != idle:
            return False
        assert idle <= (len(CLIENTS) if kind in (*KEEPING, SHARED) else 0)
    return True


@pytest.mark.usefixtures("quick_sweeper")
def test_nothing_is_left_of_a_thousand_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """14.3, 14.4; caddy#1084, haproxy#886, haproxy#3425, gunicorn#840, uvicorn#1345, mongoose#586."""
    spools = tmp_path / "spools"
    spools.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spools))
    monkeypatch.setenv("TMPDIR", str(spools))
    children = processes()

    async def main() -> None:
        async with faulty(tmp_path, (*KINDS, SHARED)) as backends, gateway_of(backends.config) as served:
            entered = Served(served.service, None)
            async with entering(entered):
                await until_shared(served, backends)
                before = left(served)
                plan = steps()
                with capture_logs() as logs:
                    async with trio.open_nursery() as nursery:
                        for version in CLIENTS:
                            nursery.start_soon(work, version, entered, plan)
                    await until(lambda: processes() <= children)
                    await until(lambda: is_quiet(served, backends))
                    await until(lambda: left(served) == before)
                assert "request crashed" not in {entry["event"] for entry in logs}
                assert not list(spools.iterdir())
                await ask_each(entered)

    run(main, seconds=300)


def left(served: Served) -> tuple[int, int]:
    """Descriptors and tasks, without those of pooled connections, of which both ends are here."""
    servers = servers_of(served)
    idle = sum(server.idle for each in servers.values() for server in each)
    tasks = idle + 2 * sum(server.idle for server in servers[SHARED])  # `SharedConnection.run`
    return descriptors() - 2 * idle, trio.lowlevel.current_statistics().tasks_living - tasks
