"""The first byte that a backend sends reaches the client at once, over every kind of backend.

The backend sends one byte of the body and then waits until the client has it: who gathers, hangs.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import trio

from gateway.protocols.events import Data, EndOfMessage, ResponseEvent, ResponseHead
from gateway.protocols.fastcgi import FastCgiServer
from gateway.protocols.http1 import Http1Server
from gateway.protocols.scgi import ScgiServer
from gateway.protocols.uwsgi import UwsgiServer
from tests.gateway.served import (
    ApplicationCodec,
    backend,
    gateway_of,
    read_all,
    read_request,
    read_until,
    run,
)

GET: Final = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
CODECS: Final[dict[str, Callable[[], ApplicationCodec]]] = {
    "http": Http1Server,
    "fastcgi": FastCgiServer,
    "scgi": ScgiServer,
    "uwsgi": UwsgiServer,
}
FIRST: Final = b"\r\n\r\n1\r\nx\r\n"
LAST: Final = b"1\r\ny\r\n0\r\n\r\n"


@pytest.mark.parametrize("kind", CODECS)
def test_first_byte_of_an_application_behind_a_socket(kind: str) -> None:
    """Streamed, not gathered."""
    received = trio.Event()

    async def behave(stream: trio.SocketStream) -> None:
        codec = CODECS[kind]()
        await read_request(stream, codec)

        def said(*events: ResponseEvent) -> bytes:
            return b"".join(codec.send(event) for event in events)

        await stream.send_all(said(ResponseHead(200, [(b"content-type", b"text/plain")]), Data(b"x")))
        await received.wait()
        await stream.send_all(said(Data(b"y"), EndOfMessage()))

    async def main() -> None:
        async with backend(behave) as app:
            address = f"http://{app.address}" if kind == "http" else app.address
            config = {"backends": {"a": {kind: address}}, "routes": [{"backend": "a"}]}
            async with gateway_of(config) as served, await served.connect() as client:
                await client.send_all(GET)
                await read_until(client, FIRST)
                received.set()
                assert await read_all(client) == LAST

    run(main)


CGI: Final = """#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\nx'
head -c 1
"""
APPS: Final = "tests.conformance.streaming_apps"


@pytest.mark.parametrize(
    "backend_config",
    [
        {"cgi": "PROGRAM"},
        {"wsgi": f"{APPS}:wsgi"},
        {"asgi": f"{APPS}:asgi", "loop": "trio"},
        {"asgi": f"{APPS}:asgi", "loop": "asyncio"},
    ],
    ids=["cgi", "wsgi", "asgi-trio", "asgi-asyncio"],
)
def test_first_byte_of_a_program(backend_config: dict[str, str], tmp_path: Path) -> None:
    """Streamed both ways; the client sends its body when it has the first byte."""
    program = tmp_path / "program"
    program.write_text(CGI)
    program.chmod(0o755)
    config = {key: str(program) if value == "PROGRAM" else value for key, value in backend_config.items()}

    async def main() -> None:
        async with (
            gateway_of({"backends": {"a": config}, "routes": [{"backend": "a"}]}) as served,
            await served.connect() as client,
        ):
            await client.send_all(GET.replace(b"GET", b"POST").replace(b"Host", b"Content-Length: 1\r\nHost"))
            await read_until(client, FIRST)
            await client.send_all(b"y")
            assert await read_all(client) == LAST

    run(main)
