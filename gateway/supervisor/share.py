"""What one of several workers gets of what is bounded for all, and how long it may take to end."""

from typing import TYPE_CHECKING, Any, Final

from gateway.config import Config
from gateway.config.backends.common import BackendModel, end_time
from gateway.shutdown.stages import HURRIED_TIME

if TYPE_CHECKING:  # of these, what is configured
    from gateway.config.balancing import Connections
    from gateway.config.spawn import Spawn, SpawnedApp, Supervised

MARGIN: Final = 5.0
"""Seconds beyond all that a worker may wait for at its end; one that takes longer is stuck."""


def share_of(config: Config, number: int, workers: int) -> Config:
    """*config* for the worker *number* (from 1 on) of so many: it knows nothing of what the others do.

    Connections of clients, those to a server, CGI programs at a time, the concurrency of ASGI applications,
    and processes of applications are divided; each gets at least one.
    What is counted for each client is counted by each worker. What applications tell of themselves
    (get_values) is divided when it is told.
    """
    if workers == 1:
        return config if config.workers == 1 else config.model_copy(update={"workers": 1})
    changes: dict[str, Any] = {
        "workers": workers,
        "backends": {name: _backend(backend, number, workers) for name, backend in config.backends.items()},
    }
    if config.limits.connections is not None:
        connections = part(config.limits.connections, number, workers)
        changes["limits"] = config.limits.model_copy(update={"connections": connections})
    return config.model_copy(update=changes)


def part(total: int, number: int, workers: int) -> int:
    """Of *total* what the worker *number* gets; at least one."""
    least, rest = divmod(total, workers)
    return max(least + (number <= rest), 1)


def _backend(backend: BackendModel, number: int, workers: int) -> BackendModel:
    """By the settings that it has, whatever its kind."""
    changes: dict[str, Any] = {}
    for bound in ("max_processes", "concurrency"):
        whole: int | None = getattr(backend, bound, None)
        if whole is not None:
            changes[bound] = part(whole, number, workers)
    pool: Connections | None = getattr(backend, "pool", None)
    if pool is not None and pool.connections is not None:
        connections = part(pool.connections, number, workers)
        changes["pool"] = pool.model_copy(update={"connections": connections})
    destination: Spawn | None = getattr(backend, "destination", None)
    spawn: SpawnedApp | None = getattr(destination, "spawn", None)
    if destination is not None and spawn is not None:
        changes["destination"] = destination.model_copy(update={"spawn": _processes(spawn, number, workers)})
    own: Supervised | None = getattr(backend, "process", None)
    if own is not None:
        changes["process"] = _processes(own, number, workers)
    return backend.model_copy(update=changes) if changes else backend


def _processes(supervised: "Supervised", number: int, workers: int) -> "Supervised":
    """Each worker has processes of its own: it alone knows which of its requests they have."""
    whole = supervised.processes
    least = part(whole.min, number, workers) if whole.min else 0
    most = max(part(whole.max, number, workers), least)
    processes = whole.model_copy(update={"min": least, "max": most})
    return supervised.model_copy(update={"processes": processes})


def cannot_be_shared(config: Config, workers: int) -> list[str]:
    """What several workers cannot have: a program at one address, which each of them would start."""
    found = []
    for name, backend in config.backends.items():
        spawn: SpawnedApp | None = getattr(backend, "spawn", None)
        if workers > 1 and spawn is not None and spawn.address is not None:
            found.append(
                f"backend {name}: a program at the address {spawn.address} can be started once only, and "
                f"{workers} workers would each: take {{socket}} or {{port}}, or workers: 1"
            )
    return found


def stop_time(config: Config, *, hurried: bool = False) -> float:
    """Seconds after which a worker that was told to end must have; *hurried* by a second signal, or not.

    The requests have their grace first, then the applications theirs; none of it after a second signal.
    """
    if hurried:
        return HURRIED_TIME + MARGIN  # processes that it has spawned have the most
    longest = max(map(end_time, config.backends.values()), default=0.0)
    return config.timeouts.shutdown + longest + MARGIN
