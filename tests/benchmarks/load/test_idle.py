"""Idle connections are held for a block, and are gone after it."""

import socket
import threading

import pytest

from benchmarks.load import LoadError, idle


def test_holds_connections_and_lets_them_go() -> None:
    accepted: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for _ in range(3):
                connection, _ = listener.accept()
                accepted.append(connection)
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with idle.held(f"http://127.0.0.1:{listener.getsockname()[1]}/", 3):
            thread.join()
            assert len(accepted) == 3
        for connection in accepted:
            with connection:
                assert connection.recv(1) == b""


def test_more_than_the_limit_of_open_files_is_an_error() -> None:
    with pytest.raises(LoadError, match="open files"), idle.held("http://127.0.0.1:1/", 10**9):
        pass
