"""Connecting to a backend within a deadline, and agreeing with it on TLS if it wants that; failures named."""

import errno
import os
import socket
from collections.abc import Sequence
from ssl import SSLCertVerificationError, SSLError
from typing import Final, TypeAlias

import trio

from gateway.errors import BackendError, Cause, Phase
from gateway.net.address import ServiceAddress, TcpAddress, UnixAddress
from gateway.net.pump import Pump
from gateway.net.stream import PumpStream
from gateway.request import Request
from gateway.runtime.exhaustion import EXHAUSTED
from gateway.tls.client import ServerTls
from gateway.tls.errors import NotTlsError
from gateway.tls.stream import TlsStream, is_alert, reason_of
from gateway.upstream.proxy_header import ProxyVersion, proxy_header

_BUSY_RETRY: Final = 0.005
"""First pause, in seconds, when a Unix socket's backlog is full; doubled up to the deadline."""

SocketAddress = UnixAddress | TcpAddress | ServiceAddress

Target: TypeAlias = str | tuple[int, tuple[str, int]]
"""A path, or an address family with a numeric address and port."""


class Dialer:
    """Connects to one address for one backend."""

    __slots__ = (
        "_backend",
        "_proxy_version",
        "_pump",
        "_timeout",
        "_tls",
        "address",
        "name",
        "targets",
        "unknown",
    )

    def __init__(
        self,
        pump: Pump,
        address: SocketAddress,
        *,
        backend: str,
        timeout: float,
        tls: ServerTls | None = None,
        proxy_version: ProxyVersion | None = None,
        hosts: Sequence[str] = (),
        unknown: str = "nobody has looked",
    ) -> None:
        """*timeout* seconds are for a connection in all, with the handshake of *tls*.

        *proxy_version*: connections begin with a PROXY header of that version. *hosts* are the numeric
        addresses behind the name in *address*; *unknown* says why there is none.
        """
        self._proxy_version: ProxyVersion | None = proxy_version
        self._pump = pump
        self._backend = backend
        self._timeout = timeout
        self._tls = tls
        self.address = address
        """As it was configured: what TLS and Host call the server."""
        self.unknown = unknown
        self.name = str(address)
        """What tells it from others; numeric, if a name stands for several."""
        self.targets: tuple[Target, ...] = ()
        if isinstance(address, TcpAddress):
            if not hosts and address.numeric:
                hosts = [address.host]
            elif len(hosts) == 1:
                self.name = str(TcpAddress(hosts[0], address.port))
            self.targets = tuple(_target(host, address.port) for host in hosts)
        elif isinstance(address, UnixAddress):
            self.targets = (address.path,)

    @property
    def secure(self) -> bool:
        """Whether connections are by TLS."""
        return self._tls is not None

    @property
    def authority(self) -> bytes:
        """The address as the value of a Host field (RFC 9110 7.2); ``localhost`` for a Unix socket."""
        address = self.address
        if isinstance(address, UnixAddress):
            return b"localhost"
        if isinstance(address, ServiceAddress):
            return address.name.encode()  # no server is known yet
        text = str(address)
        return text.removesuffix(":80" if self._tls is None else ":443").encode()

    async def dial(self, request: Request | None = None) -> PumpStream:
        """A new connection, for *request* if it is for one.

        Raises BackendError (phase connect): REFUSED, UNREACHABLE, UNKNOWN_HOST, CONNECT_TIMEOUT, TLS_FAILED,
        TLS_ALERT, BAD_CERTIFICATE; OVERLOADED if the gateway has no descriptor, watch or memory left.
        """
        # A server on this machine is woken by each connection, unless they come together. The first write
        # follows each at once: who is woken by a connection finds the request there.
        await self._pump.after_batch()
        deadline = self._pump.time() + self._timeout
        stream = await self._connect(deadline)
        try:
            if self._proxy_version is not None:
                # PP-10: first of all, and TLS behind it. A fresh connection has room for it.
                stream.try_send(proxy_header(self._proxy_version, request))
            if isinstance(stream, TlsStream):
                await self._agree(stream, deadline)
        except trio.BrokenResourceError as error:
            stream.close()
            raise self._failed(Cause.TERMINATED, str(error)) from error
        except BaseException:
            stream.close()
            raise
        return stream

    async def _connect(self, deadline: float) -> PumpStream:
        address = self.address
        if isinstance(address, UnixAddress):
            pause = _BUSY_RETRY
            while (stream := self._connect_unix(address.path)) is None:
                # unix(7): the listener's backlog is full. There is nothing to wait on.
                if self._pump.time() + pause >= deadline:
                    raise self._failed(Cause.CONNECT_TIMEOUT, "the backlog stayed full")
                await trio.sleep(pause)  # noqa: TID251 - back-off: the kernel gives no event
                pause = min(2 * pause, 0.1)
            return stream
        failure: BackendError | None = None
        for target in self.targets:
            assert not isinstance(target, str)
            try:
                return await self._dial_tcp(*target, deadline)
            except BackendError as error:
                failure = error
        raise failure or self._failed(Cause.UNKNOWN_HOST, f"cannot resolve the name: {self.unknown}")

    def _connect_unix(self, path: str) -> PumpStream | None:
        """A connection, which is made at once, or None if the backlog is full."""
        sock = self._socket(socket.AF_UNIX)
        try:
            sock.connect(path)
        except BlockingIOError:
            sock.close()
            return None
        except OSError as error:
            sock.close()
            raise self._from_errno(error.errno) from error
        return self._attach(sock)

    async def _dial_tcp(self, family: int, sockaddr: tuple[str, int], deadline: float) -> PumpStream:
        sock = self._socket(family)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = self._attach(sock)
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
            if not code and sock.getsockname()[:2] == sockaddr:
                # RFC 9293 3.5: nobody listens, and the port that the kernel has chosen for this end is the
                # server's own. It would hear itself, and the server could not be started while it lasts.
                stream.reset_on_close()
                code = errno.ECONNREFUSED
            if code:
                raise self._from_errno(code)  # noqa: TRY301
        except trio.TooSlowError as error:
            stream.close()
            raise self._failed(Cause.CONNECT_TIMEOUT, "the connection was not accepted in time") from error
        except trio.BrokenResourceError as broken:  # the kernel cannot watch any more
            stream.close()
            raise self._failed(Cause.OVERLOADED, str(broken)) from broken
        except BaseException:
            stream.close()
            raise
        return stream

    def _attach(self, sock: socket.SocketType) -> PumpStream:
        if self._tls is not None:
            return self._tls.stream(self._pump, sock)
        stream = PumpStream(self._pump, sock)
        stream.expect_answer()
        return stream

    async def _agree(self, stream: TlsStream, deadline: float) -> None:
        """The TLS handshake, which nothing of a request has to do with yet."""
        assert self._tls is not None
        try:
            # All of its records have to be waited for: they are more than one answer.
            stream.watch()
            await stream.handshake(deadline - self._pump.time())
        except NotTlsError as other:
            raise self._failed(Cause.TLS_FAILED, "the server does not speak TLS") from other
        except SSLCertVerificationError as bad:
            raise self._failed(Cause.BAD_CERTIFICATE, bad.verify_message.removesuffix(".")) from bad
        except SSLError as error:
            cause = Cause.TLS_ALERT if is_alert(error) else Cause.TLS_FAILED
            raise self._failed(cause, reason_of(error)) from error
        except trio.TooSlowError as late:
            raise self._failed(Cause.CONNECT_TIMEOUT, "the TLS handshake was not done in time") from late
        except trio.BrokenResourceError as broken:
            raise self._failed(Cause.TLS_FAILED, f"TLS handshake: {broken}") from broken
        self._tls.agreed(stream)

    def _socket(self, family: int) -> socket.SocketType:
        try:
            # Not socket.socket, which adds nothing that is needed here, in slow Python.
            return socket.SocketType(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:  # no descriptor is left
            raise self._from_errno(error.errno) from error

    def _from_errno(self, code: int | None) -> BackendError:
        cause = Cause.REFUSED if code in (errno.ECONNREFUSED, errno.ENOENT) else Cause.UNREACHABLE
        if code == errno.ETIMEDOUT:
            cause = Cause.CONNECT_TIMEOUT
        elif code in EXHAUSTED:
            cause = Cause.OVERLOADED
        return self._failed(cause, os.strerror(code or 0), code)

    def _failed(self, cause: Cause, detail: str, code: int | None = None) -> BackendError:
        return BackendError(
            cause, detail, backend=self._backend, address=self.name, phase=Phase.CONNECT, errno=code
        )


def _target(host: str, port: int) -> Target:
    return (socket.AF_INET6 if ":" in host else socket.AF_INET, (host, port))
