"""A WSGI application that shows the variables it was called with, as ``NAME=value`` lines.

The example configuration serves it four times: inside the gateway, and in processes of its own by
FastCGI, SCGI and uwsgi. It sees the same request each time; only SCRIPT_NAME, the mount, differs.
"""

from collections.abc import Iterable
from typing import Any


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Show the CGI variables; POST shows the request body after them."""
    # What is no string, or has a dot, is of the server's own making (wsgi.input, wsgi.version, ...).
    variables = {name: value for name, value in environ.items() if isinstance(value, str) and "." not in name}
    lines = [f"{name}={value}\n" for name, value in sorted(variables.items())]
    text = "".join(lines).encode("latin-1")  # PEP 3333: each character is one byte
    if environ["REQUEST_METHOD"] == "POST":
        text += b"\n" + environ["wsgi.input"].read()
    start_response(
        "200 OK",
        [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text)))],
    )
    return [text]
