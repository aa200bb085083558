"""What Django is known for, by WSGI and by ASGI: the admin site with its forms, async views; Channels."""

import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import django
import httpx2
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.peers.conftest import WAIT, Gateway, RunGateway

CONFIG = """
blocked_after: 0
backends:
  wsgi: {{wsgi: "django_app:wsgi", directory: .}}
  asgi: {{asgi: "django_app:asgi", directory: .}}
routes:
  - {{match: {{path: /static/admin/*}}, mount: /static/admin, static: {static}}}
  - {{match: {{path: /wsgi/*}}, mount: /wsgi, backend: wsgi}}
  - {{match: {{path: /asgi/*}}, mount: /asgi, backend: asgi}}
"""

either = pytest.mark.parametrize("interface", ["wsgi", "asgi"])


@pytest.fixture(scope="module")
def gateway(apps: Path, run_gateway: RunGateway) -> Iterator[Gateway]:
    static = Path(django.__file__).parent / "contrib/admin/static/admin"
    with run_gateway(apps, CONFIG.format(static=static), expect=["django.security.csrf"]) as running:
        yield running


@pytest.fixture(params=[False, True], ids=["http1", "http2"])
def client(gateway: Gateway, request: pytest.FixtureRequest) -> Iterator[httpx2.Client]:
    http2 = request.param
    with httpx2.Client(
        base_url=gateway.url,
        http1=not http2,
        http2=http2,
        timeout=WAIT,
        trust_env=False,
        verify=False,
        follow_redirects=True,
    ) as client:
        yield client


def submit(client: httpx2.Client, path: str, **fields: str) -> httpx2.Response:
    """Get the form at *path* and send it, with the token that is in it."""
    page = client.get(path)
    (token,) = set(re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text))
    return client.post(page.url, data={"csrfmiddlewaretoken": token, **fields})


def log_in(client: httpx2.Client, interface: str) -> httpx2.Response:
    return submit(client, f"/{interface}/admin/", username="ann", password="secret")


@either
def test_admin(client: httpx2.Client, interface: str) -> None:
    """The login, its redirects and cookies; a form that changes the database; style sheets; the logout."""
    denied = submit(client, f"/{interface}/admin/", username="ann", password="wrong")
    assert "Please enter the correct username and password" in denied.text
    page = log_in(client, interface)
    assert [each.status_code for each in (*page.history, page)] == [302, 200]
    assert page.url.path == f"/{interface}/admin/"
    assert f'<a href="/{interface}/admin/auth/user/">Users</a>' in page.text
    assert "Site administration" in page.text
    style = re.findall(r'href="(/static/admin/css/base\.css)"', page.text)[0]
    assert client.get(style).headers["Content-Type"].startswith("text/css")

    name = f"group of {interface} and {page.http_version}"
    added = submit(client, f"/{interface}/admin/auth/group/add/", name=name)
    assert added.url.path == f"/{interface}/admin/auth/group/"
    assert "was added successfully" in added.text
    assert name in client.get(f"/{interface}/admin/auth/group/").text

    # The button is a form on each page.
    (token,) = set(re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text))
    client.post(f"/{interface}/admin/logout/", data={"csrfmiddlewaretoken": token})
    assert client.get(f"/{interface}/admin/").url.path == f"/{interface}/admin/login/"


@either
def test_forged_form_is_refused(client: httpx2.Client, interface: str) -> None:
    """CSRF: the token of the form has to fit the cookie."""
    log_in(client, interface)
    forged = client.post(f"/{interface}/admin/auth/group/add/", data={"name": "forged"})
    assert forged.status_code == 403


def test_async_views_run_at_the_same_time(client: httpx2.Client) -> None:
    """Each of the two is answered only if the other one runs: on one loop, the daemon's guest."""
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda _: client.get("/asgi/together/async").json(), range(2)))
    assert answers == [{"main": True}] * 2


@either
def test_connections_to_the_database_last(client: httpx2.Client, interface: str) -> None:
    """CONN_MAX_AGE: they belong to threads, which are kept from one request to the next."""
    assert any(client.get(f"/{interface}/uses").json()["uses"] > 1 for _ in range(1000))


# ---- Channels


def enter(gateway: Gateway, **headers: str) -> ClientConnection:
    sock = socket.create_connection((gateway.host, gateway.port))
    return connect(
        f"ws://{gateway.host}:{gateway.port}/asgi/room",
        sock=sock,
        additional_headers=headers,
        open_timeout=WAIT,
    )


def test_channels_room(gateway: Gateway, client: httpx2.Client) -> None:
    """The session of the admin site says who it is; what one says goes to all by the channel layer."""
    log_in(client, "asgi")
    cookie = f"sessionid={client.cookies['sessionid']}"
    with enter(gateway, Cookie=cookie) as one, enter(gateway, Cookie=cookie) as other:
        assert (one.recv(WAIT), other.recv(WAIT)) == ("welcome ann", "welcome ann")
        for speaker in (one, other):
            speaker.send("Grüße")
            assert (one.recv(WAIT), other.recv(WAIT)) == ("ann: Grüße", "ann: Grüße")


def test_channels_refuses_strangers(gateway: Gateway) -> None:
    with pytest.raises(InvalidStatus) as refused:
        enter(gateway)
    assert refused.value.response.status_code == 403
