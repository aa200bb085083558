"""Processes that the gateway starts for a backend, as configured.

Those of `spawn` speak the backend's protocol; those of a Python application with ``process: own`` are this
gateway once more (`gateway.hosted`). They are supervised alike.
"""

from collections.abc import Sequence
from math import inf
from typing import Final, TypedDict

from gateway import config as models
from gateway.build.upstream import build_upstream
from gateway.config import SpawnedApp
from gateway.config.backends.python import OwnProcess
from gateway.config.balancing import Balanced, Pool, Server, Timeouts
from gateway.config.spawn import Supervised
from gateway.confinement import ResourceLimits, User
from gateway.pump import Pump
from gateway.spawn import GiveUp, Processes, Protocol, Recycling, SpawnedApplication
from gateway.upstream.spawned import SpawnedUpstream
from protocols.http1 import Http1Client

KEPT_FOR_HOSTED: Final = 256
"""Connections that are kept to an application in a process of its own: a few KiB each on either side."""

HOSTED_HEAD: Final = 16 * 1024 * 1024
HOSTED_FIELDS: Final = 10_000
"""Bytes, and fields, of a response head of such an application. Inside the gateway's process neither has a
bound; here they have one that only a mistake reaches."""


def spawned_application(name: str, protocol: Protocol, config: SpawnedApp) -> SpawnedApplication:
    """What a backend starts in place of an address."""
    return SpawnedApplication(
        name,
        protocol=protocol,
        command=config.command,
        wsgi=config.wsgi,
        address=config.address,
        directory=config.directory,
        virtualenv=config.virtualenv,
        env=config.variables,
        stop_signal=config.stop_signal,
        **_supervision(config),
    )


def hosted_application(
    name: str, config: models.ASGIBackend | models.WSGIBackend, process: OwnProcess, hosted: str
) -> SpawnedApplication:
    """A Python application in processes of its own; *hosted* is what `gateway.hosted.options` encodes."""
    return SpawnedApplication(
        name,
        protocol="http",
        hosted=hosted,
        directory=config.directory,
        virtualenv=config.virtualenv,
        env=config.variables,
        **_supervision(process),
    )


def hosted_upstream(
    name: str, process: OwnProcess, application: SpawnedApplication, pump: Pump
) -> SpawnedUpstream:
    """The way to *application*, which lets it do what it could do in the gateway's own process."""
    # There it may take as long as it likes, too, if it is not bounded.
    first_byte = inf if process.timeout is None else process.timeout
    timeouts = Timeouts.model_construct(connect=5.0, send=inf, first_byte=first_byte, read=inf)
    upstream = build_upstream(
        SpawnedUpstream,
        name,
        Balanced(timeouts=timeouts, retry=process.retry, hold=process.hold),
        [Server.model_construct(address=application.address)],
        Pool(idle=KEPT_FOR_HOSTED),
        pump,
        lambda: Http1Client(headers=HOSTED_HEAD, header_count=HOSTED_FIELDS),
    )
    upstream.attach(application)
    return upstream


class _Supervision(TypedDict):
    """What is said alike of all processes that the gateway starts."""

    processes: Processes
    pass_env: Sequence[str] | None
    user: User | None
    limits: ResourceLimits | None
    startup_time: float
    stop_time: float
    give_up: GiveUp | None
    recycling: Recycling


def _supervision(config: Supervised) -> _Supervision:
    processes, give_up = config.processes, config.give_up
    return {
        "processes": Processes(processes.min, processes.max, processes.spare, processes.idle_time),
        "pass_env": config.pass_env,
        "user": config.account,
        "limits": None if config.limits is None else config.limits.for_children(),
        "startup_time": config.startup_time,
        "stop_time": config.stop_time,
        "give_up": None if give_up is None else GiveUp(give_up.deaths, give_up.within),
        "recycling": Recycling(
            max_requests=config.max_requests,
            max_requests_jitter=config.max_requests_jitter,
            max_age=config.max_age,
            max_age_jitter=config.max_age_jitter,
            max_memory=config.max_memory or 0,
        ),
    }
