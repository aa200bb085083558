"""The smallest WSGI application."""

from collections.abc import Callable
from typing import Any

BODY = b"Hello, world!"
_HEADERS = [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))]


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Answer every request alike."""
    start_response("200 OK", list(_HEADERS))
    return [BODY]
