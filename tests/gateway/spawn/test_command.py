"""What is run, and in which environment."""

import os
import subprocess
import sys
from math import inf
from pathlib import Path

import pytest
import trio

from gateway.errors import StartError
from gateway.programs.confinement import User
from gateway.spawn.command import Command, environment, of_program
from gateway.spawn.endpoint import OwnSocket, SharedSocket
from gateway.spawn.schedule import Life
from tests.gateway.served import LAST_GET, gateway_of, response
from tests.gateway.spawn.test_application import spawned

OURS = {
    "PATH": "/bin",
    "LC_ALL": "C",
    "LC_TIME": "de",
    "LANG": "en",
    "NOTIFY_SOCKET": "/x",
    "WATCHDOG_USEC": "30000000",
    "WATCHDOG_PID": "7",
    "PYTHONHOME": "/y",
}


def test_all_is_passed_but_what_speaks_to_the_gateway() -> None:
    assert environment(OURS, {"A": "b"}) == {
        "PATH": "/bin", "LC_ALL": "C", "LC_TIME": "de", "LANG": "en", "PYTHONHOME": "/y", "A": "b"
    }  # fmt: skip


def test_only_what_is_named_is_passed() -> None:
    """lighttpd: bin-copy-environment."""
    assert environment(OURS, {}, pass_env=["PATH", "LC_*"]) == {
        "PATH": "/bin", "LC_ALL": "C", "LC_TIME": "de"
    }  # fmt: skip
    assert environment(OURS, {"A": "b"}, pass_env=[]) == {"A": "b"}
    assert "NOTIFY_SOCKET" not in environment(OURS, {}, pass_env=["*"])


def test_virtual_environment_is_activated() -> None:
    found = environment(OURS, {}, pass_env=["PATH", "PYTHONHOME"], virtualenv=Path("/v"))
    assert found == {"PATH": "/v/bin:/bin", "VIRTUAL_ENV": "/v"}
    assert environment({}, {}, virtualenv=Path("/v"))["PATH"] == f"/v/bin:{os.defpath}"
    # What is said outright wins.
    assert environment(OURS, {"PATH": "/mine"}, virtualenv=Path("/v"))["PATH"] == "/mine"


def test_user_has_a_home_of_his_own() -> None:
    user = User(33, 33, (), "www-data", "/var/www")
    assert environment({"HOME": "/root", "USER": "root"}, {}, user=user) == {
        "HOME": "/var/www", "LOGNAME": "www-data", "USER": "www-data"
    }  # fmt: skip
    assert environment({"HOME": "/root"}, {"HOME": "/srv"}, user=user)["HOME"] == "/srv"
    # A group alone is nobody.
    assert environment({"HOME": "/root"}, {}, user=User(None, 34)) == {"HOME": "/root"}


def test_program_is_looked_for_on_the_path_of_the_processes(tmp_path: Path) -> None:
    program = tmp_path / "program-of-its-own"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    found = of_program(
        [program.name, "x"], SharedSocket(), {"PATH": str(tmp_path)}, backend="app", directory="/"
    )
    assert found == Command([str(program), "x"], {b"PATH": os.fsencode(tmp_path)})
    with pytest.raises(StartError, match="no such command"):
        of_program([program.name], SharedSocket(), {"PATH": "/nowhere"}, backend="app", directory="/")


def test_placeholders_are_filled() -> None:
    own = OwnSocket(port=True)
    port = str(own.address).partition(":")[2]
    found = of_program(
        ["sh", "--port={port}", "{socket}"],
        own,
        {"PORT": "{port}", "PATH": "/bin"},
        backend="a",
        directory="/",
    )
    assert found.words[1:] == [f"--port={port}", "{socket}"]
    assert found.env[b"PORT"] == port.encode()


def test_our_server_is_told_where_to_report_and_when_it_is_spent() -> None:
    command = Command(["python"], {}, reports=True)
    assert command.argv(7, Life(), None) == ["python", "--report", "7"]
    assert command.argv(7, Life(requests=100), None) == ["python", "--report", "7", "--max-requests", "100"]
    assert Life().requests == inf


# ---- the virtual environment

PROBE = """
import sys, types

def found(name):
    try:
        __import__(name)
    except ImportError:
        return False
    return True

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    facts = [sys.prefix, found("only_here"), found("trio"), found("structlog"), found("pydantic")]
    return [repr(facts).encode()]
"""


@pytest.fixture(scope="module")
def bare_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with nothing but one module."""
    path = tmp_path_factory.mktemp("venv") / "v"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(path)], check=True)
    (packages,) = path.glob("lib/python*/site-packages")
    (packages / "only_here.py").write_text("")
    return path


@pytest.mark.parametrize("kind", ["fastcgi", "scgi", "uwsgi"])
def test_application_runs_in_its_own_environment(kind: str, bare_environment: Path, tmp_path: Path) -> None:
    """Nothing of the gateway is installed there, and nothing beside it is seen."""
    (tmp_path / "probe_app.py").write_text(PROBE)
    # Not to be mistaken for ours.
    (tmp_path / "gateway").mkdir()
    (tmp_path / "gateway" / "__init__.py").write_text("raise RuntimeError('the wrong one')")
    spawn = {"wsgi": "probe_app:app", "directory": str(tmp_path), "virtualenv": str(bare_environment)}

    async def main() -> bytes:
        config = {
            "debug": True,
            "backends": {"app": {kind: {"spawn": spawn}}},
            "routes": [{"backend": "app"}],
        }
        with trio.fail_after(60):
            async with gateway_of(config) as served:
                return response(await served.ask(LAST_GET)).body

    assert trio.run(main).decode() == repr([str(bare_environment), True, False, False, False])


def test_rejects_a_virtual_environment_that_has_vanished(tmp_path: Path) -> None:
    application = spawned(wsgi="a:b", virtualenv=tmp_path)

    async def main() -> None:
        with pytest.raises(StartError, match=r"bin/python: no such program: expected a virtual environment"):
            await application.run()

    trio.run(main)
