"""The request target: split from its query, percent-decoded once, without dot segments; and its host.

Promises: :func:`decode_path` gives the one form of a path that the router, SCRIPT_NAME, PATH_INFO and
file names are all made of, so that no two of them can disagree. What could mean different things to
different programs is refused (400), not repaired: NUL, broken escapes, ``..`` above the root, ``..``
after an empty segment (RFC 3986 and a file system differ there), a fragment.

Does not: merge double slashes (``//a`` stays ``//a``; RFC 3986 says that it is another resource), change
case, or decode ``+``. An encoded slash (``%2F``) becomes a slash; handlers that map paths to files look
at ``raw_path`` and refuse it.
"""

import re
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from gateway.errors import RequestError
from gateway.protocols.memo import Memo

# RFC 3986 2.1: pct-encoded = "%" HEXDIG HEXDIG
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """(raw path, query) of a target in origin-form; the query is without its ``?``.

    Raises RequestError (400) for a fragment: a client never sends it (RFC 9112 3.2), and programs
    disagree whether it ends the path.
    """
    if 35 in target:  # "#"; an int is found five times faster than bytes
        raise RequestError(400, "the request target has a fragment")
    raw_path, _, query = target.partition(b"?")
    return raw_path, query


def decode_path(raw_path: bytes) -> str:
    """*raw_path* decoded and without ``.`` and ``..`` segments; ``*`` stays as it is.

    UTF-8, other bytes as surrogate escapes. Raises RequestError (400).
    """
    # Nearly every path is plain ASCII without escapes or dot segments. These tests are in the form that
    # is quickest: a search for bytes in bytes costs five times a search for str in str.
    if raw_path.isascii():
        path = raw_path.decode()
        if "%" not in path and "/." not in path and "\0" not in path and path[:1] == "/":
            return path
    return _decode_any(raw_path)


def _decode_any(raw_path: bytes) -> str:
    if raw_path == b"*":  # RFC 9112 3.2.4: asterisk-form, about the server as a whole
        return "*"
    if not raw_path.startswith(b"/"):
        raise RequestError(400, "the path does not start with a slash")
    if _BROKEN_ESCAPE.search(raw_path):
        raise RequestError(400, "the path has a broken percent escape")
    decoded = unquote_to_bytes(raw_path)
    if b"\0" in decoded:
        raise RequestError(400, "the path has a NUL byte")
    path = decoded.decode("utf-8", "surrogateescape")
    return _resolve_dots(path) if "/." in path else path


def _resolve_dots(path: str) -> str:
    """RFC 3986 5.2.4, after decoding, so that ``%2e%2e`` and ``..%2f`` cannot hide (RFC 3875 8.1, 9.8)."""
    segments = path.split("/")
    kept: list[str] = []
    for segment in segments[1:]:
        if segment == "..":
            if not kept:
                raise RequestError(400, "the path leads above the root")
            if not kept.pop():
                raise RequestError(400, "the path has `..` after an empty segment")
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")  # `/a/.` and `/a/b/..` are both the directory `/a/`
    return "/" + "/".join(kept)


_hosts: Final[Memo[bytes, str]] = Memo(1024)  # authorities are few and repeat

_LONGEST_KEPT: Final = 255


def host_of(authority: bytes) -> str:
    """The host without its port, lower-case, and without the dot that ends an absolute name (RFC 1034 3.1):
    it is the same host, and has the same routes.
    """
    host = _hosts.get(authority)
    if host is None:
        text = authority.decode("latin-1").lower()
        name, colon, port = text.rpartition(":")
        host = (name if colon and (port.isdigit() or not port) else text).removesuffix(".")
        if len(authority) <= _LONGEST_KEPT:
            _hosts.keep(authority, host)
    return host


def judged_path(raw_path: bytes, path: str) -> bytes:
    """*raw_path* as sent, but without dot segments, as in *path*: what the routes have judged.

    Whoever looks at nothing else, as some applications do, and a guard, sees the path that the routes saw.
    """
    return encode_path(path) if path and has_dot_segments(raw_path, path) else raw_path


def has_dot_segments(raw_path: bytes, path: str) -> bool:
    """Whether *path*, that :func:`decode_path` made of *raw_path*, lacks dot segments that are in it."""
    if len(raw_path) == len(path):
        return False  # whatever is decoded or left out makes it shorter
    lower = raw_path.lower()
    return (b"/." in lower or b"%2e" in lower or b"%2f" in lower) and (
        unquote_to_bytes(raw_path) != path.encode("utf-8", "surrogateescape")
    )


def encode_path(path: str) -> bytes:
    """RFC 3986 3.3: all that a path segment need not encode stays as it is."""
    return quote(path, safe="/:@!$&'()*+,;=~", errors="surrogateescape").encode()
