"""Guards: a FastCGI authorizer, and forward_auth to any backend."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from gateway.protocols.events import Data, EndOfMessage, Headers, RequestVariables, ResponseHead
from gateway.protocols.fastcgi import FastCgiServer, Role
from tests.gateway.backends.asgi_harness import answering, published
from tests.gateway.served import (
    Response,
    backend,
    gateway_of,
    next_event,
    read_until,
    reset,
    response,
    run,
    unused_port,
)

GET = b"GET /a/b?c=d HTTP/1.1\r\nHost: a.example\r\nCookie: x=1\r\nConnection: close\r\n"


class Authorizer:
    """A FastCGI authorizer that gives one response, and keeps what it was told."""

    def __init__(self, status: int, headers: Headers, body: bytes = b"") -> None:
        self._answer = (status, headers, body)
        self.variables: dict[str, str] = {}

    async def __call__(self, stream: trio.SocketStream) -> None:
        codec = FastCgiServer(roles={Role.AUTHORIZER})
        head = await next_event(stream, codec)
        assert isinstance(head, RequestVariables)
        self.variables = dict(head.variables)
        status, headers, body = self._answer
        data = codec.send(ResponseHead(status, headers, b""))
        if body:
            data += codec.send(Data(body))
        await stream.send_all(data + codec.send(EndOfMessage()))


async def application(stream: trio.SocketStream) -> None:
    """A FastCGI responder whose body is its variables, one a line."""
    codec = FastCgiServer()
    head = await next_event(stream, codec)
    assert isinstance(head, RequestVariables)
    body = "".join(f"{name}={value}\n" for name, value in head.variables.items()).encode("latin-1")
    await stream.send_all(
        codec.send(ResponseHead(200, [(b"content-type", b"text/plain")], b""))
        + codec.send(Data(body))
        + codec.send(EndOfMessage())
    )


def guarded(authorizer: Authorizer, request: bytes = GET + b"\r\n") -> Response:
    answer = b""

    async def main() -> None:
        nonlocal answer
        async with backend(authorizer) as guard, backend(application) as app:
            config = {
                "backends": {
                    "guard": {"fastcgi": guard.address, "role": "authorizer"},
                    "app": {"fastcgi": app.address},
                },
                "routes": [{"backend": "app", "authorize": "guard"}],
            }
            async with gateway_of(config) as served:
                answer = await served.ask(request)

    run(main)
    return response(answer)


def test_authorizers_variables_reach_the_application() -> None:
    """FCGI-21, CGI-4, CGI-14."""
    fields = [(b"Variable-AUTH_TYPE", b"Basic"), (b"Variable-REMOTE_USER", b"ann"), (b"X-Other", b"1")]
    got = guarded(Authorizer(200, fields, b"dropped"))
    assert got.status == 200
    lines = got.body.decode().splitlines()
    assert "AUTH_TYPE=Basic" in lines
    assert "REMOTE_USER=ann" in lines
    assert not any("X_OTHER" in line or "X-Other" in line for line in lines)
    assert got.headers["x-other"] is None


def test_authorizer_sees_the_request_without_what_is_not_for_it() -> None:
    """FastCGI 6.3."""
    authorizer = Authorizer(200, [])
    request = (
        b"POST /a/b?c=d HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody"
    )
    assert guarded(authorizer, request).status == 200
    told = authorizer.variables
    assert told["REQUEST_METHOD"] == "POST"
    assert told["REQUEST_URI"] == "/a/b?c=d"
    assert told["QUERY_STRING"] == "c=d"
    assert not {"CONTENT_LENGTH", "PATH_INFO", "PATH_TRANSLATED", "SCRIPT_NAME"} & set(told)


@pytest.mark.parametrize("by", ["forward_auth", "x_accel_redirect"])
def test_who_asks_breaks_off_what_comes_behind_an_asgi_application(by: str) -> None:
    """That has a grace to end, and is through; the server behind it need not go on for nobody."""
    first: dict[str, Any] = {"lifespan": "off"}
    route: dict[str, Any] = {"backend": "app"}
    if by == "forward_auth":
        first["asgi"] = published(answering())
        route["forward_auth"] = {"backend": "first"}
    else:
        first |= {"asgi": published(answering(headers=[(b"x-accel-redirect", b"/app")])), by: True}
        route |= {"internal": True}
    asked, left = trio.Event(), trio.Event()

    async def never(stream: trio.SocketStream) -> None:
        await read_until(stream, b"\r\n\r\n")
        asked.set()
        assert await stream.receive_some() == b""
        left.set()

    async def main() -> None:
        async with backend(never) as app:
            config = {
                "timeouts": {"disconnect_grace": "1h"},
                "backends": {"first": first, "app": {"http": f"http://{app.address}"}},
                "routes": [route, {"backend": "first"}],
            }
            async with gateway_of(config) as served:
                client = await served.connect()
                await client.send_all(GET + b"\r\n")
                await asked.wait()
                reset(client)
                await left.wait()

    run(main)


HIDDEN = b"GET /open/%2e%2e/a%20b/./c?d=e HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n"


def test_guards_judge_the_path_without_dot_segments() -> None:
    """It is what the application is asked for: who may see /open may not see the rest by that."""
    authorizer = Authorizer(200, [])
    guarded(authorizer, HIDDEN + b"\r\n")
    assert authorizer.variables["REQUEST_URI"] == "/a%20b/c?d=e"
    told: list[bytes] = []
    _, seen = asked(guard_that_says(b"200 OK", told=told), start=HIDDEN)
    assert b"\r\nx-forwarded-uri: /a%20b/c?d=e\r\n" in told[0]
    assert seen.startswith(b"GET /a%20b/c?d=e ")


@pytest.mark.parametrize("status", [401, 403, 302, 204, 201])
def test_any_other_status_is_the_response(status: int) -> None:
    """FCGI-21: non-200 is sent to the client."""
    got = guarded(Authorizer(status, [(b"WWW-Authenticate", b"Basic"), (b"Location", b"http://l/")], b"no"))
    assert (got.status, got.headers["www-authenticate"]) == (status, "Basic")
    assert got.body == (b"" if status == 204 else b"no")


def test_client_cannot_set_the_variables() -> None:
    got = guarded(Authorizer(200, []), GET + b"Variable-REMOTE_USER: root\r\nRemote-User: root\r\n\r\n")
    lines = got.body.decode().splitlines()
    assert not any(line.startswith("REMOTE_USER=") for line in lines)


def asked(
    behave: Callable[[trio.SocketStream], Awaitable[None]] | None,
    *fields: bytes,
    start: bytes = GET,
    **options: Any,
) -> tuple[Response, bytes]:
    """The response of a route with forward_auth, and the head that its application gets."""
    answer = b""
    seen = b""

    async def app(stream: trio.SocketStream) -> None:
        nonlocal seen
        seen = await read_until(stream, b"\r\n\r\n")
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\napp")

    async def nobody(stream: trio.SocketStream) -> None: ...

    async def main() -> None:
        nonlocal answer
        async with backend(behave or nobody) as guard, backend(app) as upstream:
            url = f"http://{guard.address}" if behave else f"http://127.0.0.1:{unused_port()}"
            config = {
                "backends": {"guard": {"http": url}, "app": {"http": f"http://{upstream.address}"}},
                "routes": [{"backend": "app", "forward_auth": {"backend": "guard", **options}}],
            }
            async with gateway_of(config) as served:
                answer = await served.ask(start + b"".join(field + b"\r\n" for field in fields) + b"\r\n")

    run(main)
    return response(answer), seen


def guard_that_says(status_line: bytes, *fields: bytes, told: list[bytes] | None = None) -> Any:
    async def behave(stream: trio.SocketStream) -> None:
        head = await read_until(stream, b"\r\n\r\n")
        if told is not None:
            told.append(head)
        lines = b"".join(field + b"\r\n" for field in fields)
        await stream.send_all(b"HTTP/1.1 %b\r\nContent-Length: 5\r\n%b\r\nguard" % (status_line, lines))

    return behave


def test_forward_auth_lets_in_and_copies_fields() -> None:
    told: list[bytes] = []
    guard = guard_that_says(b"200 OK", b"Remote-User: ann", b"X-Secret: 1", told=told)
    got, seen = asked(guard, path="/verify?x={method}", copy_headers=["Remote-User", "Remote-Groups"])
    assert (got.status, got.body) == (200, b"app")
    assert b"\r\nremote-user: ann\r\n" in seen.lower()
    assert b"x-secret" not in seen.lower()
    (question,) = told
    assert question.startswith(b"GET /verify?x=GET HTTP/1.1\r\n")
    lines = question.lower().split(b"\r\n")
    assert b"x-forwarded-method: get" in lines
    assert b"x-forwarded-uri: /a/b?c=d" in lines
    assert b"cookie: x=1" in lines
    assert b"host: a.example" in lines


def test_copied_fields_are_never_the_clients() -> None:
    guard = guard_that_says(b"204 No Content")
    got, seen = asked(guard, b"Remote-User: root", copy_headers="Remote-User")
    assert got.status == 200
    assert b"remote-user" not in seen.lower()


def test_twins_of_copied_fields_are_no_ones() -> None:
    """ASGI applications get names with underscores, and some make variables of them, as of the others."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(name for name, _ in scope["headers"])
        await answering()(scope, receive, send)

    async def main() -> None:
        async with backend(guard_that_says(b"204 No Content")) as guard:
            config = {
                "backends": {
                    "guard": {"http": f"http://{guard.address}"},
                    "app": {"asgi": published(app), "lifespan": "off"},
                },
                "routes": [
                    {"backend": "app", "forward_auth": {"backend": "guard", "copy_headers": ["Remote-User"]}}
                ],
            }
            async with gateway_of(config) as served:
                await served.ask(GET + b"Remote_User: root\r\nAPI_Key: 1\r\n\r\n")

    run(main)
    assert seen == [b"host", b"cookie", b"connection", b"api_key"]


def test_client_cannot_keep_from_guard_and_application_what_they_are_told() -> None:
    """RFC 9110 7.6.1: what it names in Connection ends at the gateway; but only what is its own."""
    told: list[bytes] = []
    guard = guard_that_says(b"200 OK", b"Remote-User: ann", told=told)
    option = b"Connection: remote-user, x-forwarded-uri, x-forwarded-method, close"
    got, seen = asked(guard, option, copy_headers=["Remote-User"])
    assert got.status == 200
    assert b"\r\nx-forwarded-uri: /a/b?c=d\r\n" in told[0].lower()
    assert b"\r\nx-forwarded-method: get\r\n" in told[0].lower()
    assert b"\r\nremote-user: ann\r\n" in seen.lower()


@pytest.mark.parametrize(
    "line", [b"401 Unauthorized", b"302 Found", b"404 Not Found", b"500 Internal Server Error"]
)
def test_forward_auth_refuses(line: bytes) -> None:
    got, seen = asked(guard_that_says(line, b"Location: /login", b"Set-Cookie: a=b"))
    assert (got.status, got.body, got.headers["set-cookie"]) == (int(line[:3]), b"guard", "a=b")
    assert seen == b""


def test_guard_that_fails_lets_nobody_in() -> None:
    got, seen = asked(None)
    assert got.status == 502
    assert seen == b""


async def never_ends(stream: trio.SocketStream) -> None:
    await read_until(stream, b"\r\n\r\n")
    await stream.send_all(b"HTTP/1.1 200 OK\r\nRemote-User: ann\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await stream.send_all(b"1000\r\n%b\r\n" % bytes(0x1000))


async def stalls(stream: trio.SocketStream) -> None:
    await read_until(stream, b"\r\n\r\n")
    await stream.send_all(b"HTTP/1.1 200 OK\r\nRemote-User: ann\r\nContent-Length: 5\r\n\r\n")
    await stream.receive_some(1)


async def breaks_off(stream: trio.SocketStream) -> None:
    await read_until(stream, b"\r\n\r\n")
    await stream.send_all(b"HTTP/1.1 200 OK\r\nRemote-User: ann\r\nContent-Length: 5\r\n\r\n")


@pytest.mark.parametrize("guard", [never_ends, stalls, breaks_off])
def test_head_decides(guard: Any) -> None:
    """Nobody waits for the body of a yes, or asks again for it."""
    got, seen = asked(guard, copy_headers=["Remote-User"])
    assert (got.status, got.body) == (200, b"app")
    assert b"\r\nremote-user: ann\r\n" in seen.lower()


def test_connection_to_the_guard_is_kept_behind_a_small_body() -> None:
    async def behave(stream: trio.SocketStream) -> None:
        for _ in range(2):
            await read_until(stream, b"\r\n\r\n")
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
            await stream.send_all(b"guard")

    async def main() -> None:
        async with backend(behave) as guard:
            config = {
                "backends": {"guard": {"http": f"http://{guard.address}"}},
                "routes": [{"respond": {"body": "in"}, "forward_auth": {"backend": "guard"}}],
            }
            async with gateway_of(config) as served:
                for _ in range(2):
                    assert response(await served.ask(GET + b"\r\n")).body == b"in"
                assert guard.connections == 1

    run(main)


def test_authorizer_whose_answer_does_not_end() -> None:
    class Endless(Authorizer):
        async def __call__(self, stream: trio.SocketStream) -> None:
            codec = FastCgiServer(roles={Role.AUTHORIZER})
            await next_event(stream, codec)
            await stream.send_all(codec.send(ResponseHead(200, [(b"Variable-REMOTE_USER", b"ann")], b"")))
            while True:
                await stream.send_all(codec.send(Data(bytes(0x1000))))

    got = guarded(Endless(200, []))
    assert got.status == 200
    assert "REMOTE_USER=ann" in got.body.decode().splitlines()


def test_guard_inside_the_daemon(tmp_path: Path) -> None:
    """Any backend can be asked: here an ASGI application."""
    (tmp_path / "guarding_app.py").write_text(
        "async def app(scope, receive, send):\n"
        "    allowed = scope['path'] == '/verify' and b'token=1' in dict(scope['headers'])[b'cookie']\n"
        "    await send({'type': 'http.response.start', 'status': 204 if allowed else 403, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': b'' if allowed else b'no'})\n"
    )
    config = {
        "backends": {"guard": {"asgi": "guarding_app:app", "directory": str(tmp_path), "loop": "trio"}},
        "routes": [{"respond": {"body": "in"}, "forward_auth": {"backend": "guard", "path": "/verify"}}],
    }
    answers: list[bytes] = []

    async def main() -> None:
        async with gateway_of(config) as served:
            for cookie in (b"token=1", b"token=2"):
                request = b"GET / HTTP/1.1\r\nHost: a\r\nCookie: %b\r\nConnection: close\r\n\r\n"
                answers.append(await served.ask(request % cookie))

    run(main)
    let_in, refused = map(response, answers)
    assert (let_in.status, let_in.body) == (200, b"in")
    assert (refused.status, refused.body) == (403, b"no")


def test_what_the_client_has_already_is_no_business_of_the_guard() -> None:
    """A 304 or 416 of the guard would be an answer about a response that is not its own."""
    told: list[bytes] = []
    fields = (b'If-None-Match: "a"', b"If-Modified-Since: Sat, 28 Nov 2026 00:00:00 GMT", b"Range: bytes=9-")
    got, seen = asked(guard_that_says(b"200 OK", told=told), *fields)
    assert got.status == 200
    assert b"if-" not in told[0].lower()
    assert b"range:" not in told[0].lower()
    assert all(field.lower() in seen.lower() for field in fields)


def test_guard_is_told_by_the_gateway_alone_what_is_asked_for() -> None:
    """A trusted proxy passes on what clients say in these fields, too."""
    told: list[bytes] = []

    async def main() -> None:
        async with backend(guard_that_says(b"200 OK", told=told)) as guard:
            config = {
                "trusted_proxies": ["127.0.0.1"],
                "backends": {"guard": {"http": f"http://{guard.address}"}},
                "routes": [{"respond": {"body": "in"}, "forward_auth": {"backend": "guard"}}],
            }
            async with gateway_of(config) as served:
                await served.ask(GET + b"X-Forwarded-Uri: /public\r\nX-Forwarded-Method: HEAD\r\n\r\n")

    run(main)
    lines = [
        line
        for line in told[0].lower().split(b"\r\n")
        if line.startswith((b"x-forwarded-uri", b"x-forwarded-method"))
    ]
    assert lines == [b"x-forwarded-method: get", b"x-forwarded-uri: /a/b?c=d"]


def test_guard_cannot_let_in_by_a_page_of_this_server(tmp_path: Path) -> None:
    """RFC 3875 6.2.2: a CGI program that sends clients to a login page by a bare path.

    The page is everybody's, and under the same guard the redirects would never end.
    """
    program = tmp_path / "guard"
    program.write_text("#!/bin/sh\nprintf 'Location: /login\\n\\n'\n")
    program.chmod(0o755)
    config = {
        "backends": {"guard": {"cgi": str(program)}},
        "routes": [
            {"match": {"path": "/login"}, "respond": {"body": "log in"}},
            {"respond": {"body": "secret"}, "forward_auth": {"backend": "guard"}},
        ],
    }
    answer = b""

    async def main() -> None:
        nonlocal answer
        async with gateway_of(config) as served:
            answer = await served.ask(GET + b"\r\n")

    run(main)
    assert response(answer).status == 502
    assert b"secret" not in answer
