"""WSGI applications."""

from math import inf

from gateway.backend import Backend
from gateway.backends.wsgi.from_options import make_wsgi
from gateway.build.parts import Parts
from gateway.build.python import common_options
from gateway.config.backends.python import WSGIBackend
from gateway.slots import Slots


def make(parts: Parts, name: str, config: WSGIBackend) -> Backend:
    """The backend called *name*; nothing of it is started."""
    own, slots = config.process, _slots(name, config)
    options = {
        **common_options(config),
        "threads": config.threads,
        "stuck_after": config.stuck_after,
        "multiprocess": own is not None and own.processes.max > 1,
        "intake": {
            "policy": config.body,
            "spool_memory": config.spool_memory,
            "max_body": parts.config.largest_body(config.max_body),
        },
    }
    if own is None:
        return make_wsgi(name, {**options, "tunnel_timeout": parts.tunnel_timeout}, parts.pump, slots)
    from gateway.build.hosted import hosted  # what supervises processes takes long to load

    if slots is not None:
        parts.slots[name] = slots
    return hosted(parts, name, config, own, "wsgi", options)


def _slots(name: str, config: WSGIBackend) -> Slots | None:
    """For the calls of the application, in all of its processes."""
    if config.queue is None and config.queue_time is None:
        return None
    processes = 1 if config.process is None else config.process.processes.max
    return Slots(
        config.threads * processes,
        queue=config.queue,
        queue_time=inf if config.queue_time is None else config.queue_time,
        backend=name,
        running="requests run, the most that threads allows",
    )
