"""The process of an application: what it does with its sockets."""

import socket
from pathlib import Path

import pytest

from gateway.appserver.report import Report
from gateway.hosted.server import Server
from gateway.request import Request, Responder, respond
from gateway.shutdown.notice import ShutdownNotice
from tests.gateway.served import Answering, pumping, run, service_of


def test_who_waits_on_a_socket_that_nobody_else_accepts_on_is_served(tmp_path: Path) -> None:
    """Nobody can come meanwhile: there is no moment in which a connection would be lost."""
    path = str(tmp_path / "own")

    async def answer(_request: Request, responder: Responder) -> None:
        with socket.socket(socket.AF_UNIX) as late, pytest.raises(ConnectionRefusedError):
            late.connect(path)
        await respond(responder, 204, [])

    async def main() -> None:
        with (
            socket.socket(socket.AF_UNIX) as common,
            socket.socket(socket.AF_UNIX) as own,
            socket.socket(socket.AF_UNIX) as client,
        ):
            common.bind(str(tmp_path / "common"))
            own.bind(path)
            common.listen()
            own.listen()
            client.connect(path)
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            async with pumping() as pump:
                server = Server(service_of(pump, Answering(answer)), Report(None), ShutdownNotice())
                server.stopping.set()
                await server.serve([common, own])
            assert client.recv(100).startswith(b"HTTP/1.1 204 ")

    run(main)
