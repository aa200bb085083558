"""Real clients of HTTP/2 by prior knowledge, curl, nghttp and h2load, in front of every kind of backend."""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.peers.conftest import CHECKOUT, WAIT, Curl, Gateway, RequireProgram, RunGateway
from tests.peers.trailers import trailer_server

NGHTTP2 = "apt-get install nghttp2-client"

FILE = b"".join(b"%07d\n" % number for number in range(50_000))
"""400,000 bytes that differ."""

CGI = """#!/bin/sh
printf 'Status: 201 Created\\r\\nX-Protocol: %s\\r\\n\\r\\n' "$SERVER_PROTOCOL"
echo "REQUEST_METHOD=$REQUEST_METHOD"; echo "CONTENT_LENGTH=$CONTENT_LENGTH"; echo; cat
"""

ASGI = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    pushed = "files/numbers.txt"
    await send({"type": "http.response.start", "status": 201, "headers": []})
    if scope["query_string"] == b"push":
        await send({"type": "http.response.push", "path": f"/{pushed}", "headers": []})
    line = f"REQUEST_METHOD={scope['method']}\\nHTTP_VERSION={scope['http_version']}\\n\\n"
    await send({"type": "http.response.body", "body": line.encode(), "more_body": True})
    more = True
    while more:
        message = await receive()
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": True})
    await send({"type": "http.response.body", "body": b""})
"""

BACKENDS = {
    "wsgi": '{wsgi: "echo_app:app"}',
    "cgi": "{cgi: ./show.sh}",
    "fastcgi": '{fastcgi: {spawn: {wsgi: "echo_app:app"}}}',
    "scgi": '{scgi: {spawn: {wsgi: "echo_app:app"}}}',
    "uwsgi": '{uwsgi: {spawn: {wsgi: "echo_app:app"}}}',
    "asgi-trio": '{asgi: "show_app:app", loop: trio, lifespan: off}',
    "asgi-asyncio": '{asgi: "show_app:app", loop: asyncio, lifespan: off}',
}

every_backend = pytest.mark.parametrize("backend", [*BACKENDS, "http"])

Run = Callable[..., bytes]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("http2")
    shutil.copy(CHECKOUT / "tests/peers/apps/echo_app.py", directory)
    (directory / "show_app.py").write_text(ASGI)
    (directory / "show.sh").write_text(CGI)
    (directory / "show.sh").chmod(0o755)
    (directory / "files").mkdir()
    (directory / "files/numbers.txt").write_bytes(FILE)
    return directory


@pytest.fixture(scope="module")
def upstream(directory: Path, run_gateway: RunGateway) -> Iterator[Gateway]:
    """A web server for the HTTP backend, which speaks HTTP/1.1 to it."""
    shutil.copytree(directory, directory / "upstream", ignore=shutil.ignore_patterns("upstream"))
    config = "access_log: false\nbackends: {app: {wsgi: 'echo_app:app'}}\nroutes: [{backend: app}]\n"
    with run_gateway(directory / "upstream", config) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(directory: Path, upstream: Gateway, run_gateway: RunGateway) -> Iterator[Gateway]:
    with trailer_server() as trailers:
        yield from serve(directory, run_gateway, upstream, trailers)


def serve(directory: Path, run_gateway: RunGateway, upstream: Gateway, trailers: str) -> Iterator[Gateway]:
    http = {"http": f'{{http: "{upstream.url}"}}', "trailers": f'{{http: "{trailers}"}}'}
    backends = BACKENDS | http
    lines = ["backends:", *[f"  {name}: {value}" for name, value in backends.items()], "routes:"]
    lines += [f"  - {{match: {{path: /{name}/*}}, mount: /{name}, backend: {name}}}" for name in backends]
    lines += ["  - {match: {path: /files/*}, mount: /files, static: files}"]
    lines += ['  - {respond: {body: "hello, {header.user-agent}"}}']
    with run_gateway(directory, "\n".join(lines)) as running:
        yield running


@pytest.fixture
def curl(curl: Curl) -> Run:
    def run(*arguments: str, data: bytes = b"") -> bytes:
        return curl("--http2-prior-knowledge", *arguments, data=data).stdout

    return run


@every_backend
def test_get(gateway: Gateway, curl: Run, backend: str) -> None:
    answer = curl("--include", f"{gateway.url}/{backend}/x")
    assert answer.startswith(b"HTTP/2 201 \r\n")
    assert b"REQUEST_METHOD=GET\n" in answer
    assert b"\r\nconnection:" not in answer
    assert b"\r\ntransfer-encoding:" not in answer


def test_protocol_that_applications_see(gateway: Gateway, curl: Run) -> None:
    """RFC 3875 4.1.16 and ASGI's scope; the log has it like any other request."""
    assert b"\r\nx-protocol: HTTP/2.0\r\n" in curl("--include", f"{gateway.url}/cgi/x")
    assert b"HTTP_VERSION=2\n" in curl(f"{gateway.url}/asgi-trio/seen")
    gateway.wait_for(lambda line: '"target":"/asgi-trio/seen"' in line and '"status":201' in line)


@every_backend
@pytest.mark.parametrize("sized", [True, False])
def test_upload(gateway: Gateway, curl: Run, backend: str, sized: bool) -> None:
    """With content-length, and of unknown length: CGI-like applications get one all the same."""
    body = FILE[:200_000]
    arguments = ["--data-binary", "@-"] if sized else ["--upload-file", "-", "--request", "POST"]
    answer = curl(*arguments, f"{gateway.url}/{backend}/x", data=body)
    head, _, echoed = answer.partition(b"\n\n")
    assert echoed == body
    assert b"REQUEST_METHOD=POST" in head
    if not backend.startswith(("asgi", "http")):
        assert b"CONTENT_LENGTH=200000" in head


def test_file(gateway: Gateway, curl: Run) -> None:
    """Whole, in part, and its head."""
    url = f"{gateway.url}/files/numbers.txt"
    assert curl(url) == FILE
    assert curl("--range", "100-199", url) == FILE[100:200]
    assert b"\r\ncontent-length: 400000\r\n" in curl("--head", url)


def test_one_connection_for_many_requests(gateway: Gateway, require_program: RequireProgram) -> None:
    """By nghttp: curl 7.88 cannot use a connection of prior knowledge twice, with nginx neither."""
    program = require_program("nghttp", "apt-get install nghttp2-client")
    urls = [f"{gateway.url}/{number}" for number in range(5)]
    done = subprocess.run([program, *urls], capture_output=True, timeout=WAIT, check=True)
    assert done.stdout.count(b"hello, nghttp2") == 5


def test_http1_beside_http2(gateway: Gateway, curl: Run) -> None:
    assert curl("--http1.1", "--user-agent", "x", gateway.url) == b"hello, x"
    assert curl("--user-agent", "x", gateway.url) == b"hello, x"


def test_nghttp(gateway: Gateway, require_program: RequireProgram) -> None:
    """Priorities of RFC 7540, trailers behind a body, several requests at a time."""
    program = require_program("nghttp", NGHTTP2)
    url = f"{gateway.url}/wsgi/x"
    command = [program, "--trailer", "x-sum: 1", "--data", str(CHECKOUT / "setup.py"), "--multiply=5", url]
    done = subprocess.run(command, capture_output=True, timeout=WAIT, check=True)
    assert done.stdout.count(b"REQUEST_METHOD=POST\n") == 5
    assert done.stdout.count(b"setup(ext_modules=") == 5


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_push(gateway: Gateway, require_program: RequireProgram, loop: str) -> None:
    """RFC 9113 8.4: of a file that another route has."""
    program = require_program("nghttp", NGHTTP2)
    command = [program, "--null-out", "--stat", f"{gateway.url}/asgi-{loop}/x?push"]
    done = subprocess.run(command, capture_output=True, timeout=WAIT, check=True, text=True)
    # What was pushed has an asterisk.
    (pushed,) = re.findall(r"\* .* (\d{3}) +(\S+) /files/numbers\.txt\n", done.stdout)
    assert pushed[0] == "200"


def test_trailers(gateway: Gateway, require_program: RequireProgram) -> None:
    """RFC 9113 8.1: those of the request reach an HTTP upstream, those of its response the client."""
    program = require_program("nghttp", NGHTTP2)
    command = [
        program,
        "--verbose",
        "--no-content-length",
        "--trailer",
        "x-sum: 17",
        "--data",
        str(CHECKOUT / "setup.py"),
    ]
    done = subprocess.run(
        [*command, f"{gateway.url}/trailers/x"], capture_output=True, timeout=WAIT, check=True
    )
    received = done.stdout.partition(b"got ")[2]
    assert b"setup(ext_modules=" in received
    assert re.search(rb"recv \(stream_id=\d+\) x-sum: 17\n", received)


def test_continue(gateway: Gateway, require_program: RequireProgram) -> None:
    """RFC 9110 10.1.1: the application that reads gets the body."""
    program = require_program("nghttp", NGHTTP2)
    command = [program, "--verbose", "--expect-continue", "--data", str(CHECKOUT / "setup.py")]
    done = subprocess.run([*command, f"{gateway.url}/wsgi/x"], capture_output=True, timeout=WAIT, check=True)
    assert b":status: 100" in done.stdout
    assert b"setup(ext_modules=" in done.stdout


@pytest.mark.parametrize("path", ["wsgi/x", "asgi-trio/x", "fastcgi/x", "files/numbers.txt"])
def test_h2load(gateway: Gateway, require_program: RequireProgram, path: str) -> None:
    """Four connections with 16 streams each: every request is answered."""
    program = require_program("h2load", NGHTTP2)
    command = [program, "-n400", "-c4", "-m16", f"{gateway.url}/{path}"]
    done = subprocess.run(command, capture_output=True, timeout=WAIT, check=True, text=True)
    assert re.search(r"400 total, 400 started, 400 done, 400 succeeded, 0 failed, 0 errored", done.stdout)
