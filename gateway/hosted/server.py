"""The process of an application: accepts on the sockets that it inherits, until it is to stop.

Signals: SIGTERM, SIGINT, SIGQUIT and SIGHUP stop it. It accepts no more then, says so, and serves what it
has; the supervisor bounds the time, and the second of these signals ends it. END_ANNOUNCED and END_URGENT are
the notice that the gateway stops: what runs is told of it, and goes on.

Nothing of a client is bounded here: the gateway has done that, and is the only one who connects.
"""

import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from math import inf
from typing import Final

import trio

from gateway.appserver.listener import LINGER, take_listener
from gateway.appserver.report import END_ANNOUNCED, END_URGENT, Report
from gateway.front.entrance import Entrance
from gateway.front.service import Limits, Service, Timeouts
from gateway.hosted.inside import Inside
from gateway.hosted.options import Hosted
from gateway.listener import ListeningSocket, accept
from gateway.net.pump import Pump
from gateway.router import Route, Router
from gateway.runtime import forked
from gateway.runtime.upkeep import begin_upkeep
from gateway.shutdown.notice import ShutdownNotice
from gateway.shutdown.signals import open_stop_signals

_ANY: Final = 2**62
"""Bytes: as many as it likes."""

_TIMEOUTS: Final = Timeouts(
    handshake=inf,
    header=inf,
    body=inf,
    send=inf,
    keep_alive=inf,
    tunnel=inf,
    stopping=inf,
)
_LATER: Final = 1.0
"""Seconds: the gateway, which has told that the client has gone, gives up first."""
_LIMITS: Final = Limits(headers=2**26, body=_ANY, min_rate=0)
"""The request as it is told takes up to six times the bytes that its client has sent."""


async def run(hosted: Hosted, name: str, report: Report, own: int | None) -> None:
    """Start the application, serve until a signal comes, stop it. Raises StartError (in groups).

    *own* is the descriptor of the socket that no other process accepts on, if there is one.
    """
    pump = Pump()
    with (
        ExitStack() as stack,
        open_stop_signals(END_ANNOUNCED, END_URGENT) as signals,
    ):
        socks = [
            stack.enter_context(socket.socket(fileno=descriptor))
            for descriptor in (take_listener(), own)
            if descriptor is not None
        ]
        forked.listening.update(socks)  # the application may fork as it is loaded
        async with trio.open_nursery() as pumping:
            await pumping.start(pump.run)
            notice = ShutdownNotice()
            backend = hosted.make_backend(name, pump, notice)
            inside = Inside(backend, report.request_ended)
            timeouts = replace(_TIMEOUTS, disconnect_grace=hosted.disconnect_grace + _LATER)
            service = Service(pump, Router([Route(inside)]), timeouts, _LIMITS)
            server = Server(service, report, notice)
            async with trio.open_nursery() as watching:
                watching.start_soon(server.heed, signals)
                async with trio.open_nursery() as backends:
                    with server.starting:
                        await backends.start(backend.run)
                    if not server.stopping.is_set():
                        await begin_upkeep(watching, blocked_after=hosted.blocked_after)
                        await server.serve(socks)
                    backends.cancel_scope.cancel()
                watching.cancel_scope.cancel()
            pumping.cancel_scope.cancel()


class Server:
    """Serves the connections of the gateway, until `heed` is told to stop; *notice* is the application's."""

    def __init__(self, service: Service, report: Report, notice: ShutdownNotice) -> None:
        self._report = report
        self._notice = notice
        self._entrance = Entrance(service, http2=False)
        self._open = 0
        self._none_is_open = trio.Event()
        self._serving = trio.CancelScope()
        self.starting = trio.CancelScope()
        self.stopping = trio.Event()

    async def heed(self, signals: AsyncIterator[int]) -> None:
        """Do what the head of this module says of *signals*."""
        async for number in signals:
            if number == END_ANNOUNCED:
                self._entrance.announce_end()
                self._notice.begin()
            elif number == END_URGENT:
                self._notice.hurry()
            elif self.stopping.is_set():
                self._notice.cut_off()
                self._serving.cancel()
            else:
                self.stopping.set()
                self.starting.cancel()

    async def serve(self, socks: Sequence[socket.socket]) -> None:
        """Accept on *socks* until it is to stop, then serve what there is to its end.

        The first is everybody's; on a second no other process accepts.
        """
        with ExitStack() as stack, self._serving:
            listening = []
            for sock in socks:
                sock.setblocking(False)  # of several processes that are woken for a connection, one gets it
                listening.append(stack.enter_context(closing(ListeningSocket(sock))))
            listening[0].shared = len(listening) > 1
            await self._serve(listening)

    async def _serve(self, listening: Sequence[ListeningSocket]) -> None:
        async with trio.open_nursery() as connections:

            def take(sock: socket.socket) -> None:
                self._open += 1
                connections.start_soon(self._serve_one, sock)

            async with trio.open_nursery() as accepting:
                for each in listening:
                    accepting.start_soon(accept, each, take)
                self._report.ready()
                await self.stopping.wait()
                accepting.cancel_scope.cancel()
            for each in listening[1:]:
                _take_rest(each.sock, take)
            for each in listening:
                each.close()
            self._report.draining()
            # The gateway closes the connections that it does not use, now: so none is lost with a request
            # that is on its way.
            with trio.move_on_after(LINGER):
                if self._open:
                    await self._none_is_open.wait()
            self._notice.hurry()
            # Without a Connection: close of ours, which would end the client's connection, too. The gateway
            # uses none of these again.
            self._entrance.retire()

    async def _serve_one(self, sock: socket.socket) -> None:
        try:
            await self._entrance.serve(sock)
        finally:
            self._open -= 1
            if not self._open and self.stopping.is_set():
                self._none_is_open.set()


def _take_rest(sock: socket.socket, take: Callable[[socket.socket], None]) -> None:
    """Let nobody else connect to *sock*, on which no other process accepts, and take those who have."""
    sock.shutdown(socket.SHUT_RD)  # from now on they are refused, and go to another process
    with suppress(OSError):  # none is left, or there is no descriptor for it
        while True:
            take(sock.accept()[0])
