"""Request bodies that can be sent a second time."""

from typing import Final

from gateway.protocols.events import Headers
from gateway.request import PIECE, Body
from gateway.spool import Spooled

KEPT_BYTES: Final = 64 * 1024
"""A body up to this size is kept while it is sent: one read's worth, and what goes out with the head."""


class KeptBody:
    """A small body of known length that remembers what was read of it. Implements `request.Body`."""

    __slots__ = ("_body", "_kept", "_position", "length")

    def __init__(self, body: Body) -> None:
        self._body = body
        self._kept: list[bytes] = []
        self._position = 0
        self.length = body.length

    @property
    def trailers(self) -> Headers:
        return self._body.trailers

    def read_nowait(self, most: int = PIECE) -> bytes | None:
        if self._position < len(self._kept):
            return self._again()
        return self._keep(self._body.read_nowait(most))

    async def read(self) -> bytes:
        if self._position < len(self._kept):
            return self._again()
        piece = await self._body.read()
        self._keep(piece)
        return piece

    def rewind(self) -> None:
        """Begin again."""
        self._position = 0

    def _again(self) -> bytes:
        self._position += 1
        return self._kept[self._position - 1]

    def _keep(self, piece: bytes | None) -> bytes | None:
        if piece:
            self._kept.append(piece)
            self._position += 1
        return piece


def keep(body: Body) -> Body:
    """What stands for *body* from now on: if it is small, one that can be rewound."""
    length = body.length
    if not length or length > KEPT_BYTES or can_rewind(body):
        return body
    return KeptBody(body)


def can_rewind(body: Body) -> bool:
    """Whether *body* can be sent again from its beginning."""
    return body.length == 0 or isinstance(body, Spooled | KeptBody)


def rewind(body: Body) -> None:
    """Begin again, if that is possible."""
    if isinstance(body, Spooled | KeptBody):
        body.rewind()
