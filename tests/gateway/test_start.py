"""What the start of the daemon spares: what takes long, and is not needed before the first answer."""

import importlib
import inspect
import json
import os
import pkgutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import gateway
from gateway.config.backends.kinds import KINDS
from tests.gateway.test_daemon import ROOT, daemon

# What there was when it was loaded, and what there is when it is asked.
APPLICATION = """
import gc
import json
import sys
FROZEN = gc.get_freeze_count()

async def app(scope, receive, send):
    body = json.dumps({"frozen": FROZEN, "modules": sorted(sys.modules)}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""


def answer(directory: Path) -> dict[str, Any]:
    """What the application says, as the only one of a daemon."""
    (directory / "telling.py").write_text(APPLICATION)
    config = """
listeners: [{http: "127.0.0.1:0"}]
backends: {app: {asgi: "telling:app", lifespan: "off"}}
routes: [{backend: app}]
"""
    with daemon(directory, config) as running:
        running.ready()
        host, port = running.address
        with urllib.request.urlopen(f"http://{host}:{port}/", timeout=30) as response:
            told: dict[str, Any] = json.load(response)
            return told


def test_own_modules_are_not_looked_through_for_cycles(tmp_path: Path) -> None:
    """They are out of the collector's sight before the application is loaded."""
    assert answer(tmp_path)["frozen"] > 10_000


def test_commands_that_need_no_daemon_load_none() -> None:
    """Those, and the completion of a shell, answer at once."""
    code = "import sys; import gateway.cli.commands; print('trio' in sys.modules, 'pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


NEEDED_LATER = (
    "rich", "hpack", "wsproto", "h11", "dns", "cryptography", "flup", "watchfiles", "trustme",
    "prometheus_client", "importlib.metadata", "email", "html", "difflib",
    "encodings.idna", "gateway.protocols.http1.client", "gateway.protocols.http2",
    "gateway.protocols.websocket.server", "gateway.protocols.fastcgi", "gateway.protocols.uwsgi",
    "gateway.protocols.ajp", "gateway.actions", "gateway.backends.intake", "gateway.programs.confinement",
    "gateway.connect", "gateway.control.handlers", "gateway.filters", "gateway.front.http2",
    "gateway.front.proxy_header", "gateway.hosted", "gateway.net.resolver", "gateway.spawn",
    "gateway.static.handler", "gateway.supervisor", "gateway.tls.context", "gateway.upstream",
    "gateway.config.actions", "gateway.config.balancing", "gateway.config.filters",
    "gateway.config.listener_tls", "gateway.config.spawn",
)  # fmt: skip
"""What an ASGI application that answers requests of HTTP/1.1 needs nothing of."""


def test_an_asgi_application_starts_with_no_more_than_it_needs(tmp_path: Path) -> None:
    modules = answer(tmp_path)["modules"]
    assert "gateway.backends.asgi.backend" in modules
    families = tuple(f"{name}." for name in NEEDED_LATER)
    assert [name for name in modules if f"{name}.".startswith(families)] == []


# Goes as far as the daemon does before it starts backends, and tells what it has loaded for that.
BUILDER = """
import json
import sys
import trio
from gateway.build import build
from gateway.config import from_mapping
from gateway.net.pump import Pump

async def main():
    build(from_mapping(json.loads(sys.argv[1]), "", "."), Pump(), None)

trio.run(main)
print(json.dumps(sorted(sys.modules)))
"""

BACKENDS: dict[str, dict[str, Any]] = {
    "cgi": {"cgi": "."},
    "fastcgi": {"fastcgi": "unix:/x"},
    "scgi": {"scgi": "unix:/x"},
    "uwsgi": {"uwsgi": "unix:/x"},
    "ajp": {"ajp": "127.0.0.1:1"},
    "http": {"http": "http://127.0.0.1:1"},
    "asgi": {"asgi": "a:b"},
    "wsgi": {"wsgi": "a:b"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_that_are_not_configured_are_not_loaded(tmp_path: Path, kind: str) -> None:
    config = {
        "listeners": [{"http": "127.0.0.1:0"}],
        "backends": {"app": BACKENDS[kind]},
        "routes": [{"backend": "app"}],
    }
    told = subprocess.run(
        [sys.executable, "-c", BUILDER, json.dumps(config)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
        timeout=60,
    )
    modules = set(json.loads(told.stdout))
    makers = "gateway.build.kinds."
    assert {name.removeprefix(makers) for name in modules if name.startswith(makers)} == {kind}
    models = {of.module for of in KINDS.values()}
    assert modules & models == {KINDS[kind].module}
    assert ("gateway.upstream" in modules) is (kind not in ("cgi", "asgi", "wsgi"))  # for those with servers
    assert "gateway.spawn" not in modules  # they are elsewhere
    assert "yaml" not in modules  # there was no file


def test_no_package_has_something_of_the_name_of_a_module_in_it() -> None:
    """One of them would hide the other: which one is last, nobody knows with lazy imports."""
    packages = [each.name for each in pkgutil.walk_packages(gateway.__path__, "gateway.") if each.ispkg]
    assert "gateway.config" in packages
    for name in packages:
        package = importlib.import_module(name)
        for module in pkgutil.iter_modules(package.__path__):
            same = getattr(package, module.name, None)
            assert same is None or inspect.ismodule(same), f"{name}.{module.name}"


@pytest.mark.skipif(sys.version_info < (3, 15), reason="imports can be lazy from Python 3.15 on")
def test_imports_may_be_lazy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PEP 810: somebody may have all of them be."""
    monkeypatch.setenv("PYTHON_LAZY_IMPORTS", "all")
    assert "gateway.backends.asgi.backend" in answer(tmp_path)["modules"]
    checked = subprocess.run(
        [sys.executable, "-m", "gateway", "check", "gateway.yaml"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (checked.returncode, checked.stderr) == (0, "")
