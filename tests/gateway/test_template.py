"""Templates, and that nothing a client sends breaks out of its place."""

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.request import Address, Request
from gateway.router import Route, Router
from gateway.template import Template, field_value, quote_path
from tests.gateway.conftest import make_request


class Nothing:
    async def handle(self, request: object, responder: object) -> None:
        raise AssertionError("never called")


def routed(target: bytes, pattern: str = "/*") -> Request:
    """A request whose path_rest the router has set."""
    request = make_request(target)
    assert Router([Route(Nothing(), paths=[pattern])]).match(request) is not None
    return request


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("", ""),
        ("constant", "constant"),
        ("{path}", "/old/a b"),
        ("{path.rest}", "a b"),
        ("{query}", "x=%20&y"),
        ("{host}", "example.com"),
        ("{method}", "GET"),
        ("{scheme}", "https"),
        ("{client}", "192.0.2.7"),
        ("{header.X-Thing}", "t h"),
        ("{header.x-thing}", "t h"),
        ("{header.absent}", ""),
        ("<{method} {host}{path}?{query}>", "<GET example.com/old/a b?x=%20&y>"),
        ("{{path}}", "{path}"),
        ("{{{path}}}", "{{path}}"),
        ('{"path": "{path}"}', '{"path": "/old/a b"}'),
        ("a { color: red }", "a { color: red }"),
        ("{", "{"),
        ("{}", "{}"),
        ("{1}", "{1}"),
    ],
)
def test_renders_placeholders(text: str, rendered: str) -> None:
    request = make_request(
        b"/old/a%20b?x=%20&y",
        scheme="https",
        client=("192.0.2.7", 5),
        headers=[(b"x-thing", b"t h"), (b"x-thing", b"second")],
    )
    request.path_rest = "a b"
    assert Template.parse(text).render(request) == rendered


def test_request_id_is_the_id_of_the_request() -> None:
    request = make_request()
    assert Template.parse("{request_id}").render(request) == request.id


@pytest.mark.parametrize(("client", "rendered"), [(("/run/x.sock", None), "/run/x.sock"), (None, "")])
def test_client_without_a_network_address(client: Address, rendered: str) -> None:
    assert Template.parse("{client}").render(make_request(client=client)) == rendered


@pytest.mark.parametrize("text", ["{nothing}", "{path.base}", "{header}", "x{remote_addr}y", "{path}{pth}"])
def test_rejects_unknown_placeholders(text: str) -> None:
    with pytest.raises(ValueError, match=r"unknown placeholder .*\{path\}, .*\{header\.NAME\}"):
        Template.parse(text)


def test_constant_tells_whether_the_request_matters() -> None:
    assert Template.parse("a").constant == "a"
    assert Template.parse("{{path}}").constant == "{path}"
    assert Template.parse("a{path}").constant is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", b"plain"),
        ("a\r\nSet-Cookie: x", b"a%0D%0ASet-Cookie: x"),
        ("tab\there\0\x7f", b"tab%09here%00%7F"),
        (" edges ", b"edges"),
        ("café", "café".encode()),
        ("\udcff", b"\xff"),
    ],
)
def test_field_values_have_no_control_characters(text: str, value: bytes) -> None:
    """RFC 9110 5.5."""
    assert field_value(text) == value


def test_a_path_cannot_split_a_response() -> None:
    request = make_request(b"/a%0d%0aSet-Cookie:%20x")
    assert Template.parse("at {path}").render_field(request) == b"at /a%0D%0ASet-Cookie: x"


@pytest.mark.parametrize(
    ("text", "target", "url"),
    [
        ("/new/{path.rest}", b"/old/a", "/new/a"),
        ("/new/{path.rest}", b"/old", "/new/"),
        ("/new{path}", b"/old/a%20b", "/new/old/a%20b"),
        ("https://{host}{path}", b"/old/x", "https://example.com/old/x"),
        ("https://{host}{path}", b"/old//x", "https://example.com/old//x"),
        ("{scheme}://www.{host}{path}?{query}", b"/old/?a=%20b&c", "http://www.example.com/old/?a=%20b&c"),
        ("/x?from={path}", b"/old/a%26b", "/x?from=/old/a&b"),
        ("/x?m={method}&h={header.referer}", b"/old/", "/x?m=GET&h="),
        ("/{path.rest}", b"/old/%C3%A9%FF", "/%C3%A9%FF"),
        ("/{path.rest}", b"/old/a%3Fb%23c", "/a%3Fb%23c"),
        ("/{path.rest}", b"/old/100%25", "/100%25"),
        ("/über {path.rest}", b"/old/a", "/%C3%BCber%20a"),
        ("/a%20b#top", b"/old/", "/a%20b#top"),
        ("//cdn.example.net/{path.rest}", b"/old/a", "//cdn.example.net/a"),
        ("/x?{query}", b"/old/?a b\r\n\xe9|", "/x?a%20b%0D%0A%E9%7C"),
    ],
)
def test_values_are_encoded_for_their_place_in_a_url(text: str, target: bytes, url: str) -> None:
    """RFC 3986 2.1, 3.3, 3.4."""
    assert Template.parse(text).render_url(routed(target, "/old/*")) == url


@pytest.mark.parametrize(
    ("text", "pattern", "target", "url"),
    [
        ("/{path.rest}", "/*", b"//evil.example/", "/evil.example/"),
        ("/{path.rest}", "/*", b"////evil.example/", "/evil.example/"),
        ("/{path.rest}", "/*", b"/%2Fevil.example/", "/evil.example/"),
        ("/{path.rest}", "/*", b"/%5Cevil.example/", "/%5Cevil.example/"),
        ("/{path.rest}", "/*", b"/%09/evil.example/", "/%09/evil.example/"),
        ("{path}", "/*", b"//evil.example/", "/evil.example/"),
        ("{path.rest}", "/go/*", b"/go///evil.example", "/evil.example"),
        ("{path.rest}", "/go/*", b"/go/https://evil.example", "/https://evil.example"),
        ("{path.rest}", "/go/*", b"/go/javascript:alert(1)", "/javascript:alert(1)"),
        ("{path.rest}", "/go/*", b"/go", "/"),
        ("/{header.absent}{path}", "/*", b"/evil.example", "/evil.example"),
        ("https://a.example{path.rest}", "/go/*", b"/go/.evil.example", "https://a.example/.evil.example"),
        ("https://a.example{path.rest}", "/go/*", b"/go/@evil.example", "https://a.example/@evil.example"),
        ("//{host}{path.rest}", "/go/*", b"/go/.evil.example", "//example.com/.evil.example"),
        ("{query}", "/*", b"/?https://evil.example", "https%3A%2F%2Fevil.example"),
    ],
)
def test_a_path_never_becomes_a_host(text: str, pattern: str, target: bytes, url: str) -> None:
    """No open redirect: browsers take ``//name`` for a host, and whatever follows a host for more of it."""
    assert Template.parse(text).render_url(routed(target, pattern)) == url


def test_a_header_is_one_component_of_a_url() -> None:
    request = make_request(headers=[(b"x-next", b"//evil.example/?a=b&c#d")])
    assert Template.parse("/{header.x-next}").render_url(request) == "/%2F%2Fevil.example%2F%3Fa%3Db%26c%23d"


def test_quote_path_keeps_what_a_path_may_have() -> None:
    """RFC 3986 3.3: pchar."""
    assert quote_path("/a-._~!$&'()*+,;=:@b") == "/a-._~!$&'()*+,;=:@b"
    assert quote_path('/ "<>\\^`{|}%?#[]') == "/%20%22%3C%3E%5C%5E%60%7B%7C%7D%25%3F%23%5B%5D"


_TEMPLATES = ["/{path.rest}", "{path}", "{path.rest}", "/n/{path.rest}?{query}", "{path}?{query}#{path.rest}"]
_TARGET = st.text(st.sampled_from("/\\.:@?a%0d2fF5C \t\r\n\x7f\xe9"), max_size=15)


@given(st.sampled_from(_TEMPLATES), _TARGET, _TARGET)
def test_any_path_and_query_stay_on_the_same_host(text: str, path: str, query: str) -> None:
    """As a browser resolves the reference; and the URL is printable ASCII."""
    request = Request(
        method="GET",
        path="/" + path,
        raw_path=b"",
        query=query.encode(),
        version="1.1",
        headers=[],
        host="example.com",
        connection=make_request().connection,
    )
    request.path_rest = path
    url = Template.parse(text).render_url(request)
    assert all("!" <= character <= "~" for character in url)
    assert "\\" not in url
    parts = urlsplit(urljoin("https://example.com/base", url))
    assert (parts.scheme, parts.netloc) == ("https", "example.com")
