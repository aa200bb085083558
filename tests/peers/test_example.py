"""The example configuration, as a newcomer meets it: every link of its home page works."""

import json
import os
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest

from tests.gateway.served import unused_port
from tests.peers.conftest import CHECKOUT, Gateway, Response

HOST = "example.test:8080"

LINKS = {
    "/static/style.css": "color-scheme",
    "/wsgi/hello?name=value": "REQUEST_METHOD=GET",
    "/fastcgi/hello?name=value": "REQUEST_METHOD=GET",
    "/scgi/hello?name=value": "REQUEST_METHOD=GET",
    "/uwsgi/hello?name=value": "REQUEST_METHOD=GET",
    "/cgi-bin/variables/hello?name=value": "REQUEST_METHOD=GET",
    "/asgi/hello?name=value": "event loop: asyncio",
    "/asgi-trio/hello?name=value": "event loop: trio",
    "/proxy/wsgi/hello?name=value": "HTTP_X_FORWARDED_PREFIX=/proxy",
    "/static/": "<h1>Gateway</h1>",
    "/old/hello?name=value": "SCRIPT_NAME=/wsgi",
    "/healthz": "ok\n",
}
"""The links of the home page, with something that only the right answer has."""

APPLICATIONS = {
    "/cgi-bin": "/cgi-bin/variables",
    "/fastcgi": "/fastcgi",
    "/scgi": "/scgi",
    "/uwsgi": "/uwsgi",
    "/wsgi": "/wsgi",
}
"""Mounts of the applications that show their variables, and the SCRIPT_NAME that each must have."""


class Links(HTMLParser):
    """The addresses that a page refers to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [
            value for name, value in attrs if name == "href" and value and not value.startswith("data:")
        ]


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    # The example has to know its own port, for the backend that is itself.
    environment = {**os.environ, "PORT": str(unused_port())}
    with Gateway(CHECKOUT / "config.example.yaml", cwd=CHECKOUT, env=environment) as running:
        yield running
    assert running.status == 0
    assert [event for event in map(json.loads, running.lines) if event.get("level", "info") != "info"] == []


def follow(gateway: Gateway, target: str) -> Response:
    """The answer to a GET request, after redirects."""
    for _ in range(3):
        response = gateway.get(target)
        if response.status not in (301, 302, 307, 308):
            return response
        target = response.headers["Location"].removeprefix(gateway.url)
    pytest.fail(f"still redirected, to {target}")


def test_home_page_links_to_everything(gateway: Gateway) -> None:
    page = gateway.get("/")
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert sorted(Links(page.text).found) == sorted(LINKS)


@pytest.mark.parametrize(("target", "content"), LINKS.items())
def test_link(gateway: Gateway, target: str, content: str) -> None:
    response = follow(gateway, target)
    assert response.status == 200
    assert content in response.text


def test_redirect(gateway: Gateway) -> None:
    response = gateway.get("/old/hello?name=value")
    assert (response.status, response.headers["Location"]) == (308, "/wsgi/hello?name=value")


def variables(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.partition("\n\n")[0].splitlines() if "=" in line)


def send(gateway: Gateway, how: str, target: str, headers: dict[str, str]) -> Response:
    match how:
        case "GET":
            return gateway.request("GET", target, None, headers)
        case "sized":
            return gateway.request("POST", target, b"the body", headers)
        case _:
            return gateway.request("POST", target, iter([b"the ", b"body"]), headers)


@pytest.mark.parametrize("how", ["GET", "sized", "chunked"])
def test_applications_see_the_same_request(gateway: Gateway, how: str) -> None:
    """rules.md 14.1: whatever the protocol, the same variables have the same values."""
    headers = {
        "Host": HOST,
        "X-Some-Header": "a, b",
        "Cookie": "a=1; b=2",
        "Content-Type": "text/x",
        "Authorization": "Basic eDp5",
        "Proxy": "http://evil.example",
        "Script_Name": "/evil",
    }
    posted = how != "GET"
    seen = {}
    for mount, script in APPLICATIONS.items():
        target = f"{mount}/{'variables/' if mount == '/cgi-bin' else ''}a%20b/%C3%BC?name=a%26b&x"
        response = send(gateway, how, target, headers)
        assert response.status == 200
        head, _, shown_body = response.body.partition(b"\n\n")
        found = variables(head.decode())
        assert found.pop("SCRIPT_NAME") == script
        assert found.pop("REQUEST_URI") == target
        assert shown_body.strip() == (b"the body" if posted else b"")
        seen[mount] = found

    expected = {
        "REQUEST_METHOD": "POST" if posted else "GET",
        "PATH_INFO": "/a b/ü",
        "QUERY_STRING": "name=a%26b&x",
        "SERVER_NAME": "example.test",
        "SERVER_PORT": str(gateway.port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_TYPE": "text/x",
        "HTTP_HOST": HOST,
        "HTTP_X_SOME_HEADER": "a, b",
        "HTTP_COOKIE": "a=1; b=2",
    }
    for mount, found in seen.items():
        assert {name: found.get(name) for name in expected} == expected, mount
        assert found.get("CONTENT_LENGTH") in ({"8"} if posted else {None, "", "0"}), mount
        assert "HTTPS" not in found, mount
        assert "HTTP_PROXY" not in found, mount
        # And no header field reaches one of them that does not reach the others; only CGI programs do
        # not get credentials (RFC 3875 9.2).
        fields = {name for name in found if name.startswith("HTTP_")} - {"HTTP_AUTHORIZATION"}
        assert fields == {name for name in seen["/wsgi"] if name.startswith("HTTP_")} - {"HTTP_AUTHORIZATION"}
        assert ("HTTP_AUTHORIZATION" in found) == (mount != "/cgi-bin"), mount
