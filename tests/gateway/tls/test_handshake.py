"""Connections of an entrance with TLS, from first byte to last: who gets in, who does not, and HTTP."""

import json
import os
import ssl
from contextlib import suppress
from pathlib import Path

import pytest
import structlog
import trio
import trustme
from trio.testing import MockClock, wait_all_tasks_blocked

from gateway.environ import build_environ
from gateway.errors import ClientGone, ResponseAborted
from gateway.front.hsts import hsts_value
from gateway.front.service import Limits, Timeouts
from gateway.request import Request, Responder, respond
from tests.gateway.served import GET, LAST_GET, read_all, read_until, response, responses, run, until
from tests.gateway.test_daemon import daemon
from tests.gateway.tls.secured import authority_file, certificate, client_context, secured, tls_options

pytestmark = pytest.mark.usefixtures("quick_sweeper")

VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


async def hello(request: Request, responder: Responder) -> None:
    await respond(responder, 200, [(b"x-scheme", request.connection.scheme.encode())], b"hello")


async def variables(request: Request, responder: Responder) -> None:
    """Answer with the variables about TLS."""
    environ = build_environ(request, script_name="", path_info="/", content_length=None)
    found = {name: value for name, value in environ.items() if name.startswith(("SSL_", "HTTPS"))}
    await respond(responder, 200, [], repr(found).encode())


async def echo(request: Request, responder: Responder) -> None:
    responder.start(200, [])
    while piece := await request.body.read():
        responder.write(piece)
        await responder.flush()
    responder.end()
    await responder.flush()


def environ_of(data: bytes) -> dict[str, str]:
    found: dict[str, str] = eval(response(data).body)
    return found


# ---- who gets in


@VERSIONS
def test_requests_on_one_connection(version: ssl.TLSVersion, tmp_path: Path) -> None:
    async def main() -> None:
        async with secured(hello, [certificate(tmp_path, "localhost")]) as served:
            client = await served.hello(context=client_context(version=version))
            assert client.selected_alpn_protocol() == "http/1.1"
            for _ in range(3):
                await client.send_all(GET)
                (found,) = responses(await read_until(client, b"hello"))
                assert found.status == 200
                assert found.headers["x-scheme"] == "https"
            await client.send_all(LAST_GET)
            assert (await read_all(client)).endswith(b"hello")
            await trio.aclose_forcefully(client)

    run(main)


def test_oldest_version(tmp_path: Path) -> None:
    async def main() -> None:
        options = tls_options(min_version="1.3")
        async with secured(hello, [certificate(tmp_path, "localhost")], options) as served:
            with pytest.raises(trio.BrokenResourceError) as refused:
                await served.hello(context=client_context(version=ssl.TLSVersion.TLSv1_2))
            assert "protocol version" in str(refused.value.__cause__).lower().replace("_", " ")
            await served.ask(LAST_GET, context=client_context(version=ssl.TLSVersion.TLSv1_3))

    run(main)


def test_ciphers(tmp_path: Path) -> None:
    async def main() -> None:
        options = tls_options(ciphers="ECDHE-ECDSA-AES256-GCM-SHA384")
        async with secured(variables, [certificate(tmp_path, "localhost")], options) as served:
            found = environ_of(
                await served.ask(LAST_GET, context=client_context(version=ssl.TLSVersion.TLSv1_2))
            )
        assert found["SSL_CIPHER"] == "ECDHE-ECDSA-AES256-GCM-SHA384"
        assert found["SSL_CIPHER_USEKEYSIZE"] == "256"
        assert found["SSL_PROTOCOL"] == "TLSv1.2"

    run(main)


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("a.example", "a.example"),
        ("A.Example", "a.example"),
        ("www.b.example", "www.b.example"),
        ("x.b.example", "*.b.example"),
        ("x.y.b.example", "localhost"),
        ("b.example", "localhost"),
        ("other.example", "localhost"),
        (None, "localhost"),
    ],
)
def test_certificate_by_name(host: str | None, shown: str, tmp_path: Path) -> None:
    """RFC 6066 3: an exact name before a wildcard, which stands for one label; the first for all others."""
    names = ["localhost", "a.example", "*.b.example", "www.b.example"]
    files = [certificate(tmp_path, name, file=f"file{index}") for index, name in enumerate(names)]

    async def main() -> None:
        async with secured(variables, files) as served:
            context = client_context()
            context.check_hostname = False
            client = await served.hello(host, context)
            ((_, name),) = client.getpeercert()["subjectAltName"]
            assert name == shown
            await client.send_all(LAST_GET)
            found = environ_of(await read_all(client))
            assert found["HTTPS"] == "on"
            assert found.get("SSL_TLS_SNI") == (host and host.lower())
            await trio.aclose_forcefully(client)

    run(main)


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("Other.example", "strict_sni: no certificate is for other.example"),
        (None, "strict_sni: the client asks for no host"),
    ],
)
def test_strict_sni(host: str | None, reason: str, tmp_path: Path) -> None:
    async def main() -> None:
        files = [certificate(tmp_path, "localhost")]
        async with secured(hello, files, tls_options(strict_sni=True)) as served:
            with structlog.testing.capture_logs() as logs, pytest.raises(trio.BrokenResourceError) as refused:
                await served.hello(host)
            assert "unrecognized" in str(refused.value.__cause__).lower()
            (entry,) = logs
            assert (entry["event"], entry["log_level"], entry["reason"]) == (
                "handshake failed",
                "info",
                reason,
            )
            await served.ask(LAST_GET)

    run(main)


def test_host_that_is_not_ascii_is_one_entry_of_the_log(tmp_path: Path) -> None:
    """Python's ssl module writes a traceback to standard error for it."""
    files = certificate(tmp_path, "127.0.0.1")
    tls = f"{{certificate: {files.certificate}, key: {files.key}}}"
    config = f"listeners: [{{http: '127.0.0.1:0', tls: {tls}}}]\nroutes: [{{respond: {{body: fixed}}}}]\n"
    ours = ssl.MemoryBIO()
    session = client_context().wrap_bio(ssl.MemoryBIO(), ours, server_hostname="host.example")
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    with daemon(tmp_path, config) as running:
        running.ready()
        with running.connect() as client:
            client.sendall(ours.read().replace(b"host.example", b"h\xf6st.example"))
            assert client.recv(100)[:1] == b"\x15"  # an alert (RFC 8446 5.1)
        running.process.terminate()
        entries = [json.loads(line)["event"] for line in running.end().splitlines()]
    assert entries == ["ready", "handshake failed", "stopping", "stopped"]


# ---- certificates of clients


@VERSIONS
@pytest.mark.parametrize("mode", ["optional", "required"])
def test_client_certificate(version: ssl.TLSVersion, mode: str, tmp_path: Path) -> None:
    """Its facts are told as by mod_ssl."""
    authority = trustme.CA(organization_name="Issuers, Inc.")
    shown = authority.issue_cert("client@example.com", common_name="Zoë", organization_name="Acme")
    options = tls_options(
        client_certificates="required" if mode == "required" else "optional",
        client_ca=authority_file(tmp_path, authority),
    )

    async def main() -> None:
        async with secured(variables, [certificate(tmp_path, "localhost")], options) as served:
            found = environ_of(
                await served.ask(LAST_GET, context=client_context(version=version, shows=shown))
            )
        assert found["SSL_CLIENT_VERIFY"] == "SUCCESS"
        assert found["SSL_CLIENT_S_DN"].encode("latin-1").decode().startswith("CN=Zoë,OU=Testing cert")
        assert "O=Issuers\\, Inc." in found["SSL_CLIENT_I_DN"]
        assert found["SSL_CLIENT_CERT"].encode() == shown.cert_chain_pems[0].bytes()
        assert found["SSL_CLIENT_V_START"] == "Jan  1 00:00:00 2000 GMT"
        assert found["SSL_CLIENT_V_END"] == "Jan  1 00:00:00 3000 GMT"
        assert int(found["SSL_CLIENT_M_SERIAL"], 16) > 0

    run(main)


def test_optional_certificate_that_is_not_shown(tmp_path: Path) -> None:
    async def main() -> None:
        options = tls_options(
            client_certificates="optional", client_ca=authority_file(tmp_path, trustme.CA())
        )
        async with secured(variables, [certificate(tmp_path, "localhost")], options) as served:
            found = environ_of(await served.ask(LAST_GET))
        assert found["SSL_CLIENT_VERIFY"] == "NONE"
        assert "SSL_CLIENT_CERT" not in found

    run(main)


@VERSIONS
@pytest.mark.parametrize("shown", ["nothing", "wrong authority"])
def test_required_certificate_that_is_not_good(version: ssl.TLSVersion, shown: str, tmp_path: Path) -> None:
    """The client is told why by an alert, in TLS 1.3 only after it has sent its request."""
    authority = trustme.CA()
    wrong = trustme.CA().issue_cert("client@example.com") if shown == "wrong authority" else None
    options = tls_options(client_certificates="required", client_ca=authority_file(tmp_path, authority))

    async def main() -> None:
        async with secured(hello, [certificate(tmp_path, "localhost")], options) as served:
            with (
                structlog.testing.capture_logs() as logged,
                pytest.raises(trio.BrokenResourceError) as refused,
            ):
                await served.ask(LAST_GET, context=client_context(version=version, shows=wrong))
            assert "alert" in str(refused.value.__cause__).lower()
            reason = "certificate verify failed" if wrong else "peer did not return a certificate"
            assert [line["reason"] for line in logged if line["event"] == "handshake failed"] == [reason]
            good = authority.issue_cert("client@example.com")
            await served.ask(LAST_GET, context=client_context(version=version, shows=good))

    run(main)


# ---- who does not get in


@pytest.mark.parametrize("method", [b"GET", b"OPTIONS", b"POST"])
def test_clear_text_is_answered_400(method: bytes, tmp_path: Path) -> None:
    async def main() -> None:
        files = [certificate(tmp_path, "localhost")]
        async with secured(hello, files) as served, await served.connect() as client:
            await client.send_all(b"%b / HTTP/1.1\r\nHost: a\r\n\r\n" % method)
            answer = b"".join([bytes(piece) async for piece in client])
        found = response(answer)
        assert found.status == 400
        assert b"this port is for HTTPS" in found.body

    run(main)


def test_answer_to_clear_text_survives_a_large_body(tmp_path: Path) -> None:
    async def main() -> None:
        files = [certificate(tmp_path, "localhost")]
        async with (
            secured(hello, files) as served,
            await served.connect() as client,
            trio.open_nursery() as nursery,
        ):

            async def send() -> None:
                await client.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n")
                await client.send_all(bytes(4_000_000))

            nursery.start_soon(send)
            answer = b"".join([bytes(piece) async for piece in client])
        assert response(answer).status == 400

    run(main)


@pytest.mark.parametrize("begins", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\x00\x05hello"])
def test_refused_client_that_goes_on_is_cut_off(begins: bytes, tmp_path: Path) -> None:
    """timeouts.linger_total, whatever comes, and however fast."""

    async def main() -> None:
        timeouts = Timeouts(linger_total=0.1)
        files = [certificate(tmp_path, "localhost")]
        async with (
            secured(hello, files, timeouts=timeouts) as served,
            await served.connect() as client,
        ):
            await client.send_all(begins)

            async def go_on() -> None:
                while True:
                    await client.send_all(bytes(65536))

            with pytest.raises(trio.BrokenResourceError):
                await go_on()

    run(main)


def test_bad_clients_leave_nothing(tmp_path: Path) -> None:
    """Garbage, silence, and clients that leave in the middle: 200 of them; others are served meanwhile."""

    async def misbehave(client: trio.SocketStream, kind: int) -> None:
        """To the end of the connection, which is the server's to make."""
        async with client:
            with suppress(trio.BrokenResourceError):
                if kind == 0:
                    await client.send_all(b"\x16\x03\x01\x00\x05hello")
                elif kind == 1:
                    await client.send_all(os.urandom(100))
                elif kind == 2:
                    await client.send_all(b"\x16\x03\x01\x02")
                    return
                while await client.receive_some():
                    pass

    async def main() -> None:
        timeouts = Timeouts(handshake=0.3)
        async with secured(hello, [certificate(tmp_path, "localhost")], timeouts=timeouts) as served:
            with structlog.testing.capture_logs() as logged:
                async with trio.open_nursery() as nursery:
                    for number in range(200):
                        nursery.start_soon(misbehave, await served.connect(), number % 4)
                    assert (await served.ask(LAST_GET)).endswith(b"hello")
                    clock.rate = 1.0
                await until(lambda: not served.entrance._open)
            assert {line["log_level"] for line in logged} == {"info", "debug"}
            assert not served.service.pump._streams

    clock = MockClock(rate=0.01)  # until the others are served, however long that takes
    run(main, seconds=20, clock=clock)


def test_draining_ends_handshakes(tmp_path: Path) -> None:
    async def main() -> None:
        async with secured(hello, [certificate(tmp_path, "localhost")]) as served:
            silent = await served.connect()
            idle = await served.hello()
            await until(lambda: len(served.entrance._open) == 2)
            await wait_all_tasks_blocked()
            assert served.entrance.drain() == 0
            assert await silent.receive_some() == b""
            assert await idle.receive_some() == b""  # and it is said: close_notify
            await until(lambda: not served.entrance._open)
            await silent.aclose()
            await trio.aclose_forcefully(idle)

    run(main)


# ---- HTTP over it


def test_upload_and_download_at_once(tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 20

    async def main() -> None:
        limits = Limits(body=1 << 30)
        async with secured(echo, [certificate(tmp_path, "localhost")], limits=limits) as served:
            client = await served.hello()

            async def send() -> None:
                await client.send_all(
                    b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
                    % len(data)
                )
                await client.send_all(data)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                received = await read_all(client)
            await trio.aclose_forcefully(client)
        found = response(received)
        assert found.complete
        assert found.body == data

    run(main, seconds=40)


def test_slow_reader_slows_the_handler(tmp_path: Path) -> None:
    written = 0

    async def pour(_request: Request, responder: Responder) -> None:
        nonlocal written
        responder.start(200, [])
        for _ in range(200):
            responder.write(bytes(65536))
            written += 1
            await responder.flush()
        responder.end()
        await responder.flush()

    async def main() -> None:
        async with secured(pour, [certificate(tmp_path, "localhost")], send_buffer=65536) as served:
            client = await served.hello()
            await client.send_all(LAST_GET)
            await until(lambda: written > 0)
            await wait_all_tasks_blocked()
            assert written < 150
            found = response(await read_all(client))
            assert found.complete
            assert len(found.body) == 200 * 65536
            await trio.aclose_forcefully(client)

    run(main)


def test_reader_that_never_reads_is_given_up(tmp_path: Path) -> None:
    gone: list[bool] = []

    async def pour(_request: Request, responder: Responder) -> None:
        responder.start(200, [])
        try:
            while True:
                responder.write(bytes(1 << 20))
                await responder.flush()
        except ClientGone:
            gone.append(True)
            raise

    async def main() -> None:
        timeouts = Timeouts(send=0.1)
        async with secured(pour, [certificate(tmp_path, "localhost")], timeouts=timeouts) as served:
            client = await served.hello()
            await client.send_all(LAST_GET)
            await until(lambda: bool(gone))
            await until(lambda: not served.entrance._open)
            await trio.aclose_forcefully(client)

    run(main)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_response_that_is_cut_short_looks_so(version: bytes, tmp_path: Path) -> None:
    """No close_notify: a client must not take what it has got for all there is (RFC 9112 9.8)."""

    async def half(_request: Request, responder: Responder) -> None:
        responder.start(200, [])
        responder.write(b"half")
        await responder.flush()
        raise ResponseAborted("cut")

    async def main() -> None:
        async with secured(half, [certificate(tmp_path, "localhost")]) as served:
            client = await served.hello()
            await client.send_all(b"GET / HTTP/%b\r\nHost: a\r\n\r\n" % version)
            with pytest.raises(trio.BrokenResourceError):
                await read_all(client)
            await trio.aclose_forcefully(client)

    run(main)


def test_refusal_survives_a_large_upload(tmp_path: Path) -> None:
    """Closing in stages (RFC 9112 9.6), with close_notify while the client goes on sending."""

    async def main() -> None:
        limits = Limits(body=1000)
        async with secured(hello, [certificate(tmp_path, "localhost")], limits=limits) as served:
            client = await served.hello()

            async def send() -> None:
                await client.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n")
                await client.send_all(bytes(3_000_000))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                answer = await read_all(client)
                nursery.cancel_scope.cancel()
            await trio.aclose_forcefully(client)
        assert response(answer).status == 413

    run(main)


def test_idle_connection_ends_with_a_word(tmp_path: Path) -> None:
    async def main() -> None:
        timeouts = Timeouts(keep_alive=0.05)
        async with secured(hello, [certificate(tmp_path, "localhost")], timeouts=timeouts) as served:
            client = await served.hello()
            await client.send_all(GET)
            assert (await read_all(client)).endswith(b"hello")
            await trio.aclose_forcefully(client)

    run(main)


def test_client_that_says_goodbye_is_answered(tmp_path: Path) -> None:
    """RFC 8446 6.1: close_notify both ways."""

    async def main() -> None:
        async with secured(hello, [certificate(tmp_path, "localhost")]) as served:
            client = await served.hello()
            await client.send_all(GET)
            await read_until(client, b"hello")
            transport, rest = await client.unwrap()
            assert rest == b""
            await trio.aclose_forcefully(transport)

    run(main)


def test_client_that_leaves_is_noticed(tmp_path: Path) -> None:
    told: list[bool] = []

    async def wait(_request: Request, responder: Responder) -> None:
        responder.on_disconnect = lambda: told.append(True)
        await trio.sleep_forever()

    async def main() -> None:
        timeouts = Timeouts(disconnect_grace=0.05)
        async with secured(wait, [certificate(tmp_path, "localhost")], timeouts=timeouts) as served:
            client = await served.hello()
            await client.send_all(GET)
            await wait_all_tasks_blocked()
            await trio.aclose_forcefully(client)
            await until(lambda: bool(told))
            await until(lambda: not served.entrance._open)

    run(main)


# ---- HSTS


def test_hsts_on_every_response(tmp_path: Path) -> None:
    """RFC 6797 7.1; errors included."""

    async def answer(request: Request, responder: Responder) -> None:
        match request.path:
            case "/pieces":
                responder.start(200, [])
                responder.write(b"a")
                responder.write(b"b")
                responder.end()
                await responder.flush()
            case "/own":
                await respond(responder, 200, [(b"Strict-Transport-Security", b"max-age=1")], b"own")
            case "/fails":
                raise ResponseAborted("cut")
            case _:
                await respond(responder, 200, [], b"whole")

    value = hsts_value(86400.0, subdomains=True, preload=False)

    async def main() -> None:
        async with secured(answer, [certificate(tmp_path, "localhost")], hsts=value) as served:
            for path, expected in [
                ("/", "max-age=86400; includeSubDomains"),
                ("/pieces", "max-age=86400; includeSubDomains"),
                ("/fails", "max-age=86400; includeSubDomains"),
                ("/own", "max-age=1"),
            ]:
                data = f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
                found = response(await served.ask(data))
                assert found.headers.get_all("strict-transport-security") == [expected]

    run(main)
