"""A name server on loopback that says what a test wants it to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import trio


class NameServer:
    """Answers from ``records``: by name and type, lines of record data."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.ttl = 0
        self.fails: bool = False
        """Whether it answers SERVFAIL."""
        self.broken: set[str] = set()
        """Names for which it answers SERVFAIL."""
        self.silent: set[str] = set()
        """Types of records for which it does not answer."""
        self.asked: list[tuple[str, str]] = []
        self.address = ""

    def say(self, name: str, kind: str, *records: str) -> None:
        self.records[name, kind] = list(records)

    def answer(self, wire: bytes) -> bytes | None:
        query = dns.message.from_wire(wire)
        (question,) = query.question
        name = question.name.to_text(omit_final_dot=True)
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        if kind in self.silent:
            return None
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        if self.fails or name in self.broken:
            reply.set_rcode(dns.rcode.SERVFAIL)
        elif records := self.records.get((name, kind)):
            reply.answer.append(dns.rrset.from_text(question.name, self.ttl, "IN", kind, *records))
        elif name not in {known for known, _ in self.records}:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply.to_wire()


@asynccontextmanager
async def name_server() -> AsyncIterator[NameServer]:
    """One that runs; ``address`` is as the configuration writes it."""
    server = NameServer()
    sock = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    await sock.bind(("127.0.0.1", 0))
    server.address = f"127.0.0.1:{sock.getsockname()[1]}"

    async def serve() -> None:
        while True:
            wire, client = await sock.recvfrom(4096)
            reply = server.answer(wire)
            if reply is not None:
                await sock.sendto(reply, client)

    with sock:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            yield server
            nursery.cancel_scope.cancel()
