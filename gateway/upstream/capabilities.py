"""What FastCGI applications tell of themselves (FCGI-17), asked over connections of its own.

::

    each server: a connection ─► GET_VALUES ─► an answer, the end, or nothing in time ─► learned
          ▲                                                       │
          └──── `INTERVAL`, or a sign that it was restarted ◄─────┘

Some applications close the connection that they are asked over, loop, or never answer:
nothing else is on that connection, and the wait is bounded. One that does not answer has told nothing, and it
is not asked again unless it may be another one by now: a process of libfcgi serves nobody while it says
nothing. What an application has told holds while it cannot be reached, or is too busy to answer.
"""

from collections.abc import Callable
from typing import Final

import trio

from gateway.errors import BackendError
from gateway.logger import get_logger
from gateway.net.stream import PumpStream
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.fastcgi import GET_CAPABILITIES, Capabilities, FastCgiClient, capabilities_of
from gateway.upstream.group import ServerGroup, watch_each
from gateway.upstream.server import Server

# Not Final: compiled code would have their values for good, whatever tests set.
PATIENCE: float = 2.0
"""Seconds for an answer, beside those for the connection: it needs no work, only a process that is free."""

FIRST_PAUSE: float = 1.0
"""Seconds from one question to the next at least; doubled while the server cannot be reached."""

INTERVAL: float = 60.0
"""Seconds from one answer to the next question, so that a restart which nobody has noticed, because no
connection was open, counts within a minute. It costs a connection and one record each way."""

_NOTHING_TOLD: Final = Capabilities()

log = get_logger()


class CapabilityProbe:
    """Asks the servers of one backend."""

    __slots__ = ("_backend", "_doubted", "_is_there", "_learned")

    def __init__(
        self,
        backend: str,
        *,
        is_there: Callable[[], bool],
        learned: Callable[[Server, Capabilities], None],
    ) -> None:
        """*is_there*: whether there is anybody to be asked. *learned* is called with what is new."""
        self._backend = backend
        self._is_there = is_there
        self._learned = learned
        self._doubted: dict[Server, trio.Event] = {}

    def doubt(self, server: Server) -> None:
        """*server* may have been restarted, perhaps as something else: ask again soon."""
        event = self._doubted.get(server)
        if event is not None:
            event.set()

    async def run(self, group: ServerGroup) -> None:
        """Ask all servers of *group*, each as long as it is one, until cancelled."""
        await watch_each(group, self._watch)

    async def _watch(self, server: Server, group: ServerGroup) -> None:
        pause = FIRST_PAUSE
        while server in group.servers:
            doubted = self._doubted[server] = trio.Event()
            told: Capabilities | None = None
            reached = False
            if self._is_there() and server.makes_room():
                try:
                    stream = await server.dialer.dial()
                except BackendError:
                    pass  # whoever has a request for it is told
                else:
                    reached = True
                    told = await self._ask(stream)
            if told is not None and told != server.told:
                log.info(
                    "application capabilities",
                    backend=self._backend,
                    address=server.name,
                    connections=told.connections,
                    requests=told.requests,
                    multiplexes=told.multiplexes,
                )
                self._learned(server, told)
            if not reached:
                await trio.sleep(pause)  # noqa: TID251 - the clock of the questions
                pause = min(2 * pause, INTERVAL)
            elif told is None or told == _NOTHING_TOLD:
                pause = FIRST_PAUSE
                await trio.sleep(INTERVAL)  # noqa: TID251
                await doubted.wait()
            else:
                pause = FIRST_PAUSE
                with trio.move_on_after(INTERVAL):
                    await doubted.wait()
                    await trio.sleep(FIRST_PAUSE)  # noqa: TID251
        self._doubted.pop(server, None)

    async def _ask(self, stream: PumpStream) -> Capabilities | None:
        """What the application tells; None if it says nothing for a while, which a busy one does too."""
        codec = FastCgiClient()
        stream.read_deadline = stream.write_deadline = trio.current_time() + PATIENCE
        try:
            await stream.send_all(GET_CAPABILITIES)
            while codec.values is None:
                data = await stream.receive_some()
                codec.receive_data(data)
                codec.next_event()
                if not data:
                    break
        except trio.TooSlowError:
            return None
        except (trio.BrokenResourceError, RemoteProtocolError):
            return _NOTHING_TOLD
        finally:
            stream.close()
        return capabilities_of(codec.values or {})
