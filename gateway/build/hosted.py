"""Python applications in processes of their own, and the way to them."""

from math import inf
from typing import Final

from gateway.backends.python import Kind, Options
from gateway.build.parts import Parts
from gateway.build.processes import supervision
from gateway.build.upstream import build_upstream
from gateway.config.backends.process import OwnProcess
from gateway.config.backends.python import PythonApplication
from gateway.config.balancing import Balanced, Pool, Server, Timeouts
from gateway.hosted.backend import HostedBackend
from gateway.hosted.options import encode
from gateway.protocols.http1.client import Http1Client
from gateway.runtime.watchdog import patience
from gateway.shutdown.notice import ShutdownNotice
from gateway.spawn import SpawnedApplication
from gateway.upstream.spawned import SpawnedUpstream

KEPT_FOR_HOSTED: Final = 256
"""Connections that are kept to an application in a process of its own: a few KiB each on either side."""

HOSTED_HEAD: Final = 16 * 1024 * 1024
HOSTED_FIELDS: Final = 10_000
"""Bytes, and fields, of a response head of such an application. Inside the gateway's process neither has a
bound; here they have one that only a mistake reaches."""


def hosted(
    parts: Parts, name: str, config: PythonApplication, process: OwnProcess, kind: Kind, options: Options
) -> HostedBackend:
    """The backend called *name*; nothing of it is started."""
    # Its variables come by its environment, where they are nobody else's.
    described = encode(
        kind,
        {**options, "env": {}},
        disconnect_grace=parts.config.timeouts.disconnect_grace,
        blocked_after=patience(parts.config.blocked_after, debug=parts.config.debug),
        stop_time=process.stop_time,
        debug=parts.config.debug,
    )
    application = _application(name, config, process, described, parts.notice)
    parts.spawned.append(application)
    return HostedBackend(
        name,
        upstream=_upstream(parts, name, process, application),
        pump=parts.pump,
        announce=application.announce_end,
        notice=parts.notice,
        tunnel_timeout=parts.tunnel_timeout,
    )


def _application(
    name: str, config: PythonApplication, process: OwnProcess, hosted: str, notice: ShutdownNotice
) -> SpawnedApplication:
    """A Python application in processes of its own; *hosted* is what `gateway.hosted.options` encodes."""
    return SpawnedApplication(
        name,
        protocol="http",
        hosted=hosted,
        directory=config.directory,
        virtualenv=config.virtualenv,
        env=config.variables,
        startup_time=inf if process.startup_time is None else process.startup_time,
        **supervision(process, notice),
    )


def _upstream(
    parts: Parts, name: str, process: OwnProcess, application: SpawnedApplication
) -> SpawnedUpstream:
    """The way to *application*, which lets it do what it could do in the gateway's own process."""
    # There it may take as long as it likes, too, if it is not bounded.
    first_byte = inf if process.timeout is None else process.timeout
    timeouts = Timeouts.model_construct(connect=5.0, send=inf, first_byte=first_byte, read=inf)
    upstream = build_upstream(
        SpawnedUpstream,
        parts,
        name,
        Balanced(timeouts=timeouts, retry=process.retry, hold=process.hold),
        [Server.model_construct(address=application.address)],
        Pool(idle=KEPT_FOR_HOSTED),
        lambda: Http1Client(headers=HOSTED_HEAD, header_count=HOSTED_FIELDS, passes_close=True),
        seated=application.seated,
    )
    upstream.attach(application)
    return upstream
