"""Connecting to a backend: families, names, refusals, a full backlog, and the deadline."""

import errno
import os
import resource
import select
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from gateway.errors import BackendError, Cause, Phase
from gateway.net.address import ServiceAddress, TcpAddress, UnixAddress
from gateway.net.stream import PumpStream
from gateway.upstream.dial import Dialer, SocketAddress
from tests.gateway.served import pumping, run

pytestmark = pytest.mark.usefixtures("quick_sweeper")


def dialling(
    address: SocketAddress,
    test: Callable[[Dialer], Awaitable[None]],
    *,
    timeout: float = 0.1,
    hosts: Sequence[str] = (),
) -> None:
    async def main() -> None:
        async with pumping() as pump:
            await test(Dialer(pump, address, backend="app", timeout=timeout, hosts=hosts))

    run(main)


def failure(address: SocketAddress) -> BackendError:
    """How connecting to *address* fails."""
    failures: list[BackendError] = []

    async def test(dialer: Dialer) -> None:
        with pytest.raises(BackendError) as caught:
            await dialer.dial()
        failures.append(caught.value)

    dialling(address, test)
    (found,) = failures
    assert (found.backend, found.address, found.phase) == ("app", str(address), Phase.CONNECT)
    return found


async def speak(stream: PumpStream, listener: socket.socket) -> None:
    """Bytes go both ways over *stream*."""
    theirs, _ = listener.accept()
    with theirs:
        assert not stream.peer_closed
        assert not stream.hung_up
        await stream.send_all(b"ping")
        await trio.lowlevel.checkpoint()
        assert theirs.recv(100) == b"ping"
        theirs.send(b"pong")
        assert await stream.receive_some() == b"pong"
    assert await stream.receive_some() == b""
    stream.close()


@pytest.mark.parametrize(
    ("family", "host", "name", "hosts"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1", ()),
        (socket.AF_INET6, "::1", "::1", ()),
        (socket.AF_INET, "127.0.0.1", "localhost", ("::1", "127.0.0.1")),  # one after the other
    ],
)
def test_tcp(family: socket.AddressFamily, host: str, name: str, hosts: Sequence[str]) -> None:
    with socket.socket(family) as listener:
        try:
            listener.bind((host, 0))
        except OSError:
            pytest.skip("no IPv6 loopback on this machine")
        listener.listen()

        async def test(dialer: Dialer) -> None:
            stream = await dialer.dial()
            assert stream.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            await speak(stream, listener)

        dialling(TcpAddress(name, listener.getsockname()[1]), test, timeout=2, hosts=hosts)


def test_unix(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        async def test(dialer: Dialer) -> None:
            await speak(await dialer.dial(), listener)

        dialling(UnixAddress(path), test)


def test_backend_that_speaks_and_closes_at_once() -> None:
    """What it said is received, and then the end, although both came before anybody looked."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        async def test(dialer: Dialer) -> None:
            stream = await dialer.dial()
            theirs, _ = listener.accept()
            theirs.send(b"bye")
            theirs.close()
            await trio.testing.wait_all_tasks_blocked()
            assert await stream.receive_some() == b"bye"
            assert await stream.receive_some() == b""
            stream.close()

        dialling(TcpAddress(*listener.getsockname()), test)


def test_refused_port() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # not listening, and nobody else can have the port
        assert failure(TcpAddress(*sock.getsockname())).cause is Cause.REFUSED


def test_connection_to_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9293 3.5: sooner or later the kernel chooses the port of a server that is being restarted."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]

    class Unlucky(socket.socket):
        def __init__(self, *arguments: int) -> None:
            super().__init__(*arguments)
            if self.family is socket.AF_INET:
                self.bind(("127.0.0.1", port))

    with monkeypatch.context() as patch:
        patch.setattr("gateway.upstream.dial.socket.socket", Unlucky)
        assert failure(TcpAddress("127.0.0.1", port)).cause is Cause.REFUSED
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))  # nothing keeps the server from it


def test_missing_socket(tmp_path: Path) -> None:
    found = failure(UnixAddress(str(tmp_path / "none")))
    assert (found.cause, found.detail) == (Cause.REFUSED, "No such file or directory")


def test_socket_that_nobody_listens_on(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        assert failure(UnixAddress(path)).cause is Cause.REFUSED


def test_path_that_is_no_socket(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert failure(UnixAddress(str(tmp_path / "file"))).cause is Cause.REFUSED


def test_path_that_is_too_long(tmp_path: Path) -> None:
    assert failure(UnixAddress(str(tmp_path / ("x" * 200)))).cause is Cause.UNREACHABLE


@pytest.mark.parametrize("address", [TcpAddress("app.example", 80), ServiceAddress("_app._tcp.example")])
def test_name_without_an_address(address: SocketAddress) -> None:
    assert failure(address).cause is Cause.UNKNOWN_HOST


def test_service_without_a_server_is_called_by_its_name() -> None:
    async def test(dialer: Dialer) -> None:
        assert (dialer.name, dialer.authority) == ("srv:_app._tcp.example", b"_app._tcp.example")

    dialling(ServiceAddress("_app._tcp.example"), test)


def test_one_of_several_servers_is_called_by_its_number() -> None:
    async def test(dialer: Dialer) -> None:
        assert (dialer.name, dialer.authority) == ("[2001:db8::1]:80", b"app.example")

    dialling(TcpAddress("app.example", 80), test, hosts=["2001:db8::1"])


def test_unix_backlog_that_stays_full(tmp_path: Path) -> None:
    """caddy#546: EAGAIN is tried again, up to the deadline."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener, full(listener, path):
        assert failure(UnixAddress(path)).cause is Cause.CONNECT_TIMEOUT


def test_unix_backlog_that_becomes_free(tmp_path: Path) -> None:
    """caddy#546."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener, full(listener, path):

        async def test(dialer: Dialer) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(dial, dialer)
                await trio.testing.wait_all_tasks_blocked()
                listener.accept()[0].close()

        async def dial(dialer: Dialer) -> None:
            (await dialer.dial()).close()

        dialling(UnixAddress(path), test, timeout=5)


class full:  # noqa: N801 - reads as a phrase
    """A listening Unix socket whose backlog is full."""

    def __init__(self, listener: socket.socket, path: str) -> None:
        listener.bind(path)
        listener.listen(0)
        self._waiting = socket.socket(socket.AF_UNIX)
        self._waiting.connect(path)

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self._waiting.close()


@contextmanager
def not_accepting() -> Iterator[TcpAddress]:
    """A listening TCP port whose backlog is full: connecting to it takes long."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for sock in (first, second):
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield TcpAddress(*listener.getsockname())


def test_tcp_backend_that_does_not_accept() -> None:
    """H-18: the connection timeout is a 504."""
    with not_accepting() as address:
        assert failure(address).cause is Cause.CONNECT_TIMEOUT


class Exhausted:
    """An epoll set for which the kernel has no more room (epoll_ctl(2), ENOSPC)."""

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll

    def register(self, *_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)


def test_connecting_that_cannot_be_watched() -> None:
    with not_accepting() as address:

        async def test(dialer: Dialer) -> None:
            pump: Any = dialer._pump
            pump._epoll = Exhausted(pump._epoll)
            with pytest.raises(BackendError) as caught:
                await dialer.dial()
            assert (caught.value.cause, caught.value.detail) == (
                Cause.OVERLOADED,
                "No space left on device",
            )

        dialling(address, test)


def test_cancelled_connection_is_closed() -> None:
    with not_accepting() as address:

        async def test(dialer: Dialer) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(dialer.dial)
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()

        dialling(address, test, timeout=60)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_no_descriptor_is_left(kind: str, tmp_path: Path) -> None:
    """A shortage on the gateway's side is a failure with a name, too."""
    address = TcpAddress("127.0.0.1", 1) if kind == "tcp" else UnixAddress(str(tmp_path / "none"))

    async def test(dialer: Dialer) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket() as highest:
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest.fileno() + 1, hard))
            try:
                with pytest.raises(BackendError) as caught:
                    await dialer.dial()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert (caught.value.cause, caught.value.detail) == (Cause.OVERLOADED, "Too many open files")

    dialling(address, test)
