"""A program that the gateway spawns, and that comes to the end which the path of a request says.

``python spawned.py KIND [SOCKET]``: one connection after the other, on descriptor 0 or a socket of its own.
Each answer names the process that gave it. `application` and `asgi_application` are the same for our own
servers.

A program of its own, so that it starts quickly: it imports nothing but the codecs.
"""

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final, NoReturn, TypeAlias

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.events import NEED_DATA, Data, EndOfMessage, RequestEvent, RequestHead, ResponseHead
from gateway.protocols.fastcgi import FastCgiServer
from gateway.protocols.http1 import Http1Server
from gateway.protocols.scgi import ScgiServer
from gateway.protocols.uwsgi import UwsgiServer

Codec: TypeAlias = FastCgiServer | Http1Server | ScgiServer | UwsgiServer

CODECS: Final[dict[str, Callable[[], Codec]]] = {
    "fastcgi": FastCgiServer,
    "scgi": ScgiServer,
    "uwsgi": UwsgiServer,
    "http": Http1Server,
}
PROMISED: Final = 100_000
"""A Content-Length that is not kept."""


def end(fault: str) -> NoReturn:
    """Die or freeze, as *fault* says; each of them is seen by the gateway alone."""
    os.kill(os.getpid(), signal.SIGSTOP if fault == "freezes" else signal.SIGKILL)
    while True:  # another thread may be the one that is stopped first
        signal.pause()


class Gone(Exception):
    """The gateway has closed the connection."""


class Talk:
    """One connection, which is one request."""

    def __init__(self, connection: socket.socket, codec: Codec) -> None:
        self._connection = connection
        self._codec = codec

    def _next_event(self) -> RequestEvent:
        while (event := self._codec.next_event()) is NEED_DATA:
            data = self._connection.recv(65536)
            if not data:
                raise Gone
            self._codec.receive_data(data)
        assert isinstance(event, RequestEvent)
        return event

    def _read_body(self) -> None:
        while not isinstance(self._next_event(), EndOfMessage):
            pass

    def answer(self) -> None:
        head = self._next_event()
        if isinstance(head, RequestHead):
            path, _, token = head.target.decode().partition("?")
        else:
            variables = head.variables  # type: ignore[union-attr]
            path, token = variables["PATH_INFO"], variables["QUERY_STRING"]
        fault, body = path.rpartition("/")[2], token.encode()
        length = PROMISED if fault == "dies-in-body" else len(body)
        fields = [
            (b"content-type", b"text/plain"),
            (b"content-length", b"%d" % length),
            (b"x-process", b"%d" % os.getpid()),
        ]
        if isinstance(head, RequestHead):
            fields.append((b"connection", b"close"))
        answer = self._codec.send(ResponseHead(200, fields))
        if fault == "dies-in-body":  # the client sends the body of its request when it has seen the token
            self._connection.sendall(answer + self._codec.send(Data(body)))
        self._read_body()
        if fault == "dies-in-head":
            self._connection.sendall(answer[: len(answer) // 2])
        if fault != "fine":
            end(fault)
        answer += self._codec.send(Data(body)) + self._codec.send(EndOfMessage())
        self._connection.sendall(answer)


def main(kind: str, place: str | None = None) -> None:
    """Serve until a signal says stop."""
    if place is None:
        listener = socket.socket(fileno=0)
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(place)
        listener.listen()
    while True:
        connection, _ = listener.accept()
        with connection:
            try:
                Talk(connection, CODECS[kind]()).answer()
            except (Gone, OSError, RemoteProtocolError) as error:
                print(repr(error), file=sys.stderr)


# ---- by our own servers


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
    fault, body = environ["PATH_INFO"].rpartition("/")[2], environ["QUERY_STRING"].encode()
    fields = [("Content-Type", "text/plain"), ("X-Process", str(os.getpid()))]
    if fault == "dies-in-body":
        start_response("200 OK", [*fields, ("Content-Length", str(PROMISED))])
        yield body
    environ["wsgi.input"].read()
    if fault != "fine":
        end(fault)
    start_response("200 OK", [*fields, ("Content-Length", str(len(body)))])
    yield body


async def asgi_application(
    scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]
) -> None:
    fault, body = scope["path"].rpartition("/")[2], scope["query_string"]
    fields = [(b"content-type", b"text/plain"), (b"x-process", b"%d" % os.getpid())]
    start: dict[str, Any] = {"type": "http.response.start", "status": 200}
    if fault == "dies-in-body":
        await send({**start, "headers": [*fields, (b"content-length", b"%d" % PROMISED)]})
        await send({"type": "http.response.body", "body": body, "more_body": True})
    while (await receive()).get("more_body"):
        pass
    if fault != "fine":
        end(fault)
    await send({**start, "headers": [*fields, (b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    main(*sys.argv[1:])
