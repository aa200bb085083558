"""A browser that tests drive: headless Chromium, over its DevTools protocol.

The client of that protocol is the `websockets` library, which is here anyway: a handful of commands is all
that the tests need; a driver and its library would be two more programs to keep.
"""

import json
import os
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from ssl import get_server_certificate
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_pem_x509_certificate
from websockets.sync.client import ClientConnection, connect

from tests.peers.conftest import WAIT, Program

FLAGS = (
    "--headless",
    "--no-sandbox",  # it takes a kernel that lets it, and another user than root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    # Nothing but the pages of the tests is loaded.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-port=0",
)


def _key_of(url: str) -> str:
    """What Chromium knows the key of the server at *url* by."""
    host, _, port = url.removeprefix("https://").rpartition(":")
    certificate = load_pem_x509_certificate(get_server_certificate((host, int(port))).encode())
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return b64encode(sha256(key).digest()).decode()


@contextmanager
def run_browser(program: str, directory: Path, *, trusted: str) -> Iterator["Browser"]:
    """Chromium with one empty page, which trusts the server at the URL *trusted*."""
    trust = f"--ignore-certificate-errors-spki-list={_key_of(trusted)}"
    command = [program, *FLAGS, trust, f"--user-data-dir={directory / 'profile'}", "about:blank"]
    environment = {"HOME": str(directory), "PATH": os.environ.get("PATH", os.defpath)}
    unused = subprocess.DEVNULL
    with Program(command, env=environment, stdin=unused, stdout=unused) as chromium:
        said = chromium.wait_for(lambda line: line.startswith("DevTools listening on "))
        with connect(said.split()[-1], max_size=None, compression=None) as socket:
            yield Browser(socket)


class Browser:
    """A page, and what is done with it."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self._session: dict[str, str] = {}
        self._events: list[dict[str, Any]] = []
        self._loader = ""
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        attached = self.command("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.command(f"{domain}.enable")

    def open(self, url: str) -> dict[str, Any]:
        """Load a page; the response as DevTools describe it (``status``, ``protocol``, ``mimeType``, …)."""
        self._events.clear()
        done = self.command("Page.navigate", url=url)
        assert "errorText" not in done, done["errorText"]
        return self._loaded()

    def follow(self, script: str) -> dict[str, Any]:
        """Load the page that *script* leads to; the response."""
        self._events.clear()
        self.run(script)
        return self._loaded()

    def run(self, script: str) -> Any:
        """The value of *script*, the body of an asynchronous function, in the page."""
        done = self.command(
            "Runtime.evaluate",
            expression=f"(async () => {{ {script} }})()",
            awaitPromise=True,
            returnByValue=True,
        )
        if "exceptionDetails" in done:
            pytest.fail(f"in the page: {done['exceptionDetails']['exception']['description']}")
        return done["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Until *condition*, an expression that may await, holds in the page."""
        self.run(f"while (!({condition})) await new Promise(next => setTimeout(next, 5))")

    def choose(self, field: str, file: Path) -> None:
        """Put *file* into the first element that the selector *field* finds."""
        found = self.command("Runtime.evaluate", expression=f"document.querySelector({json.dumps(field)})")
        self.command("DOM.setFileInputFiles", files=[str(file)], objectId=found["result"]["objectId"])

    def responses(self) -> list[dict[str, Any]]:
        """All that the page has loaded so far, itself among them, as DevTools describe it."""
        self.run("")
        received = [event for event in self._events if event.get("method") == "Network.responseReceived"]
        # What the page before it had asked for may still come.
        return [
            event["params"]["response"] for event in received if event["params"]["loaderId"] == self._loader
        ]

    def complaints(self) -> list[str]:
        """What the console has said about the page so far: blocked, missing and broken things."""
        self.run("")
        logged = [event for event in self._events if event.get("method") == "Log.entryAdded"]
        entries = [event["params"]["entry"] for event in logged]
        errors = [event for event in self._events if event.get("method") == "Runtime.exceptionThrown"]
        return [f"{entry['text']} {entry.get('url', '')}" for entry in entries] + [
            str(error["params"]) for error in errors
        ]

    def resize(self, width: int, *, scheme: str = "light") -> None:
        """Be *width* pixels wide, in the colour *scheme* that its user likes."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=800, deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.command("Emulation.setEmulatedMedia", features=[feature])

    def command(self, method: str, **parameters: Any) -> Any:
        """The result of a DevTools command."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters, **self._session}
        self._socket.send(json.dumps(message))
        while True:
            received = json.loads(self._socket.recv(WAIT))
            if received.get("id") == self._number:
                assert "error" not in received, received
                return received["result"]
            self._events.append(received)

    def _loaded(self) -> dict[str, Any]:
        self._event("Page.loadEventFired")
        received = self._event("Network.responseReceived", type="Document")
        self._loader = received["loaderId"]
        response: dict[str, Any] = received["response"]
        return response

    def _event(self, method: str, **wanted: Any) -> dict[str, Any]:
        """The parameters of the first event *method* that has what is *wanted*."""
        seen = 0
        while True:
            for event in self._events[seen:]:
                parameters: dict[str, Any] = event.get("params", {})
                if event.get("method") == method and wanted.items() <= parameters.items():
                    return parameters
            seen = len(self._events)
            self._events.append(json.loads(self._socket.recv(WAIT)))
