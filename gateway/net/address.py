"""Addresses of sockets: where the gateway listens, and where backends do."""

from dataclasses import dataclass
from ipaddress import ip_address


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host (a name, or a numeric address without brackets; empty: every interface) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def numeric(self) -> bool:
        """Whether the host is an address, not a name."""
        try:
            ip_address(self.host)
        except ValueError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket by its path."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class ServiceAddress:
    """The servers that the SRV records of a name tell (RFC 2782)."""

    name: str

    def __str__(self) -> str:
        return f"srv:{self.name}"

    @property
    def domain(self) -> str:
        """Whose service it is: the name without ``_service._proto``."""
        labels = self.name.split(".")
        while labels[0].startswith("_") and len(labels) > 1:
            del labels[0]
        return ".".join(labels)


@dataclass(frozen=True, slots=True)
class Origin:
    """A web server: where it is, and whether it wants TLS."""

    address: TcpAddress | UnixAddress | ServiceAddress
    secure: bool = False

    def __str__(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.address}"


@dataclass(frozen=True, slots=True)
class FdAddress:
    """A listening socket that was inherited as this file descriptor."""

    fd: int

    def __str__(self) -> str:
        return f"fd:{self.fd}"
