"""Real clients in front of the gateway: curl in all its ways, and a burst of load by wrk."""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.peers.conftest import CHECKOUT, WAIT, Gateway, RequireProgram, RunGateway

Curl = Callable[..., "subprocess.CompletedProcess[bytes]"]

FILE = b"".join(b"%07d\n" % number for number in range(50_000))
"""400,000 bytes that differ."""

CONFIG = """
access_log: false
backends:
  app: {wsgi: echo_app:app}
routes:
  - match: {path: /app/*}
    mount: /app
    backend: app
  - match: {path: /files/*}
    mount: /files
    static: files
  - respond: {body: "hello, {header.user-agent}"}
"""


@pytest.fixture(scope="module")
def gateway(run_gateway: RunGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("clients")
    (directory / "files").mkdir()
    (directory / "files/numbers.txt").write_bytes(FILE)
    shutil.copy(CHECKOUT / "tests/peers/apps/echo_app.py", directory)
    with run_gateway(directory, CONFIG) as running:
        yield running


@pytest.fixture
def curl(require_program: RequireProgram, tmp_path: Path) -> Curl:
    """``curl(*arguments)``: curl's output, and its word on standard error about what it did."""
    program = require_program("curl", "apt-get install curl")

    def run(*arguments: str, data: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        command = [program, "--disable", "--silent", "--show-error", "--fail-with-body", *arguments]
        done = subprocess.run(command, input=data, capture_output=True, timeout=WAIT, cwd=tmp_path)
        assert done.returncode == 0, done.stderr.decode()
        return done

    return run


def test_get(gateway: Gateway, curl: Curl) -> None:
    assert curl("--user-agent", "x y", f"{gateway.url}/a?b").stdout == b"hello, x y"


def test_head(gateway: Gateway, curl: Curl) -> None:
    """RFC 9110 9.3.2: the fields of GET, and the connection serves the next request."""
    url = f"{gateway.url}/files/numbers.txt"
    done = curl("--head", url, "--next", "--silent", "--head", url, "--verbose")
    assert done.stdout.lower().count(b"content-length: 400000\r\n") == 2
    assert b"Re-using existing connection" in done.stderr


def test_one_connection_for_many_requests(gateway: Gateway, curl: Curl) -> None:
    done = curl("--write-out", "|%{num_connects}\n", *[f"{gateway.url}/{n}" for n in range(5)], "-A", "x")
    assert done.stdout.splitlines() == [b"hello, x|1", *[b"hello, x|0"] * 4]


def test_http_1_0(gateway: Gateway, curl: Curl) -> None:
    """RFC 9112 6.1, 9.3: no chunks for HTTP/1.0, and the connection is closed."""
    done = curl("--http1.0", "--verbose", "--include", f"{gateway.url}/app/x")
    assert b"transfer-encoding" not in done.stdout.lower()
    assert b"\r\n\r\nREQUEST_METHOD=GET\n" in done.stdout
    assert b"Closing connection" in done.stderr


def test_post_that_waits_for_continue(gateway: Gateway, curl: Curl) -> None:
    """RFC 9110 10.1.1: 100 (Continue) comes when the body is read; curl would wait 60 seconds for it."""
    done = curl(
        *("--expect100-timeout", "60", "--header", "Expect: 100-continue"),
        *("--verbose", "--data-binary", "@-", f"{gateway.url}/app/x"),
        data=FILE,
    )
    assert done.stdout.endswith(b"CONTENT_LENGTH=400000\nHTTP_X_TAG=-\n\n" + FILE)
    assert b"< HTTP/1.1 100 Continue" in done.stderr


def test_final_answer_instead_of_continue(gateway: Gateway, curl: Curl) -> None:
    """complaints.md 20: who is answered at once does not send the body at all."""
    done = curl(
        *("--expect100-timeout", "60", "--header", "Expect: 100-continue"),
        *("--write-out", "|%{http_code} %{size_upload}", "--data-binary", "@-", f"{gateway.url}/x"),
        data=FILE,
    )
    assert done.stdout.endswith(b"|200 0")


def test_chunked_upload(gateway: Gateway, curl: Curl) -> None:
    done = curl("--upload-file", "-", "--verbose", f"{gateway.url}/app/x", data=FILE)
    assert b"> Transfer-Encoding: chunked" in done.stderr
    assert b"REQUEST_METHOD=PUT\n" in done.stdout
    assert b"CONTENT_LENGTH=400000\n" in done.stdout
    assert done.stdout.endswith(FILE)


def test_range(gateway: Gateway, curl: Curl) -> None:
    done = curl("--range", "8-15", "--include", f"{gateway.url}/files/numbers.txt")
    assert done.stdout.startswith(b"HTTP/1.1 206 ")
    assert b"content-range: bytes 8-15/400000\r\n" in done.stdout.lower()
    assert done.stdout.endswith(b"\r\n\r\n0000001\n")


def test_resume(gateway: Gateway, curl: Curl, tmp_path: Path) -> None:
    part = tmp_path / "numbers.txt"
    part.write_bytes(FILE[:123_456])
    curl("--continue-at", "-", "--output", "numbers.txt", f"{gateway.url}/files/numbers.txt")
    assert part.read_bytes() == FILE


def test_only_if_modified(gateway: Gateway, curl: Curl) -> None:
    url = f"{gateway.url}/files/numbers.txt"
    curl("--etag-save", "etag", "--output", "numbers.txt", url)
    done = curl("--etag-compare", "etag", "--write-out", "%{http_code} %{size_download}", url)
    assert done.stdout == b"304 0"


def test_parallel_downloads(gateway: Gateway, curl: Curl) -> None:
    urls = [word for n in range(20) for word in ("--output", str(n), f"{gateway.url}/files/numbers.txt?{n}")]
    done = curl("--parallel", "--parallel-immediate", "--write-out", "%{http_code}\n", *urls)
    assert done.stdout.split() == [b"200"] * 20


def test_burst(gateway: Gateway, require_program: RequireProgram) -> None:
    """Two seconds as fast as it goes: no error and no wrong status."""
    wrk = require_program("wrk", "apt-get install wrk")
    for target in ("/x", "/app/x", "/files/numbers.txt"):
        command = [wrk, "-t1", "-c32", "-d2s", gateway.url + target]
        report = subprocess.run(command, capture_output=True, text=True, timeout=WAIT, check=True).stdout
        requests = re.search(r"(\d+) requests in", report)
        assert requests is not None, report
        assert int(requests[1]) > 100, report
        assert "Socket errors" not in report, report
        assert "Non-2xx" not in report, report
    assert gateway.get("/x", user_agent="still here").text == "hello, still here"
