"""A WSGI application that echoes over uWSGI's own WebSocket support, which writes the handshake itself."""

from collections.abc import Iterable
from typing import Any

import uwsgi  # type: ignore[import-untyped,import-not-found,unused-ignore]  # built into uWSGI


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    uwsgi.websocket_handshake(environ["HTTP_SEC_WEBSOCKET_KEY"])
    try:
        while True:
            uwsgi.websocket_send(uwsgi.websocket_recv())
    except OSError:
        return [b""]
