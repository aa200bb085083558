"""Chromium as a client of a gateway with TLS, over HTTP/2, and without it, over HTTP/1.1."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.served import unused_port
from tests.peers.browser import Browser
from tests.peers.conftest import CHECKOUT, Gateway, RunGateway, StartGateway

LISTENERS = "[{http: 127.0.0.1:0}, {http: 127.0.0.1:0, tls: development}]"

CONFIG = """
access_log: false
backends:
  asyncio: {asgi: "browser_app:app", loop: asyncio}
  trio: {asgi: "browser_app:app", loop: trio}
  dead: {http: "http://127.0.0.1:PORT"}
routes:
  - {match: {path: /asyncio/*}, mount: /asyncio, backend: asyncio}
  - {match: {path: /trio/*}, mount: /trio, backend: trio}
  - {match: {path: /dead/*}, backend: dead}
"""

every_loop = pytest.mark.parametrize("loop", ["asyncio", "trio"])


@pytest.fixture(scope="module")
def gateway(run_gateway: RunGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("browser")
    shutil.copy(CHECKOUT / "tests/peers/apps/browser_app.py", directory)
    config = CONFIG.replace("PORT", str(unused_port()))
    with run_gateway(
        directory,
        config,
        listeners=LISTENERS,
        env={"XDG_CACHE_HOME": str(directory / "cache")},
        expect=["backend failed", "application failed"],
    ) as running:
        yield running


@pytest.fixture
def url(request: pytest.FixtureRequest, gateway: Gateway) -> str:
    """Of the listener that the test is for."""
    return gateway.https if request.param == "2" else gateway.url


every_version = pytest.mark.parametrize(("url", "version"), [("2", "2"), ("1.1", "1.1")], indirect=["url"])


# ---- pages


@every_loop
@every_version
def test_page(browser: Browser, url: str, version: str, loop: str) -> None:
    response = browser.open(f"{url}/{loop}/")
    assert (response["status"], response["mimeType"]) == (200, "text/html")
    assert response["protocol"] == {"2": "h2", "1.1": "http/1.1"}[version]
    assert browser.run("return document.querySelector('h1').innerText") == "Page"


def test_example(browser: Browser) -> None:
    """The home page with its style, and what is behind a link of it."""
    environment = {**os.environ, "PORT": str(unused_port())}
    with Gateway(CHECKOUT / "config.example.yaml", cwd=CHECKOUT, env=environment) as example:
        for width in (375, 1280):
            browser.resize(width)
            assert browser.open(example.url)["status"] == 200
            assert browser.run("return document.querySelector('h1').innerText") == "Gateway"
            assert (
                browser.run("return getComputedStyle(document.querySelector('dl > div')).display") == "grid"
            )
            assert browser.run("return document.documentElement.scrollWidth") <= width
            assert browser.complaints() == []
        browser.follow("document.querySelector('a[href^=\"/asgi-trio/\"]').click()")
        assert "event loop: trio" in browser.run("return document.body.innerText")


@every_version
@pytest.mark.parametrize(
    ("path", "status", "reason", "detail"),
    [
        ("/nowhere", 404, "Not Found", "No route of this server matches"),
        ("/dead/x", 502, "Bad Gateway", "The application refused the connection"),
        ("/trio/fail", 500, "Internal Server Error", "The application failed"),
        ("/asyncio/fail", 500, "Internal Server Error", "The application failed"),
    ],
)
def test_failure(
    browser: Browser, url: str, version: str, path: str, status: int, reason: str, detail: str
) -> None:
    """A browser shows a page that says what has failed, and nothing of an application's words."""
    browser.resize(375)
    response = browser.open(url + path)
    assert (response["status"], response["mimeType"]) == (status, "text/html")
    text = browser.run("return document.body.innerText")
    assert f"{status}" in text
    assert reason in text
    assert detail.lower() in text.lower()
    assert response["headers"]["x-request-id"] in text
    assert "paper" not in text
    assert browser.run("return document.documentElement.scrollWidth") <= 375


@pytest.mark.parametrize("width", [375, 1280])
def test_failure_for_developers(
    browser: Browser, start_gateway: StartGateway, tmp_path: Path, width: int
) -> None:
    """What failed, where, and what is next; the application's words are text, on a narrow page as well."""
    shutil.copy(CHECKOUT / "tests/peers/apps/browser_app.py", tmp_path)
    config = CONFIG.replace("PORT", str(unused_port())) + "debug: true\n"
    debugging = start_gateway(config, expect=["application failed", "backend failed"])
    browser.resize(width)
    for path, shown in {
        "/trio/fail": ["RuntimeError: <b>out of paper</b>", "routes[1]", "The end of the traceback"],
        "/dead/x": ["ECONNREFUSED", "routes[2]", "Nothing listens at 127.0.0.1:"],
        "/nowhere": ["routes[0]", "path: /asyncio/*", "Add one for this request"],
    }.items():
        browser.open(debugging.url + path)
        text = browser.run("return document.body.innerText")
        for words in shown:
            assert words in text
        assert browser.run("return document.documentElement.scrollWidth") <= width
        assert browser.run("return document.querySelectorAll('main b').length") == 1, "that of the status"


# ---- server-sent events


LISTEN = """
window.events = [];
window.source = new EventSource("events");
source.onmessage = event => events.push(event.data);
"""


@every_loop
@every_version
def test_events(browser: Browser, gateway: Gateway, url: str, version: str, loop: str) -> None:
    """Each arrives while the response goes on; a new connection tells which was the last."""

    def publish(event: bytes) -> None:
        assert gateway.post(f"/{loop}/publish", event).text == "1"

    browser.open(f"{url}/{loop}/")
    browser.run(LISTEN)
    browser.wait_for("events.length == 1")
    assert browser.run("return events") == [f"HTTP/{version} after nothing"]
    for number in (2, 3, 4):
        publish(b"id: %d\ndata: event %d\n\n" % (number, number))
        browser.wait_for(f"events.length == {number}")
    publish(b"")  # the stream ends
    browser.wait_for("events.length == 5")
    publish(b"data: event 6\n\n")
    browser.wait_for("events.length == 6")
    assert browser.run("return events.slice(1)") == [
        "event 2",
        "event 3",
        "event 4",
        f"HTTP/{version} after 4",
        "event 6",
    ]
    browser.run("source.close()")
    browser.wait_for("(await (await fetch('state')).json()).streams === 0")


# ---- WebSockets


TALK = """
const socket = new WebSocket("talk", ["chat", "other"]);
socket.binaryType = "arraybuffer";
const queue = [], waiting = [];
const put = value => waiting.length ? waiting.shift()(value) : queue.push(value);
const next = () => queue.length ? queue.shift() : new Promise(resolve => waiting.push(resolve));
socket.onmessage = event => put(event.data);
socket.onclose = event => put(`${event.code} ${event.reason} ${event.wasClean}`);
socket.onerror = () => put("error");
const found = [await next(), socket.protocol, socket.extensions.split(";")[0]];
for (const text of ["Grüße", "x".repeat(200000)]) {
    socket.send(text);
    found.push(await next() === text);
}
const bytes = new Uint8Array(100000).map((_, n) => n);
socket.send(bytes);
const echoed = new Uint8Array(await next());
found.push(echoed.length === bytes.length && echoed.every((value, n) => value === bytes[n]));
"""


@every_loop
@every_version
def test_websocket(browser: Browser, url: str, version: str, loop: str) -> None:
    """RFC 8441 on the connection of the page, RFC 6455 without TLS; text, binary, compressed."""
    browser.open(f"{url}/{loop}/")
    found = browser.run(TALK + "socket.send('bye'); found.push(await next()); return found")
    assert found == [version, "chat", "permessage-deflate", True, True, True, "4001 it said bye true"]


@every_loop
@every_version
def test_websocket_that_the_page_closes(browser: Browser, url: str, version: str, loop: str) -> None:
    browser.open(f"{url}/{loop}/")
    code = 4100 + int(float(version))
    script = f"socket.close({code}, 'enough'); found.push(await next()); return found"
    assert browser.run(TALK + script)[-1] == f"{code} enough true"
    browser.wait_for(f"(await (await fetch('state')).json()).closed.includes({code})")


# ---- uploads


UPLOAD = """
const bytes = new Uint8Array(3_000_000).map((_, n) => n * 7);
const response = await fetch("echo", {method: "POST", BODY, headers: {"content-type": "x/y"}});
const echoed = new Uint8Array(await response.arrayBuffer());
return [response.status, response.headers.get("content-type"), echoed.length,
    echoed.every((value, n) => value === bytes[n])];
"""


@every_loop
@every_version
def test_upload(browser: Browser, url: str, version: str, loop: str) -> None:
    browser.open(f"{url}/{loop}/")
    assert browser.run(UPLOAD.replace("BODY", "body: bytes")) == [200, "x/y", 3_000_000, True]


@every_loop
def test_upload_of_a_stream(browser: Browser, gateway: Gateway, loop: str) -> None:
    """Of unknown length: Chromium does that over HTTP/2 only."""
    browser.open(f"{gateway.https}/{loop}/")
    body = "body: new Blob([bytes]).stream(), duplex: 'half'"
    assert browser.run(UPLOAD.replace("BODY", body)) == [200, "x/y", 3_000_000, True]


@every_version
def test_form(browser: Browser, url: str, version: str) -> None:
    """A form, and the page that answers it."""
    browser.open(f"{url}/trio/")
    form = "<form method=post action=echo enctype=text/plain><input name=a value=b></form>"
    browser.follow(f"document.body.innerHTML = '{form}'; document.forms[0].submit()")
    assert browser.run("return document.body.innerText") == "a=b\n"
