"""A WSGI application that shows some variables and the body; /early answers without reading."""

from collections.abc import Iterable
from typing import Any

NAMES = ("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "CONTENT_LENGTH", "HTTP_X_TAG")


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    early = environ["PATH_INFO"] == "/early"
    left = 0 if early else int(environ.get("CONTENT_LENGTH") or 0)
    # Reading before answering: a client that waits for 100 (Continue) sends nothing after an answer.
    piece = environ["wsgi.input"].read(min(left, 65536))
    status = "413 Content Too Large" if early else "201 Created"
    start_response(status, [("Content-Type", "text/plain"), ("X-Test", "a"), ("X-Test", "b")])
    for name in NAMES:
        value = environ.get(name, "")
        # SCGI always says how long the body is; elsewhere no bytes have no length.
        shown = "-" if value in ("", "0") else value
        yield f"{name}={shown}\n".encode("latin-1")
    yield b"\n"
    while piece:
        yield piece
        left -= len(piece)
        piece = environ["wsgi.input"].read(min(left, 65536))
