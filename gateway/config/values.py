"""The scalar types of the configuration language: durations, sizes, addresses, patterns, templates.

Each type is an ``Annotated`` alias that turns the YAML value into what the program uses (float seconds,
int bytes, an address object) and describes itself to the JSON Schema. The parsers are plain functions
that raise ValueError with a message in the words of the configuration: ``expected …, got …``.

Patterns and templates stay text: they are checked here and compiled where they are used.
"""

import grp
import os
import pwd
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

from annotated_types import Ge, Le
from pydantic import (
    BeforeValidator,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    Strict,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

from gateway.address import FdAddress, Origin, TcpAddress, UnixAddress
from gateway.config.env_file import parse_env_file
from gateway.config.wording import expected, show
from gateway.confinement import User, may_change_user, tool
from gateway.errors import RequestError
from gateway.executable import PROGRAM_PATH
from gateway.failure_pages import ErrorPage, page_constants
from gateway.path_pattern import find_rest_of
from gateway.static.mime import content_type
from gateway.target import decode_path
from gateway.template import Template
from protocols.ajp import DEFAULT_PACKET_SIZE, LARGEST_PACKET_SIZE


class FromEnvironment(str):
    """Text that came from a variable: may stand where a number or a boolean is expected."""

    __slots__ = ()


# ---- numbers and booleans

_VARIABLE: Final = {"type": "string", "pattern": r"\$\{.+\}"}


@dataclass(frozen=True)
class _OrVariable:
    """Lets a number or boolean be written as ``${NAME}`` too."""

    parse: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.parse, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [handler(schema), _VARIABLE]}


def _whole_number(value: Any) -> Any:
    if isinstance(value, FromEnvironment) and re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", value, re.ASCII):
        return int(value)
    return value


_TRUTH: Final = {"true": True, "yes": True, "on": True, "1": True} | {
    "false": False, "no": False, "off": False, "0": False,
}  # fmt: skip


def _flag(value: Any) -> Any:
    return _TRUTH.get(value.strip().lower(), value) if isinstance(value, FromEnvironment) else value


Flag: TypeAlias = Annotated[bool, Strict(), _OrVariable(_flag)]
"""true or false."""

Count: TypeAlias = Annotated[int, Strict(), Ge(1), _OrVariable(_whole_number)]
"""A whole number, at least 1."""

CountOrNone: TypeAlias = Annotated[int, Strict(), Ge(0), _OrVariable(_whole_number)]
"""A whole number, 0 means none."""

Byte: TypeAlias = Annotated[int, Strict(), Ge(0), Le(255), _OrVariable(_whole_number)]
"""A whole number that fits one byte."""

Percent: TypeAlias = Annotated[int, Strict(), Ge(1), Le(100), _OrVariable(_whole_number)]
"""A part of a hundred."""

FinalStatus: TypeAlias = Annotated[int, Strict(), Ge(200), Le(599), _OrVariable(_whole_number)]
"""The status of a final response."""

ErrorStatus: TypeAlias = Annotated[int, Strict(), Ge(400), Le(599), _OrVariable(_whole_number)]
"""The status of a response that tells of an error."""


def parse_statuses(value: Any) -> range:
    """Statuses of responses: ``200``, ``200-399`` or ``2xx``."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    found = (
        re.fullmatch(r"([2-5])xx|([2-5][0-9]{2})(?:-([2-5][0-9]{2}))?", text, re.ASCII)
        if isinstance(text, str)
        else None
    )
    if found is None:
        raise expected("a status such as 200, or 200-399 or 2xx", value)
    of_class, first, last = found.groups()
    statuses = (
        range(int(of_class) * 100, int(of_class) * 100 + 100)
        if of_class
        else range(int(first), int(last or first) + 1)
    )
    if not statuses:
        raise ValueError(f"expected the lower status first, got {show(value)}")
    return statuses


Statuses: TypeAlias = Annotated[
    range,
    PlainValidator(parse_statuses),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 200, "maximum": 599},
                {"type": "string", "examples": ["200-399", "2xx"]},
            ]
        }
    ),
]

RedirectStatus: TypeAlias = Annotated[Literal[301, 302, 303, 307, 308], _OrVariable(_whole_number)]
"""The status of a redirect."""


def parse_workers(value: Any) -> int:
    """The number of processes; ``auto`` is one for each core that we may run on."""
    value = _whole_number(value)
    if value == "auto":
        return len(os.sched_getaffinity(0))
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise expected("a number of at least 1, or auto", value)
    return value


Workers: TypeAlias = Annotated[
    int,
    PlainValidator(parse_workers),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"const": "auto"}, _VARIABLE]}),
]


# ---- durations and sizes

_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)", re.ASCII)
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST: Final = 365 * 86400.0


def parse_duration(value: Any) -> float:
    """Seconds from ``250ms``, ``30s``, ``5m``, ``1h``, ``1d``, or 0. A bare number has no unit: refused."""
    if value == "0" or (value == 0 and not isinstance(value, bool)):
        return 0.0
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise expected("a duration such as 30s or 250ms", value)
    seconds = float(found[1]) * _SECONDS[found[2]]
    if seconds > _LONGEST:
        raise expected("a duration of at most 365d", value)
    return seconds


def parse_timeout(value: Any) -> float:
    """A duration that something can happen in: 0 would mean that it always fails."""
    seconds = parse_duration(value)
    if seconds == 0:
        raise expected("a duration longer than 0, such as 30s", value)
    return seconds


_DURATION_SCHEMA: Final = {
    "anyOf": [{"type": "string", "pattern": rf"^{_DURATION.pattern}$|\$\{{.+\}}"}, {"const": 0}]
}
Duration: TypeAlias = Annotated[float, PlainValidator(parse_duration), WithJsonSchema(_DURATION_SCHEMA)]
"""Seconds; 0 is allowed."""

Timeout: TypeAlias = Annotated[
    float,
    PlainValidator(parse_timeout),
    WithJsonSchema({"type": "string", "pattern": rf"^{_DURATION.pattern}$|\$\{{.+\}}"}),
]
"""Seconds, more than 0."""

_PERCENT: Final = re.compile(r"([0-9]{1,3})%", re.ASCII)


def parse_part(value: Any) -> float:
    """A part of a whole, from 0 to 1, of ``50%``."""
    found = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found[1]) > 100:
        raise expected("a percentage such as 50%", value)
    return int(found[1]) / 100


Part: TypeAlias = Annotated[
    float,
    PlainValidator(parse_part),
    WithJsonSchema({"type": "string", "pattern": rf"^{_PERCENT.pattern}$|\$\{{.+\}}"}),
]

_SIZE: Final = re.compile(r"([0-9]+)(B|KiB|MiB|GiB|TiB)?", re.ASCII)
_BYTES: Final = {None: 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def parse_size(value: Any) -> int:
    """Bytes from ``64KiB``, ``10MiB``, ``1GiB``, or a plain number of bytes."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        found = _SIZE.fullmatch(value) if isinstance(value, str) else None
        if found is None or (found[2] is None and not isinstance(value, FromEnvironment)):
            raise expected("a size such as 64KiB, 10MiB or a number of bytes", value)
        # Python refuses to read numbers of thousands of digits; so do we.
        size = int(found[1]) * _BYTES[found[2]] if len(found[1]) < 20 else 2**63
    if not 0 <= size < 2**63:
        raise expected("a size between 0 and 8388607TiB", value)
    return size


_SIZE_SCHEMA: Final = {
    "anyOf": [
        {"type": "string", "pattern": r"^[0-9]+(B|KiB|MiB|GiB|TiB)$|\$\{.+\}"},
        {"type": "integer", "minimum": 0},
    ]
}
Size: TypeAlias = Annotated[int, PlainValidator(parse_size), WithJsonSchema(_SIZE_SCHEMA)]
"""Bytes."""


def parse_limit(value: Any) -> int:
    """A size that lets something through."""
    size = parse_size(value)
    if size == 0:
        raise expected("a size larger than 0", value)
    return size


Limit: TypeAlias = Annotated[int, PlainValidator(parse_limit), WithJsonSchema(_SIZE_SCHEMA)]
"""Bytes, more than 0."""


def parse_buffer_size(value: Any) -> int:
    """The size of a uwsgi peer's variable block."""
    size = parse_size(value)
    # uwsgi: the size of the block is a 16 bit number (UW-4).
    if not 0 < size <= 65535:
        raise expected("a size from 1 to 65535 bytes, the most that uwsgi can express", value)
    return size


BufferSize: TypeAlias = Annotated[int, PlainValidator(parse_buffer_size), WithJsonSchema(_SIZE_SCHEMA)]


def parse_shared_secret(value: Any) -> str:
    """What two programs know of each other; no message shows it."""
    if not isinstance(value, str) or not value or not (value.isprintable() and value.isascii()):
        raise ValueError("expected a text of printable ASCII characters, in quotes")
    return value


SharedSecret: TypeAlias = Annotated[
    str, PlainValidator(parse_shared_secret), WithJsonSchema({"type": "string"})
]


def parse_packet_size(value: Any) -> int:
    """The size of an AJP packet."""
    size = parse_size(value)
    # AJP-1, and what Tomcat and Apache can be configured to.
    if not DEFAULT_PACKET_SIZE <= size <= LARGEST_PACKET_SIZE:
        raise expected("a size from 8KiB to 64KiB, as containers can be configured to", value)
    return size


PacketSize: TypeAlias = Annotated[int, PlainValidator(parse_packet_size), WithJsonSchema(_SIZE_SCHEMA)]


def parse_file_mode(value: Any) -> int:
    """Permission bits from octal digits in quotes: YAML reads 0660 and 660 as two different numbers."""
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value, re.ASCII):
        raise expected('permissions in quotes, such as "0660"', value)
    return int(value, 8)


FileMode: TypeAlias = Annotated[
    int,
    PlainValidator(parse_file_mode),
    WithJsonSchema({"type": "string", "pattern": r"^0?[0-7]{3}$|\$\{.+\}"}),
]


# ---- addresses


ListenAddress: TypeAlias = TcpAddress | UnixAddress | FdAddress
BackendAddress: TypeAlias = TcpAddress | UnixAddress

_LISTEN_EXAMPLES: Final = "an address such as 127.0.0.1:8000, [::1]:8000, :8000, unix:/run/app.sock or fd:3"
_BACKEND_EXAMPLES: Final = "an address such as 127.0.0.1:9000, [::1]:9000 or unix:/run/app.sock"
_URL_EXAMPLES: Final = "a URL such as http://127.0.0.1:3000, https://app.example or http://unix:/run/app.sock"
_HOST_PORT: Final = re.compile(r"(?:\[([^\]]*)\]|([A-Za-z0-9_.-]*)):([0-9]{1,5})", re.ASCII)
# sockaddr_un has 108 bytes, one of them for the end (unix(7)).
_LONGEST_UNIX_PATH: Final = 107


def _base(info: ValidationInfo) -> Path:
    """The directory that relative paths start from."""
    context = info.context or {}
    return Path(context.get("directory", "."))


def _absolute(path: str, base: Path) -> str:
    return os.path.abspath(base / path)


def _unix_address(path: str, examples: str, base: Path, value: Any) -> UnixAddress:
    if not path or "\0" in path:
        raise expected(examples, value)
    if path.startswith("@"):
        raise ValueError(f"abstract sockets are not supported: expected a path, got {show(value)}")
    absolute = _absolute(path, base)
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
        return _unix_address(value[5:], _LISTEN_EXAMPLES, _base(info), value)
    if value.startswith("fd:"):
        if not re.fullmatch(r"[0-9]{1,6}", value[3:], re.ASCII):
            raise expected(_LISTEN_EXAMPLES, value)
        return FdAddress(int(value[3:]))
    return _tcp_address(value, _LISTEN_EXAMPLES, value)


def parse_control_socket(value: Any, info: ValidationInfo) -> UnixAddress:
    """The address of a Unix socket to listen on."""
    address = parse_listen_address(value, info)
    if not isinstance(address, UnixAddress):
        raise expected("a Unix socket such as unix:/run/gateway/control.sock", value)
    return address


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
        return _unix_address(value[5:], _BACKEND_EXAMPLES, _base(info), value)
    if value.startswith("fd:"):
        raise ValueError("fd: is an inherited listening socket; a backend needs an address to connect to")
    if "://" in value:
        raise ValueError(f"expected an address without a scheme, such as 127.0.0.1:9000, got {show(value)}")
    return _connectable(_tcp_address(value, _BACKEND_EXAMPLES, value), value)


def parse_upstream(value: Any, info: ValidationInfo) -> Origin:
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
        return Origin(_unix_address(path, _URL_EXAMPLES, _base(info), value), secure)
    host, _, path = rest.partition("/")
    if path or "?" in rest or "#" in rest:
        raise ValueError(f"expected a URL without a path (mount strips prefixes), got {show(value)}")
    if "@" in host:
        raise ValueError("expected a URL without user and password")
    address = _tcp_address(host, _URL_EXAMPLES, value, default_port=443 if secure else 80)
    return Origin(_connectable(address, value), secure)


def parse_server_name(value: Any) -> str:
    """The host that a certificate is for."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_.:-]+", value, re.ASCII):
        raise expected("a host such as app.example", value)
    return value


def parse_host_policy(value: Any) -> str:
    """preserve, upstream, or the value of a Host field."""
    if not isinstance(value, str) or not re.fullmatch(
        r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::[0-9]{1,5})?", value, re.ASCII
    ):
        raise expected("preserve, upstream, or a host such as app.example", value)
    return value


Listen: TypeAlias = Annotated[
    ListenAddress,
    PlainValidator(parse_listen_address),
    WithJsonSchema({"type": "string", "examples": ["127.0.0.1:8000", ":8000", "unix:/run/gateway.sock"]}),
]
ControlSocket: TypeAlias = Annotated[
    UnixAddress, PlainValidator(parse_control_socket), WithJsonSchema({"type": "string", "pattern": "^unix:"})
]
Connect: TypeAlias = Annotated[
    BackendAddress,
    PlainValidator(parse_backend_address),
    WithJsonSchema({"type": "string", "examples": ["127.0.0.1:9000", "unix:/run/app.sock"]}),
]
Upstream: TypeAlias = Annotated[
    Origin,
    PlainValidator(parse_upstream),
    WithJsonSchema({"type": "string", "examples": ["http://127.0.0.1:3000", "https://app.example"]}),
]


# ---- networks

Network: TypeAlias = IPv4Network | IPv6Network | Literal["unix"]
"""Addresses of clients; ``unix`` are those that came over a Unix socket."""


def parse_network(value: Any) -> Network:
    """An address, a CIDR block, or ``unix``."""
    if value == "unix":
        return "unix"
    if not isinstance(value, str):
        raise expected("a network such as 10.0.0.0/8, an address, or unix", value)
    try:
        return ip_network(value)
    except ValueError:
        pass
    try:
        whole = ip_network(value, strict=False)
    except ValueError:
        raise expected("a network such as 10.0.0.0/8, an address, or unix", value) from None
    raise ValueError(f"{show(value)} has bits set below its mask: did you mean {whole}?")


Client: TypeAlias = Annotated[
    Network,
    PlainValidator(parse_network),
    WithJsonSchema({"type": "string", "examples": ["127.0.0.0/8", "unix"]}),
]


# ---- files


def parse_path(value: Any, info: ValidationInfo) -> Path:
    """A path, made absolute: relative ones start at the directory of the configuration file."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise expected("a path", value)
    return Path(_absolute(value, _base(info)))


def parse_directory(value: Any, info: ValidationInfo) -> Path:
    """A directory that exists."""
    path = parse_path(value, info)
    if not os.path.isdir(path):
        raise ValueError(_missing(path, "a directory"))
    return path


def parse_program_or_directory(value: Any, info: ValidationInfo) -> Path:
    """A program, or a directory of programs."""
    path = parse_path(value, info)
    if os.path.isdir(path) or os.path.isfile(path):
        return path
    raise ValueError(_missing(path, "a program or a directory of programs"))


def check_runnable(path: Path) -> None:
    """Raises ValueError for a file that is not executable."""
    if os.path.isfile(path) and not os.access(path, os.X_OK):
        raise ValueError(f"{show(str(path), 4096)} is not executable: chmod +x it")


def _missing(path: Path, kind: str) -> str:
    what = "is not" if os.path.lexists(path) else "does not exist: expected"
    return f"{show(str(path), 4096)} {what} {kind}"


_PATH_SCHEMA: Final = {"type": "string", "minLength": 1}
FilePath: TypeAlias = Annotated[Path, PlainValidator(parse_path), WithJsonSchema(_PATH_SCHEMA)]
Directory: TypeAlias = Annotated[Path, PlainValidator(parse_directory), WithJsonSchema(_PATH_SCHEMA)]
ProgramOrDirectory: TypeAlias = Annotated[
    Path, PlainValidator(parse_program_or_directory), WithJsonSchema(_PATH_SCHEMA)
]


def parse_certificate_file(value: Any, info: ValidationInfo) -> Path:
    """A PEM file with a certificate."""
    from gateway.tls import files  # what reads certificates takes long to load

    path = parse_path(value, info)
    files.read_certificate(path)
    return path


def parse_key_file(value: Any, info: ValidationInfo) -> Path:
    """A PEM file with a private key that needs no password."""
    from gateway.tls import files

    path = parse_path(value, info)
    files.check_key(path)
    return path


def parse_revocation_file(value: Any, info: ValidationInfo) -> Path:
    """A PEM file with lists of revoked certificates."""
    from gateway.tls import files

    path = parse_path(value, info)
    files.check_revocations(path)
    return path


def parse_ciphers(value: Any) -> str:
    """A list of ciphers as OpenSSL writes it (ciphers(1))."""
    from gateway.tls import files

    if not isinstance(value, str) or not value or "\0" in value:
        raise expected("a list of OpenSSL's names of ciphers, such as ECDHE+AESGCM:ECDHE+CHACHA20", value)
    files.check_ciphers(value)
    return value


def parse_tls_version(value: Any) -> Literal["1.2", "1.3"]:
    """The number of a version; YAML reads 1.2 without quotes as a number."""
    if value in ("1.2", 1.2):
        return "1.2"
    if value in ("1.3", 1.3):
        return "1.3"
    raise expected("1.2 or 1.3", value)


def parse_redirect_https(value: Any) -> int | bool:
    """true, false, or the port that clients reach https on."""
    value = _whole_number(_flag(value))
    if not isinstance(value, int) or not (isinstance(value, bool) or 1 <= value <= 65535):
        raise expected("true, false, or the port of https, such as 443", value)
    return value


CertificateFile: TypeAlias = Annotated[
    Path, PlainValidator(parse_certificate_file), WithJsonSchema(_PATH_SCHEMA)
]
RevocationFile: TypeAlias = Annotated[
    Path, PlainValidator(parse_revocation_file), WithJsonSchema(_PATH_SCHEMA)
]
KeyFile: TypeAlias = Annotated[Path, PlainValidator(parse_key_file), WithJsonSchema(_PATH_SCHEMA)]
Ciphers: TypeAlias = Annotated[
    str, PlainValidator(parse_ciphers), WithJsonSchema({"type": "string", "minLength": 1})
]
TlsVersion: TypeAlias = Annotated[
    Literal["1.2", "1.3"],
    PlainValidator(parse_tls_version),
    WithJsonSchema({"enum": ["1.2", "1.3", 1.2, 1.3]}),
]
ServerName: TypeAlias = Annotated[
    str, PlainValidator(parse_server_name), WithJsonSchema({"type": "string", "examples": ["app.example"]})
]
HostPolicy: TypeAlias = Annotated[
    str,
    PlainValidator(parse_host_policy),
    WithJsonSchema({"type": "string", "examples": ["preserve", "upstream", "app.example"]}),
]
RedirectHttps: TypeAlias = Annotated[
    int | bool,
    PlainValidator(parse_redirect_https),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "integer", "minimum": 1, "maximum": 65535}]}),
]


def parse_destination(value: Any, info: ValidationInfo) -> Path | Literal["stdout", "stderr"]:
    """Where a log goes."""
    if value == "stdout":
        return "stdout"
    if value == "stderr":
        return "stderr"
    return parse_path(value, info)


Destination: TypeAlias = Annotated[
    Path | Literal["stdout", "stderr"],
    PlainValidator(parse_destination),
    WithJsonSchema({"type": "string", "examples": ["stderr", "stdout", "/var/log/gateway/access.log"]}),
]


def parse_command(value: Any, info: ValidationInfo) -> tuple[str, ...]:
    """A program and its arguments; a program with a slash is relative to the configuration file."""
    if not isinstance(value, list) or not all(isinstance(word, str) and "\0" not in word for word in value):
        raise expected("a list of a program and its arguments, each text", value)
    if not value or not value[0]:
        raise ValueError("expected a program and its arguments, got an empty list")
    program, *arguments = (str(word) for word in value)
    return (_absolute(program, _base(info)) if "/" in program else program, *arguments)


def parse_interpreter(value: Any, info: ValidationInfo) -> tuple[str, ...]:
    """A program that exists, with arguments or without: ``perl`` or ``[perl, -T]``."""
    program, *arguments = parse_command([value] if isinstance(value, str) else value, info)
    found = shutil.which(program, path=PROGRAM_PATH)
    if found is None:
        where = "" if "/" in program else f" in {PROGRAM_PATH}"
        raise ValueError(f"there is no program {show(program, 4096)}{where}")
    return (found, *arguments)


def parse_extension(value: Any) -> str:
    """How the name of a file ends, from the dot on."""
    if not isinstance(value, str) or not re.fullmatch(r"\.[^/\0-\x1f\x7f]+", value):
        raise expected("an extension such as .cgi", value)
    return str(value)


Interpreter: TypeAlias = Annotated[
    tuple[str, ...],
    PlainValidator(parse_interpreter),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
            ]
        }
    ),
]
Extension: TypeAlias = Annotated[
    str, PlainValidator(parse_extension), WithJsonSchema({"type": "string", "examples": [".cgi", ".pl"]})
]
Command: TypeAlias = Annotated[
    tuple[str, ...],
    PlainValidator(parse_command),
    WithJsonSchema({"type": "array", "items": {"type": "string"}, "minItems": 1}),
]


# ---- users


def parse_user(value: Any) -> User:
    """A user by name or number, with the groups that the database gives it."""
    _only_root(value)
    try:
        if isinstance(value, int) and not isinstance(value, bool):
            entry = pwd.getpwuid(value)
        elif isinstance(value, str) and value:
            entry = pwd.getpwuid(int(value)) if value.isdecimal() else pwd.getpwnam(value)
        else:
            raise expected("the name or number of a user", value)
    except (KeyError, OverflowError):
        raise ValueError(f"there is no user {show(value)} on this machine") from None
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return User(entry.pw_uid, entry.pw_gid, groups)


def parse_group(value: Any) -> int:
    """The number of a group, given by name or number."""
    _only_root(value)
    try:
        if isinstance(value, int) and not isinstance(value, bool):
            return grp.getgrgid(value).gr_gid
        if isinstance(value, str) and value:
            return grp.getgrgid(int(value)).gr_gid if value.isdecimal() else grp.getgrnam(value).gr_gid
    except (KeyError, OverflowError):
        raise ValueError(f"there is no group {show(value)} on this machine") from None
    raise expected("the name or number of a group", value)


def _only_root(value: Any) -> None:
    if not may_change_user():
        raise ValueError(f"only root can run programs as {show(value)}: start the gateway as root")
    tool("setpriv")


_ACCOUNT_SCHEMA: Final = {"anyOf": [{"type": "string", "minLength": 1}, {"type": "integer", "minimum": 0}]}
UserAccount: TypeAlias = Annotated[User, PlainValidator(parse_user), WithJsonSchema(_ACCOUNT_SCHEMA)]
GroupNumber: TypeAlias = Annotated[int, PlainValidator(parse_group), WithJsonSchema(_ACCOUNT_SCHEMA)]


def parse_object_name(value: Any) -> str:
    """``module:attribute``, as Python servers write it."""
    name = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
    if not isinstance(value, str) or not re.fullmatch(f"{name}:{name}", value):
        raise expected("module:attribute, such as app:application", value)
    return str(value)


def parse_stop_signal(value: Any) -> signal.Signals:
    """The name of a signal that asks a process to end: TERM, or SIGTERM."""
    name = value.upper().removeprefix("SIG") if isinstance(value, str) else ""
    if name not in _STOP_SIGNALS:
        raise expected(f"a signal ({', '.join(_STOP_SIGNALS)})", value)
    return signal.Signals[f"SIG{name}"]


_STOP_SIGNALS: Final = ("TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "WINCH")
StopSignal: TypeAlias = Annotated[
    signal.Signals,
    PlainValidator(parse_stop_signal),
    WithJsonSchema({"enum": [*_STOP_SIGNALS, *(f"SIG{name}" for name in _STOP_SIGNALS)]}),
]


def parse_virtual_environment(value: Any, info: ValidationInfo) -> Path:
    """The directory of a virtual environment (PEP 405)."""
    path = parse_path(value, info)
    if not os.access(path / "bin" / "python", os.X_OK):
        raise ValueError(f"{show(str(path), 4096)} is not a virtual environment: there is no bin/python")
    return path


VirtualEnvironment: TypeAlias = Annotated[
    Path, PlainValidator(parse_virtual_environment), WithJsonSchema({"type": "string", "minLength": 1})
]


def parse_env_file_value(value: Any, info: ValidationInfo) -> dict[str, str]:
    """The variables in a file of ``NAME=VALUE`` lines; see `gateway.config.env_file`."""
    path = parse_path(value, info)
    try:
        return parse_env_file(path.read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"{show(str(path), 4096)} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{show(str(path), 4096)}: {error}") from None


EnvFile: TypeAlias = Annotated[
    dict[str, str], PlainValidator(parse_env_file_value), WithJsonSchema({"type": "string", "minLength": 1})
]


def parse_passed_variable(value: Any) -> str:
    """The name of a variable, or the beginning of several and ``*``."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*\*?|\*", value, re.ASCII):
        raise expected("the name of a variable such as LANG, or LC_*", value)
    return str(value)


PassedVariable: TypeAlias = Annotated[
    str, PlainValidator(parse_passed_variable), WithJsonSchema({"type": "string"})
]


ObjectName: TypeAlias = Annotated[
    str,
    PlainValidator(parse_object_name),
    WithJsonSchema({"type": "string", "pattern": r"^[^:]+:[^:]+$|\$\{.+\}"}),
]


# ---- what a request must look like


def parse_path_pattern(value: Any) -> str:
    """``/exact``, ``/prefix/*``, ``*.suffix`` or ``~regular expression``; see `gateway.path_pattern`."""
    if not isinstance(value, str):
        raise expected("a path pattern such as /exact, /prefix/*, *.php or ~^/user/[0-9]+$", value)
    try:
        find_rest_of([value], "")
    except (ValueError, OverflowError, RecursionError) as error:
        raise ValueError(str(error).removeprefix("path: ")) from None
    return str(value) if value.startswith("~") else _decoded(value)


def _decoded(value: str) -> str:
    if "?" in value or "#" in value:
        raise ValueError(f"expected a path without a query (match it by query:), got {show(value)}")
    if re.search(r"%[0-9A-Fa-f]{2}", value):
        raise ValueError(f"paths are compared decoded: write {show(value)} without percent signs")
    if re.search(r"/\.{1,2}(/|$)|[\0-\x1f\x7f]", value):
        raise ValueError(f"no request has such a path: . and .. are resolved before, got {show(value)}")
    return str(value)


def parse_wanted_value(value: Any) -> str:
    """The value that a header or a parameter must have."""
    if not isinstance(value, str):
        raise expected("text", value)
    if value.startswith("~"):
        raise ValueError(f"regular expressions are not supported here yet, got {show(value)}")
    return str(value)


def parse_host_pattern(value: Any) -> str:
    """A host name, ``*.domain`` for all below it, or a numeric address; lower case."""
    examples = "a host such as example.com or *.example.com"
    if not isinstance(value, str):
        raise expected(examples, value)
    if re.fullmatch(r"\[[0-9A-Fa-f:.]+\]", value):
        return value.lower()
    if re.search(r":[0-9]*$", value):
        raise ValueError(f"hosts are compared without their port, got {show(value)}")
    if not value.isascii():
        raise ValueError(f"expected the ASCII form of the host (xn--…), got {show(value)}")
    if not re.fullmatch(r"(?:\*\.)?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*", value, re.ASCII):
        raise expected(examples, value)
    return value.lower()


_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)  # RFC 9110 5.6.2
_METHODS: Final = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT"}


def parse_method(value: Any) -> str:
    """A method. RFC 9110 9.1: methods are case-sensitive."""
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise expected("a method such as GET", value)
    if value not in _METHODS and value.upper() in _METHODS:
        raise ValueError(f"methods are case-sensitive: did you mean {value.upper()}?")
    return str(value)


def parse_header_name(value: Any) -> str:
    """The name of a header field, lower case."""
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise expected("the name of a header", value)
    return value.lower()


def parse_upgrade(value: Any) -> str:
    """A protocol that clients may switch to, lower case: ``websocket``, ``name`` or ``name/version``."""
    if not isinstance(value, str) or not all(map(_TOKEN.fullmatch, value.split("/", 1))):
        raise expected("a protocol such as websocket", value)
    protocol = value.lower()
    if protocol.partition("/")[0] in ("h2c", "http"):
        raise ValueError(f"a tunnel of {show(value)} would carry requests past the routes")
    return protocol


def parse_check_target(value: Any) -> str:
    """The path and query that a health check asks for."""
    if not isinstance(value, str) or not re.fullmatch(r"/[!-\"$-~]*", value, re.ASCII):
        raise expected("a path such as /healthz, percent-encoded", value)
    try:
        decode_path(value.partition("?")[0].encode("ascii"))
    except RequestError as wrong:
        raise ValueError(f"no server understands {show(value)}: {wrong}") from None
    return str(value)


def parse_check_host(value: Any) -> str:
    """What a health check says in Host: a name or numeric address, with or without a port."""
    if not isinstance(value, str) or not re.fullmatch(
        r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::[0-9]{1,5})?", value, re.ASCII
    ):
        raise expected("a host such as example.com", value)
    return str(value)


def parse_cookie_name(value: Any) -> str:
    """The name of a cookie (RFC 6265 4.1.1)."""
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise expected("the name of a cookie", value)
    return str(value)


def parse_hash_key(value: Any) -> str:
    """The part of a request that decides which server gets it; see `gateway.upstream.balance`."""
    examples = "client, path, host, header.NAME, cookie.NAME or query.NAME"
    if not isinstance(value, str):
        raise expected(examples, value)
    kind, dot, name = value.partition(".")
    if kind in ("client", "path", "host") and not dot:
        return str(value)
    if (kind == "query" and name) or (kind in ("header", "cookie") and _TOKEN.fullmatch(name)):
        return str(value)
    raise expected(examples, value)


def parse_secret(value: Any) -> str:
    """A secret. What is wrong with it is said without it."""
    if not isinstance(value, str) or len(value) < 16:
        raise ValueError("expected text of at least 16 characters, best from a variable: ${SECRET}")
    return str(value)


# RFC 9110 7.6.1, 8.6: fields that belong to the connection or the message, not to the content.
_FRAMING: Final = {
    "connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade",
}  # fmt: skip


def parse_response_header_name(value: Any) -> str:
    """The name of a header field that the configuration may give; the gateway frames messages itself."""
    name = parse_header_name(value)
    if name in _FRAMING:
        raise ValueError(f"{name} is set by the gateway")
    return name


def parse_header_pattern(value: Any) -> str:
    """The name of a header field, or a pattern of such names with ``*``; lower case."""
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise expected("the name of a header, or a pattern such as X-Debug-*", value)
    if value.lower() in _FRAMING:
        raise ValueError(f"{value.lower()} is set by the gateway")
    return value.lower()


def parse_mount(value: Any) -> str:
    """A path prefix: ``/x/y``, without a slash at the end; empty for none."""
    if value == "":
        return ""
    if not isinstance(value, str) or not value.startswith("/") or value.endswith("/") or "*" in value:
        raise expected("a path such as /admin, without / at its end", value)
    if "//" in value:
        raise expected("a path without empty segments", value)
    return _decoded(value)


def parse_variable_name(value: Any) -> str:
    """The name of a variable of the application's environment."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value, re.ASCII):
        raise expected("a variable name such as APP_ENV", value)
    return str(value)


def parse_name(value: Any) -> str:
    """The name of a backend: what logs, metrics and Proxy-Status call it (RFC 9209 2)."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", value, re.ASCII):
        raise expected("a name of letters, digits, '-', '_' and '.'", value)
    return str(value)


def parse_file_name(value: Any) -> str:
    """The name of a file, without directories; or a suffix or a glob of one."""
    if not isinstance(value, str) or value in {"", ".", ".."} or re.search(r"[/\0-\x1f\x7f]", value):
        raise expected("the name of a file, without directories", value)
    return str(value)


_TEXT: Final = WithJsonSchema({"type": "string"})
PathPattern: TypeAlias = Annotated[
    str,
    PlainValidator(parse_path_pattern),
    WithJsonSchema({"type": "string", "examples": ["/exact", "/prefix/*", "*.php", "~^/user/[0-9]+$"]}),
]
WantedValue: TypeAlias = Annotated[str, PlainValidator(parse_wanted_value), _TEXT]
HostPattern: TypeAlias = Annotated[
    str,
    PlainValidator(parse_host_pattern),
    WithJsonSchema({"type": "string", "examples": ["example.com", "*.example.com"]}),
]
Method: TypeAlias = Annotated[str, PlainValidator(parse_method), _TEXT]
HeaderName: TypeAlias = Annotated[str, PlainValidator(parse_header_name), _TEXT]
ResponseHeaderName: TypeAlias = Annotated[str, PlainValidator(parse_response_header_name), _TEXT]
HeaderPattern: TypeAlias = Annotated[str, PlainValidator(parse_header_pattern), _TEXT]
UpgradeProtocol: TypeAlias = Annotated[str, PlainValidator(parse_upgrade), _TEXT]
Mount: TypeAlias = Annotated[
    str, PlainValidator(parse_mount), WithJsonSchema({"type": "string", "pattern": r"^(/.*[^/])?$|\$\{.+\}"})
]
VariableName: TypeAlias = Annotated[str, PlainValidator(parse_variable_name), _TEXT]
Name: TypeAlias = Annotated[str, PlainValidator(parse_name), _TEXT]
CheckTarget: TypeAlias = Annotated[
    str, PlainValidator(parse_check_target), WithJsonSchema({"type": "string", "examples": ["/healthz"]})
]
CheckHost: TypeAlias = Annotated[str, PlainValidator(parse_check_host), _TEXT]
CookieName: TypeAlias = Annotated[str, PlainValidator(parse_cookie_name), _TEXT]
HashKey: TypeAlias = Annotated[
    str,
    PlainValidator(parse_hash_key),
    WithJsonSchema({"type": "string", "examples": ["client", "path", "host", "header.X-User", "cookie.sid"]}),
]
Secret: TypeAlias = Annotated[
    str, PlainValidator(parse_secret), WithJsonSchema({"type": "string", "minLength": 7})
]
FileName: TypeAlias = Annotated[str, PlainValidator(parse_file_name), _TEXT]


def parse_regex(value: Any) -> str:
    """A regular expression of Python's re."""
    if not isinstance(value, str) or not value:
        raise expected("a regular expression", value)
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{show(value)} is no regular expression: {error}") from None
    return str(value)


Regex: TypeAlias = Annotated[str, PlainValidator(parse_regex), _TEXT]


# ---- templates


def parse_template(value: Any) -> str:
    """Text with placeholders such as ``{path}``; see `gateway.template`."""
    if not isinstance(value, str):
        raise expected("text", value)
    Template.parse(value)
    return str(value)


def parse_line_template(value: Any) -> str:
    """A template that stays on one line: header values, variables, redirect targets."""
    text = parse_template(value)
    # RFC 9110 5.5: CR, LF and NUL end or break a header field.
    if re.search(r"[\0-\x08\x0a-\x1f\x7f]", text):
        raise expected("text without control characters", value)
    return text


def parse_target(value: Any) -> str:
    """Where a redirect leads: a path, a URL, or a template of one."""
    text = parse_line_template(value)
    if not re.match(r"/|\{|[A-Za-z][A-Za-z0-9+.-]*://", text) or re.search(r"\s", text):
        raise expected("a path such as /new/{path.rest} or a URL", value)
    return text


TemplateText: TypeAlias = Annotated[str, PlainValidator(parse_template), _TEXT]
LineTemplateText: TypeAlias = Annotated[str, PlainValidator(parse_line_template), _TEXT]
Target: TypeAlias = Annotated[
    str,
    PlainValidator(parse_target),
    WithJsonSchema({"type": "string", "examples": ["/new/{path.rest}", "https://{host}{path}"]}),
]


# ---- error pages

LARGEST_PAGE: Final = 2**20
"""Bytes of an error page: it is kept in memory, and sent to clients that did not get what they wanted."""


def parse_status_pattern(value: Any) -> str:
    """A status that tells of an error, ``404``, or all of a class, ``5xx``."""
    if not isinstance(value, str) or not re.fullmatch(r"[45]([0-9][0-9]|xx)", value, re.ASCII):
        raise expected("a status such as 404, or 4xx or 5xx", value)
    return str(value)


def parse_error_page(value: Any, info: ValidationInfo) -> ErrorPage:
    """The page in a file: a template, whose type the name of the file tells."""
    path = parse_path(value, info)
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_PAGE + 1)
    except OSError as error:
        raise ValueError(f"{show(str(path), 4096)} cannot be read: {error.strerror}") from None
    if len(content) > LARGEST_PAGE:
        raise ValueError(f"{show(str(path), 4096)} is larger than {LARGEST_PAGE} bytes")
    try:
        text = content.decode("utf-8")
        Template.parse(text, page_constants(500))
    except UnicodeDecodeError as error:
        byte = content[error.start]
        raise ValueError(f"{show(str(path), 4096)} is not UTF-8 text: byte 0x{byte:02x}") from None
    except ValueError as error:
        raise ValueError(f"{show(str(path), 4096)}: {error}") from None
    return ErrorPage(text, content_type(path.name))


StatusPattern: TypeAlias = Annotated[str, PlainValidator(parse_status_pattern), _TEXT]
ErrorPageFile: TypeAlias = Annotated[
    ErrorPage, PlainValidator(parse_error_page), WithJsonSchema(_PATH_SCHEMA)
]


# ---- one or many


class Many:
    """Metadata of a tuple that may be written as one value or as a list of them."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            lambda value: value if isinstance(value, list | tuple) else [value], handler(source)
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        several = handler(schema)
        return {"anyOf": [several["items"], several]}


class AtLeastOne:
    """Metadata of a tuple that must not be empty (MinLen would not count values that are wrong)."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_not_empty, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "minItems": 1}


def _not_empty(value: Any) -> Any:
    if isinstance(value, list | tuple) and not value:
        raise ValueError("expected at least one, got an empty list")
    return value


class Short:
    """Metadata of a mapping that may be written as a scalar, which *expand* turns into the mapping."""

    def __init__(self, expand: Callable[[Any], Any], schema: dict[str, Any]) -> None:
        self.expand = expand
        self.schema = schema

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.expand, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [handler(schema), self.schema]}


def switch(value: Any) -> Any:
    """YAML 1.1 reads on and off as booleans; where they are words, they are words again."""
    return ("on" if value else "off") if isinstance(value, bool) else value


ClientCertificates: TypeAlias = Annotated[Literal["off", "optional", "required"], BeforeValidator(switch)]

Lifespan: TypeAlias = Annotated[Literal["auto", "on", "off"], BeforeValidator(switch)]
