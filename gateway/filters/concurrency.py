"""How many requests an application has at the same time (uvicorn: limit_concurrency); the rest waits."""

from gateway.backend import Handler
from gateway.request import Request, Responder
from gateway.slots import Slots


class ConcurrencyFilter:
    """Lets no more than *slots* allow reach *handler*; *address* is what it runs, for the errors.

    A connection that was upgraded has its place until it ends.
    """

    def __init__(self, handler: Handler, *, slots: Slots, address: str) -> None:
        self._handler = handler
        self._slots = slots
        self._address = address

    async def handle(self, request: Request, responder: Responder) -> None:
        """Raises BackendError (503) if there is no place in time."""
        await self._slots.enter(self._address)
        try:
            await self._handler.handle(request, responder)
        finally:
            self._slots.leave()
