"""gateway.failure.pages: the formats, and that what others said stays text in them."""

import html.parser
import json

import pytest

from gateway.failure.pages import ErrorPage, Failure, FailurePages
from gateway.request import Request
from tests.gateway.conftest import make_request

HTML = b"text/html; charset=utf-8"
EVIL = '<script>alert(1)</script>&"\x1b[2J\udc80'
FAILURE = Failure(
    502,
    "connection_refused",
    "the application refused the connection",
    next_hop="app",
    advice=f"Start it: {EVIL}",
    facts={"phase": "connect", "detail": EVIL},
    output=[f"  File {EVIL}", "Error"],
)


def asked(accept: str = "", target: bytes = b"/x%20y?q") -> Request:
    return make_request(target, headers=[(b"accept", accept.encode())])


class Page(html.parser.HTMLParser):
    """Elements and text of a page."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("debug", [False, True])
def test_html(debug: bool) -> None:
    request = asked("text/html")
    content_type, body = FailurePages(debug=debug).render(FAILURE, request)
    assert content_type == HTML
    page = Page(body)
    assert "502" in page.text
    assert "Bad Gateway" in page.text
    assert "the application refused the connection" in page.text
    assert request.id in page.text
    assert "script" not in page.tags
    assert page.links == ["data:,"], "nothing is loaded from elsewhere"
    assert ("connect" in page.text.split("</style>")[-1] and "alert(1)" in page.text) == debug
    assert ("Start it" in page.text) == debug
    assert ("those who run this site" in page.text) == (not debug)
    assert b"\x1b" not in body
    assert b"$" not in body


def test_html_of_the_clients_own_failure() -> None:
    """Nobody else can mend it; without facts there is no table."""
    body = FailurePages(debug=True).render(Failure(413, "x", "too large"), asked("text/html"))[1]
    assert "table" not in Page(body).tags
    body = FailurePages().render(Failure(413, "x", "too large"), asked("text/html"))[1]
    assert "those who run this site" not in Page(body).text


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("media_type", ["application/json", "application/problem+json"])
def test_problem_details(media_type: str, debug: bool) -> None:
    """RFC 9457 3.1."""
    request = asked(media_type)
    content_type, body = FailurePages(debug=debug).render(FAILURE, request)
    assert content_type == media_type.encode()
    members = json.loads(body)
    facts = {
        "advice": f"Start it: {EVIL}",
        "phase": "connect",
        "detail": EVIL,
        "output": list(FAILURE.output),
    }
    extra = {"debug": facts} if debug else {}
    assert members == {
        "type": "about:blank",
        "title": "Bad Gateway",
        "status": 502,
        "detail": "the application refused the connection",
        "instance": "/x%20y",
        "request_id": request.id,
        **extra,
    }


def test_text() -> None:
    request = asked()
    content_type, body = FailurePages().render(FAILURE, request)
    assert content_type == b"text/plain; charset=utf-8"
    assert body.decode() == (
        f"502 Bad Gateway\n\nthe application refused the connection\n\nrequest id: {request.id}\n"
    )


def test_text_for_developers() -> None:
    request = asked()
    _, body = FailurePages(debug=True).render(FAILURE, request)
    safe = EVIL.replace("\x1b", "\\x1b").replace("\udc80", "\\udc80")
    assert body.decode() == (
        f"502 Bad Gateway\n\nthe application refused the connection\n\nStart it: {safe}\n\n"
        f"request id: {request.id}\nphase:      connect\ndetail:     {safe}\n\n"
        f"output:\n      File {safe}\n    Error\n"
    )


PAGES = {
    "404": ErrorPage("<p>{status} {reason} {path} {{path}} {header.x} {request_id}", HTML),
    "4xx": ErrorPage("{status} {reason}: {path}", b"text/plain; charset=utf-8"),
    "5xx": ErrorPage('{"status": {status}, "path": "{path}"}', b"application/json"),
}


def configured(status: int, accept: str = "text/html", target: bytes = b"/%3Cb%3E%22") -> tuple[bytes, bytes]:
    request = make_request(target, headers=[(b"accept", accept.encode()), (b"x", b"<i>\xff")])
    request._id = "an-id"
    return FailurePages(pages=PAGES).render(Failure(status, "x", "detail"), request)


def test_page_of_the_operator_is_a_template_whose_values_are_escaped() -> None:
    page = b"<p>404 Not Found /&lt;b&gt;&quot; {path} &lt;i&gt;\xff an-id"
    assert configured(404) == (HTML, page)
    assert configured(404, accept="*/*") == (HTML, page), "the page is for all that is not JSON"


def test_page_of_a_class_of_statuses() -> None:
    assert configured(418) == (b"text/plain; charset=utf-8", b"418 I'm a Teapot: /<b>\"")
    assert configured(413)[1].startswith(b"413 ")
    content_type, body = configured(503, accept="*/*")
    assert content_type == b"application/json"
    assert json.loads(body) == {"status": 503, "path": '/<b>"'}


def test_json_is_still_given_to_those_who_ask_for_it() -> None:
    content_type, body = configured(404, accept="application/json")
    assert content_type == b"application/json"
    assert json.loads(body)["request_id"] == "an-id"


def test_developers_get_the_facts_instead_of_the_operators_page() -> None:
    content_type, body = FailurePages(debug=True, pages=PAGES).render(FAILURE, asked("text/html"))
    assert content_type == HTML
    assert b"alert(1)" in body
