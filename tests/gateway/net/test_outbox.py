"""Small writes of one turn leave together: when, in what order, and what becomes of them at the end."""

import os
import socket
import tempfile
from time import perf_counter

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from gateway.net.outbox import GATHERED, LARGEST, LONGEST, MOST
from gateway.net.pump import Pump
from gateway.net.stream import PumpStream
from tests.gateway.freed import freed_without_the_collector
from tests.gateway.net.pumped import fill, pumped
from tests.gateway.served import attached, pumping, reset, run, until

pytestmark = pytest.mark.usefixtures("quick_sweeper")

KINDS = pytest.mark.parametrize("kind", ["tcp", "unix"])


async def ask(stream: PumpStream, peer: trio.SocketStream) -> None:
    """The peer says something, so that it can be answered."""
    await peer.send_all(b"?")
    assert await stream.receive_some() == b"?"


def arrived(peer: trio.SocketStream) -> bytes:
    """What the peer could read now, without a turn of the loop between."""
    with socket.socket(fileno=os.dup(peer.socket.fileno())) as bare:
        try:
            return bare.recv(1 << 20, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b""


async def receive(peer: trio.SocketStream, size: int) -> bytes:
    received = b""
    while len(received) < size:
        data = await peer.receive_some()
        assert data
        received += data
    return received


@KINDS
def test_an_answer_leaves_when_the_turn_is_over(kind: str) -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        await ask(stream, peer)
        assert stream.try_send(b"yes") == 3
        assert arrived(peer) == b""
        assert stream.unsent
        await trio.lowlevel.checkpoint()
        assert arrived(peer) == b"yes"

    pumped(kind, test)


@KINDS
def test_what_is_no_answer_leaves_at_once(kind: str) -> None:
    """Who has said nothing since may not have read what was written before."""

    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        assert stream.try_send(b"first") == 5
        assert arrived(peer) == b"first"
        await ask(stream, peer)
        assert stream.try_send(b"second") == 6
        await trio.lowlevel.checkpoint()
        assert stream.try_send(b"third") == 5
        assert arrived(peer) == b"firstsecondthird"

    pumped(kind, test)


@KINDS
def test_small_pieces_of_one_turn_are_one(kind: str) -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        in_time = False
        while not in_time:
            await ask(stream, peer)
            began = perf_counter()
            for piece in (b"a", b"", memoryview(b"bc"), b"d"):
                assert stream.try_send(piece) == len(piece)
            in_time = perf_counter() - began < LONGEST
            assert arrived(peer) == b"" or not in_time
            await trio.lowlevel.checkpoint()
            assert arrived(peer) == b"abcd"
            await receive(peer, 4)

    pumped(kind, test)


@KINDS
def test_a_large_piece_takes_along_what_is_held(kind: str) -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        await ask(stream, peer)
        stream.try_send(b"head")
        assert stream.try_send(b"b" * LARGEST) == LARGEST
        assert not stream.unsent
        assert await receive(peer, 4 + LARGEST) == b"head" + b"b" * LARGEST

    pumped(kind, test)


@KINDS
def test_a_file_comes_after_what_is_held(kind: str) -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        await ask(stream, peer)
        with tempfile.TemporaryFile() as file:
            file.write(b"file")
            file.flush()
            stream.try_send(b"head")
            assert await stream.send_file(file.fileno(), 0, 4) == 4
        assert await receive(peer, 8) == b"headfile"

    pumped(kind, test)


def test_many_leave_in_the_middle_of_a_turn() -> None:
    async def main() -> None:
        async with pumping() as pump:
            pairs = [socket.socketpair() for _ in range(MOST + 1)]
            streams = [attached(pump, ours) for ours, _ in pairs]
            for _, theirs in pairs:
                theirs.send(b"?")
                theirs.setblocking(False)
            for stream in streams:
                assert await stream.receive_some() == b"?"
            for stream in streams:
                stream.try_send(b"yes")
            assert [stream.unsent for stream in streams] == MOST * [False] + [True]
            await trio.lowlevel.checkpoint()
            for _, theirs in pairs:
                assert theirs.recv(4) == b"yes"
                theirs.close()
            for stream in streams:
                stream.close()

    run(main)


def test_a_task_that_computes_does_not_keep_the_answers_of_others() -> None:
    async def main() -> None:
        async with pumping() as pump:
            pairs = [socket.socketpair() for _ in range(2)]
            first, second = (attached(pump, ours) for ours, _ in pairs)
            for _, theirs in pairs:
                theirs.send(b"?")
            for stream in (first, second):
                assert await stream.receive_some() == b"?"
            first.try_send(b"yes")
            began = perf_counter()
            while perf_counter() - began <= LONGEST:
                assert first.unsent
            second.try_send(b"no")
            assert not first.unsent
            assert not second.unsent
            for (_, theirs), answer in zip(pairs, (b"yes", b"no"), strict=True):
                assert theirs.recv(4) == answer
                theirs.close()
            first.close()
            second.close()

    run(main)


@KINDS
def test_a_task_that_computes_does_not_keep_what_it_goes_on_to_say(kind: str) -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        await ask(stream, peer)
        began = perf_counter()
        stream.try_send(b"first")
        while perf_counter() - began <= 2 * LONGEST:
            pass
        stream.try_send(b"second")
        assert arrived(peer) == b"firstsecond"
        stream.try_send(b"third")
        assert arrived(peer) == b"firstsecondthird"

    pumped(kind, test)


def test_without_the_pump_nothing_is_held() -> None:
    """Nobody would tell when a turn is over."""

    async def main() -> None:
        pump = Pump()
        ours, theirs = socket.socketpair()
        with theirs:
            stream = attached(pump, ours)
            theirs.send(b"?")
            assert stream.receive_nowait() == b"?"
            stream.try_send(b"yes")
            assert theirs.recv(4) == b"yes"
            stream.close()

    run(main)


def test_the_end_of_the_pump_leaves_nothing_behind() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.send(b"?")
            async with pumping() as pump:
                stream = attached(pump, ours)
                assert await stream.receive_some() == b"?"
                stream.try_send(b"yes")
            assert theirs.recv(4) == b"yes"
            stream.close()

    run(main)


# ---- pieces of what goes on

PIECE = 2 * LARGEST


def pieces(count: int) -> list[bytes]:
    return [bytes([letter]) * PIECE for letter in range(ord("a"), ord("a") + count)]


@KINDS
@pytest.mark.parametrize("size", [10, PIECE])
def test_the_first_piece_of_a_turn_leaves_at_once_and_the_others_together(kind: str, size: int) -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        first, *others = (piece[:size] for piece in pieces(4))
        await ask(stream, peer)
        in_time = False
        while not in_time:
            await trio.lowlevel.checkpoint()
            began = perf_counter()
            assert stream.try_send_more(first) == size
            assert not stream.unsent
            for piece in others:
                assert stream.try_send_more(piece) == size
            in_time = perf_counter() - began < LONGEST
            assert stream.owed == 3 * size or not in_time
            await trio.lowlevel.checkpoint()
            assert not stream.unsent
            assert await receive(peer, 4 * size) == b"".join([first, *others])

    pumped(kind, test)


@KINDS
def test_any_number_of_small_pieces_leave_together(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the kernel takes in one call (IOV_MAX is 1,024)."""
    monkeypatch.setattr("gateway.net.stream.LONGEST", 60.0)  # however long it takes to make them

    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        numbers = [b"%d\n" % number for number in range(5000)]
        for piece in numbers:
            assert stream.try_send_more(piece) == len(piece)
        whole = b"".join(numbers)
        assert await receive(peer, len(whole)) == whole

    pumped(kind, test)


@KINDS
def test_pieces_leave_in_the_middle_of_a_turn_when_there_are_many(kind: str) -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        (piece,) = pieces(1)
        stream.try_send_more(piece)
        count = 1
        before = -1
        while stream.owed > before:
            before = stream.owed
            stream.try_send_more(piece)
            count += 1
        assert before < GATHERED
        assert await receive(peer, count * PIECE) == count * piece

    pumped(kind, test)


@KINDS
def test_pieces_do_not_wait_for_the_end_of_a_long_turn(kind: str) -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        first, second, third = pieces(3)
        stream.try_send_more(first)
        began = perf_counter()
        while perf_counter() - began <= LONGEST:
            pass
        stream.try_send_more(second)
        assert not stream.unsent
        stream.try_send_more(third)
        assert await receive(peer, 3 * PIECE) == first + second + third

    pumped(kind, test)


@KINDS
def test_pieces_keep_their_place(kind: str) -> None:
    """Behind what was held before, and before what comes after."""

    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        first, second = pieces(2)
        await ask(stream, peer)
        assert stream.try_send(b"head") == 4
        assert stream.try_send_more(first) == PIECE
        assert stream.try_send_more(second) == PIECE
        assert stream.try_send(b"end") == 3
        whole = b"head" + first + second + b"end"
        assert await receive(peer, len(whole)) == whole

    pumped(kind, test)


@KINDS
def test_an_answer_does_not_overtake_pieces(kind: str) -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        first, second = pieces(2)
        assert stream.try_send_more(first) == PIECE
        assert stream.try_send_more(second) == PIECE
        with socket.socket(fileno=os.dup(peer.socket.fileno())) as bare:
            bare.send(b"?")
        assert stream.receive_nowait() == b"?"
        assert stream.try_send(b"yes") == 3
        whole = first + second + b"yes"
        assert await receive(peer, len(whole)) == whole

    pumped(kind, test)


@KINDS
def test_a_slow_peer_gets_all_pieces_in_their_order(kind: str) -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        total = 32 * 1024 * 1024
        numbers = range(total // PIECE)

        async def send() -> None:
            for number in numbers:
                rest = memoryview(number.to_bytes(4, "big") * (PIECE // 4))
                while rest:
                    sent = stream.try_send_more(rest)
                    rest = rest[sent:]
                    if not sent:
                        assert stream.owed < GATHERED + PIECE
                        await stream.wait_writable()
            await stream.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            received = bytearray()
            while data := await peer.receive_some(1 << 20):
                received += data
        assert bytes(received) == b"".join(number.to_bytes(4, "big") * (PIECE // 4) for number in numbers)

    pumped(kind, test)


def test_without_the_pump_pieces_leave_at_once() -> None:
    async def main() -> None:
        pump = Pump()
        ours, theirs = socket.socketpair()
        with theirs:
            stream = attached(pump, ours)
            for piece in pieces(2):
                assert stream.try_send_more(piece) == PIECE
                assert not stream.unsent
            stream.close()

    run(main)


@KINDS
def test_who_has_gone_is_found_out_by_the_next_piece(kind: str) -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        first, second = pieces(2)
        stream.try_send_more(first)
        stream.try_send_more(second)
        reset(peer)
        await until(lambda: stream.hung_up)
        assert not stream.unsent
        with pytest.raises(trio.BrokenResourceError):
            stream.try_send_more(first)

    pumped(kind, test)


@KINDS
def test_who_has_gone_is_found_out_when_pieces_leave(kind: str) -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        def send() -> None:
            for _ in range(2 * GATHERED // PIECE):
                stream.try_send_more(first)

        (first,) = pieces(1)
        stream.try_send_more(first)
        stream.try_send_more(first)
        reset(peer)
        with pytest.raises(trio.BrokenResourceError):
            send()
        assert not stream.unsent

    pumped(kind, test)


# ---- the end of a stream


@KINDS
@pytest.mark.parametrize("way", ["close", "shut_down", "send_eof"])
def test_what_is_held_leaves_before_the_end(kind: str, way: str) -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        first, second = pieces(2)
        await ask(stream, peer)
        stream.try_send(b"bye")
        stream.try_send_more(first)
        stream.try_send_more(second)
        if way == "close":
            stream.close()
        elif way == "shut_down":
            stream.shut_down()
        else:
            await stream.send_eof()
        assert await receive(peer, 3 + 2 * PIECE) == b"bye" + first + second
        assert await peer.receive_some() == b""

    pumped(kind, test)


@KINDS
def test_who_has_gone_is_found_out_by_the_next(kind: str) -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        await ask(stream, peer)
        reset(peer)
        assert stream.try_send(b"yes") == 3
        await until(lambda: stream.hung_up)
        assert not stream.unsent
        with pytest.raises(trio.BrokenResourceError):
            stream.try_send(b"more")

    pumped(kind, test)


@pytest.mark.parametrize("parked", [False, True])
def test_who_has_broken_off_is_told_to_who_reads(parked: bool) -> None:
    """The kernel tells an error once: not to be taken for the end of what the peer had to say."""

    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        async def read() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()

        await ask(stream, peer)
        async with trio.open_nursery() as nursery:
            if parked:
                nursery.start_soon(read)
                await wait_all_tasks_blocked()
                reset(peer)
            else:
                reset(peer)
                stream.try_send(b"yes")
                stream.release()
                nursery.start_soon(read)

    pumped("tcp", test)


def test_a_stream_that_has_failed_is_freed_without_the_collector() -> None:
    """What a failure knows of the way to it would keep the stream: with TLS, some 20 KiB."""

    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        await ask(stream, peer)
        assert stream.try_send(b"yes") == 3
        reset(peer)
        await trio.lowlevel.checkpoint()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()

    with freed_without_the_collector(PumpStream):
        pumped("tcp", test)


# ---- a peer that speaks and does not read


async def leave_a_rest(stream: PumpStream, peer: trio.SocketStream) -> int:
    """Fill the kernel's buffer, and let the peer ask for more; how many bytes count as sent."""
    total = fill(stream)
    # What is on its way to the peer's own buffer makes room for a moment.
    while not stream.unsent:
        await ask(stream, peer)
        total += stream.try_send(b"y" * 4096)
        await trio.lowlevel.checkpoint()
    return total


@KINDS
def test_a_rest_leaves_when_there_is_room(kind: str) -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        total = await leave_a_rest(stream, peer)
        assert stream.try_send(b"z") == 0
        received = await receive(peer, total)
        assert received.lstrip(b"x") == b"y" * received.count(b"y")
        await until(lambda: not stream.unsent)

    pumped(kind, test)


@KINDS
def test_a_rest_leaves_before_what_is_sent_then(kind: str) -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        total = await leave_a_rest(stream, peer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, b"z")
            assert (await receive(peer, total + 1)).endswith(b"yz")

    pumped(kind, test)


@KINDS
def test_the_end_waits_for_a_rest(kind: str) -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        total = await leave_a_rest(stream, peer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_eof)
            assert len(await receive(peer, total)) == total
            assert await peer.receive_some() == b""

    pumped(kind, test)


@KINDS
def test_the_end_that_does_not_wait_comes_after_a_rest(kind: str) -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        total = await leave_a_rest(stream, peer)
        stream.shut_down()
        assert len(await receive(peer, total)) == total
        assert await peer.receive_some() == b""
        assert not stream.hung_up

    pumped(kind, test)


@KINDS
def test_the_end_waits_for_a_rest_as_long_as_it_may(kind: str) -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        await leave_a_rest(stream, peer)
        stream.write_deadline = trio.current_time()
        with pytest.raises(trio.TooSlowError):
            await stream.send_eof()

    pumped(kind, test)


@KINDS
def test_a_file_waits_for_a_rest(kind: str) -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        total = await leave_a_rest(stream, peer)
        with tempfile.TemporaryFile() as file:
            file.write(b"file")
            file.flush()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.send_file, file.fileno(), 0, 4)
                assert (await receive(peer, total + 4)).endswith(b"yfile")

    pumped(kind, test)


@KINDS
def test_a_peer_that_breaks_off_ends_the_wait_for_a_rest(kind: str) -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        async def end() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await stream.send_eof()

        await leave_a_rest(stream, peer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end)
            await wait_all_tasks_blocked()
            reset(peer)

    pumped(kind, test)
