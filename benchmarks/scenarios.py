"""What is compared: the scenarios with their peers, and the targets that the gateway has to meet."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypedDict

from benchmarks import backends, peers, webservers
from benchmarks.backends import HELLO, Backend
from benchmarks.load import Generator, download, h2load, websocket, wrk
from benchmarks.peers import Need, Peer, Place
from benchmarks.process import APPS


class Measure(Enum):
    """What the servers of a scenario are compared by; the value heads the column of ratios."""

    CPU = "CPU µs/request"
    WALL = "wall ms/request"
    THROUGHPUT = "MB/s"
    MEMORY = "KiB/connection"
    START = "ms to the first answer"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of work that the gateway and its peers do."""

    name: str
    title: str
    gateway: Peer
    peers: tuple[Peer, ...]
    backend: Backend | None = None
    content: Callable[[Path], None] = backends.put_nothing
    """Puts files into an empty directory. Raises :class:`backends.BuildError`."""
    needs: tuple[Need, ...] = ()
    """What the content needs to be built."""
    path: str = "/"
    body: Callable[[], bytes] = lambda: HELLO
    """What every server must answer to ``GET path``."""
    load_path: str = ""
    """What the load asks for, if not *path*."""
    measure: Measure = Measure.CPU
    most_connections: int = 1024
    """More connections would only measure queues or memory."""
    load: Generator = wrk.run
    tls: bool = False
    idle: int = 0
    """Connections that stay open and idle beside those of the load."""

    @property
    def servers(self) -> tuple[Peer, ...]:
        """All that are compared, the gateway first."""
        return (self.gateway, *self.peers)

    def missing(self) -> list[Need]:
        """What is not installed and nothing can be compared without."""
        needs = (*self.gateway.needs, *(self.backend.needs if self.backend else ()), *self.needs)
        return [need for need in needs if not need.present()]


_ASGI: Final = "hello_asgi:app"
_FASTAPI: Final = "hello_fastapi:app"
_WSGI: Final = "hello_wsgi:app"


_ECHO: Final = "echo_asgi:app"
_LARGE_ASGI: Final = "large_asgi:app"
_LARGE_WSGI: Final = "large_wsgi:app"
_DJANGO_ASGI: Final = "hello_django:asgi"
_DJANGO_WSGI: Final = "hello_django:wsgi"


def _asgi(app: str, loop: str, *, tls: bool = False) -> Peer:
    return peers.gateway(lambda place: {"asgi": app, "directory": str(APPS), "loop": loop}, tls=tls)


def _wsgi(app: str) -> Peer:
    return peers.gateway(lambda place: {"wsgi": app, "directory": str(APPS), "threads": peers.THREADS})


def _fastcgi(place: Place) -> dict[str, Any]:
    return {**_with_pool("fastcgi", f"unix:{place.backend}", place), "keep_connection": True}


def _with_pool(kind: str, address: str, place: Place) -> dict[str, Any]:
    return {kind: address, "pool": {"idle": place.connections}}


_DJANGO: Final = peers.module("django")


class _Load(TypedDict):
    path: str
    load: Generator
    load_path: str
    measure: Measure
    most_connections: int


_DOWNLOAD: Final = _Load(
    path="/hello", load=download.run, load_path="/large", measure=Measure.THROUGHPUT, most_connections=1
)
"""One client that fetches a large response again and again; a small one shows that the server is ready."""


SCENARIOS: Final = (
    Scenario(
        "asgi-trio",
        "a raw ASGI application on trio (uvicorn and granian: on asyncio)",
        _asgi(_ASGI, "trio"),
        (peers.uvicorn(_ASGI), peers.granian("asgi", _ASGI), peers.hypercorn(_ASGI)),
    ),
    Scenario(
        "asgi-asyncio",
        "a raw ASGI application on asyncio",
        _asgi(_ASGI, "asyncio"),
        (peers.uvicorn(_ASGI), peers.granian("asgi", _ASGI)),
    ),
    Scenario(
        "asgi-fastapi",
        "a FastAPI application",
        _asgi(_FASTAPI, "asyncio"),
        (peers.uvicorn(_FASTAPI), peers.granian("asgi", _FASTAPI)),
        body=lambda: b'{"message":"Hello, world!"}',
    ),
    Scenario(
        "asgi-django",
        "a Django project, an async view",
        _asgi(_DJANGO_ASGI, "asyncio"),
        (peers.uvicorn(_DJANGO_ASGI), peers.granian("asgi", _DJANGO_ASGI)),
        needs=(_DJANGO,),
        path="/async",
    ),
    Scenario(
        "asgi-large",
        "1 GiB that an ASGI application streams",
        _asgi(_LARGE_ASGI, "asyncio"),
        (peers.uvicorn(_LARGE_ASGI), peers.granian("asgi", _LARGE_ASGI)),
        **_DOWNLOAD,
    ),
    Scenario(
        "start",
        "from the start of a server with a raw ASGI application to its first answer",
        _asgi(_ASGI, "asyncio"),
        (peers.uvicorn(_ASGI), peers.granian("asgi", _ASGI), peers.hypercorn(_ASGI)),
        measure=Measure.START,
    ),
    Scenario(
        "h2",
        f"HTTP/2 in clear text, {h2load.STREAMS} streams on each connection, a raw ASGI application on trio",
        _asgi(_ASGI, "trio"),
        # Hypercorn's trio worker ends with BusyResourceError when streams send at the same time.
        (peers.hypercorn(_ASGI, loop="uvloop"), peers.granian("asgi", _ASGI)),
        needs=(h2load.NEED,),
        load=h2load.run,
        most_connections=16,
    ),
    Scenario(
        "tls",
        "HTTP/1.1 over TLS 1.3 on kept connections, a raw ASGI application on trio",
        _asgi(_ASGI, "trio", tls=True),
        (
            peers.uvicorn(_ASGI, tls=True),
            peers.granian("asgi", _ASGI, tls=True),
            peers.hypercorn(_ASGI, tls=True),
            webservers.nginx_hello(tls=True),
        ),
        content=backends.put_certificate,
        tls=True,
    ),
    Scenario(
        "tls-handshake",
        "a TLS handshake for each request",
        _asgi(_ASGI, "trio", tls=True),
        (
            peers.uvicorn(_ASGI, tls=True),
            peers.granian("asgi", _ASGI, tls=True),
            webservers.nginx_hello(tls=True),
        ),
        content=backends.put_certificate,
        load=wrk.run_closing,
        tls=True,
    ),
    Scenario(
        "websocket",
        "WebSocket messages that an ASGI application on asyncio sends back",
        _asgi(_ECHO, "asyncio"),
        (peers.uvicorn(_ECHO), peers.granian("asgi", _ECHO), peers.hypercorn(_ECHO)),
        load=websocket.run,
    ),
    Scenario(
        "c10k",
        "10,000 idle connections beside those of the load",
        _asgi(_ASGI, "trio"),
        (peers.uvicorn(_ASGI), peers.granian("asgi", _ASGI), webservers.nginx_hello()),
        measure=Measure.MEMORY,
        most_connections=16,
        idle=10_000,
    ),
    Scenario(
        "wsgi",
        "a raw WSGI application",
        _wsgi(_WSGI),
        (
            peers.waitress(_WSGI),
            peers.granian("wsgi", _WSGI),
            peers.gunicorn(_WSGI),
            webservers.uwsgi_http_socket(),
        ),
    ),
    Scenario(
        "wsgi-django",
        "a Django project",
        _wsgi(_DJANGO_WSGI),
        (
            peers.gunicorn(_DJANGO_WSGI),
            peers.granian("wsgi", _DJANGO_WSGI),
            peers.waitress(_DJANGO_WSGI),
        ),
        needs=(_DJANGO,),
    ),
    Scenario(
        "wsgi-large",
        "1 GiB that a WSGI application streams",
        _wsgi(_LARGE_WSGI),
        (peers.waitress(_LARGE_WSGI), peers.granian("wsgi", _LARGE_WSGI), peers.gunicorn(_LARGE_WSGI)),
        **_DOWNLOAD,
    ),
    Scenario(
        "fastcgi",
        "a FastCGI program behind, connections kept where the server can",
        peers.gateway(_fastcgi),
        (
            webservers.nginx_fastcgi(),
            webservers.lighttpd_fastcgi(),
            webservers.apache_fastcgi(),
            webservers.haproxy_fastcgi(),
            webservers.caddy_fastcgi(),
        ),
        backend=backends.FASTCGI,
    ),
    Scenario(
        "fastcgi-large",
        "1 GiB from a FastCGI program",
        peers.gateway(_fastcgi),
        (webservers.nginx_fastcgi(),),
        backend=backends.FASTCGI,
        **_DOWNLOAD,
    ),
    Scenario(
        "fastcgi-php",
        "php-fpm behind, a connection for each request",
        peers.gateway(
            lambda place: {
                "fastcgi": f"unix:{place.backend}",
                "preset": "php-fpm",
                "root": str(place.content),
            }
        ),
        (
            webservers.nginx_php(),
            webservers.lighttpd_php(),
            webservers.apache_php(),
            webservers.haproxy_fastcgi(keep_connection=False),
            webservers.caddy_php(),
        ),
        backend=backends.PHP,
        content=backends.put_php,
        path="/hello.php",
        most_connections=16,
    ),
    Scenario(
        "uwsgi",
        "a uWSGI application behind, a connection for each request",
        peers.gateway(lambda place: {"uwsgi": f"unix:{place.backend}"}),
        (
            webservers.nginx_uwsgi(),
            webservers.uwsgi_http_router(),
            webservers.apache_uwsgi(),
            webservers.lighttpd_uwsgi(),
        ),
        backend=backends.UWSGI_APP,
    ),
    Scenario(
        "http",
        "a web server behind, connections kept",
        peers.gateway(lambda place: _with_pool("http", f"http://{place.backend}", place)),
        (
            webservers.nginx_proxy(),
            webservers.haproxy_proxy(),
            webservers.caddy_proxy(),
            webservers.apache_proxy(),
        ),
        backend=backends.HTTP,
    ),
    Scenario(
        "http-large",
        "1 GiB from a web server",
        peers.gateway(lambda place: _with_pool("http", f"http://{place.backend}", place)),
        (webservers.nginx_proxy(),),
        backend=backends.HTTP_FILES,
        content=backends.put_large,
        **_DOWNLOAD,
    ),
    Scenario(
        "cgi",
        "a C program for each request",
        peers.gateway(lambda place: {"cgi": str(place.content)}),
        (webservers.nginx_fcgiwrap(), webservers.apache_cgi(), webservers.lighttpd_cgi()),
        content=backends.put_cgi,
        needs=(backends.CC,),
        path="/hello_cgi",
        measure=Measure.WALL,
        most_connections=16,
    ),
    Scenario(
        "static-1k",
        "a file of 1 KiB",
        peers.gateway_static(),
        (
            webservers.nginx_static(),
            webservers.caddy_static(),
            webservers.lighttpd_static(),
            webservers.apache_static(),
        ),
        content=backends.put_noise("small.txt", backends.SMALL),
        path="/small.txt",
        body=lambda: backends.noise(backends.SMALL),
    ),
    Scenario(
        "static-10m",
        "a file of 10 MiB",
        peers.gateway_static(),
        (
            webservers.nginx_static(),
            webservers.caddy_static(),
            webservers.lighttpd_static(),
            webservers.apache_static(),
        ),
        content=backends.put_noise("large.bin", backends.LARGE),
        path="/large.bin",
        body=lambda: backends.noise(backends.LARGE),
        measure=Measure.THROUGHPUT,
        most_connections=8,
    ),
)


@dataclass(frozen=True, slots=True)
class Target:
    """How the gateway has to compare with a peer; for throughput at least, otherwise at most."""

    scenario: str
    peer: str
    ratio: float


TARGETS: Final = (
    Target("asgi-trio", "uvicorn", 0.65),
    Target("asgi-trio", "granian", 0.8),
    Target("asgi-asyncio", "uvicorn", 0.85),
    Target("asgi-fastapi", "uvicorn", 0.95),
    Target("asgi-django", "uvicorn", 1.0),
    Target("asgi-django", "granian", 1.0),
    Target("asgi-large", "uvicorn", 1.0),
    Target("start", "uvicorn", 0.8),
    Target("h2", "hypercorn", 0.6),
    Target("websocket", "uvicorn", 1.0),
    Target("wsgi", "waitress", 0.3),
    Target("wsgi", "granian", 1.3),
    Target("wsgi-django", "gunicorn", 1.0),
    Target("wsgi-django", "granian", 1.0),
    Target("wsgi-large", "waitress", 1.0),
    Target("fastcgi", "nginx", 1.8),
    Target("fastcgi-large", "nginx", 0.6),
    Target("uwsgi", "nginx", 1.8),
    Target("uwsgi", "uWSGI http router", 1.2),
    Target("http", "nginx", 1.8),
    Target("http-large", "nginx", 0.6),
    Target("cgi", "nginx + fcgiwrap", 1.0),
    Target("cgi", "Apache", 1.0),
    Target("cgi", "lighttpd", 1.0),
    Target("static-10m", "nginx", 0.9),
)
