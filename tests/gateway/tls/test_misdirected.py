"""Requests on a connection whose certificate is for other hosts (RFC 9110 7.4, rule H-17)."""

from ipaddress import ip_network
from pathlib import Path

import pytest
import trio

from gateway.front.proxies import TrustedProxies
from gateway.networks import ClientNetworks
from gateway.request import Request, Responder, respond
from gateway.tls.files import CertificateFiles
from tests.gateway.http2_client import Client
from tests.gateway.served import response, run
from tests.gateway.tls.secured import Secured, certificate, client_context, secured


async def hello(request: Request, responder: Responder) -> None:
    await respond(responder, 200, [], request.host.encode())


async def begin(served: Secured, host: str | None) -> Client:
    """A client of HTTP/2 that has asked for *host* in its handshake, and does not look at certificates."""
    context = client_context()
    context.set_alpn_protocols(["h2"])
    context.check_hostname = False
    stream = await served.hello(host, context)
    assert stream.selected_alpn_protocol() == "h2"
    client = Client(stream)
    await client.begin()
    return client


async def status(client: Client, host: str) -> int:
    return (await client.answer(await client.request(authority=host))).status


def sites(directory: Path) -> list[CertificateFiles]:
    """a.example and b.example with one certificate, all right below c.example, and one host of these."""
    names = [("a.example", "b.example"), ("*.c.example",), ("own.c.example",)]
    return [certificate(directory, *each, file=f"site{index}") for index, each in enumerate(names)]


@pytest.mark.parametrize(
    ("asked", "host", "expected"),
    [
        ("a.example", "a.example", 200),
        ("a.example", "A.Example:443", 200),
        ("a.example", "b.example", 200),  # the same certificate: RFC 9113 9.1.1 lets clients do that
        ("a.example", "b.example.", 200),
        ("a.example", "x.c.example", 421),
        ("a.example", "own.c.example.", 421),
        ("x.c.example", "y.c.example:8443", 200),
        ("x.c.example", "a.example", 421),
        ("x.c.example", "own.c.example", 200),  # another would be shown, but this one is for it too
        ("own.c.example", "x.c.example", 421),
        ("a.example", "nobody.example", 200),  # no other connection would do better
        ("a.example", "127.0.0.1", 200),
        ("nobody.example", "nobody.example", 200),
        ("nobody.example", "x.c.example", 421),
        (None, "x.c.example", 200),  # it would get the first certificate each time
    ],
)
def test_host_that_another_certificate_is_for(
    asked: str | None, host: str, expected: int, tmp_path: Path
) -> None:
    async def main() -> None:
        async with secured(hello, sites(tmp_path)) as served:
            client = await begin(served, asked)
            assert await status(client, host) == expected
            assert await status(client, asked or host) == 200  # the connection goes on
            await trio.aclose_forcefully(client.stream)

    run(main)


def test_upload_and_tunnel_are_misdirected_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with secured(hello, sites(tmp_path)) as served:
            client = await begin(served, "a.example")
            upload = await client.request(method="POST", authority="x.c.example", end=False)
            await client.send_body(upload, b"x" * 1000)
            assert (await client.answer(upload)).status == 421
            tunnel = await client.request(
                method="CONNECT", authority="x.c.example", protocol="websocket", end=False
            )
            assert (await client.answer(tunnel)).status == 421
            assert await status(client, "a.example") == 200
            await trio.aclose_forcefully(client.stream)

    run(main)


def test_renewed_certificate_keeps_its_connections(tmp_path: Path) -> None:
    """The connection's own certificate counts, not the one that would be shown now."""

    async def main() -> None:
        files = sites(tmp_path)
        async with secured(hello, files) as served:
            client = await begin(served, "a.example")
            certificate(tmp_path, "a.example", file="site0")
            certificate(tmp_path, "b.example", "*.c.example", file="site1")
            served.certificates.refresh()
            served.certificates.refresh()
            later = await begin(served, "a.example")
            assert await status(client, "b.example") == 200
            assert await status(later, "b.example") == 421
            await trio.aclose_forcefully(client.stream)
            await trio.aclose_forcefully(later.stream)

    run(main)


def test_trusted_proxy_speaks_for_any_host(tmp_path: Path) -> None:
    """It may ask for one name in all its handshakes, whatever its clients want."""

    async def main() -> None:
        async with secured(hello, sites(tmp_path)) as served:
            served.service.proxies = TrustedProxies(ClientNetworks((ip_network("127.0.0.0/8"),)))
            client = await begin(served, "a.example")
            assert await status(client, "x.c.example") == 200
            await trio.aclose_forcefully(client.stream)

    run(main)


def test_http1_connection_is_for_every_host(tmp_path: Path) -> None:
    """No client of HTTP/1.1 reuses a connection for another host; who asks so means it (curl -H Host:)."""

    async def main() -> None:
        async with secured(hello, sites(tmp_path)) as served:
            request = b"GET / HTTP/1.1\r\nHost: x.c.example\r\nConnection: close\r\n\r\n"
            found = response(await served.ask(request, "a.example"))
            assert (found.status, found.body) == (200, b"x.c.example")

    run(main)
