"""In the process of an application: each request as the gateway has told it, and failures told back."""

from collections.abc import Callable

from gateway.backend import Handler
from gateway.errors import BackendError, RequestError
from gateway.hosted.told import CONNECTION, FAILED, FAILURE, REQUEST, connection_of, restore, told_failure
from gateway.request import Request, Responder, respond


class Inside:
    """Hands requests to *handler*; *ended* is called after each."""

    def __init__(self, handler: Handler, ended: Callable[[], None]) -> None:
        self._handler = handler
        self._ended = ended

    async def handle(self, request: Request, responder: Responder) -> None:
        told, connection = request.header(REQUEST), request.header(CONNECTION)
        if told is None or connection is None:
            raise RequestError(400, "this is for the gateway's own requests")
        request.connection = connection_of(connection)
        restore(request, told)
        try:
            await self._handler.handle(request, responder)
        except (BackendError, RequestError) as error:
            if not responder.withdraw():
                raise
            await respond(responder, FAILED, [(FAILURE, told_failure(error, request))])
        finally:
            self._ended()
