"""Where an application listens.

`SharedSocket` is the gateway's: a Unix socket in a private directory, on which any number of processes accept
as their descriptor 0 (FastCGI 2.2; SCGI and uwsgi applications take it so too, and HTTP servers that can be
told a descriptor). While a process is being replaced, connections wait in its backlog.

`ProcessSocket` is one process's alone, beside that: of our own server for Python applications, when there are
several processes of it (`gateway.hosted`).

`OwnSocket` is opened by the program itself, which learns where by ``{socket}`` or ``{port}`` in its command
or environment, or knows it from its own configuration. It is ready when it accepts.
"""

import contextlib
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from gateway.errors import StartError
from gateway.net.address import TcpAddress, UnixAddress
from gateway.programs.confinement import User
from gateway.spawn.home import home, new_home
from gateway.spawn.turn import turn_at

BACKLOG: Final = 4096
"""Connections that may wait for a process; the kernel cuts it to net.core.somaxconn."""

FIRST_PROBE: Final = 0.01
LAST_PROBE: Final = 0.25
"""Seconds between two looks whether a program accepts on a socket of its own: the first, doubled up to the
last."""

_SOCKET: Final = "{socket}"
_PORT: Final = "{port}"


class SharedSocket:
    """Open while `opened` is entered; ``descriptor`` is what processes get as their descriptor 0."""

    def __init__(self) -> None:
        # Known before it exists, so that backends can be built first.
        self._home = new_home()
        self.address = UnixAddress(os.path.join(self._home, "app.sock"))
        self._bound = os.path.join(self._home, "bound.sock")
        self._count = 0
        self.descriptor = -1

    def fill(self, word: str) -> str:
        return word

    @contextlib.contextmanager
    def opened(self, backend: str, user: User | None = None) -> Iterator[None]:
        """Raises StartError if it cannot be opened. Who *user* is does not matter: processes inherit it."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(home(self._home))
                listener = stack.enter_context(socket.socket(socket.AF_UNIX))
                # Under a second name: there are programs that remove the socket as they end (gunicorn).
                listener.bind(self._bound)
                os.link(self._bound, self.address.path)
                listener.listen(BACKLOG)
            except OSError as error:
                raise StartError(f"backend {backend}: no socket at {self.address.path}: {error}") from error
            self.descriptor = listener.fileno()
            yield

    def prepare(self) -> None:
        """Before the start of a process: it may expect to find the name that its socket says it has."""
        with contextlib.suppress(OSError):
            os.link(self.address.path, self._bound)

    def for_one(self) -> "ProcessSocket":
        """Another one, for a process that is about to be started. Raises OSError."""
        self._count += 1
        return ProcessSocket(os.path.join(self._home, f"{self._count}.sock"))

    def turn_away(self) -> None:
        """Close the connections that wait for a process: their requests are answered now.

        No process is alive that would share the mode of the socket.
        """
        listener = socket.socket(fileno=self.descriptor)
        blocking = os.get_blocking(self.descriptor)
        listener.setblocking(False)
        try:
            while True:
                listener.accept()[0].close()
        except OSError:
            pass  # none is left, or there is no descriptor for it
        finally:
            os.set_blocking(self.descriptor, blocking)
            listener.detach()


class ProcessSocket:
    """On which one of several processes accepts, beside the shared one. `hand_over` it, and `remove` it in
    the end.
    """

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        self.address = UnixAddress(path)
        self._listener = socket.socket(socket.AF_UNIX)
        try:
            self._listener.bind(path)
            self._listener.listen(BACKLOG)
        except OSError as error:
            self._listener.close()
            # Without a number, which would be taken for what the system says of the program.
            raise OSError(f"no socket at {path}: {error.strerror or error}") from error

    @property
    def descriptor(self) -> int:
        return self._listener.fileno()

    def hand_over(self) -> None:
        """The process has it now, alone: who connects when that has ended is refused at once."""
        self._listener.close()

    def remove(self) -> None:
        """Nobody listens there any more."""
        with contextlib.suppress(OSError):  # its directory may be gone
            os.unlink(self.address.path)


class OwnSocket:
    """At *address*; without one at a path that ``{socket}`` stands for, or a port that ``{port}`` does."""

    def __init__(self, address: UnixAddress | TcpAddress | None = None, *, port: bool = False) -> None:
        self._home: str | None = None
        self._port: int | None = None
        self.descriptor = -1
        """Of the null device: the program's standard input."""
        self.turn = None if address is None else turn_at(address)
        """Where other workers would have it at the same address."""
        if address is None and port:
            with socket.socket() as chosen:
                chosen.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                chosen.bind(("127.0.0.1", 0))
                self._port = chosen.getsockname()[1]
            address = TcpAddress("127.0.0.1", self._port)
        elif address is None:
            self._home = new_home()
            address = UnixAddress(os.path.join(self._home, "app.sock"))
        self.address: UnixAddress | TcpAddress = address

    def fill(self, word: str) -> str:
        """*word* with the address in the place of the placeholders."""
        address = self.address
        if isinstance(address, UnixAddress):
            return word.replace(_SOCKET, address.path)
        return word.replace(_PORT, str(address.port))

    @contextlib.contextmanager
    def opened(self, backend: str, user: User | None = None) -> Iterator[None]:
        """*user* is who the program runs as. Raises StartError if the place cannot be prepared."""
        with contextlib.ExitStack() as stack:
            if self.turn is not None:
                stack.callback(self.turn.release)
            try:
                if self._home is not None:
                    stack.enter_context(home(self._home, user))
                if self._port is not None:
                    # Bound without listening it becomes nobody else's, not even while the program is being
                    # restarted; the program may bind it if it sets SO_REUSEADDR, as servers do (socket(7)).
                    reserved = stack.enter_context(socket.socket())
                    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    reserved.bind(("127.0.0.1", self._port))
                self.descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, self.descriptor)
            except OSError as error:
                raise StartError(f"backend {backend}: no place for {self.address}: {error}") from error
            yield

    def prepare(self) -> None:
        """Before the start of a process: remove the socket that one left behind, as few can bind then."""
        if self._home is not None and isinstance(self.address, UnixAddress):
            with contextlib.suppress(OSError):
                os.unlink(self.address.path)

    def accepts(self) -> bool:
        """Whether somebody listens there. A connection is made for it, and closed."""
        address = self.address
        family = socket.AF_UNIX if isinstance(address, UnixAddress) else socket.AF_INET
        if isinstance(address, TcpAddress) and ":" in address.host:
            family = socket.AF_INET6
        try:
            with socket.socket(family) as probe:
                # Long enough for this machine; a listener elsewhere is not what has been started here.
                probe.settimeout(0.05)
                probe.connect(
                    address.path if isinstance(address, UnixAddress) else (address.host, address.port)
                )
        except OSError:
            return False
        return True


Endpoint: TypeAlias = SharedSocket | OwnSocket


def endpoint_for(
    command: Sequence[str], env: Mapping[str, str], address: UnixAddress | TcpAddress | None
) -> Endpoint:
    """What a program expects, by its address and by the placeholders in its command and environment."""
    text = "\0".join([*command, *env.values()])
    if address is not None:
        return OwnSocket(address)
    if _SOCKET in text:
        return OwnSocket()
    return OwnSocket(port=True) if _PORT in text else SharedSocket()
