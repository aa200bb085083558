"""Weighted shares: one route, several backends (nginx: split_clients; Traefik: weighted).

For a new version that is to get a small part of the requests first. By chance, or by a key: who has the same
key stays with the same backend, as long as the shares stay.
"""

import random
from bisect import bisect_right
from collections.abc import Mapping
from hashlib import blake2b
from itertools import accumulate

from gateway.backend import Handler
from gateway.request import Request, Responder
from gateway.template import Template


class Split:
    """Passes each request to one of several handlers."""

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        weights: Mapping[str, int],
        *,
        key: Template | None = None,
    ) -> None:
        """*handlers* by the names of their backends, as *weights*; *key* decides in place of chance."""
        self._choices = [(name, handlers[name]) for name in weights]
        self._bounds = list(accumulate(weights.values()))
        self._key = key

    async def handle(self, request: Request, responder: Responder) -> None:
        name, handler = self._choices[bisect_right(self._bounds, self._point(request))]
        request.backend = name
        await handler.handle(request, responder)

    def _point(self, request: Request) -> int:
        """A number below the sum of the weights."""
        whole = self._bounds[-1]
        if self._key is None:
            return random.randrange(whole)  # noqa: S311 (a share, not a secret)
        key = self._key.render(request).encode("utf-8", "surrogateescape")
        return int.from_bytes(blake2b(key, digest_size=8).digest()) * whole >> 64
