"""The WebSocket load against a real server, a wrong one and none."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from websockets.sync.server import ServerConnection, serve

from benchmarks.load import LoadError, websocket
from benchmarks.process import free_port


@contextmanager
def answering(answer: str | None) -> Iterator[str]:
    """The URL of a server that says *answer* to each message; None for the message itself."""

    def handle(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message if answer is None else answer)

    with serve(handle, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.socket.getsockname()[1]}/"
        finally:
            server.shutdown()
            thread.join()


def test_counts_what_comes_back() -> None:
    with answering(None) as url:
        load = websocket.run(url, connections=2, seconds=1)
    assert load.requests > 0
    assert 0 < load.p50 <= load.p99
    assert load.problems == ()


def test_another_answer_is_a_problem() -> None:
    with answering("Hello, moon!") as url:
        assert websocket.run(url, connections=1, seconds=1).problems != ()


def test_no_server_is_an_error() -> None:
    with pytest.raises(LoadError, match="refused"):
        websocket.run(f"http://127.0.0.1:{free_port()}/", connections=1, seconds=1)
