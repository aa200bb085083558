"""Streams of a pump with a peer over real sockets, for tests."""

import socket
from collections.abc import Awaitable, Callable

import trio

from gateway.net.stream import PumpStream
from tests.gateway.served import attached, pumping, run


def connected(kind: str) -> tuple[socket.socket, socket.socket]:
    """Two connected sockets."""
    if kind == "unix":
        return socket.socketpair()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    for sock in (ours, theirs):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ours, theirs


def pumped(kind: str, test: Callable[[PumpStream, trio.SocketStream], Awaitable[None]]) -> None:
    """Run *test* with a stream of the pump and its peer."""

    async def main() -> None:
        async with pumping() as pump:
            ours, theirs = connected(kind)
            stream = attached(pump, ours)
            async with trio.SocketStream(trio.socket.from_stdlib_socket(theirs)) as peer:
                await test(stream, peer)
            stream.close()

    run(main)


def fill(stream: PumpStream) -> int:
    """Send until the kernel takes no more; the bytes it took."""
    total = 0
    while sent := stream.try_send(b"x" * 65536):
        total += sent
    return total
