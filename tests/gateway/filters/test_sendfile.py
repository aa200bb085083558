"""X-Sendfile and X-Accel-Redirect of an application that decides who may have a file."""

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.gateway.backends.asgi_harness import answering, published
from tests.gateway.served import Response, gateway_of, response, run

APP = '''
def application(environ, start_response):
    """Answers with the fields of the query: name=value, and a body of its own."""
    from urllib.parse import parse_qsl
    fields = parse_qsl(environ["QUERY_STRING"])
    status = dict(fields).get("X-Status", "200 OK")
    start_response(status, [("Content-Length", "3"), *fields])
    return [b"own"]


def flask(environ, start_response):
    """Gives the length of the file that it names, as USE_X_SENDFILE does."""
    name = environ["QUERY_STRING"]
    start_response("200 OK", [("X-Sendfile", name), ("Content-Type", "a/b"), ("Content-Length", "100000")])
    return []


async def quart(scope, receive, send):
    """The same by ASGI."""
    fields = [
        (b"x-sendfile", scope["query_string"]), (b"content-type", b"a/b"), (b"content-length", b"100000")
    ]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body"})
'''
CGI = """#!/bin/sh
printf 'X-Sendfile: %s\\nContent-Type: a/b\\nContent-Length: 100000\\n\\n' "$QUERY_STRING"
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests: a module is imported once."""
    tmp_path = tmp_path_factory.mktemp("sendfile")
    (tmp_path / "naming_app.py").write_text(APP)
    (tmp_path / "naming.cgi").write_text(CGI)
    (tmp_path / "naming.cgi").chmod(0o755)
    files = tmp_path / "files"
    files.mkdir()
    (files / "a.txt").write_text("0123456789")
    (files / "big.bin").write_bytes(b"b" * 100_000)
    (files / "dir").mkdir()
    (files / "out").symlink_to(tmp_path / "naming_app.py")
    return tmp_path


def asked(site: Path, query: str, *fields: str, method: str = "GET", **app: Any) -> Response:
    answer = b""

    async def main() -> None:
        nonlocal answer
        options = app or {"x_sendfile": str(site / "files"), "x_accel_redirect": True}
        target = {} if "asgi" in options else {"wsgi": "naming_app:application"}
        config = {
            "backends": {"app": {**target, "directory": str(site), **options}},
            "routes": [
                {
                    "match": {"path": "/protected/*"},
                    "internal": True,
                    "mount": "/protected",
                    "static": str(site / "files"),
                },
                {"match": {"path": "/loop"}, "backend": "app"},
                {"backend": "app"},
            ],
        }
        async with gateway_of(config) as served:
            lines = "".join(f"{field}\r\n" for field in fields)
            answer = await served.ask(
                f"{method} {query} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}\r\n".encode()
            )

    run(main)
    return response(answer, method)


@pytest.fixture(params=["X-Sendfile", "X-Accel-Redirect"])
def named(request: pytest.FixtureRequest, site: Path) -> Any:
    """The query that names a file of the site."""

    def name(file: str) -> str:
        if request.param == "X-Sendfile":
            return f"/?X-Sendfile={site}/files/{file}"
        return f"/?X-Accel-Redirect=/protected/{file}"

    return name


def test_file_is_sent(site: Path, named: Any) -> None:
    got = asked(site, named("a.txt"))
    assert (got.status, got.body, got.complete) == (200, b"0123456789", True)
    assert got.headers["content-type"] == "text/plain; charset=utf-8"
    assert got.headers["x-sendfile"] is None
    assert got.headers["x-accel-redirect"] is None
    assert got.headers.get_all("content-length") == ["10"]


def test_large_file_is_sent(site: Path, named: Any) -> None:
    assert asked(site, named("big.bin")).body == b"b" * 100_000


def test_fields_of_the_application_stay(site: Path, named: Any) -> None:
    query = named("a.txt") + "&Content-Type=application/x-mine&Set-Cookie=a=1&Set-Cookie=b=2&ETag=%22x%22"
    got = asked(site, query)
    assert got.headers.get_all("content-type") == ["application/x-mine"]
    assert got.headers.get_all("set-cookie") == ["a=1", "b=2"]
    assert got.headers["etag"] != '"x"'  # that was of its own body


def test_cookies_of_both_responses_are_set(site: Path) -> None:
    """nginx. A path may lead to an application that has a session of its own."""
    query = "/?X-Accel-Redirect=/loop%3FSet-Cookie=c%253D3%26Vary=b%26X-One=2&X-One=1&Set-Cookie=a%3D1&Vary=a"
    got = asked(site, query)
    assert got.headers.get_all("set-cookie") == ["a=1", "c=3"]
    assert got.headers.get_all("vary") == ["a", "b"]
    assert got.headers.get_all("x-one") == ["1"]


def test_ranges_and_conditions_are_the_files(site: Path, named: Any) -> None:
    got = asked(site, named("a.txt") + "&Content-Type=x/y", "Range: bytes=2-4")
    assert (got.status, got.body, got.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    assert got.headers["content-type"] == "x/y"
    two = asked(site, named("a.txt") + "&Content-Type=x/y", "Range: bytes=0-1,4-5")
    assert two.headers["content-type"].startswith("multipart/byteranges")
    again = asked(site, named("a.txt"), f"If-None-Match: {got.headers['etag']}")
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    ("kind", "process"),
    [("wsgi", "shared"), ("wsgi", "own"), ("asgi", "shared"), ("asgi", "own"), ("cgi", "")],
)
def test_length_of_the_file_may_be_that_of_the_response(site: Path, kind: str, process: str) -> None:
    """Flask, Werkzeug and Symfony say it, and send no body."""
    app: dict[str, Any] = {"x_sendfile": str(site / "files")}
    if kind == "cgi":
        app["cgi"] = str(site / "naming.cgi")
    else:
        name = {"wsgi": "flask", "asgi": "quart"}[kind]
        app |= {kind: f"naming_app:{name}", "directory": str(site), "process": process}
        if kind == "asgi":
            app["lifespan"] = "off"
    got: list[Response] = []

    async def main() -> None:
        async with gateway_of({"backends": {"app": app}, "routes": [{"backend": "app"}]}) as served:
            for method in ("GET", "HEAD"):
                line = f"{method} /?{site}/files/big.bin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
                got.append(response(await served.ask(line.encode()), method))

    with capture_logs() as logs:
        run(main)
    assert [each.status for each in got] == [200, 200]
    assert [each.body for each in got] == [b"b" * 100_000, b""]
    for each in got:
        assert each.headers.get_all("content-length") == ["100000"]
        assert each.headers.get_all("content-type") == ["a/b"]
    assert [entry for entry in logs if entry["log_level"] != "info"] == []


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_response_that_names_a_file_for_a_web_server_in_front_is_whole(site: Path, kind: str) -> None:
    """Its Content-Length would be waited for, or the connection be cut."""
    name = {"wsgi": "flask", "asgi": "quart"}[kind]
    app = {kind: f"naming_app:{name}"}
    got = asked(site, "/?/srv/a", **app)
    assert (got.status, got.body, got.complete) == (200, b"", True)
    assert got.headers.get_all("content-length") == ["0"]
    assert got.headers["x-sendfile"] == "/srv/a"


@pytest.mark.parametrize("field", ["x-sendfile", "x-accel-redirect", "content-disposition"])
@pytest.mark.parametrize("wrong", [b"\0", b"\r\nX-Evil: 1"])
def test_what_no_field_may_have_is_the_applications_fault(site: Path, field: str, wrong: bytes) -> None:
    """RFC 9110 5.5. Of ASGI applications nobody has looked at the fields before."""
    names = {b"x-sendfile": f"{site}/files/a.txt".encode(), field.encode(): b"/loop" + wrong}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": list(names.items())})
        await send({"type": "http.response.body"})

    with capture_logs() as logs:
        got = asked(
            site, "/x", asgi=published(app), lifespan="off", x_sendfile=str(site), x_accel_redirect=True
        )
    assert (got.status, got.headers["x-evil"]) == (500, None)
    assert [entry["event"] for entry in logs] == ["application failed", "backend failed"]


def test_head(site: Path, named: Any) -> None:
    got = asked(site, named("a.txt"), method="HEAD")
    assert (got.status, got.headers["content-length"], got.body) == (200, "10", b"")


def test_post_gets_the_file(site: Path, named: Any) -> None:
    assert asked(site, named("a.txt"), "Content-Length: 0", method="POST").body == b"0123456789"


def test_status_is_the_applications_where_it_names_a_file(site: Path) -> None:
    """lighttpd. RFC 9110 13.2.1, 14.2: then nothing but the whole file."""
    query = f"/?X-Sendfile={site}/files/a.txt&X-Status=404%20Gone%20Fishing"
    for fields in ((), ("Range: bytes=2-4",), ("If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT",)):
        got = asked(site, query, *fields)
        assert (got.status, got.body) == (404, b"0123456789")
        assert got.headers["content-range"] is None
    big = asked(site, f"/?X-Sendfile={site}/files/big.bin&X-Status=503%20Later")
    assert (big.status, big.body) == (503, b"b" * 100_000)
    head = asked(site, query, method="HEAD")
    assert (head.status, head.headers["content-length"], head.body) == (404, "10", b"")


def test_part_that_an_application_has_chosen_is_the_gateways_to_send(site: Path) -> None:
    """Flask's send_file answers ranges by itself, with the file named all the same."""
    query = f"/?X-Sendfile={site}/files/a.txt&X-Status=206%20Partial&Content-Length=3"
    query += "&Content-Range=bytes%202-4/10"
    part = asked(site, query, "Range: bytes=2-4")
    assert (part.status, part.body, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    assert part.headers.get_all("content-length") == ["3"]
    assert (whole := asked(site, query)).status == 200
    assert whole.body == b"0123456789"


def test_status_without_a_body_has_none(site: Path) -> None:
    got = asked(site, f"/?X-Sendfile={site}/files/a.txt&X-Status=204%20No")
    assert (got.status, got.body, got.complete) == (204, b"", True)


def test_status_is_that_of_the_path_where_the_application_names_one(site: Path) -> None:
    """nginx."""
    got = asked(site, "/?X-Accel-Redirect=/protected/a.txt&X-Status=404%20No")
    assert (got.status, got.body) == (200, b"0123456789")


@pytest.mark.parametrize("status", ["200%20OK", "404%20No"])
def test_missing_file_is_404_whatever_the_status(site: Path, status: str) -> None:
    assert asked(site, f"/?X-Sendfile={site}/files/nothing&X-Status={status}").status == 404


def test_file_that_is_not_there(site: Path, named: Any) -> None:
    assert asked(site, named("nothing")).status == 404


@pytest.mark.parametrize("name", ["naming_app.py", "files/../naming_app.py", "files", "files/out", "filesx"])
def test_nothing_outside_of_the_roots(site: Path, name: str) -> None:
    got = asked(site, f"/?X-Sendfile={site}/{name}")
    assert got.status in (404, 502)
    assert b"application" not in got.body.replace(b"the application", b"")


def test_directory_is_no_file(site: Path) -> None:
    assert asked(site, f"/?X-Sendfile={site}/files/dir").status == 404


def test_internal_route_is_not_for_clients(site: Path) -> None:
    got = asked(site, "/protected/a.txt")
    assert (got.status, got.body) == (200, b"own")  # the next route that matches


def test_redirects_in_a_circle_end(site: Path) -> None:
    assert asked(site, "/loop?X-Accel-Redirect=/loop%3FX-Accel-Redirect=%2Floop").status in (200, 502)


def test_fields_mean_nothing_unless_configured(site: Path) -> None:
    got = asked(site, f"/?X-Sendfile={site}/files/a.txt", x_accel_redirect=True)
    assert (got.body, got.headers["x-sendfile"]) == (b"own", f"{site}/files/a.txt")
    got = asked(site, "/?X-Accel-Redirect=/protected/a.txt", x_sendfile=str(site / "files"))
    assert (got.body, got.headers["x-accel-redirect"]) == (b"own", "/protected/a.txt")


@pytest.mark.parametrize("by", ["X-Accel-Redirect", "Location"])
def test_what_a_backends_rules_have_given_to_a_request_is_for_that_backend(site: Path, by: str) -> None:
    """Such as the key of a service, as with nginx; what the route has passed on goes further."""
    program = site / "moved.cgi"
    program.write_text("#!/bin/sh\nprintf 'Location: /other\\n\\n'\n")
    program.chmod(0o755)
    seen: list[Any] = []

    async def other(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(scope["headers"])
        await answering()(scope, receive, send)

    rules = {"set": {"Authorization": "key", "Host": "inner.example"}, "remove": ["Accept"]}
    first: dict[str, Any] = {"cgi": str(program)}
    if by == "X-Accel-Redirect":
        first = {"wsgi": "naming_app:application", "directory": str(site), "x_accel_redirect": True}
    config = {
        "backends": {
            "first": {**first, "headers": {"request": rules}},
            "other": {"asgi": published(other), "lifespan": "off"},
        },
        "routes": [
            {"match": {"path": "/other"}, "internal": True, "backend": "other"},
            {
                "backend": "first",
                "headers": {"request": {"set": {"X-Of": "route"}, "remove": ["Remote-User"]}},
            },
        ],
    }

    async def main() -> None:
        async with gateway_of(config) as served:
            fields = b"Host: a\r\nAccept: a/b\r\nRemote-User: ann\r\n"
            await served.ask(b"GET /?X-Accel-Redirect=/other HTTP/1.0\r\n%b\r\n" % fields)

    run(main)
    assert seen == [(b"host", b"a"), (b"accept", b"a/b"), (b"x-of", b"route")]
