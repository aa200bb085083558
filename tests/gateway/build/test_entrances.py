"""Listeners become entrances: https in the ready line, redirects to the port of https, HSTS."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from gateway.build import build
from gateway.build.entrances import Entrances
from gateway.config import ConfigError, from_mapping, load_text
from gateway.connections import Connections
from gateway.errors import StartError
from gateway.listener import accept, open_listener
from gateway.net.pump import Pump
from gateway.protocols.http2 import PREFACE
from gateway.request import Request
from gateway.shutdown.stages import Ending, Stage
from tests.gateway.backends.asgi_harness import published
from tests.gateway.served import LAST_GET, pumping, read_all, response, run
from tests.gateway.tls.secured import certificate, client_context

ROUTES = [{"respond": {"body": "hello {scheme}"}}]


@asynccontextmanager
async def entered(listeners: list[dict[str, Any]]) -> AsyncIterator[list[str]]:
    """A gateway with *listeners*; their addresses as the log has them."""
    config = from_mapping({"listeners": listeners, "routes": ROUTES}, "", ".")
    with ExitStack() as stack:
        sockets = [opened for listener in config.listeners for opened in open_listener(listener)]
        for opened in sockets:
            stack.callback(opened.close)
        async with trio.open_nursery() as pumping:
            pump = Pump()
            await pumping.start(pump.run)
            entrances = Entrances(config, build(config, pump, None).service, sockets)
            for listening, entrance in entrances.doors:
                pumping.start_soon(accept, listening, starter(pumping, entrance.serve))
            yield [str(listening) for listening, _ in entrances.doors]
            pumping.cancel_scope.cancel()


def starter(nursery: trio.Nursery, serve: Callable[..., Any]) -> Callable[[Any], None]:
    return lambda sock: nursery.start_soon(serve, sock)


async def ask(address: str, data: bytes = LAST_GET) -> bytes:
    scheme, _, rest = address.partition("://")
    host, _, port = rest.rpartition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    try:
        if scheme == "http":
            await stream.send_all(data)
            return b"".join([bytes(piece) async for piece in stream])
        client = trio.SSLStream(stream, client_context(), server_hostname="localhost")
        await client.send_all(data)
        return await read_all(client)
    finally:
        await trio.aclose_forcefully(stream)


def test_tls_beside_clear_text(tmp_path: Path) -> None:
    files = certificate(tmp_path, "localhost")
    tls = {"certificate": str(files.certificate), "key": str(files.key)}

    async def main() -> None:
        listeners: list[dict[str, Any]] = [
            {"http": "127.0.0.1:0"},
            {"http": "127.0.0.1:0", "tls": tls, "hsts": {"max_age": "1d", "subdomains": True}},
            {"http": "127.0.0.1:0", "tls": [tls]},
            {"http": "127.0.0.1:0", "redirect_https": True},
            {"http": "127.0.0.1:0", "redirect_https": 443},
        ]
        async with entered(listeners) as addresses:
            assert [address.partition(":")[0] for address in addresses] == [
                "http", "https", "https", "http", "http"
            ]  # fmt: skip
            clear = response(await ask(addresses[0]))
            assert clear.body == b"hello http"
            assert clear.headers["strict-transport-security"] is None
            secure = response(await ask(addresses[1]))
            assert secure.body == b"hello https"
            assert secure.headers["strict-transport-security"] == "max-age=86400; includeSubDomains"
            other = response(await ask(addresses[2]))
            assert other.headers["strict-transport-security"] is None
            data = b"POST /a%2Fb//c?d=%20e HTTP/1.1\r\nHost: Site.example:80\r\nConnection: close\r\n\r\n"
            port = addresses[1].rpartition(":")[2]
            for address, expected in ((addresses[3], f"site.example:{port}"), (addresses[4], "site.example")):
                found = response(await ask(address, data))
                assert found.status == 308
                assert found.headers["location"] == f"https://{expected}/a%2Fb//c?d=%20e"

    run(main)


def test_redirect_needs_a_host(tmp_path: Path) -> None:
    async def main() -> None:
        async with entered([{"http": "127.0.0.1:0", "redirect_https": 443}]) as (address,):
            assert response(await ask(address, b"GET / HTTP/1.0\r\n\r\n")).status == 400
            data = b"OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n\r\n"
            assert response(await ask(address, data)).headers["location"] == "https://[::1]/"

    run(main)


def test_sockets_of_one_listener_share_its_entrance() -> None:
    config = from_mapping({"listeners": [{"http": "127.0.0.1:0"}], "routes": ROUTES}, "", ".")

    async def main() -> None:
        (one,) = open_listener(config.listeners[0])
        (two,) = open_listener(config.listeners[0])
        entrances = Entrances(config, build(config, Pump(), None).service, [one, two])
        (_, first), (_, second) = entrances.doors
        assert first is second
        one.close()
        two.close()

    trio.run(main)


def test_certificate_that_vanished_since_the_configuration_was_read(tmp_path: Path) -> None:
    files = certificate(tmp_path, "localhost")
    listener = {
        "http": "127.0.0.1:0",
        "tls": {"certificate": str(files.certificate), "key": str(files.key)},
    }
    config = from_mapping({"listeners": [listener], "routes": ROUTES}, "", ".")
    files.certificate.unlink()

    async def main() -> None:
        (opened,) = open_listener(config.listeners[0])
        with pytest.raises(StartError, match=r"site\.pem cannot be read"):
            Entrances(config, build(config, Pump(), None).service, [opened])
        opened.close()

    trio.run(main)


CONFIG = """\
listeners:
  - http: 127.0.0.1:0
    tls:
      certificate: site.pem
      key: {key}
      client_ca: {ca}
      client_certificates: required
routes:
  - respond: {{}}
"""


@pytest.mark.parametrize(
    ("key", "ca", "line", "message"),
    [
        ("none.pem", "site.pem", 5, "listeners[0].tls.key: {dir}/none.pem cannot be read: No such file"),
        ("site.pem", "site.pem", 5, "listeners[0].tls.key: {dir}/site.pem has no private key in PEM form"),
        (
            "other-key.pem",
            "site.pem",
            3,
            "listeners[0].tls: {dir}/other-key.pem is not the key of {dir}/site",
        ),
        ("site-key.pem", "site-key.pem", 6, "listeners[0].tls.client_ca: {dir}/site-key.pem has no certif"),
    ],
)
def test_mistakes_have_file_and_line(key: str, ca: str, line: int, message: str, tmp_path: Path) -> None:
    certificate(tmp_path, "localhost")
    certificate(tmp_path, "localhost", file="other")
    with pytest.raises(ConfigError) as caught:
        load_text(CONFIG.format(key=key, ca=ca), "gateway.yaml", tmp_path)
    (mistake,) = caught.value.mistakes
    assert str(mistake).startswith(f"gateway.yaml:{line}: {message.format(dir=tmp_path)}")


@pytest.mark.parametrize("preface", [b"", PREFACE + b"\0\0\0\4\0\0\0\0\0"], ids=["HTTP/1.1", "HTTP/2"])
def test_a_bug_ends_its_connection_and_no_other(preface: bytes) -> None:
    """Wherever it is: the log of requests is written when a handler can answer for nothing any more."""
    crashed = False

    def log(request: Request, *_facts: object) -> None:
        nonlocal crashed
        if request.path == "/bug":
            crashed = True
            raise ValueError("a bug")

    # RFC 7541 6: :method GET, :scheme http, :path /bug, :authority a
    fields = b"\x82\x86\x04\x04/bug\x01\x01a"
    bug = b"GET /bug HTTP/1.1\r\nHost: a\r\n\r\n"
    if preface:
        bug = preface + bytes((0, 0, len(fields), 1, 5, 0, 0, 0, 1)) + fields

    async def main() -> None:
        config = from_mapping({"listeners": [{"http": "127.0.0.1:0"}], "routes": ROUTES}, "", ".")
        async with pumping() as pump:
            gateway = build(config, pump, None)
            gateway.service.access_log = log
            doors = Entrances(config, gateway.service, open_listener(config.listeners[0])).doors
            ending, ready = Ending(), trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(Connections(gateway, doors, config.timeouts).serve, ending, ready.set)
                await ready.wait()
                address = str(doors[0][0])
                other = await trio.open_tcp_stream(*doors[0][0].sock.getsockname())
                async with other:
                    await ask(address, bug)
                    await other.send_all(LAST_GET)
                    assert response(await read_all(other)).status == 200
                ending.advance(Stage.DRAINING)

    with capture_logs() as logs:
        run(main)
    assert crashed
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["connection crashed"]


LEAVE = b"GET /leave HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@asynccontextmanager
async def on_trio(app: Any) -> AsyncIterator[str]:
    """The address of a gateway in front of *app* on trio."""
    api = {"asgi": published(app), "loop": "trio", "lifespan": "off"}
    data = {"backends": {"api": api}, "routes": [{"backend": "api"}]}
    config = from_mapping({"listeners": [{"http": "127.0.0.1:0"}], **data}, "", ".")
    async with pumping() as pump, trio.open_nursery() as backends:
        gateway = build(config, pump, None)
        for each in gateway.services:
            await backends.start(each.run)
        doors = Entrances(config, gateway.service, open_listener(config.listeners[0])).doors
        ending, ready = Ending(), trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Connections(gateway, doors, config.timeouts).serve, ending, ready.set)
            await ready.wait()
            yield str(doors[0][0])
            ending.advance(Stage.DRAINING)
        backends.cancel_scope.cancel()


def test_a_nursery_that_an_application_leaves_open_ends_no_other_connection() -> None:
    """Trio promises nothing to such an application; but to all others."""
    left_open = []
    ended = trio.Event()

    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/leave":
            left_open.append(trio.open_nursery())
            (await left_open[0].__aenter__()).start_soon(child)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"done"})

    async def main() -> None:
        async with on_trio(app) as address:
            host, _, port = address.removeprefix("http://").partition(":")
            other = await trio.open_tcp_stream(host, int(port))
            async with other:
                assert response(await ask(address, LEAVE)).status == 200
                await ended.wait()
                await other.send_all(LAST_GET)
                assert response(await read_all(other)).status == 200

    with capture_logs() as logs:
        run(main)
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["connection crashed"]


def test_no_request_is_answered_within_a_scope_that_an_application_has_left_open() -> None:
    """Behind a proxy the next one of the connection is somebody else's."""
    left_open = trio.CancelScope()
    paths = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        paths.append(scope["path"])
        if scope["path"] == "/leave":
            left_open.__enter__()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"done"})

    async def main() -> None:
        async with on_trio(app) as address:
            host, _, port = address.removeprefix("http://").partition(":")
            async with await trio.open_tcp_stream(host, int(port)) as client:
                await client.send_all(b"GET /leave HTTP/1.1\r\nHost: a\r\n\r\n" + LAST_GET)
                assert response(await read_all(client)).status == 200

    with capture_logs() as logs:
        run(main)
    assert paths == ["/leave"]
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["connection crashed"]


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
@pytest.mark.parametrize("kept", [False, True], ids=["trio", "another request"])
def test_an_application_that_leaves_a_generator_with_an_open_nursery_ends_its_connection(kept: bool) -> None:
    """Trio's own task closes it, or another request, when the connection is gone already; not the daemon."""
    generators = []
    cancelled, free, ended = trio.Event(), trio.Event(), trio.Event()

    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()
            with trio.CancelScope(shield=True):
                await free.wait()
            ended.set()

    async def items() -> AsyncGenerator[int, None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            yield 1

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/leave":
            generator = items()
            if kept:
                generators.append(generator)
            async for _ in generator:
                break
            del generator
        if scope["path"] == "/close":
            await generators.pop().aclose()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"done"})

    async def main() -> None:
        async with on_trio(app) as address, trio.open_nursery() as nursery:
            assert response(await ask(address, LEAVE)).status == 200
            await cancelled.wait()
            if kept:
                nursery.start_soon(ask, address, LEAVE.replace(b"/leave", b"/close"))
                while generators:
                    await trio.lowlevel.checkpoint()
            free.set()
            await ended.wait()
            assert response(await ask(address)).status == 200

    with capture_logs() as logs:
        run(main)
    errors = [entry["event"] for entry in logs if entry["log_level"] == "error"]
    assert errors == ["connection crashed"] + ["application failed", "backend failed"] * kept
