"""Where the requests of a backend go, as configured: to its servers, or to what is spawned for it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.build.parts import Parts
from gateway.build.upstream import build_upstream
from gateway.config.balancing import Server
from gateway.protocols.codec import ClientCodec
from gateway.upstream.proxy_header import ProxyVersion
from gateway.upstream.shared_pool import Sharing
from gateway.upstream.upstream import Upstream

if TYPE_CHECKING:  # of these, what is configured, and started
    from gateway.config.backends.application import FastCGIBackend, SCGIBackend, UWSGIBackend
    from gateway.config.backends.http import HTTPBackend
    from gateway.spawn import Protocol


def upstream_of(
    parts: Parts,
    name: str,
    protocol: "Protocol",
    config: "FastCGIBackend | SCGIBackend | UWSGIBackend | HTTPBackend",
    make_codec: Callable[[], ClientCodec],
    *,
    keeps: bool,
    proxy_version: ProxyVersion | None = None,
    sharing: Sharing | None = None,
) -> Upstream:
    """The way to the application called *name*; see `build_upstream`. Raises StartError."""
    if config.spawn is None:
        return build_upstream(
            Upstream,
            parts,
            name,
            config,
            config.servers,
            config.pool,
            make_codec,
            keeps=keeps,
            http=protocol == "http",
            proxy_version=proxy_version,
            workers=parts.config.workers,
            sharing=sharing,
        )
    from gateway.build.processes import spawned_application
    from gateway.upstream.spawned import SpawnedUpstream

    spawned = spawned_application(name, protocol, config.spawn, parts.notice)
    parts.spawned.append(spawned)
    servers = [Server.model_construct(address=spawned.address)]
    upstream = build_upstream(
        SpawnedUpstream,
        parts,
        name,
        config,
        servers,
        config.pool,
        make_codec,
        keeps=keeps,
        processes=config.spawn.processes.max,
        sharing=sharing,
    )
    upstream.attach(spawned)
    return upstream
