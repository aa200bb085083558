"""A FastCGI application that takes several requests on a connection, made of behaviours for one request each.

A behaviour gets a stream on which its request is alone, with id 1, as if it had a connection of its own. When
it returns and has not ended the request, the connection is closed, for all. A request that the web server
aborts is cancelled and ended.
"""

from collections.abc import Awaitable, Callable, Mapping
from math import inf
from typing import Any, Final

import trio

from gateway.protocols.fastcgi import encode_pairs
from gateway.protocols.fastcgi.records import (
    ABORT_REQUEST,
    BEGIN_REQUEST,
    END_REQUEST,
    GET_VALUES,
    GET_VALUES_RESULT,
    HEADER_LENGTH,
    encode_end_request,
    encode_record,
)
from tests.gateway.served import ScriptedBackend

MULTIPLEXES: Final = {"FCGI_MAX_CONNS": "100", "FCGI_MAX_REQS": "100", "FCGI_MPXS_CONNS": "1"}


class Application:
    """What has come to the application, over all connections."""

    def __init__(
        self,
        behave: Callable[[Any], Awaitable[None]],
        values: Mapping[str, str] = MULTIPLEXES,
        *,
        ends_aborted: bool = True,
    ) -> None:
        self._behave = behave
        self.values = values
        self.ends_aborted = ends_aborted
        self.asked = 0
        """For its capabilities."""
        self.reads = trio.Event()
        """Whether it reads what comes behind the beginning of a connection's first request."""
        self.reads.set()
        self.connections: list[Connection] = []
        """That had requests."""
        self.counted = ScriptedBackend("")
        """The same as numbers."""

    async def __call__(self, stream: trio.SocketStream) -> None:
        connection = Connection(self, stream)
        try:
            await connection.serve(self._behave)
        finally:
            self.counted.open -= bool(connection.begun)

    @property
    def begun(self) -> list[list[int]]:
        """The ids of the requests begun so far, for each connection."""
        return [connection.begun for connection in self.connections]


class Connection:
    """A connection with its requests."""

    def __init__(self, application: Application, stream: trio.SocketStream) -> None:
        self._application = application
        self.stream = stream
        self._sending = trio.Lock()
        self._requests: dict[int, RequestEnd] = {}
        self.begun: list[int] = []
        self.aborted: list[int] = []
        self.records: list[tuple[int, int, int]] = []
        """Type, id and length of all that has come."""

    async def serve(self, behave: Callable[[Any], Awaitable[None]]) -> None:
        buffer = b""
        async with trio.open_nursery() as nursery:
            try:
                while data := await self._receive():
                    buffer += data
                    while len(buffer) >= HEADER_LENGTH and len(buffer) >= (size := record_size(buffer)):
                        record, buffer = buffer[:size], buffer[size:]
                        await self._take(record, nursery, behave)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            nursery.cancel_scope.cancel()

    async def _receive(self) -> bytes:
        if self.begun:
            await self._application.reads.wait()
        return await self.stream.receive_some(65536)

    async def _take(
        self, record: bytes, nursery: trio.Nursery, behave: Callable[[Any], Awaitable[None]]
    ) -> None:
        record_type, request_id = record[1], int.from_bytes(record[2:4], "big")
        if record_type == GET_VALUES:
            self._application.asked += 1
            await self.send(encode_record(GET_VALUES_RESULT, 0, encode_pairs(dict(self._application.values))))
            return
        self.records.append((record_type, request_id, len(record) - HEADER_LENGTH))
        if record_type == BEGIN_REQUEST:
            if not self.begun:
                self._application.connections.append(self)
                self._application.counted.connections += 1
                self._application.counted.open += 1
            assert request_id not in self._requests, "an id of an active request was used again"
            self.begun.append(request_id)
            request = self._requests[request_id] = RequestEnd(self, request_id)
            nursery.start_soon(self._run, request, behave, nursery)
        elif record_type == ABORT_REQUEST:
            self.aborted.append(request_id)
            if request_id in self._requests and self._application.ends_aborted:
                self._requests[request_id].scope.cancel()
                await self.end(request_id)
        elif request_id in self._requests:
            self._requests[request_id].feed(renumbered(record, 1))

    async def _run(
        self, request: "RequestEnd", behave: Callable[[Any], Awaitable[None]], nursery: trio.Nursery
    ) -> None:
        with request.scope:
            try:
                await behave(request)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            if self._requests.get(request.request_id) is request:
                nursery.cancel_scope.cancel()

    async def end(self, request_id: int) -> None:
        """End the request."""
        del self._requests[request_id]
        await self.send(encode_end_request(request_id))

    async def send(self, data: bytes) -> None:
        async with self._sending:
            with trio.CancelScope(shield=True):  # a record is sent whole or not at all
                await self.stream.send_all(data)

    async def send_of(self, request: "RequestEnd", records: bytes) -> None:
        position = 0
        out = b""
        while position < len(records) and records[position] == 1:
            size = record_size(records[position:])
            record = records[position : position + size]
            out += renumbered(record, request.request_id)
            if record[1] == END_REQUEST:
                self._requests.pop(request.request_id, None)
                request.over()
            position += size
        await self.send(out + records[position:])


class RequestEnd:
    """The stream of one request, as far as tests use `trio.SocketStream`."""

    def __init__(self, connection: Connection, request_id: int) -> None:
        self.connection = connection
        self.request_id = request_id
        self.scope = trio.CancelScope()
        self.socket = connection.stream.socket
        self.setsockopt = connection.stream.setsockopt
        self._send, self._receive = trio.open_memory_channel[bytes](inf)
        self.feed(encode_record(BEGIN_REQUEST, 1, bytes([0, 1, 1, 0, 0, 0, 0, 0])))

    def feed(self, record: bytes) -> None:
        self._send.send_nowait(record)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            return b""

    async def send_all(self, data: bytes) -> None:
        await self.connection.send_of(self, data)

    def over(self) -> None:
        """The request was ended."""
        self._send.close()

    async def send_eof(self) -> None:
        """Its end is END_REQUEST."""


def record_size(data: bytes) -> int:
    """Of the record that *data* begins with."""
    return HEADER_LENGTH + int.from_bytes(data[4:6], "big") + data[6]


def renumbered(record: bytes, request_id: int) -> bytes:
    return record[:2] + request_id.to_bytes(2, "big") + record[4:]
