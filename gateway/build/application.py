"""What FastCGI, SCGI and uwsgi backends have in common."""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gateway.backends.application import ApplicationBackend, ScriptRoot, UpgradePolicy
from gateway.build.destination import upstream_of
from gateway.build.parts import Parts, templates
from gateway.build.upstream import check_health, references_of
from gateway.config.backends.application import FastCGIBackend, SCGIBackend, UWSGIBackend
from gateway.protocols.codec import ClientCodec
from gateway.upstream.check import PingQuestion
from gateway.upstream.shared_pool import Sharing

if TYPE_CHECKING:  # of these, what is started
    from gateway.spawn import Protocol


def application(
    parts: Parts,
    name: str,
    config: FastCGIBackend | SCGIBackend | UWSGIBackend,
    protocol: "Protocol",
    make_codec: Callable[[], ClientCodec],
    *,
    keeps: bool = False,
    script_root: ScriptRoot | None = None,
    withheld: frozenset[str] = frozenset(),
    catch_stderr: str | None = None,
    get_values: bool = False,
    sharing: Sharing | None = None,
    upgrades: UpgradePolicy | None = None,
    ping: PingQuestion | None = None,
    droppable: Sequence[str] = (),
) -> ApplicationBackend:
    """The backend called *name*, for an application behind *protocol*. Raises StartError."""
    upstream = upstream_of(parts, name, protocol, config, make_codec, keeps=keeps, sharing=sharing)
    upstream.terms.catch_stderr = re.compile(catch_stderr) if catch_stderr else None
    upstream.terms.references = references_of(config)
    if get_values:
        upstream.ask_capabilities()
    backend = ApplicationBackend(
        name,
        upstream=upstream,
        dispatch=parts.dispatch,
        script_root=script_root,
        variables=templates(config.variables),
        intake=parts.intake(name, config),
        withheld=withheld,
        upgrades=upgrades,
        droppable=droppable,
    )
    check_health(upstream, config.health.check, make_codec, backend.probe_head, ping)
    return backend
