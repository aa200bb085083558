"""Starts what the tables are run against, once for each of them."""

from collections.abc import Iterator

import pytest

from tests.conformance.recording import RecordingGateway, recording_gateway


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecordingGateway]:
    """A gateway before a recording backend of every kind."""
    with recording_gateway(tmp_path_factory.mktemp("recording")) as running:
        yield running
