"""The client connections of a worker: accepts them, and ends them when the worker does.

Accepting ends first. A worker that retires keeps idle connections for a moment; then those end at once and
the others with their response, while the grace lasts. Handlers are told by the notice (`shutdown.notice`).
"""

import socket
from collections.abc import Callable
from typing import Final

import trio

from gateway.build import Gateway
from gateway.build.entrances import Door
from gateway.config.clients import ClientTimeouts
from gateway.front.entrance import Entrance
from gateway.listener import ListeningSocket, accept
from gateway.logger import get_logger
from gateway.shutdown.exit import TELL_AFTER
from gateway.shutdown.stages import Ending, Stage

log = get_logger()

_NAMED: Final = 5
"""Requests that are named when they are waited for."""


class Connections:
    """The client connections of a worker."""

    def __init__(self, gateway: Gateway, doors: list[Door], timeouts: ClientTimeouts) -> None:
        self._service = gateway.service
        self._notice = gateway.notice
        self._listening = doors
        # Several sockets, such as one for each family of addresses, may have one.
        self._entrances = list(dict.fromkeys(entrance for _, entrance in doors))
        self._grace = timeouts.shutdown
        # Who is told has as long again to end.
        self._patience = min(timeouts.drain, timeouts.shutdown / 2)
        self._service.caps.make_room = self._end_idle_one

    async def serve(self, ending: Ending, on_ready: Callable[[], object]) -> None:
        """Serve until the end begins; then what runs has the grace, unless it is hurried."""
        async with trio.open_nursery() as waiting:
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as accepting:
                    for listening, entrance in self._listening:
                        accepting.start_soon(self._accept, listening, entrance, connections)
                    on_ready()
                    await ending.reached(Stage.RETIRING)
                    accepting.cancel_scope.cancel()
                for listening, _ in self._listening:
                    listening.close()
                connections.cancel_scope.deadline = trio.current_time() + self._grace
                waiting.start_soon(self._hurry)
                waiting.start_soon(self._end, ending, connections.cancel_scope)
            if connections.cancel_scope.cancelled_caught:
                log.warning("requests were cut off", grace=self._grace)
            waiting.cancel_scope.cancel()

    async def _end(self, ending: Ending, connections: trio.CancelScope) -> None:
        if ending.stage is Stage.RETIRING:
            self._notice.retire()
            self._notice.begin()
            for entrance in self._entrances:
                entrance.retire()
            with trio.move_on_after(min(ending.patience, self._grace)):
                await ending.reached(Stage.DRAINING)
        if self._drain():
            with trio.move_on_after(TELL_AFTER) as silent:
                await ending.reached(Stage.HURRIED)
            if silent.cancelled_caught:
                self._tell_running(connections)
        await ending.reached(Stage.HURRIED)
        connections.cancel()

    async def _hurry(self) -> None:
        """What still runs after a while is told to end, and has the rest of the grace for it."""
        await trio.sleep(self._patience)  # noqa: TID251 - it is a time
        self._notice.hurry()

    def _tell_running(self, connections: trio.CancelScope) -> None:
        requests = [request for entrance in self._entrances for request in entrance.running()]
        if requests:
            log.info(
                "still waiting for requests",
                requests=len(requests),
                oldest=[f"{request.method} {request.path}" for request in requests[:_NAMED]],
                seconds=round(connections.deadline - trio.current_time(), 2),
            )

    def _drain(self) -> int:
        """RFC 9112 9.6, RFC 9113 6.8: idle connections end now, busy ones after their response.

        Returns how many are busy.
        """
        self._notice.begin()
        busy = sum(entrance.drain() for entrance in self._entrances)
        if busy:
            log.info("waiting for requests", connections=busy, seconds=self._grace)
        return busy

    async def _accept(self, listening: ListeningSocket, entrance: Entrance, nursery: trio.Nursery) -> None:
        caps = self._service.caps

        def take(sock: socket.socket) -> None:
            caps.enter()
            nursery.start_soon(self._serve_one, entrance, sock)

        await accept(listening, take, caps)

    async def _serve_one(self, entrance: Entrance, sock: socket.socket) -> None:
        try:
            await entrance.serve(sock)
        finally:
            self._service.caps.leave()

    def _end_idle_one(self) -> None:
        for entrance in self._entrances:
            if entrance.end_idle_one():
                return
