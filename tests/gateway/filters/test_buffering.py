"""Response and request buffering: the backend is free long before a slow client has read."""

import resource
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from tests.gateway.served import (
    backend,
    descriptors,
    gateway_of,
    read_all,
    read_until,
    reset,
    response,
    run,
    until,
)

GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
FRAMING = '''
async def app(scope, receive, send):
    """Answers with the fields that frame the body, and the body."""
    framing = [
        b"%b: %b" % field
        for field in scope["headers"]
        if field[0] in (b"content-length", b"transfer-encoding")
    ]
    message = await receive()
    assert not message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"; ".join([*framing, message["body"]])})
'''
READING = """
async def asgi(scope, receive, send):
    while (await receive())["type"] != "http.disconnect":
        pass

def wsgi(environ, start_response):
    environ["wsgi.input"].read()
    start_response("200 OK", [])
    return []
"""
SIZE = 24 * 1024 * 1024
"""More than the kernel's buffers between the two take."""


async def _pieces(stream: trio.SocketStream, head: bytes) -> None:
    await read_until(stream, b"\r\n\r\n")
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n" % (SIZE, head))
    for number in range(SIZE // 65536):
        await stream.send_all(bytes([number % 256]) * 65536)


def routed(url: str, buffering: Any, **more: Any) -> Mapping[str, Any]:
    return {
        "backends": {"app": {"http": url}},
        "routes": [{"backend": "app", "buffering": buffering, **more}],
    }


EXPECTED = b"".join(bytes([number % 256]) * 65536 for number in range(SIZE // 65536))


@pytest.mark.parametrize("buffering", [True, {"memory": "64MiB"}, {"memory": 0}])
def test_backend_is_free_before_the_client_reads(buffering: Any) -> None:
    async def main() -> None:
        sent = trio.Event()

        async def behave(stream: trio.SocketStream) -> None:
            await _pieces(stream, b"")
            sent.set()

        async with (
            backend(behave) as app,
            gateway_of(routed(f"http://{app.address}", buffering)) as served,
            await served.connect() as client,
        ):
            await client.send_all(GET)
            await sent.wait()  # the client has read nothing
            got = response(await read_all(client))
            assert got.complete
            assert got.body == EXPECTED

    run(main, seconds=30)


@pytest.mark.parametrize(
    ("buffering", "head"),
    [
        (False, b""),
        ({"memory": "64KiB", "file": 0}, b""),
        ({"file": "1MiB"}, b""),
        (True, b"X-Accel-Buffering: no\r\n"),
        (True, b"Content-Type: text/event-stream\r\n"),
    ],
)
def test_backend_waits_for_the_client_otherwise(buffering: Any, head: bytes) -> None:
    """What may wait is bounded, and the application can say that nothing shall."""

    async def main() -> None:
        sent = trio.Event()

        async def behave(stream: trio.SocketStream) -> None:
            await _pieces(stream, head)
            sent.set()

        async with (
            backend(behave) as app,
            gateway_of(routed(f"http://{app.address}", buffering)) as served,
            await served.connect() as client,
        ):
            await client.send_all(GET)
            received = await read_until_some(client)
            assert not sent.is_set()
            got = response(received + await read_all(client))
            assert got.complete
            assert got.body == EXPECTED
            assert got.headers["x-accel-buffering"] is None or buffering is False

    run(main, seconds=30)


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file grows beyond 1 MiB (setrlimit(2)): what a full disk is like, for this process alone."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * 1024, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("full_disk")
def test_full_disk_makes_the_backend_wait() -> None:
    """The response is whole all the same."""

    async def main() -> None:
        sent = trio.Event()

        async def behave(stream: trio.SocketStream) -> None:
            await _pieces(stream, b"")
            sent.set()

        async with (
            backend(behave) as app,
            gateway_of(routed(f"http://{app.address}", {"memory": "100KiB"})) as served,
            await served.connect() as client,
        ):
            await client.send_all(GET)
            with structlog.testing.capture_logs() as logged:
                received = await read_until_some(client)
                await until(lambda: bool(logged))
                assert not sent.is_set()
                got = response(received + await read_all(client))
            assert got.complete
            assert got.body == EXPECTED
        assert [entry["event"] for entry in logged] == ["response cannot be stored"]

    run(main, seconds=30)


async def read_until_some(client: trio.SocketStream) -> bytes:
    """The head at least: the response is on its way then, and far from its end."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += await client.receive_some(1024)
    return received


def test_small_response_is_passed_on_as_it_is() -> None:
    async def main() -> None:
        async def behave(stream: trio.SocketStream) -> None:
            await read_until(stream, b"\r\n\r\n")
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        async with (
            backend(behave) as app,
            gateway_of(routed(f"http://{app.address}", True)) as served,
        ):
            assert response(await served.ask(GET)).body == b"ok"

    run(main)


def test_first_byte_does_not_wait() -> None:
    async def main() -> None:
        go_on = trio.Event()

        async def behave(stream: trio.SocketStream) -> None:
            await read_until(stream, b"\r\n\r\n")
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
            await go_on.wait()
            await stream.send_all(b"world")

        async with (
            backend(behave) as app,
            gateway_of(routed(f"http://{app.address}", True)) as served,
            await served.connect() as client,
        ):
            await client.send_all(GET)
            received = await read_until(client, b"hello")
            go_on.set()
            assert response(received + await read_all(client)).body == b"helloworld"

    run(main)


def test_backend_that_dies_in_the_body_is_visible() -> None:
    """H1-24: never a clean end."""

    async def main() -> None:
        async def behave(stream: trio.SocketStream) -> None:
            await read_until(stream, b"\r\n\r\n")
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")

        async with (
            backend(behave) as app,
            gateway_of(routed(f"http://{app.address}", True)) as served,
            await served.connect() as client,
        ):
            await client.send_all(GET)
            received = b""
            try:
                received = await read_all(client)
            except trio.BrokenResourceError:
                return
            assert not received or response(received).status == 502 or not response(received).complete

    run(main)


def test_client_that_leaves_frees_everything() -> None:
    async def main() -> None:
        async def behave(stream: trio.SocketStream) -> None:
            await _pieces(stream, b"")

        async with (
            backend(behave) as app,
            gateway_of(routed(f"http://{app.address}", {"memory": 0, "file": "1MiB"})) as served,
        ):
            before = descriptors()
            client = await served.connect()
            await client.send_all(GET)
            await read_until_some(client)
            reset(client)
            await until(lambda: app.open == 0)
            await until(lambda: descriptors() <= before)

    run(main, seconds=30)


def test_request_waits_for_its_body() -> None:
    """uwsgi#311: no connection to the backend while a client uploads slowly."""

    async def main() -> None:
        seen = b""

        async def behave(stream: trio.SocketStream) -> None:
            nonlocal seen
            seen = await read_until(stream, b"0123456789")
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        config = {"request_buffering": True}
        async with (
            backend(behave) as app,
            gateway_of(routed(f"http://{app.address}", None, **config)) as served,
            await served.connect() as client,
        ):
            await client.send_all(
                b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n"
                b"Connection: close\r\n\r\n"
            )
            # The gateway reads the body itself, which its 100 (Continue) shows.
            received = await read_until(client, b"\r\n\r\n")
            assert received.startswith(b"HTTP/1.1 100 ")
            await client.send_all(b"5\r\n01234\r\n")
            assert app.connections == 0
            await client.send_all(b"5\r\n56789\r\n0\r\n\r\n")
            assert response(await read_all(client)).body == b"ok"
            assert b"content-length: 10\r\n" in seen.lower()
            assert b"transfer-encoding" not in seen.lower()

    run(main)


def test_application_is_told_the_length_of_a_buffered_body(tmp_path: Path) -> None:
    """RFC 9112 6.2: Content-Length in place of Transfer-Encoding, where the fields are seen."""
    (tmp_path / "framing_app.py").write_text(FRAMING)

    async def main() -> None:
        config = {
            "backends": {
                "app": {
                    "asgi": "framing_app:app",
                    "directory": str(tmp_path),
                    "lifespan": "off",
                    "loop": "trio",
                }
            },
            "routes": [{"backend": "app", "request_buffering": True}],
        }
        async with gateway_of(config) as served:
            head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
            body = b"Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n"
            assert response(await served.ask(head + body)).body == b"content-length: 10; 0123456789"
            body = b"Content-Length: 3\r\n\r\nabc"
            assert response(await served.ask(head + body)).body == b"content-length: 3; abc"

    run(main)


def test_request_body_is_bounded() -> None:
    async def main() -> None:
        route = {"respond": {"body": "ok"}, "request_buffering": {"memory": 4, "max_body": 10}}
        async with gateway_of({"routes": [route]}) as served:
            head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
            assert response(await served.ask(head % 10 + b"x" * 10)).status == 200
            assert response(await served.ask(head % 11 + b"x" * 11)).status == 413

    run(main)


# --- disks that fail

POST = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"


def test_request_body_without_a_descriptor_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first that is to be stored, too: where that is was found out before."""

    async def main() -> None:
        route = {"respond": {"body": "ok"}, "request_buffering": {"memory": 0}}
        async with gateway_of({"routes": [route]}) as served, served.connecting() as client:
            await client.send_all(GET.replace(b"Connection: close\r\n", b""))
            await read_until(client, b"ok")
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            try:
                await client.send_all(POST % 4 + b"body")
                answer = await read_all(client)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert response(answer).status == 503

    monkeypatch.setattr(tempfile, "tempdir", None)
    with structlog.testing.capture_logs() as logged:
        run(main)
    ((_, detail, cause),) = failures(logged)
    assert detail == "the request body cannot be stored"
    assert "Too many open files" in cause


@pytest.mark.usefixtures("full_disk")
def test_request_body_on_a_full_disk_is_one_entry_of_the_log() -> None:
    async def main() -> None:
        route = {"respond": {"body": "ok"}, "request_buffering": True}
        async with gateway_of({"routes": [route]}) as served:
            size = 2 * 1024 * 1024
            assert response(await served.ask(POST % size + bytes(size))).status == 507

    with structlog.testing.capture_logs() as logged:
        run(main)
    assert failures(logged) == [
        (
            "error",
            "the request body cannot be stored",
            f"[Errno 27] File too large: {tempfile.gettempdir()!r}",
        )
    ]


@pytest.fixture
def broken_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What was stored cannot be read: temporary files are open for writing only."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(tempfile, "TemporaryFile", partial(open, tmp_path / "stored", "wb"))
    return f"[Errno 9] Bad file descriptor: {str(tmp_path)!r}"


def test_stored_request_body_that_is_lost_is_one_entry_of_the_log(broken_disk: str, tmp_path: Path) -> None:
    (tmp_path / "reading_apps.py").write_text(READING)
    place = {"directory": str(tmp_path)}

    async def main() -> None:
        async with backend(ignore) as app:
            backends = {
                "asyncio": {"asgi": "reading_apps:asgi", "lifespan": "off", **place},
                "trio": {"asgi": "reading_apps:asgi", "lifespan": "off", "loop": "trio", **place},
                "wsgi": {"wsgi": "reading_apps:wsgi", **place},
                "http": {"http": f"http://{app.address}"},
                "fastcgi": {"fastcgi": app.address},
            }
            routes = [
                {"match": {"path": f"/{name}"}, "backend": name, "request_buffering": {"memory": 10}}
                for name in backends
            ]
            async with gateway_of({"backends": backends, "routes": routes}) as served:
                for name in backends:
                    with structlog.testing.capture_logs() as logged:
                        post = POST.replace(b"/", b"/" + name.encode(), 1) % 100
                        assert response(await served.ask(post + bytes(100))).status == 500, name
                    lost = ("error", "the stored request body cannot be read", broken_disk)
                    assert failures(logged) == [lost], name

    run(main)


def test_stored_response_that_is_lost_is_one_entry_of_the_log(broken_disk: str) -> None:
    async def main() -> None:
        async def behave(stream: trio.SocketStream) -> None:
            await _pieces(stream, b"")

        async with (
            backend(behave) as app,
            gateway_of(routed(f"http://{app.address}", {"memory": 0})) as served,
        ):
            got = response(await served.ask(GET))
            assert got.status == 500 or not got.complete  # the head may have left

    with structlog.testing.capture_logs() as logged:
        run(main)
    assert failures(logged) == [("error", "the stored response cannot be read", broken_disk)]


async def ignore(stream: trio.SocketStream) -> None:
    """An application that has taken the connection, and waits for the request."""
    async for _ in stream:
        pass


def failures(logged: list[Any]) -> list[tuple[str, str, str]]:
    """What the log says of requests."""
    return [
        (entry["log_level"], entry["reason"], entry["cause"]) for entry in logged if "request_id" in entry
    ]
