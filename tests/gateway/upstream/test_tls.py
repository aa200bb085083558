"""TLS to the servers of a backend: whom the gateway believes, what it shows, and how failures are named.

The servers are OpenSSL's by the standard library, over real sockets.
"""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import trio
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from structlog.testing import capture_logs

from gateway.protocols.events import RequestHead
from gateway.protocols.http1 import Http1Server
from gateway.protocols.uwsgi import UwsgiServer
from tests.gateway.name_server import name_server
from tests.gateway.served import (
    GET,
    LAST_GET,
    Behaviour,
    Response,
    Served,
    backend,
    gateway_of,
    read_all,
    read_request,
    read_until,
    read_while,
    response,
    run,
)
from tests.gateway.upstream.test_upstream import upstream_of

pytestmark = pytest.mark.usefixtures("quick_sweeper")

AUTHORITY: Final = trustme.CA()
STRANGER: Final = trustme.CA()
SITE: Final = AUTHORITY.issue_cert("app.example", "127.0.0.1")
OTHER_SITE: Final = AUTHORITY.issue_cert("other.example")

OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
POST: Final = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody"


def context_of(leaf: trustme.LeafCert = SITE, *, clients: trustme.CA | None = None) -> ssl.SSLContext:
    """A server that shows *leaf*, and wants certificates that *clients* has signed."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    leaf.configure_cert(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        clients.configure_trust(context)
    return context


class TlsServer:
    """A web server behind TLS. What it has seen is noted."""

    def __init__(self, context: ssl.SSLContext, answer: bytes = OK, *, compatible: bool = False) -> None:
        self._context = context
        self._answer = answer
        self._compatible = compatible
        self.names: list[str | None] = []
        self.protocols: list[str | None] = []
        self.resumed: list[bool] = []
        self.hosts: list[bytes] = []
        self.bodies: list[bytes] = []
        self.ends: list[str] = []
        context.sni_callback = lambda _session, name, _context: self.names.append(name)

    async def behave(self, stream: trio.SocketStream) -> None:
        secure = trio.SSLStream(stream, self._context, server_side=True, https_compatible=self._compatible)
        try:
            await secure.do_handshake()
            self.protocols.append(secure.selected_alpn_protocol())
            self.resumed.append(bool(secure.session_reused))
            while True:
                head, body = await read_request(secure, Http1Server())
                assert isinstance(head, RequestHead)
                self.hosts.append(dict(head.headers)[b"host"])
                self.bodies.append(body)
                await secure.send_all(self._answer)
                if b"Content-Length" not in self._answer:
                    await secure.aclose()
        except trio.BrokenResourceError as broken:
            self.ends.append(str(broken.__cause__ or broken))


def refusing(context: ssl.SSLContext) -> Behaviour:
    """A server that sends its alert when there is no agreement (trio.SSLStream keeps it to itself)."""

    async def behave(stream: trio.SocketStream) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = context.wrap_bio(incoming, outgoing, server_side=True)
        with pytest.raises(ssl.SSLError):  # noqa: PT012 - it fails in one of its steps
            while True:
                try:
                    session.do_handshake()
                    raise AssertionError("there is agreement")
                except ssl.SSLWantReadError:
                    await stream.send_all(outgoing.read())
                    incoming.write(await stream.receive_some())
        await stream.send_all(outgoing.read())
        await read_all(stream)

    return behave


def config(address: str, *, scheme: str = "https", **options: Any) -> dict[str, Any]:
    return {
        "backends": {"app": {"http": f"{scheme}://{address}", **options}},
        "routes": [{"backend": "app"}],
        "debug": True,
    }


@pytest.fixture
def ca(tmp_path: Path) -> str:
    """The file of the authority to trust."""
    path = tmp_path / "ca.pem"
    path.write_bytes(AUTHORITY.cert_pem.bytes())
    return str(path)


def replace(path: Path, content: bytes) -> None:
    """Write a new file in place of the one at *path*."""
    written = path.with_suffix(".new")
    written.write_bytes(content)
    written.replace(path)


def files_of(leaf: trustme.LeafCert, directory: Path) -> dict[str, str]:
    """What the configuration says about the gateway's own certificate."""
    certificate, key = directory / "own.pem", directory / "own-key.pem"
    replace(certificate, leaf.cert_chain_pems[0].bytes())
    replace(key, leaf.private_key_pem.bytes())
    return {"certificate": str(certificate), "key": str(key)}


def ask(behave: Behaviour, request: bytes = LAST_GET, *, path: str | None = None, **options: Any) -> Response:
    """What a client gets from a gateway in front of *behave*."""
    answers: list[Response] = []

    async def main() -> None:
        async with (
            backend(behave, path=path) as app,
            gateway_of(config(app.address, **options)) as served,
        ):
            answers.append(response(await served.ask(request)))

    run(main)
    return answers[0]


def failure(behave: Behaviour, request: bytes = LAST_GET, **options: Any) -> tuple[str, str]:
    """The type of the error and what the developer is told of it."""
    found = ask(behave, request, **options)
    assert found.status == 502, found.body
    status = found.headers["Proxy-Status"]
    _, error, next_hop, details = status.split("; ")
    assert next_hop == 'next-hop="app"'
    return error.removeprefix("error="), details.removeprefix("details=").strip('"')


# ---- whom the gateway believes


def test_answers_come_through_tls(ca: str) -> None:
    """B02: the host of the URL is asked for, HTTP/1.1 offered, and close_notify said (RFC 9112 9.8)."""
    server = TlsServer(context_of())
    assert ask(server.behave, POST, tls={"ca": ca, "server_name": "app.example"}).body == b"ok"
    assert server.names == ["app.example"]
    assert server.protocols == ["http/1.1"]
    assert server.bodies == [b"body"]
    assert server.ends == ["the connection ended"]


def test_address_is_compared_with_those_of_the_certificate(ca: str) -> None:
    """RFC 9525 6.1: an address has no SNI (RFC 6066 3), and is in the certificate all the same."""
    server = TlsServer(context_of())
    assert ask(server.behave, tls={"ca": ca}).body == b"ok"
    assert server.names == [None]


def test_name_with_a_dot_at_its_end(ca: str) -> None:
    """RFC 6066 3: the dot of a name that is complete is not said."""
    server = TlsServer(context_of())
    assert ask(server.behave, tls={"ca": ca, "server_name": "app.example."}).body == b"ok"
    assert server.names == ["app.example"]


@pytest.mark.parametrize(
    ("leaf", "options", "reason"),
    [
        (lambda: OTHER_SITE, {}, "IP address mismatch, certificate is not valid for '127.0.0.1'"),
        (
            lambda: OTHER_SITE,
            {"server_name": "app.example"},
            "Hostname mismatch, certificate is not valid for 'app.example'",
        ),
        (
            lambda: AUTHORITY.issue_cert("127.0.0.1", not_after=datetime.now(UTC) - timedelta(days=1)),
            {},
            "certificate has expired",
        ),
        (
            lambda: AUTHORITY.issue_cert("127.0.0.1", not_before=datetime.now(UTC) + timedelta(days=1)),
            {},
            "certificate is not yet valid",
        ),
        (lambda: STRANGER.issue_cert("127.0.0.1"), {}, "unable to get local issuer certificate"),
    ],
)
def test_wrong_certificate(
    ca: str, leaf: Callable[[], trustme.LeafCert], options: dict[str, str], reason: str
) -> None:
    """RFC 9209 2.3.14, and a word why, in place of a bare 502 (nginx: proxy_ssl_verify)."""
    server = TlsServer(context_of(leaf()))
    error, details = failure(server.behave, tls={"ca": ca, **options})
    assert error == "tls_certificate_error"
    assert details.startswith(f"connect: {reason}")  # newer versions of OpenSSL say more
    assert server.hosts == []


def test_authorities_of_the_system_are_trusted_by_default() -> None:
    """And the test's own is none of them."""
    error, details = failure(TlsServer(context_of()).behave)
    assert error == "tls_certificate_error"
    assert details == "connect: unable to get local issuer certificate"


def test_whoever_is_not_verified_is_warned_about_once() -> None:
    server = TlsServer(context_of(STRANGER.issue_cert("else.example")))
    with capture_logs() as logs:
        assert ask(server.behave, tls={"verify": False, "server_name": "app.example"}).body == b"ok"
    assert server.names == ["app.example"]
    warnings = [entry for entry in logs if entry["log_level"] == "warning"]
    assert warnings == [
        {
            "backend": "app",
            "event": "certificates of servers are not verified",
            "log_level": "warning",
        }
    ]


def test_revoked_certificate(tmp_path: Path, ca: str) -> None:
    """nginx: proxy_ssl_crl."""

    def list_of(*revoked: trustme.LeafCert) -> str:
        now = datetime.now(UTC)
        authority = x509.load_pem_x509_certificate(AUTHORITY.cert_pem.bytes())
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(authority.subject)
            .last_update(now - timedelta(days=1))
            .next_update(now + timedelta(days=1))
        )
        for leaf in revoked:
            number = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).serial_number
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(number).revocation_date(now).build()
            )
        key: Any = load_pem_private_key(AUTHORITY.private_key_pem.bytes(), None)
        path = tmp_path / "revoked.pem"
        path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(encoding=Encoding.PEM))
        return str(path)

    assert ask(TlsServer(context_of()).behave, tls={"ca": ca, "crl": list_of(OTHER_SITE)}).body == b"ok"
    error, details = failure(TlsServer(context_of()).behave, tls={"ca": ca, "crl": list_of(SITE)})
    assert (error, details) == ("tls_certificate_error", "connect: certificate revoked")


def test_unix_socket(tmp_path: Path, ca: str) -> None:
    """It has no name of its own to compare with."""
    server = TlsServer(context_of())
    path = str(tmp_path / "app.sock")
    assert ask(server.behave, path=path, tls={"ca": ca, "server_name": "app.example"}).body == b"ok"


def test_wildcard_and_common_name(ca: str) -> None:
    """nginx: proxy_ssl_verify. One label for the star (RFC 9525 6.3)."""
    wild = AUTHORITY.issue_cert("*.wild.example")
    tls = {"ca": ca, "server_name": "a.wild.example"}
    assert ask(TlsServer(context_of(wild)).behave, tls=tls).body == b"ok"
    error, _ = failure(TlsServer(context_of(wild)).behave, tls={**tls, "server_name": "a.b.wild.example"})
    assert error == "tls_certificate_error"
    # Where hosts are named, the common name is not looked at (RFC 9525 2).
    common = AUTHORITY.issue_cert("other.example", common_name="app.example")
    tls = {"ca": ca, "server_name": "app.example"}
    error, _ = failure(TlsServer(context_of(common)).behave, tls=tls)
    assert error == "tls_certificate_error"


# ---- what the gateway shows


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_certificate_of_the_gateway(tmp_path: Path, ca: str, version: ssl.TLSVersion) -> None:
    """nginx: proxy_ssl_certificate; Caddy: tls_client_auth."""
    context = context_of(clients=STRANGER)
    context.minimum_version = context.maximum_version = version
    own = files_of(STRANGER.issue_cert("gateway.example"), tmp_path)
    assert ask(TlsServer(context).behave, POST, tls={"ca": ca, **own}).body == b"ok"


@pytest.mark.parametrize("request_", [LAST_GET, POST])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_certificate_that_the_gateway_does_not_have(
    ca: str, version: ssl.TLSVersion, request_: bytes
) -> None:
    """RFC 9209 2.3.15. In TLS 1.3 the refusal comes when the gateway has sent its request."""
    context = context_of(clients=STRANGER)
    context.minimum_version = context.maximum_version = version
    error, details = failure(refusing(context), request_, tls={"ca": ca})
    assert error == "tls_alert_received"
    wanted = {
        ssl.TLSVersion.TLSv1_2: "connect: sslv3 alert handshake failure",
        ssl.TLSVersion.TLSv1_3: "first byte: tlsv13 alert certificate required",
    }
    assert details == wanted[version]


def look(served: Served) -> None:
    """What the upkeep does now and then: a change is read when it has stayed the same."""
    tls = upstream_of(served).upkeep.tls
    assert tls is not None
    tls.refresh()
    tls.refresh()


def test_renewed_authorities_are_for_new_connections(ca: str) -> None:
    """No session of before is resumed, of whose server nothing would be looked at."""
    server = TlsServer(context_of())
    statuses: list[int] = []

    async def test(served: Served) -> None:
        async def ask_once() -> None:
            statuses.append(response(await served.ask(LAST_GET)).status)

        await ask_once()
        await ask_once()
        for content in (STRANGER.cert_pem.bytes(), b"nonsense", AUTHORITY.cert_pem.bytes()):
            replace(Path(ca), content)
            look(served)
            look(served)
            await ask_once()

    with capture_logs() as logs:
        serve(server, ca, test, pool={"idle": 0})
    assert statuses == [200, 200, 502, 502, 200]
    assert server.resumed == [False, True, False]
    told = [(entry["event"], entry["backend"]) for entry in logs if "renewed" in entry["event"]]
    assert told == [(f"certificate {what}", "app") for what in ("renewed", "not renewed", "renewed")]


def test_renewed_certificate_of_the_gateway(tmp_path: Path, ca: str) -> None:
    server = TlsServer(context_of(clients=STRANGER))
    statuses: list[int] = []

    async def main() -> None:
        async with backend(server.behave) as app:
            own = files_of(AUTHORITY.issue_cert("gateway.example"), tmp_path)
            async with gateway_of(config(app.address, tls={"ca": ca, **own})) as served:
                for issuer in (AUTHORITY, STRANGER):
                    files_of(issuer.issue_cert("gateway.example"), tmp_path)
                    look(served)
                    statuses.append(response(await served.ask(LAST_GET)).status)

    with capture_logs():
        run(main)
    assert statuses == [502, 200]


# ---- versions and clear text


def test_versions_without_agreement(ca: str) -> None:
    context = context_of()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    error, details = failure(refusing(context), tls={"ca": ca, "min_version": "1.3"})
    assert (error, details) == ("tls_alert_received", "connect: tlsv1 alert protocol version")


def test_ciphers_are_those_of_the_configuration(ca: str) -> None:
    context = context_of()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM")
    error, _ = failure(refusing(context), tls={"ca": ca, "ciphers": "ECDHE+CHACHA20"})
    assert error == "tls_alert_received"


def test_server_in_clear_text(ca: str) -> None:
    async def behave(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    error, details = failure(behave, tls={"ca": ca})
    assert (error, details) == ("tls_protocol_error", "connect: the server does not speak TLS")


def test_clear_text_to_a_server_with_tls() -> None:
    """The other way round: an http URL for a port with TLS, which answers by an alert or not at all."""
    server = TlsServer(context_of())
    found = ask(server.behave, scheme="http")
    assert found.status == 502
    assert server.hosts == []


def test_server_that_leaves_in_the_handshake(ca: str) -> None:
    async def behave(stream: trio.SocketStream) -> None:
        await stream.receive_some()

    error, details = failure(behave, tls={"ca": ca})
    assert error == "tls_protocol_error"
    assert details == "connect: TLS handshake: the peer left in the middle of the handshake"


def test_handshake_counts_into_the_time_to_connect(ca: str) -> None:
    """uvicorn#1345: a bound for each phase."""

    async def behave(_stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    found = ask(behave, tls={"ca": ca}, timeouts={"connect": "100ms"})
    assert found.status == 504
    assert b"the TLS handshake was not done in time" in found.body


# ---- connections


def serve(server: TlsServer, ca: str, test: Callable[[Served], Any], **options: Any) -> int:
    """Run *test* in front of *server*; the number of connections to it."""
    connections: list[int] = []

    async def main() -> None:
        async with backend(server.behave) as app:
            async with gateway_of(config(app.address, tls={"ca": ca}, **options)) as served:
                await test(served)
            connections.append(app.connections)

    run(main)
    return connections[0]


def test_connections_are_used_again(ca: str) -> None:
    """nginx: proxy_ssl_keepalive. Session tickets that come late do not end a connection."""

    async def test(served: Served) -> None:
        async with await served.connect() as client:
            for _ in range(5):
                await client.send_all(GET)
                await read_until(client, b"ok")

    server = TlsServer(context_of())
    assert serve(server, ca, test) == 1
    assert len(server.hosts) == 5


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed(ca: str, version: ssl.TLSVersion) -> None:
    async def test(served: Served) -> None:
        for _ in range(3):
            assert response(await served.ask(LAST_GET)).body == b"ok"

    context = context_of()
    context.minimum_version = context.maximum_version = version
    server = TlsServer(context)
    assert serve(server, ca, test, pool={"idle": 0}) == 3
    assert server.resumed == [False, True, True]


# ---- the end of an answer


UNBOUNDED: Final = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it"


def test_answer_up_to_the_end_of_the_connection(ca: str) -> None:
    found = ask(TlsServer(context_of(), UNBOUNDED).behave, tls={"ca": ca})
    assert (found.body, found.complete) == (b"all of it", True)


def test_answer_without_the_end_of_tls_is_incomplete(ca: str) -> None:
    """RFC 9112 8: the connection may have been cut by somebody else."""
    found = ask(TlsServer(context_of(), UNBOUNDED, compatible=True).behave, tls={"ca": ca})
    assert not found.complete


@pytest.mark.parametrize(
    ("leaf", "options", "status"),
    [
        (SITE, {}, 200),
        (OTHER_SITE, {}, 502),
        (OTHER_SITE, {"server_name": "other.example"}, 200),
    ],
)
def test_service_whose_server_the_name_server_tells(
    ca: str, leaf: trustme.LeafCert, options: dict[str, str], status: int
) -> None:
    """RFC 9525 6.1: the certificate is for the domain that was asked for, and not for what DNS has led to."""
    server = TlsServer(context_of(leaf))

    async def main() -> None:
        async with name_server() as names, backend(server.behave) as app:
            port = app.address.rpartition(":")[2]
            names.say("_web._tcp.app.example", "SRV", f"1 1 {port} other.example.")
            names.say("other.example", "A", "127.0.0.1")
            settings = config("srv:_web._tcp.app.example", tls={"ca": ca, **options})
            async with gateway_of({**settings, "resolver": names.address}) as served:
                assert response(await served.ask(LAST_GET)).status == status

    run(main)
    assert server.names == [options.get("server_name", "app.example")]


@pytest.mark.parametrize("size", [2, 40_000])
def test_answer_in_front_of_a_broken_record_is_one(ca: str, size: int) -> None:
    """They arrive together; the connection is not used again."""
    closed = trio.Event()

    async def behave(stream: trio.SocketStream) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = context_of().wrap_bio(incoming, outgoing, server_side=True)
        said = b""
        while not said.endswith(b"\r\n\r\n"):
            try:
                if session.version() is None:
                    session.do_handshake()
                said += session.read()
            except ssl.SSLWantReadError:
                await stream.send_all(outgoing.read())
                incoming.write(await stream.receive_some())
        session.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
        await stream.send_all(outgoing.read() + b"\x17\x03\x03\x00\x20" + bytes(32))
        await read_all(stream)
        closed.set()

    async def main() -> None:
        async with (
            backend(behave) as app,
            gateway_of(config(app.address, tls={"ca": ca})) as served,
        ):
            assert response(await served.ask(LAST_GET)).body == bytes(size)
            await closed.wait()

    run(main)


def test_large_bodies_go_both_ways(ca: str) -> None:
    """Records that the kernel takes in part only."""
    size = 5_000_000
    body = bytes(range(250)) * (size // 250)
    server = TlsServer(context_of(), b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (size, body))
    request = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (
        size,
        body,
    )

    async def test(served: Served) -> None:
        async with await served.connect() as client:
            answer = await read_while(client, lambda: client.send_all(request))
        assert response(answer).body == body

    serve(server, ca, test)
    assert server.bodies == [body]


# ---- other protocols


def test_uwsgi_over_tls(ca: str) -> None:
    """UW-14: the same bytes."""

    async def behave(stream: trio.SocketStream) -> None:
        secure = trio.SSLStream(stream, context_of(), server_side=True, https_compatible=False)
        _, body = await read_request(secure, UwsgiServer())
        assert body == b"body"
        await secure.send_all(b"HTTP/1.1 200 OK\r\n\r\nok")
        await secure.aclose()

    async def main() -> None:
        async with backend(behave) as app:
            setting = {
                "backends": {"app": {"uwsgi": app.address, "tls": {"ca": ca}}},
                "routes": [{"backend": "app"}],
            }
            async with gateway_of(setting) as served:
                assert response(await served.ask(POST)).body == b"ok"

    run(main)


# ---- the Host


@pytest.mark.parametrize(
    ("options", "host"),
    [({}, b"ADDRESS"), ({"host": "preserve"}, b"a"), ({"host": "app.example"}, b"app.example")],
)
def test_host_for_a_server_with_tls(ca: str, options: dict[str, str], host: bytes) -> None:
    """By default the one that its certificate was checked for (as Caddy since 2.11; RFC 9110 7.4)."""
    server = TlsServer(context_of())

    async def main() -> None:
        async with backend(server.behave) as app:
            async with gateway_of(config(app.address, tls={"ca": ca}, **options)) as served:
                await served.ask(LAST_GET)
            assert server.hosts == [host.replace(b"ADDRESS", app.address.encode())]

    run(main)


def test_each_of_several_servers_gets_its_own_host() -> None:
    hosts: dict[str, bytes] = {}

    def noting(name: str) -> Behaviour:
        async def behave(stream: trio.SocketStream) -> None:
            head, _ = await read_request(stream, Http1Server())
            assert isinstance(head, RequestHead)
            hosts[name] = dict(head.headers)[b"host"]
            await stream.send_all(OK)

        return behave

    async def main() -> None:
        async with backend(noting("one")) as one, backend(noting("two")) as two:
            setting = {
                "backends": {
                    "app": {"http": [f"http://{one.address}", f"http://{two.address}"], "host": "upstream"}
                },
                "routes": [{"backend": "app"}],
            }
            async with gateway_of(setting) as served:
                for _ in range(2):
                    await served.ask(LAST_GET)
            assert hosts == {"one": one.address.encode(), "two": two.address.encode()}

    run(main)
