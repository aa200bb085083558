"""Real frameworks inside the daemon: Flask and Django by WSGI, Django and FastAPI by ASGI on asyncio,
Starlette and Quart by ASGI on trio. All of them run in one gateway, each under a mount of its own.
"""

import hashlib
import http.client
import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.peers.conftest import CHECKOUT, Gateway, Response, RunGateway

APPS = CHECKOUT / "tests/peers/apps"

BACKENDS = {
    "flask": "wsgi: flask_app:app",
    "django": "wsgi: django_app:wsgi",
    "django-asgi": "asgi: django_app:asgi",
    "fastapi": "asgi: fastapi_app:app",
    "starlette": "asgi: starlette_app:app, loop: trio",
    "quart": "asgi: quart_app:app, loop: trio",
}

every_app = pytest.mark.parametrize("app", list(BACKENDS))
asgi_app = pytest.mark.parametrize("app", ["fastapi", "starlette"])


def config(apps: dict[str, str]) -> str:
    backends = [f"  {name}: {{{kind}, directory: .}}" for name, kind in apps.items()]
    routes = [f"  - {{match: {{path: /{name}/*}}, mount: /{name}, backend: {name}}}" for name in apps]
    return "\n".join(["backends:", *backends, "routes:", *routes])


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the applications are imported from, and may write."""
    return shutil.copytree(APPS, tmp_path_factory.mktemp("python") / "apps")


@pytest.fixture(scope="module")
def gateway(directory: Path, run_gateway: RunGateway) -> Iterator[Gateway]:
    # What the views that fail leave in the log: the gateway's word, or the framework's own.
    failures = ["application failed", "flask_app", "django.request", "quart_app"]
    with run_gateway(directory, config(BACKENDS), expect=failures) as running:
        yield running


def form(fields: dict[str, str]) -> bytes:
    return urlencode(fields).encode()


@every_app
def test_route_query_header_cookie(gateway: Gateway, app: str) -> None:
    """complaints.md 33: links that the application makes have the mount; the mount comes from the route."""
    response = gateway.get(
        f"/{app}/items/7?q=a%20%2B%26b", x_tag="some tag", cookie="other=1; who=me", script_name="/evil"
    )
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("application/json")
    assert response.headers["Set-Cookie"].startswith("seen=7")
    assert response.json() == {
        "number": 7,
        "q": "a +&b",
        "tag": "some tag",
        "cookie": "me",
        "link": f"/{app}/items/7",
        "absolute": f"{gateway.url}/{app}/items/7",
    }


@every_app
@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
def test_form(gateway: Gateway, app: str, chunked: bool) -> None:
    """complaints.md 13: a chunked body is there, whatever the application's interface."""
    body = form({"name": "Zoë & co", "empty": ""})
    response = gateway.post(
        f"/{app}/form",
        iter([body[:5], body[5:]]) if chunked else body,
        content_type="application/x-www-form-urlencoded",
    )
    assert response.json() == {"name": "Zoë & co", "empty": ""}


@every_app
def test_json(gateway: Gateway, app: str) -> None:
    value = {"a": [1, 2.5, None, "ü"], "b": {}}
    response = gateway.post(f"/{app}/json", json.dumps(value).encode(), content_type="application/json")
    assert response.json() == {"got": value}


@every_app
def test_upload(gateway: Gateway, app: str) -> None:
    content = bytes(range(256)) * 12_000  # about 3 MB
    body = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.bin"\r\n'
    body += b"Content-Type: application/octet-stream\r\n\r\n" + content + b"\r\n--x--\r\n"
    response = gateway.post(f"/{app}/upload", body, content_type="multipart/form-data; boundary=x")
    assert response.json() == {
        "name": "a.bin",
        "size": len(content),
        "md5": hashlib.md5(content).hexdigest(),
    }


@every_app
def test_streaming(gateway: Gateway, app: str) -> None:
    """WSGI-11, ASGI: a piece is at the client before the application makes the next one."""
    connection = gateway.connect()
    try:
        connection.request("GET", f"/{app}/stream")
        response = connection.getresponse()
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert response.read1(100) == b"first,"
        assert gateway.get(f"/{app}/go").text == "gone"
        assert response.read() == b"second"
    finally:
        connection.close()


@every_app
def test_failing_view(gateway: Gateway, app: str) -> None:
    """complaints.md 49: an exception is a 500 for that request; the next one on the connection is fine."""
    connection = gateway.connect()
    try:
        assert exchange(connection, f"/{app}/fail").status == 500
        response = exchange(connection, f"/{app}/items/1?q=x")
        assert (response.status, response.json()["number"]) == (200, 1)
    finally:
        connection.close()


def exchange(connection: http.client.HTTPConnection, target: str) -> Response:
    """A request on a connection that stays open unless the gateway closes it."""
    connection.request("GET", target, headers={"X-Tag": "t", "Cookie": "who=w"})
    response = connection.getresponse()
    return Response(response.status, response.headers, response.read())


@every_app
def test_many_at_once(gateway: Gateway, app: str) -> None:
    """rules.md 14.4: no answer goes to another request."""
    start = threading.Barrier(8)

    def client(number: int) -> list[int]:
        connection = gateway.connect()
        try:
            start.wait()
            return [
                exchange(connection, f"/{app}/items/{number * 100 + turn}?q=x").json()["number"]
                for turn in range(25)
            ]
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as clients:
        for number, seen in enumerate(clients.map(client, range(8))):
            assert seen == list(range(number * 100, number * 100 + 25))


def test_fastapi_sync_endpoints_run_in_threads(gateway: Gateway) -> None:
    """The endpoint answers only if two requests are in it at the same time, which one thread cannot have."""
    with ThreadPoolExecutor(2) as clients:
        answers = list(clients.map(lambda _: gateway.get("/fastapi/sync").json(), range(2)))
    assert answers == [{"main": False}] * 2


def test_starlette_sync_endpoint_runs_in_a_thread(gateway: Gateway) -> None:
    assert gateway.get("/starlette/sync").json() == {"main": False}


def test_dependency_with_yield(gateway: Gateway) -> None:
    assert gateway.get("/fastapi/dependency").json() == "entered"
    assert gateway.get("/fastapi/dependency/left").json() == "left"


@asgi_app
def test_background_task(gateway: Gateway, app: str) -> None:
    assert "started" in gateway.get(f"/{app}/background").text
    assert "done" in gateway.get(f"/{app}/background/done").text


@pytest.mark.parametrize(
    ("app", "state"), [("fastapi", '"from the start"'), ("starlette", "True"), ("quart", "True")]
)
def test_lifespan_state(gateway: Gateway, app: str, state: str) -> None:
    """ASGI lifespan: what the start made, requests see; on trio it ran on the same loop."""
    assert gateway.get(f"/{app}/state").text == state


def test_lifespan_end(directory: Path, run_gateway: RunGateway) -> None:
    """ASGI lifespan: the application ends its work before the daemon does."""
    ended = directory / "ended"
    ended.unlink(missing_ok=True)
    with run_gateway(directory, config({"fastapi": BACKENDS["fastapi"]})) as gateway:
        assert gateway.get("/fastapi/state").status == 200
        assert not ended.exists()
    assert ended.read_text() == "the lifespan was ended"
