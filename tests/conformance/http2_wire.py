"""HTTP/2 as it is on the wire, written without any check, and read.

Field sections are written as literals without compression (RFC 7541 6.2.2), so that they may hold anything
and mean the same wherever they stand. What comes back is read by hyperframe and hpack.
"""

from dataclasses import dataclass, field

import trio
from h2.errors import ErrorCodes
from hpack import Decoder
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame, RstStreamFrame

from gateway.protocols.events import Headers
from tests.gateway.served import Served, read_all
from tests.protocols.http2_peer import (
    ACK,
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    frame,
    parsed,
    settings,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def section(fields: Headers) -> bytes:
    """A field section of literals (RFC 7541 6.2.2)."""
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in fields)


def _string(data: bytes) -> bytes:
    """RFC 7541 5.2, without Huffman code; 5.1 for the length."""
    length = len(data)
    if length < 127:
        return bytes((length,)) + data
    length -= 127
    encoded = b"\x7f"
    while length >= 128:
        encoded += bytes((length % 128 + 128,))
        length //= 128
    return encoded + bytes((length,)) + data


def headers(stream_id: int, fields: Headers, *, end: bool = True) -> bytes:
    """A whole field section, in as many frames as it needs (RFC 9113 6.2, 6.10)."""
    block = section(fields)
    pieces = [block[start : start + 16_384] for start in range(0, len(block), 16_384)] or [b""]
    return in_pieces(stream_id, pieces, end=end)


def in_pieces(stream_id: int, pieces: list[bytes], *, end: bool = True) -> bytes:
    """A field section in these pieces: one HEADERS, the others CONTINUATION."""
    frames = []
    for number, piece in enumerate(pieces):
        flags = END_HEADERS * (number == len(pieces) - 1) | END_STREAM * (end and not number)
        frames.append(frame(CONTINUATION if number else HEADERS, flags, stream_id, piece))
    return b"".join(frames)


async def send_pieces(served: Served, pieces: tuple[bytes, ...]) -> bytes:
    """All that a client gets that sends *pieces*, closes its side, and reads to the end.

    Behind each piece goes a PING, whose answer is waited for: what came before has been read then.
    """
    received = b""
    async with await served.connect() as client:
        try:
            await client.send_all(PREFACE + settings())
            for number, piece in enumerate(pieces):
                payload = b"piece%3d" % number
                await client.send_all(piece + frame(PING, 0, 0, payload))
                while frame(PING, ACK, 0, payload) not in received:
                    data = await client.receive_some(65536)
                    if not data:
                        return received
                    received += data
            await client.send_eof()
        except trio.BrokenResourceError:
            return received  # the server has had enough
        return received + await read_all(client)
    raise AssertionError("nothing is swallowed here")


@dataclass
class Answer:
    """What has come on one stream."""

    status: int = 0
    informed: list[int] = field(default_factory=list)
    body: bytes = b""
    ended: bool = False
    reset: ErrorCodes | None = None

    @property
    def outcome(self) -> int | ErrorCodes | None:
        """The status of a whole answer, or the code of a reset; None for an answer that was cut off."""
        if self.ended and self.reset in (None, ErrorCodes.NO_ERROR):
            return self.status
        return self.reset


def read_answers(received: bytes) -> tuple[dict[int, Answer], ErrorCodes]:
    """What *received* says on each stream, and the code of the last GOAWAY (NO_ERROR if there is none)."""
    answers: dict[int, Answer] = {}
    ended_by = ErrorCodes.NO_ERROR
    decoder = Decoder()
    for each in parsed(received):
        if isinstance(each, GoAwayFrame):
            ended_by = ErrorCodes(each.error_code)
        if not each.stream_id:
            continue
        answer = answers.setdefault(each.stream_id, Answer())
        if isinstance(each, HeadersFrame):
            fields = dict(decoder.decode(each.data, raw=True))
            status = int(fields.get(b":status", b"0"))
            if 100 <= status < 200:
                answer.informed.append(status)
            elif status:
                answer.status = status
        elif isinstance(each, DataFrame):
            answer.body += each.data
        elif isinstance(each, RstStreamFrame) and answer.reset is None:
            # What is sent on a stream that has been reset may get another one (RFC 9113 5.1).
            answer.reset = ErrorCodes(each.error_code)
        answer.ended = answer.ended or "END_STREAM" in each.flags
    return answers, ended_by
