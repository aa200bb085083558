"""What one of several workers gets of what is bounded for all, and how long it may take to end."""

from typing import Any, Final

from gateway.config import ASGIBackend, Backend, CGIBackend, Config, Pool

MARGIN: Final = 5.0
"""Seconds beyond all that a worker may wait for at its end; one that takes longer is stuck."""


def share_of(config: Config, number: int, workers: int) -> Config:
    """*config* for the worker *number* (from 1 on) of so many: it knows nothing of what the others do.

    Connections of clients, those to a server, and CGI programs at a time are divided, each gets at least one.
    What is counted for each client is counted by each worker.
    """
    if workers == 1:
        return config
    changes: dict[str, Any] = {
        "backends": {name: _backend(backend, number, workers) for name, backend in config.backends.items()}
    }
    if config.limits.connections is not None:
        connections = part(config.limits.connections, number, workers)
        changes["limits"] = config.limits.model_copy(update={"connections": connections})
    return config.model_copy(update=changes)


def part(total: int, number: int, workers: int) -> int:
    """Of *total* what the worker *number* gets; at least one."""
    least, rest = divmod(total, workers)
    return max(least + (number <= rest), 1)


def _backend(backend: Backend, number: int, workers: int) -> Backend:
    if isinstance(backend, CGIBackend):
        if backend.max_processes is None:
            return backend
        return backend.model_copy(update={"max_processes": part(backend.max_processes, number, workers)})
    pool: Pool | None = getattr(backend, "pool", None)
    if pool is None or pool.connections is None:
        return backend
    return backend.model_copy(
        update={"pool": pool.model_copy(update={"connections": part(pool.connections, number, workers)})}
    )


def stop_time(config: Config, *, hurried: bool = False) -> float:
    """Seconds after which a worker that was told to end must have; *hurried*, without the requests' grace."""
    longest = 0.0
    for backend in config.backends.values():
        if isinstance(backend, ASGIBackend):
            longest = max(longest, backend.shutdown_timeout)
        for processes in (getattr(backend, "spawn", None), getattr(backend, "process", None)):
            if processes is not None:
                longest = max(longest, processes.stop_time)
    return (0.0 if hurried else config.timeouts.shutdown) + longest + MARGIN
