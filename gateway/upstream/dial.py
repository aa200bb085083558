"""Connecting to a backend within a deadline, failures named."""

import errno
import os
import socket
from typing import Final

import trio

from gateway.address import TcpAddress, UnixAddress
from gateway.errors import BackendError, Cause, Phase
from gateway.pump import Pump, PumpStream

_BUSY_RETRY: Final = 0.005
"""First pause, in seconds, when a Unix socket's backlog is full; doubled up to the deadline."""


SocketAddress = UnixAddress | TcpAddress


class Dialer:
    """Connects to one address for one backend."""

    __slots__ = ("_backend", "_pump", "_timeout", "address")

    def __init__(self, pump: Pump, address: SocketAddress, *, backend: str, timeout: float) -> None:
        self._pump = pump
        self._backend = backend
        self._timeout = timeout
        self.address = address

    async def dial(self) -> PumpStream:
        """A new connection.

        Raises BackendError (phase connect): REFUSED, UNREACHABLE, UNKNOWN_HOST, CONNECT_TIMEOUT.
        """
        deadline = trio.current_time() + self._timeout
        address = self.address
        if isinstance(address, UnixAddress):
            return await self._dial_unix(address.path, deadline)
        failure: BackendError | None = None
        for family, sockaddr in await self._resolve(address):
            try:
                return await self._dial_tcp(family, sockaddr, deadline)
            except BackendError as error:
                failure = error
        assert failure is not None
        raise failure

    async def _resolve(self, address: TcpAddress) -> list[tuple[int, tuple[str, int]]]:
        """Numeric addresses at once, names in a thread."""
        try:
            found = socket.getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
        except socket.gaierror:
            try:
                with trio.fail_after(self._timeout):
                    found = await trio.to_thread.run_sync(
                        lambda: socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM),
                        abandon_on_cancel=True,
                    )
            except trio.TooSlowError as late:
                raise self._failed(Cause.CONNECT_TIMEOUT, "the name was not resolved in time") from late
            except socket.gaierror as unknown:
                raise self._failed(
                    Cause.UNKNOWN_HOST, f"cannot resolve the name: {unknown.strerror}"
                ) from unknown
        return [(int(family), (str(to[0]), int(to[1]))) for family, _, _, _, to in found]

    async def _dial_unix(self, path: str, deadline: float) -> PumpStream:
        pause = _BUSY_RETRY
        while True:
            sock = self._socket(socket.AF_UNIX)
            sock.setblocking(False)
            try:
                sock.connect(path)
            except BlockingIOError as full:
                sock.close()
                # unix(7): the listener's backlog is full. There is nothing to wait on.
                if trio.current_time() + pause >= deadline:
                    raise self._failed(Cause.CONNECT_TIMEOUT, "the backlog stayed full") from full
                await trio.sleep(pause)  # noqa: TID251 - back-off: the kernel gives no event
                pause = min(2 * pause, 0.1)
            except OSError as error:
                sock.close()
                raise self._from_errno(error.errno) from error
            else:
                return self._pump.attach(sock)

    async def _dial_tcp(self, family: int, sockaddr: tuple[str, int], deadline: float) -> PumpStream:
        sock = self._socket(family)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = self._pump.attach(sock)
        try:
            code = sock.connect_ex(sockaddr)
            if code == errno.EINPROGRESS:
                # To this machine itself it is done by now: the answer came while the call held the socket. To
                # ask costs a third of waiting for the event.
                code = sock.connect_ex(sockaddr)
            if code == errno.EALREADY:
                stream.write_deadline = deadline
                await stream.wait_writable()
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise self._from_errno(code)  # noqa: TRY301
        except trio.TooSlowError as error:
            stream.close()
            raise self._failed(Cause.CONNECT_TIMEOUT, "the connection was not accepted in time") from error
        except BaseException:
            stream.close()
            raise
        return stream

    def _socket(self, family: int) -> socket.socket:
        try:
            return socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:  # no descriptor is left
            raise self._from_errno(error.errno) from error

    def _from_errno(self, code: int | None) -> BackendError:
        cause = Cause.REFUSED if code in (errno.ECONNREFUSED, errno.ENOENT) else Cause.UNREACHABLE
        if code == errno.ETIMEDOUT:
            cause = Cause.CONNECT_TIMEOUT
        return self._failed(cause, os.strerror(code or 0), code)

    def _failed(self, cause: Cause, detail: str, code: int | None = None) -> BackendError:
        return BackendError(
            cause, detail, backend=self._backend, address=str(self.address), phase=Phase.CONNECT, errno=code
        )
