"""Fields by which a response names another one, which is sent in its place (`filters.sendfile`)."""

from typing import Final

from gateway.protocols.events import Headers

SENDFILE: Final = b"x-sendfile"
"""Names a file (lighttpd, Apache)."""

ACCEL: Final = b"x-accel-redirect"
"""Names a path of this server (nginx)."""


def with_own_length(headers: Headers) -> Headers | None:
    """*headers* of a response without a body, with the Content-Length of that, if they name another response.

    Frameworks give the length of the other (Flask: of the file). None if they name none.
    """
    if all(name.lower() not in (SENDFILE, ACCEL) for name, _ in headers):
        return None
    own = [field for field in headers if field[0].lower() != b"content-length"]
    own.append((b"content-length", b"0"))
    return own
