"""What the log says of HTTP/2 clients that break rules, as it does of those of HTTP/1.1."""

from typing import Any

import pytest
from hpack import Encoder
from structlog.testing import capture_logs

from gateway.front.service import Timeouts
from gateway.protocols.events import Headers
from gateway.protocols.http2 import PREFACE, ErrorCode
from gateway.protocols.http2.frames import RESET_BURST
from gateway.request import Request, Responder, respond
from tests.gateway.http2_client import entering
from tests.gateway.served import read_all, run, serving
from tests.protocols.http2_peer import (
    END_HEADERS,
    END_STREAM,
    GET,
    HEADERS,
    POST,
    data,
    frame,
    goaways,
    parsed,
    resets,
    settings,
)

pytestmark = pytest.mark.usefixtures("quick_sweeper")

OURS = ("log_level", "client", "request_id", "backend")


def head(stream_id: int, fields: Headers, *, end: bool = True) -> bytes:
    return frame(HEADERS, END_HEADERS | END_STREAM * end, stream_id, Encoder().encode(fields))


async def read_body(request: Request, responder: Responder) -> None:
    while await request.body.read():
        pass
    await respond(responder, 200, [])


def told_of(
    *said: bytes, access_log: bool = True, ends: bool = True
) -> tuple[list[Any], list[dict[str, Any]]]:
    """The frames that come for what a client has *said*, and the entries of the log.

    With *ends* it closes its side then; it waits for the end in any case.
    """
    received = b""

    async def main() -> None:
        nonlocal received
        async with (
            serving(
                read_body,
                timeouts=Timeouts(header=0.1, keep_alive=0.1),
                access_log=(lambda *_: None) if access_log else None,
            ) as served,
            entering(served),
            await served.connect() as stream,
        ):
            await stream.send_all(PREFACE + settings() + b"".join(said))
            if ends:
                await stream.send_eof()
            received = await read_all(stream)

    with capture_logs() as logs:
        run(main)
    assert all(entry.get("client") == "127.0.0.1" or "request_id" in entry for entry in logs)
    return list(parsed(received)), [
        {key: value for key, value in entry.items() if key not in OURS} for entry in logs
    ]


@pytest.mark.parametrize("access_log", [True, False])
def test_malformed_requests(access_log: bool) -> None:
    """RFC 9113 8.1.1. Each is logged where requests are."""
    frames, logs = told_of(
        head(1, [*GET, (b"x", b"a\nb")]), head(3, [*GET, (b"content-length", b"1")]), access_log=access_log
    )
    assert resets(frames) == [(1, ErrorCode.PROTOCOL_ERROR), (3, ErrorCode.PROTOCOL_ERROR)]
    refused = {"event": "request refused", "code": "PROTOCOL_ERROR"}
    expected = [
        {**refused, "reason": "the value of x has a character that is not allowed there"},
        {**refused, "reason": "content-length without content"},
    ]
    assert logs == (expected if access_log else [])


def test_flood_of_malformed_requests() -> None:
    """No more of them are logged than resets are allowed; then it is the connection that is refused."""
    most = int(RESET_BURST)
    _, logs = told_of(*(head(number * 2 + 1, GET[1:]) for number in range(most + 500)), ends=False)
    assert logs[-1] == {
        "event": "connection refused",
        "code": "ENHANCE_YOUR_CALM",
        "reason": "too many streams were reset",
    }
    assert 0 < len(logs) <= most + 50


def test_body_that_is_malformed() -> None:
    """The request had begun: it is named."""
    begins = head(1, [*POST[:2], (b":path", b"/a?b"), POST[3], (b"content-length", b"3")], end=False)
    frames, logs = told_of(begins, data(1, b"ab", end=True))
    assert resets(frames) == [(1, ErrorCode.PROTOCOL_ERROR)]
    assert logs == [
        {
            "event": "request failed",
            "reason": "the body has another length than content-length",
            "code": "PROTOCOL_ERROR",
            "method": "POST",
            "target": "/a",
        }
    ]


def test_client_that_resets_its_stream_is_no_failure() -> None:
    _, logs = told_of(head(1, POST, end=False), frame(3, 0, 1, bytes(4)))
    assert logs == []


def test_connection_that_cannot_go_on() -> None:
    frames, logs = told_of(head(1, GET), frame(HEADERS, END_HEADERS, 2, b"\x82"))
    assert goaways(frames) == [(0, ErrorCode.PROTOCOL_ERROR)]
    reason = "HEADERS on a closed stream, or one that is not a client's"
    assert logs == [{"event": "connection refused", "code": "PROTOCOL_ERROR", "reason": reason}]


def test_head_that_does_not_end() -> None:
    frames, logs = told_of(frame(HEADERS, 0, 1, b"\x82"), ends=False)
    assert goaways(frames) == [(0, ErrorCode.ENHANCE_YOUR_CALM)]
    assert logs == [
        {
            "event": "request refused",
            "code": "ENHANCE_YOUR_CALM",
            "reason": "a head came too slowly",
            "setting": "timeouts.header",
        }
    ]
