"""One CONNECT: its target is checked, looked up, checked again and dialed; then bytes go both ways.

Promises: nobody is connected to who is not allowed, and 200 is not said before the target has taken the
connection. What the client has sent behind its head goes to the target or to nobody. An end of one side is
passed on, and the other may go on sending; a reset of one side becomes one on the other (RFC 9113 8.5).
"""

import re
from collections.abc import Sequence
from typing import Final

import trio

from gateway.connect.allowed import AllowedTargets
from gateway.errors import BackendError, Cause, Phase, ProhibitedAddress, RequestError, TargetError
from gateway.net.address import TcpAddress
from gateway.net.pump import Pump
from gateway.net.resolver import ResolveError, Resolver
from gateway.net.stream import PumpStream
from gateway.networks import parse_address
from gateway.request import Request, Responder
from gateway.upstream.dial import Dialer
from gateway.upstream.tunnel import Tunnel

# What can be looked up. The grammar of URIs lets more through (RFC 3986 3.2.2) that is not for resolvers.
# RFC 1035 2.3.4: 63 bytes in a label, 255 on the wire.
_NAME: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_LONGEST_NAME: Final = 253

_MOST_ADDRESSES: Final = 8
"""Addresses of one name that are tried. Larger sites have as many, and each gets a share of the time."""


class Connect:
    """Opens tunnels for clients. Implements `backend.Handler`."""

    def __init__(
        self, allowed: AllowedTargets, *, pump: Pump, resolver: Resolver, timeout: float, idle: float
    ) -> None:
        """*timeout* seconds are for the lookup and the connection, in all; *idle* seconds without a byte
        either way end a tunnel.
        """
        self._allowed = allowed
        self._pump = pump
        self._resolver = resolver
        self._timeout = timeout
        self._idle = idle

    async def handle(self, request: Request, responder: Responder) -> None:
        """Connect, accept, copy. Raises RequestError, TargetError, ClientGone."""
        upgrade = request.upgrade
        assert upgrade is not None, "the router lets nothing but CONNECT through"
        target = _target_of(request)
        stream = await self._connect(target, request)
        try:
            duplex = await upgrade.accept([])
            await Tunnel(duplex, stream, pump=self._pump, idle=self._idle).run(b"")
        except trio.BrokenResourceError as broken:
            raise TargetError(
                Cause.TERMINATED,
                str(broken),
                backend=str(target),
                address=request.upstream_address,
                phase=Phase.BODY,
            ) from broken
        except BaseException:
            # RFC 9113 8.5: what breaks on the client's side is no end either.
            stream.reset_on_close()
            raise
        finally:
            stream.close()

    async def _connect(self, target: TcpAddress, request: Request) -> PumpStream:
        """A connection to the first of its addresses that takes one. Each has its share of the time."""
        deadline = trio.current_time() + self._timeout
        hosts = await self._hosts(target, deadline)
        hosts = self._without_itself(target, hosts, request)[:_MOST_ADDRESSES]
        failure: BackendError | None = None
        for position, host in enumerate(hosts):
            seconds = (deadline - trio.current_time()) / (len(hosts) - position)
            dialer = Dialer(self._pump, target, backend=str(target), timeout=seconds, hosts=[host])
            request.upstream_address = dialer.name
            request.tries += 1
            try:
                return await dialer.dial()
            except BackendError as error:
                failure = error
        assert failure is not None, "there is one address at least"
        raise failure.another(TargetError) from failure

    async def _hosts(self, target: TcpAddress, deadline: float) -> Sequence[str]:
        """The addresses of *target* that may be connected to. Raises RequestError (403), TargetError."""
        allowed = self._allowed
        if target.numeric:
            found: Sequence[str] = [target.host]
        elif allowed.may_have(target.host, target.port):
            found = await self._look_up(target, deadline)
        else:
            found = []
        hosts = [host for host in found if allowed.has(target.host, host, target.port)]
        if hosts:
            return hosts
        if target.numeric or not found:
            raise RequestError(403, "this server does not connect to that target")
        raise ProhibitedAddress("this server does not connect to the addresses of that target", found)

    async def _look_up(self, target: TcpAddress, deadline: float) -> Sequence[str]:
        with trio.CancelScope(deadline=deadline):
            try:
                answer = await self._resolver.find(target)
            except ResolveError as error:
                raise _unreachable(target, Cause.UNKNOWN_HOST, str(error)) from error
            if not answer.servers:
                raise _unreachable(target, Cause.UNKNOWN_HOST, "there is no such name")
            return [host for server in answer.servers for host in server.hosts]
        raise _unreachable(target, Cause.CONNECT_TIMEOUT, "the name was not resolved in time")

    def _without_itself(self, target: TcpAddress, hosts: Sequence[str], request: Request) -> Sequence[str]:
        """*hosts* but for the listener that *request* came in by. Raises TargetError if there is no other."""
        server = request.connection.server
        if server is None or server[1] != target.port:
            return hosts
        here = parse_address(server[0])
        others = [host for host in hosts if parse_address(host) != here]
        if not others:
            raise _unreachable(target, Cause.LOOP, "this is where the request came in")
        return others


def _target_of(request: Request) -> TcpAddress:
    """Raises RequestError (400) for what is no name and no address."""
    # The front lets nothing through that is not a host and a port.
    host, _, port = request.raw_path.decode("ascii").lower().rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    target = TcpAddress(host.removesuffix("."), int(port))
    if target.numeric:
        return TcpAddress(str(parse_address(target.host)), target.port)
    if not _NAME.fullmatch(target.host) or len(target.host) > _LONGEST_NAME:
        raise RequestError(400, "the target of CONNECT is neither a name nor an address")
    return target


def _unreachable(target: TcpAddress, cause: Cause, detail: str) -> TargetError:
    return TargetError(cause, detail, backend=str(target), address=str(target), phase=Phase.CONNECT)
