"""WebSockets through the gateway with independent programs: nginx in front; uWSGI and uvicorn behind.

The client is the `websockets` library.
"""

import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.sync.client import connect, unix_connect

from tests.peers.conftest import CHECKOUT, Gateway, RequireProgram, RunGateway, start_on_socket
from tests.peers.nginx import nginx_command

CONFIG = """
access_log: false
backends:
  asyncio: {asgi: "echo:app", loop: asyncio, lifespan: "off"}
  trio: {asgi: "echo:app", loop: trio, lifespan: "off"}
  uvicorn: {http: "http://unix:uvicorn.sock"}
  uwsgi: {uwsgi: "unix:uwsgi.sock"}
routes:
  - {match: {path: /asyncio}, backend: asyncio}
  - {match: {path: /trio}, backend: trio}
  - {match: {path: /uvicorn}, backend: uvicorn}
  - {match: {path: /uwsgi}, backend: uwsgi}
"""

NGINX = """
server {{
    listen unix:{directory}/nginx.sock;
    location / {{
        proxy_pass http://127.0.0.1:{port};
        proxy_http_version 1.1;
        proxy_set_header Connection "upgrade"; proxy_set_header Upgrade $http_upgrade;
    }}
}}
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("websockets")
    shutil.copy(CHECKOUT / "tests/conformance/echo.py", directory)
    shutil.copy(CHECKOUT / "tests/peers/apps/uwsgi_websocket_app.py", directory)
    return directory


@pytest.fixture(scope="module")
def gateway(directory: Path, run_gateway: RunGateway) -> Iterator[Gateway]:
    with run_gateway(directory, CONFIG) as running:
        yield running


def talk(uri: str, *, uds: str | None = None) -> None:
    """Text, binary, a large message, a ping, and an orderly end."""
    with connect(uri, max_size=None) if uds is None else unix_connect(uds, uri, max_size=None) as client:
        for message in ("Grüße", b"\0\xff", "x" * 200_000):
            client.send(message)
            assert client.recv(10) == message
        assert client.ping().wait(10)
        client.close(1000)
    assert client.close_code == 1000


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_nginx_in_front(
    gateway: Gateway, directory: Path, require_program: RequireProgram, loop: str
) -> None:
    """A06: as people configure it."""
    nginx = require_program("nginx", "apt-get install nginx-light")
    http = NGINX.format(directory=directory, port=gateway.port)
    with ExitStack() as stack:
        stack.callback((directory / "nginx.sock").unlink, missing_ok=True)
        start_on_socket(stack, directory, "nginx", nginx_command(nginx, directory, http))
        talk(f"ws://localhost/{loop}", uds=str(directory / "nginx.sock"))


def test_uvicorn_behind(gateway: Gateway, directory: Path) -> None:
    pytest.importorskip("uvicorn", reason="uvicorn is missing: pip install --group bench")
    with ExitStack() as stack:
        options = ["--fd", "{}", "--ws", "wsproto", "--lifespan", "off", "--log-level", "warning"]
        start_on_socket(stack, directory, "uvicorn", [sys.executable, "-m", "uvicorn", "echo:app", *options])
        talk(f"ws://127.0.0.1:{gateway.port}/uvicorn")


def test_uwsgi_behind(gateway: Gateway, directory: Path, require_program: RequireProgram) -> None:
    """UW-16: uWSGI answers the handshake by itself, over its own protocol."""
    uwsgi = require_program("uwsgi", "apt-get install uwsgi-core uwsgi-plugin-python3")
    with ExitStack() as stack:
        application = ["--wsgi-file", "uwsgi_websocket_app.py", "--callable", "app", "--need-app"]
        command = [uwsgi, "--plugin", "python3", "--die-on-term", "--socket", "fd://{}", *application]
        start_on_socket(stack, directory, "uwsgi", command)
        uri = f"ws://127.0.0.1:{gateway.port}/uwsgi"
        with connect(uri, compression=None) as client:
            for message in ("hello", "x" * 50_000):
                client.send(message)
                assert client.recv(10) == message
