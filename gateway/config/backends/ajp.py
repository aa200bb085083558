"""The configuration of servlet containers."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import Field

from gateway.config.backends.common import CGIFamily, DroppedHeaders
from gateway.config.balancing import Balanced, Pool, Servers, check_contradictions, server_contradictions
from gateway.config.base import Place, written
from gateway.config.server_tls import tls_contradictions
from gateway.config.values.parsed import Parsed
from gateway.config.values.quantities import SIZE_SCHEMA, Timeout, parse_size
from gateway.config.values.texts import SharedSecret
from gateway.config.wording import expected
from gateway.protocols.ajp import DEFAULT_PACKET_SIZE, LARGEST_PACKET_SIZE, is_told


def parse_packet_size(value: Any) -> int:
    """The size of an AJP packet."""
    size = parse_size(value)
    # AJP-1, and what Tomcat and Apache can be configured to.
    if not DEFAULT_PACKET_SIZE <= size <= LARGEST_PACKET_SIZE:
        raise expected("a size from 8KiB to 64KiB, as containers can be configured to", value)
    return size


PacketSize: TypeAlias = Annotated[int, Parsed(parse_packet_size, SIZE_SCHEMA)]


class AJPBackend(CGIFamily, Balanced):
    """A servlet container (Tomcat, WildFly), by AJP/1.3."""

    kind: ClassVar[str] = "ajp"

    servers: Servers = Field(alias="ajp")
    """The address of its AJP connector, several of them, or mappings with address, weight and backup."""
    secret: SharedSecret | None = None
    """What it wants to be told before it takes a request (Tomcat: secret)."""
    packet_size: PacketSize = written("8KiB")
    """The size of its packets (Tomcat: packetSize), 8KiB to 64KiB; a head that needs more is answered 431."""
    drop_headers: DroppedHeaders = ()
    """Header fields that are left out, in this order, of a request that needs more, such as [Cookie]."""
    ping: Timeout | None = None
    """For a sign of life (CPing) from a connection before it is used again; without it none is asked for."""
    pool: Pool = Field(default_factory=Pool)
    """How many connections there may be, and which are kept open; idle: 0 keeps none."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        yield from server_contradictions("ajp", data.get("ajp"))
        yield from tls_contradictions("ajp", data)
        yield from check_contradictions(data.get("health"), pings=True, spawned=False)
        variables = data.get("variables")
        for name in variables if isinstance(variables, dict) else ():
            if isinstance(name, str) and not is_told(name):
                yield (
                    ("variables", name),
                    f"AJP has no place for it: expected AJP_{name}, which is the request attribute {name}",
                )
        pool = data.get("pool")
        if data.get("ping") is not None and isinstance(pool, dict) and pool.get("idle") == 0:
            yield ("ping",), "without a pool no connection is used again"
