"""What backends of several kinds have in common; for those with servers see `gateway.config.balancing`.

Every configuration loads this: what only some kinds need is elsewhere.
"""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field

from gateway.config.base import Model, written
from gateway.config.on_use import OnUse
from gateway.config.values.files import Directory
from gateway.config.values.numbers import Flag
from gateway.config.values.programs import VariableName
from gateway.config.values.quantities import Limit, Size
from gateway.config.values.requests import DroppedHeader, UpgradeProtocol
from gateway.config.values.shapes import Many
from gateway.config.values.texts import LineTemplateText

if TYPE_CHECKING:
    from gateway.config.filters import HeaderRules
    from gateway.config.spawn import Supervised
else:
    HeaderRules = Annotated[Any, OnUse("gateway.config.filters", "HeaderRules")]

DroppedHeaders: TypeAlias = Annotated[tuple[DroppedHeader, ...], Many()]
Upgrades: TypeAlias = Annotated[tuple[UpgradeProtocol, ...], Many()]
Variables: TypeAlias = dict[VariableName, LineTemplateText]


class BackendModel(Model):
    """What all backends have in common."""

    kind: ClassVar[str]
    """The key that says what it is."""

    headers: HeaderRules | None = None
    """Header fields that are changed on the way to and from this backend, whatever the route."""
    x_sendfile: Annotated[tuple[Directory, ...], Many()] = ()
    """Directories of which the application may name files in X-Sendfile, for the gateway to send."""
    x_accel_redirect: Flag = False
    """Whether the application may name a path of this server in X-Accel-Redirect, to be answered instead."""


class WithLength(BackendModel):
    """What applications that must know the length of a body in advance have in common."""

    body: Literal["spool", "stream", "reject"] = "spool"
    """A request body of unknown length is spooled to memory and disk, streamed, or rejected with 411."""
    max_body: Limit | None = None
    """Bytes of a request body; more is answered 413. By default, and at most, limits.body."""
    spool_memory: Size = written("256KiB")
    """Bytes of a spooled body kept in memory before a temporary file is used."""


class CGIFamily(WithLength):
    """What all programs that get CGI variables have in common."""

    variables: Variables = Field(default_factory=dict)
    """Variables added to those of the protocol; they win over header variables."""


def end_time(backend: BackendModel) -> float:
    """Seconds that its application has to end: in processes of its own, those until they are killed."""
    processes: Supervised | None = getattr(backend, "spawn", None) or getattr(backend, "process", None)
    if processes is not None:
        return processes.stop_time
    seconds: float = getattr(backend, "shutdown_timeout", 0.0)
    return seconds
