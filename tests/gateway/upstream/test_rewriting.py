"""Addresses and cookies in the answers of a web server, as clients get them."""

# ruff: noqa: E501 - one row is one case

from typing import Any

import pytest
import trio

from gateway.protocols.http1 import Http1Server
from tests.gateway.served import LAST_GET, backend, gateway_of, read_request, response, run

pytestmark = pytest.mark.usefixtures("quick_sweeper")

MOUNTED = {"match": {"path": "/m/*"}, "mount": "/m"}
PROXIED = (
    b"GET /m/x HTTP/1.1\r\nHost: inner\r\nConnection: close\r\n"
    b"X-Forwarded-Proto: https\r\nX-Forwarded-For: 192.0.2.1\r\n%b\r\n"
)
MOUNTED_GET = b"GET /m/x HTTP/1.1\r\nHost: www.example:81\r\nConnection: close\r\n\r\n"


def answered(
    field: str,
    value: str,
    request: bytes = MOUNTED_GET,
    *,
    route: dict[str, Any] | None = None,
    top: dict[str, Any] | None = None,
    **options: Any,
) -> str | None:
    """*field* as the client gets it, for *value*, in which SERVER is the upstream's own address."""
    found: list[str | None] = []

    async def main() -> None:
        async def behave(stream: trio.SocketStream) -> None:
            await read_request(stream, Http1Server())
            own = value.replace("SERVER", app.address).replace("PORT", app.address.rpartition(":")[2])
            await stream.send_all(
                f"HTTP/1.1 302 Found\r\n{field}: {own}\r\nContent-Length: 0\r\n\r\n".encode()
            )

        async with backend(behave) as app:
            settings = {
                "backends": {"app": {"http": f"http://{app.address}", **options}},
                "routes": [{"backend": "app", **(route or MOUNTED)}],
                **(top or {}),
            }
            async with gateway_of(settings) as served:
                told = response(await served.ask(request)).headers[field]
            found.append(told and told.replace(app.address, "SERVER"))

    run(main)
    return found[0]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        # nginx: proxy_redirect default; Apache: ProxyPassReverse.
        ("http://SERVER/login?a=b#c", "http://www.example:81/m/login?a=b#c"),
        ("HTTP://SERVER/login", "http://www.example:81/m/login"),
        ("http://SERVER", "http://www.example:81/m"),
        ("http://SERVER?a", "http://www.example:81/m?a"),
        # The upstream has heard of the mount.
        ("http://SERVER/m/login", "http://www.example:81/m/login"),
        ("http://SERVER/m", "http://www.example:81/m"),
        ("http://SERVER/more", "http://www.example:81/m/more"),
        # Another scheme, port or host is another origin.
        ("https://SERVER/login", "https://SERVER/login"),
        ("http://SERVER1/login", "http://SERVER1/login"),
        ("http://127.0.0.1/login", "http://127.0.0.1/login"),
        ("http://SERVER.evil.example/", "http://SERVER.evil.example/"),
        ("http://user@SERVER/", "http://user@SERVER/"),
        ("http://login.example/?to=http://SERVER/", "http://login.example/?to=http://SERVER/"),
        # And a path is what it says.
        ("/login", "/login"),
        ("login", "login"),
        ("//other.example/", "//other.example/"),
    ],
)
def test_redirects(value: str, wanted: str) -> None:
    assert answered("Location", value) == wanted


@pytest.mark.parametrize("field", ["Content-Location", "URI"])
def test_other_fields_with_a_url(field: str) -> None:
    assert answered(field, "http://SERVER/a") == "http://www.example:81/m/a"


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("7; url=http://SERVER/a", "7; url=http://www.example:81/m/a"),
        ("0;URL='http://SERVER/a'", "0;URL='http://www.example:81/m/a'"),
        ("5, http://SERVER/a", "5, http://www.example:81/m/a"),
        ("5", "5"),
        ("soon", "soon"),
    ],
)
def test_refresh(value: str, wanted: str) -> None:
    assert answered("Refresh", value) == wanted


def test_without_a_mount() -> None:
    assert answered("Location", "http://SERVER/a", LAST_GET, route={"match": {}}) == "http://a/a"


def test_client_that_says_no_host() -> None:
    """HTTP/1.0: nobody knows what to put in place of the address."""
    request = b"GET /m/x HTTP/1.0\r\n\r\n"
    assert answered("Location", "http://SERVER/a", request) == "http://SERVER/a"


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        (b"", "https://inner/m/a"),
        (b"X-Forwarded-Host: www.example\r\n", "https://www.example/m/a"),
        (b"X-Forwarded-Host: www.example\r\nX-Forwarded-Prefix: /p\r\n", "https://www.example/p/m/a"),
    ],
)
def test_behind_a_proxy(fields: bytes, wanted: str) -> None:
    """FWD-5: the client's address is the one that a trusted proxy tells."""
    top = {"trusted_proxies": ["127.0.0.0/8"]}
    assert answered("Location", "http://SERVER/a", PROXIED % fields, top=top) == wanted


def test_own_name_of_the_upstream() -> None:
    """host: NAME is what it was asked for; the port 80 goes without saying."""
    for said in ("app.internal", "APP.internal:80"):
        found = answered("Location", f"http://{said}/a", host="app.internal")
        assert found == "http://www.example:81/m/a"


@pytest.mark.parametrize(
    ("rules", "value", "wanted"),
    [
        (False, "http://SERVER/a", "http://SERVER/a"),
        ({"begin": "/", "to": "/m/"}, "/login", "/m/login"),
        ({"begin": "/", "to": "/m/"}, "/m/login", "/m/login"),
        ({"begin": "/", "to": "/m/"}, "http://SERVER/a", "http://www.example:81/m/a"),
        (
            {"begin": "http://b.example", "to": "https://{host}"},
            "http://b.example/x",
            "https://www.example/x",
        ),
        ({"begin": "http://b.example", "to": "/b"}, "http://b.example.evil/x", "http://b.example.evil/x"),
        (
            [{"begin": "http://b.example/x/", "to": "/one/"}, {"begin": "http://b.example/", "to": "/two/"}],
            "http://b.example/y",
            "/two/y",
        ),
    ],
)
def test_rules(rules: Any, value: str, wanted: str) -> None:
    """nginx: proxy_redirect with a prefix, with variables, and off."""
    assert answered("Location", value, rewrite_location=rules) == wanted


@pytest.mark.parametrize(
    ("rules", "value", "wanted"),
    [
        ({}, "a=b; Path=/; Domain=x", "a=b; Path=/; Domain=x"),
        # nginx: proxy_cookie_path; Apache: ProxyPassReverseCookiePath.
        ({"path": "auto"}, "a=b; path=/; HttpOnly", "a=b; Path=/m; HttpOnly"),
        ({"path": "auto"}, "a=b;Path=/x", "a=b; Path=/m/x"),
        ({"path": "auto"}, "a=b; Path=/m/x", "a=b; Path=/m/x"),
        ({"path": "auto"}, "a=b; Path=/more", "a=b; Path=/m/more"),
        ({"path": "auto"}, "a=Path=/", "a=Path=/"),
        ({"path": "auto"}, "__Host-a=b; Path=/; Secure", "__Host-a=b; Path=/; Secure"),
        ({"path": {"/path/": "/new/", "/": "/rest/"}}, "v=path=; Path=/path/a", "v=path=; Path=/new/a"),
        ({"path": {"/path/": "/new/", "/": "/rest/"}}, "a=b; Path=/x", "a=b; Path=/rest/x"),
        ({"path": {"/path/": "/new/"}}, "a=b; Path=relative", "a=b; Path=relative"),
        ({"path": {"/path/": "/new/"}}, "a=b; Path=/x", "a=b; Path=/x"),
        # nginx: proxy_cookie_domain; Apache: ProxyPassReverseCookieDomain.
        ({"domain": {"www.example.org": "example.com"}}, "a=b; Domain=www.Example.ORG", "a=b; Domain=example.com"),
        ({"domain": {"example.org": "example.com"}}, "a=b; domain=.example.org", "a=b; Domain=example.com"),
        ({"domain": {"example.org": "example.com"}}, "a=b; Domain=a.example.org", "a=b; Domain=a.example.org"),
        ({"domain": {"example.org": ""}}, "a=b; Domain=example.org; Path=/", "a=b; Path=/"),
        ({"domain": "auto"}, "a=b; Domain=127.0.0.1; Path=/", "a=b; Path=/"),
        ({"domain": "auto"}, "a=b; Domain=other.example", "a=b; Domain=other.example"),
        # nginx: proxy_cookie_flags.
        ({"secure": True, "http_only": True, "same_site": "none"}, "a=b", "a=b; Secure; HttpOnly; SameSite=None"),
        ({"same_site": "lax"}, "a=b; samesite=Strict; Path=/", "a=b; Path=/; SameSite=Lax"),
        ({"secure": True, "http_only": True}, "a=b;secure; httponly", "a=b; Secure; HttpOnly"),
    ],
)  # fmt: skip
def test_cookies(rules: dict[str, Any], value: str, wanted: str) -> None:
    assert answered("Set-Cookie", value, cookies=rules) == wanted


def test_cookies_alone() -> None:
    """rewrite_location: false is about URLs."""
    options: dict[str, Any] = {"rewrite_location": False, "cookies": {"domain": "auto"}}
    assert answered("Set-Cookie", "a=b; Domain=127.0.0.1", **options) == "a=b"
    assert answered("Location", "http://SERVER/", **options) == "http://SERVER/"
