"""What is configured about Python applications, as `gateway.backends.python` takes it."""

from gateway import config as models
from gateway.backends.python import Options


def asgi_options(config: models.ASGIBackend) -> Options:
    """For the backend of an ASGI application."""
    websocket = config.websocket
    return {
        **_common(config),
        "loop": config.loop,
        "asyncio_debug": config.asyncio_debug,
        "interface": config.interface,
        "lifespan": config.lifespan,
        "startup_timeout": config.startup_timeout,
        "shutdown_timeout": config.shutdown_timeout,
        "dropped_extensions": list(config.drop_extensions),
        "response_debug": config.response_debug,
        "websocket": {
            "max_message": websocket.max_message,
            "ping_interval": websocket.ping_interval,
            "ping_timeout": websocket.ping_timeout,
            "compression": websocket.compression,
        },
    }


def wsgi_options(config: models.WSGIBackend, *, max_body: int) -> Options:
    """For the backend of a WSGI application; *max_body* is the clients' limit, in bytes."""
    own = config.process
    return {
        **_common(config),
        "threads": config.threads,
        "stuck_after": config.stuck_after,
        "multiprocess": own is not None and own.processes.max > 1,
        "intake": {
            "policy": config.body,
            "spool_memory": config.spool_memory,
            "max_body": max_body if config.max_body is None else config.max_body,
        },
    }


def _common(config: models.ASGIBackend | models.WSGIBackend) -> Options:
    return {
        "target": config.app,
        "directory": str(config.directory),
        "factory": config.factory,
        "virtualenv": None if config.virtualenv is None else str(config.virtualenv),
        "env": config.variables,
    }
