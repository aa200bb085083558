"""What is configured about Python applications of either kind, as `gateway.backends.python` takes it."""

from gateway.backends.python import Options
from gateway.config.backends.python import ASGIBackend, WSGIBackend


def common_options(config: ASGIBackend | WSGIBackend) -> Options:
    """What there is to say of all."""
    return {
        "target": config.app,
        "directory": str(config.directory),
        "factory": config.factory,
        "virtualenv": None if config.virtualenv is None else str(config.virtualenv),
        "env": config.variables,
    }
