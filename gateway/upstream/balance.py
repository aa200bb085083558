"""Which of several servers takes a request: plain functions of who is there, without waiting.

``RoundRobin``        in turn, by weight, spread evenly (smooth, as nginx: a a b a, not a a a b)
``LeastConnections``  fewest requests in flight for its weight; in turn among equals
``PowerOfTwo``        the less busy one of two drawn at random by weight
``Hashed``            the same one for the same client, path, host, header, cookie or parameter

A server's ``share`` is its weight at this moment: less than configured while it starts slowly.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from hashlib import blake2b
from math import log
from typing import Final
from urllib.parse import parse_qsl

from gateway.request import Request

_HASHES: Final = float(2**64)


class Candidate:
    """What choosing needs to know of a server."""

    __slots__ = ("in_flight", "name", "turn", "weight")

    def __init__(self, name: str, weight: float = 1.0) -> None:
        self.name = name
        """Its address: what its hash is made of."""
        self.weight = weight
        self.in_flight = 0
        """Requests that have it now."""
        self.turn = 0.0
        """How much it is its turn (`RoundRobin`)."""

    def share(self, now: float) -> float:
        """Its weight at the clock time *now*, more than 0."""
        return self.weight


class Balance(ABC):
    """A way to choose."""

    __slots__ = ()

    @property
    def binds(self) -> bool:
        """Whether a request belongs to the server that was chosen, and had better wait for it."""
        return False

    @abstractmethod
    def choose(self, servers: Sequence[Candidate], request: Request, now: float) -> Candidate:
        """One of *servers*, of which there is at least one; *now* is the clock time."""


class RoundRobin(Balance):
    """Smooth weighted round-robin: in each round a server gets as many requests as its weight says."""

    __slots__ = ()

    def choose(self, servers: Sequence[Candidate], request: Request, now: float) -> Candidate:
        total = 0.0
        best = servers[0]
        for server in servers:
            share = server.share(now)
            total += share
            server.turn += share
            if server.turn > best.turn:
                best = server
        best.turn -= total
        return best


class LeastConnections(Balance):
    """The one with the fewest requests in flight for its weight."""

    __slots__ = ("_turns",)

    def __init__(self) -> None:
        self._turns = RoundRobin()

    def choose(self, servers: Sequence[Candidate], request: Request, now: float) -> Candidate:
        loads = [server.in_flight / server.share(now) for server in servers]
        least = min(loads)
        idlest = [server for server, load in zip(servers, loads, strict=True) if load == least]
        return idlest[0] if len(idlest) == 1 else self._turns.choose(idlest, request, now)


class PowerOfTwo(Balance):
    """Two at random, the less busy one of them: nearly as even as looking at all, and no herd moves."""

    __slots__ = ("_random",)

    def __init__(self, source: random.Random | None = None) -> None:
        self._random = source or random.Random()  # noqa: S311 - nothing is kept secret by it

    def choose(self, servers: Sequence[Candidate], request: Request, now: float) -> Candidate:
        first = self._draw(servers, now)
        others = [server for server in servers if server is not first]
        if not others:
            return first
        second = self._draw(others, now)
        # One request more would mean: a server of twice the weight takes the first of two.
        load = (second.in_flight + 1) / second.share(now)
        return second if load < (first.in_flight + 1) / first.share(now) else first

    def _draw(self, servers: Sequence[Candidate], now: float) -> Candidate:
        shares = [server.share(now) for server in servers]
        left = self._random.random() * sum(shares)
        for server, share in zip(servers, shares, strict=True):
            left -= share
            if left < 0:
                return server
        return servers[-1]


class HashKey:
    """The part of a request that decides: client, path, host, header.NAME, cookie.NAME or query.NAME."""

    __slots__ = ("_kind", "_name")

    def __init__(self, text: str) -> None:
        self._kind, _, self._name = text.partition(".")

    def of(self, request: Request) -> bytes | None:
        """Its value in *request*; None if the request has none."""
        match self._kind:
            case "client":
                client = request.connection.client
                # The port is another one for each connection; clients on a Unix socket look alike.
                return None if client is None or client[1] is None else client[0].encode()
            case "path":
                return request.path.encode("utf-8", "surrogateescape")
            case "host":
                return request.host.encode("utf-8", "surrogateescape")
            case "header":
                return request.header(self._name.lower().encode())
            case "cookie":
                return cookie_of(request, self._name.encode())
            case _:
                return _parameter_of(request, self._name)


def cookie_of(request: Request, name: bytes) -> bytes | None:
    """The value of the first cookie called *name* (RFC 6265 4.2.1; RFC 9113 8.2.3: in any of the fields)."""
    for field, value in request.headers:
        if field == b"cookie" and name in value:
            for pair in value.split(b";"):
                found, equals, content = pair.strip(b" \t").partition(b"=")
                if equals and found == name:
                    return content
    return None


def _parameter_of(request: Request, name: str) -> bytes | None:
    text = request.query.decode("utf-8", "surrogateescape")
    for found, value in parse_qsl(text, keep_blank_values=True, errors="surrogateescape"):
        if found == name:
            return value.encode("utf-8", "surrogateescape")
    return None


class Hashed(Balance):
    """Rendezvous hashing by weight: when a server comes or goes, only its own keys move.

    A request without the key is nobody's: it goes where the turn is.
    """

    __slots__ = ("_key", "_turns")

    def __init__(self, key: HashKey) -> None:
        self._key = key
        self._turns = RoundRobin()

    @property
    def binds(self) -> bool:
        return True

    def choose(self, servers: Sequence[Candidate], request: Request, now: float) -> Candidate:
        key = self._key.of(request)
        if key is None:
            return self._turns.choose(servers, request, now)
        best, best_score = servers[0], 0.0
        for server in servers:
            score = server.share(now) / -log(_position(key, server.name))
            if score > best_score:
                best, best_score = server, score
        return best


def _position(key: bytes, name: str) -> float:
    """A number between 0 and 1, neither of them, that *key* and *name* decide."""
    hashed = blake2b(key, key=blake2b(name.encode(), digest_size=16).digest(), digest_size=8).digest()
    return (int.from_bytes(hashed, "big") + 0.5) / (_HASHES + 1.0)
