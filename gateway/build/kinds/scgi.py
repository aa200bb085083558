"""Applications behind SCGI."""

from gateway.backends.application import ApplicationBackend
from gateway.build.application import application
from gateway.build.parts import Parts
from gateway.config.backends.application import SCGIBackend
from gateway.protocols.scgi import ScgiClient


def make(parts: Parts, name: str, config: SCGIBackend) -> ApplicationBackend:
    """The backend called *name*; nothing of it is started. Raises StartError."""
    return application(parts, name, config, "scgi", ScgiClient)
