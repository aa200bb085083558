"""Which request bodies a backend takes: how large, and what happens to those of unknown length.

One decision for CGI, FastCGI, SCGI, uwsgi and WSGI, whose applications want CONTENT_LENGTH before the first
byte (CGI-5): a body of unknown length (chunked, HTTP/2) is stored first, passed on as it comes, or refused.
Whatever is chosen, no application sees more than ``max_body`` bytes.
"""

from gateway.errors import RequestError
from gateway.protocols.events import Headers
from gateway.request import PIECE, Body
from gateway.spool import BodyPolicy, Spooled, spool, too_large


class BodyIntake:
    """The rules of one *backend*. *spool_memory* and *max_body* are in bytes."""

    __slots__ = ("_backend", "_max_body", "_memory", "_policy")

    def __init__(self, backend: str, policy: BodyPolicy, *, spool_memory: int, max_body: int) -> None:
        self._backend = backend
        self._policy = policy
        self._memory = spool_memory
        self._max_body = max_body

    def take(self, body: Body) -> Body | None:
        """*body* as it may be passed on; None if it has to be stored before, by `store`.

        Raises RequestError 411 and 413.
        """
        length = body.length
        if length is not None:
            if length > self._max_body:
                raise RequestError(
                    413, f"the request body is larger than {self._max_body} bytes", setting="max_body"
                )
            return body
        if self._policy == "stream":
            return BoundedBody(body, self._max_body)
        if self._policy == "reject":
            # RFC 9112 6.3: the refusal says why and what to change.
            raise RequestError(
                411,
                f"backend {self._backend} needs the length of the request body: "
                "send Content-Length, or configure `body: spool`",
            )
        return None

    async def store(self, body: Body) -> Spooled:
        """The whole of *body*, with its length; close it. Raises as `gateway.spool.spool` does."""
        # CGI-27: without CONTENT_LENGTH these applications see no body.
        return await spool(body, memory=self._memory, max_body=self._max_body)


class BoundedBody:
    """A body of unknown length that ends with RequestError 413 beyond *max_body* bytes."""

    __slots__ = ("_body", "_room", "_size", "length")

    def __init__(self, body: Body, max_body: int) -> None:
        self.length: int | None = None
        self._body = body
        self._size = max_body
        self._room = max_body

    @property
    def trailers(self) -> Headers:
        return self._body.trailers

    def read_nowait(self, most: int = PIECE) -> bytes | None:
        piece: bytes | None = self._body.read_nowait(most)
        return piece if piece is None else self._counted(piece)

    async def read(self) -> bytes:
        return self._counted(await self._body.read())

    def _counted(self, piece: bytes) -> bytes:
        self._room -= len(piece)
        if self._room < 0:
            raise too_large(self._size)
        return piece
