"""The control socket and the listeners of metrics of a supervisor, which answers on them itself.

So the daemon can be asked when no worker serves. What takes long to load is loaded when there is a socket.
"""

from typing import TYPE_CHECKING

import trio

from gateway.supervisor.sockets import Opened

if TYPE_CHECKING:
    from gateway.control.handlers import Daemon
    from gateway.listener import ListeningSocket
    from gateway.router import Router


class ControlService:
    """`run` answers on those that `open` names, which may be called again."""

    def __init__(self, daemon: "Daemon") -> None:
        self._daemon = daemon
        self._nursery: trio.Nursery | None = None
        self._open: dict[ListeningSocket, trio.CancelScope] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    def open(self, opened: Opened) -> None:
        """Serve these, and no others any more."""
        wanted = {*opened.control, *opened.metrics}
        for listening in self._open.keys() - wanted:
            self._open.pop(listening).cancel()
        if not wanted - self._open.keys():
            return
        assert self._nursery is not None
        from gateway.control.handlers import control_router, metrics_router

        for sockets, router in ((opened.control, control_router), (opened.metrics, metrics_router)):
            for listening in set(sockets) - self._open.keys():
                self._open[listening] = scope = trio.CancelScope()
                self._nursery.start_soon(self._serve, listening, router(self._daemon), scope)

    async def _serve(self, listening: "ListeningSocket", router: "Router", scope: trio.CancelScope) -> None:
        from gateway.front.entrance import Entrance
        from gateway.front.service import Limits, Service, Timeouts
        from gateway.listener import accept
        from gateway.net.pump import Pump

        async with trio.open_nursery() as pumping:
            pump = Pump()
            await pumping.start(pump.run)
            entrance = Entrance(Service(pump, router, Timeouts(), Limits()))
            async with trio.open_nursery() as connections:
                with scope:
                    await accept(listening, lambda sock: connections.start_soon(entrance.serve, sock))
                entrance.drain()  # who has asked for the reload that closes this is answered
            pumping.cancel_scope.cancel()
