"""TLS over a socket of the pump: a PumpStream whose bytes are encrypted.

OpenSSL works on two memory buffers (`ssl.MemoryBIO`), never on the socket. So reading and writing stay
what they are for any PumpStream (one recv of 64 KiB holds several records, one send as many), a read
that has to write and a write that has to read need no states of their own, and `send_eof` can say
close_notify while the peer goes on sending, which Python's SSLSocket cannot::

    socket ─► recv ─► _incoming ─► OpenSSL ─► receive_some
    socket ◄─ send ◄─ _outgoing ◄─ OpenSSL ◄─ try_send

Promises: `try_send` counts bytes whose records the kernel has taken whole, or will take at the end of the
turn (`outbox`). A record cannot be taken back: what was offered and not counted has to be offered again,
alone or with more behind it, as for SSL_write(3); other bytes in its place break the stream. The end of the
connection without close_notify is an end like any other (HTTP's framing says whether something is missing,
RFC 9112 9.8), unless it has to be said: *says_end*. `close` says nothing, so that what is cut short looks
so; `conclude` and `send_eof` say close_notify.

Both sides are here: the gateway is the server of its clients, and the client of servers behind it. It does
not choose certificates (`context`, `client`). Renegotiation is off there.
"""

import os
import socket
from contextlib import suppress
from math import inf
from ssl import MemoryBIO, SSLContext, SSLError, SSLObject, SSLSession, SSLWantReadError, SSLZeroReturnError
from typing import Final

import trio
from outcome import Error
from trio.lowlevel import Task, reschedule

from gateway.net.pump import Pump
from gateway.net.resumption import resume
from gateway.net.stream import READ_SIZE, SENDFILE_CHUNK, WRITE_EVENTS, PumpStream
from gateway.tls.errors import NotTlsError, TlsBrokenError

PIECE: Final = 64 * 1024
"""Bytes encrypted and sent in one go: four full records (RFC 8446 5.1), and one system call."""

RECORD: Final = 16 * 1024
"""Bytes in a full record (RFC 8446 5.1). OpenSSL's memory buffers do not shrink, so no more is put into one
at a time: an idle connection would keep what the largest has taken, in both directions."""

UNSENT_BYTES: Final = 2 * PIECE
"""Bytes of records that may wait for the kernel: a piece, and all the alerts and key updates that a peer
may make us write and not read."""

_VAIN_READS: Final = 1
"""Full reads of which nothing is data before the next. Nobody has to say so much of keys and tickets, and who
says it faster than it is understood would be listened to for ever."""

FAREWELL_SECONDS: Final = 5.0
"""How long `send_eof` waits for room in the kernel for close_notify."""

# RFC 8446 5.1, ContentType: the first byte of a peer that speaks TLS. A client has nothing to refuse yet.
_FROM_CLIENTS: Final = b"\x16"
_FROM_SERVERS: Final = b"\x16\x15"


class TlsStream(PumpStream):
    """A TLS connection over a socket: the server's side of it, or the client's.

    After `Pump.adopt` and `handshake` it is used as any PumpStream. Until then, and if the handshake
    fails, it is the bare connection.
    """

    __slots__ = (
        "_concluded",
        "_decrypt",
        "_early",
        "_encrypt",
        "_ended",
        "_failure",
        "_incoming",
        "_outgoing",
        "_owed",
        "_says_end",
        "_secured",
        "_server_side",
        "_unsent",
        "session",
    )

    def __init__(
        self,
        pump: Pump,
        sock: socket.SocketType,
        context: SSLContext,
        *,
        server_side: bool = True,
        server_name: str | None = None,
        resumed: SSLSession | None = None,
        says_end: bool = False,
    ) -> None:
        """A client asks for *server_name*, and may go on with the keys of an earlier session.

        With *says_end* a peer that closes without close_notify has broken the stream: what it said may go up
        to the end of the connection (RFC 9112 8).
        """
        super().__init__(pump, sock)
        self._incoming = MemoryBIO()
        self._outgoing = MemoryBIO()
        self._server_side = server_side
        self._says_end = says_end
        self.session: SSLObject = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            server_hostname=server_name,
            session=resumed,
        )
        self._decrypt = self.session.read
        self._encrypt = self.session.write
        self._secured = False
        self._early = b""
        """What has come together with the end of the handshake."""
        self._ended = False
        """The peer has said that nothing more comes, or closed, or is not understood any more."""
        self._failure: TlsBrokenError | None = None
        """What has gone wrong behind the last data."""
        self._concluded = False
        """We have."""
        self._unsent = b""
        """Records that the kernel has not taken."""
        self._owed = b""
        """The bytes in those records that `try_send` has still to count."""

    # --- the handshake

    async def handshake(self, timeout: float) -> None:
        """Agree on keys, within *timeout* seconds in all.

        Raises SSLError if there is no agreement (the alert is sent as far as the kernel takes it),
        NotTlsError for a peer that speaks something else, TooSlowError, and BrokenResourceError if it
        leaves.
        """
        self.read_deadline = self.write_deadline = self._pump.now + timeout
        session = self.session
        begun = False
        first_bytes = _FROM_CLIENTS if self._server_side else _FROM_SERVERS
        received = b""
        while True:
            try:
                session.do_handshake()
                break
            except SSLWantReadError:
                await self._send_records()
            except SSLError:
                self._send_unasked()
                raise
            if not received:
                received = await self.receive_some()
                if not received:
                    raise trio.BrokenResourceError("the peer left in the middle of the handshake")
                if not begun and received[0] not in first_bytes:
                    raise NotTlsError(received)
                begun = True
            self._incoming.write(received[:RECORD])
            received = received[RECORD:]
        self._early = received
        await self._send_records()
        self.read_deadline = self.write_deadline = inf
        self._secured = True
        self._readable = True  # the first bytes may have come with the peer's last message

    async def _send_records(self) -> None:
        """Send what OpenSSL has written, as fast as the peer reads."""
        self._unsent += self._outgoing.read()
        while not self._flush():
            await self.wait_writable()

    # --- receiving

    def receive_nowait(self, most: int = READ_SIZE) -> bytes | None:
        """As that of any PumpStream; *most* are bytes of records."""
        if not self._secured or self._fd < 0:
            return super().receive_nowait(most)
        data = self._read_records() if self._incoming.pending else b""
        if self._early:
            early, self._early = self._early, b""
            if not self._ended:
                data += self._decrypted(early)
        reads = 0
        while not (data or self._ended):
            if reads > _VAIN_READS:
                self.hung_up = True
                raise trio.BrokenResourceError("the peer sends records without data, and no end of them")
            received = super().receive_nowait(most)
            if received is None:
                return None
            reads += 1
            if received:
                data = self._decrypted(received)
            else:
                self._end()
                if self._says_end:
                    raise TlsBrokenError("closed without close_notify")
        if not data and self._failure is not None:
            raise TlsBrokenError(str(self._failure), alert=self._failure.alert)
        return data

    def _decrypted(self, received: bytes) -> bytes:
        """What is in the records that *received* has completed."""
        if len(received) <= RECORD:
            self._incoming.write(received)
            return self._read_records()
        view = memoryview(received)
        pieces = []
        for start in range(0, len(view), RECORD):
            self._incoming.write(view[start : start + RECORD])
            pieces.append(self._read_records())
            if self._ended:
                break
        return b"".join(pieces)

    def _read_records(self) -> bytes:
        """Decrypt what was received: all but the record of which something is still to come.

        What came in front of a broken record or an alert was said by the peer; the next read raises that.
        """
        data = b""
        try:
            data = self._decrypt(READ_SIZE)
            while self._incoming.pending and not self._ended:
                more = self._decrypt(READ_SIZE)
                if more:
                    data += more
                else:
                    self._end()
            if not data:
                self._end()
        except SSLWantReadError:
            pass
        except SSLZeroReturnError:
            self._end()
        except SSLError as failure:
            self._send_unasked()
            self._failure = TlsBrokenError(reason_of(failure), alert=is_alert(failure))
            self._ended = self._readable = self.hung_up = True
            return data
        if self._outgoing.pending:
            self._send_unasked()
            if len(self._unsent) > UNSENT_BYTES:
                self.hung_up = True
                raise trio.BrokenResourceError("the peer makes us write, and does not read")
        return data

    def _end(self) -> None:
        """Nothing more comes; whatever is received after close_notify is ignored (RFC 8446 6.1)."""
        self._ended = self.peer_closed = self._readable = True

    @property
    def quiet(self) -> bool:
        """Nothing has arrived but what TLS sends unasked: session tickets and key updates are taken here.

        Where there is more, it is lost: only a connection that is closed then is asked.
        """
        if self._readable and self._secured and not self.peer_closed:
            try:
                if self.receive_nowait() is not None:
                    return False
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return False
        return not self._readable and not self.peer_closed

    def _read_for(self, reader: Task) -> bool:
        self._readable = True
        try:
            data = self.receive_nowait()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as broken:
            self._reader = None
            reschedule(reader, Error(broken))
            return True
        if data is None:
            return False
        self._received = data
        self._reader = None
        resume(reader)
        return True

    # --- sending

    def try_send(self, data: bytes | memoryview) -> int:
        """Encrypt and send what the kernel takes now; the number of bytes whose records it took whole.

        The rest has to be offered again (see the module). Raises BrokenResourceError if the connection
        is gone.
        """
        return self._offer(data, False) if self._secured else super().try_send(data)

    def try_send_behind(self, head: bytes, data: bytes | memoryview) -> int:
        """As `try_send` of both, for large *data*: only what is in one piece with *head* is copied."""
        if not self._secured:
            return super().try_send_behind(head, data)
        rest = memoryview(data)
        room = PIECE - len(head)
        if room <= 0:
            return self._offer(head + data, False)
        first = b"".join((head, rest[:room]))
        sent = self._offer(first, False)
        return sent + self._offer(rest[room:], False) if sent == len(first) else sent

    def try_send_more(self, data: bytes | memoryview) -> int:
        """As `try_send`, for a piece of what goes on: its records leave as the pieces of other streams do."""
        return self._offer(data, True) if self._secured else super().try_send_more(data)

    def _offer(self, data: bytes | memoryview, more: bool) -> int:
        if self._unsent and not self._flush(more):
            return 0
        sent = len(self._owed)
        if sent:
            if data[:sent] != self._owed:
                self.hung_up = True
                raise trio.BrokenResourceError("other bytes were offered before, and have left in part")
            self._owed = b""
        size = len(data)
        if size > PIECE:
            data = memoryview(data)  # of which pieces are no copies
        while sent < size:
            end = min(sent + PIECE, size)
            piece = data if end - sent == size else data[sent:end]
            try:
                self._unsent = self._encrypted(piece)
            except SSLError as failure:
                raise self._failed(failure) from failure
            if not self._flush(more):
                self._owed = bytes(piece)
                break
            sent = end
        return sent

    def _encrypted(self, piece: bytes | memoryview) -> bytes:
        """*piece* in records. Raises SSLError."""
        if len(piece) <= RECORD:
            self._encrypt(piece)
            return self._outgoing.read()
        view = memoryview(piece)
        records = []
        for start in range(0, len(view), RECORD):
            self._encrypt(view[start : start + RECORD])
            records.append(self._outgoing.read())
        return b"".join(records)

    def _flush(self, more: bool = False) -> bool:
        """Send records as far as the kernel takes them; whether all are sent."""
        unsent = self._unsent
        if not unsent:
            return True
        try:
            sent = self._transmit_more(unsent) if more else self._transmit(unsent)
        except OSError as error:
            raise self._broken(error) from error
        self._unsent = unsent[sent:]
        return sent == len(unsent)

    def _send_unasked(self) -> None:
        """Send what OpenSSL has written while it read (alerts, key updates), as far as the kernel takes it.

        The rest leaves with `ready`, or before what is sent next. Lets errors pass: whoever reads or
        writes next meets them.
        """
        self._unsent += self._outgoing.read()
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            self._flush()

    async def _send_file(self, descriptor: int, offset: int, count: int, timeout: float) -> int:
        """In pieces through our own memory: the kernel cannot send what it cannot encrypt."""
        end = offset + count
        unchecked = 0
        while offset < end:
            piece = os.pread(descriptor, min(PIECE, end - offset), offset)
            if not piece:
                break
            while not self.try_send(piece):
                self.write_deadline = self._pump.now + timeout
                await self.wait_writable()
                unchecked = 0
            offset += len(piece)
            unchecked += len(piece)
            if unchecked >= SENDFILE_CHUNK:
                await trio.lowlevel.checkpoint()
                unchecked = 0
        return count - (end - offset)

    # --- the end

    def conclude(self) -> None:
        """Say close_notify (RFC 8446 6.1), as far as the kernel takes it."""
        if self._secured and not self._concluded and self._fd >= 0 and not self.hung_up:
            self._concluded = True
            with suppress(SSLError):  # it wants the peer's close_notify too
                self.session.unwrap()
            self._send_unasked()

    async def send_eof(self) -> None:
        """Say close_notify, and close the sending side; receiving goes on.

        Raises TooSlowError after ``write_deadline`` if something was held before.
        """
        await self.settle()
        self.conclude()
        self.write_deadline = self._pump.now + FAREWELL_SECONDS
        while not self._flush():
            try:
                await self.wait_writable()
            except trio.TooSlowError:
                break
        with suppress(trio.TooSlowError):
            await self.settle()
        self.shut_down()

    def ready(self, events: int) -> None:
        super().ready(events)
        if self._unsent and events & WRITE_EVENTS:
            self._send_unasked()

    def _failed(self, failure: SSLError) -> trio.BrokenResourceError | trio.ClosedResourceError:
        if self._fd < 0:
            return trio.ClosedResourceError("the stream is closed")
        self.hung_up = True
        return TlsBrokenError(reason_of(failure), alert=is_alert(failure))


def reason_of(failure: SSLError) -> str:
    """What went wrong, in OpenSSL's words: ``wrong version number``."""
    return (failure.reason or "TLS failed").replace("_", " ").lower()


def is_alert(failure: SSLError) -> bool:
    """Whether the peer has refused by an alert (RFC 8446 6)."""
    return "_ALERT_" in (failure.reason or "")
