"""The part of the configuration that backends behind sockets have in common: their servers, how one is
chosen, what is kept open, and what happens when one fails.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from gateway.config.base import Model, Place, pointless, queue_contradictions, written
from gateway.config.server_tls import TlsOrFlag
from gateway.config.values.addresses import ADDRESS_SCHEMA, ConnectServer, ServerAddress, ServerUrl
from gateway.config.values.numbers import Count, CountOrNone, ErrorStatus, Flag, Tries
from gateway.config.values.quantities import Duration, Part, Timeout
from gateway.config.values.requests import CheckHost, CheckTarget, CookieName, HashKey, Method, Statuses
from gateway.config.values.shapes import AtLeastOne, Many, Short
from gateway.config.values.texts import Secret
from gateway.config.wording import show

# ---- servers


class Server(Model):
    """One of several servers of a backend."""

    address: ConnectServer
    """Where it listens. A name, or srv: and the name of SRV records, may stand for several."""
    weight: Count = 1
    """Its share of the requests, compared with the others."""
    backup: Flag = False
    """true: it gets requests only while no other server can be had."""


class HTTPServer(Model):
    """One of several web servers of a backend."""

    origin: ServerUrl = Field(alias="url")
    """Its URL without a path; https for TLS. A name, or srv: and the name of SRV records, may stand for
    several."""
    weight: Count = 1
    """Its share of the requests, compared with the others."""
    backup: Flag = False
    """true: it gets requests only while no other server can be had."""

    @property
    def address(self) -> ServerAddress:
        """Where it listens."""
        return self.origin.address


def _address_only(value: Any) -> Any:
    return value if isinstance(value, dict | Model) else {"address": value}


def _url_only(value: Any) -> Any:
    return value if isinstance(value, dict | Model) else {"url": value}


_URL: Any = {"type": "string", "examples": ["http://127.0.0.1:3000", "http://unix:/run/app.sock"]}

Servers: TypeAlias = Annotated[
    tuple[Annotated[Server, Short(_address_only, ADDRESS_SCHEMA)], ...], AtLeastOne(), Many()
]
HTTPServers: TypeAlias = Annotated[
    tuple[Annotated[HTTPServer, Short(_url_only, _URL)], ...], AtLeastOne(), Many()
]


def server_contradictions(key: str, value: Any) -> Iterator[tuple[Place, str]]:
    """What is wrong with the list of servers below *key* as a whole."""
    servers = value if isinstance(value, list) else [value]
    if servers and all(isinstance(server, dict) and server.get("backup") is True for server in servers):
        yield (key,), "every server is a backup: expected one that is not"
    seen: dict[str, int] = {}
    for position, server in enumerate(servers):
        address = server.get("address", server.get("url")) if isinstance(server, dict) else server
        if isinstance(address, str):
            if address in seen:
                yield (key, position), f"{show(address)} is there already: expected a weight in place of two"
            seen[address] = position


# ---- which of them


class Hash(Model):
    """The same server for the same part of the request."""

    hash: HashKey
    """client, path, host, header.NAME, cookie.NAME or query.NAME."""


def _kind_of_balance(value: Any) -> str:
    return "<hash>" if isinstance(value, dict | Hash) else "<name>"


Balance: TypeAlias = Annotated[
    Annotated[Literal["round-robin", "least-connections", "power-of-two"], Tag("<name>")]
    | Annotated[Hash, Tag("<hash>")],
    Discriminator(_kind_of_balance),
]


class Sticky(Model):
    """Clients stay with their server, by a cookie that the gateway sets."""

    cookie: CookieName
    """Its name. The value tells nothing about the server."""
    max_age: Timeout | None = None
    """How long the client keeps it; by default until the browser is closed."""
    same_site: Literal["lax", "strict", "none"] = "lax"
    """Which requests of other sites carry it."""
    secret: Secret | None = None
    """What the values are made with, at least 16 characters; by default another one for each start, after
    which clients are distributed anew."""


def _cookie_only(value: Any) -> Any:
    return {"cookie": value} if isinstance(value, str) else value


StickyOrName: TypeAlias = Annotated[
    Sticky,
    Short(_cookie_only, {"type": "string", "minLength": 1}, "the name of a cookie or a mapping with cookie"),
]


# ---- connections


class Connections(Model):
    """How many connections there may be."""

    connections: Count | None = None
    """Connections to each server, in use or idle; by default any number. An application that serves one
    connection per process (php-fpm) wants as many as it has processes. Further requests wait in a queue."""
    queue: CountOrNone = 100
    """Requests that may wait for a connection; more are answered 503 at once, with Retry-After."""
    queue_time: Timeout = written("5s")
    """How long one may wait, before it is answered 503."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        yield from queue_contradictions(data, bound="connections")


class Pool(Connections):
    """Connections kept open between requests, and how many there may be."""

    idle: CountOrNone = 32
    """Idle connections kept for each server."""
    idle_time: Timeout = written("60s")
    """How long one is kept."""
    requests: Count = 1000
    """Requests that a connection serves before it is closed."""
    age: Timeout = written("1h")
    """How old a connection grows before it is closed."""


KEEPING = ("idle", "idle_time", "requests", "age")
"""The settings of a pool that are about connections without a request."""


# ---- failures


class Timeouts(Model):
    """How long a backend may take, by phase; each counts inactivity, not the whole transfer."""

    connect: Timeout = written("5s")
    """To accept a connection."""
    send: Timeout = written("30s")
    """To take more of the request."""
    first_byte: Timeout = written("60s")
    """From the end of the request to the first byte of the response."""
    read: Timeout = written("60s")
    """Between two pieces of the response."""


class Retry(Model):
    """When a request is sent to another server after a failure, as long as the client has seen nothing of an
    answer. A connection that failed is followed by the next server for any request.
    """

    tries: Tries | None = None
    """In all; by default each server once, and after a failure in the middle of a request only one more.
    1: none."""
    time: Timeout = written("10s")
    """From the beginning of the first try, in which another may begin."""
    per_try: Duration = written("5s")
    """How long a request that may be repeated waits for a server that answers nobody, if there is another; 0:
    as long as timeouts.first_byte."""
    status: Annotated[tuple[ErrorStatus, ...], Many()] = ()
    """Statuses of answers that count as failures, such as [502, 503, 504]."""
    methods: Literal["idempotent", "all"] = "idempotent"
    """What may be sent again after it was sent once: requests that are meant to be repeatable, or all."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        if data.get("tries") == 1:
            because = "there is no second try: expected tries: 2 or more"
            yield from pointless(data, "time", "per_try", "status", "methods", because=because)


class Check(Model):
    """What each server is asked now and then."""

    path: CheckTarget | None = None
    """The path that is asked for, with its query. A php script below root, or php-fpm's ping.path."""
    ping: Flag | None = None
    """true: a PING (CPing) packet in place of a request, for uwsgi and ajp; it is the default there."""
    method: Method = "GET"
    """How it is asked for."""
    host: CheckHost | None = None
    """The Host of the request; by default the server's address."""
    interval: Timeout = written("5s")
    """From one check of a server to its next, more or less."""
    timeout: Timeout = written("2s")
    """For connecting and the whole answer."""
    status: Annotated[tuple[Statuses, ...], AtLeastOne(), Many()] = written(("200-399",))
    """Statuses of a server that is well: 200, 200-399, 2xx, or a list."""
    body: str = ""
    """Text that the answer must have in its first 64 KiB."""
    rise: Count = 2
    """So many good answers in a row bring a server back."""
    fall: Count = 3
    """So many failures in a row take it out."""
    start: Literal["up", "down"] = "up"
    """Whether a server gets requests before its first check; with down, that check decides."""


def check_contradictions(health: Any, *, pings: bool, spawned: bool) -> Iterator[tuple[Place, str]]:
    """What is wrong with the check in *health* of a backend whose protocol has *pings* or not."""
    check = health.get("check") if isinstance(health, dict) else None
    place: Place = ("health", "check")
    if check is not None and spawned:
        yield place, "the gateway watches the processes that it starts: expected an address in place of spawn"
    if not isinstance(check, dict):
        return
    asks = check.get("path") is not None
    if check.get("ping") is True and not pings:
        yield (*place, "ping"), "this protocol has no pings: expected path"
    elif check.get("ping") is True and asks:
        yield (*place, "ping"), "a ping asks for no path: expected one of the two"
    elif not asks and (not pings or check.get("ping") is False):
        yield place, "expected the path that is asked for"
    elif not asks:
        because = "a ping has none: expected path"
        yield from pointless(check, "method", "host", "status", "body", because=because, below=place)


def _path_only(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


class Health(Model):
    """When a server that fails is left out for a while."""

    check: (
        Annotated[
            Check, Short(_path_only, {"type": "string", "pattern": "^/"}, "a path or a mapping with path")
        ]
        | None
    ) = None
    """A path that each server is asked for now and then, or a mapping; by default it is known by its requests
    only."""

    failures: CountOrNone = 3
    """So many failures in a row; 0: it is never left out."""
    eject_time: Timeout = written("10s")
    """How long, the first time; twice as long each time that it fails on its return, up to 5 minutes."""
    max_ejected: Part = written("50%")
    """The part of the servers that may be left out at a time. 100%: all of them, then requests are answered
    503 at once."""
    slow: Timeout | None = None
    """An answer whose first byte takes longer counts as a failure."""
    slow_start: Duration = written(0)
    """After its return a server gets its whole share of requests only after this time."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        if data.get("failures") == 0:
            because = "with failures: 0 no server is ever left out"
            yield from pointless(data, "eject_time", "max_ejected", "slow", "slow_start", because=because)


class Balanced(Model):
    """What backends behind sockets have in common."""

    tls: TlsOrFlag = None
    """TLS to the servers: true, or a mapping. Servers of http have it by an https URL."""
    balance: Balance = "round-robin"
    """How one of several servers is chosen: round-robin, least-connections, power-of-two, or a hash."""
    timeouts: Timeouts = Field(default_factory=Timeouts)
    """How long an answer may take, by phase."""
    sticky: StickyOrName | None = None
    """The name of a cookie by which clients stay with their server, or a mapping."""
    retry: Retry = Field(default_factory=Retry)
    """What is tried after a failure."""
    hold: Duration = written(0)
    """How long requests wait while no server can be reached, instead of failing at once."""
    health: Health = Field(default_factory=Health)
    """When a server is left out for a while."""
