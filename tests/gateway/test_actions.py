"""Redirects and fixed responses."""

from typing import Any

import pytest
import trio

from gateway.actions import HttpsRedirect, Redirect, Respond
from gateway.request import Request
from gateway.template import Template
from tests.gateway.conftest import RecordingResponder, make_request


def respond(**options: Any) -> Respond:
    """The action, with *options* in place of what most tests want."""
    return Respond(**{"status": 200, "body": None, "headers": {}, **options})


def answer(handler: HttpsRedirect | Redirect | Respond, request: Request) -> RecordingResponder:
    """The whole response, which must have been ended and flushed."""
    recorder = RecordingResponder(method=request.method)
    trio.run(handler.handle, request, recorder)
    assert recorder.ended
    assert not recorder.unflushed
    return recorder


def redirect(to: str, request: Request, status: int = 308) -> RecordingResponder:
    return answer(Redirect(Template.parse(to), status=status), request)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_sends_status_location_and_a_short_text(status: int) -> None:
    """RFC 9110 15.4."""
    response = redirect("/new", make_request(b"/old"), status)
    assert response.status == status
    assert response.header(b"location") == b"/new"
    assert response.header(b"content-type") == b"text/plain; charset=utf-8"
    assert response.body.startswith(str(status).encode())
    assert response.header(b"content-length") == str(len(response.body)).encode()


def test_redirect_to_head_has_no_body() -> None:
    assert redirect("/new", make_request(method="HEAD")).body == b""


@pytest.mark.parametrize(
    ("to", "target", "location"),
    [
        ("/new", b"/old?a=b", b"/new?a=b"),
        ("/new#part", b"/old?a=b", b"/new?a=b#part"),
        ("/new", b"/old", b"/new"),
        ("/new?x=1", b"/old?a=b", b"/new?x=1"),
        ("/new?x=1&{query}", b"/old?a=b", b"/new?x=1&a=b"),
        ("/new?", b"/old?a=b", b"/new"),
        ("/new?{query}", b"/old", b"/new"),
        ("https://{host}{path}", b"/old?a=%20", b"https://example.com/old?a=%20"),
        ("/new", b"/old?a\r\nb", b"/new?a%0D%0Ab"),
    ],
)
def test_redirect_keeps_the_query_unless_it_has_one(to: str, target: bytes, location: bytes) -> None:
    assert redirect(to, make_request(target)).header(b"location") == location


@pytest.mark.parametrize(
    ("port", "target", "location"),
    [
        (443, b"/", b"https://example.com/"),
        (8443, b"/a%2Fb/../c?d=%20", b"https://example.com:8443/a%2Fb/../c?d=%20"),
        (443, b"//evil.example/", b"https://example.com//evil.example/"),
        (443, b"/\xc3\xa4 b?\r\n", b"https://example.com/%C3%A4%20b?%0D%0A"),
    ],
)
def test_redirect_to_https_changes_nothing_else(port: int, target: bytes, location: bytes) -> None:
    """RFC 9110 15.4.9: 308 keeps the method and the body."""
    response = answer(HttpsRedirect(port), make_request(target, method="POST"))
    assert response.status == 308
    assert response.header(b"location") == location


def test_redirect_cannot_be_split_or_led_away() -> None:
    request = make_request(b"//evil.example/%0d%0aSet-Cookie:x")
    assert redirect("{path}", request).header(b"location") == b"/evil.example/%0D%0ASet-Cookie:x"


@pytest.mark.parametrize("status", [200, 300, 304, 404])
def test_rejects_statuses_that_do_not_redirect(status: int) -> None:
    with pytest.raises(ValueError, match="a redirect has one of"):
        Redirect(Template.parse("/"), status=status)


def test_respond_sends_a_fixed_text() -> None:
    response = answer(respond(body=Template.parse("ok\n")), make_request())
    assert (response.status, response.body) == (200, b"ok\n")
    assert response.headers == [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"3")]


def test_respond_is_the_same_each_time() -> None:
    handler = respond(status=404, body=Template.parse("gone"), headers={"X-A": Template.parse("b")})
    first, second = (answer(handler, make_request()) for _ in range(2))
    assert (first.status, first.headers, first.body) == (second.status, second.headers, second.body)
    assert first.header(b"x-a") == b"b"


def test_respond_fills_in_body_and_fields() -> None:
    handler = respond(
        status=403,
        body=Template.parse("no {path} for {client}"),
        headers={"X-Path": Template.parse("{path}"), "X-Fixed": Template.parse("f")},
    )
    response = answer(handler, make_request("/é%0a%FF".encode()))
    assert response.body == b"no /\xc3\xa9\n\xff for 127.0.0.1"
    assert response.header(b"content-length") == str(len(response.body)).encode()
    assert response.header(b"x-path") == b"/\xc3\xa9%0A\xff"
    assert response.header(b"x-fixed") == b"f"


def test_respond_fills_in_fields_of_a_constant_body() -> None:
    handler = respond(body=Template.parse("x"), headers={"X-Path": Template.parse("{path}")})
    assert answer(handler, make_request(b"/a")).header(b"x-path") == b"/a"
    assert answer(handler, make_request(b"/b")).header(b"x-path") == b"/b"


def test_respond_takes_a_content_type() -> None:
    handler = respond(body=Template.parse("{}"), headers={"Content-Type": Template.parse("application/json")})
    assert answer(handler, make_request()).header(b"content-type") == b"application/json"


@pytest.mark.parametrize(
    ("content_type", "text", "body"),
    [
        ("Text/HTML; charset=utf-8", "<p>{path}</p>", b"<p>/&lt;b&gt;&quot;&amp;</p>"),
        ("image/svg+xml", "<text>{path}</text>", b"<text>/&lt;b&gt;&quot;&amp;</text>"),
        ("application/problem+json", '{"path": "{path}"}', b'{"path": "/<b>\\"&"}'),
        ("text/csv", "{path}", b'/<b>"&'),
    ],
)
def test_respond_writes_values_as_its_content_type_wants_them(
    content_type: str, text: str, body: bytes
) -> None:
    """A path is a client's; in a page of HTML it would be a script."""
    handler = respond(body=Template.parse(text), headers={"Content-Type": Template.parse(content_type)})
    assert answer(handler, make_request(b"/%3Cb%3E%22&")).body == body


def test_respond_to_head_tells_the_length_only() -> None:
    response = answer(respond(body=Template.parse("12345")), make_request(method="HEAD"))
    assert response.header(b"content-length") == b"5"
    assert response.body == b""


def test_respond_without_a_body() -> None:
    response = answer(respond(status=404), make_request())
    assert response.headers == [(b"content-length", b"0")]
    assert response.pieces == []


@pytest.mark.parametrize("status", [204, 304])
def test_respond_without_content_has_no_length(status: int) -> None:
    """RFC 9110 8.6."""
    assert answer(respond(status=status), make_request()).headers == []


@pytest.mark.parametrize("status", [0, 100, 199, 600])
def test_rejects_statuses_that_are_not_final(status: int) -> None:
    with pytest.raises(ValueError, match="200 to 599"):
        respond(status=status)


@pytest.mark.parametrize("status", [204, 205, 304])
def test_rejects_a_body_where_none_may_be(status: int) -> None:
    """RFC 9110 6.4.1, 15.3.6."""
    with pytest.raises(ValueError, match="has none"):
        respond(status=status, body=Template.parse("x"))
