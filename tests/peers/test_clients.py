"""Real clients of HTTP/1 in front of the gateway: curl in all its ways, and a burst of load by wrk."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.peers.conftest import CHECKOUT, WAIT, Curl, Gateway, RequireProgram, RunGateway
from tests.peers.trailers import trailer_server

HTTP_ERROR = (22,)
"""curl's exit status for a response of 400 and more."""

FILE = b"".join(b"%07d\n" % number for number in range(50_000))
"""400,000 bytes that differ."""

LISTENERS = "[{http: 127.0.0.1:0}, {http: 'unix:gateway.sock'}]"

ASGI = """
import gzip

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["path"].endswith("/refuse"):  # without reading
        await send({"type": "http.response.start", "status": 417, "headers": []})
        await send({"type": "http.response.body", "body": b"no"})
    else:
        fields = [(b"content-encoding", b"gzip")]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": gzip.compress(b"packed")})
"""

CONFIG = """
access_log: false
limits: {body: 1MiB}
backends:
  app: {wsgi: echo_app:app}
  asyncio: {asgi: "refusing_app:app", loop: asyncio, lifespan: "off"}
  trio: {asgi: "refusing_app:app", loop: trio, lifespan: "off"}
  trailers: {http: "UPSTREAM"}
routes:
  - match: {path: /asyncio/*}
    mount: /asyncio
    backend: asyncio
  - match: {path: /trio/*}
    mount: /trio
    backend: trio
  - match: {path: /trailers}
    backend: trailers
  - match: {path: /path/*}
    respond: {body: "{path}"}
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
    (directory / "refusing_app.py").write_text(ASGI)
    with (
        trailer_server() as upstream,
        run_gateway(directory, CONFIG.replace("UPSTREAM", upstream), listeners=LISTENERS) as running,
    ):
        yield running


@pytest.fixture
def curl(curl: Curl) -> Curl:
    """It fails for a status that is an error."""
    return partial(curl, "--fail-with-body")


def test_get(gateway: Gateway, curl: Curl) -> None:
    assert curl("--user-agent", "x y", f"{gateway.url}/a?b").stdout == b"hello, x y"


def test_head(gateway: Gateway, curl: Curl) -> None:
    """RFC 9110 9.3.2: the fields of GET, and the connection serves the next request."""
    url = f"{gateway.url}/files/numbers.txt"
    done = curl("--head", url, "--next", "--silent", "--head", url, "--verbose")
    assert done.stdout.lower().count(b"content-length: 400000\r\n") == 2
    assert re.search(b"Re-?using existing ", done.stderr)


def test_one_connection_for_many_requests(gateway: Gateway, curl: Curl) -> None:
    done = curl("--write-out", "|%{num_connects}\n", *[f"{gateway.url}/{n}" for n in range(5)], "-A", "x")
    assert done.stdout.splitlines() == [b"hello, x|1", *[b"hello, x|0"] * 4]


def test_http_1_0(gateway: Gateway, curl: Curl) -> None:
    """RFC 9112 6.1, 9.3: no chunks for HTTP/1.0, and the connection is closed."""
    done = curl("--http1.0", "--verbose", "--include", f"{gateway.url}/app/x")
    assert b"transfer-encoding" not in done.stdout.lower()
    assert b"\r\n\r\nREQUEST_METHOD=GET\n" in done.stdout
    assert re.search(b"(Closing|shutting down) connection", done.stderr)


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
    """haproxy#3316: who is answered at once does not send the body at all."""
    done = curl(
        *("--expect100-timeout", "60", "--header", "Expect: 100-continue"),
        *("--write-out", "|%{http_code} %{size_upload}", "--data-binary", "@-", f"{gateway.url}/x"),
        data=FILE,
    )
    assert done.stdout.endswith(b"|200 0")


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_refusal_by_the_application_instead_of_continue(gateway: Gateway, curl: Curl, loop: str) -> None:
    """RFC 9110 10.1.1: an application that does not read is asked for no body."""
    done = curl(
        *("--expect100-timeout", "60", "--header", "Expect: 100-continue", "--verbose"),
        *("--write-out", "|%{http_code} %{size_upload}", "--data-binary", "@-"),
        f"{gateway.url}/{loop}/refuse",
        data=FILE,
        status=HTTP_ERROR,
    )
    assert done.stdout == b"no|417 0"
    assert b"100 Continue" not in done.stderr


@pytest.mark.parametrize("expects", [True, False])
@pytest.mark.parametrize("path", ["/app/x", "/asyncio/refuse", "/x"])
def test_too_large(gateway: Gateway, curl: Curl, path: str, expects: bool) -> None:
    """The answer arrives, whether the client waits for it or is in the middle of its body."""
    expect = (
        ("--expect100-timeout", "60", "--header", "Expect: 100-continue")
        if expects
        else ("--header", "Expect:")
    )
    done = curl(
        *expect,
        *("--write-out", "|%{http_code} %{size_upload}", "--data-binary", "@-", gateway.url + path),
        data=FILE * 10,
        status=HTTP_ERROR,
    )
    body, _, seen = done.stdout.rpartition(b"|")
    assert body.startswith(b"413 Content Too Large\n\nthe request body is larger than 1048576 bytes\n")
    assert seen.startswith(b"413 ")
    if expects:
        assert seen == b"413 0"  # without, some of the body may be on its way before the answer comes


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


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/path/a/../b", b"/path/b"),
        ("/path/./a/%2e%2E/b/", b"/path/b/"),
        ("/path//a", b"/path//a"),
        ("/path/a%2Fb", b"/path/a/b"),
        ("/path/../../etc/passwd", b"400 Bad Request\n\nthe path leads above the root\n"),
        ("/files/..%2f..%2fetc/passwd", b"400 Bad Request\n\nthe path leads above the root\n"),
    ],
)
def test_path_as_is(gateway: Gateway, curl: Curl, path: str, answer: bytes) -> None:
    """curl removes dot segments by itself unless it is told not to."""
    refused = answer[:1] == b"4"
    done = curl("--path-as-is", gateway.url + path, status=HTTP_ERROR if refused else (0,))
    assert done.stdout.startswith(answer)
    assert refused or done.stdout == answer


def test_unix_socket(gateway: Gateway, curl: Curl) -> None:
    (address,) = [each for each in gateway.addresses if each.startswith("unix:")]
    done = curl("--unix-socket", address.removeprefix("unix:"), "--user-agent", "x", "http://a.example/")
    assert done.stdout == b"hello, x"


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_compressed(gateway: Gateway, curl: Curl, loop: str) -> None:
    """What an application has compressed passes as it is."""
    assert curl("--compressed", f"{gateway.url}/{loop}/x").stdout == b"packed"
    assert curl(f"{gateway.url}/{loop}/x").stdout[:2] == b"\x1f\x8b"


def test_trailers_of_a_response(gateway: Gateway, curl: Curl) -> None:
    """RFC 9110 6.5.1: they are passed on to those who say that they take them."""
    url = f"{gateway.url}/trailers"
    takes = ("--header", "TE: trailers", "--header", "Connection: TE")
    assert curl("--include", *takes, url).stdout.lower().endswith(b"\r\n\r\ngot x-none: 1\r\n")
    assert curl("--include", url).stdout.endswith(b"\r\n\r\ngot ")


def test_offer_of_http2_in_clear_text(gateway: Gateway, curl: Curl) -> None:
    """RFC 9113 3.1: the upgrade to h2c is no more; the answer is one of HTTP/1.1."""
    done = curl("--http2", "--verbose", "--write-out", "|%{http_version}", "--user-agent", "x", gateway.url)
    assert b"> Upgrade: h2c" in done.stderr
    assert done.stdout == b"hello, x|1.1"


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
