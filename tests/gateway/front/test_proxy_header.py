"""Connections that begin with a PROXY header: who may, what comes of it, and who is turned away."""

import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from gateway.front.entrance import Entrance
from gateway.front.proxies import TrustedProxies
from gateway.front.service import Service, Timeouts
from gateway.networks import ClientNetwork, ClientNetworks
from gateway.protocols.proxy_protocol import Command, ProxyHeader, encode_header
from gateway.request import Request, Responder, respond
from tests.gateway.served import (
    LAST_GET,
    Answering,
    each_served,
    pumping,
    read_all,
    reset,
    response,
    run,
    service_of,
    until,
)
from tests.protocols.test_proxy_protocol import UNIX, V4, V6, binary, checked, tlv

LOOPBACK: list[ClientNetwork] = [ip_network("127.0.0.0/8"), ip_network("::1")]
V1 = b"PROXY TCP4 192.0.2.1 198.51.100.1 50000 443\r\n"
V2 = checked(0x21, 0x21, V6)


async def tell(request: Request, responder: Responder) -> None:
    connection = request.connection
    told = [connection.client, connection.server, connection.scheme]
    await respond(responder, 200, [], json.dumps(told).encode())


class Entered:
    """A listener whose connections begin with a PROXY header."""

    def __init__(self, service: Service, address: Any, family: int) -> None:
        self.entrance = Entrance(service, proxy_protocol=True)
        self.address = address
        self.over = 0
        """Connections that have ended."""
        self._family = family

    async def serve(self, sock: socket.socket) -> None:
        await self.entrance.serve(sock)
        self.over += 1

    async def connect(self) -> trio.SocketStream:
        sock = trio.socket.socket(self._family, socket.SOCK_STREAM)
        await sock.connect(self.address)
        return trio.SocketStream(sock)

    async def ask(self, data: bytes) -> bytes:
        """All that comes for *data*; b"" if the connection is closed, or reset with bytes unread."""
        async with await self.connect() as client:
            try:
                await client.send_all(data)
                return await read_all(client)
            except trio.BrokenResourceError:
                return b""

    async def told(self, data: bytes) -> Any:
        return json.loads(response(await self.ask(data)).body)


@asynccontextmanager
async def entering(
    *,
    trusted: list[ClientNetwork] = LOOPBACK,
    header: float = 10.0,
    path: Path | None = None,
    host: str = "127.0.0.1",
) -> AsyncIterator[Entered]:
    family = socket.AF_UNIX if path is not None else socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.bind((host, 0) if path is None else str(path))
    sock.listen(16)
    sock.setblocking(False)
    with sock:
        async with pumping() as pump:
            proxies = TrustedProxies(ClientNetworks(trusted))
            service = service_of(pump, Answering(tell), timeouts=Timeouts(header=header), proxies=proxies)
            entered = Entered(service, sock.getsockname(), family)
            async with each_served(sock, entered.serve):
                yield entered


def entered(test: Callable[[Entered], Awaitable[None]], **options: Any) -> list[str]:
    """Run *test*; the reasons that were logged for connections that were refused."""

    async def main() -> None:
        async with entering(**options) as listener:
            await test(listener)

    with capture_logs() as logs:
        run(main)
    assert {each["event"] for each in logs} <= {"connection refused"}
    return [each["reason"] for each in logs]


@pytest.mark.parametrize(
    ("header", "client", "server", "scheme"),
    [
        (V1, ["192.0.2.1", 50000], ["198.51.100.1", 443], "http"),
        (V2, ["2001:db8::1", 50000], ["2001:db8::2", 443], "http"),
        (
            binary(0x21, 0x11, V4 + tlv(0x20, b"\1\0\0\0\1")),
            ["192.0.2.1", 50000],
            ["198.51.100.1", 443],
            "https",
        ),
        (
            binary(0x21, 0x31, UNIX),
            ["/run/a", None],
            ["/run/b", None],
            "http",
        ),
    ],
)
def test_header_tells_the_client(header: bytes, client: Any, server: Any, scheme: str) -> None:
    """PP-3, PP-5, PP-6; over TLS if the header says that the client came so (PP-8)."""

    async def test(listener: Entered) -> None:
        assert await listener.told(header + LAST_GET) == [client, server, scheme]

    assert entered(test) == []


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN 192.0.2.1 192.0.2.2 1 2\r\n",
        encode_header(ProxyHeader(2, Command.LOCAL)),
        encode_header(ProxyHeader(2, Command.PROXY)),
    ],
)
def test_health_check_has_the_real_endpoints(header: bytes) -> None:
    """PP-4, PP-7."""

    async def test(listener: Entered) -> None:
        client, server, _ = await listener.told(header + LAST_GET)
        assert (client[0], server) == ("127.0.0.1", list(listener.address))

    assert entered(test) == []


@pytest.mark.parametrize("header", [V1, V2])
def test_header_in_single_bytes(header: bytes) -> None:
    """PP-2: each byte is taken when it comes, so that nothing spins and nothing is lost."""

    async def test(listener: Entered) -> None:
        async with await listener.connect() as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for position in range(len(header)):
                await client.send_all(header[position : position + 1])
                for _ in range(3):
                    await trio.lowlevel.checkpoint()
            await client.send_all(LAST_GET)
            told = json.loads(response(await read_all(client)).body)
            assert told[0] in (["192.0.2.1", 50000], ["2001:db8::1", 50000])

    assert entered(test) == []


@pytest.mark.parametrize("header", [V1, V2])
@pytest.mark.parametrize("rest", [LAST_GET, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 300 + LAST_GET])
def test_nothing_behind_the_header_is_lost(header: bytes, rest: bytes) -> None:
    """PP-2: pipelined in the same segment, more than is looked at in one turn."""

    async def test(listener: Entered) -> None:
        received = await listener.ask(header + rest)
        assert received.count(b"HTTP/1.1 200 ") == rest.count(b"GET ")

    assert entered(test) == []


def test_header_larger_than_one_look() -> None:
    """PP-6: as long as its length says."""
    header = binary(0x21, 0x11, V4 + tlv(0x20, b"\1\0\0\0\1" + tlv(0x22, b"x" * 20_000)))

    async def test(listener: Entered) -> None:
        assert (await listener.told(header + LAST_GET))[2] == "https"

    assert entered(test) == []


def test_second_header_is_no_request() -> None:
    """PP-10: once per connection."""

    async def test(listener: Entered) -> None:
        assert response(await listener.ask(V1 + V1 + LAST_GET)).status == 400

    assert entered(test) == []


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (LAST_GET, "this is not a PROXY header"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", "this is not a PROXY header"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.1 50000 443\n" + LAST_GET, "a lone LF in a PROXY header"),
        (b"PROXY TCP4 192.0.2.256 198.51.100.1 1 2\r\n" + LAST_GET, "malformed address in a PROXY header"),
        (V2[:-1] + b"x" + LAST_GET, "the checksum of a PROXY header is wrong"),
    ],
)
def test_without_a_valid_header_nothing_is_served(data: bytes, reason: str) -> None:
    """PP-1, PP-2: not guessed: what is no header is no request, either."""

    async def test(listener: Entered) -> None:
        assert await listener.ask(data) == b""

    assert entered(test) == [reason]


@pytest.mark.parametrize("data", [b"", b"PROXY TCP4 192"])
def test_client_that_leaves_before_its_header_is_complete(data: bytes) -> None:
    async def test(listener: Entered) -> None:
        async with await listener.connect() as client:
            await client.send_all(data)
            await client.send_eof()
            assert await read_all(client) == b""
        async with await listener.connect() as client:
            await client.send_all(data)
            await until(lambda: len(listener.entrance._open) == 1)
            reset(client)
        await until(lambda: listener.over == 2)

    reasons = entered(test)
    assert reasons[0] == "the connection ended before a PROXY header"
    assert len(reasons) == 2


@pytest.mark.parametrize("data", [b"", b"PROXY TCP4 192"])
def test_silence_is_ended(data: bytes) -> None:
    """PP-2: within timeouts.header."""

    async def test(listener: Entered) -> None:
        assert await listener.ask(data) == b""

    assert entered(test, header=0.05) == ["no PROXY header within 0.05 seconds"]


def test_stranger_is_not_heard() -> None:
    """PP-1: only trusted peers."""

    async def test(listener: Entered) -> None:
        assert await listener.ask(V1 + LAST_GET) == b""

    reasons = entered(test, trusted=[ip_network("10.0.0.0/8"), "unix"])
    assert reasons == ["the peer is not one of trusted_proxies"]


@pytest.mark.parametrize("trusted", [True, False])
def test_unix_sockets(tmp_path: Path, trusted: bool) -> None:
    async def test(listener: Entered) -> None:
        received = await listener.ask(V1 + LAST_GET)
        assert (b'["192.0.2.1", 50000]' in received) is trusted
        if trusted:
            local = await listener.told(b"PROXY UNKNOWN\r\n" + LAST_GET)
            assert local[0] == ["", None]

    reasons = entered(test, path=tmp_path / "s", trusted=["unix"] if trusted else LOOPBACK)
    assert len(reasons) == (not trusted)


def test_ipv6() -> None:
    async def test(listener: Entered) -> None:
        assert (await listener.told(V2 + LAST_GET))[0] == ["2001:db8::1", 50000]

    assert entered(test, host="::1") == []


@pytest.mark.parametrize(("source", "client"), [("127.0.0.9", "192.0.2.7"), ("192.0.2.1", "192.0.2.1")])
def test_client_of_the_header_is_the_one_who_is_trusted_or_not(source: str, client: str) -> None:
    """FWD-5: a balancer in front of a proxy; and a balancer in front of strangers."""
    header = f"PROXY TCP4 {source} 198.51.100.1 1 443\r\n".encode()

    async def test(listener: Entered) -> None:
        data = header + LAST_GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n")
        assert (await listener.told(data))[0][0] == client

    assert entered(test) == []


def test_connections_without_a_header_do_not_hold_the_end() -> None:
    """gunicorn#1236: they count as idle, and end when the daemon drains."""

    async def test(listener: Entered) -> None:
        async with await listener.connect() as silent, await listener.connect() as begun:
            await begun.send_all(b"PROXY ")
            await until(lambda: len(listener.entrance._open) == 2)
            assert listener.entrance.drain() == 0
            assert await read_all(silent) == b""
            try:
                assert await read_all(begun) == b""
            except trio.BrokenResourceError:
                pass

    assert entered(test) == []
