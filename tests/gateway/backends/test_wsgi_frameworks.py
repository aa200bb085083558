"""Flask and Django behind the real HTTP/1.1 front, as applications use them."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import flask
import pytest
import trio
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path

from gateway.spool import BodyPolicy
from tests.gateway.backends.wsgi_harness import connected
from tests.gateway.conftest import make_intake

FORM = b"a=1&b=caf%C3%A9"


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))


def request(method: bytes, target: bytes, body: bytes = b"", *fields: bytes) -> bytes:
    return b"\r\n".join((b"%b %b HTTP/1.1" % (method, target), b"host: example.com", *fields, b"", body))


def post(target: bytes, *, in_chunks: bool) -> bytes:
    form = b"content-type: application/x-www-form-urlencoded"
    if in_chunks:
        return request(b"POST", target, chunked(FORM[:4], FORM[4:]), form, b"transfer-encoding: chunked")
    return request(b"POST", target, FORM, form, b"content-length: %d" % len(FORM))


async def read_answer(client: trio.SocketStream) -> tuple[bytes, bytes]:
    """(head, body) of the next answer, by its framing."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += await _more(client)
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)", head)
    if length:
        while len(body) < int(length[1]):
            body += await _more(client)
        return head, body
    assert b"\r\ntransfer-encoding: chunked" in head
    while not body.endswith(b"0\r\n\r\n"):
        body += await _more(client)
    reader = io.BytesIO(body)
    pieces = []
    while size := int(reader.readline(), 16):
        pieces.append(reader.read(size))
        assert reader.readline() == b"\r\n"
    return head, b"".join(pieces)


async def _more(client: trio.SocketStream) -> bytes:
    data = bytes(await client.receive_some())
    assert data, "the connection was closed"
    return data


def ask(app: Any, *requests: bytes, **options: Any) -> list[tuple[bytes, bytes]]:
    """The answers to *requests*, one after the other on one connection."""
    answers = []

    async def main() -> None:
        async with connected(app, **options) as client:
            for one in requests:
                await client.send_all(one)
                answers.append(await read_answer(client))

    trio.run(main)
    return answers


@pytest.fixture(scope="module")
def flask_app(tmp_path_factory: pytest.TempPathFactory) -> Any:
    app = flask.Flask(__name__)
    content = tmp_path_factory.mktemp("flask") / "file.bin"
    content.write_bytes(bytes(range(256)) * 1000)

    def form() -> str:
        return repr(sorted(flask.request.form.items()))

    def stream() -> Any:
        return flask.Response((f"{number}\n" for number in range(100)), mimetype="text/plain")

    def file() -> Any:
        return flask.send_file(content)

    def url() -> str:
        return flask.url_for("url", _external=True)

    app.add_url_rule("/form", view_func=form, methods=["POST"])
    for view in (stream, file, url):
        app.add_url_rule(f"/{view.__name__}", view_func=view)
    return app


@pytest.mark.parametrize("policy", ["spool", "stream"])
@pytest.mark.parametrize("in_chunks", [False, True])
def test_flask_form(flask_app: Any, in_chunks: bool, policy: BodyPolicy) -> None:
    """WSGI-5: sized and chunked, with and without a length."""
    [(head, answer)] = ask(flask_app, post(b"/form", in_chunks=in_chunks), intake=make_intake(policy))
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert answer.decode() == "[('a', '1'), ('b', 'café')]"


def test_flask_stream_and_file_on_one_connection(flask_app: Any) -> None:
    """WSGI-11, WSGI-18: the connection stays usable after each."""
    answers = ask(flask_app, *[request(b"GET", target) for target in (b"/stream", b"/file", b"/stream")])
    assert [body for _, body in answers] == [
        "".join(f"{number}\n" for number in range(100)).encode(),
        bytes(range(256)) * 1000,
        "".join(f"{number}\n" for number in range(100)).encode(),
    ]


def test_flask_under_a_mount(flask_app: Any) -> None:
    """CGI-16, CGI-24: the application makes its URLs from SCRIPT_NAME."""
    [(_, body)] = ask(flask_app, request(b"GET", b"/m/url"), mount="/m")
    assert body == b"http://example.com/m/url"


def test_flask_not_found_and_head(flask_app: Any) -> None:
    """CGI-38."""

    async def main() -> None:
        async with connected(flask_app) as client:
            await client.send_all(request(b"HEAD", b"/url") + request(b"GET", b"/none"))
            data = b""
            while b"Not Found</h1>" not in data:
                data += await _more(client)
            heads = data.split(b"HTTP/1.1 ")
            assert [head[:3] for head in heads[1:]] == [b"200", b"404"]
            assert heads[1].endswith(b"\r\n\r\n")

    trio.run(main)


@pytest.fixture(scope="module")
def django_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    file: Path = tmp_path_factory.mktemp("django") / "file.bin"
    file.write_bytes(bytes(range(256)) * 1000)

    def form(request: Any) -> Any:
        return HttpResponse(repr(sorted(request.POST.items())))

    def stream(request: Any) -> Any:
        return StreamingHttpResponse(f"{number}\n" for number in range(100))

    def send(request: Any) -> Any:
        return FileResponse(file.open("rb"))

    def where(request: Any) -> Any:
        return HttpResponse(request.build_absolute_uri())

    if not settings.configured:
        settings.configure(SECRET_KEY="x", MIDDLEWARE=[], LOGGING_CONFIG=None)
        django.setup()
    urls = [path("form", form), path("stream", stream), path("file", send), path("wo/é", where)]
    with override_settings(ROOT_URLCONF=tuple(urls), ALLOWED_HOSTS=["*"]):
        yield get_wsgi_application()


@pytest.mark.parametrize("in_chunks", [False, True])
def test_django_form(django_app: Any, in_chunks: bool) -> None:
    """CGI-5: without an exact CONTENT_LENGTH Django takes the body for empty."""
    [(head, body)] = ask(django_app, post(b"/form", in_chunks=in_chunks))
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert body.decode() == "[('a', '1'), ('b', 'café')]"


def test_django_stream_and_file_on_one_connection(django_app: Any) -> None:
    """WSGI-11, WSGI-18."""
    answers = ask(django_app, *[request(b"GET", target) for target in (b"/stream", b"/file", b"/stream")])
    assert [len(body) for _, body in answers] == [290, 256_000, 290]


def test_django_path_beyond_ascii_under_a_mount(django_app: Any) -> None:
    """CGI-8, CGI-24: from the wire to the view and back into a URL."""
    [(_, body)] = ask(django_app, request(b"GET", b"/m/wo/%C3%A9?q=%20"), mount="/m")
    assert body == b"http://example.com/m/wo/%C3%A9?q=%20"
