"""PROXY headers to web servers: first of all on each connection, which carries one request."""

from typing import Any

import pytest
import trio

from gateway.protocols.http1 import Http1Server
from gateway.protocols.proxy_protocol import Command, ProxyHeader, ProxyHeaderReader
from gateway.upstream.proxy_header import proxy_header
from tests.gateway.served import GET, Served, backend, gateway_of, read_request, read_until, run

pytestmark = pytest.mark.usefixtures("quick_sweeper")

FORWARDED = GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: %b\r\n\r\n")


def headers_for(request: bytes, **options: Any) -> tuple[list[ProxyHeader], list[Any]]:
    """The headers that a server gets for two requests of one client, and the client's own addresses."""
    found: list[ProxyHeader] = []
    own: list[Any] = []

    async def behave(stream: trio.SocketStream) -> None:
        reader = ProxyHeaderReader()
        while reader.header is None:
            data = await stream.receive_some(1)
            assert data, "no header"
            assert reader.receive_data(bytes(data)) == 1
        found.append(reader.header)
        await read_request(stream, Http1Server())
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async def test(served: Served) -> None:
        async with await served.connect() as client:
            own.extend([client.socket.getsockname(), client.socket.getpeername()])
            for _ in range(2):
                await client.send_all(request)
                await read_until(client, b"ok")

    async def main() -> None:
        async with backend(behave) as app:
            settings = {
                "trusted_proxies": ["127.0.0.0/8"],
                "backends": {"app": {"http": f"http://{app.address}", **options}},
                "routes": [{"backend": "app"}],
            }
            async with gateway_of(settings) as served:
                await test(served)
            assert app.connections == 2

    run(main)
    return found, own


@pytest.mark.parametrize("version", [1, 2])
def test_client_is_told(version: int) -> None:
    """PP-10 (HAProxy: send-proxy; Caddy: proxy_protocol)."""
    found, (client, gateway) = headers_for(GET, proxy_protocol=f"v{version}")
    assert found == [ProxyHeader(version, Command.PROXY, client, gateway)] * 2


@pytest.mark.parametrize("version", [1, 2])
def test_client_behind_a_proxy(version: int) -> None:
    """Its port is not known."""
    found, (_, gateway) = headers_for(FORWARDED % b"192.0.2.1", proxy_protocol=f"v{version}")
    assert found[0] == ProxyHeader(version, Command.PROXY, ("192.0.2.1", 0), gateway)


def test_both_ends_are_of_one_family() -> None:
    """PP-5: a client by IPv6 at a proxy that came by IPv4."""
    found, (_, gateway) = headers_for(FORWARDED % b"2001:db8::1", proxy_protocol="v2")
    assert found[0].source == ("2001:db8::1", 0)
    assert found[0].destination == ("::ffff:127.0.0.1", gateway[1])


def test_connection_of_the_gateways_own() -> None:
    """PP-7: a health check is nobody's request."""
    assert proxy_header(1, None) == b"PROXY UNKNOWN\r\n"
    reader = ProxyHeaderReader()
    reader.receive_data(proxy_header(2, None))
    assert reader.header == ProxyHeader(2, Command.LOCAL)
