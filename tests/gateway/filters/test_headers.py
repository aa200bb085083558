"""Header rules of routes and backends, over real sockets."""

from typing import Any

import trio

from tests.gateway.backends.asgi_harness import answering, published
from tests.gateway.http2_client import Client, entering
from tests.gateway.served import Response, backend, gateway_of, read_until, response, run

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: old\r\nX-Powered-By: x\r\nX-A: 1\r\n\r\nok"


def exchanged(
    fields: bytes = b"", *, route: dict[str, Any] | None = None, app: dict[str, Any] | None = None
) -> tuple[bytes, Response]:
    """The head that the upstream gets for a GET with *fields*, and the client's response."""
    received = b""
    answer = b""

    async def behave(stream: trio.SocketStream) -> None:
        nonlocal received
        received = await read_until(stream, b"\r\n\r\n")
        await stream.send_all(OK)

    async def main() -> None:
        nonlocal answer
        async with backend(behave) as server:
            config = {
                "backends": {"app": {"http": f"http://{server.address}", **(app or {})}},
                "routes": [{"backend": "app", **(route or {})}],
            }
            async with gateway_of(config) as served:
                answer = await served.ask(
                    b"GET /x HTTP/1.1\r\nHost: a.example\r\n%bConnection: close\r\n\r\n" % fields
                )

    run(main)
    return received, response(answer)


def test_client_cannot_keep_fields_away_by_connection() -> None:
    """RFC 9110 7.6.1: it may do so with its own ones."""
    rules = {"request": {"set": {"X-User": "gateway"}, "default": {"X-Other": "1"}}}
    sent = b"X-User: client\r\nX-Own: 1\r\nContent-Type: a/b\r\n"
    sent += b"Connection: x-user, X-Other,x-own, content-type\r\n"
    head, _ = exchanged(sent, route={"headers": rules})
    lines = head.lower().split(b"\r\n")
    assert b"x-user: gateway" in lines
    assert b"x-other: 1" in lines
    assert b"content-type: a/b" in lines
    assert not any(line.startswith(b"x-own") for line in lines)


def test_request_fields_are_set_added_removed() -> None:
    rules = {
        "request": {
            "set": {"X-Real-IP": "{client}", "Cookie": "none"},
            "add": {"X-Tag": "two"},
            "default": {"X-Tag": "never", "X-Other": "{path}"},
            "remove": ["X-Debug-*", "Accept"],
        }
    }
    sent = b"Cookie: a=1\r\nX-Tag: one\r\nX-Debug-A: 1\r\nx-debug-b: 2\r\nAccept: */*\r\n"
    head, _ = exchanged(sent, route={"headers": rules})
    lines = head.lower().split(b"\r\n")
    assert b"x-real-ip: 127.0.0.1" in lines
    assert [line for line in lines if line.startswith(b"cookie")] == [b"cookie: none"]
    assert [line for line in lines if line.startswith(b"x-tag")] == [b"x-tag: one", b"x-tag: two"]
    assert b"x-other: /x" in lines
    assert not any(line.startswith((b"x-debug", b"accept")) for line in lines)


def test_twins_with_underscores_of_what_is_set_or_removed_do_not_come() -> None:
    """ASGI applications get names with underscores, and some make variables of them, as of the others."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(scope["headers"])
        await answering()(scope, receive, send)

    async def main() -> None:
        rules = {"set": {"X-User": "gateway"}, "remove": ["Remote-User", "X-Debug-*", "Old_Name"]}
        config = {
            "backends": {"app": {"asgi": published(app), "lifespan": "off"}},
            "routes": [{"backend": "app", "headers": {"request": rules}}],
        }
        async with gateway_of(config) as served:
            fields = b"X_User: a\r\nRemote_User: b\r\nX_Debug-It: c\r\nAPI_Key: d\r\nOld-Name: e\r\n"
            await served.ask(b"GET / HTTP/1.0\r\n%b\r\n" % fields)

    run(main)
    assert seen == [(b"api_key", b"d"), (b"old-name", b"e"), (b"x-user", b"gateway")]


def test_response_fields_are_set_added_removed() -> None:
    rules = {
        "response": {
            "set": {"Server": "mine"},
            "add": {"X-A": "2"},
            "default": {"X-A": "never", "X-Frame-Options": "DENY"},
            "remove": "X-Powered-By",
        }
    }
    _, got = exchanged(route={"headers": rules})
    assert got.headers.get_all("server") == ["mine"]
    assert got.headers.get_all("x-a") == ["1", "2"]
    assert got.headers["x-frame-options"] == "DENY"
    assert got.headers["x-powered-by"] is None
    assert got.body == b"ok"


def test_the_backends_rules_are_nearer_to_it_than_the_routes() -> None:
    """On the way in they come last, so that they win."""
    own = {"request": {"set": {"X-Who": "backend"}}, "response": {"set": {"X-Who": "backend"}}}
    outer = {"request": {"set": {"X-Who": "route"}}, "response": {"set": {"X-Who": "route"}}}
    head, got = exchanged(route={"headers": outer}, app={"headers": own})
    assert b"\r\nx-who: backend\r\n" in head.lower()
    assert got.headers["x-who"] == "route"


def test_host_that_an_upstream_sees() -> None:
    head, _ = exchanged(route={"headers": {"request": {"set": {"Host": "inner.example"}}}})
    assert b"\r\nhost: inner.example\r\n" in head.lower()
    assert head.lower().count(b"\r\nhost:") == 1


def test_value_from_a_request_cannot_add_a_field() -> None:
    """RFC 9110 5.5: no response splitting."""
    got = response_to(b"GET /%0d%0aX-Evil:%201 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert got.headers["x-evil"] is None
    assert got.headers["x-path"] == "/%0D%0AX-Evil: 1"


def test_fixed_responses_have_rules_too() -> None:
    got = response_to(b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert (got.status, got.headers["x-path"], got.body) == (200, "/a", b"hello")


def response_to(data: bytes) -> Response:
    answer = b""

    async def main() -> None:
        nonlocal answer
        rules = {"response": {"set": {"X-Path": "{path}"}}}
        async with gateway_of({"routes": [{"respond": {"body": "hello"}, "headers": rules}]}) as served:
            answer = await served.ask(data)

    run(main)
    return response(answer)


ANONYMOUS = {"headers": {"response": {"remove": "S*"}}}
NAMED = {"headers": {"response": {"remove": "Server", "default": {"Server": "x"}}}}


def test_a_server_that_is_removed_is_not_replaced() -> None:
    """Neither that of a server behind nor the gateway's own, over either version of HTTP."""
    assert "server" not in exchanged(route=ANONYMOUS)[1].headers
    assert "server" not in exchanged(app=ANONYMOUS)[1].headers
    rules = {"headers": {"response": {"default": {"Server": "x"}}}}
    assert exchanged(app=ANONYMOUS, route=rules)[1].headers["server"] == "x"
    routes = [
        {"match": {"path": "/anonymous"}, "respond": {"body": "a"}, **ANONYMOUS},
        {"match": {"path": "/named"}, "respond": {"body": "a"}, **NAMED},
        {"respond": {"body": "a"}},
    ]

    async def main() -> None:
        async with (
            gateway_of({"routes": routes}) as served,
            entering(served),
            await served.connect() as stream,
        ):
            client = Client(stream)
            await client.begin()
            for path, server in (("/anonymous", None), ("/named", b"x"), ("/", b"gateway")):
                answer = await client.ask(path)
                assert (answer.status, answer.header(b"server")) == (200, server)

    run(main)
