"""Failures over real sockets: each kind, in each format, for everybody and for developers."""

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from gateway.build import build
from gateway.config import load
from gateway.front.service import AccessLog
from gateway.net.pump import Pump
from tests.gateway.served import Response, backend, gateway_of, response, run, unused_port

FORMATS = {
    "*/*": "text/plain; charset=utf-8",
    "text/html,*/*;q=0.8": "text/html; charset=utf-8",
    "application/json": "application/json",
    "application/problem+json": "application/problem+json",
}

APPLICATION = """
async def asgi(scope, receive, send):
    if scope["type"] == "http":
        raise ValueError("SECRET")

def wsgi(environ, start_response):
    raise ValueError("SECRET")
"""


def silent_log(*_: object) -> None:
    """An access log that is somewhere else."""


def get(target: str, accept: str, *, method: str = "GET", version: str = "1.1") -> bytes:
    head = f"{method} {target} HTTP/{version}\r\nHost: a.example\r\nAccept: {accept}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode()


def asked(
    data: bytes, config: Mapping[str, Any], *, method: str = "GET", access_log: AccessLog = silent_log
) -> tuple[Response, list[Any]]:
    """The response to *data* of a gateway with *config*, and what it logged."""
    received = b""
    logged: list[Any] = []

    async def main() -> None:
        nonlocal received
        async with gateway_of(config) as served:
            served.service.access_log = access_log
            with capture_logs() as logs:
                received = await served.ask(data)
            logged.extend(logs)

    run(main, seconds=30)
    return response(received, method), logged


class Kind:
    """A kind of failure: how to bring it about, and what is said of it."""

    def __init__(
        self,
        status: int,
        error: str,
        told: str,
        *,
        secret: str = "",
        target: str = "/",
        action: Callable[[Path], dict[str, Any]] | None = None,
        kind: Callable[[Path], dict[str, Any]] | None = None,
    ) -> None:
        self.status = status
        self.error = error
        self.told = told
        self.secret = secret
        self.target = target
        self._action = action
        self._backend = kind

    def config(self, directory: Path, *, debug: bool) -> dict[str, Any]:
        (directory / "failing_app.py").write_text(APPLICATION)
        route: dict[str, Any] = {"backend": "app"} if self._action is None else self._action(directory)
        backends = {} if self._backend is None else {"app": self._backend(directory)}
        return {"debug": debug, "backends": backends, "routes": [route]}


def program(directory: Path, script: str, interpreter: str = "/bin/sh") -> dict[str, Any]:
    path = directory / "program"
    path.write_text(f"#!{interpreter}\n{script}\n")
    path.chmod(0o755)
    return {"cgi": str(path)}


def static(directory: Path) -> dict[str, Any]:
    root = directory / "files"
    root.mkdir()
    return {"static": str(root)}


KINDS = {
    "no route": Kind(
        404,
        "destination_not_found",
        "no route",
        target="/else",
        action=lambda _: {"match": {"path": "/x"}, "respond": {}},
    ),
    "no file": Kind(404, "http_request_error", "no such file", target="/missing", action=static),
    "refused": Kind(
        502,
        "connection_refused",
        "refused",
        secret="127.0.0.1:",
        kind=lambda _: {"fastcgi": f"127.0.0.1:{unused_port()}"},
    ),
    "malformed": Kind(
        502,
        "http_protocol_error",
        "cannot be understood",
        secret="SECRET",
        kind=lambda directory: program(directory, r"printf 'SECRET \001 head\n\n'"),
    ),
    "stderr": Kind(
        502,
        "connection_terminated",
        "without an answer",
        secret="SECRET",
        kind=lambda directory: program(directory, "echo SECRET >&2; exit 1"),
    ),
    "program": Kind(
        502,
        "proxy_configuration_error",
        "cannot be started",
        secret="ENOENT",
        kind=lambda directory: program(directory, "", "/no/such/interpreter"),
    ),
    "late": Kind(
        504,
        "http_response_timeout",
        "in time",
        secret="nothing in or out",
        kind=lambda directory: {**program(directory, "exec sleep 60"), "timeout": "50ms"},
    ),
    "asgi": Kind(
        500,
        "proxy_internal_response",
        "failed",
        secret="ValueError: SECRET",
        kind=lambda directory: {"asgi": "failing_app:asgi", "directory": str(directory)},
    ),
    "wsgi": Kind(
        500,
        "proxy_internal_response",
        "failed",
        secret="ValueError: SECRET",
        kind=lambda directory: {"wsgi": "failing_app:wsgi", "directory": str(directory)},
    ),
}


@pytest.fixture(autouse=True)
def forget_modules() -> None:
    sys.modules.pop("failing_app", None)


def told_in(found: Response, media_type: str) -> str:
    """What the body tells, in whatever format."""
    body = found.body.decode()
    if "json" in media_type:
        members = json.loads(body)
        assert (members["status"], members["request_id"]) == (found.status, found.headers["x-request-id"])
        return str(members)
    assert found.headers["x-request-id"] in body
    assert ("<!DOCTYPE html>" in body) == ("html" in media_type)
    return body


@pytest.mark.parametrize("debug", [False, True], ids=["production", "debug"])
@pytest.mark.parametrize("accept", FORMATS)
@pytest.mark.parametrize("name", KINDS)
def test_failure(name: str, accept: str, debug: bool, tmp_path: Path) -> None:
    """RFC 9209, RFC 9110 12.5.1: reason, id and a body that fits; everything for developers only."""
    kind = KINDS[name]
    found, logs = asked(get(kind.target, accept), kind.config(tmp_path, debug=debug))
    assert found.status == kind.status
    assert found.headers["content-type"] == FORMATS[accept]
    assert found.headers["vary"] == "accept"
    status = found.headers["proxy-status"]
    assert status.startswith(f"gateway; error={kind.error}; ")
    told = told_in(found, FORMATS[accept])
    assert kind.told in told
    if debug:
        assert kind.secret in told
    else:
        assert kind.told in status
    if kind.secret and not debug:
        everything = "".join(found.headers.values()) + found.body.decode()
        assert kind.secret not in everything
        assert str(tmp_path) not in everything
        assert "routes[0]" not in everything
    # The log has the same id, and all of it.
    request_id = found.headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{16}", request_id)
    assert request_id in [entry.get("request_id") for entry in logs]
    if kind.secret == "SECRET":
        assert "SECRET" in str(logs)


def test_developers_see_the_route(tmp_path: Path) -> None:
    """Its place in the file and what it matches."""
    file = tmp_path / "gateway.yaml"
    file.write_text(
        "listeners: [{http: '127.0.0.1:0'}]\n"
        "debug: true\n"
        f"backends: {{app: {{http: 'http://127.0.0.1:{unused_port()}'}}}}\n"
        "routes:\n"
        "  - match: {path: /x/*, method: [GET, POST], header: {x-a: [b]}}\n"
        "    backend: app\n"
    )
    config = load(file)

    async def main() -> None:
        service = build(config, Pump(), None).service
        (route,) = service.router.routes
        assert route.in_words == (f"routes[0] ({file}:5) path: /x/*; method: GET, POST; header: x-a=('b',)")

    trio.run(main)


@pytest.mark.parametrize("action", ["static", "cgi"])
@pytest.mark.parametrize("debug", [False, True], ids=["production", "debug"])
def test_developers_see_the_file_that_is_missing(action: str, debug: bool, tmp_path: Path) -> None:
    if action == "static":
        config: dict[str, Any] = {"routes": [{"static": str(tmp_path)}]}
    else:
        config = {"backends": {"a": {"cgi": str(tmp_path)}}, "routes": [{"backend": "a"}]}
    found, _ = asked(get("/missing", "text/plain"), {**config, "debug": debug})
    assert found.status == 404
    assert (f"file:       {tmp_path}/missing\n" in found.body.decode()) == debug
    assert (str(tmp_path) in found.body.decode()) == debug


@pytest.mark.parametrize("accept", FORMATS)
def test_head_has_the_fields_only(accept: str) -> None:
    """RFC 9110 9.3.2."""
    config = {"routes": [{"match": {"path": "/x"}, "respond": {}}]}
    found, _ = asked(get("/", accept, method="HEAD"), config, method="HEAD")
    assert (found.status, found.body) == (404, b"")
    assert found.headers["content-type"] == FORMATS[accept]
    assert "destination_not_found" in found.headers["proxy-status"]


def test_http_1_0_client_gets_the_same() -> None:
    config = {"routes": [{"match": {"path": "/x"}, "respond": {}}]}
    found, _ = asked(get("/", "text/html", version="1.0"), config)
    assert (found.status, found.complete) == (404, True)
    assert b"no route" in found.body


# ---- what cannot become a request

ANY: dict[str, Any] = {"routes": [{"respond": {}}]}


@pytest.mark.parametrize("debug", [False, True], ids=["production", "debug"])
@pytest.mark.parametrize(
    ("data", "status", "content_type"),
    [
        # The head cannot be read, so nobody knows what is accepted.
        (b"G@T / HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n", 400, "text/plain; charset=utf-8"),
        # The head can be read, what it asks for cannot be answered.
        (b"GET /%zz HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n", 400, "text/html; charset=utf-8"),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\nContent-Length: 99999999999\r\n\r\n",
            413,
            "application/json",
        ),
    ],
)
def test_refused_request(data: bytes, status: int, content_type: str, debug: bool) -> None:
    """RFC 9209 2.3: http_request_error."""
    found, logs = asked(data, {**ANY, "debug": debug})
    assert (found.status, found.headers["content-type"]) == (status, content_type)
    assert found.headers["proxy-status"].startswith("gateway; error=http_request_error; details=")
    told_in(found, content_type)
    (entry,) = [entry for entry in logs if entry["event"] == "request refused"]
    assert entry["request_id"] == found.headers["x-request-id"]
    assert entry["status"] == status


def test_refusal_in_the_log_names_the_request_and_the_setting_that_decides() -> None:
    """As far as they are known."""

    def refused(data: bytes) -> dict[str, Any]:
        _, logs = asked(data, {**ANY, "limits": {"body": 10, "request_line": 100, "header_count": 2}})
        (entry,) = [entry for entry in logs if entry["event"] == "request refused"]
        return {key: entry.get(key) for key in ("method", "target", "status", "setting")}

    upload = {"method": "POST", "target": "/x?y", "status": 413, "setting": "limits.body"}
    assert refused(b"POST /x?y HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n") == upload
    unknown = {"method": None, "target": None}
    long = {**unknown, "status": 414, "setting": "limits.request_line"}
    assert refused(b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * 100)) == long
    many = {**unknown, "status": 431, "setting": "limits.headers, limits.header_count"}
    assert refused(b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nC: d\r\n\r\n") == many


@pytest.mark.parametrize(
    ("settings", "size", "key"), [({}, 11, "limits.body"), ({"max_body": 5}, 6, "max_body")]
)
def test_body_that_turns_out_too_large_names_the_setting_in_the_log(
    tmp_path: Path, settings: dict[str, Any], size: int, key: str
) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    backends = {"a": {"cgi": str(program), **settings}}
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    data = head + b"%x\r\n%s\r\n0\r\n\r\n" % (size, b"x" * size)
    found, logs = asked(data, {"limits": {"body": 10}, "backends": backends, "routes": [{"backend": "a"}]})
    (entry,) = [entry for entry in logs if entry["event"] == "request failed"]
    assert (found.status, entry["setting"]) == (413, key)


def test_refused_head_request_has_no_body() -> None:
    """RFC 9110 9.3.2."""
    found, _ = asked(b"HEAD /%zz HTTP/1.1\r\nHost: a\r\n\r\n", ANY, method="HEAD")
    assert (found.status, found.body) == (400, b"")


def test_a_refusal_does_not_know_the_head_of_the_request_before() -> None:
    """The second request on the connection is malformed; its answer is not in the format of the first."""

    async def main() -> None:
        async with gateway_of({"routes": [{"match": {"path": "/x"}, "respond": {}}]}) as served:
            first = b"GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n"
            received = await served.ask(first + b"G@T / HTTP/1.1\r\n\r\n")
        assert received.count(b"text/html") == 1
        assert received.count(b"text/plain") == 1

    with capture_logs():
        run(main)


# ---- pages of the operator


def with_pages(directory: Path, **options: Any) -> dict[str, Any]:
    (directory / "404.html").write_text("<h1>{status} {reason}</h1>{path} {request_id}")
    (directory / "oops.txt").write_text("{status}, sorry")
    pages = {"404": str(directory / "404.html"), "5xx": str(directory / "oops.txt")}
    return {"error_pages": pages, **options}


@pytest.mark.parametrize("accept", ["*/*", "text/html", "image/png"])
def test_error_page_of_a_status(accept: str, tmp_path: Path) -> None:
    config = with_pages(tmp_path, routes=[{"match": {"path": "/x"}, "respond": {}}])
    found, _ = asked(get("/<i>", accept), config)
    request_id = found.headers["x-request-id"]
    assert found.headers["content-type"] == "text/html; charset=utf-8"
    assert found.body.decode() == f"<h1>404 Not Found</h1>/&lt;i&gt; {request_id}"
    assert "destination_not_found" in found.headers["proxy-status"]


def test_error_page_of_a_class(tmp_path: Path) -> None:
    address = f"127.0.0.1:{unused_port()}"
    config = with_pages(tmp_path, backends={"app": {"scgi": address}}, routes=[{"backend": "app"}])
    found, _ = asked(get("/", "text/html"), config)
    assert (found.status, found.body) == (502, b"502, sorry")


def test_programs_that_ask_for_json_get_it(tmp_path: Path) -> None:
    config = with_pages(tmp_path, routes=[{"match": {"path": "/x"}, "respond": {}}])
    found, _ = asked(get("/", "application/json"), config)
    assert json.loads(found.body)["status"] == 404


def test_what_an_application_answers_is_its_own(tmp_path: Path) -> None:
    routes = [{"respond": {"status": 404, "body": "mine"}}]
    found, _ = asked(get("/", "text/html"), with_pages(tmp_path, routes=routes))
    assert found.body == b"mine"

    async def main() -> None:
        async def behave(stream: trio.SocketStream) -> None:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\nmine")

        async with backend(behave) as app:
            config = {"backends": {"app": {"http": f"http://{app.address}"}}, "routes": [{"backend": "app"}]}
            async with gateway_of(with_pages(tmp_path, **config)) as served:
                found = response(await served.ask(get("/", "text/html")))
        assert (found.status, found.body) == (500, b"mine")
        assert "x-request-id" not in found.headers

    run(main)
