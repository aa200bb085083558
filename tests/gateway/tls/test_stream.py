"""TLS over the pump: records both ways, ends that are said and ends that are not, back-pressure."""

import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from gateway.tls.context import Certificates
from gateway.tls.errors import NotTlsError
from gateway.tls.stream import PIECE, TlsStream
from tests.gateway.net.pumped import connected
from tests.gateway.served import pumping, read_all, run, until
from tests.gateway.tls.secured import Client, certificate, client_context, tls_options

pytestmark = pytest.mark.usefixtures("quick_sweeper")

VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])

Test: TypeAlias = Callable[[TlsStream, Client], Awaitable[None]]


def streams(
    directory: Path,
    test: Test,
    *,
    version: ssl.TLSVersion | None = None,
    handshake: bool = True,
    send_buffer: int | None = None,
) -> None:
    """Run *test* with a stream and its client, after their handshake if that is wanted."""
    certificates = Certificates(tls_options(), [certificate(directory, "localhost")])

    async def main() -> None:
        async with pumping() as pump:
            ours, theirs = connected("tcp")
            if send_buffer is not None:
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
            stream = TlsStream(pump, ours, certificates.context)
            pump.adopt(stream)
            theirs.setblocking(False)
            transport = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
            client = trio.SSLStream(transport, client_context(version=version), server_hostname="localhost")
            if handshake:
                async with trio.open_nursery() as both:
                    both.start_soon(client.do_handshake)
                    await stream.handshake(5)
            await test(stream, client)
            stream.close()
            transport.socket.close()

    run(main, seconds=30)


@VERSIONS
def test_bytes_both_ways(version: ssl.TLSVersion, tmp_path: Path) -> None:
    async def test(stream: TlsStream, client: Client) -> None:
        assert stream.session.version() == version.name.replace("v1_", "v1.")
        await client.send_all(b"hello")
        assert await stream.receive_some() == b"hello"
        await stream.send_all(b"and back")
        assert await client.receive_some() == b"and back"
        assert stream.quiet

    streams(tmp_path, test, version=version)


@VERSIONS
def test_twenty_megabytes_both_ways_at_once(version: ssl.TLSVersion, tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 20
    received: list[bytes] = []
    echoed: list[bytes] = []

    async def test(stream: TlsStream, client: Client) -> None:
        async def read_ours() -> None:
            while sum(map(len, received)) < len(data):
                received.append(await stream.receive_some())

        async def read_theirs() -> None:
            while sum(map(len, echoed)) < len(data):
                echoed.append(bytes(await client.receive_some(65536)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_ours)
            nursery.start_soon(read_theirs)
            nursery.start_soon(stream.send_all, data)
            nursery.start_soon(client.send_all, data)

    streams(tmp_path, test, version=version)
    assert b"".join(received) == data
    assert b"".join(echoed) == data


def test_handshake_in_single_bytes(tmp_path: Path) -> None:
    """And the first request in the same segment as the client's last message."""

    async def test(stream: TlsStream, client: Client) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        transport = client.transport_stream
        transport.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        async def speak() -> None:
            while True:
                try:
                    session.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    hello = outgoing.read()
                for index in range(len(hello)):
                    await transport.send_all(hello[index : index + 1])
                    await wait_all_tasks_blocked()
                incoming.write(await transport.receive_some(65536))
            session.write(b"GET /")
            await transport.send_all(outgoing.read())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(speak)
            await stream.handshake(5)
        assert await stream.receive_some() == b"GET /"

    streams(tmp_path, test, handshake=False)


def test_record_in_single_bytes(tmp_path: Path) -> None:
    async def test(stream: TlsStream, client: Client) -> None:
        recorder = client.transport_stream
        received: list[bytes] = []

        async def read() -> None:
            received.append(await stream.receive_some())

        session, outgoing = client._ssl_object, client._outgoing
        session.write(b"one record")
        record = outgoing.read()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for index in range(len(record)):
                assert received == []
                await recorder.send_all(record[index : index + 1])
                await wait_all_tasks_blocked()
        assert received == [b"one record"]

    streams(tmp_path, test)


def test_many_records_in_one_read(tmp_path: Path) -> None:
    async def test(stream: TlsStream, client: Client) -> None:
        session, outgoing = client._ssl_object, client._outgoing
        for number in range(100):
            session.write(b"%03d." % number)
        await client.transport_stream.send_all(outgoing.read())
        received = b""
        while len(received) < 400:
            received += await stream.receive_some()
        assert received == b"".join(b"%03d." % number for number in range(100))

    streams(tmp_path, test)


def test_silence_is_too_slow(tmp_path: Path) -> None:
    async def test(stream: TlsStream, _client: Client) -> None:
        with pytest.raises(trio.TooSlowError):
            await stream.handshake(0.05)

    streams(tmp_path, test, handshake=False)


def test_client_that_leaves_in_the_middle(tmp_path: Path) -> None:
    async def test(stream: TlsStream, client: Client) -> None:
        async with trio.open_nursery() as nursery:

            async def leave() -> None:
                await client.transport_stream.send_all(b"\x16\x03\x01")
                await client.transport_stream.aclose()

            nursery.start_soon(leave)
            with pytest.raises(trio.BrokenResourceError):
                await stream.handshake(5)

    streams(tmp_path, test, handshake=False)


def test_clear_text_is_told_apart(tmp_path: Path) -> None:
    async def test(stream: TlsStream, client: Client) -> None:
        await client.transport_stream.send_all(b"GET / HTTP/1.1\r\n")
        with pytest.raises(NotTlsError) as caught:
            await stream.handshake(5)
        assert caught.value.received == b"GET / HTTP/1.1\r\n"
        assert stream.try_send(b"clear") == 5
        assert await client.transport_stream.receive_some() == b"clear"

    streams(tmp_path, test, handshake=False)


def test_no_agreement_is_an_error_and_an_alert(tmp_path: Path) -> None:
    async def test(stream: TlsStream, client: Client) -> None:
        await client.transport_stream.send_all(b"\x16\x03\x01\x00\x05hello")
        with pytest.raises(ssl.SSLError):
            await stream.handshake(5)
        alert = await client.transport_stream.receive_some()
        assert alert[0] == 21  # RFC 8446 5.1: ContentType alert

    streams(tmp_path, test, handshake=False)


@VERSIONS
def test_end_of_the_client(version: ssl.TLSVersion, tmp_path: Path) -> None:
    """With close_notify: an end, for good; we may go on sending (RFC 8446 6.1)."""

    async def test(stream: TlsStream, client: Client) -> None:
        await client.send_all(b"last")
        session, outgoing = client._ssl_object, client._outgoing
        with pytest.raises(ssl.SSLWantReadError):
            session.unwrap()
        await client.transport_stream.send_all(outgoing.read())
        assert await stream.receive_some() == b"last"
        assert await stream.receive_some() == b""
        assert await stream.receive_some() == b""
        assert stream.peer_closed
        await stream.send_all(b"answer")
        assert await client.transport_stream.receive_some()

    streams(tmp_path, test, version=version)


def test_end_of_the_client_that_it_does_not_say(tmp_path: Path) -> None:
    """RFC 9112 9.8: the framing of HTTP tells whether something is missing."""

    async def test(stream: TlsStream, client: Client) -> None:
        await client.send_all(b"last")
        await client.transport_stream.send_eof()
        assert await stream.receive_some() == b"last"
        assert await stream.receive_some() == b""

    streams(tmp_path, test)


@VERSIONS
def test_half_close(version: ssl.TLSVersion, tmp_path: Path) -> None:
    """After send_eof the client sees close_notify, and what it has sent and sends is received."""

    async def test(stream: TlsStream, client: Client) -> None:
        await client.send_all(b"before;")
        await stream.send_all(b"all")
        await stream.send_eof()
        assert await read_all(client) == b"all"
        session, outgoing = client._ssl_object, client._outgoing
        session.write(b"after")
        await client.transport_stream.send_all(outgoing.read())
        received = b""
        while len(received) < len(b"before;after"):
            received += await stream.receive_some()
        assert received == b"before;after"
        with pytest.raises(trio.BrokenResourceError):
            stream.try_send(b"too late")

    streams(tmp_path, test, version=version)


def test_close_alone_is_a_cut(tmp_path: Path) -> None:
    async def test(stream: TlsStream, client: Client) -> None:
        await stream.send_all(b"half")
        stream.close()
        assert await client.receive_some() == b"half"
        with pytest.raises(trio.BrokenResourceError):
            await client.receive_some()
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_all(b"x")

    streams(tmp_path, test)


def test_concluded_is_an_end(tmp_path: Path) -> None:
    async def test(stream: TlsStream, client: Client) -> None:
        stream.conclude()
        stream.conclude()
        stream.close()
        stream.conclude()
        assert await client.receive_some() == b""

    streams(tmp_path, test)


def test_reader_that_does_not_read_is_waited_for(tmp_path: Path) -> None:
    data = os.urandom(PIECE) * 64

    async def test(stream: TlsStream, client: Client) -> None:
        sent = 0
        while taken := stream.try_send(memoryview(data)[sent:]):
            sent += taken
        assert 0 < sent < len(data)
        received = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, memoryview(data)[sent:])
            await wait_all_tasks_blocked()
            while len(received) < len(data):
                received += bytes(await client.receive_some(65536))
        assert received == data

    streams(tmp_path, test, send_buffer=65536)


def test_pieces_of_what_goes_on_leave_together_and_in_their_order(tmp_path: Path) -> None:
    """To a client that reads, and to one that does not for a while: the rest is offered again."""
    pieces = [b"%d," % number * (1 + number % 7 * 300) for number in range(2000)]
    whole = b"".join(pieces)

    async def test(stream: TlsStream, client: Client) -> None:
        async def send() -> None:
            for piece in pieces:
                rest = memoryview(piece)
                while rest:
                    sent = stream.try_send_more(rest)
                    rest = rest[sent:]
                    if not sent:
                        await stream.wait_writable()
            await stream.send_eof()

        assert stream.try_send_more(b"first") == 5
        assert not stream.unsent
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            received = await read_all(client)
        assert received == b"first" + whole

    streams(tmp_path, test, send_buffer=65536)


@pytest.mark.parametrize("head", [b"head", b"h" * PIECE, b"h" * (PIECE + 1)], ids=["small", "piece", "more"])
def test_a_large_body_follows_its_head(head: bytes, tmp_path: Path) -> None:
    """To a client that does not read for a while: the rest is offered again."""
    body = os.urandom(PIECE * 32 + 5)

    async def test(stream: TlsStream, client: Client) -> None:
        async def send() -> None:
            sent = stream.try_send_behind(head, body)
            assert sent < len(head + body)
            await stream.send_all((head + body)[sent:])
            await stream.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            received = await read_all(client)
        assert received == head + body

    streams(tmp_path, test, send_buffer=65536)


def test_a_large_body_waits_for_what_was_not_taken(tmp_path: Path) -> None:
    body = os.urandom(PIECE * 32 + 5)

    async def test(stream: TlsStream, client: Client) -> None:
        sent = stream.try_send(body)
        assert stream.try_send_behind(body[sent : sent + PIECE], body[sent + PIECE :]) == 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, body[sent:])
            received = b""
            while len(received) < len(body):
                received += await client.receive_some()
        assert received == body

    streams(tmp_path, test, send_buffer=65536)


def test_more_may_be_offered_behind_what_was_not_taken(tmp_path: Path) -> None:
    data = os.urandom(PIECE * 32 + 5)

    async def test(stream: TlsStream, client: Client) -> None:
        rest, more = data, b"and more"
        while taken := stream.try_send(rest):
            rest = rest[taken:]
        rest += more
        received = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, rest)
            while len(received) < len(data + more):
                received += bytes(await client.receive_some(65536))
        assert received == data + more

    streams(tmp_path, test, send_buffer=65536)


def test_other_bytes_than_were_offered_break_the_stream(tmp_path: Path) -> None:
    async def test(stream: TlsStream, client: Client) -> None:
        while stream.try_send(bytes(PIECE)):
            pass
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                while True:
                    await client.receive_some(65536)

            nursery.start_soon(read)
            await stream.wait_writable()
            await until(lambda: not stream._unsent)
            with pytest.raises(trio.BrokenResourceError):
                stream.try_send(b"\1" * PIECE)
            nursery.cancel_scope.cancel()

    streams(tmp_path, test, send_buffer=65536)


def test_send_that_nobody_reads_is_too_slow(tmp_path: Path) -> None:
    async def test(stream: TlsStream, _client: Client) -> None:
        stream.write_deadline = trio.current_time() + 0.05
        with pytest.raises(trio.TooSlowError):
            await stream.send_all(bytes(32 << 20))

    streams(tmp_path, test)


@pytest.mark.parametrize("size", [1, PIECE, 5_000_001])
def test_file(size: int, tmp_path: Path) -> None:
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(b"head" + data + b"tail")
    sent = 0

    async def test(stream: TlsStream, client: Client) -> None:
        async def send() -> None:
            nonlocal sent
            with (tmp_path / "file").open("rb") as file:
                sent = await stream.send_file(file.fileno(), 4, size, timeout=5)

        received = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            while len(received) < size:
                received += bytes(await client.receive_some(65536))
        assert received == data

    streams(tmp_path, test, send_buffer=65536)
    assert sent == size


def test_file_that_became_shorter(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(1000))

    async def test(stream: TlsStream, _client: Client) -> None:
        with (tmp_path / "file").open("rb") as file:
            assert await stream.send_file(file.fileno(), 0, 2000, timeout=5) == 1000

    streams(tmp_path, test)


def test_garbage_after_the_handshake(tmp_path: Path) -> None:
    async def test(stream: TlsStream, client: Client) -> None:
        await client.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
        # In the words of OpenSSL 3.0, or of newer ones.
        with pytest.raises(trio.BrokenResourceError, match=r"mac|record layer failure"):
            await stream.receive_some()
        assert stream.hung_up

    streams(tmp_path, test)


def test_peer_that_sends_no_data_without_end(tmp_path: Path) -> None:
    """As many session tickets as fit into the socket: who takes them all keeps everybody waiting."""
    files = certificate(tmp_path, "localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    context.num_tickets = 4000

    async def main() -> None:
        async with pumping() as pump:
            ours, theirs = socket.socketpair()
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * 1024 * 1024)
            transport = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
            server = trio.SSLStream(transport, context, server_side=True)
            stream = TlsStream(pump, ours, client_context(), server_side=False, server_name="localhost")
            pump.adopt(stream)
            async with trio.open_nursery() as both:
                both.start_soon(server.do_handshake)
                await stream.handshake(5)
            await server.send_all(b"the end of them")
            with pytest.raises(trio.BrokenResourceError, match="records without data"):
                await stream.receive_some()
            stream.close()
            transport.socket.close()

    run(main)


def test_parked_reader_meets_garbage(tmp_path: Path) -> None:
    async def test(stream: TlsStream, client: Client) -> None:
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                with pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some()

            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            await client.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))

    streams(tmp_path, test)


def test_cancelled_receive_loses_nothing(tmp_path: Path) -> None:
    async def test(stream: TlsStream, client: Client) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.receive_some)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await client.send_all(b"kept")
        assert await stream.receive_some() == b"kept"

    streams(tmp_path, test)


def test_hang_up_is_told_while_nobody_reads(tmp_path: Path) -> None:
    async def test(stream: TlsStream, client: Client) -> None:
        told: list[bool] = []
        stream.on_hangup = lambda: told.append(stream.peer_closed)
        await client.transport_stream.aclose()
        await until(lambda: bool(told))
        assert told[0]

    streams(tmp_path, test)
