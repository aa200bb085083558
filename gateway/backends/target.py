"""The target that an upstream is asked for: what the client has sent, below the mount (RFC 9110 7.7)."""

from urllib.parse import quote, unquote_to_bytes

from gateway.request import Request


def target_below_mount(request: Request) -> bytes:
    """The request target for the upstream: as sent, without the mount."""
    path = request.raw_path
    if _has_dot_segments(request):
        # The routes have judged the path without them, so that is the one to ask for.
        path = _encoded(request.rest or "/")
    elif request.mount:
        # Where the mount is spelled plainly it is cut off; otherwise the rest is encoded anew.
        mount = request.mount.encode()
        if path.startswith(mount) and path[len(mount) : len(mount) + 1] in (b"/", b""):
            path = path[len(mount) :] or b"/"
        else:
            path = _encoded(request.rest or "/")
    return path + b"?" + request.query if request.query else path


def _has_dot_segments(request: Request) -> bool:
    raw_path = request.raw_path
    if len(raw_path) == len(request.path):
        return False  # whatever is decoded or left out makes it shorter
    return (b"/." in raw_path or b"%" in raw_path) and (
        unquote_to_bytes(raw_path) != request.path.encode("utf-8", "surrogateescape")
    )


def _encoded(path: str) -> bytes:
    """RFC 3986 3.3: all that a path segment need not encode stays as it is."""
    return quote(path, safe="/:@!$&'()*+,;=~", errors="surrogateescape").encode()
