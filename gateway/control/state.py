"""What a worker is doing at one moment, its backends and their servers, and what it has answered, as plain
values.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from gateway.backend import Backend
from gateway.front.service import Service

if TYPE_CHECKING:  # a daemon without servers behind it loads nothing of them
    from gateway.upstream.upstream import UpstreamState


@runtime_checkable
class Observed(Protocol):
    """A backend whose servers can be looked at."""

    def snapshot(self) -> "UpstreamState": ...


@dataclass(slots=True)
class WorkerState:
    """What the process that serves has, to be described."""

    service: Service
    backends: Mapping[str, Backend]
    kinds: Mapping[str, str]
    """The kind of each backend: ``http``, ``fastcgi`` …"""
    started_at: float
    """By `time.monotonic`: the wall clock may be put right later."""

    def upstreams(self) -> "dict[str, UpstreamState]":
        """The backends that have servers, by name."""
        return {
            name: backend.snapshot()
            for name, backend in self.backends.items()
            if isinstance(backend, Observed)
        }

    def describe(self) -> dict[str, Any]:
        """All of it, as JSON has it. Times are in seconds."""
        upstreams, tally = self.upstreams(), self.service.tally
        return {
            "uptime": round(time.monotonic() - self.started_at, 3),
            "connections": self.service.caps.open,
            "answers": {} if tally is None else {name: asdict(each) for name, each in tally.backends.items()},
            "backends": {
                name: {"kind": self.kinds[name], **_described(upstreams.get(name))} for name in self.backends
            },
        }


def _described(upstream: "UpstreamState | None") -> dict[str, Any]:
    if upstream is None:
        return {}
    servers = [{**asdict(server), "state": server.state.value} for server in upstream.servers]
    return {"servers": servers, "queued": upstream.queued, "held": upstream.held}
