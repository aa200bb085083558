"""Files that the machine cannot read: one entry of the log, and no response that looks whole.

Of /proc/self/mem the first page is not there: reading it is an I/O error (EIO), as on a broken disk.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from gateway.request import Request, Responder
from gateway.static.handler import send_file
from tests.gateway.http2_client import Client, entering
from tests.gateway.served import Answer, read_all, response, run, serving
from tests.gateway.tls.secured import certificate, client_context, secured

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture
def unreadable() -> Iterator[int]:
    descriptor = os.open("/proc/self/mem", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def static(descriptor: int, size: int) -> Answer:
    """Sends the file as if it had *size* bytes."""

    async def answer(request: Request, responder: Responder) -> None:
        with tempfile.TemporaryFile() as file:
            file.truncate(size)
            facts = os.fstat(file.fileno())
        await send_file(descriptor, facts, "a.txt", request.headers, responder, head=False)

    return answer


def of_unknown_length(descriptor: int, size: int) -> Answer:
    async def answer(request: Request, responder: Responder) -> None:
        responder.start(200, [])
        await responder.write_file(descriptor, 0, size)
        responder.end()
        await responder.flush()

    return answer


async def by_http1(answer: Answer, _directory: Path) -> int:
    """The status, 0 if what came is not whole."""
    async with serving(answer) as served:
        found = response(await served.ask(GET))
        return found.status if found.complete else 0


async def by_tls(answer: Answer, directory: Path) -> int:
    async with secured(answer, [certificate(directory, "localhost")]) as served:
        client = await served.hello("localhost", client_context())
        try:
            await client.send_all(GET)
            return response(await read_all(client)).status
        except trio.BrokenResourceError:
            return 0
        finally:
            await trio.aclose_forcefully(client)


async def by_http2(answer: Answer, _directory: Path) -> int:
    async with serving(answer) as served, entering(served), await served.connect() as stream:
        client = Client(stream)
        await client.begin()
        found = await client.ask()
        return found.status if found.ended else 0


@pytest.mark.parametrize(
    ("ask", "make", "size", "status"),
    [
        *((ask, static, 100, 500) for ask in (by_http1, by_tls, by_http2)),
        (by_http1, static, 1_000_000, 0),
        (by_tls, static, 1_000_000, 0),
        (by_http2, static, 1_000_000, 500),
        *((ask, of_unknown_length, 1_000_000, 500) for ask in (by_http1, by_tls, by_http2)),
    ],
)
def test_file_that_cannot_be_read(
    ask: Callable[[Answer, Path], Any],
    make: Callable[[int, int], Answer],
    size: int,
    status: int,
    unreadable: int,
    tmp_path: Path,
) -> None:
    """As long as nothing of the response has left it is a 500; then the client sees that it is cut short."""
    seen: list[int] = []

    async def main() -> None:
        seen.append(await ask(make(unreadable, size), tmp_path))

    with capture_logs() as logs:
        run(main)
    assert seen == [status]
    (entry,) = logs
    assert (entry["event"], entry["log_level"]) == ("request failed", "error")
    assert entry["reason"] == "the file cannot be read now"
    assert entry["cause"] == "[Errno 5] Input/output error"
