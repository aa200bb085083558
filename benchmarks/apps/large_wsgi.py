"""A WSGI application that says hello, and streams 1 GiB at ``/large``."""

from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any

BODY = b"Hello, world!"
SIZE = 1 << 30
_PIECE = bytes(64 * 1024)


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer; the large response in pieces of 64 KiB."""
    if environ["PATH_INFO"] == "/large":
        start_response("200 OK", [("Content-Length", str(SIZE))])
        return repeat(_PIECE, SIZE // len(_PIECE))
    start_response("200 OK", [("Content-Length", str(len(BODY)))])
    return [BODY]
