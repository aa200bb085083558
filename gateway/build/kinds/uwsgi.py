"""Applications that speak the uwsgi protocol."""

from gateway.backends.application import ApplicationBackend, UpgradePolicy
from gateway.build.application import application
from gateway.build.parts import Parts, droppable
from gateway.config.backends.application import UWSGIBackend
from gateway.protocols.uwsgi import PING, PONG, UwsgiClient
from gateway.upstream.check import PingQuestion


def make(parts: Parts, name: str, config: UWSGIBackend) -> ApplicationBackend:
    """The backend called *name*; nothing of it is started. Raises StartError."""
    modifier1, modifier2, buffer_size = config.modifier1, config.modifier2, config.buffer_size
    return application(
        parts,
        name,
        config,
        "uwsgi",
        lambda: UwsgiClient(modifier1=modifier1, modifier2=modifier2, buffer_size=buffer_size),
        upgrades=UpgradePolicy(parts.pump, frozenset(config.upgrade), idle=parts.tunnel_timeout),
        ping=PingQuestion(PING.encode(), PONG.encode()),
        droppable=droppable(config.drop_headers),
    )
