"""Whole applications inside the daemon, each with what it is known for: Datasette, Socket.IO with its own
client, GraphQL subscriptions by Strawberry.
"""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import engineio
import httpx2
import pytest
import socketio
import trio
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.peers.conftest import WAIT, Gateway
from tests.peers.frameworks.conftest import Serve
from tests.peers.frameworks.rows import APPLICATIONS


@pytest.fixture(scope="module")
def gateway(apps: Path, serve: Serve) -> Iterator[Gateway]:
    rows = [row for row in APPLICATIONS if row.name != "channels"]
    # The polls of Socket.IO clients that have left.
    with serve(apps, rows, "timeouts: {shutdown: 1s}", ["requests were cut off"]) as running:
        yield running


@pytest.fixture(params=[False, True], ids=["http1", "http2"])
def options(gateway: Gateway, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Those of a client."""
    http2 = request.param
    return {
        "base_url": gateway.url,
        "http1": not http2,
        "http2": http2,
        "timeout": WAIT,
        "trust_env": False,
        "verify": False,
    }


@pytest.fixture
def client(options: dict[str, Any]) -> Iterator[httpx2.Client]:
    with httpx2.Client(**options) as client:
        yield client


# ---- Datasette


def test_datasette_pages(client: httpx2.Client) -> None:
    """A page, its link to a table, and the page's style sheet, all below the mount."""
    page = client.get("/datasette/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert 'href="/datasette/numbers/squares"' in page.text
    style = page.text.split('<link rel="stylesheet" href="')[1].split('"')[0]
    assert client.get(style).headers["Content-Type"].startswith("text/css")
    assert "20,000 rows" in client.get("/datasette/numbers/squares").text


def test_datasette_queries(options: dict[str, Any], client: httpx2.Client) -> None:
    """They run in threads, next to each other; one that is not allowed is answered 400."""
    answers: dict[int, Any] = {}

    async def ask(client: httpx2.AsyncClient, number: int) -> None:
        sql = f"select square from squares where number = {number}"
        params = {"sql": sql, "_shape": "array"}
        answers[number] = (await client.get("/datasette/numbers.json", params=params)).json()

    async def main() -> None:
        # Not by threads of the client: of two that begin a stream of one connection, one fails now and then.
        async with httpx2.AsyncClient(**options) as client, trio.open_nursery() as nursery:
            for number in range(1, 41):
                nursery.start_soon(ask, client, number)

    trio.run(main)
    assert answers == {number: [{"square": number * number}] for number in range(1, 41)}
    wrong = client.get("/datasette/numbers.json", params={"sql": "delete from squares"})
    assert (wrong.status_code, wrong.json()["error"]) == (400, "Statement must be a SELECT")


def test_datasette_streams_a_table(client: httpx2.Client) -> None:
    with client.stream("GET", "/datasette/numbers/squares.csv?_stream=1&_size=max") as response:
        assert "Content-Length" not in response.headers
        lines = list(response.iter_lines())
    assert lines == ["number,square", *(f"{n},{n * n}" for n in range(1, 20_001))]


# ---- Socket.IO


class InOrder(engineio.Client):  # type: ignore[misc]
    """Handles one message after the other. By itself it has a thread for each: bytes overtake their event."""

    last: threading.Thread | None = None

    def _trigger_event(self, event: str, *values: Any, run_async: bool = False, **options: Any) -> Any:
        if not run_async:
            return super()._trigger_event(event, *values, **options)
        before = self.last

        def handle() -> None:
            if before:
                before.join()
            self.handlers[event](*values)

        self.last = self.start_background_task(handle)
        return self.last


class Client(socketio.Client):  # type: ignore[misc]
    def _engineio_client_class(self) -> type[InOrder]:
        return InOrder


class Chatter:
    """A client of the chat, with what it was told by others."""

    def __init__(self, gateway: Gateway, server: str, name: str, transports: list[str] | None) -> None:
        self.told: Queue[tuple[str, Any]] = Queue()
        self.disconnected = threading.Event()
        self.client = Client(reconnection=False, handle_sigint=False)
        for event in ("came", "said", "left"):
            self.client.on(event, self._hear(event))
        self.client.on("disconnect", lambda *_: self.disconnected.set())
        self.client.connect(
            gateway.url,
            headers={"X-Agent": f"{name}'s"},
            auth={"name": name},
            transports=transports,
            socketio_path=f"{server}/socket.io",
            wait_timeout=int(WAIT),
        )

    def _hear(self, event: str) -> Callable[[Any], None]:
        return lambda value: self.told.put((event, value))

    def hears(self) -> tuple[str, Any]:
        return self.told.get(timeout=WAIT)


@contextmanager
def chatting(gateway: Gateway, server: str, name: str, transports: list[str] | None) -> Iterator[Chatter]:
    chatter = Chatter(gateway, server, name, transports)
    try:
        yield chatter
    finally:
        # It waits for the poll that is under way, which the server lets run until its next ping.
        threading.Thread(target=chatter.client.disconnect, daemon=True).start()


every_server = pytest.mark.parametrize("server", ["socketio", "flask-socketio"])
every_transport = pytest.mark.parametrize(
    ("transports", "used"),
    [(["polling"], "polling"), (["websocket"], "websocket"), (None, "websocket")],
    ids=["polling", "websocket", "upgraded"],
)


@every_server
@every_transport
def test_socketio(gateway: Gateway, server: str, transports: list[str] | None, used: str) -> None:
    """Acknowledged events with text, bytes and large values; a room; who comes, and who is sent away."""
    with chatting(gateway, server, "ann", transports) as ann:
        for values in (("ü", 7, {"a": [None]}), (b"\0\xff", "x"), ("y" * 300_000, bytes(300_000))):
            assert ann.client.call("echo", values, timeout=WAIT) == values
        assert ann.client.call("agent", timeout=WAIT) == "ann's"
        assert ann.client.transport() == used
        with chatting(gateway, server, "bob", transports) as bob:
            assert ann.hears() == ("came", "bob")
            bob.client.emit("say", "hello")
            for chatter in (ann, bob):
                assert chatter.hears() == ("said", {"name": "bob", "text": "hello"})
            bob.client.emit("leave")
            assert bob.disconnected.wait(WAIT)
            assert ann.hears() == ("left", "bob")


@every_server
def test_socketio_client_disconnects(gateway: Gateway, server: str) -> None:
    """By polling it may take until the next ping: the client does not always say that it goes."""
    with chatting(gateway, server, "ann", ["websocket"]) as ann:
        with chatting(gateway, server, "bob", ["websocket"]):
            assert ann.hears() == ("came", "bob")
        assert ann.hears() == ("left", "bob")


@every_server
def test_socketio_refuses(gateway: Gateway, server: str) -> None:
    client = socketio.Client(reconnection=False, handle_sigint=False)
    errors: list[Any] = []
    client.on("connect_error", errors.append)
    with pytest.raises(socketio.exceptions.ConnectionError):
        client.connect(gateway.url, transports=["websocket"], socketio_path=f"{server}/socket.io")
    assert [error["message"] for error in errors] == ["who are you?"]


# ---- GraphQL


def ask(client: httpx2.Client, query: str, **variables: Any) -> Any:
    response = client.post("/strawberry/graphql", json={"query": query, "variables": variables})
    assert response.status_code == 200
    return response.json()


def subscribe(gateway: Gateway, protocol: str = "graphql-transport-ws") -> ClientConnection:
    sock = socket.create_connection((gateway.host, gateway.port))
    return connect(
        f"ws://{gateway.host}:{gateway.port}/strawberry/graphql",
        sock=sock,
        subprotocols=[Subprotocol(protocol)],
        open_timeout=WAIT,
    )


def say(websocket: ClientConnection, kind: str, identity: str = "", query: str = "") -> None:
    message: dict[str, Any] = {"type": kind}
    if identity:
        message["id"] = identity
    if query:
        message["payload"] = {"query": query}
    websocket.send(json.dumps(message))


def hear(websocket: ClientConnection) -> Any:
    message = json.loads(websocket.recv(WAIT))
    return message["type"], message.get("id"), message.get("payload")


def test_graphql_query(client: httpx2.Client) -> None:
    assert ask(client, "query ($n: String!) { hello(name: $n) }", n="Zoë") == {
        "data": {"hello": "Hello, Zoë!"}
    }
    assert "errors" in ask(client, "{ nothing }")


def test_graphql_subscriptions(gateway: Gateway, client: httpx2.Client) -> None:
    """graphql-transport-ws: two at a time on one connection; one completes, the other one is stopped."""
    with subscribe(gateway) as websocket:
        assert websocket.subprotocol == "graphql-transport-ws"
        say(websocket, "connection_init")
        assert hear(websocket)[0] == "connection_ack"
        say(websocket, "ping")
        assert hear(websocket)[0] == "pong"
        say(websocket, "subscribe", "a", "subscription { counts }")
        kind, identity, payload = hear(websocket)
        assert (kind, identity) == ("next", "a")
        begin = payload["data"]["counts"]
        say(websocket, "subscribe", "b", "subscription { upTo(last: 3) }")
        heard = [hear(websocket) for _ in range(4)]
        assert heard == [
            *(("next", "b", {"data": {"upTo": number}}) for number in (1, 2, 3)),
            ("complete", "b", None),
        ]
        assert ask(client, "mutation { count(by: 5) }") == {"data": {"count": begin + 5}}
        assert hear(websocket) == ("next", "a", {"data": {"counts": begin + 5}})
        assert ask(client, "{ subscribers }") == {"data": {"subscribers": 1}}
        say(websocket, "complete", "a")
        say(websocket, "subscribe", "c", "subscription { upTo(last: 1) }")
        assert [hear(websocket)[:2] for _ in range(2)] == [("next", "c"), ("complete", "c")]
        assert ask(client, "{ subscribers }") == {"data": {"subscribers": 0}}


def test_graphql_subscription_ends_with_its_client(gateway: Gateway, client: httpx2.Client) -> None:
    """The generator is closed when the WebSocket is."""
    with subscribe(gateway) as websocket:
        say(websocket, "connection_init")
        say(websocket, "subscribe", "a", "subscription { counts }")
        assert [hear(websocket)[0] for _ in range(2)] == ["connection_ack", "next"]
        assert ask(client, "{ subscribers }") == {"data": {"subscribers": 1}}
    assert ask(client, "{ subscribersHaveLeft }") == {"data": {"subscribersHaveLeft": True}}


@pytest.mark.parametrize(
    ("protocol", "message", "code"),
    [
        ("graphql-transport-ws", {"type": "subscribe", "id": "a", "payload": {"query": "{ hello }"}}, 4401),
        ("graphql-transport-ws", {"type": "what"}, 4400),
        ("chat", None, 4406),
    ],
    ids=["unauthorized", "bad message", "subprotocol"],
)
def test_graphql_close_codes(gateway: Gateway, protocol: str, message: Any, code: int) -> None:
    with subscribe(gateway, protocol) as websocket:
        if message:
            websocket.send(json.dumps(message))
        with pytest.raises(ConnectionClosed):
            websocket.recv(WAIT)
    assert websocket.close_code == code
