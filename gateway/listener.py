"""Listening sockets: opening them, and accepting connections from them.

Opening happens before anything else of the daemon starts, so that an address that is taken ends it with
one message. Accepting goes on until cancelled; a shortage of descriptors pauses it instead of ending it.
"""

import errno
import os
import select
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import trio

from gateway.errors import StartError
from gateway.front.caps import ConnectionCaps
from gateway.logger import get_logger
from gateway.net.address import FdAddress, TcpAddress, UnixAddress
from gateway.runtime import forked
from gateway.runtime.exhaustion import EXHAUSTED, Repeated, no_room

if TYPE_CHECKING:
    from gateway.config import Listener

log = get_logger()

ACCEPT_BATCH: Final = 64
"""Connections accepted in one turn, so that a flood of them cannot hold the worker."""

SHARED_BATCH: Final = 4
"""The same where other processes accept too: what is taken at once is theirs no more. Of 64 clients that come
together one of two workers gets all with batches of 64, and 48 at most with these."""

EXHAUSTED_PAUSE: Final = 0.1
"""Seconds to wait for a descriptor to become free; the kernel gives no event for that."""

TURN_OF_OTHERS: Final = 0.05
"""Seconds that other processes have to take a connection before an idle one is ended to make room for it."""

UNSENT_BYTES: Final = 512 * 1024
"""Bytes of a response that may wait in the kernel until the client's window opens (tcp(7),
TCP_NOTSENT_LOWAT). Without it a slow client holds 4 MiB of kernel memory; with half of it three quarters of
the writes of `gateway.net.outbox.GATHERED` bytes are taken in part only."""


class ListeningSocket:
    """An open listening socket. Use `close`: it removes the file of a Unix socket."""

    def __init__(self, sock: socket.socket, *, path: str | None = None) -> None:
        self.sock = sock
        self.path = path
        """The file of a Unix socket that is ours to remove."""
        self.listener: Listener | None = None
        """What it was opened for."""
        self.shared = False
        """Whether other processes accept on it, too."""
        self._inode = os.stat(path).st_ino if path is not None else 0
        forked.listening.add(sock)

    def __str__(self) -> str:
        """The real address: ``http://127.0.0.1:8080``, ``https://…``, or ``unix:/path``."""
        name = self.sock.getsockname()
        if isinstance(name, tuple):
            host = f"[{name[0]}]" if ":" in name[0] else name[0]
            scheme = "http" if self.listener is None or self.listener.tls is None else "https"
            return f"{scheme}://{host}:{name[1]}"
        return f"unix:{name}"

    @property
    def lost(self) -> bool:
        """Whether the file of a Unix socket is there no more, or another's: nobody comes to this one."""
        try:
            return self.path is not None and os.stat(self.path).st_ino != self._inode
        except OSError:  # or its directory is none, or beyond our reach
            return True

    def close(self) -> None:
        """Stop listening."""
        forked.listening.discard(self.sock)
        self.sock.close()
        # Another daemon may have put its own socket there meanwhile.
        if self.path is not None and not self.lost:
            with suppress(OSError):  # the next start finds it, and that nobody answers
                os.unlink(self.path)


def own_listener(address: TcpAddress | UnixAddress | FdAddress, *, mode: int | None = None) -> "Listener":
    """A plain listener on *address*; *mode*: permissions of a Unix socket."""
    from gateway.config import Listener  # applications in processes of their own need none of it

    return Listener.model_construct(address=address, mode=mode)


def open_listener(listener: "Listener") -> list[ListeningSocket]:
    """Listen on the address; a host name may stand for several. Raises StartError."""
    address = listener.address
    try:
        opened = _open(listener)
    except socket.gaierror as error:
        raise StartError(f"cannot listen on {address}: {error.strerror}") from error
    except OSError as error:
        raise StartError(f"cannot listen on {address}: {_reason(error.errno or 0, address)}") from error
    for each in opened:
        each.listener = listener
    return opened


def _reason(code: int, address: TcpAddress | UnixAddress | FdAddress) -> str:
    """What the error is, and what to do about it where that is known."""
    match code, address:
        case errno.EADDRINUSE, TcpAddress():
            hint = f" (another program does: `ss -ltnp sport = {address.port}` names it)"
        case errno.EADDRINUSE, _:
            hint = " (another program does)"
        case errno.EADDRNOTAVAIL, _:
            hint = " (this machine has no such address)"
        case errno.EACCES, TcpAddress(port=port) if port < 1024:
            hint = " (ports below 1024 take root or CAP_NET_BIND_SERVICE)"
        case errno.ENOENT, _:
            hint = " (its directory has to be there)"
        case _:
            hint = ""
    return os.strerror(code) + hint


def _open(listener: "Listener") -> list[ListeningSocket]:
    address = listener.address
    if isinstance(address, TcpAddress):
        return _open_tcp(address, listener)
    if isinstance(address, UnixAddress):
        return [_open_unix(address.path, listener)]
    return [_open_inherited(address.fd)]


# What bind(2) and socket(2) say of a family that the machine does not have (IPv6 that is switched off).
_NO_FAMILY: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


def _open_tcp(address: TcpAddress, listener: "Listener") -> list[ListeningSocket]:
    """A socket for each address that the host has; without one for each family of this machine."""
    # As bytes: for text Python loads its tables of international names.
    name = address.host.encode() or None
    found = socket.getaddrinfo(name, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    opened: list[ListeningSocket] = []
    port = address.port
    missing: OSError | None = None
    try:
        for family, kind, protocol, _, (host, _, *scope) in found:
            try:
                sock = _bound(family, kind, protocol, (host, port, *scope))
            except OSError as error:
                if address.host or error.errno not in _NO_FAMILY:
                    raise
                missing = error
                continue
            opened.append(ListeningSocket(sock))
            sock.listen(listener.backlog)
            port = port or sock.getsockname()[1]  # the one that the kernel chose is for all of them
    except OSError:
        for each in opened:
            each.close()
        raise
    if missing is not None and not opened:
        raise missing
    return opened


def _bound(family: int, kind: int, protocol: int, place: tuple[Any, ...]) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Inherited by what is accepted: a response is written whole, waiting only delays it.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        if family == socket.AF_INET6:
            # IPv4 has a socket of its own, or is not wanted.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(place)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _open_unix(path: str, listener: "Listener") -> ListeningSocket:
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        if listener.mode is not None:
            os.chmod(path, listener.mode)
        sock.listen(listener.backlog)
        sock.setblocking(False)
        return ListeningSocket(sock, path=path)
    except OSError:
        sock.close()
        raise


def _remove_stale(path: str) -> None:
    """Remove a socket that a dead process left behind; one that is answered stays, and binding fails."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            if probe.connect_ex(path) == errno.ECONNREFUSED:
                os.unlink(path)


def _open_inherited(descriptor: int) -> ListeningSocket:
    sock = socket.socket(fileno=os.dup(descriptor))
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise StartError(f"file descriptor {descriptor} is not a listening socket")
    sock.setblocking(False)
    return ListeningSocket(sock)


async def _is_left(sock: socket.socket) -> bool:
    """Whether a connection that waits is still there once the other processes had time to take it."""
    await trio.sleep(TURN_OF_OTHERS)  # noqa: TID251 - see TURN_OF_OTHERS
    return bool(select.select([sock], [], [], 0)[0])


async def accept(
    listening: ListeningSocket, take: Callable[[socket.socket], None], caps: ConnectionCaps | None = None
) -> None:
    """Hand every accepted connection to *take*, until cancelled; while *caps* is full none is accepted."""
    sock = listening.sock
    exhausted = Repeated()
    batch = SHARED_BATCH if listening.shared else ACCEPT_BATCH
    while True:
        await trio.lowlevel.wait_readable(sock)
        if caps is not None and caps.full:
            if not listening.shared or await _is_left(sock):
                await caps.wait_for_room()
            continue  # another listener may have taken it
        try:
            for _ in range(batch):
                if caps is not None and caps.full:
                    break
                connection, _address = sock.accept()
                take(connection)
        except BlockingIOError:
            continue
        except OSError as error:
            if error.errno in EXHAUSTED:
                if times := exhausted.happened(trio.current_time()):
                    cause = no_room(error.errno)
                    log.error("cannot accept connections", address=str(listening), cause=cause, times=times)  # noqa: TRY400
                await trio.sleep(EXHAUSTED_PAUSE)  # noqa: TID251 - see EXHAUSTED_PAUSE
            # Others (ECONNABORTED, EPROTO) are about one connection that is gone (accept(2)).
