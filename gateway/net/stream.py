"""A connected socket whose task is parked while it waits, and is woken by the pump with the bytes.

::

    Pump ─► note, ready ─► recv ─► resume(task that waits in receive_some)
                     └──► on_hangup (the peer closed, while the task was busy elsewhere, too)

    task ─► try_send ─► the kernel, at once or at the end of the turn (`outbox`)

It is a `trio.abc.HalfCloseableStream` in all but name, for less: receiving and sending are no checkpoints
unless they have to wait. A stream whose task is busy elsewhere costs nothing: its readiness is remembered,
not polled, and its hang-up is still told at once, if it is watched: a connection that was dialled is so from
its first long wait on. Deadlines are attributes, kept by the pump's sweeper.

It does not do TLS (`tls.stream` is a PumpStream that does).
"""

import errno
import os
import select
import socket
import struct
from collections.abc import Callable
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, Final

import trio
from outcome import Error
from trio.lowlevel import Abort, RaiseCancelT, Task, reschedule

from gateway.net.outbox import GATHERED, LARGEST, LONGEST
from gateway.net.resumption import Parking, current_task, resume

if TYPE_CHECKING:
    from gateway.net.pump import Pump

READ_SIZE: Final = 64 * 1024
"""Bytes asked from the kernel in one read: the default size of a pipe, and one FastCGI record."""

SENDFILE_CHUNK: Final = 4 * 1024 * 1024
"""Bytes of a file sent between two checkpoints, so that one fast reader cannot hold the worker."""

_NO_SENDFILE: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM})
"""What sendfile(2) says where a file system or a sandbox does not have it: then it is copied."""

_RESET: Final = frozenset({errno.ECONNRESET, errno.EPIPE})

_READ_EVENTS: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
WRITE_EVENTS: Final = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR
_CLOSED_EVENTS: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_BROKEN_EVENTS: Final = select.EPOLLHUP | select.EPOLLERR

_FULL_READS: Final = 16
"""Reads that filled their buffer between two checkpoints, so that one fast writer cannot hold the worker."""

_LONG_TURN: Final = 0.005
"""Seconds since the last batch of events after which there is one more: a read that is full of small pieces,
frames of HTTP/2 for instance, takes a hundred times as long as others."""

_PIECES: Final = 64
"""Pieces that are handed to the kernel as they are. More than 1,024 it would not take (IOV_MAX)."""

_NO_LINGERING: Final = struct.pack("ii", 1, 0)
"""socket(7), SO_LINGER: on, for no time at all."""

_CORKED_FILE: Final = 256 * 1024
"""Bytes from which a file is worth two more system calls."""


class PumpStream:
    """A connected, non-blocking socket that the pump watches, from the first wait on at the latest.

    One task may receive and one may send at a time (BusyResourceError otherwise). Receiving or
    sending does not pass a checkpoint unless it has to wait; receiving also when others have waited for long.
    """

    __slots__ = (
        "_ending",
        "_error",
        "_fd",
        "_full_reads",
        "_gathered",
        "_gathered_until",
        "_gathering",
        "_held",
        "_outbox",
        "_pump",
        "_readable",
        "_reader",
        "_received",
        "_receiving",
        "_recv",
        "_roomy",
        "_send",
        "_sending",
        "_writer",
        "hangup_deadline",
        "hung_up",
        "on_hangup",
        "on_hangup_deadline",
        "peer_closed",
        "read_deadline",
        "sock",
        "was_reset",
        "watched",
        "write_deadline",
    )

    def __init__(self, pump: "Pump", sock: socket.SocketType) -> None:
        self.sock = sock
        self._pump = pump
        self._fd = sock.fileno()
        self._recv = sock.recv
        self._send = sock.send
        self._outbox = pump.outbox
        self._held = b""
        """Counted as sent, and still here: until the end of the turn, or until the kernel has room."""
        self._gathered: list[bytes | memoryview] = []
        """The same, of `try_send_more`; it leaves after ``_held``."""
        self._gathering = 0
        """Bytes that `try_send_more` may still hold in this turn, ..."""
        self._gathered_until = 0.0
        """... and until when, by `perf_counter`."""
        self._roomy = False
        """The peer has sent something since the last write, which it has read then as a rule: the kernel
        has room for a small one.
        """
        # Something may be there already: the first receive_some tries before it parks.
        self._readable = True
        self._reader: Task | None = None
        self._receiving = Parking(self._abort_receive)
        self._sending: Parking | None = None
        self._writer: Task | None = None
        self._received = b""
        self._error: OSError | None = None
        """Met when what was held left, and told to nobody yet."""
        self._ending = False
        """The sending side is to be closed when nothing is held any more."""
        self._full_reads = 0
        self.watched = False
        """The pump tells of all that happens."""
        self.read_deadline = inf
        """Clock time at which a parked receive_some raises TooSlowError."""
        self.write_deadline = inf
        """Clock time at which a parked send raises TooSlowError."""
        self.peer_closed = False
        """The peer has closed its sending side, or all of it. Data may still be unread."""
        self.hung_up = False
        """The connection is gone in both directions (reset, or closed on a Unix socket)."""
        self.was_reset = False
        """unix(7): the peer has closed it with something unread in it, or before that was sent."""
        self.on_hangup: Callable[[], None] | None = None
        """Called from the pump's task when ``peer_closed`` or ``hung_up`` has become true, after the tasks
        that wait here have gone on."""
        self.hangup_deadline = inf
        self.on_hangup_deadline: Callable[[], None] | None = None
        """Called from the sweeper once ``hangup_deadline`` has passed."""

    def watch(self) -> None:
        """Let the pump tell of all that happens from now on, if it does not yet.

        Raises BrokenResourceError if the kernel cannot watch any more.
        """
        if not self.watched:
            try:
                self._pump.adopt(self)
            except OSError as error:
                raise self._broken(error) from error

    def become_idle(self) -> None:
        """Nothing is expected for now: `quiet` tells of what comes nevertheless, or has come already."""
        if not self.watched:
            try:
                self._pump.adopt(self)
                self._recv(1)
            except BlockingIOError:
                return
            except OSError:
                pass
            self.peer_closed = True  # or it has said what nobody has asked for

    # --- receiving

    def expect_answer(self) -> None:
        """Nothing can be here before something is sent: the first receive waits before it tries."""
        self._readable = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Some bytes, ``b""`` once the peer has closed its side.

        *max_bytes* is ignored: what one read gave has to be taken.
        Raises TooSlowError after ``read_deadline``, BrokenResourceError if the connection is gone.
        """
        if self._readable:
            if self._had_turn():
                # Before the data is taken: a peer that floods must not keep the task from its cancellation.
                self._full_reads = 0
                await trio.lowlevel.checkpoint()
            data = self._receive_and_count()
            if data is not None:
                return data
        if self._reader is not None:
            raise trio.BusyResourceError("another task is receiving from this stream")
        if not self.watched:
            self._pump.watch_unless_here(self)
        self._reader = current_task()
        await self._receiving
        data = self._received
        self._received = b""  # an idle connection does not keep what it has read last
        return data

    def receive_in_turn(self, most: int = READ_SIZE) -> bytes | None:
        """As `receive_nowait`; None, too, if it is the turn of others: `receive_some` lets them have it."""
        return None if not self._readable or self._had_turn() else self._receive_and_count(most)

    def _had_turn(self) -> bool:
        if not self._full_reads:
            return False
        pump = self._pump
        return self._full_reads >= _FULL_READS or pump.time() > pump.now + _LONG_TURN

    def _receive_and_count(self, most: int = READ_SIZE) -> bytes | None:
        data = self.receive_nowait(most)
        if data is not None and self._readable:
            self._full_reads += 1
        return data

    def receive_nowait(self, most: int = READ_SIZE) -> bytes | None:
        """What is there already, or None; *most* bytes are asked from the kernel.

        Raises BrokenResourceError if the connection is gone.
        """
        if not self._readable:
            return None
        try:
            data = self._recv(most)
        except BlockingIOError:
            self._readable = False
            return None
        except OSError as error:
            raise self._broken(error) from error
        except MemoryError as shortage:
            raise self._broken(_no_memory()) from shortage
        if not data and self._error is not None:
            raise self._broken(self._error) from self._error
        self._roomy = not self.hung_up
        # epoll(7): a short read from a stream socket means that it is drained, unless the end of
        # input is still to be read.
        self._readable = len(data) == most or self.peer_closed
        return data

    @property
    def readable(self) -> bool:
        """A receive would try before it waits: something is here, as far as is known."""
        return self._readable

    @property
    def quiet(self) -> bool:
        """Nothing has arrived since the last read, not even the peer's close."""
        return not self._readable and not self.peer_closed

    def _abort_receive(self, _raise_cancel: RaiseCancelT) -> Abort:
        self._reader = None
        return Abort.SUCCEEDED

    # --- sending

    def try_send(self, data: bytes | memoryview) -> int:
        """Send what the kernel takes now; the number of bytes taken.

        A small write may be held until the end of the turn (`outbox`), and counts as taken.
        Raises BrokenResourceError if the connection is gone.
        """
        try:
            return self._transmit(data)
        except OSError as error:
            raise self._broken(error) from error

    def _transmit(self, data: bytes | memoryview) -> int:
        """Hold or send *data*; the number of bytes taken. Raises OSError if the connection is gone."""
        held = self._held
        size = len(data)
        if (
            self._roomy
            and len(held) + size <= LARGEST
            and self._outbox.opened
            and not self._gathered
            and not (held and self._outbox.overdue)
        ):
            if held:
                self._held = held + data
            elif size:
                self._held = bytes(data)
                self._outbox.add(self)
            return size
        if (held or self._gathered) and not self._send_held():
            return 0
        self._roomy = False
        try:
            return self._send(data)
        except BlockingIOError:
            return 0

    def try_send_behind(self, head: bytes, data: bytes | memoryview) -> int:
        """As `try_send` of both, for large *data*: one system call, and no copy in one piece."""
        try:
            if (self._held or self._gathered) and not self._send_held():
                return 0
            self._roomy = False
            return self.sock.sendmsg((head, data))
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._broken(error) from error

    def try_send_more(self, data: bytes | memoryview) -> int:
        """As `try_send`, for a piece of what goes on.

        The first of a turn leaves at once; those that follow count as taken, and leave together (`outbox`).
        """
        try:
            return self._transmit_more(data)
        except OSError as error:
            raise self._broken(error) from error

    def _transmit_more(self, data: bytes | memoryview) -> int:
        """As `_transmit`, for `try_send_more`."""
        size = len(data)
        if not self._gathering:
            self._roomy = False  # nor is it held: who goes on may compute for long without a wait
            sent = self._transmit(data)
            if sent == size and self._outbox.opened:
                self._gather()
                self._outbox.add(self)
            return sent
        self._gathered.append(data)
        self._gathering -= size
        if self._gathering <= 0 or perf_counter() > self._gathered_until:
            self._gathering = 0
            if self._send_held():
                self._gather()
        return size

    def try_settle(self) -> bool:
        """Send what `try_send_more` holds, as far as the kernel takes it; whether nothing of it is left.

        Raises BrokenResourceError if the connection is gone.
        """
        try:
            return not self._gathered or self._send_held()
        except OSError as error:
            raise self._broken(error) from error

    def _gather(self) -> None:
        self._gathering = GATHERED
        self._gathered_until = perf_counter() + LONGEST

    def _send_held(self) -> bool:
        """Send what is held; whether all of it is sent. Raises OSError if the connection is gone."""
        if self._gathered:
            return self._send_gathered()
        held, self._held = self._held, b""
        self._roomy = False
        try:
            sent = self._send(held)
        except BlockingIOError:
            sent = 0
        if sent == len(held):
            return True
        self._held = held[sent:]
        return False

    def _send_gathered(self) -> bool:
        pieces, self._gathered = self._gathered, []
        if len(pieces) > _PIECES:
            pieces = [b"".join(pieces)]  # small ones
        if self._held:
            pieces.insert(0, self._held)
            self._held = b""
        self._roomy = False
        try:
            sent = self.sock.sendmsg(pieces)
        except BlockingIOError:
            sent = 0
        for index, piece in enumerate(pieces):
            size = len(piece)
            if sent < size:
                self._gathered = [memoryview(piece)[sent:], *pieces[index + 1 :]]
                return False
            sent -= size
        return True

    def release(self) -> None:
        """Send what is held, as far as the kernel takes it; the rest leaves when there is room.

        Lets errors pass: whoever writes next meets them, and who reads, in place of the end.
        """
        self._gathering = 0
        if self._held or self._gathered:
            try:
                if not self._send_held():
                    if not self.watched:
                        self._pump.adopt(self)
                elif self._ending:
                    self.sock.shutdown(socket.SHUT_WR)
            except OSError as error:
                self._broken(error)
                # Another one: the traceback of this leads back here, and to all that leave in this turn.
                self._error = OSError(*error.args)

    @property
    def unsent(self) -> bool:
        """Something that counts as sent is still here."""
        return bool(self._held or self._gathered)

    @property
    def owed(self) -> int:
        """How many bytes that is."""
        return len(self._held) + sum(map(len, self._gathered))

    async def settle(self) -> None:
        """Wait until all that counts as sent is with the kernel.

        Raises TooSlowError after ``write_deadline``, BrokenResourceError.
        """
        try:
            while self.unsent and not self._send_held():
                await self.wait_writable()
                if self.hung_up:
                    raise trio.BrokenResourceError("the peer has gone before all was sent")
        except OSError as error:
            raise self._broken(error) from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of *data*. Raises TooSlowError after ``write_deadline``, BrokenResourceError."""
        self._check_open()
        rest = memoryview(data)
        while rest:
            sent = self.try_send(rest)
            rest = rest[sent:]
            if rest and not sent:
                await self.wait_writable()

    async def send_file(self, descriptor: int, offset: int, count: int, *, timeout: float = inf) -> int:
        """Send *count* bytes of a regular file from *offset* by sendfile(2); how many it had.

        Raises TooSlowError when the peer takes nothing for *timeout* seconds, OSError if the file cannot be
        read.
        """
        # tcp(7), TCP_CORK: whole segments only until the end, as nginx's tcp_nopush. A reader on the same
        # machine gets a quarter more through.
        corked = count >= _CORKED_FILE and self.sock.family != socket.AF_UNIX
        if corked:
            self._cork(True)
        try:
            return await self._send_file(descriptor, offset, count, timeout)
        finally:
            if corked and self._fd >= 0:
                self._cork(False)

    def _cork(self, on: bool) -> None:
        try:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, on)
        except OSError as error:
            raise self._broken(error) from error

    async def _send_file(self, descriptor: int, offset: int, count: int, timeout: float) -> int:
        end = offset + count
        unchecked = 0
        if self.unsent:
            self.write_deadline = self._pump.now + timeout
            await self.settle()
        while offset < end:
            try:
                sent = self._send_part(descriptor, offset, end - offset)
            except BlockingIOError:
                self.write_deadline = self._pump.now + timeout
                await self.wait_writable()
                unchecked = 0
                continue
            except OSError as error:
                os.pread(descriptor, 1, offset)  # sendfile(2) does not say whose fault it is
                raise self._broken(error) from error
            if not sent:
                break
            offset += sent
            unchecked += sent
            if unchecked >= SENDFILE_CHUNK:
                await trio.lowlevel.checkpoint()
                unchecked = 0
        return count - (end - offset)

    def _send_part(self, descriptor: int, offset: int, count: int) -> int:
        """Send what the kernel takes now of *count* bytes; 0 at the end of the file. Raises OSError."""
        try:
            return os.sendfile(self._fd, descriptor, offset, count)
        except OSError as error:
            if error.errno not in _NO_SENDFILE:
                raise
        return self._send(os.pread(descriptor, min(READ_SIZE, count), offset))

    async def wait_writable(self) -> None:
        """Wait until the kernel's buffer has room again, after a send that took nothing."""
        if self._writer is not None:
            raise trio.BusyResourceError("another task is sending on this stream")
        self.watch()
        self._writer = current_task()
        if self._sending is None:
            self._sending = Parking(self._abort_send)
        await self._sending

    async def wait_send_all_might_not_block(self) -> None:
        """Not known without trying: a checkpoint only."""
        await trio.lowlevel.checkpoint()
        self._check_open()

    def _check_open(self) -> None:
        if self._fd < 0:
            raise trio.ClosedResourceError("the stream is closed")

    def _abort_send(self, _raise_cancel: RaiseCancelT) -> Abort:
        self._writer = None
        return Abort.SUCCEEDED

    # --- closing

    def conclude(self) -> None:
        """Say that nothing more is sent, where a layer above the socket can say it, without waiting.

        For an end that cuts nothing short: after it the peer takes what it has got for complete.
        """

    async def send_eof(self) -> None:
        """Close the sending side; receiving goes on. Raises TooSlowError after ``write_deadline``."""
        await self.settle()
        self.shut_down()

    def shut_down(self) -> None:
        """Close the sending side without waiting; what is held leaves before.

        Raises BrokenResourceError if the connection is gone.
        """
        self.release()
        if self.unsent:
            self._ending = True
            return
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise self._broken(error) from error

    def reset_on_close(self) -> None:
        """Let `close` end the connection with a reset: the peer sees no orderly end, and the port is free."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)

    def close(self) -> None:
        """Close at once; the tasks that wait here get ClosedResourceError."""
        if self._fd < 0:
            return
        self.release()
        self._held = b""
        self._gathered = []
        self._pump.detach(self._fd)
        self._fd = -1
        self.sock.close()
        self._readable = True  # so that the next receive tries, and finds it closed
        self._dismiss(trio.ClosedResourceError("the stream was closed by another task"))

    async def aclose(self) -> None:
        """Close, and pass a checkpoint."""
        self.close()
        await trio.lowlevel.checkpoint()

    # --- what the pump calls

    def note(self, events: int) -> None:
        """Remember the events that epoll told."""
        if events & _CLOSED_EVENTS:
            self.peer_closed = True
            if events & _BROKEN_EVENTS:
                self.hung_up = True
        if self._reader is None and events & _READ_EVENTS:
            self._readable = True

    def ready(self, events: int) -> None:
        """Take the events that were noted: wake the parked writer, read for the parked reader.

        These go on within the call, and may do what they like with the stream. What has come is taken before
        the end is told.
        """
        if events & WRITE_EVENTS:
            if self._held or self._gathered:
                self.release()
            writer = self._writer
            if writer is not None:
                self._writer = None
                resume(writer)
        if events & _READ_EVENTS:
            reader = self._reader
            if reader is not None:
                self._read_for(reader)
        if events & _CLOSED_EVENTS and self.on_hangup is not None:
            self.on_hangup()

    def take_if_here(self) -> bool:
        """Take what a task waits for, if it is here before anybody watches; the task goes on with it."""
        reader = self._reader
        return reader is None or self._read_for(reader)  # None: closed meanwhile, or cancelled

    def keep_waiting(self) -> None:
        """Watch for what a task waits for, which was not here when it was looked for."""
        reader = self._reader
        if reader is not None:
            try:
                self.watch()
            except trio.BrokenResourceError as broken:
                self._reader = None
                reschedule(reader, Error(broken))

    def _read_for(self, reader: Task) -> bool:
        """`receive_nowait` for a parked task, once more without the call: this is the hot path.

        Whether there was something, and the task has gone on or will.
        """
        try:
            self._received = data = self._recv(READ_SIZE)
        except BlockingIOError:
            return False
        except OSError as error:
            self._reader = None
            reschedule(reader, Error(self._broken(error)))
            return True
        except MemoryError:
            self._reader = None
            reschedule(reader, Error(self._broken(_no_memory())))
            return True
        if not data:
            self.peer_closed = True
            if self._error is not None:
                self._reader = None
                reschedule(reader, Error(self._broken(self._error)))
                return True
        self._roomy = not self.hung_up
        self._readable = self.peer_closed or len(data) == READ_SIZE
        self._reader = None
        resume(reader)
        return True

    def sweep(self, now: float) -> None:
        """Wake whoever has waited too long."""
        if self.read_deadline <= now and self._reader is not None:
            reader, self._reader = self._reader, None
            reschedule(reader, Error(trio.TooSlowError("nothing was received in time")))
        if self.write_deadline <= now and self._writer is not None:
            writer, self._writer = self._writer, None
            reschedule(writer, Error(trio.TooSlowError("the peer did not read in time")))
        if self.hangup_deadline <= now:
            self.hangup_deadline = inf
            if self.on_hangup_deadline is not None:
                self.on_hangup_deadline()

    def _dismiss(self, error: Exception) -> None:
        """Wake whoever waits here; nobody will again."""
        self._receiving.abandon()
        if self._sending is not None:
            self._sending.abandon()
        for task in (self._reader, self._writer):
            if task is not None:
                reschedule(task, Error(error))
        self._reader = self._writer = None

    def _broken(self, error: OSError) -> trio.BrokenResourceError | trio.ClosedResourceError:
        if self._fd < 0:
            return trio.ClosedResourceError("the stream is closed")
        self.hung_up = True
        self.was_reset = error.errno in _RESET
        self._roomy = False
        return trio.BrokenResourceError(os.strerror(error.errno or 0))


def _no_memory() -> OSError:
    """What the kernel would say. Python has no room for what has come, which ends one connection, not all."""
    return OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
