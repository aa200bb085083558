"""The readiness pump over real sockets: both directions, hang-ups, deadlines, cancellation, closing."""

import contextlib
import gc
import os
import socket
import tempfile
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import (
    MockClock,
    assert_checkpoints,
    assert_no_checkpoints,
    check_half_closeable_stream,
    wait_all_tasks_blocked,
)

from gateway.net.pump import Pump
from gateway.net.stream import READ_SIZE, PumpStream
from tests.gateway.net.pumped import connected, fill, pumped
from tests.gateway.served import attached, pumping, reset, run, until

pytestmark = pytest.mark.usefixtures("quick_sweeper")

KINDS = pytest.mark.parametrize("kind", ["tcp", "unix"])


# ---- trio's own idea of a stream


def test_is_a_half_closeable_stream() -> None:
    """Trio's check passes but for three promises that are too dear for the hot path, added here.

    *max_bytes* is ignored (what one read gave is taken), a call that need not wait is no checkpoint, and
    sending after one's own end of input is told as a broken, not as a closed stream.
    """

    class Limited(trio.abc.HalfCloseableStream):
        """Gives at most *max_bytes* at a time, as the check wants it."""

        def __init__(self, stream: PumpStream) -> None:
            self._stream = stream
            self._rest = b""
            self._ended = False

        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            if max_bytes is not None and range(max_bytes).stop < 1:  # not an integer: TypeError
                raise ValueError("max_bytes must be at least 1")
            if not self._rest:
                self._rest = await self._stream.receive_some()
            given, self._rest = self._rest[:max_bytes], self._rest[max_bytes or len(self._rest) :]
            await trio.lowlevel.checkpoint()
            return bytes(given)

        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            await trio.lowlevel.checkpoint()
            if self._ended:
                raise trio.ClosedResourceError
            await self._stream.send_all(data)

        async def wait_send_all_might_not_block(self) -> None:
            await self._stream.wait_send_all_might_not_block()

        async def send_eof(self) -> None:
            await trio.lowlevel.checkpoint()
            self._ended = True
            await self._stream.send_eof()

        async def aclose(self) -> None:
            self._rest = b""
            await self._stream.aclose()

    async def main() -> None:
        async with pumping() as pump:

            async def make() -> tuple[Limited, Limited]:
                left, right = connected("unix")
                return Limited(attached(pump, left)), Limited(attached(pump, right))

            with trio.fail_after(20):
                await check_half_closeable_stream(make, None)

    trio.run(main)


# ---- both directions


@KINDS
def test_carries_bytes_both_ways_at_once(kind: str) -> None:
    """A megabyte each way, through kernel buffers that hold less."""

    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        size = 8 * 1024 * 1024
        outgoing, incoming = os.urandom(1024) * (size // 1024), os.urandom(1024) * (size // 1024)
        received, echoed = bytearray(), bytearray()

        async def receive() -> None:
            while len(received) < size:
                received.extend(await stream.receive_some())

        async def peer_receive() -> None:
            while len(echoed) < size:
                echoed.extend(await peer.receive_some(50_000))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            nursery.start_soon(peer_receive)
            nursery.start_soon(stream.send_all, outgoing)
            nursery.start_soon(peer.send_all, incoming)
        assert received == incoming
        assert echoed == outgoing

    pumped(kind, test)


def test_readiness_is_remembered_while_the_task_is_busy() -> None:
    """Edge-triggered: the edge comes while nobody receives, and the bytes are found later all the same."""

    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        assert stream.receive_nowait() is None
        assert stream.quiet
        await peer.send_all(b"early")
        await until(lambda: not stream.quiet)
        assert await stream.receive_some() == b"early"
        assert stream.quiet
        sizes: list[int] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.send_all, b"x" * (3 * READ_SIZE))
            await until(lambda: not stream.quiet)
            while sum(sizes) < 3 * READ_SIZE:
                sizes.append(len(await stream.receive_some()))
        assert max(sizes) <= READ_SIZE

    pumped("tcp", test)


@KINDS
def test_what_came_before_the_stream_was_watched_is_an_event_too(kind: str) -> None:
    """A stream that expects nothing yet still hears of what is there (epoll(7): EPOLL_CTL_ADD reports it)."""

    async def main() -> None:
        async with pumping() as pump:
            ours, theirs = connected(kind)
            with theirs:
                theirs.sendall(b"early")
                stream = attached(pump, ours)
                stream.expect_answer()
                assert stream.receive_nowait() is None
                assert await stream.receive_some() == b"early"
                stream.close()

    run(main)


def test_unread_data_costs_no_wake_ups() -> None:
    """A stream whose task is busy elsewhere does not make the pump spin."""

    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        await peer.send_all(b"unread")
        await until(lambda: not stream.quiet)
        batches = 0

        class Counter(trio.abc.Instrument):
            def before_task_step(self, task: trio.lowlevel.Task) -> None:
                nonlocal batches
                batches += "Pump.run" in task.name

        ours, theirs = socket.socketpair()
        with theirs:
            other = attached(stream._pump, ours)
            other.receive_nowait()
            await wait_all_tasks_blocked()
            trio.lowlevel.add_instrument(Counter())
            for _ in range(5):
                theirs.send(b".")
                assert await other.receive_some() == b"."
                await wait_all_tasks_blocked()
            other.close()
        assert batches == 5
        assert await stream.receive_some() == b"unread"

    pumped("tcp", test)


# ---- what came together


async def both(
    pump: Pump,
    receive: Callable[[PumpStream, int], Awaitable[None]],
    *,
    close: bool = False,
    then: Callable[[], None] = lambda: None,
    count: int = 2,
) -> None:
    """Run *receive* for *count* streams, numbered, on which something comes in one batch; in the same, if
    *close*, the end of the second, and what *then* does.
    """
    pairs = [socket.socketpair() for _ in range(count)]
    streams = [attached(pump, ours) for ours, _ in pairs]
    try:
        async with trio.open_nursery() as nursery:
            for number, stream in enumerate(streams):
                assert stream.receive_nowait() is None
                nursery.start_soon(receive, stream, number)
            await wait_all_tasks_blocked()
            for _, theirs in pairs:
                theirs.send(b".")
            if close:
                pairs[1][1].close()
            then()
    finally:
        for stream, (_, theirs) in zip(streams, pairs, strict=True):
            stream.close()
            theirs.close()


def test_after_a_batch_all_have_had_what_came() -> None:
    seen: list[str] = []

    async def main() -> None:
        async with pumping() as pump:

            async def receive(stream: PumpStream, _number: int) -> None:
                await stream.receive_some()
                seen.append("received")
                await pump.after_batch()
                seen.append("after")

            await both(pump, receive)

    run(main)
    assert seen == ["received", "received", "after", "after"]


def test_who_goes_on_first_knows_what_else_came_in_the_batch() -> None:
    """A connection that is reused must not be one of whose end the kernel has told (RFC 9112 9.2)."""
    seen: list[tuple[bool, bool]] = []

    async def main() -> None:
        async with pumping() as pump:
            idle = []
            for _ in range(2):
                ours, theirs = socket.socketpair()
                stream = attached(pump, ours)
                assert stream.receive_nowait() is None
                idle.append((stream, theirs))

            async def receive(stream: PumpStream, _number: int) -> None:
                await stream.receive_some()
                seen.append((idle[0][0].quiet, idle[1][0].peer_closed))

            def end() -> None:
                idle[0][1].send(b"stray")
                idle[1][1].close()

            await both(pump, receive, then=end)
            for stream, theirs in idle:
                stream.close()
                theirs.close()

    run(main)
    assert seen == [(False, True), (False, True)]


def test_what_came_is_taken_before_the_end_is_told() -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        seen: list[bytes | str] = []

        async def receive() -> None:
            with trio.CancelScope() as scope:
                stream.on_hangup = scope.cancel
                seen.append(await stream.receive_some())
                await trio.sleep_forever()
            seen.append("cancelled")

        assert stream.receive_nowait() is None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await wait_all_tasks_blocked()
            sock = peer.socket
            await sock.send(b"the last")
            sock.close()
        assert seen == [b"the last", "cancelled"]
        stream.on_hangup = None

    pumped("unix", test)


def test_between_two_batches_there_is_nothing_to_wait_for() -> None:
    async def main() -> None:
        async with pumping() as pump:
            with trio.CancelScope() as scope:
                scope.cancel()
                await pump.after_batch()  # no checkpoint
            assert not scope.cancelled_caught

    run(main)


def test_who_is_cancelled_after_a_batch_is_so_at_the_next_wait() -> None:
    async def main() -> None:
        async with pumping() as pump:
            scopes = [trio.CancelScope() for _ in range(2)]
            seen: list[str] = []

            async def receive(stream: PumpStream, number: int) -> None:
                with scopes[number]:
                    await stream.receive_some()
                    await pump.after_batch()
                    seen.append("after")
                    scopes[1 - number].cancel()  # that of who waits still, too
                    await trio.sleep_forever()

            await both(pump, receive)
            assert seen == ["after", "after"]
            assert all(scope.cancelled_caught for scope in scopes)

    run(main)


def test_who_waits_for_the_end_of_a_batch_that_fails_is_not_left_behind() -> None:
    """What goes wrong in the pump ends the worker; a task that could not be cancelled would keep it."""

    def fail() -> None:
        raise ZeroDivisionError

    async def failing() -> None:
        async with pumping() as pump:

            async def receive(stream: PumpStream, _number: int) -> None:
                stream.on_hangup = fail
                await stream.receive_some()
                await pump.after_batch()

            await both(pump, receive, close=True)

    async def main() -> None:
        with pytest.raises(BaseExceptionGroup) as caught:
            await failing()
        assert caught.group_contains(ZeroDivisionError)

    run(main)


# ---- answers on new connections


Server = Callable[[socket.socket], None]
"""What is done at the other end until the batch is over; the request is there."""


async def dialled(
    pump: Pump, use: Callable[[PumpStream, int], Awaitable[None]], *servers: Server
) -> list[PumpStream]:
    """Run *use* for one stream to each server, numbered, as for connections that requests of a batch make."""
    assert len(servers) > 1
    streams: list[PumpStream] = []
    others: list[socket.socket] = []

    async def send(trigger: PumpStream, number: int) -> None:
        await trigger.receive_some()
        await pump.after_batch()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        others.append(theirs)
        stream = PumpStream(pump, ours)
        stream.expect_answer()
        streams.append(stream)
        stream.try_send(b"request")
        servers[number](theirs)
        await use(stream, number)

    try:
        await both(pump, send, count=len(servers))
    finally:
        for stream in streams:
            stream.close()
        for theirs in others:
            theirs.close()
    return streams


def says(data: bytes) -> Server:
    """A server that has answered."""
    return lambda theirs: theirs.sendall(data)


def is_silent(_theirs: socket.socket) -> None:
    """One that has not yet."""


def ends(theirs: socket.socket) -> None:
    """One that has closed the connection after it has read the request."""
    theirs.recv(100)
    theirs.close()


def resets(theirs: socket.socket) -> None:
    """One that has not read it: the connection is reset (unix(7))."""
    theirs.close()


def test_an_answer_that_is_here_after_the_batch_needs_no_watching() -> None:
    seen: list[tuple[bytes, bool]] = []

    async def main() -> None:
        async with pumping() as pump:

            async def use(stream: PumpStream, _number: int) -> None:
                before = pump.now
                seen.append((await stream.receive_some(), stream.watched))
                assert pump.now > before  # how long it has taken can be told

            await dialled(pump, use, says(b"first"), says(b"second"))

    run(main)
    assert seen == [(b"first", False), (b"second", False)]


def test_what_is_not_here_after_the_batch_is_watched_for() -> None:
    seen: list[tuple[int, bytes]] = []
    server: list[socket.socket] = []

    async def main() -> None:
        async with pumping() as pump:

            async def use(stream: PumpStream, number: int) -> None:
                seen.append((number, await stream.receive_some()))
                if number == 1:
                    server[0].sendall(b"late")
                assert stream.watched == (number == 0)

            await dialled(pump, use, server.append, says(b"early"))

    run(main)
    assert seen == [(1, b"early"), (0, b"late")]


def test_what_follows_the_first_of_an_answer_is_watched_for() -> None:
    seen: dict[int, list[bytes]] = {0: [], 1: []}

    async def main() -> None:
        async with pumping() as pump:

            async def use(stream: PumpStream, number: int) -> None:
                while data := await stream.receive_some():
                    seen[number].append(data[:3])
                assert stream.watched

            def answers_and_ends(theirs: socket.socket) -> None:
                theirs.recv(100)
                theirs.sendall(b"all")
                theirs.close()

            def answers_at_length(theirs: socket.socket) -> None:
                theirs.recv(100)
                theirs.sendall(b"one" + bytes(READ_SIZE - 3) + b"two")
                theirs.close()

            await dialled(pump, use, answers_and_ends, answers_at_length)

    run(main)
    assert seen == {0: [b"all"], 1: [b"one", b"two"]}


def test_looks_in_vain_are_few() -> None:
    """A server that is slower than the worker is not asked again and again."""
    silent = [trio.CancelScope() for _ in range(9)]

    async def main() -> None:
        async with pumping() as pump:

            async def use(stream: PumpStream, number: int) -> None:
                if number < len(silent):
                    with silent[number]:
                        await stream.receive_some()
                else:
                    assert await stream.receive_some() == b"here"
                    assert stream.watched  # though it was here: nobody has looked
                    for scope in silent:
                        scope.cancel()

            await dialled(pump, use, *[is_silent] * len(silent), says(b"here"))

    run(main)
    assert all(scope.cancelled_caught for scope in silent)


@pytest.mark.parametrize("gone", [ends, resets])
def test_an_end_in_place_of_an_answer_is_told(gone: Server) -> None:
    seen: list[object] = []

    async def main() -> None:
        async with pumping() as pump:

            async def use(stream: PumpStream, _number: int) -> None:
                try:
                    seen.append(await stream.receive_some())
                except trio.BrokenResourceError:
                    seen.append("broken")
                assert stream.peer_closed or stream.hung_up

            await dialled(pump, use, gone, gone)

    run(main)
    assert seen == ([b"", b""] if gone is ends else ["broken", "broken"])


def test_who_is_cancelled_meanwhile_is_not_given_an_answer() -> None:
    scopes = [trio.CancelScope() for _ in range(2)]

    async def main() -> None:
        async with pumping() as pump:

            async def use(stream: PumpStream, number: int) -> None:
                if number == 1:
                    scopes[0].cancel()
                    await stream.receive_some()
                    return
                with scopes[0]:
                    await stream.receive_some()
                assert scopes[0].cancelled_caught
                assert await stream.receive_some() == b"kept"

            await dialled(pump, use, says(b"kept"), says(b"other"))

    run(main)


def test_who_closes_the_connection_of_another_meanwhile_ends_its_wait() -> None:
    streams: list[PumpStream] = []

    async def main() -> None:
        async with pumping() as pump:

            async def use(stream: PumpStream, number: int) -> None:
                streams.append(stream)
                if number == 0:
                    with pytest.raises(trio.ClosedResourceError):
                        await stream.receive_some()
                else:
                    streams[0].close()
                    assert await stream.receive_some() == b"answer"

            await dialled(pump, use, is_silent, says(b"answer"))

    run(main)


def test_what_the_kernel_cannot_watch_is_broken() -> None:
    """epoll_ctl(2): no memory, or too many descriptors for a user. Here it is one that is watched already."""
    seen: list[bytes] = []

    async def main() -> None:
        async with pumping() as pump:

            async def use(stream: PumpStream, _number: int) -> None:
                descriptor = stream.sock.fileno()
                pump.watch(descriptor, lambda: None)
                with pytest.raises(trio.BrokenResourceError, match="File exists"):
                    await stream.receive_some()
                with pytest.raises(trio.BrokenResourceError, match="File exists"):
                    await stream.receive_some()  # between two batches
                stream.become_idle()
                assert not stream.quiet
                pump.unwatch(descriptor)
                seen.append(await stream.receive_some())

            def later(theirs: socket.socket) -> None:
                trio.lowlevel.current_trio_token().run_sync_soon(theirs.sendall, b"later")

            await dialled(pump, use, later, later)

    run(main)
    assert seen == [b"later", b"later"]


@pytest.mark.parametrize(
    ("behind", "quiet"), [(b"", True), (b"stray", False), (None, False)], ids=["nothing", "bytes", "end"]
)
def test_what_came_behind_the_answer_is_seen_on_an_idle_connection(behind: bytes | None, quiet: bool) -> None:
    """RFC 9112 9.2: it is not used for another request."""
    seen: list[bool] = []

    async def main() -> None:
        async with pumping() as pump:

            async def use(stream: PumpStream, number: int) -> None:
                assert await stream.receive_some() == b"answer"
                assert not stream.watched
                if behind is None:
                    servers[number].shutdown(socket.SHUT_WR)
                else:
                    servers[number].sendall(behind)
                stream.become_idle()
                seen.append(stream.quiet)

            servers: list[socket.socket] = []

            def answers(theirs: socket.socket) -> None:
                servers.append(theirs)
                theirs.sendall(b"answer")

            await dialled(pump, use, answers, answers)

    run(main)
    assert seen == [quiet, quiet]


def test_what_is_held_for_a_connection_that_nobody_watches_leaves_when_there_is_room() -> None:
    received = [bytearray(), bytearray()]
    servers: list[socket.socket] = []

    async def main() -> None:
        async with pumping() as pump:

            async def use(stream: PumpStream, number: int) -> None:
                assert await stream.receive_some() == b"go on"
                with contextlib.suppress(BlockingIOError):
                    while True:
                        stream.sock.send(bytes(READ_SIZE))
                # Held until the end of the turn, or until another is held for long: there is no room by then.
                assert stream.try_send(b"held") == 4
                await until(lambda: stream.watched)
                server = servers[number]
                server.setblocking(False)

                def drain() -> bool:
                    with contextlib.suppress(BlockingIOError):
                        received[number].extend(server.recv(READ_SIZE))
                    return received[number].endswith(b"held")

                await until(drain)

            def answers(theirs: socket.socket) -> None:
                servers.append(theirs)
                theirs.sendall(b"go on")

            await dialled(pump, use, answers, answers)

    run(main)
    assert all(data.startswith(b"request") for data in received)


# ---- hang-ups


@KINDS
def test_end_of_input_is_told_to_a_busy_task(kind: str) -> None:
    """FIN: the peer sends no more; what it sent is read first, then the end, for good (H1-21)."""

    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        told: list[tuple[bool, bool]] = []
        stream.on_hangup = lambda: told.append((stream.peer_closed, stream.hung_up))
        await peer.send_all(b"last words")
        await peer.send_eof()
        await until(lambda: bool(told))
        assert told[0] == (True, False)
        assert await stream.receive_some() == b"last words"
        assert await stream.receive_some() == b""
        assert await stream.receive_some() == b""
        await stream.send_all(b"still heard")
        assert await peer.receive_some(100) == b"still heard"

    pumped(kind, test)


def test_reset_is_told_to_a_busy_task() -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        told: list[bool] = []
        stream.on_hangup = lambda: told.append(stream.hung_up)
        assert stream.receive_nowait() is None
        reset(peer)
        await until(lambda: bool(told))
        assert told[-1] is True
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"x")

    pumped("tcp", test)


def test_close_of_a_unix_socket_is_told_as_gone_in_both_directions() -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        told: list[bool] = []
        stream.on_hangup = lambda: told.append(stream.hung_up)
        await peer.send_all(b"last words")
        peer.socket.close()
        await until(lambda: bool(told))
        assert told[-1] is True
        assert await stream.receive_some() == b"last words"
        assert await stream.receive_some() == b""
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"x")

    pumped("unix", test)


@KINDS
def test_hang_up_wakes_the_tasks_that_wait(kind: str) -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        fill(stream)
        outcomes: list[str] = []

        async def receive() -> None:
            try:
                outcomes.append(f"received {await stream.receive_some()!r}")
            except trio.BrokenResourceError:
                outcomes.append("receive broken")

        async def send() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await stream.send_all(b"x")
            outcomes.append("send broken")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            reset(peer)
        assert len(outcomes) == 2
        assert "send broken" in outcomes

    pumped(kind, test)


# ---- cancellation, two tasks, closing


@KINDS
def test_cancelled_receive_loses_nothing(kind: str) -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.receive_some)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await peer.send_all(b"kept")
        assert await stream.receive_some() == b"kept"

    pumped(kind, test)


def test_flood_does_not_keep_a_task_from_its_cancellation() -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        sock = peer.socket
        with trio.CancelScope() as scope:
            scope.cancel()
            for _ in range(64):
                with contextlib.suppress(BlockingIOError):
                    while True:
                        os.write(sock.fileno(), bytes(READ_SIZE))
                assert len(await stream.receive_some()) == READ_SIZE
        assert scope.cancelled_caught

    pumped("unix", test)


def test_flood_gives_others_a_turn_where_nobody_waits() -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        def flood() -> None:
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(peer.socket.fileno(), bytes(READ_SIZE))

        for _ in range(2):
            reads = 0
            flood()
            while data := stream.receive_in_turn():
                assert len(data) == READ_SIZE
                flood()
                reads += 1
            assert reads < 20
            with assert_checkpoints():
                assert len(await stream.receive_some()) == READ_SIZE

    pumped("unix", test)


@KINDS
def test_cancelled_send_leaves_a_usable_stream(kind: str) -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        taken = fill(stream)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.wait_writable)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        received = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, b"end")
            while received < taken + 3:
                received += len(await peer.receive_some(65536))

    pumped(kind, test)


def test_two_tasks_in_one_direction_are_refused() -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        fill(stream)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.receive_some)
            nursery.start_soon(stream.wait_writable)
            await wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await stream.receive_some()
            with pytest.raises(trio.BusyResourceError):
                await stream.send_all(b"x")
            nursery.cancel_scope.cancel()

    pumped("tcp", test)


def test_data_given_to_one_task_is_not_given_to_the_next() -> None:
    """A reader that was woken but did not run yet keeps its bytes whoever receives meanwhile."""

    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        received: list[bytes] = []

        async def receive() -> None:
            received.append(await stream.receive_some())

        for _ in range(20):
            received.clear()
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(receive)
                    await wait_all_tasks_blocked()
                    await peer.send_all(b"ab"[len(received) : len(received) + 1])
                    await until(lambda: not stream._reader)
            assert sorted(received) == [b"a", b"b"]

    pumped("tcp", test)


class Poor(socket.socket):
    """Python has no memory for what has come."""

    def recv(self, *_: object) -> bytes:
        raise MemoryError


@pytest.mark.parametrize("waits", [True, False], ids=["who waits", "who comes later"])
def test_without_memory_for_what_has_come_one_connection_ends(waits: bool) -> None:
    async def main() -> None:
        async with pumping() as pump:
            ours, theirs = connected("unix")
            stream = attached(pump, Poor(fileno=ours.detach()))

            async def receive() -> None:
                with pytest.raises(trio.BrokenResourceError, match="Cannot allocate memory"):
                    await stream.receive_some()

            with theirs:
                async with trio.open_nursery() as nursery:
                    if waits:
                        stream.expect_answer()
                        nursery.start_soon(receive)
                        await wait_all_tasks_blocked()
                    theirs.sendall(b"x")
                    if not waits:
                        await until(lambda: stream.readable)
                        nursery.start_soon(receive)
            assert stream.hung_up
            stream.close()

    run(main)


def test_closing_wakes_the_tasks_that_wait() -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        fill(stream)

        async def closed(call: Callable[[], Awaitable[object]]) -> None:
            with pytest.raises(trio.ClosedResourceError):
                await call()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(closed, stream.receive_some)
            nursery.start_soon(closed, stream.wait_writable)
            await wait_all_tasks_blocked()
            stream.close()
        await closed(stream.receive_some)
        await closed(lambda: stream.send_all(b"x"))
        await closed(stream.send_eof)
        with pytest.raises(trio.ClosedResourceError):
            stream.try_send(b"x")
        stream.close()
        await stream.aclose()

    pumped("tcp", test)


def test_events_of_a_closed_socket_do_not_reach_its_successor() -> None:
    """A batch tells of a socket that was closed meanwhile, and a new one has its number."""

    async def main() -> None:
        async with pumping() as pump:
            trigger, pull = socket.socketpair()
            old, old_peer = socket.socketpair()
            new, new_peer = socket.socketpair()
            with trigger, pull, new_peer:
                stream = attached(pump, old)
                number = old.fileno()
                told: list[str] = []
                successors: list[PumpStream] = []

                def exchange() -> None:
                    pump.unwatch(trigger.fileno())
                    stream.close()
                    os.dup2(new.fileno(), number)
                    successor = attached(pump, socket.socket(fileno=number))
                    successor.on_hangup = lambda: told.append("hung up")
                    successors.append(successor)

                pump.watch(trigger.fileno(), exchange)
                await wait_all_tasks_blocked()  # the events of being registered
                pull.send(b"x")
                old_peer.close()  # in the same batch, after the trigger
                await until(lambda: bool(successors))
                await wait_all_tasks_blocked()
                assert told == []
                assert not successors[0].peer_closed
                successors[0].close()
                new.close()

    run(main)


# ---- deadlines


@pytest.mark.parametrize("direction", ["read", "write"])
def test_deadline_ends_a_wait_and_only_that(direction: str) -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        taken = fill(stream)
        if direction == "read":
            stream.read_deadline = trio.current_time() + 0.02
            with pytest.raises(trio.TooSlowError):
                await stream.receive_some()
            await peer.send_all(b"late")
            assert await stream.receive_some() == b"late"
        else:
            stream.write_deadline = trio.current_time() + 0.02
            with pytest.raises(trio.TooSlowError):
                await stream.wait_writable()
            received = 0
            while received < taken:
                received += len(await peer.receive_some(65536))
            await stream.wait_writable() if not stream.try_send(b"x") else None

    pumped("tcp", test)


@pytest.mark.parametrize("direction", ["read", "write"])
def test_what_has_come_is_not_late(direction: str) -> None:
    """However long the worker was kept from looking: the sweeper looks before it judges."""

    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        taken = fill(stream)
        received: list[bytes] = []

        async def wait() -> None:
            if direction == "read":
                received.append(await stream.receive_some())
            else:
                await stream.wait_writable()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            # In one go with what follows: the loop does not turn.
            if direction == "read":
                os.write(peer.socket.fileno(), b"here")
            else:
                while taken > 0:
                    taken -= len(os.read(peer.socket.fileno(), 65536))
            stream.read_deadline = stream.write_deadline = 0
            stream._pump._expire()
        assert received == ([b"here"] if direction == "read" else [])

    pumped("unix", test)


def test_hangup_deadline_calls_once() -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        calls: list[float] = []
        stream.on_hangup_deadline = lambda: calls.append(trio.current_time())
        stream.hangup_deadline = due = trio.current_time() + 0.02
        await until(lambda: bool(calls))
        assert calls[0] >= due
        stream.read_deadline = trio.current_time() + 0.05
        with pytest.raises(trio.TooSlowError):
            await stream.receive_some()
        assert len(calls) == 1

    pumped("tcp", test)


def test_now_is_kept_by_the_sweeper_and_by_events() -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        earlier = stream._pump.now
        await peer.send_all(b"x")
        await stream.receive_some()
        assert earlier <= stream._pump.now <= trio.current_time()
        now = stream._pump.now
        await until(lambda: stream._pump.now > now)

    pumped("tcp", test)


# ---- files, watches


@KINDS
def test_send_file_sends_the_part_of_the_file(kind: str) -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        content = os.urandom(4096) * 1024
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.flush()
            received = bytearray()
            sent: list[int] = []

            async def send() -> None:
                sent.append(await stream.send_file(file.fileno(), 10, len(content) - 20))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                while len(received) < len(content) - 20:
                    received.extend(await peer.receive_some(65536))
            assert received == content[10:-10]
            assert sent == [len(content) - 20]
            if kind == "tcp":
                # What follows does not wait for a full segment.
                assert not stream.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK)
            assert await stream.send_file(file.fileno(), len(content) - 5, 100) == 5

    pumped(kind, test)


def test_send_file_to_a_peer_that_is_gone_is_broken() -> None:
    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        peer.socket.close()
        with tempfile.TemporaryFile() as file:
            file.write(b"x" * 1000)
            file.flush()
            with pytest.raises(trio.BrokenResourceError):
                await stream.send_file(file.fileno(), 0, 1000)

    pumped("unix", test)


def test_watch_calls_while_readable() -> None:
    async def main() -> None:
        async with pumping() as pump:
            ours, theirs = socket.socketpair()
            with ours, theirs:
                read: list[bytes] = []
                pump.watch(ours.fileno(), lambda: read.append(ours.recv(1)))
                theirs.send(b"ab")
                await until(lambda: len(read) == 2)
                pump.unwatch(ours.fileno())
                pump.unwatch(ours.fileno())
                theirs.send(b"c")
                await wait_all_tasks_blocked()
                assert read == [b"a", b"b"]

    run(main)


def test_edge_is_told_once() -> None:
    """What nobody reads costs no turns; what comes after it is told again."""

    async def main() -> None:
        async with pumping() as pump:
            ours, theirs = socket.socketpair()
            with ours, theirs:
                told: list[None] = []
                theirs.send(b"before")
                pump.watch(ours.fileno(), lambda: told.append(None), edge=True)
                await until(lambda: bool(told))
                await wait_all_tasks_blocked()
                assert len(told) == 1
                theirs.send(b"more")
                await until(lambda: len(told) > 1)
                await wait_all_tasks_blocked()
                assert len(told) == 2
                pump.unwatch(ours.fileno())

    run(main)


def test_each_look_at_the_deadlines_is_told() -> None:
    async def main() -> None:
        async with pumping() as pump:
            told: list[str] = []

            def one() -> None:
                told.append("one")

            def other() -> None:
                told.append("other")

            pump.at_each_sweep(one)
            pump.at_each_sweep(other)
            await until(lambda: len(told) == 4)
            assert told == ["one", "other", "one", "other"]
            pump.not_at_sweeps(one)
            pump.not_at_sweeps(one)
            await until(lambda: len(told) == 6)
            assert told[4:] == ["other", "other"]

    run(main)


def test_who_was_forgotten_by_another_is_not_told() -> None:
    async def main() -> None:
        async with pumping() as pump:
            told: list[str] = []

            def first() -> None:
                told.append("first")
                pump.not_at_sweeps(second)

            def second() -> None:
                told.append("second")

            pump.at_each_sweep(first)
            pump.at_each_sweep(second)
            await until(lambda: len(told) == 2)
            assert told == ["first", "first"]

    run(main)


def test_what_cannot_be_watched_is_not_kept() -> None:
    async def main() -> None:
        async with pumping() as pump:
            ours, theirs = socket.socketpair()
            with ours, theirs:
                descriptor = os.dup(ours.fileno())
                os.close(descriptor)
                with pytest.raises(OSError, match="Bad file descriptor"):
                    pump.watch(descriptor, lambda: None)
                pump.unwatch(descriptor)

    run(main)


def test_streams_may_be_closed_after_the_pump() -> None:
    async def main() -> None:
        async with pumping() as pump:
            ours, theirs = socket.socketpair()
            stream = attached(pump, ours)
            theirs.close()
        stream.close()
        gc.collect()

    run(main)


def test_a_fast_peer_does_not_hold_the_loop() -> None:
    """While one connection's data never ends, the tasks of the others have their turn."""

    async def test(stream: PumpStream, peer: trio.SocketStream) -> None:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * 1024 * 1024)
        stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        sent = 0
        with trio.move_on_after(0.05):
            while True:
                sent += await peer.socket.send(b"x" * 65536)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)
            await wait_turn()
            turns = 0
            received = 0
            while received < sent:
                received += len(await stream.receive_some())
            nursery.cancel_scope.cancel()
        assert sent > 40 * READ_SIZE
        assert turns > 0

    async def wait_turn() -> None:
        await trio.lowlevel.checkpoint()

    pumped("unix", test)


def test_long_work_on_what_came_does_not_hold_the_loop() -> None:
    """Others have their turn before the next read, however few there were."""
    clock = MockClock()

    async def main() -> None:
        async with pumping() as pump:
            ours, theirs = connected("unix")
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1024 * 1024)
            stream = attached(pump, ours)
            with theirs:
                theirs.setblocking(False)
                assert theirs.send(bytes(3 * READ_SIZE)) > 2 * READ_SIZE
                with assert_no_checkpoints():
                    await stream.receive_some()
                clock.jump(1.0)  # it was busy
                with assert_checkpoints():
                    await stream.receive_some()
            stream.close()

    trio.run(main, clock=clock)
