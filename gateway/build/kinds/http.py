"""Web servers."""

from gateway.backends.http import HttpBackend
from gateway.build.destination import upstream_of
from gateway.build.parts import Parts
from gateway.build.rewriting import response_rewriter
from gateway.build.upstream import check_health, references_of
from gateway.config.backends.http import HTTPBackend
from gateway.protocols.http1.client import Http1Client
from gateway.upstream.proxy_header import ProxyVersion


def make(parts: Parts, name: str, config: HTTPBackend) -> HttpBackend:
    """The backend called *name*; nothing of it is started. Raises StartError."""
    proxy_version: ProxyVersion | None = None
    if config.proxy_protocol is not None:
        proxy_version = 1 if config.proxy_protocol == "v1" else 2
    # PP-10: a connection that begins with the header of one client is not used for another.
    upstream = upstream_of(
        parts, name, "http", config, Http1Client, keeps=proxy_version is None, proxy_version=proxy_version
    )
    upstream.terms.rewriter = response_rewriter(config, upstream)
    upstream.terms.references = references_of(config)
    server = HttpBackend(
        name,
        upstream=upstream,
        pump=parts.pump,
        host=_host_policy(config),
        forwarded=config.forwarded,
        pseudonym=parts.pseudonym,
        upgrades=frozenset(config.upgrade),
        tunnel_timeout=parts.tunnel_timeout,
    )
    check_health(upstream, config.health.check, Http1Client, server.probe_head)
    return server


def _host_policy(config: HTTPBackend) -> str:
    if config.host is not None:
        return config.host
    # A server chooses its certificate and its site by the same name, or answers 421 (RFC 9110 7.4).
    return "upstream" if any(server.origin.secure for server in config.servers) else "preserve"
