"""Processes that the gateway starts for a backend, as configured.

Those of `spawn` speak the backend's protocol; those of a Python application with ``process: own`` are this
gateway once more (`gateway.build.hosted`). They are supervised alike.
"""

from collections.abc import Sequence
from typing import TypedDict

from gateway.config.spawn import SpawnedApp, Supervised
from gateway.programs.confinement import ResourceLimits, User
from gateway.shutdown.notice import ShutdownNotice
from gateway.spawn import GiveUp, Processes, Protocol, Recycling, SpawnedApplication


def spawned_application(
    name: str, protocol: Protocol, config: SpawnedApp, notice: ShutdownNotice
) -> SpawnedApplication:
    """What a backend starts in place of an address. *notice* is that of the daemon's end."""
    return SpawnedApplication(
        name,
        protocol=protocol,
        command=config.command,
        wsgi=config.wsgi,
        address=config.address,
        directory=config.directory,
        virtualenv=config.virtualenv,
        env=config.variables,
        startup_time=config.startup_time,
        stop_signal=config.stop_signal,
        **supervision(config, notice),
    )


class Supervision(TypedDict):
    """What is said alike of all processes that the gateway starts."""

    processes: Processes
    pass_env: Sequence[str] | None
    user: User | None
    limits: ResourceLimits | None
    stop_time: float
    give_up: GiveUp | None
    recycling: Recycling
    notice: ShutdownNotice


def supervision(config: Supervised, notice: ShutdownNotice) -> Supervision:
    """How the processes are supervised. *notice* is that of the daemon's end."""
    processes, give_up = config.processes, config.give_up
    return {
        "processes": Processes(processes.min, processes.max, processes.spare, processes.idle_time),
        "pass_env": config.pass_env,
        "user": config.account,
        "limits": None if config.limits is None else config.limits.for_children(),
        "stop_time": config.stop_time,
        "give_up": None if give_up is None else GiveUp(give_up.deaths, give_up.within),
        "recycling": Recycling(
            max_requests=config.max_requests,
            max_requests_jitter=config.max_requests_jitter,
            max_age=config.max_age,
            max_age_jitter=config.max_age_jitter,
            max_memory=config.max_memory or 0,
        ),
        "notice": notice,
    }
