"""Real frameworks inside the daemon (and Tornado behind it): the contract of `rows.py`, row by row."""

import hashlib
import json
import random
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import trio
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.gateway.http2_client import Client as Http2Client
from tests.gateway.served import run
from tests.peers.conftest import WAIT
from tests.peers.frameworks.conftest import Client, Daemon, Serve
from tests.peers.frameworks.http2_socket import Http2Socket
from tests.peers.frameworks.rows import CONTRACT, ROWS, Row

FILE = random.Random(5).randbytes(5_000_000)


def rows_that_show(*words: str) -> pytest.MarkDecorator:
    assert set(words) <= set(CONTRACT)
    rows = [row for row in ROWS if set(words) <= set(row.shows)]
    return pytest.mark.parametrize("row", rows, ids=lambda row: row.name)


every_row = rows_that_show()
both_versions = pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])


# ---- requests and responses


@every_row
@both_versions
def test_route_query_header_cookie(client: Client, row: Row, http2: bool) -> None:
    """gunicorn#226: links that the application makes have the mount; the mount comes from the route."""
    session = client(row, http2=http2)
    response = session.get(
        "/items/7?q=a%20%2B%26b",
        headers={"X-Tag": "some tag", "Cookie": "other=1; who=me", "Script-Name": "/evil"},
    )
    assert (response.status_code, response.http_version) == (200, "HTTP/2" if http2 else "HTTP/1.1")
    assert response.headers["Content-Type"].startswith("application/json")
    assert response.cookies["seen"] == "7"
    host = session.headers.get("host") or session.base_url.netloc.decode()
    assert response.json() == {
        "number": 7,
        "q": "a +&b",
        "tag": "some tag",
        "cookie": "me",
        "link": f"{row.prefix}/items/7",
        "absolute": f"http://{host}{row.prefix}/items/7",
    }


@every_row
@both_versions
@pytest.mark.parametrize("sized", [True, False], ids=["sized", "unsized"])
def test_form(client: Client, row: Row, http2: bool, sized: bool) -> None:
    """uwsgi#1394: a body of unknown length is there, whatever the application's interface."""
    body = b"name=Zo%C3%AB+%26+co&empty="
    response = client(row, http2=http2).post(
        "/form",
        content=body if sized else iter([body[:5], body[5:]]),
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert response.json() == {"name": "Zoë & co", "empty": ""}


@every_row
def test_json(client: Client, row: Row) -> None:
    value = {"a": [1, 2.5, None, "ü"], "b": {}}
    assert client(row).post("/json", json=value).json() == {"got": value}


@every_row
@both_versions
def test_upload(client: Client, row: Row, http2: bool) -> None:
    response = client(row, http2=http2).post("/upload", files={"f": ("a.bin", FILE)})
    assert response.json() == {
        "name": "a.bin",
        "size": len(FILE),
        "sha256": hashlib.sha256(FILE).hexdigest(),
    }


@every_row
@both_versions
def test_session(client: Client, row: Row, http2: bool) -> None:
    """What a client has said is known at its next request, after a redirect; others' requests are others'."""
    session = client(row, http2=http2)
    response = session.post("/login", data={"name": "Zoë"}, follow_redirects=True)
    assert [each.status_code for each in (*response.history, response)] == [303, 200]
    assert response.url.path == f"{row.prefix}/whoami"
    assert response.json() == {"name": "Zoë"}
    assert client(row, http2=http2).get("/whoami").json() == {"name": None}


@every_row
@both_versions
def test_failing_view(daemon: Daemon, client: Client, row: Row, http2: bool) -> None:
    """hypercorn#31: an exception is a 500 for that request; the next one on the connection is fine.

    The operator finds it in the log, whoever writes it there.
    """
    session = client(row, http2=http2)
    connections = []
    for path, status in [("/fail", 500), ("/whoami", 200)]:
        response = session.get(path)
        assert response.status_code == status
        connections.append(response.extensions["network_stream"].get_extra_info("client_addr"))
    assert connections[0] == connections[1]
    for name in row.logs:
        daemon(row).wait_for(partial(is_about, row, name))


def is_about(row: Row, name: str, line: str) -> bool:
    """Whether *line* of the log is of *name*, a logger or an event, and about *row*."""
    entry = json.loads(line)
    return name in (entry["event"], entry.get("logger")) and entry.get("backend", row.name) == row.name


@every_row
def test_many_at_once(client: Client, row: Row) -> None:
    """rules.md 14.4: no answer goes to another request."""
    start = threading.Barrier(8)
    sessions = [client(row, http2=number % 2 == 1) for number in range(8)]

    def ask(number: int) -> list[int]:
        start.wait(WAIT)
        headers = {"X-Tag": "t", "Cookie": "who=w"}
        return [
            sessions[number].get(f"/items/{number * 100 + turn}?q=x", headers=headers).json()["number"]
            for turn in range(1, 11)
        ]

    with ThreadPoolExecutor(8) as threads:
        for number, seen in enumerate(threads.map(ask, range(8))):
            assert seen == list(range(number * 100 + 1, number * 100 + 11))


@rows_that_show("stream")
@both_versions
def test_stream(client: Client, row: Row, http2: bool) -> None:
    """WSGI-11, ASGI: a piece is at the client before the application makes the next one."""
    with client(row, http2=http2).stream("GET", "/stream") as response:
        pieces = response.iter_text()
        assert next(pieces) == "first,"
        assert client(row).get("/go").text == "gone"
        assert "".join(pieces) == "second"


@rows_that_show("threads")
def test_sync_code_runs_in_threads(client: Client, row: Row) -> None:
    """Each of the two is answered only if the other one runs at the same time."""
    sessions = [client(row), client(row)]
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda session: session.get("/together").json(), sessions))
    assert answers == [{"main": False}] * 2


# ---- what is before, after and beside requests


@rows_that_show("background")
@both_versions
def test_background_task(client: Client, row: Row, http2: bool) -> None:
    """The response is whole while its task still runs; and the task is done in the end."""
    assert client(row, http2=http2).get("/background").text == "started"
    assert client(row, http2=http2).get("/background/release").text == "done"


@rows_that_show("dependency")
@both_versions
def test_dependency_with_yield(client: Client, row: Row, http2: bool) -> None:
    assert client(row, http2=http2).get("/dependency").text == "entered, left: False"
    assert client(row, http2=http2).get("/dependency/left").text == "left"


@rows_that_show("lifespan")
def test_lifespan_state(client: Client, row: Row) -> None:
    """ASGI lifespan: what the start made, requests see; it ran on their loop."""
    assert client(row).get("/state").text == f"from the start on {row.loop}"


@pytest.mark.parametrize("group", ["asyncio", "trio", "own"])
def test_lifespan_end(apps: Path, tmp_path: Path, serve: Serve, group: str) -> None:
    """ASGI lifespan: the applications end their work before the daemon does."""
    for module in apps.glob("*.py"):
        (tmp_path / module.name).symlink_to(module)
    rows = [row for row in ROWS if row.group == group and "lifespan" in row.shows]
    with serve(tmp_path, rows) as gateway:
        for row in rows:
            host = {} if row.mount else {"host": f"{row.name}.example"}
            assert gateway.get(f"{row.prefix}/state", **host).status == 200
        assert list(tmp_path.glob("*.ended")) == []
    assert sorted(path.name for path in tmp_path.glob("*.ended")) == sorted(row.ended for row in rows)


# ---- WebSocket

MESSAGES = ("Grüße", b"\0\xff", "ü" * 100_000, bytes(200_000), "", b"\n")
"""Text and bytes in turn, small and large."""


def open_socket(daemon: Daemon, row: Row, path: str) -> ClientConnection:
    """A WebSocket of *row*'s application."""
    gateway = daemon(row)
    host = f"{gateway.host}:{gateway.port}" if row.mount else f"{row.name}.example"
    sock = socket.create_connection((gateway.host, gateway.port))
    return connect(
        f"ws://{host}{row.prefix}{path}", sock=sock, subprotocols=[Subprotocol("chat")], open_timeout=WAIT
    )


@rows_that_show("websocket")
def test_websocket(daemon: Daemon, client: Client, row: Row) -> None:
    """Echoes; the application hears that the client closes, and its code."""
    with open_socket(daemon, row, "/echo") as websocket:
        assert websocket.subprotocol == "chat"
        for message in MESSAGES:
            websocket.send(message)
            assert websocket.recv(WAIT) == message
        websocket.close(4000, "enough")
    assert websocket.close_code == 4000
    assert client(row).get("/closed").json() == {"code": 4000 if "close code" in row.shows else None}


@rows_that_show("websocket")
def test_websocket_http2(daemon: Daemon, client: Client, row: Row) -> None:
    """RFC 8441: the same on a stream of HTTP/2, whatever is behind."""
    gateway = daemon(row)

    async def main() -> None:
        async with await trio.open_tcp_stream(gateway.host, gateway.port) as stream:
            http2 = Http2Client(stream)
            await http2.begin()
            await http2.until(lambda: http2.h2.remote_settings.enable_connect_protocol == 1)
            websocket = await Http2Socket.open(http2, f"{row.prefix}/echo", f"{row.name}.example")
            for message in MESSAGES:
                await websocket.send(message)
                assert await websocket.receive() == message
            await websocket.close(4000)
            assert await websocket.receive() == 4000

    run(main, seconds=WAIT)
    assert client(row).get("/closed").json() == {"code": 4000 if "close code" in row.shows else None}


@rows_that_show("close code")
def test_websocket_that_the_application_closes(daemon: Daemon, row: Row) -> None:
    with open_socket(daemon, row, "/echo") as websocket:
        websocket.send("bye")
        with pytest.raises(ConnectionClosed):
            websocket.recv(WAIT)
    assert (websocket.close_code, websocket.close_reason) == (4001, "it said bye")


@rows_that_show("refusal")
def test_websocket_that_the_application_refuses(daemon: Daemon, row: Row) -> None:
    with pytest.raises(InvalidStatus) as refused:
        open_socket(daemon, row, "/refuse")
    assert refused.value.response.status_code == 403
