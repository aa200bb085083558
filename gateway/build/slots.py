"""How much of a backend runs at the same time, as configured."""

from math import inf

from gateway import config as models
from gateway.slots import Slots


def of_programs(name: str, config: models.CGIBackend) -> Slots | None:
    """For the programs of a CGI backend."""
    if config.max_processes is None:
        return None
    return Slots(
        name,
        config.max_processes,
        queue=config.queue,
        queue_time=config.queue_time,
        running="programs run, the most that max_processes allows",
    )


def of_threads(name: str, config: models.WSGIBackend) -> Slots | None:
    """For the calls of a WSGI application, in all of its processes."""
    if config.queue is None and config.queue_time is None:
        return None
    processes = 1 if config.process is None else config.process.processes.max
    return Slots(
        name,
        config.threads * processes,
        queue=config.queue,
        queue_time=inf if config.queue_time is None else config.queue_time,
        running="requests run, the most that threads allows",
    )


def of_requests(name: str, config: models.Backend) -> Slots | None:
    """For requests that the backend itself does not bound."""
    if isinstance(config, models.WSGIBackend) and config.process is not None:
        return of_threads(name, config)
    if not isinstance(config, models.ASGIBackend) or config.concurrency is None:
        return None
    return Slots(
        name,
        config.concurrency,
        queue=config.queue,
        queue_time=config.queue_time,
        running="requests run, the most that concurrency allows",
    )
