"""The route table: first match, all keys, any value."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.request import Address, Request, Responder
from gateway.router import Route, Router
from tests.gateway.conftest import make_request


class Nothing:
    async def handle(self, request: Request, responder: Responder) -> None:
        raise AssertionError("the router only chooses")


HANDLER = Nothing()


def route(name: str = "", **conditions: Any) -> Route:
    return Route(HANDLER, name=name, **conditions)


def matches(request: Request, **conditions: Any) -> bool:
    return Router([route(**conditions)]).match(request) is not None


def test_the_first_route_that_matches_wins() -> None:
    router = Router(
        [
            route("admin", paths=["/admin/*"]),
            route("php", paths=["*.php"]),
            route("app", paths=["/app/*", "/admin/late"]),
            route("rest"),
        ]
    )
    for target, name in [
        (b"/admin/late", "admin"),
        (b"/admin/x.php", "admin"),
        (b"/app/x.php", "php"),
        (b"/app/x", "app"),
        (b"/app", "app"),
        (b"/apple", "rest"),
        (b"//app/x", "rest"),
        (b"/", "rest"),
        (b"*", "rest"),
    ]:
        won = router.match(make_request(target))
        assert won is not None
        assert won.in_words == name, target


def test_no_route_is_none() -> None:
    request = make_request(b"/x")
    assert Router([]).match(request) is None
    assert Router([route(paths=["/y"])]).match(request) is None
    assert request.mount == ""


def test_the_winner_sets_mount_rest_and_backend() -> None:
    router = Router(
        [
            Route(HANDLER, mount="/m", paths=["/m/a/*"], methods=["POST"], backend="never"),
            Route(HANDLER, mount="/m", paths=["/m/a/*"], backend="app"),
        ]
    )
    request = make_request(b"/m/a/b")
    assert router.match(request) is router.routes[1]
    assert (request.mount, request.rest, request.path_rest, request.backend) == ("/m", "/a/b", "b", "app")


@pytest.mark.parametrize("target", [b"/m", b"/m/", b"/m/x/y", b"/m//x"])
def test_mount_and_rest_are_the_path_again(target: bytes) -> None:
    """CGI-24: the Script-URI round trip."""
    request = make_request(target)
    assert Router([route(mount="/m")]).match(request) is not None
    assert request.mount == "/m"
    assert request.mount + request.rest == target.decode()
    assert request.rest == "" or request.rest.startswith("/")


def test_a_mount_alone_is_a_condition() -> None:
    assert not matches(make_request(b"/mx"), mount="/m")
    assert not matches(make_request(b"/"), mount="/m")


def test_all_keys_must_hold() -> None:
    conditions = {"paths": ["/a/*"], "methods": ["GET"], "hosts": ["example.com"]}
    assert matches(make_request(b"/a/b"), **conditions)
    assert not matches(make_request(b"/b"), **conditions)
    assert not matches(make_request(b"/a", method="POST"), **conditions)
    assert not matches(make_request(b"/a", host="example.org"), **conditions)


@pytest.mark.parametrize(
    ("patterns", "host", "expected"),
    [
        (["example.com"], "example.com", True),
        (["EXAMPLE.com"], "example.com", True),
        (["example.com"], "www.example.com", False),
        (["*.example.com"], "www.example.com", True),
        (["*.example.com"], "a.b.example.com", True),
        (["*.example.com"], "example.com", False),
        (["*.example.com"], ".example.com", False),
        (["*.example.com"], "badexample.com", False),
        (["example.com", "*.example.com"], "example.com", True),
        (["*.a.org", "*.b.org"], "x.b.org", True),
        (["[::1]"], "[::1]", True),
        (["example.com"], "", False),
    ],
)
def test_host(patterns: list[str], host: str, expected: bool) -> None:
    assert matches(make_request(host=host), hosts=patterns) is expected


@pytest.mark.parametrize(
    "host", ["", "*", "*example.com", "a.*.com", "example.com:80", "http://a", "::1", "[::1"]
)
def test_rejects_hosts_that_no_request_has(host: str) -> None:
    with pytest.raises(ValueError, match=r"host: "):
        route(hosts=[host])


def test_method_is_case_sensitive_and_get_is_not_head() -> None:
    """RFC 9110 9.1."""
    assert matches(make_request(method="POST"), methods=["GET", "POST"])
    assert not matches(make_request(method="post"), methods=["GET", "POST"])
    assert not matches(make_request(method="HEAD"), methods=["GET"])


def test_scheme() -> None:
    assert matches(make_request(scheme="https"), schemes=["https"])
    assert not matches(make_request(scheme="http"), schemes=["https"])


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"X-Flag": None}, True),
        ({"x-flag": ["two"]}, True),
        ({"x-flag": ["one", "never"]}, True),
        ({"x-flag": ["on"]}, False),
        ({"x-flag": ["~^t.o$"]}, True),
        ({"x-flag": ["~three", "one"]}, True),
        ({"x-flag": ["~three"]}, False),
        ({"x-other": None}, False),
        ({"x-flag": None, "x-other": None}, False),
        ({"x-text": ["café"]}, True),
    ],
)
def test_header(wanted: Mapping[str, Sequence[str] | None], expected: bool) -> None:
    fields = [(b"x-flag", b"one"), (b"x-flag", b"two"), (b"x-text", "café".encode())]
    assert matches(make_request(headers=fields), headers=wanted) is expected


@pytest.mark.parametrize(
    ("target", "wanted", "expected"),
    [
        (b"/?debug", {"debug": None}, True),
        (b"/?debug=", {"debug": None}, True),
        (b"/", {"debug": None}, False),
        (b"/?a=1&a=2", {"a": ["2"]}, True),
        (b"/?a=1", {"a": ["2"]}, False),
        (b"/?a=12", {"a": [r"~^\d+$"]}, True),
        (b"/?a%62=x%20y", {"ab": ["x y"]}, True),
        (b"/?a=x+y", {"a": ["x y"]}, True),
        (b"/?a=caf%C3%A9", {"a": ["café"]}, True),
        (b"/?a=1&b=2", {"a": ["1"], "b": ["2"]}, True),
        (b"/?a=1", {"a": ["1"], "b": None}, False),
        (b"/?a=%FF", {"a": None}, True),
    ],
)
def test_query(target: bytes, wanted: Mapping[str, Sequence[str] | None], expected: bool) -> None:
    assert matches(make_request(target), query=wanted) is expected


@pytest.mark.parametrize("conditions", [{"headers": {"a": ["~("]}}, {"query": {"a": ["~("]}}])
def test_rejects_broken_regular_expressions(conditions: Mapping[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a regular expression"):
        route(**conditions)


@pytest.mark.parametrize(
    ("clients", "client", "expected"),
    [
        (["10.0.0.0/8"], ("10.1.2.3", 5), True),
        (["10.0.0.0/8"], ("11.1.2.3", 5), False),
        (["10.0.0.0/8"], ("::ffff:10.1.2.3", 5), True),
        (["127.0.0.1", "2001:db8::/32"], ("2001:db8::7", 5), True),
        (["127.0.0.1"], ("127.0.0.1", 5), True),
        (["fe80::/10"], ("fe80::1%eth0", 5), True),
        (["10.0.0.0/8"], ("hidden", 5), False),
        (["10.0.0.0/8"], ("", None), False),
        (["unix"], ("/run/peer.sock", None), True),
        (["unix"], ("", None), True),
        (["unix"], ("127.0.0.1", 5), False),
        (["unix"], None, False),
        (["0.0.0.0/0", "::/0"], None, False),
    ],
)
def test_client(clients: list[str], client: Address, expected: bool) -> None:
    networks = [text if text == "unix" else ip_network(text) for text in clients]
    assert matches(make_request(client=client), clients=networks) is expected


def test_connect_is_for_the_routes_that_take_it() -> None:
    """RFC 9110 9.3.6: it has a host and no path, whatever a pattern would make of that."""
    connect = make_request(method="CONNECT")
    connect.path, connect.raw_path = "", b"a:443"
    others = [route(), route(paths=["~"]), route(paths=["*.a", "/*"]), route(methods=["CONNECT"])]
    assert not Router(others).takes_connect
    routes = [*others, route(takes_connect=True, hosts=["b"]), route(takes_connect=True)]
    router = Router(routes)
    assert router.takes_connect
    assert router.match(connect) is routes[-1]
    assert (connect.mount, connect.path_rest) == ("", "")
    connect.host = "b"
    assert router.match(connect) is routes[-2]
    for target in (b"/", b"/x/y"):
        assert router.match(make_request(target)) is routes[0]
    only = Router([route(takes_connect=True), route("star", paths=["/a/*"])])
    assert only.match(make_request(b"/b")) is None
    assert only.match(make_request(b"*", method="OPTIONS")) is None


_PATTERNS = st.sampled_from(
    ["/", "/a", "/a/*", "/a/b", "/a/b/*", "/b/*", "/*", "*.php", "~^/a/.", "~b$", "/a.php", "/a//*"]
)
_ROUTES = st.lists(st.lists(_PATTERNS, max_size=3), max_size=6)
_TARGETS = st.lists(st.sampled_from([b"/", b"/a", b"/b", b"a", b".php"]), max_size=5).map(
    lambda p: b"/" + b"".join(p)
)


@given(_ROUTES, _TARGETS)
def test_the_index_by_segment_changes_nothing(tables: list[list[str]], target: bytes) -> None:
    """The same winner as by trying one route after the other."""
    routes = [route(paths=paths) for paths in tables]
    request = make_request(target)
    expected = next((r for r in routes if r.find_rest(request.path) is not None), None)
    assert Router(routes).match(request) is expected
