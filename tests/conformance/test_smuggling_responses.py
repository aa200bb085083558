"""Every row of `smuggling_responses` through the gateway to a client, and next requests behind it.

The server says the row to ``/evil`` and goes on as if nothing had happened. ``/next`` is asked on the same
client connection and once more on another one, and has to get its own answer whichever pooled connection it
is asked on.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from gateway.protocols.events import RequestVariables
from gateway.protocols.fastcgi import FastCgiServer
from gateway.protocols.fastcgi.records import (
    END_REQUEST,
    STDOUT,
    encode_end_request,
    encode_record,
    encode_stream,
)
from gateway.protocols.scgi import ScgiServer
from gateway.protocols.uwsgi import UwsgiServer
from tests.conformance.background import ask_and_close, in_thread
from tests.conformance.reader import CutShort, Message, Unreadable, read_request, read_response
from tests.conformance.smuggling_responses import CGI_ROWS, HTTP_ROWS, Outcome, Row
from tests.gateway.served import ApplicationCodec, Served, backend, gateway_of, until
from tests.gateway.served import read_request as read_events

CGI_KINDS: Final = ("cgi", "fastcgi", "scgi", "uwsgi")
NEXT: Final = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
NEXT_ANSWER: Final = b"Status: 200\r\nContent-Length: 4\r\n\r\nnext"
NEXT_RESPONSE: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext"

# FastCGI: what ends a response of one record, and what may be wrong around it.
REQUEST: Final = 1
PLAIN: Final = encode_stream(STDOUT, REQUEST, b"Content-Type: text/plain\r\n\r\nhello")
THE_END: Final = encode_end_request(REQUEST)
EVIL_RECORDS: Final = encode_stream(STDOUT, REQUEST, b"Content-Type: text/plain\r\n\r\nevil") + THE_END
OTHERS_RECORDS: Final = encode_stream(STDOUT, 2, b"Content-Type: text/plain\r\n\r\nevil")
TWO_STREAMS: Final = PLAIN + encode_record(STDOUT, REQUEST) + PLAIN
RECORDS: Final = [
    Row("plain", PLAIN + THE_END, Outcome.WHOLE),
    Row("a second response", PLAIN + THE_END + EVIL_RECORDS, Outcome.WHOLE),
    Row("half a record behind", PLAIN + THE_END + b"\x01\x06\x00", Outcome.WHOLE),
    Row("no end", PLAIN, Outcome.BROKEN, closes=True),
    Row("half an end", PLAIN + THE_END[:9], Outcome.BROKEN, closes=True),
    Row("another request", OTHERS_RECORDS + THE_END, Outcome.BROKEN),
    Row("the end of another request", PLAIN + encode_end_request(2), Outcome.BROKEN, closes=True),
    Row("another version", b"\x02" + PLAIN[1:] + THE_END, Outcome.BROKEN),
    Row("an end that is too short", PLAIN + encode_record(END_REQUEST, REQUEST, b"\0\0"), Outcome.BROKEN),
    Row("HTTP", b"HTTP/1.1 200 OK\r\n\r\nhello", Outcome.BROKEN),
    Row("data behind the end of output", TWO_STREAMS + THE_END, Outcome.EITHER),
]  # fmt: skip

_CGI_PROGRAM: Final = """#!/bin/sh
case $PATH_INFO in
/evil) cat "$EVIL" ;;
*) printf 'Status: 200\\r\\nContent-Length: 4\\r\\n\\r\\nnext' ;;
esac
"""


@dataclass
class EvilGateway:
    """Gateways before backends that say what the current row says."""

    token: trio.lowlevel.TrioToken
    evil_file: Path
    served: dict[str, Served]
    row: Row = HTTP_ROWS[0]

    def converse(self, row: Row, kind: str) -> bytes:
        """What a client gets for /evil and /next, and then another one for /next."""
        self.row = row
        self.evil_file.write_bytes(row.sent)
        return trio.from_thread.run(self._converse, row, kind, trio_token=self.token)

    async def _converse(self, row: Row, kind: str) -> bytes:
        served = self.served[kind]
        evil = b"%b /evil HTTP/1.1\r\nHost: a\r\n\r\n" % row.method.encode()
        with trio.fail_after(10):
            received = await ask_and_close(served, evil + NEXT)
            await until(lambda: not served.open)
            assert _body_of(await ask_and_close(served, NEXT)) == b"next"
            await until(lambda: not served.open)
        return received

    # What the backends do.

    async def http(self, stream: trio.SocketStream) -> None:
        data = b""
        while piece := await stream.receive_some(65536):
            data += piece
            try:
                message, data = read_request(data)
            except CutShort:
                continue
            if message.start[1] != b"/evil":
                await stream.send_all(NEXT_RESPONSE)
                continue
            await stream.send_all(self.row.sent)
            if self.row.closes:
                return

    async def fastcgi(self, stream: trio.SocketStream) -> None:
        while True:
            await self._answer(stream, FastCgiServer(), THE_END)

    async def records(self, stream: trio.SocketStream) -> None:
        while await self._answer(stream, FastCgiServer(), None) and not self.row.closes:
            pass

    async def scgi(self, stream: trio.SocketStream) -> None:
        await self._answer(stream, ScgiServer(), b"")

    async def uwsgi(self, stream: trio.SocketStream) -> None:
        await self._answer(stream, UwsgiServer(), b"")

    async def _answer(self, stream: trio.SocketStream, codec: ApplicationCodec, end: bytes | None) -> bool:
        """Answer one request; whether it was an evil one, behind which the connection goes on."""
        head, _ = await read_events(stream, codec)
        assert isinstance(head, RequestVariables)
        evil = head.variables["PATH_INFO"] == "/evil"
        said = self.row.sent if evil else NEXT_ANSWER
        if evil and end is None:
            await stream.send_all(said)
        elif isinstance(codec, FastCgiServer):
            output = encode_stream(STDOUT, REQUEST, said) if said else b""
            await stream.send_all(output + encode_record(STDOUT, REQUEST) + THE_END)
        else:
            await stream.send_all(said)
        return True


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EvilGateway]:
    """The gateways, running until the end of this module."""
    directory = tmp_path_factory.mktemp("evil")
    program = directory / "evil"
    program.write_text(_CGI_PROGRAM)
    program.chmod(0o755)

    @asynccontextmanager
    async def gateways() -> AsyncIterator[EvilGateway]:
        made = EvilGateway(trio.lowlevel.current_trio_token(), directory / "said", {})
        async with AsyncExitStack() as stack:
            configurations: dict[str, dict[str, Any]] = {
                "cgi": {"cgi": str(program), "variables": {"EVIL": str(made.evil_file)}}
            }
            for kind, behave in {
                "http": made.http,
                "fastcgi": made.fastcgi,
                "records": made.records,
                "scgi": made.scgi,
                "uwsgi": made.uwsgi,
            }.items():
                server = await stack.enter_async_context(backend(behave))
                if kind == "http":
                    configurations[kind] = {"http": f"http://{server.address}"}
                elif kind in ("fastcgi", "records"):
                    configurations[kind] = {"fastcgi": server.address, "keep_connection": True}
                else:
                    configurations[kind] = {kind: server.address}
            for kind, config in configurations.items():
                mapping = {"backends": {"a": config}, "routes": [{"backend": "a"}]}
                made.served[kind] = await stack.enter_async_context(gateway_of(mapping))
            yield made

    with in_thread(gateways) as running:
        yield running


@pytest.mark.parametrize("row", HTTP_ROWS, ids=lambda row: row.id)
def test_http(row: Row, evil: EvilGateway) -> None:
    """RFC 9112 11.1; H1-7 to H1-15, H1-22, H1-24, H-8, H-11, H-12, H-16"""
    judge(row, evil.converse(row, "http"))


@pytest.mark.parametrize("kind", CGI_KINDS)
@pytest.mark.parametrize("row", CGI_ROWS, ids=lambda row: row.id)
def test_cgi_family(row: Row, kind: str, evil: EvilGateway) -> None:
    """RFC 3875 6; H-7, H-8, H1-24"""
    judge(row, evil.converse(row, kind))


@pytest.mark.parametrize("row", RECORDS, ids=lambda row: row.id)
def test_fastcgi_records(row: Row, evil: EvilGateway) -> None:
    """FastCGI 3.3, 5.5: what stands between the records of one response, or behind them."""
    judge(row, evil.converse(row, "records"))


def judge(row: Row, received: bytes) -> None:
    """Hold what a client received for the row and for /next against what may become of it."""
    try:
        first, rest = read_response(received, row.method)
        while first.start[0].startswith(b"1"):
            first, rest = read_response(rest, row.method)
    except CutShort:
        assert row.outcome in (Outcome.BROKEN, Outcome.EITHER), received
        assert b"evil" not in received
        return
    except Unreadable as error:
        raise AssertionError(f"{error} in {received!r}") from error
    status = int(first.start[0])
    if status == 502:
        assert row.outcome is not Outcome.WHOLE, received
    else:
        assert row.outcome in (Outcome.WHOLE, Outcome.EITHER), received
        assert (status, first.body) == (row.status, b"" if row.method == "HEAD" else row.body)
    if not _closes(first):
        assert _body_of(rest) == b"next"


def _body_of(received: bytes) -> bytes:
    message, rest = read_response(received, "GET")
    assert not rest
    assert message.start[0] == b"200"
    return message.body


def _closes(message: Message) -> bool:
    return message.field(b"connection") == b"close"
