"""ASGI applications."""

from gateway.backend import Backend
from gateway.backends.asgi.from_options import make_asgi
from gateway.build.parts import Parts
from gateway.build.python import common_options
from gateway.config.backends.python import ASGIBackend
from gateway.slots import Slots


def make(parts: Parts, name: str, config: ASGIBackend) -> Backend:
    """The backend called *name*; nothing of it is started."""
    if config.concurrency is not None:
        parts.slots[name] = Slots(
            config.concurrency,
            queue=config.queue,
            queue_time=config.queue_time,
            backend=name,
            running="requests run, the most that concurrency allows",
        )
    websocket = config.websocket
    options = {
        **common_options(config),
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
    if config.process is None:
        return make_asgi(name, options, parts.pump, parts.notice)
    from gateway.build.hosted import hosted  # what supervises processes takes long to load

    return hosted(parts, name, config, config.process, "asgi", options)
