"""The rows of `smuggling_requests` and `smuggling_http2` where clients may be connected to servers (CONNECT).

Whether a route has `connect` changes what the codecs of the clients' side take for a request. So every row
about something else has to mean what it means without such a route. What follows CONNECT is the server's that
it names, or nobody's: never a request.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import pytest
import trio
from h2.errors import ErrorCodes

from tests.conformance import smuggling_http2, smuggling_requests
from tests.conformance.background import in_thread
from tests.conformance.http2_wire import headers, read_answers
from tests.conformance.reader import read_responses
from tests.conformance.recording import RecordingGateway, recording_gateway
from tests.conformance.seen import Seen, wrong_requests
from tests.conformance.smuggling_requests import GOT, HELLO, SMUGGLED
from tests.conformance.test_smuggling_http2 import what_is_wrong as what_is_wrong_http2
from tests.conformance.test_smuggling_requests import what_is_wrong
from tests.gateway.served import backend
from tests.protocols.http2_peer import data

KIND: Final = "http"
"""Of the backends, which all are behind the same codec."""

TUNNELLED: Final = b"tunnelled"
"""What the server at the other end of a tunnel says once its client has ended."""


@dataclass
class Target:
    """The server that clients may be connected to."""

    address: str
    token: trio.lowlevel.TrioToken
    received: list[bytes] = field(default_factory=list)

    def take(self) -> list[bytes]:
        """What has come on each connection since the last time."""
        taken, self.received = self.received, []
        return taken


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    @asynccontextmanager
    async def serving() -> AsyncIterator[Target]:
        async def behave(stream: trio.SocketStream) -> None:
            received = b"".join([piece async for piece in stream])
            made.received.append(received)
            await stream.send_all(TUNNELLED)

        async with backend(behave) as server:
            made = Target(server.address, trio.lowlevel.current_trio_token())
            yield made

    with in_thread(serving) as running:
        yield running


@pytest.fixture(scope="module")
def connecting(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecordingGateway]:
    """A gateway with a route to the target, before a backend that gets everything else."""
    directory = tmp_path_factory.mktemp("connecting")
    with recording_gateway(directory, [KIND], [target.address]) as running:
        yield running


OTHER_REQUESTS: Final = [row for row in smuggling_requests.ROWS if b"CONNECT " not in row.sent]
OTHER_HTTP2: Final = [row for row in smuggling_http2.ROWS if 501 not in row.outcomes.values()]


@pytest.mark.parametrize("row", OTHER_REQUESTS, ids=lambda row: row.id)
def test_what_is_not_connect_means_the_same(
    row: smuggling_requests.Row, connecting: RecordingGateway, target: Target
) -> None:
    received = connecting.converse(row.sent)[KIND]
    assert what_is_wrong(row, KIND, received, connecting) == []
    assert target.take() == []


@pytest.mark.parametrize("row", OTHER_HTTP2, ids=lambda row: row.id)
def test_what_is_not_connect_means_the_same_over_http2(
    row: smuggling_http2.Row, connecting: RecordingGateway, target: Target
) -> None:
    received = connecting.converse_http2(row.sent)[KIND]
    assert what_is_wrong_http2(row, KIND, received, connecting) == []
    assert target.take() == []


# ---- CONNECT over HTTP/1.1: TARGET stands for the address of the server


@dataclass(frozen=True)
class Row:
    """What a client sends, and what becomes of it."""

    name: str
    sent: bytes
    statuses: tuple[int, ...]
    seen: tuple[Seen, ...] = ()
    """What the backend sees."""
    tunnelled: tuple[bytes, ...] = ()
    """What the server gets, on a connection each."""


def connect(*lines: bytes, to: bytes = b"TARGET", version: bytes = b"1.1") -> bytes:
    return b"\r\n".join([b"CONNECT %b HTTP/%b" % (to, version), b"Host: %b" % to, *lines, b"", b""])


GET: Final = b"GET /get HTTP/1.1\r\nHost: a\r\n\r\n"
POST: Final = b"POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED: Final = (
    b"POST /post HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
)

ACCEPTED: Final = [
    Row("with nothing behind", connect(), (200,), (), (b"",)),
    Row("with a request behind", connect() + SMUGGLED, (200,), (), (SMUGGLED,)),
    Row("with CONNECT behind", connect() + connect(), (200,), (), (connect(),)),
    Row("with chunks behind", connect() + b"0\r\n\r\n" + SMUGGLED, (200,), (), (b"0\r\n\r\n" + SMUGGLED,)),
    Row("behind a request", GET + connect() + SMUGGLED, (200, 200), (GOT,), (SMUGGLED,)),
    Row("behind a body", POST + connect() + SMUGGLED, (200, 200), (HELLO,), (SMUGGLED,)),
    Row("behind chunks", CHUNKED + connect() + SMUGGLED, (200, 200), (HELLO,), (SMUGGLED,)),
    Row("in HTTP/1.0", connect(version=b"1.0") + SMUGGLED, (200,), (), (SMUGGLED,)),
    Row("with content of no bytes", connect(b"Content-Length: 0") + SMUGGLED, (200,), (), (SMUGGLED,)),
    Row("with close", connect(b"Connection: close") + SMUGGLED, (200,), (), (SMUGGLED,)),
    Row(
        "with an offer of WebSocket",
        connect(b"Connection: upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13") + SMUGGLED,
        (200,),
        (),
        (SMUGGLED,),
    ),
    Row(
        "with another Host",
        b"CONNECT TARGET HTTP/1.1\r\nHost: b:1\r\n\r\n" + SMUGGLED,
        (200,),
        (),
        (SMUGGLED,),
    ),
]


def refused(name: str, sent: bytes, status: int = 400, *seen: Seen) -> Row:
    """... and what follows is nobody's."""
    return Row(name, sent + SMUGGLED, (*(200 for _ in seen), status), seen)


REFUSED: Final = [
    refused("to another server", connect(to=b"192.0.2.1:443"), 403),
    refused("to another server behind a request", GET + connect(to=b"192.0.2.1:443"), 403, GOT),
    refused("to another server in HTTP/1.0", connect(to=b"192.0.2.1:443", version=b"1.0"), 403),
    refused("with a length", connect(b"Content-Length: %d" % len(SMUGGLED))),
    refused("with chunks", connect(b"Transfer-Encoding: chunked") + b"0\r\n\r\n"),
    refused("with both", connect(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n"),
    refused("with another coding", connect(b"Transfer-Encoding: identity")),
    refused("with two lengths", connect(b"Content-Length: 0", b"Content-Length: 5")),
    refused("to a path", connect(to=b"/get")),
    refused("to a URL", connect(to=b"http://TARGET/get")),
    refused("to *", connect(to=b"*")),
    refused("without a port", connect(to=b"127.0.0.1")),
    refused("with an empty port", connect(to=b"127.0.0.1:")),
    refused("with two ports", connect(to=b"TARGET:80")),
    refused("with userinfo", connect(to=b"a@TARGET")),
    refused("with a path behind it", connect(to=b"TARGET/get")),
    refused("with a query behind it", connect(to=b"TARGET?x")),
    refused("with two targets", b"CONNECT TARGET TARGET HTTP/1.1\r\nHost: TARGET\r\n\r\n"),
    refused("without Host", b"CONNECT TARGET HTTP/1.1\r\n\r\n"),
    refused("with two Hosts", connect(b"Host: TARGET")),
    refused("with a bare LF", b"CONNECT TARGET HTTP/1.1\nHost: TARGET\r\n\r\n"),
    refused("with a folded line", connect(b"X: a", b" b")),
    refused("with a space before the colon", connect(b"X : a")),
    refused("in lower case", b"connect TARGET HTTP/1.1\r\nHost: TARGET\r\n\r\n"),
    refused("of GET", b"GET TARGET HTTP/1.1\r\nHost: TARGET\r\n\r\n"),
    refused("of HTTP/2.0", connect(version=b"2.0"), 505),
]


@pytest.mark.parametrize("row", [*ACCEPTED, *REFUSED], ids=lambda row: row.name.replace(" ", "-"))
def test_what_follows_connect_is_no_request(row: Row, connecting: RecordingGateway, target: Target) -> None:
    """RFC 9110 9.3.6; H-13, H1-6."""
    received = connecting.converse(row.sent.replace(b"TARGET", target.address.encode()))[KIND]
    requests, errors = connecting.take(KIND)
    assert errors + wrong_requests(requests, row.seen) == []
    answers = read_responses(received, [seen.method for seen in row.seen])
    assert tuple(int(answer.start[0]) for answer in answers) == row.statuses
    assert target.take() == [sent.replace(b"TARGET", target.address.encode()) for sent in row.tunnelled]
    assert (answers[-1].body == TUNNELLED) is bool(row.tunnelled)


@pytest.mark.parametrize(
    ("authority", "status", "tunnelled"),
    [(b"TARGET", 200, [SMUGGLED]), (b"192.0.2.1:443", 403, [])],
    ids=["to the target", "to another server"],
)
def test_what_follows_connect_is_no_request_over_http2(
    authority: bytes, status: int, tunnelled: list[bytes], connecting: RecordingGateway, target: Target
) -> None:
    """RFC 9113 8.5; H2-15. The streams beside it go on."""
    authority = authority.replace(b"TARGET", target.address.encode())
    opening = headers(1, [(b":method", b"CONNECT"), (b":authority", authority)], end=False)
    sent = (opening, data(1, SMUGGLED, end=True) + smuggling_http2.NEXT)
    answers, broken_by = read_answers(connecting.converse_http2(sent)[KIND])
    requests, errors = connecting.take(KIND)
    assert errors + wrong_requests(requests, (smuggling_http2.SEEN_NEXT,)) == []
    assert broken_by is ErrorCodes.NO_ERROR
    assert {stream_id: answer.outcome for stream_id, answer in answers.items()} == {1: status, 101: 200}
    assert target.take() == tunnelled
