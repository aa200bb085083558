"""Real clients of a forward proxy: curl and Python's http.client, by CONNECT through the gateway to HTTPS."""

import http.client
import socket
import ssl
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.gateway.tls.secured import AUTHORITY, authority_file, certificate
from tests.peers.conftest import WAIT, Curl, Gateway, RunGateway

PROXY_REFUSED = (56, 7)
"""curl's exit status for an answer of a proxy that is no tunnel; the second of newer versions."""

FILE = b"".join(b"%07d\n" % number for number in range(500_000))
"""4,000,000 bytes that differ."""

TARGET = """
access_log: false
backends: {app: {wsgi: "echo:app"}}
routes:
  - {match: {path: /echo}, backend: app}
  - {match: {path: /files/*}, mount: /files, static: files}
  - respond: {body: "{scheme} {method} {host}"}
"""

PROXY = """
access_log: {destination: access.log, format: text}
backends: {guard: {wsgi: "guard:app"}}
routes:
  - match: {header: {x-guarded: null}}
    connect: "127.0.0.0/8:PORT"
    forward_auth: {backend: guard}
  - connect: ["127.0.0.0/8:PORT", "*.example.com:443"]
  - respond: {body: page}
"""

LISTENERS = (
    "[{http: 127.0.0.1:0}, {http: 127.0.0.1:0, tls: {certificate: site.pem, key: site-key.pem}}, "
    "{http: 127.0.0.1:0, redirect_https: true}]"
)

ECHO = """
def app(environ, start_response):
    start_response("200 OK", [])
    while data := environ["wsgi.input"].read(65536):
        yield data
"""

GUARD = """
import base64

def app(environ, start_response):
    if environ.get("HTTP_AUTHORIZATION") == "Basic " + base64.b64encode(b"ann:secret").decode():
        start_response("204 No Content", [])
    else:
        fields = [("WWW-Authenticate", "Basic realm=proxy"), ("Content-Length", "0")]
        start_response("401 Unauthorized", fields)
    return []
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("connect")
    (directory / "target/files").mkdir(parents=True)
    (directory / "target/files/numbers.txt").write_bytes(FILE)
    (directory / "target/echo.py").write_text(ECHO)
    (directory / "guard.py").write_text(GUARD)
    certificate(directory, "localhost", "127.0.0.1")
    certificate(directory / "target", "localhost", "127.0.0.1")
    authority_file(directory, AUTHORITY)
    return directory


def https_port(gateway: Gateway) -> int:
    return int(gateway.https.rpartition(":")[2])


@pytest.fixture(scope="module")
def target(directory: Path, run_gateway: RunGateway) -> Iterator[int]:
    """The port of an HTTPS server."""
    with run_gateway(directory / "target", TARGET, listeners=LISTENERS) as running:
        yield https_port(running)


@pytest.fixture(scope="module")
def proxy(directory: Path, run_gateway: RunGateway, target: int) -> Iterator[Gateway]:
    with run_gateway(directory, PROXY.replace("PORT", str(target)), listeners=LISTENERS) as running:
        yield running


@pytest.fixture(params=["http", "https"])
def address(request: pytest.FixtureRequest, proxy: Gateway) -> str:
    """The proxy's URL; by https the tunnel is inside of TLS."""
    return proxy.url if request.param == "http" else f"https://localhost:{https_port(proxy)}"


@pytest.fixture
def curl(curl: Curl, directory: Path) -> Curl:
    """``curl(proxy, *arguments)``: through a tunnel of the proxy."""
    trusted = str(directory / "client-ca.pem")
    tunnel = ("--cacert", trusted, "--proxy-cacert", trusted, "--noproxy", "", "--proxytunnel", "--proxy")
    return partial(curl, *tunnel)


def test_get(address: str, target: int, curl: Curl) -> None:
    """Certificate and name are the target's: the proxy sees neither."""
    done = curl(address, "--verbose", f"https://localhost:{target}/")
    assert done.stdout == b"https GET localhost"
    assert b"HTTP/1.1 200 OK\r\n" in done.stderr


def test_http2_through_the_tunnel(address: str, target: int, curl: Curl) -> None:
    url = f"https://127.0.0.1:{target}/"
    done = curl(address, "--http2", "--write-out", "|%{http_version}|%{num_connects}", url, url)
    assert done.stdout == b"https GET 127.0.0.1|2|1" + b"https GET 127.0.0.1|2|0"


def test_the_gateway_itself(address: str, proxy: Gateway, curl: Curl) -> None:
    """It is another port, which nothing allows."""
    curl(address, f"http://127.0.0.1:{proxy.port}/", status=PROXY_REFUSED)


def test_listener_that_only_redirects(proxy: Gateway, target: int, curl: Curl) -> None:
    done = curl(
        proxy.addresses[2],
        "--write-out",
        "%{http_connect}",
        f"https://localhost:{target}/",
        status=PROXY_REFUSED,
    )
    assert done.stdout == b"501"


def test_tunnel_when_the_daemon_stops(directory: Path, target: int, run_gateway: RunGateway) -> None:
    """It has `timeouts.shutdown` to end by itself; one that is cut off does not look as if it had ended."""
    config = f"timeouts: {{shutdown: 300ms}}\nroutes: [{{connect: '127.0.0.1:{target}'}}]\n"
    with socket.socket() as client:
        client.settimeout(WAIT)
        with run_gateway(directory, config, expect={"requests were cut off"}) as running:
            client.connect((running.host, running.port))
            client.sendall(f"CONNECT 127.0.0.1:{target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        with pytest.raises(ConnectionResetError):
            client.recv(65536)
        assert len(running.events("requests were cut off")) == 1


def test_large_transfers(address: str, target: int, curl: Curl) -> None:
    assert curl(address, f"https://localhost:{target}/files/numbers.txt").stdout == FILE
    done = curl(address, "--data-binary", "@-", f"https://localhost:{target}/echo", data=FILE)
    assert done.stdout == FILE


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("https://localhost:1/", b"403"),
        ("https://localhost/", b"403"),
        ("https://10.0.0.1/", b"403"),
        ("https://[::1]/", b"403"),
        ("https://example.org/", b"403"),
    ],
)
def test_refused(address: str, curl: Curl, url: str, status: bytes) -> None:
    done = curl(address, "--write-out", "%{http_connect}", url, status=PROXY_REFUSED)
    assert done.stdout == status


def test_credentials(address: str, target: int, curl: Curl) -> None:
    """RFC 9110 11.7: 407 once, then the tunnel; curl has to connect anew for it."""
    arguments = ["--proxy-header", "X-Guarded: 1", "--write-out", "%{http_connect}"]
    url = f"https://localhost:{target}/"
    assert curl(address, *arguments, url, status=PROXY_REFUSED).stdout == b"407"
    wrong = ["--proxy-user", "ann:wrong"]
    assert curl(address, *arguments, *wrong, url, status=PROXY_REFUSED).stdout == b"407"
    right = ["--proxy-user", "ann:secret"]
    assert curl(address, *arguments, *right, url).stdout == b"https GET localhost200"
    assert curl(address, *arguments, *right, "--proxy-anyauth", url).stdout == b"https GET localhost200"


def test_http_client_of_python(proxy: Gateway, target: int) -> None:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    client = http.client.HTTPSConnection(proxy.host, proxy.port, timeout=WAIT, context=context)
    client.set_tunnel("localhost", target)
    try:
        for _ in range(3):
            client.request("GET", "/")
            assert client.getresponse().read() == b"https GET localhost"
        client.request("GET", "/files/numbers.txt")
        assert client.getresponse().read() == FILE
    finally:
        client.close()


def test_access_log(proxy: Gateway, target: int, curl: Curl, directory: Path) -> None:
    curl(proxy.url, f"https://localhost:{target}/files/numbers.txt")
    lines = (directory / "access.log").read_text().splitlines()
    sizes = [
        int(line.split()[5].removesuffix("B"))
        for line in lines
        if f" CONNECT localhost:{target} 200 " in line
    ]
    assert max(sizes) > len(FILE)
    assert f"address=127.0.0.1:{target}" in "".join(lines)
