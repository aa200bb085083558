"""A backend of every kind that keeps the requests it sees, behind one gateway, in a thread of its own.

`recording_gateway` starts them; each kind answers requests whose first path segment is its name. What a
backend could read to its end is a request; what broke off is none.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import unquote_to_bytes

import trio

from gateway.protocols.ajp import AjpServer
from gateway.protocols.events import Data, EndOfMessage, RequestVariables, ResponseHead
from gateway.protocols.fastcgi import FastCgiServer
from gateway.protocols.scgi import ScgiServer
from gateway.protocols.uwsgi import UwsgiServer
from tests.conformance.background import ask_and_close, in_thread
from tests.conformance.http2_wire import send_pieces
from tests.conformance.reader import CutShort, Unreadable, read_request
from tests.conformance.seen import Recorded, Seen
from tests.gateway.http2_client import entering
from tests.gateway.served import ApplicationCodec, Served, backend, gateway_of, until
from tests.gateway.served import read_request as read_events

MOUNT: Final = "/mounted"
"""Where each backend is as well."""
ANSWER: Final = b"seen"
FACTS: Final = (
    "REQUEST_METHOD",
    "SCRIPT_NAME",
    "PATH_INFO",
    "QUERY_STRING",
    "REMOTE_ADDR",
    "SERVER_PORT",
    "HTTPS",
)
KINDS: Final = ("cgi", "fastcgi", "scgi", "uwsgi", "ajp", "http", "wsgi", "asgi-trio", "asgi-asyncio")


@dataclass
class Recorder:
    """What one kind of backend has seen since `take`."""

    requests: list[Recorded] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """What an HTTP upstream could not read."""

    def take(self) -> tuple[list[Recorded], list[str]]:
        """All of it, and forget it."""
        taken = self.requests[:], self.errors[:]
        self.requests.clear()
        self.errors.clear()
        return taken


RECORDERS: Final = {kind: Recorder() for kind in KINDS}


def _target(path: str, query: str) -> str:
    return f"{path}?{query}" if query else path


def _of_variables(variables: Mapping[str, str], body: bytes) -> Recorded:
    fields = {
        name[5:].lower().replace("_", "-"): value
        for name, value in variables.items()
        if name.startswith("HTTP_")
    }
    if "CONTENT_TYPE" in variables:
        fields["content-type"] = variables["CONTENT_TYPE"]
    path = "*" if variables["REQUEST_URI"] == "*" else variables["PATH_INFO"]
    seen = Seen(variables["REQUEST_METHOD"], _target(path, variables["QUERY_STRING"]), body)
    return Recorded(seen, fields, {name: variables.get(name, "") for name in FACTS})


# ---- Python applications


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Reads the whole body, as applications do."""
    body = environ["wsgi.input"].read()
    RECORDERS["wsgi"].requests.append(_of_variables(environ, body))
    start_response("200 OK", [("Content-Length", str(len(ANSWER)))])
    return [ANSWER]


AsgiApplication: TypeAlias = Callable[..., Awaitable[None]]


def _asgi(kind: str) -> AsgiApplication:
    async def application(
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[..., Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            return
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message["body"]
            more = message["more_body"]
        fields: dict[str, str] = {}
        for name, value in scope["headers"]:
            key, text = name.decode("latin-1"), value.decode("latin-1")
            fields[key] = f"{fields[key]}, {text}" if key in fields else text
        query = scope["query_string"].decode("latin-1")
        root, path = scope["root_path"], scope["path"]
        facts = {
            "REQUEST_METHOD": scope["method"],
            "SCRIPT_NAME": root,
            "PATH_INFO": path.removeprefix(root).encode().decode("latin-1"),
            "QUERY_STRING": query,
            "REMOTE_ADDR": scope["client"][0],
            "SERVER_PORT": str(scope["server"][1]),
            "HTTPS": "on" if scope["scheme"] == "https" else "",
        }
        seen = Seen(scope["method"], _target(path, query), body)
        RECORDERS[kind].requests.append(Recorded(seen, fields, facts))
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-length", b"%d" % len(ANSWER))],
            }
        )
        await send({"type": "http.response.body", "body": ANSWER})

    return application


asgi_trio = _asgi("asgi-trio")
asgi_asyncio = _asgi("asgi-asyncio")


# ---- behind sockets


async def _answer_variables(kind: str, stream: trio.SocketStream, codec: ApplicationCodec) -> None:
    head, body = await read_events(stream, codec)
    assert isinstance(head, RequestVariables)
    recorded = _of_ajp(head.variables, body) if kind == "ajp" else _of_variables(head.variables, body)
    RECORDERS[kind].requests.append(recorded)
    response = codec.send(ResponseHead(200, [(b"content-length", b"%d" % len(ANSWER))]))
    await stream.send_all(response + codec.send(Data(ANSWER)) + codec.send(EndOfMessage()))


async def _fastcgi(stream: trio.SocketStream) -> None:
    codec = FastCgiServer()
    while not codec.must_close:
        await _answer_variables("fastcgi", stream, codec)


async def _ajp(stream: trio.SocketStream) -> None:
    codec = AjpServer()
    while True:
        await _answer_variables("ajp", stream, codec)


def _of_ajp(variables: Mapping[str, str], body: bytes) -> Recorded:
    """SCRIPT_NAME and PATH_INFO are the container's to make."""
    path, _, query = variables["REQUEST_URI"].partition("?")
    assert query == variables["QUERY_STRING"]
    path = "*" if path == "*" else unquote_to_bytes(path).decode("latin-1")
    prefix = unquote_to_bytes(variables.get("HTTP_X_FORWARDED_PREFIX", "")).decode("latin-1")
    return _of_variables({**variables, "SCRIPT_NAME": prefix, "PATH_INFO": path, "REQUEST_URI": path}, body)


async def _scgi(stream: trio.SocketStream) -> None:
    await _answer_variables("scgi", stream, ScgiServer())


async def _uwsgi(stream: trio.SocketStream) -> None:
    await _answer_variables("uwsgi", stream, UwsgiServer())


async def _http(stream: trio.SocketStream) -> None:
    """A persistent server, so that what one row leaves behind meets the next."""
    recorder = RECORDERS["http"]
    data = b""
    while piece := await stream.receive_some(65536):
        data += piece
        try:
            while data:
                message, data = read_request(data)
                recorder.requests.append(_of_message(message.start, message.fields, message.body))
                bodiless = message.start[0] == b"HEAD"
                await stream.send_all(
                    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"
                    % (len(ANSWER), b"" if bodiless else ANSWER)
                )
        except CutShort:
            continue
        except Unreadable as error:
            recorder.errors.append(f"{error} in {data[:200]!r}")
            return


def _of_message(start: tuple[bytes, ...], headers: list[tuple[bytes, bytes]], body: bytes) -> Recorded:
    path, _, query = start[1].partition(b"?")
    fields: dict[str, str] = {}
    for name, value in headers:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        fields[key] = f"{fields[key]}, {text}" if key in fields else text
    target = _target(unquote_to_bytes(path).decode("utf-8"), query.decode("latin-1"))
    facts = {
        "REQUEST_METHOD": start[0].decode(),
        "SCRIPT_NAME": fields.get("x-forwarded-prefix", ""),
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query.decode("latin-1"),
        "REMOTE_ADDR": fields["x-forwarded-for"],
        "HTTPS": "on" if fields["x-forwarded-proto"] == "https" else "",
    }
    return Recorded(Seen(start[0].decode(), target, body), fields, facts)


_CGI_PROGRAM: Final = """#!/bin/sh
# Shell, because it starts ten times faster than Python.
body=$(od -An -v -tx1 | tr -d ' \\n')
{ flock 1; printf 'BODY=%s\\0' "$body"; env -0; printf '\\0'; } >> "$RECORD"
printf 'Status: 200\\r\\nContent-Length: 4\\r\\n\\r\\nseen'
"""


class _CgiRecord:
    """The file that the CGI program appends to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def collect(self) -> None:
        """Move what was appended to the recorder."""
        for entry in self.path.read_bytes().split(b"\0\0")[:-1]:
            variables = dict(item.decode("latin-1").split("=", 1) for item in entry.split(b"\0"))
            body = bytes.fromhex(variables.pop("BODY"))
            RECORDERS["cgi"].requests.append(_of_variables(variables, body))
        self.path.write_bytes(b"")


# ---- the gateway before them


@dataclass
class RecordingGateway:
    """A gateway with a service for each kind of backend."""

    served: dict[str, Served]
    entered: dict[str, Served]
    """The same services, where connections are accepted as the daemon does it: of HTTP/2 too."""
    token: trio.lowlevel.TrioToken
    cgi: _CgiRecord

    def take(self, kind: str) -> tuple[list[Recorded], list[str]]:
        """What the backend of *kind* has seen since the last time."""
        if kind == "cgi":
            self.cgi.collect()
        return RECORDERS[kind].take()

    def converse(self, sent: bytes) -> dict[str, bytes]:
        """What a client of each kind gets that sends this, closes its side, and reads to the end."""

        async def talk(served: Served) -> bytes:
            received = await ask_and_close(served, sent)
            await until(lambda: not served.open)
            return received

        return trio.from_thread.run(_with_each, self.served, talk, trio_token=self.token)

    def converse_http2(self, pieces: tuple[bytes, ...]) -> dict[str, bytes]:
        """The same over HTTP/2: each piece is sent when the ones before it have been read."""

        async def talk(served: Served) -> bytes:
            return await send_pieces(served, pieces)

        return trio.from_thread.run(_with_each, self.entered, talk, trio_token=self.token)


async def _with_each(
    served: dict[str, Served], talk: Callable[[Served], Awaitable[bytes]]
) -> dict[str, bytes]:
    received: dict[str, bytes] = {}

    async def ask(kind: str, each: Served) -> None:
        with trio.fail_after(10):
            received[kind] = await talk(each)

    async with trio.open_nursery() as nursery:
        for kind, each in served.items():
            nursery.start_soon(ask, kind, each)
    return received


@contextmanager
def recording_gateway(
    directory: Path, kinds: Sequence[str] = KINDS, tunnels: Sequence[str] = ()
) -> Iterator[RecordingGateway]:
    """The gateways for *kinds*, running until the end. Clients may be connected (CONNECT) to *tunnels*."""
    program = directory / "record"
    program.write_text(_CGI_PROGRAM)
    program.chmod(0o755)
    record = _CgiRecord(directory / "requests")

    @asynccontextmanager
    async def gateways() -> AsyncIterator[RecordingGateway]:
        async with AsyncExitStack() as stack:
            served, entered = {}, {}
            connecting = [{"connect": list(tunnels)}] if tunnels else []
            configurations = await _configurations(stack, program, record.path)
            for kind in kinds:
                config = configurations[kind]
                mounted = {"match": {"path": f"{MOUNT}/*"}, "mount": MOUNT, "backend": kind}
                mapping = {"backends": {kind: config}, "routes": [*connecting, mounted, {"backend": kind}]}
                served[kind] = await stack.enter_async_context(gateway_of(mapping))
                entered[kind] = Served(served[kind].service, None)
                await stack.enter_async_context(entering(entered[kind]))
            yield RecordingGateway(served, entered, trio.lowlevel.current_trio_token(), record)

    with in_thread(gateways) as running:
        yield running


async def _configurations(stack: AsyncExitStack, program: Path, record: Path) -> dict[str, dict[str, Any]]:
    here = "tests.conformance.recording"
    behaviours = {"fastcgi": _fastcgi, "scgi": _scgi, "uwsgi": _uwsgi, "ajp": _ajp, "http": _http}
    sockets = {
        kind: (await stack.enter_async_context(backend(behave))).address
        for kind, behave in behaviours.items()
    }
    return {
        "cgi": {"cgi": str(program), "variables": {"RECORD": str(record)}},
        "fastcgi": {"fastcgi": sockets["fastcgi"], "keep_connection": True},
        "scgi": {"scgi": sockets["scgi"]},
        "uwsgi": {"uwsgi": sockets["uwsgi"]},
        "ajp": {"ajp": sockets["ajp"], "packet_size": "64KiB"},
        "http": {"http": f"http://{sockets['http']}"},
        "wsgi": {"wsgi": f"{here}:wsgi"},
        "asgi-trio": {"asgi": f"{here}:asgi_trio", "loop": "trio"},
        "asgi-asyncio": {"asgi": f"{here}:asgi_asyncio", "loop": "asyncio"},
    }
