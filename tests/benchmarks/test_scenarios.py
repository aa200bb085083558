"""The scenarios are consistent with themselves, with the targets, and with the gateway's configuration."""

from pathlib import Path

import pytest

from benchmarks import run
from benchmarks.backends import Backend
from benchmarks.peers import Peer, Place, program
from benchmarks.process import HOST
from benchmarks.run import Plan
from benchmarks.scenarios import SCENARIOS, TARGETS, Scenario
from gateway.config import load

SHELL = program("sh", "dash")


def test_names_are_unique() -> None:
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
    for scenario in SCENARIOS:
        assert len({peer.name for peer in scenario.servers}) == len(scenario.servers)


def test_targets_name_scenarios_and_peers() -> None:
    known = {(scenario.name, peer.name) for scenario in SCENARIOS for peer in scenario.peers}
    assert {(target.scenario, target.peer) for target in TARGETS} <= known


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_configuration_of_the_gateway_is_right(scenario: Scenario, tmp_path: Path) -> None:
    if scenario.tls:
        scenario.content(tmp_path)
    backend = f"{HOST}:9" if scenario.backend and not scenario.backend.unix else "/run/app.sock"
    ((*_, name),) = scenario.gateway.start(Place(tmp_path, 8, tmp_path, backend, 64))
    config = load(name)
    assert config.access_log is None
    assert config.workers == 1


def test_scenario_without_its_backend_starts_nothing() -> None:
    def fail(place: Place) -> list[list[str]]:
        raise AssertionError(place)

    absent = program("no-such-backend", "such-backend")
    scenario = Scenario("x", "", Peer("gateway", fail, (SHELL,)), (), Backend("x", fail, (absent,)))
    result = run.run(scenario, Plan(1, 1, 1), None, print)
    assert result.missing == [absent]
    assert not result.outcomes[0].runs


def test_server_that_does_not_start_is_not_tried_again() -> None:
    starts = []

    def start(place: Place) -> list[list[str]]:
        starts.append(place.port)
        return [["sh", "-c", "exit 7"]]

    scenario = Scenario("x", "", Peer("gateway", start, (SHELL,)), ())
    result = run.run(scenario, Plan(2, 1, 1), None, print)
    assert "sh ended with status 7" in result.outcomes[0].failure
    assert len(starts) == 1
