"""curl and openssl as clients of a gateway with TLS, which runs as people run it."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.gateway.tls.secured import certificate
from tests.peers.conftest import WAIT, Curl, Gateway, RequireProgram

Run = Callable[..., bytes]

CONFIG = """
access_log: false
listeners:
  - http: 127.0.0.1:0
    redirect_https: true
  - http: 127.0.0.1:0
    tls: development
    hsts: {}
routes:
  - match: {path: /files/*}
    mount: /files
    static: files
  - respond: {body: "{scheme} {method}"}
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("tls")
    (directory / "files").mkdir()
    (directory / "files/data").write_bytes(bytes(range(256)) * 20_000)
    config = directory / "gateway.yaml"
    config.write_text(CONFIG)
    with Gateway(
        config, cwd=directory, env={**os.environ, "XDG_CACHE_HOME": str(directory / "cache")}
    ) as running:
        yield running
    assert running.status == 0


@pytest.fixture
def authority(gateway: Gateway) -> str:
    """The file that the log says is to be trusted."""
    (event,) = gateway.events("development certificate: let browsers and clients trust its authority, once")
    return str(event["authority"])


@pytest.fixture
def https(gateway: Gateway) -> str:
    return gateway.https


@pytest.fixture
def curl(curl: Curl, authority: str) -> Run:
    def run(*arguments: str) -> bytes:
        return curl("--cacert", authority, *arguments).stdout

    return run


@pytest.mark.parametrize("version", [("--tls-max", "1.2"), ("--tlsv1.3",)])
def test_get(version: tuple[str, ...], curl: Run, https: str) -> None:
    answer = curl("--include", *version, https)
    assert b"\r\nstrict-transport-security: max-age=31536000\r\n" in answer
    assert answer.endswith(b"\r\n\r\nhttps GET")


@pytest.mark.parametrize(
    ("offer", "version"), [("--http1.1", b"1.1"), ("--http2", b"2"), ("--http1.0", b"1.1")]
)
def test_version_that_is_agreed_on(curl: Run, https: str, offer: str, version: bytes) -> None:
    """RFC 7301: HTTP/2 for those who offer it."""
    assert curl(offer, "--write-out", " %{http_version}", https) == b"https GET " + version


def test_nghttp2(require_program: RequireProgram, https: str) -> None:
    """nghttp and h2load insist on h2."""
    nghttp = require_program("nghttp", "apt-get install nghttp2-client")
    done = subprocess.run([nghttp, "--verbose", https], capture_output=True, timeout=WAIT, check=True)
    assert b"The negotiated protocol: h2" in done.stdout
    assert b"https GET" in done.stdout
    h2load = require_program("h2load", "apt-get install nghttp2-client")
    command = [h2load, "-n200", "-c4", "-m8", f"{https}/files/data"]
    done = subprocess.run(command, capture_output=True, timeout=WAIT, check=True)
    assert b"Application protocol: h2" in done.stdout
    assert b"200 done, 200 succeeded, 0 failed, 0 errored" in done.stdout


def test_several_requests_on_one_connection(curl: Run, https: str) -> None:
    assert curl("--write-out", " %{num_connects};", https, https) == b"https GET 1;https GET 0;"


def test_host_by_name(curl: Run, https: str) -> None:
    assert curl(https.replace("127.0.0.1", "localhost")) == b"https GET"


def test_file(curl: Run, https: str) -> None:
    assert curl(f"{https}/files/data") == bytes(range(256)) * 20_000


def test_redirect_from_clear_text(curl: Run, gateway: Gateway) -> None:
    """308 keeps the method."""
    assert curl("--location", "--data", "x", f"{gateway.url}/a") == b"https POST"


def test_clear_text_on_the_port_of_tls(curl: Run, https: str) -> None:
    found = curl("--write-out", " %{http_code}", https.replace("https", "http"))
    assert b"this port is for HTTPS" in found
    assert found.endswith(b" 400")


def test_openssl_ends_in_order(require_program: RequireProgram, authority: str, https: str) -> None:
    """It complains about an end without close_notify."""
    program = require_program("openssl", "apt-get install openssl")
    address = https.removeprefix("https://")
    done = subprocess.run(
        [program, "s_client", "-quiet", "-verify_return_error", "-CAfile", authority, "-connect", address],
        input=b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        capture_output=True,
        timeout=WAIT,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.endswith(b"https GET")
    assert b"unexpected eof" not in done.stderr


def test_renewal_while_it_runs(require_program: RequireProgram, tmp_path: Path) -> None:
    """The daemon looks by itself, and says in the log what it found."""
    program = require_program("openssl", "apt-get install openssl")
    certificate(tmp_path, "localhost")
    config = tmp_path / "gateway.yaml"
    config.write_text(
        "listeners:\n"
        "  - {http: '127.0.0.1:0'}\n"
        "  - {http: '127.0.0.1:0', tls: {certificate: site.pem, key: site-key.pem}}\n"
        "routes: [{respond: {}}]\n"
    )

    def serial(address: str) -> bytes:
        command = [program, "s_client", "-connect", address]
        shown = subprocess.run(command, input=b"", capture_output=True, timeout=WAIT).stdout
        command = [program, "x509", "-noout", "-serial"]
        return subprocess.run(command, input=shown, capture_output=True, timeout=WAIT, check=True).stdout

    with Gateway(config, cwd=tmp_path) as running:
        address = running.https.removeprefix("https://")
        before = serial(address)
        certificate(tmp_path, "localhost")
        running.wait_for(lambda line: "certificate renewed" in line)
        assert serial(address) != before
