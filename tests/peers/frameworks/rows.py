"""The matrix: which frameworks the gateway hosts, and what is shown of each.

Every application in `apps/` keeps the same contract, so that one test serves all of them:

    GET  /items/7?q=…          JSON: what the application saw; sets a cookie; links with the mount
    POST /form, /json          JSON: the fields, the value
    POST /upload               JSON: the name, size and SHA-256 of a file of 5 MB
    POST /login                keeps a name in the session, and redirects to /whoami
    GET  /fail                 raises an exception
    GET  /stream, /go          a response in two pieces; the second one comes after a request to /go
    GET  /together             is answered when two requests are in it: sync code runs in threads
    GET  /background           a task that is not done before a request to /background/release
    GET  /state                what the lifespan startup left; the shutdown leaves the file NAME.ended
    WebSocket /echo, /refuse   "bye" is answered by a Close frame; GET /closed: the client's close code

What only some of them have are the words in `shows`; the rest is tested of all.
"""

import sys
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, Literal

CONTRACT = ("stream", "threads", "background", "lifespan", "websocket", "refusal", "close code", "dependency")
"""What `shows` may name."""


GATEWAY = "application failed"
WSGI_ERRORS = "application wrote to wsgi.errors"


@dataclass(frozen=True)
class Row:
    """One application."""

    name: str
    """Also of its backend, and where it is: the mount or the host."""
    package: str
    """The distribution, as PyPI has it."""
    backend: str
    """What the configuration has for it."""
    group: Literal["wsgi", "asyncio", "trio", "http", "own"]
    """Those of a group run in one daemon."""
    shows: tuple[str, ...] = ()
    mount: bool = True
    """Else it is found by host: the framework does not look at root_path, or is a server of its own."""
    logs: tuple[str, ...] = (GATEWAY,)
    """Where the view that fails is in the log: a logger of the framework, or events of the gateway."""
    route: str = ""
    """What its route has besides."""
    about: str = ""
    """What is shown of an application that does not keep the contract."""

    @property
    def version(self) -> str:
        """The installed one."""
        return version(self.package)

    @property
    def loop(self) -> str:
        """What an ASGI application runs on."""
        return "trio" if "loop: trio" in self.backend else "asyncio"

    @property
    def ended(self) -> str:
        """The file that its lifespan shutdown leaves."""
        return f"{self.name.removesuffix('-own').removesuffix('-trio')}-{self.loop}.ended"

    @property
    def prefix(self) -> str:
        """What the paths of its links begin with."""
        return f"/{self.name}" if self.mount else ""


def wsgi(name: str, package: str, target: str, *logs: str, shows: tuple[str, ...] = ()) -> Row:
    return Row(name, package, f"wsgi: {target}", "wsgi", ("stream", "threads", *shows), logs=logs)


def asgi(name: str, target: str, *shows: str, package: str = "", mount: bool = True, **more: Any) -> Row:
    loop: Literal["asyncio", "trio"] = "trio" if name.endswith("-trio") else "asyncio"
    package = package or name.removesuffix("-asgi")
    return Row(name, package, f"asgi: {target}, loop: {loop}", loop, ("stream", *shows), mount, **more)


def http(name: str, package: str, *arguments: str, shows: tuple[str, ...], route: str = "") -> Row:
    backend = f"http: {{spawn: {{command: {[sys.executable, *arguments]}}}}}"
    return Row(name, package, backend, "http", shows, mount=False, logs=("application output",), route=route)


LASTING = ("background", "lifespan")
SOCKETS = ("websocket", "refusal", "close code")
BUFFERED = "request_buffering: true"  # they see bodies only that have a Content-Length
STARLETTE = ("threads", *LASTING, *SOCKETS)

IN_PROCESS = (
    wsgi("bottle", "bottle", "bottle_app:app", WSGI_ERRORS),
    wsgi("django", "django", "django_app:wsgi", "django.request"),
    wsgi("falcon", "falcon", "falcon_app:app", WSGI_ERRORS),
    wsgi("flask", "flask", "flask_app:app", "flask_app", shows=SOCKETS),
    wsgi("pyramid", "pyramid", "pyramid_app:app", GATEWAY, "backend failed"),
    asgi(
        "connexion",
        "connexion_app:app",
        "threads",
        "lifespan",
        route=BUFFERED,
        logs=("connexion.middleware.exceptions",),
    ),
    asgi("django-asgi", "django_app:asgi", *SOCKETS, logs=("django.request",)),
    asgi("falcon-asgi", "falcon_asgi_app:app", *LASTING, *SOCKETS, mount=False, logs=("falcon",)),
    asgi("fastapi", "fastapi_app:app", "dependency", *STARLETTE),
    asgi("fastapi-trio", "fastapi_app:app", "dependency", *STARLETTE, package="fastapi"),
    asgi("litestar", "litestar_app:app", *STARLETTE, mount=False, logs=("litestar",)),
    asgi(
        "litestar-trio", "litestar_app:app", *STARLETTE, mount=False, package="litestar", logs=("litestar",)
    ),
    asgi("quart", "quart_app:asyncio", "threads", *LASTING, "websocket", "refusal", logs=("quart_app",)),
    asgi("quart-trio", "quart_app:trio", "threads", *LASTING, "websocket", "refusal", logs=("quart_app",)),
    asgi("sanic", "sanic_app:app", *LASTING, "websocket", mount=False, logs=("sanic.error",)),
    asgi("starlette", "starlette_app:app", *STARLETTE),
    asgi("starlette-trio", "starlette_app:app", *STARLETTE, package="starlette"),
    http("tornado", "tornado", "tornado_app.py", "native", shows=("stream", "background", *SOCKETS)),
    http("tornado-wsgi", "tornado", "tornado_app.py", "wsgi", shows=("threads",), route=BUFFERED),
)

OWN = tuple(
    replace(row, name=f"{row.name}-own", backend=f"{row.backend}, process: own", group="own")
    for row in IN_PROCESS
    if row.name in ("django", "flask", "fastapi", "quart-trio")
)
"""Some of them in processes of their own: there it is all the same to them."""

ROWS = (*IN_PROCESS, *OWN)

APPLICATIONS = (
    asgi("channels", "django_app:asgi", about="WebSockets with the session of Django, a channel layer"),
    asgi("datasette", "datasette_app:app", about="pages below a mount, SQL in threads, a table in pieces"),
    Row(
        "flask-socketio",
        "flask-socketio",
        "wsgi: flask_socketio_app:app, threads: 32",
        "wsgi",
        # simple-websocket's reader closes the socket while its writer may still say good-bye.
        logs=("thread failed",),
        about="as `socketio`, in its mode `threading`",
    ),
    asgi(
        "socketio",
        "socketio_app:app",
        package="python-socketio",
        about="its own client by polling, by WebSocket and from the one to the other; rooms, bytes, refusal",
    ),
    asgi(
        "strawberry",
        "strawberry_app:app",
        package="strawberry-graphql",
        logs=("strawberry.execution",),
        about="GraphQL over HTTP; subscriptions by graphql-transport-ws, their end and close codes",
    ),
)
"""Those that are tested by what they are for."""


def table() -> list[str]:
    """The rows of the table in `tests/peers/README.md`, with the versions that are installed."""
    lines = []
    for row in (*ROWS, *APPLICATIONS):
        interface = row.backend.split(":")[0].upper() + (", trio" if row.loop == "trio" else "")
        shown = row.about or f"the contract; {', '.join(row.shows)}"
        extra = f" (`{row.route}`)" if row.route else " (`process: own`)" if row.group == "own" else ""
        lines.append(f"| `{row.name}` | {row.package} {row.version} | {interface} | {shown}{extra} |")
    return lines


if __name__ == "__main__":
    print("\n".join(table()))
