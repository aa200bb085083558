"""From the configuration to what runs: every setting reaches the part that it is for."""

from pathlib import Path
from typing import Any

import pytest
import trio

from gateway.actions import Redirect, Respond
from gateway.backend import Backend
from gateway.backends.ajp import AjpBackend
from gateway.backends.application import ApplicationBackend
from gateway.backends.asgi import AsgiBackend
from gateway.backends.cgi import CgiBackend
from gateway.backends.http import HttpBackend
from gateway.backends.wsgi import WsgiBackend
from gateway.build import Gateway, build
from gateway.config import ConfigError, from_mapping
from gateway.errors import RequestError
from gateway.front.service import Limits, Timeouts
from gateway.net.pump import Pump
from gateway.static.handler import StaticFiles
from tests.gateway.conftest import BytesBody, RecordingResponder, make_request

APPLICATION = """
def app(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("X-Length", environ.get("CONTENT_LENGTH", "none"))])
    return [body]
"""


def built(**config: Any) -> Gateway:
    """What is built of *config*."""

    async def main() -> Gateway:
        data = {"listeners": [{"http": "127.0.0.1:0"}], "routes": [{"respond": {}}], **config}
        return build(from_mapping(data, "", "."), Pump(), None)

    return trio.run(main)


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"cgi": "."}, CgiBackend),
        ({"fastcgi": "unix:/x"}, ApplicationBackend),
        ({"scgi": "127.0.0.1:1"}, ApplicationBackend),
        ({"uwsgi": ["127.0.0.1:1", "unix:/y"]}, ApplicationBackend),
        ({"ajp": ["127.0.0.1:1", "unix:/y"], "secret": "s"}, AjpBackend),
        ({"http": "http://127.0.0.1:1"}, HttpBackend),
        ({"asgi": "a:b"}, AsgiBackend),
        ({"wsgi": "a:b"}, WsgiBackend),
    ],
)
def test_every_kind_of_backend(config: dict[str, Any], kind: type[Backend]) -> None:
    gateway = built(backends={"app": config}, routes=[{"backend": "app"}])
    (backend,) = gateway.services
    assert isinstance(backend, kind)
    (route,) = gateway.service.router.routes
    assert route.handler is backend
    assert route.backend == "app"


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"static": "."}, StaticFiles),
        ({"redirect": {"to": "/x"}}, Redirect),
        ({"respond": {"status": 404}}, Respond),
    ],
)
def test_every_other_action(config: dict[str, Any], kind: type) -> None:
    (route,) = built(routes=[config]).service.router.routes
    assert isinstance(route.handler, kind)


def test_rules_of_a_route_say_what_values_in_its_fixed_response_are_escaped_for() -> None:
    """A path is a client's; it was markup where `headers` said that the body is HTML."""
    rules = {"response": {"set": {"Content-Type": "text/html"}}}
    (route,) = built(routes=[{"respond": {"body": "<p>{path}</p>"}, "headers": rules}]).service.router.routes
    responder = RecordingResponder()
    trio.run(route.handler.handle, make_request(target=b"/%3Cb%3E"), responder)
    assert responder.body == b"<p>/&lt;b&gt;</p>"
    assert [value for name, value in responder.headers if name == b"content-type"] == [b"text/html"]


def test_limits_and_timeouts_of_clients() -> None:
    service = built(
        timeouts={"header": "1s", "body": "2s", "keep_alive": "3s", "disconnect_grace": "4s"},
        limits={
            "request_line": 1000,
            "headers": "2KiB",
            "header_count": 3,
            "body": "4MiB",
            "min_rate": "1KiB",
        },
    ).service
    assert service.timeouts == Timeouts(header=1, body=2, send=2, keep_alive=3, disconnect_grace=4)
    assert service.limits == Limits(
        request_line=1000, headers=2048, header_count=3, body=4 * 1024 * 1024, min_rate=1024
    )


def test_what_is_not_configured_is_what_fronts_have_by_default() -> None:
    """That is what the control socket has, and tests of the fronts."""
    service = built(routes=[{"respond": {}}]).service
    assert service.timeouts == Timeouts()
    assert service.limits == Limits()


def test_spawned_application_starts_before_its_backend(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APPLICATION)
    gateway = built(
        backends={"app": {"fastcgi": {"spawn": {"wsgi": "app:app", "directory": str(tmp_path)}}}},
        routes=[{"backend": "app"}],
    )
    assert [type(each).__name__ for each in gateway.services] == ["SpawnedApplication", "ApplicationBackend"]


def test_routes_keep_their_order_and_conditions() -> None:
    gateway = built(
        backends={"app": {"scgi": "127.0.0.1:1"}},
        routes=[
            {
                "match": {"path": "/m/a", "method": "POST", "host": "a.example"},
                "mount": "/m",
                "backend": "app",
            },
            {"match": {"header": {"X-A": "1"}, "query": {"q": None}}, "respond": {"body": "second"}},
            {"match": {"scheme": "https", "client": "10.0.0.0/8"}, "redirect": {"to": "/"}},
            {"respond": {"body": "last"}},
        ],
    )
    router = gateway.service.router

    def index(**request: Any) -> int:
        route = router.match(make_request(**request))
        assert route is not None
        return router.routes.index(route)

    first = {"target": b"/m/a", "method": "POST", "host": "a.example"}
    assert index(**first) == 0
    assert index(**{**first, "method": "GET"}) == 3
    assert index(target=b"/?q", headers=[(b"x-a", b"1")]) == 1
    assert index(scheme="https", client=("10.1.2.3", 1)) == 2
    assert index() == 3


@pytest.mark.parametrize("status", [204, 205, 304])
def test_response_that_has_no_body(status: int) -> None:
    """RFC 9110 6.4.1: a mistake of the configuration, found before anything runs."""
    with pytest.raises(ConfigError, match=f"a response with status {status} has no body"):
        built(routes=[{"respond": {"status": status, "body": "x"}}])
    built(routes=[{"respond": {"status": status}}])


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("config", [{"limits": {"body": 10}}, {"backend": {"max_body": 10}}])
def test_wsgi_body_is_limited(tmp_path: Path, config: dict[str, Any], sized: bool) -> None:
    """hypercorn#176: the limit for clients holds unless the backend has its own."""
    module = tmp_path.name  # one process imports a module name once
    (tmp_path / f"{module}.py").write_text(APPLICATION)
    app = {"wsgi": f"{module}:app", "directory": str(tmp_path), **config.get("backend", {})}

    async def main() -> None:
        data = {
            "listeners": [{"http": "127.0.0.1:0"}],
            "backends": {"app": app},
            "routes": [{"backend": "app"}],
            "limits": config.get("limits", {}),
        }
        async with trio.open_nursery() as nursery:
            pump = Pump()
            await nursery.start(pump.run)
            (backend,) = build(from_mapping(data, "", "."), pump, None).services
            assert isinstance(backend, WsgiBackend)
            await nursery.start(backend.run)
            recorder = RecordingResponder()
            body = BytesBody(b"12345", b"67890", sized=sized)
            await backend.handle(make_request(method="POST", body=body), recorder)
            assert recorder.body == b"1234567890"
            assert recorder.header(b"x-length") == b"10"
            with pytest.raises(RequestError) as caught:
                await backend.handle(
                    make_request(method="POST", body=BytesBody(b"12345", b"678901", sized=sized)),
                    RecordingResponder(),
                )
            assert caught.value.status == 413
            nursery.cancel_scope.cancel()

    trio.run(main)
