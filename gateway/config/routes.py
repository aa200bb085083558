"""The configuration of routes: which requests, and what becomes of them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from gateway.config.base import Model, Place, pointless
from gateway.config.on_use import OnUse
from gateway.config.values.addresses import Client
from gateway.config.values.files import PATH_SCHEMA
from gateway.config.values.numbers import Count, Flag
from gateway.config.values.quantities import Limit, Size
from gateway.config.values.requests import HeaderName, HostPattern, Method, Mount, PathPattern, WantedValue
from gateway.config.values.shapes import AtLeastOne, Many, Short, Switched
from gateway.config.values.texts import LineTemplateText
from gateway.config.wording import NOT_YET, alternatives, show
from gateway.path_pattern import find_rest_of

if TYPE_CHECKING:
    from gateway.config.actions import Connect, Redirect, Respond, Static
    from gateway.config.filters import Buffering, ForwardAuth, HeaderRules, Mirror, RequestBuffering
else:
    Connect = Annotated[Any, OnUse("gateway.config.actions", "Connect")]
    Redirect = Annotated[Any, OnUse("gateway.config.actions", "Redirect")]
    Respond = Annotated[Any, OnUse("gateway.config.actions", "Respond")]
    Static = Annotated[Any, OnUse("gateway.config.actions", "Static")]
    Buffering = Annotated[Any, OnUse("gateway.config.filters", "Buffering")]
    ForwardAuth = Annotated[Any, OnUse("gateway.config.filters", "ForwardAuth")]
    HeaderRules = Annotated[Any, OnUse("gateway.config.filters", "HeaderRules")]
    Mirror = Annotated[Any, OnUse("gateway.config.filters", "Mirror")]
    RequestBuffering = Annotated[Any, OnUse("gateway.config.filters", "RequestBuffering")]


class Match(Model):
    """What a request must look like: each key that is given, in one of its values."""

    later: ClassVar[dict[str, str]] = {"cookie": f"matching cookies is {NOT_YET}: match the header"}

    host: Annotated[tuple[HostPattern, ...], AtLeastOne(), Many()] | None = None
    """The host without its port: example.com, or *.example.com for all hosts below it."""
    path: Annotated[tuple[PathPattern, ...], AtLeastOne(), Many()] | None = None
    """/exact, /prefix/* (also matches /prefix), *.suffix, or ~ and a regular expression."""
    method: Annotated[tuple[Method, ...], AtLeastOne(), Many()] | None = None
    """The method, upper case."""
    header: dict[HeaderName, Annotated[tuple[WantedValue, ...], AtLeastOne(), Many()] | None] | None = None
    """By name: the whole value, or null for any value."""
    query: dict[str, Annotated[tuple[WantedValue, ...], AtLeastOne(), Many()] | None] | None = None
    """By name of the parameter: the whole value, or null for any value."""
    scheme: Annotated[tuple[Literal["http", "https"], ...], AtLeastOne(), Many()] | None = None
    """http or https."""
    client: Annotated[tuple[Client, ...], AtLeastOne(), Many()] | None = None
    """The client's address: an address, a network such as 10.0.0.0/8, or unix."""


ACTIONS = ("backend", "static", "redirect", "respond", "connect")

_NOT_FOR_TUNNELS = (
    "mount", "internal", "split_by", "mirror", "headers", "limit_rate", "limit_rate_after", "buffering",
    "request_buffering",
)  # fmt: skip
"""Settings of routes about paths, bodies and responses, which a tunnel does not have."""


def _static(value: Any) -> Any:
    return {"root": value} if isinstance(value, str) else value


Shares: TypeAlias = Annotated[dict[str, Count], Field(min_length=1)]
OneOrShares: TypeAlias = Annotated[
    Annotated[str, Tag("<name>")] | Annotated[Shares, Tag("<shares>")],
    Discriminator(lambda value: "<shares>" if isinstance(value, dict) else "<name>"),
]


def _mirror(value: Any) -> Any:
    return {"backend": value} if isinstance(value, str) else value


def _connect(value: Any) -> Any:
    return {"to": value} if isinstance(value, str | list) else value


_CONNECT_SHORT: Any = {
    "anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "string"}}]
}
_CONNECT_FORMS = "a host and port such as example.com:443, a list of such, or a mapping with to"


class Route(Model):
    """What to do with the requests that match."""

    later: ClassVar[dict[str, str]] = {"rewrite": f"rewriting is {NOT_YET}"}

    match: Match = Field(default_factory=Match)
    """What a request must look like; without it, anything."""
    mount: Mount = ""
    """The part of the path that is the application's own: SCRIPT_NAME, root_path; http and static
    do not see it."""
    backend: OneOrShares | None = None
    """Action: pass the request to the backend of this name, or to one of several, as {blue: 9, green: 1}."""
    static: Annotated[Static, Short(_static, PATH_SCHEMA, "a directory or a mapping with root")] | None = None
    """Action: serve files from a directory."""
    redirect: Redirect | None = None
    """Action: send the client elsewhere."""
    respond: Respond | None = None
    """Action: answer this."""
    connect: Annotated[Connect, Short(_connect, _CONNECT_SHORT, _CONNECT_FORMS)] | None = None
    """Action: open a tunnel to the server that the client names (CONNECT), if it is one of these. Without
    such a route CONNECT is refused."""
    internal: Flag = False
    """Whether this route is for local redirects of programs and X-Accel-Redirect only, not for clients."""
    split_by: LineTemplateText | None = None
    """What decides which of several backends gets the request, such as {client}; by default chance."""
    authorize: str | None = None
    """A fastcgi backend with role: authorizer that decides whether the request may go on."""
    forward_auth: ForwardAuth | None = None
    """A backend that is asked, by HTTP or any other protocol, whether the request may go on."""
    mirror: (
        Annotated[
            Mirror, Short(_mirror, {"type": "string"}, "the name of a backend or a mapping with backend")
        ]
        | None
    ) = None
    """A second backend that gets a copy of each request, or how."""
    headers: HeaderRules | None = None
    """Header fields that are changed on the way to the action and back."""
    limit_rate: Limit | None = None
    """Bytes per second that a response is sent with; by default as fast as the client takes it."""
    limit_rate_after: Size = 0
    """Bytes of a response that are sent before limit_rate begins."""
    buffering: Annotated[Buffering | None, Switched("memory and file")] = None
    """true, or how much of a response is taken from the backend before the client has read it."""
    request_buffering: Annotated[RequestBuffering | None, Switched("memory")] = None
    """true, or how: the backend gets a request when its whole body is here."""

    @classmethod
    def contradictions(cls, data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
        given = [action for action in ACTIONS if action in data]
        if len(given) != 1:
            got = "none" if not given else alternatives(given).replace(" or ", " and ")
            yield (), f"expected exactly one action ({alternatives(ACTIONS)}), got {got}"
        elif data[given[0]] is None:
            yield (given[0],), "expected a value, got nothing"
        if data.get("split_by") is not None and not isinstance(data.get("backend"), dict):
            yield ("split_by",), "there is nothing to choose from: expected several backends"
        if data.get("limit_rate_after") and data.get("limit_rate") is None:
            yield ("limit_rate_after",), "nothing is limited: expected limit_rate beside it"
        yield from _about_connect(data)
        mount = data.get("mount")
        if not isinstance(mount, str):
            return
        if given in (["redirect"], ["respond"]):
            yield ("mount",), f"has no meaning for {given[0]}: expected backend or static beside it"
        yield from _outside_mount(mount, data.get("match"))


def _about_connect(data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
    """CONNECT has a host and a port, and nothing of what requests have else (RFC 9110 9.3.6)."""
    match = data.get("match")
    match = match if isinstance(match, dict) else {}
    methods = match.get("method")
    methods = methods if isinstance(methods, list) else [methods]
    if "connect" not in data:
        if "CONNECT" in methods:
            yield ("match", "method"), "CONNECT is for routes with connect: others never get it"
        return
    yield from pointless(data, *_NOT_FOR_TUNNELS, because="has no meaning for connect")
    for key in ("path", "query"):
        if match.get(key) is not None:
            yield ("match", key), f"CONNECT has no {key}: expected host, client, header or scheme"
    if methods not in ([None], ["CONNECT"]):
        yield ("match", "method"), "a route with connect gets CONNECT and nothing else"


def _outside_mount(mount: str, match: Any) -> Iterator[tuple[Place, str]]:
    patterns = match.get("path") if isinstance(match, dict) else None
    several = isinstance(patterns, list)
    for position, pattern in enumerate(patterns if isinstance(patterns, list) else [patterns]):
        if isinstance(pattern, str) and _can_match(pattern, "") and not _can_match(pattern, mount):
            place: Place = ("match", "path", position) if several else ("match", "path")
            yield place, f"{show(pattern)} is not below the route's mount {show(mount)}"


def _can_match(pattern: str, mount: str) -> bool:
    try:
        find_rest_of([pattern], mount)
    except (ValueError, OverflowError, RecursionError):
        return False
    return True
