"""Request buffering: the backend hears of a request when its body is here (nginx: proxy_request_buffering).

For applications that serve one request at a time: a client that uploads slowly does not keep one of them.
It is in memory up to a bound, in a temporary file beyond, and its length is known then.
"""

from gateway.backend import Handler
from gateway.protocols.events import Headers
from gateway.request import Request, Responder
from gateway.spool import spool


class RequestBufferingFilter:
    """Reads the whole body before *handler* is asked; *memory* bytes of it stay in memory."""

    def __init__(self, handler: Handler, *, memory: int, max_body: int) -> None:
        self._handler = handler
        self._memory = memory
        self._max_body = max_body

    async def handle(self, request: Request, responder: Responder) -> None:
        """Raises as `gateway.spool.spool` does, besides what the handler raises."""
        if request.body.length == 0:
            await self._handler.handle(request, responder)
            return
        with await spool(request.body, memory=self._memory, max_body=self._max_body) as spooled:
            if request.body.length is None:
                request.headers = _with_length(request.headers, spooled.length)
            request.body = spooled
            await self._handler.handle(request, responder)


def _with_length(headers: Headers, length: int) -> Headers:
    # RFC 9112 6.2: the one or the other. Backends that frame the body themselves do not look at either, but
    # ASGI applications see the fields as they are, and some of them read no body that has no length.
    kept = [field for field in headers if field[0] != b"transfer-encoding"]
    return [*kept, (b"content-length", b"%d" % length)]
