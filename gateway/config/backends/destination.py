"""Where the requests of a backend go: to its servers, or to an application that the gateway spawns."""

from typing import Annotated, Any, TypeAlias

from pydantic import Discriminator, Tag

from gateway.config.balancing import HTTPServers, Servers
from gateway.config.spawn import Spawn


def _kind(value: Any) -> str:
    return "<spawn>" if isinstance(value, Spawn) or is_spawn(value) else "<servers>"


def is_spawn(value: Any) -> bool:
    """Whether a destination is an application to spawn, in the plain data."""
    return isinstance(value, dict) and not {"address", "url"} & value.keys()


SocketDestination: TypeAlias = Annotated[
    Annotated[Servers, Tag("<servers>")] | Annotated[Spawn, Tag("<spawn>")], Discriminator(_kind)
]
HTTPDestination: TypeAlias = Annotated[
    Annotated[HTTPServers, Tag("<servers>")] | Annotated[Spawn, Tag("<spawn>")], Discriminator(_kind)
]
