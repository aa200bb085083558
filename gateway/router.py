"""Which route answers a request: the first whose conditions all hold.

A route is compiled once into the fewest checks. Routes whose paths begin with a fixed first segment are
found by that segment in a dictionary, so that a long table costs no more than a short one; the order of
the table decides all the same.

Promises: a mount ``/m`` is itself a condition (``/m`` and ``/m/...`` match, ``/mx`` does not), so SCRIPT_NAME
+ PATH_INFO is always the path (RFC 3875 3.3). A route that can never match is a ValueError. CONNECT has no
path, and is for the routes that take it and no others. Does not: know the configuration file, change the
path, or treat HEAD as GET. Path patterns: `path_pattern.py`.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeAlias
from urllib.parse import parse_qsl

from gateway.backend import Handler
from gateway.derived import RedirectedRequest
from gateway.networks import ClientNetwork, ClientNetworks
from gateway.path_pattern import FindRest, find_rest_of, first_segments_of, mount_of
from gateway.request import Request

Condition: TypeAlias = Callable[[Request], bool]

_NO_PATH: Final = ""
"""The path of a CONNECT, which is its own first segment."""

_HOST = re.compile(r"(?:\*(?=\.))?[^*/:\[\]]+\Z|\[[0-9A-Fa-f:.]+\]\Z")


class Route:
    """Conditions, and the handler for the requests that fulfil them all.

    Each argument that is a sequence means any of its items; an empty one is no condition.
    *headers* and *query* map a name to the values it may have (the whole value, or ``~`` and a regular
    expression to search for), or to None: it need only be present.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        name: str = "",
        description: str = "",
        backend: str = "",
        mount: str = "",
        paths: Sequence[str] = (),
        hosts: Sequence[str] = (),
        methods: Sequence[str] = (),
        headers: Mapping[str, Sequence[str] | None] | None = None,
        query: Mapping[str, Sequence[str] | None] | None = None,
        schemes: Sequence[str] = (),
        clients: Sequence[ClientNetwork] = (),
        internal: bool = False,
        takes_connect: bool = False,
    ) -> None:
        """*name* and *description* are for people; *internal* routes are for redirected requests only, those
        that take CONNECT for nothing else.

        Raises ValueError for a host, path, mount or regular expression that means nothing.
        """
        self.handler = handler
        self.in_words = f"{name} {description}".strip()
        self.backend = backend
        self.mount = mount_of(mount)
        self.takes_connect = takes_connect
        self.first_segments = frozenset({_NO_PATH}) if takes_connect else first_segments_of(paths, self.mount)
        self.find_rest = find_rest_of(paths, self.mount)
        # Cheapest first.
        self.conditions: tuple[Condition, ...] = (
            *_internal_condition(internal),
            *_method_condition(methods),
            *_host_condition(hosts),
            *_scheme_condition(schemes),
            *(_header_condition(field, values) for field, values in (headers or {}).items()),
            *_client_condition(clients),
            *_query_condition(query or {}),
        )


class Router:
    """The route table."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self.in_words = [route.in_words for route in self.routes]
        """For people."""
        self.takes_connect = any(route.takes_connect for route in self.routes)
        """Whether any CONNECT is to be looked at."""
        segments = {segment for route in self.routes for segment in route.first_segments or ()}
        self._anywhere = self._compile(None)
        self._by_segment = {segment: self._compile(segment) for segment in segments}

    def match(self, request: Request) -> Route | None:
        """The first route that matches, with ``request.mount``, ``.path_rest`` and ``.backend`` set by it."""
        path = request.path
        candidates = self._anywhere
        if self._by_segment:
            end = path.find("/", 1)
            candidates = self._by_segment.get(path if end < 0 else path[:end], candidates)
        for route, find_rest, conditions in candidates:
            rest = find_rest(path)
            if rest is None:
                continue
            for holds in conditions:
                if not holds(request):
                    break
            else:
                request.mount = route.mount
                request.path_rest = rest
                request.backend = route.backend
                return route
        return None

    def _compile(self, segment: str | None) -> tuple[tuple[Route, FindRest, tuple[Condition, ...]], ...]:
        """The routes that a path with this first segment can match, in order."""
        return tuple(
            (route, route.find_rest, route.conditions)
            for route in self.routes
            if (segment != _NO_PATH if route.first_segments is None else segment in route.first_segments)
        )


# The other conditions; each maker gives none for no values.


def _internal_condition(internal: bool) -> tuple[Condition, ...]:
    """Requests that an application has made by a redirect of its own."""
    return (lambda request: isinstance(request, RedirectedRequest),) if internal else ()


def _method_condition(methods: Sequence[str]) -> tuple[Condition, ...]:
    """RFC 9110 9.1: methods are case-sensitive."""
    wanted = frozenset(methods)
    return (lambda request: request.method in wanted,) if wanted else ()


def _scheme_condition(schemes: Sequence[str]) -> tuple[Condition, ...]:
    wanted = frozenset(schemes)
    return (lambda request: request.connection.scheme in wanted,) if wanted else ()


def _host_condition(hosts: Sequence[str]) -> tuple[Condition, ...]:
    """Exact names and ``*.example.com``: names below it at any depth, not itself."""
    exact: set[str] = set()
    suffixes: list[str] = []
    for text in hosts:
        if not _HOST.match(text):
            raise ValueError(f"host: expected a name, '*.name' or '[address]', without a port, got {text!r}")
        host = text.lower()
        if host[0] == "*":
            suffixes.append(host[1:])
        else:
            exact.add(host)
    if suffixes:
        endings = tuple(suffixes)
        # A host that is nothing but the ending ('.example.com') is not a name below it.
        return (
            lambda request: (
                (host := request.host) in exact or (host.endswith(endings) and not host.startswith("."))
            ),
        )
    return (lambda request: request.host in exact,) if exact else ()


def _header_condition(name: str, values: Sequence[str] | None) -> Condition:
    """A field line with one of *values*; lists within a line are not taken apart."""
    field = name.lower().encode("ascii")
    is_wanted = _value_test(values)
    return lambda request: any(
        found == field and is_wanted(value.decode("utf-8", "surrogateescape"))
        for found, value in request.headers
    )


def _query_condition(query: Mapping[str, Sequence[str] | None]) -> tuple[Condition, ...]:
    """Parameters of the decoded query (``application/x-www-form-urlencoded``), all names in one parsing."""
    if not query:
        return ()
    tests = {name: _value_test(values) for name, values in query.items()}

    def holds(request: Request) -> bool:
        if not request.query:
            return False
        text = request.query.decode("utf-8", "surrogateescape")
        missing = set(tests)
        for name, value in parse_qsl(text, keep_blank_values=True, errors="surrogateescape"):
            if name in missing and tests[name](value):
                missing.remove(name)
        return not missing

    return (holds,)


def _value_test(values: Sequence[str] | None) -> Callable[[str], bool]:
    if values is None:
        return lambda value: True
    exact = frozenset(value for value in values if not value.startswith("~"))
    searches = [_regex(value[1:]).search for value in values if value.startswith("~")]
    if not searches:
        return exact.__contains__
    return lambda value: value in exact or any(search(value) for search in searches)


def _regex(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError(f"'~{text}' is not a regular expression: {error}") from error


def _client_condition(clients: Sequence[ClientNetwork]) -> tuple[Condition, ...]:
    has = ClientNetworks(clients).has
    return (lambda request: has(request.connection.client),) if clients else ()
