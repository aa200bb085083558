"""FastCGI, SCGI and uwsgi backends through the whole gateway: what the application is told, and its body."""

from collections.abc import Mapping
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from gateway.protocols.events import Data, EndOfMessage, RequestVariables, ResponseHead
from gateway.protocols.fastcgi import FastCgiServer
from gateway.protocols.fastcgi.records import STDOUT, encode_end_request, encode_stream
from gateway.protocols.scgi import ScgiServer
from gateway.protocols.uwsgi import UwsgiServer
from tests.gateway.served import (
    ApplicationCodec,
    Response,
    backend,
    chunked,
    gateway_of,
    read_request,
    response,
    run,
    unused_port,
)

KINDS = ["fastcgi", "scgi", "uwsgi"]
every_kind = pytest.mark.parametrize("kind", KINDS)


def codec_for(kind: str) -> ApplicationCodec:
    match kind:
        case "fastcgi":
            return FastCgiServer()
        case "scgi":
            return ScgiServer()
        case _:
            return UwsgiServer()


class Application:
    """Keeps what it was asked, and answers with the body it got."""

    def __init__(self, kind: str, *, location: bytes | None = None, times: int = 1000) -> None:
        self.kind = kind
        self.location = location
        self.times = times
        self.asked: list[Mapping[str, str]] = []
        self.bodies: list[bytes] = []

    async def __call__(self, stream: trio.SocketStream) -> None:
        codec = codec_for(self.kind)
        head, body = await read_request(stream, codec)
        assert isinstance(head, RequestVariables)
        self.asked.append(head.variables)
        self.bodies.append(body)
        if self.location is not None and len(self.asked) <= self.times:
            output = b"Location: %b\r\n\r\n" % self.location
            if self.kind == "fastcgi":
                output = encode_stream(STDOUT, 1, output) + encode_end_request(1)
            await stream.send_all(output)
            return
        data = codec.send(ResponseHead(200, [(b"content-type", b"text/plain")]))
        if body:
            data += codec.send(Data(body))
        await stream.send_all(data + codec.send(EndOfMessage()))


def ask(
    application: Application,
    data: bytes,
    *,
    method: str = "GET",
    route: Mapping[str, Any] | None = None,
    routes: list[Mapping[str, Any]] | None = None,
    limits: Mapping[str, Any] | None = None,
    logs: list[Any] | None = None,
    **options: Any,
) -> Response:
    """The answer to *data* by a gateway whose backend is *application*; *logs* gets what it logged."""
    received = b""

    async def main() -> None:
        nonlocal received
        async with backend(application) as app:
            config = {
                "backends": {"app": {application.kind: app.address, **options}},
                "routes": routes or [{"backend": "app", **(route or {})}],
                "limits": limits or {},
            }
            async with gateway_of(config) as served:
                received = await served.ask(data)

    with capture_logs() as told:
        run(main)
    if logs is not None:
        logs += told
    return response(received, method)


def get(target: bytes, *fields: bytes) -> bytes:
    lines = b"".join(field + b"\r\n" for field in fields)
    return b"GET %b HTTP/1.1\r\nHost: a.example:81\r\nConnection: close\r\n%b\r\n" % (target, lines)


# ---- what the application is told


@every_kind
def test_variables_of_a_mounted_application(kind: str) -> None:
    """Design section 4: SCRIPT_NAME is the mount, PATH_INFO the rest (CGI-8, CGI-16, CGI-24)."""
    application = Application(kind)
    assert (
        ask(application, get(b"/m/x%20y/z?q=%20", b"X-A: 1", b"x-a: 2"), route={"mount": "/m"}).status == 200
    )
    (asked,) = application.asked
    expected = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "/m",
        "PATH_INFO": "/x y/z",
        "QUERY_STRING": "q=%20",
        "REQUEST_URI": "/m/x%20y/z?q=%20",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "a.example",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "a.example:81",
        "HTTP_X_A": "1, 2",
    }
    assert expected.items() <= asked.items()
    assert "SCRIPT_FILENAME" not in asked
    assert "HTTP_CONNECTION" not in asked


@every_kind
def test_variables_agree_between_kinds(kind: str) -> None:
    """14.1."""
    reference, application = Application("fastcgi"), Application(kind)
    for each in (reference, application):
        ask(each, get(b"/m/%C3%A4//b?a=b&c", b"Cookie: x=y", b"X_Under: 1"), route={"mount": "/m"})
    ours, theirs = dict(application.asked[0]), dict(reference.asked[0])
    for name in ("REMOTE_PORT", "SERVER_PORT", "SCGI", "CONTENT_LENGTH"):
        ours.pop(name, None)
        theirs.pop(name, None)
    assert ours == theirs


@every_kind
def test_configured_variables_win(kind: str) -> None:
    """caddy#955: and the Proxy field never becomes HTTP_PROXY."""
    application = Application(kind)
    variables = {"HTTP_X_USER": "nobody", "APP_PATH": "{path}", "REMOTE_USER": "ä"}
    ask(application, get(b"/p", b"X-User: root", b"Proxy: evil:80"), variables=variables)
    (asked,) = application.asked
    assert (asked["HTTP_X_USER"], asked["APP_PATH"]) == ("nobody", "/p")
    assert asked["REMOTE_USER"].encode("latin-1").decode() == "ä"
    assert "HTTP_PROXY" not in asked


@pytest.mark.parametrize(
    ("mount", "target", "filename", "script_name", "path_info"),
    [
        ("", b"/a.php", "/srv/a.php", "/a.php", ""),
        ("", b"/a.php/x/y", "/srv/a.php", "/a.php", "/x/y"),
        ("", b"/", "/srv/index.php", "/index.php", ""),
        ("", b"/d/", "/srv/d/index.php", "/d/index.php", ""),
        ("", b"/front/controller", "/srv/index.php", "/index.php", "/front/controller"),
        ("", b"/a.PHP", "/srv/index.php", "/index.php", "/a.PHP"),
        ("", b"/a%2ephp/x%20y", "/srv/a.php", "/a.php", "/x y"),
        ("/m", b"/m/a.php/x", "/srv/a.php", "/m/a.php", "/x"),
        ("/m", b"/m/", "/srv/index.php", "/m/index.php", ""),
        ("/m", b"/m", "/srv/index.php", "/m/index.php", ""),
    ],
)
def test_script_below_a_root(
    mount: str, target: bytes, filename: str, script_name: str, path_info: str
) -> None:
    """Design section 4, CGI-9, CGI-24, caddy#2208."""
    application = Application("fastcgi")
    ask(application, get(target), route={"mount": mount} if mount else {}, root="/srv/")
    (asked,) = application.asked
    assert asked["SCRIPT_FILENAME"] == filename
    assert asked["SCRIPT_NAME"] == script_name
    assert asked.get("PATH_INFO", "") == path_info
    assert asked["DOCUMENT_ROOT"] == "/srv"
    assert asked.get("PATH_TRANSLATED") == ("/srv" + path_info if path_info else None)


@pytest.mark.parametrize(
    "target",
    [b"//private/x.php", b"/private//x.php", b"/%2Fprivate/x.php", b"/private%2fx.php", b"/x.php//y"],
)
def test_route_cannot_be_walked_round_below_a_root(target: bytes) -> None:
    """One script has one name: what a route in front of it forbids is not had by another spelling."""
    application = Application("fastcgi")
    routes: list[Mapping[str, Any]] = [
        {"match": {"path": "/private/*"}, "respond": {"status": 403}},
        {"backend": "app"},
    ]
    assert ask(application, get(target), routes=routes, root="/srv").status in (403, 404)
    assert application.asked == []


def test_asterisk_names_no_script() -> None:
    application = Application("fastcgi")
    data = b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert ask(application, data, root="/srv").status == 404


# ---- bodies


@every_kind
def test_sized_body(kind: str) -> None:
    """CGI-26, SCGI-5, UW-6."""
    application = Application(kind)
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 300000\r\n\r\n"
    assert ask(application, head + b"b" * 300_000).body == b"b" * 300_000
    assert application.asked[0]["CONTENT_LENGTH"] == "300000"


@every_kind
@pytest.mark.parametrize("size", [0, 5, 400_000])
def test_chunked_body_is_spooled(kind: str, size: int) -> None:
    """CGI-27, caddy#5236, uwsgi#1394, werkzeug#2346: the length is exact, and the coding is not told."""
    application = Application(kind)
    pieces = [b"x" * 1000] * (size // 1000) + [b"x" * (size % 1000)] * bool(size % 1000)
    assert ask(application, chunked(*pieces)).body == b"x" * size
    (asked,) = application.asked
    assert int(asked.get("CONTENT_LENGTH") or 0) == size
    assert "HTTP_TRANSFER_ENCODING" not in asked


@every_kind
def test_chunked_body_is_rejected(kind: str) -> None:
    """H1-16, caddy#5236: the refusal names the option."""
    application = Application(kind)
    found = ask(application, chunked(b"abc"), body="reject")
    assert found.status == 411
    assert b"body: spool" in found.body
    assert application.asked == []


def test_chunked_body_is_streamed() -> None:
    application = Application("fastcgi")
    assert ask(application, chunked(b"abc", b"def"), body="stream").body == b"abcdef"
    assert "CONTENT_LENGTH" not in application.asked[0]


@every_kind
@pytest.mark.parametrize("policy", ["spool", "sized"])
def test_body_beyond_the_limit_of_the_backend(kind: str, policy: str) -> None:
    """413 by ``max_body``, whether the length is told or not."""
    application = Application(kind)
    data = chunked(b"x" * 60, b"x" * 60)
    if policy == "sized":
        data = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 120\r\n\r\n" + b"x" * 120
    assert ask(application, data, max_body=100).status == 413
    assert application.asked == []


def test_streamed_body_beyond_the_limit_of_the_backend() -> None:
    application = Application("fastcgi")
    data = chunked(b"x" * 60, b"x" * 60)
    assert ask(application, data, max_body=100, body="stream").status == 413


def test_limit_for_clients_is_the_default_of_the_backend() -> None:
    application = Application("scgi")
    assert ask(application, chunked(b"x" * 60, b"x" * 60), limits={"body": 100}).status == 413
    assert application.asked == []


def test_request_without_room_in_the_protocol_is_a_431() -> None:
    """UW-4, uwsgi#1164."""
    application = Application("uwsgi")
    assert ask(application, get(b"/", b"X: " + b"x" * 5000), buffer_size=4096).status == 431
    assert application.asked == []


def test_no_connection_is_made_for_a_request_without_room() -> None:
    """UW-4: nobody listens there; a request that fits finds that out."""

    async def main() -> None:
        config = {
            "backends": {"app": {"uwsgi": f"127.0.0.1:{unused_port()}", "buffer_size": 4096}},
            "routes": [{"backend": "app"}],
        }
        async with gateway_of(config) as served:
            assert response(await served.ask(get(b"/", b"X: " + b"x" * 5000))).status == 431
            assert response(await served.ask(get(b"/"))).status == 502

    with capture_logs():
        run(main)


LARGE = (b"Cookie: " + b"c" * 3000, b"Referer: " + b"r" * 3000, b"X-Kept: " + b"k" * 1000)


@pytest.mark.parametrize(
    ("dropped", "left"),
    [
        (["Cookie", "Referer"], {"HTTP_REFERER", "HTTP_X_KEPT"}),
        (["Accept", "Referer", "Cookie"], {"HTTP_COOKIE", "HTTP_X_KEPT"}),
        (["X-Kept", "Cookie", "Referer"], {"HTTP_REFERER"}),
    ],
)
def test_named_headers_are_left_out_in_order_until_the_request_fits(
    dropped: list[str], left: set[str]
) -> None:
    application = Application("uwsgi")
    logs: list[Any] = []
    found = ask(application, get(b"/", *LARGE), buffer_size=5000, drop_headers=dropped, logs=logs)
    assert found.status == 200
    (seen,) = application.asked
    assert {"HTTP_COOKIE", "HTTP_REFERER", "HTTP_X_KEPT"} & seen.keys() == left
    told = [entry for entry in logs if entry["event"] == "header dropped"]
    assert {entry["variable"] for entry in told} == {"HTTP_COOKIE", "HTTP_REFERER", "HTTP_X_KEPT"} - left
    assert "where the application's buffer_size is 5000; the largest are HTTP_" in told[0]["reason"]


def test_request_that_fits_keeps_its_headers() -> None:
    application = Application("uwsgi")
    assert ask(application, get(b"/", *LARGE), drop_headers="Cookie").status == 200
    assert application.asked[0]["HTTP_COOKIE"] == "c" * 3000


def test_request_that_is_too_large_without_the_named_headers_is_a_431() -> None:
    application = Application("uwsgi")
    assert ask(application, get(b"/", *LARGE), buffer_size=1000, drop_headers=["Cookie"]).status == 431
    assert application.asked == []


# ---- responses


@every_kind
def test_head_request_has_no_body(kind: str) -> None:
    """CGI-38, uwsgi#258."""
    application = Application(kind)
    data = b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody"
    found = ask(application, data, method="HEAD")
    assert (found.status, found.body, application.bodies) == (200, b"", [b"body"])


@every_kind
def test_local_redirect_is_answered_by_the_gateway(kind: str) -> None:
    """CGI-34: as if the client had asked for it; GET, without the body."""
    application = Application(kind, location=b"/new/%20x?q", times=1)
    data = b"POST /old HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody"
    assert ask(application, data).status == 200
    assert application.bodies == [b"body", b""]
    asked = application.asked[1]
    assert (asked["REQUEST_METHOD"], asked["PATH_INFO"], asked["QUERY_STRING"]) == ("GET", "/new/ x", "q")


@every_kind
def test_local_redirects_are_bounded(kind: str) -> None:
    """CGI-34: a circle ends in a 502."""
    application = Application(kind, location=b"/again")
    found = ask(application, get(b"/"))
    assert found.status == 502
    assert "error=http_protocol_error" in found.headers["proxy-status"]
    assert len(application.asked) == 11


@every_kind
def test_local_redirect_to_another_route(kind: str) -> None:
    application = Application(kind, location=b"/fixed")
    routes: list[Mapping[str, Any]] = [
        {"match": {"path": "/fixed"}, "respond": {"body": "fixed"}},
        {"backend": "app"},
    ]
    assert ask(application, get(b"/"), routes=routes).body == b"fixed"


@every_kind
def test_local_redirect_that_leads_nowhere(kind: str) -> None:
    application = Application(kind, location=b"/../x")
    assert ask(application, get(b"/")).status == 502
