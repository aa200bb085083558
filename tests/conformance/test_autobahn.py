"""The Autobahn test suite (README.md): what CI has time for, over HTTP/1.1 and HTTP/2 and on both loops."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.conformance.sources import fetch
from tests.peers.conftest import Gateway

HERE: Final = Path(__file__).parent

PROTOCOL: Final = ("[1-7].*", "10.*")
"""Framing, pings, reserved bits, opcodes, fragments, UTF-8, closing."""

LARGE: Final = (
    *("9.[12].[1-4]", "9.[34].[4-9]", "9.[56].[3-6]", "9.[78].*"),  # up to 4 MiB, fragments from 4 KiB
    *("12.*", "13.*"),  # compression
)

MESSAGES: Final = "5"
"""In place of 1000."""


@pytest.fixture(scope="session")
def suite(pytestconfig: pytest.Config) -> Path:
    """The unpacked cases."""
    assert pytestconfig.cache is not None
    return fetch(HERE / "autobahn" / "requirements.txt", pytestconfig.cache)


@pytest.fixture(scope="module", params=["trio", "asyncio"])
def echo(request: pytest.FixtureRequest, suite: Path) -> Iterator[Gateway]:
    """A daemon with an echo application on one of the loops."""
    with Gateway(HERE / "echo.yaml", env={**os.environ, "PORT": "0", "LOOP": request.param}) as gateway:
        yield gateway
    assert gateway.status == 0, gateway.lines
    assert not [line for line in gateway.lines if '"level": "error"' in line or '"level": "warning"' in line]


def pass_all(suite: Path, gateway: Gateway, patterns: tuple[str, ...], *options: str) -> int:
    """Run the cases of these numbers, each of which must pass; how many they are."""
    url = f"ws://{gateway.host}:{gateway.port}/"
    ran = subprocess.run(
        [sys.executable, "-m", "tests.conformance.autobahn", *options, str(suite), url, *patterns],
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return int(ran.stdout.splitlines()[-1].partition(" cases: ")[0])


@pytest.mark.parametrize("options", [(), ("--http2",)], ids=["http1", "http2"])
def test_protocol(suite: Path, echo: Gateway, options: tuple[str, ...]) -> None:
    assert pass_all(suite, echo, PROTOCOL, *options) == 247


# Each loop and each transport once: what they have to do with each other is tested above.
@pytest.mark.parametrize(
    ("echo", "options"),
    [("trio", ("--http2",)), ("asyncio", ())],
    indirect=["echo"],
    ids=["trio-http2", "asyncio-http1"],
)
def test_large_and_compressed(suite: Path, echo: Gateway, options: tuple[str, ...]) -> None:
    assert pass_all(suite, echo, LARGE, "--parallel", "2", "--messages", MESSAGES, *options) == 256
