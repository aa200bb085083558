"""Applications that say what `SAID` holds: a response, the same for every kind of backend."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from gateway.protocols.events import RequestHead
from tests.conformance.faulty import CODECS, KEEPING, Talk
from tests.gateway.served import next_event

BODILESS: Final = (204, 304)
TRAILING: Final = ("http", "asgi-trio", "asgi-asyncio")
"""Kinds that have trailer fields."""


@dataclass
class Response:
    """What is said."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    """Names are lower-case."""
    pieces: list[bytes] = field(default_factory=list)
    sized: bool = True
    trailers: list[tuple[str, str]] = field(default_factory=list)
    """Said behind a body of unknown length, by kinds that can (`TRAILING`)."""

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """The fields, with the length if it is told."""
        found = [(name.encode(), value.encode("latin-1")) for name, value in self.headers]
        if self.sized and self.status not in BODILESS:
            found.append((b"content-length", b"%d" % len(self.body)))
        return found

    @property
    def trailing(self) -> list[tuple[bytes, bytes]]:
        return [(name.encode(), value.encode("latin-1")) for name, value in self.trailers]

    def cgi(self) -> bytes:
        """What a CGI program writes."""
        lines = [b"Status: %d Said\r\n" % self.status, b"Content-Type: text/plain\r\n"]
        lines += [b"%b: %b\r\n" % field for field in self.fields]
        return b"".join(lines) + b"\r\n" + self.body


@dataclass
class Said:
    """Holds the response of the moment."""

    response: Response = field(default_factory=Response)


SAID: Final = Said()


def says(kind: str) -> Callable[[trio.SocketStream], Awaitable[None]]:
    """A server of *kind*."""

    async def behave(stream: trio.SocketStream) -> None:
        codec = CODECS[kind]()
        while True:
            head = await next_event(stream, codec)
            talk = Talk(kind, stream, codec, head)
            await talk.read_body()
            response = SAID.response
            fields = response.fields
            chunked = kind == "http" and not response.sized and response.status not in BODILESS
            if chunked:
                fields.append((b"transfer-encoding", b"chunked"))
            await talk.say(talk.head(*fields, status=response.status))
            if isinstance(head, RequestHead) and head.method == b"HEAD":
                continue  # RFC 9112 6.3; the other kinds say a body all the same
            for piece in response.pieces:
                plain = piece if kind == "http" and not chunked else talk.piece(piece)
                await stream.send_all(plain)
            if chunked:
                trailers = b"".join(b"%b: %b\r\n" % field for field in response.trailing)
                await stream.send_all(b"0\r\n%b\r\n" % trailers)
            else:
                await stream.send_all(talk.ending)
            if kind not in KEEPING:
                return
            codec = CODECS[kind]()

    return behave


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
    """The WSGI application."""
    response = SAID.response
    fields = [(name.decode(), value.decode("latin-1")) for name, value in response.fields]
    start_response(f"{response.status} Said", [("content-type", "text/plain"), *fields])
    yield from response.pieces


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """The ASGI application, for either loop."""
    if scope["type"] != "http":
        return
    response = SAID.response
    headers = [(b"content-type", b"text/plain"), *response.fields]
    start = {"type": "http.response.start", "status": response.status, "headers": headers}
    await send({**start, "trailers": bool(response.trailers)})
    for piece in response.pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
    if response.trailers:
        await send({"type": "http.response.trailers", "headers": response.trailing})
