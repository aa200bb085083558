"""What a request looks like, and the parts of one: paths, hosts, methods, header fields, cookies."""

import re
from typing import Annotated, Any, Final, TypeAlias

from gateway.config.values.parsed import Parsed
from gateway.config.values.texts import TEXT
from gateway.config.wording import expected, expected_text, show
from gateway.environ import variable_name
from gateway.errors import RequestError
from gateway.path_pattern import find_rest_of
from gateway.protocols.grammar import TCHAR
from gateway.target import decode_path


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
        raise expected_text(value)
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


_TOKEN: Final = re.compile(f"[{TCHAR}]+")
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


def parse_dropped_header(value: Any) -> str:
    """The name of a header field that an application may be kept from; lower case."""
    name = parse_header_name(value)
    if variable_name(name.encode("ascii")) is None:
        raise ValueError(f"applications are not told {name} anyway")
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


PathPattern: TypeAlias = Annotated[
    str,
    Parsed(
        parse_path_pattern,
        {"type": "string", "examples": ["/exact", "/prefix/*", "*.php", "~^/user/[0-9]+$"]},
    ),
]
WantedValue: TypeAlias = Annotated[str, Parsed(parse_wanted_value, TEXT)]
HostPattern: TypeAlias = Annotated[
    str,
    Parsed(parse_host_pattern, {"type": "string", "examples": ["example.com", "*.example.com"]}),
]
Method: TypeAlias = Annotated[str, Parsed(parse_method, TEXT)]
HeaderName: TypeAlias = Annotated[str, Parsed(parse_header_name, TEXT)]
ResponseHeaderName: TypeAlias = Annotated[str, Parsed(parse_response_header_name, TEXT)]
DroppedHeader: TypeAlias = Annotated[str, Parsed(parse_dropped_header, TEXT)]
HeaderPattern: TypeAlias = Annotated[str, Parsed(parse_header_pattern, TEXT)]
UpgradeProtocol: TypeAlias = Annotated[str, Parsed(parse_upgrade, TEXT)]
Mount: TypeAlias = Annotated[
    str, Parsed(parse_mount, {"type": "string", "pattern": r"^(/.*[^/])?$|\$\{.+\}"})
]
CookieName: TypeAlias = Annotated[str, Parsed(parse_cookie_name, TEXT)]
HashKey: TypeAlias = Annotated[
    str,
    Parsed(
        parse_hash_key,
        {"type": "string", "examples": ["client", "path", "host", "header.X-User", "cookie.sid"]},
    ),
]


# ---- health checks


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


Statuses: TypeAlias = Annotated[
    range,
    Parsed(
        parse_statuses,
        {
            "anyOf": [
                {"type": "integer", "minimum": 200, "maximum": 599},
                {"type": "string", "examples": ["200-399", "2xx"]},
            ]
        },
    ),
]
CheckTarget: TypeAlias = Annotated[
    str, Parsed(parse_check_target, {"type": "string", "examples": ["/healthz"]})
]
CheckHost: TypeAlias = Annotated[str, Parsed(parse_check_host, TEXT)]


# ---- what a server is called


def parse_server_name(value: Any) -> str:
    """The host that a certificate is for."""
    # RFC 1035 2.3.4: TLS takes no empty label, none of more than 63 bytes, no name of more than 253.
    name = r"(?=.{1,253}\Z)[A-Za-z0-9_:-]{1,63}(?:\.[A-Za-z0-9_:-]{1,63})*\.?"
    if not isinstance(value, str) or not re.fullmatch(name, value, re.ASCII):
        raise expected("a host such as app.example", value)
    return value


def parse_url_beginning(value: Any) -> str:
    """The beginning of an absolute URL, or of a path."""
    if not isinstance(value, str) or not re.match(r"/|https?://[^/]", value) or not value.isascii():
        raise expected("the beginning of a URL such as http://app.internal/ or /", value)
    return value


def parse_cookie_path(value: Any) -> str:
    """The beginning of a cookie's Path."""
    if not isinstance(value, str) or not re.fullmatch(r"/[!-:<-~]*", value):
        raise expected("a path such as /app/", value)
    return value


def parse_cookie_domain(value: Any) -> str:
    """A cookie's Domain, or nothing."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9.-]*", value):
        raise expected("a domain such as example.com", value)
    return value.removeprefix(".").lower()


def parse_host_policy(value: Any) -> str:
    """preserve, upstream, or the value of a Host field."""
    if not isinstance(value, str) or not re.fullmatch(
        r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::[0-9]{1,5})?", value, re.ASCII
    ):
        raise expected("preserve, upstream, or a host such as app.example", value)
    return value


ServerName: TypeAlias = Annotated[
    str, Parsed(parse_server_name, {"type": "string", "examples": ["app.example"]})
]
UrlBeginning: TypeAlias = Annotated[str, Parsed(parse_url_beginning, {"type": "string", "examples": ["/"]})]
CookiePath: TypeAlias = Annotated[str, Parsed(parse_cookie_path, {"type": "string", "pattern": "^/"})]
CookieDomain: TypeAlias = Annotated[str, Parsed(parse_cookie_domain, {"type": "string"})]
HostPolicy: TypeAlias = Annotated[
    str,
    Parsed(parse_host_policy, {"type": "string", "examples": ["preserve", "upstream", "app.example"]}),
]
