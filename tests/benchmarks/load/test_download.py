"""The downloads against real servers: a right one, one that breaks off, one without a length, none."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.load import LoadError, download
from benchmarks.process import free_port


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """The URL of a server that answers each request on its one connection with *answer*, then closes."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            while connection.recv(4096):
                connection.sendall(answer)
                if not complete:
                    return

    complete = answer.endswith(b"end")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/large"
        finally:
            thread.join()


def test_counts_whole_responses() -> None:
    body = bytes(3 << 20) + b"end"
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with answering(answer) as url:
        load = download.run(url, connections=1, seconds=1)
    assert load.requests > 0
    assert load.size == load.requests * len(answer)
    assert 0 < load.p50 <= load.p99


def test_response_that_breaks_off_is_an_error() -> None:
    with (
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort") as url,
        pytest.raises(LoadError, match="ended after"),
    ):
        download.run(url, connections=1, seconds=1)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK", b"HTTP/1.1 500 Oh\r\nContent-Length: 3"])
def test_response_without_a_length_or_200_is_an_error(head: bytes) -> None:
    with answering(head + b"\r\n\r\nend") as url, pytest.raises(LoadError, match="no response with a length"):
        download.run(url, connections=1, seconds=1)


def test_no_server_is_an_error() -> None:
    with pytest.raises(LoadError, match="refused"):
        download.run(f"http://127.0.0.1:{free_port()}/", connections=1, seconds=1)
