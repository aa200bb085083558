"""Who the client is behind trusted proxies, what strangers may say, and what all of it does."""

# ruff: noqa: E501 - one row is one case

import json
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from gateway.environ import build_environ
from gateway.errors import RequestError
from gateway.front.proxies import ForwardedHeader, TrustedProxies
from gateway.networks import ClientNetworks
from gateway.protocols.events import Headers
from gateway.request import Address, ForwardedConnection, Request, Responder, respond
from tests.gateway.conftest import make_request
from tests.gateway.served import gateway_of, response, run, serving

NETWORKS = ClientNetworks([ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8"), ip_network("::1"), "unix"])
PROXY: Address = ("127.0.0.1", 40000)
STRANGER: Address = ("192.0.2.9", 40000)


def applied(
    headers: Headers,
    *,
    header: ForwardedHeader = "x-forwarded",
    scheme: str = "http",
) -> Request:
    """A request with *headers* of the proxy's, as it is then."""
    request = make_request(headers=list(headers), client=PROXY, scheme=scheme)
    TrustedProxies(NETWORKS, header=header).apply(request)
    return request


def facts(request: Request) -> tuple[Address, str]:
    return request.connection.client, request.connection.scheme


def xff(*values: bytes) -> Headers:
    return [(b"x-forwarded-for", value) for value in values]


def xfp(*values: bytes) -> Headers:
    return [(b"x-forwarded-proto", value) for value in values]


CHAINS: list[tuple[Headers, Address, str]] = [
    (xff(b"192.0.2.1"), ("192.0.2.1", 0), "http"),
    (xff(b"192.0.2.1:5000"), ("192.0.2.1", 5000), "http"),
    (xff(b"2001:DB8::1"), ("2001:db8::1", 0), "http"),
    (xff(b"[2001:db8::1]:5000"), ("2001:db8::1", 5000), "http"),
    # FWD-5: over trusted hops, from the right, up to the first that is not trusted
    (xff(b"192.0.2.1, 10.0.0.1, 10.0.0.2"), ("192.0.2.1", 0), "http"),
    (xff(b"192.0.2.66, 192.0.2.1"), ("192.0.2.1", 0), "http"),
    (xff(b"127.0.0.1, 10.0.0.1, 192.0.2.1, 10.0.0.2"), ("192.0.2.1", 0), "http"),
    (xff(b"192.0.2.66", b"192.0.2.1, 10.0.0.1"), ("192.0.2.1", 0), "http"),
    (xff(b"192.0.2.1", b"10.0.0.1"), ("192.0.2.1", 0), "http"),
    (xff(b"10.0.0.3, 10.0.0.1, ::1"), ("10.0.0.3", 0), "http"),
    (xff(b"192.0.2.1, ::ffff:10.0.0.1"), ("192.0.2.1", 0), "http"),
    (xff(b"192.0.2.1, unix:"), ("192.0.2.1", 0), "http"),
    (xff(b"192.0.2.1, unknown, 10.0.0.1"), ("unknown", 0), "http"),
    (xff(b"192.0.2.1, _hidden"), ("_hidden", 0), "http"),
    # the scheme: of the hop that is the client, or what the proxy itself says
    (xff(b"192.0.2.1") + xfp(b"https"), ("192.0.2.1", 0), "https"),
    (xff(b"192.0.2.1") + xfp(b"WSS"), ("192.0.2.1", 0), "https"),
    (xff(b"192.0.2.1, 10.0.0.1") + xfp(b"https, http"), ("192.0.2.1", 0), "https"),
    (xff(b"192.0.2.66, 192.0.2.1, 10.0.0.1") + xfp(b"http", b"https,http"), ("192.0.2.1", 0), "https"),
    (xff(b"192.0.2.1, 10.0.0.1") + xfp(b"https"), ("192.0.2.1", 0), "https"),
    (xff(b"192.0.2.1") + xfp(b"http, https"), ("192.0.2.1", 0), "https"),
    (xfp(b"https"), PROXY, "https"),
    (xff(b"") + xfp(b""), PROXY, "http"),
]


@pytest.mark.parametrize(("headers", "client", "scheme"), CHAINS)
def test_client_of_x_forwarded_fields(headers: Headers, client: Address, scheme: str) -> None:
    """FWD-4, FWD-5, uvicorn#589."""
    request = applied(headers)
    assert facts(request) == (client, scheme)
    assert request.headers == headers
    assert request.connection.server == ("127.0.0.1", 80)


@pytest.mark.parametrize(
    ("values", "client", "scheme"),
    [
        ([b"for=192.0.2.1"], ("192.0.2.1", 0), "http"),
        ([b'for="[2001:db8::1]:5000";proto=https'], ("2001:db8::1", 5000), "https"),
        ([b"for=192.0.2.66;proto=https, for=192.0.2.1"], ("192.0.2.1", 0), "http"),
        ([b"for=192.0.2.1;proto=https, for=10.0.0.1;proto=http"], ("192.0.2.1", 0), "https"),
        ([b"for=192.0.2.1;proto=https", b"for=10.0.0.1, for=127.0.0.1"], ("192.0.2.1", 0), "https"),
        ([b"for=192.0.2.1, for=_secret, for=10.0.0.1"], ("_secret", 0), "http"),
        ([b"for=192.0.2.1, proto=https"], ("unknown", 0), "https"),
        ([b"for=10.0.0.7;proto=https, for=10.0.0.1"], ("10.0.0.7", 0), "https"),
        ([b","], PROXY, "http"),
    ],
)
def test_client_of_forwarded(values: list[bytes], client: Address, scheme: str) -> None:
    """FWD-1, FWD-2, FWD-5."""
    request = applied([(b"forwarded", value) for value in values], header="forwarded")
    assert facts(request) == (client, scheme)


def test_scheme_of_the_proxys_own_connection_counts_unless_it_says_another() -> None:
    assert facts(applied(xff(b"192.0.2.1"), scheme="https")) == (("192.0.2.1", 0), "https")
    assert facts(applied(xff(b"192.0.2.1") + xfp(b"http"), scheme="https")) == (("192.0.2.1", 0), "http")


@pytest.mark.parametrize(
    ("header", "client"), [("x-forwarded", ("192.0.2.1", 0)), ("forwarded", ("192.0.2.2", 0))]
)
def test_kinds_of_fields_are_never_merged(header: ForwardedHeader, client: Address) -> None:
    """FWD-8: the other one is nobody's word, so no application gets it, either."""
    both = [
        (b"forwarded", b"for=192.0.2.2"),
        *xff(b"192.0.2.1"),
        (b"x-forwarded-host", b"a"),
        (b"x-other", b"b"),
    ]
    request = applied(both, header=header)
    assert facts(request) == (client, "http")
    names = [name for name, _ in request.headers]
    if header == "forwarded":
        assert names == [b"forwarded", b"x-other"]
    else:
        assert names == [b"x-forwarded-for", b"x-forwarded-host", b"x-other"]


TWINS = [b"x_forwarded_for", b"x-forwarded_for", b"x_forwarded-host", b"x_real_ip", b"x_real-ip"]


@pytest.mark.parametrize("header", ["x-forwarded", "forwarded"])
def test_twins_with_underscores_are_the_word_of_no_proxy(header: ForwardedHeader) -> None:
    """FWD-7: its client's, then; programs that make variables of them take the two for one."""
    said = [*((name, b"10.0.0.1") for name in TWINS), (b"x_other", b"1")]
    request = applied(said, header=header)
    assert request.headers == [(b"x_other", b"1")]
    assert facts(request) == (PROXY, "http")


@pytest.mark.parametrize("client", [STRANGER, ("/run/x", None), ("", None), None])
def test_strangers_say_nothing(client: Address) -> None:
    """FWD-7: malformed or not."""
    proxies = TrustedProxies(ClientNetworks([ip_network("10.0.0.0/8")]))
    said = [
        (b"host", b"a"),
        (b"forwarded", b"for=10.0.0.1"),
        *xff(b"10.0.0.1", b"<script>"),
        *xfp(b"https"),
        (b"x-forwarded-host", b"evil"),
        (b"x-forwarded-user", b"root"),
        (b"x-forwarded-client-cert", b"Hash=1"),
        (b"x-real-ip", b"10.0.0.1"),
        *((name, b"10.0.0.1") for name in TWINS),
        (b"x-other", b"1"),
    ]
    request = make_request(headers=said, client=client)
    connection = request.connection
    proxies.apply(request)
    assert request.headers == [(b"host", b"a"), (b"x-other", b"1")]
    assert request.connection is connection


MALFORMED: list[Headers] = [
    xff(b"example.com"),
    xff(b"192.0.2.1, 999.1.1.1"),
    xff(b"<script>, 192.0.2.1"),
    xff(b"192.0.2.1", b"oops"),
    xff(b"192.0.2.1:99999"),
    xff(b"fe80::1%eth0"),
    xff(b'"192.0.2.1"'),
    xff(b"for=192.0.2.1"),
    xff(b",".join([b"192.0.2.1"] * 101)),
    xff(b"192.0.2.1") + xfp(b"gopher"),
    xfp(b"https, javascript:"),
]


@pytest.mark.parametrize("headers", MALFORMED)
def test_proxy_that_cannot_be_understood_is_refused(headers: Headers) -> None:
    """FWD-6: it fails closed, the same each time."""
    proxies = TrustedProxies(NETWORKS)
    for _ in range(2):
        with pytest.raises(RequestError) as refused:
            proxies.apply(make_request(headers=list(headers), client=PROXY))
        assert refused.value.status == 400


def test_forwarded_that_cannot_be_understood_is_refused() -> None:
    """FWD-6: a client's open quotation does not swallow what the proxy adds behind it."""
    with pytest.raises(RequestError):
        applied([(b"forwarded", b'for="192.0.2.66'), (b"forwarded", b"for=192.0.2.1")], header="forwarded")


def test_what_was_said_is_remembered_for_the_proxy_and_not_for_its_port() -> None:
    proxies = TrustedProxies(NETWORKS)

    def connection(client: Address, value: bytes = b"192.0.2.1", scheme: str = "http") -> Any:
        request = make_request(headers=xff(value), client=client, scheme=scheme)
        proxies.apply(request)
        return request.connection

    first = connection(("127.0.0.1", 1))
    assert isinstance(first, ForwardedConnection)
    assert first.proxy == ("127.0.0.1", 0)
    assert connection(("127.0.0.1", 2)) is first
    others = [
        connection(("127.0.0.2", 1)),
        connection(("127.0.0.1", 1), b"192.0.2.2"),
        connection(("127.0.0.1", 1), scheme="https"),
        connection(("", None)),
    ]
    assert len({id(each) for each in [first, *others]}) == 5
    assert connection(("", None)).proxy == ("", None)


def test_port_of_a_proxy_that_is_the_client_is_its_own() -> None:
    proxies = TrustedProxies(NETWORKS)
    for port in (1, 2):
        request = make_request(headers=xfp(b"https"), client=("127.0.0.1", port))
        proxies.apply(request)
        assert facts(request) == (("127.0.0.1", port), "https")


# ---- over real connections

TRUSTED = "127.0.0.0/8"


async def tell(request: Request, responder: Responder) -> None:
    """Answers with the facts and the fields."""
    connection = request.connection
    told = [connection.client, connection.scheme, [name.decode() for name, _ in request.headers]]
    await respond(responder, 200, [], json.dumps(told).encode())


def get(*fields: bytes) -> bytes:
    lines = b"".join(field + b"\r\n" for field in fields)
    return b"GET / HTTP/1.1\r\nHost: a\r\n%bConnection: close\r\n\r\n" % lines


def test_proxy_is_believed_and_refused_on_one_connection() -> None:
    """FWD-5, FWD-6: each request speaks for itself."""

    async def main() -> None:
        async with serving(tell) as served:
            served.service.proxies = TrustedProxies(NETWORKS)
            received = await served.ask(
                b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n"
                b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
                b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.2\r\nX-Forwarded-Proto: https\r\n\r\n"
                b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: oops\r\n\r\n"
                b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
            )
        first, second, third, fourth = received.split(b"HTTP/1.1 ")[1:]
        assert b'[["192.0.2.1", 0], "http", ' in first
        assert b'[["127.0.0.1", ' in second
        assert b'[["192.0.2.2", 0], "https", ' in third
        assert fourth.startswith(b"400 ")
        assert b"connection: close" in fourth

    run(main)


@pytest.mark.parametrize("trusted", [True, False])
def test_unix_sockets(tmp_path: Path, trusted: bool) -> None:
    """uvicorn#589: a proxy in front on a Unix socket."""

    async def main() -> None:
        async with serving(tell, path=str(tmp_path / "s")) as served:
            if trusted:
                served.service.proxies = TrustedProxies(ClientNetworks(["unix"]))
            found = response(await served.ask(get(b"X-Forwarded-For: 192.0.2.66, 192.0.2.1")))
        client, _, names = json.loads(found.body)
        assert client == (["192.0.2.1", 0] if trusted else ["", None])
        assert ("x-forwarded-for" in names) is trusted

    run(main)


def test_without_trusted_proxies_nobody_speaks_for_others() -> None:
    """FWD-7."""

    async def main() -> None:
        async with serving(tell) as served:
            found = response(await served.ask(get(b"X-Forwarded-For: 192.0.2.1", b"Forwarded: for=x;;")))
        client, scheme, names = json.loads(found.body)
        assert (client[0], scheme, names) == ("127.0.0.1", "http", ["host", "connection"])

    run(main)


@pytest.mark.parametrize("trusted", [True, False])
def test_routes_templates_and_redirects_know_the_client(trusted: bool) -> None:
    async def main() -> None:
        config = {
            "trusted_proxies": TRUSTED if trusted else [],
            "routes": [
                {
                    "match": {"client": "192.0.2.0/24", "scheme": "https", "path": "/r"},
                    "redirect": {"to": "{scheme}://{host}/by/{client}"},
                },
                {
                    "match": {"client": "192.0.2.0/24", "scheme": "https"},
                    "respond": {"body": "{client} {scheme}"},
                },
                {"respond": {"body": "{client} {scheme} {header.x-forwarded-for}"}},
            ],
        }
        fields = (b"X-Forwarded-For: 192.0.2.1", b"X-Forwarded-Proto: https")
        async with gateway_of(config) as served:
            body = response(await served.ask(get(*fields))).body
            location = response(await served.ask(get(*fields).replace(b" / ", b" /r "))).headers["location"]
        if trusted:
            assert (body, location) == (b"192.0.2.1 https", "https://a/by/192.0.2.1")
        else:
            assert (body, location) == (b"127.0.0.1 http ", None)

    run(main)


WSGI = """
import json
def app(environ, start_response):
    start_response("200 OK", [])
    return [json.dumps({k: v for k, v in environ.items() if isinstance(v, str)}).encode()]
"""

ASGI = """
import json
async def app(scope, receive, send):
    told = {"client": scope["client"], "scheme": scope["scheme"], "names": [n.decode() for n, _ in scope["headers"]]}
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})
"""


@pytest.mark.parametrize("trusted", [True, False])
def test_applications_know_the_client(tmp_path: Path, trusted: bool) -> None:
    """Variables and scope; FWD-7: HTTP_X_FORWARDED_* never from strangers."""
    kind = "trusted" if trusted else "strange"  # modules of one process need different names
    (tmp_path / f"{kind}_wsgi.py").write_text(WSGI)
    (tmp_path / f"{kind}_asgi.py").write_text(ASGI)
    cgi = tmp_path / "told.cgi"
    cgi.write_text("#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'; env\n")
    cgi.chmod(0o755)
    environs: list[dict[str, str]] = []
    scopes: list[Any] = []

    async def main() -> None:
        config = {
            "trusted_proxies": TRUSTED if trusted else [],
            "backends": {
                "w": {"wsgi": f"{kind}_wsgi:app", "directory": str(tmp_path), "threads": 1},
                "a": {"asgi": f"{kind}_asgi:app", "directory": str(tmp_path), "loop": "trio"},
                "c": {"cgi": str(cgi)},
            },
            "routes": [
                {"match": {"path": "/w"}, "backend": "w"},
                {"match": {"path": "/a"}, "backend": "a"},
                {"match": {"path": "/c/*"}, "mount": "/c", "backend": "c"},
            ],
        }
        fields = (
            b"X-Forwarded-For: 192.0.2.1:5000",
            b"X-Forwarded-Proto: https",
            b"X-Forwarded-Host: public",
            b"X_Forwarded_For: 10.0.0.1",
        )
        async with gateway_of(config) as served:
            for path in (b"/w", b"/c"):
                body = response(await served.ask(get(*fields).replace(b" / ", b" %b " % path))).body
                if path == b"/w":
                    environs.append(json.loads(body))
                else:
                    environs.append(dict(line.split("=", 1) for line in body.decode().splitlines()))
            scopes.append(json.loads(response(await served.ask(get(*fields).replace(b" / ", b" /a "))).body))

    run(main)
    for environ in environs:
        wanted = {"REMOTE_ADDR": "192.0.2.1", "REMOTE_PORT": "5000", "REQUEST_SCHEME": "https", "HTTPS": "on"}
        if trusted:
            assert wanted.items() <= environ.items()
            assert environ["HTTP_X_FORWARDED_HOST"] == "public"
        else:
            assert environ["REMOTE_ADDR"] == "127.0.0.1"
            assert environ["REQUEST_SCHEME"] == "http"
            assert "HTTPS" not in environ
            assert not [name for name in environ if "FORWARDED" in name]
    (scope,) = scopes
    if trusted:
        assert (scope["client"], scope["scheme"]) == (["192.0.2.1", 5000], "https")
    else:
        assert (scope["client"][0], scope["scheme"]) == ("127.0.0.1", "http")
    assert ("x-forwarded-for" in scope["names"]) is trusted
    assert "x_forwarded_for" not in scope["names"]


def test_access_log_has_the_client() -> None:
    seen: list[Address] = []

    async def main() -> None:
        def log(request: Request, *_: object) -> None:
            seen.append(request.connection.client)

        async with serving(tell, access_log=log) as served:
            served.service.proxies = TrustedProxies(NETWORKS)
            await served.ask(get(b"X-Forwarded-For: 192.0.2.1"))

    run(main)
    assert seen == [("192.0.2.1", 0)]


def test_port_that_is_not_known_is_empty() -> None:
    """uvicorn#589: a client behind a proxy has no port 0."""
    environ = build_environ(applied(xff(b"192.0.2.1")), script_name="", path_info="/", content_length=0)
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("192.0.2.1", "")
