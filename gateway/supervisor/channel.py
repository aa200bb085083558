"""What a supervisor and a worker say to each other: a pair of sockets, one JSON object a line.

The supervisor begins, with the listening sockets (SCM_RIGHTS, unix(7)) and a `Start`::

    supervisor                        worker
      start {document, …}     ──►
                              ◄──     ready {}  or  failed {reasons, status, raised}
      ask {id}                ──►
                              ◄──     answer {id, state}
      reopen {}               ──►     its log file
      retire {seconds}        ──►
      (end)                   ──►     drains, as on SIGTERM

Both ends are the same program in the same version, so nothing is negotiated.
"""

import json
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any, Final

import trio

from gateway.config.document import Document

READ_SIZE: Final = 64 * 1024

MOST_DESCRIPTORS: Final = 253
"""In one message: SCM_MAX_FD of Linux."""


@dataclass(frozen=True, slots=True)
class Start:
    """What a worker is to be."""

    document: Document
    listeners: list[int]
    """For each of the sockets that come with it, which of the listeners in the configuration it is of."""
    number: int
    """Which of the workers it is, from 1 on."""
    workers: int
    """How many there are."""

    def send(self, channel: socket.socket, sockets: list[socket.socket]) -> None:
        """Tell a worker, whose end of the channel nothing was sent to before. Raises OSError."""
        descriptors = [each.fileno() for each in sockets]
        for begin in range(0, len(descriptors), MOST_DESCRIPTORS):
            socket.send_fds(channel, [b"s"], descriptors[begin : begin + MOST_DESCRIPTORS])
        channel.sendall(json.dumps(asdict(self)).encode() + b"\n")

    @classmethod
    def receive(cls, channel: socket.socket) -> "tuple[Start, list[int], bytes] | None":
        """Wait for the supervisor's word: it, the descriptors of the sockets, what has come behind it.

        None if the supervisor has ended.
        """
        descriptors: list[int] = []
        received = b""
        while b"\n" not in received:
            data, found, _, _ = socket.recv_fds(channel, READ_SIZE, MOST_DESCRIPTORS)
            if not data:
                return None
            for descriptor in found:
                # Nothing that an application starts may keep the addresses when the daemon has ended.
                os.set_inheritable(descriptor, False)
            descriptors += found
            received += data
        line, _, rest = received.partition(b"\n")
        fields = json.loads(line.lstrip(b"s"))
        return cls(**{**fields, "document": Document(**fields["document"])}), descriptors, rest


def write(channel: socket.socket, **message: Any) -> None:
    """Say something where no event loop runs. Raises OSError."""
    channel.sendall(json.dumps(message).encode() + b"\n")


class Channel(trio.abc.AsyncResource):
    """One end of it, inside an event loop."""

    def __init__(self, channel: socket.socket, received: bytes = b"") -> None:
        """*received* is what has been read of it already."""
        channel.setblocking(False)
        self._received = received
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(channel))
        self._turn = trio.Lock()

    async def send(self, **message: Any) -> None:
        """Say something; nobody hears it if the other end is gone, or this one was closed meanwhile."""
        try:
            async with self._turn:
                await self._stream.send_all(json.dumps(message).encode() + b"\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """What the other end says, until it is gone."""
        while True:
            *lines, self._received = self._received.split(b"\n")
            for line in lines:
                yield json.loads(line)
            try:
                data = await self._stream.receive_some(READ_SIZE)
            except trio.BrokenResourceError:
                return
            if not data:
                return
            self._received += data

    async def aclose(self) -> None:
        await self._stream.aclose()
