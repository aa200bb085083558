"""Turns what is configured about a backend's servers into an Upstream."""

import secrets
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from math import inf
from typing import Final, TypeVar

from gateway.backends.probe import Probe
from gateway.build.parts import Parts
from gateway.build.server_tls import TlsMaker
from gateway.config import balancing
from gateway.config.backends.common import BackendModel
from gateway.net.address import ServiceAddress, TcpAddress, UnixAddress
from gateway.net.resolver import Located
from gateway.protocols.codec import ClientCodec
from gateway.references import ACCEL, SENDFILE
from gateway.request import Request
from gateway.upstream.balance import Balance, Hashed, HashKey, LeastConnections, PowerOfTwo, RoundRobin
from gateway.upstream.check import CheckPolicy, Head, PingQuestion, Question, RequestQuestion
from gateway.upstream.dial import Dialer
from gateway.upstream.group import ServerGroup
from gateway.upstream.health import HealthPolicy
from gateway.upstream.hold import Hold
from gateway.upstream.names import Entry, Name, Names
from gateway.upstream.pool import NONE_KEPT, Pool, PoolPolicy
from gateway.upstream.proxy_header import ProxyVersion
from gateway.upstream.queue import Queue
from gateway.upstream.retry import RetryPolicy
from gateway.upstream.seats import SeatedPool
from gateway.upstream.server import Server
from gateway.upstream.shared_pool import SharedPool, Sharing
from gateway.upstream.sticky import Sticky, StickyPolicy
from gateway.upstream.terms import UpstreamTimeouts
from gateway.upstream.upstream import Upstream

_SECRET: Final = secrets.token_bytes(32)
"""For the cookies of backends without a secret of their own; processes that are forked have the same."""

AnyUpstream = TypeVar("AnyUpstream", bound=Upstream)


def build_upstream(
    kind: type[AnyUpstream],
    parts: Parts,
    name: str,
    config: balancing.Balanced,
    servers: Sequence[balancing.Server | balancing.HTTPServer],
    pool: balancing.Connections,
    make_codec: Callable[[], ClientCodec],
    *,
    keeps: bool = True,
    ping: float | None = None,
    http: bool = False,
    proxy_version: ProxyVersion | None = None,
    processes: int = 1,
    workers: int = 1,
    sharing: Sharing | None = None,
    seated: bool = False,
) -> AnyUpstream:
    """The *servers* of the backend called *name*. Raises StartError.

    *keeps*: whether connections are kept between requests. *http*: whether it is HTTP that they carry.
    *proxy_version*: the version of the PROXY header that they begin with. *processes*: how many there are
    behind each address, as far as that is known. *workers*: how many of the gateway use them. *sharing*:
    whether several requests may be on a connection. *seated*: whether the processes each have a socket of
    their own, too.
    """
    pump = parts.pump
    secure = TlsMaker(name, config.tls, http)
    health = _health(config.health)
    policy = _pool(pool) if keeps else NONE_KEPT

    def make_dialer(address: UnixAddress) -> Dialer:
        return Dialer(pump, address, backend=name, timeout=config.timeouts.connect)

    def make(server: balancing.Server | balancing.HTTPServer, found: Located | str) -> Server:
        located, unknown = (found, "") if isinstance(found, Located) else (None, found)
        address = server.address if located is None else located.address
        dialer = Dialer(
            pump,
            address,
            backend=name,
            timeout=config.timeouts.connect,
            tls=secure.to(server),
            proxy_version=proxy_version,
            hosts=() if located is None else located.hosts,
            unknown=unknown,
        )
        connections: Pool
        if sharing is not None:
            connections = SharedPool(pump, dialer, policy, sharing)
        elif seated:
            connections = SeatedPool(pump, dialer, policy, make_dialer)
        else:
            connections = Pool(pump, dialer, policy)
        return Server(
            connections,
            weight=float(server.weight) if located is None else located.weight or float(server.weight),
            backup=server.backup or (located is not None and located.backup),
            connections=pool.connections,
            health=health,
            processes=processes,
            workers=workers,
        )

    entries = [Entry(_name_of(server.address), partial(make, server)) for server in servers]
    for entry in entries:
        entry.servers = [entry.make("no answer yet")]
    group = ServerGroup(
        name,
        [entry.servers[0] for entry in entries],
        balance=_balance(config.balance),
        health=health,
        sticky=None if config.sticky is None else Sticky(_sticky(config.sticky), name),
    )
    upstream = kind(
        name,
        pump=pump,
        group=group,
        make_codec=make_codec,
        timeouts=_timeouts(config.timeouts),
        retry=_retry(config.retry),
        queue=Queue(pool.queue, pool.queue_time),
        hold=Hold(config.hold),
        ping=ping,
    )
    upstream.upkeep.sharing = sharing
    upstream.upkeep.tls = secure.renewed
    if any(entry.name is not None for entry in entries):
        upstream.upkeep.follow(Names(name, group, entries, parts.resolver))
    return upstream


def _name_of(address: TcpAddress | UnixAddress | ServiceAddress) -> Name | None:
    """What has to be looked up, if anything."""
    if isinstance(address, UnixAddress) or (isinstance(address, TcpAddress) and address.numeric):
        return None
    return address


def references_of(config: BackendModel) -> frozenset[bytes] | None:
    """The fields by which an answer of this backend may name another one."""
    names = [SENDFILE] if config.x_sendfile else []
    if config.x_accel_redirect:
        names.append(ACCEL)
    return frozenset(names) if names else None


def check_health(
    upstream: Upstream,
    config: balancing.Check | None,
    make_codec: Callable[[], ClientCodec],
    make_head: Callable[[Request], Head],
    ping: PingQuestion | None = None,
) -> None:
    """Have the servers of *upstream* checked as configured.

    *make_head* is the backend's; *ping* is asked where the configuration names no path.
    """
    if config is None:
        return
    question: Question
    if config.path is None:
        assert ping is not None
        question = ping
    else:
        probe = Probe(config.path, config.method, config.host)
        question = RequestQuestion(
            make_codec,
            lambda address: make_head(probe.request(address)),
            statuses=frozenset(chain.from_iterable(config.status)),
            body=config.body.encode(),
        )
    policy = CheckPolicy(
        interval=config.interval,
        timeout=config.timeout,
        rise=config.rise,
        fall=config.fall,
        starts_down=config.start == "down",
    )
    upstream.upkeep.check_health(question, policy)


def _balance(config: balancing.Balance) -> Balance:
    if isinstance(config, balancing.Hash):
        return Hashed(HashKey(config.hash))
    match config:
        case "least-connections":
            return LeastConnections()
        case "power-of-two":
            return PowerOfTwo()
        case _:
            return RoundRobin()


def _pool(config: balancing.Connections) -> PoolPolicy:
    if isinstance(config, balancing.Pool):
        return PoolPolicy(
            idle=config.idle, idle_time=config.idle_time, requests=config.requests, age=config.age
        )
    return NONE_KEPT


def _timeouts(config: balancing.Timeouts) -> UpstreamTimeouts:
    return UpstreamTimeouts(send=config.send, first_byte=config.first_byte, read=config.read)


def _retry(config: balancing.Retry) -> RetryPolicy:
    return RetryPolicy(
        tries=config.tries,
        time=config.time,
        per_try=config.per_try,
        status=frozenset(config.status),
        all_methods=config.methods == "all",
    )


def _health(config: balancing.Health) -> HealthPolicy:
    return HealthPolicy(
        failures=config.failures,
        eject_time=config.eject_time,
        max_ejected=config.max_ejected,
        slow=inf if config.slow is None else config.slow,
        slow_start=config.slow_start,
    )


def _sticky(config: balancing.Sticky) -> StickyPolicy:
    secret = _SECRET if config.secret is None else config.secret.encode()
    return StickyPolicy(config.cookie, secret, max_age=config.max_age, same_site=config.same_site)
