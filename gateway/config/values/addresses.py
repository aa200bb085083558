"""Addresses to listen on and to connect to, and networks of clients."""

import os
import re
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import ValidationInfo

from gateway.config.values.files import absolute_path, base_directory
from gateway.config.values.parsed import Parsed, ParsedInPlace
from gateway.config.wording import expected, show
from gateway.net.address import FdAddress, Origin, ServiceAddress, TcpAddress, UnixAddress

ListenAddress: TypeAlias = TcpAddress | UnixAddress | FdAddress
BackendAddress: TypeAlias = TcpAddress | UnixAddress
ServerAddress: TypeAlias = BackendAddress | ServiceAddress
_LISTEN_EXAMPLES: Final = "an address such as 127.0.0.1:8000, [::1]:8000, :8000, unix:/run/app.sock or fd:3"
_BACKEND_EXAMPLES: Final = "an address such as 127.0.0.1:9000, [::1]:9000 or unix:/run/app.sock"
_URL_EXAMPLES: Final = "a URL such as http://127.0.0.1:3000, https://app.example or http://unix:/run/app.sock"
_HOST_PORT: Final = re.compile(r"(?:\[([^\]]*)\]|([A-Za-z0-9_.-]*)):([0-9]{1,5})", re.ASCII)
# sockaddr_un has 108 bytes, one of them for the end (unix(7)).
_LONGEST_UNIX_PATH: Final = 107


def _unix_address(path: str, examples: str, base: Path, value: Any) -> UnixAddress:
    if not path or "\0" in path:
        raise expected(examples, value)
    if path.startswith("@"):
        raise ValueError(f"abstract sockets are not supported: expected a path, got {show(value)}")
    absolute = absolute_path(path, base)
    if len(os.fsencode(absolute)) > _LONGEST_UNIX_PATH:
        raise ValueError(
            f"expected a socket path of at most {_LONGEST_UNIX_PATH} bytes, got {len(os.fsencode(absolute))}"
        )
    return UnixAddress(absolute)


def _tcp_address(text: str, examples: str, value: Any, default_port: int | None = None) -> TcpAddress:
    if default_port is not None and not re.search(r":[0-9]*$", text):
        text = f"{text}:{default_port}"
    found = _HOST_PORT.fullmatch(text)
    if found is None:
        raise expected(examples, value)
    numeric, host, port = found.groups()
    if numeric is not None:
        try:
            host = str(IPv6Address(numeric))
        except ValueError:
            raise expected("an IPv6 address between the brackets", value) from None
    if int(port) > 65535:
        raise expected("a port of at most 65535", value)
    return TcpAddress(host.lower(), int(port))


def parse_listen_address(value: Any, info: ValidationInfo) -> ListenAddress:
    """Where to listen. Port 0 lets the kernel choose."""
    if not isinstance(value, str):
        raise expected(_LISTEN_EXAMPLES, value)
    if value.startswith("unix:"):
        return _unix_address(value[5:], _LISTEN_EXAMPLES, base_directory(info), value)
    if value.startswith("fd:"):
        if not re.fullmatch(r"[0-9]{1,6}", value[3:], re.ASCII):
            raise expected(_LISTEN_EXAMPLES, value)
        return FdAddress(int(value[3:]))
    return _tcp_address(value, _LISTEN_EXAMPLES, value)


def _connectable(address: TcpAddress, value: Any) -> TcpAddress:
    if not address.host:
        raise ValueError(f"a backend needs a host: write 127.0.0.1:{address.port}, got {show(value)}")
    if address.port == 0:
        raise ValueError(f"port 0 is for listeners only: expected the backend's port, got {show(value)}")
    return address


def parse_backend_address(value: Any, info: ValidationInfo) -> BackendAddress:
    """Where a FastCGI, SCGI or uwsgi application listens."""
    if not isinstance(value, str):
        raise expected(_BACKEND_EXAMPLES, value)
    if value.startswith("unix:"):
        return _unix_address(value[5:], _BACKEND_EXAMPLES, base_directory(info), value)
    if value.startswith("fd:"):
        raise ValueError("fd: is an inherited listening socket; a backend needs an address to connect to")
    if "://" in value:
        raise ValueError(f"expected an address without a scheme, such as 127.0.0.1:9000, got {show(value)}")
    return _connectable(_tcp_address(value, _BACKEND_EXAMPLES, value), value)


def parse_server_address(value: Any, info: ValidationInfo) -> ServerAddress:
    """As `parse_backend_address`, or ``srv:`` and the name of SRV records."""
    if isinstance(value, str) and value.startswith("srv:"):
        return _service(value[4:], value)
    return parse_backend_address(value, info)


def _service(name: str, value: Any) -> ServiceAddress:
    if not re.fullmatch(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+\.?", name, re.ASCII):
        raise expected("the name of SRV records such as srv:_app._tcp.example.com", value)
    return ServiceAddress(name.lower())


def parse_nameserver(value: Any) -> TcpAddress:
    """The numeric address of a name server; port 53 if none is given."""
    examples = "the numeric address of a name server, such as 10.0.0.2 or 127.0.0.1:5353"
    if not isinstance(value, str):
        raise expected(examples, value)
    address = _tcp_address(value, examples, value, default_port=53)
    if not address.numeric or not address.port:
        raise expected(examples, value)
    return address


def parse_server_url(value: Any, info: ValidationInfo) -> Origin:
    """The URL of an HTTP server: a host and a port (80 or 443 if left out), or a Unix socket.

    The URL has no path: the target goes to the backend as it came, without the route's ``mount``.
    """
    if not isinstance(value, str):
        raise expected(_URL_EXAMPLES, value)
    scheme, separator, rest = value.partition("://")
    secure = scheme.lower() == "https"
    if not separator or not (secure or scheme.lower() == "http"):
        raise expected(_URL_EXAMPLES, value)
    if rest.startswith("unix:"):
        # nginx writes http://unix:/path:/uri; the colon before an empty uri may stay.
        path = rest[5:].removesuffix(":")
        return Origin(_unix_address(path, _URL_EXAMPLES, base_directory(info), value), secure)
    if rest.startswith("srv:"):
        return Origin(_service(rest[4:], value), secure)
    host, _, path = rest.partition("/")
    if path or "?" in rest or "#" in rest:
        raise ValueError(f"expected a URL without a path (mount strips prefixes), got {show(value)}")
    if "@" in host:
        raise ValueError("expected a URL without user and password")
    address = _tcp_address(host, _URL_EXAMPLES, value, default_port=443 if secure else 80)
    return Origin(_connectable(address, value), secure)


def parse_control_socket(value: Any, info: ValidationInfo) -> UnixAddress:
    """The address of a Unix socket to listen on."""
    address = parse_listen_address(value, info)
    if not isinstance(address, UnixAddress):
        raise expected("a Unix socket such as unix:/run/gateway/control.sock", value)
    return address


ADDRESS_SCHEMA: Final = {"type": "string", "examples": ["127.0.0.1:9000", "unix:/run/app.sock"]}

Listen: TypeAlias = Annotated[
    ListenAddress,
    ParsedInPlace(
        parse_listen_address,
        {"type": "string", "examples": ["127.0.0.1:8000", ":8000", "unix:/run/gateway.sock"]},
    ),
]
ControlSocket: TypeAlias = Annotated[
    UnixAddress, ParsedInPlace(parse_control_socket, {"type": "string", "pattern": "^unix:"})
]
Connect: TypeAlias = Annotated[
    BackendAddress,
    ParsedInPlace(parse_backend_address, ADDRESS_SCHEMA),
]
ConnectServer: TypeAlias = Annotated[
    ServerAddress,
    ParsedInPlace(parse_server_address, ADDRESS_SCHEMA),
]
Nameserver: TypeAlias = Annotated[
    TcpAddress,
    Parsed(parse_nameserver, {"type": "string", "examples": ["10.0.0.2", "127.0.0.1:5353"]}),
]
ServerUrl: TypeAlias = Annotated[
    Origin,
    ParsedInPlace(
        parse_server_url, {"type": "string", "examples": ["http://127.0.0.1:3000", "https://app.example"]}
    ),
]


# ---- networks


Network: TypeAlias = IPv4Network | IPv6Network | Literal["unix"]
"""Addresses of clients; ``unix`` are those that came over a Unix socket."""


def parse_network(value: Any) -> Network:
    """An address, a CIDR block, or ``unix``."""
    if value == "unix":
        return "unix"
    network = parse_cidr(value) if isinstance(value, str) else None
    if network is None:
        everybody = " (0.0.0.0/0 and ::/0 are everybody)" if value == "*" else ""
        raise expected(f"a network such as 10.0.0.0/8{everybody}, an address, or unix", value)
    return network


def parse_cidr(text: str) -> IPv4Network | IPv6Network | None:
    """An address or a CIDR block; None if *text* is neither. Raises ValueError for one that is not exact."""
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        whole = ip_network(text, strict=False)
    except ValueError:
        return None
    raise ValueError(f"{show(text)} has bits set below its mask: did you mean {whole}?")


Client: TypeAlias = Annotated[
    Network,
    Parsed(parse_network, {"type": "string", "examples": ["127.0.0.0/8", "unix"]}),
]
