"""Servlet containers, by AJP."""

from gateway.backends.ajp import AjpBackend
from gateway.build.parts import Parts, droppable, templates
from gateway.build.upstream import build_upstream, check_health, references_of
from gateway.config.backends.ajp import AJPBackend
from gateway.protocols.ajp import CPING_PACKET, CPONG_PACKET, AjpClient
from gateway.upstream.check import PingQuestion
from gateway.upstream.upstream import Upstream


def make(parts: Parts, name: str, config: AJPBackend) -> AjpBackend:
    """The backend called *name*; nothing of it is started. Raises StartError."""
    packet_size, secret = config.packet_size, config.secret

    def make_codec() -> AjpClient:
        return AjpClient(packet_size=packet_size, secret=secret)

    upstream = build_upstream(
        Upstream, parts, name, config, config.servers, config.pool, make_codec, ping=config.ping
    )
    upstream.terms.references = references_of(config)
    container = AjpBackend(
        name,
        upstream=upstream,
        dispatch=parts.dispatch,
        intake=parts.intake(name, config),
        variables=templates(config.variables),
        packet_size=packet_size,
        secret=secret,
        droppable=droppable(config.drop_headers),
    )
    ping = PingQuestion(CPING_PACKET, CPONG_PACKET)
    check_health(upstream, config.health.check, make_codec, container.probe_head, ping)
    return container
