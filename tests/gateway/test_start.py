"""What the start of the daemon spares: what takes long, and is not needed before the first answer."""

import json
import urllib.request
from pathlib import Path
from typing import Any

from tests.gateway.test_daemon import daemon

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
