"""A gateway with TLS for tests: real certificates by trustme, real sockets, clients of trio and the standard
library. ``from tests.gateway.tls.secured import …``.
"""

import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import trio
import trustme

from gateway.front.entrance import Entrance
from gateway.front.service import Limits, Service, Timeouts
from gateway.tls.context import Certificates, TlsOptions
from gateway.tls.files import CertificateFiles
from tests.gateway.served import Answer, Answering, each_served, pumping, read_all, service_of

Client: TypeAlias = trio.SSLStream[trio.SocketStream]

AUTHORITY = trustme.CA()
"""Signs the servers' certificates."""


def certificate(directory: Path, *names: str, file: str = "site") -> CertificateFiles:
    """The files of a new certificate for *names*; written in place if they are there already."""
    files = CertificateFiles(directory / f"{file}.pem", directory / f"{file}-key.pem")
    leaf = AUTHORITY.issue_cert(*names)
    files.key.write_bytes(leaf.private_key_pem.bytes())
    files.certificate.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
    return files


def tls_options(**options: Any) -> TlsOptions:
    """Those of a listener, with *options* in place of what most tests want."""
    usual: dict[str, Any] = {
        "min_version": "1.2",
        "ciphers": None,
        "client_certificates": "off",
        "client_ca": None,
        "strict_sni": False,
        "protocols": ("h2", "http/1.1"),
    }
    return TlsOptions(**{**usual, **options})


def authority_file(directory: Path, authority: trustme.CA) -> Path:
    path = directory / "client-ca.pem"
    path.write_bytes(authority.cert_pem.bytes())
    return path


def client_context(
    *, version: ssl.TLSVersion | None = None, shows: trustme.LeafCert | None = None
) -> ssl.SSLContext:
    """What a client trusts and shows."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    context.set_alpn_protocols(["http/1.1"])
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if shows is not None:
        shows.configure_cert(context)
    return context


@dataclass
class Secured:
    """A service behind TLS."""

    service: Service
    certificates: Certificates
    entrance: Entrance
    address: tuple[str, int]

    async def connect(self) -> trio.SocketStream:
        """A connection on which nothing was said."""
        return await trio.open_tcp_stream(*self.address)

    async def hello(self, host: str | None = "localhost", context: ssl.SSLContext | None = None) -> Client:
        """A connection after its handshake."""
        if context is None:
            context = client_context()
        if host is None:
            context.check_hostname = False
        client = trio.SSLStream(await self.connect(), context, server_hostname=host)
        try:
            await client.do_handshake()
        except BaseException:
            client.transport_stream.socket.close()
            raise
        return client

    async def ask(
        self, data: bytes, host: str | None = "localhost", context: ssl.SSLContext | None = None
    ) -> bytes:
        """All that comes for *data*; the server has to end the connection, and to say so (close_notify)."""
        client = await self.hello(host, context)
        try:
            await client.send_all(data)
            return await read_all(client)
        finally:
            await trio.aclose_forcefully(client)


@asynccontextmanager
async def secured(
    answer: Answer,
    files: Sequence[CertificateFiles],
    options: TlsOptions | None = None,
    *,
    timeouts: Timeouts | None = None,
    limits: Limits | None = None,
    hsts: bytes | None = None,
    send_buffer: int | None = None,
) -> AsyncIterator[Secured]:
    """A service whose only route is *answer*, behind TLS on a TCP port."""
    async with pumping() as pump:
        service = service_of(pump, Answering(answer), timeouts=timeouts, limits=limits, hsts=hsts)
        certificates = Certificates(options or tls_options(), files)
        entrance = Entrance(service, certificates=certificates)
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            sock.listen(256)
            sock.setblocking(False)
            if send_buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
            async with each_served(sock, entrance.serve):
                yield Secured(service, certificates, entrance, sock.getsockname())
