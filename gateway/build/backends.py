"""Makes a backend from its configuration: by the module of its kind, in `gateway.build.kinds`.

A kind that no backend has is not imported: all of them, with what they stand on, are a quarter of a start.
"""

from importlib import import_module
from typing import Protocol, cast

from gateway.backend import Backend
from gateway.build.parts import Parts
from gateway.config.backends.common import BackendModel


class Kind(Protocol):
    """What each module of `gateway.build.kinds` is."""

    def make(self, parts: Parts, name: str, config: BackendModel) -> Backend:
        """The backend called *name*; nothing of it is started. Raises StartError."""
        ...


def make_backend(parts: Parts, name: str, config: BackendModel) -> Backend:
    """The backend called *name*; nothing of it is started. Raises StartError."""
    kind = cast("Kind", import_module(f"gateway.build.kinds.{config.kind}"))
    return kind.make(parts, name, config)
