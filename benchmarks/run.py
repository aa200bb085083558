"""Rounds: start a server, check its answer, warm it up, put it under load, measure, stop; then the next.

:func:`run` yields what it is about to do, so that somebody can watch, and fills in :class:`Outcome` per
server. A server that does not start is not tried again.
"""

import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks import measure
from benchmarks.backends import Backend, BuildError
from benchmarks.load import LoadError, idle
from benchmarks.peers import Need, Peer, Place
from benchmarks.process import HOST, StartError, cores, free_port, pinned, running
from benchmarks.scenarios import Scenario

WARM_UP: Final = 1
"""Seconds of load before the measured run."""

_WATCH: Final = 0.3
"""Seconds, before the load, in which the cores should be idle: thirty clock ticks."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How thoroughly to measure."""

    rounds: int
    seconds: int
    connections: int


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run of one server."""

    requests_per_second: float
    bytes_per_second: float
    """Heads included."""
    cpu_per_request: float
    """Seconds of user and system time."""
    p50: float
    """Seconds."""
    p99: float
    """Seconds."""
    memory: measure.Memory
    """At the end of the load."""
    memory_per_connection: float
    """Resident bytes for each idle connection of the scenario; meaningless without any."""
    start: float
    """Seconds from the start of the server to its first right answer."""
    disturbance: float
    """The share of the time for which the busier core was busy before the load, with work of others."""
    problems: tuple[str, ...]
    """Why the figures are invalid."""


@dataclass(slots=True)
class Outcome:
    """What became of one server in a scenario."""

    server: str
    version: str = ""
    missing: list[Need] = field(default_factory=list)
    failure: str = ""
    """Why it could not be measured."""
    runs: dict[int, Run] = field(default_factory=dict)
    """By round, from 0."""

    @property
    def valid_runs(self) -> dict[int, Run]:
        """The runs without problems."""
        return {number: run for number, run in self.runs.items() if not run.problems}


@dataclass(slots=True)
class Result:
    """What became of a scenario."""

    scenario: Scenario
    connections: int
    missing: list[Need] = field(default_factory=list)
    """Without which nothing can be compared."""
    failure: str = ""
    """Why nothing could be compared."""
    outcomes: list[Outcome] = field(default_factory=list)

    def outcome(self, server: str) -> Outcome | None:
        """What became of *server*, if it takes part."""
        return next((outcome for outcome in self.outcomes if outcome.server == server), None)


def run(
    scenario: Scenario, plan: Plan, wanted: Collection[str] | None, tell: Callable[[str], None]
) -> Result:
    """Compare the servers of *scenario*: the gateway and its *wanted* peers, by default all.

    *tell* is told what happens now.
    """
    result = Result(scenario, min(plan.connections, scenario.most_connections), scenario.missing())
    servers = [
        peer for peer in scenario.servers if peer is scenario.gateway or wanted is None or peer.name in wanted
    ]
    present: list[tuple[Peer, Outcome]] = []
    for peer in servers:
        outcome = Outcome(peer.name, missing=peer.missing())
        result.outcomes.append(outcome)
        if not outcome.missing:
            outcome.version = peer.version()
            present.append((peer, outcome))
    if result.missing:
        return result
    try:
        with _bench(scenario, result.connections) as bench:
            for number in range(plan.rounds):
                for peer, outcome in present:
                    if not outcome.failure:
                        tell(f"{scenario.name}, round {number + 1} of {plan.rounds}: {peer.name}")
                        _try(bench, peer, outcome, number, plan.seconds)
    except (StartError, BuildError) as error:
        result.failure = str(error)
    return result


@dataclass(frozen=True, slots=True)
class _Bench:
    """A scenario with its content in place and its backend running."""

    scenario: Scenario
    directory: Path
    content: Path
    backend: str
    connections: int
    body: bytes

    def place(self, port: int) -> Place:
        """A new private directory below the bench's."""
        directory = Path(tempfile.mkdtemp(dir=self.directory))
        directory.chmod(0o755)  # servers that drop their privileges have sockets in it
        return Place(directory, port, self.content, self.backend, self.connections)


@contextmanager
def _bench(scenario: Scenario, connections: int) -> Iterator[_Bench]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-bench-")))
        directory.chmod(0o755)
        content = directory / "content"
        content.mkdir()
        scenario.content(content)
        port = free_port()
        address = _backend_address(scenario.backend, directory, port)
        bench = _Bench(scenario, directory, content, address, connections, scenario.body())
        if scenario.backend is not None:
            place = bench.place(port)
            commands = scenario.backend.start(place)
            backend = stack.enter_context(running(commands, place.directory, cores()[1]))
            backend.wait_for_socket(address)
        yield bench


def _backend_address(backend: Backend | None, directory: Path, port: int) -> str:
    if backend is None:
        return ""
    return str(directory / "backend.sock") if backend.unix else f"{HOST}:{port}"


def _try(bench: _Bench, peer: Peer, outcome: Outcome, number: int, seconds: int) -> None:
    try:
        outcome.runs[number] = _measure(bench, peer, seconds)
    except (StartError, LoadError) as error:
        outcome.failure = str(error)


def _measure(bench: _Bench, peer: Peer, seconds: int) -> Run:
    scenario = bench.scenario
    place = bench.place(free_port())
    server_core, load_core = cores()
    commands = peer.start(place)
    began = time.perf_counter()
    with running(commands, place.directory, server_core) as server:
        server.wait_for_answer(place.port, scenario.path, bench.body, tls=scenario.tls)
        start = time.perf_counter() - began
        disturbance = max(measure.busy_share(core, _WATCH) for core in {server_core, load_core})
        url = f"http{'s' * scenario.tls}://{place.listen}{scenario.load_path or scenario.path}"
        with pinned(load_core):
            scenario.load(url, connections=bench.connections, seconds=WARM_UP)
            at_rest = measure.memory(server.pids)
            with idle.held(url, scenario.idle):
                held = measure.memory(server.pids)
                before = measure.cpu_seconds(server.pids)
                found = scenario.load(url, connections=bench.connections, seconds=seconds)
                used = measure.cpu_seconds(server.pids) - before
                memory = measure.memory(server.pids)
        # A server that broke under load is found here, not by its figures.
        server.wait_for_answer(place.port, scenario.path, bench.body, tls=scenario.tls)
    return Run(
        requests_per_second=found.requests / found.seconds,
        bytes_per_second=found.size / found.seconds,
        cpu_per_request=used / max(found.requests, 1),
        p50=found.p50,
        p99=found.p99,
        memory=memory,
        memory_per_connection=(held.resident - at_rest.resident) / max(scenario.idle, 1),
        start=start,
        disturbance=disturbance,
        problems=found.problems,
    )
